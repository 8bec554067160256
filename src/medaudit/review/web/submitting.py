"""From what somebody types or pastes to records: the submission form, an edited record, a file in a known format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from sqlalchemy import Connection, select

from medaudit.errors import DataError, UsageError
from medaudit.review import tables as t
from medaudit.review import workflow
from medaudit.review.database import now
from medaudit.review.formats import bibtex, ris
from medaudit.review.records import Record, Work, parse
from medaudit.review.views import resolve

DEEPEST, MOST = 50, 500
FORMATS = ("yaml", "bibtex", "ris", "csv", "croissant")


_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it is there: quicker, and as safe


class _Loader(_SAFE):
    """Plain values only; a date stays the text that was written, and 1:30 is no number of minutes."""


_KEPT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int")
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag not in _KEPT]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]{1,18}$"), list("-+0123456789"))


def from_text(form: str, text: str) -> list[Record]:
    """Return the records of a pasted text; DataError saying what cannot be read, UsageError for an unknown format."""
    records = _read(form, text)
    if len(records) > MOST:
        raise UsageError(f"the text holds {len(records):,} records; paste at most {MOST}, or import a file")
    return records


def _read(form: str, text: str) -> list[Record]:
    if not text.strip():
        raise UsageError("nothing was pasted")
    match form:
        case "yaml":
            return _yaml(text)
        case "bibtex":
            return list(bibtex.read(text))
        case "ris":
            return list(ris.read(text))
        case "csv":
            from medaudit.review.importers import table

            return list(table.read_text(text))
        case "croissant":
            from medaudit.review.importers import croissant

            return list(croissant.read_text(text))
    raise UsageError(f"no format is called '{form}'; there are: {', '.join(FORMATS)}")


def _yaml(text: str) -> list[Record]:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise DataError(f"YAML is nested more than {DEEPEST} deep")
            if getattr(event, "anchor", None) is not None:
                raise DataError("YAML with anchors is not read here: a few lines of it can unfold into gigabytes")
        found = [one for one in yaml.load_all(text, Loader=_Loader) if one is not None]
    except DataError:
        raise
    except Exception as error:  # PyYAML's own, and what it raises of `!!int ""` or `!!timestamp x`
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"the YAML cannot be read: {reason}") from None
    flat = [entry for one in found for entry in (one if isinstance(one, list) else [one])]
    return [parse(entry, f"record {n + 1}") for n, entry in enumerate(flat)]


def artifact_of(connection: Connection, form: Mapping[str, str]) -> list[Record]:
    """Return the records of the form for one finding: the artifact, and its work where it is new.

    Raises UsageError or DataError naming the field to mend.
    """
    slugs = resolve(connection, form["dataset"])
    if len(slugs) != 1:
        known = f"it may be {', '.join(slugs)}" if slugs else "nobody knows it; propose the dataset first"
        raise UsageError(f"dataset '{form['dataset']}': {known}")
    records: list[Record] = []
    works = []
    doi, url = form.get("doi", "").strip(), form.get("url", "").strip()
    if doi or form.get("work_title", "").strip():
        work = _work(connection, form, doi)
        works.append(work if isinstance(work, str) else work.slug)
        records += [] if isinstance(work, str) else [work]
    year = form.get("year", "").strip()
    title = form["title"].strip()
    record: dict[str, Any] = {
        "kind": "artifact", "slug": workflow.free_slug(connection, "artifact", f"{slugs[0]}-{title}"),
        "type": form["type"], "finding": form["finding"], "title": title,
        "summary": form["summary"].strip(), "severity": form["severity"],
        "reported": year or now()[:4],
        "about": [{"dataset": slugs[0], "verb": "INTRODUCE" if form["type"] == "documentation" else "EXTEND"}],
        "works": works,
    }  # fmt: skip
    if url:
        record["url"] = url
    return [*records, parse(record, "the form")]


def _work(connection: Connection, form: Mapping[str, str], doi: str) -> Work | str:
    """Return the slug of the work with this DOI, or a new work."""
    title = form.get("work_title", "").strip()
    probe = parse(
        {"kind": "work", "slug": "probe", "title": title or "unknown", **({"doi": doi} if doi else {})}, "the source"
    )
    assert isinstance(probe, Work)
    if probe.doi:
        known = connection.scalar(
            select(t.entity.c.slug).join(t.work, t.work.c.entity_id == t.entity.c.id).where(t.work.c.doi == probe.doi)
        )
        if known is not None:
            return str(known)
    if not title:
        raise UsageError("the source is new here: give its title too")
    year = form.get("year", "").strip()
    authors = [name.strip() for name in form.get("authors", "").split(";") if name.strip()]
    first = authors[0].split(",")[0] if authors else "anonymous"
    plain = probe.plain() | {
        "slug": workflow.free_slug(connection, "work", f"{first} {year} {' '.join(title.split()[:4])}"), "title": title,
        "authors": authors,
    }  # fmt: skip
    if year:
        if not re.fullmatch(r"[0-9]{4}", year):
            raise UsageError(f"year is '{year[:20]}'; expected four digits")
        plain["year"] = int(year)
    made = parse(plain, "the source")
    assert isinstance(made, Work)
    return made
