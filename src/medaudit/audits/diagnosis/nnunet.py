"""Trained elsewhere: the design as nnU-Net datasets, and the predictions that come back.

Each training is a dataset of its own, since the labels differ; images are linked or copied, labels are written as 0
and 1. ``splits_final.json`` trains on the training's own cases and predicts every case of the fold, so that the masks
in ``fold_*/validation`` are what the diagnosis needs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.diagnosis.design import BASELINE, Design
from medaudit.audits.diagnosis.difficulty import tier_of
from medaudit.audits.diagnosis.plan import Planned
from medaudit.audits.diagnosis.trainings import file_names
from medaudit.cohort import EMPTY, Cohort, Role, Volume, mask_ending, read_image, read_mask, write_mask
from medaudit.errors import DataError
from medaudit.networks.nnunet import NnunetCase, export_raw, find_predictions
from medaudit.report.atomic import write_atomically

FIRST_ID = 501
"""nnU-Net leaves dataset numbers from 500 on to users."""

MANIFEST = "diagnosis.json"


def exported(planned: Planned, folder: Path, *, measure: str) -> list[Path]:
    """Return the dataset folders of a design, written to ``folder``: point ``nnUNet_raw`` at it.

    Beside them lie ``diagnosis.json``, which says which labels of which training were exchanged and how much that
    changed, and in each dataset ``splits_final.json``, which belongs into its folder under ``nnUNet_preprocessed``.
    Raises DataError where a file cannot be read or written, or images are of a format that nnU-Net does not take.
    """
    cohort, design = planned.cohort, planned.design
    names = file_names(cohort)
    rows = np.flatnonzero(design.predicted)
    cases = list(cohort.cases("image", *{role for t in design.trainings for role in set(t.labels[rows])}))
    made, about = [], []
    for number, training in enumerate(design.trainings):
        written = []
        for row in rows:
            case, role = cases[row], str(training.labels[row])
            image = case.files["image"]
            if image is None:
                raise DataError(f"case {case.case_id}: the table gives no file for its image; drop the case")
            like = read_image(image, spacing_mm=case.spacing_mm)
            label = folder / "labels" / role / f"{names[row]}{mask_ending(len(like.shape))}"
            if not label.exists():
                write_mask(label, _mask(cohort, case.files[role], role, case.spacing_mm, like), like, foreground=1)
            written.append(NnunetCase(names[row], [image], label))
        dataset = export_raw(
            folder, FIRST_ID + number, training.slug, written, channel_names=["image"], labels=["foreground"], link=True
        )
        splits = [
            {
                "train": [names[i] for i in training.rows if design.fold[i] != fold],
                "val": [names[i] for i in rows if design.fold[i] == fold],
            }
            for fold in range(int(design.fold.max()) + 1)
        ]
        write_atomically(dataset / "splits_final.json", (json.dumps(splits, indent=1) + "\n").encode())
        about.append(_about(planned, training.name, dataset.name, names, measure))
        made.append(dataset)
    manifest = {
        "grouping": design.groups.rule,
        "per_group": design.per_group,
        "notes": design.notes,
        "trainings": about,
    }
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return made


def imported(cohort: Cohort, design: Design, folder: Path) -> tuple[Cohort, Design]:
    """Return the cohort with a role for each training that ``folder`` has predictions of, and the design of these.

    Looked for in ``folder/TRAINING``, ``folder/DatasetXXX_TRAINING`` and below (nnU-Net's results have a folder for
    trainer and plan in between). A training without predictions reduces the design, with a note. Raises DataError
    where the baseline has none, or a training lacks some case.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the predictions of the exported trainings")
    names = file_names(cohort)
    wanted = [name for name, known in zip(names, design.predicted, strict=True) if known]
    table, roles = cohort.table, dict(cohort.roles)
    left, notes = [], list(design.notes)
    for training in design.trainings:
        place = _place(folder, training.slug, wanted)
        if place is None:
            notes.append(f"No predictions of {training.name} were found.")
            continue
        found = find_predictions(place, wanted)
        paths = [str(found[name].resolve()) if name in found else None for name in names]
        column = f"{training.name}_path"
        table = table.with_columns(pl.Series(column, paths, dtype=pl.String))
        roles[training.name] = Role(column)
        left.append(training)
    if BASELINE not in [training.name for training in left]:
        raise DataError(
            f"{folder} has no predictions of the {BASELINE}; expected them in {folder / BASELINE}, a file a case, as "
            f"{wanted[0]}{mask_ending(3)}"
        )
    return replace(cohort, table=table, roles=roles), replace(design, trainings=tuple(left), notes=tuple(notes))


def _place(folder: Path, slug: str, wanted: list[str]) -> Path | None:
    """Return the folder that holds a training's predictions: the first one in which a case of the cohort lies."""
    for top in (folder / slug, *sorted(folder.glob(f"Dataset*_{slug}"))):
        for place in (top, *sorted(path for path in top.glob("*") if path.is_dir())):
            if place.is_dir() and find_predictions(place, wanted, partial=True):
                return place
    return None


def _mask(cohort: Cohort, path: Path | None, role: str, spacing: tuple[float, ...] | None, like: Volume) -> np.ndarray:
    if path is None or str(path) == EMPTY:
        return np.zeros(like.shape, np.uint8)
    how = cohort.roles[role]
    return np.asarray(read_mask(path, label=how.label, fill=how.fill, spacing_mm=spacing).array)


def _about(planned: Planned, name: str, dataset: str, names: list[str], measure: str) -> dict[str, object]:
    """Return what a training is: who it trains on, whose labels were exchanged, and how much that changed them."""
    training = planned.design.training(name)
    assert training is not None
    said: dict[str, object] = {
        "name": name,
        "dataset": dataset,
        "question": training.question,
        "trained_on": [names[i] for i in training.rows],
        "swapped": [names[i] for i in training.swapped],
    }
    if planned.quality is not None and len(training.swapped):
        values = planned.quality[measure].cast(pl.Float64).to_numpy()[training.swapped]
        known = values[np.isfinite(values)]
        said[f"swapped_{measure}_mean"] = float(known.mean()) if known.size else None
        said[f"swapped_{measure}_min"] = float(known.min()) if known.size else None
        tiers = tier_of(planned.quality, planned.cohort)
        if tiers is not None:
            said["swapped_tiers"] = {
                str(t): int(n) for t, n in tiers[training.swapped].value_counts().sort("tier").rows()
            }
    return said
