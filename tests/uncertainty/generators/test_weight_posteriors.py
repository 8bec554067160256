"""Posteriors over weights against dense algebra, SLUG and loops by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from medaudit.errors import DataError, UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.training import checkpoint
from medaudit.training.vae import VaeRecipe
from medaudit.uncertainty import generators, slug
from medaudit.uncertainty.generators.online_laplace import LaplaceTraining
from medaudit.uncertainty.slug.model import Reconstruction, reconstruction
from medaudit.uncertainty.swag import Swag

SMALL = VaeShape(side=4, widths=(4,), latent=2)
RECIPE = VaeRecipe(SMALL, steps=30, batch_size=4, epochs=3)


def small(seed: int = 0, **options: object) -> tuple[Vae, Tensor]:
    shape = VaeShape(**{**SMALL.as_dict(), **options})  # type: ignore[arg-type]
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Vae(shape, seed=seed).eval().requires_grad_(False), images


def whole(model: Vae, images: Tensor) -> Reconstruction:
    return reconstruction(MeanEncoder(model.encoder), model.decoder, images)


def jacobian(f: Reconstruction, x: Tensor) -> Tensor:
    def made(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(f.chain, {**f.fixed, **parameters}, (x,)).flatten()

    return f.flat({k: v.flatten(1) for k, v in jacrev(made)(dict(f.parameters)).items()}, batched=True)


def test_the_exact_diagonal_is_the_dense_one_and_one_probe_is_unbiased_for_it() -> None:
    model, images = small()
    images = images[:3]
    f = whole(model.double(), images.double())
    dense = torch.stack([jacobian(f, x[None]).square().sum(0) for x in images.double()]).sum(0) / 0.3
    found = generators.exact_ggn_diagonal(f, images.double().split(2), 0.3, at_once=7)
    np.testing.assert_allclose(found, dense, rtol=1e-8, atol=1e-12)
    # A square of signs is skewed, and one probe errs alike for many parameters: it takes hundreds for normal errors.
    probed = torch.stack([generators.ggn_diagonal(f, [images.double()], 0.3, 1, seed) for seed in range(300)])
    error = probed.std(0) / 300**0.5
    assert float(probed.min()) >= 0
    assert float(((probed.mean(0) - dense).abs() < 3 * error + 1e-9).double().mean()) > 0.97


def test_an_images_signs_do_not_depend_on_its_batch() -> None:
    model, images = small()
    f = whole(model, images)
    once = generators.ggn_diagonal(f, [images], 0.3, 3, 5)
    torch.testing.assert_close(generators.ggn_diagonal(f, images.split(4), 0.3, 3, 5), once, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(generators.ggn_diagonal(f, [images], 0.3, 3, 6), once, rtol=1e-2)


def test_diagonal_scores_are_the_dense_formula_within_their_chi_square() -> None:
    model, images = small()
    f = whole(model.double(), images.double())
    diagonal = generators.exact_ggn_diagonal(f, [images.double()], 0.3)
    score, pixels = generators.diagonal_scores(f, diagonal, 2.0, [images.double()], 200, 0)
    for i in range(2):
        wanted = (jacobian(f, images[i : i + 1].double()).square() / (diagonal + 2.0)).sum(1)
        assert score[i] == pytest.approx(float(wanted.sum()), rel=0.2)
        # A pixel's relative error is sqrt(2 / 200), 0.1, whatever its value.
        assert np.std(pixels[i].ravel() / wanted.numpy() - 1) < 0.2
    with pytest.raises(DataError, match="diagonal"):
        generators.diagonal_scores(f, diagonal[:-1], 2.0, [images.double()], 5, 0)


class Before(nn.Module):
    """All of a VAE but its last layer."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.encoder, self.first, self.layers = model.encoder, model.decoder.first, model.decoder.layers
        self.bottom = model.decoder.bottom

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.first(self.encoder(images)[0]).view(-1, *self.bottom))


class Last(nn.Module):
    """Its last layer, to the images' units."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.layer = model.decoder.last

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features) * 0.25 + 0.5


def test_the_last_layer_in_closed_form_is_slug_with_all_of_that_layers_eigenpairs() -> None:
    model, images = small()
    model, images = model.double(), images.double()
    posterior = generators.fit_last_layer(model, images.split(4), 0.2, 1.5)
    score, pixels = generators.last_layer_scores(model, posterior, [images[:2]])
    size = sum(value.numel() for value in model.decoder.last.parameters())
    state = slug.fit(
        Before(model), Last(model), images.split(4), rank=size, params="decoder", residual_variance=0.2,
        prior_precision=1.5,
    )  # fmt: skip
    said = slug.score(state, images[:2], estimator="exact", pixel_map=True)
    np.testing.assert_allclose(score, said.score, rtol=1e-5)
    np.testing.assert_allclose(pixels, said.pixels, rtol=1e-4)


class Dense(nn.Module):
    """A decoder that ends in a linear layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 5), nn.Linear(5, 48, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(codes))).view(-1, 3, 4, 4) * 2 + 1


def test_a_linear_last_layer_is_bayesian_linear_regression() -> None:
    model, images = small()
    torch.manual_seed(0)
    model.decoder = Dense().requires_grad_(False)  # type: ignore[assignment]
    model, images = model.double(), images.double()
    posterior = generators.fit_last_layer(model, images.split(4), 0.2, 1.5)
    features = torch.tanh(model.decoder.first(model.encode_mean(images)))
    covariance = torch.linalg.inv(1.5 * torch.eye(5, dtype=torch.float64) + 4 * features.T @ features / 0.2)
    wanted = 4 * torch.einsum("nf,fg,ng->n", features, covariance, features)
    score, pixels = generators.last_layer_scores(model, posterior, [images])
    np.testing.assert_allclose(score, 48 * wanted, rtol=1e-6)
    np.testing.assert_allclose(pixels, wanted[:, None, None, None].expand(-1, 3, 4, 4), rtol=1e-5)


def test_masks_are_shared_by_all_images_and_the_variance_is_that_over_them() -> None:
    model, images = small(widths=(4, 4), dropout=0.4)
    score, pixels = generators.dropout_variance(model, images.split(4), 7, 3)
    again, _ = generators.dropout_variance(model, [images], 7, 3)
    np.testing.assert_allclose(again, score, rtol=1e-4)
    alone, _ = generators.dropout_variance(model, [images[4:5]], 7, 3)
    np.testing.assert_allclose(alone, score[4:5], rtol=1e-4)
    assert not np.allclose(generators.dropout_variance(model, [images], 7, 4)[0], score, rtol=1e-2)
    made = np.stack([net.decoder(net.encoder(images)[0]).numpy() for net in generators.DropoutDraws(model, 7, 3)])
    np.testing.assert_allclose(pixels, made.var(axis=0, ddof=1), rtol=1e-3, atol=1e-9)
    # Nothing is left behind: a pass without draws is that of the plain net.
    np.testing.assert_allclose(generators.dropout_variance(model, [images], 7, 3)[0], score, rtol=1e-4)
    assert not any(module._forward_hooks for module in model.modules())


def test_dropped_channels_come_as_often_as_their_rate_says() -> None:
    model, _ = small(widths=(4, 4), dropout=0.4)
    layer = next(module for module in model.modules() if isinstance(module, nn.Dropout2d))
    ones = torch.ones(2, 50, 3, 3)
    seen = torch.stack([layer(ones) for _ in generators.DropoutDraws(model, 80, 0)])
    assert seen.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert float((seen == 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert torch.equal(seen.amin((3, 4)), seen.amax((3, 4)))


def test_dropout_needs_a_model_that_has_it() -> None:
    model, images = small()
    with pytest.raises(UsageError, match="no dropout layer"):
        generators.dropout_variance(model, [images], 5, 0)


def test_an_ensembles_members_are_told_apart_whatever_the_batch() -> None:
    models = [small(seed)[0] for seed in range(4)]
    _, images = small()
    made = np.stack([model.reconstruct(images).numpy() for model in models]).astype(np.float64)
    found = generators.members_spread(models, images.split(4))
    np.testing.assert_allclose(found.pixels, made.var(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found.score, made.var(axis=0, ddof=1).sum(axis=(1, 2, 3)), rtol=1e-6)
    left_out = np.stack([np.delete(made, m, 0).var(axis=0, ddof=1).sum(axis=(1, 2, 3)) for m in range(4)])
    jackknife = (3 / 4 * ((left_out - left_out.mean(0)) ** 2).sum(0)) ** 0.5
    np.testing.assert_allclose(found.error, jackknife, rtol=1e-6)
    with pytest.raises(UsageError, match="1 draws"):
        generators.members_variance(models[:1], [images])


def test_swags_variance_is_that_over_weights_drawn_by_hand() -> None:
    model, images = small()
    snapshots = [{k: v + 0.05 * s for k, v in model.state_dict().items()} for s in range(3)]
    posterior = Swag.of(snapshots)
    before = copy.deepcopy(model.state_dict())
    score, pixels = generators.swag_variance(model, posterior, images.split(4), 5, 7)
    generator = torch.Generator().manual_seed(7)
    made = []
    for _ in range(5):
        net = copy.deepcopy(model)
        net.load_state_dict(posterior.sample(generator))
        made.append(net.reconstruct(images).numpy())
    np.testing.assert_allclose(pixels, np.var(made, axis=0, ddof=1), rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(score, np.var(made, axis=0, ddof=1).sum(axis=(1, 2, 3)), rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(DataError, match="another net"):
        generators.swag_variance(small(latent=3)[0], posterior, [images], 5, 7)


def test_swag_goes_on_from_the_vae_and_after_a_kill_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = small()
    first = copy.deepcopy(model.state_dict())
    recipe = generators.SwagRecipe.after(RECIPE, snapshots=4, steps=3, learning_rate=0.01)
    fit = lambda where: generators.fit_swag_vae(model, images.numpy(), range(6), recipe, where, seed=0)
    unbroken = fit(tmp_path / "a")
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    snapshots = [torch.load(tmp_path / "a" / f"snapshot-00{k}.pt", weights_only=True) for k in range(4)]
    for name, mean in unbroken.mean.items():
        by_hand = torch.stack([snapshot[name].double() for snapshot in snapshots]).mean(0)
        torch.testing.assert_close(mean, by_hand, rtol=1e-9, atol=1e-12)
    assert not torch.equal(snapshots[0]["decoder.last.weight"], snapshots[3]["decoder.last.weight"])

    write = checkpoint.write

    def killed(path: Path, state: object) -> None:
        if path.name == "snapshot-002.pt":
            raise KeyboardInterrupt
        write(path, state)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b")
    monkeypatch.setattr(checkpoint, "write", write)
    resumed = fit(tmp_path / "b")
    assert all(torch.equal(value, resumed.deviations[name]) for name, value in unbroken.deviations.items())
    with pytest.raises(UsageError, match="2 or more"):
        generators.fit_swag_vae(
            model, images.numpy(), range(6), generators.SwagRecipe.after(RECIPE, 1), tmp_path / "c", seed=0
        )


def test_the_online_diagonal_is_on_average_that_of_the_dense_ggn() -> None:
    model, images = small()
    f = whole(model, images)
    images = images[:3]
    wanted = generators.exact_ggn_diagonal(f, [images], 1.0) * 10 / 3
    # So strong a prior that no weight moves: the drawn net is the net itself.
    settings = generators.OnlineLaplaceSettings(prior_precision=1e12, memory=0.0, images=3)
    training = LaplaceTraining(copy.deepcopy(model).requires_grad_(True), 10, settings).train()
    part = {"0": "encode", "1": "decode"}
    assert [part[name[0]] + name[1:] for name in training.weights()] == list(f.parameters)
    torch.manual_seed(0)
    seen = []
    for _ in range(300):
        training(images)
        seen.append(training.hessian.clone())
    probed = torch.stack(seen).double()
    error = probed.std(0) / 300**0.5
    assert float(((probed.mean(0) - wanted).abs() < 3 * error + 1e-6).double().mean()) > 0.97


def test_online_laplace_remembers_and_its_deviations_are_the_posteriors() -> None:
    model, images = small()
    settings = generators.OnlineLaplaceSettings(prior_precision=5.0, memory=0.75, images=2)
    training = LaplaceTraining(copy.deepcopy(model).requires_grad_(True), 10, settings).train()
    training.noise.fill_(0.2)
    flat = torch.cat([value.flatten() for value in training.deviations().values()])
    torch.testing.assert_close(flat, torch.full_like(flat, (10 / 0.2 + 5) ** -0.5))
    torch.manual_seed(0)
    found = training(images)
    assert float(training.noise) == pytest.approx(0.75 * 0.2 + 0.25 * float(found["error"]), rel=1e-5)
    assert float(training.hessian.min()) >= 7.5 - 1e-4
    squares = sum(float(value.square().sum()) for value in training.weights().values())
    assert float(found["prior"]) == pytest.approx(0.5 * 5 * squares / (10 * 48), rel=1e-5)
    before = training.hessian.clone()
    training.eval()(images)
    assert torch.equal(before, training.hessian)


def test_an_online_laplace_training_that_was_killed_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = small()
    fit = lambda where: generators.fit_online_laplace(model, images.numpy(), range(6), RECIPE, where, seed=0)
    unbroken = fit(tmp_path / "a")
    assert not any(name.startswith("encoder.log_variance") for name in unbroken.deviations)
    assert not torch.equal(unbroken.model.decoder.last.weight, model.decoder.last.weight)
    step, count = LaplaceTraining.forward, [0]

    def killed(self: LaplaceTraining, x: Tensor) -> dict[str, Tensor]:
        count[0] += 1
        if count[0] > 15:
            raise KeyboardInterrupt
        return step(self, x)

    monkeypatch.setattr(LaplaceTraining, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b")
    monkeypatch.setattr(LaplaceTraining, "forward", step)
    resumed = fit(tmp_path / "b")
    assert all(torch.equal(value, resumed.deviations[name]) for name, value in unbroken.deviations.items())
    assert resumed.noise == unbroken.noise
    score, pixels = generators.online_laplace_variance(unbroken, images.split(4), 4, 1)
    again, _ = generators.online_laplace_variance(resumed, [images], 4, 1)
    np.testing.assert_allclose(again, score, rtol=1e-4)
    made = np.stack([n.reconstruct(images).numpy() for n in generators.online_laplace_draws(unbroken, 4, 1)])  # type: ignore[attr-defined]
    np.testing.assert_allclose(pixels, made.var(axis=0, ddof=1), rtol=1e-3, atol=1e-9)


def test_waic_and_disagreement_are_their_formulas_by_hand() -> None:
    found = np.log([[0.5, 0.2], [0.25, 0.2], [0.25, 0.2]]) - 5_000
    np.testing.assert_allclose(generators.disagreement_score(found), [0.375, 1 / 3], rtol=1e-9)
    np.testing.assert_allclose(generators.effective_members(found), [1 / 0.375, 3], rtol=1e-9)
    waic = found.mean(0) - found.var(0, ddof=1)
    np.testing.assert_allclose(-generators.negative_waic(found), waic, rtol=1e-12)
    assert generators.disagreement_score(np.array([[0.0], [-400.0]]))[0] == 1
    with pytest.raises(UsageError, match="2 members"):
        generators.negative_waic(found[:1])
    with pytest.raises(DataError, match="image 1"):
        generators.negative_waic(np.array([[0.0, np.nan], [0.0, 0.0]]))


def test_members_likelihoods_are_each_members_own_bound() -> None:
    models = [small(seed)[0] for seed in range(3)]
    _, images = small()
    found = generators.log_likelihoods(models, images.split(4), 0.1, 4, 0)
    assert found.shape == (3, 6)
    for m, model in enumerate(models):
        np.testing.assert_allclose(found[m], -generators.negative_iwae(model, [images], 0.1, 4, 0), rtol=1e-5)
    dropping, _ = small(widths=(4, 4), dropout=0.3)
    draws = generators.DropoutDraws(dropping, 3, 0)
    once = generators.log_likelihoods(draws, [images], 0.1, 4, 0)
    np.testing.assert_allclose(generators.log_likelihoods(draws, images.split(1), 0.1, 4, 0), once, rtol=1e-4)
