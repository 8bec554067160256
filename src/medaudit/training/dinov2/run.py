"""Pretrain a backbone on frames without labels, and keep the teacher's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

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
    training that collapses or stays on the plateau, and for a folder with another recipe (naming what differs).
    """
    folder = Path(folder)
    chosen = np.arange(len(frames.images)) if rows is None else np.asarray(rows)
    if len(chosen) < recipe.batch_size:
        raise DataError(
            f"there are {len(chosen)} frames, and a batch has {recipe.batch_size}; give more, or a smaller --batch-size"
        )
    settings = recipe.settings(seed, device=device, devices=devices, nodes=nodes, strategy=strategy, workers=workers)
    recipe = replace(recipe, steps=settings.epochs * (settings.epoch_steps or 1))
    if _first_of(devices * nodes):
        _same_recipe(folder / "training" / "recipe.json", recipe)
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
    kept = DinoV2(recipe)  # a whole one: the training's may be cut over processes
    checkpoint.load_weights(kept, trained.weights)
    backbone = kept.teacher.backbone
    channels = recipe.shape.channels
    samples = recipe.steps * recipe.batch_size
    if _first_of(devices * nodes):
        save_backbone(
            folder, backbone,
            Preprocessing(
                recipe.crops.global_side, channels, (frames.mean,) * channels, (frames.std,) * channels, frames.framing
            ),
            about={
                "title": f"own DINOv2, {len(chosen):,} frames",
                "trained_on": f"{len(chosen):,} unlabelled frames, {samples:,} samples seen",
                "frames": len(chosen),
                "samples": samples,
            },
        )  # fmt: skip
    return Pretrained(folder, trained.history, len(chosen), samples)


def _same_recipe(path: Path, recipe: Recipe) -> None:
    """Leave the recipe in ``path`` where none is yet; raise DataError with the first number that differs."""
    ours = json.dumps(recipe.record(), indent=1).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        theirs = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise checkpoint.cannot_write(path, error) from None
    if theirs is None:
        checkpoint.replace(path, ours)
    elif theirs != ours:
        try:
            before = _flat(json.loads(theirs))
        except (ValueError, AttributeError):
            raise DataError(
                f"{path} is damaged; choose another folder, or remove it if the recipe is the same"
            ) from None
        now = _flat(json.loads(ours))
        name = next((name for name in now | before if before.get(name) != now.get(name)), None)
        if name is not None:
            raise DataError(
                f"{path.parent} holds a pretraining of another recipe: {name} was {before.get(name)}, "
                f"now {now.get(name)}; choose another folder"
            )


def _flat(record: dict[str, Any], of: str = "") -> dict[str, Any]:
    """Return the numbers of a record under names like ``crops.locals``."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= _flat(value, f"{of}{name}.") if isinstance(value, dict) else {f"{of}{name}": value}
    return found


def _first_of(processes: int) -> bool:
    """Return whether this process is the one that writes; alone it is, whatever a launcher calls it."""
    if processes == 1:
        return True
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # what launchers say before the processes have met
    return all(int(os.environ.get(name, "0")) == 0 for name in names)
