"""From the files of one case to its numbers: read two masks, check that they lie on one grid, measure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaudit.cohort import EMPTY, Case, Role, Volume, check_geometry, on_common_grid, read_mask
from medaudit.errors import DataError, UsageError
from medaudit.metrics import challenge_hd95_voxels, segmentation

Outcome = tuple[str, dict[str, Any] | None, str]
"""A case's id, its row, or else the line that says what is wrong with it."""


@dataclass(frozen=True)
class Ruler:
    """What is compared with what, and by which definitions of the metrics (see ``metrics.segmentation``)."""

    reference: str = "reference"
    prediction: str = "labels"
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    surface: str = "voxel"
    hd95: str = "pooled"
    empty: str = "penalise"
    challenge_compat: bool = False

    def __post_init__(self) -> None:
        for name, given, known in (
            ("surface", self.surface, ("voxel", "area")),
            ("hd95", self.hd95, ("pooled", "max")),
            ("empty", self.empty, ("nan", "penalise", "ignore")),
        ):
            if given not in known:
                raise UsageError(f"--{name} is '{given}'; expected {' or '.join(known)}")
        if not self.tolerances_mm or not all(0 <= t < np.inf for t in self.tolerances_mm):
            raise UsageError(f"--tolerance-mm is {self.tolerances_mm}; expected distances in mm, 0 or more")

    @property
    def name(self) -> str:
        """The ruler's name in ``measurements.parquet``: ``labels-vs-reference``."""
        return f"{self.prediction}-vs-{self.reference}"

    @property
    def definitions(self) -> dict[str, Any]:
        """The keywords of ``metrics.segmentation``."""
        return {
            "tolerances_mm": self.tolerances_mm,
            "surface": self.surface,
            "hd95": self.hd95,
            "empty": self.empty,
        }


def names(ruler: Ruler) -> tuple[str, ...]:
    """Return the names of the numbers that a case's row can have, of a volume or of a picture."""
    of_axes = [
        segmentation(np.ones((2,) * axes, np.uint8), np.ones((2,) * axes, np.uint8), 1.0, **ruler.definitions)
        for axes in (3, 2)
    ]
    return tuple(dict.fromkeys((*of_axes[0], *of_axes[1], *(["hd95_voxels"] if ruler.challenge_compat else []))))


def case(case: Case, roles: dict[str, Role], ruler: Ruler) -> dict[str, Any]:
    """Return one row of measurements: ``case_id``, ``ruler``, the numbers with units, the hash of both files.

    Raises DataError naming the case where a file is missing, cannot be read, or lies on another grid.
    """
    try:
        reference, prediction = masks_of(case, roles, (ruler.reference, ruler.prediction))
        spacing = reference.spacing_mm or prediction.spacing_mm or (1.0,) * reference.array.ndim
        numbers = segmentation(reference.array, prediction.array, spacing, **ruler.definitions)
        if ruler.challenge_compat:  # in voxels, and by other rules: a number of its own
            numbers = {**numbers, "hd95_voxels": challenge_hd95_voxels(reference.array, prediction.array)}
        files_sha256 = hash_files([case.files[role] for role in (ruler.reference, ruler.prediction)])
    except (DataError, OSError, MemoryError) as error:
        message = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        named = message if message.startswith("case ") else f"case {case.case_id}: {message}"
        raise DataError(named) from error
    known = reference.spacing_mm is not None or prediction.spacing_mm is not None
    return {
        "case_id": case.case_id,
        "ruler": ruler.name,
        **numbers,
        "spacing_known": known,
        "files_sha256": files_sha256,
    }


def attempt(one: Case, roles: dict[str, Role], ruler: Ruler) -> Outcome:
    """Return the case's row, or what is wrong with it: one bad case must not stop the others.

    Stands here, not beside the pool that calls it, so that a worker imports nothing but reading and metrics.
    """
    try:
        return one.case_id, case(one, roles, ruler), ""
    except DataError as error:
        return one.case_id, None, str(error)


def masks_of(case: Case, roles: dict[str, Role], names: tuple[str, str]) -> tuple[Volume, Volume]:
    """Return a case's two masks on one grid; DataError where one is missing, unreadable or on another grid.

    An annotation that says "nothing" (``empty:``) is an empty mask on the other's grid.
    """
    first, second = (_read(case, name, roles[name]) for name in names)
    grid = first or second
    if grid is None:
        raise DataError(f"case {case.case_id}: both masks are '{EMPTY}'; one of them must be a file")
    nothing = Volume(np.zeros_like(grid.array), grid.spacing_mm, grid.affine, grid.path)
    first, second = on_common_grid(first or nothing, second or nothing)
    check_geometry(case.case_id, first, second, names=names)
    return first, second


def pair(
    reference: Path,
    prediction: Path,
    *,
    spacing: str | None = None,
    labels: tuple[int, ...] = (),
    fill: bool = False,
    **definitions: Any,
) -> dict[str, Any]:
    """Return the numbers of two mask files (by label where ``labels`` are given), as `medaudit metrics` prints them."""
    ruler = Ruler(**definitions)
    given = _spacing(spacing)
    by_label = {}
    for label in labels or (None,):
        first, second = on_common_grid(
            *(read_mask(path, label=label, fill=fill, spacing_mm=given) for path in (reference, prediction))
        )
        check_geometry(reference.name, first, second, names=("REF", "PRED"))
        spacing_known = first.spacing_mm is not None or second.spacing_mm is not None
        millimetres = first.spacing_mm or second.spacing_mm or (1.0,) * first.array.ndim
        numbers = segmentation(first.array, second.array, millimetres, **ruler.definitions)
        by_label[str(label)] = {**numbers, "spacing_known": spacing_known}
    return by_label if len(labels) > 1 else next(iter(by_label.values()))


def fingerprint(case: Case, roles: dict[str, Role], ruler: Ruler) -> str:
    """Return what tells whether a case would be measured alike: its files' places, sizes and times, how they are read.

    The files are not opened: a cohort that was measured must be seen to be so in seconds.
    """
    said = [str(case.spacing_mm)]
    for name in (ruler.reference, ruler.prediction):
        path, role = case.files[name], roles[name]
        said.append(f"{path if path is None or str(path) == EMPTY else path.resolve()}:{role.fill}:{role.label}")
        for file in _files(path):
            try:
                about = file.stat()
                said.append(f"{about.st_size}:{about.st_mtime_ns}")
            except OSError:
                said.append("missing")
    return "|".join(said)


def hash_files(paths: list[Path | None]) -> str:
    """Return the SHA-256 of the files' contents, one after the other; a folder's files in order of their names."""
    digest = hashlib.sha256()
    for path in paths:
        if path is None or str(path) == EMPTY:
            digest.update(b"empty:")
        for file in _files(path):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _files(path: Path | None) -> list[Path]:
    """Return the files behind a path of the table: a folder's files, the archive of ``masks.npz#name``."""
    if path is None or str(path) == EMPTY:
        return []
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    archive, inside, _ = str(path).partition(".npz#")
    return [Path(f"{archive}.npz") if inside else path]


def _read(case: Case, name: str, role: Role) -> Volume | None:
    path = case.files[name]
    if path is None:
        raise DataError(
            f"case {case.case_id}: the table gives no file for its {name} mask; "
            f"write '{EMPTY}' where the annotator says that there is nothing, or drop the case"
        )
    if str(path) == EMPTY:
        return None
    return read_mask(path, label=role.label, fill=role.fill, spacing_mm=case.spacing_mm)


def _spacing(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        spacing = tuple(float(part) for part in text.replace(",", ";").split(";"))
    except ValueError:
        spacing = ()
    if not spacing or not all(0 < value < np.inf for value in spacing):
        raise UsageError(f"--spacing is '{text}'; expected positive millimetres in axis order, as 0.8 or '0.8;0.8;1.1'")
    return spacing
