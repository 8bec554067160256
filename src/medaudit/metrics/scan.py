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

    ``low`` and ``high`` bound the foreground, half-open, in the array's axis order; both are empty where the mask is.
    """

    array: NDArray[Any]
    voxels: int
    low: tuple[int, ...]
    high: tuple[int, ...]


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
    for w in range(first, last):
        seen |= words[w]
    if seen != 0:
        return True
    for b in range(start, min(stop, head + 8 * first)):
        if data[b] != 0:
            return True
    for b in range(max(start, head + 8 * last), stop):
        if data[b] != 0:
            return True
    return False


def check_spacing(spacing: Sequence[float] | NDArray[Any] | float, ndim: int) -> tuple[float, ...]:
    """Return the spacing as one positive number of millimetres per axis; a single number is isotropic.

    Raises DataError for a wrong length and for what is not a positive, finite number.
    """
    try:
        values = np.atleast_1d(np.asarray(spacing, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.ndim == 1 and values.size == 1:
        values = np.repeat(values, ndim)
    if values.shape != (ndim,):
        raise DataError(
            f"spacing is {spacing!r}; expected {ndim} numbers in mm, one for each axis of the mask"
        )
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise DataError(f"spacing is {spacing!r}; expected positive millimetres for each axis")
    return tuple(float(v) for v in values)


def check_array(array: ArrayLike, role: str) -> NDArray[Any]:
    """Return ``array`` as a 2-D or 3-D array of numbers with at least one voxel; DataError naming ``role`` if it is not."""
    try:
        checked = np.asarray(array)
    except ValueError:
        raise DataError(f"the {role} is not an array: its rows have different lengths") from None
    if checked.dtype.kind not in "buif":
        raise DataError(
            f"the {role} has values of type {checked.dtype}; expected a mask of numbers or booleans"
        )
    if checked.ndim not in (2, 3):
        raise DataError(
            f"the {role} has {checked.ndim} axes, shape {checked.shape}; expected a 2-D or 3-D mask"
        )
    if checked.size == 0:
        raise DataError(f"the {role} has no voxels, shape {checked.shape}")
    return checked


def check_same_shape(reference: NDArray[Any], prediction: NDArray[Any]) -> None:
    """Raise DataError unless both masks lie on one grid."""
    if reference.shape != prediction.shape:
        raise DataError(
            f"the reference has shape {reference.shape}, the prediction {prediction.shape}; "
            "expected two masks on one grid: resample one to the other"
        )


def memory_order(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory (C order: 0, 1, 2; Fortran order: 2, 1, 0)."""
    return tuple(sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis)))


def scan(array: NDArray[Any], role: str) -> Scanned:
    """Return a two-valued mask's foreground count and bounding box, in one pass over its memory.

    Any mask with background 0 will do: boolean, 0/1, 0/255, floats. Raises DataError, naming ``role``, for NaN, infinite
    or negative values and for more than two values.
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
    bounds = bounds[6 - 2 * array.ndim :]
    low, high = [0] * array.ndim, [0] * array.ndim
    if count:
        for place, axis in enumerate(order):
            low[axis], high[axis] = bounds[2 * place], bounds[2 * place + 1]
    scanned = Scanned(array, count, tuple(low), tuple(high))
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
        raise DataError(
            f"the {role} mask holds NaN or infinite values; expected a mask of two values, background 0"
        )
    if values[0] < 0:
        raise DataError(
            f"the {role} mask holds the negative value {values[0]}; expected a mask of two values, background 0"
        )
    shown = ", ".join(f"{v:g}" for v in values[:4]) + (", ..." if values.size > 4 else "")
    raise DataError(
        f"the {role} mask has {values.size} values ({shown}); expected two, background 0: "
        "threshold a probability map, and give a label map to segmentation_by_label"
    )


def box(low: Sequence[int], high: Sequence[int]) -> tuple[slice, ...]:
    """Return the half-open box as slices."""
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def union_box(a: Scanned, b: Scanned) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the smallest box that holds the foreground of both masks."""
    if not a.voxels or not b.voxels:
        return (a.low, a.high) if a.voxels else (b.low, b.high)
    return tuple(map(min, a.low, b.low)), tuple(map(max, a.high, b.high))


def crop(
    array: NDArray[Any],
    low: Sequence[int],
    high: Sequence[int],
    order: Sequence[int],
    label: int | None = None,
) -> NDArray[np.uint8]:
    """Return the box as a 3-D array of 0 and 1 with an empty margin: shape ``(n0 + 2, n1 + 2, n2 + 2)``.

    The axes are taken in ``order``. The margin makes the outside of the image the outside of the object. A 2-D mask
    becomes one slice without a margin across it: ``(1, n1 + 2, n2 + 2)``. The last axis is filled up with zeros to whole
    words of 8 voxels. ``label``: the foreground is this value instead of all that is not 0.
    """
    inside = array[box(low, high)].transpose(order)
    sides = inside.shape
    padded = (*(n + 2 for n in sides[:-1]), (sides[-1] + 2 + 7) // 8 * 8)
    cropped = np.zeros(padded, dtype=np.bool_)
    middle = cropped[tuple(slice(1, n + 1) for n in sides)]
    if label is None:
        np.not_equal(inside, 0, out=middle)
    else:
        np.equal(inside, label, out=middle)
    return cropped.view(np.uint8).reshape((1,) * (3 - array.ndim) + padded)
