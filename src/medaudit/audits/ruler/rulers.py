"""Rulers: one grouping under two rulers, and what of it shows whether the silver one lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medaudit.audits.judging.compared import Compared
from medaudit.audits.judging.outcomes import Measure
from medaudit.audits.ruler import modes
from medaudit.audits.ruler.modes import Evidence
from medaudit.statistics import (
    GapChange,
    PoweredMeans,
    best_and_worst,
    bootstrap_means,
    bounded_gap,
    bounded_means,
    gap,
    gap_change,
    group_means,
    jaccard_distance,
    prediction_powered_means,
    ratio,
)

GOLD, SILVER, QUALITY = 0, 1, 2
"""The columns of the compared scores: prediction-vs-gold, prediction-vs-silver, silver-vs-gold."""

Limits = tuple[float, float, float]
"""A value with the low and high limits of its 95 % interval."""


@dataclass(frozen=True)
class Rulers:
    """One grouping under both rulers: ``both`` compares the cases that have both scores, ``None`` without gold.

    ``all_silver`` compares every case that has a score against silver. ``sampled``: gold is known of some only.
    """

    name: str
    measure: Measure
    both: Compared | None
    all_silver: Compared
    sampled: bool
    gold: np.ndarray
    silver: np.ndarray
    silver_iou: np.ndarray | None

    @property
    def margin(self) -> float:
        """What a difference of gaps must exceed to matter: half of what a gap must (our choice)."""
        return self.measure.margin / 2

    @property
    def comparable(self) -> bool:
        """Whether at least two groups have enough patients with both scores."""
        return self.both is not None and self.both.comparable

    @cached_property
    def shift(self) -> tuple[Limits, dict[str, Limits]]:
        """The mean of silver - gold, positive where silver flatters: over all judged groups, and by group."""
        assert self.both is not None
        groups, sign = self.both, 1.0 if self.measure.higher_is_better else -1.0
        sizes = groups.draws.sizes[GOLD]
        alone = lambda m: sign * (m[..., SILVER, :] - m[..., GOLD, :])
        overall = lambda m: np.nansum(alone(m) * sizes, axis=-1) / max(sizes.sum(), 1)
        low, high = groups.draws.interval(lambda m: overall(m)[..., None], method="percentile")
        lows, highs = groups.shown.interval(alone, method="percentile")
        values = alone(groups.shown.observed)
        return (
            (float(overall(groups.draws.observed)), float(low[0]), float(high[0])),
            {label: (float(values[g]), float(lows[g]), float(highs[g])) for g, label in enumerate(groups.labels)},
        )

    @cached_property
    def spread(self) -> tuple[Limits, dict[str, Limits]]:
        """SD on silver over SD on gold, inside groups: pooled over the judged groups, and by group."""
        assert self.both is not None
        groups, comparison = self.both, self.both.judged
        values = groups.values[:, [GOLD, SILVER]]
        means, sizes = group_means(values, comparison)
        centred = np.where(comparison.known[:, None], values - means.T[comparison.groups], np.nan)
        draws = bootstrap_means(
            np.column_stack([centred, centred**2]), comparison, n_resamples=groups.resamples, seed=groups.seed
        )

        def log_ratio(m: np.ndarray) -> np.ndarray:
            variance = np.maximum(m[..., 2:, :] - m[..., :2, :] ** 2, 1e-12)
            pooled = np.nansum(variance * sizes, axis=-1, keepdims=True)
            logs = np.log(np.concatenate([variance, pooled], axis=-1))
            return (logs[..., SILVER, :] - logs[..., GOLD, :]) / 2

        low, high = (np.exp(limit) for limit in draws.interval(log_ratio, method="percentile"))
        value = np.exp(log_ratio(draws.observed))
        limits = [(float(value[k]), float(low[k]), float(high[k])) for k in range(value.size)]
        return limits[-1], dict(zip(groups.labels, limits[:-1], strict=True))

    @cached_property
    def change(self) -> GapChange:
        """How the judged groups' gap changes from gold to silver, on the same cases."""
        assert self.both is not None
        groups = self.both
        return gap_change(
            groups.values[:, SILVER],
            groups.values[:, GOLD],
            groups.judged,
            n_resamples=groups.resamples,
            n_permutations=groups.resamples,
            seed=groups.seed,
        )

    @cached_property
    def evidence(self) -> Evidence:
        """What the rules of the three modes look at."""
        assert self.both is not None
        groups = self.both
        return Evidence(
            low_90=self.change.low_90,
            high_90=self.change.high_90,
            true_low=float(groups.gap_limits[0][GOLD]),
            true_high_90=float(groups.gap_bound[GOLD]),
            spread=self.spread[0],
            shift=self.shift[0],
            reversal=self.reversal,
            margin=self.margin,
            gap_margin=self.measure.margin,
        )

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """The codes of the best and of the worst group on gold."""
        assert self.both is not None
        means = self.both.draws.observed[GOLD]
        best, worst = best_and_worst(means, higher_is_better=self.measure.higher_is_better)
        return int(best), int(worst)

    @cached_property
    def reversal(self) -> float:
        """The share of resamples in which gold's best group is worse than its worst on silver; never quite 1."""
        assert self.both is not None
        best, worst = self.extremes
        sign = 1.0 if self.measure.higher_is_better else -1.0
        drawn = sign * (self.both.draws.means[:, SILVER, best] - self.both.draws.means[:, SILVER, worst])
        return 1.0 - (1 + int(np.sum(~(drawn < 0)))) / (1 + len(drawn))

    @cached_property
    def inflation(self) -> Limits | None:
        """Gap on silver over gap on gold, less 1; ``None`` where the true gap's interval reaches 0."""
        assert self.both is not None
        if not self.evidence.true_low > 0:
            return None
        gaps = gap(self.both.draws.means)
        low, high = np.quantile(gaps[:, SILVER] / gaps[:, GOLD], [0.025, 0.975])
        observed = gap(self.both.draws.observed)
        return inflation(observed[SILVER], observed[GOLD]), float(low) - 1, float(high) - 1

    @cached_property
    def rates(self) -> dict[str, dict[str, Limits]]:
        """Of each ruler the DPD and the DIR of the success rates, with their intervals."""
        assert self.both is not None
        groups, first = self.both, len(self.both.measures)
        found = {}
        for ruler, column in (("gold", first), ("silver", first + 1)):
            observed = groups.draws.observed[column]
            low, high = (limits[column] for limits in groups.gap_limits)
            ratio_low, ratio_high = (limits[column] for limits in groups.ratio_limits)
            found[ruler] = {
                "dpd": (float(gap(observed)), float(low), float(high)),
                "dir": (float(ratio(observed)), float(ratio_low), float(ratio_high)),
            }
        return found

    @cached_property
    def saturated(self) -> bool:
        """Whether nearly everyone succeeds on silver in every group, and not so on gold."""
        assert self.both is not None
        first = len(self.both.measures)
        lowest = np.nanmin(self.both.draws.observed[first : first + 2], axis=-1)
        return bool(lowest[1] >= modes.SATURATED > lowest[0])

    @cached_property
    def powered(self) -> PoweredMeans | None:
        """The prediction-powered group means; ``None`` unless gold is a sample that can be judged."""
        if not (self.sampled and self.comparable and self.both is not None):
            return None
        everyone = self.all_silver.everyone
        judged = everyone.subset(everyone.known & self.both.large[everyone.groups])
        return prediction_powered_means(self.gold, self.silver, judged)

    @cached_property
    def bounds(self) -> tuple[Limits, Limits, dict[str, Limits]] | None:
        """Of mean IoU against gold: least and largest gap with outer 95 % limits, and each group's (low, high, n)."""
        if self.silver_iou is None or not self.all_silver.comparable:
            return None
        comparison = self.all_silver.judged
        sides = bounded_means(jaccard_distance(self.silver), 1 - self.silver_iou, comparison)
        draws = bootstrap_means(
            np.column_stack([1 - sides[1], 1 - sides[0]]),
            comparison,
            n_resamples=self.all_silver.resamples,
            seed=self.all_silver.seed,
        )
        least, most = (float(v) for v in bounded_gap(*draws.observed))
        drawn = bounded_gap(draws.means[:, 0], draws.means[:, 1])
        edges = np.quantile(drawn[0], [0.025, 0.975]), np.quantile(drawn[1], [0.025, 0.975])
        by_group = {
            label: (float(draws.observed[0, g]), float(draws.observed[1, g]), float(draws.sizes[0, g]))
            for g, label in enumerate(self.all_silver.labels)
        }
        (low, below), (above, high) = ((float(a), float(b)) for a, b in edges)
        return (least, low, below), (most, above, high), by_group

    @cached_property
    def numbers(self) -> dict[str, dict[str, Any]]:
        """Each group's numbers on every ruler, by its name."""
        if self.both is None:
            return self.all_silver.numbers(0)
        groups = self.both
        observed, first = groups.shown.observed, len(groups.measures)
        found: dict[str, dict[str, Any]] = {}
        for g, label in enumerate(groups.labels):
            found[label] = {
                "n": int(groups.shown.sizes[GOLD, g]),
                "patients": int(groups.everyone.clusters_per_group[g]),
                "gold": float(observed[GOLD, g]),
                "silver": float(observed[SILVER, g]),
                "silver_vs_gold": float(observed[QUALITY, g]) if first > QUALITY else float("nan"),
                **named("shift", self.shift[1][label]),
                "rate_gold": float(observed[first, g]),
                "rate_silver": float(observed[first + 1, g]),
                "judged": bool(groups.large[g]),
            }
            if groups.comparable:
                found[label] |= named("sd_ratio", self.spread[1][label])
        return found


def inflation(observed: float, true: float) -> float:
    """Return how much larger the observed gap is than the true one, as a share: gap / true gap - 1.

    The paper's index of the Biased Ruler and of bias amplification (arXiv 2511.00477, Table 2: .0559 and .0661 over
    .0399 are +40.1 % and +65.7 %).
    """
    return float(observed / true - 1)


def named(name: str, limits: Limits) -> dict[str, float]:
    """Return a value and its limits under names: ``name``, ``name_low``, ``name_high``."""
    return {name: limits[0], f"{name}_low": limits[1], f"{name}_high": limits[2]}
