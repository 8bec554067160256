"""A dataset out of a Croissant file (1.0 or 1.1): JSON-LD read as JSON, no context and no address is ever fetched."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from medaudit.errors import DataError
from medaudit.review.formats import bibtex
from medaudit.review.importers.bibliography import text_of
from medaudit.review.records import Record, Work, parse
from medaudit.review.words import plain as lower

DEEPEST = 100
_BRACKETS = 1_000_000
_VALUES = 1_000
_DOI = re.compile(r"10\.[0-9]{4,9}/[^\s\"'<>}?#]+")
_PREFIX = re.compile(r"^(?:https?://schema\.org/|sc:|schema:|cr:|http://mlcommons\.org/croissant/(?:RAI/)?)")
_TASKS = ("classification", "segmentation", "detection", "regression", "registration", "retrieval", "reconstruction")
_RAI = ("dataCollection", "dataCollectionType", "dataCollectionMissingData", "dataCollectionRawData",
        "dataCollectionTimeframe", "dataImputationProtocol", "dataManipulationProtocol", "dataPreprocessingProtocol",
        "dataAnnotationProtocol", "dataAnnotationPlatform", "dataAnnotationAnalysis", "annotationsPerItem",
        "annotatorDemographics", "machineAnnotationTools", "dataReleaseMaintenancePlan",
        "personalSensitiveInformation", "dataSocialImpact", "dataBiases", "dataLimitations",
        "dataUseCases")  # fmt: skip
"""The properties of the RAI vocabulary 1.0."""
_SPDX = {
    name.lower(): name
    for name in (
        *(f"CC-{kind}-{n}" for kind in ("BY", "BY-SA", "BY-NC", "BY-ND", "BY-NC-SA", "BY-NC-ND")
          for n in ("1.0", "2.0", "2.5", "3.0", "4.0")),
        "CC0-1.0", "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ODbL-1.0", "ODC-By-1.0", "PDDL-1.0", "AFL-3.0",
    )
}  # fmt: skip
"""Licences of data that are known by their name however it is written; others stay as they are said."""


def read(path: Path) -> list[Record]:
    """Return the dataset of a Croissant file; DataError naming the file."""
    try:
        return read_text(text_of(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_text(text: str) -> list[Record]:
    """Return the dataset of a Croissant text, and the works that it asks to be cited where it says so in BibTeX.

    A value and a list of one value are the same, as in JSON-LD. ``rai:dataBiases`` and the like are kept in the
    description: a finding needs a source of its own, which Croissant does not hold. DataError where it is no Croissant.
    """
    _check_nesting(text)
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the JSON cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise DataError("expected a JSON object that describes a dataset")
    nodes = [_shortened(node) for node in (found, *_many(found.get("@graph"))) if isinstance(node, dict)]
    said = next((node for node in nodes if "Dataset" in node["@type"] and _text(node.get("name"))), None)
    if said is None:
        raise DataError("is no Croissant description: expected @type sc:Dataset and a name")
    name = _text(said["name"])
    homepage = _text(said.get("url"))
    places = map(_text, (*_many(said.get("sameAs")), *_many(said.get("identifier")), homepage))
    dois = [doi.rstrip(".,;").lower() for place in places for doi in _DOI.findall(place)[:1] if len(doi) <= 300]
    published = re.match(r"[0-9]{4}", _text(said.get("datePublished")))
    words = " ".join(_text(word).lower() for word in _many(said.get("keywords")))
    cited = _cited(said, _slug(name))
    record = {
        "kind": "dataset", "slug": _slug(name),
        "name": name[:500], "description": _description(said, cited)[:20_000],
        "homepage": homepage if homepage.startswith(("http://", "https://")) else None,
        "host": _text(said.get("publisher"))[:200], "year": int(published[0]) if published else None,
        "aliases": [{"name": one[:500]} for one in map(_text, _many(said.get("alternateName"))) if one],
        "identifiers": [{"scheme": "doi", "value": doi} for doi in dict.fromkeys(dois)],
        "tasks": [task for task in _TASKS if task in words],
        "licences": [_licence(one) for one in _many(said.get("license")) if _text(one)],
        "versions": [{"label": _text(said["version"])[:500]}] if _text(said.get("version")) else [],
        "produced_by": [work.slug for work in cited], "cite": [work.slug for work in cited],
    }  # fmt: skip
    return [parse(record, f"Croissant '{name[:60]}'"), *cited]


def _slug(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", lower(name[:500]).encode("ascii", "ignore").decode())
    return words.strip("-")[:100].strip("-") or "dataset"


def _shortened(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node under the short names of its properties and types."""
    short = {_PREFIX.sub("", key): value for key, value in node.items()}
    return short | {"@type": [_PREFIX.sub("", str(kind)[:100]) for kind in _many(short.get("@type"))]}


def _cited(said: dict[str, Any], slug: str) -> list[Work]:
    """Return the works of ``citeAs`` where it is BibTeX, as Croissant recommends; their slugs begin with the dataset's.

    So a key like ``smith2020`` does not stand for another work of the review.
    """
    text = _said(said.get("citeAs"))
    if not text.lstrip().startswith("@"):
        return []
    try:
        works = bibtex.read(text)
    except DataError:
        return []
    return [work.model_copy(update={"slug": f"{slug[:40].strip('-')}-{work.slug[:70].strip('-')}"}) for work in works]


def _description(said: dict[str, Any], cited: list[Work]) -> str:
    parts = [_text(said.get("description"))]
    for name in _RAI:
        for key in (name, f"rai:{name}"):
            parts += [f"{name}: {_text(one)}" for one in _many(said.get(key)) if _text(one)]
    parts += [f"derived from: {_text(one)}" for one in _many(said.get("prov:wasDerivedFrom")) if _text(one)]
    if not cited:
        makers = [name for name in map(_text, _many(said.get("creator"))) if name]
        parts += [f"creator: {'; '.join(makers)}"] if makers else []
        parts += [f"citeAs: {_text(said.get('citeAs'))}"] if _text(said.get("citeAs")) else []
    return "\n\n".join(part for part in parts if part)


def _licence(value: Any) -> dict[str, Any]:
    text = _text(value)
    is_url = text.startswith(("http://", "https://"))
    return {"text": "" if is_url else text[:500], "url": text if is_url else None, "spdx": _spdx(text),
            "verification": "imported"}  # fmt: skip


def _spdx(text: str) -> str | None:
    if match := re.search(r"spdx\.org/licenses/([A-Za-z0-9.+-]+?)(?:\.html|\.json)?/?$", text):
        return match[1]
    if match := re.match(r"https?://creativecommons\.org/licenses/(by[a-z-]{0,6})/([0-9]\.[0-9])(?:/|$)", text):
        return _SPDX.get(f"cc-{match[1]}-{match[2]}")
    if re.match(r"https?://creativecommons\.org/publicdomain/zero/1\.0(?:/|$)", text):
        return "CC0-1.0"
    if match := re.match(r"https?://(?:choosealicense\.com|opensource\.org)/licenses?/([A-Za-z0-9.-]+)/?$", text):
        return _SPDX.get(match[1].lower())
    return _SPDX.get(re.sub(r"[\s_]+", "-", text[:100].lower()))


def _many(value: Any) -> list[Any]:
    return [] if value is None else value[:_VALUES] if isinstance(value, list) else [value]


def _of(value: Any) -> Any:
    """Return what a node is called: its name, address or id."""
    first = _many(value)[0] if _many(value) else None
    if isinstance(first, dict):
        return next((first[key] for key in ("name", "url", "@id", "@value") if isinstance(first.get(key), str)), "")
    return first


def _said(value: Any) -> str:
    value = _of(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return "" if isinstance(value, float) and not math.isfinite(value) else str(value)


def _text(value: Any) -> str:
    return " ".join(_said(value).split())


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Possessive: a string that is not closed is read once, to the end.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _check_nesting(text: str) -> None:
    """DataError where brackets nest too deep, or are more than any description has; strings are passed over."""
    if text.count('"') > 2 * _BRACKETS:
        raise DataError(f"the JSON has more than {_BRACKETS:,} texts")
    brackets = _STRING.sub("", text).encode("ascii", "ignore").translate(None, _NO_BRACKETS)
    if len(brackets) > _BRACKETS:
        raise DataError(f"the JSON has more than {_BRACKETS:,} brackets, or is nested more than {DEEPEST} deep")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise DataError(f"the JSON is nested more than {DEEPEST} deep")
