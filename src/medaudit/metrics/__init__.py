"""From a case to numbers: overlap, surface distances, lesions and shape of two masks; scores of a cohort from them."""

from medaudit.metrics.challenge import (
    ChallengeScore,
    challenge_hd95_voxels,
    challenge_response_score,
    challenge_score,
)
from medaudit.metrics.ndsc import ndsc, reference_fraction
from medaudit.metrics.segmentation import segmentation, segmentation_by_label

__all__ = [
    "ChallengeScore",
    "challenge_hd95_voxels",
    "challenge_response_score",
    "challenge_score",
    "ndsc",
    "reference_fraction",
    "segmentation",
    "segmentation_by_label",
]
