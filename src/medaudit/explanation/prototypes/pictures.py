"""What each prototype stands for, in pictures: optimised images, nearest patches, difference maps (paper, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.painter import Inverted, Painter

Box = tuple[int, int, int, int]
"""Top, left, bottom, right, in pixels; the last two are not inside."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """One prototype, as the painting that shows it best and the real patches that are nearest to it."""

    prototype: int
    before: np.ndarray
    """The real image (C, H, W), 0 to 1."""
    after: np.ndarray
    """The same noise painted with the prototype turned up."""
    box: Box
    """Where the turned-up prototype lies in ``after``: the exact receptive field of its nearest cell."""
    asked: float
    """The activation that was asked for."""
    reached: float
    """What the painted image is encoded to: how far the prototype can be controlled."""
    was: float
    nearest: list[tuple[int, Box]]
    """Rows of the real images that come nearest, best first, and where."""


def portraits(
    painter: Painter, images: np.ndarray, inverted: Inverted, activations: np.ndarray, ranges: Ranges,
    prototypes: Sequence[int], nearest: Sequence[Sequence[tuple[int, Box]]] = (),
) -> list[Portrait]:  # fmt: skip
    """Return a portrait of each of ``prototypes`` from n real images (n, C, H, W), their noise and activations.

    Each is set to its own 95th percentile (``ranges.high``), which the data show; the paper sets all to the largest
    activation of any (its 3.3), which lies far outside for most. Of the n paintings the one whose activation rose most
    is shown; the paper shows the one that has most of it, which often had it before.
    """
    found = []
    for number, j in enumerate(prototypes):
        moved = ranges.moved(activations, j, float(ranges.high[j]))
        painted = painter.paint(inverted.noise, moved)
        reached, cells = painter.cells(painted)
        best = int(np.argmax(reached[:, j] - activations[:, j]))
        found.append(
            Portrait(
                int(j), np.asarray(images[best], dtype=np.float32), painted[best],
                box_of(painter, cells[best, j], images.shape[2:]), float(ranges.high[j]), float(reached[best, j]),
                float(activations[best, j]), list(nearest[number]) if nearest else [],
            )
        )  # fmt: skip
    return found


def box_of(painter: Painter, cell: np.ndarray, size: tuple[int, int]) -> Box:
    """Return the part of an image of ``size`` that a cell (row, column) of the features sees."""
    top, left, bottom, right = painter.trained.model.encoder.field.box(int(cell[0]), int(cell[1]), *size)
    return top, left, bottom, right


def nearest_patches(
    painter: Painter, images: np.ndarray, prototypes: Sequence[int], most: int = 5
) -> list[list[tuple[int, Box]]]:
    """Return for each prototype the ``most`` images (n, C, H, W) whose nearest patch is nearest, and where it lies."""
    activations, cells = painter.cells(images)
    found = []
    for j in prototypes:
        best = np.argsort(-activations[:, j], kind="stable")[:most]
        found.append([(int(i), box_of(painter, cells[i, j], images.shape[2:])) for i in best])
    return found


def activation_map(painter: Painter, image: np.ndarray, prototype: int) -> np.ndarray:
    """Return where a prototype is found in an image (C, H, W), as (H, W): each pixel has the largest activation of the
    cells whose receptive field it lies in. NaN outside of all fields.
    """
    import torch

    from medaudit.networks.prototypes.encoder import activation_of

    shape = painter.trained.recipe.encoder
    with torch.no_grad():
        distances = painter.trained.model.encoder.distances(torch.from_numpy(image[None] * 2 - 1).float())[0, prototype]
        values = activation_of(distances, shape.similarity, shape.epsilon).numpy()
    rows, columns = image.shape[1:]
    drawn = np.full((rows, columns), np.nan, dtype=np.float32)
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            top, left, bottom, right = box_of(painter, np.array([r, c]), (rows, columns))
            part = drawn[top:bottom, left:right]
            np.fmax(part, values[r, c], out=part)
    return drawn


def interpolated(painter: Painter, images: np.ndarray, steps: int = 8) -> np.ndarray:
    """Return ``steps`` images (steps, C, H, W) between two (2, C, H, W): activations along a line, noise on the
    sphere.
    """
    import torch

    from medaudit.networks.diffusion.inversion import slerp

    activations = painter.activations(images)
    noise = painter.invert(images, activations).noise
    shares = np.linspace(0, 1, steps, dtype=np.float32)
    codes = (1 - shares[:, None]) * activations[0] + shares[:, None] * activations[1]
    ends = torch.from_numpy(noise)
    path = np.stack([slerp(ends[0], ends[1], float(share)).numpy() for share in shares])
    return painter.paint(path, codes)


def extrapolated(
    painter: Painter, image: np.ndarray, prototype: int, values: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image (C, H, W) painted with one prototype at each of ``values``, and what that is encoded to."""
    activations = painter.activations(image[None])
    noise = painter.invert(image[None], activations).noise
    codes = np.repeat(activations, len(values), axis=0)
    codes[:, prototype] = np.asarray(values, dtype=np.float32)
    made = painter.paint(np.repeat(noise, len(values), axis=0), codes)
    return made, painter.activations(made)[:, prototype]


def leaks(
    painter: Painter, inverted: Inverted, activations: np.ndarray, ranges: Ranges, prototypes: Sequence[int]
) -> np.ndarray:
    """Return (prototypes, n, m): what raising each prototype does to all activations of the painted image, in SDs.

    Needs no labels: a prototype that brings another along is entangled with it in the generator.
    """
    spread = np.sqrt(np.diag(ranges.covariance)).clip(min=1e-6)
    own = painter.activations(painter.paint(inverted.noise, activations))
    found = []
    for j in prototypes:
        painted = painter.paint(inverted.noise, ranges.moved(activations, j, float(ranges.high[j])))
        found.append((painter.activations(painted) - own) / spread)
    return np.stack(found)
