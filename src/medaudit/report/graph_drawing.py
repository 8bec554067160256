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


def layout(adjacency: np.ndarray) -> np.ndarray:
    """Return places (n, 2) from 0 to 1: as far apart as edges lie between (Kamada & Kawai 1989), parts side by side.

    One scale for both directions: what is long is drawn long.
    """
    import networkx as nx

    graph = nx.from_numpy_array(adjacency > 0)
    at, right = np.zeros((len(adjacency), 2)), 0.0
    for part in sorted(nx.connected_components(graph), key=len, reverse=True):
        nodes = sorted(part)
        places = np.zeros((1, 2))
        if len(nodes) > 1:
            made = nx.kamada_kawai_layout(graph.subgraph(nodes))
            places = _lying(np.array([made[i] for i in nodes]))
            near = [np.linalg.norm(places[nodes.index(i)] - places[nodes.index(j)]) for i, j in graph.edges(nodes)]
            places /= max(float(np.mean(near)), 1e-9)  # an edge is as long in each part
        places -= places.min(0)
        at[nodes] = places + np.array([right, -places[:, 1].max() / 2])
        right = at[nodes, 0].max() + 1.0
    at -= (at.min(0) + at.max(0)) / 2
    return 0.5 + at / max(float(np.ptp(at, axis=0).max()), 1e-9)


def _lying(places: np.ndarray) -> np.ndarray:
    """Return places turned so that they spread from left to right most."""
    centred = places - places.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2].T


def graph_change(
    kinds: np.ndarray, bonds: np.ndarray, kinds_after: np.ndarray, bonds_after: np.ndarray, names: Sequence[str], *,
    pixels: int = 260, places: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Return a picture (pixels, pixels, 3) uint8 of two graphs in the same slots.

    ``kinds`` (n,) are -1 where a slot is empty, ``bonds`` (n, n) 0 where there is no edge, ``names`` the kinds'. Grey
    stays; red and broken goes; blue comes, or is of another kind and has its new name. ``places`` (n, 2), 0 to 1.
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
    radius = _radius(xy, pixels) * _FINE
    font = ImageFont.load_default(size=max(6.0, 1.1 * radius))
    for i, (x, y) in enumerate(xy):
        edge = _GOES if k2[i] < 0 else _COMES if k[i] < 0 or k[i] != k2[i] else (110, 110, 110)
        kind = k2[i] if k2[i] >= 0 else k[i]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_FILL[kind % len(_FILL)], outline=edge,
                     width=_FINE * (1 if edge == (110, 110, 110) else 2))  # fmt: skip
        if small and len(names) > 1:
            draw.text((x, y), names[kind][:2], fill=(40, 40, 40), anchor="mm", font=font)
    return np.asarray(picture.resize((pixels, pixels), Image.Resampling.LANCZOS))


def _radius(xy: np.ndarray, pixels: int) -> float:
    """Return the nodes' radius in pixels: no larger than leaves a gap between the nearest two."""
    if len(xy) < 2:
        return 9.0
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.eye(len(xy)) * 1e9
    return float(np.clip(0.4 * np.percentile(apart.min(1), 20) / _FINE, 2.5, pixels / 26))


def _broken(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    pieces = max(2, int(np.hypot(*(b - a)) / (7 * _FINE)))
    for k in range(0, pieces, 2):
        ends = (*(a + (b - a) * k / pieces), *(a + (b - a) * min(1.0, (k + 1) / pieces)))
        draw.line(ends, fill=colour, width=width)
