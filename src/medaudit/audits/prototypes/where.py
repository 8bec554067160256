"""Where a prototype lies, against where its attribute is known to be: the pointing game, with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.cohort import Cohort, read_mask
from medaudit.explanation.prototypes.painter import Painter
from medaudit.explanation.prototypes.pictures import box_of
from medaudit.training.prepared import middle, resized


@dataclass(frozen=True, eq=False)
class Pointed:
    """Of images that show an attribute, each image's nearest cell of its carrier."""

    hit: np.ndarray
    """(n,) bool: the box of the cell meets the mask."""
    chance: np.ndarray
    """(n,): the share of all cells whose box meets it."""


def pointed(painter: Painter, images: np.ndarray, masks: np.ndarray, prototype: int) -> Pointed:
    """Return whether the nearest cell of a prototype sees the mask (n, H, W) of what it should stand for."""
    field = painter.trained.model.encoder.field
    _, cells = painter.cells(images)
    side = painter.trained.recipe.side
    hit, chance = [], []
    count = _cells_of(painter, images)
    for i, mask in enumerate(masks):
        top, left, bottom, right = box_of(painter, cells[i, prototype], (side, side))
        hit.append(bool(mask[top:bottom, left:right].any()))
        boxes = [field.box(r, c, side, side) for r in range(count[0]) for c in range(count[1])]
        chance.append(float(np.mean([mask[t:b, x:y].any() for t, x, b, y in boxes])))
    return Pointed(np.array(hit, dtype=bool), np.array(chance))


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


def _cells_of(painter: Painter, images: np.ndarray) -> tuple[int, int]:
    import torch

    with torch.no_grad():
        some = painter.trained.model.encoder.features(torch.from_numpy(np.asarray(images[:1], dtype=np.float32)))
    return int(some.shape[-2]), int(some.shape[-1])
