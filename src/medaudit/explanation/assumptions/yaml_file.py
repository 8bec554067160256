"""A YAML file of a user's as plain values, or one line that says where it is none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medaudit.errors import DataError

DEEPEST, LARGEST, MOST_VALUES = 50, 5_000_000, 1_000_000


def read_yaml(path: Path) -> tuple[Any, str]:
    """Return a file's plain values and its text; no object is made, and nothing unfolds.

    Raises DataError, with the line where it is known, for a file that is not there, larger than :data:`LARGEST`, no
    UTF-8, no YAML, nested deeper than :data:`DEEPEST`, or of more than :data:`MOST_VALUES` with its anchors filled in:
    twelve lines of them can be 10^11.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it is there: ten times faster, as safe
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: it is no text in UTF-8 (byte {error.start})") from None
    if len(raw) > LARGEST:
        raise DataError(f"{path}: has more than {LARGEST:,} bytes")
    try:
        _check_size(path, yaml, yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader), text
    except DataError:
        raise
    except yaml.MarkedYAMLError as error:
        at = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else f"{path}"
        raise DataError(f"{at}: no YAML: {error.problem or error.context}") from None
    except Exception as error:  # PyYAML raises anything of `!!int ""`, `!!timestamp x` and 2020-99-99
        raise DataError(f"{path}: no YAML: {' '.join(str(error).split())[:200] or type(error).__name__}") from None


def _check_size(path: Path, yaml: Any, events: Iterable[Any]) -> None:
    """Count the values that a text unfolds to, without unfolding it."""
    named: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        at = f"{path}:{event.start_mark.line + 1}"
        size = 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > DEEPEST:
                raise DataError(f"{at}: nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor is not None:
                named[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in named:
                raise DataError(f"{at}: *{event.anchor} names nothing, or what it stands in")
            size = named[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor is not None:
                named[event.anchor] = size
        open_[-1] = (open_[-1][0], open_[-1][1] + size)
        if open_[-1][1] > MOST_VALUES:
            raise DataError(f"{at}: more than {MOST_VALUES:,} values with its anchors filled in")
