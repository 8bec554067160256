"""Do sites agree? Cochran's Q and I^2 of the sites' contrasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q with its p-value, I^2 (the share of variation beyond chance), and the fixed-effect mean."""

    q: float
    df: int
    p: float
    i2: float
    mean: float
    standard_error: float


def cochran_q(effects: ArrayLike, errors: ArrayLike) -> Heterogeneity:
    """Return how much the sites' ``effects`` (S,) differ beyond their standard ``errors`` (S,); NaN sites are left out.

    Cochran 1954; I^2 = max(0, (Q - df) / Q), Higgins & Thompson 2002.
    """
    effect, error = np.asarray(effects, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    usable = np.isfinite(effect) & (error > 0)
    effect, weight = effect[usable], 1 / error[usable] ** 2
    if effect.size == 0:
        return Heterogeneity(math.nan, 0, math.nan, math.nan, math.nan, math.nan)
    mean = float((weight * effect).sum() / weight.sum())
    standard_error = float(weight.sum() ** -0.5)
    df = effect.size - 1
    if df == 0:
        return Heterogeneity(math.nan, 0, math.nan, math.nan, mean, standard_error)
    q = float((weight * (effect - mean) ** 2).sum())
    return Heterogeneity(q, df, float(chdtrc(df, q)), max(0.0, (q - df) / q) if q > 0 else 0.0, mean, standard_error)
