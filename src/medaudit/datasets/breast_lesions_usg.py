"""BrEaST: breast ultrasound with expert tumour masks, Pawlowska et al. 2024, CC BY 4.0.

From The Cancer Imaging Archive, collection BrEaST-Lesions_USG::

    BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx
    BrEaST-Lesions_USG-images_and_masks/case001.png
    BrEaST-Lesions_USG-images_and_masks/case001_tumor.png    the tumour
    BrEaST-Lesions_USG-images_and_masks/case022_other1.png   further lesions, where there are any
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import EMPTY, Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset, with_numbers
from medaudit.errors import DataError

COLUMNS = (
    "Image_filename",
    "Mask_tumor_filename",
    "Mask_other_filename",
    "Pixel_size",
    "Age",
    "Tissue_composition",
)


def load(root: Path) -> Cohort:
    """Return BrEaST: ``image``, ``reference`` (the tumour, ``empty:`` for a normal breast), age, composition, BI-RADS.

    One case a patient. ``tissue_composition`` is without the ``lactating&`` that some values begin with;
    ``lactating`` is a column of its own. Raises DataError where table or images are not there.
    """
    clinical = next(iter(sorted(root.glob("[Bb]r[Ee]a[Ss][Tt]*linical*.xlsx"))), None)
    first = next(iter(sorted(root.rglob("case[0-9][0-9][0-9].png"))), None)
    if clinical is None or first is None:
        lacking = "BrEaST-*-clinical-data-*.xlsx" if clinical is None else "case001.png (or a folder with it)"
        raise DataError(f"{root}: {lacking} not found; expected the folder of BrEaST-Lesions_USG, as TCIA gives it")
    raw = read_table(clinical)
    if missing := [name for name in COLUMNS if name not in raw.columns]:
        raise DataError(f"{clinical}: has no column '{missing[0]}'; is it BrEaST's clinical table?")
    # "not available" is BrEaST's word for unknown, in every column.
    table = raw.with_columns(pl.when(pl.col(pl.String) != "not available").then(pl.col(pl.String)).name.keep()).rename(
        {name: name.lower() for name in raw.columns}
    )
    folder = first.parent.relative_to(root).as_posix()
    composition = pl.col("tissue_composition")
    unlike = composition.str.replace(r"^lactating&?", "").str.strip_chars()
    table = table.with_columns(
        case_id=pl.col("image_filename").str.replace(r"(?i)\.png$", ""),
        patient_id=pl.col("caseid").cast(pl.String),
        tissue_composition=pl.when(unlike != "").then(unlike),
        tissue_composition_raw=composition,
        lactating=composition.str.contains("lactating"),
        spacing_mm=pl.col("pixel_size"),
        image_path=pl.format("{}/{}", pl.lit(folder), "image_filename"),
        reference_path=pl.format("{}/{}", pl.lit(folder), "mask_tumor_filename").fill_null(EMPTY),
        other_masks=pl.col("mask_other_filename")
        .str.split("&")
        .list.eval(pl.format("{}/{}", pl.lit(folder), pl.element())),
    ).rename({"classification": "diagnosis_class"})
    table = table.drop("caseid", "image_filename", "mask_tumor_filename", "mask_other_filename", "pixel_size")
    table = table.select("case_id", "patient_id", pl.exclude("case_id", "patient_id"))
    normal = int((table["reference_path"] == EMPTY).sum())
    cohort = Cohort(
        "BrEaST-Lesions_USG",
        table,
        root,
        roles={"image": Role("image_path"), "reference": Role("reference_path")},
        notes=(
            f"{normal} normal cases have no tumour mask: their reference is empty, so that an automated mask there is "
            "a false positive.",
            f"Age is unknown for {table['age'].null_count()} cases, tissue composition for "
            f"{table['tissue_composition'].null_count()}; these are kept apart.",
            "The reference is the table's tumour mask; further lesions (column other_masks) are no part of it.",
        ),
        source=DATASET.source,
    )
    cohort = with_numbers(cohort, "age", "spacing_mm")
    millimetres = 10 * pl.col("spacing_mm")  # Pixel_size is in cm.
    return replace(cohort, table=cohort.table.with_columns(spacing_mm=millimetres))


DATASET = Dataset(
    name="breast-lesions-usg",
    load=load,
    title="BrEaST-Lesions_USG: breast ultrasound with tumour masks",
    licence="CC BY 4.0",
    citation=(
        "Pawlowska A, Cwierz-Pienkowska A, Domalik A, et al. Curated benchmark dataset for ultrasound based breast "
        "lesion analysis. Scientific Data 11:148, 2024. doi:10.1038/s41597-024-02984-z"
    ),
    url="https://www.cancerimagingarchive.net/collection/breast-lesions-usg/",
    layout="""\
ROOT/
  BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx
  BrEaST-Lesions_USG-images_and_masks/case001.png, case001_tumor.png, case022_other1.png ...
""",
    needs="the clinical table (xlsx) and the folder of images and masks, beside each other",
)
