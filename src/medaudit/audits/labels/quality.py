"""How people rated the masks: quality tiers, ratings by group, and the score of the MAMA-MIA challenge."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medaudit.audits.judging.compared import Compared
from medaudit.audits.judging.conclude import Draft, insufficient
from medaudit.cohort import Cohort, numeric
from medaudit.errors import UsageError
from medaudit.metrics import ChallengeScore, challenge_score
from medaudit.report import Verdict
from medaudit.statistics import Estimate, rating_test

RATINGS = ("Good", "Acceptable", "Poor", "Missed")
"""What a reader may call a mask, from best to worst (arXiv 2510.27421)."""

TIERS = ("1", "1.5", "2", "3")
"""Unambiguously good, expert-metric mismatch, clinically acceptable, unambiguously poor (arXiv 2511.00477, Table 1)."""

TIER_DICE, TIER_HD95_MM = 0.80, 10.0

ALPHA = 0.05


def tiers(rating_1: pl.Series, rating_2: pl.Series, dice: np.ndarray, hd95_mm: np.ndarray) -> pl.Series:
    """Return each case's quality tier, ``None`` where a rating or a metric is missing.

    arXiv 2511.00477, Table 1: 1, both Good and Dice >= 0.80 and HD95 <= 10 mm; 1.5, both Good and not so; 3, both
    Poor; 2, the rest (any Acceptable, or the raters disagree). Both Missed is not defined there: tier 3 (our choice).
    Tiers 1 and 1.5 are the easy cases, 2 and 3 the hard ones.
    """
    first, second = (_rating(column) for column in (rating_1, rating_2))
    result: list[str | None] = []
    for a, b, d, h in zip(first, second, dice, hd95_mm, strict=True):
        if a is None or b is None or np.isnan(d) or np.isnan(h):
            result.append(None)
        elif a == b == "Good":
            result.append("1" if d >= TIER_DICE and h <= TIER_HD95_MM else "1.5")
        elif a == b and a in ("Poor", "Missed"):
            result.append("3")
        else:
            result.append("2")
    return pl.Series("tier", result, dtype=pl.String)


def ratings(groups: Compared, cohort: Cohort) -> list[Draft]:
    """Drafts: do people rate the masks of all groups alike, and do the groups share the quality tiers alike?

    Tested with chi-square (Cramer's V as its size) on the worse of the two ratings and on the tier; nothing where the
    table has no ``rating_1`` and ``rating_2``.
    """
    columns = cohort.table.columns
    if "rating_1" not in columns:
        return []
    second = cohort.column("rating_2" if "rating_2" in columns else "rating_1")
    first = cohort.column("rating_1")
    names = [measure.name for measure in groups.measures]
    drafts = [_draft(groups, "rating", "worse of two ratings", _worse(first, second), RATINGS)]
    if "rating_2" in columns and {"dice", "hd95_mm"} <= set(names):
        dice, hd95 = (groups.values[:, names.index(name)] for name in ("dice", "hd95_mm"))
        drafts.append(_draft(groups, "tier", "quality tier", tiers(first, second, dice, hd95), TIERS))
    return drafts


def challenge(cohort: Cohort, scores: pl.DataFrame, *, compat: bool) -> ChallengeScore:
    """Return the MAMA-MIA challenge's score of the audited masks; see :func:`medaudit.metrics.challenge_score`."""
    variables = [name for name in ("age", "menopausal_status", "menopause", "breast_density") if name in cohort.table]
    table: dict[str, Any] = {name: cohort.table[name].to_list() for name in variables}
    if "age" in variables:
        table["age"] = numeric(cohort, "age")
    table |= {name: scores[name].to_list() for name in scores.columns if name in ("dice", "hd95_mm", "hd95_voxels")}
    if not variables:
        raise UsageError(f"{cohort.name}: the challenge score needs a column age, menopause or breast_density")
    return challenge_score(table, compat=compat)


def _draft(groups: Compared, kind: str, words: str, values: pl.Series, order: tuple[str, ...]) -> Draft:
    finding_id = f"{kind}:{groups.name}"
    question = f"Does the {words} of the masks differ between {groups.name} groups?"
    codes = np.array([-1 if value is None else order.index(value) for value in values])
    shares = {
        label: {
            "n": int(np.sum((groups.everyone.groups == g) & (codes >= 0))),
            "patients": int(groups.everyone.clusters_per_group[g]),
            **_shares(codes[groups.everyone.groups == g], order),
        }
        for g, label in enumerate(groups.labels)
    }
    known = int(np.sum((groups.judged.groups >= 0) & (codes >= 0)))
    if not groups.comparable or known == 0:
        return insufficient(finding_id, question, f"Too few rated patients to compare {groups.name}.", shares, known)
    test = rating_test(codes, groups.judged, n_permutations=groups.resamples, seed=groups.seed)

    def judge(e: Estimate) -> tuple[Verdict, str]:
        if e.p_adjusted < ALPHA:
            return "supported", f"The {words} differs between {groups.name} groups (Cramér's V {e.value:.2f})."
        return (
            "insufficient",
            f"These data show no difference of the {words} between {groups.name} groups beyond chance.",
        )

    estimate = Estimate(
        name=f"Cramér's V of {words} by {groups.name}",
        value=test.cramers_v,
        p=test.p_permutation,
        n=test.n,
        method="chi-square of rating x group, p by permutation of patients",
        extra={"chi2": test.chi2, "df": test.df, "p_asymptotic": test.p, "min_expected": test.min_expected},
    )
    return Draft(finding_id, question, shares, estimate, judge)


def _shares(codes: NDArray[np.int64], order: tuple[str, ...]) -> dict[str, float]:
    known = codes[codes >= 0]
    return {name: float(np.mean(known == i)) if known.size else float("nan") for i, name in enumerate(order)}


def _rating(column: pl.Series) -> list[str | None]:
    spelled = {rating.lower(): rating for rating in RATINGS}
    return [spelled.get(str(value).strip().lower()) for value in column]


def _worse(first: pl.Series, second: pl.Series) -> pl.Series:
    pairs = zip(_rating(first), _rating(second), strict=True)
    worse = [None if a is None or b is None else max(a, b, key=RATINGS.index) for a, b in pairs]
    return pl.Series("rating", worse, dtype=pl.String)
