"""Closed-form intervals against statsmodels, scipy and published examples."""

import numpy as np
import pytest
from scipy.stats import quantile_test
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from medaudit.statistics import katz, median, newcombe, wilson


@pytest.mark.parametrize(("x", "n"), [(0, 20), (3, 20), (20, 20), (163, 349)])
def test_wilson_agrees_with_statsmodels(x, n):
    low, high = proportion_confint(x, n, method="wilson")
    assert (wilson(x, n).low, wilson(x, n).high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("counts", [(163, 349, 200, 349), (0, 20, 3, 30), (9, 10, 3, 10)])
def test_newcombe_agrees_with_statsmodels(counts):
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    ours = newcombe(*counts)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-12)


def test_newcombe_reproduces_its_published_example():
    # Newcombe 1998, table II, method 10: 56/70 - 48/80 -> .0524 to .3339.
    ours = newcombe(56, 70, 48, 80)
    assert (round(ours.low, 4), round(ours.high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize("counts", [(163, 349, 200, 349), (5, 20, 8, 30)])
def test_katz_agrees_with_statsmodels(counts):
    low, high = confint_proportions_2indep(*counts, method="log", compare="ratio")
    ours = katz(*counts)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


def test_katz_stays_finite_without_a_success():
    ours = katz(0, 20, 5, 20)
    assert ours.value == 0.0
    assert 0 < ours.low < ours.high < 2
    assert np.isnan(katz(3, 20, 0, 20).value)


@pytest.mark.parametrize("n", [6, 25, 150])
def test_interval_of_the_median_agrees_with_scipys_quantile_test(n):
    values = np.random.default_rng(n).normal(size=n)
    peer = quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    assert (median(values).low, median(values).high) == pytest.approx((peer.low, peer.high))


def test_median_of_too_few_has_no_interval():
    assert np.isnan(median([1.0, 2.0, 3.0, 4.0, 5.0]).low)
    assert median([1.0, np.nan, 3.0]).value == 2.0
    assert np.isnan(median([]).value)


def test_an_infinite_distance_is_ranked_last():
    assert median([1.0, 2.0, np.inf]).value == 2.0
    assert median([np.inf, np.inf, 1.0]).value == np.inf
