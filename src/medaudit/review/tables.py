"""The tables. What is public is a projection of the records' current revisions, rebuilt whenever one is put.

Three groups: identity and history (``entity``, ``revision``, ``release``), the projection that pages and search read
(``dataset`` to ``document``), and the workflow (``person``, ``contribution``, ``audit``, the living search). Times are
ISO 8601 texts in UTC, values of any type are JSON texts: the same on SQLite and PostgreSQL, and readable in a dump.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s", "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)  # fmt: skip


def _of(entity: str = "entity_id", *, nullable: bool = False) -> Column[int]:
    return Column(entity, Integer, ForeignKey("entity.id"), nullable=nullable)


# Identity and history --------------------------------------------------------------------------------------------

entity = Table(
    "entity", metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("slug", String(120), nullable=False),
    Column("title", Text, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("status", String(10), nullable=False),
    Column("redirect_to", Integer, ForeignKey("entity.id")),
    Column("created", String(32), nullable=False),
    Column("updated", String(32), nullable=False),
    UniqueConstraint("kind", "slug"),
    CheckConstraint("kind IN ('dataset', 'artifact', 'work')", name="kind"),
    CheckConstraint("status IN ('public', 'tombstone')", name="status"),
    Index(None, "updated"),
)  # fmt: skip
"""What has a permanent address. Nothing is deleted: a retired or merged one stays as a tombstone, with where to go."""

revision = Table(
    "revision", metadata,
    _of(), Column("rev", Integer, nullable=False),
    Column("record", Text),
    Column("digest", String(64), nullable=False),
    Column("redirect_to", Integer, ForeignKey("entity.id")),
    Column("contribution_id", Integer, ForeignKey("contribution.id"), nullable=False),
    Column("at", String(32), nullable=False),
    PrimaryKeyConstraint("entity_id", "rev"),
    Index(None, "contribution_id"),
)  # fmt: skip
"""Each state an entity ever had; ``record`` is null where it was retired."""

release = Table(
    "release", metadata,
    Column("id", Integer, primary_key=True),
    Column("version", String(40), nullable=False, unique=True),
    Column("frozen", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("log_seq", Integer, nullable=False),
    Column("log_hash", String(64), nullable=False),
    Column("trigger", Text, nullable=False),
    Column("changelog", Text, nullable=False),
)  # fmt: skip
release_entry = Table(
    "release_entry", metadata,
    Column("release_id", Integer, ForeignKey("release.id"), nullable=False),
    _of(), Column("rev", Integer, nullable=False),
    PrimaryKeyConstraint("release_id", "entity_id"),
)  # fmt: skip

release_report = Table(
    "release_report",
    metadata,
    Column("release_id", Integer, ForeignKey("release.id"), primary_key=True),
    Column("text", Text, nullable=False),
)
"""How the review was made up to a release (PRISMA-LSR), written when it was frozen: later merges would change it."""

counter = Table(
    "counter", metadata, Column("id", Integer, primary_key=True), Column("public", BigInteger, nullable=False)
)
"""One row: how often what is public has changed; caches and ETags go by it."""

# The projection --------------------------------------------------------------------------------------------------

dataset = Table(
    "dataset", metadata,
    Column("entity_id", Integer, ForeignKey("entity.id"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("year", Integer),
    Column("status", String(12), nullable=False),
    Column("access", String(14), nullable=False),
    Column("licence_class", String(20), nullable=False),
    Column("host", Text, nullable=False),
    Column("homepage", Text),
    Column("curated", Boolean, nullable=False),
    Column("images", Float),
    Column("patients", Float),
    Column("answered", Integer, nullable=False),
    Column("asked", Integer, nullable=False),
)  # fmt: skip
name = Table(
    "name", metadata,
    _of(), Column("n", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("ambiguous", Boolean, nullable=False),
    PrimaryKeyConstraint("entity_id", "n"),
    Index(None, "folded"),
)  # fmt: skip
"""Names and aliases; ``folded``: lower case, letters and digits only."""
identifier = Table(
    "identifier", metadata,
    _of(), Column("scheme", String(20), nullable=False), Column("value", String(500), nullable=False),
    PrimaryKeyConstraint("entity_id", "scheme", "value"),
    Index(None, "scheme", "value"),
)  # fmt: skip
term = Table(
    "term", metadata,
    _of(), Column("scheme", String(12), nullable=False), Column("code", String(500), nullable=False),
    PrimaryKeyConstraint("entity_id", "scheme", "code"),
    Index(None, "scheme", "code"),
)  # fmt: skip
"""Modality, anatomy, task, attribute of demographics: what facets count."""
licence = Table(
    "licence", metadata,
    _of(), Column("n", Integer, nullable=False),
    Column("of", Text, nullable=False), Column("spdx", String(80)), Column("text", Text, nullable=False),
    Column("class", String(20), nullable=False),
    PrimaryKeyConstraint("entity_id", "n"),
)  # fmt: skip
work = Table(
    "work", metadata,
    Column("entity_id", Integer, ForeignKey("entity.id"), primary_key=True),
    Column("type", String(10), nullable=False),
    Column("title", Text, nullable=False),
    Column("year", Integer),
    Column("venue", Text, nullable=False),
    Column("doi", String(300)), Column("arxiv", String(40)), Column("openalex", String(14)),
    Column("retracted", String(10)),
    Index(None, "doi"), Index(None, "arxiv"), Index(None, "openalex"),
)  # fmt: skip
author = Table(
    "author", metadata,
    _of(), Column("position", Integer, nullable=False), Column("name", Text, nullable=False),
    PrimaryKeyConstraint("entity_id", "position"),
)  # fmt: skip
artifact = Table(
    "artifact", metadata,
    Column("entity_id", Integer, ForeignKey("entity.id"), primary_key=True),
    Column("type", String(20), nullable=False),
    Column("finding", String(60), nullable=False),
    Column("title", Text, nullable=False),
    Column("severity", String(10), nullable=False),
    Column("reported", String(10)),
    Column("verification", String(12), nullable=False),
    Index(None, "type", "severity"), Index(None, "reported"),
)  # fmt: skip
relation = Table(
    "relation", metadata,
    Column("id", Integer, primary_key=True),
    _of("owner_id"), _of("subject_id"),
    Column("verb", String(24), nullable=False),
    _of("object_id"),
    Column("evidence", String(24)), Column("locus", String(120)), Column("version", String(60)),
    Column("note", Text),
    Index(None, "subject_id", "verb"), Index(None, "object_id", "verb"), Index(None, "owner_id"),
)  # fmt: skip
"""Every edge: PRODUCE, INTRODUCE, EXTEND, USE; SOURCE (a work of an artifact), CITE; between artifacts and datasets."""
claim = Table(
    "claim", metadata,
    _of(), Column("n", Integer, nullable=False),
    Column("field", String(500), nullable=False),
    Column("value", Text, nullable=False), Column("unit", String(60), nullable=False),
    Column("low", Float), Column("high", Float), Column("of_n", BigInteger),
    Column("work_id", Integer, ForeignKey("entity.id")), Column("url", Text), Column("package", Text),
    Column("locator", Text, nullable=False), Column("quote_hash", String(64)),
    Column("note", Text, nullable=False), Column("version", String(60), nullable=False),
    Column("verification", String(12), nullable=False),
    Column("preferred", Boolean, nullable=False),
    Column("disputed", Boolean, nullable=False),
    PrimaryKeyConstraint("entity_id", "n"),
    Index(None, "field"),
)  # fmt: skip
"""Facts, each with its source; ``disputed`` where others of the same field and version say otherwise."""
document = Table(
    "document", metadata,
    Column("entity_id", Integer, ForeignKey("entity.id"), primary_key=True),
    Column("names", Text, nullable=False),
    Column("tokens", Text, nullable=False),
    Column("name_tokens", Text, nullable=False),
)  # fmt: skip
"""What search reads: folded names for parts of words, stemmed words of names and of everything."""

# People and the workflow -----------------------------------------------------------------------------------------

person = Table(
    "person", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(60), nullable=False, unique=True),
    Column("role", String(12), nullable=False),
    Column("password", Text),
    Column("disabled", Boolean, nullable=False),
    Column("created", String(32), nullable=False),
    CheckConstraint("role IN ('reader','contributor','bot','reviewer','editor','admin')", name="role"),
)  # fmt: skip
session = Table(
    "session", metadata,
    Column("hash", String(64), primary_key=True),
    Column("person_id", Integer, ForeignKey("person.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("expires", String(32), nullable=False),
)  # fmt: skip
token = Table(
    "token", metadata,
    Column("hash", String(64), primary_key=True),
    Column("person_id", Integer, ForeignKey("person.id"), nullable=False),
    Column("label", String(60), nullable=False),
    Column("created", String(32), nullable=False), Column("expires", String(32)), Column("revoked", String(32)),
)  # fmt: skip
contribution = Table(
    "contribution", metadata,
    Column("id", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("author_id", Integer, ForeignKey("person.id"), nullable=False),
    Column("interests", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("decided", String(32)),
    Column("decided_by", Integer, ForeignKey("person.id")),
    Column("reason", String(40)),
    Column("decision_note", Text),
    Column("request_key", String(80)),
    CheckConstraint(
        "state IN ('submitted','changes requested','accepted','rejected','withdrawn')", name="state"
    ),
    # The rule that nothing else may break: what is public was decided by somebody else than its author.
    CheckConstraint(
        "state <> 'accepted' OR (decided_by IS NOT NULL AND decided_by <> author_id)", name="second_person"
    ),
    UniqueConstraint("author_id", "request_key"),
    Index(None, "state", "created"),
)  # fmt: skip
"""What somebody proposes; nothing of it is public before somebody else accepts it."""
change = Table(
    "change", metadata,
    Column("contribution_id", Integer, ForeignKey("contribution.id"), nullable=False),
    Column("n", Integer, nullable=False),
    Column("kind", String(10), nullable=False), Column("slug", String(120), nullable=False),
    Column("base_rev", Integer, nullable=False),
    Column("record", Text), Column("redirect_to", String(120)),
    PrimaryKeyConstraint("contribution_id", "n"),
    Index(None, "kind", "slug"),
)  # fmt: skip
"""One record of a contribution, put over revision ``base_rev`` (0: new); no record: retire it, or merge it."""
audit = Table(
    "audit", metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(60), nullable=False),
    Column("action", String(40), nullable=False),
    Column("target", String(200), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)  # fmt: skip
"""What was done, chained by hashes; the database refuses to change or delete a row of it."""

# The living search -----------------------------------------------------------------------------------------------

query = Table(
    "query", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("provider", String(20), nullable=False),
    Column("expression", Text, nullable=False),
    Column("every_days", Integer, nullable=False),
    Column("since", String(32)),
    Column("cursor", Text),
    Column("retired", String(32)),
)  # fmt: skip
"""A saved search of one source; ``cursor`` is where an interrupted run goes on."""
search_run = Table(
    "search_run", metadata,
    Column("id", Integer, primary_key=True),
    Column("query_id", Integer, ForeignKey("query.id"), nullable=False),
    Column("started", String(32), nullable=False), Column("finished", String(32)),
    Column("identified", Integer, nullable=False), Column("new", Integer, nullable=False),
    Column("merged", Integer, nullable=False),
    Column("error", Text),
    Index(None, "query_id"),
)  # fmt: skip
harvested = Table(
    "harvested", metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(300), nullable=False, unique=True),
    Column("doi", String(300)), Column("arxiv", String(40)), Column("openalex", String(14)),
    Column("title", Text, nullable=False), Column("folded", Text, nullable=False),
    Column("year", Integer), Column("first_author", Text), Column("venue", Text), Column("abstract", Text),
    Column("retracted", String(32)),
    Column("work_id", Integer, ForeignKey("entity.id")),
    Column("merged_into", Integer, ForeignKey("harvested.id")),
    Column("first_run", Integer, ForeignKey("search_run.id")),
    Index(None, "doi"), Index(None, "arxiv"), Index(None, "openalex"), Index(None, "folded"),
    Index(None, "work_id"), Index(None, "merged_into"),
)  # fmt: skip
"""A work that a search found; it is a candidate, and no part of what is public until somebody proposes it."""
found = Table(
    "found", metadata,
    Column("run_id", Integer, ForeignKey("search_run.id"), nullable=False),
    Column("harvested_id", Integer, ForeignKey("harvested.id"), nullable=False),
    PrimaryKeyConstraint("run_id", "harvested_id"),
    Index(None, "harvested_id"),
)  # fmt: skip
cites = Table(
    "cites", metadata,
    Column("citing_id", Integer, ForeignKey("harvested.id"), nullable=False),
    Column("cited_id", Integer, ForeignKey("harvested.id"), nullable=False),
    Column("source", String(20), nullable=False), Column("first_seen", String(32), nullable=False),
    PrimaryKeyConstraint("citing_id", "cited_id"),
    Index(None, "cited_id", "citing_id"),
)  # fmt: skip
"""Citations in bulk. A citation is no use: it is counted apart, and is called a citation wherever it is shown."""
screening = Table(
    "screening", metadata,
    Column("harvested_id", Integer, ForeignKey("harvested.id"), nullable=False),
    Column("stage", String(10), nullable=False),
    Column("person_id", Integer, ForeignKey("person.id"), nullable=False),
    Column("decision", String(10), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("at", String(32), nullable=False),
    PrimaryKeyConstraint("harvested_id", "stage", "person_id"),
    CheckConstraint("stage IN ('title','fulltext')", name="stage"),
    CheckConstraint("decision IN ('include','exclude','unsure')", name="decision"),
)  # fmt: skip
