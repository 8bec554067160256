"""What the smaller statistics of the OOD study do with edges: infinities, constants, and cases without a patient."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from medaudit.errors import DataError
from medaudit.statistics.kendall import kendall_tau
from medaudit.statistics.patients import patient_weights
from medaudit.statistics.simultaneous import simultaneous
from medaudit.statistics.two_way import two_way


def test_weights_are_seeded_counts_of_whole_patients():
    ids = np.array(["b", "a", "b", "c", "a"])
    codes, weights = patient_weights(ids, 50, 3)
    assert codes.tolist() == [1, 0, 1, 2, 0]
    assert weights.dtype == np.int32
    assert (weights.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(weights, patient_weights(ids, 50, 3)[1])
    assert (weights != patient_weights(ids, 50, 4)[1]).any()
    # Strata in which all patients are alike are none.
    np.testing.assert_array_equal(weights, patient_weights(ids, 50, 3, np.zeros(5))[1])


def test_the_variance_of_a_mean_is_that_of_patients():
    """The bootstrap variance of a mean over clusters of equal size is sum (mean_c - mean)^2 / C^2, in closed form."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(30), 4)
    values = rng.normal(size=30)[who] + 0.1 * rng.normal(size=120)
    codes, weights = patient_weights(who, 20_000, 0)
    sums = np.bincount(codes, values)
    drawn = weights @ sums / (4 * weights.sum(axis=1))
    assert drawn.var() == pytest.approx(np.var(sums / 4) / 30, rel=0.05)


@pytest.mark.parametrize(
    ("clusters", "strata", "n", "said"),
    [
        ([], None, 10, "clusters have shape"),
        ([[1, 2]], None, 10, "clusters have shape"),
        ([1.0, np.nan, np.nan], None, 10, "2 of 3 cases have no patient"),
        (np.array(["a", None], dtype=object), None, 10, "1 of 2 cases have no patient"),
        ([1, 2, 3], np.zeros(2), 10, "strata have shape"),
        ([1, 2, 3], None, 0, "resamples are 0"),
    ],
)
def test_patients_that_are_none(clusters, strata, n, said):
    with pytest.raises(DataError, match=said):
        patient_weights(clusters, n, 0, strata)


def test_tau_ranks_infinities_and_passes_nan_on():
    a, b = np.array([0, 1, np.inf, np.inf, -np.inf]), np.array([0, 2, 3, 1, 1.0])
    assert kendall_tau(a, b) == pytest.approx(kendalltau(np.clip(a, -9, 9), b).statistic)
    assert np.isnan(kendall_tau([1, 2, np.nan], [1, 2, 3]))
    # One ranking against many.
    rng = np.random.default_rng(0)
    many = rng.normal(size=(2, 3, 9))
    found = kendall_tau(many[0, 0], many)
    assert found.shape == (2, 3)
    assert found[0, 0] == 1
    assert found[1, 2] == pytest.approx(kendalltau(many[0, 0], many[1, 2]).statistic)
    with pytest.raises(DataError, match="same length"):
        kendall_tau([1, 2, 3], [1, 2])


@pytest.mark.parametrize("value", [0.1, 0.0, 1e9 / 3])
def test_equal_values_have_no_share(value):
    """0.1 is no binary number: means of it differ in the last digit, which is no effect of the task."""
    found = two_way(np.full((3, 7, 5), value))
    assert (found.eta_task, found.eta_method, found.eta_interaction, found.eta_residual) == (0, 0, 0, 0)
    assert np.isnan(found.p).all()


def test_a_planted_effect_is_the_share_it_was_planted_with():
    task, method = np.array([-1.0, 0, 1]), np.array([-2.0, 2])
    both = np.outer([1.0, -2, 1], [1, -1])
    values = 5e6 + task[:, None] + method + both
    noise = np.array([-1.0, 1]) * 3
    found = two_way(values[..., None] + noise)
    squares = np.array([2 / 3, 4, 2, 9])
    shares = found.eta_task, found.eta_method, found.eta_interaction, found.eta_residual
    np.testing.assert_allclose(shares, squares / squares.sum(), rtol=1e-9)
    alone = two_way(values[..., None])
    assert alone.eta_interaction == pytest.approx(2 / (2 / 3 + 4 + 2))
    assert alone.f[1] == pytest.approx(4 / 1 / (2 / 2))


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros((0, 2, 2)), np.array([[[1.0], [np.nan]]])])
def test_values_that_are_no_table(values):
    with pytest.raises(DataError, match="values"):
        two_way(values)


def test_a_difference_that_never_varies_is_certain_unless_it_is_0():
    rng = np.random.default_rng(0)
    point = np.array([0.5, 0.0, 0.2])
    draws = np.column_stack([np.full(400, 0.5), np.zeros(400), rng.normal(0.2, 0.1, 400)])
    found = simultaneous(point, draws)
    assert found.p[:2] == pytest.approx([1 / 401, 1])
    np.testing.assert_array_equal(found.low[:2], [0.5, 0])
    assert found.low[2] < 0.2 < found.high[2]


def test_one_value_is_studentised_alone_and_more_of_them_cost_width():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(40_000, 20))
    alone, many = simultaneous(np.zeros(1), draws[:, :1]), simultaneous(np.zeros(20), draws)
    assert alone.high[0] == pytest.approx(1.96, abs=0.03)
    # Of 20 independent values: the quantile of order .95^(1/20) of |z|, 3.016 (Sidak).
    assert many.high.mean() == pytest.approx(3.016, abs=0.04)


def test_each_value_is_measured_by_its_own_spread():
    """Scales from 0.01 to 100: limits that were not studentised would hold the widest alone, or be far too wide."""
    rng = np.random.default_rng(2)
    scale = np.geomspace(0.01, 100, 5)
    found = simultaneous(np.zeros(5), rng.normal(size=(20_000, 5)) * scale)
    # Five independent values: the quantile of order .95^(1/5) of |z| is 2.569 (Sidak), whatever the scale.
    np.testing.assert_allclose(found.high / scale, 2.569, atol=0.06)
    p = simultaneous(2.569 * scale, 2.569 * scale + rng.normal(size=(20_000, 5)) * scale).p
    np.testing.assert_allclose(p, 0.05, atol=0.01)
