"""Trained weights from a local file: read without running code, and fitted to a net key by key.

Nets are built without memory for their weights (torch's meta device) and get the file's. A net that was not filled
cannot run at all: nothing here can pass random weights off as trained ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from medaudit.errors import DataError

MOST_ENTRIES, LONGEST_NAME = 1_000_000, 2_000
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a file by name, and the file's SHA-256."""

    path: Path
    tensors: dict[str, Tensor]
    sha256: str


def read_weights(path: str | Path) -> Weights:
    """Return what a state-dict file holds, on the CPU; only tensors are read, no code is run.

    Raises DataError for a file that is not there, cannot be read or holds anything but named tensors.
    """
    path = Path(path)
    found, digest = read_file(path)
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{path} holds no state dict; expected tensors by name, as model.state_dict() gives them")
    return Weights(path, dict(found), digest)


def read_nested(path: str | Path) -> Weights:
    """Return the tensors of a training's checkpoint, however deep they lie: ``{"teacher": {"a.b": x}}`` has
    ``teacher.a.b``. What is no tensor is left out.

    Raises DataError as :func:`read_weights`.
    """
    path = Path(path)
    found, digest = read_file(path)
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", found)]
    entries = 0
    while waiting:
        prefix, part = waiting.pop()
        entries += len(part)
        # A dict may hold another one twice, that another one twice: forty of them are 2^40 names. Or it holds itself.
        if entries > MOST_ENTRIES or len(prefix) > LONGEST_NAME:
            raise DataError(
                f"{path} holds more than {MOST_ENTRIES:,} entries, or dicts in themselves; it is no checkpoint"
            )
        for name, value in part.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value))
    return Weights(path, tensors, digest)


def read_file(path: Path) -> tuple[Mapping[Any, Any], str]:
    """Return the dict in ``path``, of tensors and plain values, and the file's SHA-256; no code is run.

    Raises DataError for a file that is not there, cannot be read or holds anything else.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is not there; expected a file of weights (a PyTorch state dict)") from None
    except Exception:  # a damaged pickle may make torch raise anything
        raise DataError(f"{path} cannot be read as weights; expected a PyTorch state dict of tensors alone") from None
    if not isinstance(found, Mapping):
        raise DataError(f"{path} holds no state dict; expected tensors by name, as model.state_dict() gives them")
    return found, digest


def filled(build: Callable[[], Net], weights: Weights, name: str) -> Net:
    """Return the net that ``build`` makes, with exactly these weights, frozen and in evaluation mode.

    Raises DataError, naming the first key that differs, if the weights are not those of ``name``.
    """
    with torch.device("meta"):
        net = build()
    ours, theirs = net.state_dict(), weights.tensors
    wrong = f"{weights.path} holds no weights of {name}: "
    for key in [*ours, *theirs]:
        if key not in theirs:
            raise DataError(f"{wrong}it has no '{key}'")
        if key not in ours:
            raise DataError(f"{wrong}its '{key}' is no part of that net")
        if ours[key].shape != theirs[key].shape:
            raise DataError(f"{wrong}its '{key}' is {tuple(theirs[key].shape)}, the net's {tuple(ours[key].shape)}")
    net.load_state_dict(theirs, assign=True)
    return net.eval().requires_grad_(False)
