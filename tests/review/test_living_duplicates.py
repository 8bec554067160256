"""Equal identifiers decide; likeness only asks; blocking finds what comparing all with all finds."""

from __future__ import annotations

import csv
import os
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from made_reviews import hire
from rapidfuzz import fuzz
from sqlalchemy import insert, select

from medaudit.errors import UsageError
from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.living import duplicates, screening
from medaudit.review.people import Forbidden
from medaudit.review.words import folded, plain

PAPERS = Path(os.environ.get("MEDAUDIT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "living_review"
PAPERS = PAPERS / "sourget_papers_datasets_reference.csv"
WORDS = re.findall(
    r"\w+",
    "segmentation learning deep network image chest cardiac brain lesion retinal domain adaptation weak label noise "
    "uncertainty graph shape contrastive transformer federated privacy federation tumour detection registration "
    "motion artefact quality annotation survey benchmark challenge data patient scanner site shift bias",
)


def enter(db: Database, *titles: str, **more: Any) -> list[int]:
    with db.writing() as connection:
        ids = []
        for n, title in enumerate(titles):
            values = {"key": f"title:{title}{n}{more}", "title": title, "folded": folded(title), "year": 2020} | more
            ids.append(connection.execute(insert(t.harvested).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    return ids


def changed(title: str, rng: random.Random) -> str:
    letters = list(title)
    for _ in range(rng.choice((1, 2))):
        at = rng.randrange(len(letters))
        letters[at : at + 1] = rng.choice(([], [letters[at], letters[at]], [rng.choice("abcdefgh")]))
    words = "".join(letters).split()
    if rng.random() < 0.3 and len(words) > 2:
        words[0], words[1] = words[1], words[0]
    return " ".join(words)


def brute(rows: list[tuple[int, str, int | None]]) -> set[tuple[int, int]]:
    """All with all, by rapidfuzz's own scorer on the words as search folds them."""
    bare = [" ".join(re.findall(r"[^\W_]+", plain(title))) for _, title, _ in rows]
    return {
        (rows[i][0], rows[j][0])
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if fuzz.token_sort_ratio(bare[i], bare[j], score_cutoff=92) >= 92
    }


def test_blocking_finds_what_comparing_all_with_all_finds() -> None:
    rng = random.Random(0)
    titles = [" ".join(rng.sample(WORDS, rng.randint(5, 9))) for _ in range(500)]
    titles += [changed(rng.choice(titles), rng) for _ in range(300)]
    rows = [(n, title, 2020) for n, title in enumerate(titles)]
    expected, found = brute(rows), {(a, b) for a, b, _ in duplicates.compare(rows)}
    assert len(expected) > 200
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)


@pytest.mark.realdata
def test_real_titles_with_made_up_typos() -> None:
    """The titles that the group's own study listed; a changed copy of one in ten is found again, as by brute force."""
    if not PAPERS.exists():
        pytest.skip(f"{PAPERS} is not there")
    with PAPERS.open() as file:
        titles = [row["name"] for row in csv.DictReader(file)][:1500]
    rng = random.Random(1)
    titles += [changed(title, rng) for title in rng.sample(titles, 150)]
    rows = [(n, title, 2020) for n, title in enumerate(titles)]
    expected, found = brute(rows), {(a, b) for a, b, _ in duplicates.compare(rows)}
    assert found <= expected
    assert len(found) >= 0.98 * len(expected) > 100


def test_a_hundred_thousand_titles_are_feasible() -> None:
    rng = random.Random(2)
    made = [f"{rng.choice(WORDS)}{n % 9973}" for n in range(20_000)]
    titles = [" ".join(rng.sample(WORDS, 5) + rng.sample(made, 3)) for _ in range(99_000)]
    titles += [changed(rng.choice(titles), rng) for _ in range(1_000)]
    start = time.process_time()
    found = duplicates.compare([(n, title, 2020) for n, title in enumerate(titles)])
    assert time.process_time() - start < 60
    assert len(found) > 800


def test_likeness_asks_and_never_merges(db: Database) -> None:
    hire(db)
    a, b, *_ = enter(
        db, "Segmentation of the chest radiograph with deep networks",
        "Segmentation of the chest radiographs with deep network",
        "Challenge on cardiac images 2018", "Challenge on cardiac images 2019", "Something else altogether",
    )  # fmt: skip
    with db.writing() as connection:
        first, second = duplicates.suggestions(connection)
        assert (first.first, first.second, first.note) == (a, b, "")
        assert second.note == "the titles differ by a number"
        merged = select(t.harvested.c.id).where(t.harvested.c.merged_into.is_not(None))
        assert connection.scalars(merged).all() == []


def test_a_person_merges_and_takes_it_back(db: Database) -> None:
    staff = hire(db)
    a, b, c, d = enter(db, "one", "two", "three", "four")
    with db.writing() as connection:
        with pytest.raises(Forbidden):
            duplicates.merge(connection, a, b, staff["contributor"])
        duplicates.merge(connection, b, c, staff["reviewer"])
        duplicates.merge(connection, a, b, staff["reviewer"])  # c goes along: a path has one step
        rows = connection.execute(select(t.harvested.c.id, t.harvested.c.merged_into))
        into = {row.id: row.merged_into for row in rows}
        assert into == {a: None, b: a, c: a, d: None}
        for keep, drop in ((a, b), (b, d), (a, a), (a, 99)):
            with pytest.raises(UsageError):
                duplicates.merge(connection, keep, drop, staff["reviewer"])
        with pytest.raises(UsageError, match=f"merged into {a}; decide on that"):
            screening.decide(connection, staff["reviewer"], b, "title", "include")
        duplicates.separate(connection, b, staff["reviewer"])
        with pytest.raises(UsageError, match="is not merged"):
            duplicates.separate(connection, b, staff["reviewer"])
        assert connection.scalar(select(t.harvested.c.merged_into).where(t.harvested.c.id == b)) is None
        assert log.verify(connection) == []
        actions = connection.scalars(select(t.audit.c.action).order_by(t.audit.c.seq)).all()
        assert actions[-3:] == ["merge harvested", "merge harvested", "separate harvested"]


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        (None, None, True), ("10.1234/a", None, True), ("10.1234/a", "10.1234/a", True),
        ("10.1234/a", "10.1234/b", False),
        ("10.48550/arxiv.1", "10.1234/b", True), ("10.1234/b", "10.1101/2020.1", True),
        ("10.1101/2020.1", "10.48550/arxiv.1", False),
    ],
)  # fmt: skip
def test_two_publications_are_not_one_by_their_title(first: str | None, second: str | None, one: bool) -> None:
    assert duplicates.may_be_one(first, second) is one


def test_short_titles_decide_nothing() -> None:
    assert duplicates.title_key("Editorial", 2020, "Lovelace, Ada") is None
    long = "Which view was it? Projection as a shortcut"
    assert duplicates.title_key(long, None, "Lovelace, Ada") is None
    assert duplicates.title_key(long, 2020, "Lovelace, A.") == duplicates.title_key(long.upper(), 2020, "lovelace, Ada")
