"""The runs below a folder: what a list shows of each, without its report being read whole."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medaudit.errors import DataError, UsageError
from medaudit.report.run import RECORD, Run

DEEPEST = 4
"""Folders below the one that is named in which runs are looked for: nobody waits for a whole disk."""


@dataclass(frozen=True)
class Listed:
    """A run: ``name`` is its path below the folder, ``about`` what its report says it is of."""

    name: str
    path: Path
    verb: str
    started: str
    finished: str | None
    about: str = ""
    headline: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """How many findings have each verdict."""


def listed(folder: Path) -> list[Listed]:
    """Return the runs in ``folder`` and below it, the newest first.

    A folder that is itself a run is one, called as the folder is. Links to other folders are not followed, and what is
    inside a run is not looked through. Raises DataError where ``folder`` is not there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with runs below it, as runs")
    found = [_listed(path, folder) for path in _runs(folder, DEEPEST)]
    return sorted((one for one in found if one), key=lambda one: (one.started, one.name), reverse=True)


def _runs(folder: Path, deeper: int) -> Iterator[Path]:
    if (folder / RECORD).is_file():
        yield folder
        return
    if deeper == 0:
        return
    try:
        with os.scandir(folder) as inside:
            below = sorted(one.name for one in inside if one.is_dir(follow_symlinks=False) and one.name[0] != ".")
    except OSError:  # not ours to read
        return
    for name in below:
        yield from _runs(folder / name, deeper - 1)


def _listed(path: Path, folder: Path) -> Listed | None:
    """Return what is known of a run; None for what only looks like one."""
    try:
        run = Run.read(path)
    except UsageError:
        return None
    about = headline = ""
    counts: dict[str, int] = {}
    if run.finished:
        try:
            report = json.loads((path / "report.json").read_bytes())
            about, headline = str(report["subtitle"]), str(report["headline"])
            of = Counter(str(one["verdict"]) for one in report["findings"])
            counts = {verdict: of[verdict] for verdict in ("supported", "refuted", "insufficient")}
        except (OSError, ValueError, KeyError, TypeError):
            return Listed(_name(path, folder), path, run.verb, run.started, None)
    return Listed(
        _name(path, folder), path, run.verb, run.started, run.finished, about, headline, counts
    )  # fmt: skip


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else path.resolve().name or "run"
