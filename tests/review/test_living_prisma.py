"""The report says what was done: its numbers add up for any history, and each item of PRISMA-LSR is there."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from made_reviews import dataset, hire, publish, work
from sqlalchemy import select

from medaudit.errors import UsageError
from medaudit.review import database, freezing, people
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.living import duplicates, prisma, screening, searches
from medaudit.review.living.transports import Answer, Fetch, cassette
from medaudit.review.people import Person

CASSETTES = Path(__file__).parent / "cassettes"

WORK = st.integers(1, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from(["one", "two", "three"]), st.lists(WORK, max_size=6)),
        st.tuples(st.just("decide"), WORK, st.sampled_from(["reviewer", "second", "editor"]),
                  st.sampled_from(screening.STAGES), st.sampled_from(screening.DECISIONS)),
        st.tuples(st.just("merge"), WORK, WORK),
        st.tuples(st.just("separate"), WORK),
        st.tuples(st.just("publish"), WORK),
    ),
    max_size=25,
)  # fmt: skip


def answering(numbers: list[int]) -> Fetch:
    """Works 8 and 9 are a preprint and its publication; 1 and 2 have one title, year and author."""

    def one(n: int) -> dict[str, object]:
        doi = {8: "10.48550/arxiv.2101.00008", 9: "10.1234/nine"}.get(n, f"10.1234/{n}" if n > 1 else None)
        title = "The same long title of two records" if n <= 2 else f"A long title of the work number {n}"
        return {
            "id": f"https://openalex.org/W{n}", "doi": doi, "title": title, "publication_year": 2020,
            "authorships": [{"author": {"display_name": "Ada Lovelace" if n <= 2 else f"Author{n}"}}],
            "locations": [{"landing_page_url": "https://arxiv.org/abs/2101.00008"}] if n == 9 else [],
        }  # fmt: skip

    return lambda url: Answer(url, 200, {"results": [one(n) for n in numbers], "meta": {"next_cursor": None}})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([1, 2]))
def test_the_flow_adds_up_for_any_history(steps: list[tuple[object, ...]], independent: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = database.connect(Path(folder) / "r.sqlite", create=True)
        staff = hire(db)
        with db.writing() as connection:
            for n, name in enumerate(("one", "two", "three")):
                searches.save(connection, staff["reviewer"], name, "openalex", f"cites:W{n + 100}")
        seen: set[tuple[object, object]] = set()
        for step in steps:
            _do(db, staff, step, seen)
        with db.reading() as connection:
            flow = prisma.flow(connection, independent=independent)
            report = prisma.report(connection, independent=independent)
            # Counted once more, from the rows themselves.
            rows = {row.id: row for row in connection.execute(select(t.harvested))}
            found = {row.harvested_id for row in connection.execute(select(t.found.c.harvested_id))}
        assert flow.identified == len(seen) == sum(n for _, n in flow.by_search)
        assert flow.identified == flow.duplicates + flow.screened
        assert flow.screened == flow.excluded + flow.included + flow.pending
        assert flow.excluded == sum(n for _, n in (*flow.excluded_title, *flow.excluded_fulltext))
        works = {rows[n].merged_into or n for n in found}
        assert flow.screened == sum(rows[n].first_run is not None for n in works)
        assert flow.merged == sum(rows[n].merged_into in works for n in found)
        assert flow.several_searches == len(seen) - len(found)
        assert min(flow.merged, flow.known, flow.several_searches, flow.pending, flow.included) >= 0
        assert report.flow == flow
        prisma.text(report)
        db.close()


def _do(db: Database, staff: dict[str, Person], step: tuple[object, ...], seen: set[tuple[object, object]]) -> None:
    kind, *rest = step
    if kind == "run":
        name, numbers = rest
        assert isinstance(numbers, list)
        result = searches.run(db, str(name), answering(numbers))
        assert result.identified == len(set(numbers)) >= result.new + result.merged
        seen |= {(name, n) for n in numbers}
        return
    with db.writing() as connection:
        known = connection.execute(select(t.harvested.c.openalex, t.harvested.c.id))
        ids = {row.openalex: row.id for row in known if row.openalex}
        chosen = [ids.get(f"W{n}", 0) for n in rest if isinstance(n, int)]
        try:
            if kind == "decide":
                _, who, stage, decision = rest
                reason = "other" if decision == "exclude" else ""
                screening.decide(connection, staff[str(who)], chosen[0], str(stage), str(decision), reason)
            elif kind == "merge":
                duplicates.merge(connection, *chosen, staff["editor"])  # type: ignore[call-arg, misc]
            elif kind == "separate":
                duplicates.separate(connection, chosen[0], staff["editor"])
        except UsageError:
            return
    if kind == "publish" and rest[0] not in (1, 8, 9):
        with contextlib.suppress(UsageError):  # it is public as it is
            number = rest[0]
            publish(db, staff["contributor"], staff["reviewer"], work(f"w-{number}", doi=f"10.1234/{number}"))


def test_each_item_is_reported(db: Database, staff: dict[str, Person]) -> None:
    reviewer, editor = staff["reviewer"], staff["editor"]
    with db.writing() as connection:
        searches.save(connection, reviewer, "cites CheXpert", "openalex", "cites:W9000000001", 7)
    searches.run(db, "cites CheXpert", cassette(CASSETTES / "t0"))
    publish(db, staff["contributor"], reviewer, dataset("chexpert"))
    with db.writing() as connection:
        freezing.freeze(connection, editor, "v2026.10", "the first one")
    searches.run(db, "cites CheXpert", cassette(CASSETTES / "t1"))
    with db.writing() as connection:
        evil = "a | b <script>alert(1)</script> [x](javascript:alert(1))\n# head"
        searches.save(connection, reviewer, evil, "crossref", "search:a|b", 30)
        searches.retire(connection, reviewer, "cites CheXpert", "moved to *Crossref*")
        first, second = screening.queue(connection, reviewer)[:2]
        screening.decide(connection, reviewer, first.id, "title", "exclude", "not about a dataset")
        screening.decide(connection, reviewer, second.id, "title", "include")
        screening.decide(connection, reviewer, second.id, "fulltext", "include")
    publish(db, staff["contributor"], reviewer, dataset("padchest"))
    with db.writing() as connection:
        freezing.freeze(connection, editor, "v2026.11", "many new works")
    with db.reading() as connection:
        report = prisma.report(connection, "v2026.11", retirement="when nothing came for two years")
        earlier = prisma.report(connection, "v2026.10")
    text = prisma.text(report)
    # L1: what is searched, how often, why now, and the end.
    assert [(one.name, one.every_days, bool(one.last), bool(one.retired)) for one in report.schedules][1] == (
        "cites CheXpert", 7, True, True,
    )  # fmt: skip
    assert "many new works" in text
    assert "when nothing came for two years" in text
    # L2: since the version before.
    assert len(report.methods) == 2
    assert report.methods[1].endswith("search 'cites CheXpert' was retired: moved to *Crossref*")
    # L3
    assert report.results == ("new: dataset padchest",)
    assert report.counts == (("dataset", 2),)
    # L4
    roles = {role.name: role for role in report.roles}
    assert (roles["reviewer one"].screened, roles["reviewer one"].decided, roles["editor one"].released) == (3, 2, 2)
    assert "reader one" not in roles
    # The flow, and that of the version before.
    flow, before = report.flow, report.flow_before
    assert before == earlier.flow
    assert (flow.identified, flow.merged, flow.screened) == (6, 1, 5)
    assert (flow.excluded, flow.included, flow.pending) == (1, 1, 3)
    assert before is not None
    assert (before.identified, before.screened, before.pending) == (4, 4, 4)
    assert flow.excluded_title == (("not about a dataset", 1),)
    # The version before was reported as it was: its search ran on, nothing was excluded, no method had changed.
    assert (earlier.previous, earlier.schedules[1].retired, len(earlier.methods)) == (None, None, 1)
    # What people typed is text.
    assert "<script>" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (4, 7) for line in tables)
    assert not [line for line in text.splitlines() if line.startswith("# ")][1:]


def test_markdown_is_what_a_reader_of_markdown_sees(db: Database) -> None:
    """markdown-it renders the report: six headings, tables, no link and no HTML of anybody's."""
    from markdown_it import MarkdownIt

    staff = hire(db)
    with db.writing() as connection:
        name = "<b>bold</b> & [l](http://x) `c` *e* | p"
        searches.save(connection, staff["reviewer"], name, "openalex", "search:x")
        people.add(connection, "no_body_", "reviewer")
    with db.reading() as connection:
        text = prisma.text(prisma.report(connection, why="because *this*"))
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert page.count("<h2>") == 5
    assert "<td>&lt;b&gt;bold&lt;/b&gt; &amp; [l](http://x) `c` *e* | p</td>" in page
    assert "<a " not in page
    assert "<em>" not in page
    assert "First" not in page
