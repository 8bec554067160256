"""One page with the first screens of several runs, each with the way to its whole report: a walk, or a gallery."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from medaudit.cohort import Known
from medaudit.errors import DataError, UsageError
from medaudit.report.atomic import write_atomically
from medaudit.report.html import Report, Table, page
from medaudit.report.listing import Listed, listed
from medaudit.report.run import RECORD, Run


@dataclass(frozen=True)
class Screen:
    """A run's first screen: its report, the address of the whole one, and what this page says of it beside.

    ``heading`` (else the report's title) and ``lead`` come before the report's own headline, ``tables`` and ``notes``
    after its first figure.
    """

    name: str
    report: Report
    address: str
    heading: str = ""
    lead: str = ""
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Passage:
    """A part of the page that is of no run: what was ``known`` of a dataset, or ``commands`` to type."""

    heading: str
    text: str
    known: Sequence[Known] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Overview:
    """All that the page shows, in its order: ``before``, the screens, ``after``."""

    title: str
    headline: str
    lead: str
    screens: Sequence[Screen]
    before: Sequence[Passage] = ()
    after: Sequence[Passage] = ()


def render(overview: Overview) -> str:
    """Return the overview as one HTML page that loads nothing; all texts are escaped."""
    return page("overview.html", overview=overview)


def gallery(folder: Path, *, address: Callable[[Listed], str]) -> Overview:
    """Return the overview of every finished run below ``folder``, the newest first.

    ``address``: where a run's report is, for the page's links. Raises DataError as :func:`listed` does, and for a run
    whose report cannot be read.
    """
    found = [one for one in listed(folder) if one.finished]
    screens = [Screen(one.name, Run.read(one.path).report(), address(one)) for one in found]
    n = len(found)
    problems = sum(one.verdicts.get("supported", 0) for one in found)
    counts = f"{n} finished run{'s' * (n != 1)}, in which the data show {problems} finding{'s' * (problems != 1)}."
    return Overview("Runs", f"What was found in {folder.resolve().name or folder}", counts, screens)


def write_gallery(folder: Path) -> tuple[Path, Sequence[Screen]]:
    """Write ``folder/gallery.html``; return its path and the screens on it.

    Raises DataError where there is no finished run, and UsageError where ``folder`` is itself one: nothing but a run's
    own files belongs there.
    """
    found = gallery(folder, address=beside(folder))
    if (folder / RECORD).is_file():
        raise UsageError(f"{folder} is a run; --gallery takes a folder of runs")
    if not found.screens:
        raise DataError(f"{folder}: no finished run there or below it")
    path = folder / "gallery.html"
    write_atomically(path, render(found).encode())
    return path, found.screens


def beside(folder: Path) -> Callable[[Listed], str]:
    """Return the address of a run's report, for a page that lies in ``folder``."""
    return lambda one: quote(Path(os.path.relpath(one.path / "report.html", folder)).as_posix())
