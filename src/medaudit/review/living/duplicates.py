"""Which harvested records are one work. Equal identifiers decide by themselves; likeness only asks a person.

The order is that of the spec: DOI, preprint and publication, title with year and first author; then rapidfuzz. A record
that is one of another is not deleted: it points to it (``merged_into``), and can be separated again.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process
from sqlalchemy import Connection, select, update

from medaudit.errors import UsageError
from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.living.providers import PREPRINT
from medaudit.review.people import Person
from medaudit.review.words import folded, plain

ALIKE = 92.0
"""Score of rapidfuzz (0 to 100, words sorted) from which on two titles are shown to a person."""
_SHORT = 20
"""Letters below which an equal title decides nothing: there are many an "Editorial"."""
_BLOCK = 400
"""Titles that may share a word before the word is too common to compare by."""
_RARE = 4
_NUMBER = re.compile(r"\d+|\b(?:i{1,3}|iv|vi{0,3}|ix|x)\b")


@dataclass(frozen=True)
class Suggestion:
    """Two records that may be one work; ``note`` says what speaks for it or against it."""

    first: int
    second: int
    score: float
    first_title: str
    second_title: str
    note: str


def title_key(title: str, year: int | None, first_author: str | None) -> str | None:
    """Return what equal titles of a year and first author have in common; None where that is too little to decide."""
    letters = folded(title)
    if len(letters) < _SHORT or year is None or not first_author:
        return None
    return f"{letters}|{year}|{folded(first_author.split(',')[0])}"


def may_be_one(first: str | None, second: str | None) -> bool:
    """Return whether works with these DOIs can be one: two publications cannot, one and its preprint can."""
    if first is None or second is None or first == second:
        return True
    return first.startswith(PREPRINT) != second.startswith(PREPRINT)


def compare(rows: Sequence[tuple[int, str, int | None]], threshold: float = ALIKE) -> list[tuple[int, int, float]]:
    """Return pairs of ids, the smaller first, whose titles score ``threshold`` or more, the most alike first.

    Each row is id, title and year; years more than two apart are not compared. Titles are only compared where they
    share one of their rarest words, so that 100,000 are feasible; a test compares it with comparing all.
    """
    titles = [" ".join(sorted(re.findall(r"[^\W_]+", plain(title)))) for _, title, _ in rows]
    words = [sorted(set(title.split())) for title in titles]
    common = Counter(word for one in words for word in one)
    blocks: dict[str, list[int]] = defaultdict(list)
    for n, one in enumerate(words):
        shared = sorted((word for word in one if common[word] > 1), key=lambda word: (common[word], word))
        for word in shared[:_RARE]:
            if common[word] <= _BLOCK or word in shared[:1]:
                blocks[word].append(n)
    best: dict[tuple[int, int], float] = {}
    for block in blocks.values():
        for start in range(0, len(block), _BLOCK):
            part, rest = block[start : start + _BLOCK], block[start:]
            if len(rest) < 2:
                continue
            scores = process.cdist(
                [titles[n] for n in part], [titles[n] for n in rest], scorer=fuzz.ratio, score_cutoff=threshold,
                dtype=np.float32,
            )  # fmt: skip
            for i, j in zip(*np.nonzero(scores), strict=True):
                if i >= j:
                    continue
                (a, _, year_a), (b, _, year_b) = rows[part[i]], rows[rest[j]]
                if year_a is None or year_b is None or abs(year_a - year_b) <= 2:
                    best[(min(a, b), max(a, b))] = round(float(scores[i, j]), 1)
    return sorted(((a, b, score) for (a, b), score in best.items()), key=lambda one: (-one[2], one[0], one[1]))


def suggestions(connection: Connection, threshold: float = ALIKE, most: int = 200) -> list[Suggestion]:
    """Return records that may be one work, for a person to decide; those that differ by a number come last.

    Nothing is merged here. "Part I" and "Part II" score high, and so do two years of a challenge: the note says so.
    """
    c = t.harvested.c
    # Abstracts are most of a record, and say nothing here.
    query = select(c.id, c.title, c.year, c.doi, c.first_author).where(c.merged_into.is_(None), c.title != "")
    rows = {row.id: row for row in connection.execute(query.order_by(c.id))}
    found = []
    for a, b, score in compare([(row.id, row.title, row.year) for row in rows.values()], threshold):
        first, second = rows[a], rows[b]
        notes = []
        if _numbers(first.title) != _numbers(second.title):
            notes.append("the titles differ by a number")
        if not may_be_one(first.doi, second.doi):
            notes.append("both have a DOI of their own")
        if _family(first.first_author) != _family(second.first_author):
            notes.append("the first authors differ")
        found.append(Suggestion(a, b, score, first.title, second.title, "; ".join(notes)))
    found.sort(key=lambda one: (one.note != "", -one.score, one.first, one.second))
    return found[:most]


def merge(connection: Connection, keep: int, drop: int, person: Person) -> None:
    """Say that record ``drop`` is the same work as ``keep``; a person does, and the log has it.

    Raises Forbidden, UsageError where one is not there, is merged already, or both are one.
    """
    person.must("screen")
    rows = {row.id: row for row in connection.execute(select(t.harvested).where(t.harvested.c.id.in_((keep, drop))))}
    for one in (keep, drop):
        if one not in rows:
            raise UsageError(f"there is no harvested record {one}")
        if rows[one].merged_into is not None:
            raise UsageError(f"record {one} is merged into {rows[one].merged_into} already")
    if keep == drop:
        raise UsageError(f"record {keep} is not merged into itself")
    join(connection, keep, [drop])
    log.write(connection, person.name, "merge harvested", f"harvested:{keep}", {"dropped": drop})


def separate(connection: Connection, dropped: int, person: Person) -> None:
    """Take a merge back: the record stands by itself again, and is screened. What a person decided of it holds."""
    person.must("screen")
    into = connection.scalar(select(t.harvested.c.merged_into).where(t.harvested.c.id == dropped))
    if into is None:
        raise UsageError(f"record {dropped} is not merged into another")
    connection.execute(update(t.harvested).where(t.harvested.c.id == dropped).values(merged_into=None))
    log.write(connection, person.name, "separate harvested", f"harvested:{dropped}", {"from": into})


def join(connection: Connection, root: int, others: Iterable[int]) -> None:
    """Let ``others``, and what was merged into them, point to ``root``: a path never has two steps."""
    others = [one for one in others if one != root]
    if others:
        where = t.harvested.c.id.in_(others) | t.harvested.c.merged_into.in_(others)
        connection.execute(update(t.harvested).where(where, t.harvested.c.id != root).values(merged_into=root))


def _numbers(title: str) -> Counter[str]:
    return Counter(_NUMBER.findall(plain(title)))


def _family(author: str | None) -> str:
    return folded((author or "").split(",")[0])
