"""What differs between two states of a record, by field, as operations of RFC 6902."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Difference:
    """One operation; ``path`` as in JSON Pointer (RFC 6901), ``old`` for a reader."""

    op: Literal["add", "remove", "replace"]
    path: str
    old: Any = None
    new: Any = None


def between(first: Any, second: Any) -> list[Difference]:
    """Return what turns ``first`` into ``second`` (each a record's plain values, or None), in order of application."""
    if first is None or second is None:
        if first == second:
            return []
        return [Difference("add" if first is None else "remove", "", first, second)]
    return list(_between(first, second, ""))


def three_ways(base: str | None, theirs: str | None, ours: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return by field what was there, what it is now, and what was proposed, wherever now and proposed differ."""
    states = [
        {} if state is None else json.loads(state) if isinstance(state, str) else dict(state)
        for state in (base, theirs, ours)
    ]
    fields = sorted({name for state in states for name in state})
    return [
        {"field": name, "base": states[0].get(name), "theirs": states[1].get(name), "ours": states[2].get(name)}
        for name in fields
        if states[1].get(name) != states[2].get(name)
    ]


def _between(first: Any, second: Any, path: str) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in [key for key in first if key not in second]:
            yield Difference("remove", f"{path}/{_escaped(key)}", first[key])
        for key in second:
            if key not in first:
                yield Difference("add", f"{path}/{_escaped(key)}", None, second[key])
            else:
                yield from _between(first[key], second[key], f"{path}/{_escaped(key)}")
    elif isinstance(first, list) and isinstance(second, list):
        for n, (one, other) in enumerate(zip(first, second, strict=False)):
            yield from _between(one, other, f"{path}/{n}")
        for n in range(len(first) - 1, len(second) - 1, -1):
            yield Difference("remove", f"{path}/{n}", first[n])
        for n in range(len(first), len(second)):
            yield Difference("add", f"{path}/{n}", None, second[n])
    elif first != second or isinstance(first, bool) != isinstance(second, bool):
        yield Difference("replace", path, first, second)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
