"""The records of the living review: a dataset, a research artifact, a work; the same in YAML, in the API, in history.

A record is all that is public of one entity. Everything that changes the review (the seed, an import, a submission, a
restore) is a record put in the place of an earlier one, so history, differences and releases come from one mechanism.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from medaudit.errors import DataError
from medaudit.review import vocabulary as words

KINDS = ("dataset", "artifact", "work")
Kind = Literal["dataset", "artifact", "work"]

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DOI = re.compile(r"10\.\d{4,9}/\S+", re.IGNORECASE)
_ARXIV = re.compile(r"(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?")
# Control characters, marks that turn the direction of reading, halves of characters, and what XML cannot hold.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def _slug(value: str) -> str:
    if len(value) > 120 or not _SLUG.fullmatch(value):
        raise ValueError("expected lower-case letters, digits and single hyphens, at most 120")
    return value


def _doi(value: str) -> str:
    bare = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", value.strip(), flags=re.IGNORECASE).lower()
    if not _DOI.fullmatch(bare):
        raise ValueError("expected a DOI as 10.1609/aaai.v33i01.3301590")
    return bare


def _arxiv(value: str) -> str:
    bare = re.sub(r"^(https?://arxiv\.org/abs/|arxiv:)", "", value.strip(), flags=re.IGNORECASE)
    if not _ARXIV.fullmatch(bare):
        raise ValueError("expected an arXiv number as 2501.10727")
    return bare


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("expected an address that begins with https:// or http://") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or re.search(r"[\s<>\"'\\]", value):
        raise ValueError("expected an address that begins with https:// or http://")
    return value


def _clean(value: str) -> str:
    """Refuse what can hide in a text: control characters, and marks that turn the direction of reading."""
    if _CONTROL.search(value):
        raise ValueError("holds a control character or a mark that turns the direction of reading")
    return value


def _date(value: str) -> str:
    try:
        date.fromisoformat(f"{value}-01-01"[:10])
    except ValueError:
        raise ValueError("expected a year, a month or a day, as 2020, 2020-07 or 2020-07-31") from None
    return value


Slug = Annotated[str, AfterValidator(_slug)]
Doi = Annotated[str, Field(max_length=300), AfterValidator(_doi)]
Arxiv = Annotated[str, Field(max_length=40), AfterValidator(_arxiv)]
Url = Annotated[str, Field(max_length=2_000), AfterValidator(_url)]
Line = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_clean)]
Text = Annotated[str, Field(max_length=20_000), AfterValidator(_clean)]
Clean = Annotated[str, AfterValidator(_clean)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}(-[0-9][0-9]){0,2}$"), AfterValidator(_date)]
Verification = Literal["verified", "unverified", "computed", "imported"]
Scalar = int | float | str | bool
_LARGEST = 1e15  # beyond it a float is no longer a count


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


class Fact(_Part):
    """A claim: one value of one field, with where it stands and who saw it there.

    Exactly one of ``work`` (the slug of a work of the review), ``url`` and ``package`` (as ``idc-index-data 25.0.5``)
    says where. Several facts of one field may disagree: all are kept, ``preferred`` marks the one that is shown first.
    """

    field: Line
    value: Scalar
    unit: Clean = Field(default="", max_length=60)
    low: float | None = None
    high: float | None = None
    n: int | None = Field(default=None, ge=0, le=2**53)
    work: Slug | None = None
    url: Url | None = None
    package: Line | None = None
    locator: Clean = Field(default="", max_length=300)
    quote: Clean = Field(default="", max_length=300)
    note: Clean = Field(default="", max_length=1_000)
    version: Clean = Field(default="", max_length=60)
    verification: Verification = "unverified"
    preferred: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Fact:
        if sum(source is not None for source in (self.work, self.url, self.package)) != 1:
            raise ValueError(f"'{self.field}' needs exactly one source: work, url or package")
        for number in (self.value, self.low, self.high):
            if isinstance(number, int | float) and abs(number) > _LARGEST:
                raise ValueError(f"'{self.field}': a number is beyond {_LARGEST:g}")
        if isinstance(self.value, str):
            if len(self.value) > 500:
                raise ValueError(f"'{self.field}': a value has at most 500 characters")
            _clean(self.value)
        if (self.low is None) != (self.high is None) or (
            self.low is not None and self.high is not None and not self.low <= self.high
        ):
            raise ValueError(f"'{self.field}': low and high go together, low first")
        return self


class Alias(_Part):
    """Another name; ``ambiguous`` where other datasets bear it too (ACDC names three)."""

    name: Line
    ambiguous: bool = False


class Identifier(_Part):
    """The dataset's name in another catalogue."""

    scheme: Literal["doi", "tcia", "idc", "physionet", "huggingface", "kaggle", "wikidata", "pwc", "zenodo", "arxiv",
                    "figshare", "grand-challenge", "other"]  # fmt: skip
    value: Line


class Licence(_Part):
    """The licence of one source of the dataset: images, labels, a third party's annotations."""

    of: Line = "dataset"
    spdx: Clean | None = Field(default=None, max_length=80)
    text: Clean = Field(default="", max_length=500)
    url: Url | None = None
    source: Clean = Field(default="", max_length=300)
    verification: Verification = "unverified"


class Version(_Part):
    """A version that was released; numbers of it are facts that name it."""

    label: Line
    released: Day | None = None
    checksum: Clean = Field(default="", max_length=200)
    supersedes: Clean = Field(default="", max_length=60)
    note: Clean = Field(default="", max_length=1_000)


class Link(_Part):
    """What the dataset has to do with another: patients in common, a mirror, a correction."""

    relation: Literal["DERIVED_FROM", "SUBSET_OF", "MIRROR_OF", "CORRECTS", "MERGES", "SHARES_PATIENTS_WITH"]
    to: Slug
    note: Clean = Field(default="", max_length=1_000)
    work: Slug | None = None
    verification: Verification = "unverified"


class Demographic(_Part):
    """How many of one group, of one attribute; ``completeness`` is the share of units whose value is known."""

    attribute: Literal["age", "sex", "gender", "race", "ethnicity", "skin tone", "socioeconomic status", "geography",
                       "disability", "insurance", "site", "scanner"]  # fmt: skip
    group: Line | None = None
    n: int | None = Field(default=None, ge=0, le=2**53)
    share: float | None = Field(default=None, ge=0, le=1)
    completeness: float | None = Field(default=None, ge=0, le=1)
    unit: Literal["patients", "images", "studies", "series"] = "patients"
    package: Line | None = None
    work: Slug | None = None
    url: Url | None = None
    version: Clean = Field(default="", max_length=60)
    verification: Verification = "unverified"

    @model_validator(mode="after")
    def _sourced(self) -> Demographic:
        if sum(source is not None for source in (self.work, self.url, self.package)) != 1:
            raise ValueError(f"{self.attribute} needs exactly one source: work, url or package")
        return self


class _Record(_Part):
    kind: Kind
    slug: Slug
    SHOWN: ClassVar[str] = "name"

    @property
    def title_shown(self) -> str:
        """What a list shows of it."""
        return str(getattr(self, self.SHOWN))

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON values, without what is empty; two equal records give equal values."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"kind": self.kind, "slug": self.slug}


class Dataset(_Record):
    """A dataset."""

    kind: Literal["dataset"] = "dataset"
    name: Line
    description: Text = ""
    aliases: tuple[Alias, ...] = ()
    identifiers: tuple[Identifier, ...] = ()
    status: Literal["active", "superseded", "withdrawn", "unreachable"] = "active"
    access: Literal["open", "registration", "application", "credentialed", "closed", "unknown"] = "unknown"
    homepage: Url | None = None
    host: Clean = Field(default="", max_length=200)
    year: int | None = Field(default=None, ge=1950, le=2100)
    curated: bool = False
    modalities: tuple[str, ...] = ()
    anatomy: tuple[Line, ...] = ()
    tasks: tuple[str, ...] = ()
    licences: tuple[Licence, ...] = ()
    versions: tuple[Version, ...] = ()
    produced_by: tuple[Slug, ...] = ()
    cite: tuple[Slug, ...] = ()
    links: tuple[Link, ...] = ()
    facts: tuple[Fact, ...] = ()
    demographics: tuple[Demographic, ...] = ()

    @model_validator(mode="after")
    def _known_terms(self) -> Dataset:
        for given, known, name in (
            (self.modalities, words.MODALITIES, "modalities"),
            (self.tasks, words.TASKS, "tasks"),
        ):
            for one in given:
                if one not in known:
                    raise ValueError(f"{name}: '{one}' is not one of {', '.join(known)}")
        for link in self.links:
            if link.to == self.slug:
                raise ValueError("links: a dataset is not linked to itself")
        return self


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (str(key), *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


class About(_Part):
    """Which dataset an artifact is about, and how: it extends it, or it documents (introduces) it."""

    dataset: Slug
    verb: Literal["EXTEND", "INTRODUCE"] = "EXTEND"
    versions: tuple[Clean, ...] = ()
    note: Clean = Field(default="", max_length=500)


class Relation(_Part):
    """What an artifact says of another artifact."""

    verb: Literal["REPLICATE", "CONTRADICT", "CORRECT"]
    artifact: Slug


class Response(_Part):
    """The right of reply: what a dataset's maintainers say to a finding; shown beside it, never in its place."""

    by: Line
    text: Text
    on: Day


class Artifact(_Record):
    """A research artifact: something found out about a dataset, or added to it, after it was published."""

    SHOWN = "title"
    kind: Literal["artifact"] = "artifact"
    type: Literal["annotation", "shortcut", "bias", "label_issue", "data_issue", "documentation", "derived_dataset",
                  "benchmark", "access_change", "computed_audit"]  # fmt: skip
    finding: str
    title: Line
    summary: Text
    severity: Literal["info", "minor", "major", "critical"] = "info"
    reported: Day | None = None
    about: tuple[About, ...] = Field(min_length=1)
    works: tuple[Slug, ...] = ()
    url: Url | None = None
    join_key: Clean = Field(default="", max_length=200)
    facts: tuple[Fact, ...] = ()
    relations: tuple[Relation, ...] = ()
    responses: tuple[Response, ...] = ()
    recompute: Clean = Field(default="", max_length=200)
    run: dict[str, Any] | None = None
    verification: Verification = "unverified"

    @model_validator(mode="after")
    def _known_finding(self) -> Artifact:
        known = words.ARTIFACTS[self.type]
        if self.finding not in known:
            raise ValueError(f"finding: '{self.finding}' is not one of {', '.join(known)} (of {self.type})")
        if self.run is not None:
            for text in _texts(self.run):
                _clean(text)
        if not (self.works or self.url or self.run or self.recompute):
            raise ValueError("an artifact needs a source: works, url, run or recompute")
        return self


class Use(_Part):
    """That a work uses a dataset, and how that is known; a citation alone is no use."""

    dataset: Slug
    evidence: Literal["cited", "mentioned", "cited and mentioned", "data availability", "manual"]
    locus: Clean = Field(default="", max_length=120)
    version: Clean = Field(default="", max_length=60)


class Work(_Record):
    """A paper, preprint, deposit, page or program."""

    SHOWN = "title"
    kind: Literal["work"] = "work"
    type: Literal["paper", "preprint", "deposit", "web", "code"] = "paper"
    title: Line
    authors: tuple[Line, ...] = Field(default=(), max_length=1_000)
    year: int | None = Field(default=None, ge=1800, le=2100)
    venue: Clean = Field(default="", max_length=300)
    volume: Clean = Field(default="", max_length=40)
    issue: Clean = Field(default="", max_length=40)
    pages: Clean = Field(default="", max_length=40)
    doi: Doi | None = None
    arxiv: Arxiv | None = None
    openalex: str | None = Field(default=None, pattern=r"^W[0-9]{1,12}$")
    pmid: str | None = Field(default=None, pattern=r"^[0-9]{1,9}$")
    url: Url | None = None
    retracted: Day | None = None
    uses: tuple[Use, ...] = ()
    verification: Verification = "unverified"


Record = Dataset | Artifact | Work
_CLASSES: dict[str, type[Record]] = {"dataset": Dataset, "artifact": Artifact, "work": Work}


def parse(plain: Mapping[str, Any], where: str = "record") -> Record:
    """Return the record that ``plain`` holds; DataError naming ``where``, the field and what was expected."""
    kind = plain.get("kind") if isinstance(plain, Mapping) else None
    if not isinstance(kind, str) or kind not in _CLASSES:
        shown = repr(kind)[:40] if isinstance(kind, str | None) else f"a {type(kind).__name__}"
        raise DataError(f"{where}: kind is {shown}; expected one of {', '.join(_CLASSES)}")
    try:
        # Through JSON, so that a tuple is a list and a date a text whoever wrote them.
        return _CLASSES[kind].model_validate_json(json.dumps(dict(plain), default=_plain, allow_nan=False))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or kind
        said = str(first["msg"]).removeprefix("Value error, ")
        raise DataError(f"{where}: {place}: {said}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: is not made of plain values ({error})") from None


def _plain(value: Any) -> str:
    if isinstance(value, date):  # YAML reads 2020-07-31 as one
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no plain value")


def canonical(plain: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(plain: Any) -> str:
    """Return the SHA-256 of :func:`canonical`."""
    return hashlib.sha256(canonical(plain).encode()).hexdigest()


def mentioned(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the kind and slug of every other record that this one refers to."""
    if isinstance(record, Dataset):
        yield from (("work", slug) for slug in (*record.produced_by, *record.cite))
        yield from (("dataset", link.to) for link in record.links)
        yield from (("work", link.work) for link in record.links if link.work)
        yield from (("work", entry.work) for entry in record.demographics if entry.work)
    elif isinstance(record, Artifact):
        yield from (("dataset", about.dataset) for about in record.about)
        yield from (("work", slug) for slug in record.works)
        yield from (("artifact", relation.artifact) for relation in record.relations)
    else:
        yield from (("dataset", use.dataset) for use in record.uses)
    if not isinstance(record, Work):
        yield from (("work", fact.work) for fact in record.facts if fact.work)


def as_yaml(record: Mapping[str, Any]) -> str:
    """Return a record as YAML to be edited."""
    order = ("kind", "slug", "name", "title", "type", "finding")
    sorted_ = {key: record[key] for key in order if key in record} | {k: v for k, v in record.items() if k not in order}
    return yaml.safe_dump(sorted_, sort_keys=False, allow_unicode=True, width=100)
