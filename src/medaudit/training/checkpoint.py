"""Checkpoints: files that are whole or not there, that hold tensors and plain values only, and never the last one."""

from __future__ import annotations

import errno
import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medaudit.cohort.atomic import replace_file
from medaudit.errors import DataError, UsageError

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{8})\.pt")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``state`` in one step: written beside it, flushed to the disk, then renamed over it.

    Raises DataError where it cannot be written; what was there before is kept.
    """
    # In memory first: torch's own writer hides a full disk behind an error without a number.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    replace(path, buffer.getbuffer())


def replace(path: Path, content: bytes | memoryview) -> None:
    """Replace the file ``path`` by ``content`` in one step; raises DataError where it cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise cannot_write(path, error) from None


def save(folder: Path, epoch: int, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint after ``epoch`` epochs and remove all but the newest two; return its path.

    Two, so that there is one to fall back on if the disk damages the newest. Raises DataError as ``write``.
    """
    path = folder / f"checkpoint-{epoch:08d}.pt"
    write(path, state)
    for old in found(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def found(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, ``None`` if there is none yet.

    A damaged one is warned of, and the one before it taken. Raises DataError if all are damaged.
    """
    paths = found(folder)
    for path in paths:
        try:
            return read(path)
        except DataError as error:
            warnings.warn(f"{error}; trying the one before it", stacklevel=2)
    if paths:
        raise DataError(f"none of the {len(paths)} checkpoints in {folder} can be read; remove them to start anew")
    return None


def read(path: Path) -> dict[str, Any]:
    """Return what ``path`` holds, on the CPU; only tensors and plain values are read, no code is run.

    Raises DataError if it is damaged or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is not there; expected a file of weights") from None
    except pickle.UnpicklingError as error:
        unsafe = "GLOBAL" in str(error)  # torch names what it refuses to import
        why = "holds more than tensors and plain values" if unsafe else "is damaged or truncated"
        raise DataError(f"{path} {why}") from None
    except Exception:  # a damaged pickle may make torch raise anything
        raise DataError(f"{path} is damaged or truncated") from None
    if not isinstance(state, dict):
        raise DataError(f"{path} holds a {type(state).__name__}; expected a checkpoint")
    return state


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights in ``path`` (``weights.pt`` or ``best.pt`` of a training's folder) into a plain module.

    Raises DataError if they cannot be read or belong to another architecture.
    """
    state = read(Path(path))
    weights = state.get("model", state)
    check_architecture(model.state_dict(), weights, Path(path))
    model.load_state_dict(weights)


def check_architecture(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: Path) -> None:
    """Raise DataError with the first thing that differs if the weights ``theirs`` do not fit a model's, ``ours``."""
    missing, unknown = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    differ = ""
    if missing:
        differ = f"it has no '{missing[0]}'" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    elif unknown:
        differ = f"its '{unknown[0]}' is not in the model" + (f", nor {len(unknown) - 1} more" if unknown[1:] else "")
    else:
        for name, value in ours.items():
            here, there = getattr(value, "shape", None), getattr(theirs[name], "shape", None)
            if here != there:
                differ = f"its '{name}' is {_times(there)}, the model's {_times(here)}"
                break
    if differ:
        raise DataError(f"{where} is of another architecture: {differ}; build the model that it was saved from")


def check_same_training(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError with what differs if a folder holds the training of other settings or cases."""
    for name, value in ours.items():
        if theirs.get(name) != value:
            what = "other cases" if name == "cases" else f"{name} was {theirs.get(name)}, now {value}"
            raise UsageError(f"{folder} holds another training: {what}; choose another folder")


def cannot_write(path: Path, error: OSError) -> DataError:
    """Return the DataError that says why ``path`` was not written, and what is kept."""
    why = "the disk is full" if error.errno in _FULL else (error.strerror or str(error)).lower()
    kept = next(iter(found(path.parent)), None)
    last = f"the last good checkpoint, {kept.name}, is kept" if kept else "there is no checkpoint yet"
    return DataError(f"cannot write {path}: {why}; {last}: mend that and train again, it goes on from there")


def _times(shape: Any) -> str:
    return " x ".join(str(size) for size in shape) or "a scalar" if shape is not None else "no tensor"
