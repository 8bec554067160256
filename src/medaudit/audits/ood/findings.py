"""The study's answers: who misses which shift, what should gate the prediction, and what a trivial cue explains."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import ndtr

from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.audits.ood.study import Gate, SetResult, Study
from medaudit.report import Finding, Verdict, numerals
from medaudit.statistics import Estimate
from medaudit.statistics.kendall import kendall_tau
from medaudit.statistics.simultaneous import simultaneous
from medaudit.statistics.two_way import two_way

NOTICED = 0.70
"""An AUROC below this is called missing the shift: 3 in 10 pairs are ranked wrongly (our choice)."""
CUE_MARGIN = 0.05
"""A trivial cue within this AUROC of the best score explains it as well (our choice)."""
GATE_MARGIN = 0.10
"""A gain in AUGRC below this share of the incumbent's would not be worth another model (our choice)."""
ALPHA = 0.05


def findings(study: Study) -> list[Finding]:
    """Return the study's findings: Holm's correction over what was asked, Benjamini-Hochberg over the rest."""
    return conclude(list(_drafts(study)))


def judged_sets(study: Study) -> list[SetResult]:
    """Return the sets that findings are made of: of a shift in several severities, the severest."""
    last = {_family(result): result for result in study.results}
    return list(last.values())


def slug(text: str) -> str:
    """Return a text as it stands in a finding's id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _family(result: SetResult) -> str:
    return re.sub(r" \d$", "", result.part.name) if result.part.paired else result.part.name


def _drafts(study: Study) -> Iterator[Draft]:
    for result in judged_sets(study):
        few = min(result.patients_in, result.patients_out)
        if few < study.settings.min_patients:
            why = (
                f"{result.part.name}: {result.patients_in} patients in and {result.patients_out} out of distribution "
                f"are tested, fewer than {study.settings.min_patients}; nothing is judged."
            )
            question = f"Which uncertainty notices {result.part.name}?"
            yield insufficient(f"misses:{result.part.slug}", question, why, _sizes(result), len(result.rows))
            continue
        for t, task in enumerate(study.scores.tasks):
            yield _misses(study, result, t, task)
        yield _task_over_method(study, result)
        yield _trivial_cue(study, result)
        for gate in result.gates:
            yield _gate(study, result, gate)
            yield _detector(study, result, gate)


def _misses(study: Study, result: SetResult, t: int, task: str) -> Draft:
    """Does the uncertainty of the task's own model miss the shift? By the first method, the plainest."""
    value = float(result.mean("auroc")[0, t])
    drawn = result.draws["auroc"][:, 0, t]
    low, high = _limits(drawn)
    se = float(np.nanstd(drawn))
    p = float(ndtr((value - NOTICED) / se)) if se > 0 else float(value >= NOTICED)
    bound = float(np.nanquantile(drawn, ALPHA))
    kind, name = result.part.shift, result.part.name
    method = study.scores.methods[0]
    said = f"AUROC {numerals.number(value, 2)} ({numerals.number(low, 2)} to {numerals.number(high, 2)})"
    by_method = result.mean("auroc")[:, t]
    best = int(np.argmax(by_method))

    def judge(estimate: Estimate) -> tuple[Verdict, str]:
        if estimate.p_adjusted < ALPHA:
            return "supported", (
                f"A model trained on {task} does not notice the {kind} shift {name}: {said} by {method}; its best "
                f"method, {study.scores.methods[best]}, reaches {numerals.number(float(by_method[best]), 2)}."
            )
        if bound > NOTICED:
            return "refuted", f"A model trained on {task} notices the {kind} shift {name}: {said} by {method}."
        return "insufficient", f"Whether a model trained on {task} notices {name} cannot be told: {said} by {method}."

    groups = _sizes(result)
    for m, one in enumerate(study.scores.methods):
        groups[one] = {"auroc": float(by_method[m]), "between_seed_sd": float(result.seed_sd("auroc")[m, t])}
    return Draft(
        id=f"misses:{result.part.slug}:{slug(task)}",
        question=f"Does the uncertainty of a model trained on {task} miss the {kind} shift {name}?",
        groups=groups,
        estimate=Estimate(
            "AUROC", value, low, high, p, n=len(result.rows), method=_resampled(study),
            extra={"threshold": NOTICED, "between_seed_sd": float(result.seed_sd("auroc")[0, t])},
        ),
        judge=judge,
        rests_on=(
            f"missed means an AUROC below {NOTICED:g}; p tests that it is {NOTICED:g} or more",
            "an AUROC below 0.5 is reported as it is: the model is surer of the shifted cases",
            *_about(study, result),
        ),
        primary=True,
    )  # fmt: skip


def _task_over_method(study: Study, result: SetResult) -> Draft:
    """Does the task matter more than the method? A two-way analysis of the AUROC's logit."""
    question = f"For {result.part.name}: does the task that a model was trained on matter more than the method?"
    m, t = result.mean("auroc").shape
    if m < 2 or t < 2:
        why = f"{m} method(s) and {t} task(s) were compared; expected 2 of each to part their effects."
        return insufficient(f"task_over_method:{result.part.slug}", question, why, {}, len(result.rows))
    edge = 0.5 / min(len(result.rows_in), len(result.rows_out))
    logit = lambda a: np.log(np.clip(a, edge, 1 - edge) / (1 - np.clip(a, edge, 1 - edge)))
    parts = two_way(np.moveaxis(logit(result.point["auroc"]), 0, 1))
    value = parts.eta_task - parts.eta_method
    drawn = np.asarray([_eta_difference(one) for one in logit(result.draws["auroc"])])
    low, high = _limits(drawn)
    p = _two_sided(drawn)
    shares = f"{numerals.number(100 * parts.eta_task, 0)} % against {numerals.number(100 * parts.eta_method, 0)} %"

    def judge(estimate: Estimate) -> tuple[Verdict, str]:
        if estimate.p_adjusted < ALPHA and low > 0:
            return (
                "supported",
                f"For {result.part.name} the task matters more than the method: {shares} of the variance.",
            )
        if estimate.p_adjusted < ALPHA and high < 0:
            return "refuted", f"For {result.part.name} the method matters more than the task: {shares} (task first)."
        return "insufficient", f"For {result.part.name} task and method cannot be ranked: {shares} (task first)."

    return Draft(
        id=f"task_over_method:{result.part.slug}",
        question=question,
        groups={
            "task": {"eta_squared": parts.eta_task},
            "method": {"eta_squared": parts.eta_method},
            "interaction": {"eta_squared": parts.eta_interaction},
            "between seeds": {"eta_squared": parts.eta_residual},
        },
        estimate=Estimate("η² task - η² method", value, low, high, p, n=len(result.rows), method=_resampled(study)),
        judge=judge,
        rests_on=(
            f"η² by analysis of variance of logit AUROC, {m} methods x {t} tasks x {study.scores.seeds} seeds",
            "the shares are of these tasks and methods: others would have other shares",
            *_about(study, result),
        ),
    )


def _trivial_cue(study: Study, result: SetResult) -> Draft:
    """Would a number that needs no model have noticed the shift as well?"""
    question = f"Would a trivial cue (size, grey level, sharpness) notice {result.part.name} as well as the best score?"
    if not len(result.cues):
        return insufficient(f"trivial_cue:{result.part.slug}", question, "No images, no cues.", {}, 0)
    cells = result.mean("auroc")
    m, t = np.unravel_index(int(np.argmax(cells)), cells.shape)
    c = int(np.argmax(result.cue_point))
    value = float(result.cue_point[c] - cells[m, t])
    drawn = result.cue_draws[:, c] - result.draws["auroc"][:, m, t]
    low, high = _limits(drawn)
    se = float(np.nanstd(drawn))
    p = float(ndtr(-(value + CUE_MARGIN) / se)) if se > 0 else float(value < -CUE_MARGIN)
    cue, best = result.cues[c].replace("_", " "), _cell(study, int(m), int(t))
    said = f"{cue} alone has an AUROC of {numerals.number(float(result.cue_point[c]), 2)}, the best score ({best}) "
    said += f"{numerals.number(float(cells[m, t]), 2)}"

    def judge(estimate: Estimate) -> tuple[Verdict, str]:
        if estimate.p_adjusted < ALPHA:
            return "supported", f"A trivial cue explains {result.part.name}: {said}."
        if high < -CUE_MARGIN:
            return "refuted", f"No trivial cue explains {result.part.name}: {said}."
        return "insufficient", f"Whether a trivial cue explains {result.part.name} cannot be told: {said}."

    return Draft(
        id=f"trivial_cue:{result.part.slug}",
        question=question,
        groups={name: {"auroc": float(value)} for name, value in zip(result.cues, result.cue_point, strict=True)},
        estimate=Estimate("AUROC, cue - score", value, low, high, p, n=len(result.rows), method=_resampled(study)),
        judge=judge,
        rests_on=(
            f"as well means no more than {CUE_MARGIN:g} below; p tests that it is further below",
            "each cue in the direction that serves it better: generous to the cue, and so strict with the score",
            *_about(study, result),
        ),
    )


def _gate(study: Study, result: SetResult, gate: Gate) -> Draft:
    """Which score should gate this prediction? Against the incumbent: its own model's first method."""
    name = result.part.name
    incumbent = study.scores.tasks.index(gate.task)
    cells = gate.point["augrc"].mean(axis=2)
    draws = gate.draws["augrc"]
    base, drawn_base = cells[0, incumbent], draws[:, 0, incumbent]
    change = (cells - base).ravel()
    limits = simultaneous(change, (draws - drawn_base[:, None, None]).reshape(len(draws), -1))
    best = int(np.argmin(change))
    m, t = np.unravel_index(best, cells.shape)
    value, low, high = float(change[best]), float(limits.low[best]), float(limits.high[best])
    own = f"its own {study.scores.methods[0]}"
    who = _cell(study, int(m), int(t))
    margin = GATE_MARGIN * float(base)
    numbers = f"AUGRC {_milli(float(cells[m, t]))} against {_milli(float(base))}"
    itself = best == np.ravel_multi_index((0, incumbent), cells.shape)

    def judge(estimate: Estimate) -> tuple[Verdict, str]:
        if not itself and estimate.p_adjusted < ALPHA and value < 0:
            return "supported", (
                f"Under {name}, gate the {gate.task} prediction by {who}, not by {own}: {numbers} "
                f"(difference {_milli(low)} to {_milli(high)})."
            )
        if float(limits.low.min()) > -margin:
            return "refuted", (
                f"Under {name}, {own} may gate the {gate.task} prediction: no score is better by more than "
                f"{numerals.number(100 * GATE_MARGIN, 0)} % of its AUGRC ({_milli(float(base))})."
            )
        return "insufficient", (
            f"Under {name}, which score should gate the {gate.task} prediction cannot be told: the best, {who}, has "
            f"{numbers} of {own}."
        )

    groups = {
        _cell(study, i, j): {
            "augrc": float(cells[i, j]),
            "auroc": float(result.mean("auroc")[i, j]),
            "risk_at_80": float(gate.point["risk_at_80"].mean(axis=2)[i, j]),
        }
        for i in range(cells.shape[0])
        for j in range(cells.shape[1])
    }
    return Draft(
        id=f"gate:{slug(gate.task)}:{result.part.slug}",
        question=f"Under {name}: should another score than {own} gate the {gate.task} prediction?",
        groups=groups,
        estimate=Estimate(
            "AUGRC, best - own", value, low, high, float("nan") if itself else float(limits.p[best]),
            n=len(result.rows), method=_resampled(study),
            extra={"augrc_own": float(base), "augrc_best": float(cells[m, t])},
        ),
        judge=judge,
        rests_on=(
            f"interval and p hold for whichever of {cells.size} cells looks best (max-t over all of them)",
            _loss_is(study, gate),
            f"accuracy of the gated predictor {_percent(gate.accuracy_in)} in distribution"
            + ("" if gate.novel else f", {_percent(gate.accuracy_out)} on the shifted cases"),
            *_about(study, result),
        ),
        primary=True,
    )  # fmt: skip


def _detector(study: Study, result: SetResult, gate: Gate) -> Draft:
    """Is the best detector of the shift also the best gate? Kendall's tau over the cells, and the two winners."""
    name = result.part.name
    question = (
        f"Under {name}: is the score that detects the shift best another than the one that gates {gate.task} best?"
    )
    auroc, augrc = result.mean("auroc").ravel(), gate.point["augrc"].mean(axis=2).ravel()
    drawn_a = result.draws["auroc"].reshape(len(result.draws["auroc"]), -1)
    drawn_g = gate.draws["augrc"].reshape(len(drawn_a), -1)
    if auroc.size < 3:
        why = f"{auroc.size} scores; expected 3 or more to rank."
        return insufficient(f"detector_is_not_gate:{slug(gate.task)}:{result.part.slug}", question, why, {}, 0)
    value = float(kendall_tau(auroc, -augrc))
    if not np.isfinite(value):
        why = "All scores detect the shift alike, or gate alike: there is no order to compare."
        return insufficient(f"detector_is_not_gate:{slug(gate.task)}:{result.part.slug}", question, why, {}, 0)
    low, high = _limits(kendall_tau(drawn_a, -drawn_g))
    finder, keeper = int(np.argmax(auroc)), int(np.argmin(augrc))
    i, j = np.triu_indices(augrc.size, 1)
    limits = simultaneous(augrc[i] - augrc[j], drawn_g[:, i] - drawn_g[:, j])
    pair = np.flatnonzero((i == min(finder, keeper)) & (j == max(finder, keeper)))
    p = float(limits.p[pair[0]]) if pair.size else 1.0
    shape = result.mean("auroc").shape
    who = [_cell(study, *(int(k) for k in np.unravel_index(one, shape))) for one in (finder, keeper)]
    tau = f"Kendall's tau {numerals.number(value, 2)} ({numerals.number(low, 2)} to {numerals.number(high, 2)})"

    def judge(estimate: Estimate) -> tuple[Verdict, str]:
        if estimate.p_adjusted < ALPHA:
            return "supported", (
                f"Under {name} the best detector is not the best gate: {who[0]} finds the shift (AUROC "
                f"{numerals.number(float(auroc[finder]), 2)}) but gates {gate.task} with AUGRC "
                f"{_milli(float(augrc[finder]))}, {who[1]} with {_milli(float(augrc[keeper]))}; {tau}."
            )
        if finder == keeper or low > 0.5:
            return (
                "refuted",
                f"Under {name} detection and gating rank the scores alike: {tau}; {who[0]} is best at both.",
            )
        return "insufficient", f"Under {name} the best detector ({who[0]}) may or may not gate worse: {tau}."

    groups = {
        who[0]: {"role": "best detector", "auroc": float(auroc[finder]), "augrc": float(augrc[finder])},
        who[1]: {"role": "best gate", "auroc": float(auroc[keeper]), "augrc": float(augrc[keeper])},
    }
    return Draft(
        id=f"detector_is_not_gate:{slug(gate.task)}:{result.part.slug}",
        question=question,
        groups=groups,
        estimate=Estimate(
            "Kendall's tau of AUROC and -AUGRC", value, low, high, p, n=len(result.rows), method=_resampled(study)
        ),
        judge=judge,
        rests_on=(
            f"tau over {auroc.size} cells (method x task); p compares the two winners' AUGRC, max-t over all pairs",
            _loss_is(study, gate),
            *_about(study, result),
        ),
    )


def _eta_difference(values: np.ndarray) -> float:
    """Return η² of tasks minus η² of methods of a table (M, T)."""
    middle = values.mean()
    total = float(((values - middle) ** 2).sum())
    if total == 0:
        return 0.0
    by_task = values.shape[0] * float(((values.mean(axis=0) - middle) ** 2).sum())
    by_method = values.shape[1] * float(((values.mean(axis=1) - middle) ** 2).sum())
    return (by_task - by_method) / total


def _limits(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _two_sided(draws: np.ndarray) -> float:
    """Return the bootstrap p-value of 0: twice the smaller tail, never 0."""
    known = draws[np.isfinite(draws)]
    below = (1 + (known <= 0).sum()) / (1 + len(known))
    above = (1 + (known >= 0).sum()) / (1 + len(known))
    return float(min(1.0, 2 * min(below, above)))


def _cell(study: Study, m: int, t: int) -> str:
    return f"{study.scores.methods[m]} of {study.scores.tasks[t]}"


def _sizes(result: SetResult) -> dict[str, dict[str, Any]]:
    return {
        "in distribution": {"n": len(result.rows_in), "patients": result.patients_in},
        "shifted": {"n": len(result.rows_out), "patients": result.patients_out},
    }


def _resampled(study: Study) -> str:
    return f"{study.settings.resamples} bootstrap resamples of patients and seeds"


def _about(study: Study, result: SetResult) -> Iterator[str]:
    yield (
        f"{len(result.rows_in)} test cases of {result.patients_in} patients, {len(result.rows_out)} shifted cases of "
        f"{result.patients_out}; no patient was trained on"
    )
    if result.match:
        yield result.match
    seeds = study.scores.seeds
    yield f"{seeds} seed{'s' * (seeds != 1)}, averaged" + (
        "" if seeds > 1 else ": what another training changes is not in"
    )


def _loss_is(study: Study, gate: Gate) -> str:
    if gate.novel:
        cost = study.settings.ood_cost
        return (
            f"the shifted cases have classes no model knows: accepting one costs {cost:g}, an error in distribution "
            f"{1 - cost:g} (SCOD)"
        )
    return f"the loss is an error of the {gate.task} model, over test and shifted cases; all scores gate that one model"


def _milli(value: float) -> str:
    return f"{numerals.number(1000 * value, 1)}e-3" if math.isfinite(value) else numerals.MISSING


def _percent(share: np.ndarray) -> str:
    return f"{numerals.number(100 * float(np.nanmean(share)), 1)} %"
