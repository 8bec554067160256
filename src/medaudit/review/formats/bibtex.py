"""BibTeX: works written for a paper's references, and read from them, in one pass over the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from medaudit.errors import DataError
from medaudit.review.records import Work, parse
from medaudit.review.words import plain

LONGEST = 5_000_000
_TYPES = {"paper": "article", "preprint": "misc", "deposit": "misc", "web": "misc", "code": "software"}
_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
_ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "=": "\u0304", ".": "\u0307",
            "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "d": "\u0323", "b": "\u0331", "k": "\u0328",
            "r": "\u030a"}  # fmt: skip
_LETTERS = {"ss": "ß", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å",
            "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "th": "þ", "textbackslash": "\\", "textasciitilde": "~",
            "textasciicircum": "^", "textendash": "–", "textemdash": "—"}  # fmt: skip


def export(works: Iterable[Work]) -> str:
    """Return the works as BibTeX, in UTF-8; keys are their slugs."""
    return "\n".join(_entry(work) for work in works)


def read(text: str) -> list[Work]:
    """Return the works of a BibTeX text; DataError naming the entry where one cannot be read.

    Macros of ``@string`` are filled in; ``@comment`` and ``@preamble`` are left out. Anything that is not an entry is a
    comment, as BibTeX has it.
    """
    if len(text) > LONGEST:
        raise DataError(f"the BibTeX has {len(text):,} characters; expected at most {LONGEST:,}")
    macros: dict[str, str] = {}
    works: list[Work] = []
    taken: set[str] = set()
    for kind, key, fields in _entries(text, macros):
        work = _work(kind, key, fields, taken)
        taken.add(work.slug)
        works.append(work)
    return works


def _entry(work: Work) -> str:
    fields = {
        "title": f"{{{_escape(work.title)}}}",
        "author": " and ".join(_author(name) for name in work.authors),
        "year": str(work.year) if work.year else "",
        ("journal" if work.type == "paper" else "howpublished"): _escape(work.venue),
        "volume": _escape(work.volume), "number": _escape(work.issue),
        "pages": "--".join(map(_escape, work.pages.split("-"))),
        "doi": work.doi or "", "eprint": work.arxiv or "", "archiveprefix": "arXiv" if work.arxiv else "",
        "url": work.url or "",
    }  # fmt: skip
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{_TYPES[work.type]}{{{work.slug},\n" + ",\n".join(lines) + "\n}\n"


def _escape(text: str) -> str:
    # Two hyphens would come back as a dash.
    return re.sub(r"-(?=-)", "-{}", "".join(_ESCAPED.get(letter, letter) for letter in text))


def _author(name: str) -> str:
    """A name with "and" in it, or of several words without a comma (a consortium), must stand in braces."""
    escaped = _escape(name)
    return f"{{{escaped}}}" if re.search(r"\band\b", name) or ("," not in name and " " in name) else escaped


def _entries(text: str, macros: dict[str, str]) -> Iterable[tuple[str, str, dict[str, str]]]:
    place = 0
    while (start := text.find("@", place)) >= 0:
        match = re.compile(r"@\s*([A-Za-z]+)\s*([{(])").match(text, start)
        if not match:
            place = start + 1
            continue
        kind, place = match[1].lower(), match.end()
        close = "}" if match[2] == "{" else ")"
        if kind in ("comment", "preamble"):
            place = _skip(text, place, close)
            continue
        if kind == "string":
            fields, place = _fields(text, place, close, macros, "@string")
            macros |= fields
            continue
        end = re.compile(r"\s*([^\s,{}()=\"]*)\s*").match(text, place)
        key = end[1] if end else ""
        place = end.end() if end else place
        if place < len(text) and text[place] == ",":
            place += 1
        elif place >= len(text) or text[place] != close:
            raise DataError(f"BibTeX entry '{key[:60]}': expected a comma after the key")
        fields, place = _fields(text, place, close, macros, key)
        yield kind, key, fields


def _skip(text: str, place: int, close: str) -> int:
    depth = 1
    for match in re.compile(r"[{}()]").finditer(text, place):
        if match[0] in "{(":
            depth += 1
        else:
            depth -= 1
        if depth == 0:
            return match.end()
    return len(text)


_NAME = re.compile(r"\s*([A-Za-z][\w:.+/-]*)\s*=\s*")
_GAP = re.compile(r"[\s,]*")
_BARE = re.compile(r"[\w:.+/-]+")
_MARK = re.compile(r'[{}"\\]')


def _fields(text: str, place: int, close: str, macros: dict[str, str], key: str) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    while True:
        gap = _GAP.match(text, place)
        place = gap.end() if gap else place
        if place >= len(text):
            raise DataError(f"BibTeX entry '{key[:60]}' is not closed")
        if text[place] == close:
            return fields, place + 1
        match = _NAME.match(text, place)
        if not match:
            raise DataError(f"BibTeX entry '{key[:60]}': expected 'name = value' at '{text[place : place + 30]}'")
        value, place = _value(text, match.end(), macros, key)
        fields.setdefault(match[1].lower(), value)


def _value(text: str, place: int, macros: dict[str, str], key: str) -> tuple[str, int]:
    parts = []
    while True:
        if place >= len(text):
            raise DataError(f"BibTeX entry '{key[:60]}' is not closed")
        if text[place] in '{"':
            part, place = _quoted(text, place, key)
            parts.append(part)
        else:
            match = _BARE.match(text, place)
            if not match:
                raise DataError(f"BibTeX entry '{key[:60]}': expected a value at '{text[place : place + 30]}'")
            parts.append(macros.get(match[0].lower(), match[0]))
            place = match.end()
        joined = re.compile(r"\s*#\s*").match(text, place)
        if not joined:
            return "".join(parts), place
        place = joined.end()


def _quoted(text: str, place: int, key: str) -> tuple[str, int]:
    """Return what stands in braces or quotation marks; braces inside are balanced, a backslash guards one."""
    opened, start = text[place], place + 1
    depth, place = 0, start
    while match := _MARK.search(text, place):
        place = match.end()
        if match[0] == "\\":
            place += 1
        elif match[0] == "{":
            depth += 1
        elif match[0] == "}":
            if depth == 0 and opened == "{":
                return text[start : place - 1], place
            depth -= 1
        elif opened == '"' and depth == 0:
            return text[start : place - 1], place
    raise DataError(f"BibTeX entry '{key[:60]}': a {'brace' if opened == '{' else 'quotation mark'} is not closed")


_COMMAND = re.compile(
    r"\\(?:(?P<accent>[`'^~\"=.])\s*\{?\s*(?:\\(?P<dotless>[ij])(?![A-Za-z])|(?P<letter>[^\W\d_]))\s*\}?"
    r"|(?P<named>[uvHcdbkr])(?:\s*\{\s*(?P<inner>\\?[^\W\d_])\s*\}|\s+(?P<after>[^\W\d_]))"
    r"|(?P<word>[A-Za-z]+)\s*(?:\{\})?|(?P<sign>.))",
    re.DOTALL,
)


def unescape(text: str) -> str:
    """Return a BibTeX value as plain text: accents composed, commands resolved, braces gone."""

    def one(match: re.Match[str]) -> str:
        if match["accent"]:
            return (match["dotless"] or match["letter"]) + _ACCENTS[match["accent"]]
        if match["named"]:
            return (match["inner"] or match["after"]).removeprefix("\\") + _ACCENTS[match["named"]]
        if match["word"]:
            return _LETTERS.get(match["word"], "")
        return match["sign"] if match["sign"] in "\\{}&%$#_~^ -,;" else ""

    pieces = []
    dashed = re.sub(r"(?<!-)--(?!-)", "–", text)  # before braces go: "-{}-" is two hyphens
    for piece in re.split(r"(\\\\|\\[{}])", dashed):
        if piece in (r"\{", r"\}"):
            pieces.append(piece[1:])
        elif piece == r"\\":
            pieces.append(" ")
        else:
            pieces.append(_COMMAND.sub(one, piece).replace("{", "").replace("}", ""))
    whole = "".join(pieces)
    if "textasciitilde" not in text:  # a bare tilde is a space that does not break
        whole = whole.replace("~", " ")
    return " ".join(unicodedata.normalize("NFC", whole).split())


def _people(text: str) -> list[str]:
    """Part names at `` and `` outside of braces."""
    names, depth, start = [], 0, 0
    for match in re.compile(r"\\.|[{}]|\s+and\s+", re.DOTALL).finditer(text):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
        elif depth == 0 and not match[0].startswith("\\"):
            names.append(text[start : match.start()])
            start = match.end()
    names.append(text[start:])
    return [name for name in (unescape(one) for one in names) if name and name != "others"]


def _work(kind: str, key: str, fields: dict[str, str], taken: set[str]) -> Work:
    said = {name: unescape(value) for name, value in fields.items() if name not in ("author", "editor")}
    doi = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", said.get("doi", ""), flags=re.IGNORECASE)
    year = re.search(r"\d{4}", said.get("year", "") or said.get("date", ""))
    venue = next((said[name] for name in ("journal", "journaltitle", "booktitle", "howpublished", "publisher", "school")
                  if said.get(name)), "")  # fmt: skip
    eprint = (
        said.get("eprint", "") if said.get("archiveprefix", said.get("eprinttype", "arxiv")).lower() == "arxiv" else ""
    )
    url = said.get("url", "")
    record = {
        "kind": "work", "slug": _slug(key or said.get("title", ""), taken),
        "type": {"software": "code", "online": "web", "unpublished": "preprint"}.get(
            kind, "preprint" if eprint and not doi else "paper" if kind != "misc" or doi else "web" if url else "paper"
        ),
        "title": said.get("title", "")[:500],
        "authors": _people(fields.get("author", fields.get("editor", "")))[:1_000],
        "year": int(year[0]) if year else None, "venue": venue[:300], "volume": said.get("volume", "")[:40],
        "issue": (said.get("number") or said.get("issue", ""))[:40],
        "pages": said.get("pages", "").replace("–", "-")[:40], "doi": doi or None, "arxiv": eprint or None,
        "url": url if url.startswith(("http://", "https://")) else None,
        "verification": "imported",
    }  # fmt: skip
    found = parse(record, f"BibTeX entry '{key[:60]}'")
    assert isinstance(found, Work)
    return found


def _slug(text: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", plain(text).encode("ascii", "ignore").decode()).strip("-")[:100].strip("-")
    base = base or "work"
    return base if base not in taken else next(f"{base}-{n}" for n in range(2, 100_000) if f"{base}-{n}" not in taken)
