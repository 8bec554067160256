"""Abstention: fixed numbers of fd-shifts, the population AURC in closed form, the best order, and what is refused."""

import numpy as np
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.metrics.ranking import auroc, average_precision, fpr95
from medaudit.metrics.selective import ESTIMATORS, augrc, aurc, coverage_at_risk, excess_aurc, risk_at_coverage

CASE = np.arange(40)
SCORES = {"untied": (17 * CASE) % 41 / 41, "tied": (7 * CASE**2 + 3 * CASE) % 41 // 6 / 7}
LOSSES = {"binary": ((5 * CASE**2 + CASE) % 7 < 2).astype(float), "graded": (11 * CASE**2 + 5 * CASE) % 13 / 13}


@pytest.mark.parametrize(
    ("scores", "losses", "generalised", "trapezoid", "exact"),
    [
        ("untied", "binary", 0.20500000000000003, 0.38339810414189816, 0.381606425787379),
        ("untied", "graded", 0.1422115384615385, 0.2672117780851905, 0.2680859958665579),
        ("tied", "binary", 0.21500000000000003, 0.45049242424242425, 0.45161604098436106),
        ("tied", "graded", 0.15100961538461547, 0.318328962703963, 0.3177064257106158),
    ],
)
def test_fd_shifts(scores, losses, generalised, trapezoid, exact):
    """RiskCoverageStats of fd-shifts (commit c4467ae), per thousand there; its non-linear AURC is our exact one."""
    u, loss = SCORES[scores], LOSSES[losses]
    assert augrc(u, loss) == pytest.approx(generalised, abs=1e-14)
    assert aurc(u, loss, "trapz") == pytest.approx(trapezoid, abs=1e-14)
    assert aurc(u, loss, "exact") == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("power", [1, 3])
def test_the_population_value(estimator, power):
    """A loss of G^k where a share G is more certain: AURC = E[-ln(G) loss] = 1/(k+1)^2, AUGRC 1/((k+1)(k+2))."""
    share = (np.arange(20_000) + 0.5) / 20_000
    loss = share**power
    assert np.mean(-np.log(share) * loss) == pytest.approx((power + 1) ** -2, abs=1e-4)
    assert aurc(share, loss, estimator) == pytest.approx((power + 1) ** -2, abs=2e-4)
    assert augrc(share, loss) == pytest.approx(1 / ((power + 1) * (power + 2)), abs=1e-4)


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_order_is_better_than_the_best(estimator, losses):
    loss, rng = LOSSES[losses], np.random.default_rng(0)
    assert excess_aurc(loss + 1e-6 * np.arange(40), loss, estimator) == pytest.approx(0, abs=1e-15)
    assert min(excess_aurc(rng.permutation(40), loss, estimator) for _ in range(200)) > 0


def test_ties_of_equal_losses_cost_nothing_but_in_trapezoids():
    loss = LOSSES["binary"]
    assert excess_aurc(loss, loss, "harmonic") == pytest.approx(0, abs=1e-15)
    assert excess_aurc(loss, loss, "exact") == pytest.approx(0, abs=1e-15)
    assert excess_aurc([0, 0, 0, 1, 1], [0, 0, 0, 1, 1], "trapz") == pytest.approx(-0.01)  # as documented


def test_infinite_uncertainties_are_ties():
    finite, infinite = [0, 1, 2, 9, 9, 9], [0, 1, 2, np.inf, np.inf, np.inf]
    for order in ([0, 1, 2, 3, 4, 5], [5, 0, 3, 1, 4, 2]):
        u, same, loss = (np.array(values, float)[order] for values in (infinite, finite, [0, 1, 0, 1, 0, 1]))
        assert [aurc(u, loss, e) for e in ESTIMATORS] == [aurc(same, loss, e) for e in ESTIMATORS]
    for inside, outside in (([0, 1, np.inf], [1, np.inf, np.inf]), ([-np.inf, -np.inf, 0], [0, -np.inf, 2])):
        known = [np.clip(values, -99, 99) for values in (inside, outside)]
        assert auroc(inside, outside) == auroc(*known)
        for side in ("ood", "id"):
            assert average_precision(inside, outside, positive=side) == average_precision(*known, positive=side)
            assert fpr95(inside, outside, positive=side) == fpr95(*known, positive=side)


@pytest.mark.parametrize("coverage", [0.0, 1.5, -1.0])
def test_a_coverage_that_is_none(coverage):
    with pytest.raises(UsageError, match="expected above 0, at most 1"):
        risk_at_coverage([0.1, 0.2], [0, 1], coverage)


@pytest.mark.parametrize("level", [0.0, 1.5])
def test_a_level_that_is_none(level):
    with pytest.raises(UsageError, match="expected above 0, at most 1"):
        fpr95([0.1, 0.2], [0, 1], level=level)


@pytest.mark.parametrize("loss", [[0, 2], [-1, 1], [0, np.inf]])
def test_losses_outside_0_to_1(loss):
    with pytest.raises(DataError, match="expected 0 to 1"):
        augrc([0.1, 0.2], loss)


def test_shapes():
    with pytest.raises(DataError, match="expected one number a case"):
        auroc(np.zeros((2, 2)), [1.0])
    with pytest.raises(DataError, match="n above 0"):
        aurc([], [])
    with pytest.raises(DataError, match="shape"):
        augrc([1.0, 2.0], [0.0])


def test_no_coverage_is_safe_enough():
    assert coverage_at_risk([0.1, 0.2], [1, 1], 0.5) == 0
    assert coverage_at_risk([0.1, 0.2], [0, 1], 0.5) == 1
