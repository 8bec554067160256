"""BibTeX: works written for a paper's references, and read from them, in one pass over the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from medaudit.errors import DataError
from medaudit.review.records import Work, parse
from medaudit.review.words import plain

LONGEST = 5_000_000
MOST = 10_000
"""Works that one text may hold: as many as are read in about a second."""
_LONGEST_MACRO = 2_000
_TYPES = {"paper": "article", "preprint": "misc", "deposit": "dataset", "web": "online", "code": "software"}
_KINDS = {"software": "code", "dataset": "deposit", "data": "deposit", "online": "web", "electronic": "web",
          "www": "web", "unpublished": "preprint"}  # fmt: skip
# A brace is never written as such: BibTeX itself counts \{ as a brace that opens.
_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
_ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "=": "\u0304", ".": "\u0307",
            "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "d": "\u0323", "b": "\u0331", "k": "\u0328",
            "r": "\u030a"}  # fmt: skip
_LETTERS = {"ss": "ß", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å",
            "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "th": "þ", "TH": "Þ", "DH": "Ð", "dj": "đ", "DJ": "Đ",
            "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textbraceleft": "{",
            "textbraceright": "}", "lbrace": "{", "rbrace": "}", "textendash": "–", "textemdash": "—"}  # fmt: skip


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
    works: list[Work] = []
    taken: dict[str, int] = {}
    for kind, key, fields in _entries(text, {}):
        if len(works) == MOST:
            raise DataError(f"the BibTeX has more than {MOST:,} entries; split it")
        works.append(_work(kind, key, fields, taken))
    return works


def _entry(work: Work) -> str:
    fields = {
        "title": f"{{{_escape(work.title)}}}",
        "author": " and ".join(_author(name) for name in work.authors),
        "year": str(work.year) if work.year else "",
        ("journal" if work.type == "paper" else "howpublished"): _escape(work.venue),
        "volume": _escape(work.volume), "number": _escape(work.issue),
        "pages": "--".join(map(_escape, work.pages.split("-"))),
        "doi": _address(work.doi), "eprint": work.arxiv or "", "archiveprefix": "arXiv" if work.arxiv else "",
        "url": _address(work.url), "pubstate": "prepublished" if work.type == "preprint" and not work.arxiv else "",
    }  # fmt: skip
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{_TYPES[work.type]}{{{work.slug},\n" + ",\n".join(lines) + "\n}\n"


def _escape(text: str) -> str:
    # Two hyphens, two backticks or two apostrophes would come back as a dash or a quotation mark.
    return re.sub(r"([-`'])(?=\1)", r"\1{}", "".join(_ESCAPED.get(letter, letter) for letter in text))


def _address(text: str | None) -> str:
    """An address stands as it is, but for what would end its field."""
    return re.sub(r"[{}\\]", lambda match: f"%{ord(match[0]):02X}", text or "")


def _author(name: str) -> str:
    """A name with "and" in it, or of several words without a comma (a consortium), must stand in braces."""
    escaped = _escape(name)
    return f"{{{escaped}}}" if re.search(r"\band\b", name) or ("," not in name and " " in name) else escaped


_BEGIN = re.compile(r"@\s*([A-Za-z]+)\s*([{(])")
_KEY = {"}": re.compile(r"\s*([^\s,{}=\"]*)\s*"), ")": re.compile(r"\s*([^\s,{}()=\"]*)\s*")}


def _entries(text: str, macros: dict[str, str]) -> Iterable[tuple[str, str, dict[str, str]]]:
    place = 0
    while (start := text.find("@", place)) >= 0:
        match = _BEGIN.match(text, start)
        if not match:
            place = start + 1
            continue
        kind, place = match[1].lower(), match.end()
        close = "}" if match[2] == "{" else ")"
        if kind in ("comment", "preamble"):
            place = _skip(text, place, close, kind)
            continue
        if kind == "string":
            fields, place = _fields(text, place, close, macros, "@string")
            macros |= fields
            continue
        end = _KEY[close].match(text, place)
        key = end[1] if end else ""
        place = end.end() if end else place
        if place < len(text) and text[place] == ",":
            place += 1
        elif place >= len(text) or text[place] != close:
            raise DataError(f"BibTeX entry '{key[:60]}': expected a comma after the key")
        fields, place = _fields(text, place, close, macros, key)
        yield kind, key, fields


def _skip(text: str, place: int, close: str, kind: str) -> int:
    """Return the place behind what is left out; only braces nest, a smiley in a comment closes nothing."""
    depth = 0
    for match in re.compile(r"[{})]").finditer(text, place):
        if match[0] == close and depth == 0:
            return match.end()
        depth += {"{": 1, "}": -1}.get(match[0], 0)
    raise DataError(f"BibTeX: an @{kind} is not closed")


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
    length, filled = 0, False
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
            filled = filled or match[0].lower() in macros
            place = match.end()
        joined = re.compile(r"\s*#\s*").match(text, place)
        # Forty macros, each twice the one before, would fill the memory.
        length += len(parts[-1])
        if filled and length > _LONGEST_MACRO:
            raise DataError(f"BibTeX entry '{key[:60]}': macros make a value longer than {_LONGEST_MACRO:,} characters")
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


_TOKEN = re.compile(
    r"\\(?:(?P<accent>[`'^~\"=.]) ?(?:\\(?P<dotless>[ij])(?![A-Za-z])|(?P<letter>[^\W\d_])"
    r"|\{ ?(?:\\(?P<dotless_in>[ij])|(?P<letter_in>[^\W\d_])) ?\})"
    r"|(?P<named>[uvHcdbkr])(?: ?\{ ?\\?(?P<inner>[^\W\d_]) ?\}| (?P<after>[^\W\d_])(?![^\W\d_]))"
    r"|(?P<word>[A-Za-z]+)(?: ?\{\}| )?|(?P<sign>.))"
    r"|(?P<dash>-{2,})|(?P<quote>``|'')|(?P<plain>[{}~])",
    re.DOTALL,
)
_SIGNS = {sign: sign for sign in "{}&%$#_~^"} | dict.fromkeys(" ,;:\\", " ")
_PLAIN = {"``": "“", "''": "”", "--": "–", "---": "—", "~": " ", "{": "", "}": ""}


def unescape(text: str) -> str:
    """Return a BibTeX value as plain text: accents composed, commands resolved, braces gone; in one pass."""

    def one(match: re.Match[str]) -> str:
        if match["accent"]:
            letter = match["dotless"] or match["letter"] or match["dotless_in"] or match["letter_in"]
            return str(letter) + _ACCENTS[match["accent"]]
        if match["named"]:
            return str(match["inner"] or match["after"]) + _ACCENTS[match["named"]]
        if match["word"]:
            return _LETTERS.get(match["word"], "")
        if match["sign"]:
            return _SIGNS.get(match["sign"], "")
        return _PLAIN.get(match[0], match[0])

    # Spaces first, so that no pattern has to look for the end of many.
    return " ".join(unicodedata.normalize("NFC", _TOKEN.sub(one, " ".join(text.split()))).split())


def _verbatim(text: str) -> str:
    """Return an address or number: here a tilde and two hyphens mean themselves, and so does a percent sign."""
    bare = re.sub(r"\$ ?\\sim ?\$|\\textasciitilde(?![A-Za-z])", "~", re.sub(r"\\url(?![A-Za-z])", "", text))
    return "".join(re.sub(r"\\([_&%#$~])(?:\{\})?|[{}]", lambda m: m[1] or "", bare).split())


_AND = re.compile(r"\\.|[{}]| and(?= )", re.DOTALL)


def _people(text: str) -> list[str]:
    """Part names at `` and `` outside of braces; a last ``others`` stays, and says that there are more."""
    text = " ".join(text.split())
    names, depth, start = [], 0, 0
    for match in _AND.finditer(text):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
        elif depth == 0 and not match[0].startswith("\\"):
            names.append(text[start : match.start()])
            start = match.end()
    names.append(text[start:])
    return [name for name in map(unescape, names) if name]


_VERBATIM = ("doi", "url", "eprint")
_TEXTS = ("title", "year", "date", "journal", "journaltitle", "booktitle", "howpublished", "publisher", "school",
          "volume", "number", "issue", "pages", "archiveprefix", "eprinttype", "pubstate")  # fmt: skip
_VENUES = ("journal", "journaltitle", "booktitle", "howpublished", "publisher", "school")
_ARXIV = re.compile(r"(?:arxiv:)?(?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?", re.IGNORECASE)


def _work(kind: str, key: str, fields: dict[str, str], taken: dict[str, int]) -> Work:
    said = {name: unescape(fields[name]) for name in _TEXTS if name in fields}
    said |= {name: _verbatim(fields[name]) for name in _VERBATIM if name in fields}
    doi = re.sub(r"%(7B|7D|5C)", lambda m: chr(int(m[1], 16)), said.get("doi", ""), flags=re.IGNORECASE)
    year = re.search(r"[0-9]{4}", said.get("year", "") or said.get("date", ""))
    venue = next((said[name] for name in _VENUES if said.get(name)), "")
    eprint, catalogue = said.get("eprint", ""), said.get("archiveprefix") or said.get("eprinttype", "")
    # Without a name of the catalogue a number of another one may stand here, as PubMed's.
    if (catalogue or "arxiv").lower() != "arxiv" or not (catalogue or _ARXIV.fullmatch(eprint)):
        eprint = ""
    url = said.get("url", "")
    if not url and (match := re.search(r"\\url\s?\{([^{}]*)\}", fields.get("howpublished", ""))):
        url, venue = _verbatim(match[1]), "" if venue == said["howpublished"] else venue
    record = {
        "kind": "work", "slug": _slug(key or said.get("title", ""), taken),
        "type": _type(kind, venue, eprint, doi, url, said.get("pubstate", "")),
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


def _type(kind: str, venue: str, eprint: str, doi: str, url: str, state: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    if state == "prepublished":
        return "preprint"
    if kind == "misc":
        return "preprint" if eprint else "web" if url and not doi else "paper"
    # arXiv and DBLP call a preprint an article of "arXiv preprint ..." or "CoRR".
    return "preprint" if eprint and not doi and re.search(r"arxiv|\bcorr\b", venue, re.IGNORECASE) else "paper"


def _slug(text: str, taken: dict[str, int]) -> str:
    """Return a slug made of ``text``; ``taken`` counts how often each was asked for: a thousand alike are quick."""
    base = re.sub(r"[^a-z0-9]+", "-", plain(text[:400]).encode("ascii", "ignore").decode()).strip("-")[:100].strip("-")
    base = base or "work"
    found = base
    while found in taken:
        taken[base] += 1
        found = f"{base}-{taken[base]}"
    taken[found] = 1
    return found
