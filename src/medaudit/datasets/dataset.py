"""Dataset: what a public dataset is, under which licence, how its folder looks, and how it becomes a Cohort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medaudit.cohort import EMPTY, Cohort, Source


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


def check(cohort: Cohort) -> list[str]:
    """Return what is wrong or unknown in a cohort, a sentence each: files missing, files nobody lists, unknown values."""
    problems: list[str] = []
    listed: set[Path] = set()
    for role in cohort.roles:
        absent, missing = 0, []
        for case in cohort.cases(role):
            path = case.files[role]
            if path is None:
                absent += 1
            elif str(path) != EMPTY:
                listed.add(path.resolve())
                if not path.exists():
                    missing.append(f"{case.case_id} ({path})")
        if absent:
            problems.append(f"{role}: {absent} of {len(cohort)} cases have no file")
        if missing:
            problems.append(
                f"{role}: {len(missing)} of {len(cohort)} files are missing, the first: {missing[0]}"
            )
    problems += _stray(listed)
    for name in cohort.table.columns:
        unknown = cohort.table[name].null_count()
        if unknown and name not in {role.column for role in cohort.roles.values()}:
            problems.append(f"{name}: unknown for {unknown} of {len(cohort)} cases")
    return problems


def _stray(listed: set[Path]) -> list[str]:
    """Name the files that lie in a folder of the cohort's files, are of their kind, and belong to no case."""
    kinds = {(path.parent, path.suffix.lower()) for path in listed}
    stray = sorted(
        file
        for folder in {folder for folder, _ in kinds if folder.is_dir()}
        for file in folder.iterdir()
        if (folder, file.suffix.lower()) in kinds and file not in listed
    )
    return [f"{len(stray)} files belong to no case and role, the first: {stray[0]}"] if stray else []
