"""Where a prototype lies, against where its attribute is known to be: the pointing game, with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.cohort import Cohort, read_mask
from medaudit.explanation.prototypes.painter import Painter
from medaudit.training.prepared import middle, resized


@dataclass(frozen=True, eq=False)
class Pointed:
    """Of n images that show an attribute, each image's nearest cell of its carrier, against all cells' mean.

    Boxes are large in small images, so that many meet the mask whatever they stand for: chance is beside.
    """

    hit: np.ndarray
    """(n,) bool: the box of the nearest cell meets the mask."""
    hit_by_chance: np.ndarray
    """(n,): the share of all cells whose box meets it."""
    inside: np.ndarray
    """(n,): the share of the mask that lies in the box of the nearest cell."""
    inside_by_chance: np.ndarray
    """(n,): the mean of that over all cells."""
    patients: np.ndarray
    """(n,)."""


def pointed(
    painter: Painter, images: np.ndarray, masks: np.ndarray, prototype: int, patients: np.ndarray
) -> Pointed:  # fmt: skip
    """Return where the nearest cell of a prototype lies in images whose ``masks`` (n, H, W) are not empty."""
    encoder = painter.trained.model.encoder
    rows, columns = masks.shape[1:]
    _, cells = painter.cells(images)
    boxes = np.zeros((*encoder.shape.cells(rows, columns), rows, columns), dtype=np.float32)
    for r, c in np.ndindex(boxes.shape[:2]):
        top, left, bottom, right = encoder.field.box(r, c, rows, columns)
        boxes[r, c, top:bottom, left:right] = 1
    # (n, cells): how much of each mask lies in the box of each cell.
    share = masks.reshape(len(masks), -1).astype(np.float32) @ boxes.reshape(-1, rows * columns).T
    share /= masks.sum((1, 2))[:, None]
    nearest = cells[:, prototype, 0] * boxes.shape[1] + cells[:, prototype, 1]
    inside = share[np.arange(len(masks)), nearest]
    return Pointed(inside > 0, (share > 0).mean(1), inside, share.mean(1), patients)


def masks_of(cohort: Cohort, names: Sequence[str], side: int) -> np.ndarray:
    """Return masks (n, K, side, side) bool of a cohort's roles, cropped and scaled as its images are."""
    found = np.zeros((len(cohort), len(names), side, side), dtype=bool)
    for i, case in enumerate(cohort.cases(*names)):
        for k, name in enumerate(names):
            path = case.files[name]
            if path is not None:
                mask = read_mask(path).array
                found[i, k] = resized(middle(mask.astype(np.float32), (side, side)), (side, side)) > 0.25
    return found
