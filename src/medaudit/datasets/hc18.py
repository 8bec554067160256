"""HC18: fetal-head ultrasound with the sonographer's ellipse, van den Heuvel et al. 2018, CC BY 4.0.

From https://doi.org/10.5281/zenodo.1322001 (``training_set.zip`` and its table)::

    training_set_pixel_size_and_HC.csv   filename, pixel size(mm), head circumference (mm)
    training_set/000_HC.png              image
    training_set/000_HC_Annotation.png   the head's outline, a thin ellipse (or the filled head)
    training_set/010_2HC.png             a second image of examination 010

``test_set`` has no annotations and is not read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, Role, read_table
from medaudit.datasets.dataset import Dataset, with_numbers
from medaudit.errors import DataError

TABLE = "training_set_pixel_size_and_HC.csv"
FIRST_BELOW_MM, THIRD_ABOVE_MM = 100.0, 250.0


def load(root: Path) -> Cohort:
    """Return HC18's training set: ``image``, ``reference`` (filled outline), ``trimester``, one patient an examination.

    ``trimester`` is ``first``, ``second`` or ``third`` by head circumference, which stands for the gestational age
    that HC18 does not publish (our choice). Raises DataError where table or images are not there.
    """
    for needed in (root / TABLE, root / "training_set"):
        if not needed.exists():
            raise DataError(f"{needed}: not found; expected the folder of HC18, with {TABLE} and training_set/ in it")
    table = read_table(root / TABLE)
    if table.width < 3:
        raise DataError(
            f"{root / TABLE}: has {table.width} columns; expected filename, pixel size(mm), head circumference (mm)"
        )
    name, spacing, circumference = (pl.col(column) for column in table.columns[:3])
    case_id = name.cast(pl.String).str.replace(r"(?i)\.png$", "")
    table = table.select(
        case_id=case_id,
        patient_id=case_id.str.extract(r"^(\d+)_"),
        head_circumference_mm=circumference,
        spacing_mm=spacing,
        image_path=pl.format("training_set/{}.png", case_id),
        reference_path=pl.format("training_set/{}_Annotation.png", case_id),
    )
    odd = table.filter(pl.col("patient_id").is_null())
    if odd.height:
        raise DataError(
            f"{root / TABLE}: '{odd['case_id'][0]}' does not begin with the examination's number, as 010_2HC.png does"
        )
    cohort = Cohort(
        "HC18",
        table,
        root,
        roles={"image": Role("image_path"), "reference": Role("reference_path", fill=True)},
        notes=(
            f"{table.height} images of {table['patient_id'].n_unique()} examinations: the file name's number. A woman "
            "may have had several, and which is not published (551 women in all 1,334 images), so intervals may be too "
            "narrow.",
            f"Trimester is a proxy: head circumference below {FIRST_BELOW_MM:g} mm is called first, up to "
            f"{THIRD_ABOVE_MM:g} mm second, above it third; HC18 does not publish gestational age.",
        ),
        source=DATASET.source,
    )
    cohort = with_numbers(cohort, "head_circumference_mm", "spacing_mm")
    size = pl.col("head_circumference_mm")
    trimester = (
        pl.when(size < FIRST_BELOW_MM)
        .then(pl.lit("first"))
        .when(size <= THIRD_ABOVE_MM)
        .then(pl.lit("second"))
        .when(size > THIRD_ABOVE_MM)
        .then(pl.lit("third"))
    )
    return replace(cohort, table=cohort.table.with_columns(trimester=trimester))


DATASET = Dataset(
    name="hc18",
    load=load,
    title="HC18: fetal head circumference in ultrasound",
    licence="CC BY 4.0",
    citation=(
        "van den Heuvel TLA, de Bruijn D, de Korte CL, van Ginneken B. Automated measurement of fetal head "
        "circumference using 2D ultrasound images. PLoS ONE 13(8):e0200412, 2018. doi:10.5281/zenodo.1322001"
    ),
    url="https://doi.org/10.5281/zenodo.1322001",
    layout="""\
ROOT/
  training_set_pixel_size_and_HC.csv
  training_set/000_HC.png, 000_HC_Annotation.png, 010_2HC.png ...
""",
    needs="training_set.zip unpacked beside training_set_pixel_size_and_HC.csv",
)
