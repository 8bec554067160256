"""Who competes: the user's own backbones, those they must beat, and what each makes of the images, kept in the run."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.errors import UsageError
from medaudit.networks.backbones import Backbone, Features, open_backbone
from medaudit.networks.vit import ViT
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

    No two have one title: an opponent whose title is taken also gets its name. Raises UsageError and DataError as
    ``open_backbone`` does, and UsageError for an own one, or its weights, given twice.
    """
    twice = [name for name in settings.own if settings.own.count(name) > 1]
    if twice:
        raise UsageError(f"--backbone {twice[0]} is given twice")
    found: dict[str, list[Backbone]] = {}
    known: dict[str, str] = {}
    frames: dict[str, int | None] = {}
    for where in settings.own:
        backbone = open_backbone(where, device=settings.device, seed=settings.seed)
        if backbone.net is not None:
            before = known.setdefault(identity(replace(backbone, name="")), where)
            if before != where:  # as another seed of itself it would make the interval too narrow
                raise UsageError(f"--backbone {where} is {before} once more: it has the same weights")
        found.setdefault(backbone.title, []).append(replace(backbone, name=str(where)))
        frames[backbone.title] = _frames(Path(where))
    own = [
        Contender(title, title, several[0].trained_on, tuple(several), True, frames[title])
        for title, several in found.items()
    ]
    others: list[Contender] = []
    for where in dict.fromkeys(settings.against):
        if where in settings.own:
            continue
        # Only what is drawn by a seed has several: another seed of ImageNet's weights does not exist here.
        seeds = range(settings.seed, settings.seed + settings.seeds) if where.startswith("random") else [settings.seed]
        several = [_opened(where, own, settings.device, seed) for seed in seeds]
        one = several[0]
        taken = any(one.title == other.title for other in (*own, *others))
        title = f"{one.title} ({where})" if taken else one.title
        others.append(Contender(str(where), title, one.trained_on, tuple(several), False, _frames(Path(where))))
    return own + others


def _opened(where: str, own: list[Contender], device: str, seed: int) -> Backbone:
    """Return an opponent; ``random`` is the own net, of its shape and with its view of images, before any training."""
    known = own[0].backbones[0] if own else None
    if where != "random" or known is None or not isinstance(known.net, ViT):
        return replace(open_backbone(where, device=device, seed=seed), name=str(where))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ViT(known.net.shape).eval().requires_grad_(False).to(device)
    return replace(
        known, name="random", title="the same net, untrained", trained_on="nothing (random weights)", net=net
    )


def identity(backbone: Backbone) -> str:
    """Return what tells one backbone from another: its name, how it sees images, and every weight."""
    digest = hashlib.sha256(f"{backbone.name}|{backbone.preprocessing}".encode())
    for name, value in backbone.net.state_dict().items() if backbone.net is not None else ():
        digest.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _frames(where: Path) -> int | None:
    """Return how many unlabelled images a folder's backbone says it was pretrained on."""
    record = where / "backbone.json"
    return json.loads(record.read_text())["about"].get("frames") if record.is_file() else None


def features_of(backbone: Backbone, seed: int, images: np.ndarray, folder: Path, mark: str) -> Features:
    """Return what a backbone makes of ``images`` (N, S, S) uint8, of hash ``mark``; kept in ``folder``, made once."""
    path = _kept(folder, f"features|{identity(backbone)}|{seed}|{mark}")
    if not path.exists():
        made = [backbone.features(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        _write(path, {"layers": np.concatenate([one.layers for one in made]).astype(np.float32),
                      "mean_patch": np.concatenate([one.mean_patch for one in made]).astype(np.float32)})  # fmt: skip
    held = np.load(path)
    return Features(held["layers"], held["mean_patch"])


def patches_of(backbone: Backbone, seed: int, images: np.ndarray, folder: Path, mark: str) -> np.ndarray | None:
    """Return a backbone's patches (N, d, rows, columns) float16, kept and made once; None where it has none."""
    path = _kept(folder, f"patches|{identity(backbone)}|{seed}|{mark}")
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
