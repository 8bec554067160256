"""A dataset out of a Croissant file (1.0 or 1.1): JSON-LD read as JSON, no context and no address is ever fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medaudit.errors import DataError
from medaudit.review.importers.bibliography import text_of
from medaudit.review.records import Record, parse
from medaudit.review.words import plain as lower

DEEPEST = 100
_PREFIX = re.compile(r"^(?:https?://schema\.org/|sc:|schema:|cr:|http://mlcommons\.org/croissant/(?:RAI/)?)")
_TASKS = ("classification", "segmentation", "detection", "regression", "registration", "retrieval", "reconstruction")


def read(path: Path) -> list[Record]:
    """Return the dataset of a Croissant file; DataError naming the file."""
    try:
        return read_text(text_of(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_text(text: str) -> list[Record]:
    """Return the dataset of a Croissant text, as one record.

    A value and a list of one value are the same, as in JSON-LD. ``rai:dataBiases`` and the like are kept in the
    description: a finding needs a source of its own, which Croissant does not hold. DataError where it is no Croissant.
    """
    if _depth(text) > DEEPEST:
        raise DataError(f"the JSON is nested more than {DEEPEST} deep")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the JSON cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise DataError("expected a JSON object that describes a dataset")
    said = {_PREFIX.sub("", key): value for key, value in found.items()}
    kinds = [_PREFIX.sub("", str(kind)) for kind in _many(said.get("@type"))]
    if "Dataset" not in kinds or not _text(said.get("name")):
        raise DataError("is no Croissant description: expected @type sc:Dataset and a name")
    name = _text(said["name"])
    homepage = _text(said.get("url"))
    dois = re.findall(r"10\.\d{4,9}/[^\s\"'<>}]+", " ".join(map(str, [*_many(said.get("sameAs")), homepage])))
    published = re.match(r"\d{4}", _text(said.get("datePublished")))
    words = " ".join(str(word).lower() for word in _many(said.get("keywords")))
    record = {
        "kind": "dataset", "slug": _slug(name),
        "name": name[:500], "description": _description(said)[:20_000],
        "homepage": homepage if homepage.startswith(("http://", "https://")) else None,
        "host": _text(_of(said.get("publisher")))[:200], "year": int(published[0]) if published else None,
        "aliases": [{"name": one[:500]} for one in map(_text, _many(said.get("alternateName"))) if one],
        "identifiers": [{"scheme": "doi", "value": doi.rstrip(".,;").lower()} for doi in dict.fromkeys(dois)],
        "tasks": [task for task in _TASKS if task in words],
        "licences": [_licence(one) for one in _many(said.get("license")) if _text(_of(one))],
        "versions": [{"label": _text(said["version"])[:500]}] if _text(said.get("version")) else [],
    }  # fmt: skip
    return [parse(record, f"Croissant '{name[:60]}'")]


def _slug(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", lower(name).encode("ascii", "ignore").decode())
    return words[:100].strip("-") or "dataset"


def _description(said: dict[str, Any]) -> str:
    parts = [_text(said.get("description"))]
    for key in ("dataBiases", "rai:dataBiases", "dataLimitations", "rai:dataLimitations", "dataCollection",
                "rai:dataCollection"):  # fmt: skip
        parts += [f"{key.removeprefix('rai:')}: {_text(one)}" for one in _many(said.get(key)) if _text(one)]
    return "\n\n".join(part for part in parts if part)


def _licence(value: Any) -> dict[str, Any]:
    text = _text(_of(value))
    spdx = re.search(r"spdx\.org/licenses/([A-Za-z0-9.+-]+?)(?:\.html|\.json)?/?$", text)
    is_url = text.startswith(("http://", "https://"))
    return {"text": "" if is_url else text[:500], "url": text if is_url else None, "spdx": spdx[1] if spdx else None,
            "verification": "imported"}  # fmt: skip


def _many(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _of(value: Any) -> Any:
    """Return what a node is called: its name, address or id."""
    first = _many(value)[0] if _many(value) else None
    if isinstance(first, dict):
        return next((first[key] for key in ("name", "url", "@id", "@value") if isinstance(first.get(key), str)), "")
    return first


def _text(value: Any) -> str:
    value = _of(value)
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def _depth(text: str) -> int:
    """Return how deep brackets nest, without reading what is in them."""
    deepest = depth = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside, escaped = (escaped or letter != '"'), letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "}]":
            depth -= 1
    return deepest
