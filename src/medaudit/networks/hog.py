"""Histograms of oriented gradients (Dalal & Triggs, CVPR 2005): what edges alone say of an image.

Their default: 9 unsigned orientations, cells of 8 x 8 pixels, blocks of 2 x 2 cells that overlap by half, a Gaussian
window over each block, votes shared between neighbouring orientations and cells, L2-Hys.
"""

from __future__ import annotations

import numpy as np

from medaudit.errors import UsageError

BINS, CELL = 9, 8
SIGMA = 8.0
"""Of the window, pixels: half a block's side."""
CLIP = 0.2
EPSILON = 1e-3
"""Of a block's norm; gradients are of images from 0 to 1, so that noise in flat blocks stays small."""


def hog(images: np.ndarray) -> np.ndarray:
    """Return (N, B * B * 36) float32 of grey images (N, S, S), 0 to 1: B = S / 8 - 1 blocks a side, block by block, in
    each cell by cell (row by row), in each 9 orientations from 0 to 180 degrees.

    A cell's vote goes by the distance to its centre, within the block only. Beyond its border an image goes on as it
    ends. Raises UsageError where S is no multiple of 8, or below 16.
    """
    n, rows, columns = images.shape
    if rows != columns or rows % CELL or rows < 2 * CELL:
        raise UsageError(f"images are {rows} x {columns}; expected squares of a multiple of {CELL}, from {2 * CELL}")
    blocks = rows // CELL - 1
    x = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    down, right = x[:, 2:, 1:-1] - x[:, :-2, 1:-1], x[:, 1:-1, 2:] - x[:, 1:-1, :-2]
    size = np.hypot(down, right)
    place = (np.arctan2(down, right) % np.pi) * (BINS / np.pi) - 0.5  # in bins, from the first one's centre
    below = np.floor(place)
    share = place - below
    votes = np.zeros((n, BINS, rows, columns), np.float32)
    for k in range(BINS):
        votes[:, k] = size * ((below % BINS == k) * (1 - share) + ((below + 1) % BINS == k) * share)
    weights = _weights(blocks)  # (2 B, S): a block's votes are a product of one weight down and one along
    cells = weights @ votes @ weights.T
    made = cells.reshape(n, BINS, blocks, 2, blocks, 2).transpose(0, 2, 4, 3, 5, 1).reshape(n, blocks, blocks, -1)
    made = np.minimum(_unit(made), CLIP)
    return _unit(made).reshape(n, -1).astype(np.float32)


def _weights(blocks: int) -> np.ndarray:
    """Return (2 * blocks, S): how much each row of pixels counts for each block's first and second cell."""
    within = np.arange(2 * CELL) + 0.5
    window = np.exp(-((within - CELL) ** 2) / (2 * SIGMA**2))
    centres = np.array([CELL / 2, 3 * CELL / 2])
    near = np.maximum(0, 1 - np.abs(within - centres[:, None]) / CELL) * window
    made = np.zeros((2 * blocks, (blocks + 1) * CELL), np.float32)
    for block in range(blocks):
        made[2 * block : 2 * block + 2, block * CELL : (block + 2) * CELL] = near
    return made


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True) + EPSILON**2)
