"""Compared: the groups of one grouping, their scores, and the resampled and permuted worlds that every answer uses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medaudit.audits.judging.outcomes import Measure, Outcome
from medaudit.cohort import Cohort, Grouping, Groups
from medaudit.statistics import (
    Attenuation,
    Comparison,
    Draws,
    Masking,
    PermutationTest,
    attenuation,
    bootstrap_means,
    compare,
    detectable_gap,
    gap_interval,
    group_sds,
    masking_by_source,
    permutation_test,
    ratio_interval,
)


@dataclass(frozen=True)
class Compared:
    """One grouping of a cohort. Columns of ``values`` (n, m) are the measures, then the success rates, 0/1.

    ``everyone`` compares all groups; ``judged`` only those with at least ``min_patients`` patients: the others are
    shown and not judged. ``source`` are the groups of the data source, if one was named.
    """

    groups: Groups
    everyone: Comparison
    judged: Comparison
    min_patients: int
    measures: tuple[Measure, ...]
    outcomes: tuple[Outcome, ...]
    values: np.ndarray
    source: Groups | None
    resamples: int
    seed: int

    @property
    def name(self) -> str:
        """The grouping's name in a finding's id."""
        return self.groups.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The groups' names."""
        return self.groups.labels

    @cached_property
    def large(self) -> np.ndarray:
        """Which groups are judged, (G,) bool."""
        return self.judged.clusters_per_group > 0

    @property
    def comparable(self) -> bool:
        """Whether at least two groups are large enough to be judged."""
        return int(self.large.sum()) >= 2

    @property
    def small(self) -> tuple[str, ...]:
        """The names of the groups that are shown and not judged."""
        return tuple(label for label, large in zip(self.labels, self.large, strict=True) if not large)

    @cached_property
    def shown(self) -> Draws:
        """Bootstrap draws of all groups, for the intervals of their means."""
        return bootstrap_means(self.values, self.everyone, n_resamples=self.resamples, seed=self.seed)

    @cached_property
    def draws(self) -> Draws:
        """Bootstrap draws of the judged groups."""
        if not self.small:
            return self.shown
        return bootstrap_means(self.values, self.judged, n_resamples=self.resamples, seed=self.seed)

    @cached_property
    def chance(self) -> PermutationTest:
        """What chance alone would show: labels permuted among patients."""
        return permutation_test(self.values, self.judged, n_permutations=self.resamples, seed=self.seed)

    @cached_property
    def within(self) -> Comparison | None:
        """The judged comparison within sources; ``None`` where no source was named."""
        if self.source is None:
            return None
        clusters = self.judged.clusters
        return compare(self.judged.groups, len(self.labels), clusters=clusters, strata=self.source.codes)

    @cached_property
    def sds(self) -> np.ndarray:
        """The groups' standard deviations over cases, (m, G)."""
        return group_sds(self.values, self.everyone)

    @cached_property
    def gap_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % interval of each column's gap (a DPD for a success rate), two arrays (m,)."""
        return gap_interval(self.draws)

    @cached_property
    def gap_bound(self) -> np.ndarray:
        """What each column's gap lies below by an equivalence test at 5 %, (m,)."""
        return gap_interval(self.draws, 0.90)[1]

    @cached_property
    def ratio_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % interval of each success rate's ratio (DIR), two arrays (m,)."""
        return ratio_interval(self.draws)

    @cached_property
    def ratio_bound(self) -> np.ndarray:
        """What each ratio lies above by an equivalence test at 5 %, (m,)."""
        return ratio_interval(self.draws, 0.90)[0]

    @cached_property
    def detectable(self) -> np.ndarray:
        """The smallest gap that this cohort shows with 80 % power, by column, (m,)."""
        return detectable_gap(self.draws)

    @cached_property
    def p_within(self) -> np.ndarray:
        """The p-value of each column's gap within sources, (m,); NaN where no source was named."""
        if self.within is None:
            return np.full(self.values.shape[1], np.nan)
        return permutation_test(self.values, self.within, n_permutations=self.resamples, seed=self.seed).p

    @cached_property
    def attenuations(self) -> list[Attenuation]:
        """How much of each measure's gap goes away when the source is adjusted for, by measure."""
        assert self.source is not None
        return [
            attenuation(self.values[:, k], self.judged, self.source.codes, n_resamples=self.resamples, seed=self.seed)
            for k in range(len(self.measures))
        ]

    @cached_property
    def within_sources(self) -> list[Masking]:
        """The gap inside each source beside the pooled one, by measure."""
        assert self.source is not None
        few = max(100, self.resamples // 2)
        return [
            masking_by_source(
                self.values[:, k],
                self.judged,
                self.source.codes,
                min_clusters=self.min_patients,
                n_permutations=few,
                n_resamples=few,
                seed=self.seed,
            )
            for k in range(len(self.measures))
        ]

    def contrasts(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The primary measure's difference between the pooled best and worst group: pooled, and by source.

        Each is ``value``, ``low``, ``high``, ``n``; a source with fewer than 5 cases of either group is left out.
        """
        assert self.source is not None
        best, worst = self.attenuations[0].best, self.attenuations[0].worst
        whole = self.judged.subset(self.judged.known & (self.source.codes >= 0))
        parts = {name: whole.subset(self.source.codes == s) for s, name in enumerate(self.source.labels)}

        def contrast(part: Comparison) -> dict[str, float]:
            draws = bootstrap_means(self.values[:, 0], part, n_resamples=self.resamples, seed=self.seed)
            difference = lambda means: means[..., 0, best] - means[..., 0, worst]
            low, high = draws.interval(difference, method="percentile")
            n = int(np.sum(np.isin(part.groups, (best, worst))))
            return {"value": float(difference(draws.observed)), "low": float(low), "high": float(high), "n": n}

        both = {name: part for name, part in parts.items() if part.cases_per_group[[best, worst]].min() >= 5}
        return contrast(whole), {name: contrast(part) for name, part in both.items()}

    def column(self, what: Measure | Outcome) -> int:
        """Return the column of ``values`` that holds a measure or an outcome."""
        if isinstance(what, Measure):
            return self.measures.index(what)
        return len(self.measures) + self.outcomes.index(what)

    def numbers(self, column: int) -> dict[str, dict[str, Any]]:
        """Return each group's n, patients, mean (or rate) with interval, and SD, by the group's name."""
        draws = self.shown
        low, high = draws.interval(lambda means: means[..., column, :], method="percentile")
        return {
            label: {
                "n": int(draws.sizes[column, g]),
                "patients": int(self.everyone.clusters_per_group[g]),
                "mean": float(draws.observed[column, g]),
                "low": float(low[g]),
                "high": float(high[g]),
                "sd": float(self.sds[column, g]),
                "judged": bool(self.large[g]),
            }
            for g, label in enumerate(self.labels)
        }


def compared(
    cohort: Cohort,
    grouping: Grouping,
    measures: tuple[Measure, ...],
    outcomes: tuple[Outcome, ...],
    scores: dict[str, np.ndarray],
    *,
    within: str | None,
    min_patients: int,
    resamples: int,
    seed: int,
) -> Compared:
    """Return the :class:`Compared` of one grouping of ``cohort`` under ``scores``, a column (n,) a measure."""
    groups = grouping.apply(cohort)
    columns = [scores[m.name] for m in measures] + [o.success(scores[o.measure]) for o in outcomes]
    values = np.column_stack(columns)
    # A case without the primary measure cannot be compared; one without another measure only drops out there.
    codes = np.where(np.isnan(values[:, 0]), -1, groups.codes)
    everyone = compare(codes, len(groups.labels), clusters=cohort.clusters.to_list())
    source = Grouping.parse(within).apply(cohort) if within else None
    return Compared(
        groups=groups,
        everyone=everyone,
        judged=everyone.at_least(min_patients),
        min_patients=min_patients,
        measures=measures,
        outcomes=outcomes,
        values=values,
        source=source,
        resamples=resamples,
        seed=seed,
    )
