"""NumPy's npy and npz; never pickles, which may run a stranger's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medaudit.cohort.volume import Volume
from medaudit.errors import DataError


def read_npy(path: Path, *, key: str = "", usual: str = "mask") -> Volume:
    """Return the array of a npy file, or of a npz file: ``key``, or its only array, or the one called ``usual``.

    Spacing and affine are unknown. Raises DataError where the npz has no such array.
    """
    if path.suffix.lower() == ".npy":
        # Mapped first: NumPy then compares the shape with the file's length before it reserves memory.
        return Volume(np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None, None, path)
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays.files)
        wanted = key or (names[0] if len(names) == 1 else usual)
        if wanted not in names:
            raise DataError(
                f"{path}: has no array '{wanted}'; choose with '{path.name}#name' among: {', '.join(names)}"
            )
        return Volume(arrays[wanted], None, None, path)
