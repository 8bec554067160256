"""Is the gap that we see the model's, or the ruler's? One set of predictions, scored against two sets of masks.

Silver is the ruler at hand (automated masks), gold the one that counts (experts'). Of each case there are up to three
scores: prediction against gold, prediction against silver, silver against gold. The study, from top to bottom:

- :func:`two_rulers`: both gaps on the same cases, the level shift, the spread, the order of the groups; then the three
  modes in which a ruler lies (:mod:`ruler_modes`). After arXiv 2511.00477, experiment 1 (its "Biased Ruler").
- :func:`true_gap`: is there a gap against gold at all? Where gold is known of a few cases only, prediction-powered;
  where of none, bounded by the triangle inequality of the Jaccard distance.

Beyond the paper (our choices): every comparison of the rulers is paired by patient, a ratio of gaps is only given where
the true gap's interval excludes 0, and three verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from medaudit.audits.judging import outcomes as rules
from medaudit.audits.judging.compared import compared
from medaudit.audits.judging.conclude import Draft, Judge, conclude, insufficient
from medaudit.audits.ruler import modes
from medaudit.audits.ruler.modes import Evidence
from medaudit.audits.ruler.rulers import GOLD, SILVER, Rulers, named
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError
from medaudit.report import Finding, Verdict, numerals
from medaudit.statistics import (
    Decision,
    Estimate,
    gap,
    three_way,
)


@dataclass(frozen=True)
class Settings:
    """What is asked of the ruler study; the words are those of the command line. All of it is kept in ``run.json``."""

    by: tuple[str, ...]
    measure: str = "dice"
    outcome: str | None = None
    margins: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    silver_iou: str | None = None
    silver_from: str = ""
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    surface: str = "voxel"
    hd95: str = "pooled"
    empty: str = "penalise"
    seed: int = 0
    resamples: int = 10_000
    min_patients: int = 20
    skip_bad: bool = False


@dataclass(frozen=True)
class RulerAudit:
    """All that the study found: the findings, and per grouping the two rulers that its report draws."""

    cohort: Cohort
    settings: Settings
    scores: pl.DataFrame
    rulers: tuple[Rulers, ...]
    findings: tuple[Finding, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)


def audit_ruler(
    cohort: Cohort, scores: pl.DataFrame, settings: Settings, *, excluded: Mapping[str, str] | None = None
) -> RulerAudit:
    """Return the study of one set of predictions on two rulers.

    ``scores`` has a row a case, in the cohort's order: ``silver`` (prediction-vs-silver); where there is gold, ``gold``
    (prediction-vs-gold, null where not known) and, if known, ``quality`` (silver-vs-gold); else ``silver_iou``, an
    estimate of the IoU of silver and gold. Raises DataError where no case has both scores, or where two of the three
    masks are the same in every case.
    """
    check(scores)
    columns = {name: scores[name].cast(pl.Float64).to_numpy() for name in scores.columns if name != "case_id"}
    rulers = tuple(under_both(cohort, text, columns, settings) for text in settings.by)
    drafts: list[Draft] = []
    for position, grouping in enumerate(rulers):
        drafts += two_rulers(grouping, "ruler" if position == 0 else f"ruler:{grouping.name}")
        drafts.append(true_gap(grouping))
    return RulerAudit(cohort, settings, scores, rulers, tuple(conclude(drafts)), excluded or {})


def check(scores: pl.DataFrame) -> None:
    """Raise DataError where the scores cannot tell two rulers apart."""
    silver = scores["silver"].cast(pl.Float64).fill_nan(None)
    if silver.null_count() == len(silver):
        raise DataError("no case has a score of the prediction against silver; expected one of most cases")
    if "gold" not in scores.columns:
        return
    gold = scores["gold"].cast(pl.Float64).fill_nan(None)
    if gold.null_count() == len(gold):
        raise DataError(
            "no case has a score of the prediction against gold; give expert masks of at least some cases, or leave "
            "out --gold and give --silver-iou COLUMN"
        )
    both = gold.is_not_null() & silver.is_not_null()
    if not both.any():
        raise DataError(
            f"no case has both rulers: {len(gold) - gold.null_count()} have gold, {len(silver) - silver.null_count()} "
            "others have silver; check that both name the same cases"
        )
    if bool((gold.filter(both) == silver.filter(both)).all()):
        raise DataError(
            f"silver and gold give the same score in all {int(both.sum())} cases: they are one ruler, not two; "
            "check --gold and --silver"
        )


def under_both(cohort: Cohort, by: str, columns: Mapping[str, np.ndarray], settings: Settings) -> Rulers:
    """Return one grouping's :class:`Rulers`."""
    silver = columns["silver"]
    gold = columns.get("gold", np.full(silver.size, np.nan))
    measure = rules.measure(settings.measure, silver, settings.margins, settings.lower_is_better)
    text = settings.outcome or rules.default_outcomes([measure])[0]
    outcome = rules.parse(text, [measure])
    compare_by = partial(
        compared,
        cohort,
        Grouping.parse(by),
        within=None,
        min_patients=settings.min_patients,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    complete = np.isfinite(gold) & np.isfinite(silver)
    both = None
    if complete.any():
        names = ["gold", "silver", *(["quality"] if "quality" in columns else [])]
        # A case with one score only would enter one ruler's mean and not the other's: the pairs are what is compared.
        paired = {name: np.where(complete, columns[name], np.nan) for name in names}
        words = {"gold": "prediction against gold", "silver": "prediction against silver", "quality": "silver quality"}
        both = compare_by(
            tuple(replace(measure, name=name, words=f"{measure.words}, {words[name]}") for name in names),
            tuple(replace(outcome, measure=name, text=f"{outcome.text} against {name}") for name in names[:2]),
            paired,
        )
    alone = compare_by((replace(measure, name="silver"),), (), {"silver": silver})
    return Rulers(
        name=alone.name,
        measure=measure,
        both=both,
        all_silver=alone,
        sampled=both is not None and int(complete.sum()) < int(np.isfinite(silver).sum()),
        gold=gold,
        silver=silver,
        silver_iou=columns.get("silver_iou"),
    )


def two_rulers(rulers: Rulers, main_id: str) -> list[Draft]:
    """Drafts: does the ruler lie about the gap, and in which of the three modes?"""
    words, name = rulers.measure.words, rulers.name
    asked = {
        main_id: f"Is the gap of {words} by {name} another on silver masks than on gold ones?",
        f"ruler:{name}:false-magnitude": f"Do silver masks show a larger gap of {words} by {name} than there is?",
        f"ruler:{name}:false-confidence": f"Do silver masks make {words} look alike and high for everybody?",
        f"ruler:{name}:masking": f"Do silver masks hide a gap of {words} by {name}, or turn it round?",
    }
    if not rulers.comparable:
        why = (
            "Without expert masks the ruler itself cannot be checked: only bounds of the true gap can be given."
            if rulers.both is None
            else f"Fewer than two {name} groups have {rulers.all_silver.min_patients} patients with both scores."
        )
        n = rulers.both.everyone.n_cases if rulers.both is not None else rulers.all_silver.everyone.n_cases
        return [insufficient(i, q, why, rulers.numbers, n) for i, q in asked.items()]
    assert rulers.both is not None
    e, draws = rulers.evidence, rulers.both.draws
    change = rulers.change
    observed = gap(draws.observed)
    extra = {
        "gap_gold": float(observed[GOLD]),
        "gap_silver": float(observed[SILVER]),
        "margin": rulers.margin,
        "reversal": e.reversal,
        "saturated": float(rulers.saturated),
        **named("shift", e.shift),
        **named("sd_ratio", e.spread),
        **(named("inflation", rulers.inflation) if rulers.inflation else {}),
        **{f"{kind}_{r}": rulers.rates[r][kind][0] for r in ("gold", "silver") for kind in ("dpd", "dir")},
    }
    unit, n = rulers.measure.unit, int(draws.sizes[GOLD].sum())
    of_gaps = Estimate(
        name="gap on silver - gap on gold",
        value=change.value,
        low=change.low,
        high=change.high,
        p=change.p,
        n=n,
        method="difference of max - min group means; paired bootstrap of patients, p by permutation of patients of "
        "silver - gold case by case (studentised)",
        unit=unit,
        extra=extra,
    )
    shift, spread = e.shift, e.spread
    estimates = [
        of_gaps,
        replace(of_gaps, extra={"margin": rulers.margin}),
        Estimate(
            name="SD on silver / SD on gold",
            value=spread[0],
            low=spread[1],
            high=spread[2],
            n=n,
            method="pooled inside groups; paired bootstrap of patients",
            extra={**named("shift", shift), "saturated": float(rulers.saturated)},
        ),
        replace(of_gaps, extra={"margin": rulers.margin, "reversal": e.reversal}),
    ]
    judges = [_lie(rulers), _magnitude(rulers), _confidence(rulers), _masking(rulers)]
    rests_on = (
        f"groups: {rulers.both.groups.rule}",
        f"{rulers.both.everyone.n_cases} cases of {rulers.both.everyone.n_clusters} patients with both scores",
        "the same patients are resampled for both rulers",
    )
    return [
        Draft(i, q, rulers.numbers, estimate, judge, rests_on, primary=i == main_id)
        for (i, q), estimate, judge in zip(asked.items(), estimates, judges, strict=True)
    ]


def true_gap(rulers: Rulers) -> Draft:
    """Draft: is there a gap against gold? Measured where gold is there, else prediction-powered, else bounded."""
    finding_id = f"ruler:{rulers.name}:true-gap"
    question = f"Does {rulers.measure.words} against gold differ by {rulers.name}?"
    margin = rulers.measure.margin
    if rulers.both is None:
        return _bounded(rulers, finding_id, question)
    if not rulers.comparable:
        why = f"Fewer than two {rulers.name} groups have {rulers.all_silver.min_patients} patients with expert masks."
        return insufficient(finding_id, question, why, rulers.numbers, rulers.both.everyone.n_cases)
    groups = rulers.both
    if rulers.powered is not None:
        value, low, high = rulers.powered.gap(seed=groups.seed)
        bound, p = rulers.powered.gap(0.90, seed=groups.seed)[2], float("nan")
        method = "prediction-powered: mean of silver of all cases + mean of gold - silver of the sample; normal, max-t"
        n = int(rulers.powered.sizes[~np.isnan(rulers.powered.means)].sum())
        extra = {"gap_gold_alone": float(gap(groups.draws.observed[GOLD])), "gold_n": float(groups.judged.n_cases)}
    else:
        value = float(gap(groups.draws.observed[GOLD]))
        low, high = (float(limits[GOLD]) for limits in groups.gap_limits)
        bound, p = float(groups.gap_bound[GOLD]), float(groups.chance.p[GOLD])
        method = "max - min of group means; bootstrap of patients, p by permutation of patients (studentised)"
        n, extra = int(groups.draws.sizes[GOLD].sum()), {"detectable": float(groups.detectable[GOLD])}

    def judge(e: Estimate) -> tuple[Verdict, str]:
        size = numerals.with_interval(e.value, e.low, e.high, e.unit)
        tested = three_way(e.p_adjusted, bound, margin).verdict
        verdict = tested if np.isfinite(e.p_adjusted) else _by_interval(e.low, bound, margin)
        return verdict, {
            "supported": f"Against gold, {rulers.measure.words} differs by {rulers.name}: a gap of {size}.",
            "refuted": f"Against gold, {rulers.measure.words} is the same for all {rulers.name} groups to within "
            f"{numerals.about(margin, e.unit)}.",
            "insufficient": f"These data cannot tell whether {rulers.measure.words} against gold differs by "
            f"{rulers.name}: a gap of {size} may be chance.",
        }[verdict]

    estimate = Estimate(
        f"gap of mean {rulers.measure.words} against gold",
        value,
        low,
        high,
        p=p,
        n=n,
        method=method,
        unit=rulers.measure.unit,
        extra={**extra, "margin": margin},
    )
    rests_on = ("the cases with gold are a random sample of their group",) if rulers.sampled else ()
    return Draft(finding_id, question, rulers.numbers, estimate, judge, (f"groups: {groups.groups.rule}", *rests_on))


def _bounded(rulers: Rulers, finding_id: str, question: str) -> Draft:
    numbers, margin = rulers.numbers, rulers.measure.margin
    if rulers.bounds is None:
        why = f"Fewer than two {rulers.name} groups have {rulers.all_silver.min_patients} patients."
        return insufficient(finding_id, question, why, numbers, rulers.all_silver.everyone.n_cases)
    (least, low, _), (most, _, high), by_group = rulers.bounds
    numbers = {
        label: {**numbers[label], "iou_gold_low": by_group[label][0], "iou_gold_high": by_group[label][1]}
        for label in numbers
    }

    def judge(e: Estimate) -> tuple[Verdict, str]:
        verdict = _by_interval(e.low, e.high, margin)
        between = (
            f"the gap of mean IoU against gold lies between {numerals.number(least, 3)} and {numerals.number(most, 3)}"
        )
        return verdict, {
            "supported": f"Although no case has an expert mask, IoU differs by {rulers.name}: {between}.",
            "refuted": f"No expert mask is needed to tell that IoU is alike for all {rulers.name} groups: {between}.",
            "insufficient": f"Without expert masks these data cannot tell whether IoU differs by {rulers.name}: "
            f"{between}.",
        }[verdict]

    estimate = Estimate(
        name="gap of mean IoU against gold, bounds",
        value=float("nan"),
        low=low,
        high=high,
        n=int(rulers.all_silver.judged.n_cases),
        method="triangle inequality of the Jaccard distance; outer limits by bootstrap of patients",
        extra={"least": least, "most": most, "margin": margin},
    )
    return Draft(finding_id, question, numbers, estimate, judge, ("the estimate of silver's IoU is taken as true",))


def _by_interval(low: float, bound: float, margin: float) -> Verdict:
    """Return the verdict on a gap that has an interval and no p-value."""
    return "supported" if low > 0 else "refuted" if bound < margin else "insufficient"


def _sizes(rulers: Rulers) -> str:
    assert rulers.both is not None
    observed, unit = gap(rulers.both.draws.observed), rulers.measure.unit
    decimals = numerals.decimals_of(rulers.evidence.low_90, rulers.evidence.high_90)
    silver, gold = (numerals.with_unit(float(observed[k]), unit, decimals) for k in (SILVER, GOLD))
    return f"{silver} on silver, {gold} on gold"


def _judge(decide: Any, claims: dict[Verdict, str]) -> Judge:
    def judge(e: Estimate) -> tuple[Verdict, str]:
        decision: Decision = decide(e.p_adjusted)
        return decision.verdict, claims[decision.verdict]

    return judge


def _small(e: Evidence) -> str:
    """Return the sentence that goes with a difference that is there and too small to matter."""
    return " The difference lies below the margin that matters." if max(-e.low_90, e.high_90) < e.margin else ""


def _how(e: Evidence) -> str:
    """Return the sentence that says what a lie does where the two gaps do not show it: they may even be equal."""
    if e.reversed:
        return " The order of the groups is reversed."
    if e.low_90 > 0 or e.high_90 < 0:
        return _small(e)
    return " Silver changes some groups more than others; whether the gap itself grows or shrinks is open."


def _lie(rulers: Rulers) -> Judge:
    e, sizes = rulers.evidence, _sizes(rulers)
    share = ""
    if rulers.inflation is not None:
        value, low, high = (numerals.number(100 * v, 0) for v in rulers.inflation)
        share = f" ({'+' if rulers.inflation[0] > 0 else ''}{value} %, {low} to {high} %)"
    claims: dict[Verdict, str] = {
        "supported": f"The ruler lies about the {rulers.name} gap of {rulers.measure.words}: {sizes}{share}.{_how(e)}",
        "refuted": f"Silver and gold masks show the same {rulers.name} gap of {rulers.measure.words} to within "
        f"{numerals.about(rulers.margin, rulers.measure.unit)}: {sizes}.",
        "insufficient": f"These data cannot tell whether the ruler lies about the {rulers.name} gap: {sizes}.",
    }
    return _judge(lambda p: modes.lies(e, p), claims)


def _magnitude(rulers: Rulers) -> Judge:
    e, sizes = rulers.evidence, _sizes(rulers)
    return _judge(
        lambda p: modes.false_magnitude(e, p),
        {
            "supported": f"Silver masks exaggerate the {rulers.name} gap: {sizes}.{_small(e)}",
            "refuted": f"Silver masks do not exaggerate the {rulers.name} gap by more than "
            f"{numerals.about(rulers.margin, rulers.measure.unit)}.",
            "insufficient": f"Whether silver masks exaggerate the {rulers.name} gap is open: {sizes}.",
        },
    )


def _confidence(rulers: Rulers) -> Judge:
    e = rulers.evidence
    spread = numerals.with_interval(*e.spread)
    flat = " Nearly every case succeeds on silver, so success rates cannot differ there." if rulers.saturated else ""
    return _judge(
        lambda p: modes.false_confidence(e),
        {
            "supported": f"Silver masks make the prediction look better and alike for everybody: {spread} of the true "
            f"SD is left.{flat}",
            "refuted": f"Silver masks do not level the scores: {spread} of the true SD is left.",
            "insufficient": f"Whether silver masks level the scores is open: {spread} of the true SD is left.",
        },
    )


def _masking(rulers: Rulers) -> Judge:
    e, sizes = rulers.evidence, _sizes(rulers)
    how = "turn round" if e.reversed else "hide part of"
    return _judge(
        lambda p: modes.masking(e, p),
        {
            "supported": f"Silver masks {how} a true {rulers.name} gap: {sizes}.{'' if e.reversed else _small(e)}",
            "refuted": f"Silver masks hide no {rulers.name} gap that matters: {sizes}.",
            "insufficient": f"Whether silver masks hide a {rulers.name} gap is open: {sizes}.",
        },
    )
