"""A table beside a folder of pictures: the columns that it must have, its codes, and where each case's picture lies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, Role
from medaudit.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png")
DEPTH = 3
"""How many folders deep a picture may lie, as in ``data/images/part_1``."""

TONES = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "-1": None}
"""Fitzpatrick's skin types I to VI as published; -1 is an annotator's word for unknown."""
YES_NO = {"1": "yes", "true": "yes", "yes": "yes", "0": "no", "false": "no", "no": "no"}


def require(table: pl.DataFrame, columns: Iterable[str], path: Path, what: str) -> None:
    """Raise DataError where the table of ``path`` lacks one of these columns; ``what`` is the table's name."""
    if missing := [name for name in columns if name not in table.columns]:
        raise DataError(f"{path}: has no column '{missing[0]}'; is it {what}? It has: {', '.join(table.columns[:12])}")


def recoded(values: pl.Series, cases: pl.Series, path: Path, codes: Mapping[str, str | int | None]) -> pl.Series:
    """Return the codes of a column by their meaning, null where there is none.

    ``codes`` are in lower case, whole numbers without a point. Raises DataError naming the first of ``cases`` whose
    code is another.
    """
    written = values.cast(pl.String).str.replace(r"^(-?\d+)\.0+$", "$1")
    texts = written.str.to_lowercase()
    odd = (texts.is_not_null() & ~texts.is_in(list(codes))).arg_true()
    if len(odd):
        row = int(odd[0])
        raise DataError(
            f"{path}: {cases[row]}: {values.name} is '{written[row]}'; expected one of {', '.join(codes)}, or nothing"
        )
    kind = pl.Int64 if any(isinstance(code, int) for code in codes.values()) else pl.String
    return pl.Series(values.name, [None if text is None else codes[text] for text in texts], dtype=kind)


def with_pictures(cohort: Cohort, *stems: pl.Series) -> Cohort:
    """Return the cohort with role ``image``: the picture below its root that is called as the case's stem says.

    Each of ``stems`` is a name without ending for each case; the first that a file bears is taken. A case without a
    picture keeps its row, with a null path; where no case has one, there is no role. Notes say how many lack one. The
    disk is listed once, up to :data:`DEPTH` folders deep. Raises DataError for a folder that cannot be listed.
    """
    found, again = _listing(cohort.root)
    rows = zip(*(series.to_list() for series in stems), strict=True)
    taken = [next((stem for stem in row if stem in found), None) for row in rows]
    missing, twice = taken.count(None), len(again.intersection(taken))
    if missing == len(cohort):
        note = f"The folder has no picture of any of the {len(cohort):,} cases: the table alone serves for counts."
        return replace(cohort, notes=(*cohort.notes, note))
    notes = []
    if missing:
        notes.append(f"{missing:,} of {len(cohort):,} cases have no picture in the folder; their path is empty.")
    if twice:
        notes.append(
            f"Pictures of {twice:,} cases lie in the folder more than once: the one in the fewest folders, first by "
            "name, is taken."
        )
    paths = pl.Series("image_path", [None if stem is None else found[stem] for stem in taken], dtype=pl.String)
    return replace(
        cohort,
        table=cohort.table.with_columns(paths),
        roles={**cohort.roles, "image": Role("image_path")},
        notes=(*cohort.notes, *notes),
    )


def _listing(root: Path) -> tuple[dict[str, str], set[str]]:
    """Return each picture's path below ``root`` by its stem, and the stems that lie in more than one place."""
    found: dict[str, str] = {}
    again: set[str] = set()
    folders = [""]
    for _ in range(DEPTH + 1):
        below = []
        for folder in folders:
            try:
                with os.scandir(root / folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                raise DataError(f"{root / folder}: cannot be listed ({error.strerror})") from None
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):  # thumbnails and halves of files
                    continue
                if suffix.lower() not in PICTURES:
                    if entry.is_dir():
                        below.append(path)
                elif stem in found:
                    again.add(stem)
                else:
                    found[stem] = path
        folders = below
    return found, again
