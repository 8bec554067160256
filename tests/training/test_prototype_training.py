"""Training of a prototype diffusion: that the encoder learns, that nothing is lost by a kill, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.diffusion.schedule import linear_schedule
from medaudit.networks.diffusion.unet import UNetShape
from medaudit.networks.prototypes.encoder import EncoderShape
from medaudit.training.loop import optimizer_of
from medaudit.training.prototypes import fit
from medaudit.training.prototypes.fit import (
    KEPT,
    denoising_loss,
    effective_rank,
    empty_model,
    fit_prototypes,
    restored,
    started,
)
from medaudit.training.prototypes.recipe import PRESETS, PrototypeRecipe, from_record

RECIPE = PrototypeRecipe(
    EncoderShape(1, (6, 8), (3, 3), (2, 1), (1, 0), prototypes=5),
    UNetShape(channels=1, width=8, multipliers=(1, 2), blocks=1, conditions=5, embedding=16),
    side=8, steps=6, batch_size=8, epochs=2,
)  # fmt: skip
PAPER = replace(RECIPE, recipe="paper", learning_rate=1e-5)
ROWS = range(2, 30)


def images(n: int = 30, side: int = 8) -> np.ndarray:
    """Return n images (n, 1, side, side) from 0 to 1: a bright square somewhere on noise."""
    rng = np.random.default_rng(0)
    made = 0.3 * rng.random((n, 1, side, side))
    for i, (row, column) in enumerate(rng.integers(0, side - 3, (n, 2))):
        made[i, 0, row : row + 3, column : column + 3] += 0.6
    return made.astype(np.float32)


def clean(n: int = 6) -> Tensor:
    return torch.from_numpy(images()[:n] * 2 - 1)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# ---------------------------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("recipe", [RECIPE, PAPER], ids=["fast", "paper"])
def test_the_loss_reaches_the_encoder_and_its_prototypes(recipe: PrototypeRecipe) -> None:
    model = started(images(), ROWS, recipe, seed=0).eval()
    x = clean()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([1, 100, 300, 500, 800, 999])
    denoising_loss(model, linear_schedule(), x, noise, times, recipe.predicts)["loss"].backward()
    for name, parameter in model.encoder.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_the_loss_is_the_mean_squared_error_of_what_is_predicted(predicts: str) -> None:
    schedule, x = linear_schedule(), clean().double()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.tensor([0, 100, 300, 500, 800, 999])
    a = torch.from_numpy(schedule.signal)[times].view(-1, 1, 1, 1)
    seen = {}

    class Net(nn.Module):
        def forward(self, images: Tensor, noisy: Tensor, at: Tensor) -> Tensor:
            seen.update(images=images, noisy=noisy, at=at)
            return torch.full_like(noisy, 0.25)

    found = denoising_loss(Net(), schedule, x, noise, times, predicts)["loss"]
    wanted = noise if predicts == "noise" else a.sqrt() * noise - (1 - a).sqrt() * x
    torch.testing.assert_close(found.double(), (0.25 - wanted).square().mean(), rtol=1e-6, atol=0)
    assert seen["images"] is x  # the clean images are encoded, not the noisy ones
    assert seen["at"] is times
    torch.testing.assert_close(seen["noisy"], a.sqrt() * x + (1 - a).sqrt() * noise)


def test_training_lowers_the_loss_and_changes_every_part(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=60, epochs=3, learning_rate=3e-3)
    before = weights(started(images(), ROWS, recipe, seed=0))
    done = fit_prototypes(images(), ROWS, recipe, tmp_path)
    losses = [row["loss"] for row in done.history]
    assert losses[-1] < 0.8 * losses[0]
    same = [name for name, value in done.model.state_dict().items() if torch.equal(value, before[name])]
    assert same == ["centre", "spread"]
    assert not done.model.training
    ranks = [row["val_effective_rank"] for row in done.history]
    assert all(1 <= rank <= 5 for rank in ranks)
    watched = torch.from_numpy(images()[list(ROWS)] * 2 - 1)  # the averaged weights', which are kept
    with torch.no_grad():
        assert ranks[-1] == pytest.approx(effective_rank(done.model.activations(watched)), rel=1e-5)


def test_prototypes_alone_have_no_weight_decay_in_ours() -> None:
    settings = RECIPE.settings(0)
    model = empty_model(RECIPE)
    groups = optimizer_of(model, settings, fit._steering(RECIPE)).param_groups
    free = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    assert len(free) == 1
    assert free[0] is model.encoder.prototypes
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}
    paper = optimizer_of(empty_model(PAPER), PAPER.settings(0), fit._steering(PAPER)).param_groups
    assert [group["weight_decay"] for group in paper] == [0.01]


def test_our_rate_rises_then_falls_to_a_twentieth_and_the_papers_is_constant() -> None:
    steering = fit._steering(RECIPE)
    groups = [{"lr": 0.0}, {"lr": 0.0}]
    rates = [steering.rates(groups, 1e-3, step, 1_000) for step in range(1_000)]
    assert groups[0]["lr"] == groups[1]["lr"] == rates[-1]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[100] == max(rates) == pytest.approx(1e-3)
    assert rates[550] == pytest.approx(1e-3 * (0.05 + 0.95 / 2))  # halfway down the cosine
    assert rates[-1] == pytest.approx(5e-5, rel=1e-3)
    assert np.all(np.diff(rates[:101]) >= 0)
    assert np.all(np.diff(rates[100:]) < 0)
    assert all(fit._steering(PAPER).rates(groups, 1e-5, step, 1_000) == 1e-5 for step in (0, 500, 999))


# ------------------------------------------------------------------------------------------------------------- starts


def test_our_start_has_activations_of_mean_0_and_sd_1() -> None:
    model = started(images(), ROWS, RECIPE, seed=0)
    with torch.no_grad():
        found = model.activations(torch.from_numpy(images()[list(ROWS)] * 2 - 1))
        codes = (found - model.centre) / model.spread
    torch.testing.assert_close(codes.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.ones(5), atol=1e-4, rtol=0)
    assert RECIPE.first_time == 0
    assert RECIPE.predicts == "velocity"


def test_the_papers_start_leaves_activations_alone_and_looks_at_no_image() -> None:
    recipe = replace(PRESETS["paper-32"], unet=replace(RECIPE.unet, conditions=30))
    model = started(images(side=32), ROWS, recipe, seed=0)
    assert_same(model, started(np.zeros((30, 1, 32, 32), dtype=np.float32), ROWS, recipe, seed=0))
    assert torch.equal(model.centre, torch.zeros(30))
    assert torch.equal(model.spread, torch.ones(30))
    drawn = torch.cat([p.detach().flatten() for n, p in model.encoder.named_parameters() if "weight" in n])
    assert float(drawn.std()) == pytest.approx(0.1, abs=1e-3)
    assert float(model.encoder.prototypes.detach().min()) >= 0
    assert float(model.encoder.prototypes.detach().max()) < 1
    assert recipe.first_time == 1
    assert recipe.predicts == "noise"
    settings = recipe.settings(0)
    assert (settings.learning_rate, settings.weight_decay, settings.ema_decay) == (1e-5, 0.01, None)
    assert settings.clip_norm is None


@pytest.mark.parametrize("recipe", [RECIPE, PAPER], ids=["fast", "paper"])
def test_a_seed_gives_one_start_whatever_was_drawn_before(recipe: PrototypeRecipe) -> None:
    torch.manual_seed(1)
    first = started(images(), ROWS, recipe, seed=0)
    torch.manual_seed(2)
    assert_same(first, started(images(), ROWS, recipe, seed=0))
    other = started(images(), ROWS, recipe, seed=1)
    assert not torch.equal(first.encoder.prototypes, other.encoder.prototypes)
    assert not torch.equal(first.unet.first.weight, other.unet.first.weight)


@pytest.mark.parametrize(("recipe", "least"), [(RECIPE, 0), (PAPER, 1)], ids=["fast", "paper"])
def test_times_are_drawn_from_the_recipes_first_to_the_last(
    recipe: PrototypeRecipe, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    loss = fit.denoising_loss

    def spied(*given: object) -> dict[str, Tensor]:
        times.extend(given[4].tolist())  # type: ignore[attr-defined]
        return loss(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "denoising_loss", spied)
    fit_prototypes(images(), ROWS, replace(recipe, noise_steps=21, steps=30, epochs=1), tmp_path)
    assert set(times) == set(range(least, 21))


# ---------------------------------------------------------------------------------------------------- kept and resumed


@pytest.mark.parametrize("recipe", [RECIPE, PAPER, replace(RECIPE, flip=True)], ids=["fast", "paper", "flip"])
def test_a_killed_training_ends_with_the_same_bits(
    recipe: PrototypeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit_prototypes(images(), ROWS, recipe, tmp_path / "whole", seed=3)
    loss, calls = fit.denoising_loss, [0]

    def stops(*given: object) -> dict[str, Tensor]:
        calls[0] += 1
        if calls[0] == 5:  # in the second of two parts of 3 steps
            raise KeyboardInterrupt
        return loss(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fit, "denoising_loss", stops)
        with pytest.raises(KeyboardInterrupt):
            fit_prototypes(images(), ROWS, recipe, tmp_path / "killed", seed=3)
    assert not (tmp_path / "killed" / KEPT).exists()
    assert list((tmp_path / "killed" / "training").glob("checkpoint-*.pt"))
    rest = fit_prototypes(images(), ROWS, recipe, tmp_path / "killed", seed=3)
    assert_same(whole.model, rest.model)
    assert whole.history == rest.history
    assert not list((tmp_path / "killed" / "training").glob("*.pt"))


def test_a_restored_model_gives_the_same_bits(tmp_path: Path) -> None:
    done = fit_prototypes(images(), ROWS, RECIPE, tmp_path)
    again, kept = fit_prototypes(images(), ROWS, RECIPE, tmp_path), restored(tmp_path)
    for other in (again, kept):
        assert_same(done.model, other.model)
        with torch.no_grad():
            assert torch.equal(done.model.activations(clean()), other.model.activations(clean()))
        assert (other.recipe, other.history) == (done.recipe, done.history)
        assert other.model.predicts == "velocity"
        assert not other.model.training
        np.testing.assert_array_equal(other.schedule.signal, done.schedule.signal)


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_comes_back_from_its_record(name: str) -> None:
    recipe = PRESETS[name]
    assert from_record(recipe.record()) == recipe
    assert recipe.encoder.least_side <= recipe.side
    assert recipe.side % 2 ** (len(recipe.unet.multipliers) - 1) == 0
    changed = recipe.of(channels=3, prototypes=12, steps=7)
    assert (changed.encoder.channels, changed.unet.channels, changed.unet.conditions, changed.steps) == (3, 3, 12, 7)


# ------------------------------------------------------------------------------------------------------------ refusals


def said(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("data", "rows", "recipe", "kind", "wanted"),
    [
        (np.full((30, 1, 8, 8), 0.4, dtype=np.float32), ROWS, RECIPE, DataError, "all alike"),
        (images(), range(4), replace(RECIPE, batch_size=2), DataError, "4 images to train on, fewer than 5 prototypes"),
        (images(), range(7), RECIPE, DataError, "7 images to train on, fewer than 8 images a batch"),
        (images(side=12), ROWS, RECIPE, UsageError, r"images are \(1, 12, 12\), the recipe's \(1, 8, 8\)"),
        (images().repeat(3, 1), ROWS, RECIPE, UsageError, r"images are \(3, 8, 8\)"),
    ],
)
def test_images_that_cannot_be_learned_are_refused(
    data: np.ndarray, rows: range, recipe: PrototypeRecipe, kind: type[Exception], wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=wanted) as error:
        fit_prototypes(data, rows, recipe, tmp_path)
    said(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_that_holds_no_numbers_is_named_wherever_it_is(value: float, tmp_path: Path) -> None:
    data, names = images(600), [f"patient-{i:03d}" for i in range(600)]
    data[3, 0, 2, 2] = value
    with pytest.raises(DataError, match="patient-003") as error:
        fit_prototypes(data, range(600), RECIPE, tmp_path, names=names)
    said(error)
    assert not list(tmp_path.iterdir())


def test_images_that_hold_no_numbers_are_refused_before_the_training(tmp_path: Path) -> None:
    data = images()
    data[7, 0, 2, 2] = math.nan
    with pytest.raises(DataError, match="no numbers") as error:
        fit_prototypes(data, ROWS, RECIPE, tmp_path)
    said(error)
    assert not list(tmp_path.iterdir())
    fit_prototypes(data, [i for i in ROWS if i != 7], RECIPE, tmp_path)  # a row that is not trained on may be anything


@pytest.mark.parametrize("other", ["seed", "images"])
def test_a_folder_of_another_seed_or_of_other_images_in_the_same_rows_is_refused(other: str, tmp_path: Path) -> None:
    fit_prototypes(images(), ROWS, RECIPE, tmp_path)
    data = images()[::-1].copy() if other == "images" else images()
    with pytest.raises(UsageError, match="choose another folder"):
        fit_prototypes(data, ROWS, RECIPE, tmp_path, seed=int(other == "seed"))


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    fit_prototypes(images(), ROWS, RECIPE, tmp_path)
    with pytest.raises(UsageError, match="another recipe") as error:
        fit_prototypes(images(), ROWS, replace(RECIPE, steps=8), tmp_path)
    said(error)
    with pytest.raises(UsageError, match="on other images") as error:
        fit_prototypes(images(), range(28), RECIPE, tmp_path)
    said(error)


def test_a_damaged_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        restored(tmp_path)
    said(error)
    (tmp_path / KEPT).write_bytes(b"no model")
    with pytest.raises(DataError) as error:
        restored(tmp_path)
    said(error)


def test_recipes_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(UsageError, match="fast, paper"):
        replace(RECIPE, recipe="slow")
    with pytest.raises(UsageError, match="differ in their prototypes"):
        replace(RECIPE, unet=replace(RECIPE.unet, conditions=6))


# ------------------------------------------------------------------------------------------------------ effective rank


def orthogonal(n: int, sds: list[float]) -> np.ndarray:
    """Return (n, len(sds)) of mean 0, with orthogonal columns of these SDs, turned by a random rotation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, len(sds)))
    axes = np.linalg.qr(x - x.mean(0))[0]
    turn = np.linalg.qr(rng.normal(size=(len(sds), len(sds))))[0]
    return axes * np.array(sds) @ turn + 3.0


@pytest.mark.parametrize("m", [1, 2, 7])
def test_the_effective_rank_of_equal_axes_is_their_number(m: int) -> None:
    assert effective_rank(orthogonal(50, [2.0] * m)) == pytest.approx(m)
    assert effective_rank(orthogonal(50, [2.0] * m + [0.0] * 3)) == pytest.approx(m)


def test_the_effective_rank_is_roy_and_vetterlis() -> None:
    # Of singular values 2 and 1, the shares are 2/3 and 1/3: exp of their entropy is 3 / 2^(2/3).
    assert effective_rank(orthogonal(50, [2.0, 1.0])) == pytest.approx(3 / 2 ** (2 / 3))
    assert effective_rank(torch.from_numpy(orthogonal(50, [2.0, 1.0]))) == pytest.approx(3 / 2 ** (2 / 3))


def test_prototypes_that_all_measure_one_thing_have_rank_1() -> None:
    brightness = np.random.default_rng(0).normal(size=(50, 1))
    assert effective_rank(brightness @ np.ones((1, 16)) + 2) == pytest.approx(1)
    assert effective_rank(np.full((50, 16), 0.25)) == 1.0
