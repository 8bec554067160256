"""Prepared: a cohort's images and masks on one small grid, as arrays on disk that trainings read case by case.

Reading and resampling a case takes longer than a training step on it, and a study trains on it hundreds of times. The
arrays are memory-mapped, so that a cohort that does not fit into memory is still one array.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch.nn.functional import interpolate

from medaudit.cohort import EMPTY, Case, Cohort, Role, colour_image, grey_image, read_mask
from medaudit.errors import DataError, UsageError
from medaudit.training.checkpoint import replace
from medaudit.workers import in_processes

_ASKED_FOR_SHAPE = 50  # cases that decide the grid: a median of more would hardly differ


@dataclass(frozen=True, eq=False)
class Prepared:
    """The cases of a cohort on one grid, in its order.

    ``images`` (n, channels, *grid) float16, each case with mean 0 and SD 1, or from 0 to 1 where it was letterboxed or
    cropped.
    ``masks`` maps a role to (n, *grid) uint8: the
    part of each cell that is foreground, times 255.
    """

    case_ids: tuple[str, ...]
    images: np.ndarray
    masks: Mapping[str, np.ndarray]

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return self.images.shape[2:]


def grid_of(cohort: Cohort, longest: int, multiple: int) -> tuple[int, ...]:
    """Return the grid for a cohort's images: the median field of view, ``longest`` cells along its longest side.

    Each side is a multiple of ``multiple``. Decided by the first 50 cases. Raises DataError where pictures and volumes
    are mixed, or naming the case that cannot be read.
    """
    shapes: list[tuple[int, ...]] = []
    for case in list(cohort.cases("image"))[:_ASKED_FOR_SHAPE]:
        shapes.append(grey_image(case).shape)
        if len(shapes[-1]) != len(shapes[0]):
            raise DataError(
                f"case {case.case_id}: the image has {len(shapes[-1])} dimensions, the first case's {len(shapes[0])}; "
                "expected pictures or volumes, not both"
            )
    sides = np.median(np.asarray(shapes), axis=0)
    scaled = sides * longest / sides.max()
    return tuple(int(max(1, round(side / multiple)) * multiple) for side in scaled)


def prepare(
    cohort: Cohort, roles: Sequence[str], grid: tuple[int, ...], folder: Path, *, jobs: int = 1, progress: Any = iter,
    framing: str = "stretch", channels: int = 1,
) -> Prepared:  # fmt: skip
    """Return the cohort's images and the masks of ``roles`` on ``grid``; they lie in ``folder``, and stay there.

    A case without a file of a role has an empty mask there: who trains on it must not choose it. Called again, it
    makes only the cases that are not there yet; a case whose files changed makes all anew. ``progress`` wraps the
    iterator of finished cases. ``framing``: ``stretch``, to mean 0 and SD 1; ``letterbox`` pads each image with its
    lowest value to the grid's proportions, so that nothing is stretched and proportions are no cue; ``crop`` takes the
    middle, so that there is no border to be drawn. The latter two keep grey levels: 8-bit images over 255, others over
    their own range. ``channels``: 1, or 3 for colours as they are. Raises DataError naming the case that cannot be
    read.
    """
    cases = list(cohort.cases("image", *roles))
    wanted = json.dumps({"grid": grid, "cases": fingerprint(cohort, roles), "framing": framing, "channels": channels})
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "prepared.json"
    if not record.exists() or record.read_text() != wanted:
        record.unlink(missing_ok=True)
        for name, shape, dtype in _arrays(len(cases), roles, grid, channels):
            open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
        replace(record, wanted.encode())
    done = open_memmap(folder / "done.npy", mode="r+")
    left = [i for i in range(len(cases)) if not done[i]]
    make = partial(
        _prepare_case, roles=dict(cohort.roles), wanted=tuple(roles), grid=grid, folder=folder, framing=framing,
        channels=channels,
    )  # fmt: skip
    for _ in progress(in_processes(make, [(i, cases[i]) for i in left], jobs)):
        pass
    return opened(folder, cohort.case_ids, roles)


def opened(folder: Path, case_ids: Sequence[str], roles: Sequence[str]) -> Prepared:
    """Return what :func:`prepare` made in ``folder``, memory-mapped for reading."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", *roles)}
    return Prepared(tuple(case_ids), arrays.pop("images"), arrays)


def resized(array: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return ``array`` on ``grid``, float32: averaged over the cells of a coarser grid, interpolated on a finer one."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    if all(n >= m for n, m in zip(array.shape, grid, strict=True)):
        return interpolate(tensor, size=grid, mode="area")[0, 0].numpy()
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    return interpolate(tensor, size=grid, mode=mode, align_corners=False, antialias=False)[0, 0].numpy()


def letterboxed(image: np.ndarray, grid: tuple[int, ...], ends: tuple[float, float] | None = None) -> np.ndarray:
    """Return a 2-D ``image`` padded to the grid's proportions, on the grid, from 0 to 1 (float32).

    ``ends``: the least and the largest value of all its channels; default: its own.
    """
    low, high = ends or (float(image.min()), float(image.max()))
    rows, columns = image.shape
    scale = max(rows / grid[0], columns / grid[1])
    tall, wide = max(rows, round(grid[0] * scale)), max(columns, round(grid[1] * scale))
    padded = np.full((tall, wide), low, dtype=np.float32)
    top, left = (tall - rows) // 2, (wide - columns) // 2
    padded[top : top + rows, left : left + columns] = image
    return _from_0_to_1(resized(padded, grid), low, high)


def cropped(image: np.ndarray, grid: tuple[int, ...], ends: tuple[float, float] | None = None) -> np.ndarray:
    """Return the middle of a 2-D ``image`` in the grid's proportions, on the grid, from 0 to 1 (float32)."""
    low, high = ends or (float(image.min()), float(image.max()))
    return _from_0_to_1(resized(middle(image, grid), grid), low, high)


def middle(image: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return the largest part in the middle of ``image`` (row, column) that has the grid's proportions."""
    rows, columns = image.shape
    scale = min(rows / grid[0], columns / grid[1])
    tall, wide = max(1, round(grid[0] * scale)), max(1, round(grid[1] * scale))
    top, left = (rows - tall) // 2, (columns - wide) // 2
    return image[top : top + tall, left : left + wide]


def _from_0_to_1(image: np.ndarray, low: float, high: float) -> np.ndarray:
    # Grey levels tell one scanner from another: an 8-bit image keeps them, whatever its own range.
    floor, span = (0.0, 255.0) if low >= 0 and 1 < high <= 255 else (low, max(high - low, 1e-6))
    return (image - floor) / span


FRAMINGS: dict[str, Callable[..., np.ndarray]] = {"stretch": resized, "letterbox": letterboxed, "crop": cropped}
"""How an image is brought to the grid."""


def _prepare_case(
    numbered: tuple[int, Case], roles: Mapping[str, Role], wanted: tuple[str, ...], grid: tuple[int, ...], folder: Path,
    framing: str, channels: int,
) -> int:  # fmt: skip
    """Write the case into its row of each array, and only then mark it as done."""
    i, case = numbered
    if framing not in FRAMINGS:
        raise UsageError(f"framing is '{framing}'; expected one of {', '.join(FRAMINGS)}")
    image = grey_image(case) if channels == 1 else colour_image(case)[..., :channels]
    if len(image.shape) != len(grid) + (channels > 1):
        raise DataError(f"case {case.case_id}: the image has {len(image.shape)} dimensions, others {len(grid)}")
    planes = [image] if channels == 1 else [image[..., c] for c in range(channels)]
    if framing == "stretch":
        small = np.stack([resized(plane, grid) for plane in planes])
        scaled = (small - small.mean()) / max(float(small.std()), 1e-6)
    else:
        # One range for all channels: a range each would change the colours.
        ends = float(image.min()), float(image.max())
        scaled = np.stack([FRAMINGS[framing](plane, grid, ends) for plane in planes])
    open_memmap(folder / "images.npy", mode="r+")[i] = scaled
    for role in wanted:
        mask = open_memmap(folder / f"{role}.npy", mode="r+")
        path = case.files[role]
        if path is None or str(path) == EMPTY:
            mask[i] = 0
            continue
        try:
            volume = read_mask(path, label=roles[role].label, fill=roles[role].fill, spacing_mm=case.spacing_mm)
        except DataError as error:
            raise DataError(f"case {case.case_id}: {error}") from None
        if volume.shape != planes[0].shape:
            raise DataError(
                f"case {case.case_id}: the {role} mask is {volume.shape}, the image {planes[0].shape}; "
                "expected one grid for both"
            )
        # A mask lies where its image lies: with the same border, or cut alike.
        whole: tuple[Any, ...] = () if framing == "stretch" else ((0.0, 1.0),)
        mask[i] = np.rint(255 * FRAMINGS[framing](volume.array.astype(np.float32), grid, *whole))
    open_memmap(folder / "done.npy", mode="r+")[i] = True
    return i


def _arrays(
    n: int, roles: Sequence[str], grid: tuple[int, ...], channels: int
) -> Iterator[tuple[str, tuple[int, ...], type]]:
    yield "images", (n, channels, *grid), np.float16
    for role in roles:
        yield role, (n, *grid), np.uint8
    yield "done", (n,), np.bool_


def fingerprint(cohort: Cohort, roles: Sequence[str]) -> str:
    """Return what tells whether a training would see the same: who the cases are, and each file's size and time.

    Files are not opened, and their place does not count.
    """
    digest = hashlib.sha256(
        repr([(role, cohort.roles[role].fill, cohort.roles[role].label) for role in roles]).encode()
    )
    for case in cohort.cases("image", *roles):
        for path in case.files.values():
            about = path.stat() if path is not None and path.is_file() else None
            digest.update(f"{case.case_id}|{about and (about.st_size, about.st_mtime_ns)}|{path is None}\n".encode())
    return digest.hexdigest()
