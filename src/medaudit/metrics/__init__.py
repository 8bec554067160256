"""From cases to numbers: two masks (overlap, distances, lesions, shape); scores against shifts, errors and labels."""

from medaudit.metrics.calibration import brier, classwise_ece, expected_calibration_error, nll
from medaudit.metrics.challenge import (
    ChallengeScore,
    challenge_hd95_voxels,
    challenge_response_score,
    challenge_score,
)
from medaudit.metrics.ndsc import ndsc, reference_fraction
from medaudit.metrics.ranking import auroc, average_precision, fpr95
from medaudit.metrics.segmentation import segmentation, segmentation_by_label
from medaudit.metrics.selective import (
    RiskCoverage,
    auarc,
    augrc,
    aurc,
    coverage_at_risk,
    excess_aurc,
    failure_auroc,
    risk_at_coverage,
    risk_coverage,
    scod_loss,
)

__all__ = [
    "ChallengeScore",
    "RiskCoverage",
    "auarc",
    "augrc",
    "aurc",
    "auroc",
    "average_precision",
    "brier",
    "challenge_hd95_voxels",
    "challenge_response_score",
    "challenge_score",
    "classwise_ece",
    "coverage_at_risk",
    "excess_aurc",
    "expected_calibration_error",
    "failure_auroc",
    "fpr95",
    "ndsc",
    "nll",
    "reference_fraction",
    "risk_at_coverage",
    "risk_coverage",
    "scod_loss",
    "segmentation",
    "segmentation_by_label",
]
