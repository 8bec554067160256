"""Two stages, one or two persons, conflicts told; what is included is proposed, and a second person accepts it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from made_reviews import hire, publish, work
from sqlalchemy import insert, select, update

from medaudit.errors import UsageError
from medaudit.review import database, log, releases, views, workflow
from medaudit.review import tables as t
from medaudit.review.database import Database, now
from medaudit.review.living import duplicates, prisma, retractions, screening, searches
from medaudit.review.living.screening import Decision
from medaudit.review.living.transports import cassette
from medaudit.review.people import Forbidden, Person

CASSETTES = Path(__file__).parent / "cassettes"


@pytest.fixture
def found(db: Database, staff: dict[str, Person]) -> dict[str, int]:
    with db.writing() as connection:
        searches.save(connection, staff["reviewer"], "q", "openalex", "cites:W9000000001")
    searches.run(db, "q", cassette(CASSETTES / "t0"))
    searches.run(db, "q", cassette(CASSETTES / "t1"))
    with db.reading() as connection:
        rows = connection.execute(select(t.harvested.c.openalex, t.harvested.c.id)).all()
    return {row.openalex[-3:]: row.id for row in rows}


def test_the_queue_is_in_order_and_shows_nobody_else_s_decision(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    one, two = staff["reviewer"], staff["second"]
    with db.writing() as connection:
        with pytest.raises(Forbidden):
            screening.queue(connection, staff["contributor"])
        start = [w.id for w in screening.queue(connection, one, independent=2)]
        # The newest first; the merged one is not there.
        assert start == [found["106"], found["100"], found["102"], found["103"], found["101"]]
        screening.decide(connection, one, found["103"], "title", "include", independent=2)
        assert found["103"] not in [w.id for w in screening.queue(connection, one, independent=2)]
        theirs = screening.queue(connection, two, independent=2)
        assert theirs[0].id == found["103"]  # begun by another: finish it first
        assert not hasattr(theirs[0], "decisions")
        assert screening.queue(connection, two, "fulltext", independent=2) == []
        screening.decide(connection, two, found["103"], "title", "include", independent=2)
        assert [w.id for w in screening.queue(connection, two, "fulltext", independent=2)] == [found["103"]]


def test_a_conflict_is_told_and_a_third_person_settles_it(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    number = found["100"]
    with db.writing() as connection:
        screening.decide(connection, staff["reviewer"], number, "title", "include")
        screening.decide(connection, staff["second"], number, "title", "exclude", "not about a dataset")
        (conflict,) = screening.conflicts(connection)
        assert (conflict.id, conflict.stage, [d.decision for d in conflict.decisions]) == (
            number, "title", ["include", "exclude"],
        )  # fmt: skip
        with pytest.raises(UsageError, match="it is 'conflict'"):
            screening.decide(connection, staff["reviewer"], number, "fulltext", "include")
        assert number in [w.id for w in screening.queue(connection, staff["editor"])]
        screening.decide(connection, staff["editor"], number, "title", "exclude", "not about a dataset")
        assert screening.conflicts(connection) == []
        state = screening.states(connection)[number]
        assert (state.outcome, state.stage, state.reasons) == ("exclude", "title", ("not about a dataset",))


@pytest.mark.parametrize("independent", [1, 2, 3])
def test_what_votes_come_to(independent: int) -> None:
    """Every combination of up to four votes against the rule said in words."""
    for length in range(5):
        for votes in product(("include", "exclude", "unsure"), repeat=length):
            made = {
                str(n): Decision(str(n), vote, "other" if vote == "exclude" else "", "") for n, vote in enumerate(votes)
            }
            yes, no = votes.count("include"), votes.count("exclude")
            if yes + no < independent:
                expected = "pending"
            elif not no:
                expected = "include"
            elif not yes:
                expected = "exclude"
            elif yes + no == 2 or yes == no:
                expected = "conflict"
            else:
                expected = "include" if yes > no else "exclude"
            assert screening.state({"title": made, "fulltext": made}, independent).outcome == expected


def test_decisions_that_are_none(db: Database, staff: dict[str, Person], found: dict[str, int]) -> None:
    with db.writing() as connection:
        for stage, decision, reason in (
            ("abstract", "include", ""), ("title", "maybe", ""), ("title", "exclude", ""), ("title", "exclude", "dull"),
            ("title", "include", "other"), ("fulltext", "include", ""),
        ):  # fmt: skip
            with pytest.raises(UsageError):
                screening.decide(connection, staff["reviewer"], found["100"], stage, decision, reason)
        with pytest.raises(UsageError, match="is not there"):
            screening.decide(connection, staff["reviewer"], 999, "title", "include")
        with pytest.raises(Forbidden):
            screening.decide(connection, staff["bot"], found["100"], "title", "include")
        screening.decide(connection, staff["reviewer"], found["100"], "title", "exclude", "other")
        screening.decide(connection, staff["reviewer"], found["100"], "title", "include")  # changed my mind
        assert screening.states(connection)[found["100"]].outcome == "pending"
        logged = connection.scalars(select(t.audit.c.action).where(t.audit.c.action == "screen")).all()
        assert len(logged) == 2
        assert log.verify(connection) == []


def test_decisions_on_a_merged_record_count_for_its_work(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    with db.writing() as connection:
        screening.decide(connection, staff["reviewer"], found["102"], "title", "exclude", "other")
        duplicates.merge(connection, found["100"], found["102"], staff["second"])
        assert screening.states(connection)[found["100"]].outcome == "exclude"
        duplicates.separate(connection, found["102"], staff["second"])
        assert screening.states(connection)[found["100"]].outcome == "pending"
        assert screening.states(connection)[found["102"]].outcome == "exclude"


def include(db: Database, person: Person, *numbers: int) -> None:
    with db.writing() as connection:
        for number in numbers:
            for stage in screening.STAGES:
                screening.decide(connection, person, number, stage, "include")


def test_what_is_included_is_proposed_once_and_a_second_person_accepts(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    one, two = staff["reviewer"], staff["second"]
    include(db, one, found["101"], found["100"], found["103"])
    with db.writing() as connection:
        number = screening.propose_included(connection, one)
        assert number is not None
        assert screening.propose_included(connection, one) is None
        assert screening.propose_included(connection, two) is None
    with db.reading() as connection:
        assert releases.state_of(connection, None) == {}  # nothing is public yet
        proposal = workflow.contribution(connection, number)
        records = {change.slug: change.record for change in proposal.changes}
    assert sorted(records) == ["family0-2023-segmentation", "hopper-2022-view", "noether-2022-hidden"]
    view = records["hopper-2022-view"]
    # The publication's DOI, though the search met the preprint first, and the preprint's number.
    assert view is not None
    assert view.plain() == {
        "kind": "work", "slug": "hopper-2022-view", "year": 2022, "doi": "10.1234/view.2022.2", "arxiv": "2101.00001",
        "openalex": "W9000000105", "title": "Which view was it? Projection as a shortcut in chest radiographs",
        "venue": "Made-up Transactions",
    }  # fmt: skip
    with db.writing() as connection:
        with pytest.raises(Forbidden):
            workflow.accept(connection, one, number)
        workflow.accept(connection, two, number)
        assert screening.propose_included(connection, one) is None
        linked = connection.scalars(select(t.harvested.c.id).where(t.harvested.c.work_id.is_not(None))).all()
        assert set(linked) == {found[name] for name in ("100", "101", "103", "105")}
        assert len(views.records(connection, "work")) == 3
    assert searches.run(db, "q", cassette(CASSETTES / "t1")).new == 0


def test_rejected_works_are_not_proposed_again_and_slugs_are_new(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    publish(db, staff["contributor"], staff["reviewer"], work("family0-2023-segmentation", title="Another"))
    include(db, staff["reviewer"], found["100"])
    with db.writing() as connection:
        number = screening.propose_included(connection, staff["reviewer"])
        assert number is not None
        assert workflow.contribution(connection, number).changes[0].slug == "family0-2023-segmentation-2"
        workflow.reject(connection, staff["second"], number, "out of scope", "no")
        assert screening.propose_included(connection, staff["reviewer"]) is None
    include(db, staff["reviewer"], found["106"])
    with db.writing() as connection:
        number = screening.propose_included(connection, staff["reviewer"])
        assert number is not None
        workflow.withdraw(connection, staff["reviewer"], number)
        assert screening.propose_included(connection, staff["reviewer"]) is not None


def test_a_retracted_work_is_proposed_as_retracted(
    db: Database, staff: dict[str, Person], found: dict[str, int]
) -> None:
    with db.writing() as connection:
        connection.execute(update(t.harvested).where(t.harvested.c.id == found["102"]).values(retracted="2024-05-02"))
    include(db, staff["reviewer"], found["102"])
    with db.writing() as connection:
        number = screening.propose_included(connection, staff["reviewer"])
        assert number is not None
        record = workflow.contribution(connection, number).changes[0].record
    assert record is not None
    assert record.plain()["retracted"] == "2024-05-02"


def test_a_queue_of_fifty_thousand_is_quick(db: Database, staff: dict[str, Person]) -> None:
    import time

    with db.writing() as connection:
        query = searches.save(connection, staff["reviewer"], "q", "openalex", "cites:W1")
        connection.execute(
            insert(t.search_run).values(id=1, query_id=query, started=now(), identified=0, new=0, merged=0)
        )
        rows = [
            {"id": n, "key": f"k{n}", "title": f"t{n}", "folded": f"t{n}", "first_run": 1} for n in range(1, 50_001)
        ]
        connection.execute(insert(t.harvested), rows)
        connection.execute(insert(t.found), [{"run_id": 1, "harvested_id": n} for n in range(1, 50_001)])
    start = time.process_time()
    with db.reading() as connection:
        assert len(screening.queue(connection, staff["reviewer"])) == 50
    assert time.process_time() - start < 2


def test_the_same_on_postgres(postgres: Callable[[], str]) -> None:
    db = database.connect(postgres(), create=True)
    staff = hire(db)
    with db.writing() as connection:
        searches.save(connection, staff["reviewer"], "q", "openalex", "cites:W9000000001")
    searches.run(db, "q", cassette(CASSETTES / "t0"))
    searches.run(db, "q", cassette(CASSETTES / "t1"))
    retractions.recheck(db, cassette(CASSETTES / "t1"))
    with db.writing() as connection:
        first, second, third = [one.id for one in screening.queue(connection, staff["reviewer"])][:3]
    include(db, staff["reviewer"], first)
    with db.writing() as connection:
        screening.decide(connection, staff["reviewer"], second, "title", "exclude", "other")
        screening.decide(connection, staff["second"], second, "title", "include")
        assert [one.id for one in screening.conflicts(connection)] == [second]
        duplicates.merge(connection, first, third, staff["reviewer"])
        number = screening.propose_included(connection, staff["reviewer"])
        assert number is not None
        workflow.accept(connection, staff["second"], number)
        duplicates.suggestions(connection)
        flow = prisma.report(connection).flow
        assert (flow.screened, flow.included, flow.conflicts, flow.pending) == (4, 1, 1, 3)
        assert len(retractions.retracted_sources(connection)) in (0, 1)
        assert log.verify(connection) == []
    db.close()
