"""Where a text mentions datasets, and whether that counts as use: the rules of Sourget et al. (arXiv 2402.03003).

Names are found as whole words in time proportional to the text: a tree of words is walked from each word, at most
:data:`MOST_WORDS` deep; no regular expression is made of names. A mention counts as use in sections on data, methods
and experiments, in tables, figures, footnotes and the abstract. A name that others bear too needs a second cue.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, select

from medaudit.errors import UsageError
from medaudit.review import tables as t
from medaudit.review import vocabulary
from medaudit.review.living.providers import doi_of
from medaudit.review.records import Use
from medaudit.review.words import plain, stems

Part = Literal["body", "title", "abstract", "table", "figure", "footnote", "availability", "references"]
COUNTED_PARTS: tuple[Part, ...] = ("abstract", "table", "figure", "footnote", "availability")
COUNTED_WORDS = ("data", "method", "result", "setup", "material", "experiment", "evaluat")
"""Parts of a heading under which a mention is a use: the list of Sourget et al."""
NEAR = 300
"""Letters around an ambiguous name within which a cue must stand."""
MOST_WORDS = 12
"""Words that a name may have; what is longer is a title, and is matched by its DOI."""
_SHORT = 4
_PLAIN_ENOUGH = 8
_BARE_ENOUGH = 6

_HYPHENS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-") | {0x2014: " - ", 0xFE58: " - "}
_QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc\u0060\u00b4\uff07"), "'")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"), None)
_SIGNS = {**_HYPHENS, **_QUOTES, **_UNSEEN}
# "CheXpert" is che+xpert, "MRNet" is mr+net, "ChestX-ray14" is chest+x+ray+14: one cut for names and texts.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")
# A hyphen at the end of a line is no part of the word, unless such a word follows: "CheXpert-" / "based".
_BROKEN = re.compile(r"(?<=[A-Za-z0-9])-[ \t]{0,8}\r?\n[ \t]{0,8}(?=[A-Za-z0-9])")
_TIED = re.compile(r"(?:based|like|style|trained|pretrained|derived|specific|only|small)\b")
_COUNTED = re.compile(r" (?:images|patients|cases|scans|subjects|samples|volumes|studies|slices|radiographs)\b")
_TOLD_APART = re.compile(r"\s*\([^()]*\)$")
_ADDRESS = re.compile(r"https?://[^\s<>\"'(){}\[\]|\\^]{3,2000}", re.IGNORECASE)
_DOI = re.compile(r"\b(?:doi:\s{0,2})?10\.\d{4,9}/[^\s<>\"'{}\[\]|\\^,;]{1,250}", re.IGNORECASE)
_YEAR = re.compile(r"(?:[ -]|' ?)?((?:19|20)\d\d)(?![A-Za-z0-9])|'(\d\d)(?![A-Za-z0-9])")
_HEADING = re.compile(
    r"^(?:#{1,6}[ \t]+)?(?:(?:\d{1,2}(?:\.\d{1,2}){0,3}|[IVX]{1,5})\.?[ \t]+)?([A-Z][^.!?\n]{1,80})$", re.MULTILINE
)
_CAPTION = re.compile(r"(table|tab\.|figure|fig\.)[ \t]{0,3}[0-9IVX]{1,4}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A name of a dataset; an ``ambiguous`` one counts only beside a cue."""

    dataset: str
    name: str
    ambiguous: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a document: its heading, what kind of part it is, its text."""

    heading: str
    text: str
    part: Part = "body"


@dataclass(frozen=True)
class Mention:
    """A dataset named in a text. ``counts``: in a part that counts as use; ``sure``: not ambiguous, or with a cue.

    ``locus`` is the part or heading, ``at`` where it begins in the cleaned text of the section, ``version`` a year
    beside the name, ``cue`` what speaks for an ambiguous one.
    """

    dataset: str
    name: str
    locus: str
    at: int
    counts: bool
    sure: bool
    version: str
    cue: str
    context: str


@dataclass(frozen=True)
class _Entry:
    dataset: str
    name: str
    ambiguous: bool
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexicon:
    """Names as a tree of words, with the addresses, DOIs and words that speak for each dataset.

    A node of ``tree`` has its branches by word, and under the empty word the datasets whose name ends there;
    ``words`` has each word of a name once.
    """

    tree: Mapping[str | None, Any] = field(repr=False)
    words: Mapping[str, str] = field(repr=False)
    addresses: Mapping[str, str]
    dois: Mapping[str, str]
    cues: Mapping[str, frozenset[str]]


# Names -----------------------------------------------------------------------------------------------------------


def lexicon(
    names: Iterable[Name],
    *,
    addresses: Mapping[str, str] | None = None,
    dois: Mapping[str, str] | None = None,
    cues: Mapping[str, Iterable[str]] | None = None,
) -> Lexicon:
    """Return the lexicon of these names.

    ``addresses`` and ``dois`` give the dataset of each; ``cues``: words that speak for a dataset. A name of several
    datasets is ambiguous for each, and so is one of fewer than four letters and digits; one of a single letter is
    left out. A name of more than
    :data:`MOST_WORDS` words is refused with UsageError: it is a title, and is matched by its DOI.
    """
    given: dict[tuple[str, ...], dict[str, list[Name]]] = defaultdict(lambda: defaultdict(list))
    for one in names:
        for form in _forms(one.name):
            given[form][one.dataset].append(one)
    tree: dict[str | None, Any] = {}
    words = {word: word for form in given for word in form}
    for form, owners in given.items():
        node = tree
        for word in form:
            node = node.setdefault(words[word], {})
        node[""] = tuple(_entry(called, len(owners) > 1) for _, called in sorted(owners.items()))
    return Lexicon(
        tree,
        words,
        {_bare_address(address): dataset for address, dataset in (addresses or {}).items()},
        {name: dataset for doi, dataset in (dois or {}).items() if (name := doi_of(doi))},
        {dataset: frozenset(stems(" ".join(beside))) for dataset, beside in (cues or {}).items()},
    )  # fmt: skip


def _entry(called: Sequence[Name], shared: bool) -> _Entry:
    letters = min(sum(map(len, _words(one.name))) for one in called)
    short = letters < _SHORT and not any("&" in one.name for one in called)
    # Short names in capitals are words too; those with a digit, a sign or several words are not.
    strict = letters < _PLAIN_ENOUGH and not any(re.search(r"[\d\s&]", one.name) for one in called)
    return _Entry(
        called[0].dataset, called[0].name, shared or short or any(one.ambiguous for one in called),
        tuple(_close(one.name) for one in called) if strict else (),
    )  # fmt: skip


def of_review(connection: Connection) -> Lexicon:
    """Return the lexicon of the public datasets: their names, pages, DOIs, and their anatomy, modality and tasks."""
    slugs = {
        row.id: row.slug
        for row in connection.execute(
            select(t.entity.c.id, t.entity.c.slug).where(t.entity.c.kind == "dataset", t.entity.c.status == "public")
        )
    }
    names = [
        Name(slugs[row.entity_id], name, row.ambiguous or short)
        for row in connection.execute(select(t.name).order_by(t.name.c.entity_id, t.name.c.n))
        if row.entity_id in slugs
        for name, short in _called(row.name)
        if len(_words(name)) <= MOST_WORDS
    ]
    addresses = {
        row.homepage: slugs[row.entity_id]
        for row in connection.execute(select(t.dataset.c.entity_id, t.dataset.c.homepage))
        if row.homepage and row.entity_id in slugs
    }
    dois = {
        row.value: slugs[row.entity_id]
        for row in connection.execute(select(t.identifier).where(t.identifier.c.scheme == "doi"))
        if row.entity_id in slugs
    }
    cues: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(select(t.term)):
        if row.entity_id in slugs and row.scheme in ("modality", "anatomy", "task"):
            cues[slugs[row.entity_id]] += [row.code, vocabulary.MODALITIES.get(row.code, "")]
    return lexicon(names, addresses=addresses, dois=dois, cues=cues)


def _called(name: str) -> Iterator[tuple[str, bool]]:
    """Yield a name, and what is left of "ChestX-ray14 (NIH)" where it is told apart; True where that is too short."""
    yield name, False
    bare = _TOLD_APART.sub("", name)
    if bare and bare != name:
        yield bare, len(bare) < _BARE_ENOUGH


def _forms(name: str) -> Iterator[tuple[str, ...]]:
    """Yield the ways a name is cut into words: ChestX-ray14, Chest X-Ray 14, chestxray14."""
    if len(_words(name)) > MOST_WORDS:
        raise UsageError(f"'{name[:60]}...' has more than {MOST_WORDS} words; give its DOI instead")
    clean = _clean(name)
    chunks = [[word.lower() for word in _WORD.findall(chunk)] for chunk in clean.split()]
    chunks = [chunk for chunk in chunks if chunk]
    if sum(len(word) for chunk in chunks for word in chunk) < 2:
        return  # one letter names nothing
    gaps = [(i, j) for i, chunk in enumerate(chunks) for j in range(len(chunk) - 1)]
    # Each cut within a word may be there or not; in a long name, all or none.
    masks: Iterable[int] = range(2 ** len(gaps)) if len(gaps) <= 5 else (0, 2 ** len(gaps) - 1)
    seen: set[tuple[str, ...]] = set()
    for mask in masks:
        cut = {gap for n, gap in enumerate(gaps) if mask >> n & 1}
        form: list[str] = []
        for i, chunk in enumerate(chunks):
            form.append(chunk[0])
            for j, word in enumerate(chunk[1:]):
                if (i, j) in cut:
                    form.append(word)
                else:
                    form[-1] += word
        # "12" after letters is always a word of its own in a text.
        recut = tuple(piece for word in form for piece in re.findall(r"\d+|\D+", word))
        if recut not in seen:
            seen.add(recut)
            yield recut


# Texts -----------------------------------------------------------------------------------------------------------


def sections_of(text: str) -> list[Section]:
    """Return a plain text or Markdown cut at its headings; captions of tables and figures become sections.

    A heading is a line of its own without a full stop, numbered or with ``#`` or one that begins with a known word.
    """
    found: list[Section] = []
    heading, begin = "", 0
    cuts = [(match.start(), match.end(), match[1].strip()) for match in _HEADING.finditer(text) if _is_heading(match)]
    for start, end, title in [*cuts, (len(text), len(text), "")]:
        found += _with_captions(heading, text[begin:start])
        heading, begin = title, end
    return [section for section in found if section.text.strip()]


def counts_as_use(section: Section) -> bool:
    """Return whether a mention in this section is a use, by its kind or the words of its heading."""
    if section.part in ("title", "references"):
        return False
    if section.part in COUNTED_PARTS:
        return True
    heading = plain(_clean(section.heading))
    return any(word in heading for word in COUNTED_WORDS)


def detect(names: Lexicon, sections: Iterable[Section], *, cited: Collection[str] = ()) -> list[Mention]:
    """Return the datasets that the sections mention, in order. ``cited``: slugs whose paper the work cites, a cue.

    A second cue for an ambiguous name is a sure name, an address or a DOI of the dataset anywhere in the document, its
    paper among the cited, or one of its words within :data:`NEAR` letters. Where several datasets bear the name, the
    one with the most cues has it; with none, or as many for two, each is returned and none is sure.
    """
    raw: list[tuple[Section, int, int, tuple[_Entry, ...], str, str]] = []
    for section in sections:
        text = _clean(section.text)
        text, links = _links(names, text)
        for dataset, name, at in links:
            entry = _Entry(dataset, name, False)
            raw.append((section, at, at + len(name), (entry,), "", text))
        for start, end, entries, version in _matches(names, text):
            raw.append((section, start, end, entries, version, text))
    certain = {entry.dataset for *_, entries, _, _ in raw for entry in entries if not entry.ambiguous} | set(cited)
    found: list[Mention] = []
    counted: dict[int, bool] = {}
    for section, start, end, entries, version, text in raw:
        if id(section) not in counted:
            counted[id(section)] = counts_as_use(section)
        scored = []
        near: set[str] = set()
        if any(entry.ambiguous for entry in entries):
            near = set(stems(text[max(0, start - NEAR) : start] + " " + text[end : end + NEAR]))
        for entry in entries:
            reasons = [f"'{word}' beside it" for word in sorted(near & names.cues.get(entry.dataset, frozenset()))]
            reasons += ["named or cited elsewhere"] * (entry.dataset in certain) if entry.ambiguous else []
            # What the document says for certain weighs more than a word.
            weight = len(reasons) + 5 * (entry.dataset in certain)
            scored.append((weight, entry, reasons))
        most = max(weight for weight, _, _ in scored)
        winners = [one for one in scored if one[0] == most]
        alone = len(winners) == 1
        for weight, entry, reasons in winners:
            sure = alone and (not entry.ambiguous or weight > 0)
            shown = " ".join(text[max(0, start - 60) : end + 60].split())
            found.append(
                Mention(
                    entry.dataset, entry.name, section.part if section.part != "body" else section.heading, start,
                    counted[id(section)], sure, version, "; ".join(reasons) if sure else "", shown,
                )
            )  # fmt: skip
    return found


def evidence(found: Iterable[Mention], cited: Collection[str] = ()) -> dict[str, Use]:
    """Return for each dataset what the mentions and citations of one work say of its use, as a work's record has it.

    A mention that does not count (introduction, related work) or is not sure leaves a citation a citation; without one
    the dataset is left out.
    """
    best: dict[str, tuple[str, Mention]] = {}
    for mention in found:
        if not (mention.counts and mention.sure):
            continue
        how = "data availability" if mention.locus == "availability" else "mentioned"
        there = best.get(mention.dataset)
        if there is None or (there[0], how) == ("mentioned", "data availability"):
            best[mention.dataset] = (how, mention)
    uses: dict[str, Use] = {}
    for dataset in sorted({*best, *cited}):
        if dataset not in best:
            uses[dataset] = Use(dataset=dataset, evidence="cited")
            continue
        how, mention = best[dataset]
        kind = "cited and mentioned" if how == "mentioned" and dataset in cited else how
        uses[dataset] = Use(
            dataset=dataset, evidence=kind, locus=mention.locus[:120], version=mention.version  # type: ignore[arg-type]
        )  # fmt: skip
    return uses


def _clean(text: str) -> str:
    """Return a text with entities resolved, one kind of hyphen and quote, and words joined that a line end broke."""
    text = text[:20_000_000]
    for _ in range(2):  # "M&amp;amp;Ms" is seen in records that were escaped twice
        if "&" in text:
            text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    return _BROKEN.sub(_joined, text) if "\n" in text else text


def _joined(match: re.Match[str]) -> str:
    return "-" if _TIED.match(match.string[match.end() : match.end() + 12]) else ""


def _words(name: str) -> list[str]:
    return _WORD.findall(_clean(name))


def _matches(names: Lexicon, text: str) -> Iterator[tuple[int, int, tuple[_Entry, ...], str]]:
    tree = names.tree
    # A word of no name is None, which no branch of the tree bears; one of a name is the tree's own object.
    words = [*map(names.words.get, map(str.lower, _WORD.findall(text))), None]
    spans: list[tuple[int, int]] = []
    first, count = 0, len(words) - 1
    while first < count:
        node = tree.get(words[first])
        last, ends = first, []
        while node is not None:
            if "" in node:
                ends.append((last, node[""]))
            last += 1
            node = node.get(words[last])
        first += 1
        if ends and not spans:
            spans = [match.span() for match in _WORD.finditer(text)]
        # The longest name that stands there; what lies within it is no other name: ACDC in ACDC-LungHP.
        for last, entries in reversed(ends):
            found = _stands(text, spans, first - 1, last, entries)
            if found is not None:
                yield found
                first = last + 1
                break


def _stands(
    text: str, spans: Sequence[tuple[int, int]], first: int, last: int, entries: tuple[_Entry, ...]
) -> tuple[int, int, tuple[_Entry, ...], str] | None:
    start, stop = spans[first][0], spans[last][1]
    surface = text[start:stop]
    kept = tuple(entry for entry in entries if not entry.spellings or _same_case(surface, entry.spellings))
    if not kept or not _open_before(text, spans, first) or not _fits(surface, kept[0].name):
        return None
    version = _YEAR.match(text, stop)
    if version is not None and not _COUNTED.match(text, version.end()):
        return start, stop, kept, version[1] or version[2]
    return (start, stop, kept, "") if _open_after(text, spans, last) else None


def _same_case(surface: str, spellings: Collection[str]) -> bool:
    """Return whether a short name stands as a name: DRIVE is the dataset, "drive" and "Drive" are the word."""
    bare = _close(surface)
    return bare in spellings or (bare.isupper() and bare.isalpha())


def _close(name: str) -> str:
    return re.sub(r"[\s-]", "", _clean(name))


def _fits(surface: str, name: str) -> bool:
    """Return whether a name stands in one paragraph, and with its sign: "m ms" is not M&Ms."""
    return "\n\n" not in surface and ("&" not in _clean(name) or "&" in surface)


def _open_before(text: str, spans: Sequence[tuple[int, int]], first: int) -> bool:
    """Return whether the name begins there: not within a word, and not after a hyphen that ties it to a name."""
    if first == 0:
        return True
    between = text[spans[first - 1][1] : spans[first][0]]
    if between in ("", "_"):
        return False
    return between != "-" or text[slice(*spans[first - 1])].islower()


def _open_after(text: str, spans: Sequence[tuple[int, int]], last: int) -> bool:
    """Return whether the name ends there: "MIMIC-based" still is MIMIC, "MIMIC-III" and "W1234" are other names."""
    if last + 1 == len(spans):
        return True
    between = text[spans[last][1] : spans[last + 1][0]]
    if between in ("", "_"):
        return False
    following = text[slice(*spans[last + 1])]
    return between != "-" or (following.islower() and len(following) > 1)


def _links(names: Lexicon, text: str) -> tuple[str, list[tuple[str, str, int]]]:
    """Return the text with its addresses and DOIs blanked, and the datasets that they lead to."""
    found: list[tuple[str, str, int]] = []
    pieces, last = [], 0
    for match in _ADDRESS.finditer(text):
        dataset = _at_address(names, match[0])
        if dataset:
            found.append((dataset, match[0].rstrip(".,;:"), match.start()))
        pieces += [text[last : match.start()], " " * (match.end() - match.start())]
        last = match.end()
    without = "".join([*pieces, text[last:]]) if pieces else text
    for match in _DOI.finditer(without):
        doi = doi_of(match[0].rstrip(".,;:)"))
        if doi is not None and doi in names.dois:
            found.append((names.dois[doi], doi, match.start()))
    without = _DOI.sub(lambda match: " " * len(match[0]), without)
    return without, found


def _at_address(names: Lexicon, address: str) -> str | None:
    doi = doi_of(address.rstrip(".,;:"))
    if doi is not None:
        return names.dois.get(doi)
    bare = _bare_address(address)
    for _ in range(8):  # a page below the dataset's page is the dataset's too
        if bare in names.addresses:
            return names.addresses[bare]
        bare, slash, _ = bare.rpartition("/")
        if not slash:
            return None
    return None


def _bare_address(address: str) -> str:
    bare = re.sub(r"^https?://(?:www\.)?", "", address.strip(), flags=re.IGNORECASE).rstrip(".,;:")
    bare = re.split(r"[?#]", bare, maxsplit=1)[0].rstrip("/")
    host, slash, rest = bare.partition("/")
    return host.lower() + slash + rest


def _is_heading(match: re.Match[str]) -> bool:
    line, title = match[0], match[1]
    if line.startswith("#") or re.match(r"(?:\d|[IVX]{1,5}\.?[ \t])", line):
        return len(title.split()) <= 12
    first = plain(title).split()[0]
    return len(title.split()) <= 6 and first.startswith(_OPENERS)


_OPENERS = (
    "abstract", "introduction", "background", "related", "material", "method", "data", "experiment", "evaluat",
    "result", "setup", "discussion", "conclusion", "reference", "bibliography", "acknowledg", "implementation",
    "appendix", "availability",
)  # fmt: skip


def _with_captions(heading: str, text: str) -> Iterator[Section]:
    part = _part(heading)
    body: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        bare = paragraph.strip()
        if caption := _CAPTION.match(bare):
            yield Section(heading, bare, "table" if caption[1].lower().startswith("tab") else "figure")
        elif re.match(r"\[\^\w{1,20}\]:", bare):
            yield Section(heading, bare, "footnote")
        else:
            body.append(paragraph)
    yield Section(heading, "\n\n".join(body), part)


def _part(heading: str) -> Part:
    name = plain(heading)
    if "availab" in name:
        return "availability"
    if name.startswith("abstract"):
        return "abstract"
    return "references" if name.startswith(("reference", "bibliography")) else "body"


__all__ = [
    "COUNTED_PARTS", "COUNTED_WORDS", "Lexicon", "Mention", "Name", "Section", "counts_as_use", "detect", "evidence",
    "lexicon", "of_review", "sections_of",
]  # fmt: skip
