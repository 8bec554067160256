"""What each source is asked, and how its records are read: one parser a source, whatever way its records came.

Field names are the sources' own: OpenAlex's work object, Crossref's works, DataCite's DOIs (JSON:API), and the Data
Citation Corpus (Zenodo, 10.5281/zenodo.11196858, fields as of version 4.1).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode

from medaudit.errors import DataError, UsageError
from medaudit.review.living.transports import Answer, Bulk, Fetch, Unavailable
from medaudit.review.words import stems

PER_PAGE = 100
"""OpenAlex's largest page; the same for all."""
_SELECT = (
    "id,doi,ids,title,publication_year,type,authorships,primary_location,locations,abstract_inverted_index,"
    "referenced_works,is_retracted"
)
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_ARXIV = re.compile(r"(?:arxiv[.:/]|arxiv\.org/(?:abs|pdf)/)?(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?"
                    r"(?:\.pdf)?", re.IGNORECASE)  # fmt: skip
_OPENALEX = re.compile(r"(?:https?://(?:api\.)?openalex\.org/(?:works/)?)?(W\d{1,12})", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_SAYS_RETRACTED = re.compile(r"\s*(?:RETRACTED|WITHDRAWN)(?:\s+(?:ARTICLE|CHAPTER|PAPER))?\s*[:.]\s*", re.IGNORECASE)
_GONE = ("retraction", "removal", "withdrawal")
"""Types of Crossref's updates that take a work back; a correction or an expression of concern does not."""

PREPRINT = ("10.48550/", "10.1101/", "10.21203/", "10.36227/", "10.2139/ssrn", "10.31219/", "10.20944/")
"""DOIs of preprints: arXiv, bioRxiv and medRxiv, Research Square, TechRxiv, SSRN, OSF, Preprints."""


@dataclass(frozen=True)
class Candidate:
    """A work as a source has it. ``doi``, ``arxiv`` and those of others are in one form: bare, lower case.

    ``pairs``: the same work in another form (preprint and publication), as ``doi:...`` or ``arxiv:...``;
    ``references``: what it cites, as ``doi:...`` or ``openalex:...``; ``retracted``: the day, ``unknown`` where the
    source does not say when, None where it is not; ``retracts``: works that this one, a notice, takes back, with the
    day.
    """

    source: str
    title: str
    doi: str | None = None
    arxiv: str | None = None
    openalex: str | None = None
    year: int | None = None
    first_author: str | None = None
    authors: tuple[str, ...] = ()
    more_authors: bool = False
    venue: str = ""
    abstract: str = ""
    references: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    retracted: str | None = None
    retracts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """Part of an answer; ``cursor`` asks for the next, None after the last."""

    candidates: tuple[Candidate, ...]
    cursor: str | None


@dataclass(frozen=True)
class Provider:
    """A source: the address of a page and of one work, the reader of a page and of a record."""

    name: str
    keys: tuple[str, ...]
    url: Callable[[str, str | None, str | None], str] | None
    one: Callable[[str], str] | None
    page: Callable[[Any], tuple[Sequence[Any], str | None]] | None
    read: Callable[[Mapping[str, Any]], Candidate | None]


# Identifiers -----------------------------------------------------------------------------------------------------


def doi_of(value: Any) -> str | None:
    """Return a DOI in its one form, or None where ``value`` holds none: ``https://doi.org/10.1/X`` is ``10.1/x``."""
    if not isinstance(value, str):
        return None
    bare = re.sub(r"^(?:https?://(?:dx\.|www\.)?doi\.org/|doi:\s*)", "", value.strip(), flags=re.IGNORECASE)
    bare = unquote(bare).strip().lower().rstrip(".,;")
    return bare if len(bare) <= 300 and _DOI.fullmatch(bare) else None


def arxiv_of(value: Any) -> str | None:
    """Return an arXiv number without version, from a number, an address or arXiv's own DOI; else None."""
    if not isinstance(value, str):
        return None
    bare = re.sub(r"^(?:https?://|doi:\s*)", "", value.strip(), flags=re.IGNORECASE)
    bare = re.sub(r"^(?:doi\.org/)?10\.48550/", "", bare, flags=re.IGNORECASE)
    match = _ARXIV.fullmatch(re.sub(r"^www\.", "", bare)) if len(bare) < 100 else None
    return match[1].lower() if match else None


def openalex_of(value: Any) -> str | None:
    """Return ``W123`` from an OpenAlex address or number, None where it is none."""
    match = _OPENALEX.fullmatch(value.strip()) if isinstance(value, str) else None
    return match[1].upper() if match else None


def identity(candidate: Candidate) -> str | None:
    """Return the strongest name of a candidate: arXiv's DOI counts as its number; None where it has no identifier."""
    if candidate.doi and not candidate.doi.startswith("10.48550/"):
        return f"doi:{candidate.doi}"
    if candidate.arxiv:
        return f"arxiv:{candidate.arxiv}"
    if candidate.doi:
        return f"doi:{candidate.doi}"
    return f"openalex:{candidate.openalex}" if candidate.openalex else None


# Reading pages ---------------------------------------------------------------------------------------------------


def pages(
    provider: Provider, source: Fetch | Bulk, expression: str, *, since: str | None = None, cursor: str | None = None
) -> Iterator[Page]:
    """Yield the pages of what ``expression`` finds, beginning at ``cursor``.

    Raises UsageError where the source does not know such an expression, :class:`Unavailable` where it does not answer,
    DataError where it answers something else than its format.
    """
    key, values = split(provider, expression)
    if isinstance(source, Bulk):
        for part, after in source.parts(int(cursor or 0)):
            candidates = (_read(provider, one) for one in part)
            yield Page(tuple(c for c in candidates if c is not None and fits(c, key, values)), str(after))
        return
    if provider.url is None or provider.page is None:
        raise UsageError(f"{provider.name} is read from files only; give its files")
    while True:
        answer = source(provider.url(expression, since, cursor))
        records, cursor = _page(provider, answer)
        candidates = (_read(provider, one) for one in records)
        yield Page(tuple(candidate for candidate in candidates if candidate is not None), cursor)
        if cursor is None:
            return


def fetch_one(provider: Provider, fetch: Fetch, identifier: str) -> Candidate | None:
    """Return one work by its identifier, None where the source does not have it.

    A merged work comes back under its new name (OpenAlex answers 301): compare ``openalex`` with what was asked.
    """
    if provider.one is None:
        raise UsageError(f"{provider.name} is read from files only")
    answer = fetch(provider.one(identifier))
    if answer.status in (404, 410):
        return None
    if answer.status != 200:
        raise Unavailable(f"{answer.url}: status {answer.status}")
    body = answer.body
    if provider.name != "openalex" and isinstance(body, Mapping):
        body = body.get("message", body.get("data"))
    return _read(provider, body)


def split(provider: Provider, expression: str) -> tuple[str, tuple[str, ...]]:
    """Return the kind of an expression and its values: ``cites:W1|W2`` gives ``cites`` and both.

    Raises UsageError naming the kinds that the source knows.
    """
    key, colon, rest = expression.partition(":")
    known = ", ".join(f"{one}:..." for one in provider.keys)
    if not colon or key not in provider.keys or not rest.strip():
        raise UsageError(f"'{expression}' is no search of {provider.name}; expected one of {known}")
    if key == "search":
        return key, (" ".join(rest.split()),)
    values = []
    for value in rest.split("|"):
        name = {"cites": openalex_of, "openalex": openalex_of}.get(key, doi_of)(value)
        if name is None:
            raise UsageError(f"'{value.strip()}' in '{expression}' is no identifier for {key}:")
        values.append(name)
    if len(values) > PER_PAGE:
        raise UsageError(f"{key}: takes {PER_PAGE} identifiers at most, not {len(values)}; split the search")
    return key, tuple(dict.fromkeys(values))


def fits(candidate: Candidate, key: str, values: Sequence[str]) -> bool:
    """Return whether a candidate of a file is what the expression asks for. Identifiers are compared whole."""
    if key == "doi":
        return candidate.doi in values
    if key == "openalex":
        return candidate.openalex in values
    if key == "cites":
        return any(f"openalex:{one}" in candidate.references for one in values)
    if key in ("dataset", "related"):
        return any(f"doi:{one}" in (*candidate.references, *candidate.pairs) for one in values)
    if key == "updates":
        return any(one == doi for one in values for doi, _ in candidate.retracts)
    return set(stems(values[0])) <= set(stems(f"{candidate.title} {candidate.abstract}"))


def _page(provider: Provider, answer: Answer) -> tuple[Sequence[Any], str | None]:
    if answer.status != 200:
        raise Unavailable(f"{answer.url}: status {answer.status}")
    try:
        records, cursor = provider.page(answer.body)  # type: ignore[misc]
        if not isinstance(records, list):
            raise TypeError("no list of records")
        return records, cursor
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{answer.url}: is no page of {provider.name} ({error})") from None


def _read(provider: Provider, record: Any) -> Candidate | None:
    if not isinstance(record, Mapping):
        raise DataError(f"{provider.name}: a record is {type(record).__name__}, not an object")
    try:
        return provider.read(record)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        name = str(record.get("id") or record.get("DOI") or "without id")[:100]
        raise DataError(f"{provider.name}, record {name}: {type(error).__name__}: {error}") from None


# OpenAlex --------------------------------------------------------------------------------------------------------


def abstract_of(inverted: Mapping[str, Sequence[int]] | None) -> str:
    """Return the abstract that an inverted index holds, its words in their order."""
    if not inverted:
        return ""
    places = sorted((int(place), word) for word, places in inverted.items() for place in places)
    return " ".join(word for _, word in places)


def _openalex_url(expression: str, _since: str | None, cursor: str | None) -> str:
    # Always from the start: a filter by the day of creation is a paid one, and the day of publication lies before the
    # day a work is indexed. A full pass over 10,000 works is 100 calls.
    key, values = split(OPENALEX, expression)
    asked = {"search": values[0]} if key == "search" else {"filter": f"{key}:{'|'.join(values)}"}
    query = {**asked, "per_page": str(PER_PAGE), "cursor": cursor or "*", "select": _SELECT}
    return f"https://api.openalex.org/works?{urlencode(query, quote_via=quote, safe=':|,*')}"


def _openalex_one(identifier: str) -> str:
    number, doi = openalex_of(identifier), doi_of(identifier)
    if number is None and doi is None:
        raise UsageError(f"'{identifier}' is neither a number of OpenAlex nor a DOI")
    return f"https://api.openalex.org/works/{number or 'doi:' + quote(doi or '', safe='/:;()')}"


def _openalex_read(record: Mapping[str, Any]) -> Candidate | None:
    title = record.get("title") or record.get("display_name")
    doi = doi_of(record.get("doi") or (record.get("ids") or {}).get("doi"))
    places = [place for place in (record.get("primary_location"), *(record.get("locations") or ())) if place]
    addresses = [place.get(key) for place in places for key in ("landing_page_url", "pdf_url")]
    arxiv = arxiv_of(doi) or next(filter(None, map(_arxiv_address, addresses)), None)
    authorships = record.get("authorships") or ()
    names = [((one.get("author") or {}).get("display_name") or one.get("raw_author_name") or "") for one in authorships]
    index = record.get("abstract_inverted_index")
    index = json.loads(index) if isinstance(index, str) else index  # so in the snapshot's parquet files
    return _candidate(
        "openalex", title,
        doi=doi, arxiv=arxiv, openalex=openalex_of(record.get("id")), year=_year(record.get("publication_year")),
        authors=[_family_first(name) for name in names if name],
        more=bool(record.get("is_authors_truncated")) or len(names) == 100,
        venue=next((str((place.get("source") or {}).get("display_name") or "") for place in places), ""),
        abstract=abstract_of(index),
        references=[f"openalex:{one}" for one in map(openalex_of, record.get("referenced_works") or ()) if one],
        retracted="unknown" if record.get("is_retracted") else None,
    )  # fmt: skip


def _arxiv_address(value: Any) -> str | None:
    return arxiv_of(value) if isinstance(value, str) and "arxiv" in value.lower() else None


# Crossref --------------------------------------------------------------------------------------------------------


def _crossref_url(expression: str, since: str | None, cursor: str | None) -> str:
    key, values = split(CROSSREF, expression)
    filters = [] if key == "search" else [f"{key}:{one}" for one in values]
    filters += [f"from-index-date:{since[:10]}"] if since else []
    query = {"rows": str(PER_PAGE), "cursor": cursor or "*"}
    query |= {"query.bibliographic": values[0]} if key == "search" else {}
    query |= {"filter": ",".join(filters)} if filters else {}
    return f"https://api.crossref.org/works?{urlencode(query, quote_via=quote, safe=':|,*')}"


def _crossref_one(identifier: str) -> str:
    doi = doi_of(identifier)
    if doi is None:
        raise UsageError(f"'{identifier}' is no DOI")
    return f"https://api.crossref.org/works/{quote(doi, safe='/:;()')}"


def _crossref_page(body: Any) -> tuple[Sequence[Any], str | None]:
    message = body["message"]
    # Crossref gives a cursor after the last page too: the end is a page that is not full.
    cursor = message.get("next-cursor") if len(message["items"]) >= PER_PAGE else None
    return message["items"], cursor


def _crossref_read(record: Mapping[str, Any]) -> Candidate | None:
    doi = doi_of(record.get("DOI"))
    relation = record.get("relation") or {}
    pairs = [
        name
        for kind in ("has-preprint", "is-preprint-of", "is-same-as", "is-identical-to")
        for other in relation.get(kind) or ()
        if (name := _named(other.get("id-type"), other.get("id")))
    ]
    authors = [
        ", ".join(part for part in (one.get("family"), one.get("given")) if part) or str(one.get("name") or "")
        for one in record.get("author") or ()
    ]
    cited = [f"doi:{one}" for one in (doi_of(entry.get("DOI")) for entry in record.get("reference") or ()) if one]
    taken_back = [one for one in record.get("updated-by") or () if str(one.get("type", "")).lower() in _GONE]
    notices = [one for one in record.get("update-to") or () if str(one.get("type", "")).lower() in _GONE]
    return _candidate(
        "crossref", _first(record.get("title")),
        doi=doi, arxiv=arxiv_of(doi), year=_crossref_year(record), authors=[one for one in authors if one],
        venue=_first(record.get("container-title")) or "", abstract=_text(record.get("abstract")),
        references=cited, pairs=pairs, retracted=_updated(taken_back[0]) if taken_back else None,
        retracts=[(other, _updated(one)) for one in notices if (other := doi_of(one.get("DOI"))) and other != doi],
    )  # fmt: skip


def _crossref_year(record: Mapping[str, Any]) -> int | None:
    for key in ("published", "issued", "published-print", "published-online", "posted", "created"):
        parts = (record.get(key) or {}).get("date-parts") or [[None]]
        if parts[0] and (year := _year(parts[0][0])):
            return year
    return None


def _updated(update: Mapping[str, Any]) -> str:
    said = update.get("updated") or {}
    if said.get("date-time"):
        return str(said["date-time"])[:10]
    parts = (said.get("date-parts") or [[]])[0]
    return "-".join(f"{int(part):02d}" for part in parts if part) or "unknown"


# DataCite --------------------------------------------------------------------------------------------------------


def _datacite_url(expression: str, since: str | None, cursor: str | None) -> str:
    key, values = split(DATACITE, expression)
    field = {"doi": "doi", "related": "relatedIdentifiers.relatedIdentifier"}.get(key)
    words = " OR ".join(f'"{_lucene(one)}"' for one in values)
    asked = f"{field}:({words})" if field else " AND ".join(f'"{_lucene(one)}"' for one in values[0].split())
    asked += f" AND updated:[{since[:10]} TO *]" if since else ""
    query = {"query": asked, "page[size]": str(PER_PAGE), "page[cursor]": cursor or "1"}
    return f"https://api.datacite.org/dois?{urlencode(query, quote_via=quote)}"


def _lucene(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', '\\"')


def _datacite_one(identifier: str) -> str:
    doi = doi_of(identifier)
    if doi is None:
        raise UsageError(f"'{identifier}' is no DOI")
    return f"https://api.datacite.org/dois/{quote(doi, safe='/:;()')}"


def _datacite_page(body: Any) -> tuple[Sequence[Any], str | None]:
    # The next page is given as an address; only its cursor is taken, so that no answer says where to go.
    following = (body.get("links") or {}).get("next")
    match = re.search(r"page(?:\[|%5B)cursor(?:\]|%5D)=([^&]+)", following or "", re.IGNORECASE)
    return body["data"], unquote(match[1]) if match and body["data"] else None


def _datacite_read(record: Mapping[str, Any]) -> Candidate | None:
    fields = record.get("attributes", record)
    doi = doi_of(fields.get("doi") or record.get("id"))
    references, pairs = [], []
    for one in fields.get("relatedIdentifiers") or ():
        name = _named(one.get("relatedIdentifierType"), one.get("relatedIdentifier"))
        kind = one.get("relationType")
        if name is None:
            continue
        if kind in ("References", "Cites", "IsSupplementTo", "IsDerivedFrom"):
            references.append(name)
        # arXiv calls a preprint a version of its publication; elsewhere a version is a deposit of its own.
        elif kind == "IsIdenticalTo" or (kind == "IsVersionOf" and arxiv_of(doi)):
            pairs.append(name)
    creators = [
        ", ".join(part for part in (one.get("familyName"), one.get("givenName")) if part) or str(one.get("name") or "")
        for one in fields.get("creators") or ()
    ]
    publisher = fields.get("publisher") or ""
    abstracts = [one.get("description") for one in fields.get("descriptions") or ()
                 if one.get("descriptionType") == "Abstract"]  # fmt: skip
    return _candidate(
        "datacite", _first([one.get("title") for one in fields.get("titles") or ()]),
        doi=doi, arxiv=arxiv_of(doi), year=_year(fields.get("publicationYear")),
        authors=[one for one in creators if one],
        venue=str((fields.get("container") or {}).get("title") or "")
        or str(publisher.get("name") or "" if isinstance(publisher, Mapping) else publisher),
        abstract=_text(_first(abstracts)), references=references, pairs=pairs,
    )  # fmt: skip


# The Data Citation Corpus ----------------------------------------------------------------------------------------


def _corpus_read(record: Mapping[str, Any]) -> Candidate | None:
    """Read a row: ``publication`` cites ``dataset``, a DOI or an accession number; ``title`` is the dataset's."""
    publication, dataset = doi_of(record.get("publication")), doi_of(record.get("dataset"))
    if publication is None:
        return None
    return Candidate(
        "corpus", "", doi=publication, arxiv=arxiv_of(publication), year=_year(record.get("publishedDate")),
        venue=_text(_named_in(record.get("journal"))), references=(f"doi:{dataset}",) if dataset else (),
    )  # fmt: skip


def _named_in(value: Any) -> str:
    return str(value.get("title") or "") if isinstance(value, Mapping) else str(value or "")


# Common ----------------------------------------------------------------------------------------------------------


def _candidate(
    source: str, title: Any, *, authors: Sequence[str], references: Sequence[str], more: bool = False,
    pairs: Sequence[str] = (), retracts: Sequence[tuple[str, str]] = (), retracted: str | None = None, **fields: Any,
) -> Candidate | None:  # fmt: skip
    """Return the candidate; None where the record has no title and no identifier, and so is nothing to screen."""
    shown = _text(title)
    if match := _SAYS_RETRACTED.match(shown):
        shown, retracted = shown[match.end() :], retracted or "unknown"
    fields["abstract"] = fields.get("abstract", "")[:50_000]
    made = Candidate(
        source, shown[:2_000], authors=tuple(authors), first_author=authors[0][:300] if authors else None,
        more_authors=more, references=tuple(dict.fromkeys(references)), pairs=tuple(dict.fromkeys(pairs)),
        retracted=retracted, retracts=tuple(retracts), **fields,
    )  # fmt: skip
    return made if made.title or identity(made) else None


def _text(value: Any) -> str:
    """Return a text without markup: JATS and HTML tags out, entities resolved, one space between words."""
    bare = _TAG.sub(" ", str(value or ""))
    bare = html.unescape(html.unescape(bare))  # Crossref has titles whose ampersands were escaped twice
    bare = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]", " ", _TAG.sub(" ", bare))
    return " ".join(bare.split())


def _first(values: Any) -> Any:
    if isinstance(values, str):
        return values
    return next((value for value in values or () if value), None)


def _year(value: Any) -> int | None:
    match = re.match(r"\d{4}", str(value or ""))
    return int(match[0]) if match and 1800 <= int(match[0]) <= 2100 else None


def _family_first(name: str) -> str:
    """Return ``Irvin, Jeremy`` for ``Jeremy Irvin``; a name that has a comma is left."""
    parts = name.split()
    return name if "," in name or len(parts) < 2 else f"{parts[-1]}, {' '.join(parts[:-1])}"


def _named(kind: Any, value: Any) -> str | None:
    if str(kind).lower() == "arxiv":
        number = arxiv_of(value)
        return f"arxiv:{number}" if number else None
    number, doi = arxiv_of(value), doi_of(value)
    if doi is None:
        return None
    return f"arxiv:{number}" if number and doi.startswith("10.48550/") else f"doi:{doi}"


OPENALEX = Provider(
    "openalex", ("cites", "doi", "openalex", "search"), _openalex_url, _openalex_one,
    lambda body: (body["results"], body["meta"].get("next_cursor")), _openalex_read,
)  # fmt: skip
CROSSREF = Provider(
    "crossref", ("doi", "updates", "search"), _crossref_url, _crossref_one, _crossref_page, _crossref_read
)
DATACITE = Provider("datacite", ("related", "doi", "search"), _datacite_url, _datacite_one, _datacite_page,
                    _datacite_read)  # fmt: skip
CORPUS = Provider("corpus", ("dataset",), None, None, None, _corpus_read)
PROVIDERS = {one.name: one for one in (OPENALEX, CROSSREF, DATACITE, CORPUS)}
