"""The findings: is the question trivial, do counterfactuals flip, are they nearer than others, do they look real?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit.audits.counterfactuals.study import Study
from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate, holm

_ABOVE = 0.1
"""By how much a balanced accuracy must be above chance for its facts to count as a shortcut; ours."""
_FLIPS = 0.9
_FACTS = {
    "nodes": "The number of nodes",
    "size": "Size (nodes, edges, density, parts)",
    "kinds": "Counts of kinds of nodes",
}


def findings(result: Study) -> list[Finding]:
    """Return the study's findings."""
    return conclude(list(drafts(result)))


def drafts(result: Study) -> Iterator[Draft]:
    """Yield the drafts, in the order in which a reader should doubt."""
    for name, estimate in result.material.trivial.items():
        yield _trivial(result, name, estimate)
    yield _duplicates(result)
    yield _classifier(result)
    if result.material.rebuilt is not None:
        yield _rebuilds(result)
    yield _flips(result)
    yield _minimal(result)
    for name, estimate in result.nearer.items():
        yield _nearer(result, name, estimate)
    yield _plausible(result)


def _said(e: Estimate) -> str:
    return f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"


def _plain(name: str, question: str, estimate: Estimate, answer: tuple[Verdict, str]) -> Draft:
    return Draft(name, question, {}, estimate, lambda adjusted: answer)


def _trivial(result: Study, name: str, e: Estimate) -> Draft:
    chance, own = 1 / len(result.material.graphs.classes), result.material.classifier
    what = _FACTS[name]
    said = f"balanced accuracy {_said(e)}, the classifier {_said(own)}"
    if np.isnan(e.value):
        answer: tuple[Verdict, str] = "insufficient", "There are too few graphs of a class to tell."
    elif e.low > chance + _ABOVE:
        answer = "supported", f"{what} alone tells the class: {said}. Counterfactuals may do no more than change that."
    elif e.high < chance + _ABOVE:
        answer = "refuted", f"{what} alone does not tell the class: {said}."
    else:
        answer = "insufficient", f"Whether {what[0].lower()}{what[1:]} alone tells the class cannot be told: {said}."
    return _plain(f"shortcut:{name}", f"Does {what[0].lower()}{what[1:]} alone tell the class?", e, answer)


def _duplicates(result: Study) -> Draft:
    d = result.material.deduplicated
    e = Estimate("graphs that were there already", float(d.dropped), n=len(d.graphs) + d.dropped)
    answer: tuple[Verdict, str] = ("refuted", "No graph is in the set twice.")
    if d.dropped:
        answer = (
            "supported",
            (
                f"{d.dropped} graphs were there already, in {d.groups} groups ({d.conflicting} with different "
                "classes); they were left out before the split."
            ),
        )
    return _plain("duplicates", "Is the same graph in the set twice?", e, answer)


def _classifier(result: Study) -> Draft:
    e = result.material.classifier
    chance = 1 / len(result.material.graphs.classes)
    seen = "; whether it has seen them, its maker knows" if result.material.users else ""
    if np.isnan(e.low):
        answer: tuple[Verdict, str] = "insufficient", "No held-out graph has a known class."
    elif e.low > chance:
        answer = "supported", f"The classifier tells held-out graphs better than chance: {_said(e)}{seen}."
    elif e.high < chance + _ABOVE:
        answer = "refuted", f"The classifier tells held-out graphs no better than chance: {_said(e)}; explain another."
    else:
        answer = "insufficient", f"Whether the classifier is better than chance cannot be told: {_said(e)}."
    return _plain("classifier", "Does the classifier know the classes?", e, answer)


def _rebuilds(result: Study) -> Draft:
    r = result.material.rebuilt
    assert r is not None
    e = Estimate("F1 of edges", float(r.edge_f1.mean()), n=len(r.edge_f1), extra={"base": float(r.base_f1.mean())})
    said = (f"F1 of edges {r.edge_f1.mean():.2f} where a guess has {r.base_f1.mean():.2f}, "
            f"{100 * r.exact.mean():.0f} % of graphs exactly")  # fmt: skip
    if len(stays := result.material.stays):
        said += f"; of {len(stays)} explained graphs {int((~stays).sum())} change their predicted class by that alone"
    answer: tuple[Verdict, str] = (
        ("supported", f"The autoencoder rebuilds held-out graphs: {said}.") if r.passes
        else ("refuted", f"The autoencoder hardly rebuilds held-out graphs: {said}.")
    )  # fmt: skip
    return _plain("rebuilds", "Does the autoencoder rebuild graphs?", e, answer)


def _flips(result: Study) -> Draft:
    e = next(iter(result.flips.values()))
    said = (
        f"{100 * e.value:.0f} % ({100 * e.low:.0f} to {100 * e.high:.0f}) of graphs, by the classifier on hard graphs"
    )
    if e.n < result.settings.min_graphs:
        why = f"Graphs of {e.n} patients only were explained; {result.settings.min_graphs} are needed."
        return insufficient("flips", "Do counterfactuals flip the prediction?", why, {}, e.n)
    if e.low >= _FLIPS - 0.1 and e.value >= _FLIPS:
        answer: tuple[Verdict, str] = "supported", f"The counterfactuals flip the prediction: {said}."
    elif e.high < _FLIPS:
        answer = "refuted", f"Many graphs have no counterfactual: only {said} flip."
    else:
        answer = "insufficient", f"Whether nine in ten flip cannot be told: {said}."
    return _plain("flips", "Do counterfactuals flip the prediction?", e, answer)


def _minimal(result: Study) -> Draft:
    main = result.main
    flips, least = main.flips, np.array([one.minimal for one in main.found])
    e = Estimate(
        "share that is minimal", float(least[flips].mean()) if flips.any() else float("nan"), n=int(flips.sum())
    )
    if not flips.any():
        answer: tuple[Verdict, str] = "insufficient", "There is no counterfactual to ask it of."
    elif least[flips].all():
        lost = "the flip or its possible valences" if result.settings.chemistry else "the flip"
        answer = "supported", f"No single edit of any counterfactual can be taken back without losing {lost}."
    else:
        answer = (
            "refuted",
            f"{int((~least[flips]).sum())} of {int(flips.sum())} counterfactuals may hold an edit too many.",
        )
    return _plain("minimal", "Is every edit needed?", e, answer)


def _nearer(result: Study, name: str, e: Estimate) -> Draft:
    method = next(iter(result.material.made))
    who = "graphs" if result.material.graphs.patients is None else "patients"
    where = f"upper bounds of the distance), {e.n} {who} where both flip"

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        if e.n < result.settings.min_graphs:
            return "insufficient", f"Both flip for {e.n} only; {result.settings.min_graphs} are needed."
        if adjusted.p_adjusted < 0.05 and e.low > 0:
            return (
                "supported",
                f"'{method}' is nearer than '{name}', by {e.value:.1f} edits ({e.low:.1f} to {e.high:.1f}; {where}.",
            )
        if adjusted.p_adjusted < 0.05 and e.high < 0:
            return (
                "refuted",
                f"'{method}' is farther than '{name}', by {-e.value:.1f} edits ({-e.high:.1f} to {-e.low:.1f}; "
                f"{where}.",
            )
        return (
            "insufficient",
            f"Which of '{method}' and '{name}' is nearer cannot be told: {e.value:+.1f} edits ({e.low:+.1f} to "
            f"{e.high:+.1f}; {where}.",
        )

    groups = {other: {"flips": one.value, "low": one.low, "high": one.high} for other, one in result.flips.items()}
    return Draft(f"nearer:{name}", f"Is it nearer than '{name}'?", groups, e, judge, primary=True)


def _plausible(result: Study) -> Draft:
    question = "Do counterfactuals look like graphs of the class?"
    told = [(what, one) for what, some in result.apart if what.startswith("counterfactuals") for one in some]
    if not told:
        return insufficient(
            "plausible", question, "Too few counterfactuals flip to be compared with real graphs.", {}, 0
        )
    adjusted = holm(np.array([one.p for _, one in told]))
    worst = int(np.argmin(adjusted))
    what, one = told[worst]
    e = Estimate(f"MMD² of {one.descriptor}", one.value, p=float(adjusted[worst]), n=one.n,
                 method="p by permutation, Holm over what was compared")  # fmt: skip
    groups = {f"{w}: {d.descriptor}": {"MMD²": d.value, "p": d.p} for w, some in result.apart for d in some}
    # Where real graphs that were held out differ as well, the difference is not the counterfactuals' alone.
    real = [d.p for w, some in result.apart for d in some
            if w == what.replace("counterfactuals", "held-out graphs") and d.descriptor == one.descriptor]  # fmt: skip
    beside = f"; held-out real graphs: p {real[0]:.3f}" if real else "; there are too few held-out real graphs beside"
    answer: tuple[Verdict, str] = (
        ("refuted", f"They differ from real graphs of the class in {one.descriptor} ({what}, adjusted p "
         f"{adjusted[worst]:.3f}{beside}).")
        if adjusted[worst] < 0.05 else
        ("insufficient", f"None of {len(told)} comparisons tells them from real graphs (least adjusted p "
         f"{adjusted[worst]:.2f}); that does not prove them real.")
    )  # fmt: skip
    return Draft("plausible", question, groups, e, lambda _: answer)
