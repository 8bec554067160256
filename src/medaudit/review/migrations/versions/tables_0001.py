"""The tables of the living review.

Revision 0001, after None.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What is written once: the log, the history, a frozen release. The database itself refuses to change them.
_FOREVER = ("audit", "revision", "release", "release_entry", "release_report")
_SEARCH_AND_GUARDS = {
    "sqlite": [
        "CREATE VIRTUAL TABLE search_words USING fts5(name_tokens, tokens, tokenize = 'unicode61', detail = full)",
        "CREATE VIRTUAL TABLE search_names USING fts5(names, tokenize = 'trigram')",
        *(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is written once'); END"
            for table in _FOREVER
            for verb in ("update", "delete")
        ),
    ],
    "postgresql": [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "ALTER TABLE document ADD COLUMN vector tsvector GENERATED ALWAYS AS "
        "(setweight(to_tsvector('simple', name_tokens), 'A') || setweight(to_tsvector('simple', tokens), 'D')) STORED",
        "CREATE INDEX ix_search_vector ON document USING gin (vector)",
        "CREATE INDEX ix_search_names ON document USING gin (names gin_trgm_ops)",
        "CREATE FUNCTION written_once() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is written once', TG_TABLE_NAME; END $$",
        *(
            f"CREATE TRIGGER {table}_written_once BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION written_once()"
            for table in _FOREVER
        ),
    ],
}
_WITHOUT = {
    "sqlite": [
        "DROP TABLE search_words",
        "DROP TABLE search_names",
        *(f"DROP TRIGGER {table}_no_{verb}" for table in _FOREVER for verb in ("update", "delete")),
    ],
    "postgresql": [
        *(f"DROP TRIGGER {table}_written_once ON {table}" for table in _FOREVER),
        "DROP FUNCTION written_once()",
        "DROP INDEX ix_search_vector",
        "DROP INDEX ix_search_names",
        "ALTER TABLE document DROP COLUMN vector",
    ],
}


def upgrade() -> None:
    """Make the changes."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=60), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "counter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counter")),
    )
    op.create_table(
        "entity",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("slug", sa.String(length=120), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("redirect_to", sa.Integer(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("updated", sa.String(length=32), nullable=False),
        sa.CheckConstraint("kind IN ('dataset', 'artifact', 'work')", name=op.f("ck_entity_kind")),
        sa.CheckConstraint("status IN ('public', 'tombstone')", name=op.f("ck_entity_status")),
        sa.ForeignKeyConstraint(["redirect_to"], ["entity.id"], name=op.f("fk_entity_redirect_to")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entity")),
        sa.UniqueConstraint("kind", "slug", name=op.f("uq_entity_kind_slug")),
    )
    op.create_index(op.f("ix_entity_updated"), "entity", ["updated"], unique=False)
    op.create_table(
        "person",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("role", sa.String(length=12), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "role IN ('reader','contributor','bot','reviewer','editor','admin')", name=op.f("ck_person_role")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("name", name=op.f("uq_person_name")),
    )
    op.create_table(
        "query",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("every_days", sa.Integer(), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=True),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("retired", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_query")),
        sa.UniqueConstraint("name", name=op.f("uq_query_name")),
    )
    op.create_table(
        "release",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("frozen", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("log_seq", sa.Integer(), nullable=False),
        sa.Column("log_hash", sa.String(length=64), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("changelog", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint("version", name=op.f("uq_release_version")),
    )
    op.create_table(
        "artifact",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("finding", sa.String(length=60), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("reported", sa.String(length=10), nullable=True),
        sa.Column("verification", sa.String(length=12), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_artifact_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", name=op.f("pk_artifact")),
    )
    op.create_index(op.f("ix_artifact_reported"), "artifact", ["reported"], unique=False)
    op.create_index(op.f("ix_artifact_type_severity"), "artifact", ["type", "severity"], unique=False)
    op.create_table(
        "author",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_author_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "position", name=op.f("pk_author")),
    )
    op.create_table(
        "claim",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("field", sa.String(length=500), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(length=60), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("of_n", sa.BigInteger(), nullable=True),
        sa.Column("work_id", sa.Integer(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("package", sa.Text(), nullable=True),
        sa.Column("locator", sa.Text(), nullable=False),
        sa.Column("quote_hash", sa.String(length=64), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("version", sa.String(length=60), nullable=False),
        sa.Column("verification", sa.String(length=12), nullable=False),
        sa.Column("preferred", sa.Boolean(), nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_claim_entity_id")),
        sa.ForeignKeyConstraint(["work_id"], ["entity.id"], name=op.f("fk_claim_work_id")),
        sa.PrimaryKeyConstraint("entity_id", "n", name=op.f("pk_claim")),
    )
    op.create_index(op.f("ix_claim_field"), "claim", ["field"], unique=False)
    op.create_table(
        "contribution",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=False),
        sa.Column("interests", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("decided", sa.String(length=32), nullable=True),
        sa.Column("decided_by", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("decision_note", sa.Text(), nullable=True),
        sa.Column("request_key", sa.String(length=80), nullable=True),
        sa.CheckConstraint(
            "state <> 'accepted' OR (decided_by IS NOT NULL AND decided_by <> author_id)",
            name=op.f("ck_contribution_second_person"),
        ),
        sa.CheckConstraint(
            "state IN ('submitted','changes requested','accepted','rejected','withdrawn')",
            name=op.f("ck_contribution_state"),
        ),
        sa.ForeignKeyConstraint(["author_id"], ["person.id"], name=op.f("fk_contribution_author_id")),
        sa.ForeignKeyConstraint(["decided_by"], ["person.id"], name=op.f("fk_contribution_decided_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contribution")),
        sa.UniqueConstraint("author_id", "request_key", name=op.f("uq_contribution_author_id_request_key")),
    )
    op.create_index(op.f("ix_contribution_state_created"), "contribution", ["state", "created"], unique=False)
    op.create_table(
        "dataset",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("access", sa.String(length=14), nullable=False),
        sa.Column("licence_class", sa.String(length=20), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("homepage", sa.Text(), nullable=True),
        sa.Column("curated", sa.Boolean(), nullable=False),
        sa.Column("images", sa.Float(), nullable=True),
        sa.Column("patients", sa.Float(), nullable=True),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_dataset_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", name=op.f("pk_dataset")),
    )
    op.create_table(
        "document",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Text(), nullable=False),
        sa.Column("name_tokens", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_document_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", name=op.f("pk_document")),
    )
    op.create_table(
        "identifier",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("scheme", sa.String(length=20), nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_identifier_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "scheme", "value", name=op.f("pk_identifier")),
    )
    op.create_index(op.f("ix_identifier_scheme_value"), "identifier", ["scheme", "value"], unique=False)
    op.create_table(
        "licence",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("spdx", sa.String(length=80), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("class", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_licence_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "n", name=op.f("pk_licence")),
    )
    op.create_table(
        "name",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("ambiguous", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_name_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "n", name=op.f("pk_name")),
    )
    op.create_index(op.f("ix_name_folded"), "name", ["folded"], unique=False)
    op.create_table(
        "relation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=False),
        sa.Column("verb", sa.String(length=24), nullable=False),
        sa.Column("object_id", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.String(length=24), nullable=True),
        sa.Column("locus", sa.String(length=120), nullable=True),
        sa.Column("version", sa.String(length=60), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["object_id"], ["entity.id"], name=op.f("fk_relation_object_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["entity.id"], name=op.f("fk_relation_owner_id")),
        sa.ForeignKeyConstraint(["subject_id"], ["entity.id"], name=op.f("fk_relation_subject_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relation")),
    )
    op.create_index(op.f("ix_relation_object_id_verb"), "relation", ["object_id", "verb"], unique=False)
    op.create_index(op.f("ix_relation_owner_id"), "relation", ["owner_id"], unique=False)
    op.create_index(op.f("ix_relation_subject_id_verb"), "relation", ["subject_id", "verb"], unique=False)
    op.create_table(
        "release_entry",
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_release_entry_entity_id")),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name=op.f("fk_release_entry_release_id")),
        sa.PrimaryKeyConstraint("release_id", "entity_id", name=op.f("pk_release_entry")),
    )
    op.create_table(
        "search_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("query_id", sa.Integer(), nullable=False),
        sa.Column("started", sa.String(length=32), nullable=False),
        sa.Column("finished", sa.String(length=32), nullable=True),
        sa.Column("identified", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("merged", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["query_id"], ["query.id"], name=op.f("fk_search_run_query_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_run")),
    )
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_session_person_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_session")),
    )
    op.create_table(
        "term",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("scheme", sa.String(length=12), nullable=False),
        sa.Column("code", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_term_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "scheme", "code", name=op.f("pk_term")),
    )
    op.create_index(op.f("ix_term_scheme_code"), "term", ["scheme", "code"], unique=False)
    op.create_table(
        "token",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=60), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=True),
        sa.Column("revoked", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_token_person_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_token")),
    )
    op.create_table(
        "work",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=10), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("doi", sa.String(length=300), nullable=True),
        sa.Column("arxiv", sa.String(length=40), nullable=True),
        sa.Column("openalex", sa.String(length=14), nullable=True),
        sa.Column("retracted", sa.String(length=10), nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_work_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", name=op.f("pk_work")),
    )
    op.create_index(op.f("ix_work_arxiv"), "work", ["arxiv"], unique=False)
    op.create_index(op.f("ix_work_doi"), "work", ["doi"], unique=False)
    op.create_index(op.f("ix_work_openalex"), "work", ["openalex"], unique=False)
    op.create_table(
        "change",
        sa.Column("contribution_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("slug", sa.String(length=120), nullable=False),
        sa.Column("base_rev", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=True),
        sa.Column("redirect_to", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(["contribution_id"], ["contribution.id"], name=op.f("fk_change_contribution_id")),
        sa.PrimaryKeyConstraint("contribution_id", "n", name=op.f("pk_change")),
    )
    op.create_index(op.f("ix_change_kind_slug"), "change", ["kind", "slug"], unique=False)
    op.create_table(
        "harvested",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("doi", sa.String(length=300), nullable=True),
        sa.Column("arxiv", sa.String(length=40), nullable=True),
        sa.Column("openalex", sa.String(length=14), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("first_author", sa.Text(), nullable=True),
        sa.Column("venue", sa.Text(), nullable=True),
        sa.Column("abstract", sa.Text(), nullable=True),
        sa.Column("retracted", sa.String(length=32), nullable=True),
        sa.Column("work_id", sa.Integer(), nullable=True),
        sa.Column("merged_into", sa.Integer(), nullable=True),
        sa.Column("first_run", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["first_run"], ["search_run.id"], name=op.f("fk_harvested_first_run")),
        sa.ForeignKeyConstraint(["merged_into"], ["harvested.id"], name=op.f("fk_harvested_merged_into")),
        sa.ForeignKeyConstraint(["work_id"], ["entity.id"], name=op.f("fk_harvested_work_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_harvested")),
        sa.UniqueConstraint("key", name=op.f("uq_harvested_key")),
    )
    op.create_index(op.f("ix_harvested_arxiv"), "harvested", ["arxiv"], unique=False)
    op.create_index(op.f("ix_harvested_doi"), "harvested", ["doi"], unique=False)
    op.create_index(op.f("ix_harvested_folded"), "harvested", ["folded"], unique=False)
    op.create_index(op.f("ix_harvested_merged_into"), "harvested", ["merged_into"], unique=False)
    op.create_index(op.f("ix_harvested_openalex"), "harvested", ["openalex"], unique=False)
    op.create_index(op.f("ix_harvested_work_id"), "harvested", ["work_id"], unique=False)
    op.create_table(
        "revision",
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("redirect_to", sa.Integer(), nullable=True),
        sa.Column("contribution_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["contribution_id"], ["contribution.id"], name=op.f("fk_revision_contribution_id")),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name=op.f("fk_revision_entity_id")),
        sa.ForeignKeyConstraint(["redirect_to"], ["entity.id"], name=op.f("fk_revision_redirect_to")),
        sa.PrimaryKeyConstraint("entity_id", "rev", name=op.f("pk_revision")),
    )
    op.create_index(op.f("ix_revision_contribution_id"), "revision", ["contribution_id"], unique=False)
    op.create_table(
        "cites",
        sa.Column("citing_id", sa.Integer(), nullable=False),
        sa.Column("cited_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("first_seen", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["cited_id"], ["harvested.id"], name=op.f("fk_cites_cited_id")),
        sa.ForeignKeyConstraint(["citing_id"], ["harvested.id"], name=op.f("fk_cites_citing_id")),
        sa.PrimaryKeyConstraint("citing_id", "cited_id", name=op.f("pk_cites")),
    )
    op.create_index(op.f("ix_cites_cited_id_citing_id"), "cites", ["cited_id", "citing_id"], unique=False)
    op.create_table(
        "found",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("harvested_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["harvested_id"], ["harvested.id"], name=op.f("fk_found_harvested_id")),
        sa.ForeignKeyConstraint(["run_id"], ["search_run.id"], name=op.f("fk_found_run_id")),
        sa.PrimaryKeyConstraint("run_id", "harvested_id", name=op.f("pk_found")),
    )
    op.create_index(op.f("ix_found_harvested_id"), "found", ["harvested_id"], unique=False)
    op.create_table(
        "screening",
        sa.Column("harvested_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=10), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=60), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("decision IN ('include','exclude','unsure')", name=op.f("ck_screening_decision")),
        sa.CheckConstraint("stage IN ('title','fulltext')", name=op.f("ck_screening_stage")),
        sa.ForeignKeyConstraint(["harvested_id"], ["harvested.id"], name=op.f("fk_screening_harvested_id")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_screening_person_id")),
        sa.PrimaryKeyConstraint("harvested_id", "stage", "person_id", name=op.f("pk_screening")),
    )
    op.create_table(
        "release_report",
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name=op.f("fk_release_report_release_id")),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_release_report")),
    )
    op.execute("INSERT INTO counter (id, public) VALUES (1, 0)")
    for line in _SEARCH_AND_GUARDS[op.get_bind().dialect.name]:
        op.execute(line)


def downgrade() -> None:
    """Take them back."""
    for line in _WITHOUT[op.get_bind().dialect.name]:
        op.execute(line)
    op.drop_table("release_report")
    op.drop_table("screening")
    op.drop_table("found")
    op.drop_table("cites")
    op.drop_table("revision")
    op.drop_table("harvested")
    op.drop_table("change")
    op.drop_table("work")
    op.drop_table("token")
    op.drop_table("term")
    op.drop_table("session")
    op.drop_table("search_run")
    op.drop_table("release_entry")
    op.drop_table("relation")
    op.drop_table("name")
    op.drop_table("licence")
    op.drop_table("identifier")
    op.drop_table("document")
    op.drop_table("dataset")
    op.drop_table("contribution")
    op.drop_table("claim")
    op.drop_table("author")
    op.drop_table("artifact")
    op.drop_table("release")
    op.drop_table("query")
    op.drop_table("person")
    op.drop_table("entity")
    op.drop_table("counter")
    op.drop_table("audit")
