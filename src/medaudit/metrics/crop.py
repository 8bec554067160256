"""The part of the volume that holds both masks, in the form that every measurement reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medaudit.metrics.scan import Scanned, box, memory_order


def crop_pair(a: Scanned, b: Scanned) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    """Return both masks' crops to the box that holds both, and the order in which the crops take the arrays' axes.

    The crops are 3-D, of 0 and 1, with an empty margin: ``(n0 + 2, n1 + 2, n2 + 2)``. The margin makes the outside
    of the image the outside of the object. A 2-D mask becomes one slice without a margin across it, ``(1, n1 + 2,
    n2 + 2)``. The last axis is filled up with zeros to whole words of 8 voxels.
    """
    boxes = [scanned for scanned in (a, b) if scanned.voxels] or [a]
    low = [min(bounds) for bounds in zip(*(scanned.low for scanned in boxes), strict=True)]
    high = [max(bounds) for bounds in zip(*(scanned.high for scanned in boxes), strict=True)]
    order = memory_order(a.array)
    return _crop(a, low, high, order), _crop(b, low, high, order), order


def _crop(scanned: Scanned, low: Sequence[int], high: Sequence[int], order: Sequence[int]) -> NDArray[np.uint8]:
    inside = scanned.array[box(low, high)].transpose(order)
    sides = inside.shape
    padded = (*(n + 2 for n in sides[:-1]), (sides[-1] + 2 + 7) // 8 * 8)
    cropped = np.zeros(padded, dtype=np.bool_)
    middle = cropped[tuple(slice(1, n + 1) for n in sides)]
    if scanned.label is None:
        np.not_equal(inside, 0, out=middle)
    else:
        np.equal(inside, scanned.label, out=middle)
    return cropped.view(np.uint8).reshape((1,) * (3 - inside.ndim) + padded)
