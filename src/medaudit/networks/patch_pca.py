"""The picture of a net's patches: their principal components as colours, as in DINOv2 (arXiv 2304.07193, figure 1)."""

from __future__ import annotations

import numpy as np

from medaudit.errors import UsageError

_COLOURS = 3
_ENDS = (1.0, 99.0)
"""Percentiles that become 0 and 1."""


def patch_colours(patches: np.ndarray, foreground: np.ndarray | None = None) -> np.ndarray:
    """Return colours (N, r, c, 3), 0 to 1, of patch features (N, r, c, d), jointly for all images; background is 0.

    Red, green and blue are components 1 to 3 of the foreground's patches, each scaled between its 1st and 99th
    percentile. ``foreground`` (N, r, c) says which patches those are (an ultrasound's fan, say); else the first
    component of all patches does, those above its mean.

    A component's sign is free; here it is fixed so that pictures repeat. The one that separates is lower, on average,
    along the images' borders than inside; the others (and the first, where borders do not tell) have their largest
    loading, by size, above 0; the first one of equals. Raises UsageError for a mask of another shape.
    """
    n, rows, columns, d = patches.shape
    x = patches.reshape(-1, d).astype(np.float64)
    if foreground is not None and foreground.shape != (n, rows, columns):
        raise UsageError(f"the foreground is {foreground.shape}; expected {(n, rows, columns)}, as the patches")
    chosen = _inside(x, (n, rows, columns)) if foreground is None else foreground.reshape(-1).astype(bool)
    colours = np.zeros((len(x), _COLOURS))
    if chosen.any():
        scores = _components(x[chosen], _COLOURS)
        low, high = np.percentile(scores, _ENDS, axis=0)
        span = np.where(high - low > 1e-12 * max(1.0, float(np.abs(x).max())), high - low, np.inf)
        scaled = np.where(np.isinf(span), 0.5, (scores - low) / span)
        colours[np.flatnonzero(chosen), : scores.shape[1]] = scaled.clip(0, 1)
    return colours.reshape(n, rows, columns, _COLOURS)


def _inside(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return which patches (N * r * c) lie above the mean of the first component."""
    score = _components(x, 1)[:, 0]
    border = np.ones(shape, bool)
    border[:, 1:-1, 1:-1] = False
    outer = border.reshape(-1)
    if not outer.all() and score[outer].mean() > score[~outer].mean():
        score = -score
    return score > 0


def _components(x: np.ndarray, k: int) -> np.ndarray:
    """Return the scores (M, min(k, d)) of the first principal components."""
    centred = x - x.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    loadings = vectors[:, ::-1][:, :k]
    largest = np.abs(loadings).argmax(0)
    return centred @ (loadings * np.where(loadings[largest, np.arange(loadings.shape[1])] < 0, -1.0, 1.0))
