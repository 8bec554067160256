"""Ranking and abstention against closed forms, scikit-learn, and a hand-worked vector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from medaudit.errors import DataError, UsageError
from medaudit.metrics.ranking import auroc, average_precision, fpr95
from medaudit.metrics.ranking_draws import NAMES, ranking_draws
from medaudit.metrics.selective import (
    ESTIMATORS,
    auarc,
    augrc,
    aurc,
    coverage_at_risk,
    excess_aurc,
    failure_auroc,
    risk_at_coverage,
    risk_coverage,
    scod_loss,
)

U, LOSS = [0.1, 0.2, 0.2, 0.4, 0.9], [0, 1, 0, 0, 1]


def quantiles(n: int, mean: float, sd: float) -> np.ndarray:
    """A normal sample without chance: its quantiles."""
    return mean + sd * norm.ppf((np.arange(n) + 0.5) / n)


@pytest.mark.parametrize(
    ("sd", "area", "ood_positive", "id_positive"),
    [(2.0, 0.814453, 0.901424, 0.429529), (1.0, 0.921350, 0.361240, 0.361240)],
)
def test_binormal_closed_forms_tell_the_conventions_apart(
    sd: float, area: float, ood_positive: float, id_positive: float
) -> None:
    inside, outside = quantiles(40_001, 0, 1), quantiles(40_001, 2, sd)
    assert norm.cdf(2 / np.sqrt(1 + sd**2)) == pytest.approx(area, abs=1e-6)
    assert auroc(inside, outside) == pytest.approx(area, abs=1e-4)
    assert fpr95(inside, outside, positive="ood") == pytest.approx(ood_positive, abs=5e-4)
    assert fpr95(inside, outside, positive="id") == pytest.approx(id_positive, abs=5e-4)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60), st.sampled_from([0, 1, 8]))
@settings(max_examples=60, deadline=None)
def test_sklearn_under_ties(seed: int, n: int, m: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    inside, outside = np.round(rng.normal(0, 1, n), decimals), np.round(rng.normal(0.5, 1, m), decimals)
    truth = np.repeat([0, 1], [n, m])
    values = np.concatenate([inside, outside])
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert average_precision(inside, outside) == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    found = average_precision(inside, outside, positive="id")
    assert found == pytest.approx(average_precision_score(1 - truth, -values), abs=1e-12)


def test_constant_scores_and_bad_ones() -> None:
    assert auroc([1.0] * 5, [1.0] * 7) == 0.5
    assert average_precision([1.0] * 5, [1.0] * 5) == 0.5
    assert auroc([1.0, 2.0], [0.0]) == 0.0  # not flipped
    with pytest.raises(DataError, match="NaN"):
        auroc([0.0, np.nan], [1.0])
    with pytest.raises(DataError, match="no out-of-distribution scores"):
        auroc([0.0], [])
    with pytest.raises(UsageError, match="'ood' or 'id'"):
        fpr95([0.0], [1.0], positive="OOD")


def test_the_hand_worked_vector() -> None:
    assert augrc(U, LOSS) == pytest.approx(0.14, abs=1e-12)
    assert aurc(U, LOSS, "trapz") == pytest.approx(0.19, abs=1e-12)
    assert aurc(U, LOSS, "harmonic") == pytest.approx(0.246667, abs=1e-6)
    assert aurc(U, LOSS, "exact") == pytest.approx(0.213789, abs=1e-6)
    assert failure_auroc(U, LOSS) == pytest.approx(0.75)
    assert auarc(U, LOSS) == pytest.approx(1 - 0.246667, abs=1e-6)
    curve = risk_coverage(U, LOSS)
    np.testing.assert_allclose(curve.coverage, [0.2, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 1 / 4, 2 / 5])
    assert risk_at_coverage(U, LOSS, 0.7) == pytest.approx(0.25)
    assert coverage_at_risk(U, LOSS, 0.3) == pytest.approx(0.8)
    assert coverage_at_risk(U, LOSS, 0.0) == pytest.approx(0.2)


@given(st.integers(0, 10_000), st.integers(3, 80), st.sampled_from([0, 1, 8]))
@settings(max_examples=60, deadline=None)
def test_identity_and_permutation_invariance_under_ties(seed: int, n: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    u = np.round(rng.normal(size=n), decimals)
    loss = (rng.random(n) < 0.4).astype(float)
    p = loss.mean()
    if 0 < p < 1:
        wanted = p * (1 - p) * (1 - failure_auroc(u, loss)) + p**2 / 2
        assert augrc(u, loss) == pytest.approx(wanted, abs=1e-12)
    order = rng.permutation(n)
    for measure in (augrc, auarc, *(lambda a, b, e=e: aurc(a, b, e) for e in ESTIMATORS)):
        assert measure(u[order], loss[order]) == pytest.approx(measure(u, loss), abs=1e-12)


def test_oracle_random_and_the_mean_over_tie_orders() -> None:
    rng = np.random.default_rng(0)
    loss = (rng.random(2_000) < 0.2).astype(float)
    p = loss.mean()
    assert augrc(loss, loss) == pytest.approx(p**2 / 2, abs=1e-12)
    assert np.mean([augrc(rng.random(2_000), loss) for _ in range(60)]) == pytest.approx(p / 2, abs=2e-3)
    assert augrc(np.zeros(2_000), loss) == pytest.approx(p / 2, abs=1e-12)
    few, tied = loss[:7] * 0 + [1, 0, 0, 1, 0, 1, 0], np.array([0, 0, 0, 1, 1, 1, 1.0])
    orders = [aurc(tied + 1e-6 * rng.random(7), few) for _ in range(20_000)]
    assert aurc(tied, few) == pytest.approx(np.mean(orders), abs=4 * np.std(orders) / np.sqrt(len(orders)))
    weights = -np.log1p(-(np.arange(2_000) + 0.5) / 2_000)
    u = rng.random(2_000)
    assert aurc(u, loss) == pytest.approx((weights[np.argsort(np.argsort(u))] * loss).mean(), abs=2e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_excess_is_zero_for_a_perfect_order_and_positive_else(estimator: str) -> None:
    rng = np.random.default_rng(1)
    loss = (rng.random(60) < 0.15).astype(float)
    assert excess_aurc(loss + 1e-3 * rng.random(60), loss, estimator) == pytest.approx(0.0, abs=1e-12)
    assert excess_aurc(rng.random(60), loss, estimator) > 0
    with pytest.raises(UsageError, match="harmonic, trapz, exact"):
        aurc(U, LOSS, "mean")


def test_scod_by_hand() -> None:
    np.testing.assert_allclose(scod_loss([1, 0, 1, 0], [0, 0, 1, 1], 0.4), [0.6, 0, 0.4, 0.4])


def test_draws_are_the_metrics_of_repeated_cases() -> None:
    rng = np.random.default_rng(2)
    n, patients = 120, 40
    who = rng.integers(0, patients, n)
    outside = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=(3, n)), 1)
    loss = (rng.random((3, n)) < 0.3).astype(float)
    loss[:, :9] = np.nan
    weights = rng.multinomial(patients, np.ones(patients) / patients, size=5)
    drawn = ranking_draws(scores, outside, loss, who, weights)
    for b, m in np.ndindex(5, 3):
        rows = np.repeat(np.arange(n), weights[b][who])
        s, o, cost = scores[m, rows], outside[rows], loss[m, rows]
        kept = ~np.isnan(cost)
        u, lost = s[kept], cost[kept]
        wanted = {
            "auroc": auroc(s[~o], s[o]),
            "fpr95_ood_pos": fpr95(s[~o], s[o]),
            "fpr95_id_pos": fpr95(s[~o], s[o], positive="id"),
            "aupr_out": average_precision(s[~o], s[o]),
            "aupr_in": average_precision(s[~o], s[o], positive="id"),
            "augrc": augrc(u, lost),
            "aurc": aurc(u, lost),
            "risk_at_80": risk_at_coverage(u, lost),
            "failure_auroc": failure_auroc(u, lost),
        }
        for name in NAMES:
            assert drawn[name][b, m] == pytest.approx(wanted[name], abs=1e-12), name


def test_a_resample_without_a_kind_is_nan() -> None:
    drawn = ranking_draws(np.array([[0.0, 1.0, 2.0]]), np.array([False, False, True]), None, np.arange(3),
                          np.array([[1, 1, 0], [1, 1, 1]]))  # fmt: skip
    assert np.isnan(drawn["auroc"][0, 0])
    assert drawn["auroc"][1, 0] == 1.0
    assert np.isnan(drawn["augrc"]).all()
