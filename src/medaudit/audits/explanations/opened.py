"""Images on one grid with what marks them, the model whose answers are explained, and the model trained again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.cohort import Cohort, split
from medaudit.cohort.table import texts
from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.intensity import Intensity
from medaudit.explanation.attributions.run import Subject
from medaudit.explanation.user_code import called
from medaudit.networks.classification import build_classifier
from medaudit.training import checkpoint
from medaudit.training.classification import CLASSIFIERS, fit_classifier
from medaudit.training.prepared import Prepared, prepare
from medaudit.training.prepared import opened as arrays
from medaudit.workers import bar

KEPT = "classifier.pt"
PREPARED = "prepared"
_BATCH = 64  # images that are read and asked at once
SEEDS = 2  # trainings: the one that is explained, and the one it is compared with
_POOL = 256  # training images that stand for the data


@dataclass(frozen=True, eq=False)
class Pictures:
    """A cohort's images from 0 to 1 on one grid, and what else is known of each."""

    case_ids: tuple[str, ...]
    images: np.ndarray
    """(n, channels, side, side) float16."""
    masks: tuple[np.ndarray, ...]
    """A reader each, (n, side, side) uint8 on disk: 255 times the part of a pixel that is marked."""
    marker: np.ndarray | None
    """(n, side, side) uint8, likewise: where a marker lies that should not matter."""
    y: np.ndarray
    """(n,): the class of each; -1 where it is not known."""
    classes: tuple[str, ...]
    patients: np.ndarray
    training: np.ndarray
    """Rows that a classifier may learn from, and that stand for the data."""
    held: np.ndarray
    """Rows of other patients."""

    def marked(self, rows: np.ndarray) -> np.ndarray:
        """Return (readers, len(rows), side, side) bool: what each reader marked of these rows."""
        return np.stack([mask[rows] > 127 for mask in self.masks])


@dataclass(frozen=True, eq=False)
class Explained:
    """What the study asks: a subject, and whose images they are."""

    subject: Subject
    rows: np.ndarray
    """Of the pictures."""
    pictures: Pictures
    told: np.ndarray
    """(held,): the class that the model gives each held-out image."""
    about: np.ndarray
    """(rows,): the class that is explained of each."""
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
            raise DataError(f"{cohort.name}: column {settings.label} has {len(classes)} known values; a classifier "
                            "tells two or more")  # fmt: skip
        y = np.array([classes.index(name) if name in classes else -1 for name in names])
    patients = np.array([f"case {case}" if one is None else str(one)
                         for one, case in zip(cohort.clusters.to_list(), cohort.case_ids, strict=True)])  # fmt: skip
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
    parts = split(patients.tolist(), [str(one) for one in y], (1 - settings.test_share, settings.test_share),
                  settings.seed)  # fmt: skip
    training, held = np.flatnonzero((parts == 0) & (y >= 0)), np.flatnonzero((parts == 1) & (y >= 0))
    if settings.label is None:
        training, held = np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
    return Pictures(found.case_ids, found.images, tuple(found.masks[name] for name in readers),
                    found.masks["marker"] if marker else None, y, classes, patients, training, held)  # fmt: skip


def explained(
    shown: Pictures, settings: ExplainSettings, out: Path, *, model: str | None, progress: bool,
    others: tuple[Path, ...] = (),
) -> Explained:  # fmt: skip
    """Return what is explained: the model ``model`` (FILE.py:NAME, or a classifier.pt), or one trained here.

    ``others``: files of models that were trained again beside a ``model`` that is one of them. Raises UsageError for a
    device that is not there, and UsageError and DataError for a model or a cohort that cannot be explained.
    """
    device = _device(settings.device)
    intensity = Intensity(settings.mean, settings.std)
    if model is None:
        nets = [_trained(shown, settings, out / f"training-{k}", seed=settings.seed + k, progress=progress)
                for k in range(SEEDS)]  # fmt: skip
        for k, net in enumerate(nets):
            kept = {"model": net.state_dict(), "this": _shape(shown, settings)}
            checkpoint.write(out / (KEPT if k == 0 else again(k)), kept)
        own, again_, told = nets[0], tuple(nets[1:]), "trained here"
    else:
        own, told = opened(model, shown, settings)
        again_ = tuple(opened(str(path), shown, settings)[0] for path in others)
    own, again_ = _placed(own, device, model), tuple(_placed(one, device, model) for one in again_)
    rows, pool = _chosen(shown, settings), None
    logits = _asked(own, shown, intensity, device, model or "the model")
    classes = logits.argmax(1).numpy() if logits.shape[1] > 1 else (logits[:, 0] > 0).long().numpy()
    if shown.classes and max(2, logits.shape[1]) != len(shown.classes):
        raise DataError(f"the model tells {max(2, logits.shape[1])} classes, column {settings.label} has "
                        f"{len(shown.classes)}: {', '.join(shown.classes)}")  # fmt: skip

    def inputs(some: np.ndarray) -> Tensor:
        return intensity.to_input(tensors(shown, some)).to(device)

    if len(shown.training):
        pool = inputs(shown.training[:: max(1, len(shown.training) // _POOL)])
    target, matched = None, None
    if settings.target is not None:
        target = _class(settings.target, shown, "--target")
    if settings.normal is not None:
        normal = shown.training[shown.y[shown.training] == _class(settings.normal, shown, "--normal")]
        if not len(normal):
            raise DataError(f"--normal {settings.normal}: no image of that class is among those that stand for the "
                            "data; expected one or more")  # fmt: skip
        matched = inputs(normal[evenly(len(normal), _POOL)])
    about = classes[np.searchsorted(shown.held, rows)] if target is None else np.full(len(rows), target)
    subject = Subject(own, inputs(rows), intensity, pool, matched, target, others=again_, at_once=settings.at_once)
    return Explained(subject, rows, shown, classes, about, model is None, told)


def again(k: int) -> str:
    """Return the name of the file of the model that was trained the ``k``-th time again."""
    return f"{Path(KEPT).stem}-{k}.pt"


def model_file(where: str) -> tuple[Path, str]:
    """Return the file of a model and the name of the function in it, "" of a ``.pt``."""
    name, _, function = where.rpartition(".py:")
    return (Path(f"{name}.py"), function) if name and function else (Path(where), "")


def tensors(shown: Pictures, rows: np.ndarray) -> Tensor:
    """Return images (n, channels, side, side) float32 from 0 to 1."""
    return torch.from_numpy(np.asarray(shown.images[rows], dtype=np.float32))


def opened(where: str, shown: Pictures, settings: ExplainSettings) -> tuple[nn.Module, str]:
    """Return the model and what tells it from another: see :func:`explained`. No code runs for a ``.pt``.

    Raises UsageError and DataError for what is none.
    """
    path, function = model_file(where)
    if not path.is_file():
        raise DataError(f"{path}: no such file; --model is FILE.py:NAME, or a {KEPT} of an earlier run")
    if path.suffix == ".py" and not function:
        raise UsageError(f"--model {where}: say which function returns the model, as {path}:NAME")
    told = f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if function:
        return _called(path, function), f"{told}:{function}"
    kept = checkpoint.read(path)
    this, asked = kept.get("this"), _shape(shown, settings)
    if not isinstance(this, dict) or "model" not in kept or not {"classes", "side", "colours"} <= set(this):
        raise DataError(f"{path} is no classifier that medaudit explain trained; wrap yours as FILE.py:NAME")
    for what in ("side", "colours", "mean", "std", *(("classes",) if shown.classes else ())):
        if what in this and this[what] != asked[what]:
            raise DataError(f"{path} was trained with {what} {_listed(this[what])}; asked was {_listed(asked[what])}")
    net = build_classifier("cpu", len(this["classes"]), seed=0, colours=this["colours"])
    checkpoint.check_architecture(net.state_dict(), kept["model"], path)
    net.load_state_dict(kept["model"])
    return net, told


def _called(path: Path, function: str) -> nn.Module:
    made = called(path, function)
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
    # Five parts, or as many as make no step too few.
    parts = next(parts for parts in range(min(5, settings.steps), 0, -1) if settings.steps % parts == 0)
    recipe = replace(CLASSIFIERS["cpu"], side=settings.side, steps=settings.steps, epochs=parts)
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
    return {"classes": list(shown.classes), "side": settings.side, "colours": settings.colours,
            "mean": settings.mean, "std": settings.std}  # fmt: skip


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _device(name: str) -> torch.device:
    """Return a device that is there; UsageError for another."""
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--device {name}: it is not there ({why}); expected cpu, or cuda on a machine with one"
        ) from None
    return found


def _placed(model: nn.Module, device: torch.device, where: str | None) -> nn.Module:
    try:
        return model.eval().to(device)
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(f"{where or 'the model'} cannot be brought to {device}: {str(error).splitlines()[0]}") from None


def _asked(
    model: nn.Module, shown: Pictures, intensity: Intensity, device: torch.device, name: str
) -> Tensor:  # fmt: skip
    """Return logits (held, classes) of all held-out images on the CPU, read a few at a time.

    Raises DataError in one line for a model that cannot read them.
    """
    parts = []
    for start in range(0, len(shown.held), _BATCH):
        x = intensity.to_input(tensors(shown, shown.held[start : start + _BATCH])).to(device)
        try:
            with torch.no_grad():  # not inference mode: what a model keeps of a call must serve gradients later
                out = model(x)
        except Exception as error:
            raise DataError(f"{name} failed on images of shape {tuple(x.shape[1:])}: {type(error).__name__}: {error}"
                            .splitlines()[0]) from error  # fmt: skip
        if not isinstance(out, Tensor):
            raise DataError(f"{name} returns a {type(out).__name__}; expected a tensor of logits (N, classes)")
        out = out[:, None] if out.ndim == 1 else out
        if out.ndim != 2 or len(out) != len(x) or not out.shape[1]:
            raise DataError(f"{name} returns shape {tuple(out.shape)} of {len(x)} images; expected logits (N, classes)")
        if not torch.isfinite(out).all():
            raise DataError(f"{name} returns numbers that are not finite")
        parts.append(out.float().cpu())
    return torch.cat(parts)


def _chosen(shown: Pictures, settings: ExplainSettings) -> np.ndarray:
    """Return the held-out rows that are explained: evenly, of those with masks, and a marker, where there are any."""
    rows = shown.held
    if shown.masks:
        rows = rows[_any(shown.masks, rows)]
    if shown.marker is not None and (there := _any((shown.marker,), rows)).any():
        rows = rows[there]
    if len(rows) < 2:
        what = " that have a mask" if shown.masks else ""
        raise DataError(f"{len(rows)} held-out images{what} could be explained; expected two or more")
    return rows[evenly(len(rows), settings.explained)]


def _any(masks: tuple[np.ndarray, ...], rows: np.ndarray) -> np.ndarray:
    """Return (len(rows),): whether anything is marked, a few rows read at a time."""
    found = [np.any([(mask[some] > 127).any((1, 2)) for mask in masks], axis=0)
             for some in np.split(rows, range(_BATCH, len(rows), _BATCH))]  # fmt: skip
    return np.concatenate(found).astype(bool)


def evenly(n: int, most: int) -> np.ndarray:
    """Return ``most`` places of 0 to n - 1 at most, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).round().astype(int))


def _class(name: str, shown: Pictures, option: str) -> int:
    if name not in shown.classes:
        raise UsageError(f"{option} {name}: no such class; there are {', '.join(shown.classes) or 'none (--label)'}")
    return shown.classes.index(name)
