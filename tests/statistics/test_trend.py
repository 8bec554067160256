"""Linear trend and restricted cubic splines against statsmodels and the properties that define them."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from medaudit.statistics import spline_trend
from medaudit.statistics.trend import spline_basis

KNOTS = np.array([30.0, 45.0, 55.0, 70.0])


@pytest.fixture
def ages():
    return np.random.default_rng(0).normal(49, 10.5, 800)


def test_spline_is_linear_beyond_the_knots_and_smooth_at_them():
    for outside in (np.linspace(10, 30, 50), np.linspace(70, 90, 50)):
        np.testing.assert_allclose(np.diff(spline_basis(outside, KNOTS), 2, axis=0), 0, atol=1e-12)
    step = 1e-3
    for knot in KNOTS:
        near = spline_basis(knot + step * np.arange(-3, 4), KNOTS)
        second = np.diff(near, 2, axis=0) / step**2
        np.testing.assert_allclose(second[0], second[-1], atol=1e-4)


def test_fitted_curve_is_that_of_patsys_natural_spline(ages):
    y = np.sin(ages / 10) + np.random.default_rng(1).normal(0, 0.3, ages.size)
    ours = spline_trend(y, ages)
    inner, low, high = list(ours.knots[1:-1]), ours.knots[0], ours.knots[-1]
    inside = (ages >= low) & (ages <= high)
    frame = pd.DataFrame({"y": y[inside], "x": ages[inside]})
    peer = smf.ols(
        f"y ~ cr(x, knots={inner}, lower_bound={low!r}, upper_bound={high!r}) - 1".replace("np.float64", ""), frame
    ).fit()
    basis = spline_basis(ages[inside], ours.knots)
    fitted = basis @ np.linalg.lstsq(basis, y[inside], rcond=None)[0]
    np.testing.assert_allclose(fitted, peer.fittedvalues, atol=1e-8)


def test_a_straight_line_has_no_bend_and_a_parabola_has_no_slope(ages):
    noise = np.random.default_rng(2).normal(0, 0.2, ages.size)
    line = spline_trend(0.01 * ages + noise, ages)
    assert line.slope.low < 0.01 < line.slope.high
    assert line.p_overall < 1e-6 < 0.05 < line.p_nonlinear
    bowl = spline_trend(((ages - 49) / 20) ** 2 + noise, ages)
    assert bowl.p_nonlinear < 1e-6
    assert bowl.p_overall < 1e-6


def test_slope_per_decade_is_ten_times_the_slope(ages):
    fit = spline_trend(-0.01 * ages + np.random.default_rng(3).normal(0, 0.2, ages.size), ages)
    decade = fit.per(10)
    assert decade.value == pytest.approx(10 * fit.slope.value)
    assert (decade.low, decade.high) == pytest.approx((10 * fit.slope.low, 10 * fit.slope.high))
    assert decade.p == fit.slope.p
    assert fit.per(-1).low < fit.per(-1).value < fit.per(-1).high


def test_band_covers_the_true_curve():
    rng = np.random.default_rng(4)
    grid = np.array([40.0, 49.0, 60.0])
    covered = []
    for _ in range(200):
        x = rng.normal(49, 10.5, 600)
        patients = np.arange(600) // 2
        y = 0.01 * x + rng.normal(0, 0.2, 300)[patients] + rng.normal(0, 0.1, 600)
        fit = spline_trend(y, x, clusters=patients, grid=grid)
        covered.append((fit.low <= 0.01 * grid) & (0.01 * grid <= fit.high))
    assert 0.91 <= np.mean(covered) <= 0.98


def test_too_few_distinct_ages_give_the_line_only():
    x = np.repeat([40.0, 50.0], 30)
    fit = spline_trend(np.random.default_rng(5).normal(size=60), x)
    assert np.isnan(fit.p_nonlinear)
    assert np.isfinite(fit.slope.p)
    assert "too few" in fit.reason
