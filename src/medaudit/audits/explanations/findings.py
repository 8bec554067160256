"""From a study to findings: what an assumption changes, which one changes most, which tests an explanation fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from medaudit.audits.explanations.study import PairResult, Study, Tested
from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.explanation.assumptions import Choice, Configuration, diff, registry
from medaudit.explanation.assumptions.choice import written
from medaudit.explanation.warrants.warrant import Warrant
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate

_WORDS = {
    "randomisation": ("Would the map be the same of a model that has learned nothing?",
                      "looks alike when the model's parameters are drawn anew", "changes with the model's parameters"),
    "repeatability": ("Would the same model trained again give another map?",
                      "is another when the model is trained again", "is alike when the model is trained again"),
    "deletion": ("Does the map order places no better than lot? (taken out)",
                 "orders places no better than lot", "orders places better than lot"),
    "insertion": ("Does the map order places no better than lot? (put in)",
                  "orders places no better than lot", "orders places better than lot"),
    "road": ("Does the map order places no better than lot? (imputed)",
             "orders places no better than lot", "orders places better than lot"),
    "completeness": ("Does the map leave out part of the score?", "does not add up to the score",
                     "adds up to the score"),
    "determinism": ("Is the map another when it is asked for again?", "is another when asked again",
                    "is the same bit for bit when asked again"),
    "mask-auroc": ("Does the map lie elsewhere than the masks?", "lies on the masks no more than by chance",
                   "lies on the masks more than by chance"),
    "mass-in-mask": ("Is no more of the map in the masks than their area?", "has no more mass there than area",
                     "has more mass in the masks than their area"),
    "annotator-ceiling": ("Is the map farther from the readers than they are from each other?",
                          "is farther from the readers than they are from each other",
                          "is as near to the readers as they are to each other"),
}  # fmt: skip
"""Of a test: the question, what is said where it failed, and where it passed."""


_LEVEL, _BETTER = 0.05, 0.05
"""p above which a difference may be that of reruns; by how much a model that is worth explaining is better than lot."""


def findings(result: Study) -> list[Finding]:
    """Return the findings, the first screen's first."""
    drafts = [_moves_most(result)]
    drafts += [_pair(name, one) for name, one in result.pairs.items() if one.effect is not None]
    if result.accuracy is not None:
        drafts.append(_accuracy(result))
    for name, tested in result.tested.items():
        drafts += [_test(name, tested, one) for one in tested.warrants if one.id in _WORDS]
    return conclude(drafts)


def first(answers: list[Finding]) -> list[Finding]:
    """Return those of the first screen: what moves most, the pairs, and tests that an explanation fails."""
    pairs = [f for f in answers if f.id.startswith("pair:")]
    failed = [f for f in answers if f.id.startswith("fails:") and f.verdict == "supported"]
    return [f for f in answers if f.id == "moves-most"] + pairs[:6] + failed[:5]


def _accuracy(result: Study) -> Draft:
    share, e = result.accuracy, result.balanced
    assert share is not None
    assert e is not None
    question = "Is the model too poor to be worth explaining?"
    lot = 1 / max(1, result.present)
    whose = "of held-out images" if result.explained.trained else "of the images here, which it may have learned from,"
    said = f"right for {_percent(share)} {whose} and for {_percent(e)} of a class on average, {100 * lot:.0f} % by lot"
    fewest = result.settings.min_patients
    answer: tuple[Verdict, str] = (
        ("insufficient", f"Whether the model is better than lot cannot be told of one class: {said}.")
        if result.present < 2
        else ("insufficient", f"Whether the model is better than lot cannot be told of {e.n} patients, fewer than "
                              f"{fewest}: {said}.") if e.n < fewest
        else ("refuted", f"The model is {said}.") if e.low > lot
        else ("supported", f"The model is hardly better than lot: {said}.") if e.high < lot + _BETTER
        else ("insufficient", f"Whether the model is better than lot cannot be told: {said}.")
    )  # fmt: skip
    return Draft("model", question, {"all": {"share": share.value, "low": share.low, "high": share.high}}, e,
                 lambda _: answer, rests_on=("each class weighs the same",))  # fmt: skip


def _moves_most(result: Study) -> Draft:
    question = "Which assumption moves the answer most?"
    p = result.profile
    if p is None:
        return insufficient("moves-most", question, f"It was not asked: {result.no_profile}.", {}, 0)
    e = p.total_order[p.largest]
    groups: Mapping[str, Mapping[str, Any]] = {
        atom: {"first": p.first_order[atom].value, "total": p.total_order[atom].value, "low": p.total_order[atom].low,
               "high": p.total_order[atom].high, "levels": ", ".join(result.levels[atom])} for atom in p.atoms
    }  # fmt: skip
    others = ", ".join(f"{_name(atom)} {_percent(p.total_order[atom])}" for atom in p.atoms if atom != p.largest)
    said = f"{_name(p.largest)} {_percent(e)} of what moves; {others}"
    fewest = result.settings.min_patients
    answer: tuple[Verdict, str] = (
        ("insufficient", f"Which assumption moves the answer most cannot be told of {e.n} patients, fewer than "
                         f"{fewest}: {said}.") if e.n < fewest
        else ("supported", f"What moves the answer most is {said}.") if p.leads
        else ("insufficient", f"Which assumption moves the answer most cannot be told: {said}.")
    )  # fmt: skip
    same = (f"{p.same} images are left out, whose maps are all the same",) if p.same else ()
    return Draft("moves-most", question, groups, e, lambda _: answer,
                 rests_on=("of the levels that were tried, each weighing the same", *same))  # fmt: skip


def _pair(name: str, one: PairResult) -> Draft:
    e = one.effect
    assert e is not None
    pair = registry().pairs[name]
    question = pair.question.text
    change = diff(one.a, one.b)
    what = ", ".join(changes(one.a, one.b))
    alike, beyond = e.similarity, e.beyond
    left = int(beyond.extra.get("left_out", 0))
    said = (
        f"maps are alike by {alike.value:.2f} ({alike.low:.2f} to {alike.high:.2f}, rank correlation), "
        f"{beyond.value:.2f} ({beyond.low:.2f} to {beyond.high:.2f}) farther than their own noise"
    )
    said += f"; {left} of {len(e.between)} images left out, with a map that is the same everywhere" if left else ""

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        if math.isnan(beyond.value):
            return "insufficient", f"Whether to change {what} matters cannot be told: no two maps can be compared."
        if e.verdict in ("reverses", "differs") and adjusted.p_adjusted > _LEVEL:  # NaN where there is no test
            return "insufficient", (f"Whether to change {what} matters cannot be told: {said}, as runs of one "
                                    f"configuration can have (p = {adjusted.p_adjusted:.2g}, adjusted).")  # fmt: skip
        if e.verdict == "reverses":
            return "supported", f"To change {what} turns the map around: {said}."
        if e.verdict == "differs":
            return "supported", f"To change {what} gives another map: {said}."
        if e.verdict == "indistinguishable":
            return "refuted", f"To change {what} changes the map by less than the margin: {said}."
        return "insufficient", f"Whether to change {what} matters cannot be told: {said}; {e.reason}."

    groups = {"floor": {"distance": noise(one)}, "between": {"distance": _mean(e.between)},
              "similarity": {"value": alike.value, "low": alike.low, "high": alike.high}}  # fmt: skip
    return Draft(f"pair:{name}", question, groups, beyond, judge, primary=True,
                 rests_on=tuple(s.text for s in change.added))  # fmt: skip


def noise(one: PairResult) -> float:
    """Return the mean noise of a pair, over the images whose maps could be compared; NaN where none could be."""
    assert one.effect is not None
    return _mean(np.where(np.isfinite(one.effect.between), one.effect.floor, np.nan))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def changes(a: Configuration, b: Configuration) -> list[str]:
    """Return what changes from one configuration to another, a phrase a choice."""
    return [
        f"{_name(c.atom)} from {_short(c.before, c.after)} to {_short(c.after, c.before)}" for c in diff(a, b).changes
    ]


def _test(name: str, tested: Tested, one: Warrant) -> Draft:
    question, failed, passed = _WORDS[one.id]
    low, high = one.interval or (float("nan"), float("nan"))
    e = Estimate(one.id, one.value, low, high, n=one.n)
    number = f"{one.value:.3g}" + (f" ({low:.3g} to {high:.3g})" if one.interval else "")
    beside = f"; {one.note}" if one.note else ""
    answer: tuple[Verdict, str] = (
        ("insufficient", f"{name}: cannot be told, {one.id} {number}{beside}.") if one.passed is None
        else ("refuted", f"{name} {passed}: {one.id} {number}{beside}.") if one.passed
        else ("supported", f"{name} {failed}: {one.id} {number}{beside}.")
    )  # fmt: skip
    return Draft(f"fails:{one.id}:{name}", question, {}, e, lambda _: answer,
                 rests_on=(f"threshold {one.threshold}",))  # fmt: skip


def _name(atom: str) -> str:
    words = {"absence": "what 'absent' means", "explanandum": "what is explained", "shown": "what of it is shown",
             "units": "the units", "allocation": "how it is shared out", "locality": "how near is near",
             "chance": "what is left to chance"}  # fmt: skip
    return words.get(atom, atom)


def _short(one: Choice, other: Choice) -> str:
    """Return a choice as it is told from another one: with those parameters alone in which the two differ."""
    if one.value != other.value:
        return str(one) if len(one.params) == 1 else one.value
    apart = [pair for pair in one.params if pair not in other.params]
    return f"{one.value}({', '.join(f'{name}={written(level)}' for name, level in apart)})"


def _percent(e: Estimate) -> str:
    return f"{100 * e.value:.0f} %" + ("" if math.isnan(e.low) else f" ({100 * e.low:.0f} to {100 * e.high:.0f})")
