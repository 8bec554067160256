"""The page that walks through the demonstration: known before, step after step, published, and known from now on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from medaudit.audits.demonstration.walk import Walked
from medaudit.cohort import Known
from medaudit.report import Run, Table
from medaudit.report.atomic import write_atomically
from medaudit.report.overview import Overview, Passage, Screen, render

INDEX = "index.html"


def write(
    out: Path, walked: Sequence[Walked], *, before: Sequence[Known], now: Sequence[Known], published: Mapping[str, str],
    commands: Sequence[str],
) -> Path:  # fmt: skip
    """Write the page to ``out/index.html`` and return its path.

    ``before`` and ``now``: what the review warned of before the walk and after it; ``published``: by step, what became
    of its findings there; ``commands``: what to type to see it for oneself.
    """
    path = out / INDEX
    write_atomically(path, render(overview(walked, before, now, published, commands)).encode())
    return path


def overview(
    walked: Sequence[Walked], before: Sequence[Known], now: Sequence[Known], published: Mapping[str, str],
    commands: Sequence[str],
) -> Overview:  # fmt: skip
    """Return the page's content."""
    tally = Counter(check.said for one in walked for check in one.checks)
    asked = sum(tally.values())
    counts = ", ".join(
        f"{tally[word]} {word}" for word in ("as planted", "cannot tell", "not as planted") if tally[word]
    )
    screens = [_screen(one, published.get(one.step.name, "")) for one in walked]
    return Overview(
        "The demonstration",
        "One simulated dataset goes through the loop: what is known, what audits find, and who is warned from then on",
        f"The images and their faults are made, so that every answer can be checked. Of {asked} that were planted or "
        f"left out on purpose: {counts}." if asked else "",
        screens,
        before=[Passage("Known before", "What the living review warned of before anybody looked. The program that "
                        "makes the images says so itself.", before)],
        after=[Passage("Known from now on", "One person proposed the findings of each step to the living review, "
                       "another published them. Whoever asks about the dataset now is told:", now, commands)],
    )  # fmt: skip


def _screen(one: Walked, published: str) -> Screen:
    rows = [(check.planted, check.finding, check.found, check.said) for check in one.checks]
    note = "'Supported': the data show the problem that the finding is named after; 'refuted': they show its absence."
    table = Table(
        "What was planted, and what was found", ("Planted", "Finding", "Verdict", "Compared"), rows, "llll", note
    )
    return Screen(
        one.step.name,
        Run.read(one.run).report(),
        f"{one.run.name}/report.html",
        one.step.title,
        one.step.asks,
        [table],
        [published] if published else [],
    )
