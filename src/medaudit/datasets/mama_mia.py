"""MAMA-MIA: breast DCE-MRI of 1,506 patients with expert and automatic tumour masks, Garrucho et al. 2025.

From https://www.synapse.org/Synapse:syn60868042, CC BY-NC 4.0 as a whole (ISPY1 and NACT are CC BY 3.0, ISPY2 is
CC BY 4.0, DUKE is CC BY-NC 4.0)::

    clinical_and_imaging_info.xlsx                   sheet dataset_info, a row a patient, 49 columns
    images/DUKE_001/DUKE_001_0000.nii.gz             before contrast; _0001 is the first phase after it, and so on
    segmentations/expert/DUKE_001.nii.gz             role ``reference``
    segmentations/automatic/DUKE_001.nii.gz          role ``labels``
    patient_info_files/DUKE_001.json                 came with the challenge
    train_test_splits.csv                            columns train_split and test_split, of unequal length
    automatic_segmentations_quality_scores.csv       two experts' ratings (or ``preliminary_...``)

Releases differ: file names may be in lower case in folders in upper case, and ``expert/`` may be missing. So the tree
is listed once and searched without regard to case. Only the xlsx is required; a role is there if its files are.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from medaudit.cohort import Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset, with_numbers
from medaudit.errors import DataError

PUBLISHED = {
    "age": {"up to 40": 349, "41 to 55": 754, "over 55": 400, "unknown": 3},
    "ethnicity": {"caucasian": 1128, "african american": 241, "asian": 86, "other": 35, "unknown": 16},
}
"""How the 1,506 patients divide (arXiv 2510.27421; it counts the 16 of unknown ethnicity among 51 others)."""

RATINGS = ("Good", "Acceptable", "Poor", "Missed")

_PHASE = re.compile(r"^(.+)_(\d{4})\.nii(\.gz)?$")
_MASK = re.compile(r"^(.+?)\.nii(\.gz)?$")


@dataclass
class _Tree:
    """The files of a MAMA-MIA folder by patient id in upper case, paths relative to the folder."""

    phases: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    expert: dict[str, str] = field(default_factory=dict)
    automatic: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)


def load(root: Path, *, phase: int = 1) -> Cohort:
    """Return MAMA-MIA: ``image`` (contrast phase ``phase``), ``reference`` (expert), ``labels`` (automatic).

    ``age`` in years; ``ethnicity`` in four levels (``ethnicity_raw`` as given), ``menopause`` as pre, peri or post,
    ``source`` the trial, ``site`` (DUKE is one site), ``pixel_spacing_x_mm``, ``acquisition_times_s``; ``split`` and
    the ratings ``rating_1`` and ``rating_2`` where their tables are there. Other columns are the table's.

    Raises DataError where the clinical table is missing or is another one.
    """
    tree = _list(root)
    clinical = next((path for name, path in tree.tables.items() if name.startswith("clinical_and_imaging_info")), None)
    if clinical is None:
        raise DataError(f"{root}: clinical_and_imaging_info.xlsx not found; expected the folder of MAMA-MIA")
    workbook = Path(clinical).suffix.lower() == ".xlsx"
    table = read_table(root / clinical, sheet="dataset_info" if workbook else None)
    for name in ("patient_id", "dataset", "age", "ethnicity", "menopause"):
        if name not in table.columns:
            raise DataError(f"{root / clinical}: has no column '{name}'; is it MAMA-MIA's clinical table?")
    table = _clinical(table.with_columns(pl.col("patient_id").cast(pl.String).str.to_uppercase()))
    table = with_numbers(Cohort("MAMA-MIA", table, root), "age").table
    patients = table["patient_id"].to_list()
    notes = _counts(table)
    for more, note in (_facts(root, tree, patients), _split(root, tree, patients), _ratings(root, tree, patients)):
        table = table.with_columns(more)
        notes += note
    if "menopause_json" in table.columns:
        known = pl.coalesce("menopause", _stage("menopause_json"))
        table = table.with_columns(menopause=known).drop("menopause_json")
    files = {
        "image": [tree.phases.get(patient, {}).get(phase) for patient in patients],
        "reference": [tree.expert.get(patient) for patient in patients],
        "labels": [tree.automatic.get(patient) for patient in patients],
    }
    present = {role: paths for role, paths in files.items() if any(paths)}
    table = table.with_columns(pl.Series(f"{role}_path", paths, dtype=pl.String) for role, paths in present.items())
    if tree.phases:
        table = table.with_columns(pl.Series("phases_found", [len(tree.phases.get(p, {})) for p in patients]))
    strangers = sorted({*tree.phases, *tree.expert, *tree.automatic} - set(patients))
    if strangers:
        notes.append(f"Files of {len(strangers)} patients who are not in the table are left out, as {strangers[0]}.")
    return Cohort(
        "MAMA-MIA",
        table,
        root,
        roles={role: Role(f"{role}_path") for role in present},
        notes=tuple(notes),
        source=DATASET.source,
    )


def _list(root: Path) -> _Tree:
    tree = _Tree()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        inside = Path(folder).relative_to(root)
        parents = [part.lower() for part in inside.parts]
        for name in sorted(names):
            path, lower = (inside / name).as_posix(), name.lower()
            if "segmentations" in parents and (match := _MASK.match(lower)):
                if "automatic" in parents:
                    tree.automatic[match[1].upper()] = path
                elif "expert" in parents:
                    tree.expert[match[1].upper()] = path
                elif parents[-1] == "segmentations":
                    tree.expert.setdefault(match[1].upper(), path)
            elif "images" in parents and (match := _PHASE.match(lower)):
                tree.phases[match[1].upper()][int(match[2])] = path
            elif lower.endswith(".json") and "patient_info_files" in parents:
                tree.facts[lower.removesuffix(".json").upper()] = path
            elif lower.endswith((".xlsx", ".csv")) and not lower.startswith((".", "~$")):
                tree.tables.setdefault(lower, path)
    return tree


def _clinical(table: pl.DataFrame) -> pl.DataFrame:
    """Return the clinical table in our columns; texts are stripped of outer blanks already."""
    # A part of the table may have numbers only, or nothing at all, where the whole has texts.
    texts = ("ethnicity", "menopause", "dataset", "site", "pixel_spacing", "acquisition_times")
    table = table.with_columns(pl.col(name).cast(pl.String) for name in texts if name in table.columns)
    ethnicity = pl.col("ethnicity").str.to_lowercase()
    named = ["caucasian", "african american", "asian"]
    columns = [
        pl.col("patient_id").alias("case_id"),
        pl.col("ethnicity").alias("ethnicity_raw"),
        pl.when(ethnicity.is_in(named))
        .then(ethnicity)
        .when(ethnicity.is_not_null())
        .then(pl.lit("other"))
        .alias("ethnicity"),
        pl.col("menopause").alias("menopause_raw"),
        _stage("menopause").alias("menopause"),
    ]
    if "site" in table.columns:
        # DUKE is one hospital, so its table has no site; a stratum of its own keeps it in comparisons within sites.
        duke = (pl.col("dataset") == "DUKE") & pl.col("site").is_null()
        columns.append(pl.when(duke).then(pl.lit("DUKE")).otherwise(pl.col("site")).alias("site"))
    if "pixel_spacing" in table.columns:
        steps = _numbers("pixel_spacing")
        columns += [
            steps.list.get(i, null_on_oob=True).alias(f"pixel_spacing_{axis}_mm") for i, axis in enumerate("xy")
        ]
    if "acquisition_times" in table.columns:
        columns.append(_numbers("acquisition_times").alias("acquisition_times_s"))
    table = table.with_columns(columns).drop("pixel_spacing", "acquisition_times", strict=False)
    table = table.rename({"dataset": "source"})
    return table.select("case_id", "patient_id", "source", pl.exclude("case_id", "patient_id", "source"))


def _stage(column: str) -> pl.Expr:
    """Return pre, peri or post from what begins so (``pre (<6 months since LMP ...``)."""
    return pl.col(column).str.to_lowercase().str.extract(r"^\s*(pre|peri|post)")


def _numbers(column: str) -> pl.Expr:
    """Return the floats of a list that was written as text, ``[0.8036, 0.8036]``."""
    return pl.col(column).str.extract_all(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?").cast(pl.List(pl.Float64))


def _counts(table: pl.DataFrame) -> list[str]:
    """Return notes on how the patients divide, with a warning where the full table divides otherwise than published."""
    age = table["age"]
    found = {
        "age": {
            "up to 40": int((age <= 40).sum()),
            "41 to 55": int(((age > 40) & (age <= 55)).sum()),
            "over 55": int((age > 55).sum()),
            "unknown": age.null_count(),
        },
        "ethnicity": {level or "unknown": n for level, n in table["ethnicity"].value_counts().iter_rows()},
    }
    notes = [
        f"Age, an edge belonging to the group below it; {_told(found['age'])}.",
        f"Ethnicity; {_told(found['ethnicity'])}. The published group of 51 is the 35 patients of other ethnicities "
        "and the 16 of unknown ethnicity; the unknown are kept apart here.",
        "Site: DUKE has no site in the table and counts as one; ISPY1's 'Site AAI' and ISPY2's 'AAI' are kept apart.",
    ]
    if table.height != 1506:
        notes.append(f"The table has {table.height} patients; the published one has 1506.")
        return notes
    for attribute, published in PUBLISHED.items():
        if found[attribute] != published:
            notes.append(f"WARNING: by {attribute} the published numbers are others: {_told(published)}.")
    return notes


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{group}: {n}" for group, n in sorted(counts.items(), key=lambda item: -item[1]))


Extra = tuple[list[pl.Series], list[str]]
"""Columns for the table, in its order of patients, and notes."""


def _facts(root: Path, tree: _Tree, patients: list[str]) -> Extra:
    """Return what only the patients' JSON files say: breast density, menopausal status, the breast's box."""
    if not tree.facts:
        return [], []
    rows: list[dict[str, Any]] = []
    for patient in patients:
        path = tree.facts.get(patient)
        facts = _json(root / path) if path else {}
        clinical, lesion = _part(facts, "clinical_data"), _part(facts, "primary_lesion")
        box = _part(lesion, "breast_coordinates")
        rows.append(
            {
                "menopause_json": clinical.get("menopausal_status"),
                "breast_density": clinical.get("breast_density"),
                **{f"breast_{end}": box.get(end) for end in ("x_min", "x_max", "y_min", "y_max", "z_min", "z_max")},
            }
        )
    texts = ("menopause_json", "breast_density")
    columns = [
        pl.Series(k, [r[k] for r in rows], dtype=pl.String if k in texts else pl.Int64, strict=False) for k in rows[0]
    ]
    note = (
        "Breast boxes (breast_x_min ...) are as in the JSON files: public code takes x as the first axis of an array "
        "ordered slice, row, column. Verify before cropping."
    )
    return columns, [note]


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); copy or download it again") from None
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected one JSON object with the patient's facts")
    return facts


def _part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    part = facts.get(name)
    return part if isinstance(part, dict) else {}


def _split(root: Path, tree: _Tree, patients: list[str]) -> Extra:
    """Return train or test for each patient; the columns are lists of ids of unequal length."""
    if "train_test_splits.csv" not in tree.tables:
        return [], []
    path = root / tree.tables["train_test_splits.csv"]
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    listed = {
        part: {
            row[i].strip().upper() for i, name in enumerate(header) if part in name.lower() for row in rows if row[i:]
        }
        for part in ("train", "test")
    }
    if not any(listed.values()):
        raise DataError(f"{path}: no columns train_split and test_split with patient ids in them")
    both = len(listed["train"] & listed["test"] & set(patients))
    values = ["test" if p in listed["test"] else "train" if p in listed["train"] else None for p in patients]
    note = f"Split: {values.count('train')} train, {values.count('test')} test, {values.count(None)} in neither."
    if both:
        note += f" WARNING: {both} patients stand in both; they are taken as test."
    return [pl.Series("split", values, dtype=pl.String)], [note]


def _ratings(root: Path, tree: _Tree, patients: list[str]) -> Extra:
    """Return the experts' ratings of the automatic masks, and the scores that were published with them."""
    names = sorted((name for name in tree.tables if name.endswith("quality_scores.csv")), key=len)
    if not names:
        return [], []
    path = root / tree.tables[names[0]]
    table = read_table(path)
    sought = {
        "patient": r"patient",
        "rating_1": r"expert\D*1|1\D*expert",
        "rating_2": r"expert\D*2|2\D*expert",
        "published_dice": r"dice|dsc",
        "published_iou": r"iou|jaccard",
        "published_hausdorff": r"hausdorff|^hd",
    }
    found = {key: next((c for c in table.columns if re.search(rule, c.lower())), None) for key, rule in sought.items()}
    if found["patient"] is None or (found["rating_1"] is None and found["rating_2"] is None):
        raise DataError(
            f"{path}: expected columns patient_id, expert_1_qs and expert_2_qs; it has: {', '.join(table.columns)}"
        )
    ids = [str(patient).upper() for patient in table[found["patient"]]]
    columns = []
    for key, column in found.items():
        if column is None or key == "patient":
            continue
        values = (
            table[column].cast(pl.String).str.strip_chars().str.to_titlecase() if "rating" in key else table[column]
        )
        by_patient = dict(zip(ids, values.to_list(), strict=True))
        columns.append(pl.Series(key, [by_patient.get(patient) for patient in patients], dtype=values.dtype))
    notes = [f"Ratings from {path.name}; the published scores in it are not used, they are measured again."]
    odd = {v for c in columns if "rating" in c.name for v in c.drop_nulls().unique()} - set(RATINGS)
    if odd:
        notes.append(f"Ratings of an unknown kind: {', '.join(sorted(odd))}; known are {', '.join(RATINGS)}.")
    return columns, notes


DATASET = Dataset(
    name="mama-mia",
    load=load,
    title="MAMA-MIA: breast DCE-MRI with expert and automatic tumour masks",
    licence="CC BY-NC 4.0 (ISPY1, NACT: CC BY 3.0; ISPY2: CC BY 4.0; DUKE: CC BY-NC 4.0)",
    citation=(
        "Garrucho L, Kushibar K, Reidel CA, et al. A large-scale multicenter breast cancer DCE-MRI benchmark dataset "
        "with expert segmentations. Scientific Data 12:453, 2025. doi:10.1038/s41597-025-04707-4"
    ),
    url="https://www.synapse.org/Synapse:syn60868042",
    layout="""\
ROOT/
  clinical_and_imaging_info.xlsx
  images/DUKE_001/DUKE_001_0000.nii.gz, DUKE_001_0001.nii.gz ...
  segmentations/expert/DUKE_001.nii.gz (or segmentations/DUKE_001.nii.gz)
  segmentations/automatic/DUKE_001.nii.gz
  patient_info_files/DUKE_001.json                            (optional)
  train_test_splits.csv                                       (optional)
  automatic_segmentations_quality_scores.csv                  (optional, or preliminary_...)
""",
    needs="clinical_and_imaging_info.xlsx; for an audit of labels also the expert and automatic segmentations",
)
