"""Who competes: the user's own backbones, those they must beat, and what each makes of the images, kept in the run."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.errors import UsageError
from medaudit.networks.backbones import Backbone, Features, open_backbone
from medaudit.training.checkpoint import replace as write_file

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Contender:
    """One entry of the comparison: its backbones, one a pretraining seed, which differ in nothing else."""

    name: str
    title: str
    trained_on: str
    backbones: tuple[Backbone, ...]
    own: bool
    frames: int | None = None
    """Unlabelled images that it was pretrained on, where that is known."""


def contenders(settings: ProbeSettings) -> list[Contender]:
    """Return the contenders, the user's own first; own ones of one title are seeds of one pretraining.

    Raises UsageError and DataError as ``open_backbone`` does, and UsageError for a name that is given twice.
    """
    twice = [name for name in settings.own if settings.own.count(name) > 1]
    if twice:
        raise UsageError(f"--backbone {twice[0]} is given twice")
    found: dict[str, list[Backbone]] = {}
    frames: dict[str, int | None] = {}
    for where in settings.own:
        backbone = open_backbone(where, device=settings.device, seed=settings.seed)
        found.setdefault(backbone.title, []).append(replace(backbone, name=str(where)))
        frames[backbone.title] = _frames(Path(where))
    own = [
        Contender(title, title, several[0].trained_on, tuple(several), True, frames[title])
        for title, several in found.items()
    ]
    others = []
    for where in settings.against:
        # Only what is drawn by a seed has several: another seed of ImageNet's weights does not exist here.
        seeds = range(settings.seed, settings.seed + settings.seeds) if where.startswith("random") else [settings.seed]
        several = [open_backbone(where, device=settings.device, seed=seed) for seed in seeds]
        one = several[0]
        others.append(Contender(str(where), one.title, one.trained_on, tuple(several), False, _frames(Path(where))))
    names = [one.title for one in own]
    return own + [one for one in others if one.title not in names]


def _frames(where: Path) -> int | None:
    """Return how many unlabelled images a folder's backbone says it was pretrained on."""
    record = where / "backbone.json"
    return json.loads(record.read_text())["about"].get("frames") if record.is_file() else None


def features_of(backbone: Backbone, seed: int, images: np.ndarray, folder: Path, mark: str) -> Features:
    """Return what a backbone makes of ``images`` (N, S, S) uint8; kept in ``folder`` under ``mark``, made once."""
    path = _kept(folder, f"features|{backbone.name}|{seed}|{mark}")
    if not path.exists():
        made = [backbone.features(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        _write(path, {"layers": np.concatenate([one.layers for one in made]).astype(np.float32),
                      "mean_patch": np.concatenate([one.mean_patch for one in made]).astype(np.float32)})  # fmt: skip
    held = np.load(path)
    return Features(held["layers"], held["mean_patch"])


def patches_of(backbone: Backbone, seed: int, images: np.ndarray, folder: Path, mark: str) -> np.ndarray | None:
    """Return a backbone's patches (N, d, rows, columns) float16, kept and made once; None where it has none."""
    path = _kept(folder, f"patches|{backbone.name}|{seed}|{mark}")
    if not path.exists():
        first = backbone.patches(images[:1])
        if first is None:
            return None
        made = [backbone.patches(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        _write(path, {"patches": np.concatenate([np.moveaxis(np.asarray(one), -1, 1) for one in made])
                      .astype(np.float16)})  # fmt: skip
    return np.load(path)["patches"]


def _kept(folder: Path, what: str) -> Path:
    return folder / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.npz"


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]
    write_file(path, held.getvalue())
