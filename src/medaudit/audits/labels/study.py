"""Are the automated labels equally good for everybody? The audit of arXiv 2510.27421, read from top to bottom.

The paper's protocol (its steps in brackets) and where it is found here:

- [A] groups compared on the quality of their automated masks: :func:`gaps`, :func:`rates`, :func:`trend`;
- [B, F] is a gap only a gap between data sources?: :func:`confounding`;
- [C] the same audit of a model's predictions: point ``--labels`` at them;
- [D, E] is a gap hidden by pooling the sources?: :func:`masking`, :func:`interaction`;
- ratings of the masks by people, and quality tiers (arXiv 2511.00477, Table 1): :func:`quality.ratings`.

Beyond the paper (our choices): intervals and permutations by patient, multiplicity over the whole study, a margin below
which a gap is ruled out, the smallest gap that these data could have shown, and three verdicts instead of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track

from medaudit.audits.judging import outcomes as rules
from medaudit.audits.judging.compared import Compared, compared
from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.audits.judging.outcomes import Measure, Outcome
from medaudit.audits.labels import quality
from medaudit.audits.measuring.one_case import Ruler
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError, UsageError
from medaudit.metrics import ndsc
from medaudit.report import Finding, Verdict, numerals
from medaudit.statistics import (
    Estimate,
    best_and_worst,
    confounding_verdict,
    detectable_difference,
    gap,
    ratio,
    slope,
    three_way,
)
from medaudit.statistics import interaction as interaction_test

ALPHA = 0.05
FOUR_FIFTHS = 0.8
"""The disparate-impact ratio below which a disparity is flagged (the four-fifths rule)."""


@dataclass(frozen=True)
class Settings:
    """What is asked of the audit; the words are those of the command line. All of it is kept in ``run.json``."""

    by: tuple[str, ...]
    within: str | None = None
    measures: tuple[str, ...] = ("dice", "hd95_mm")
    outcomes: tuple[str, ...] = ()
    margins: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    surface: str = "voxel"
    hd95: str = "pooled"
    empty: str = "penalise"
    cap_mm: float = 150.0
    seed: int = 0
    resamples: int = 10_000
    min_patients: int = 20
    skip_bad: bool = False
    challenge: bool = False
    challenge_compat: bool = False

    @property
    def ruler(self) -> Ruler:
        """The definitions by which masks are compared."""
        return Ruler(
            tolerances_mm=self.tolerances_mm,
            surface=self.surface,
            hd95=self.hd95,
            empty=self.empty,
            challenge_compat=self.challenge_compat,
        )


@dataclass(frozen=True)
class Audit:
    """All that the audit found: the findings, and per grouping the comparison that its report draws."""

    cohort: Cohort
    settings: Settings
    scores: pl.DataFrame
    comparisons: tuple[Compared, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    excluded: dict[str, str] = field(default_factory=dict)


def audit(
    cohort: Cohort,
    scores: pl.DataFrame,
    settings: Settings,
    *,
    excluded: dict[str, str] | None = None,
    progress: bool = False,
) -> Audit:
    """Return the audit of ``scores`` (a row a case, in the cohort's order) of a cohort's cases.

    ``excluded`` are cases that could not be measured, and why; they are named in the report.
    """
    columns, notes = usable_scores(scores, settings)
    measures = tuple(
        rules.measure(name, values, settings.margins, settings.lower_is_better) for name, values in columns.items()
    )
    asked = settings.outcomes or tuple(rules.default_outcomes(measures))
    outcomes = tuple(dict.fromkeys(rules.parse(text, measures) for text in asked))
    comparisons = tuple(
        compared(
            cohort,
            Grouping.parse(text),
            measures,
            outcomes,
            columns,
            within=settings.within,
            min_patients=settings.min_patients,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for text in settings.by
    )
    asking = [ask for groups in comparisons for ask in questions(groups, cohort, settings)]
    drafts: list[Draft] = []
    console = Console(stderr=True)
    for ask in track(
        asking, "testing", console=console, transient=True, disable=not (progress and console.is_terminal)
    ):
        drafts += ask()
    return Audit(
        cohort=cohort,
        settings=settings,
        scores=scores,
        comparisons=comparisons,
        findings=tuple(conclude(drafts)),
        notes=(*cohort.notes, *notes),
        excluded=excluded or {},
    )


def questions(groups: Compared, cohort: Cohort, settings: Settings) -> Iterator[Callable[[], list[Draft]]]:
    """Yield the protocol's questions about one grouping, in its order; a call asks one and answers in drafts."""
    asked: list[Callable[[Compared, Measure], Draft]] = [gaps]
    if groups.groups.values is not None:
        asked.append(trend)
    if groups.source is not None:
        asked += [confounding, masking, interaction]
    for measure in groups.measures:
        for question in asked:
            yield partial(_alone, question, groups, measure)
    for outcome in groups.outcomes:
        yield partial(rates, groups, outcome, rules.rate_margin(settings.margins))
    yield partial(quality.ratings, groups, cohort)


def gaps(groups: Compared, measure: Measure) -> Draft:
    """Draft [A]: do the groups' mean scores differ by more than chance gives?

    The gap is the largest minus the smallest group mean; its p-value is a permutation of patients between groups.
    """
    finding_id = f"gap:{groups.name}:{measure.name}"
    question = f"Does {measure.words} differ between {groups.name} groups?"
    column = groups.column(measure)
    numbers = groups.numbers(column)
    primary = measure == groups.measures[0]
    if not groups.comparable:
        return insufficient(finding_id, question, too_few(groups), numbers, groups.everyone.n_cases)
    means = groups.draws.observed[column]
    best, worst = (groups.labels[int(g)] for g in best_and_worst(means, higher_is_better=measure.higher_is_better))
    low, high = (limits[column] for limits in groups.gap_limits)
    bound, detectable = groups.gap_bound[column], groups.detectable[column]
    chance = groups.chance
    estimate = Estimate(
        name=f"gap of mean {measure.words}",
        value=float(gap(means)),
        low=float(low),
        high=float(high),
        p=float(chance.p[column]),
        n=int(groups.draws.sizes[column].sum()),
        method="max - min of group means; bootstrap of patients, p by permutation of patients (studentised)",
        unit=measure.unit,
        extra={
            "null_mean": float(chance.null_gap_mean[column]),
            "null_95": float(chance.null_gap_95[column]),
            "bias_corrected": float(chance.bias_corrected_gap[column]),
            "detectable": float(detectable),
            "margin": measure.margin,
        },
    )

    def judge(e: Estimate) -> tuple[Verdict, str]:
        size = numerals.with_unit(e.value, measure.unit, numerals.decimals_of(e.low, e.high))
        verdict = three_way(e.p_adjusted, bound, measure.margin, alpha=ALPHA).verdict
        if verdict == "supported":
            small = " It lies below the margin that matters." if e.high < measure.margin else ""
            return "supported", (
                f"{measure.words} is {measure.worse()} for {groups.name} {worst} than for {groups.name} {best}: "
                f"a gap of {size}, more than chance gives.{small}"
            )
        if verdict == "refuted":
            return "refuted", (
                f"{measure.words} is the same for all {groups.name} groups to within "
                f"{numerals.with_unit(measure.margin, measure.unit)}."
            )
        return "insufficient", (
            f"These data cannot tell whether {measure.words} differs by {groups.name}: a gap of {size} may be chance, "
            f"and so few patients reliably show only gaps of {numerals.about(float(detectable), measure.unit)} or more."
        )

    return Draft(finding_id, question, numbers, estimate, judge, _rests_on(groups, measure.name), primary=primary)


def rates(groups: Compared, outcome: Outcome, margin: float) -> list[Draft]:
    """Drafts [A, D]: do the groups succeed equally often? The difference (DPD) and the ratio (DIR) of success rates."""
    column = groups.column(outcome)
    numbers = groups.numbers(column)
    ids = [f"{kind}:{groups.name}:{outcome.text}" for kind in ("dpd", "dir")]
    questions = [
        f"Do the {groups.name} groups reach '{outcome.text}' unequally often?",
        f"Does any {groups.name} group reach '{outcome.text}' less than four fifths as often as another?",
    ]
    if not groups.comparable:
        n = groups.everyone.n_cases
        return [insufficient(i, q, too_few(groups), numbers, n) for i, q in zip(ids, questions, strict=True)]
    observed, chance = groups.draws.observed[column], groups.chance
    best, worst = (groups.labels[int(g)] for g in best_and_worst(observed))
    n = int(groups.draws.sizes[column].sum())
    low, high = (limits[column] for limits in groups.gap_limits)
    bound, detectable = groups.gap_bound[column], groups.detectable[column]
    difference = Estimate(
        name="demographic parity difference (DPD)",
        value=float(gap(observed)),
        low=float(low),
        high=float(high),
        p=float(chance.p_gap[column]),
        n=n,
        method="max - min of success rates; interval by bootstrap of patients, p by permutation of patients",
        extra={
            "null_mean": float(chance.null_gap_mean[column]),
            "null_95": float(chance.null_gap_95[column]),
            "detectable": float(detectable),
            "margin": margin,
        },
    )
    ratio_low, ratio_high = (limits[column] for limits in groups.ratio_limits)
    false_alarm = float(chance.null_ratio_below(FOUR_FIFTHS)[column])
    quotient = Estimate(
        name="disparate impact ratio (DIR)",
        value=float(ratio(observed)),
        low=float(ratio_low),
        high=float(ratio_high),
        p=float(chance.p_ratio[column]),
        n=n,
        method="min / max of success rates; interval by bootstrap of patients, p by permutation of patients",
        extra={"null_below_four_fifths": false_alarm, "threshold": FOUR_FIFTHS},
    )
    ratio_bound = float(groups.ratio_bound[column])
    share = f"{numerals.percent(float(np.nanmin(observed)))} against {numerals.percent(float(np.nanmax(observed)))}"

    def judge_difference(e: Estimate) -> tuple[Verdict, str]:
        verdict = three_way(e.p_adjusted, bound, margin, alpha=ALPHA).verdict
        if verdict == "supported":
            return (
                "supported",
                f"{groups.name} {worst} reaches '{outcome.text}' less often than {groups.name} {best}: {share}.",
            )
        if verdict == "refuted":
            return "refuted", f"All {groups.name} groups reach '{outcome.text}' equally often to within {margin:.0%}."
        return "insufficient", (
            f"These data cannot tell whether the {groups.name} groups reach '{outcome.text}' equally often ({share}): "
            f"so few patients reliably show only differences of {numerals.about(100 * float(detectable), '%')} or more."
        )

    def judge_ratio(e: Estimate) -> tuple[Verdict, str]:
        if e.p_adjusted < ALPHA and e.value < FOUR_FIFTHS:
            return "supported", (
                f"{groups.name} {worst} reaches '{outcome.text}' {e.value:.2f} times as often as {best}, "
                "below four fifths and beyond chance."
            )
        if ratio_bound > FOUR_FIFTHS:
            return (
                "refuted",
                f"No {groups.name} group reaches '{outcome.text}' less than four fifths as often as another.",
            )
        chance = f"; chance alone puts it there in {numerals.percent(false_alarm, 0)} of cohorts like this"
        return "insufficient", (
            f"Whether the ratio of success rates, {e.value:.2f} ({e.low:.2f} to {e.high:.2f}), really lies below "
            f"four fifths cannot be told{chance if false_alarm > ALPHA else ''}."
        )

    rests = (*_rests_on(groups, outcome.measure), *_ties(groups, outcome))
    return [
        Draft(ids[0], questions[0], numbers, difference, judge_difference, rests),
        Draft(ids[1], questions[1], numbers, quotient, judge_ratio, rests),
    ]


def trend(groups: Compared, measure: Measure) -> Draft:
    """Draft [A]: does the score rise or fall with the attribute itself, uncut (score ~ age, robust errors)?"""
    finding_id = f"trend:{groups.name}:{measure.name}"
    question = f"Does {measure.words} change with {groups.name} itself, without cutting it into groups?"
    column = groups.column(measure)
    numbers = groups.numbers(column)
    assert groups.groups.values is not None
    known = groups.everyone.known
    attribute = np.where(known, groups.groups.values, np.nan)
    repeats = groups.everyone.n_clusters < groups.everyone.n_cases
    fit = slope(groups.values[:, column], attribute, clusters=groups.everyone.clusters if repeats else None)
    if not np.isfinite(fit.value) or groups.everyone.n_clusters < groups.min_patients:
        return insufficient(finding_id, question, f"Too few patients with a known {groups.name}.", numbers, fit.n)
    span = float(np.nanpercentile(attribute, 95) - np.nanpercentile(attribute, 5))
    error = (fit.high - fit.low) / 3.92
    detectable = detectable_difference(error, 0.0) * span
    estimate = Estimate(
        name=f"slope of {measure.words} per unit of {groups.name}",
        value=fit.value,
        low=fit.low,
        high=fit.high,
        p=fit.p,
        n=fit.n,
        method=fit.method,
        unit=measure.unit,
        extra={**fit.extra, "span": span, "over_span": fit.value * span, "detectable_over_span": detectable},
    )
    reach = 1.645 * error * span + abs(fit.value) * span

    def judge(e: Estimate) -> tuple[Verdict, str]:
        change = numerals.with_unit(abs(e.value) * span, measure.unit)
        verdict = three_way(e.p_adjusted, reach, measure.margin, alpha=ALPHA).verdict
        if verdict == "supported":
            direction = "rises" if e.value > 0 else "falls"
            return "supported", (f"{measure.words} {direction} with {groups.name}: by {change} over its middle 90 %.")
        if verdict == "refuted":
            return "refuted", (
                f"{measure.words} does not change with {groups.name} by "
                f"{numerals.with_unit(measure.margin, measure.unit)} or more over its middle 90 %."
            )
        return "insufficient", (
            f"These data cannot tell whether {measure.words} changes with {groups.name}: so few patients "
            f"reliably show only changes of {numerals.about(detectable, measure.unit)} or more over its middle 90 %."
        )

    return Draft(finding_id, question, numbers, estimate, judge, _rests_on(groups, measure.name))


def confounding(groups: Compared, measure: Measure) -> Draft:
    """Draft [B, F]: is the pooled gap a gap between sources, that is, does it go away within sources?

    The contrast of the best and the worst group before and after adjusting for the source (y ~ group + source), with a
    bootstrap interval of the share that goes away; permutation within sources for what is left.
    """
    assert groups.source is not None
    finding_id = f"confounding:{groups.name}:{measure.name}"
    question = f"Is the gap of {measure.words} between {groups.name} groups explained by {groups.source.name}?"
    column = groups.column(measure)
    numbers = groups.numbers(column)
    if not groups.comparable:
        return insufficient(finding_id, question, too_few(groups), numbers, groups.everyone.n_cases)
    result = groups.attenuations[column]
    p_within = groups.p_within[column]
    share = result.attenuation
    estimate = Estimate(
        name=f"share of the gap that goes away within {groups.source.name}",
        value=100 * share.value,
        low=100 * share.low,
        high=100 * share.high,
        n=share.n,
        unit="%",
        method="1 - adjusted / raw contrast of the extreme groups; y ~ group + source, bootstrap of patients",
        extra={
            "contrast": result.raw.value,
            "contrast_adjusted": result.adjusted.value,
            "contrast_adjusted_low": result.adjusted.low,
            "contrast_adjusted_high": result.adjusted.high,
            "p_within": p_within,
            "eta2_attenuation": result.eta2_attenuation,
            "gap_attenuation": result.gap_attenuation,
            "source_f": result.source_test.f,
            "source_p": result.source_test.p,
            "source_p_robust": result.source_test.p_robust,
        },
    )
    decision = confounding_verdict("supported", result, p_within, measure.margin, alpha=ALPHA)

    def judge(e: Estimate) -> tuple[Verdict, str]:
        assert groups.source is not None
        source = groups.source.name
        if decision.verdict == "supported":
            return "supported", (
                f"The gap of {measure.words} between {groups.name} groups is largely one between {source}s: "
                f"{_share(e)} of it goes away within them."
            )
        if decision.verdict == "refuted":
            return "refuted", (
                f"The gap of {measure.words} between {groups.name} groups is not one between {source}s: within them "
                f"only {_share(e)} of it goes away."
            )
        return (
            "insufficient",
            f"Whether {source} explains the gap of {measure.words} cannot be told: {decision.reason}.",
        )

    return Draft(finding_id, question, numbers, estimate, judge, _rests_on(groups, measure.name))


def masking(groups: Compared, measure: Measure) -> Draft:
    """Draft [E]: does pooling the sources hide a gap: is it larger within some source than pooled?

    Small sources show large gaps by chance; the largest excess is compared with what residuals permuted within
    sources show when the pooled differences hold everywhere.
    """
    assert groups.source is not None
    finding_id = f"masking:{groups.name}:{measure.name}"
    question = f"Is a gap of {measure.words} between {groups.name} groups hidden by pooling {groups.source.name}s?"
    column = groups.column(measure)
    numbers = groups.numbers(column)
    n = groups.everyone.n_cases
    if not groups.comparable:
        return insufficient(finding_id, question, too_few(groups), numbers, n)
    table = groups.within_sources[column]
    largest = table.largest
    if largest is None:
        return insufficient(finding_id, question, f"Cannot be told: {table.reason}.", numbers, n)
    place = groups.source.labels[largest.source]
    estimate = Estimate(
        name=f"gap of mean {measure.words} within {groups.source.name} {place}",
        value=largest.gap,
        low=largest.low,
        high=largest.high,
        p=table.p,
        n=largest.n,
        method="largest excess of a within-source gap; residuals permuted within sources, corrected for all sources",
        unit=measure.unit,
        extra={
            "pooled_gap": table.pooled_gap,
            "expected_gap": largest.expected,
            "detectable": largest.detectable,
            "sources": float(len(table.sources)),
            "sources_skipped": float(table.skipped),
            "i2": table.sites.i2,
            "cochran_q_p": table.sites.p,
        },
    )
    bound = max(row.high for row in table.sources)

    def judge(e: Estimate) -> tuple[Verdict, str]:
        pooled = numerals.with_unit(table.pooled_gap, measure.unit)
        if e.p_adjusted < ALPHA:
            return "supported", (
                f"Pooling hides a gap: within {place} the {groups.name} groups differ by "
                f"{numerals.with_unit(e.value, measure.unit)} in {measure.words}, pooled by {pooled}."
            )
        if bound < table.pooled_gap + measure.margin:
            return (
                "refuted",
                f"No {groups.source and groups.source.name} hides a larger gap of {measure.words} than {pooled}.",
            )
        return "insufficient", (
            f"No hidden gap of {measure.words} was seen; the patients of {place} reliably show only gaps of "
            f"{numerals.about(largest.detectable, measure.unit)} or more."
        )

    skipped = (f"{table.skipped} sources have fewer than two groups of {groups.min_patients} patients; not judged",)
    rests = (*_rests_on(groups, measure.name), *(skipped if table.skipped else ()))
    return Draft(finding_id, question, numbers, estimate, judge, rests)


def interaction(groups: Compared, measure: Measure) -> Draft:
    """Draft [B]: do the sources disagree about the groups (group x source interaction, robust Wald F)?"""
    assert groups.source is not None
    finding_id = f"interaction:{groups.name}:{measure.name}"
    question = (
        f"Is the difference in {measure.words} between {groups.name} groups another in each {groups.source.name}?"
    )
    column = groups.column(measure)
    numbers = groups.numbers(column)
    repeats = groups.judged.n_clusters < groups.judged.n_cases
    test = interaction_test(
        groups.values[:, column],
        groups.judged.groups,
        groups.source.codes,
        clusters=groups.judged.clusters if repeats else None,
        min_cases=groups.min_patients,
    )
    if not np.isfinite(test.f_robust):
        return insufficient(finding_id, question, f"Cannot be told: {test.reason or too_few(groups)}.", numbers, test.n)
    estimate = Estimate(
        name=f"partial eta squared of {groups.name} x {groups.source.name}",
        value=test.partial_eta2,
        p=test.p_robust,
        n=test.n,
        method="nested models, Wald F with " + ("errors clustered by patient" if repeats else "HC3 errors"),
        extra={"f": test.f, "f_robust": test.f_robust, "df1": test.df1, "df2": test.df2, "p_classical": test.p},
    )

    def judge(e: Estimate) -> tuple[Verdict, str]:
        assert groups.source is not None
        if e.p_adjusted < ALPHA:
            return "supported", (
                f"The {groups.name} groups differ in {measure.words} by other amounts in different "
                f"{groups.source.name}s: no one number describes the gap."
            )
        return (
            "insufficient",
            f"No disagreement between {groups.source.name}s about {groups.name} was seen beyond chance.",
        )

    rests = (*_rests_on(groups, measure.name), *((test.reason,) if test.reason else ()))
    return Draft(finding_id, question, numbers, estimate, judge, rests)


def usable_scores(scores: pl.DataFrame, settings: Settings) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return each measure as (n,) float64 without infinities, and what was done to them, a sentence each.

    An infinite distance (an empty mask) becomes the image's diagonal, or ``cap_mm`` where that is not known: leaving it
    out would make the group with the most missed objects look best. nDSC is added where the masks' sizes are known.
    """
    columns, notes = {}, []
    for name in settings.measures:
        if name not in scores.columns:
            numbers = [c for c, kind in scores.schema.items() if kind.is_numeric()]
            raise UsageError(f"no measure is called '{name}'; there are: {', '.join(numbers)}")
        values = scores[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
        rules.check_range(name, values, scores["case_id"].to_list(), settings.lower_is_better)
        endless = np.isinf(values)
        if endless.any():
            known = "image_diagonal_mm" in scores.columns
            cap = scores["image_diagonal_mm"].to_numpy() if known else np.full(values.size, settings.cap_mm)
            values = np.where(endless, cap, values)
            what = "the image's diagonal" if known else f"{settings.cap_mm:g} mm"
            notes.append(f"{int(endless.sum())} infinite values of {name} (an empty mask) count as {what}.")
        missing = int(np.isnan(values).sum())
        if missing == values.size:
            raise DataError(f"{name} is missing for all {values.size} cases")
        if missing:
            notes.append(f"{missing} of {values.size} cases have no {name} and are left out of what concerns it.")
        columns[name] = values
    sizes = ("true_positive_voxels", "reference_voxels", "prediction_voxels", "image_voxels")
    if "dice" in settings.measures and set(sizes) <= set(scores.columns) and (scores["reference_voxels"] > 0).any():
        columns["ndsc"] = ndsc(*(scores[size].to_numpy() for size in sizes))
        notes.append("nDSC is Dice freed of its dependence on the object's size (arXiv 2302.05432), as a second look.")
    return columns, notes


def too_few(groups: Compared) -> str:
    """Return the sentence that says why nothing can be compared."""
    sizes = ", ".join(
        f"{label} {n}" for label, n in zip(groups.labels, groups.everyone.clusters_per_group, strict=True)
    )
    return (
        f"Too few patients to compare {groups.name}: at least two groups need {groups.min_patients} or more "
        f"(patients: {sizes})."
    )


def _alone(question: Callable[[Compared, Measure], Draft], groups: Compared, measure: Measure) -> list[Draft]:
    return [question(groups, measure)]


def _rests_on(groups: Compared, measure: str) -> tuple[str, ...]:
    notes = [f"groups: {groups.groups.rule}", f"{groups.judged.n_cases} cases of {groups.judged.n_clusters} patients"]
    if groups.groups.unknown:
        notes.append(f"{groups.groups.unknown} cases of unknown {groups.name} kept apart")
    if groups.small:
        notes.append(f"not judged, fewer than {groups.min_patients} patients: {', '.join(groups.small)}")
    if not groups.judged.nested:
        notes.append("patients lie in several groups: resampled and permuted as whole patients")
    return (*notes, f"measure: {measure}")


def _ties(groups: Compared, outcome: Outcome) -> tuple[str, ...]:
    """How many cases sit on the boundary of a best share, where '>=' against '>' would change who succeeds."""
    if not outcome.fraction:
        return ()
    scores = groups.values[:, [m.name for m in groups.measures].index(outcome.measure)]
    with_ties, without = (outcome.success(scores, ties) for ties in ("include", "exclude"))
    tied = int(np.nansum(with_ties) - np.nansum(without))
    share = f"{np.nanmean(with_ties):.1%} of cases succeed"
    return (f"{share}; cases that tie at the boundary and count as successes: {tied}",) if tied else (share,)


def _share(e: Estimate) -> str:
    value, low, high = (numerals.number(x, 0) for x in (e.value, e.low, e.high))
    return f"{value} % ({low} to {high} %)"
