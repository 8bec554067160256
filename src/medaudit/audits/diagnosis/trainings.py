"""From a design to predicted masks: train each model on each fold, predict the patients it has not seen; resumable.

A task is one training on one fold. Tasks are independent: they run in as many processes as there are cores, one thread
each, so that the numbers do not depend on how many. A task that was killed goes on at its last checkpoint; one that
is finished left a marker and is not done again.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medaudit.audits.diagnosis.design import BASELINE, GOLD, SILVER, Design
from medaudit.cohort import Cohort, Role, Volume, mask_ending, read_image, write_mask
from medaudit.errors import DataError
from medaudit.report.atomic import write_atomically
from medaudit.training.devices import one_thread
from medaudit.training.prepared import Prepared, fingerprint, grid_of, opened, prepare, resized
from medaudit.training.segmentation import RECIPES, Recipe, fit, predict
from medaudit.workers import bar, in_processes

PREPARED, TRAININGS, PREDICTIONS, FEATURES = "prepared", "trainings", "predictions", "features"


@dataclass(frozen=True)
class Task:
    """One training on one fold: all that its process needs to know, in plain values."""

    training: str
    slug: str
    fold: int
    rows: tuple[int, ...]
    """The cases that it is trained on."""
    labels: tuple[str, ...]
    """Whose mask each of them is trained with."""
    held_out: tuple[int, ...]
    """The cases that it predicts."""
    seed: int


def train_and_predict(
    cohort: Cohort, design: Design, preset: str, out: Path, *, seed: int, jobs: int, device: str, progress: bool
) -> Cohort:
    """Return the cohort with a role a training, each case's mask predicted by a model that has not seen its patient.

    Predictions lie in ``out/predictions/TRAINING``, on the grid of each case's image; the baseline's bottleneck
    features in ``out/features.npz``. Raises DataError as reading and the training loop do.
    """
    axes = _axes(cohort)
    recipe = RECIPES[preset][axes]
    roles = [role for role in (GOLD, SILVER) if role in cohort.roles]
    names = file_names(cohort)
    forget_other_inputs(out, fingerprint(cohort, roles))
    left = [task for task in tasks(design, seed) if not _marker(out, task).exists()]
    if left:
        grid = grid_of(cohort, recipe.longest, _multiple(recipe))
        with bar("preparing cases", progress) as show:
            prepared = prepare(
                cohort, roles, grid, out / PREPARED, jobs=jobs, progress=partial(show, total=len(cohort))
            )
        refuse_empty_groups(prepared, design)
        run = partial(_run, cohort=cohort, recipe=recipe, roles=tuple(roles), out=out, names=names, device=device)
        with bar("training", progress) as show:
            for _ in show(
                in_processes(run, left, 1 if device != "cpu" else jobs), total=len(tasks(design, seed)), left=len(left)
            ):
                pass
    return with_predictions(cohort, design, out / PREDICTIONS, {t.name: t.slug for t in design.trainings}, axes)


def forget_other_inputs(out: Path, inputs: str) -> None:
    """Remove what was trained and predicted from other files than those of now: ``inputs`` is their fingerprint."""
    record = out / TRAININGS / "inputs.txt"
    if record.exists() and record.read_text() == inputs:
        return
    for folder in (PREPARED, TRAININGS, PREDICTIONS, FEATURES):
        shutil.rmtree(out / folder, ignore_errors=True)
    record.parent.mkdir(parents=True)
    write_atomically(record, inputs.encode())


def tasks(design: Design, seed: int) -> list[Task]:
    """Return the tasks of a design, fold by fold, so that what is finished first can be compared first."""
    made = []
    for fold in range(int(design.fold.max()) + 1):
        held_out = np.flatnonzero(design.predicted & (design.fold == fold))
        for training in design.trainings:
            rows = training.rows[design.fold[training.rows] != fold]
            labels = tuple(str(role) for role in training.labels[rows])
            made.append(
                Task(
                    training=training.name,
                    slug=training.slug,
                    fold=fold,
                    rows=tuple(rows.tolist()),
                    labels=labels,
                    held_out=tuple(held_out.tolist()),
                    # One seed a fold and not a training: first weights and order are the same for all models of a fold.
                    seed=int(np.random.SeedSequence((seed, fold)).generate_state(1)[0]),
                )
            )
    return made


def refuse_empty_groups(prepared: Prepared, design: Design) -> None:
    """Raise DataError where a group has nothing to learn: no expert mask of it has any foreground."""
    full = np.asarray([bool(mask.any()) for mask in prepared.masks[GOLD]])
    for g in np.flatnonzero(design.large):
        rows = np.flatnonzero((design.groups.codes == g) & design.predicted)
        if not full[rows].any():
            raise DataError(
                f"all {len(rows)} expert masks of {design.groups.name} {design.groups.labels[g]} are empty: there is "
                "nothing to learn or to score; check the masks' paths and --label"
            )


def with_predictions(cohort: Cohort, design: Design, folder: Path, places: dict[str, str], axes: int) -> Cohort:
    """Return the cohort with a role for each training of ``places``, its masks in ``folder/PLACE``."""
    names, there = file_names(cohort), design.predicted
    table = cohort.table
    roles = dict(cohort.roles)
    for training, place in places.items():
        paths = [
            str((folder / place / f"{name}{mask_ending(axes)}").resolve()) if known else None
            for name, known in zip(names, there, strict=True)
        ]
        column = f"{training}_path"
        table = table.with_columns(**{column: np.asarray(paths, dtype=object)})
        roles[training] = Role(column)
    return replace(cohort, table=table, roles=roles)


def file_names(cohort: Cohort) -> list[str]:
    """Return a file name for each case: its id where that can be one, else its number."""
    ids = cohort.case_ids
    plain = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", case_id) for case_id in ids)
    if plain and len({case_id.lower() for case_id in ids}) == len(ids):
        return ids
    return [f"case{i:06d}" for i in range(len(ids))]


def features_of(design: Design, out: Path) -> np.ndarray:
    """Return the baseline's bottleneck features of each case, (n, d) float64, NaN where a case was not predicted."""
    found: np.ndarray | None = None
    for fold in range(int(design.fold.max()) + 1):
        with np.load(out / FEATURES / f"fold-{fold}.npz") as file:
            rows, features = file["rows"], file["features"]
        if found is None:
            found = np.full((len(design.fold), features.shape[1]), np.nan)
        found[rows] = features
    assert found is not None
    return found


def tidy(out: Path) -> None:
    """Remove what only trainings needed: the prepared arrays and the checkpoints. Weights and logs stay."""
    shutil.rmtree(out / PREPARED, ignore_errors=True)
    for checkpoint in (out / TRAININGS).glob("*/fold-*/checkpoint-*.pt"):
        checkpoint.unlink(missing_ok=True)


def _run(
    task: Task, *, cohort: Cohort, recipe: Recipe, roles: tuple[str, ...], out: Path, names: list[str], device: str
) -> Task:
    """Train one model, predict the fold it has not seen, and only then leave the marker."""
    prepared = opened(out / PREPARED, cohort.case_ids, roles)
    cases = list(cohort.cases("image"))
    with one_thread(device):
        labels = dict(zip(task.rows, task.labels, strict=True))
        folder = out / TRAININGS / task.slug / f"fold-{task.fold}"
        model = fit(prepared, task.rows, labels, recipe, folder, seed=task.seed, device=device)
        known = []
        for row, logits, features in predict(model, prepared, task.held_out, device=device):
            case = cases[row]
            path = case.files["image"]
            assert path is not None
            image = read_image(path, spacing_mm=case.spacing_mm, allow_nan=True)
            mask = resized(logits, image.shape) > 0
            target = out / PREDICTIONS / task.slug / f"{names[row]}{mask_ending(mask.ndim)}"
            write_mask(target, mask, Volume(mask, image.spacing_mm, image.affine, path))
            known.append(features)
    if task.training == BASELINE:
        target = out / FEATURES / f"fold-{task.fold}.npz"
        target.parent.mkdir(exist_ok=True)
        part = target.with_name(f".{target.name}")
        np.savez(part, rows=np.asarray(task.held_out), features=np.asarray(known))
        part.replace(target)
    about = {
        "training": task.training,
        "fold": task.fold,
        "trained_on": len(task.rows),
        "predicted": len(task.held_out),
    }
    write_atomically(_marker(out, task), json.dumps(about).encode())
    return task


def _marker(out: Path, task: Task) -> Path:
    return out / TRAININGS / task.slug / f"fold-{task.fold}" / "done.json"


def _axes(cohort: Cohort) -> int:
    """Return 2 for pictures, 3 for volumes; DataError where the first image cannot be read."""
    case = next(iter(cohort.cases("image")))
    path = case.files["image"]
    if path is None:
        raise DataError(f"case {case.case_id}: the table gives no file for its image; drop the case")
    return len(read_image(path, spacing_mm=case.spacing_mm, allow_nan=True).shape)


def _multiple(recipe: Recipe) -> int:
    """Return what the sides of the grid must be multiples of."""
    from medaudit.networks.segmentation import build, stride

    return stride(build(recipe.net, 1, 1))
