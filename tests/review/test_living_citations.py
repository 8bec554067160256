"""Citations in bulk, exactly; beside them, and never as one, what is known of use; and a graph to try it on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import numpy as np
import polars as pl
import pytest
from made_reviews import dataset, hire, publish, work
from sqlalchemy import func, select

from medaudit.errors import DataError, UsageError
from medaudit.review import database
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.living import citations, duplicates, harvested, prisma, searches
from medaudit.review.living.citations import Loaded, counts, load, pairs_of, simulate
from medaudit.review.living.transports import Bulk


def edges(db: Database) -> set[tuple[str, str]]:
    citing, cited = t.harvested.alias(), t.harvested.alias()
    with db.reading() as connection:
        rows = connection.execute(
            select(
                func.coalesce(citing.c.doi, citing.c.openalex).label("a"),
                func.coalesce(cited.c.doi, cited.c.openalex).label("b"),
            )
            .join(t.cites, t.cites.c.citing_id == citing.c.id)
            .join(cited, cited.c.id == t.cites.c.cited_id)
        )
        return {(row.a, row.b) for row in rows}


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    where = tmp_path / "r.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres")()
    opened = database.connect(where, create=True)
    yield opened
    opened.close()


def test_pairs_are_loaded_once_in_any_spelling(both: Database) -> None:
    pairs = [
        ("https://doi.org/10.1234/A", "10.1234/b"), ("doi:10.1234/a", "10.1234/B"), ("W1", "https://openalex.org/W12"),
        ("W1", "W1"), ("None", "W1"), ("10.1234/a", ""), ("W123", "W1"),
    ]  # fmt: skip
    assert load(both, pairs, name="x", batch=2) == Loaded(7, 3, 2)
    assert edges(both) == {("10.1234/a", "10.1234/b"), ("W1", "W12"), ("W123", "W1")}
    assert load(both, pairs, name="x") == Loaded(7, 0, 0)  # an ended load is not repeated
    assert load(both, pairs, name="y").new == 0
    with both.reading() as connection:
        assert searches.listed(connection, retired=True) == []  # a load is no search
        assert prisma.flow(connection).identified == 0  # and what it enters is not screened


def test_a_load_that_was_cut_off_goes_on(db: Database) -> None:
    pairs = [(f"W{n}", f"W{n + 1}") for n in range(1, 101)]

    def breaking() -> Iterator[tuple[str, str]]:
        yield from pairs[:55]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(db, breaking(), name="x", batch=10)
    assert len(edges(db)) == 50
    read: list[int] = []
    done = load(db, (read.append(n) or pair for n, pair in enumerate(pairs)), name="x", batch=10)  # type: ignore[func-returns-value]
    assert (done.read, done.new) == (100, 50)
    assert len(edges(db)) == 100


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_of_pairs(form: str, tmp_path: Path) -> None:
    db = database.connect(tmp_path / "r.sqlite", create=True)
    frame = pl.DataFrame({"citing": ["10.1234/a", "10.1234/b"], "cited": ["10.1234/c", "10.1234/c"]})
    path = tmp_path / f"p.{form}"
    frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
    with pytest.raises(UsageError, match="which two columns"):
        load(db, Bulk((path,)), name="x")
    with pytest.raises(DataError, match="lacks 'from'"):
        load(db, Bulk((path,)), name="y", columns=("from", "to"))
    assert load(db, Bulk((path,), rows=1), name="x", columns=("citing", "cited")).new == 2
    db.close()


def test_only_what_cites_a_known_work(db: Database) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], work("a-2020-b", doi="10.1234/c"))  # public: known
    pairs = [("10.1234/a", "10.1234/c"), ("10.1234/a", "10.1234/d"), ("10.1234/c", "10.1234/e")]
    load(db, pairs, name="x", known_only=True)
    assert edges(db) == {("10.1234/a", "10.1234/c")}


def test_a_citation_is_no_use(both: Database) -> None:
    """Counted by hand: seven works that have to do with a dataset, one in each way."""
    staff = hire(both)
    publish(
        both, staff["contributor"], staff["reviewer"],
        work("paper", doi="10.1234/paper"), work("other", doi="10.1234/other"),
        dataset("d", produced_by=["paper"]), dataset("e", produced_by=["other"]),
        work("cites-and-mentions", doi="10.1234/1", uses=[{"dataset": "d", "evidence": "mentioned"}]),
        work("mentions", doi="10.1234/2", uses=[{"dataset": "d", "evidence": "mentioned"}]),
        work("by-hand", doi="10.1234/3", uses=[{"dataset": "d", "evidence": "manual"}]),
        work("said-to-cite", doi="10.1234/4", uses=[{"dataset": "d", "evidence": "cited"}]),
        work("availability", doi="10.1234/5", uses=[{"dataset": "d", "evidence": "data availability"}]),
    )  # fmt: skip
    with both.writing() as connection:
        harvested.enter_public(connection)
    pairs = [(f"10.1234/{n}", "10.1234/paper") for n in (1, 5, 6, 7)] + [("10.1234/6", "10.1234/other")]
    load(both, pairs, name="x")
    with both.reading() as connection:
        d, e = counts(connection)
        assert d.dataset == "d"
        assert d.by_evidence == (("mentioned", 1), ("cited and mentioned", 1), ("data availability", 1), ("manual", 1))
        assert (d.uses, d.citations, d.cited_only) == (
            4,
            5,
            3,
        )  # 1, 5, 6, 7 and the one that says so; 6, 7 and that one
        assert (e.dataset, e.uses, e.citations, e.cited_only) == ("e", 0, 1, 1)
        with pytest.raises(UsageError, match="no dataset 'f'"):
            counts(connection, ["f"])
    with both.writing() as connection:  # 6 and 7 are one work: it is counted once
        ids = {row.doi: row.id for row in connection.execute(select(t.harvested.c.doi, t.harvested.c.id))}
        duplicates.merge(connection, ids["10.1234/6"], ids["10.1234/7"], staff["reviewer"])
        (d,) = counts(connection, ["d"])
        assert (d.citations, d.cited_only) == (4, 2)


def test_the_graph_is_the_same_for_the_same_seed() -> None:
    first, again, other = simulate(3_000, seed=1), simulate(3_000, seed=1), simulate(3_000, seed=2)
    assert all(
        np.array_equal(getattr(first, name), getattr(again, name)) for name in ("citing", "cited", "user", "used")
    )
    assert not np.array_equal(first.citing, other.citing)
    with pytest.raises(UsageError):
        simulate(5)


def test_the_graph_is_as_the_literature_s() -> None:
    graph = simulate(40_000, datasets=500, seed=3)
    assert (graph.cited < graph.citing).all()
    assert len(np.unique(graph.citing * graph.works + graph.cited)) == len(graph.citing)
    assert 9 < len(graph.citing) / graph.works < 13
    shares = np.bincount(graph.evidence, minlength=3) / len(graph.evidence)
    assert np.allclose(shares, (0.70, 0.25, 0.05), atol=0.01)
    # Zipf: the number of users over the rank, in logarithms, falls by 0.9.
    users = np.sort(np.bincount(graph.used, minlength=500))[::-1][4:200]
    slope = np.polyfit(np.log(np.arange(5, 5 + len(users))), np.log(users), 1)[0]
    assert -1.05 < slope < -0.75
    # Who uses a dataset, but for mentions, cites its paper.
    cites = set(zip(graph.citing.tolist(), graph.cited.tolist(), strict=True))
    wanted = zip(graph.user[graph.evidence != 2], graph.papers[graph.used[graph.evidence != 2]], strict=True)
    assert all((int(a), int(b)) in cites for a, b in itertools.islice(wanted, 5_000))
    network = nx.DiGraph(list(cites))
    assert nx.is_directed_acyclic_graph(network)
    degrees = sorted((d for _, d in network.in_degree()), reverse=True)
    assert degrees[0] > 20 * np.mean(degrees)  # a few are cited by very many
    assert np.mean(np.array(degrees) == 0) > 0.05 or min(degrees) == 0


def test_a_hundred_thousand_citations_are_loaded_as_they_are(db: Database) -> None:
    graph = simulate(9_000, datasets=200, seed=4)
    done = load(db, pairs_of(graph), name="simulated", batch=20_000)
    assert done == Loaded(len(graph.citing), len(graph.citing), 0)
    expected = {(f"W9{a:09d}", f"W9{b:09d}") for a, b in zip(graph.citing.tolist(), graph.cited.tolist(), strict=True)}
    assert edges(db) == expected
    assert citations.EVIDENCE[0] == "cited and mentioned"


def test_a_dataset_s_page_counts_as_the_report_does_merged_works_too(tmp_path: Path) -> None:
    from medaudit.review import views

    db = database.connect(tmp_path / "r.sqlite", create=True)
    staff = hire(db)

    publish(db, staff["contributor"], staff["reviewer"], work("p", doi="10.1000/p"), dataset("d", produced_by=["p"]))
    with db.writing() as connection:
        paper = connection.scalar(select(t.entity.c.id).where(t.entity.c.slug == "p"))
        rows = [
            {"id": n, "key": f"k{n}", "title": "t", "folded": "t", "work_id": None, "merged_into": None}
            for n in range(1, 7)
        ]
        rows[0]["work_id"] = paper
        rows[1]["merged_into"] = 1  # the preprint of the dataset's paper
        rows[3]["merged_into"] = 3  # the preprint of a work that cites it
        connection.execute(t.harvested.insert(), rows)
        pairs = [(3, 1), (4, 1), (5, 2), (6, 6)]
        connection.execute(
            t.cites.insert(), [{"citing_id": a, "cited_id": b, "source": "x", "first_seen": "2026"} for a, b in pairs]
        )
    with db.reading() as connection:
        own = connection.scalar(select(t.entity.c.id).where(t.entity.c.slug == "d"))
        assert views.citations(connection, own) == 2
        assert citations.counts(connection, ["d"])[0].citations == 2
