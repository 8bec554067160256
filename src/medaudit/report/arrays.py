"""Arrays of a run that is under way: one npz file a piece of work, whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medaudit.cohort.npy import arrays_of, names_in
from medaudit.errors import DataError


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to ``path`` in one step, making its folder; DataError where it cannot be written."""
    part = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **dict(arrays))
        part.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of ``path`` by name; DataError where it is missing or damaged, with what to do."""
    try:
        return arrays_of(path, names_in(path))
    except Exception:  # a damaged archive, header or array: each raises its own
        raise DataError(f"{path} is missing or damaged; delete it and run the same command again") from None
