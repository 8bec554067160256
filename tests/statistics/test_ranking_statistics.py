"""DeLong by brute force, tau-b by scipy, two-way shares by statsmodels, simultaneous limits that cover."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score
from statsmodels.formula.api import ols

from medaudit.errors import DataError
from medaudit.statistics.delong import delong, delong_test
from medaudit.statistics.kendall import kendall_tau
from medaudit.statistics.patients import patient_weights
from medaudit.statistics.simultaneous import simultaneous
from medaudit.statistics.two_way import two_way

RNG = np.random.default_rng(0)


def test_delong_is_its_structural_components() -> None:
    up = RNG.random(90) < 0.4
    scores = np.round(RNG.normal(size=(3, 90)) + 0.7 * up, 1)
    x, y = scores[:, up], scores[:, ~up]
    wins = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    v10, v01 = wins.mean(2), wins.mean(1)
    found = delong(scores, up)
    np.testing.assert_allclose(found.auc, [roc_auc_score(up, row) for row in scores])
    np.testing.assert_allclose(found.covariance, np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1], atol=1e-14)
    own = delong(scores, up, clusters=np.arange(90))
    # Each case a cluster: no cluster has both kinds, and the cross part vanishes.
    np.testing.assert_allclose(own.covariance, found.covariance, rtol=1e-9)


def test_repeated_cases_of_a_patient_say_nothing_new() -> None:
    up = RNG.random(80) < 0.5
    scores = RNG.normal(size=(2, 80)) + up
    once = delong(scores, up, clusters=np.arange(80))
    twice = delong(np.tile(scores, 2), np.tile(up, 2), clusters=np.tile(np.arange(80), 2))
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=1e-9)
    assert np.diag(delong(np.tile(scores, 2), np.tile(up, 2)).covariance)[0] < 0.6 * once.covariance[0, 0]


def test_delong_test_holds_its_level_and_covers() -> None:
    rng = np.random.default_rng(1)
    p, covered = [], []
    for _ in range(500):
        up = np.repeat([True, False], 60)
        common = rng.normal(size=120) + up
        scores = np.stack([common + rng.normal(size=120), common + rng.normal(size=120)])
        difference, low, high, value = delong_test(delong(scores, up), 0, 1)
        p.append(value)
        covered.append(low <= 0 <= high)
        assert low < difference < high
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    with pytest.raises(DataError, match="1 positive"):
        delong([[1.0, 2.0, 3.0]], [True, False, False])


def test_tau_is_scipy_s() -> None:
    a, b = np.round(RNG.normal(size=(2, 6, 15)), 0)
    found = kendall_tau(a, b)
    np.testing.assert_allclose(found, [kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert np.isnan(kendall_tau(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize("replicates", [1, 3])
def test_two_way_is_statsmodels(replicates: int) -> None:
    values = RNG.normal(size=(4, 5, replicates)) + np.arange(4)[:, None, None] + 0.3 * np.arange(5)[None, :, None]
    t, m, _ = np.indices(values.shape)
    table = pd.DataFrame({"y": values.ravel(), "t": t.ravel(), "m": m.ravel()})
    formula = "y ~ C(t) * C(m)" if replicates > 1 else "y ~ C(t) + C(m)"
    wanted = sm.stats.anova_lm(ols(formula, table).fit())
    found = two_way(values)
    total = wanted["sum_sq"].sum()
    assert found.eta_task == pytest.approx(wanted.loc["C(t)", "sum_sq"] / total)
    assert found.eta_method == pytest.approx(wanted.loc["C(m)", "sum_sq"] / total)
    assert found.f[0] == pytest.approx(wanted.loc["C(t)", "F"])
    assert found.p[1] == pytest.approx(wanted.loc["C(m)", "PR(>F)"])
    if replicates > 1:
        assert found.eta_interaction == pytest.approx(wanted.loc["C(t):C(m)", "sum_sq"] / total)
        assert found.eta_residual == pytest.approx(wanted.loc["Residual", "sum_sq"] / total)
        assert found.f[2] == pytest.approx(wanted.loc["C(t):C(m)", "F"])
        assert found.p[2] == pytest.approx(wanted.loc["C(t):C(m)", "PR(>F)"])
    else:
        assert np.isnan(found.p[2])


def test_simultaneous_limits_hold_for_the_one_that_was_picked() -> None:
    rng = np.random.default_rng(2)
    missed, plain = 0, 0
    for _ in range(300):
        data = rng.normal(size=(60, 10))
        point = data.mean(0)
        draws = rng.multinomial(60, np.ones(60) / 60, size=400) @ data / 60
        limits = simultaneous(point, draws)
        best = int(np.argmax(point))
        missed += not limits.low[best] <= 0 <= limits.high[best]
        plain += not np.quantile(draws[:, best], 0.025) <= 0 <= np.quantile(draws[:, best], 0.975)
        assert (limits.p[best] < 0.05) == (limits.low[best] > 0 or limits.high[best] < 0) or abs(
            limits.p[best] - 0.05
        ) < 0.01
    assert missed / 300 < 0.08
    assert plain / 300 > 0.15  # what the construction is there for


def test_patients_are_drawn_whole_and_within_their_sides() -> None:
    clusters = np.array([3, 3, 5, 7, 7, 9, 9])
    side = np.array([0, 0, 0, 1, 1, 0, 1])
    codes, weights = patient_weights(clusters, 500, 0, side)
    assert weights.shape == (500, 4)
    assert codes.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert (weights[:, :2].sum(1) == 2).all()  # patients 3 and 5 are on one side only
    assert (weights[:, 2] == 1).all()
    assert (weights[:, 3] == 1).all()  # patient 9 is on both sides: a block of its own
    _, free = patient_weights(clusters, 20_000, 0)
    np.testing.assert_allclose(free.mean(0), 1, atol=0.03)
    assert np.corrcoef(free[:, 0], free[:, 1])[0, 1] == pytest.approx(-1 / 3, abs=0.03)
