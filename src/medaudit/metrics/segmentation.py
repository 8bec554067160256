"""Every number of one case: how a predicted mask compares with its reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medaudit.errors import DataError, UsageError
from medaudit.metrics.border import Points, borders
from medaudit.metrics.nearest import distances, tree
from medaudit.metrics.scan import (
    Scanned,
    check_array,
    check_same_shape,
    check_spacing,
    crop,
    memory_order,
    scan,
    union_box,
)

Surface = Literal["voxel", "area"]
HD95 = Literal["pooled", "max"]
Empty = Literal["nan", "penalise", "ignore"]


def segmentation(
    reference: ArrayLike,
    prediction: ArrayLike,
    spacing: Sequence[float] | NDArray[Any] | float,
    *,
    tolerances_mm: Sequence[float] = (1.0, 2.0),
    surface: Surface = "voxel",
    hd95: HD95 = "pooled",
    empty: Empty = "nan",
) -> dict[str, float]:
    """Return Dice, distances and counts of one 2-D or 3-D case."""
    reference, prediction = check_array(reference, "reference"), check_array(prediction, "prediction")
    check_same_shape(reference, prediction)
    mm = check_spacing(spacing, reference.ndim)
    return _compare(
        scan(reference, "reference"), scan(prediction, "prediction"), mm, tolerances_mm, surface, hd95, empty
    )


def _compare(ref: Scanned, pred: Scanned, mm, tolerances_mm, surface, hd95, empty) -> dict[str, float]:
    ndim = ref.array.ndim
    voxel_size = math.prod(mm)
    n_ref, n_pred = ref.voxels, pred.voxels
    size = ("volume_ml", 1e-3) if ndim == 3 else ("area_mm2", 1.0)
    diagonal = math.dist([n * s for n, s in zip(ref.array.shape, mm, strict=True)], [0] * ndim)
    both = 0
    sets = None
    lesions = dict(reference_lesions=0, prediction_lesions=0, detected_lesions=0, false_positive_lesions=0)
    if n_ref or n_pred:
        low, high = union_box(ref, pred)
        order = memory_order(ref.array)
        a, b = crop(ref.array, low, high, order), crop(pred.array, low, high, order)
        structure = np.ones((3, 3, 3))
        la, na = ndimage.label(a, structure)
        lb, nb = ndimage.label(b, structure)
        hit = len(np.unique(la[(la > 0) & (lb > 0)]))
        hitb = len(np.unique(lb[(la > 0) & (lb > 0)]))
        lesions = dict(
            reference_lesions=na,
            prediction_lesions=nb,
            detected_lesions=hit,
            false_positive_lesions=nb - hitb,
        )
        both, pa, pb = borders(a, b)
        if n_ref and n_pred:
            scale = np.array([1.0] * (3 - ndim) + [mm[axis] for axis in order])
            ta, tb = tree(pa.at, scale), tree(pb.at, scale)
            sets = (
                distances(ta, pa.shared[ta.order], tb, scale),
                distances(tb, pb.shared[tb.order], ta, scale),
            )
    result = {
        "dice": 2 * both / (n_ref + n_pred) if n_ref + n_pred else math.nan,
        "iou": both / (n_ref + n_pred - both) if n_ref + n_pred else math.nan,
        "precision": both / n_pred if n_pred else math.nan,
        "recall": both / n_ref if n_ref else math.nan,
    }
    if sets:
        pooled = np.concatenate(sets)
        result["hd_mm"] = float(pooled.max())
        if hd95 == "pooled":
            result["hd95_mm"] = float(np.percentile(pooled, 95))
        else:
            result["hd95_mm"] = float(max(np.percentile(s, 95) for s in sets))
        result["assd_mm"] = float(pooled.mean())
        result["masd_mm"] = float(sets[0].mean() + sets[1].mean()) / 2
        for t in tolerances_mm:
            result[f"nsd_{t:g}mm"] = float((pooled <= t).mean())
    else:
        for k in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm"):
            result[k] = math.inf if n_ref + n_pred else math.nan
        for t in tolerances_mm:
            result[f"nsd_{t:g}mm"] = 0.0 if n_ref + n_pred else math.nan
        if empty == "penalise":
            for k in result:
                mmk = k in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm")
                if n_ref + n_pred:
                    result[k] = diagonal if mmk else 0.0
                else:
                    result[k] = 0.0 if mmk else 1.0
        elif empty == "ignore":
            result = dict.fromkeys(result, math.nan)
    return result | {
        f"reference_{size[0]}": n_ref * voxel_size * size[1],
        f"prediction_{size[0]}": n_pred * voxel_size * size[1],
        "true_positive_voxels": both,
        "reference_voxels": n_ref,
        "prediction_voxels": n_pred,
        "image_voxels": ref.array.size,
        "image_diagonal_mm": diagonal,
        **lesions,
    }
