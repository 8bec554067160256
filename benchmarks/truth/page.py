"""docs/truth.md: a place for each study, filled with its tables and where they come from."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.truth.ledger import Line
from benchmarks.truth.tally import rates, rows, table, within
from benchmarks.truth.world import Study

PAGE = Path(__file__).parents[2] / "docs" / "truth.md"


def record(study: Study, lines: Sequence[Line], page: Path = PAGE) -> str:
    """Put a study's tables into its place on the page, and return them; ValueError if the page has no place for it."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- truth:{study.name} -->).*?(<!-- end -->)", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{page.name} has no place for {study.name}")
    said = section(study, lines)
    page.write_text(place.sub(lambda found: f"{found[1]}\n{said}\n{found[2]}", text), encoding="utf-8")
    return said


def section(study: Study, lines: Sequence[Line]) -> str:
    """Return what the page says of a study: machine, date, versions and command, how, both tables, the verdict."""
    packages = ("medaudit", "numpy", "scipy", *(("torch",) if study.trained else ()))
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    machine = f"{platform.machine()}, {os.cpu_count()} cores (shared with other work)"
    took = sum(line.seconds for line in lines)
    each = took / len(lines)
    head = (
        f"*{datetime.date.today():%d %B %Y}, {machine}, Python {platform.python_version()}, {versions}; "
        f"`python -m benchmarks.truth {study.name}`; {len(lines)} studies, {each:.{0 if each >= 10 else 1}f} s each.*"
    )
    return "\n\n".join([head, _unwrapped(study.how), table(study, lines), verdict(study, lines)])


def verdict(study: Study, lines: Sequence[Line]) -> str:
    """Return the sentence that says whether false findings keep to the level that the study claims."""
    told = rates(study, lines)
    if not told:
        return "**No null world has been run.**"
    said = {rate: within(rate.false, rate.studies, study.level) for rate in told if rate.family in study.levelled}
    above = [f"{rate.family} findings of `{rate.world}`" for rate, where in said.items() if where == "above"]
    # No finding by itself may be false more often either, whatever its family.
    above += [
        f"`{row.finding}` by itself in `{row.world}`"
        for row in rows(study, lines)
        if study.worlds[row.world].kind == "null" and within(row.wrong, row.seeds, study.level) == "above"
    ]
    claim = f"Claimed: {_unwrapped(study.claims)}."
    if above:
        return f"{claim} **Not kept: above the level for {'; '.join(above)}.**"
    if said and all(where == "within" for where in said.values()):
        return f"{claim} **Kept: the interval of every rate ends at or below the level.**"
    return f"{claim} **Nothing against it: no rate is above the level, and not all intervals end below it.**"


def _unwrapped(text: str) -> str:
    return " ".join(text.split())
