"""Which patches the student does not see: blocks, on half of the crops, in shares that are spread evenly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_TRIES = 10  # for one block; then the mask stays as it is
_LEAST = 4  # patches of a block


@dataclass(frozen=True)
class MaskLaw:
    """How many crops are masked, and how much of each. DINOv2's numbers."""

    crops: float = 0.5
    """Share of the crops that are masked at all."""
    least: float = 0.1
    most: float = 0.5
    """Shares of a masked crop's patches; each masked crop has a range of its own between them."""
    style: str = "block"
    """``patch``: single patches instead (the released code's ``mask_style``)."""


def masks_of(crops: int, grid: int, law: MaskLaw, rng: np.random.Generator) -> np.ndarray:
    """Return masks (crops, grid * grid), bool: exactly ``int(crops * law.crops)`` rows are masked, in random order.

    The i-th of m masked crops has a share between the i-th and the next of m + 1 numbers from ``least`` to ``most``:
    a batch holds easy and hard ones always. A block has 4 patches or more and sides from 0.3 to 1 / 0.3, and half of
    the patches is the most that is covered at once. Where no block fits in ten tries the mask stays smaller.
    """
    masked = int(crops * law.crops)
    shares = np.linspace(law.least, law.most, masked + 1)
    masks = np.zeros((crops, grid * grid), dtype=bool)
    for i in range(masked):
        wanted = int(grid * grid * rng.uniform(shares[i], shares[i + 1]))
        if law.style == "patch":
            masks[i, rng.permutation(grid * grid)[:wanted]] = True
        else:
            masks[i] = _blocks(grid, wanted, rng).ravel()
    return masks[rng.permutation(crops)]


def _blocks(grid: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((grid, grid), dtype=bool)
    count = 0
    while count < wanted:
        most = min(wanted - count, grid * grid // 2)
        added = _add_block(mask, most, rng)
        if not added:
            break
        count += added
    return mask


def _add_block(mask: np.ndarray, most: int, rng: np.random.Generator) -> int:
    """Cover one more block with at most ``most`` patches that were not covered; return how many they are."""
    grid, stretch = len(mask), math.log(1 / 0.3)
    for _ in range(_TRIES):
        area = rng.uniform(min(_LEAST, most), max(_LEAST, most))
        aspect = math.exp(rng.uniform(-stretch, stretch))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < tall < grid and 0 < wide < grid):
            continue
        top, left = rng.integers(0, grid - tall, endpoint=True), rng.integers(0, grid - wide, endpoint=True)
        block = mask[top : top + tall, left : left + wide]
        new = block.size - int(block.sum())
        if 0 < new <= most:
            block[:] = True
            return new
    return 0
