"""The living loop: exactly what is new enters, once, whatever happens; and what is retracted is told of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_reviews import artifact, dataset, hire, publish, work
from sqlalchemy import func, select

from medaudit.errors import UsageError
from medaudit.review import database, log
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.living import citations, duplicates, harvested, providers, retractions, searches
from medaudit.review.living.transports import Answer, Bulk, Fetch, Unavailable, cassette
from medaudit.review.people import Forbidden, Person

CASSETTES = Path(__file__).parent / "cassettes"
T0, T1, SOURCES = (cassette(CASSETTES / one) for one in ("t0", "t1", "sources"))
CITED = "cites:W9000000001"
CHEXPERT = "10.1609/aaai.v33i01.3301590"


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = database.connect(tmp_path / "review.sqlite", create=True)
    else:
        opened = database.connect(request.getfixturevalue("postgres")(), create=True)
    yield opened
    opened.close()


def begin(db: Database) -> dict[str, Person]:
    staff = hire(db)
    publish(
        db, staff["contributor"], staff["reviewer"],
        work("irvin-2019-chexpert", title="CheXpert", doi=CHEXPERT, openalex="W9000000001", arxiv="1901.07031"),
        work("franklin-2022-sex", title="Sex and the labels", doi="10.1234/sex.2022.7"),
        dataset("chexpert", name="CheXpert", produced_by=["irvin-2019-chexpert"]),
        artifact("franklin-2022-labels", "chexpert", works=["franklin-2022-sex"]),
    )  # fmt: skip
    with db.writing() as connection:
        searches.save(connection, staff["reviewer"], "cites CheXpert", "openalex", CITED, 7)
    return staff


def titles(db: Database) -> list[str]:
    with db.reading() as connection:
        rows = connection.scalars(
            select(t.harvested.c.openalex)
            .where(t.harvested.c.first_run.is_not(None), t.harvested.c.merged_into.is_(None))
            .order_by(t.harvested.c.openalex)
        )
        return [name[-3:] for name in rows]


def everything(db: Database) -> list[list[tuple[object, ...]]]:
    """What a run leaves, but for the times."""
    with db.reading() as connection:
        found = []
        for table in (t.harvested, t.found, t.cites, t.search_run, t.query):
            columns = [c for c in table.c if c.name not in ("first_seen", "started", "finished", "since", "retracted")]
            found.append(sorted((tuple(row) for row in connection.execute(select(*columns))), key=repr))
        return found


def test_exactly_the_new_works_enter(both: Database) -> None:
    begin(both)
    first = searches.run(both, "cites CheXpert", T0)
    # W102 has the DOI of a work that is public already, so it is identified and not new.
    assert (first.identified, first.new, first.merged, first.error) == (4, 3, 0, None)
    assert titles(both) == ["100", "101", "103"]
    again = searches.run(both, "cites CheXpert", T0)
    assert (again.identified, again.new, again.merged) == (4, 0, 0)
    second = searches.run(both, "cites CheXpert", T1)
    # The journal's version of W101 is the same work; W106 is new.
    assert (second.identified, second.new, second.merged) == (4, 1, 1)
    assert titles(both) == ["100", "101", "103", "106"]
    with both.reading() as connection:
        assert searches.due(connection) == []
        assert [q.name for q in searches.due(connection, "2999-01-01T00:00:00+00:00")] == ["cites CheXpert"]
        assert [one.new for one in searches.runs(connection)] == [1, 0, 3]
        cited = citations.counts(connection, ["chexpert"])
        assert (cited[0].citations, cited[0].uses, cited[0].cited_only) == (5, 0, 5)
        assert log.verify(connection) == []


def test_merges_and_retractions_of_the_source_are_followed(both: Database) -> None:
    begin(both)
    searches.run(both, "cites CheXpert", T0)
    with both.reading() as connection:
        assert retractions.retracted_sources(connection) == []
    searches.run(both, "cites CheXpert", T1)
    assert retractions.recheck(both, T1) == (1, 1)
    assert retractions.recheck(both, T1) == (0, 0)
    with both.reading() as connection:
        numbers = connection.execute(
            select(t.harvested.c.openalex, t.harvested.c.doi).where(t.harvested.c.doi == "10.1234/hidden.2022.3")
        ).all()
        assert numbers == [("W9000000104", "10.1234/hidden.2022.3")]
        found = retractions.retracted_sources(connection)
    assert [(one.kind, one.slug, one.work, one.role) for one in found] == [
        ("artifact", "franklin-2022-labels", "franklin-2022-sex", "source"),
        ("work", "franklin-2022-sex", "franklin-2022-sex", "itself"),
    ]


def test_two_known_works_that_the_source_merged_become_one(db: Database) -> None:
    begin(db)
    searches.run(db, "cites CheXpert", T0)
    with db.writing() as connection:
        searches.save(connection, Person(5, "reviewer one", "reviewer"), "other", "openalex", "openalex:W9000000104")
    answer = T1("https://api.openalex.org/works/W9000000104").body
    searches.run(db, "other", lambda url: Answer(url, 200, {"results": [answer], "meta": {"next_cursor": None}}))
    assert titles(db) == ["100", "101", "103"]  # title, year and first author already say so, W103 has no DOI
    moved, _ = retractions.recheck(db, T1)
    assert moved == 1
    assert len(titles(db)) == 3


def test_two_publications_that_the_source_says_are_one_become_one(db: Database) -> None:
    """Their DOIs differ, so that nothing but the source's 301 joins them; the elder record stays."""
    begin(db)

    def one(number: int) -> dict[str, object]:
        doi = f"https://doi.org/10.1234/made.{number}"
        return {"id": f"https://openalex.org/W{number}", "doi": doi, "title": f"Work {number}"}

    both = {"results": [one(11), one(12)], "meta": {"next_cursor": None}}
    assert searches.run(db, "cites CheXpert", lambda url: Answer(url, 200, both)).new == 2

    def merged(url: str) -> Answer:
        number = 12 if url.endswith(("W11", "W12")) else 0
        return Answer(url, 200, one(12)) if number else Answer(url, 404, None)

    assert retractions.recheck(db, merged) == (1, 0)
    with db.reading() as connection:
        rows = connection.execute(
            select(t.harvested.c.id, t.harvested.c.doi, t.harvested.c.merged_into).where(
                t.harvested.c.first_run.is_not(None)
            )
        ).all()
        assert [(row.doi, row.merged_into) for row in rows] == [
            ("10.1234/made.11", None), ("10.1234/made.12", rows[0].id),
        ]  # fmt: skip
        assert log.verify(connection) == []


def test_a_notice_of_crossref_flags_the_work_with_its_day(db: Database) -> None:
    staff = begin(db)
    with db.writing() as connection:
        searches.save(connection, staff["reviewer"], "notices", "crossref", "updates:10.1234/sex.2022.7", 7)
    searches.run(db, "notices", SOURCES)
    with db.reading() as connection:
        (first, _) = retractions.retracted_sources(connection)
    assert (first.slug, first.retracted) == ("franklin-2022-labels", "2024-05-02")


def test_sources_agree_on_what_is_one_work(both: Database) -> None:
    staff = begin(both)
    with both.writing() as connection:
        searches.save(connection, staff["reviewer"], "crossref", "crossref", "search:chest radiograph labels")
        searches.save(connection, staff["reviewer"], "datacite", "datacite", f"related:{CHEXPERT}")
    searches.run(both, "cites CheXpert", T0)
    crossref = searches.run(both, "crossref", SOURCES)
    assert (crossref.identified, crossref.new, crossref.merged) == (2, 0, 1)  # the preprint's publication
    datacite = searches.run(both, "datacite", SOURCES)
    assert (datacite.identified, datacite.new, datacite.merged) == (2, 1, 0)  # the deposit; the preprint is known
    assert len(titles_all(both)) == 4
    searches.run(both, "cites CheXpert", T1)
    assert len(titles_all(both)) == 5


def titles_all(db: Database) -> list[int]:
    with db.reading() as connection:
        rows = select(t.harvested.c.id).where(t.harvested.c.first_run.is_not(None), t.harvested.c.merged_into.is_(None))
        return list(connection.scalars(rows))


class Killed(BaseException):
    """As a signal: no code catches it."""


@pytest.mark.parametrize("at", range(1, 40))
def test_a_run_that_is_killed_anywhere_goes_on_and_leaves_the_same(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (database.connect(tmp_path / f"{name}.sqlite", create=True) for name in ("whole", "cut"))
    for db in (whole, cut):
        begin(db)
        searches.run(db, "cites CheXpert", T0)
    searches.run(whole, "cites CheXpert", T1)
    steps = itertools.count(1)

    def killing(function: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **more: object) -> object:
            if next(steps) == at:
                raise Killed
            result = function(*args, **more)
            if next(steps) == at:
                raise Killed
            return result

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("_begin", "_advance", "ingest", "_count", "link"):
            patch.setattr(searches, name, killing(getattr(searches, name)))
        for name in ("refresh", "_insert", "_cite", "link", "add_new"):
            patch.setattr(harvested, name, killing(getattr(harvested, name)))
        try:
            searches.run(cut, "cites CheXpert", T1)
        except Killed:
            pass
        else:
            pytest.skip("the run ended before")
    searches.run(cut, "cites CheXpert", T1)
    assert everything(cut) == everything(whole)
    with cut.reading() as connection:
        assert log.verify(connection) == []
    whole.close()
    cut.close()


def failing(fetch: Fetch, *bad: int) -> Fetch:
    calls = itertools.count(1)

    def asked(url: str) -> Answer:
        if next(calls) in bad:
            raise Unavailable("the source is busy")
        return fetch(url)

    return asked


def test_a_source_that_fails_leaves_what_it_gave_and_the_run_goes_on(db: Database) -> None:
    begin(db)
    with pytest.raises(Unavailable, match="busy"):
        searches.run(db, "cites CheXpert", failing(T0, 2))
    assert titles(db) == ["100", "101"]
    with db.reading() as connection:
        assert searches.named(connection, "cites CheXpert").unfinished
        (run,) = searches.runs(connection)
        assert (run.finished, run.error, run.identified) == (None, "the source is busy", 2)
        assert len(searches.due(connection)) == 1
    asked: list[str] = []
    done = searches.run(db, "cites CheXpert", lambda url: asked.append(url) or T0(url))  # type: ignore[func-returns-value]
    assert len(asked) == 1  # the second page only
    assert (done.id, done.identified, done.new, done.error) == (run.id, 4, 3, None)


def test_a_cursor_that_the_source_forgot_is_begun_again(db: Database) -> None:
    begin(db)
    with pytest.raises(Unavailable):
        searches.run(db, "cites CheXpert", failing(T0, 2))
    calls = itertools.count(1)
    done = searches.run(db, "cites CheXpert", lambda url: Answer(url, 400, None) if next(calls) == 1 else T0(url))
    assert (done.identified, done.new) == (4, 3)


def test_two_processes_do_not_run_one_search(db: Database) -> None:
    begin(db)

    def meddling(url: str) -> Answer:
        if "cursor=%2A" in url or "cursor=*" in url:
            searches.run(db, "cites CheXpert", T0)
        return T0(url)

    with pytest.raises(UsageError, match="runs elsewhere"):
        searches.run(db, "cites CheXpert", meddling)
    assert titles(db) == ["100", "101", "103"]


def test_an_index_is_asked_again_from_before_the_last_run(db: Database) -> None:
    staff = begin(db)
    with db.writing() as connection:
        searches.save(connection, staff["reviewer"], "crossref", "crossref", "search:x")
    asked: list[str] = []

    def empty(url: str) -> Answer:
        asked.append(url)
        return Answer(url, 200, {"message": {"items": [], "next-cursor": "c"}})

    searches.run(db, "crossref", empty)
    searches.run(db, "crossref", empty)
    assert "from-index-date" not in asked[0]
    assert "filter=from-index-date:20" in asked[1]
    assert len(asked) == 2  # Crossref gives a cursor after the last page


def test_saving_and_retiring(db: Database) -> None:
    staff = begin(db)
    with db.writing() as connection:
        with pytest.raises(Forbidden):
            searches.save(connection, staff["contributor"], "a", "openalex", "cites:W1")
        for name, provider, expression in (
            ("cites CheXpert", "openalex", "cites:W1"), ("a", "scholar", "cites:W1"), ("", "openalex", "cites:W1"),
        ):  # fmt: skip
            with pytest.raises(UsageError):
                searches.save(connection, staff["reviewer"], name, provider, expression)
        searches.retire(connection, staff["reviewer"], "cites CheXpert", "the source is gone")
        assert searches.listed(connection) == []
        assert len(searches.listed(connection, retired=True)) == 1
        with pytest.raises(UsageError, match="retired already"):
            searches.retire(connection, staff["reviewer"], "cites CheXpert", "again")
        with pytest.raises(UsageError, match="there is no search"):
            searches.named(connection, "b")
    with pytest.raises(UsageError, match="was retired"):
        searches.run(db, "cites CheXpert", T0)


def test_a_search_over_files_goes_on_by_record(db: Database, tmp_path: Path) -> None:
    import json

    begin(db)
    results = [
        work
        for path in sorted((CASSETTES / "t0").glob("*.json"))
        for work in json.loads(path.read_text())["body"]["results"]
    ]
    path = tmp_path / "works.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in results[:3]) + '{"id": \n')
    from medaudit.errors import DataError

    with pytest.raises(DataError, match="line 4"):
        searches.run(db, "cites CheXpert", Bulk((path,), rows=1))
    path.write_text("".join(json.dumps(one) + "\n" for one in results))
    done = searches.run(db, "cites CheXpert", Bulk((path,), rows=1))
    assert (done.identified, done.new) == (4, 3)


def test_a_doi_that_a_source_lacks_and_an_identifier_within_another(db: Database) -> None:
    """Bugs of the Sourget detector: None within a string, and W123 found in W1234."""
    begin(db)
    one = {"id": "https://openalex.org/W1234", "doi": None, "title": "No DOI at all", "is_retracted": None,
           "referenced_works": ["https://openalex.org/W90000000010"]}  # fmt: skip
    page = {"results": [one, one | {"id": "https://openalex.org/W123", "title": "Another"}], "meta": {}}
    done = searches.run(db, "cites CheXpert", lambda url: Answer(url, 200, page))
    assert (done.new, done.merged) == (2, 0)
    with db.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(t.cites)) == 0


def test_a_person_s_separation_outlives_the_next_run(db: Database) -> None:
    staff = begin(db)
    searches.run(db, "cites CheXpert", T0)
    searches.run(db, "cites CheXpert", T1)
    with db.writing() as connection:
        dropped = connection.scalar(select(t.harvested.c.id).where(t.harvested.c.openalex == "W9000000105"))
        assert dropped is not None
        duplicates.separate(connection, dropped, staff["reviewer"])
    searches.run(db, "cites CheXpert", T1)
    assert "105" in titles(db)


def test_a_work_seen_as_a_reference_first_is_screened_when_a_search_finds_it(db: Database) -> None:
    begin(db)
    citations.load(db, [("W9000000100", "W77"), ("https://doi.org/10.1234/HIDDEN.2022.3", "W9000000001")], name="bulk")
    first = searches.run(db, "cites CheXpert", T0)
    assert first.new == 3
    assert titles(db) == ["100", "101", "103"]


def test_providers_are_the_ones_that_transports_ask() -> None:
    for one in providers.PROVIDERS.values():
        if one.one is not None:
            assert one.one("10.1234/x").split("/")[2] in ("api.openalex.org", "api.crossref.org", "api.datacite.org")
