"""A graph and what changes in it, as one picture: what goes, what comes, what stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_STAYS, _GOES, _COMES = (150, 150, 150), (200, 40, 40), (20, 120, 200)
_FILL = (
    (235, 235, 235), (200, 220, 245), (250, 205, 200), (205, 235, 205), (250, 235, 190), (225, 210, 240),
)  # fmt: skip
_FINE = 2  # drawn so much larger, then reduced: smooth lines


def layout(adjacency: np.ndarray, *, rounds: int = 150, seed: int = 0) -> np.ndarray:
    """Return places (n, 2) from 0 to 1: neighbours near, others apart (Fruchterman & Reingold 1991)."""
    n = len(adjacency)
    if n == 1:
        return np.full((1, 2), 0.5)
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(n) / n
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.5 + 0.01 * rng.standard_normal((n, 2))
    ideal = 1 / np.sqrt(n)
    linked = (adjacency > 0).astype(np.float64)
    for step in range(rounds):
        away = at[:, None] - at[None]
        far = np.sqrt((away**2).sum(-1)) + 1e-9
        push = ideal**2 / far**2 - linked * far / ideal
        np.fill_diagonal(push, 0.0)
        move = (away * push[..., None]).sum(1) - 0.05 * at
        length = np.sqrt((move**2).sum(1, keepdims=True)) + 1e-9
        at = at + move / length * np.minimum(length, 0.12 * (1 - step / rounds) + 0.002)
    low, high = at.min(0), at.max(0)
    return (at - low) / np.maximum(high - low, 1e-9)


def graph_change(
    kinds: np.ndarray, bonds: np.ndarray, kinds_after: np.ndarray, bonds_after: np.ndarray, names: Sequence[str], *,
    pixels: int = 260, places: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Return a picture (pixels, pixels, 3) uint8 of two graphs in the same slots.

    ``kinds`` (n,) are -1 where a slot is empty, ``bonds`` (n, n) 0 where there is no edge, ``names`` the kinds'. Grey
    stays; red and broken goes; blue comes; a node whose kind changes has both names. ``places`` (n, 2) from 0 to 1.
    """
    shown = np.flatnonzero((kinds >= 0) | (kinds_after >= 0))
    k, b, k2, b2 = kinds[shown], bonds[np.ix_(shown, shown)], kinds_after[shown], bonds_after[np.ix_(shown, shown)]
    at = layout((b > 0) | (b2 > 0)) if places is None else places[shown]
    side = pixels * _FINE
    room = 0.1 * side
    xy = room + at * (side - 2 * room)
    picture = Image.new("RGB", (side, side), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    small = len(shown) <= 40
    width = 2 * _FINE if small else _FINE
    for i, j in np.argwhere(np.triu((b > 0) | (b2 > 0))):
        ends = (*xy[i], *xy[j])
        if b[i, j] and not b2[i, j]:
            _broken(draw, xy[i], xy[j], _GOES, width)
        else:
            colour = _COMES if not b[i, j] or b[i, j] != b2[i, j] else _STAYS
            draw.line(ends, fill=colour, width=width if colour == _STAYS else width + _FINE)
    radius = (9 if small else 3) * _FINE
    font = ImageFont.load_default(size=10 * _FINE)
    for i, (x, y) in enumerate(xy):
        edge = _GOES if k2[i] < 0 else _COMES if k[i] < 0 or k[i] != k2[i] else (110, 110, 110)
        kind = k2[i] if k2[i] >= 0 else k[i]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_FILL[kind % len(_FILL)], outline=edge,
                     width=_FINE * (1 if edge == (110, 110, 110) else 2))  # fmt: skip
        if small and len(names) > 1:
            text = (
                names[kind][:2] if k[i] < 0 or k2[i] < 0 or k[i] == k2[i] else f"{names[k[i]][:2]}>{names[k2[i]][:2]}"
            )
            draw.text((x, y), text, fill=(40, 40, 40), anchor="mm", font=font)
    return np.asarray(picture.resize((pixels, pixels), Image.Resampling.LANCZOS))


def _broken(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    pieces = max(2, int(np.hypot(*(b - a)) / (7 * _FINE)))
    for k in range(0, pieces, 2):
        ends = (*(a + (b - a) * k / pieces), *(a + (b - a) * min(1.0, (k + 1) / pieces)))
        draw.line(ends, fill=colour, width=width)
