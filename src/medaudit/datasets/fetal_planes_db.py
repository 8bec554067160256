"""FETAL_PLANES_DB (BCNatal): 12,400 maternal-fetal ultrasound images by plane and machine, Burgos-Artizzu et al. 2020.

From https://doi.org/10.5281/zenodo.3904280 (``FETAL_PLANES_ZENODO.zip``)::

    FETAL_PLANES_DB_data.csv               a row an image, separated by semicolons (or the same as .xlsx)
    Images/Patient00001_Plane1_1_of_15.png

Or the same rows split by patient, without images, as jakobamb/UltraDINO has them: ``train_split.csv``,
``val_split.csv``, ``test_split.csv``.

Mirrors of it carry the classes' counts under other names. So the published counts are asserted where all rows are
there, and each row's plane is held against the number that its file's name carries.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset
from medaudit.errors import DataError

TABLES = ("FETAL_PLANES_DB_data.csv", "FETAL_PLANES_DB_data.xlsx")
SPLITS = ("train", "val", "test")
COLUMNS = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train")
ROWS = 12_400

MACHINES = ("Voluson E6", "Aloka", "Voluson S10", "Other")
PUBLISHED = {
    "Fetal abdomen": (366, 212, 98, 35),
    "Fetal brain": (2064, 640, 261, 127),
    "Fetal femur": (623, 294, 74, 49),
    "Fetal thorax": (1324, 291, 74, 29),
    "Maternal cervix": (897, 610, 33, 86),
    "Other": (588, 3067, 542, 16),
}
"""Images by plane and machine (in the order of :data:`MACHINES`), counted on the public rows."""

NUMBERS = {
    "1": "Other",
    "2": "Fetal abdomen",
    "3": "Fetal brain",
    "4": "Maternal cervix",
    "5": "Fetal femur",
    "6": "Fetal thorax",
}
"""What the number after ``Plane`` in a file's name says."""


def load(root: Path) -> Cohort:
    """Return FETAL_PLANES_DB: ``plane``, ``brain_plane``, ``fine_plane``, ``operator``, ``device``, ``split``.

    ``brain_plane`` is null where the plane is not the brain. ``fine_plane`` is the plane with the brain split into its
    three standard planes, null for brain images of another plane (8 classes). ``split`` is ``train`` or ``test``
    as published, or ``train``, ``val``, ``test`` of the split tables. ``image`` is a role where ``Images/`` is there.

    Raises DataError where the table is missing or another one, where a row's plane or patient is not that of its
    file's name, and where all 12,400 rows are there with other counts than the published ones.
    """
    table, path = _read(root)
    _check_names(table, path)
    brain = pl.col("Plane") == "Fetal brain"
    brain_plane = pl.when(brain).then("Brain_plane")
    table = table.select(
        case_id="Image_name",
        patient_id=pl.col("Patient_num").cast(pl.String),
        plane="Plane",
        brain_plane=brain_plane,
        fine_plane=pl.when(~brain).then("Plane").when(pl.col("Brain_plane") != "Other").then("Brain_plane"),
        operator="Operator",
        device="US_Machine",
        split="split",
    )
    roles = {}
    if (root / "Images").is_dir():
        table = table.with_columns(image_path=pl.format("Images/{}.png", "case_id"))
        roles["image"] = Role("image_path")
    return Cohort("FETAL_PLANES_DB", table, root, roles=roles, notes=_notes(table), source=DATASET.source)


def _read(root: Path) -> tuple[pl.DataFrame, Path]:
    """Return the rows with a column ``split``, counts checked, and the file they came from."""
    whole = next((root / name for name in TABLES if (root / name).exists()), None)
    parts = {name: root / f"{name}_split.csv" for name in SPLITS if (root / f"{name}_split.csv").exists()}
    if whole is None and not parts:
        raise DataError(
            f"{root / TABLES[0]}: not found; expected the folder of FETAL_PLANES_DB, with that table (or its split "
            "tables train_split.csv, val_split.csv, test_split.csv) in it"
        )
    if whole is not None:
        table = _known(whole)
        odd = table.filter(~pl.col("Train").is_in(["0", "1"]) | pl.col("Train").is_null())
        if odd.height:
            raise DataError(f"{whole}: {odd['Image_name'][0]}: Train is {odd['Train'][0]!r}; expected 1 or 0")
        table = table.with_columns(
            split=pl.when(pl.col("Train") == "1").then(pl.lit("train")).otherwise(pl.lit("test"))
        )
        path = whole
    else:
        table = pl.concat([_known(path).with_columns(split=pl.lit(name)) for name, path in parts.items()])
        path = root
    if table.height == ROWS:
        _check_counts(table, path)
    return table, path


def _known(path: Path) -> pl.DataFrame:
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{path}: has no column '{missing[0]}'; is it FETAL_PLANES_DB's table?")
    return table.select(pl.col(name).cast(pl.String) for name in COLUMNS)


def _check_counts(table: pl.DataFrame, path: Path) -> None:
    found = {
        plane: tuple(table.filter(pl.col("Plane") == plane, pl.col("US_Machine") == name).height for name in MACHINES)
        for plane in PUBLISHED
    }
    if found == PUBLISHED:
        return
    totals = {plane: sum(counts) for plane, counts in PUBLISHED.items()}
    for plane, counts in found.items():
        owner = next((name for name, total in totals.items() if total == sum(counts)), plane)
        if owner != plane:
            raise DataError(
                f"{path}: {plane} has the {sum(counts)} images of {owner} (published: {totals[plane]}); the classes "
                "are permuted, as in a known mirror: take the table of doi.org/10.5281/zenodo.3904280"
            )
    plane = next(name for name in PUBLISHED if found[name] != PUBLISHED[name])
    i = next(i for i in range(len(MACHINES)) if found[plane][i] != PUBLISHED[plane][i])
    raise DataError(
        f"{path}: has {ROWS} rows, but {found[plane][i]} images of {plane} by {MACHINES[i]}; expected the published "
        f"{PUBLISHED[plane][i]}: take the table of doi.org/10.5281/zenodo.3904280"
    )


def _check_names(table: pl.DataFrame, path: Path) -> None:
    name = pl.col("Image_name").str.extract_groups(r"^Patient(?<patient>\d{5})_Plane(?<plane>[1-6])_\d+_of_\d+$")
    rows = table.with_columns(name.alias("name")).unnest("name")
    rows = rows.with_columns(named=pl.col("plane").replace_strict(NUMBERS, default=None))
    odd = rows.filter(pl.col("named").is_null())
    if odd.height:
        raise DataError(f"{path}: '{odd['Image_name'][0]}' is not named as Patient00001_Plane1_1_of_15 is")
    odd = rows.filter(pl.col("patient").cast(pl.Int64) != pl.col("Patient_num").cast(pl.Int64, strict=False))
    if odd.height:
        raise DataError(f"{path}: {odd['Image_name'][0]} has Patient_num {odd['Patient_num'][0]}; its name disagrees")
    odd = rows.filter(pl.col("named") != pl.col("Plane"))
    if odd.height:
        raise DataError(
            f"{path}: {odd['Image_name'][0]} is called '{odd['Plane'][0]}', but its name says '{odd['named'][0]}' "
            f"({odd.height} such rows); the classes are permuted, as in a known mirror: take the table of "
            "doi.org/10.5281/zenodo.3904280"
        )


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    patients = table.group_by("patient_id").agg(pl.len(), pl.col("device").n_unique(), pl.col("split").n_unique())
    most, several = int(patients["len"].to_numpy().max()), patients.filter(pl.col("device") > 1).height
    across = patients.filter(pl.col("split") > 1).height
    notes = [
        f"{table.height:,} images of {len(patients):,} patients, up to {most} of one patient: "
        "intervals are by patient.",
        f"{several} patients were seen by more than one machine, so machine also stands for patient and hospital.",
    ]
    if table.height != ROWS:
        notes.append(f"{table.height:,} of the {ROWS:,} published rows: the published counts were not checked.")
    if across:
        notes.append(f"{across} patients are in more than one split.")
    named = table.filter(pl.col("operator") != "Other")
    machines = named.group_by("operator").agg(pl.col("device").unique().sort()).sort("operator")
    if machines.height and machines["device"].list.len().max() == 1:
        pairs = ", ".join(f"{operator} {device[0]}" for operator, device in machines.iter_rows())
        notes.append(f"Operator is nested in machine ({pairs}): an operator's effect cannot be told from a scanner's.")
    other = table.filter(pl.col("plane") == "Other")
    if other.height:
        share = other.filter(pl.col("device") == "Aloka").height / other.height
        notes.append(
            f"{share:.0%} of the 'Other' planes are Aloka: holding them out is largely a shift of device. "
            "Match machines before calling it an anatomical shift."
        )
    notes.append(
        "Images carry burned-in calipers, text, depth ticks and logos, and differ in size: letterbox them, and report "
        "what the size alone tells."
    )
    notes.append("Device 'Other' is more than one machine, and plane 'Other' more than one plane.")
    return tuple(notes)


DATASET = Dataset(
    name="fetal-planes-db",
    load=load,
    title="FETAL_PLANES_DB: common maternal-fetal ultrasound planes (BCNatal)",
    licence="CC BY 4.0 (by the README of xfetus; one mirror says that none is stated)",
    citation=(
        "Burgos-Artizzu XP, Coronado-Gutierrez D, Valenzuela-Alcaraz B, et al. Evaluation of deep convolutional neural "
        "networks for automatic classification of common maternal fetal ultrasound planes. Scientific Reports "
        "10:10200, 2020. doi:10.5281/zenodo.3904280"
    ),
    url="https://doi.org/10.5281/zenodo.3904280",
    layout="""\
ROOT/
  FETAL_PLANES_DB_data.csv
  Images/Patient00001_Plane1_1_of_15.png ...
""",
    needs="FETAL_PLANES_ZENODO.zip unpacked: FETAL_PLANES_DB_data.csv beside Images/ (rows alone serve for counts)",
)
