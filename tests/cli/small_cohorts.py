"""Cohorts small enough to be measured in a blink, and what the command line says of them."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

FAST = ("--resamples", "100", "--min-patients", "5", "--jobs", "1", "--quiet")
"""Little statistics, in one process: these tests ask what is said, not how sure it is."""


def kills() -> int:
    """How often a test kills a run before it lets it end: once, or MEDAUDIT_KILLS times (`make soak`: 20)."""
    return int(os.environ.get("MEDAUDIT_KILLS", "1"))


in_soak = pytest.mark.skipif("MEDAUDIT_KILLS" not in os.environ, reason="a minute each; `make soak` runs them")
"""Studies that train several models, killed: what they are made of is killed in every run of the tests."""


@dataclass(frozen=True)
class Said:
    """What a call wrote to its two streams, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as strict JSON: one value, nothing around it, no NaN."""
        return json.loads(self.out, parse_constant=_not_json)

    def refuses(self, code: int, *words: str) -> None:
        """Assert that the call failed with ``code``, in one line on standard error that has ``words`` in it."""
        assert self.err.startswith("medaudit: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        missing = [word for word in words if word not in self.err]
        assert not missing, f"{missing} not in: {self.err}"
        assert self.code == code
        assert self.out == ""


def ball(centre: tuple[float, float, float], radius: float, side: int = 24) -> np.ndarray:
    """Return a ball of voxels, (side, side, side) uint8."""
    grid = np.indices((side,) * 3)
    return (sum((grid[i] - centre[i]) ** 2 for i in range(3)) <= radius**2).astype(np.uint8)


def save(path: Path, mask: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Write a mask as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask, np.eye(4) if affine is None else affine), path)


def masks_of_two_readers(root: Path, n: int, *, missed: tuple[int, ...] = ()) -> Path:
    """Return the table of ``n`` cases: balls, and balls drawn a little beside them; ``missed`` are drawn empty.

    Ages are 30, 33, 36 ... years, sources A and B and ethnicities x, y and z take turns.
    """
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        centre, radius = rng.uniform(8, 16, 3), rng.uniform(4, 6)
        expert, auto = f"expert/c{i:03d}.nii.gz", f"auto/c{i:03d}.nii.gz"
        save(root / expert, ball(tuple(centre), radius))
        save(root / auto, ball(tuple(centre + rng.normal(0, 0.7, 3)), radius) * (i not in missed))
        rows.append(
            {
                "case_id": f"c{i:03d}",
                "patient_id": f"p{i:03d}",
                "age": 30 + 3 * i % 45,
                "source": "AB"[i % 2],
                "ethnicity": "xyz"[i % 3],
                "expert_path": expert,
                "auto_path": auto,
            }
        )
    return write_table(root / "cases.csv", rows)


def small_hc18(root: Path, heads: list[tuple[str, float]]) -> Path:
    """Return a folder like HC18's: images, outlines and the table; automated masks lie in ``../hc18_automatic``.

    ``heads`` are image names and head circumferences in mm; the automated head is a row smaller.
    """
    automatic = root.parent / "hc18_automatic"
    for folder in (root / "training_set", automatic):
        folder.mkdir(parents=True)
    outline, head = np.zeros((2, 32, 32), np.uint8)
    outline[4:28, 4:28] = 255
    outline[5:27, 5:27] = 0
    head[4:27, 4:28] = 255
    for name, _ in heads:
        Image.fromarray(outline // 2).save(root / f"training_set/{name}.png")
        Image.fromarray(outline).save(root / f"training_set/{name}_Annotation.png")
        Image.fromarray(head).save(automatic / f"{name}_automatic.png")
    columns = ("filename", "pixel size(mm)", "head circumference (mm)")
    rows = [dict(zip(columns, (f"{name}.png", 0.1, size), strict=True)) for name, size in heads]
    write_table(root / "training_set_pixel_size_and_HC.csv", rows)
    return root


def labels(table: Path, out: Path, *more: object, by: str = "age:50") -> list[object]:
    """Return the arguments of the audit of such a cohort."""
    masks = ("--reference", "expert_path", "--labels", "auto_path")
    return ["labels", "--cases", table, *masks, "--by", by, *FAST, "--out", out, *more]


def scores(path: Path, n: int = 60, **columns: list[Any]) -> Path:
    """Return a table of ``n`` cases with scores; ``columns`` replace or add to what is in it."""
    rng = np.random.default_rng(0)
    usual = {
        "case_id": [f"c{i}" for i in range(n)],
        "patient_id": [f"p{i // 2}" for i in range(n)],
        "age": rng.integers(25, 80, n).tolist(),
        "source": ["AB"[i // 2 % 2] for i in range(n)],
        "dice": np.round(rng.beta(8, 2, n), 4).tolist(),
        "hd95_mm": np.round(rng.gamma(2, 3, n), 3).tolist(),
    }
    whole = usual | columns
    return write_table(path, [{name: whole[name][i] for name in whole} for i in range(n)])


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def edit(table: Path, old: str, new: str) -> None:
    """Replace a text in a table that must have it."""
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


def _not_json(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")
