"""The review as files: pages, records, feeds and the database itself, readable from a disk without a server.

A knowledge that lives on one host dies with it; whoever has this folder has all that is public.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from medaudit.errors import DataError, UsageError
from medaudit.review import feeds, releases, views
from medaudit.review.database import Database
from medaudit.review.web import api, pages
from medaudit.review.web.render import STATIC, render

MARK = ".medaudit-review-site"


def build(database: Database, out: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the site into the folder ``out``; return how many files it has.

    Raises UsageError where ``out`` holds something else, DataError where it cannot be written.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise UsageError(f"{out} holds something else; choose a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
        with database.reading(600) as connection:
            return _write(connection, out, progress)
    except OSError as error:
        raise DataError(f"cannot write {out}: {(error.strerror or str(error)).lower()}") from None


def _write(connection: Connection, out: Path, progress: Callable[[int, int], None] | None) -> int:
    written = 0

    def put(name: str, content: str | bytes) -> None:
        nonlocal written
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # a reader never sees half a file
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
        written += 1

    def page(name: str, made: pages.Page) -> None:
        if made.status == 200:
            put(name, render(made.template, static=True, depth=name.count("/"), **made.context))

    for asset in sorted(STATIC.iterdir()):
        put(f"static/{asset.name}", asset.read_bytes())
    page("index.html", pages.home(connection))
    page("timeline.html", pages.timeline(connection))
    page("gaps.html", pages.gaps(connection))
    page("words.html", pages.glossary())
    page("method.html", pages.prisma(connection))
    page("releases.html", pages.all_releases(connection))
    for release in releases.all_of(connection):
        page(f"releases/{release.version}.html", pages.release(connection, release.version))
    put("findings.atom", feeds.everything(connection))
    records = views.records(connection)
    folders = {"dataset": "datasets", "artifact": "artifacts", "work": "works"}
    makers = {"dataset": pages.dataset, "artifact": pages.artifact, "work": pages.work}
    for n, record in enumerate(records):
        folder = folders[record.kind]
        page(f"{folder}/{record.slug}.html", makers[record.kind](connection, record.slug))
        page(f"history/{record.kind}/{record.slug}.html", pages.history(connection, record.kind, record.slug))
        put(f"{folder}/{record.slug}.json", json.dumps(record.plain(), ensure_ascii=False, indent=1))
        if record.kind == "dataset":
            page(f"graph/dataset/{record.slug}.html", pages.drawn(connection, "dataset", record.slug))
            for form, name in (("croissant", "croissant.json"), ("bibtex", "cite.bib")):
                text = api.exported(connection, record.slug, form)
                if text is not None:
                    put(f"datasets/{record.slug}/{name}", text[0])
            put(f"datasets/{record.slug}/findings.atom", feeds.dataset(connection, record.slug) or "")
        if progress is not None:
            progress(n + 1, len(records))
    lines = [json.dumps(record.plain(), ensure_ascii=False, sort_keys=True) for record in records]
    put("records.jsonl", "\n".join(lines) + "\n")
    return written
