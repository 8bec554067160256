"""RIS: works written for and read from reference managers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medaudit.errors import DataError
from medaudit.review.formats.bibtex import LONGEST, MOST, _slug
from medaudit.review.records import Work, parse

_TYPES = {"paper": "JOUR", "preprint": "UNPB", "deposit": "DATA", "web": "ELEC", "code": "COMP"}
_BACK = {"JOUR": "paper", "CONF": "paper", "CPAPER": "paper", "CHAP": "paper", "UNPB": "preprint", "DATA": "deposit",
         "ELEC": "web", "COMP": "code"}  # fmt: skip
_LINE = re.compile(r"([A-Z][A-Z0-9])  - ?(.*)")
_ENDS = re.compile(r"^[ \t]*ER  -", re.MULTILINE)
_COUNTED = re.compile(r"[0-9]{1,6}\.?")
"""Some programs (rispy) write each record's number before it."""
_ARXIV = re.compile(
    r"arxiv(?:\.org/abs/|[:/ ] ?)(\d{4}\.\d{4,5}(?:v\d+)?|[a-z-]+(?:\.[A-Z]{2})?/\d{7}(?:v\d+)?)", re.IGNORECASE
)


def export(works: Iterable[Work]) -> str:
    """Return the works as RIS, in UTF-8, lines ended by CR LF as the format has it."""
    return "".join(_entry(work) for work in works)


def read(text: str) -> list[Work]:
    """Return the works of a RIS text; DataError naming the line where one cannot be read."""
    if len(text) > LONGEST:
        raise DataError(f"the RIS has {len(text):,} characters; expected at most {LONGEST:,}")
    if len(_ENDS.findall(text)) > MOST:  # before the first work is made: ten thousand take a second
        raise DataError(f"the RIS has more than {MOST:,} records; split it")
    works: list[Work] = []
    taken: dict[str, int] = {}
    fields: dict[str, list[list[str]]] | None = None
    last = ""
    for n, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        if not match:
            if line.strip() and fields is not None and last:
                fields[last][-1].append(line.strip())  # joined at the end: a text of many lines is copied once
            elif line.strip() and not _COUNTED.fullmatch(line.strip()):
                raise DataError(f"RIS, line {n}: expected 'TY  - JOUR' or the like, found '{line.strip()[:40]}'")
            continue
        tag, value = match[1], match[2].strip()
        if tag == "TY":
            if fields is not None:
                raise DataError(f"RIS, line {n}: a record begins before the last one has its ER")
            if len(works) == MOST:
                raise DataError(f"the RIS has more than {MOST:,} records; split it")
            fields, last = {"TY": [[value]]}, "TY"
        elif fields is None:
            raise DataError(f"RIS, line {n}: {tag} stands before TY")
        elif tag == "ER":
            joined = {name: [" ".join(parts) for parts in values] for name, values in fields.items()}
            works.append(_work(joined, n, taken))
            fields, last = None, ""
        else:
            fields.setdefault(tag, []).append([value])
            last = tag
    if fields is not None:
        raise DataError("RIS: the last record has no ER")
    return works


def _entry(work: Work) -> str:
    first, _, last = work.pages.partition("-")
    if not (first and last):
        first, last = work.pages, ""
    lines = [("TY", _TYPES[work.type]), ("ID", work.slug), ("TI", work.title)]
    lines += [("AU", name) for name in work.authors if name != "others"]  # which is BibTeX's way to say et al.
    lines += [("PY", str(work.year) if work.year else ""), ("JO", work.venue), ("VL", work.volume), ("IS", work.issue),
              ("SP", first), ("EP", last), ("DO", work.doi or ""), ("UR", work.url or ""),
              ("AN", f"arXiv:{work.arxiv}" if work.arxiv else "")]  # fmt: skip
    return "".join(f"{tag}  - {' '.join(value.split())}\r\n" for tag, value in lines if value) + "ER  - \r\n\r\n"


def _work(fields: dict[str, list[str]], line: int, taken: dict[str, int]) -> Work:
    def first(*tags: str) -> str:
        return next((fields[tag][0] for tag in tags if fields.get(tag) and fields[tag][0]), "")

    year = re.match(r"[0-9]{4}", first("PY", "Y1", "DA"))
    pages = "-".join(part for part in (first("SP"), first("EP")) if part)
    doi = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", first("DO", "DI"), flags=re.IGNORECASE)
    arxiv = _ARXIV.search(f"{first('AN')} {first('UR')}")
    url = next((one for one in fields.get("UR", []) if one.startswith(("http://", "https://"))), None)
    title = first("TI", "T1", "CT")
    authors = [name for tag in ("AU", "A1") for name in fields.get(tag, []) if name]
    record = {
        "kind": "work", "slug": _slug(first("ID") or title, taken), "type": _BACK.get(first("TY"), "paper"),
        "title": title[:500], "authors": authors[:1_000], "year": int(year[0]) if year else None,
        "venue": first("JO", "JF", "T2", "JA", "PB")[:300], "volume": first("VL")[:40], "issue": first("IS")[:40],
        "pages": pages[:40], "doi": doi or None, "arxiv": arxiv[1] if arxiv else None, "url": url,
        "verification": "imported",
    }  # fmt: skip
    found = parse(record, f"RIS, record before line {line}")
    assert isinstance(found, Work)
    return found
