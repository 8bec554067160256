"""A review of its own for the demonstration: the seed, its people, and what the simulator's makers say of the data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from medaudit.review import database, people, seed, start, views, workflow
from medaudit.review.records import Record, parse

DATASET = "simulated-breast-mri"
AUTHOR, REVIEWER = "demo", "reviewer"
MAKER = "simulator"


def begin(where: Path, looks: Mapping[str, str]) -> None:
    """Make the review at ``where``, unless it is there: the seed, the dataset, and one known issue of it.

    ``looks``: how each source of the simulated data images, in words. It is known before anybody audits, since the
    program that makes the data says so.
    """
    if where.exists():
        return
    part = where.with_name(f".{where.name}")
    for leftover in where.parent.glob(f".{where.name}*"):
        leftover.unlink()
    with contextlib.closing(database.connect(part, create=True)) as opened:
        start.plant(opened, seed.read())
        with opened.writing() as connection:
            people.add(connection, AUTHOR, "contributor")
            maker = people.add(connection, MAKER, "contributor")
            reviewer = people.add(connection, REVIEWER, "reviewer")
            changes = workflow.putting(connection, _told(looks))
            number = workflow.propose(connection, maker, "A simulated dataset, and what its maker says", changes)
            workflow.accept(connection, reviewer, number)
    part.rename(where)


def accept(connection: Connection, number: int) -> str:
    """Publish a contribution as the demonstration's reviewer, unless it is decided already; return its state."""
    found = workflow.contribution(connection, number)
    if found.state == "submitted":
        workflow.accept(connection, people.named(connection, REVIEWER), number)
    return workflow.contribution(connection, number).state


def known(connection: Connection) -> list[views.Warned]:
    """Return what the review warns of who uses the simulated dataset: what audits found, and what was known before."""
    return views.warned(connection, [DATASET])[0]


def before(found: Sequence[views.Warned]) -> list[views.Warned]:
    """Return those warnings that no audit made: in this review all audits are the demonstration's own."""
    return [one for one in found if one.kind != "computed_audit"]


def _told(looks: Mapping[str, str]) -> Sequence[Record]:
    listed = "; ".join(f"{source}: {words}" for source, words in looks.items())
    source = f"{DATASET}-simulator"
    return [
        parse({"kind": "work", "slug": source, "type": "code", "title": "medaudit, its simulator of breast MRI"}),
        parse({
            "kind": "dataset", "slug": DATASET, "name": "Simulated breast MRI", "curated": True, "modalities": ["MR"],
            "anatomy": ["breast"], "tasks": ["segmentation"],
            "description": "Phantoms of contrast-enhanced breast MRI with expert and automated masks. medaudit makes "
            "them; no patient is behind them.",
        }),
        parse({
            "kind": "artifact", "slug": f"{DATASET}-scanners-differ", "type": "shortcut", "finding": "scanner or site",
            "title": "Each hospital has a scanner of its own: grey levels tell the hospital", "severity": "minor",
            "summary": f"The simulator gives each source one look. {listed}.",
            "about": [{"dataset": DATASET}], "works": [source], "verification": "verified",
        }),
    ]  # fmt: skip
