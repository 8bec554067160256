"""From cases to numbers: masks against masks, scores against shifts, errors and labels, generated images and codes."""

from medaudit.metrics.calibration import brier, classwise_ece, expected_calibration_error, nll
from medaudit.metrics.challenge import (
    ChallengeScore,
    challenge_hd95_voxels,
    challenge_response_score,
    challenge_score,
)
from medaudit.metrics.code_structure import (
    CodeHealth,
    CodeMatch,
    JointMove,
    code_health,
    effective_rank,
    joint_move,
    match_codes,
)
from medaudit.metrics.generation import (
    GenerationScore,
    Moments,
    block_moments,
    extrapolated_frechet,
    frechet,
    frechet_distance,
    kernel_distance,
)
from medaudit.metrics.latent_codes import (
    AurocMatrix,
    LatentAuroc,
    Tad,
    auroc_matrix,
    latent_auroc,
    shared_information,
    tad,
)
from medaudit.metrics.ndsc import ndsc, reference_fraction
from medaudit.metrics.neighbourhoods import Neighbourhoods, neighbourhoods
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
    "AurocMatrix",
    "ChallengeScore",
    "CodeHealth",
    "CodeMatch",
    "GenerationScore",
    "JointMove",
    "LatentAuroc",
    "Moments",
    "Neighbourhoods",
    "RiskCoverage",
    "Tad",
    "auarc",
    "augrc",
    "aurc",
    "auroc",
    "auroc_matrix",
    "average_precision",
    "block_moments",
    "brier",
    "challenge_hd95_voxels",
    "challenge_response_score",
    "challenge_score",
    "classwise_ece",
    "code_health",
    "coverage_at_risk",
    "effective_rank",
    "excess_aurc",
    "expected_calibration_error",
    "extrapolated_frechet",
    "failure_auroc",
    "fpr95",
    "frechet",
    "frechet_distance",
    "joint_move",
    "kernel_distance",
    "latent_auroc",
    "match_codes",
    "ndsc",
    "neighbourhoods",
    "nll",
    "reference_fraction",
    "risk_at_coverage",
    "risk_coverage",
    "scod_loss",
    "segmentation",
    "segmentation_by_label",
    "shared_information",
    "tad",
]
