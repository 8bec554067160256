"""The laws of SLUG's estimators: unbiased, of the variance that theory says, and honest about their error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.func import jacrev

from medaudit.uncertainty import slug
from medaudit.uncertainty.slug import traces

OUT = 48


class Code(nn.Module):
    """The first three numbers of an image: an encoder without parameters."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


def small(rank: int = 30, **options: object) -> tuple[slug.SlugState, Tensor]:
    """Return a fit of a small decoder, and five images, the last two nearly alike."""
    torch.manual_seed(0)
    decode = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, OUT), nn.Unflatten(1, (3, 4, 4))).double()
    images = torch.randn(25, 3, 4, 4, dtype=torch.float64)
    new = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    new[4] = new[3] + 0.05 * torch.randn(3, 4, 4, dtype=torch.float64)
    return slug.fit(Code(), decode, images, rank, params="decoder", **options), new  # type: ignore[arg-type]


def covariance(state: slug.SlugState, image: Tensor) -> Tensor:
    """Return A = J Σ J' of one image, (O, O), with J by reverse differentiation and Σ written out."""
    found = jacrev(state.model.function(image[None]))(dict(state.model.parameters))
    j = state.model.flat({k: v.flatten(4).flatten(0, 3) for k, v in found.items()}, batched=True)
    u, alpha = state.vectors, state.fitted.prior_precision
    assert u is not None
    return j @ ((torch.eye(state.model.size) - (u.T * state.removed) @ u) / alpha) @ j.T


def fixed(probes: int, **more: object) -> dict:
    return {"relative_error": None, "min_probes": 2, "max_probes": probes, **more}


@pytest.mark.parametrize("estimator", ["jvp", "vjp"])
def test_2000_probes_are_unbiased_and_have_the_variance_of_the_theory(estimator: str) -> None:
    state, new = small()
    said = slug.score(state, new[:3], estimator=estimator, **fixed(2_000, rho=False, seed=1))
    truth = slug.score(state, new[:3], estimator="exact").score
    assert np.abs((said.score - truth) / said.error).max() < 3.3
    for i in range(3):
        a = covariance(state, new[i])
        assert truth[i] == pytest.approx(float(torch.trace(a)), rel=1e-9)
        # Gauss: 2 |A|²; signs are not mistaken about the diagonal.
        law = 2 * a.square().sum() - (2 * torch.diagonal(a).square().sum() if estimator == "vjp" else 0)
        assert said.each[:, i].var(ddof=1) == pytest.approx(float(law), rel=0.1)
        assert said.error[i] == pytest.approx((float(law) / 2_000) ** 0.5, rel=0.05)


def test_row_norms_are_unbiased_with_few_probes_and_exact_where_they_span_all_outputs() -> None:
    state, new = small()
    truth = slug.score(state, new[:1], estimator="exact", pixel_map=True)
    runs = [
        slug.score(state, new[:1], estimator="row_norms", pixel_map=True, **fixed(16, seed=seed)) for seed in range(100)
    ]
    values = np.stack([run.score for run in runs])
    assert np.abs((values.mean(0) - truth.score) / (values.std(0, ddof=1) / len(runs) ** 0.5)).max() < 3.3
    maps = np.stack([run.pixels for run in runs])
    z = (maps.mean(0) - truth.pixels) / (maps.std(0, ddof=1) / len(runs) ** 0.5)
    assert np.abs(z).max() < 4.2  # of 48 pixels
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum(axis=(2, 3, 4)), values, rtol=1e-5)
    spans = slug.score(state, new[:1], estimator="row_norms", pixel_map=True, **fixed(2 * OUT))
    np.testing.assert_allclose(spans.score, truth.score, rtol=1e-7)
    np.testing.assert_allclose(spans.pixels, truth.pixels, rtol=1e-5)  # type: ignore[arg-type]


def test_the_same_seed_for_fit_and_score_does_not_make_a_probe_of_what_the_search_began_with() -> None:
    # Both default to 0. A probe that was the search's first vector lies in the space that it found: no draw at all.
    ratios = []
    for seed in range(6):
        state, new = small(rank=40, weights="projector", prior_precision=1.0, tolerance=0.0, seed=seed)
        truth = slug.score(state, new[:1], estimator="exact").score[0]
        ratios.append(slug.score(state, new[:1], rho=False, **fixed(4, seed=seed)).each[0, 0] / truth)
    a = covariance(state, new[0])
    sd = float((2 * a.square().sum()).sqrt() / torch.trace(a))
    assert abs(np.mean(ratios) - 1) < 3 * sd / len(ratios) ** 0.5


def test_the_standard_errors_of_score_and_rho_are_the_spread_over_seeds() -> None:
    state, new = small()
    truth = slug.score(state, new, estimator="exact")
    runs = [slug.score(state, new, **fixed(16, seed=seed)) for seed in range(1, 161)]
    for name in ("score", "rho"):
        values = np.stack([getattr(run, name) for run in runs])
        errors = np.stack([getattr(run, "error" if name == "score" else "rho_error") for run in runs])
        calibrated = values.std(axis=0, ddof=1) / np.sqrt((errors**2).mean(axis=0))
        np.testing.assert_allclose(calibrated, 1, atol=0.25)
        z = (values.mean(axis=0) - getattr(truth, name)) / (values.std(axis=0, ddof=1) / len(runs) ** 0.5)
        assert np.abs(z).max() < (3.3 if name == "score" else 4.5)  # a ratio of means has a bias of order 1 / S
        assert values.min() >= 0
    assert np.stack([run.rho for run in runs]).max() <= 1
    np.testing.assert_allclose(runs[0].rho, runs[0].score / runs[0].jacobian)


def test_each_pixel_is_chi_square_and_its_error_is_the_spread() -> None:
    state, new = small()
    diagonal = torch.diagonal(covariance(state, new[0])).numpy()
    runs = [slug.score(state, new[:1], pixel_map=True, rho=False, **fixed(12, seed=seed)) for seed in range(1, 151)]
    maps = np.stack([run.pixels.ravel() for run in runs])  # type: ignore[union-attr]
    for pixel in (0, 13, 47):
        assert kstest(12 * maps[:, pixel] / diagonal[pixel], "chi2", args=(12,)).pvalue > 0.005
    assert np.median(maps.std(axis=0, ddof=1) / diagonal) == pytest.approx((2 / 12) ** 0.5, rel=0.08)
    errors = np.stack([run.pixel_error.ravel() for run in runs])  # type: ignore[union-attr]
    calibrated = maps.std(axis=0, ddof=1) / np.sqrt((errors**2).mean(axis=0))
    assert np.median(calibrated) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(maps.sum(axis=1), [run.score[0] for run in runs], rtol=1e-5)


def test_a_bekas_map_has_the_variance_of_the_other_pixels() -> None:
    state, new = small()
    a = covariance(state, new[0])
    said = slug.score(state, new[:1], estimator="vjp", pixel_map=True, **fixed(400))
    law = (a.square().sum(dim=1) - torch.diagonal(a).square()).sqrt() / 400**0.5
    np.testing.assert_allclose(said.pixel_error.ravel(), law, rtol=0.25)  # type: ignore[union-attr]
    assert np.abs((said.pixels.ravel() - torch.diagonal(a).numpy()) / said.pixel_error.ravel()).max() < 4.2  # type: ignore


def test_probes_are_the_same_whatever_the_batch_and_however_many_are_asked_for() -> None:
    state, new = small()
    whole = slug.score(state, new, **fixed(40))
    few = slug.score(state, new, **fixed(16))
    np.testing.assert_allclose(whole.each[:16], few.each, rtol=1e-10)
    single = slug.score(state, [new[:1], (new[1:4], "cases"), {"image": new[4:]}], **fixed(40))
    np.testing.assert_allclose(single.each, whole.each, rtol=1e-10)
    assert not np.allclose(slug.score(state, new, **fixed(40, seed=1)).each, whole.each)


def test_an_image_takes_probes_until_it_is_known_well_enough_and_each_has_its_own_number() -> None:
    state, new = small()
    all_of_them = slug.score(state, new, rho=False, **fixed(400))
    for size in (1, 2, 5):
        said = slug.score(state, new, relative_error=0.03, min_probes=16, max_probes=400, rho=False, batch_size=size)
        assert (said.error <= 0.03 * said.score).all()
        assert said.each.shape == (400, 5)
        for i, taken in enumerate(said.probes):
            assert taken % 8 == 0
            assert 16 <= taken < 400
            assert np.isfinite(said.each[:taken, i]).all()
            assert np.isnan(said.each[taken:, i]).all()
            np.testing.assert_allclose(said.each[:taken, i], all_of_them.each[:taken, i], rtol=1e-9)
            assert said.score[i] == pytest.approx(said.each[:taken, i].mean(), rel=1e-12)
            before = all_of_them.each[: taken - 8, i]
            enough = before.std(ddof=1) / len(before) ** 0.5 <= 0.03 * before.mean()
            assert not enough or taken == 16
    assert len(set(said.probes.tolist())) > 1
    bounded = slug.score(state, new, relative_error=1e-6, max_probes=20)
    assert (bounded.probes == 20).all()


def test_a_contrast_of_like_images_is_known_better_than_either_by_shared_probes() -> None:
    state, new = small()
    first, second = np.asarray([3]), np.asarray([False, False, False, False, True])
    runs = [slug.score(state, new, rho=False, **fixed(16, seed=seed)) for seed in range(1, 121)]
    found = np.asarray([run.contrast(first, second) for run in runs])
    unpaired = np.median([np.hypot(run.error[3], run.error[4]) for run in runs])
    assert np.median(found[:, 1]) < 0.3 * unpaired
    assert found[:, 0].std(ddof=1) == pytest.approx(np.sqrt((found[:, 1] ** 2).mean()), rel=0.2)
    truth = slug.score(state, new, estimator="exact").score
    z = (found[:, 0].mean() - (truth[3] - truth[4])) / (found[:, 0].std(ddof=1) / len(runs) ** 0.5)
    assert abs(z) < 3.3
    groups = runs[0].contrast(np.asarray([0, 1]), np.asarray([2, 3, 4]))
    assert groups[0] == pytest.approx(runs[0].score[:2].mean() - runs[0].score[2:].mean())


def test_a_contrast_of_exact_scores_is_exact() -> None:
    state, new = small()
    said = slug.score(state, new, estimator="exact")
    value, error = said.contrast(np.asarray([0]), np.asarray([1, 2]))
    assert value == pytest.approx(said.score[0] - said.score[1:3].mean())
    assert error == 0


class Curve(nn.Module):
    """A decoder with five parameters: the covariance of its output has a rank of at most five."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.2, 0.5, 0.1, 0.7], dtype=torch.float64))

    def forward(self, codes: Tensor) -> Tensor:
        basis = torch.sin(torch.arange(5 * OUT, dtype=torch.float64)).view(5, OUT)
        return (torch.tanh(codes.sum(dim=1, keepdim=True) * self.weight) @ basis).view(-1, 3, 4, 4)


def test_estimators_for_covariances_of_low_rank_are_exact_there() -> None:
    images = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = slug.fit(Code(), Curve(), images, 2, params="decoder")
    truth = slug.score(state, images, estimator="exact", pixel_map=True)
    for estimator in ("hutch++", "xtrace"):
        said = slug.score(state, images, estimator=estimator, max_probes=18)
        np.testing.assert_allclose(said.score, truth.score, rtol=1e-8)
    rows = slug.score(state, images, estimator="row_norms", max_probes=16, pixel_map=True)
    np.testing.assert_allclose(rows.score, truth.score, rtol=1e-8)
    np.testing.assert_allclose(rows.pixels, truth.pixels, rtol=1e-4, atol=1e-9)  # type: ignore[arg-type]


def leave_one_out(a: Tensor, probes: Tensor) -> Tensor:
    """Return XTrace's m estimates from their definition, each with an orthonormal basis of its own."""
    found = []
    for i in range(len(probes)):
        rest = torch.cat([probes[:i], probes[i + 1 :]])
        q = torch.linalg.qr((rest @ a).T).Q
        left = probes[i] - q @ (q.T @ probes[i])
        found.append(torch.trace(q.T @ a @ q) + left @ a @ left)
    return torch.stack(found)


@pytest.mark.parametrize("rank", [60, 20])
def test_xtrace_is_the_mean_of_its_leave_one_out_estimates(rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    half = torch.randn(60, rank, generator=generator, dtype=torch.float64)
    a = half @ half.T
    probes = traces.signs(15, 60, generator, torch.float64)
    wanted = leave_one_out(a, probes)
    value, error = traces.xtrace(lambda v: v @ a, probes)
    assert value == pytest.approx(float(wanted.mean()), rel=1e-10)
    assert error == pytest.approx(float(wanted.std() / 15**0.5), rel=1e-8)


def test_hutch_plus_plus_has_a_far_smaller_error_than_hutchinson_where_the_spectrum_decays() -> None:
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(80, 80, generator=generator, dtype=torch.float64)).Q
    a = (turned * torch.exp(-0.4 * torch.arange(80.0, dtype=torch.float64))) @ turned.T
    spread = {}
    for name in ("hutchinson", "hutch_pp", "xtrace"):
        found = [
            getattr(traces, name)(
                lambda v: v @ a, traces.signs(15 if name == "xtrace" else 30, 80, generator, a.dtype)
            )[0]
            for _ in range(60)
        ]
        spread[name] = float(np.sqrt(np.mean((np.asarray(found) - float(torch.trace(a))) ** 2)))
    assert spread["hutch_pp"] < spread["hutchinson"] / 5
    assert spread["xtrace"] < spread["hutch_pp"]
