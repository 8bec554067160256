"""Alembic's entry: the connection comes from ``database.migrate``; there is no alembic.ini."""

from alembic import context

from medaudit.review.tables import metadata


def _ours(_thing: object, name: str | None, kind: str, _reflected: bool, _compare: object) -> bool:
    # The search indexes are SQLite's virtual tables and PostgreSQL's generated column: no part of the metadata.
    return not (name or "").startswith(("search_words", "search_names", "ix_search_")) and (kind, name) != (
        "column", "vector"
    )  # fmt: skip


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_object=_ours,
    render_as_batch=False,
)
context.run_migrations()
