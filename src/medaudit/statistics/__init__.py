"""From measurements to evidence: disparities, their uncertainty, tests, models and verdicts.

Inputs are numpy arrays; a :class:`Comparison` says which groups are compared, who repeats and within which strata.
"""

from medaudit.statistics.bootstrap import (
    Draws,
    bootstrap_means,
    gap_interval,
    pairwise_intervals,
    ratio_interval,
    standard_errors,
)
from medaudit.statistics.comparison import Comparison, compare
from medaudit.statistics.disparity import (
    best_and_worst,
    between_group_sd,
    equity_scaled,
    gap,
    group_means,
    group_sds,
    pairs,
    pairwise_differences,
    pairwise_ratios,
    ratio,
    skewness,
)
from medaudit.statistics.equivalence import (
    Equivalence,
    detectable_difference,
    detectable_gap,
    gap_equivalence,
    ratio_equivalence,
    tost,
)
from medaudit.statistics.estimate import Estimate
from medaudit.statistics.intervals import katz, median, newcombe, wilson
from medaudit.statistics.multiplicity import benjamini_hochberg, holm
from medaudit.statistics.permutation import PermutationTest, permutation_test
from medaudit.statistics.resampling import cluster_weights
from medaudit.statistics.thresholds import Sweep, success, threshold_sweep, top_fraction

__all__ = [
    "Comparison",
    "Draws",
    "Equivalence",
    "Estimate",
    "PermutationTest",
    "Sweep",
    "benjamini_hochberg",
    "best_and_worst",
    "between_group_sd",
    "bootstrap_means",
    "cluster_weights",
    "compare",
    "detectable_difference",
    "detectable_gap",
    "equity_scaled",
    "gap",
    "gap_equivalence",
    "gap_interval",
    "group_means",
    "group_sds",
    "holm",
    "katz",
    "median",
    "newcombe",
    "pairs",
    "pairwise_differences",
    "pairwise_intervals",
    "pairwise_ratios",
    "permutation_test",
    "ratio",
    "ratio_equivalence",
    "ratio_interval",
    "skewness",
    "standard_errors",
    "success",
    "threshold_sweep",
    "top_fraction",
    "tost",
    "wilson",
]
