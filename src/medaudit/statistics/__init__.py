"""From measurements to evidence: disparities, their uncertainty, tests, models and verdicts.

Inputs are numpy arrays; a :class:`Comparison` says which groups are compared, who repeats and within which strata.
"""

from medaudit.statistics.balance import standardised_differences
from medaudit.statistics.bootstrap import (
    Draws,
    bootstrap_means,
    gap_difference_interval,
    gap_interval,
    pairwise_intervals,
    ratio_interval,
    standard_errors,
)
from medaudit.statistics.change import GapChange, gap_change
from medaudit.statistics.comparison import Comparison, compare
from medaudit.statistics.confounding import Attenuation, attenuation
from medaudit.statistics.contingency import RatingTest, rating_test
from medaudit.statistics.correlation_change import CorrelationChange, correlation_change
from medaudit.statistics.delong import DeLong, delong, delong_test
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
from medaudit.statistics.exchange import movable_share
from medaudit.statistics.heterogeneity import Heterogeneity, cochran_q
from medaudit.statistics.intervals import katz, median, newcombe, wilson
from medaudit.statistics.kendall import kendall_tau
from medaudit.statistics.latent import ClusterAgreement, Probe, cluster_agreement, linear_probe
from medaudit.statistics.masking import Masking, SourceGap, masking_by_source
from medaudit.statistics.mixed import GroupEffect, fractional_logit, mixed_model
from medaudit.statistics.multiplicity import benjamini_hochberg, holm
from medaudit.statistics.patients import patient_weights
from medaudit.statistics.permutation import PermutationTest, permutation_test
from medaudit.statistics.placebo import PlaceboTest, benjamini_yekutieli, placebo_test
from medaudit.statistics.ppi import PoweredMeans, prediction_powered_means
from medaudit.statistics.rank_correlation import spearman_draws
from medaudit.statistics.ranks import ChiSquareTest, PairwiseRanks, dunn, kruskal_wallis, van_elteren
from medaudit.statistics.regression import (
    FTest,
    LinearFit,
    added_factor,
    anova,
    anova_from_summaries,
    interaction,
    least_squares,
    slope,
)
from medaudit.statistics.resampling import cluster_weights
from medaudit.statistics.simultaneous import Simultaneous, simultaneous
from medaudit.statistics.standardise import Standardised, standardised
from medaudit.statistics.thresholds import Sweep, success, threshold_sweep, top_fraction
from medaudit.statistics.trend import Trend, spline_trend
from medaudit.statistics.triangle import bounded_gap, bounded_means, jaccard_bounds, jaccard_distance
from medaudit.statistics.two_level import two_level
from medaudit.statistics.two_way import TwoWay, two_way
from medaudit.statistics.verdict import MIN_CLUSTERS, Decision, confounding_verdict, three_way

__all__ = [
    "MIN_CLUSTERS",
    "Attenuation",
    "ChiSquareTest",
    "ClusterAgreement",
    "Comparison",
    "CorrelationChange",
    "DeLong",
    "Decision",
    "Draws",
    "Equivalence",
    "Estimate",
    "FTest",
    "GapChange",
    "GroupEffect",
    "Heterogeneity",
    "LinearFit",
    "Masking",
    "PairwiseRanks",
    "PermutationTest",
    "PlaceboTest",
    "PoweredMeans",
    "Probe",
    "RatingTest",
    "Simultaneous",
    "SourceGap",
    "Standardised",
    "Sweep",
    "Trend",
    "TwoWay",
    "added_factor",
    "anova",
    "anova_from_summaries",
    "attenuation",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "best_and_worst",
    "between_group_sd",
    "bootstrap_means",
    "bounded_gap",
    "bounded_means",
    "cluster_agreement",
    "cluster_weights",
    "cochran_q",
    "compare",
    "confounding_verdict",
    "correlation_change",
    "delong",
    "delong_test",
    "detectable_difference",
    "detectable_gap",
    "dunn",
    "equity_scaled",
    "fractional_logit",
    "gap",
    "gap_change",
    "gap_difference_interval",
    "gap_equivalence",
    "gap_interval",
    "group_means",
    "group_sds",
    "holm",
    "interaction",
    "jaccard_bounds",
    "jaccard_distance",
    "katz",
    "kendall_tau",
    "kruskal_wallis",
    "least_squares",
    "linear_probe",
    "masking_by_source",
    "median",
    "mixed_model",
    "movable_share",
    "newcombe",
    "pairs",
    "pairwise_differences",
    "pairwise_intervals",
    "pairwise_ratios",
    "patient_weights",
    "permutation_test",
    "placebo_test",
    "prediction_powered_means",
    "rating_test",
    "ratio",
    "ratio_equivalence",
    "ratio_interval",
    "simultaneous",
    "skewness",
    "slope",
    "spearman_draws",
    "spline_trend",
    "standard_errors",
    "standardised",
    "standardised_differences",
    "success",
    "three_way",
    "threshold_sweep",
    "top_fraction",
    "tost",
    "two_level",
    "two_way",
    "van_elteren",
    "wilson",
]
