"""Pictures of the cases with the lowest scores, to look at: image, expert outline, automated outline."""

from __future__ import annotations

import numpy as np
import polars as pl

from medaudit.audits.judging.compared import Compared
from medaudit.audits.measuring.one_case import masks_of
from medaudit.cohort import Case, Cohort, Volume, read_image
from medaudit.errors import DataError
from medaudit.report import Picture, numerals
from medaudit.report.overlay import overlay_png, worst_slice

SHOWN = 8


def pictures(cohort: Cohort, scores: pl.DataFrame, groups: Compared) -> list[Picture]:
    """Return pictures of the cases that score worst on the primary measure; none where there are no masks.

    Cases with both masks come first: of a missed object there is nothing to compare, so at most two of them are shown.
    """
    if not {"reference", "labels"} <= set(cohort.roles):
        return []
    primary = groups.measures[0]
    values = groups.values[:, 0] * (1 if primary.higher_is_better else -1)
    order = [int(i) for i in np.argsort(values) if np.isfinite(values[i])]
    empty = (scores["prediction_voxels"] == 0) | (scores["reference_voxels"] == 0)
    missed = [i for i in order if empty[i]][:2]
    chosen = [*[i for i in order if not empty[i]][: SHOWN - len(missed)], *missed]
    cases = list(cohort.cases())
    return [_picture(cohort, cases[i], groups, i) for i in chosen]


def _picture(cohort: Cohort, case: Case, groups: Compared, row: int) -> Picture:
    reference, labels = masks_of(case, dict(cohort.roles), ("reference", "labels"))
    image = _image(case)
    spacing = reference.spacing_mm or (1.0,) * reference.array.ndim
    a, b = reference.array, labels.array
    if image is not None and image.array.shape[: a.ndim] != a.shape:
        image = None
    pixels = None if image is None else image.array
    if a.ndim == 3:
        axis = int(np.argmax(spacing))  # slices lie across the coarsest axis
        k = worst_slice(a, b, axis)
        a, b = (np.take(mask, k, axis) for mask in (a, b))
        pixels = None if pixels is None else np.take(pixels, k, axis)
        spacing = tuple(mm for i, mm in enumerate(spacing) if i != axis)
    primary = groups.measures[0]
    code = int(groups.groups.codes[row])
    group = groups.labels[code] if code >= 0 else "unknown"
    said = f"{case.case_id} · {groups.name} {group} · {primary.words} " + numerals.with_unit(
        float(groups.values[row, 0]), primary.unit
    )
    flat = None if pixels is None else np.asarray(pixels if pixels.ndim == 2 else pixels[..., :3].mean(axis=-1))
    png = overlay_png(flat, a, b, spacing=(float(spacing[0]), float(spacing[1])))
    return Picture(png, f"Case {case.case_id} with the outlines of both masks", said)


def _image(case: Case) -> Volume | None:
    """The image is only a background here: without a readable one the outlines are shown alone."""
    path = case.files.get("image")
    try:
        return None if path is None else read_image(path, spacing_mm=case.spacing_mm, allow_nan=True)
    except (DataError, OSError):
        return None
