"""Weighted nearest neighbours on frozen features, as DINO and DINOv2 have them (arXiv 2104.14294)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medaudit.errors import DataError, UsageError

_CELLS = 8_000_000
"""Similarities held at once: 32 MB."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The shares of the votes, ``probabilities`` (len(k), N, C), by number of neighbours ``k``; notes for a reader."""

    k: tuple[int, ...]
    probabilities: np.ndarray
    notes: tuple[str, ...] = ()


def knn(
    train: np.ndarray, codes: np.ndarray, test: np.ndarray, k: Sequence[int] = (10, 20, 100, 200), *,
    temperature: float = 0.07, classes: int | None = None, train_patients: Sequence[Any] | None = None,
    test_patients: Sequence[Any] | None = None,
) -> Neighbours:  # fmt: skip
    """Return the votes of the ``k`` training cases (n, d) of class ``codes`` (n,) nearest to each of ``test`` (N, d).

    Nearest by cosine; a neighbour votes with exp(cosine / temperature). With patients given, no case votes on a case
    of its own patient. A ``k`` above n is lowered to n, and said. Memory is bounded: test cases go in blocks.

    Raises DataError for features that are not finite or zero, for codes that are no class, and for a test case whose
    neighbours are all of its own patient.
    """
    if not k or min(k) < 1 or not temperature > 0:
        raise UsageError(f"k is {tuple(k)}, temperature {temperature}; expected 1 or more, and above 0")
    if (train_patients is None) != (test_patients is None):
        raise UsageError("patients of one side only; give those of training and of test cases, or neither")
    keys, queries = _unit(train, "training"), _unit(test, "test")
    labels = torch.as_tensor(np.asarray(codes, dtype=np.int64))
    count = classes or int(labels.max()) + 1
    if len(labels) != len(keys) or int(labels.min()) < 0 or int(labels.max()) >= count:
        raise DataError(f"{len(labels)} codes up to {int(labels.max())}; expected {len(keys)} from 0 to {count - 1}")
    owner, asker = _patient_codes(train_patients, test_patients)
    used = tuple(min(one, len(keys)) for one in k)
    votes = torch.zeros(len(used), len(queries), count)
    block = max(1, _CELLS // len(keys))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        alike = queries[rows] @ keys.T
        if owner is not None and asker is not None:
            alike.masked_fill_(asker[rows, None] == owner, -torch.inf)
        near, which = alike.topk(max(used), dim=1)
        lonely = torch.nonzero(near[:, 0] == -torch.inf)
        if len(lonely):
            raise DataError(f"test case {start + int(lonely[0])} has no neighbour of another patient")
        # Relative to the nearest: a low temperature would overflow single precision, and only ratios count.
        weights = torch.exp((near - near[:, :1]) / temperature)
        voted = labels[which]
        for at, one in enumerate(used):
            votes[at, rows].scatter_add_(1, voted[:, :one], weights[:, :one])
    votes /= votes.sum(dim=2, keepdim=True)
    lowered = sorted({one for one in k if one > len(keys)})
    notes = [f"k of {one} is lowered to {len(keys)}, all training cases" for one in lowered]
    return Neighbours(used, votes.numpy(), tuple(notes))


def _unit(features: np.ndarray, what: str) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    if x.ndim != 2 or not x.numel():
        raise DataError(f"{what} features have shape {tuple(x.shape)}; expected (cases, dimensions)")
    size = x.norm(dim=1)
    bad = torch.nonzero(~(torch.isfinite(size) & (size > 0)))
    if len(bad):
        raise DataError(f"the features of {what} case {int(bad[0])} (and {len(bad) - 1} more) are 0 or not finite")
    return normalize(x, dim=1)


def _patient_codes(train: Sequence[Any] | None, test: Sequence[Any] | None) -> tuple[Tensor | None, Tensor | None]:
    if train is None or test is None:
        return None, None
    both = np.unique([str(one) for one in [*train, *test]], return_inverse=True)[1]
    return torch.from_numpy(both[: len(train)]), torch.from_numpy(both[len(train) :])
