"""What images say without any score: does the model's latent space know the groups, do the shapes differ?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import rankdata

from medaudit.audits.judging.compared import Compared
from medaudit.statistics import (
    ClusterAgreement,
    Probe,
    cluster_agreement,
    linear_probe,
    permutation_test,
)

SHAPES: dict[str, tuple[str, str]] = {
    "reference_volume_ml": ("volume", "mL"),
    "reference_area_mm2": ("area", "mm²"),
    "reference_sphericity": ("sphericity (0 to 1)", ""),
    "reference_spherical_disproportion": ("spherical disproportion (1 or more)", ""),
    "reference_elongation": ("elongation (0 to 1)", ""),
    "reference_itk_elongation": ("elongation, major by minor axis (1 or more)", ""),
    "reference_major_axis_mm": ("major axis", "mm"),
}
"""The measurements of an expert mask that are compared between groups: column, words, unit."""


@dataclass(frozen=True, eq=False)
class Latent:
    """The baseline's bottleneck features against the groups.

    ``agreements`` are of each fold: features of different models cannot be mixed. ``probe`` pools the folds.
    """

    features: np.ndarray
    fold: np.ndarray
    agreements: tuple[ClusterAgreement, ...]
    probe: Probe

    def over_folds(self, name: str) -> tuple[float, float]:
        """Return mean and SD over folds of silhouette, purity, ari, nmi or chance_purity (SD NaN of one fold)."""
        values = np.asarray([getattr(agreement, name) for agreement in self.agreements])
        known = values[np.isfinite(values)]
        if not known.size:
            return float("nan"), float("nan")
        return float(known.mean()), float(known.std(ddof=1)) if known.size > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class Shape:
    """One measurement of the expert masks by group: (mean, SD, n) a group, and a rank test."""

    name: str
    words: str
    unit: str
    by_group: dict[str, tuple[float, float, int]]
    p: float


def latent(features: np.ndarray, fold: np.ndarray, groups: Compared, *, permutations: int, seed: int) -> Latent:
    """Return what the features (n, d), NaN where there are none, know of the judged groups.

    arXiv 2511.00477, Fig. 3 gives silhouette, purity, ARI and NMI; it does not name the layer: the bottleneck,
    averaged over space, is our inference. The linear probe is ours. Encoding a group is not treating it worse.
    """
    known = np.isfinite(features).all(axis=1) & groups.judged.known
    judged = groups.judged.subset(known)
    agreements = []
    for k in np.unique(fold[known]):
        here = known & (fold == k)
        agreements.append(cluster_agreement(features[here], judged.groups[here], seed=seed))
    clean = np.where(known[:, None], features, 0.0)
    probe = linear_probe(clean, judged, blocks=fold, n_permutations=permutations, seed=seed)
    return Latent(features, fold, tuple(agreements), probe)


def shapes(quality: pl.DataFrame, groups: Compared, *, permutations: int, seed: int) -> list[Shape]:
    """Return the expert masks' shapes by judged group (experiment 0 of arXiv 2511.00477); empty masks are left out.

    Both conventions of sphericity and elongation are given: the paper's values above 1 cannot be the usual ones.
    """
    found = []
    for column, (words, unit) in SHAPES.items():
        if column not in quality.columns:
            continue
        values = quality[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        values = np.where((quality["reference_voxels"] > 0).fill_null(False).to_numpy(), values, np.nan)
        by_group = {}
        for g, label in enumerate(groups.labels):
            here = values[(groups.judged.groups == g) & np.isfinite(values)]
            if here.size > 1:
                by_group[label] = (float(here.mean()), float(here.std(ddof=1)), int(here.size))
        if len(by_group) > 1:
            # Ranks, since volumes are skewed; permuted by patient, since patients may repeat.
            ranks = np.where(np.isfinite(values), rankdata(np.where(np.isfinite(values), values, np.inf)), np.nan)
            p = float(permutation_test(ranks, groups.judged, n_permutations=permutations, seed=seed).p[0])
            found.append(Shape(column, words, unit, by_group, p))
    return found
