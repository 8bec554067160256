"""The grammar of search: words, "phrases", starts*, -without, one OR another, and field:value.

    chest x-ray shortcut
    "patient overlap" kind:artifact -type:documentation
    modality:CR access:open year:2018..2022 has:shortcut
    dataset:chexpert severity:major OR severity:critical

Items beside each other must all hold; ``OR`` joins its two neighbours. It is the same on SQLite and PostgreSQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medaudit.errors import UsageError
from medaudit.review import vocabulary
from medaudit.review.words import folded, stems

FIELDS: dict[str, tuple[str, ...] | None] = {
    "kind": ("dataset", "artifact", "work"),
    "type": tuple(vocabulary.ARTIFACTS),
    "finding": None,
    "severity": vocabulary.SEVERITIES,
    "modality": tuple(vocabulary.MODALITIES),
    "anatomy": None,
    "task": None,
    "access": vocabulary.ACCESS,
    "licence": ("open", "share alike", "non-commercial", "own terms", "unknown"),
    "status": vocabulary.STATUS,
    "year": None,
    "size": None,
    "has": None,
    "dataset": None,
    "curated": ("yes", "no"),
    "verification": vocabulary.VERIFICATION,
}
"""What can stand before a colon, and the words that can follow it (None: any)."""

_ITEM = re.compile(
    r"""\s*(?:
        (?P<or>OR)(?=\s|$)
      | (?P<minus>-)?
        (?: (?P<field>[A-Za-z]+):(?P<value>"[^"]*"|\S*)
          | "(?P<phrase>[^"]*)"
          | (?P<word>[^\s"]+) )
    )""",
    re.VERBOSE,
)
_RANGE = re.compile(r"(?P<low>\d{1,12})?\.\.(?P<high>\d{1,12})?|(?P<sign>[<>]=?)(?P<bound>\d{1,12})|(?P<one>\d{1,12})")
LONGEST, MOST = 400, 24


@dataclass(frozen=True)
class Words:
    """Stems that must stand beside each other; the last may be a start. ``name``: the same as part of a name."""

    stems: tuple[str, ...]
    start: bool
    name: str


@dataclass(frozen=True)
class Condition:
    """A field and what it must be; ``low`` and ``high`` for numbers, both included."""

    field: str
    value: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Item:
    """One of ``any_of`` must hold, or none where ``without``."""

    any_of: tuple[Words | Condition, ...]
    without: bool = False


def parse(query: str) -> tuple[Item, ...]:
    """Return the items of a query; UsageError saying what is wrong with it."""
    if len(query) > LONGEST:
        raise UsageError(f"a query has at most {LONGEST} characters; this one has {len(query)}")
    items: list[Item] = []
    joins, place = False, 0
    while match := _ITEM.match(query, place):
        place = match.end()
        if match["or"]:
            if not items or joins:
                raise UsageError("OR stands between two things")
            joins = True
            continue
        one = _one(match)
        if one is None:
            continue
        without = bool(match["minus"])
        if joins:
            if without or items[-1].without:
                raise UsageError("OR cannot join what is to be left out")
            items[-1] = Item((*items[-1].any_of, one))
            joins = False
        else:
            items.append(Item((one,), without))
    if joins:
        raise UsageError("OR stands between two things")
    if query[place:].strip():
        raise UsageError(f"a quotation mark is not closed: {query[place:].strip()[:40]}")
    if sum(len(item.any_of) for item in items) > MOST:
        raise UsageError(f"a query has at most {MOST} words and conditions")
    return tuple(items)


def _one(match: re.Match[str]) -> Words | Condition | None:
    if match["field"]:
        return _condition(match["field"].lower(), match["value"].strip('"').strip())
    said = match["phrase"] if match["phrase"] is not None else match["word"]
    start = match["word"] is not None and said.endswith("*")
    found = tuple(stems(said))
    if not found:
        return None
    if start:  # the start of a word is not stemmed: "segm*" is to find "segment"
        found = (*found[:-1], folded(re.split(r"[\W_]+", said.rstrip("*"))[-1]))
    return Words(found, start, folded(said))


def _condition(field: str, value: str) -> Condition:
    if field not in FIELDS:
        raise UsageError(f"no field is called '{field}'; there are: {', '.join(FIELDS)}")
    if not value:
        raise UsageError(f"{field}: needs a value, as {field}:{(FIELDS[field] or ('...',))[0]}")
    if field in ("year", "size"):
        match = _RANGE.fullmatch(value)
        if not match:
            raise UsageError(f"{field}:{value}: expected a number, 2018..2022, >=2018 or <2018")
        if match["one"]:
            low = high = float(match["one"])
            return Condition(field, value, low, high)
        if match["sign"]:
            bound = float(match["bound"])
            return {
                "<": Condition(field, value, None, bound - 1), "<=": Condition(field, value, None, bound),
                ">": Condition(field, value, bound + 1, None), ">=": Condition(field, value, bound, None),
            }[match["sign"]]  # fmt: skip
        return Condition(
            field, value, float(match["low"]) if match["low"] else None, float(match["high"]) if match["high"] else None
        )
    known = FIELDS[field]
    if known is not None:
        by_fold = {folded(word): word for word in known}
        if folded(value) not in by_fold:
            raise UsageError(f"{field}:{value}: expected one of {', '.join(known)}")
        value = by_fold[folded(value)]
    return Condition(field, value.lower() if field in ("anatomy", "task", "finding", "has") else value)
