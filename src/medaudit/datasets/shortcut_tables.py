"""Who has the shortcut in the picture: pacemakers in CheXpert, rulers in HAM10000, chest drains in NIH ChestX-ray14.

Three tables of https://github.com/nina-weng/FastDiME_Med (Weng et al. 2024), which states no licence: they are read
from your disk, beside the images, which each have terms of their own::

    che_pm_meta.csv      img_name, Cardiomegaly, PM, split                        patient41055_study2_view1_frontal.jpg
    isic_ruler_meta.csv  img_name, Mal, Ruler, split                              ISIC_0024306.jpg
    nih_drain_meta.csv   img_name, Pneumothorax, drain_annotated, Drain, split    00030651_005.png

Images lie under these names beside the table or up to three folders deep; CheXpert's also as it is downloaded, in
``train/patient41055/study2/view1_frontal.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.cohort import Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset
from medaudit.datasets.folders import YES_NO, recoded, require, with_pictures
from medaudit.datasets.isic import TABLES as HAM10000
from medaudit.errors import DataError

CHEXPERT = {**YES_NO, "-1": None}
"""CheXpert's labels: 1 is yes, 0 is no, -1 is uncertain; nothing is not mentioned. The last two are unknown here."""
CHEXPERT_FOLDERS = (
    "",
    "train",
    "valid",
    *(f"CheXpert-v1.0{s}/{t}" for s in ("-small", "") for t in ("train", "valid")),
)
SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val"}

BENIGN = ("bkl", "df", "nv", "vasc")
"""HAM10000's kinds that are no cancer: keratoses, dermatofibromas, naevi, vascular lesions (Tschandl et al. 2018)."""


@dataclass(frozen=True)
class _Table:
    """One of the tables: its file, what its columns are called there and here, and how a name tells the patient."""

    name: str
    title: str
    file: str
    label: tuple[str, str]
    shortcut: tuple[str, str]
    example: str
    patient: re.Pattern[str] | None = None
    codes: Mapping[str, str | None] = field(default_factory=lambda: YES_NO)
    annotated: str = ""
    """A column that is empty where the shortcut is not annotated but predicted."""


_PACEMAKER = _Table(
    "chexpert-pacemaker", "CheXpert pacemaker", "che_pm_meta.csv", ("Cardiomegaly", "cardiomegaly"),
    ("PM", "pacemaker"), "patient41055_study2_view1_frontal.jpg", re.compile(r"(patient\d+)_study\d+_view\d+_\w+"),
    CHEXPERT,
)  # fmt: skip
_RULER = _Table(
    "isic-ruler", "ISIC ruler", "isic_ruler_meta.csv", ("Mal", "malignant"), ("Ruler", "ruler"), "ISIC_0024306.jpg"
)
_DRAIN = _Table(
    "nih-drain", "NIH drain", "nih_drain_meta.csv", ("Pneumothorax", "pneumothorax"), ("Drain", "drain"),
    "00030651_005.png", re.compile(r"(\d{8})_\d{3}"), annotated="drain_annotated",
)  # fmt: skip


def load(known: _Table, root: Path) -> Cohort:
    """Return one of the tables: the disease and the shortcut (``yes``, ``no``), ``split``, role ``image``.

    Of NIH, ``drain_annotated`` is null and ``drain_by`` is ``model`` where nobody annotated the image, else
    ``annotator``. ``patient_id`` is the patient in the file's name. Of ISIC it is the lesion, beside HAM10000's ``dx``,
    where that table lies in the folder too.

    Raises DataError where the table is missing or another one, for a code that is none, for a name that does not tell
    the patient, and where some of the images are missing. Where all are, the cohort is the table, without a role.
    """
    path = root / known.file
    if not path.exists():
        raise DataError(f"{path}: not found; expected {known.file} of FastDiME_Med, with the images beside it")
    raw = read_table(path)
    names = [known.label, known.shortcut, *([(known.annotated, known.annotated)] if known.annotated else [])]
    require(raw, ("img_name", *(there for there, _ in names), "split"), path, "FastDiME_Med's table")
    cases = raw["img_name"].cast(pl.String).str.replace(r"(?i)\.(png|jpe?g)$", "").alias("case_id")
    columns = [recoded(raw[there], cases, path, known.codes).alias(here) for there, here in names]
    split = recoded(raw["split"], cases, path, SPLITS)
    table = pl.DataFrame([cases, *_patients(known, cases, path), *columns, split])
    if known.annotated:
        by = pl.when(pl.col(known.annotated).is_null()).then(pl.lit("model")).otherwise(pl.lit("annotator"))
        table = table.with_columns(by.alias(f"{known.shortcut[1]}_by"))
    cohort = Cohort(known.title, table, root, source=DATASETS[known.name].source)
    uncertain = int((raw[known.label[0]].cast(pl.String).str.replace(r"\.0+$", "") == "-1").sum())
    return _pictured(replace(cohort, notes=_notes(cohort.table, known, uncertain)), path, raw["img_name"])


def _patients(known: _Table, cases: pl.Series, path: Path) -> list[pl.Series]:
    """Return the patient of each image by its name; of ISIC lesion and ``dx``, where HAM10000's table lies beside."""
    if known.patient is not None:
        found = [known.patient.fullmatch(name or "") for name in cases]
        if None in found:
            row = found.index(None)
            raise DataError(
                f"{path}: row {row + 1}: '{cases[row]}' does not say whose image it is; "
                f"expected a name as {known.example}"
            )
        return [pl.Series("patient_id", [match[1] for match in found if match])]
    beside = next((path.with_name(name) for name in HAM10000 if path.with_name(name).exists()), None)
    if beside is None:
        return []
    lesions = read_table(beside)
    require(lesions, ("image_id", "lesion_id", "dx"), beside, "HAM10000's table")
    of_image = {image: (lesion, dx) for image, lesion, dx in lesions.select("image_id", "lesion_id", "dx").iter_rows()}
    found_rows = [of_image.get(name, (None, None)) for name in cases]
    return [
        pl.Series("patient_id", [lesion for lesion, _ in found_rows], dtype=pl.String),
        pl.Series("dx", [dx for _, dx in found_rows], dtype=pl.String),
    ]


def _pictured(cohort: Cohort, path: Path, names: pl.Series) -> Cohort:
    """Return the cohort with its images; DataError naming the first row whose image is missing, if not all are."""
    nested = _nested(cohort)
    found = cohort
    if nested is None:
        found = with_pictures(cohort, cohort.table["case_id"])
    else:
        found = replace(cohort, table=cohort.table.with_columns(nested), roles={"image": Role("image_path")})
    if "image" in found.roles and (missing := found.table["image_path"].null_count()):
        row = int(found.table["image_path"].is_null().arg_true()[0])
        raise DataError(
            f"{path}: row {row + 1}: {names[row]} is not in {cohort.root}; {missing:,} of {len(found):,} images are "
            "missing: fetch them, or take their rows out of the table"
        )
    return found


def _nested(cohort: Cohort) -> pl.Series | None:
    """Return where each image of CheXpert lies in its own tree (patient, study, view), None where there is none."""
    parts = [name.split("_", 2) for name in cohort.case_ids]
    if any(len(part) != 3 for part in parts):
        return None
    trees = [below for below in CHEXPERT_FOLDERS if any((cohort.root / below).glob("patient*/study*"))]
    if not trees:
        return None
    places = [["/".join(filter(None, (tree, *part))) + ".jpg" for tree in trees] for part in parts]
    taken = [next((place for place in some if (cohort.root / place).exists()), None) for some in places]
    return pl.Series("image_path", taken, dtype=pl.String) if any(taken) else None


def _notes(table: pl.DataFrame, known: _Table, uncertain: int) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    label, shortcut = known.label[1], known.shortcut[1]
    both = table.drop_nulls([label, shortcut])
    sick, marked = ((both[name] == "yes").to_numpy() for name in (label, shortcut))
    notes = [f"{table.height:,} images; {label}: yes in {sick.sum():,}, {shortcut}: yes in {marked.sum():,}."]
    if 0 < sick.sum() < len(sick) and 0 < marked.sum() < len(marked):
        phi = np.corrcoef(sick, marked)[0, 1]
        notes.append(
            f"{shortcut} is yes in {marked[sick].mean():.1%} of the images where {label} is yes and in "
            f"{marked[~sick].mean():.1%} of the others: phi {phi:.3f}, in this selection, not in a hospital."
        )
    if uncertain:
        notes.append(f"{label} is uncertain (-1) in {uncertain:,} images, which count as unknown.")
    notes += _split_notes(table, known)
    if "dx" in table.columns:
        benign = table.filter((pl.col(label) == "yes") & pl.col("dx").is_in(BENIGN))
        if benign.height:
            kinds = ", ".join(f"{dx} {n:,}" for dx, n in benign["dx"].value_counts().sort("dx").iter_rows())
            notes.append(
                f"{label} is yes for {benign.height:,} images of kinds that are benign ({kinds} by HAM10000's dx): "
                f"{sick.sum() - benign.height:,} are left, not {sick.sum():,}. Choose what to call malignant by dx."
            )
    if known.annotated:
        predicted, well = table[f"{shortcut}_by"] == "model", table[label] == "no"
        notes.append(
            f"{shortcut} of {predicted.sum():,} images is a classifier's prediction, not an annotation (the authors' "
            f"README; {shortcut}_by: model), and so is that of {(predicted & well).sum():,} of the {well.sum():,} "
            f"images without {label}: what a model is found to know of {shortcut} may be that classifier's errors."
        )
    notes.append("FastDiME_Med states no licence for its tables: share findings, not the rows.")
    return tuple(notes)


def _split_notes(table: pl.DataFrame, known: _Table) -> Iterable[str]:
    """Say how many patients (of ISIC: lesions) have images in more than one split."""
    if "patient_id" not in table.columns:
        return [
            "Neither lesions nor patients are named, and HAM10000 has several images of a lesion: the split, by image, "
            f"may have a lesion on both sides. Put HAM10000's {HAM10000[0]} beside the table, and they are counted."
        ]
    who = "patients" if known.patient else "lesions"
    counts = table.group_by("patient_id").agg(images=pl.len(), splits=pl.col("split").n_unique())
    across = counts.filter(pl.col("splits") > 1)
    if across.height:
        return [
            f"{across.height:,} of {counts.height:,} {who} have images in more than one split: a model is tested on "
            f"{who} that it was trained on. Split anew by patient_id."
        ]
    return [f"{counts.height:,} {who}, none of them in more than one split."]


_CITATION = (
    "Weng N, Pegios P, Petersen E, Feragen A, Bigdeli S. Fast diffusion-based counterfactuals for shortcut removal and "
    "generation. ECCV, 2024. doi:10.48550/arXiv.2312.14223. "
)
_URL = "https://github.com/nina-weng/FastDiME_Med"

CHEXPERT_PACEMAKER = Dataset(
    name="chexpert-pacemaker",
    load=partial(load, _PACEMAKER),
    title="CheXpert with annotated pacemakers: cardiomegaly and its shortcut",
    licence="no licence stated (annotations); Stanford's CheXpert agreement: no redistribution (images)",
    citation=_CITATION
    + "Images: Irvin J, Rajpurkar P, Ko M, et al. CheXpert. AAAI, 2019. doi:10.1609/aaai.v33i01.3301590",
    url=_URL,
    layout="""\
ROOT/
  che_pm_meta.csv
  patient41055_study2_view1_frontal.jpg ...     (or up to three folders deep)
  train/patient41055/study2/view1_frontal.jpg   (or as CheXpert is downloaded)
""",
    needs="che_pm_meta.csv of FastDiME_Med, with CheXpert's frontal images beside it (rows alone serve for counts)",
)
ISIC_RULER = Dataset(
    name="isic-ruler",
    load=partial(load, _RULER),
    title="HAM10000 with annotated rulers: malignancy and its shortcut",
    licence="no licence stated (annotations); CC BY-NC 4.0 (HAM10000)",
    citation=_CITATION
    + "Images: Tschandl P, Rosendahl C, Kittler H. Scientific Data 5:180161, 2018. doi:10.1038/sdata.2018.161",
    url=_URL,
    layout="""\
ROOT/
  isic_ruler_meta.csv
  metadata.csv                                  (HAM10000's; then the lesion of each image is known)
  HAM10000_images_part_1/ISIC_0024306.jpg ...
""",
    needs="isic_ruler_meta.csv of FastDiME_Med, with HAM10000's images beside it (rows alone serve for counts)",
)
NIH_DRAIN = Dataset(
    name="nih-drain",
    load=partial(load, _DRAIN),
    title="NIH ChestX-ray14 with chest drains, annotated or predicted: pneumothorax and its shortcut",
    licence="no licence stated (annotations); NIH Clinical Center's terms (images)",
    citation=_CITATION + "Images: Wang X, Peng Y, Lu L, et al. ChestX-ray8. CVPR, 2017. doi:10.1109/CVPR.2017.369",
    url=_URL,
    layout="""\
ROOT/
  nih_drain_meta.csv
  images_001/images/00000013_030.png ...        (or up to three folders deep)
""",
    needs="nih_drain_meta.csv of FastDiME_Med, with NIH's images beside it (rows alone serve for counts)",
)
DATASETS = {one.name: one for one in (CHEXPERT_PACEMAKER, ISIC_RULER, NIH_DRAIN)}
