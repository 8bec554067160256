"""Images on one grid with what marks them, the model whose answers are explained, and the model trained again."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.audits.workers import bar
from medaudit.cohort import Cohort, split
from medaudit.cohort.table import texts
from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.intensity import Intensity
from medaudit.explanation.attributions.run import Subject
from medaudit.networks.classification import build_classifier
from medaudit.training import checkpoint
from medaudit.training.classification import CLASSIFIERS, fit_classifier
from medaudit.training.prepared import Prepared, prepare
from medaudit.training.prepared import opened as arrays

KEPT = "classifier.pt"
PREPARED = "prepared"
_SEEDS = 2  # trainings: the one that is explained, and the one it is compared with
_POOL = 256  # training images that stand for the data


@dataclass(frozen=True, eq=False)
class Pictures:
    """A cohort's images from 0 to 1 on one grid, and what else is known of each."""

    case_ids: tuple[str, ...]
    images: np.ndarray
    """(n, channels, side, side) float16."""
    masks: np.ndarray
    """(readers, n, side, side) bool: a reader a row; none where no masks were given."""
    marker: np.ndarray | None
    """(n, side, side) bool: where a marker lies that should not matter."""
    y: np.ndarray
    """(n,): the class of each; -1 where it is not known."""
    classes: tuple[str, ...]
    patients: np.ndarray
    training: np.ndarray
    """Rows that a classifier may learn from, and that stand for the data."""
    held: np.ndarray
    """Rows of other patients."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What the study asks: a subject, and whose images they are."""

    subject: Subject
    rows: np.ndarray
    """Of the pictures."""
    pictures: Pictures
    told: np.ndarray
    """(held,): the class that the model gives each held-out image."""
    trained: bool
    """Whether the model was trained here, on the training patients alone."""
    model_id: str


def pictures(
    cohort: Cohort, readers: tuple[str, ...], settings: ExplainSettings, out: Path, *, marker: bool, jobs: int,
    progress: bool,
) -> Pictures:  # fmt: skip
    """Return a cohort's pictures; ``readers`` are roles of masks. Raises UsageError and DataError as its parts do."""
    if "image" not in cohort.roles:
        raise UsageError(f"{cohort.name}: say where the images are with --image COLUMN or TEMPLATE")
    grid = (settings.side, settings.side)
    roles = (*readers, *(("marker",) if marker else ()))
    with bar("reading images", progress) as show:
        found = prepare(
            cohort, roles, grid, out / PREPARED, jobs=jobs, framing="letterbox", channels=settings.colours,
            progress=lambda done: show(done, total=len(cohort)),
        )  # fmt: skip
    if settings.label is None:
        y, classes = np.full(len(cohort), -1), tuple[str, ...]()
    else:
        names = [None if t is None else str(t) for t in texts(cohort.column(settings.label), cohort.name).to_list()]
        there = sorted({name for name in names if name is not None})
        if unknown := [name for name in settings.classes if name not in there]:
            raise UsageError(f"--class {unknown[0]}: column {settings.label} has {', '.join(there)}")
        classes = settings.classes or tuple(there)
        if len(classes) < 2:
            raise DataError(f"{cohort.name}: column {settings.label} has {len(classes)} values; a classifier tells two "
                            "or more")  # fmt: skip
        y = np.array([classes.index(name) if name in classes else -1 for name in names])
    patients = np.array([str(one) for one in cohort.clusters.to_list()])
    return _parted(found, readers, marker, y, classes, patients, settings)


def kept_pictures(out: Path, kept: Mapping[str, Any], settings: ExplainSettings) -> Pictures:
    """Return the pictures of a run from what it kept: ``kept`` is what :func:`keeps` returned."""
    readers = tuple(kept["readers"])
    found = arrays(out / PREPARED, kept["cases"], (*readers, *(("marker",) if kept["marker"] else ())))
    return _parted(found, readers, kept["marker"], np.array(kept["y"]), tuple(kept["classes"]),
                   np.array(kept["patients"]), settings)  # fmt: skip


def keeps(shown: Pictures, readers: tuple[str, ...]) -> dict[str, Any]:
    """Return what a run must keep beside its images to be asked again."""
    return {"cases": list(shown.case_ids), "readers": list(readers), "marker": shown.marker is not None,
            "y": shown.y.tolist(), "classes": list(shown.classes), "patients": shown.patients.tolist()}  # fmt: skip


def _parted(
    found: Prepared, readers: tuple[str, ...], marker: bool, y: np.ndarray, classes: tuple[str, ...],
    patients: np.ndarray, settings: ExplainSettings,
) -> Pictures:  # fmt: skip
    grid = found.images.shape[2:]
    masks = np.stack([found.masks[name] > 127 for name in readers]) if readers else np.zeros((0, len(y), *grid))
    parts = split(patients.tolist(), [str(one) for one in y], (1 - settings.test_share, settings.test_share),
                  settings.seed)  # fmt: skip
    training, held = np.flatnonzero((parts == 0) & (y >= 0)), np.flatnonzero((parts == 1) & (y >= 0))
    if settings.label is None:
        training, held = np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
    return Pictures(found.case_ids, found.images, masks.astype(bool), found.masks["marker"] > 127 if marker else None,
                    y, classes, patients, training, held)  # fmt: skip


def explained(
    shown: Pictures, settings: ExplainSettings, out: Path, *, model: str | None, progress: bool
) -> Explained:  # fmt: skip
    """Return what is explained: the model ``model`` (FILE.py:NAME, or a classifier.pt), or one trained here."""
    intensity = Intensity(settings.mean, settings.std)
    if model is None:
        nets = [_trained(shown, settings, out / f"training-{k}", seed=settings.seed + k, progress=progress)
                for k in range(_SEEDS)]  # fmt: skip
        checkpoint.write(out / KEPT, {"model": nets[0].state_dict(), "this": _shape(shown, settings)})
        own, others, told = nets[0], tuple(nets[1:]), "trained here"
    else:
        own, told = opened(model, shown, settings)
        others = ()
    device = torch.device(settings.device)
    own = own.eval().to(device)
    others = tuple(one.eval().to(device) for one in others)
    x = intensity.to_input(tensors(shown, shown.held)).to(device)
    logits = _asked(own, x, model or "the model")
    classes = logits.argmax(1).cpu().numpy() if logits.shape[1] > 1 else (logits[:, 0] > 0).long().cpu().numpy()
    if shown.classes and max(2, logits.shape[1]) != len(shown.classes):
        raise DataError(f"the model tells {max(2, logits.shape[1])} classes, column {settings.label} has "
                        f"{len(shown.classes)}: {', '.join(shown.classes)}")  # fmt: skip
    rows = _chosen(shown, settings)
    pool = intensity.to_input(tensors(shown, shown.training[:: max(1, len(shown.training) // _POOL)])).to(device)
    target, matched = None, None
    if settings.target is not None:
        target = _class(settings.target, shown, "--target")
    if settings.normal is not None:
        normal = shown.training[shown.y[shown.training] == _class(settings.normal, shown, "--normal")][:_POOL]
        matched = intensity.to_input(tensors(shown, normal)).to(device)
    place = np.searchsorted(shown.held, rows)
    subject = Subject(own, x[torch.from_numpy(place).to(device)], intensity, pool, matched, target, others=others,
                      at_once=settings.at_once)  # fmt: skip
    return Explained(subject, rows, shown, classes, model is None, told)


def tensors(shown: Pictures, rows: np.ndarray) -> Tensor:
    """Return images (n, channels, side, side) float32 from 0 to 1."""
    return torch.from_numpy(np.asarray(shown.images[rows], dtype=np.float32))


def opened(where: str, shown: Pictures, settings: ExplainSettings) -> tuple[nn.Module, str]:
    """Return the model and what tells it from another: see :func:`explained`. No code runs for a ``.pt``.

    Raises UsageError and DataError for what is none.
    """
    name, _, function = where.partition(".py:")
    path = Path(f"{name}.py" if function else where)
    if not path.is_file():
        raise DataError(f"{path}: no such file; --model is FILE.py:NAME, or a {KEPT} of an earlier run")
    told = f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if function:
        return _called(path, function), f"{told}:{function}"
    kept = checkpoint.read(path)
    this = kept.get("this")
    if not isinstance(this, dict) or set(this) != {"classes", "side", "colours"}:
        raise DataError(f"{path} is no classifier that medaudit explain trained; wrap yours as FILE.py:NAME")
    if this != _shape(shown, settings) and shown.classes:
        raise DataError(f"{path} tells {', '.join(this['classes'])} at {this['side']} pixels; asked were "
                        f"{', '.join(shown.classes)} at {settings.side}")  # fmt: skip
    net = build_classifier("cpu", len(this["classes"]), seed=0, colours=this["colours"])
    checkpoint.check_architecture(net.state_dict(), kept["model"], path)
    net.load_state_dict(kept["model"])
    return net, told


def _called(path: Path, function: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("medaudit_user_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)()
    except AttributeError as error:
        if not hasattr(module, function):
            raise UsageError(f"{path} has no '{function}'") from None
        raise DataError(f"{path}:{function} failed: {error}") from error
    except Exception as error:
        raise DataError(f"{path}:{function} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"{path}:{function} returned {type(made).__name__}; expected a torch module")
    return made.eval()


def _trained(shown: Pictures, settings: ExplainSettings, folder: Path, *, seed: int, progress: bool) -> nn.Module:
    if settings.label is None:
        raise UsageError("say what a classifier is trained to tell with --label COLUMN, or give yours with --model")
    counts = np.bincount(shown.y[shown.training], minlength=len(shown.classes))
    if counts.min() < 2:
        raise DataError(f"class '{shown.classes[int(counts.argmin())]}' has {counts.min()} images to train on; "
                        "expected two or more of each")  # fmt: skip
    recipe = replace(CLASSIFIERS["cpu"], side=settings.side, steps=settings.steps, epochs=min(5, settings.steps))
    net = build_classifier("cpu", len(shown.classes), seed=seed, colours=settings.colours)
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(shown.training)))
    images = _Scaled(shown.images, settings.mean, settings.std)
    with bar(f"training the classifier, {folder.name}", progress) as show:
        for _ in show(iter([0]), total=1):
            rows = shown.training.tolist()
            fit_classifier(net, images, shown.y.tolist(), rows, recipe, folder, seed=seed, device=settings.device)
    return net.cpu().eval()


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Images as the model's input, read case by case."""

    images: np.ndarray
    mean: float
    std: float

    def __getitem__(self, row: Any) -> np.ndarray:
        return (np.asarray(self.images[row], dtype=np.float32) - self.mean) / self.std


def _shape(shown: Pictures, settings: ExplainSettings) -> dict[str, Any]:
    return {"classes": list(shown.classes), "side": settings.side, "colours": settings.colours}


def _asked(model: nn.Module, x: Tensor, name: str) -> Tensor:
    """Return logits (n, classes) of images; DataError in one line for a model that cannot read them."""
    parts = []
    try:
        with torch.inference_mode():
            for start in range(0, len(x), 64):
                parts.append(model(x[start : start + 64]).float())
    except Exception as error:
        raise DataError(f"{name} failed on images of shape {tuple(x.shape[1:])}: {type(error).__name__}: {error}"
                        .splitlines()[0]) from error  # fmt: skip
    out = torch.cat(parts)
    out = out[:, None] if out.ndim == 1 else out
    if out.ndim != 2:
        raise DataError(f"{name} returns shape {tuple(out.shape)}; expected logits (N, classes)")
    if not torch.isfinite(out).all():
        raise DataError(f"{name} returns numbers that are not finite")
    return out


def _chosen(shown: Pictures, settings: ExplainSettings) -> np.ndarray:
    """Return the held-out rows that are explained: evenly, those with masks first where there are any."""
    rows = shown.held
    if len(shown.masks):
        rows = rows[shown.masks[:, rows].any((0, 2, 3))]
    if shown.marker is not None and shown.marker[rows].any():
        rows = rows[shown.marker[rows].any((1, 2))]
    if len(rows) < 2:
        raise DataError(f"{len(rows)} held-out images could be explained; expected two or more")
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(settings.explained, len(rows))).round().astype(int))]


def _class(name: str, shown: Pictures, option: str) -> int:
    if name not in shown.classes:
        raise UsageError(f"{option} {name}: no such class; there are {', '.join(shown.classes) or 'none (--label)'}")
    return shown.classes.index(name)
