"""From a case to numbers: overlap, surface distances, lesions and shape of two masks."""

from medaudit.metrics.segmentation import segmentation, segmentation_by_label

__all__ = ["segmentation", "segmentation_by_label"]
