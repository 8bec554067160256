"""Calibration errors by hand, and the bias of the plain one that the debiased one has not."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from medaudit.errors import DataError, UsageError
from medaudit.metrics.calibration import brier, classwise_ece, expected_calibration_error, nll

P = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.55, 0.45]])
Y = np.array([0, 1, 1, 0])


def test_by_hand() -> None:
    # Bins of width 1/2: all confidences are in the upper one. Mean 0.7375, three of four right.
    assert expected_calibration_error(P, Y, bins=2) == pytest.approx(0.0125)
    # Bins of equal mass: {0.55, 0.7} both right; {0.8, 0.9} one right.
    wanted = np.array([1 - 0.625, 0.85 - 0.5])
    assert expected_calibration_error(P, Y, bins=2, scheme="mass") == pytest.approx(wanted.mean())
    assert expected_calibration_error(P, Y, bins=2, scheme="mass", norm="max") == pytest.approx(wanted.max())
    l2 = expected_calibration_error(P, Y, bins=2, scheme="mass", norm="l2")
    assert l2 == pytest.approx(np.sqrt((wanted**2).mean()))
    assert brier(P, Y) == pytest.approx(2 * brier_score_loss(Y, P[:, 1]))
    assert nll(P, Y) == pytest.approx(log_loss(Y, P))
    assert 0 < classwise_ece(P, Y, bins=2) < 1


def test_the_plain_error_is_biased_on_calibrated_data_and_the_debiased_one_is_not() -> None:
    rng = np.random.default_rng(0)
    plain, square = [], []
    for _ in range(200):
        stated = rng.uniform(0.5, 1, 300)
        p = np.column_stack([stated, 1 - stated])
        y = (rng.random(300) >= stated).astype(int)
        plain.append(expected_calibration_error(p, y, norm="l2", scheme="mass"))
        square.append(expected_calibration_error(p, y, norm="l2", scheme="mass", debiased=True))
    assert np.mean(plain) > 0.05
    assert np.median(square) < 0.03
    assert np.mean(np.array(square) == 0) == pytest.approx(0.5, abs=0.15)  # as often above as below


def test_refuses() -> None:
    with pytest.raises(DataError, match="no distribution"):
        nll([[0.5, 0.6]], [0])
    for labels in ([2], [-1], [1.0], ["femur"]):
        with pytest.raises(DataError, match=f"to {labels[0]}; expected whole numbers from 0 to 1"):
            nll([[0.5, 0.5]], labels)
    with pytest.raises(UsageError, match="debiased"):
        expected_calibration_error(P, Y, debiased=True)


CASE = np.arange(60)
TOP = 0.504 + (17 * CASE % 61) / 125
RIGHT = ((7 * CASE**2 + CASE) % 10 < 7).astype(int)


@pytest.mark.parametrize(
    ("bins", "scheme", "l1", "square", "debiased"),
    [
        (6, "mass", 0.09546666666666673, 0.015150506666666674, -0.002256900740740729),
        (15, "mass", 0.17920000000000003, 0.049373333333333325, 0.007706666666666664),
        (6, "width", 0.07359999999999996, 0.011318154497354483, 0.0032260287581699185),
    ],
)
def test_kumar_s_own_code(bins: int, scheme: str, l1: float, square: float, debiased: float) -> None:
    """Printed by uncertainty-calibration 0.1.4 (plugin_ce, unbiased_square_ce), whose square may be below 0."""
    p = np.column_stack([1 - TOP, TOP])
    found = [expected_calibration_error(p, RIGHT, bins, scheme, "l2", debiased=one) for one in (False, True)]
    assert expected_calibration_error(p, RIGHT, bins, scheme) == pytest.approx(l1, abs=1e-14)
    assert found == pytest.approx([np.sqrt(square), np.sqrt(max(debiased, 0))], abs=1e-9)


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_tied_confidences_do_not_depend_on_the_order_of_the_rows(scheme: str) -> None:
    rng = np.random.default_rng(1)
    top = np.where(rng.random(200) < 0.5, 1.0, np.round(rng.uniform(0.5, 1, 200), 1))
    p, y = np.column_stack([1 - top, top]), (rng.random(200) < 0.8).astype(int)
    orders = [rng.permutation(200) for _ in range(20)]
    found = {round(expected_calibration_error(p[o], y[o], 7, scheme), 12) for o in orders}
    assert len(found) == 1
    # All alike: one bin, whose gap is plain to see.
    assert expected_calibration_error(np.tile([0.0, 1.0], (200, 1)), y, 7, scheme) == pytest.approx(1 - y.mean())


def test_a_bin_of_one_case_has_no_debiased_error() -> None:
    p = np.array([[0.1, 0.9], [0.4, 0.6]])
    assert expected_calibration_error(p, [0, 1], bins=10, norm="l2") > 0.5
    assert expected_calibration_error(p, [0, 1], bins=10, norm="l2", debiased=True) == 0


def test_classwise_is_the_mean_of_each_class_s_own() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet([1, 1, 1], 400)
    y = np.array([rng.choice(3, p=row) for row in p])
    wanted = []
    for c in range(3):
        place = np.digitize(p[:, c], np.linspace(0, 1, 11)[1:-1])
        shares = [(place == b).sum() / 400 * abs(p[place == b, c].mean() - (y[place == b] == c).mean())
                  for b in np.unique(place)]  # fmt: skip
        wanted.append(sum(shares))
    assert classwise_ece(p, y, bins=10) == pytest.approx(np.mean(wanted), abs=1e-12)


def test_a_true_class_of_probability_0_is_infinitely_unlikely() -> None:
    assert nll([[1.0, 0.0]], [1]) == np.inf
    assert brier([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1, 1]) == pytest.approx(1.0)


def test_certainty_shares_the_last_bin() -> None:
    """1.0 and 0.95 are one bin of ten, stated 0.975 and half right; a bin for 1.0 alone would make it 0.525."""
    p = np.array([[1.0, 0.0], [0.95, 0.05]])
    assert expected_calibration_error(p, [1, 0], bins=10) == pytest.approx(0.475)
