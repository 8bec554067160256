"""The curated seed: one YAML file a record, so that a change of it is a difference that can be reviewed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from medaudit.errors import DataError
from medaudit.review.records import KINDS, Record, mentioned, parse

FOLDER = Path(__file__).parent
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads the seed ten times faster


def read(folder: Path = FOLDER) -> list[Record]:
    """Return the records of ``folder``: works, datasets, artifacts, in order of their slugs.

    Raises DataError naming the file where one is no record, is named otherwise than its slug, or refers to a record
    that is not there.
    """
    records: list[Record] = []
    for kind in ("work", "dataset", "artifact"):
        for path in sorted((folder / f"{kind}s").glob("*.yaml")):
            record = read_one(path)
            if record.kind != kind or record.slug != path.stem:
                raise DataError(f"{path}: holds {record.kind} '{record.slug}'; expected {kind} '{path.stem}'")
            records.append(record)
    check(records)
    return records


def read_one(path: Path) -> Record:
    """Return the record of one YAML file; DataError naming the file."""
    try:
        plain = yaml.load(path.read_bytes(), Loader=_LOADER)  # a safe loader: no objects, only plain values
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    return parse(plain, str(path))


def check(records: Iterable[Record], known: Iterable[tuple[str, str]] = ()) -> None:
    """DataError where a record refers to one that is neither among ``records`` nor ``known``."""
    records = list(records)
    there = {(record.kind, record.slug) for record in records} | set(known)
    for record in records:
        for kind, slug in mentioned(record):
            if (kind, slug) not in there:
                raise DataError(f"{record.kind} '{record.slug}' refers to {kind} '{slug}', which is not there")


__all__ = ["FOLDER", "KINDS", "check", "read", "read_one"]
