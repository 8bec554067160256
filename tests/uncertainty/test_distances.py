"""Distances of features against pytorch-ood, scikit-learn, scipy and closed forms, where covariances are awkward."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chi2, ncx2
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.distances import KNN, Mahalanobis, RelativeMahalanobis, ViM, shrunk_covariance

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
PROBLEM = {name: np.array(value) for name, value in PEERS["problem"].items()}
PEER = PEERS["pytorch_ood"]
BOTH = pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])


def clusters(cases=400, size=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(cases) % classes
    means = 2 * rng.normal(size=(classes, size))
    return means[labels] + rng.normal(size=(cases, size)) @ rng.normal(size=(size, size)), labels


def rectified(cases=60, size=200, seed=0):
    """Features as a ReLU layer makes them: fewer cases than dimensions, many zeros, some units that never fire."""
    x, labels = clusters(cases, 10, seed=seed)
    hidden = np.maximum(x @ np.random.default_rng(1).normal(size=(10, size)) - 1, 0)
    hidden[:, :20] = 0
    return hidden, labels


def textbook(x, labels, points, covariance_of):
    """Distances (n, C) by an explicit inverse."""
    means = np.stack([x[labels == c].mean(axis=0) for c in np.unique(labels)])
    inverse = np.linalg.inv(covariance_of(x - means[np.searchsorted(np.unique(labels), labels)]))
    offset = points[:, None] - means
    return np.einsum("ncd,de,nce->nc", offset, inverse, offset)


@pytest.mark.parametrize(
    ("peer", "ours", "tolerance"),
    [
        ("mahalanobis", lambda x, y, t: Mahalanobis.fit(x, y, 0).score(t) / (2 * len(x)), 1e-6),
        ("rmd", lambda x, y, t: RelativeMahalanobis.fit(x, y, 0).score(t) / len(x), 1e-5),
        ("knn_7", lambda x, y, t: KNN.fit(x, 7).score(t), 1e-12),
    ],
)
def test_distances_are_those_of_pytorch_ood(peer, ours, tolerance):
    found = ours(PROBLEM["features"], PROBLEM["labels"], PROBLEM["test"])
    np.testing.assert_allclose(found, PEER[peer], rtol=tolerance)


def test_vim_is_that_of_pytorch_ood():
    weight, bias = PROBLEM["weight"], PROBLEM["bias"]
    fitted = ViM.fit(PROBLEM["features"], PROBLEM["features"] @ weight.T + bias, weight, bias, dimension=3)
    np.testing.assert_allclose(fitted.score(PROBLEM["test"]), PEER["vim_3"], rtol=0, atol=5e-5)  # theirs is float32


@pytest.mark.parametrize("cases", [30, 200, 5000])
def test_shrinkage_is_that_of_scikit_learn(cases):
    x, labels = clusters(cases, 20)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(3)])
    peer = LedoitWolf(assume_centered=True).fit(x - means[labels])
    ours, used = shrunk_covariance(x - means[labels])
    assert used == pytest.approx(peer.shrinkage_, rel=1e-10)
    np.testing.assert_allclose(ours, peer.covariance_, rtol=1e-9, atol=1e-12)
    assert Mahalanobis.fit(x, labels).shrinkage == pytest.approx(used)


@pytest.mark.parametrize("shrinkage", [0, 0.1, 0.7])
def test_mahalanobis_is_the_textbook_formula(shrinkage):
    x, labels = clusters()
    points = x[:20] * 3
    ours = Mahalanobis.fit(x, labels, shrinkage).per_class(points)

    def covariance(residuals):
        s = residuals.T @ residuals / len(residuals)
        return (1 - shrinkage) * s + shrinkage * np.trace(s) / len(s) * np.eye(len(s))

    np.testing.assert_allclose(ours, textbook(x, labels, points, covariance), rtol=1e-9)


def test_the_nearest_class_is_that_of_linear_discriminants():
    x, labels = clusters()
    peer = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(3, 1 / 3)).fit(x, labels)
    points = np.random.default_rng(5).normal(size=(300, 6)) * 4
    assert (Mahalanobis.fit(x, labels, 0).per_class(points).argmin(axis=1) == peer.predict(points)).all()


def test_relative_distance_subtracts_a_normalised_background():
    # Both covariances are divided by N. With the background's undivided, N times less would be subtracted.
    x, labels = clusters()
    points = np.random.default_rng(6).normal(size=(50, 6)) * 5
    background = textbook(x, np.zeros(len(x), int), points, lambda r: r.T @ r / len(r))
    ours = RelativeMahalanobis.fit(x, labels, 0)
    expected = Mahalanobis.fit(x, labels, 0).per_class(points) - background
    np.testing.assert_allclose(ours.per_class(points), expected, rtol=1e-8, atol=1e-9)
    assert background.min() > 0.5


def test_relative_distance_keeps_its_digits_where_the_difference_would_not():
    # 300 directions without any class information, and a case far out along one of them: the two distances are 1e14 and
    # nearly equal. What is left lies in the two classes' direction, where the case is at the mean of class 0.
    rng = np.random.default_rng(2)
    labels = np.arange(2000) % 2
    x = rng.normal(size=(2000, 300))
    x[:, 0] += 3 * labels
    ours = RelativeMahalanobis.fit(x, labels, 0.2)
    case = x[labels == 0].mean(axis=0)
    direction = ours.directions @ rng.normal(size=2)
    far = rng.normal(size=300)
    far -= direction * (far @ direction) / (direction @ direction)
    far = far / np.linalg.norm(far) * 1e6
    far -= ours.directions @ np.linalg.pinv(ours.directions) @ far
    assert ours.score((case + far)[None])[0] == pytest.approx(ours.score(case[None])[0], rel=1e-5)
    assert Mahalanobis.fit(x, labels, 0.2).score((case + far)[None])[0] > 1e11


@BOTH
def test_an_affine_map_of_the_features_changes_nothing(kind):
    x, labels = clusters()
    points = np.random.default_rng(3).normal(size=(40, 6)) * 4
    rng = np.random.default_rng(4)
    matrix, shift = rng.normal(size=(6, 6)) * np.array([1e3, 1, 1, 1, 1, 1e-3]), 1e3 * rng.normal(size=6)
    plain = kind.fit(x, labels, 0).score(points)
    np.testing.assert_allclose(kind.fit(x @ matrix + shift, labels, 0).score(points @ matrix + shift), plain, rtol=1e-6)


def test_auroc_of_a_mean_shift_is_that_of_chi_squares():
    # One class, 16 dimensions, a shift of squared length 9: P(ncx2(16, 9) > chi2(16)).
    rng = np.random.default_rng(0)
    size, n = 16, 100_000
    fitted = Mahalanobis.fit(rng.normal(size=(n, size)), np.zeros(n, int), 0)
    inside, outside = rng.normal(size=(n, size)), rng.normal(size=(n, size)) + 3 / np.sqrt(size)
    grid = np.linspace(0, 200, 200_001)
    theory = np.trapezoid(chi2.cdf(grid, size) * ncx2.pdf(grid, size, 9), grid)
    assert theory == pytest.approx(0.821017, abs=1e-5)
    found = roc_auc_score(np.repeat([0, 1], n), fitted.score(np.concatenate([inside, outside])))
    # Hanley and McNeil's standard error at this AUROC and n.
    assert found == pytest.approx(theory, abs=3 * 0.0010)


@BOTH
def test_dead_units_and_fewer_cases_than_features_still_separate(kind):
    x, labels = rectified(cases=90)
    fitted = kind.fit(x[:60], labels[:60])
    assert 0 < fitted.shrinkage < 1
    assert fitted.condition < 1e6
    assert "60 cases" in fitted.notes[0]
    shifted = x[60:] + 5 * np.abs(np.random.default_rng(0).normal(size=200))
    score = fitted.score(np.concatenate([x[60:], shifted]))
    assert np.isfinite(score).all()
    if kind is Mahalanobis:
        assert roc_auc_score(np.repeat([0, 1], 30), score) > 0.95


def test_an_ill_conditioned_covariance_says_so():
    x, labels = clusters()
    x = x * np.array([1e-7, 1, 1, 1, 1, 1])
    fitted = Mahalanobis.fit(x, labels, 0)
    assert fitted.condition > 1e10
    assert "ill-conditioned" in fitted.notes[0]
    residuals = x - np.stack([x[labels == c].mean(axis=0) for c in range(3)])[labels]
    exact = np.linalg.cond(residuals.T @ residuals / len(x), 1)
    assert exact / 3 < fitted.condition < 3 * exact
    assert Mahalanobis.fit(*clusters(), 0).notes == ()


@BOTH
def test_a_case_is_scored_alike_in_any_company(kind):
    x, labels = clusters()
    fitted = kind.fit(x, labels)
    np.testing.assert_allclose(fitted.score(x)[7:9], fitted.score(x[7:9]), rtol=1e-10)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_neighbours_are_those_of_scikit_learn(k):
    rng = np.random.default_rng(0)
    train, points = rng.normal(size=(300, 12)), rng.normal(size=(80, 12))
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (train, points)]
    peer = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(KNN.fit(train, k).score(points), peer, rtol=1e-9)


def test_neighbours_of_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    train, points = rng.normal(size=(50, 4)), rng.normal(size=(31, 4))
    whole = KNN.fit(train, 3).score(points)
    monkeypatch.setattr("medaudit.uncertainty.distances._BLOCK_CELLS", 350)
    np.testing.assert_allclose(KNN.fit(train, 3).score(points), whole, rtol=1e-14)


def test_lengths_of_features_do_not_matter_to_neighbours_and_zeros_are_no_error():
    rng = np.random.default_rng(0)
    train, points = rng.normal(size=(60, 5)), rng.normal(size=(9, 5))
    scaled = KNN.fit(train * 1e-9, 4).score(points * 1e9)
    # An epsilon that is added to what was divided would have moved these.
    np.testing.assert_allclose(scaled, KNN.fit(train, 4).score(points), rtol=1e-12)
    assert KNN.fit(train, 1).score(np.zeros((1, 5)))[0] == pytest.approx(1)
    assert (KNN.fit(train, 1).score(train) == 0).all()


def test_vim_residual_is_what_principal_components_leave():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)) * np.array([5, 4, 3, 2, 1, 0.5, 0.2, 0.1])
    x -= x.mean(axis=0)
    weight = rng.normal(size=(3, 8))
    bias = np.zeros(3)  # the origin is then 0, the data's mean
    fitted = ViM.fit(x, x @ weight.T, weight, bias, dimension=5)
    pca = PCA(5).fit(x)
    points = rng.normal(size=(20, 8))
    left = np.linalg.norm(points - pca.inverse_transform(pca.transform(points)), axis=1)
    train_left = np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)
    z = points @ weight.T
    expected = (x @ weight.T).max(axis=1).mean() / train_left.mean() * left - np.log(np.exp(z).sum(axis=1))
    np.testing.assert_allclose(fitted.score(points), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.score(points, z), expected, rtol=1e-9)


def test_vim_origin_is_where_the_logits_are_0():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(100, 8)), rng.normal(size=(3, 8)), rng.normal(size=3)
    fitted = ViM.fit(x, x @ weight.T + bias, weight, bias)
    np.testing.assert_allclose(weight @ fitted.origin + bias, 0, atol=1e-12)
    assert fitted.residual_space.shape == (8, 4)


def test_vim_origin_stays_near_where_weight_decay_left_no_mean_weight():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(100, 8)), rng.normal(size=(3, 8))
    weight = (weight - weight.mean(axis=0)).astype(np.float32)
    bias = np.array([1.0, 2.0, 2.5])
    origin = ViM.fit(x, x @ weight.T + bias, weight, bias).origin
    assert np.linalg.norm(origin) < 10
    logits = weight @ origin + bias
    np.testing.assert_allclose(logits, logits.mean(), rtol=1e-5)  # all classes are as likely, if not 0


def test_a_distance_without_blocks_equals_scipy(monkeypatch):
    from medaudit.uncertainty.distances import squared_distances

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 7)) + 1e6, rng.normal(size=(3, 7)) + 1e6
    monkeypatch.setattr("medaudit.uncertainty.distances._BLOCK_CELLS", 500)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), rtol=1e-12)


def with_nan(x):
    return np.where(np.arange(len(x))[:, None] == 4, np.nan, x)


@BOTH
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (with_nan(x), y), "row 4"),
        (lambda x, y: (x * 0 + 3, y), "same features"),
        (lambda x, y: (x[:0], y[:0]), "1 case"),
        (lambda x, y: (x, np.where(np.arange(len(y)) == 0, 9, y)), "class 9 has one training case"),
        (lambda x, y: (x, np.where(y == 0, -1, y)), "leave out the cases without a label"),
        (lambda x, y: (x, y[1:]), "one a case"),
        (lambda x, y: (np.stack([x.mean(axis=0) * (c + 1) for c in y]), y), "do not vary within any class"),
    ],
)
def test_bad_training_features_are_named(kind, change, says):
    with pytest.raises(DataError, match=says):
        kind.fit(*change(*clusters(30)))


@BOTH
def test_a_singular_covariance_asks_for_shrinkage(kind):
    with pytest.raises(DataError, match="ledoit-wolf"):
        kind.fit(*rectified(), 0)


@BOTH
@pytest.mark.parametrize("shrinkage", [-0.1, 1.5, "oas", np.nan])
def test_unknown_shrinkage_is_refused(kind, shrinkage):
    with pytest.raises(UsageError, match="ledoit-wolf"):
        kind.fit(*clusters(), shrinkage)


def test_other_bad_input_is_named():
    x, labels = clusters()
    weight, bias = np.eye(3, 6), np.ones(3)
    z = x @ weight.T + bias
    with pytest.raises(DataError, match="two classes"):
        RelativeMahalanobis.fit(x, labels * 0)
    with pytest.raises(DataError, match="expected 6"):
        Mahalanobis.fit(x, labels).score(x[:, :5])
    with pytest.raises(UsageError, match="1 to 400"):
        KNN.fit(x, 401)
    with pytest.raises(DataError, match="row"):
        ViM.fit(x, z[::-1], weight, bias)
    with pytest.raises(DataError, match="shape"):
        ViM.fit(x, z, weight[:, :5], bias)
    with pytest.raises(UsageError, match="below D"):
        ViM.fit(x, z, weight, bias, dimension=6)
    with pytest.raises(DataError, match="smaller dimension"):
        ViM.fit(x @ np.diag([1, 1, 0, 0, 0, 0]), x @ np.diag([1, 1, 0, 0, 0, 0]) @ weight.T, weight, bias * 0, 3)
    with pytest.raises(DataError, match="above 0"):
        ViM.fit(x, z - 1000, weight, bias - 1000)
