"""DDI: 656 biopsy-proven clinical images of the skin, of three ranges of skin tone, Daneshjou et al. 2022.

From Stanford AIMI after registration (https://ddi-dataset.github.io/). Its agreement forbids to pass it on; copies of
it elsewhere are not to be used::

    ddi_metadata.csv     (index), DDI_ID, DDI_file, skin_tone (12, 34, 56), malignant, disease
    images/000001.png    or beside the table

Some copies of the table call ``malignant`` ``malignancy(malig=1)``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, read_table
from medaudit.datasets.dataset import Dataset
from medaudit.datasets.folders import YES_NO, recoded, require, with_pictures
from medaudit.errors import DataError

TABLE = "ddi_metadata.csv"
MALIGNANT = ("malignant", "malignancy(malig=1)")
SKIN_TONES = {"12": "I-II", "34": "III-IV", "56": "V-VI"}
ROWS = 656


def load(root: Path) -> Cohort:
    """Return DDI: ``skin_tone`` (``I-II``, ``III-IV``, ``V-VI``), ``malignant`` (``yes``, ``no``), ``disease``.

    ``image`` is a role where images are there. Raises DataError where the table is missing or another one, and for a
    skin tone that is none of the three.
    """
    path = root / TABLE
    if not path.exists():
        raise DataError(f"{path}: not found; expected the folder of DDI, with {TABLE} in it")
    raw = read_table(path)
    malignant = next((name for name in MALIGNANT if name in raw.columns), MALIGNANT[0])
    require(raw, ("DDI_file", "skin_tone", malignant, "disease"), path, "DDI's table")
    cases = raw["DDI_file"].cast(pl.String).str.replace(r"(?i)\.(png|jpe?g)$", "")
    table = raw.select(
        case_id=cases,
        skin_tone=recoded(raw["skin_tone"], cases, path, SKIN_TONES),
        malignant=recoded(raw[malignant], cases, path, YES_NO),
        disease="disease",
    )
    cohort = Cohort("DDI", table, root, source=DATASET.source)
    return with_pictures(replace(cohort, notes=_notes(cohort.table)), cases)


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    counts = [
        f"{tone} {rows.height} ({(rows['malignant'] == 'yes').sum()} malignant)"
        for tone in SKIN_TONES.values()
        if (rows := table.filter(pl.col("skin_tone") == tone)).height
    ]
    notes = [
        f"{table.height:,} images of {table['disease'].n_unique()} diseases, by skin tone: {', '.join(counts)}.",
        "DDI may not be passed on: share findings, not images, and let others register for it themselves.",
        "The table names no patients: intervals are by image, and are too narrow where a patient has several.",
    ]
    if table.height != ROWS:
        notes.append(f"{table.height:,} of the {ROWS:,} published images.")
    return tuple(notes)


DATASET = Dataset(
    name="ddi",
    load=load,
    title="DDI: diverse dermatology images",
    licence="Stanford University dataset research use agreement: registration, no redistribution",
    citation=(
        "Daneshjou R, Vodrahalli K, Novoa RA, et al. Disparities in dermatology AI performance on a diverse, curated "
        "clinical image set. Science Advances 8(31):eabq6147, 2022. doi:10.1126/sciadv.abq6147"
    ),
    url="https://ddi-dataset.github.io/",
    layout="""\
ROOT/
  ddi_metadata.csv
  images/000001.png ...
""",
    needs="ddi_metadata.csv beside the images, as Stanford AIMI gives them (rows alone serve for counts)",
)
