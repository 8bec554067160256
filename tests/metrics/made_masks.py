"""Masks with a known or a tangled shape, made on the spot."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def box(shape, low, high):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def ball(radius_mm, spacing, reach_mm):
    """A ball (a disc in 2-D) about the middle of an odd grid that reaches ``reach_mm`` to each side."""
    half = [int(np.ceil(reach_mm / s)) for s in spacing]
    axes = np.meshgrid(*(s * np.arange(-h, h + 1) for s, h in zip(spacing, half, strict=True)), indexing="ij")
    return sum(axis**2 for axis in axes) <= radius_mm**2


def blob_pair(seed, shape, share=0.15, disagreement=0.5, smooth=1.5):
    """Two overlapping, ragged masks of several pieces, some of them cut off by the edge of the image."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    other = field + disagreement * ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    return field > np.quantile(field, 1 - share), other > np.quantile(other, 1 - share)
