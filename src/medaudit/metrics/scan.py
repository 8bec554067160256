"""What one pass over a mask tells: is it a mask at all, how many voxels are foreground, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from medaudit.errors import DataError


@dataclass(frozen=True)
class Scanned:
    """A mask that has been checked and measured once: its array, its foreground count and bounding box.

    ``low`` and ``high`` bound the foreground, half-open, in the array's axis order; both are 0 where there is
    none. ``label``: the foreground is this value; ``None``: all that is not 0.
    """

    array: NDArray[Any]
    voxels: int
    low: tuple[int, ...]
    high: tuple[int, ...]
    label: int | None = None


@njit(cache=True, nogil=True)
def _scan_bytes(data, words, head, n0, n1, n2):  # type: ignore[no-untyped-def]
    """Return count, foreground value, whether there is a second value, and the half-open box (six numbers)."""
    count = 0
    value = np.uint8(0)
    mixed = False
    low0, high0, low1, high1, low2, high2 = n0, 0, n1, 0, n2, 0
    for i in range(n0):
        # Most slabs and rows of a medical mask are empty: eight voxels a step, which the compiler widens further.
        if not _any_set(data, words, head, i * n1 * n2, (i + 1) * n1 * n2):
            continue
        for j in range(n1):
            start = (i * n1 + j) * n2
            if not _any_set(data, words, head, start, start + n2):
                continue
            first = -1
            last = -1
            for k in range(n2):
                voxel = data[start + k]
                if voxel != 0:
                    if first < 0:
                        first = k
                    last = k
                    count += 1
                    if voxel != value:
                        if value != 0:
                            mixed = True
                        value = voxel
            low0, high0 = min(low0, i), max(high0, i + 1)
            low1, high1 = min(low1, j), max(high1, j + 1)
            low2, high2 = min(low2, first), max(high2, last + 1)
    return count, value, mixed, low0, high0, low1, high1, low2, high2


@njit(cache=True, nogil=True, inline="always")
def _any_set(data, words, head, start, stop):  # type: ignore[no-untyped-def]
    first = max(0, (start - head + 7) // 8)
    last = max(first, (stop - head) // 8)
    seen = np.uint64(0)
    # Over slices, not indices: only then does the compiler see that no index is negative, and vectorises.
    for word in words[first:last]:
        seen |= word
    for byte in data[start : min(stop, head + 8 * first)]:
        seen |= byte
    for byte in data[max(start, head + 8 * last) : stop]:
        seen |= byte
    return seen != 0


def check_pair(
    reference: ArrayLike, prediction: ArrayLike, spacing: Sequence[float] | NDArray[Any] | float
) -> tuple[NDArray[Any], NDArray[Any], tuple[float, ...]]:
    """Return two 2-D or 3-D arrays on one grid, and the spacing in mm for each axis; one number is isotropic.

    Raises DataError for arrays that are not numbers, not 2-D or 3-D, empty or of different shapes, and for a
    spacing of another length or that is not positive.
    """
    arrays = []
    for role, given in (("reference", reference), ("prediction", prediction)):
        try:
            array = np.asarray(given)
        except ValueError:
            raise DataError(f"the {role} is not an array: its rows have different lengths") from None
        if array.dtype.kind not in "buif":
            raise DataError(f"the {role} has values of type {array.dtype}; expected a mask of numbers or booleans")
        if array.ndim not in (2, 3):
            raise DataError(f"the {role} has {array.ndim} axes, shape {array.shape}; expected a 2-D or 3-D mask")
        if array.size == 0:
            raise DataError(f"the {role} has no voxels, shape {array.shape}")
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise DataError(
            f"the reference has shape {arrays[0].shape}, the prediction {arrays[1].shape}; "
            "expected two masks on one grid: resample one to the other"
        )
    return arrays[0], arrays[1], _check_spacing(spacing, arrays[0].ndim)


def _check_spacing(spacing: Sequence[float] | NDArray[Any] | float, ndim: int) -> tuple[float, ...]:
    try:
        mm = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError):
        mm = np.empty(0)
    if mm.ndim == 0:
        mm = np.repeat(mm, ndim)
    if mm.shape != (ndim,):
        raise DataError(f"spacing is {spacing!r}; expected {ndim} numbers in mm, one for each axis of the mask")
    if not (np.isfinite(mm).all() and (mm > 0).all()):
        raise DataError(f"spacing is {spacing!r}; expected positive millimetres for each axis")
    return tuple(mm.tolist())


def memory_order(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory (C order: 0, 1, 2; Fortran order: 2, 1, 0)."""
    return tuple(sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis)))


def scan(array: NDArray[Any], role: str) -> Scanned:
    """Return a two-valued mask's foreground count and bounding box, in one pass over its memory.

    Any mask with background 0 will do: boolean, 0/1, 0/255, floats. Raises DataError, naming ``role``, for NaN,
    infinite or negative values and for more than two values.
    """
    if array.dtype.itemsize == 1:
        voxels = array.view(np.uint8)
    else:
        # One byte a voxel, whatever the type: the only temporary of the volume's size.
        voxels = (array != 0).view(np.uint8)
    order = memory_order(voxels)
    ordered = voxels.transpose(order)
    if not ordered.flags.c_contiguous:
        ordered = np.ascontiguousarray(ordered)
    count, value, mixed, *bounds = _scan_bytes(*_as_words(ordered), *(1,) * (3 - array.ndim), *ordered.shape)
    scanned = _scanned(array, count, bounds, order)
    if array.dtype.itemsize == 1:
        wrong = mixed or (array.dtype.kind == "i" and value > 127)
    else:
        inside = array[box(scanned.low, scanned.high)]
        inside = inside[inside != 0]
        wrong = bool(count) and not (inside[0] > 0 and np.isfinite(inside[0]) and (inside == inside[0]).all())
    if wrong:
        _refuse(array, role)
    return scanned


def _as_words(contiguous: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint64], int]:
    """Return the bytes, their aligned part as 64-bit words, and how many bytes come before that part."""
    data = contiguous.reshape(-1)
    head = min(-data.ctypes.data % 8, data.size)
    return data, data[head : head + (data.size - head) // 8 * 8].view(np.uint64), head


def _refuse(array: NDArray[Any], role: str) -> None:
    values = np.unique(array)
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"the {role} mask holds NaN or infinite values; expected a mask of two values, background 0")
    if values[0] < 0:
        raise DataError(
            f"the {role} mask holds the negative value {values[0]}; expected a mask of two values, background 0"
        )
    shown = ", ".join(f"{v:g}" for v in values[:4]) + (", ..." if values.size > 4 else "")
    raise DataError(
        f"the {role} mask has {values.size} values ({shown}); expected two, background 0: "
        "threshold a probability map, and give a label map to segmentation_by_label"
    )


@njit(cache=True, nogil=True)
def _scan_labels(maps):  # type: ignore[no-untyped-def]
    """Return the labels, and for each its count and half-open box (six numbers)."""
    n0, n1, n2 = maps.shape
    largest = 0
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                largest = max(largest, maps[i, j, k])
    found = np.zeros((largest + 1, 7), dtype=np.int64)
    found[:, 1], found[:, 3], found[:, 5] = n0, n1, n2
    for i in range(n0):
        for j in range(n1):
            start = 0
            while start < n2:
                label = maps[i, j, start]
                stop = start + 1
                while stop < n2 and maps[i, j, stop] == label:
                    stop += 1
                if label != 0:
                    row = found[label]
                    row[0] += stop - start
                    row[1], row[2] = min(row[1], i), max(row[2], i + 1)
                    row[3], row[4] = min(row[3], j), max(row[4], j + 1)
                    row[5], row[6] = min(row[5], start), max(row[6], stop)
                start = stop
    return found


def scan_labels(array: NDArray[Any], role: str) -> dict[int, Scanned]:
    """Return each label's foreground count and bounding box in a label map, in one pass over its memory.

    Raises DataError, naming ``role``, for anything but whole numbers from 0 to 65,535.
    """
    maps = array.view(np.uint8) if array.dtype.kind == "b" else array
    if maps.dtype not in (np.uint8, np.uint16):
        with np.errstate(invalid="ignore"):
            maps = array.astype(np.uint16)
        if not np.array_equal(maps, array):
            raise DataError(f"the {role} is not a label map: expected whole numbers from 0 (background) to 65535")
    order = memory_order(maps)
    ordered = np.ascontiguousarray(maps.transpose(order))
    found = _scan_labels(ordered.reshape((1,) * (3 - array.ndim) + ordered.shape))
    return {
        int(label): _scanned(array, found[label, 0], found[label, 1:], order, int(label))
        for label in np.flatnonzero(found[:, 0])
    }


def _scanned(
    array: NDArray[Any], voxels: int, bounds: Sequence[int], order: Sequence[int], label: int | None = None
) -> Scanned:
    """Return the count and the box of a 3-D scan in memory order as those of the array in its own."""
    low, high = [0] * array.ndim, [0] * array.ndim
    if voxels:
        for place, axis in enumerate(order, start=3 - array.ndim):
            low[axis], high[axis] = int(bounds[2 * place]), int(bounds[2 * place + 1])
    return Scanned(array, int(voxels), tuple(low), tuple(high), label)


def box(low: Sequence[int], high: Sequence[int]) -> tuple[slice, ...]:
    """Return the half-open box as slices."""
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))
