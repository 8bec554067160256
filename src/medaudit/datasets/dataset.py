"""Dataset: what a public dataset is, under which licence, how its folder looks, and how it becomes a Cohort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from medaudit.cohort import EMPTY, Cohort, Source, numeric


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk and the function that reads it.

    ``layout`` draws the folder as it is downloaded; ``needs`` says what must be there for an audit.
    """

    name: str
    load: Callable[[Path], Cohort]
    title: str
    licence: str
    citation: str
    url: str
    layout: str
    needs: str

    @property
    def source(self) -> Source:
        """What a cohort of this dataset says about where it comes from."""
        return Source(self.title, self.licence, self.citation, self.url)


def with_numbers(cohort: Cohort, *attributes: str) -> Cohort:
    """Return the cohort with these attributes as float64, null where unknown; DataError naming a case that has none."""
    columns = [pl.Series(name, numeric(cohort, name), nan_to_null=True) for name in attributes]
    return replace(cohort, table=cohort.table.with_columns(columns))


def check(cohort: Cohort) -> list[str]:
    """Return what is wrong with a dataset's folder, a sentence each: files that are missing, files that nobody lists.

    A file is known if a role lists it or its name begins with a case's id (a further phase, a further lesion).
    """
    problems: list[str] = []
    if not cohort.roles:
        problems.append(f"{cohort.root}: the table is there, but neither images nor masks")
    listed: set[Path] = set()
    for role in cohort.roles:
        paths = {case.case_id: case.files[role] for case in cohort.cases(role)}
        absent = [case_id for case_id, path in paths.items() if path is None]
        files = {case_id: path for case_id, path in paths.items() if path is not None and str(path) != EMPTY}
        missing = [case_id for case_id, path in files.items() if not path.exists()]
        listed.update(path.resolve() for path in files.values())
        if absent:
            problems.append(f"{role}: {len(absent)} of {len(cohort)} cases have no file, the first: {absent[0]}")
        if missing:
            problems.append(
                f"{role}: {len(missing)} of {len(cohort)} files are missing, the first: {files[missing[0]]}"
            )
    return problems + _strangers(listed, cohort.case_ids)


def unknown(cohort: Cohort) -> dict[str, int]:
    """Return for each attribute that some cases lack, how many lack it."""
    files = {role.column for role in cohort.roles.values()}
    counts = {name: cohort.table[name].null_count() for name in cohort.table.columns if name not in files}
    return {name: n for name, n in counts.items() if n}


def _strangers(listed: set[Path], case_ids: list[str]) -> list[str]:
    """Name files of the cohort's kinds, in the folders of its files, that belong to no case."""
    ids = {case_id.lower() for case_id in case_ids}
    kinds = {path.suffix.lower() for path in listed}
    folders = {path.parent for path in listed if path.parent.is_dir()}
    strangers = sorted(
        file
        for folder in folders
        for file in folder.iterdir()
        if file.suffix.lower() in kinds and file not in listed and not _of_a_case(file.name.lower(), ids)
    )
    return [f"{len(strangers)} files belong to no case, the first: {strangers[0]}"] if strangers else []


def _of_a_case(name: str, ids: set[str]) -> bool:
    ends = (i for i, letter in enumerate(name) if letter in "._-")
    return any(name[:end] in ids for end in ends)
