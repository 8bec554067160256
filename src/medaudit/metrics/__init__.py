"""From a case to numbers: overlap, surface distances, lesions and shape of two masks."""

from medaudit.metrics.segmentation import segmentation

__all__ = ["segmentation"]
