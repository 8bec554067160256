"""Distances of generated from real images against closed forms of normal distributions, MONAI, and plain loops."""

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric, MMDMetric

from medaudit.errors import DataError, UsageError
from medaudit.metrics.generation import (
    Moments,
    block_moments,
    blocks_of,
    extrapolated_frechet,
    frechet,
    frechet_distance,
    kernel_distance,
)
from medaudit.metrics.neighbourhoods import neighbourhoods


def normal(mean, covariance, n=10):
    """The moments of a normal distribution without chance."""
    return Moments(n, np.array(mean, float), np.array(covariance, float) * (n - 1))


def alike(seed, n, m, d, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), shift / d**0.5 + scale * rng.normal(size=(m, d))


def test_frechet_of_normals_with_common_axes_is_a_sum_over_axes():
    a, b = normal([0, 1, 2], np.diag([1, 4, 9])), normal([0, 3, 2], np.diag([4, 4, 0]))
    assert frechet(a, b) == pytest.approx(2**2 + (1 - 2) ** 2 + 0 + 3**2, abs=1e-12)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_of_normals_without_common_axes_in_the_plane():
    a, b = np.array([[2, 0.9], [0.9, 1]]), np.array([[1, -0.6], [-0.6, 3]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))  # trace of the root of a 2 x 2 matrix
    assert frechet(normal([0, 0], a), normal([1, 1], b)) == pytest.approx(2 + 7 - 2 * root, abs=1e-12)


def test_frechet_is_monais():
    x, y = alike(0, 90, 120, 24, 1.0, 1.3)
    theirs = float(FIDMetric()(torch.from_numpy(y), torch.from_numpy(x)))
    assert frechet(Moments.of(x), Moments.of(y)) == pytest.approx(theirs, rel=1e-9)


def test_fewer_images_than_dimensions_keep_twelve_digits():
    x, y = alike(1, 20, 15, 64, 1.0)
    a, b = (z - z.mean(0) for z in (x, y))
    # The singular values of A B' are those of the product of the roots, and no root is taken here.
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(19 * 14)
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() / 19 + (b**2).sum() / 14 - 2 * shared
    assert frechet(Moments.of(x), Moments.of(y)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("cuts", [(1, 50), (7, 8, 90), ()])
def test_merged_moments_are_those_of_all_images(cuts):
    rows = np.random.default_rng(2).normal(1e5, 1, (100, 5)).astype(np.float32)
    merged = Moments.merged(Moments.of(part) for part in np.split(rows, cuts))
    assert merged.n == 100
    assert merged.mean == pytest.approx(rows.astype(float).mean(0), rel=1e-14)
    assert merged.covariance == pytest.approx(np.cov(rows.astype(float), rowvar=False), rel=1e-8, abs=1e-10)


def test_bias_of_the_frechet_distance_halves_when_images_double():
    by_n = {}
    for n in (400, 800, 1600):
        pairs = (alike(seed, n, n, 8) for seed in range(40))
        by_n[n] = np.mean([frechet(Moments.of(x), Moments.of(y)) for x, y in pairs])
    assert by_n[400] / by_n[800] == pytest.approx(2, rel=0.1)
    assert by_n[800] / by_n[1600] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.15)])
def test_extrapolated_distance_is_unbiased_and_its_interval_honest(shift, scale):
    true = shift**2 + 12 * (scale - 1) ** 2
    found, plain, hits = [], [], 0
    for seed in range(60):
        x, y = (block_moments(z, seed=seed) for z in alike(seed, 400, 600, 12, shift, scale))
        e = extrapolated_frechet(x, y, extractor="numbers")
        found.append(e.score.value)
        plain.append(frechet(Moments.merged(x), Moments.merged(y)))
        hits += e.score.low <= true <= e.score.high
        assert e.score.value + e.slope == pytest.approx(plain[-1], abs=0.05)
    error = np.std(found) / 60**0.5
    assert np.mean(found) == pytest.approx(true, abs=3 * error + 0.01)
    assert np.mean(plain) > true + 0.1
    assert hits >= 60 * (0.95 - 3 * (0.95 * 0.05 / 60) ** 0.5)


def test_interval_of_the_frechet_distance_is_as_wide_as_fresh_images_make_it():
    scores = []
    for seed in range(60):
        x, y = (block_moments(z) for z in alike(seed, 300, 300, 6, 1.0, 1.5))
        scores.append(frechet_distance(x, y, extractor="numbers"))
    ratio = np.mean([s.se for s in scores]) / np.std([s.value for s in scores])
    assert 0.8 < ratio < 1.4  # the SD itself is known to 9 %


def test_extrapolation_refuses_too_few_images_for_their_dimensions():
    x, y = (block_moments(z) for z in alike(0, 200, 80, 32))
    with pytest.raises(DataError, match="80 images in 32 dimensions"):
        extrapolated_frechet(x, y, extractor="numbers")


def test_kernel_distance_is_the_mean_over_blocks_of_monais_in_cubic_features():
    x, y = alike(3, 100, 100, 3, 1.0)
    u = [np.hstack([z / 3**0.5, np.ones((100, 1))]) for z in (x, y)]  # (x.y / D + 1)^3 is a dot product of cubes
    cubes = [np.einsum("ni,nj,nk->nijk", z, z, z).reshape(100, -1) for z in u]
    found = kernel_distance(x, y, extractor="numbers")
    parts = [blocks_of(100, None, 10, seed) for seed in (0, 1)]
    theirs = [
        float(MMDMetric()(*(torch.from_numpy(z[part == g]) for z, part in zip(cubes, parts, strict=True))))
        for g in range(10)
    ]
    assert found.value == pytest.approx(np.mean(theirs), abs=1e-12)
    assert found.se == pytest.approx(np.std(theirs, ddof=1) / 10**0.5, abs=1e-12)


def test_kernel_distance_is_unbiased_for_normals_on_a_line():
    def moments(m, s):
        return np.array([m, m**2 + s**2, m**3 + 3 * m * s**2])

    true = (np.array([3, 3, 1]) * (moments(0, 1) - moments(0.3, 1.1)) ** 2).sum()
    found = [kernel_distance(*alike(seed, 60, 90, 1, 0.3, 1.1), extractor="numbers").value for seed in range(225)]
    assert np.mean(found) == pytest.approx(true, abs=3 * np.std(found) / 15)
    assert min(found) < 0  # an estimate that cannot be below 0 could not be unbiased


def test_intervals_of_the_kernel_distance_hold_the_truth():
    scores = [kernel_distance(*alike(seed, 500, 500, 16), extractor="numbers") for seed in range(150)]
    assert sum(s.low <= 0 <= s.high for s in scores) >= 150 * (0.95 - 3 * (0.95 * 0.05 / 150) ** 0.5)


def plain(x, y, k):
    """Precision, recall, density, coverage from their definitions, image by image."""
    far = lambda a, b: float(np.linalg.norm(a - b))
    radius = lambda all_, i: sorted(far(all_[i], all_[j]) for j in range(len(all_)) if j != i)[k - 1]
    rx, ry = [radius(x, i) for i in range(len(x))], [radius(y, j) for j in range(len(y))]
    precision = np.mean([any(far(a, b) <= r for a, r in zip(x, rx, strict=True)) for b in y])
    recall = np.mean([any(far(a, b) <= r for b, r in zip(y, ry, strict=True)) for a in x])
    density = np.mean([sum(far(a, b) <= r for a, r in zip(x, rx, strict=True)) / k for b in y])
    return precision, recall, density, np.mean([any(far(a, b) <= r for b in y) for a, r in zip(x, rx, strict=True)])


def values(found):
    return [s.value for s in (found.precision, found.recall, found.density, found.coverage)]


@pytest.mark.parametrize("k", [1, 3])
def test_neighbourhoods_are_their_definitions_and_jackknife(k):
    x, y = alike(4, 40, 30, 3, 1.0)
    found = neighbourhoods(x + 1e4, y + 1e4, extractor="numbers", k=k, blocks=5)
    assert values(found) == pytest.approx(plain(x, y, k), abs=1e-9)
    of_x, of_y = blocks_of(40, None, 5, 0), blocks_of(30, None, 5, 1)
    less = [
        np.array([plain(x[of_x != g], y, k) for g in range(5)]),
        np.array([plain(x, y[of_y != g], k) for g in range(5)]),
    ]
    se = np.sqrt(sum(4 / 5 * ((v - v.mean(0)) ** 2).sum(0) for v in less))
    assert [s.se for s in (found.precision, found.recall, found.density, found.coverage)] == pytest.approx(se, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "k"), [(60, 60, 5), (80, 40, 3)])
def test_a_right_generator_has_density_1_and_the_coverage_of_theory(n, m, k):
    found = [neighbourhoods(*alike(seed, n, m, 4), extractor="numbers", k=k, blocks=2) for seed in range(100)]
    density, coverage = (np.array([getattr(f, name).value for f in found]) for name in ("density", "coverage"))
    assert density.mean() == pytest.approx(1, abs=3 * density.std() / 10)
    assert coverage.mean() == pytest.approx(found[0].ideal_coverage, abs=3 * coverage.std() / 10)


def test_intervals_of_neighbourhoods_are_no_narrower_than_fresh_images_make_them():
    found = [neighbourhoods(*alike(seed, 150, 150, 8, 0.3), extractor="numbers") for seed in range(40)]
    for name in ("precision", "recall", "density", "coverage"):
        scores = [getattr(f, name) for f in found]
        assert 0.9 < np.mean([s.se for s in scores]) / np.std([s.value for s in scores]) < 3


def test_one_real_outlier_lifts_precision_but_not_density():
    rng = np.random.default_rng(5)
    real, generated = rng.normal(size=(200, 4)), 8 + 0.1 * rng.normal(size=(200, 4))
    real[0] = 8
    found = neighbourhoods(real, generated, extractor="numbers")
    assert found.precision.value == 1
    assert found.density.value < 0.25
    assert found.coverage.value < 0.05


def test_a_generator_that_forgets_half_of_the_kinds_loses_recall_and_coverage():
    rng = np.random.default_rng(6)
    real = rng.normal(size=(400, 3)) + 20 * (np.arange(400) % 2)[:, None]
    found = neighbourhoods(real, rng.normal(size=(400, 3)), extractor="numbers")
    assert found.precision.value > 0.9
    assert found.recall.value == pytest.approx(0.5, abs=0.05)
    assert found.coverage.value == pytest.approx(0.5, abs=0.05)


def test_patients_stay_in_one_block_and_widen_the_interval():
    rng = np.random.default_rng(7)
    patients = rng.permutation(np.repeat(np.arange(40), 10))
    blocks = blocks_of(400, patients, 10, 0)
    assert all(len(set(blocks[patients == p])) == 1 for p in range(40))
    assert np.bincount(blocks).tolist() == [40] * 10
    uneven = blocks_of(12, [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4], 3, 0)
    assert np.bincount(uneven).tolist() == [4, 4, 4]
    x, y = rng.normal(size=(40, 4))[patients] + 0.1 * rng.normal(size=(400, 4)), 2 + rng.normal(size=(400, 4))
    whole = frechet_distance(block_moments(x, patients=patients), block_moments(y), extractor="numbers")
    torn = frechet_distance(block_moments(x), block_moments(y), extractor="numbers")
    assert whole.value == pytest.approx(torn.value)
    assert whole.se > 1.5 * torn.se


def test_scores_say_what_they_were_measured_on():
    score = kernel_distance(*alike(8, 40, 50, 2), extractor="a small classifier")
    assert "in features of a small classifier (2 numbers), 40 real and 50 generated images" in str(score)
    with pytest.raises(UsageError, match="name of what made the features"):
        kernel_distance(*alike(8, 40, 50, 2), extractor="FID")


def test_what_cannot_be_compared_is_refused():
    x, y = alike(9, 40, 40, 3)
    with pytest.raises(DataError, match=r"of 1 images are not finite, the first in row 2"):
        Moments.of(np.array([[0.0], [1.0], [np.nan]]))
    with pytest.raises(DataError, match="equal dimensions"):
        kernel_distance(x, y[:, :2], extractor="numbers")
    with pytest.raises(DataError, match="equal dimensions"):
        frechet(Moments.of(x), Moments.of(y[:, :2]))
    with pytest.raises(DataError, match="fewer than 2"):
        frechet(Moments.of(x), Moments.of(y[:1]))
    with pytest.raises(DataError, match="2 or more a block"):
        kernel_distance(x, y[:12], extractor="numbers")
    with pytest.raises(DataError, match="of one patient"):
        block_moments(x, patients=np.zeros(40))
    with pytest.raises(UsageError, match="k is 40"):
        neighbourhoods(x, y, extractor="numbers", k=40)
