"""Beginning a review: the seed that ships with the program, and profiles of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from medaudit.errors import UsageError
from medaudit.review import freezing, people, seed, workflow
from medaudit.review.database import Database, now
from medaudit.review.records import Artifact, Dataset, Record, Work, mentioned

AUTHOR, REVIEWER = "seed-curators", "repository-review"
"""Who the seed is by: its files were proposed and reviewed in the program's own repository, by two persons or more."""


def plant(database: Database, records: Sequence[Record], *, version: str | None = None) -> int:
    """Publish the seed in an empty review and freeze it as its first release; return how many records there are.

    Raises UsageError where the review is not empty: from then on there is only proposing and accepting.
    """
    with database.writing() as connection:
        if people.everybody(connection):
            raise UsageError("the review is not empty; propose the records instead (medaudit review propose)")
        author = people.add(connection, AUTHOR, "contributor", by=REVIEWER)
        reviewer = people.add(connection, REVIEWER, "editor", by=AUTHOR)
        changes = workflow.putting(connection, records)
        number = workflow.propose(connection, author, "The seed", changes, note="reviewed in the program's repository")
        workflow.accept(connection, reviewer, number)
        freezing.freeze(connection, reviewer, version or f"v{now()[:4]}.{now()[5:7]}", "the review begins")
    return len(changes)


def profile(records: Iterable[Record], name: str, folder: Path = seed.FOLDER) -> list[Record]:
    """Return the part of the seed that a profile names, with the works it needs; references to the rest are dropped.

    ``paper-figure`` is the example of the paper's figure 1; ``paper-demo`` has the size of the paper's demonstrator (16
    datasets, 24 artifacts), whose own list is not public: the choice is ours. Raises UsageError for an unknown name.
    """
    profiles = yaml.safe_load((folder / "profiles.yaml").read_text())
    if name not in profiles:
        raise UsageError(f"no profile is called '{name}'; there are: {', '.join(profiles)}")
    chosen = {(kind.removesuffix("s"), slug) for kind, slugs in profiles[name].items() for slug in slugs}
    known: dict[tuple[str, str], Record] = {(record.kind, record.slug): record for record in records}
    missing = sorted(key for key in chosen if key not in known)
    if missing:
        raise UsageError(f"profile '{name}' names {missing[0][0]} '{missing[0][1]}', which is not in the seed")
    kept = [_within(known[key], chosen) for key in sorted(chosen)]
    needed = {other for record in kept for other in mentioned(record) if other[0] == "work"} - chosen
    # A work that is there as a source only shows no use: the figure has the uses that it names, and no others.
    kept += [known[key].model_copy(update={"uses": ()}) for key in sorted(needed)]
    return kept


def _within(record: Record, chosen: set[tuple[str, str]]) -> Record:
    if isinstance(record, Dataset):
        return record.model_copy(
            update={"links": tuple(link for link in record.links if ("dataset", link.to) in chosen)}
        )
    if isinstance(record, Artifact):
        return record.model_copy(
            update={
                "about": tuple(one for one in record.about if ("dataset", one.dataset) in chosen),
                "relations": tuple(one for one in record.relations if ("artifact", one.artifact) in chosen),
            }
        )
    assert isinstance(record, Work)
    return record.model_copy(update={"uses": tuple(use for use in record.uses if ("dataset", use.dataset) in chosen)})
