"""Which case comes when: one endless sequence that follows from the seed alone, dealt to the processes in slices.

The sequence is one permutation of the cases after another. The i-th batch is its i-th piece of ``batch_size`` places,
and each process takes its own slice of every piece. So batches are always full, cases come equally often, the
number of processes changes nothing, and the position after any number of steps is that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medaudit.errors import DataError

_ORDER, _AUGMENT = 0, 1  # so that the two uses of a seed never draw the same numbers


@dataclass(frozen=True)
class TrainingData:
    """The cases of a training: their ids, and how one is read.

    ``load(index, rng)`` returns a case as tensors of equal shapes, without the batch axis, for instance
    ``{"image": (C, H, W), "label": (1, H, W)}``. All its randomness comes from ``rng``, which follows from the seed
    and the place in the sequence: augmentation does not depend on workers, processes or interruptions.
    """

    case_ids: Sequence[str]
    load: Callable[[int, np.random.Generator], Mapping[str, Any]]


def places(cases: int, batch_size: int, seed: int, steps: range, rank: int, ranks: int) -> Iterator[list[tuple]]:
    """Yield for each of ``steps`` this rank's share of the batch, as (index of the case, place in the sequence)."""
    share = batch_size // ranks
    order, turn = np.empty(0, dtype=np.int64), -1
    for step in steps:
        batch = []
        for place in range(step * batch_size + rank * share, step * batch_size + (rank + 1) * share):
            if place // cases != turn:
                turn = place // cases
                order = np.random.default_rng((seed, _ORDER, turn)).permutation(cases)
            batch.append((int(order[place % cases]), place))
        yield batch


def batches(
    data: TrainingData,
    batch_size: int,
    seed: int,
    steps: range,
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Return the batches of ``steps``: what ``data.load`` gives, stacked, with ``case_id``, a list of names.

    Raises DataError if there are no cases.
    """
    if not len(data.case_ids):
        raise DataError("no cases to train on; expected at least one")
    return DataLoader(
        _Cases(data, seed),
        batch_sampler=_Places(len(data.case_ids), batch_size, seed, steps, rank, ranks),
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),  # else the loader draws from the model's random numbers
    )


@dataclass(frozen=True)
class _Places:
    """``places`` for DataLoader, which wants something that it can iterate and measure."""

    cases: int
    batch_size: int
    seed: int
    steps: range
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[tuple]]:
        return places(self.cases, self.batch_size, self.seed, self.steps, self.rank, self.ranks)

    def __len__(self) -> int:
        return len(self.steps)


class _Cases(Dataset):
    def __init__(self, data: TrainingData, seed: int) -> None:
        self.data, self.seed = data, seed

    def __getitem__(self, where: tuple[int, int]) -> dict[str, Any]:
        index, place = where
        case = self.data.load(index, np.random.default_rng((self.seed, _AUGMENT, place)))
        return {**case, "case_id": str(self.data.case_ids[index])}
