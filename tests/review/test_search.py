"""Search: one grammar, and the same sets on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from made_reviews import artifact, dataset, hire, publish, work

from medaudit.errors import UsageError
from medaudit.review import database, freezing, grammar, search, seed, start, words, workflow
from medaudit.review import tables as t
from medaudit.review.database import Database, Deadline
from medaudit.review.grammar import Condition, Item, Words

NAMES = [
    "chexpert",
    "ChestX-ray14",
    "chest x-ray",
    "isic",
    "ham10000",
    "fitzpatrick",
    "padchest",
    "mimic",
    "ddi",
    "ph2",
]
TOPICS = """skin tone; sex; ruler; ink; duplicates; leakage; pneumothorax; drain; underdiagnosis; race;
segmentation masks; labels; patients; hospital; melanoma; fundus; annotations; datasheet""".replace("\n", " ").split(
    "; "
)
FILTERS = """kind:dataset; kind:artifact; kind:work; type:shortcut; type:bias; severity:critical; modality:CR;
modality:DMS; access:open; year:2018..2020; year:>=2023; has:shortcut; has:warning; curated:yes; licence:non-commercial;
dataset:chexpert""".replace("\n", " ").split("; ")
ODD = [
    *"""segment*|annot*|"skin tone"|"tone skin"|x-ray|X-Ray14|Müller|müller|10.1609/aaai|2105.03020|-kind:work chest|17k
severity:critical OR severity:major|chest -pneumothorax kind:artifact|a|ß|dataset's|M&Ms|naïve café|sex OR age OR race
"chest drain" type:shortcut|*|()|%|_|x' OR 1=1 --|'; DROP TABLE entity; --|NEAR(a b)|col:|AND|NOT chest|^chest|{tokens}
two\\slashes|chest*|"deep learning"|dermoscop*|"test set" -kind:work|label|labelled""".replace("\n", "|").split("|")
]
GOLDEN = list(dict.fromkeys([
    *NAMES, *TOPICS, *FILTERS, *ODD,
    *(f"{topic} {filter_}" for topic in TOPICS[:10] for filter_ in FILTERS[:6]),
    *(f"{name} {topic}" for name in NAMES[:7] for topic in TOPICS[:10]),
]))  # fmt: skip


def hits(db: Database, query: str) -> list[str]:
    with db.reading() as connection:
        return [f"{hit.kind}:{hit.slug}" for hit in search.search(connection, query, limit=500).hits]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = database.connect(tmp_path_factory.mktemp("search") / "r.sqlite", create=True)
    start.plant(opened, seed.read())
    yield opened
    opened.close()


def test_there_are_two_hundred_golden_queries():
    assert len(GOLDEN) >= 200


def test_both_databases_find_the_same_in_the_same_order(planted, postgres):
    other = database.connect(postgres(), create=True)
    start.plant(other, seed.read())
    found = empty = 0
    for query in GOLDEN:
        try:
            expected = hits(planted, query)
        except UsageError as error:
            with pytest.raises(UsageError, match=str(error)[:20].replace("*", r"\*").replace("(", r"\(")):
                hits(other, query)
            continue
        assert hits(other, query) == expected, query
        found += bool(expected)
        empty += not expected
        with planted.reading() as one, other.reading() as two:
            assert search.search(one, query, facets=True).facets == search.search(two, query, facets=True).facets, query
    assert found > 120
    assert empty > 10
    other.close()


def test_words_are_found_as_sqlite_s_own_porter_index_finds_them(planted):
    """The sets of single words against an index of FTS5's own stemmer over the same texts."""
    raw = sqlite3.connect(":memory:")
    raw.execute("CREATE VIRTUAL TABLE peer USING fts5(body, tokenize = 'porter unicode61')")
    from medaudit.review.projection import _document, _words_of_datasets

    with planted.reading() as connection:
        from medaudit.review import views

        ids = {(row.kind, row.slug): row.id for row in connection.execute(t.entity.select())}
        about = _words_of_datasets(connection, list(ids.values()))
        for record in views.records(connection):
            key = ids[(record.kind, record.slug)]
            texts = []

            def kept(text: str, into: list[str] = texts) -> list[str]:
                into.append(text)
                return []

            original, words.stems = words.stems, kept
            try:
                _document(key, record, about.get(key, []))
            finally:
                words.stems = original
            raw.execute("INSERT INTO peer (rowid, body) VALUES (?, ?)", (key, " ".join(texts)))
    slugs = {value: f"{kind}:{slug}" for (kind, slug), value in ids.items()}
    for word in (
        "labels",
        "segmentation",
        "annotated",
        "duplicates",
        "images",
        "hospitals",
        "training",
        "patient",
        "lesions",
    ):
        peer = {slugs[row[0]] for row in raw.execute("SELECT rowid FROM peer WHERE peer MATCH ?", (f'"{word}"',))}
        assert peer
        assert peer <= set(hits(planted, word)), word  # ours also finds the word inside names
    raw.close()


@pytest.mark.parametrize(
    ("query", "first"),
    [("chexpert", "dataset:chexpert"), ("CheXpert-v1.0", None), ("ham10000", "dataset:ham10000"),
     ("chest x-ray 14", "dataset:chestx-ray14"), ("nih", None), ("fitzpatrick17k", "dataset:fitzpatrick17k"),
     ("PAD UFES 20", "dataset:pad-ufes-20"), ("isic 2018", "dataset:isic-2018"), ("ddi", "dataset:ddi"),
     ("chest x-ray shortcut", "artifact:")],
)  # fmt: skip
def test_what_is_meant_comes_first(planted, query, first):
    found = hits(planted, query)
    assert found
    assert first is None or found[0].startswith(first)


def test_a_typing_error_is_told_what_it_may_mean(planted):
    with planted.reading() as connection:
        assert search.search(connection, "chexprt").perhaps[0] == "CheXpert"
        assert search.search(connection, "hma10000").perhaps[0] == "HAM10000"


@pytest.mark.parametrize(
    ("query", "items"),
    [
        ("chest  labels", (Item((Words(("chest",), False, "chest"),)), Item((Words(("label",), False, "labels"),)))),
        ("segm*", (Item((Words(("segm",), True, "segm"),)),)),
        ('-"skin tone"', (Item((Words(("skin", "tone"), False, "skintone"),), True),)),
        ("modality:us OR task:Segmentation",
         (Item((Condition("modality", "US"), Condition("task", "segmentation"))),)),
        ("year:2018..", (Item((Condition("year", "2018..", 2018, None),)),)),
        ("year:<2018", (Item((Condition("year", "<2018", None, 2017),)),)),
        ("", ()),
    ],
)  # fmt: skip
def test_the_grammar(query, items):
    assert grammar.parse(query) == items


@pytest.mark.parametrize(
    ("query", "said"),
    [("OR a", "OR stands between"), ("a OR", "OR stands between"), ("a OR OR b", "OR stands between"),
     ('"a', "not closed"), ("color:red", "no field is called 'color'"), ("year:soon", "expected a number"),
     ("type:rumour", "expected one of"), ("kind:", "needs a value"), ("-a OR b", "cannot join"),
     ("x" * 401, "at most 400"), ("a " * 30, "at most 24")],
)  # fmt: skip
def test_a_query_that_cannot_be_read_says_why(query, said):
    with pytest.raises(UsageError, match=said):
        grammar.parse(query)


def test_facets_count_what_a_narrower_search_finds(planted):
    with planted.reading() as connection:
        for query in ("", "chest", "kind:dataset", "skin"):
            results = search.search(connection, query, facets=True, limit=1)
            for facet in results.facets:
                if facet.name in ("year", "numbers of"):
                    continue  # a year is also an artifact's; `has` also reads types of artifacts
                for value, n, narrower in facet.values:
                    assert search.search(connection, f"{query} {narrower}", limit=1).total == n, (
                        query,
                        facet.name,
                        value,
                    )


def test_the_index_follows_every_change(db, staff):
    publish(
        db,
        staff["contributor"],
        staff["reviewer"],
        dataset("a", name="Alpha", anatomy=["chest"]),
        work("w", title="Zebra"),
    )
    publish(db, staff["contributor"], staff["reviewer"], artifact("x", "a", title="Something odd"))
    assert hits(db, "odd chest") == ["artifact:x"]
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="Omega", anatomy=["skin"]))
    assert hits(db, "alpha") == []
    assert hits(db, "omega") == [
        "dataset:a",
        "artifact:x",
    ]  # an artifact is found by its dataset's words, as they are now
    assert hits(db, "odd chest") == []
    assert hits(db, "odd skin") == ["artifact:x"]
    with db.writing() as connection:
        number = workflow.propose(connection, staff["contributor"], "t", [workflow.Change("work", "w", 1)])
        workflow.accept(connection, staff["editor"], number)
    assert hits(db, "zebra") == []
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", "")


def test_a_question_that_takes_too_long_is_given_up_on_both(db, postgres):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    other = database.connect(postgres(), create=True)
    for one in (db, other):
        with pytest.raises(Deadline), one.reading(0.2) as connection:
            connection.exec_driver_sql(endless)
        with one.reading() as connection:  # and the connection is good again
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    other.close()


def test_the_tables_go_up_and_down_and_are_those_of_the_code_on_both(tmp_path, postgres):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import inspect

    for where in (tmp_path / "m.sqlite", postgres()):
        one = database.connect(where, create=True)
        with one.engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), t.metadata)
        left = [step for step in differences if "search_" not in str(step) and "vector" not in str(step)]
        assert left == []
        database.migrate(one, "base")
        assert set(inspect(one.engine).get_table_names()) == {"alembic_version"}
        database.migrate(one)
        staff = hire(one)
        publish(one, staff["contributor"], staff["reviewer"], dataset("a"))
        assert hits(one, "a") == ["dataset:a"]
        one.close()
