"""The NCI Imaging Data Commons, from the installed package idc-index-data: collections and who extends them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from medaudit.review.computed import idc as computed
from medaudit.review.computed import tables
from medaudit.review.records import Record, parse

COLLECTIONS = "collections_index.parquet"
RESULTS = "analysis_results_index.parquet"
_MODALITIES = {"CT": "CT", "MR": "MR", "PT": "PT", "SM": "SM", "CR": "CR", "DX": "CR", "MG": "MG", "US": "US",
               "XA": "XA", "NM": "NM", "OP": "OP", "OPT": "OCT", "XC": "XC", "ES": "ES"}  # fmt: skip
_SPDX = {f"CC {kind} {n}": f"CC-{kind}-{n}" for kind in ("BY", "BY-NC") for n in ("3.0", "4.0")}
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
_ADDRESS = re.compile(r"\[Data ?set\]\.? (.{1,120}?)\.? https?://")
_INITIALS = re.compile(r"[^\W\d_](?:\.|$)")


def read(path: Path | None = None) -> list[Record]:
    """Return IDC's collections as datasets, its analysis results as artifacts, and the deposits of both as works.

    ``path``: a wheel or folder of idc-index-data; the installed one where None. Slugs begin with ``idc-``; the records
    are as IDC has them (``imported``), demographics are counted from its index (``computed``). Raises DataError with
    how to get the package where it is missing.
    """
    source = tables.source(path, "idc-index-data")
    package = f"idc-index-data {source.version}"
    collections = tables.frame(source, COLLECTIONS, ["collection_id", "collection_name", "sources", "subjects",
                               "tumor_locations", "cancer_types", "species", "description", "updated"])  # fmt: skip
    results = tables.frame(source, RESULTS, ["analysis_result_id", "analysis_result_title", "source_DOI", "collections",
                           "subjects", "updated", "license_short_name", "description", "citation"])  # fmt: skip
    known = {row["collection_id"]: row for row in computed.completeness(source).iter_rows(named=True)}
    works: dict[str, Record] = {}
    datasets = [
        _dataset(row, package, known.get(row["collection_id"]), works) for row in collections.iter_rows(named=True)
    ]
    artifacts = [_artifact(row, package, works) for row in results.iter_rows(named=True)]
    return [*works.values(), *datasets, *artifacts]


def plain_text(marked: str | None) -> str:
    """Return a citation or description without its HTML, on one line: tags gone, entities resolved.

    Entities are resolved before tags are looked for, and again until nothing changes, so that ``&lt;script&gt;`` does
    not come back as a tag.
    """
    text = marked or ""
    for _ in range(5):
        clearer = _TAG.sub("", html.unescape(text))
        if clearer == text:
            break
        text = clearer
    else:  # tags in tags, or entities of entities, deeper than any honest text has them
        text = re.sub(r"[<>&]", "", text)
    return " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())


def slug(identifier: str) -> str:
    """Return the slug of a collection or analysis result."""
    return "idc-" + re.sub(r"[^a-z0-9]+", "-", identifier.lower()).strip("-")


def _dataset(row: dict[str, Any], package: str, known: dict[str, Any] | None, works: dict[str, Record]) -> Record:
    own = [one for one in row["sources"] if one["source_type"] == "original_data"]
    made = [_work(one["source_doi"], one["source_title"], one["citation"], works) for one in own]
    modalities = {
        _MODALITIES[name] for one in own for name in re.split(r",\s*", one["modalities"] or "") if name in _MODALITIES
    }
    licences = [
        {"of": plain_text(one["source_title"])[:480], "spdx": _SPDX.get(one["license"]["license_short_name"]),
         "text": one["license"]["license_long_name"] or "", "url": one["license"]["license_url"], "source": package,
         "verification": "imported"}
        for one in row["sources"]
    ]  # fmt: skip
    facts = [{"field": "patients", "value": row["subjects"], "unit": "patients", "package": package,
              "verification": "imported"}]  # fmt: skip
    demographics = []
    if known is not None:
        for attribute in ("sex", "age"):
            share = known.get(attribute)
            if share is not None:
                counted = {"attribute": attribute, "completeness": round(float(share), 6), "unit": "patients"}
                counted |= {"n": int(known["patients"]), "package": package, "verification": "computed"}
                demographics.append(counted)
    places = [] if row["tumor_locations"] in (None, "", "Various") else re.split(r",\s*", row["tumor_locations"])
    return parse(
        {
            "kind": "dataset", "slug": slug(row["collection_id"]), "name": f"{row['collection_name']} (IDC)",
            "description": plain_text(row["description"])[:2_000], "access": "open", "host": "NCI Imaging Data Commons",
            "aliases": [{"name": row["collection_name"]}, {"name": row["collection_id"]}],
            "identifiers": [{"scheme": "idc", "value": row["collection_id"]}]
            + [{"scheme": "doi", "value": one["source_doi"].lower()} for one in own],
            "modalities": sorted(modalities), "anatomy": [place.lower() for place in places], "licences": licences,
            "produced_by": list(dict.fromkeys(made)), "cite": list(dict.fromkeys(made)), "facts": facts,
            "demographics": demographics,
        },
        f"IDC collection {row['collection_id']}",
    )  # fmt: skip


def _artifact(row: dict[str, Any], package: str, works: dict[str, Record]) -> Record:
    work = _work(row["source_DOI"], row["analysis_result_title"], row["citation"], works)
    about = [{"dataset": slug(one), "verb": "EXTEND"} for one in re.split(r",\s*", row["collections"])]
    return parse(
        {
            "kind": "artifact", "slug": slug(row["analysis_result_id"]), "type": "annotation", "finding": "other",
            "title": plain_text(row["analysis_result_title"])[:480], "summary": plain_text(row["description"])[:4_000],
            "reported": row["updated"][:10], "about": about, "works": [work],
            "facts": [{"field": "annotated patients", "value": row["subjects"], "unit": "patients", "package": package,
                       "verification": "imported"}],
            "verification": "imported",
        },
        f"IDC analysis result {row['analysis_result_id']}",
    )  # fmt: skip


def _work(doi: str, title: str, citation: str | None, works: dict[str, Record]) -> str:
    """Return the slug of the deposit with this DOI, made once."""
    bare = doi.lower()
    name = "idc-doi-" + re.sub(r"[^a-z0-9]+", "-", bare).strip("-")
    if name not in works:
        said = plain_text(citation)
        year = re.search(r"\((\d{4})[^)]*\)", said)
        where = _ADDRESS.search(said)
        works[name] = parse(
            {
                "kind": "work", "slug": name, "type": "deposit", "title": plain_text(title)[:480],
                "authors": _authors(said), "year": int(year[1]) if year else None, "doi": bare,
                "venue": where[1] if where else "", "verification": "imported",
            },
            f"IDC source {doi}",
        )  # fmt: skip
    return name


def _authors(citation: str) -> list[str]:
    """Return the names before the year of a citation in the style of the APA: ``Hugo, G. D., Weiss, E., & ...``.

    Where it leaves names out (``…``), the last is ``others``, as BibTeX says it.
    """
    before = re.split(r"\(\d{4}", citation, maxsplit=1)[0].strip()
    if not re.search(r"(?:^|[\s.-])[^\W\d_]\.$", before):
        before = before.rstrip(".")  # the full stop of a sentence, not of initials
    if ";" in before:
        return [name.strip() for name in before.split(";") if name.strip()][:1_000]
    names: list[str] = []
    for part in filter(None, (part.strip() for part in re.split(r",\s*&|,|\s&\s|…", before))):
        alone = bool(names) and "," not in names[-1]
        if alone and (_INITIALS.match(part) or part.islower() or names[-1].endswith(" III")):
            names[-1] = f"{names[-1]}, {part}"
        else:
            names.append(part)
    return [name[:480] for name in names[:999]] + (["others"] if "…" in before else [])
