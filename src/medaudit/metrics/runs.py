"""A mask as runs: the stretches of foreground along its rows, a fraction of the work that its voxels would be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

INSIDE_WORD = np.uint64(0x0101010101010101)
"""Eight voxels of foreground read as one number; the other bits of a voxel may hold marks."""
_EMPTY_WORD = np.uint64(0)


@dataclass(frozen=True)
class Runs:
    """The runs of a crop of ``shape``, row by row.

    Row ``i * shape[1] + j`` owns the runs ``first[row]`` to ``first[row + 1]``; a run covers ``start <= k <
    stop``.
    """

    shape: tuple[int, int, int]
    first: NDArray[np.int32]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]


@njit(cache=True, nogil=True)
def _find(m, words):  # type: ignore[no-untyped-def]
    n0, n1, n_words = words.shape
    first = np.zeros(n0 * n1 + 1, dtype=np.int32)
    start = np.empty(256, dtype=np.int32)
    stop = np.empty(256, dtype=np.int32)
    n = 0
    for i in range(n0):
        for j in range(n1):
            inside = False
            for w in range(n_words):
                # Nothing begins or ends in eight voxels that are all like the one before them.
                if words[i, j, w] & INSIDE_WORD == (INSIDE_WORD if inside else _EMPTY_WORD):
                    continue
                for k in range(8 * w, 8 * w + 8):
                    if (m[i, j, k] != 0) != inside:
                        if inside:
                            stop[n] = k
                            n += 1
                        else:
                            if n == start.size:
                                start = np.concatenate((start, np.empty_like(start)))
                                stop = np.concatenate((stop, np.empty_like(stop)))
                            start[n] = k
                        inside = not inside
            first[i * n1 + j + 1] = n
    return first, start[:n].copy(), stop[:n].copy()


def find_runs(mask: NDArray[np.uint8]) -> Runs:
    """Return the runs of a crop (:func:`medaudit.metrics.crop.crop_pair`); its margin ends every run within its row."""
    return Runs(mask.shape, *_find(mask, mask.view(np.uint64)))
