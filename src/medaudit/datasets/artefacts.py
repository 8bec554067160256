"""Foreign content on pictures, with its mask: ink, rulers, adhesive patches, gel bubbles, dark corners, and a control.

Drawn with soft edges, at random places and angles, in the picture's own size, on colour and on grey pictures. The
``control`` is an edit of like size that brings in nothing foreign: skin from elsewhere in the picture, blurred in. What
a score says of ink says little unless it says less of the control (spec, toy trap 17).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from medaudit.errors import DataError, UsageError

_VIOLET = np.asarray([58, 30, 140]) / 255  # gentian violet
_PATCHES = np.asarray([[235, 200, 60], [90, 165, 90], [60, 120, 190], [225, 130, 50]]) / 255


def with_artefact(image: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return ``image`` (H, W, 3) or (H, W) uint8 with an artefact, and the mask (H, W) bool of where it lies.

    The mask of a bubble is all of it, though its middle is clear, and that of a ruler its whole band.

    Raises UsageError for a kind that is not in :data:`ARTEFACTS`, DataError for another kind of array or one below 16
    pixels.
    """
    if kind not in ARTEFACTS:
        raise UsageError(f"no artefact is called '{kind}'; there are: {', '.join(ARTEFACTS)}")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise DataError(f"the image is {array.dtype} {array.shape}; expected uint8 (H, W, 3) or (H, W)")
    if min(array.shape[:2]) < 16:
        raise DataError(f"the image is {array.shape[0]} x {array.shape[1]}; expected 16 pixels or more on a side")
    colours = np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array
    made, mask = ARTEFACTS[kind](colours.astype(np.float64) / 255, rng)
    shown = np.rint(255 * np.clip(made, 0, 1)).astype(np.uint8)
    if array.ndim == 2:
        shown = np.rint(shown.astype(np.float64).mean(axis=-1)).astype(np.uint8)
    return shown, mask


def _ink(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Strokes of a surgical marker: they take light away, in the colour of gentian violet."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    alpha = np.zeros((rows, columns))
    for _ in range(int(rng.integers(1, 4))):
        points = _near_border(rows, columns, rng)
        points = points + np.cumsum(rng.normal(0, 0.14 * side, (5, 2)), axis=0)
        t = np.linspace(0, 1, 6 * side)
        path = np.stack([np.interp(t, np.linspace(0, 1, 5), points[:, i]) for i in (0, 1)])
        path = gaussian_filter(path, (0, side / 4), mode="nearest")
        stroke = _traced(path, (rows, columns), rng.uniform(0.012, 0.028) * side)
        alpha = np.maximum(alpha, rng.uniform(0.6, 0.9) * stroke)
    tint = _VIOLET * rng.uniform(0.8, 1.2)
    # Ink over skin multiplies what the skin sends back; a little is its own.
    covered = image * tint / tint.max() * 0.75 + 0.12 * tint
    return image * (1 - alpha[..., None]) + covered * alpha[..., None], alpha > 0.15


def _ruler(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A scale along one side: ticks a millimetre, every 5th and 10th longer, on white or clear plastic."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    turn = int(rng.integers(0, 4))
    along, across = _turned(rows, columns, turn * np.pi / 2 + rng.normal(0, 0.12))
    border = (rows if turn % 2 == 0 else columns) / side / 2
    depth = across - (border - rng.uniform(0.1, 0.225))
    band = _step(depth * side / 1.0) * 1.0
    spacing = max(rng.uniform(0.035, 0.06), 2.6 / side)
    position = along / spacing
    nearest = np.rint(position)
    length = np.where(nearest % 10 == 0, 0.16, np.where(nearest % 5 == 0, 0.12, 0.075))
    thick = max(0.16, 0.55 / (spacing * side))
    tick = (np.abs(position - nearest) < thick) & (depth > 0) & (depth < length)
    # Numerals at the tens: short strokes, which is what they are at this size.
    digits = (nearest % 10 == 0) & (np.abs(position - nearest) < 1.2) & (depth > 0.19) & (depth < 0.27)
    digits &= (np.floor(position * 3) + np.floor(depth * 40)) % 2 == 0
    dark = np.clip(gaussian_filter((tick | digits).astype(float), 0.35), 0, 1)[..., None]
    white = rng.random() < 0.6
    strength = rng.uniform(0.75, 0.92) if white else rng.uniform(0.12, 0.25)
    plastic = image * (1 - strength * band[..., None]) + np.asarray([0.93, 0.93, 0.9]) * strength * band[..., None]
    made = plastic * (1 - 0.85 * dark)
    return made, (band > 0.5) if white else (dark[..., 0] > 0.2) | (band > 0.5)


def _patch(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A coloured adhesive disc that reaches in from the border, with its own texture and a shadow."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    y, x = np.mgrid[:rows, :columns] / side
    middle = _near_border(rows, columns, rng, inset=0.06) / side
    axes, turn = rng.uniform(0.16, 0.3, 2), rng.uniform(0, np.pi)
    u = (x - middle[1]) * np.cos(turn) + (y - middle[0]) * np.sin(turn)
    v = (y - middle[0]) * np.cos(turn) - (x - middle[1]) * np.sin(turn)
    distance = np.hypot(u / axes[0], v / axes[1]) - 1
    inside = _step(-distance * side * axes.min() / 1.2)
    colour = _PATCHES[int(rng.integers(len(_PATCHES)))] * rng.uniform(0.8, 1.1)
    weave = 1 + 0.05 * gaussian_filter(rng.standard_normal((rows, columns)), 0.7) + 0.08 * (u + v)
    shadow = 1 - 0.25 * gaussian_filter(inside, 0.02 * side) * (1 - inside)
    made = image * shadow[..., None]
    strength = 0.95 * inside[..., None]
    return made * (1 - strength) + colour * weave[..., None] * strength, inside > 0.5


def _gel_bubbles(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Air in the immersion gel: rings, bright on the side of the light."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    y, x = np.mgrid[:rows, :columns] / side
    made, mask = image.copy(), np.zeros((rows, columns), dtype=bool)
    for _ in range(int(rng.integers(4, 12))):
        cy, cx = rng.uniform(0, rows / side), rng.uniform(0, columns / side)
        radius, width = rng.uniform(0.025, 0.08), max(0.008, 0.7 / side)
        distance = np.hypot(y - cy, x - cx)
        ring = np.exp(-(((distance - radius) / width) ** 2))
        side_lit = 0.5 + 0.5 * ((x - cx) - (y - cy)) / np.maximum(distance, 1e-6)
        made = made + (0.5 * side_lit - 0.15)[..., None] * ring[..., None]
        mask |= distance < radius + width
    return made, mask


def _dark_corner(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The round field of a dermatoscope: black outside of it."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    y, x = (np.mgrid[:rows, :columns] - np.asarray([rows, columns]).reshape(2, 1, 1) / 2) / side
    radius = rng.uniform(0.5, 0.6)
    outside = _step((np.hypot(y - rng.normal(0, 0.02), x - rng.normal(0, 0.02)) - radius) * side / 1.5)
    return image * (1 - 0.97 * outside[..., None]), outside > 0.5


def _control(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Another place of the same picture, blurred into this one through a soft ellipse."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    y, x = np.mgrid[:rows, :columns] / side
    middle = rng.uniform(0.25, 0.75, 2) * np.asarray([rows, columns]) / side
    axes = rng.uniform(0.12, 0.22, 2)
    inside = _step((1 - np.hypot((x - middle[1]) / axes[0], (y - middle[0]) / axes[1])) * side * axes.min() / 2)
    shift = rng.uniform(0.2, 0.45, 2) * rng.choice([-1, 1], 2) * side
    where = np.mgrid[:rows, :columns] + shift.reshape(2, 1, 1)
    moved = np.stack([map_coordinates(image[..., c], where, order=1, mode="reflect") for c in range(3)], axis=-1)
    moved = gaussian_filter(moved, (0.5, 0.5, 0))
    return image * (1 - inside[..., None]) + moved * inside[..., None], inside > 0.5


ARTEFACTS: Mapping[str, Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "ink": _ink,
    "ruler": _ruler,
    "patch": _patch,
    "gel_bubbles": _gel_bubbles,
    "dark_corner": _dark_corner,
    "control": _control,
}
"""By name: a picture (H, W, 3) from 0 to 1 to the edited one and its mask."""


def _near_border(rows: int, columns: int, rng: np.random.Generator, inset: float = 0.18) -> np.ndarray:
    """Return a place (row, column) near a border: who marks skin leaves the lesion free."""
    at = rng.uniform(0.1, 0.9, 2)
    at[int(rng.integers(2))] = inset if rng.random() < 0.5 else 1 - inset
    return at * np.asarray([rows, columns])


def _turned(rows: int, columns: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along and across a direction, from the middle, in the shorter side's length."""
    side = min(rows, columns)
    y, x = (np.mgrid[:rows, :columns] - np.asarray([rows, columns]).reshape(2, 1, 1) / 2) / side
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _step(distance: np.ndarray) -> np.ndarray:
    """Return 0 to 1 over a distance in pixels, soft within one."""
    return 1 / (1 + np.exp(-np.clip(4 * distance, -30, 30)))


def _traced(path: np.ndarray, shape: tuple[int, int], width: float) -> np.ndarray:
    """Return a stroke (H, W) of a path (2, n), from 0 to 1, feathered, ``width`` its half width in pixels."""
    rows, columns = np.rint(path).astype(int)
    seen = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    line = np.zeros(shape)
    line[rows[seen], columns[seen]] = 1
    if not line.any():
        line[np.clip(rows[0], 0, shape[0] - 1), np.clip(columns[0], 0, shape[1] - 1)] = 1
    soft = gaussian_filter(line, max(width, 0.7))
    return np.clip(soft / soft.max() * 1.6, 0, 1)
