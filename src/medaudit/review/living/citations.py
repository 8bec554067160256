"""Citations in bulk, and what is known of a dataset's use beside them. A citation is no use, and is never called one.

Sourget et al. (arXiv 2402.03003): more than a quarter of the papers that cite a dataset only cite it, and more than a
tenth of those that use one do not cite it. So classes of evidence are counted side by side.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, func, insert, select, update

from medaudit.errors import DataError, UsageError
from medaudit.review import tables as t
from medaudit.review import vocabulary
from medaudit.review.database import Database, now
from medaudit.review.living import add_new
from medaudit.review.living.harvested import enter_public, link
from medaudit.review.living.providers import doi_of, openalex_of
from medaudit.review.living.transports import Bulk

BATCH = 50_000
_BULK = "citations"
"""How the table of searches calls a load: its cursor says how many pairs are in."""


@dataclass(frozen=True)
class Loaded:
    """What a load brought: pairs read, citations that were new, and pairs without two identifiers."""

    read: int
    new: int
    unreadable: int


@dataclass(frozen=True)
class Counts:
    """How a dataset is known to be referred to, in works.

    ``cited_only``: works that cite a paper of the dataset and are not known to use it, which is no use. ``by_evidence``
    has the works that use it, each in its strongest class. ``citations``: all works that cite it, users or not.
    """

    dataset: str
    citations: int
    cited_only: int
    by_evidence: tuple[tuple[str, int], ...]

    @property
    def uses(self) -> int:
        """How many works are known to use the dataset."""
        return sum(n for _, n in self.by_evidence)


@dataclass(frozen=True)
class Graph:
    """A made-up graph of citations: ``citing[i]`` cites ``cited[i]``, numbers of works in order of time.

    ``papers``: the work that presents each dataset; ``user``, ``used`` and ``evidence``: which work has to do with
    which dataset, and how (index into :data:`EVIDENCE`).
    """

    works: int
    citing: npt.NDArray[np.int64]
    cited: npt.NDArray[np.int64]
    papers: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    used: npt.NDArray[np.int64]
    evidence: npt.NDArray[np.int8]


EVIDENCE = ("cited and mentioned", "cited", "mentioned")


def load(
    database: Database, source: Bulk | Iterable[tuple[str, str]], *, name: str, columns: tuple[str, str] | None = None,
    batch: int = BATCH, known_only: bool = False,
) -> Loaded:  # fmt: skip
    """Load pairs of citing and cited works (DOIs or numbers of OpenAlex) into ``cites``; return what came.

    ``source``: pairs, or files with two ``columns``. ``name`` says where they are from; a load of that name that was
    cut off goes on after the last whole batch, one that ended is not repeated. Works that are not there are entered
    by their identifier, and are not screened; with ``known_only`` pairs whose cited work is unknown are left out.
    Raises UsageError where columns are missing, DataError where a file cannot be read.
    """
    if isinstance(source, Bulk) and columns is None:
        raise UsageError("say which two columns hold the citing and the cited work")
    query, start = _begin(database, name)
    pairs: Iterator[tuple[Any, Any]]
    if isinstance(source, Bulk):
        pairs = _pairs(source, columns or ("", ""), start)
    else:
        pairs = islice(source, start, None)
    read, new, unreadable = start, 0, 0
    while part := list(islice(pairs, batch)):
        named = [(_name(a), _name(b)) for a, b in part]
        good = [(a, b) for a, b in named if a is not None and b is not None and a != b]
        unreadable += sum(a is None or b is None for a, b in named)
        with database.writing() as connection:
            new += _add(connection, good, name, known_only)
            read += len(part)
            moved = connection.execute(
                update(t.query).where(t.query.c.id == query, t.query.c.cursor == str(read - len(part)))
                .values(cursor=str(read))
            )  # fmt: skip
            if moved.rowcount != 1:
                raise UsageError(f"the citations of '{name}' are being loaded elsewhere")
    with database.writing() as connection:
        link(connection)
        connection.execute(update(t.query).where(t.query.c.id == query).values(since=now(), retired=now()))
    return Loaded(read, new, unreadable)


def counts(connection: Connection, datasets: Sequence[str] | None = None) -> list[Counts]:
    """Return what is known of the use of these datasets (slugs), or of all that have any, by slug."""
    query = select(t.entity.c.id, t.entity.c.slug).where(t.entity.c.kind == "dataset", t.entity.c.status == "public")
    if datasets is not None:
        query = query.where(t.entity.c.slug.in_(list(datasets)))
    found = []
    for row in connection.execute(query.order_by(t.entity.c.slug)).all():
        one = _counts(connection, row.id, row.slug)
        if datasets is not None or one.citations or one.uses:
            found.append(one)
    if datasets is not None and (missing := sorted(set(datasets) - {one.dataset for one in found})):
        raise UsageError(f"there is no dataset '{missing[0]}'")
    return found


def simulate(works: int, *, datasets: int = 1_000, references: float = 10.0, uses: float = 1.5, seed: int = 0) -> Graph:
    """Return a graph as the literature's, by spec 4.8, the same for the same seed.

    Works come in order of time. Each cites about ``references`` earlier ones: half of them as often as they are cited
    in what came lately, half by how recent they are. Datasets are used by Zipf's law (exponent 0.9); of the works that
    have to do with one, 5 % only mention it and 25 % only cite it.
    """
    if works < 10 or not 1 <= datasets <= works // 2:
        raise UsageError("a graph needs ten works, and at most one dataset for two works")
    random = np.random.default_rng(seed)
    papers = np.sort(random.choice(works // 2, datasets, replace=False)).astype(np.int64)
    ranks = random.permutation(datasets) + 1
    weight = ranks**-0.9 / np.sum(ranks**-0.9)
    n_uses = random.poisson(uses, works)
    user = np.repeat(np.arange(works, dtype=np.int64), n_uses)
    used = random.choice(datasets, len(user), p=weight).astype(np.int64)
    keep = papers[used] < user  # nobody uses what is not out yet
    pairs = np.unique(np.stack([user[keep], used[keep]], axis=1), axis=0)
    user, used = pairs[:, 0], pairs[:, 1]
    evidence = random.choice(3, len(user), p=(0.70, 0.25, 0.05)).astype(np.int8)
    citing_parts, cited_parts = [user[evidence != 2]], [papers[used[evidence != 2]]]
    lately = np.zeros(0, dtype=np.int64)
    step = max(10, works // 200)
    for start in range(1, works, step):
        block = np.arange(start, min(start + step, works), dtype=np.int64)
        citing = np.repeat(block, random.poisson(references, len(block)))
        lag = np.ceil(random.exponential(max(2.0, 0.15 * start), len(citing))).astype(np.int64)
        cited = np.maximum(citing - lag, 0)
        if len(lately):
            popular = random.random(len(citing)) < 0.5
            cited = np.where(popular, lately[random.integers(0, len(lately), len(citing))], cited)
        citing_parts.append(citing)
        cited_parts.append(cited)
        lately = np.concatenate([lately, cited])[-20 * step * max(1, int(references)) :]
    edges = np.stack([np.concatenate(citing_parts), np.concatenate(cited_parts)], axis=1)
    edges = np.unique(edges[edges[:, 0] > edges[:, 1]], axis=0)
    return Graph(works, edges[:, 0], edges[:, 1], papers, user, used, evidence)


def pairs_of(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the graph's citations as numbers that look like OpenAlex's."""
    for a, b in zip(graph.citing.tolist(), graph.cited.tolist(), strict=True):
        yield f"W9{a:09d}", f"W9{b:09d}"


def _begin(database: Database, name: str) -> tuple[int, int]:
    full = f"{_BULK}: {name}"
    if len(full) > 120:
        full = f"{_BULK}: {hashlib.sha256(name.encode()).hexdigest()}"
    with database.writing() as connection:
        row = connection.execute(select(t.query).where(t.query.c.name == full)).first()
        if row is not None:
            return row.id, int(row.cursor or 0)
        enter_public(connection)  # what is public is known, though no search has run yet
        result = connection.execute(
            insert(t.query).values(name=full, provider=_BULK, expression=name, every_days=3650, cursor="0")
        )
        return int(result.inserted_primary_key[0]), 0  # type: ignore[index]


def _pairs(source: Bulk, columns: tuple[str, str], start: int) -> Iterator[tuple[Any, Any]]:
    for part, _ in source.parts(start):
        for row in part:
            if columns[0] not in row or columns[1] not in row:
                raise DataError(f"{source.paths[0]}: a record lacks '{columns[0]}' or '{columns[1]}'; it has "
                                f"{', '.join(list(row)[:10])}")  # fmt: skip
            yield row[columns[0]], row[columns[1]]


def _name(value: Any) -> str | None:
    number = openalex_of(value)
    doi = doi_of(value) if number is None else None
    return f"openalex:{number}" if number else f"doi:{doi}" if doi and len(doi) <= 296 else None


def _add(connection: Connection, pairs: Sequence[tuple[str, str]], source: str, known_only: bool) -> int:
    ids = _ids(connection, {name for pair in pairs for name in pair})
    wanted = [pair for pair in pairs if not known_only or pair[1] in ids]
    missing = [name for name in dict.fromkeys(name for pair in wanted for name in pair) if name not in ids]
    if missing:
        add_new(connection, t.harvested, [_bare(name) for name in missing])
        ids |= _ids(connection, set(missing))
    at = now()
    rows = dict.fromkeys((ids[a], ids[b]) for a, b in wanted)
    return add_new(
        connection, t.cites,
        [{"citing_id": a, "cited_id": b, "source": source[:20], "first_seen": at} for a, b in rows if a != b],
    )  # fmt: skip


def _bare(name: str) -> dict[str, Any]:
    """Return the row of a work that is known by its identifier only, as a search would name it."""
    kind, _, value = name.partition(":")
    arxiv = value.removeprefix("10.48550/arxiv.") if value.startswith("10.48550/arxiv.") else None
    return {
        "key": f"arxiv:{arxiv}" if arxiv else name, "doi": value if kind == "doi" else None, "arxiv": arxiv,
        "openalex": value if kind == "openalex" else None, "title": "", "folded": "",
    }  # fmt: skip


def _ids(connection: Connection, names: set[str]) -> dict[str, int]:
    """Return the works that bear these names; of a merged record, the one it was merged into."""
    found: dict[str, int] = {}
    for kind, column in (("doi", t.harvested.c.doi), ("openalex", t.harvested.c.openalex)):
        values = sorted(name.partition(":")[2] for name in names if name.startswith(f"{kind}:"))
        for start in range(0, len(values), 900):
            query = select(t.harvested.c.id, t.harvested.c.merged_into, column.label("name"))
            for row in connection.execute(query.where(column.in_(values[start : start + 900]))):
                found.setdefault(f"{kind}:{row.name}", row.merged_into or row.id)
    return found


def _counts(connection: Connection, dataset: int, slug: str) -> Counts:
    root = func.coalesce(t.harvested.c.merged_into, t.harvested.c.id)
    papers = select(t.relation.c.subject_id).where(t.relation.c.object_id == dataset, t.relation.c.verb == "PRODUCE")
    # A citation may have been written for any record of a work: all of them count as the one.
    of_papers = select(root).where(t.harvested.c.work_id.in_(papers))
    records = select(t.harvested.c.id).where(root.in_(of_papers))
    citing = (
        select(root.label("work"))
        .join(t.cites, t.cites.c.citing_id == t.harvested.c.id)
        .where(t.cites.c.cited_id.in_(records), root.not_in(of_papers))
        .distinct()
        .subquery()
    )
    citations = int(connection.scalar(select(func.count()).select_from(citing)) or 0)
    said: dict[int, str] = {}
    told = select(t.relation.c.subject_id, t.relation.c.evidence).where(
        t.relation.c.object_id == dataset, t.relation.c.verb.in_(("USE", "CITE"))
    )
    order = {one: n for n, one in enumerate(vocabulary.EVIDENCE)}
    for row in connection.execute(told):
        evidence = row.evidence or "manual"
        if order[evidence] >= order.get(said.get(row.subject_id, ""), -1):
            said[row.subject_id] = evidence
    cites_it: set[int] = set()
    works = sorted(said)
    for start in range(0, len(works), 400):
        part = works[start : start + 400]
        rows = connection.scalars(
            select(t.harvested.c.work_id).where(t.harvested.c.work_id.in_(part), root.in_(select(citing.c.work)))
        )
        cites_it |= set(rows)
    by: Counter[str] = Counter()
    for work, evidence in said.items():
        if evidence in vocabulary.IS_USE:
            by["cited and mentioned" if evidence == "mentioned" and work in cites_it else evidence] += 1
    users = {work for work, evidence in said.items() if evidence in vocabulary.IS_USE}
    only_said = sum(evidence == "cited" and work not in cites_it for work, evidence in said.items())
    both_said = sum(evidence == "cited and mentioned" and work not in cites_it for work, evidence in said.items())
    cited_only = citations - len(users & cites_it) + only_said
    ranked = tuple((one, by[one]) for one in vocabulary.EVIDENCE if by[one])
    return Counts(slug, citations + only_said + both_said, cited_only, ranked)
