"""ISIC: dermoscopy of HAM10000 (Tschandl et al. 2018, CC BY-NC 4.0), and who has a ruler, ink or hair in the image.

Two tables, of which either is enough::

    metadata.csv      HAM10000: lesion_id, image_id, dx, dx_type, age, sex, localization (also HAM10000_metadata.csv)
    isic_bias.csv     Bissoto et al. 2020: image;dark_corner;hair;gel_border;gel_bubble;ruler;ink;patches;label;...
    ISIC_0027419.jpg  images of either, beside the tables or in folders

HAM10000 is from https://doi.org/10.7910/DVN/DBW86T, the images of ISIC 2018's task 1/2, which ``isic_bias.csv`` labels,
from https://challenge.isic-archive.com/data/, and that table from https://github.com/alceubissoto/debiasing-skin, which
states no licence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, read_table
from medaudit.datasets.dataset import Dataset, with_numbers
from medaudit.datasets.folders import YES_NO, recoded, require, with_pictures
from medaudit.errors import DataError

TABLES = ("metadata.csv", "HAM10000_metadata.csv")
ARTEFACT_TABLE = "isic_bias.csv"
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
ARTEFACTS = ("dark_corner", "hair", "gel_border", "gel_bubble", "ruler", "ink", "patches")
UNKNOWN = "unknown"


def load(root: Path) -> Cohort:
    """Return HAM10000's ``dx``, ``age``, ``sex`` ..., and artefacts (``yes``, ``no``), by the tables that are there.

    ``dx``, ``dx_type``, ``age``, ``sex``, ``localization`` and ``patient_id`` (the lesion) are HAM10000's;
    ``dark_corner``, ``hair``, ``gel_border``, ``gel_bubble``, ``ruler``, ``ink``, ``patches`` and ``malignant`` are of
    ``isic_bias.csv``. With both tables an image of one has null in the other's columns. ``image`` is a role where
    images are there. Raises DataError where no table is there or one is another, and for a label that is not 0 or 1.
    """
    clinical = next((root / name for name in TABLES if (root / name).exists()), None)
    artefacts = root / ARTEFACT_TABLE if (root / ARTEFACT_TABLE).exists() else None
    if clinical is None and artefacts is None:
        raise DataError(
            f"{root / TABLES[0]}: not found; expected HAM10000's {TABLES[0]}, or {ARTEFACT_TABLE} for the images of "
            "ISIC 2018's task 1/2, or both"
        )
    parts = [_clinical(clinical)] if clinical is not None else []
    parts += [_artefacts(artefacts)] if artefacts is not None else []
    table, notes = parts[0], []
    if len(parts) == 2:
        both = parts[0].join(parts[1], on="case_id", how="inner").height
        table = parts[0].join(parts[1], on="case_id", how="full", coalesce=True, maintain_order="left_right")
        notes.append(f"{both:,} images are in both tables; each other one has only its own table's columns.")
    cohort = Cohort("ISIC", table, root, source=DATASET.source)
    cohort = replace(cohort, notes=(*_notes(cohort.table, clinical is not None, artefacts is not None), *notes))
    if clinical is not None:
        cohort = with_numbers(cohort, "age")
    return with_pictures(cohort, cohort.table["case_id"])


def _clinical(path: Path) -> pl.DataFrame:
    raw = read_table(path)
    require(raw, COLUMNS, path, "HAM10000's table")
    known = [pl.when(pl.col(name) != UNKNOWN).then(name).alias(name) for name in ("sex", "localization")]
    return raw.select(
        case_id=_ids(raw["image_id"]), patient_id="lesion_id", dx="dx", dx_type="dx_type", age="age"
    ).hstack(raw.select(known))


def _artefacts(path: Path) -> pl.DataFrame:
    raw = read_table(path)
    require(raw, ("image", *ARTEFACTS, "label"), path, "Bissoto et al.'s table of artefacts")
    cases = _ids(raw["image"])
    if twice := cases.filter(cases.is_duplicated()).to_list():
        raise DataError(f"{path}: {twice[0]} stands in more than one row; expected a row an image")
    return (
        pl.DataFrame([cases.alias("case_id")])
        .with_columns(recoded(raw[name], cases, path, YES_NO) for name in ARTEFACTS)
        .with_columns(recoded(raw["label"], cases, path, YES_NO).alias("malignant"))
    )


def _ids(names: pl.Series) -> pl.Series:
    return names.cast(pl.String).str.replace(r"(?i)\.(png|jpe?g)$", "")


def _notes(table: pl.DataFrame, clinical: bool, artefacts: bool) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    notes = ["No skin tone is given."]
    if clinical:
        rows = table.filter(pl.col("dx").is_not_null())
        notes.append(
            f"HAM10000: {rows.height:,} images of {rows['patient_id'].n_unique():,} lesions. Intervals are by lesion; "
            "patients are not named, and intervals are too narrow where one has several lesions."
        )
    if artefacts:
        rows = table.filter(pl.col("malignant").is_not_null())
        counts = ", ".join(f"{name} {(rows[name] == 'yes').sum():,}" for name in ARTEFACTS)
        notes.append(
            f"Artefacts of {rows.height:,} images, {(rows['malignant'] == 'yes').sum():,} malignant: {counts}. The "
            "labels say that something is in the image, not where; their repository states no licence."
        )
        if not clinical:
            notes.append("Lesions and patients are not named: intervals are by image.")
    return tuple(notes)


DATASET = Dataset(
    name="isic",
    load=load,
    title="ISIC: HAM10000's dermoscopy, and ISIC 2018 task 1/2 with artefact labels",
    licence="CC BY-NC 4.0 (HAM10000; other ISIC images by image; the artefact labels state no licence)",
    citation=(
        "Tschandl P, Rosendahl C, Kittler H. The HAM10000 dataset, a large collection of multi-source dermatoscopic "
        "images of common pigmented skin lesions. Scientific Data 5:180161, 2018. doi:10.1038/sdata.2018.161. "
        "Artefacts: Bissoto A, Valle E, Avila S. Debiasing skin lesion datasets and models? Not so fast. CVPR "
        "Workshops, 2020."
    ),
    url="https://challenge.isic-archive.com/data/",
    layout="""\
ROOT/
  metadata.csv                             (HAM10000)
  isic_bias.csv                            (artefacts in the images of ISIC 2018's task 1/2)
  HAM10000_images_part_1/ISIC_0027419.jpg ...
""",
    needs="metadata.csv of HAM10000, or isic_bias.csv, or both, with the images beside (rows alone serve for counts)",
)
