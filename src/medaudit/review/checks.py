"""What can be checked of a proposal without a person: it helps the reviewer, and decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import fuzz, process
from sqlalchemy import Connection, select

from medaudit.review import tables as t
from medaudit.review.projection import licence_class
from medaudit.review.records import Artifact, Dataset, Fact, Record, Work
from medaudit.review.words import folded

NEAR = 92
"""The ratio of titles (rapidfuzz) from which on two are suggested to be one."""
_HOSTS = ("bit.ly", "tinyurl.com", "t.co", "goo.gl", "is.gd", "cutt.ly")
_SPAM = re.compile(
    r"\b(casino|viagra|crypto ?giveaway|buy followers|essay writing service|seo services)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Remark:
    """Something to look at: ``suspicious`` before ``note``."""

    level: Literal["suspicious", "note"]
    where: str
    text: str


def checked(connection: Connection, records: Sequence[Record]) -> list[Remark]:
    """Return what is remarkable about the records of a proposal, the suspicious first."""
    remarks: list[Remark] = []
    titles = {kind: _titles(connection, kind) for kind in {record.kind for record in records}}
    for record in records:
        where = f"{record.kind} '{record.slug}'"
        remarks += [Remark(level, where, said) for level, said in _of(record)]
        remarks += [Remark("suspicious", where, said) for said in near(connection, record, titles[record.kind])]
    return sorted(remarks, key=lambda one: one.level != "suspicious")


def _titles(connection: Connection, kind: str) -> list[tuple[str, str]]:
    query = select(t.entity.c.slug, t.entity.c.title).where(t.entity.c.kind == kind, t.entity.c.status == "public")
    return [(row.slug, row.title) for row in connection.execute(query)]


def near(connection: Connection, record: Record, titles: Sequence[tuple[str, str]]) -> list[str]:
    """Return which public records this one may be again: the same DOI, arXiv number or nearly the same title.

    ``titles``: slug and title of the public records of its kind.
    """
    same = t.entity.c.slug != record.slug
    found: list[str] = []
    if isinstance(record, Work):
        for column, value in ((t.work.c.doi, record.doi), (t.work.c.arxiv, record.arxiv)):
            if value:
                same_work = connection.execute(
                    select(t.entity.c.slug)
                    .join(t.work, t.work.c.entity_id == t.entity.c.id)
                    .where(column == value, same)
                )
                found += [f"work '{row.slug}' has the same {column.name} {value}" for row in same_work]
    others = [one for one in titles if one[0] != record.slug]
    close = process.extract(
        record.title_shown, [title for _, title in others], scorer=fuzz.token_sort_ratio, score_cutoff=NEAR, limit=3
    )
    found += [f"its title is near to that of '{others[place][0]}' ({score:.0f} %)" for _, score, place in close]
    if isinstance(record, Dataset):
        names = {
            folded(name) for name in (record.name, *(alias.name for alias in record.aliases if not alias.ambiguous))
        }
        bearing = connection.execute(
            select(t.entity.c.slug, t.name.c.name)
            .join(t.name, t.name.c.entity_id == t.entity.c.id)
            .where(t.name.c.folded.in_(names), same)
        ).all()
        found += [f"dataset '{row.slug}' bears the name '{row.name}'" for row in bearing]
    return list(dict.fromkeys(found))


def _of(record: Record) -> Iterable[tuple[Literal["suspicious", "note"], str]]:
    text = " ".join(str(value) for value in record.plain().values())
    if _SPAM.search(text):
        yield "suspicious", "reads like an advertisement"
    if len(re.findall(r"https?://", text)) > 20:
        yield "suspicious", "holds more than 20 addresses"
    for url in re.findall(r"https?://([^/\s'\"]+)", text):
        if url.lower() in _HOSTS:
            yield "suspicious", f"an address is shortened ({url}): it hides where it leads"
    if isinstance(record, Work):
        if not record.doi and not record.arxiv and not record.url:
            yield "note", "has no DOI, arXiv number or address: nobody can look it up"
        return
    if isinstance(record, Artifact) and not record.works and not record.url and not record.run:
        yield "note", "has no published source"
    if isinstance(record, Dataset):
        for licence in record.licences:
            if licence_class(licence.spdx, licence.text) == "unknown":
                yield "note", f"the licence of {licence.of} is not known"
        shares: dict[str, float] = {}
        for entry in record.demographics:
            if entry.share is not None and entry.group:
                shares[entry.attribute] = shares.get(entry.attribute, 0.0) + entry.share
        for attribute, total in shares.items():
            if total > 1.005:
                yield "suspicious", f"the shares of {attribute} add to {100 * total:.1f} %"
    yield from _numbers(record.facts)


def _numbers(facts: Sequence[Fact]) -> Iterable[tuple[Literal["suspicious", "note"], str]]:
    for fact in facts:
        if isinstance(fact.value, bool) or not isinstance(fact.value, int | float):
            continue
        if fact.unit in ("%", "percent") and not 0 <= fact.value <= 100:
            yield "suspicious", f"{fact.field}: {fact.value} % is no percentage"
        if fact.n is not None and fact.unit in ("images", "patients", "cases") and fact.value > fact.n:
            yield "suspicious", f"{fact.field}: {fact.value} of {fact.n}"
        if fact.low is not None and fact.high is not None and not fact.low <= fact.value <= fact.high:
            yield "suspicious", f"{fact.field}: {fact.value} lies outside its interval {fact.low} to {fact.high}"
    if facts and all(fact.verification == "unverified" for fact in facts):
        yield "note", "no fact was verified in its source"
