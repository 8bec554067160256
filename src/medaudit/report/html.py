"""The report of a study as one self-contained HTML page, and the content that such a page is made of."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import jinja2
from markupsafe import Markup

import medaudit
from medaudit.cohort import Known
from medaudit.report import numerals, theme
from medaudit.report.finding import Finding, Verdict

WORDS: Mapping[str, str] = {
    "supported": "Found",
    "refuted": "Ruled out",
    "insufficient": "Cannot tell",
}
"""How a verdict is said to a reader who does not know the three terms."""

MEANINGS: Mapping[str, str] = {
    "supported": "the data show what is asked about",
    "refuted": "the data show that it is absent, or smaller than the margin",
    "insufficient": "these data cannot decide",
}

_SVG = "http://www.w3.org/2000/svg"
_DRAWN = frozenset(
    ("svg", "g", "path", "text", "tspan", "rect", "line", "circle", "ellipse", "polygon", "polyline", "defs",
     "clipPath", "title", "desc", "linearGradient", "radialGradient", "stop", "marker", "pattern", "mask", "use",
     "symbol")
)  # fmt: skip
"""Elements that a figure may have."""


@dataclass(frozen=True)
class Answer:
    """One card of the first screen: a claim with its verdict, and ``numbers``, pairs of a name and a text.

    The first number is shown large.
    """

    verdict: Verdict
    claim: str
    question: str = ""
    numbers: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, finding: Finding) -> Answer:
        """Return the card of a finding: its estimate with interval, n and p-value, as far as they are known."""
        e = finding.estimate
        value = numerals.with_unit(e.value, e.unit, numerals.decimals_of(e.low, e.high))
        adjusted = not math.isnan(e.p_adjusted)
        numbers = (
            (e.name or "estimate", value),
            ("95 % interval", numerals.interval(e.low, e.high, e.unit)),
            ("n", numerals.count(e.n) if e.n else numerals.MISSING),
            ("p, adjusted" if adjusted else "p", numerals.p_cell(e.p_adjusted if adjusted else e.p)),
        )
        known = [(name, text) for name, text in numbers if text != numerals.MISSING]
        return cls(finding.verdict, finding.claim, finding.question, known)


@dataclass(frozen=True)
class Figure:
    """A chart: its SVG, what it is (``title``) and what it shows (``description``) for who cannot see it."""

    svg: str
    title: str
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with the words for who cannot see it, and its caption."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts under ``columns``; ``align`` has a letter a column: ``l`` or ``r`` (default: ``lrrr...``)."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    align: str = ""
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One question of the study: how its result reads in a sentence or two, then what shows it."""

    heading: str
    reading: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    shown_as: Literal["tiles", "squares", "outlines"] = "tiles"
    """Pictures as wide as the page; or small squares; or those with the key of the two outlines of an overlay."""
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that a report's page shows; the words are the study's, the form is the page's.

    ``headline`` answers the study in one sentence. Without ``answers`` there are neither cards nor the legend of
    verdicts. ``methods`` is paragraphs parted by blank lines, to be pasted into a paper. ``limits`` is what the study
    cannot say. ``provenance`` is pairs of a name and a text: metric definitions, empty policy, thresholds, group edges,
    n, seeds, resamples, family size, versions, input hashes. ``known`` is what others had found out about the dataset
    before.
    """

    title: str
    subtitle: str
    headline: str
    answers: Sequence[Answer]
    sections: Sequence[Section]
    methods: str
    citations: Sequence[str]
    limits: Sequence[str]
    provenance: Sequence[tuple[str, str]]
    findings: Sequence[Finding] = ()
    known: Sequence[Known] = ()


def render(report: Report) -> str:
    """Return the report as one HTML page that loads nothing: style, figures and pictures are in it.

    All texts are escaped. Raises ValueError for a figure that is not well-formed SVG or would run or load something.
    """
    script = resources.files("medaudit.report").joinpath("templates/copy.js").read_text(encoding="utf-8")
    return page(
        "report.html",
        report=report,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def page(template: str, **content: Any) -> str:
    """Return a template's page, with all that pages of reports share: style, words of verdicts, ``svg`` for figures."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medaudit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cells": _cells, "png": _data_url, "paragraphs": _paragraphs}
    numbers = itertools.count()
    return environment.get_template(template).render(
        svg=lambda figure: _inline(figure, f"figure{next(numbers)}"),
        theme=theme,
        words=WORDS,
        meanings=MEANINGS,
        numerals=numerals,
        version=medaudit.__version__,
        **content,
    )


def _inline(figure: Figure, name: str) -> Markup:
    """Return the figure's SVG for use inside a page: with title and description, and ids of its own."""
    try:
        root = ET.fromstring(figure.svg)
    except ET.ParseError as error:
        raise ValueError(f"figure '{figure.title}' is not well-formed SVG: {error}") from None
    for element in root.iter():
        # A browser reads names in any case, and an element of no namespace as HTML: what is not drawn is not let in.
        if (kind := str(element.tag).removeprefix(f"{{{_SVG}}}")) not in _DRAWN:
            raise ValueError(f"figure '{figure.title}' has a {kind} in it")
        for key, value in list(element.attrib.items()):
            if element is not root and (key == "role" or key.startswith("aria-")):
                del element.attrib[key]  # the whole figure is one image with a text; its marks have none
                continue
            if key.lower().startswith("on") or (key.lower().endswith("href") and not value.startswith("#")):
                raise ValueError(f"figure '{figure.title}' would run or load something: {key}={value!r}")
            # Two figures of one page both have a "clip0"; the second would be clipped by the first one's path.
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
    title, description = ET.Element(f"{{{_SVG}}}title"), ET.Element(f"{{{_SVG}}}desc")
    title.text, description.text = figure.title, figure.description
    for element, part in ((description, "desc"), (title, "title")):
        element.set("id", f"{name}-{part}")
        root.insert(0, element)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


def _cells(row: Sequence[Any], align: str) -> list[tuple[str, str]]:
    """Return a row's cells with the class that aligns each."""
    letters = align.ljust(len(row), "r") if align else "l".ljust(len(row), "r")
    return [("number" if letter == "r" else "", str(cell)) for cell, letter in zip(row, letters, strict=False)]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
