"""Every number of one case: how a predicted mask compares with its reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medaudit.errors import UsageError
from medaudit.metrics.area import surface_points
from medaudit.metrics.border import borders
from medaudit.metrics.crop import crop_pair
from medaudit.metrics.distances import HD95, directed, nsd_name, summarise
from medaudit.metrics.lesions import count_lesions
from medaudit.metrics.runs import find_runs
from medaudit.metrics.scan import Scanned, check_pair, scan, scan_labels
from medaudit.metrics.shape import shape_of

Surface = Literal["voxel", "area"]
Empty = Literal["nan", "penalise", "ignore"]


@dataclass(frozen=True)
class _Settings:
    tolerances_mm: Sequence[float]
    surface: Surface
    hd95: HD95
    empty: Empty
    lesions: bool
    shape: bool

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("surface", self.surface, Surface),
            ("hd95", self.hd95, HD95),
            ("empty", self.empty, Empty),
        ):
            if value not in get_args(kinds):
                raise UsageError(f"{name} is {value!r}; expected one of: {', '.join(get_args(kinds))}")
        if not np.iterable(self.tolerances_mm) or not all(0 <= mm < math.inf for mm in self.tolerances_mm):
            raise UsageError(f"tolerances_mm is {self.tolerances_mm!r}; expected numbers of millimetres, 0 or more")


def segmentation(
    reference: ArrayLike,
    prediction: ArrayLike,
    spacing: Sequence[float] | NDArray[Any] | float,
    *,
    tolerances_mm: Sequence[float] = (1.0, 2.0),
    surface: Surface = "voxel",
    hd95: HD95 = "pooled",
    empty: Empty = "nan",
    lesions: bool = True,
    shape: bool = True,
) -> dict[str, float]:
    """Return all numbers of one case: overlap, surface distances, volumes, lesions and shape, under fixed names.

    ``reference`` and ``prediction`` are two masks on one grid, ``(n0, n1)`` or ``(n0, n1, n2)``, of two values
    with background 0 (booleans, 0/1, 0/255, ...), in any memory layout. ``spacing`` is in mm, in the order of the
    array's axes; one number is an isotropic grid.

    Overlap: ``dice``, ``iou``, ``precision``, ``recall``.

    Distances, all from the same search: ``hd_mm``, ``hd95_mm``, ``assd_mm`` (the mean over both directed sets
    together), ``masd_mm`` (the mean of the two directed means) and ``nsd_{t:g}mm``, the normalised surface Dice at
    each of ``tolerances_mm``: the part of both surfaces that lies within the tolerance of the other.

    - ``surface="voxel"``: the surface is every mask voxel with a face neighbour outside the mask; outside of the
      image counts as outside. Distances run between voxel centres, every voxel counts alike.
    - ``surface="area"``: the surface is every corner of the lattice between voxels at which foreground and
      background meet, weighted by the area (2-D: length) of the marching-cubes surface there (Nikolov et al.,
      arXiv 1809.04430). Truer on anisotropic grids.
    - ``hd95="pooled"``: the 95th percentile of both directed sets together, as MedPy and seg-metrics. ``"max"``:
      the larger of the two directed percentiles, as MONAI and surface-distance. They differ by millimetres; name
      yours.

    Empty masks. A missed lesion is never 0 mm away:

    ============  =====================================  ====================================================
    ``empty``     both masks empty                       one mask empty
    ============  =====================================  ====================================================
    ``nan``       all comparisons NaN                    overlap and NSD 0, distances infinite
    ``penalise``  overlap and NSD 1, distances 0         overlap and NSD 0, distances the image's diagonal
    ``ignore``    all comparisons NaN                    all comparisons NaN: the case drops out
    ============  =====================================  ====================================================

    Under ``nan``, precision without a prediction and recall without a reference are undefined, hence NaN.

    What the masks are, whatever ``empty`` says: ``reference_volume_ml``, ``prediction_volume_ml`` (2-D:
    ``reference_area_mm2``, ``prediction_area_mm2``); ``true_positive_voxels``, ``reference_voxels``,
    ``prediction_voxels``, ``image_voxels`` (what :func:`medaudit.metrics.ndsc` needs); ``image_diagonal_mm``, from
    edge to edge of the image. With ``lesions``: ``reference_lesions``, ``prediction_lesions``,
    ``detected_lesions``, ``false_positive_lesions``, by the rules of :mod:`medaudit.metrics.lesions`. With
    ``shape``: the names of :func:`medaudit.metrics.shape.shape_of`, with ``reference_`` and ``prediction_`` before
    them; NaN for an empty mask.

    Raises DataError for masks that are not what is described above, and UsageError for a setting that is not
    offered.
    """
    settings = _Settings(tolerances_mm, surface, hd95, empty, lesions, shape)
    ref, pred, mm = check_pair(reference, prediction, spacing)
    return _compare(scan(ref, "reference"), scan(pred, "prediction"), mm, settings)


def segmentation_by_label(
    reference: ArrayLike,
    prediction: ArrayLike,
    spacing: Sequence[float] | NDArray[Any] | float,
    labels: Sequence[int] | None = None,
    *,
    tolerances_mm: Sequence[float] = (1.0, 2.0),
    surface: Surface = "voxel",
    hd95: HD95 = "pooled",
    empty: Empty = "nan",
    lesions: bool = True,
    shape: bool = True,
) -> dict[int, dict[str, float]]:
    """Return what :func:`segmentation` returns, for each label of two label maps.

    The maps hold whole numbers from 0 (background) to 65,535. ``labels`` defaults to all that occur in either map;
    a label that occurs in neither is compared as two empty masks. Each map is read once, whatever the number of
    labels.

    Raises DataError for maps that are not what is described above.
    """
    settings = _Settings(tolerances_mm, surface, hd95, empty, lesions, shape)
    ref, pred, mm = check_pair(reference, prediction, spacing)
    in_ref, in_pred = scan_labels(ref, "reference"), scan_labels(pred, "prediction")
    wanted = sorted(in_ref.keys() | in_pred.keys()) if labels is None else [int(label) for label in labels]
    nowhere = (0,) * ref.ndim
    return {
        label: _compare(
            in_ref.get(label, Scanned(ref, 0, nowhere, nowhere, label)),
            in_pred.get(label, Scanned(pred, 0, nowhere, nowhere, label)),
            mm,
            settings,
        )
        for label in wanted
    }


def _compare(reference: Scanned, prediction: Scanned, mm: tuple[float, ...], settings: _Settings) -> dict[str, float]:
    ndim = reference.array.ndim
    n_reference, n_prediction = reference.voxels, prediction.voxels
    a, b, order = crop_pair(reference, prediction)
    scale = np.asarray([mm[axis] for axis in order])
    both, points_a, points_b = borders(a, b)
    diagonal = math.hypot(*(n * s for n, s in zip(reference.array.shape, mm, strict=True)))
    if n_reference and n_prediction:
        if settings.surface == "area":
            points_a, points_b = surface_points(a, b, tuple(scale))
        grid = np.concatenate((np.ones(3 - ndim), scale))
        distances = summarise(*directed(points_a, points_b, grid), settings.tolerances_mm, settings.hd95)
    else:
        distances = _distances_of_empty(n_reference + n_prediction > 0, diagonal, settings)
    size, ml = ("volume_ml", 1e-3) if ndim == 3 else ("area_mm2", 1.0)
    voxel = math.prod(mm) * ml
    result: dict[str, float] = {
        **_overlap(both, n_reference, n_prediction, settings.empty),
        **distances,
        f"reference_{size}": n_reference * voxel,
        f"prediction_{size}": n_prediction * voxel,
        "true_positive_voxels": both,
        "reference_voxels": n_reference,
        "prediction_voxels": n_prediction,
        "image_voxels": reference.array.size,
        "image_diagonal_mm": diagonal,
    }
    if settings.lesions or settings.shape:
        runs = find_runs(a), find_runs(b)
        if settings.lesions:
            result |= _lesions(*count_lesions(runs[0], b), *count_lesions(runs[1], a))
        if settings.shape:
            for role, mask, along in (("reference", a, runs[0]), ("prediction", b, runs[1])):
                shape = shape_of(mask, along, scale)
                result |= {f"{role}_{name}": value for name, value in shape.items()}
    return result


def _overlap(both: int, n_reference: int, n_prediction: int, empty: Empty) -> dict[str, float]:
    undefined = math.nan
    if empty == "penalise":
        undefined = 0.0 if n_reference or n_prediction else 1.0
    parts = {
        "dice": (2 * both, n_reference + n_prediction),
        "iou": (both, n_reference + n_prediction - both),
        "precision": (both, n_prediction),
        "recall": (both, n_reference),
    }
    if empty == "ignore" and not (n_reference and n_prediction):
        return dict.fromkeys(parts, math.nan)
    return {name: part / whole if whole else undefined for name, (part, whole) in parts.items()}


def _distances_of_empty(one_is_not: bool, diagonal: float, settings: _Settings) -> dict[str, float]:
    if settings.empty == "ignore" or (settings.empty == "nan" and not one_is_not):
        far, near = math.nan, math.nan
    elif one_is_not:
        far, near = (diagonal if settings.empty == "penalise" else math.inf), 0.0
    else:
        far, near = 0.0, 1.0
    return {
        **dict.fromkeys(("hd_mm", "hd95_mm", "assd_mm", "masd_mm"), far),
        **{nsd_name(tolerance): near for tolerance in settings.tolerances_mm},
    }


def _lesions(in_reference: int, detected: int, in_prediction: int, confirmed: int) -> dict[str, float]:
    return {
        "reference_lesions": in_reference,
        "prediction_lesions": in_prediction,
        "detected_lesions": detected,
        "false_positive_lesions": in_prediction - confirmed,
    }
