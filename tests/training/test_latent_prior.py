"""The diffusion model of activations: what is drawn has the planted law, and is what an image can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import medaudit.training.latent_prior as room
from medaudit.errors import DataError, UsageError
from medaudit.networks.diffusion.latent import LatentPrior, LatentShape
from medaudit.training.latent_prior import PriorRecipe, draw, fit_prior

N, M, SHARE, STEP = 3_000, 4, 0.35, 2.5
SMALL = PriorRecipe(steps=500, batch_size=128, width=64, layers=3)
TINY = PriorRecipe(steps=12, batch_size=8, width=16, layers=2)
LAW = np.array([[1.0, 0.9, 0.3, 0.0], [0.9, 1.0, 0.3, 0.0], [0.3, 0.3, 1.0, -0.6], [0.0, 0.0, -0.6, 1.0]])
"""Correlations within a kind of image; two activations go together so much that one hardly moves alone."""


def planted(n: int, seed: int) -> np.ndarray:
    """Return activations (n, 4) whose log(exp(s) - 1) is Gaussian, but 35 % of images have more of the first."""
    rng = np.random.default_rng(seed)
    raw = -1 + 0.5 * rng.multivariate_normal(np.zeros(M), LAW, size=n)
    raw[:, 0] += STEP * (rng.random(n) < SHARE)
    return np.log1p(np.exp(raw))


def raw_of(activations: np.ndarray) -> np.ndarray:
    return np.log(np.expm1(activations.astype(np.float64)))


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> LatentPrior:
    return fit_prior(planted(N, 0), tmp_path_factory.mktemp("prior"), recipe=SMALL, seed=0)


def test_what_is_drawn_has_the_means_sds_and_correlations_that_were_planted(prior: LatentPrior) -> None:
    drawn = raw_of(draw(prior, N, seed=1))
    # The law of a mixture: the step adds STEP * SHARE to the mean, and the variance of a coin to the variance.
    step = np.array([STEP, 0, 0, 0])
    mean = -1 + SHARE * step
    covariance = 0.25 * LAW + SHARE * (1 - SHARE) * np.outer(step, step)
    sd = np.sqrt(np.diag(covariance))
    # Four standard errors, of a training set and of a sample of 3,000 each, together.
    error = 4 * np.sqrt(2 / N)
    assert (np.abs(drawn.mean(0) - mean) < error * sd).all()
    np.testing.assert_allclose(drawn.std(0), sd, rtol=error / np.sqrt(2) + 0.01)  # and what DDIM's 250 steps lose
    np.testing.assert_allclose(np.corrcoef(drawn.T), covariance / np.outer(sd, sd), atol=error)
    # Of two kinds, in their shares, with an empty place between them.
    assert (drawn[:, 0] > 0.25).mean() == pytest.approx(SHARE, abs=error * 0.5)
    between = np.abs(drawn[:, 0] - 0.25) < 0.15
    assert between.mean() < 0.04  # a Gaussian of this mean and SD would have 0.085 there


def test_what_is_drawn_is_new_and_has_activations_own_means(prior: LatentPrior) -> None:
    drawn, real, other = draw(prior, N, seed=2), planted(N, 0), planted(N, 9)
    error = 4 * np.sqrt(2 / N)
    assert (np.abs(drawn.mean(0) - other.mean(0)) < error * other.std(0)).all()
    np.testing.assert_allclose(drawn.std(0), other.std(0), rtol=0.1)

    def nearest(these: np.ndarray) -> float:
        distances = torch.cdist(torch.from_numpy(these[:500]).double(), torch.from_numpy(real))
        return float(distances.amin(1).median())

    # No nearer to a training row than other rows of the same law are, and not far from them.
    assert 0.85 < nearest(drawn) / nearest(other) < 1.4


def test_draws_are_activations_follow_from_the_seed_and_do_not_depend_on_their_number(prior: LatentPrior) -> None:
    drawn = draw(prior, 300, seed=3)
    assert drawn.dtype == np.float32
    assert (drawn > 0).all()
    assert (drawn <= np.log(1e4) + 1e-5).all()
    np.testing.assert_array_equal(draw(prior, 300, seed=3), drawn)
    np.testing.assert_allclose(draw(prior, 5, seed=3), drawn[:5], rtol=1e-4)
    assert not np.allclose(draw(prior, 5, seed=4), drawn[:5], rtol=0.1)


def test_any_code_means_an_activation_that_an_image_can_have() -> None:
    shape = LatentShape(3)
    net = LatentPrior(shape)
    wild = 12 * torch.randn(2_000, 3, generator=torch.Generator().manual_seed(0))
    made = net.decode(wild)
    assert (made >= 0).all()
    assert made.max().item() == pytest.approx(np.log(1e4), abs=1e-4)  # a patch equal to its prototype
    usual = 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(1)).clamp(-3, 3)
    torch.testing.assert_close(net.encode(net.decode(usual)), usual, rtol=1e-3, atol=2e-3)
    squared = torch.tensor([[0.0, 1.0, 1_000.0]], dtype=torch.float64)
    activation = torch.log((squared + 1) / (squared + 1e-4))
    torch.testing.assert_close(net.encode(activation), -torch.log(squared + 1e-4).float(), rtol=1e-4, atol=1e-4)
    assert net.encode(torch.zeros(1, 3)).isfinite().all()  # infinitely far away


def test_activations_of_the_linear_similarity_stay_below_0(tmp_path: Path) -> None:
    squared = np.exp(np.random.default_rng(0).normal(size=(500, 2)))
    prior = fit_prior(-squared, tmp_path, recipe=PriorRecipe(steps=300, batch_size=64, width=32, layers=2))
    assert prior.shape.similarity == "linear"
    drawn = draw(prior, 400, seed=0)
    assert (drawn <= 0).all()
    assert np.median(np.log(-drawn), axis=0) == pytest.approx([0, 0], abs=0.25)


def test_a_prototype_that_is_everywhere_the_same_is_drawn_the_same(tmp_path: Path) -> None:
    activations = planted(200, 0)
    activations[:, 2] = 0.7
    drawn = draw(fit_prior(activations, tmp_path, recipe=TINY), 100, seed=0)
    np.testing.assert_allclose(drawn[:, 2], 0.7, rtol=1e-2)


def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    activations = planted(60, 0)
    whole = fit_prior(activations, tmp_path / "whole", recipe=TINY, seed=1)
    losses = [0]
    whole_loss = room.mse_loss

    def dying(*arguments: torch.Tensor) -> torch.Tensor:
        losses[0] += 1
        if losses[0] == 7:  # in the second of three parts of four steps
            raise KeyboardInterrupt
        return whole_loss(*arguments)

    monkeypatch.setattr(room, "mse_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        fit_prior(activations, tmp_path / "killed", recipe=TINY, seed=1)
    rest = fit_prior(activations, tmp_path / "killed", recipe=TINY, seed=1)
    assert losses[0] == 7 + 8  # went on after the first part, and not anew
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
    np.testing.assert_array_equal(draw(whole, 3, seed=0), draw(rest, 3, seed=0))
    assert not any(torch.equal(a, b) for a, b in zip(whole.parameters(), _other(tmp_path).parameters(), strict=True))


def _other(folder: Path) -> nn.Module:
    return fit_prior(planted(60, 0), folder / "other", recipe=TINY, seed=2)


def test_a_folder_of_other_activations_is_not_gone_on_with(tmp_path: Path) -> None:
    fit_prior(planted(60, 0), tmp_path, recipe=TINY)
    for other in (planted(60, 1), planted(60, 0)[:, :3]):
        with pytest.raises(UsageError, match="training on other activations"):
            fit_prior(other, tmp_path, recipe=TINY)


def test_activations_that_cannot_be_are_refused(tmp_path: Path) -> None:
    good = planted(10, 0)
    broken = good.copy()
    broken[3, 1] = np.nan
    both = good.copy()
    both[0, 0] = -1
    for values, said in ((good[:1], "expected two or more"), (broken, "row 4 .* not finite"), (both, "both signs")):
        with pytest.raises(DataError, match=said):
            fit_prior(values, tmp_path / "none", recipe=TINY)
    with pytest.raises(UsageError, match="no similarity 'cosine'"):
        LatentShape(3, similarity="cosine")
