"""Does pooling hide a disparity? Gaps within each source against the pooled gap (masking by aggregation).

Small sources always show large gaps, so the largest within-source gap means nothing by itself. The reference is a
world in which the pooled group differences hold in every source: residuals are permuted within sources around the
pooled group means, which gives each source the gaps that it would show by chance. A source's excess is its gap in
units of that distribution, and the largest excess is compared with the largest excess by chance, so that looking
into every source is paid for (single-step max-T, Westfall & Young 1993; the statistic is our choice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.bootstrap import bootstrap_means, gap_interval, standard_errors
from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap, group_means
from medaudit.statistics.equivalence import detectable_gap
from medaudit.statistics.heterogeneity import Heterogeneity, cochran_q
from medaudit.statistics.multiplicity import holm
from medaudit.statistics.permutation import exchanged_means, permutation_test


@dataclass(frozen=True)
class SourceGap:
    """The gap between groups inside one source.

    ``p`` tests the gap itself (permutation within the source), ``p_holm`` over the sources; ``expected`` is the gap
    that this source would show by chance if the pooled differences held, ``p_excess`` (corrected for looking at all
    sources) whether its gap is larger than that; ``detectable`` the smallest gap seen with 80 % power.
    """

    source: int
    n: int
    n_clusters: int
    groups: tuple[int, ...]
    means: np.ndarray
    gap: float
    low: float
    high: float
    p: float
    p_holm: float
    expected: float
    p_excess: float
    detectable: float


@dataclass(frozen=True)
class Masking:
    """Whether some source has a larger gap than the pooled data: ``p`` for the largest excess, and the table.

    ``sites`` compares the pooled best-worst contrast between sources (Cochran's Q, I^2). ``skipped`` counts
    sources in which fewer than two groups were large enough; if all were, ``p`` is NaN and ``reason`` says so.
    """

    pooled_gap: float
    p: float
    sources: tuple[SourceGap, ...]
    sites: Heterogeneity
    skipped: int
    reason: str = ""

    @property
    def largest(self) -> SourceGap | None:
        """The source with the strongest excess over the pooled gap."""
        return min(self.sources, key=lambda row: (row.p_excess, -row.gap), default=None)


def masking_by_source(
    values: ArrayLike,
    comparison: Comparison,
    sources: ArrayLike,
    *,
    min_clusters: int = 20,
    level: float = 0.95,
    n_permutations: int = 5_000,
    n_resamples: int = 5_000,
    seed: int = 0,
) -> Masking:
    """Return the :class:`Masking` of group gaps in ``values`` (n,) by ``sources`` (n,), codes, -1 unknown.

    Inside a source only groups with at least ``min_clusters`` clusters are compared.
    """
    y = as_columns(values, comparison)[:, 0]
    codes = np.asarray(sources, dtype=np.int64)
    chosen = comparison.subset(comparison.known & np.isfinite(y) & (codes >= 0))
    pooled = group_means(y, chosen)[0][0]
    inside = {
        int(s): part
        for s in np.unique(codes[chosen.known])
        if np.sum((part := chosen.subset(codes == s).at_least(min_clusters)).cases_per_group > 0) >= 2
    }
    skipped = int(np.unique(codes[chosen.known]).size) - len(inside)
    if not inside:
        reason = f"no source has two groups of at least {min_clusters} patients"
        return Masking(float(gap(pooled)), math.nan, (), cochran_q([], []), skipped, reason)

    residuals = np.where(chosen.known, y - pooled[chosen.groups], np.nan)
    generator = np.random.default_rng(seed)
    observed, null = [], []
    for part in inside.values():
        shuffled = exchanged_means(residuals, part, n_permutations, generator)
        null.append(gap(shuffled + np.where(part.cases_per_group > 0, pooled, np.nan)))
        observed.append(float(gap(group_means(y, part)[0][0])))
    chance = np.stack(null, axis=1)
    centre, scale = chance.mean(axis=0), np.maximum(chance.std(axis=0), 1e-12)
    largest = ((chance - centre) / scale).max(axis=1)
    excess = (np.array(observed) - centre) / scale
    p_excess = [(int((largest >= e - 1e-6).sum()) + 1) / (n_permutations + 1) for e in excess]

    rows = []
    contrast, errors = np.full(len(inside), np.nan), np.full(len(inside), np.nan)
    best, worst = int(np.nanargmax(pooled)), int(np.nanargmin(pooled))
    for k, (s, part) in enumerate(inside.items()):
        draws = bootstrap_means(y, part, n_resamples=n_resamples, seed=seed)
        low, high = gap_interval(draws, level)
        contrast[k] = draws.observed[0, best] - draws.observed[0, worst]
        errors[k] = math.hypot(*standard_errors(draws)[0, [best, worst]])
        test = permutation_test(y, part, n_permutations=n_permutations, seed=seed)
        present = np.flatnonzero(part.cases_per_group)
        rows.append(
            SourceGap(
                source=s,
                n=part.n_cases,
                n_clusters=part.n_clusters,
                groups=tuple(present.tolist()),
                means=draws.observed[0],
                gap=observed[k],
                low=float(low[0]),
                high=float(high[0]),
                p=float(test.p[0]),
                p_holm=math.nan,
                expected=float(centre[k]),
                p_excess=p_excess[k],
                detectable=float(detectable_gap(draws)[0]),
            )
        )
    return Masking(float(gap(pooled)), min(p_excess), _with_holm(rows), cochran_q(contrast, errors), skipped)


def _with_holm(rows: Sequence[SourceGap]) -> tuple[SourceGap, ...]:
    adjusted = holm([row.p for row in rows])
    return tuple(replace(row, p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True))
