"""Small pictures in which a sign of disease, a shortcut and a control are switched on and off, each with its mask.

Two kinds: ``lesions`` (dermoscopy) and ``chest`` (X-ray). All geometry is drawn first and knows nothing of what will be
shown. So the same random numbers with and without an attribute are an exact counterfactual pair: the two pictures
differ where the mask says, and nowhere else. Lengths are parts of the picture's side, so a scene is the same at any
size. All shapes, colours and sizes are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import numpy as np

from medaudit.errors import UsageError

SMALLEST = 16
"""Pixels along a side below which a ruler's ticks and a lead are no longer seen."""
VISIBLE = 8 / 255
"""What changes a pixel less than this (of 1, before noise) is left away, so that a mask has no pale rim."""
NOISE = 0.012
"""SD of each pixel's noise, of 1."""

Layer = tuple[np.ndarray, np.ndarray | float]
"""What part of each pixel an attribute covers, (S, S), and the colour (3,), or grey level, that it brings."""
Drawn = tuple[np.ndarray, dict[str, Callable[[], Layer]]]
"""A picture, (S, S, 3) or (S, S) from 0 to 1, and the layers that can be laid over it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture, (S, S, 3) or (S, S) uint8, and for each attribute where it is seen, (S, S) bool."""

    image: np.ndarray
    masks: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class SceneKind:
    """What a kind of scene can show: the sign of disease, shortcuts to it, and a control that is tied to nothing."""

    sign: str
    shortcuts: tuple[str, ...]
    control: str
    colour: bool
    draw: Callable[[int, np.random.Generator], Drawn]


def scene(kind: str, shown: Mapping[str, bool], size: int, rng: np.random.Generator) -> Scene:
    """Return one scene of ``size`` pixels a side with the attributes that ``shown`` says, and a mask for each of them.

    An attribute that is not in ``shown`` is left away and has no mask. What ``rng`` draws does not depend on ``shown``.

    Raises UsageError for a kind, an attribute or a size that cannot be.
    """
    if kind not in SCENES:
        raise UsageError(f"no kind of scene is called '{kind}'; there are: {', '.join(SCENES)}")
    if size < SMALLEST:
        raise UsageError(f"cannot simulate pictures of {size} pixels; expected {SMALLEST} or more")
    picture, layers = SCENES[kind].draw(size, rng)
    if strangers := [name for name in shown if name not in layers]:
        raise UsageError(f"{kind} cannot show '{strangers[0]}'; it can show: {', '.join(layers)}")
    masks = {}
    for attribute in (name for name in layers if name in shown):  # in one order, whatever that of ``shown``
        masks[attribute] = np.zeros((size, size), dtype=bool)
        if shown[attribute]:
            changed = _over(picture, *layers[attribute]())
            change = np.abs(changed - picture)
            masks[attribute] = (change.max(axis=-1) if change.ndim == 3 else change) >= VISIBLE
            picture = np.where(masks[attribute][..., None] if picture.ndim == 3 else masks[attribute], changed, picture)
    noisy = picture + NOISE * rng.standard_normal(picture.shape)  # last: geometry must not depend on the size
    return Scene(np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8), masks)


_LIGHT_SKIN, _DARK_SKIN = np.asarray([0.90, 0.74, 0.64]), np.asarray([0.62, 0.46, 0.37])
_LESION = np.asarray([0.52, 0.42, 0.38])  # of the light that skin sends back
_BLUE = np.asarray([0.15, 0.65, 2.20])  # mean 1: a blob that is as bright as the lesion, and only bluer
_TICKS, _INK = np.asarray([0.10, 0.10, 0.12]), np.asarray([0.40, 0.20, 0.60])
_STICKERS = np.asarray([[0.95, 0.55, 0.15], [0.20, 0.65, 0.35], [0.90, 0.80, 0.20]])


def _lesions(size: int, rng: np.random.Generator) -> Drawn:
    """Draw a brown lesion; layers: disease (a bluish blob in it), ruler and patch (bottom), ink (top)."""
    x, y = _grid(size)
    skin = _LIGHT_SKIN + rng.uniform() * (_DARK_SKIN - _LIGHT_SKIN)
    turn, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.2)
    light = 1 + slope * (np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5)) + 0.04 * _clouds(size, rng)
    centre, axes, angle = rng.uniform(0.44, 0.56, 2), rng.uniform(0.20, 0.28, 2), rng.uniform(0, np.pi)
    brown = 1 - rng.uniform(0.8, 1.0) * (1 - _LESION)
    lesion = _ellipse(size, centre, axes, angle, edge=0.06)
    picture = (skin * light[..., None]) * (1 - lesion[..., None] * (1 - brown))

    away, at = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.07)
    blob = centre + at * np.asarray([np.cos(away), np.sin(away)])
    width = rng.uniform(0.075, 0.09)
    phase, wave = rng.uniform(), rng.uniform()
    corner = np.asarray([0.13 if rng.random() < 0.5 else 0.87, 0.86]) + rng.uniform(-0.02, 0.02, 2)
    sticker, radii = _STICKERS[rng.integers(len(_STICKERS))], rng.uniform(0.10, 0.14, 2)
    return picture, {
        "disease": partial(_blob, size, blob, width, lesion, (skin * brown).mean() * _BLUE),
        "ruler": partial(_ruler, size, phase),
        "patch": lambda: (0.95 * _ellipse(size, corner, radii, 0.0), sticker),
        "ink": partial(_ink, size, wave),
    }


def _blob(size: int, centre: np.ndarray, width: float, lesion: np.ndarray, colour: np.ndarray) -> Layer:
    x, y = _grid(size)
    return 0.9 * lesion * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2)), colour


def _ruler(size: int, phase: float, *, every: float = 1 / 6, thick: float = 0.06, long: float = 0.15) -> Layer:
    """Ticks from the lower border: what part of each pixel they cover, exactly."""
    edges = np.arange(size + 1) / size + phase * every
    covered = np.floor(edges / every) * thick + np.minimum(edges % every, thick)
    return 0.8 * np.outer(_covered(size, 1 - long, 1), np.diff(covered) * size), _TICKS


def _ink(size: int, wave: float) -> Layer:
    """A band along the upper border with a wavy rim."""
    x, y = _grid(size)
    depth = 0.12 + 0.015 * np.sin(2 * np.pi * (1.5 * x + wave))
    return 0.75 * np.clip((depth - y) * size + 0.5, 0, 1), _INK


_LUNG, _HEART, _METAL, _TAG = 0.22, 0.72, 0.93, 0.96  # a tag is burned in: its grey level knows no exposure
_FONT = {
    "P": "111 101 111 100 100", "O": "111 101 101 101 111", "R": "111 101 110 101 101", "T": "111 010 010 010 010",
    "A": "111 101 111 101 101", "B": "110 101 110 101 111", "L": "100 100 100 100 111", "E": "111 100 110 100 111",
}  # fmt: skip


def _chest(size: int, rng: np.random.Generator) -> Drawn:
    """Draw a frontal X-ray; layers: cardiomegaly, pacemaker, marker (PORTABLE, at left), laterality (L, at right).

    The heart is 38 to 46 % of the thorax wide, with cardiomegaly 56 to 66 %: the sign's mask is what it gained.
    """
    x, y = _grid(size)
    shift, width, tall = rng.uniform(-0.015, 0.015, 2), rng.uniform(0.13, 0.16), rng.uniform(0.27, 0.31)
    middle, gap = np.asarray([0.5, 0.48]) + shift, 0.19
    side = [_ellipse(size, _moved(middle, s * gap, 0), (width, tall), 0.0, edge=0.03) for s in (-1, 1)]
    body = _ellipse(size, np.asarray([middle[0], 0.62]), (0.47, 0.62), 0.0, edge=0.03)
    ribs = 1 + 0.15 * np.cos(2 * np.pi * (7 * y - 6 * (x - middle[0]) ** 2 + rng.uniform()))
    spine = 0.10 * np.exp(-(((x - middle[0]) / 0.05) ** 2))
    picture = body * (0.55 + spine + 0.03 * _clouds(size, rng))
    picture = _over(picture, side[0] + side[1], _LUNG * ribs)
    thorax, centre, high = 2 * (gap + width), _moved(middle, 0.02, 0.15), rng.uniform(0.13, 0.15)
    narrow, wide = rng.uniform(0.38, 0.46), rng.uniform(0.56, 0.66)
    small, large = (_ellipse(size, centre, (part * thorax / 2, high), 0.0, edge=0.03) for part in (narrow, wide))
    picture = _over(picture, small, _HEART)

    gain, offset = rng.uniform(0.75, 1.0), rng.uniform(-0.04, 0.12)
    box, tag, letter = (rng.uniform(-0.015, 0.015, 2) for _ in range(3))
    heart, metal = (min(float(gain * level + offset), 0.97) for level in (_HEART, _METAL))
    return np.clip(gain * picture + offset, 0.03, 0.97), {
        # Laid over the narrow heart, it makes what the wide heart alone would make.
        "cardiomegaly": lambda: (np.clip((large - small) / np.maximum(1 - small, 1e-9), 0, 1), heart),
        "pacemaker": lambda: (_pacemaker(size, np.asarray([0.76, 0.20]) + box, centre), metal),
        "marker": lambda: (_text(size, "PORTABLE", _moved(tag, 0.04, 0.04), 0.36, 0.075), _TAG),
        "laterality": lambda: (_text(size, "L", _moved(letter, 0.89, 0.04), 0.06, 0.10), _TAG),
    }


def _pacemaker(size: int, box: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """A generator, and its lead that goes to the middle line and down into the heart."""
    x, y = _grid(size)
    covered = np.outer(_covered(size, box[1] - 0.045, box[1] + 0.045), _covered(size, box[0] - 0.055, box[0] + 0.055))
    path = np.asarray(
        [_moved(box, -0.05, 0.02), [heart[0] + 0.06, 0.30], [heart[0], 0.38], _moved(heart, -0.01, -0.02)]
    )
    away = np.full((size, size), np.inf)
    for start, end in pairwise(path):
        along = end - start
        t = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
        away = np.minimum(away, np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1]))
    half = 0.011
    lead = np.clip((half - away) * size + 0.5, 0, min(1, 2 * half * size))
    return np.maximum(covered, lead)


def _text(size: int, word: str, corner: np.ndarray, width: float, height: float) -> np.ndarray:
    """Letters of 3 x 5 dots in a rectangle: what part of each pixel they cover, exactly; a few pixels show a bar."""
    dots = np.concatenate(
        [np.asarray([[*map(int, row), 0] for row in _FONT[letter].split()]) for letter in word], axis=1
    )[:, :-1]
    down, along = dots.shape
    rows = [_covered(size, corner[1] + k * height / down, corner[1] + (k + 1) * height / down) for k in range(down)]
    columns = [_covered(size, corner[0] + k * width / along, corner[0] + (k + 1) * width / along) for k in range(along)]
    return np.stack(rows, axis=1) @ dots @ np.stack(columns)


SCENES: Mapping[str, SceneKind] = {
    "lesions": SceneKind("disease", ("ruler", "patch"), "ink", colour=True, draw=_lesions),
    "chest": SceneKind("cardiomegaly", ("pacemaker", "marker"), "laterality", colour=False, draw=_chest),
}
"""The kinds of scenes by name."""


def _over(picture: np.ndarray, part: np.ndarray, colour: np.ndarray | float) -> np.ndarray:
    """Return the picture with ``part`` of each pixel replaced by a colour."""
    part = part[..., None] if picture.ndim == 3 else part
    return picture + part * (colour - picture)


@cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pixels' middles, each (S, S) from 0 to 1."""
    middles = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(middles, middles)
    x.flags.writeable = y.flags.writeable = False
    return x, y


@cache
def _hats(size: int, knots: int = 5) -> np.ndarray:
    """Return weights (S, knots) that interpolate smoothly between values at equal distances."""
    away = np.abs((np.arange(size)[:, None] + 0.5) / size * (knots - 1) - np.arange(knots))
    return np.where(away < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(away, 1)), 0.0)


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random field (S, S) of low frequencies, mean 0; the same at any size."""
    hats = _hats(size)
    return hats @ rng.standard_normal((hats.shape[1], hats.shape[1])) @ hats.T


def _ellipse(
    size: int, centre: np.ndarray, axes: np.ndarray | tuple[float, float], angle: float, *, edge: float = 0.0
) -> np.ndarray:
    """Return what part of each pixel an ellipse covers, (S, S); its border is ``edge`` wide, or a pixel."""
    x, y = _grid(size)
    cos, sin = np.cos(angle), np.sin(angle)
    u = ((x - centre[0]) * cos + (y - centre[1]) * sin) / axes[0]
    v = ((y - centre[1]) * cos - (x - centre[0]) * sin) / axes[1]
    # The distance to the border, to first order: what the ellipse's equation misses, over its slope.
    inward = (1 - u**2 - v**2) / np.maximum(2 * np.hypot(u / axes[0], v / axes[1]), 1e-9)
    return np.clip(inward / max(edge, 1 / size) + 0.5, 0, 1)


def _moved(place: np.ndarray, right: float, down: float) -> np.ndarray:
    return place + np.asarray([right, down])


def _covered(size: int, start: float, end: float) -> np.ndarray:
    """Return what part of each pixel along a side lies between two places, (S,)."""
    edges = np.arange(size + 1) / size
    return np.diff(np.clip(edges, start, end)) * size
