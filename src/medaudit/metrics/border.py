"""The surface of a mask as voxels: those with a face neighbour outside the mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

_INSIDE, _BORDER = np.uint8(1), np.uint8(2)
_BORDER_WORD = np.uint64(0x0202020202020202)


@dataclass(frozen=True)
class Points:
    """Points of a surface on the grid of a crop: ``at`` is ``(n, 3)`` int32.

    ``shared`` tells which also belong to the other surface: their distance to it is 0 without a search. ``weight``
    is the length or area of surface that each stands for; ``None``: they count alike.
    """

    at: NDArray[np.int32]
    shared: NDArray[np.bool_]
    weight: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return self.at.shape[0]


@njit(cache=True, nogil=True)
def _mark(a, b, words_a, words_b):  # type: ignore[no-untyped-def]
    """Set the border bit in both crops; return the overlap and the number of border voxels of each."""
    n0, n1, n_words = words_a.shape
    # One slice alone is a 2-D mask: nothing lies across it.
    flat = n0 == 1
    first, last = (0, 1) if flat else (1, n0 - 1)
    both = border_a = border_b = 0
    for i in range(first, last):
        for j in range(1, n1 - 1):
            for w in range(n_words):
                if words_a[i, j, w] == 0 and words_b[i, j, w] == 0:
                    continue
                for k in range(8 * w, 8 * w + 8):
                    in_a = a[i, j, k] != 0
                    in_b = b[i, j, k] != 0
                    both += in_a and in_b
                    if in_a and _touches_outside(a, i, j, k, flat):
                        a[i, j, k] |= _BORDER
                        border_a += 1
                    if in_b and _touches_outside(b, i, j, k, flat):
                        b[i, j, k] |= _BORDER
                        border_b += 1
    return both, border_a, border_b


@njit(cache=True, nogil=True, inline="always")
def _touches_outside(m, i, j, k, flat):  # type: ignore[no-untyped-def]
    in_plane = m[i, j - 1, k] == 0 or m[i, j + 1, k] == 0 or m[i, j, k - 1] == 0 or m[i, j, k + 1] == 0
    return in_plane or (not flat and (m[i - 1, j, k] == 0 or m[i + 1, j, k] == 0))


@njit(cache=True, nogil=True)
def _collect(mask, other, words, n):  # type: ignore[no-untyped-def]
    at = np.empty((n, 3), dtype=np.int32)
    shared = np.empty(n, dtype=np.bool_)
    n0, n1, n_words = words.shape
    p = 0
    for i in range(n0):
        for j in range(n1):
            for w in range(n_words):
                if words[i, j, w] & _BORDER_WORD == 0:
                    continue
                for k in range(8 * w, 8 * w + 8):
                    if mask[i, j, k] & _BORDER:
                        at[p, 0], at[p, 1], at[p, 2] = i, j, k
                        shared[p] = other[i, j, k] & _BORDER != 0
                        p += 1
    return at, shared


def borders(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[int, Points, Points]:
    """Return the overlap in voxels and the border voxels of both crops, and mark them in the crops with bit 2.

    The crops are as :func:`medaudit.metrics.crop.crop_pair` makes them.
    """
    words_a, words_b = a.view(np.uint64), b.view(np.uint64)
    both, n_a, n_b = _mark(a, b, words_a, words_b)
    return both, Points(*_collect(a, b, words_a, n_a)), Points(*_collect(b, a, words_b, n_b))
