"""The one way to what is public: a model of it, checked against the real one over random histories."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from made_reviews import artifact, dataset, hire, publish, work
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from medaudit.errors import DataError, UsageError
from medaudit.review import database, freezing, log, people, releases, views, workflow
from medaudit.review import tables as t
from medaudit.review.records import parse
from medaudit.review.workflow import Change, Conflict

ROLES = (*people.ROLES, "second", "chief")


def public(db: database.Database) -> dict[tuple[str, str], str | None]:
    with db.reading() as connection:
        return releases.state_of(connection, None)


def dump_of_public(path: Path) -> str:
    """Every row of every table that pages read, as SQLite itself gives them."""
    tables = ("entity", "revision", "dataset", "name", "identifier", "term", "licence", "work", "author", "artifact",
              "relation", "claim", "document", "search_words", "search_names", "counter")  # fmt: skip
    with closing(sqlite3.connect(path)) as raw:
        return json.dumps([raw.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() if name not in
                           ("search_names",) else raw.execute(f"SELECT rowid, * FROM {name}").fetchall()
                           for name in tables])  # fmt: skip


class Moderation(RuleBasedStateMachine):
    """What should be public is kept in a dictionary; nothing but an acceptance by a second person changes it."""

    open_ones: Bundle[int] = Bundle("open_ones")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.db = database.connect(Path(self.folder.name) / "r.sqlite", create=True)
        self.staff = hire(self.db)
        self.public: dict[str, tuple[int, str]] = {}
        self.proposed: dict[int, tuple[str, str, int, str]] = {}
        self.released: dict[str, dict[str, str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    @rule(target=open_ones, who=st.sampled_from(ROLES), slug=st.sampled_from(["a", "b", "c"]),
          name=st.text("xyz", min_size=1, max_size=3))  # fmt: skip
    def propose(self, who: str, slug: str, name: str):  # type: ignore[no-untyped-def]
        base = self.public.get(slug, (0, ""))[0]
        person = self.staff[who]
        change = Change("dataset", slug, base, dataset(slug, name=name))
        try:
            with self.db.writing() as connection:
                number = workflow.propose(connection, person, "t", [change])
        except people.Forbidden:
            assert person.role == "reader"
            return multiple()
        assert person.role != "reader"
        self.proposed[number] = (slug, name, base, person.name)
        return number

    @rule(number=open_ones, who=st.sampled_from(ROLES))
    def accept(self, number: int, who: str) -> None:
        person = self.staff[who]
        slug, name, base, author = self.proposed.get(number, ("", "", 0, ""))
        try:
            with self.db.writing() as connection:
                workflow.accept(connection, person, number)
        except people.Forbidden:
            assert person.role in ("reader", "bot", "contributor") or person.name == author
        except UsageError:
            assert number not in self.proposed
        except Conflict:
            assert base != self.public.get(slug, (0, ""))[0]
        else:
            assert person.role in ("reviewer", "editor", "admin")
            assert person.name != author
            assert base == self.public.get(slug, (0, ""))[0]
            self.public[slug] = (base + 1, name)
            del self.proposed[number]

    @rule(number=open_ones, who=st.sampled_from(ROLES), how=st.sampled_from(["reject", "withdraw"]))
    def end(self, number: int, who: str, how: str) -> None:
        person = self.staff[who]
        try:
            with self.db.writing() as connection:
                if how == "reject":
                    workflow.reject(connection, person, number, "spam")
                else:
                    workflow.withdraw(connection, person, number)
            done = True
        except (people.Forbidden, UsageError):
            done = False
        author = self.proposed.get(number, ("", "", 0, ""))[3]
        mine = person.name == author and person.may("withdraw")
        theirs = person.name != author and person.may("review")
        assert done == (number in self.proposed and (mine if how == "withdraw" else theirs))
        if done:
            del self.proposed[number]

    @rule(version=st.integers(1, 3))
    def release(self, version: int) -> None:
        name = f"v2026.0{version}"
        with self.db.writing() as connection:
            if name in self.released:
                with pytest.raises(UsageError, match="for ever"):
                    freezing.freeze(connection, self.staff["editor"], name, "")
            else:
                freezing.freeze(connection, self.staff["editor"], name, "")
                self.released[name] = {slug: name_ for slug, (_, name_) in self.public.items()}

    @rule(version=st.integers(1, 3))
    def restore(self, version: int) -> None:
        name = f"v2026.0{version}"
        if name not in self.released:
            return
        with self.db.writing() as connection:
            number = releases.restore(connection, self.staff["editor"], name)
            if number is not None:
                workflow.accept(connection, self.staff["chief"], number)
        shown = {slug: json.loads(record or "{}")["name"] for (_, slug), record in public(self.db).items()}
        assert shown == self.released[name]
        with self.db.reading() as connection:
            rows = connection.execute(select(t.entity.c.slug, t.entity.c.rev, t.entity.c.title, t.entity.c.status))
            self.public = {row.slug: (row.rev, row.title if row.status == "public" else "") for row in rows}

    @invariant()
    def what_is_public_is_what_was_accepted(self) -> None:
        if not hasattr(self, "db"):
            return
        shown = {slug: json.loads(record or "{}")["name"] for (_, slug), record in public(self.db).items()}
        assert shown == {slug: name for slug, (_, name) in self.public.items() if name}
        with self.db.reading() as connection:
            assert log.verify(connection) == []
            self_accepted = select(t.contribution.c.id).where(
                t.contribution.c.state == "accepted", t.contribution.c.decided_by == t.contribution.c.author_id
            )
            assert connection.execute(self_accepted).all() == []


TestModeration = Moderation.TestCase
TestModeration.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def test_what_was_refused_or_taken_back_leaves_every_public_row_as_it_was(tmp_path, db, staff):
    publish(db, staff["contributor"], staff["reviewer"], work("w"), dataset("a", produced_by=["w"]), artifact("x", "a"))
    before = dump_of_public(tmp_path / "review.sqlite")
    with db.writing() as connection:
        for how in ("reject", "withdraw", "changes"):
            number = workflow.propose(
                connection, staff["contributor"], how, workflow.putting(connection, [dataset("a", name="Spam")])
            )
            if how == "reject":
                workflow.reject(connection, staff["reviewer"], number, "spam", "no")
            elif how == "withdraw":
                workflow.withdraw(connection, staff["contributor"], number)
            else:
                workflow.request_changes(connection, staff["reviewer"], number, "name your source")
    assert dump_of_public(tmp_path / "review.sqlite") == before


def test_edit_and_back_shows_the_same_record_and_keeps_both_revisions(db, staff):
    first = dataset("a", name="First", year=2019)
    publish(db, staff["contributor"], staff["reviewer"], first)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="Second", access="open"))
    publish(db, staff["contributor"], staff["reviewer"], first)
    with db.reading() as connection:
        assert views.shown(connection, "dataset", "a").record == first
        history = workflow.history(connection, "dataset", "a")
    assert [entry[0] for entry in history] == [3, 2, 1]
    second = {(step.op, step.path): (step.old, step.new) for step in history[1][4]}
    assert second == {("replace", "/name"): ("First", "Second"), ("remove", "/year"): (2019, None),
                      ("add", "/access"): (None, "open")}  # fmt: skip


def test_of_two_edits_over_one_revision_the_second_is_told_base_theirs_and_ours(db, staff):
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="Base", year=2019))
    with db.writing() as connection:
        one, two = (
            workflow.propose(
                connection, staff[who], "t", [Change("dataset", "a", 1, dataset("a", name=name, year=2019))]
            )
            for who, name in (("contributor", "Theirs"), ("bot", "Ours"))
        )
        workflow.accept(connection, staff["reviewer"], one)
    with pytest.raises(Conflict) as caught, db.writing() as connection:
        workflow.accept(connection, staff["reviewer"], two)
    assert caught.value.differences == {
        "dataset:a": [{"field": "name", "base": "Base", "theirs": "Theirs", "ours": "Ours"}]
    }
    with db.reading() as connection:
        assert workflow.contribution(connection, two).state == "submitted"


def test_a_merged_record_points_to_its_heir_and_a_retired_one_is_gone_but_not_deleted(db, staff):
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"), dataset("a-copy"), dataset("b"))
    with db.writing() as connection:
        number = workflow.propose(
            connection,
            staff["contributor"],
            "merge",
            [Change("dataset", "a-copy", 1, None, "a"), Change("dataset", "b", 1)],
        )
    with pytest.raises(people.Forbidden, match="retire"), db.writing() as connection:
        workflow.accept(connection, staff["reviewer"], number)
    with db.writing() as connection:
        workflow.accept(connection, staff["editor"], number)
    with db.reading() as connection:
        assert views.shown(connection, "dataset", "a-copy").moved_to.slug == "a"
        assert views.resolve(connection, "a-copy") == ["a"]
        assert views.dataset(connection, "b") is None
        assert [entry[0] for entry in workflow.history(connection, "dataset", "b")] == [2, 1]
        assert log.verify(connection) == []


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([artifact("x", "nowhere")], "'x' refers to dataset 'nowhere'"),
        ([dataset("a", produced_by=["nobody"])], "'a' refers to work 'nobody'"),
        ([dataset("a"), dataset("a", name="Other")], "names one record twice"),
        ([], "needs a title and a change"),
    ],
)
def test_a_proposal_that_cannot_be_put_is_refused_at_once(db, staff, records, said):
    with pytest.raises((DataError, UsageError), match=said), db.writing() as connection:
        workflow.propose(connection, staff["contributor"], "t", [Change(r.kind, r.slug, 0, r) for r in records])


def test_the_same_request_sent_twice_is_one_contribution(db, staff):
    numbers = set()
    for _ in range(2):
        with db.writing() as connection:
            change = [Change("dataset", "a", 0, dataset("a"))]
            numbers.add(workflow.propose(connection, staff["bot"], "t", change, request_key="k1"))
    assert len(numbers) == 1


def test_the_database_itself_refuses_an_author_as_their_own_second_person(db, staff):
    with db.writing() as connection:
        number = workflow.propose(connection, staff["admin"], "t", [Change("dataset", "a", 0, dataset("a"))])
    for decided_by in (staff["admin"].id, None):
        with pytest.raises(DBAPIError), db.engine.begin() as connection:
            connection.execute(
                t.contribution.update()
                .where(t.contribution.c.id == number)
                .values(state="accepted", decided_by=decided_by)
            )


@pytest.mark.parametrize("table", ["audit", "revision", "release", "release_entry"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid"])
def test_what_is_written_once_cannot_be_changed_or_deleted(db, staff, table, statement):
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"))
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", "")
    with pytest.raises(DBAPIError, match="written once"), db.engine.begin() as connection:
        connection.execute(text(statement.format(table)))


def tampered(path: Path, sql: str, *values: object) -> None:
    """Change the file as somebody could who has it: without the guards."""
    with closing(sqlite3.connect(path)) as raw, raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute(sql, values)


def test_any_flipped_byte_of_the_log_or_the_history_is_located(tmp_path, db, staff):
    path = tmp_path / "review.sqlite"
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"), dataset("b"))
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="Other"))
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", "why")
    db.close()
    intact = path.read_bytes()
    with closing(sqlite3.connect(path)) as raw:
        entries = raw.execute("SELECT seq, at, actor, action, target, body, previous, hash FROM audit").fetchall()
    for entry in entries:
        for column, value in zip(
            ("at", "actor", "action", "target", "body", "previous", "hash"), entry[1:], strict=True
        ):
            path.write_bytes(intact)
            flipped = chr(ord(value[0]) ^ 1) + value[1:]
            tampered(path, f"UPDATE audit SET {column} = ? WHERE seq = ?", flipped, entry[0])
            with db.reading() as connection:
                said = log.verify(connection)
            assert any(one.startswith(f"entry {entry[0]}:") for one in said), (entry[0], column, said)
            db.close()
    for sql, said in (
        ("DELETE FROM audit WHERE seq = 3", "entry 3: is missing"),
        ("UPDATE revision SET record = replace(record, 'Other', 'Othes') WHERE rev = 2", "dataset 'a', revision 2"),
        ("DELETE FROM revision WHERE rev = 2", "was accepted and is gone"),
        ("UPDATE entity SET rev = 1 WHERE slug = 'a'", "dataset 'a': shows revision 1"),
        ("DELETE FROM release_entry WHERE entity_id = 2", "release v2026.01: is not what was frozen"),
    ):
        path.write_bytes(intact)
        tampered(path, sql)
        with db.reading() as connection:
            found = log.verify(connection)
        assert any(said in one for one in found), (sql, found)
        db.close()


def test_a_flood_of_spam_changes_nothing_public_and_one_call_rejects_it(tmp_path, db, staff):
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"))
    before = dump_of_public(tmp_path / "review.sqlite")
    accepted = 0
    with db.writing() as connection:
        for n in range(25):
            spammer = people.add(connection, f"new {n}", "contributor")
            for m in range(200):
                change = [Change("dataset", "a", 1, dataset("a", name=f"casino {n} {m}"))]
                workflow.propose(connection, spammer, "buy", change)
                accepted += 1
            with pytest.raises(workflow.TooMany):
                workflow.propose(connection, spammer, "buy", change)
    assert accepted == 5_000
    with db.writing() as connection:
        numbers = connection.scalars(select(t.contribution.c.id).where(t.contribution.c.state == "submitted")).all()
        for number in numbers:
            workflow.reject(connection, staff["second"], number, "spam")
    with db.reading() as connection:
        assert log.verify(connection) == []
    assert dump_of_public(tmp_path / "review.sqlite") == before


def test_everything_deleted_comes_back_with_one_command(db, staff):
    records = [work("w"), dataset("a", produced_by=["w"]), dataset("b"), artifact("x", "a", "b")]
    publish(db, staff["contributor"], staff["reviewer"], *records)
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", "")
    before = public(db)
    with db.writing() as connection:
        gone = [Change(r.kind, r.slug, 1) for r in records] + [Change("dataset", "z", 0, dataset("z"))]
        number = workflow.propose(connection, staff["editor"], "vandalism", gone)
        workflow.accept(connection, staff["chief"], number)
    assert list(public(db)) == [("dataset", "z")]
    with db.writing() as connection:
        number = releases.restore(connection, staff["editor"], "v2026.01")
        workflow.accept(connection, staff["chief"], number)
    assert public(db) == before
    with db.reading() as connection:
        assert views.dataset(connection, "a").artifacts[0].reference.slug == "x"
        assert {one.what for one in releases.compare(connection, "v2026.01", None)} == set()


def test_the_figure_of_the_paper_has_its_nodes_and_edges(db, staff):
    from medaudit.review import graph, seed, start

    records = start.profile(seed.read(), "paper-figure")
    publish(db, staff["contributor"], staff["reviewer"], *records)
    with db.reading() as connection:
        found = graph.around(connection, "dataset", "chexpert", verbs=("PRODUCE", "INTRODUCE", "EXTEND", "USE"))
    names = {node.id: node for node in found.nodes}
    edges = sorted((names[e.subject].slug, e.verb, names[e.object].slug) for e in found.edges)
    golden = json.loads((Path(__file__).parent / "chexpert_figure.json").read_text())
    assert edges == [tuple(edge) for edge in golden["edges"]]
    assert {node.slug: node.box for node in found.nodes} == golden["boxes"]


def test_a_record_that_is_not_plain_is_refused():
    with pytest.raises(DataError, match="kind"):
        parse({"kind": ["dataset"]})


def test_claims_that_cannot_both_be_right_are_marked_and_a_rounded_one_is_not():
    """The conflicts between two public lists (spec 4.3), and what is one number written shorter."""
    from medaudit.review.quantities import disagree

    for one, other in ((780, 647), (327_680, "295k"), (331, "10.6k"), (2018, "NA"), (81, 516), (81_722, 401_059),
                       ("PAD-UFES-20", "PED-UFES-20"), (1_751, "1.7k"), (1_649, "1.7k")):  # fmt: skip
        assert disagree(one, other), (one, other)
        assert disagree(other, one)
    for one, other in ((1_748, "1.7k"), (1_334, "1.3k"), (1_650, "1.7k"), (1_750, "1.7k"), (88_702, "88.7k"),
                       (0.5, 0.5), (10_616, "10.6k"), (1_200_000, "1.2M"), ("a ", "A")):  # fmt: skip
        assert not disagree(one, other), (one, other)


def test_the_seed_s_conflicts_are_kept_side_by_side_and_marked(db):
    from medaudit.review import seed, start

    start.plant(db, seed.read())
    with db.reading() as connection:
        rows = connection.execute(
            select(t.entity.c.slug, t.claim.c.value, t.claim.c.disputed)
            .join(t.entity, t.entity.c.id == t.claim.c.entity_id)
            .where(t.claim.c.field.in_(("images", "slides")), t.claim.c.version == "")
        ).all()
    told: dict[str, list[tuple[object, bool]]] = {}
    for row in rows:
        told.setdefault(row.slug, []).append((json.loads(row.value), bool(row.disputed)))
    for slug in ("busi", "panda", "pcam", "idrid", "isic-2024", "breakhis"):
        assert len({value for value, _ in told[slug]}) > 1
        assert any(disputed for _, disputed in told[slug]), slug
    for slug in ("messidor-2", "hc18", "rfmid", "eyepacs"):
        assert len(told[slug]) > 1
        assert not any(disputed for _, disputed in told[slug]), slug


def test_a_set_with_a_laxer_licence_than_what_it_is_made_from_is_warned_of(db, staff):
    strict = dataset("strict", licences=[{"spdx": "CC-BY-NC-4.0"}])
    for slug, spdx in (("lax", "CC-BY-4.0"), ("same", "CC-BY-NC-4.0"), ("unsaid", None)):
        licences = [{"spdx": spdx}] if spdx else []
        made = dataset(slug, licences=licences, links=[{"relation": "DERIVED_FROM", "to": "strict"}])
        publish(db, staff["contributor"], staff["reviewer"], strict, made)
    with db.reading() as connection:
        warned = {slug: [w.text for w in views.dataset(connection, slug).warnings if w.kind == "licence"]
                  for slug in ("strict", "lax", "same", "unsaid")}  # fmt: skip
    assert [slug for slug, texts in warned.items() if texts] == ["lax"]
    assert "keep to the stricter" in warned["lax"][0]


def test_an_old_release_is_exported_as_it_was(db, staff):
    from medaudit.review import exports

    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="First"))
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", "")
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="Second"), dataset("b"))
    with db.reading() as connection:
        then = json.loads(exports.text(connection, "json", [], "v2026.01"))
        now = json.loads(exports.text(connection, "json", []))
    assert [one["name"] for one in then] == ["First"]
    assert [one["name"] for one in now] == ["Second", "B"]
