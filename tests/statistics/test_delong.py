"""DeLong against the exact variance of a binormal AUROC, and its clustered form against simulated patients."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from medaudit.errors import DataError
from medaudit.statistics.delong import delong, delong_test


def test_the_variance_is_that_of_two_normals():
    """Exactly (t(1-t) + (m-1)(q-t^2) + (n-1)(q-t^2)) / mn (Bamber 1975), q the chance that two beat one."""
    rng, distance, m, n = np.random.default_rng(0), 1.2, 40, 60
    z = distance / np.sqrt(2)
    t, q = norm.cdf(z), multivariate_normal(cov=[[1, 0.5], [0.5, 1]]).cdf([z, z])
    exact = (t * (1 - t) + (m + n - 2) * (q - t**2)) / (m * n)
    up = np.repeat([True, False], [m, n])
    # Rows of one call are as good as calls: each is a sample of its own.
    found = delong(rng.normal(size=(2_000, m + n)) + distance * up, up)
    assert found.auc.mean() == pytest.approx(t, abs=4 * np.sqrt(exact / 2_000))
    assert found.auc.var() == pytest.approx(exact, rel=0.12)
    assert np.diag(found.covariance).mean() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(("kinds", "naive_over_true"), [("a patient has one kind", 0.5), ("a patient has both", 1.5)])
def test_clustered_variance_is_that_of_resampled_worlds(kinds, naive_over_true):
    """Half of the variance is the patient's: the plain covariance is far too small, or too large where kinds pair."""
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(40), 6)
    up = who % 2 == 0 if kinds == "a patient has one kind" else np.arange(240) % 2 == 0
    aucs, clustered, plain = [], [], []
    for _ in range(500):
        scores = rng.normal(size=40)[who] + rng.normal(size=240) + up
        found = delong(scores, up, clusters=who)
        aucs.append(found.auc[0])
        clustered.append(found.covariance[0, 0])
        plain.append(delong(scores, up).covariance[0, 0])
    true = np.var(aucs)
    assert np.mean(clustered) / true == pytest.approx(1, abs=0.2)
    assert (np.mean(plain) / true < naive_over_true) == (naive_over_true < 1)
    covered = np.abs(np.array(aucs) - np.mean(aucs)) < 1.96 * np.sqrt(clustered)
    assert covered.mean() == pytest.approx(0.95, abs=0.03)


def test_clustered_covariance_is_obuchowski_s_formula():
    """Obuchowski (1997), summed patient by patient; five patients, so that K / (K - 1) is far from 1, three of both."""
    who = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 4])
    up = np.array([1, 1, 0, 1, 0, 0, 0, 1, 1, 0], dtype=bool)
    scores = np.round(np.random.default_rng(3).normal(size=(2, 10)) + 0.5 * up, 1)
    m, n = up.sum(), (~up).sum()
    wanted = np.zeros((2, 2))
    parts = []
    for row in scores:
        wins = (row[up][:, None] > row[~up]) + 0.5 * (row[up][:, None] == row[~up])
        ours_up, ours_down = wins.mean(axis=1) - wins.mean(), wins.mean(axis=0) - wins.mean()
        parts.append([(ours_up[who[up] == k].sum(), ours_down[who[~up] == k].sum()) for k in range(5)])
    for r, s in np.ndindex(2, 2):
        for (up_r, down_r), (up_s, down_s) in zip(parts[r], parts[s], strict=True):
            # Four patients have positive cases, four negative ones, and there are five.
            wanted[r, s] += 4 / 3 * up_r * up_s / m**2 + 4 / 3 * down_r * down_s / n**2
            wanted[r, s] += 5 / 4 * (up_r * down_s + down_r * up_s) / (m * n)
    np.testing.assert_allclose(delong(scores, up, clusters=who).covariance, wanted, atol=1e-15)


def test_what_is_seen_by_order_alone():
    rng = np.random.default_rng(2)
    up = rng.random(50) < 0.5
    scores = rng.normal(size=(2, 50)) + up
    found = delong(scores, up)
    warped = delong([np.exp(scores[0]), np.where(scores[1] == scores[1].max(), np.inf, scores[1])], up)
    np.testing.assert_allclose(warped.covariance, found.covariance, rtol=1e-12)
    turned = delong(-scores, ~up)
    np.testing.assert_allclose(turned.auc, found.auc)
    np.testing.assert_allclose(turned.covariance, found.covariance, rtol=1e-9)
    there, back = delong_test(found, 0, 1), delong_test(found, 1, 0)
    assert there[:3] == pytest.approx((-back[0], -back[2], -back[1]))
    assert there[3] == pytest.approx(back[3])


def test_no_variance():
    up = np.repeat([True, False], 10)
    result = delong(np.stack([up, up, np.zeros(20)]), up)
    np.testing.assert_array_equal(result.auc, [1, 1, 0.5])
    assert delong_test(result, 0, 1) == (0, 0, 0, 1)
    assert delong_test(result, 0, 2) == (0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("scores", "up", "clusters", "said"),
    [
        ([1.0, 2, 3, np.nan], [1, 1, 0, 0], None, "NaN"),
        ([1.0, 2, 3], [1, 1, 0, 0], None, "3 scores and 4 labels"),
        ([1.0, 2, 3, 4], [1, 1, 1, 0], None, "3 positive and 1 negative"),
        ([1.0, 2, 3, 4], [1, 1, 0, 0], [0, 0, 1, 2], "1 patient.s., negative ones of 2"),
        ([1.0, 2, 3, 4], [1, 1, 0, 0], [0, 1, 2], "clusters have shape"),
    ],
)
def test_refuses(scores, up, clusters, said):
    with pytest.raises(DataError, match=said):
        delong(scores, up, clusters=clusters)
