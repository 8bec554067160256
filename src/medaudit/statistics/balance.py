"""Are the groups comparable at all? Standardised mean differences of covariates, before anything is blamed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.comparison import Comparison
from medaudit.statistics.disparity import group_means, group_sds, pairs


def standardised_differences(covariates: ArrayLike, comparison: Comparison) -> np.ndarray:
    """Return the standardised mean difference of each covariate (n, k) for all pairs of groups, (k, P).

    (mean_i - mean_j) / sqrt((sd_i^2 + sd_j^2) / 2); pass a category as 0/1 columns. Above 0.1 in size is usually
    read as imbalance (Austin 2009).
    """
    means, _ = group_means(covariates, comparison)
    sds = group_sds(covariates, comparison)
    i, j = pairs(comparison.n_groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (means[:, i] - means[:, j]) / np.sqrt((sds[:, i] ** 2 + sds[:, j] ** 2) / 2)
