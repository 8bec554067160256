"""The Jaccard triangle holds on any masks, and so do the bounds of group means and of gaps that follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medaudit.statistics import (
    bootstrap_means,
    bounded_gap,
    bounded_means,
    compare,
    gap_difference_interval,
    jaccard_bounds,
    jaccard_distance,
)

masks = arrays(bool, (3, 12))


def distance(a, b):
    union = np.sum(a | b)
    return 1 - np.sum(a & b) / union if union else 0.0


@settings(max_examples=300, deadline=None)
@given(masks)
def test_the_true_distance_lies_within_the_bounds(three):
    prediction, silver, gold = three
    low, high = jaccard_bounds(distance(prediction, silver), distance(silver, gold))
    assert low - 1e-12 <= distance(prediction, gold) <= high + 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_bounds_of_means_and_gap_hold_whether_quality_is_known_by_case_or_by_group(seed, by_group):
    rng = np.random.default_rng(seed)
    cases = rng.random((60, 3, 30)) < rng.random((60, 3, 1))
    groups = np.repeat([0, 1, 2], 20)
    a, b, c = np.array([[distance(p, s), distance(s, g), distance(p, g)] for p, s, g in cases]).T
    mean = lambda x: np.array([x[groups == g].mean() for g in range(3)])
    low, high = map(mean, bounded_means(a, mean(b)[groups] if by_group else b, compare(groups)))
    assert (low <= mean(c) + 1e-12).all()
    assert (mean(c) <= high + 1e-12).all()
    least, most = bounded_gap(low, high)
    assert least - 1e-12 <= np.ptp(mean(c)) <= most + 1e-12


def test_a_quality_known_by_group_does_not_pretend_to_be_each_cases():
    # Silver and prediction err alike in each case: the truth is 0, and each case's |a - mean b| is not.
    a = np.array([0.1, 0.5, 0.1, 0.5])
    low, _ = bounded_means(a, np.full(4, 0.3), compare([0, 0, 0, 0]))
    assert low == pytest.approx(np.zeros(4))


@pytest.mark.parametrize(("dice", "expected"), [(1.0, 0.0), (0.0, 1.0), (2 / 3, 0.5)])
def test_the_jaccard_distance_of_a_dice(dice, expected):
    assert jaccard_distance(dice) == pytest.approx(expected)


def test_the_paired_interval_is_narrower_than_the_unpaired_one():
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1], 200)
    gold = rng.normal(0.7 + 0.05 * groups, 0.2)
    silver = gold + rng.normal(0, 0.05, 400)
    both = np.column_stack([silver, gold])
    _, low, high = gap_difference_interval(bootstrap_means(both, compare(groups), n_resamples=2000), 0, 1)
    apart = [bootstrap_means(both[:, k], compare(groups), n_resamples=2000, seed=k).means for k in (0, 1)]
    unpaired = np.subtract(*(abs(d[:, 0, 1] - d[:, 0, 0]) for d in apart))
    assert high - low < 0.6 * np.ptp(np.quantile(unpaired, [0.025, 0.975]))
