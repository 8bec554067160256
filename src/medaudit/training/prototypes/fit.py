"""Train encoder, prototypes and denoiser together, and keep them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from medaudit.errors import DataError, UsageError
from medaudit.metrics.code_structure import effective_rank
from medaudit.networks.diffusion.schedule import NoiseSchedule, linear_schedule
from medaudit.networks.diffusion.unet import ConditionalUNet
from medaudit.networks.prototypes.encoder import PrototypeEncoder, data_init, paper_init
from medaudit.networks.prototypes.model import PrototypeDiffusion
from medaudit.training import checkpoint
from medaudit.training.logs import Row
from medaudit.training.loop import train
from medaudit.training.prototypes.recipe import PrototypeRecipe, from_record
from medaudit.training.sampling import TrainingData
from medaudit.training.steering import Steering

KEPT, CLAIM = "prototypes.pt", "training.json"
_LOOKED_AT = 2_048  # images that start the prototypes and measure the activations' mean and SD
_WATCHED = 512
_WARMUP, _LAST_RATE = 100, 0.05


@dataclass(frozen=True, eq=False)
class TrainedPrototypes:
    """A trained model, in evaluation mode, and how it was made."""

    model: PrototypeDiffusion
    recipe: PrototypeRecipe
    schedule: NoiseSchedule
    history: tuple[Row, ...]
    """A row a part of the training: ``loss`` and ``val_effective_rank``, the effective rank of activations."""


def fit_prototypes(
    images: np.ndarray, rows: Sequence[int], recipe: PrototypeRecipe, folder: Path, *, seed: int = 0,
    device: str = "cpu", names: Sequence[str] | None = None, progress: bool = False,
) -> TrainedPrototypes:  # fmt: skip
    """Return the model trained on the cases ``rows`` of ``images`` (n, C, H, W), from 0 to 1; it stays in ``folder``.

    Goes on where ``folder`` was stopped, to the same bits. ``names`` are the cases' in errors. Raises UsageError for
    images of another shape than the recipe's, and DataError for fewer images than prototypes or than a batch, for
    images that are all alike, and for a loss that is not finite.
    """
    _check(images, rows, recipe, names)
    this = {"recipe": recipe.record(), "seed": seed, "images": _seen(images, rows)}
    if (folder / KEPT).is_file():
        return restored(folder, this)
    _claim(folder, this)
    model = started(images, rows, recipe, seed)
    schedule = linear_schedule(recipe.noise_steps)
    watched = torch.from_numpy(_from_minus_one(images[_spread(rows, _WATCHED)]))

    def load(index: int, rng: np.random.Generator) -> dict[str, Any]:
        image = _from_minus_one(images[rows[index]])
        if recipe.flip and rng.random() < 0.5:
            image = image[..., ::-1].copy()
        return {
            "image": torch.from_numpy(image),
            "noise": torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)),
            "time": torch.tensor(int(rng.integers(recipe.first_time, recipe.noise_steps))),
        }

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return denoising_loss(net, schedule, batch["image"], batch["noise"], batch["time"], recipe.predicts)

    def watch(net: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            where = next(model.parameters()).device
            return {"effective_rank": effective_rank(model.activations(watched.to(where)).float().cpu())}

    done = train(
        model, loss_of, TrainingData([str(names[i] if names else i) for i in rows], load),
        recipe.settings(seed, device), folder=folder / "training", validate=watch,
        steering=_steering(recipe), progress=progress,
    )  # fmt: skip
    model = model.cpu().eval()
    checkpoint.write(
        folder / KEPT,
        {
            "model": model.state_dict(),
            **this,
            "history": [dict(row) for row in done.history],
        },
    )
    for file in (folder / "training").glob("*.pt"):
        file.unlink()
    return TrainedPrototypes(model, recipe, schedule, done.history)


def adopt(model: PrototypeDiffusion, recipe: PrototypeRecipe, folder: Path) -> TrainedPrototypes:
    """Return a model that was trained elsewhere, and leave it in ``folder`` as :func:`fit_prototypes` does.

    ``recipe`` says its shapes and times. Raises UsageError where ``folder`` holds another model.
    """
    digest = hashlib.sha256()
    for name, values in model.state_dict().items():
        digest.update(name.encode() + values.contiguous().numpy().tobytes())
    this = {"recipe": recipe.record(), "seed": None, "images": digest.hexdigest()}
    if not (folder / KEPT).is_file():
        _claim(folder, this)
        checkpoint.write(folder / KEPT, {"model": model.state_dict(), **this, "history": []})
    return restored(folder, this)


def denoising_loss(
    net: nn.Module, schedule: NoiseSchedule, images: Tensor, noise: Tensor, times: Tensor, predicts: str
) -> dict[str, Tensor]:
    """Return the mean squared error of the net's noise or velocity, all numbers of all images alike (paper, 3.2)."""
    noisy = schedule.noised(images, noise, times)
    wanted = noise if predicts == "noise" else schedule.velocity(images, noise, times)
    return {"loss": mse_loss(net(images, noisy, times).float(), wanted)}


def restored(folder: Path, this: Mapping[str, Any] | None = None) -> TrainedPrototypes:
    """Return the model that :func:`fit_prototypes` left in ``folder``.

    Raises DataError where there is none or it is damaged, and UsageError where it is not ``this`` training: recipe,
    seed and images.
    """
    kept = checkpoint.read(folder / KEPT)
    try:
        made, state = from_record(kept["recipe"]), kept["model"]
        schedule, history = linear_schedule(made.noise_steps), tuple(kept["history"])
        _same(folder, this or kept, kept)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{folder / KEPT} is no model of prototypes, or damaged; remove it and train again") from None
    model = empty_model(made)
    checkpoint.check_architecture(model.state_dict(), state, folder / KEPT)
    model.load_state_dict(state)
    return TrainedPrototypes(model.eval(), made, schedule, history)


def empty_model(recipe: PrototypeRecipe) -> PrototypeDiffusion:
    """Return the model of a recipe with weights that mean nothing yet."""
    model = PrototypeDiffusion(PrototypeEncoder(recipe.encoder), ConditionalUNet(recipe.unet), predicts=recipe.predicts)
    # Convolutions need not turn their inputs around then: a quarter faster, training and painting.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def started(images: np.ndarray, rows: Sequence[int], recipe: PrototypeRecipe, seed: int) -> PrototypeDiffusion:
    """Return the model before its first step; ``fast`` looks at up to 2,048 of the images for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = empty_model(recipe)
    generator = torch.Generator().manual_seed(seed)
    if recipe.recipe == "paper":
        paper_init(model.encoder, generator)
        return model
    some = torch.from_numpy(_from_minus_one(images[_spread(rows, _LOOKED_AT)]))
    data_init(model.encoder, some, generator)
    with torch.no_grad():
        found = torch.cat([model.activations(part) for part in some.split(256)])
    model.centre.copy_(found.mean(0))
    model.spread.copy_(found.std(0).clamp(min=1e-4))
    return model


def _steering(recipe: PrototypeRecipe) -> Steering:
    if recipe.recipe == "paper":
        return Steering()

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        mine = [p for name, p in model.named_parameters() if name.endswith("encoder.prototypes")]
        rest = [p for name, p in model.named_parameters() if not name.endswith("encoder.prototypes")]
        return [{"params": rest}, {"params": mine, "weight_decay": 0.0}]  # to 0 is nowhere that patches lie

    def rates(groups: Sequence[dict[str, Any]], rate: float, step: int, steps: int) -> float:
        now = rate * _factor(step, steps)
        for group in groups:
            group["lr"] = now
        return now

    return replace(Steering(), groups=groups, rates=rates)


def _factor(step: int, steps: int) -> float:
    """Return what the rate is multiplied with: a rise over 100 steps, then half a cosine to a twentieth."""
    warmup = min(_WARMUP, steps // 4)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


def _claim(folder: Path, this: Mapping[str, Any]) -> None:
    """Say in ``folder`` which training it holds; UsageError where it is another one that was not finished."""
    record = folder / CLAIM
    now = json.loads(json.dumps(this))
    if record.is_file():
        try:
            _same(folder, now, json.loads(record.read_text()))
        except (KeyError, ValueError):
            raise DataError(f"{record} is damaged; choose another folder, or remove this one") from None
        return
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.replace(record, json.dumps(this).encode())


def _same(folder: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for name, said in (("recipe", "of another recipe"), ("seed", "from another seed"), ("images", "on other images")):
        if json.dumps(ours[name]) != json.dumps(theirs[name]):
            raise UsageError(f"{folder} holds a training {said}; choose another folder")


def _check(images: np.ndarray, rows: Sequence[int], recipe: PrototypeRecipe, names: Sequence[str] | None) -> None:
    shape = (recipe.encoder.channels, recipe.side, recipe.side)
    if tuple(images.shape[1:]) != shape:
        raise UsageError(f"images are {images.shape[1:]}, the recipe's {shape} (channels, rows, columns)")
    least = max(recipe.encoder.prototypes, recipe.batch_size)
    if len(rows) < least:
        what = "prototypes" if least == recipe.encoder.prototypes else "images a batch"
        raise DataError(
            f"there are {len(rows)} images to train on, fewer than {least} {what}; give more, or ask for fewer"
        )
    for start in range(0, len(rows), _LOOKED_AT):
        part = np.asarray(rows[start : start + _LOOKED_AT])
        bad = part[~np.isfinite(np.asarray(images[part], dtype=np.float32)).all((1, 2, 3))]
        if len(bad):
            case = names[int(bad[0])] if names else int(bad[0])
            raise DataError(f"case {case}: its image holds values that are no numbers; mend it, or leave it out")
    some = np.asarray(images[_spread(rows, _WATCHED)], dtype=np.float32)
    if float(np.ptp(some, axis=0).max()) < 1e-3:
        raise DataError("the images are all alike: there is nothing to tell apart; look at what was given")


def _spread(rows: Sequence[int], most: int) -> np.ndarray:
    """Return up to ``most`` of the rows, evenly over them."""
    at = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
    return np.sort(np.asarray(rows)[at])


def _from_minus_one(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, dtype=np.float32) * 2 - 1


def _seen(images: np.ndarray, rows: Sequence[int]) -> str:
    """Return what tells the images of a training from others."""
    digest = hashlib.sha256(np.asarray(rows, dtype=np.int64).tobytes())
    for start in range(0, len(rows), _LOOKED_AT):
        digest.update(np.ascontiguousarray(images[np.asarray(rows[start : start + _LOOKED_AT])]).tobytes())
    return digest.hexdigest()
