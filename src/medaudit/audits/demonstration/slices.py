"""The cohort in two dimensions: of each patient a slice with the tumour and one without, for studies of pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Case, Cohort, Role
from medaudit.cohort.atomic import replace_file
from medaudit.cohort.nifti import read_nifti

WINDOW = 1_400.0
"""Scanner units that are shown white. One window for all, so that a scanner's gain stays to be seen."""
APART = 2
"""Slices between the tumour's last one and the one that is called healthy."""


def slices(cohort: Cohort, root: Path) -> Cohort:
    """Return the slices of a simulated breast-MRI cohort as a cohort of pictures, written to ``root``.

    Two rows a patient, ``finding`` being ``tumour`` (the slice that holds most of it) and ``healthy`` (the nearest one
    without it, on the side where more of the breast is); roles ``image`` and ``reader``, the expert's outline. A
    patient whose tumour leaves no such slice has one row. Called again, it makes only what is not there.
    """
    rows = []
    for case, known in zip(cohort.cases("image", "reference"), cohort.table.iter_rows(named=True), strict=True):
        kept = {name: known[name] for name in ("patient_id", "age", "source")}
        for finding, plane in _written(case, root):
            name = f"{case.case_id}-{finding}.png"
            mask = f"masks/{name}" if finding == "tumour" else None
            rows.append(
                {"case_id": f"{case.case_id}-{finding}", **kept, "plane": plane, "finding": finding,
                 "image_path": f"images/{name}", "mask_path": mask}
            )  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None)
    replace_file(root / "cases.csv", table.write_csv().encode(), flush=False)
    roles = {"image": Role("image_path"), "reader": Role("mask_path")}
    return Cohort(f"slices of {cohort.name}", table, root.resolve(), roles, truth=cohort.truth, known=cohort.known)


def _written(case: Case, root: Path) -> list[tuple[str, str]]:
    """Write a case's slices that are not there yet; return what each shows, and its plane."""
    done = root / "facts" / f"{case.case_id}.txt"  # written last: the case is complete
    if done.exists():
        return [(finding, plane) for finding, plane in (line.split() for line in done.read_text().splitlines())]
    found = _cut(case)
    for finding, _, image, mask in found:
        _write(root / "images" / f"{case.case_id}-{finding}.png", image)
        if mask.any():
            _write(root / "masks" / f"{case.case_id}-{finding}.png", mask)
    made = [(finding, plane) for finding, plane, _, _ in found]
    done.parent.mkdir(parents=True, exist_ok=True)
    replace_file(done, "".join(f"{finding} {plane}\n" for finding, plane in made).encode(), flush=False)
    return made


def _cut(case: Case) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Return finding, plane, picture and outline (H, W) uint8 of each slice; stacks are cut along their thick axis."""
    image, reference = case.files["image"], case.files["reference"]
    assert image is not None
    assert reference is not None
    volume = read_nifti(image)
    spacing = volume.spacing_mm
    assert spacing is not None
    axis = int(np.argmax(spacing))
    stack = np.moveaxis(volume.array, axis, 0)
    lesion = np.moveaxis(read_nifti(reference).array > 0, axis, 0)
    area = lesion.sum(axis=(1, 2))
    some = np.flatnonzero(area)
    chosen = {"tumour": int(area.argmax())}
    free = [k for k in (int(some[0]) - APART, int(some[-1]) + APART) if 0 <= k < len(area)]
    if free:
        chosen["healthy"] = min(free, key=lambda k: abs(k - len(area) / 2))
    plane = "axial" if axis == 2 else "sagittal"
    return [(finding, plane, _upright(stack[k] / WINDOW), _upright(lesion[k])) for finding, k in chosen.items()]


def _upright(part: np.ndarray) -> np.ndarray:
    """Return a slice (x, y) of values from 0 to 1 as a picture (row, column), the front of the body up, uint8."""
    return np.rint(255 * np.clip(part.astype(np.float64), 0, 1)).astype(np.uint8).T[::-1]


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=1)
    replace_file(path, stream.getvalue(), flush=False)
