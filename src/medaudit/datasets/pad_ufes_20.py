"""PAD-UFES-20: 2,298 smartphone images of skin lesions of 1,373 patients, Pacheco et al. 2020, CC BY 4.0.

From https://data.mendeley.com/datasets/zr7vgbcyr2::

    metadata.csv                                    patient_id, lesion_id, ..., fitspatrick (sic), ..., img_id, biopsed
    images/imgs_part_1/PAT_1516_1765_530.png ...    three folders; or all in images/

A number of a lesion is not a lesion: in the public table 250 of the 1,641 numbers stand with two patients who differ
in age, body region or diagnosis. Here a lesion is patient and number, of which there are 1,891.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, read_table
from medaudit.datasets.dataset import Dataset, with_numbers
from medaudit.datasets.folders import TONES, YES_NO, recoded, require, with_pictures
from medaudit.errors import DataError

TABLE = "metadata.csv"
COLUMNS = ("patient_id", "lesion_id", "age", "gender", "fitspatrick", "region", "diagnostic", "img_id", "biopsed")
ROWS = 2_298


def load(root: Path) -> Cohort:
    """Return PAD-UFES-20: ``fitzpatrick``, ``diagnostic``, ``age``, ``gender``, ``region``, ``biopsed``, ``lesion_id``.

    ``fitzpatrick`` is the skin type 1 to 6, null where unknown; the table spells it ``fitspatrick``. ``diagnostic`` is
    ``BCC``, ``SCC``, ``MEL`` (cancers), ``ACK``, ``SEK`` or ``NEV``; ``biopsed`` is ``yes`` or ``no``. ``lesion_id`` is
    patient and number. ``image`` is a role where images are there. Raises DataError where the table is missing or
    another one, for a skin type that is none and for an age that is no number.
    """
    path = root / TABLE
    if not path.exists():
        raise DataError(f"{path}: not found; expected the folder of PAD-UFES-20, with {TABLE} in it")
    raw = read_table(path)
    require(raw, COLUMNS, path, "PAD-UFES-20's table")
    cases = raw["img_id"].cast(pl.String).str.replace(r"(?i)\.png$", "")
    table = raw.select(
        case_id=cases,
        patient_id=pl.col("patient_id").cast(pl.String),
        lesion_id=pl.format("{}-{}", "patient_id", "lesion_id"),
        diagnostic="diagnostic",
        fitzpatrick=recoded(raw["fitspatrick"], cases, path, TONES),
        age="age",
        gender="gender",
        region="region",
        biopsed=recoded(raw["biopsed"], cases, path, YES_NO),
    )
    cohort = Cohort("PAD-UFES-20", table, root, source=DATASET.source)
    cohort = with_numbers(replace(cohort, notes=_notes(cohort.table, raw)), "age")
    return with_pictures(cohort, cases)


def _notes(table: pl.DataFrame, raw: pl.DataFrame) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    numbers = raw.group_by("lesion_id").agg(pl.col("patient_id").n_unique())
    shared = (numbers["patient_id"] > 1).sum()
    notes = [
        f"{table.height:,} images of {table['patient_id'].n_unique():,} patients: intervals are by patient.",
        f"The table has {numbers.height:,} numbers of lesions; {shared:,} of them stand with more than one patient, so "
        f"a lesion is patient and number: {table['lesion_id'].n_unique():,}.",
    ]
    unknown = table.filter(pl.col("fitzpatrick").is_null())
    known = table.filter(pl.col("fitzpatrick").is_not_null())
    if unknown.height and known.height:
        without, within = ((rows["biopsed"] == "yes").to_numpy().mean() for rows in (unknown, known))
        notes.append(
            f"Skin type is unknown for {unknown.height:,} images. They are no random part: {without:.0%} of them were "
            f"biopsied, of the others {within:.0%}."
        )
    dark = known.filter(pl.col("fitzpatrick") > 3).height
    notes.append(
        f"Only {dark:,} of {known.height:,} images of known skin type are IV to VI: a gap by tone may not be seen."
    )
    biopsied = table.group_by("diagnostic").agg((pl.col("biopsed") == "yes").mean()).sort("diagnostic")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in biopsied.iter_rows())
    notes.append(f"How sure a diagnosis is depends on what it is. Biopsied of each: {shares}.")
    if table.height != ROWS:
        notes.append(f"{table.height:,} of the {ROWS:,} published images.")
    return tuple(notes)


DATASET = Dataset(
    name="pad-ufes-20",
    load=load,
    title="PAD-UFES-20: smartphone images of skin lesions with clinical data",
    licence="CC BY 4.0",
    citation=(
        "Pacheco AGC, Lima GR, Salomao AS, et al. PAD-UFES-20: a skin lesion dataset composed of patient data and "
        "clinical images collected from smartphones. Data in Brief 32:106221, 2020. doi:10.1016/j.dib.2020.106221"
    ),
    url="https://data.mendeley.com/datasets/zr7vgbcyr2",
    layout="""\
ROOT/
  metadata.csv
  images/imgs_part_1/PAT_1516_1765_530.png ...    (imgs_part_2, imgs_part_3; or all in images/)
""",
    needs="metadata.csv, with the three folders of images unpacked beside it (rows alone serve for counts)",
)
