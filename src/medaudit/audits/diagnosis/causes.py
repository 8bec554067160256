"""The six causes, each a question with its rule. Supported always means: there is evidence of that problem.

The questions are those of arXiv 2511.00477, which answers them by comparing gaps by eye; all rules here are our
choice. A gap is the largest minus the smallest group mean. A difference of two gaps is judged by one test for all: do
the two scores' differences, case by case, differ between the groups (permutation of patients)?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medaudit.audits.diagnosis.design import BALANCED, BASELINE, BIASED
from medaudit.audits.diagnosis.evidence import Evidence
from medaudit.audits.judging.compared import Compared
from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.audits.labels.study import too_few
from medaudit.audits.ruler.study import two_rulers
from medaudit.report import Finding, Verdict, numerals
from medaudit.statistics import (
    Estimate,
    attenuation,
    best_and_worst,
    confounding_verdict,
    gap,
    permutation_test,
    three_way,
)

ALPHA = 0.05

CAUSES: Mapping[str, Callable[[Evidence], Draft]]
"""The causes in the order in which they are asked; filled at the end of this file."""


def label_bias(e: Evidence) -> Draft:
    """Draft: are the automated labels worse for a group, measured against the experts'? No training is needed."""
    question = f"Are the automated labels worse for some {e.by} group?"
    groups = e.labels
    if groups is None:
        why = "There are no automated labels to look at (--labels)."
        return insufficient("label_bias", question, why, {}, e.models.everyone.n_cases)
    numbers = groups.numbers(0)
    if not groups.comparable:
        return insufficient("label_bias", question, too_few(groups), numbers, groups.everyone.n_cases)
    estimate = _gap(groups, 0, f"gap of the automated labels' {e.measure.words}", e)
    best, worst = _extremes(groups, 0, e)

    def judge(found: Estimate) -> tuple[Verdict, str]:
        verdict = three_way(found.p_adjusted, found.extra["high_90"], e.measure.margin, alpha=ALPHA).verdict
        sizes = _two(numbers, worst, best, e)
        return verdict, {
            "supported": f"The automated labels of {e.by} {worst} are worse than those of {best}: {e.measure.words} "
            f"against the experts' {sizes}.{_below(found, e)}",
            "refuted": f"The automated labels are equally good for all {e.by} groups, to within "
            f"{numerals.with_unit(e.measure.margin, e.measure.unit)} {e.measure.words}.",
            "insufficient": f"Whether the automated labels are worse for some {e.by} group cannot be told: "
            f"{e.measure.words} {sizes}. {_detectable(found, e)}",
        }[verdict]

    return Draft("label_bias", question, numbers, estimate, judge, _rests_on(groups, e), primary=True)


def representation(e: Evidence) -> Draft:
    """Draft: is a group harder to segment with expert labels, equal numbers and, if known, equal difficulty?"""
    known = e.hardness is not None and not e.hardness.reason and not e.tiers_are_biased
    equal = "expert labels, equal numbers" + (" and one mix of difficulty" if known else "")
    question = f"Is some {e.by} group harder to segment, with {equal}?"
    groups = e.models
    numbers = groups.numbers(groups.column(groups.measures[0]))
    if not groups.comparable:
        return insufficient("representation", question, too_few(groups), numbers, groups.everyone.n_cases)
    if known:
        assert e.hardness is not None
        h = e.hardness
        estimate = replace(
            h.adjusted,
            name=f"contrast of mean {e.measure.words} at one mix of difficulty",
            p=e.p_equal_difficulty,
            unit=e.measure.unit,
            method="direct standardisation for difficulty; bootstrap of patients, p by permutation within difficulty",
            extra={**h.adjusted.extra, "raw": h.raw.value, "margin": e.measure.margin},
        )
        ends = (groups.labels[h.high], groups.labels[h.low])
        best, worst = ends if (h.adjusted.value >= 0) == e.measure.higher_is_better else ends[::-1]
        small = -e.measure.margin < h.adjusted.extra["low_90"] and h.adjusted.extra["high_90"] < e.measure.margin
        bound = 0.0 if small else float("inf")
        unknown = ""
        leftover = _mostly_mix(e)
    else:
        estimate = _gap(groups, 0, f"gap of mean {e.measure.words}, trained on expert labels", e)
        best, worst = _extremes(groups, 0, e)
        bound = estimate.extra["high_90"]
        leftover = False
        why = "tiers rest on labels that are biased" if e.tiers_are_biased else "difficulty is not known"
        unknown = f" Whether each is harder, or only more of them are hard, cannot be told: {why}."

    def judge(found: Estimate) -> tuple[Verdict, str]:
        verdict = three_way(found.p_adjusted, bound, e.measure.margin, alpha=ALPHA).verdict
        size = numerals.with_interval(abs(found.value), *_oriented(found), e.measure.unit)
        if verdict == "supported" and leftover:
            return "insufficient", (
                f"Most of the {e.by} difference goes away at one mix of difficulty; whether the {size} that is left is "
                "harder images, or difficulty that was not known well enough, cannot be told."
            )
        return verdict, {
            "supported": f"The images of {e.by} {worst} are harder to segment than those of {best}: with {equal}, "
            f"{e.measure.words} is {e.measure.worse()} by {size}.{unknown}",
            "refuted": f"With {equal}, all {e.by} groups are segmented equally well, to within "
            f"{numerals.with_unit(e.measure.margin, e.measure.unit)} {e.measure.words}.",
            "insufficient": f"Whether some {e.by} group is harder to segment cannot be told: with {equal} the groups "
            f"differ by {size}. {_detectable(found, e)}",
        }[verdict]

    if known:
        estimate.extra["detectable"] = float(groups.detectable[groups.column(groups.measures[0])])
    return Draft("representation", question, numbers, estimate, judge, _rests_on(groups, e), primary=True)


def difficulty_imbalance(e: Evidence) -> Draft:
    """Draft: is the gap there because a group has more of the hard cases?

    Two things must hold, so the larger of two p-values counts: the baseline has a gap against gold, and it shrinks when
    hard cases weigh the same in every group's mean. What is left after training on balanced difficulty too is given
    beside it, and not tested: two trainings on other cases differ by chance in ways that patients do not show.
    """
    question = f"Is the {e.by} gap there because a group has more of the hard cases?"
    groups, h, trained = e.models, e.mix, e.hardness
    numbers = groups.numbers(0)
    n = groups.everyone.n_cases
    if h is None or trained is None:
        why = "Nothing says which cases are hard: give a column with --difficulty, or two people's ratings."
        return insufficient("difficulty_imbalance", question, why, numbers, n)
    if not groups.comparable or h.reason:
        why = too_few(groups) if not groups.comparable else f"Difficulty cannot be balanced: {h.reason}."
        return insufficient("difficulty_imbalance", question, why, numbers, n)
    numbers = {
        label: {**row, **{f"share_{level}": float(h.mix[g, k]) for k, level in enumerate(e.design.levels)},
                "at_one_mix": float(h.means[g]), "balanced": float(trained.means[g])}
        for g, (label, row) in enumerate(numbers.items())
    }  # fmt: skip
    p_gap = float(groups.chance.p[0])
    of_gap = _gap(groups, 0, "", e)
    shrinks = h.change.value > 0
    share = h.change.value / h.raw.value if h.raw.value > 0 else float("nan")
    estimate = replace(
        h.change,
        name="part of the contrast that goes away at one mix of difficulty",
        p=max(p_gap, h.change.p) if shrinks else 1.0,
        unit=e.measure.unit,
        method="the baseline's contrast of the extreme groups - the same, standardised directly for difficulty; "
        "bootstrap of patients; the larger of the p-values of the gap and of the change",
        extra={**h.change.extra, "raw": h.raw.value, "at_one_mix": h.adjusted.value, "share": share,
               "balanced": trained.adjusted.value if not trained.reason else float("nan"),
               "p_gap": p_gap, "p_change": h.change.p, "margin": e.half_margin},
    )  # fmt: skip
    best, worst = _ordered(h.raw_means, groups, e)
    harder = _hardest_level(e)
    mix = _shares(e, worst, best, harder)

    def judge(found: Estimate) -> tuple[Verdict, str]:
        raw, adjusted = (_unit(contrast.value, e) for contrast in (h.raw, h.adjusted))
        also = f", and to {_unit(trained.adjusted.value, e)} if also trained on one" if e.balanced == BALANCED else ""
        sizes = f"at one mix of difficulty the difference shrinks from {raw} to {adjusted}{also}"
        if e.tiers_are_biased:
            return "insufficient", (
                "Difficulty is known by ratings of the automated labels, and these are worse for some group: its cases "
                f"may look hard because their labels are bad. Name another column with --difficulty ({mix})."
            )
        if found.p_adjusted < ALPHA and shrinks:
            return (
                "supported",
                f"The mix of easy and hard cases differs between {e.by} {worst} and {best} ({mix}): {sizes}.",
            )
        if h.change.extra["high_90"] < e.half_margin:
            return "refuted", (
                f"The mix of easy and hard cases ({mix}) makes less than "
                f"{numerals.about(e.half_margin, e.measure.unit)} of the {e.by} difference in {e.measure.words}."
            )
        if three_way(p_gap, of_gap.extra["high_90"], e.measure.margin).verdict == "refuted":
            return "refuted", f"There is no {e.by} gap that matters for a mix of difficulty ({mix}) to explain."
        return "insufficient", (
            f"Whether the mix of easy and hard cases ({mix}) makes any {e.by} gap cannot be told: "
            + (f"{sizes}." if p_gap < ALPHA else "a gap against expert masks is not evident in the first place.")
        )

    return Draft("difficulty_imbalance", question, numbers, estimate, judge, _rests_on(groups, e), primary=True)


def ruler(e: Evidence) -> Draft:
    """Draft: is the baseline's gap another one on automated masks? The ruler study, on the baseline's predictions."""
    question = f"Do automated masks as the ruler show another {e.by} gap than expert masks?"
    if e.rulers is None:
        why = "There is no second ruler: automated masks are missing, or are the expert ones."
        return insufficient("ruler", question, why, {}, e.models.everyone.n_cases)
    main, *modes = two_rulers(e.rulers, "ruler")

    def judge(found: Estimate) -> tuple[Verdict, str]:
        verdict, claim = main.judge(found)
        more = [f.claim for f in conclude(modes) if f.verdict == "supported" and f.id.endswith(":false-confidence")]
        return verdict, " ".join([claim, *more])

    return replace(main, id="ruler", question=question, judge=judge, primary=True)


def amplification(e: Evidence) -> Draft:
    """Draft: is the gap, on gold, larger for the model trained on automated labels than for the baseline?"""
    question = f"Does training on the automated labels widen the {e.by} gap?"
    groups = e.models
    if not e.biased:
        why = "No model was trained on automated labels."
        return insufficient("amplification", question, why, groups.numbers(0), groups.everyone.n_cases)
    column = e.design.names.index(BIASED)
    numbers = {
        label: {**row, "silver_trained": float(groups.shown.observed[column, g])}
        for g, (label, row) in enumerate(groups.numbers(0).items())
    }
    if not groups.comparable:
        return insufficient("amplification", question, too_few(groups), numbers, groups.everyone.n_cases)
    change = e.change(BIASED)
    observed = gap(groups.draws.observed)
    true, biased = float(observed[0]), float(observed[column])
    estimate = Estimate(
        name="gap of the model trained on automated labels - gap of the baseline",
        value=change.value,
        low=change.low,
        high=change.high,
        p=change.p,
        n=int(groups.draws.sizes[0].sum()),
        method="difference of max - min group means on expert masks; paired bootstrap of patients, p by permutation of "
        "patients of the case-wise differences",
        unit=e.measure.unit,
        extra={
            "gap_baseline": true,
            "gap_silver_trained": biased,
            "low_90": change.low_90,
            "high_90": change.high_90,
            "margin": e.half_margin,
            **_ratio(e, column),
        },
    )

    def judge(found: Estimate) -> tuple[Verdict, str]:
        sizes = f"from {_unit(true, e)} to {_unit(biased, e)} on expert masks"
        if found.p_adjusted < ALPHA and change.low_90 > 0:
            return "supported", f"Training on the automated labels widens the {e.by} gap {sizes}{_percent(found)}."
        if change.high_90 < e.half_margin:
            return "refuted", (
                f"Training on the automated labels does not widen the {e.by} gap by "
                f"{numerals.about(e.half_margin, e.measure.unit)} or more: {sizes}."
            )
        return "insufficient", f"Whether training on the automated labels widens the {e.by} gap is open: {sizes}."

    return Draft("amplification", question, numbers, estimate, judge, _rests_on(groups, e), primary=True)


def source_confounding(e: Evidence) -> Draft:
    """Draft: is the gap one between data sources? Of the baseline's gap, or of the labels' where only that is there."""
    groups, source = e.models, e.settings.within
    question = f"Is the {e.by} gap one between data sources?"
    numbers = groups.numbers(0)
    if source is None:
        why = "No data source was named (--within COLUMN), so a gap may be one between hospitals or devices."
        return insufficient("source_confounding", question, why, numbers, groups.everyone.n_cases)
    if not groups.comparable:
        return insufficient("source_confounding", question, too_few(groups), numbers, groups.everyone.n_cases)
    assert groups.source is not None
    what, compared, scores = "gap of the model trained on expert labels", groups, e.columns[BASELINE]
    pooled: Verdict = "supported" if groups.chance.p[0] < ALPHA else "insufficient"
    if pooled != "supported" and e.labels is not None and e.labels.comparable and e.labels.chance.p[0] < ALPHA:
        what, compared, scores, pooled = "gap of the automated labels", e.labels, e.columns["quality"], "supported"
    s = e.settings
    result = attenuation(scores, compared.judged, groups.source.codes, n_resamples=s.resamples, seed=s.seed)
    judged = compared.judged
    within = replace(judged, strata=groups.source.codes).subset(judged.known & (groups.source.codes >= 0))
    p_within = float(permutation_test(scores, within, n_permutations=s.resamples, seed=s.seed).p[0])
    decision = confounding_verdict(pooled, result, p_within, e.measure.margin, alpha=ALPHA)
    share = result.attenuation
    estimate = Estimate(
        name=f"share of the {what} that goes away within {source}",
        value=100 * share.value,
        low=100 * share.low,
        high=100 * share.high,
        n=share.n,
        unit="%",
        method="1 - adjusted / raw contrast of the extreme groups; y ~ group + source, bootstrap of patients",
        extra={"contrast": result.raw.value, "contrast_adjusted": result.adjusted.value, "p_within": p_within},
    )
    text = f"{numerals.number(estimate.value, 0)} % ({numerals.interval(estimate.low, estimate.high)} %)"
    claim = {
        "supported": f"The {what} by {e.by} is largely one between {source}s: {text} of it goes away within them.",
        "refuted": f"The {what} by {e.by} is not one between {source}s: within them only {text} of it goes away.",
        "insufficient": f"Whether {source} explains any {e.by} gap cannot be told: {decision.reason}.",
    }[decision.verdict]
    return Draft(
        "source_confounding", question, numbers, estimate, lambda found: (decision.verdict, claim), _rests_on(groups, e)
    )


CAUSES = {
    "label_bias": label_bias,
    "representation": representation,
    "difficulty_imbalance": difficulty_imbalance,
    "ruler": ruler,
    "amplification": amplification,
    "source_confounding": source_confounding,
}


def named(findings: Mapping[str, Finding] | list[Finding] | tuple[Finding, ...]) -> list[str]:
    """Return the causes that are supported, in the order of :data:`CAUSES`."""
    found = findings.values() if isinstance(findings, Mapping) else findings
    return [finding.id for finding in found if finding.verdict == "supported" and finding.id in CAUSES]


def _gap(groups: Compared, column: int, name: str, e: Evidence) -> Estimate:
    """Return the gap of a column with its interval, its p-value and what chance shows."""
    low, high = (float(limits[column]) for limits in groups.gap_limits)
    return Estimate(
        name=name,
        value=float(gap(groups.draws.observed[column])),
        low=low,
        high=high,
        p=float(groups.chance.p[column]),
        n=int(groups.draws.sizes[column].sum()),
        method="max - min of group means; bootstrap of patients, p by permutation of patients (studentised)",
        unit=e.measure.unit,
        extra={
            "null_mean": float(groups.chance.null_gap_mean[column]),
            "high_90": float(groups.gap_bound[column]),
            "detectable": float(groups.detectable[column]),
            "margin": e.measure.margin,
        },
    )


def _extremes(groups: Compared, column: int, e: Evidence) -> tuple[str, str]:
    return _ordered(groups.draws.observed[column], groups, e)


def _ordered(means: np.ndarray, groups: Compared, e: Evidence) -> tuple[str, str]:
    """Return the names of the best and of the worst group."""
    best, worst = best_and_worst(means, higher_is_better=e.measure.higher_is_better)
    return groups.labels[int(best)], groups.labels[int(worst)]


def _two(numbers: Mapping[str, Mapping[str, Any]], worst: str, best: str, e: Evidence) -> str:
    return f"{_unit(numbers[worst]['mean'], e)} against {_unit(numbers[best]['mean'], e)}"


def _unit(value: float, e: Evidence) -> str:
    return numerals.with_unit(value, e.measure.unit, 3 if not e.measure.unit else None)


def _mostly_mix(e: Evidence) -> bool:
    """Whether the mix of difficulty evidently makes part of the difference, and more than half of it goes away.

    Difficulty is known with error. Inside a stratum a group with more hard cases then still has more of them, and some
    difference stays that is no other cause (residual confounding).
    """
    m, h = e.mix, e.hardness
    return m is not None and h is not None and m.change.p < ALPHA and h.adjusted.value < m.raw.value / 2


def _below(found: Estimate, e: Evidence) -> str:
    return " That lies below the margin that matters." if found.high < e.measure.margin else ""


def _oriented(found: Estimate) -> tuple[float, float]:
    return (found.low, found.high) if found.value >= 0 else (-found.high, -found.low)


def _detectable(found: Estimate, e: Evidence) -> str:
    size = numerals.about(found.extra["detectable"], e.measure.unit)
    return f"So few patients reliably show only gaps of {size} or more."


def _hardest_level(e: Evidence) -> int:
    """Return the level of difficulty with the worst mean score of the baseline."""
    scores, codes = e.columns[BASELINE], e.design.difficulty
    means = [
        float(np.nanmean(scores[codes == k])) if np.any(codes == k) else np.nan for k in range(len(e.design.levels))
    ]
    return int(best_and_worst(np.asarray(means), higher_is_better=e.measure.higher_is_better)[1])


def _shares(e: Evidence, worst: str, best: str, level: int) -> str:
    assert e.hardness is not None
    mix = {label: float(e.hardness.mix[g, level]) for g, label in enumerate(e.models.labels)}
    return f"{e.design.levels[level]}: {numerals.percent(mix[worst], 0)} against {numerals.percent(mix[best], 0)}"


def _ratio(e: Evidence, column: int) -> dict[str, float]:
    """Return gap over gap - 1 with its interval, where the baseline's gap is evident: a share of nothing is nothing."""
    draws = e.models.draws
    if not e.models.gap_limits[0][0] > 0:
        return {}
    gaps, observed = gap(draws.means), gap(draws.observed)
    low, high = np.quantile(gaps[:, column] / gaps[:, 0], [0.025, 0.975])
    value = float(observed[column] / observed[0] - 1)
    return {"amplification": value, "amplification_low": float(low) - 1, "amplification_high": float(high) - 1}


def _percent(found: Estimate) -> str:
    if "amplification" not in found.extra:
        return ""
    value, low, high = (numerals.number(100 * found.extra[f"amplification{end}"], 0) for end in ("", "_low", "_high"))
    return f" (+{value} %, {low} to {high} %)"


def _rests_on(groups: Compared, e: Evidence) -> tuple[str, ...]:
    notes = [
        f"groups: {groups.groups.rule}",
        f"{groups.judged.n_cases} cases of {groups.judged.n_clusters} patients, each predicted by a model that has not "
        f"seen the patient ({int(e.design.fold.max()) + 1} folds)",
        f"each model trained on {e.design.per_group} cases a group, over all folds",
    ]
    if groups.groups.unknown:
        notes.append(f"{groups.groups.unknown} cases of unknown {groups.name} predicted, and kept apart")
    if groups.small:
        notes.append(f"not judged, fewer than {groups.min_patients} patients: {', '.join(groups.small)}")
    return (*notes, *e.design.notes)
