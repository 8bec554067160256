"""NumPy's npy and npz; never pickles, which may run a stranger's code."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaudit.cohort.bounds import check_promise
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError


def read_npy(path: Path, *, key: str = "", usual: str = "mask") -> Volume:
    """Return the array of a npy file, or of a npz file: ``key``, or its only array, or the one called ``usual``.

    Spacing and affine are unknown. Raises DataError where the npz has no such array, or promises too much.
    """
    if path.suffix.lower() == ".npy":
        # Mapped first: NumPy then compares the shape with the file's length before it reserves memory.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        check_promise(path, mapped.nbytes)
        return Volume(np.array(mapped), None, None, path)
    names = names_in(path)
    wanted = key or (names[0] if len(names) == 1 else usual)
    if wanted not in names:
        raise DataError(
            f"{path}: has no array '{wanted}'; choose with '{path.name}#name' among: {', '.join(names)[:300]}"
        )
    return Volume(arrays_of(path, [wanted])[wanted], None, None, path)


def names_in(path: Path) -> list[str]:
    """Return the names of a npz file's arrays; zipfile.BadZipFile where it is none."""
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def arrays_of(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return arrays of a npz file by name, no pickles.

    Each array's header is read before its memory is reserved. Raises DataError where they promise more than
    :func:`medaudit.cohort.bounds.largest`, or more than their members hold; whatever zipfile and NumPy raise for what
    is no npz file.
    """
    promised = 0
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        for name in names:
            with archive.open(members[name]) as member:
                version = np.lib.format.read_magic(member)
                head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = head(member)
            size, held = math.prod(shape) * dtype.itemsize, archive.getinfo(members[name]).file_size
            if size > held:
                raise DataError(f"{path}: '{name[:60]}' promises {size:,} bytes, and there are {held:,}; it is broken")
            promised += held
    check_promise(path, promised)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}
