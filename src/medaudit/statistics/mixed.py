"""Robustness checks of the linear model: sites as random effects, and a logit link for bounded scores."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from medaudit.statistics.comparison import Comparison


@dataclass(frozen=True)
class GroupEffect:
    """A Wald test of all group effects in a model: ``effects`` (G,) are contrasts with the first compared group.

    ``icc`` is the share of the remaining variance that lies between sites (mixed model only). If the fit failed,
    all is NaN and ``reason`` says why; ``converged`` is false then, or if the optimiser stopped early.
    """

    effects: np.ndarray
    standard_errors: np.ndarray
    chi2: float
    df: int
    p: float
    n: int
    icc: float
    converged: bool
    reason: str = ""


def mixed_model(values: ArrayLike, comparison: Comparison, site: ArrayLike) -> GroupEffect:
    """Return the group effects with a random intercept for each ``site`` (n,), by REML: y ~ group + (1 | site)."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # takes a second to import; few audits need it

    y, groups, keep = _cases(values, comparison)
    places = np.asarray(site)[keep]
    levels = np.unique(groups)
    if levels.size < 2 or np.unique(places).size < 2:
        return _failed(comparison, y.size, "a mixed model needs two groups and two sites")
    if np.ptp(y) == 0:
        return _failed(comparison, y.size, "the scores do not vary")
    design = np.column_stack([np.ones(y.size), groups[:, None] == levels[1:]]).astype(np.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # In units of the SD, because the optimiser's tolerances are absolute.
            unit = y.std()
            fit = MixedLM(y / unit, design, groups=places).fit(reml=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        return _failed(comparison, y.size, f"the mixed model could not be fitted ({error})")
    between, within = float(np.asarray(fit.cov_re).ravel()[0]), float(fit.scale)
    covariance = np.asarray(fit.cov_params())[: design.shape[1], : design.shape[1]] * unit**2
    reason = "" if fit.converged else "the optimiser of the mixed model did not converge"
    if between <= 1e-8 * within:
        reason = reason or "the variance between sites is estimated as 0"
    icc = between / (between + within)
    return _effect(
        comparison, np.asarray(fit.fe_params) * unit, covariance, levels, y.size, icc, bool(fit.converged), reason
    )


def fractional_logit(
    values: ArrayLike, comparison: Comparison, *, clusters: ArrayLike | None = None, strata: ArrayLike | None = None
) -> GroupEffect:
    """Return the group effects on the log-odds of a score in [0, 1] (Papke & Wooldridge 1996), robust errors.

    A linear model of Dice can predict beyond 1 and has atoms at 0 and 1; this quasi-likelihood cannot and allows
    them. ``strata`` (n,) codes, -1 unknown, enter as further terms; ``clusters`` (n,) make the errors cluster-robust.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    y, groups, keep = _cases(values, comparison, strata)
    levels = np.unique(groups)
    if levels.size < 2:
        return _failed(comparison, y.size, "a comparison needs two groups")
    if y.min() < 0 or y.max() > 1:
        return _failed(comparison, y.size, "a fractional logit needs scores between 0 and 1")
    columns = [np.ones(y.size), *(groups == level for level in levels[1:])]
    if strata is not None:
        places = np.asarray(strata)[keep]
        columns += [places == place for place in np.unique(places)[1:]]
    design = np.column_stack(columns).astype(np.float64)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return _failed(comparison, y.size, "groups and strata cannot be told apart")
    if y.size <= design.shape[1]:
        return _failed(comparison, y.size, "too few cases for a fractional logit")
    robust = (
        {"cov_type": "HC1"}
        if clusters is None
        else {
            "cov_type": "cluster",
            "cov_kwds": {"groups": np.unique(np.asarray(clusters)[keep], return_inverse=True)[1]},
        }
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = GLM(y, design, family=Binomial()).fit(**robust)
    except (np.linalg.LinAlgError, ValueError) as error:
        return _failed(comparison, y.size, f"the fractional logit could not be fitted ({error})")
    converged = bool(fit.converged) and bool(np.isfinite(fit.bse).all())
    reason = "" if converged else "the fractional logit did not converge"
    return _effect(
        comparison, np.asarray(fit.params), np.asarray(fit.cov_params()), levels, y.size, math.nan, converged, reason
    )


def _cases(
    values: ArrayLike, comparison: Comparison, strata: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.asarray(values, dtype=np.float64)
    keep = comparison.known & np.isfinite(y)
    if strata is not None:
        keep &= np.asarray(strata) >= 0
    return y[keep], comparison.groups[keep], keep


def _effect(
    comparison: Comparison,
    coefficients: np.ndarray,
    covariance: np.ndarray,
    levels: np.ndarray,
    n: int,
    icc: float,
    converged: bool,
    reason: str,
) -> GroupEffect:
    block = slice(1, levels.size)
    beta, variance = coefficients[block], covariance[block, block]
    chi2 = float(beta @ np.linalg.pinv(variance, hermitian=True) @ beta)
    effects, errors = np.full(comparison.n_groups, np.nan), np.full(comparison.n_groups, np.nan)
    effects[levels], errors[levels] = [0.0, *beta], [0.0, *np.sqrt(np.diag(variance))]
    return GroupEffect(effects, errors, chi2, beta.size, float(chdtrc(beta.size, chi2)), n, icc, converged, reason)


def _failed(comparison: Comparison, n: int, reason: str) -> GroupEffect:
    nothing = np.full(comparison.n_groups, np.nan)
    return GroupEffect(nothing, nothing, math.nan, 0, math.nan, n, math.nan, False, reason)
