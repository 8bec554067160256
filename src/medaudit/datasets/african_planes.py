"""African fetal planes: 450 ultrasound images of five countries, Sendra-Balcells et al. 2023, CC BY 4.0.

From https://doi.org/10.5281/zenodo.7540448 (``Zenodo_dataset.tar.xz``)::

    Zenodo_dataset/African_planes_database.csv          Patient_num,Plane,Train,Center,Filename
    Zenodo_dataset/Algeria/patient001_DZA_plane0.png    0 abdomen, 1 brain, 2 femur, 3 thorax

``Patient_num`` begins again in each country. The scanners are those of the paper's Table 1 (arXiv 2209.09610).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset
from medaudit.errors import DataError

TABLE = "African_planes_database.csv"
COLUMNS = ("Patient_num", "Plane", "Train", "Center", "Filename")
ROWS = 450

CENTRES = {
    "Algeria": ("DZA", "Voluson S8", "3-7.5"),
    "Egypt": ("EGY", "Voluson P8", "7"),
    "Ghana": ("GHA", "EDAN DUS 60", "3.5-5"),
    "Malawi": ("MWI", "Mindray DC-N2", "3.5"),
    "Uganda": ("UGA", "ACUSON X600", "3-7.5"),
}
"""Of each centre the letters in its files' names, the scanner, and the probe's frequency in MHz (all curvilinear)."""

NUMBERS = {"0": "Fetal abdomen", "1": "Fetal brain", "2": "Fetal femur", "3": "Fetal thorax"}
"""What the number after ``plane`` in a file's name says, in the words of FETAL_PLANES_DB."""

PUBLISHED = {
    "Algeria": (25, 25, 25, 25),
    "Egypt": (25, 25, 25, 25),
    "Ghana": (25, 25, 25, 0),
    "Malawi": (25, 25, 25, 25),
    "Uganda": (25, 25, 25, 0),
}
"""Images by centre and plane, in the order of :data:`NUMBERS`."""

_HALVES = (("14", "15"), ("20", "30"))
"""Malawi's patients that look like halves of one, numbered apart (our reading of the table)."""


def load(root: Path) -> Cohort:
    """Return the African planes: ``plane``, ``centre``, ``device``, ``frequency_mhz``, ``train_flag``, role ``image``.

    ``root`` is ``Zenodo_dataset`` or the folder with it. ``patient_id`` is centre and number. ``train_flag`` is the
    table's ``Train``, 1 or 0, whose meaning is not certain. Raises DataError where table or images are not there, where
    a row's plane or centre is not that of its file's name, and where 450 rows have other counts than the published.
    """
    root = root / "Zenodo_dataset" if (root / "Zenodo_dataset" / TABLE).exists() else root
    path = root / TABLE
    if not path.exists():
        raise DataError(f"{path}: not found; expected Zenodo_dataset/ with {TABLE} and a folder a country in it")
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{path}: has no column '{missing[0]}'; is it the table of the African planes?")
    table = table.select(pl.col(name).cast(pl.String) for name in COLUMNS)
    table = table.with_columns(pl.col("Filename").str.replace(r"(?i)\.png$", ""))
    _check(table, path)
    if lacking := [name for name in table["Center"].unique().sort() if not (root / name).is_dir()]:
        raise DataError(f"{root / lacking[0]}: not found; expected a folder of images for each centre in {TABLE}")
    table = table.select(
        case_id="Filename",
        patient_id=pl.format("{}-{}", "Center", "Patient_num"),
        plane="Plane",
        centre="Center",
        device=pl.col("Center").replace_strict({name: device for name, (_, device, _) in CENTRES.items()}),
        frequency_mhz=pl.col("Center").replace_strict({name: mhz for name, (_, _, mhz) in CENTRES.items()}),
        train_flag="Train",
        image_path=pl.format("{}/{}.png", "Center", "Filename"),
    )
    return Cohort(
        "African fetal planes", table, root, {"image": Role("image_path")}, notes=_notes(table), source=DATASET.source
    )


def _check(table: pl.DataFrame, path: Path) -> None:
    name = pl.col("Filename").str.extract_groups(r"^patient\d+_(?<letters>[A-Z]{3})_plane(?<number>[0-3])")
    rows = table.with_columns(name.alias("name")).unnest("name")
    letters = {name: code for name, (code, _, _) in CENTRES.items()}
    rows = rows.with_columns(
        named=pl.col("number").replace_strict(NUMBERS, default=None),
        expected=pl.col("Center").replace_strict(letters, default=None),
    )
    for wrong, why in (
        (pl.col("expected").is_null(), f"Center is none of {', '.join(CENTRES)}"),
        (pl.col("named").is_null(), "is not named as patient001_DZA_plane0 is"),
        (pl.col("letters") != pl.col("expected"), "its name is that of another centre"),
        (pl.col("named") != pl.col("Plane"), "its name is that of another plane"),
    ):
        odd = rows.filter(wrong.fill_null(True))
        if odd.height:
            row = odd.row(0, named=True)
            raise DataError(
                f"{path}: {row['Filename']} (Center {row['Center']}, Plane {row['Plane']}): {why}; "
                "take the table of doi.org/10.5281/zenodo.7540448"
            )
    if table.height == ROWS:
        for centre, counts in PUBLISHED.items():
            for plane, expected in zip(NUMBERS.values(), counts, strict=True):
                found = table.filter(pl.col("Center") == centre, pl.col("Plane") == plane).height
                if found != expected:
                    raise DataError(
                        f"{path}: {found} images of {plane} from {centre}; expected the published {expected}"
                    )


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    centres = table["centre"].unique().sort().to_list()
    without = [
        centre
        for centre in centres
        if table.filter(pl.col("centre") == centre, pl.col("plane") == "Fetal thorax").height == 0
    ]
    notes = [
        f"{table.height} images of {table['patient_id'].n_unique()} patients of {len(centres)} centres; the patients' "
        "numbers begin again in each centre, so a patient is centre and number.",
        "A centre is a scanner, a country and an image size at once: none can be told from the others.",
        "Train is 1 or 0; its meaning is not certain (one public loader reads 0 as training). Where the whole set is "
        "out of distribution it does not matter.",
    ]
    if without:
        notes.append(f"No thorax from {' and '.join(without)}: compare planes within the others.")
    malawi = table.filter(pl.col("centre") == "Malawi")
    numbers = set(malawi["patient_id"].str.strip_prefix("Malawi-"))
    halves = [f"{a} and {b}" for a, b in _HALVES if {a, b} <= numbers]
    if halves:
        notes.append(
            f"Malawi has {len(numbers)} patients' numbers where 25 are stated; {', '.join(halves)} look like halves of "
            "one patient (our reading), and may lie on both sides of a split. They are kept apart here."
        )
    if table.height != ROWS:
        notes.append(f"{table.height} of the {ROWS} published rows: the published counts were not checked.")
    return tuple(notes)


DATASET = Dataset(
    name="african-planes",
    load=load,
    title="African fetal planes: ultrasound of five low-resource settings",
    licence="CC BY 4.0",
    citation=(
        "Sendra-Balcells C, Campello VM, Torrents-Barrena J, et al. Generalisability of fetal ultrasound deep learning "
        "models to low-resource imaging settings in five African countries. Scientific Reports 13:2728, 2023. "
        "doi:10.5281/zenodo.7540448"
    ),
    url="https://doi.org/10.5281/zenodo.7540448",
    layout="""\
ROOT/
  African_planes_database.csv
  Algeria/patient001_DZA_plane0.png ...
  Egypt/, Ghana/, Malawi/, Uganda/
""",
    needs="Zenodo_dataset.tar.xz unpacked: African_planes_database.csv beside a folder a country",
)
