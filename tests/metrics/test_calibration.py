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
    with pytest.raises(DataError, match="from 0 to 1"):
        nll([[0.5, 0.5]], [2])
    with pytest.raises(UsageError, match="debiased"):
        expected_calibration_error(P, Y, debiased=True)
