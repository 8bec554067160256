"""Pretrain a backbone on frames without labels, and keep the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medaudit.errors import DataError
from medaudit.networks.backbones import Preprocessing, save_backbone
from medaudit.training import checkpoint
from medaudit.training.dinov2.crops import draw
from medaudit.training.dinov2.model import DinoV2, Objective
from medaudit.training.dinov2.monitors import OnlineProbe, alarm, watching
from medaudit.training.dinov2.recipe import Recipe
from medaudit.training.frames import Frames
from medaudit.training.logs import Row
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining left in its folder."""

    folder: Path
    """Holds ``backbone.pt`` and ``backbone.json``, which ``open_backbone`` reads, and ``training/``."""
    history: tuple[Row, ...]
    """A row an epoch: losses, the teacher's entropy, and ``val_rankme``, ``val_spread`` and the like."""
    frames: int
    samples: int
    """Images seen, with repetition."""


def pretrain(
    frames: Frames, recipe: Recipe, folder: str | Path, *, rows: Sequence[int] | None = None, seed: int = 0,
    device: str = "cpu", devices: int = 1, nodes: int = 1, strategy: str = "auto", workers: int = 0,
    probe: OnlineProbe | None = None, progress: bool = True,
) -> Pretrained:  # fmt: skip
    """Return the pretraining of ``recipe`` on ``frames`` (of ``rows`` where given), in ``folder``.

    Goes on where it was stopped, to the same bits. A step follows from the seed and its number, for any number of
    processes. Raises DataError for fewer frames than a batch, for a loss that is not finite (naming the frames), for a
    training that collapses or stays on the plateau, and for a folder with another architecture.
    """
    folder = Path(folder)
    chosen = np.arange(len(frames.images)) if rows is None else np.asarray(rows)
    if len(chosen) < recipe.batch_size:
        raise DataError(
            f"there are {len(chosen)} frames, and a batch has {recipe.batch_size}; give more, or a smaller --batch-size"
        )
    settings = recipe.settings(seed, device=device, devices=devices, nodes=nodes, strategy=strategy, workers=workers)
    recipe = replace(recipe, steps=settings.epochs * (settings.epoch_steps or 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DinoV2(recipe)

    def load(index: int, rng: np.random.Generator) -> dict[str, Any]:
        image = np.array(frames.images[chosen[index]])
        return {"image": torch.from_numpy(image), "drawn": torch.from_numpy(draw(recipe.crops, rng))}

    objective = Objective(recipe, seed, frames.mean, frames.std)
    names = frames.table["frame_id"].to_list()
    trained = train(
        model,
        objective.loss_of,
        TrainingData([names[i] for i in chosen], load),
        settings,
        folder=folder / "training",
        validate=watching(recipe, frames.images, frames.mean, frames.std, probe),
        steering=replace(objective.steering(), check=alarm(recipe)),
        progress=progress,
    )
    checkpoint.load_weights(model, trained.weights)  # whole ones, also where the training's were sharded
    backbone = model.teacher.backbone
    channels = recipe.shape.channels
    samples = recipe.steps * recipe.batch_size
    save_backbone(
        folder, backbone,
        Preprocessing(
            recipe.crops.global_side, channels, (frames.mean,) * channels, (frames.std,) * channels, frames.framing
        ),
        about={
            "title": f"own DINOv2, {len(chosen):,} frames",
            "trained_on": f"{len(chosen):,} unlabelled frames of {frames.folder.name}, {samples:,} samples seen",
            "frames": len(chosen),
            "samples": samples,
        },
    )  # fmt: skip
    return Pretrained(folder, trained.history, len(chosen), samples)
