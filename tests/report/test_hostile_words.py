"""Whatever cases, groups, columns, datasets and files are called, a page has no element, attribute or address of it."""

import dataclasses
import re
import typing
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import medaudit
from medaudit.cohort import Known
from medaudit.report import Answer, Figure, Finding, Picture, Report, Section, Table, figures, render
from medaudit.statistics import Estimate

SOURCE = Path(medaudit.__file__).parent

PAYLOADS = (
    "\x1b[31mred",
    "<script>evil()</script>",
    '"><img src=x onerror=evil()>',
    "javascript:evil()",
    "</script><script>evil()",
    "</style><svg onload=evil()>",
    "</title><base href=//evil>",
    "' onmouseover='evil()",
    "{{7*7}}{% raw %}",
    "\u202egnp.exe",
    "=cmd|' /C calc'!A0",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "<a href=data:text/html,evil>",
    "\\u003cscript\\u003e",
    "' + datum.value + '",
    "](javascript:evil())",
    "</text><foreignObject>",
)
EVERYTHING = " ".join(PAYLOADS)
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """All elements with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def runs_or_loads(page: Page) -> list[tuple[str, str]]:
    """Return attributes that run a script, or lead out of the page."""
    return [
        (name, value)
        for name, value in page.attributes
        if name.startswith("on") or name in ("srcdoc", "formaction", "action", "ping", "background")
        or (name.endswith(("href", "src")) and not value.startswith(("#", "data:image/")))
    ]  # fmt: skip


def made_of(kind: type, word: str, depth: int = 0) -> Any:
    """Return a dataclass with ``word`` as each of its texts, two entries in each list; new fields are filled too."""
    hints = typing.get_type_hints(kind)
    return kind(**{one.name: _value(hints[one.name], word, one.name) for one in dataclasses.fields(kind)})


def _value(hint: Any, word: str, name: str) -> Any:
    given, inside = typing.get_origin(hint), typing.get_args(hint)
    if name == "svg":
        return chart(word)
    if name == "verdict":
        return "supported"
    if given is typing.Literal:
        return inside[0]
    if hint in (Answer, Figure, Finding, Picture, Report, Section, Table, Known, Estimate):
        return made_of(hint, word)
    if given is tuple and inside[-1] is not Ellipsis:
        return tuple(_value(one, word, name) for one in inside)
    if given is not None and issubclass(given, Sequence):
        return [_value(inside[0], word, name)] * 2
    if given is not None and issubclass(given, typing.Mapping):
        return {word: _value(inside[1], word, name)}
    return {str: word, bytes: PNG, float: 0.5, int: 3, bool: True}.get(hint, word if hint is Any else None)


def chart(word: str) -> str:
    rows = [{"group": word, "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}]
    return figures.forest(rows, title=word, measure=word, worst=word)


CHARTS = {
    "forest": lambda w: chart(w),
    "gaps": lambda w: figures.gaps(
        [{"label": w, "value": 0.1, "low": 0.0, "high": 0.2, "verdict": "supported"}], title=w, measure=w, unit=w
    ),
    "pooled": lambda w: figures.pooled_against_within(
        [{"source": s, "value": 0.1, "low": 0.0, "high": 0.2, "n": 9} for s in (w, "all sources")], title=w, measure=w
    ),
    "curve": lambda w: figures.curve(
        [{"x": x, "value": 0.1 * x, "low": 0.0, "high": 1.0} for x in (1, 2)],
        [{"label": w, "x": 1, "x_low": 0, "x_high": 2, "value": 0.1, "low": 0.0, "high": 0.2, "group": w, "n": 3}],
        title=w,
        x=w,
        y=w,
    ),
    "sweep": lambda w: figures.threshold_sweep(
        [{"group": g, "threshold": t, "rate": 0.5} for g in (w, "b") for t in (0.1, 0.2)],
        [{"threshold": 0.1, "value": 0.9, "low": 0.8, "high": 1.0}],
        title=w,
        threshold=w,
    ),
    "distribution": lambda w: figures.distribution({w: [0.1, 0.5], "b": [0.2]}, title=w, measure=w),
    "bars": lambda w: figures.bars([{"group": w, "category": w, "n": 3}], title=w, categories=(w,)),
    "lines": lambda w: figures.lines(
        [{"x": x, "y": x, "group": w} for x in (1, 2)], title=w, x=w, y=w, groups=[w], note=w
    ),
    "pairs": lambda w: figures.pairs([{"x": 1, "y": 2, "group": w}], title=w, x=w, y=w, groups=[w], note=w),
    "scatter": lambda w: figures.scatter([{"x": 1, "y": 2, "group": w}], title=w, groups=[w], note=w),
    "heatmap": lambda w: figures.heatmap(
        [{"column": w, "line": w, "value": 0.5}], title=w, columns=[w], lines=[w], low=0.0, high=1.0, note=w
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_no_chart_has_an_element_of_what_groups_are_called(name: str) -> None:
    harmless, hostile = (ET.fromstring(CHARTS[name](word)) for word in ("a word", EVERYTHING))
    kinds = [{element.tag for element in root.iter()} for root in (harmless, hostile)]
    assert kinds[1] <= kinds[0] | {f"{{http://www.w3.org/2000/svg}}{tag}" for tag in ("tspan", "text", "title")}
    for element in hostile.iter():
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on")
            assert not key.endswith("href") or value.startswith("#")


def test_a_report_of_nothing_but_payloads_is_the_report_of_harmless_words() -> None:
    harmless, hostile = (Page(render(made_of(Report, word))) for word in ("word", EVERYTHING))
    outside_charts = [
        [
            one
            for one in page.elements
            if one[0] not in ("text", "tspan", "g", "path", "svg", "rect", "line", "clippath", "defs", "wbr")
        ]
        for page in (harmless, hostile)
    ]
    assert outside_charts[1] == outside_charts[0]
    assert runs_or_loads(hostile) == runs_or_loads(harmless) == []
    assert [name for name, _ in hostile.elements].count("script") == 1
    for payload in PAYLOADS:  # shown as it was written: nothing is lost, and no template computed anything
        assert " ".join(payload.split()) in " ".join(hostile.text.split())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_as_the_name_of_a_figure_makes_no_path(tmp_path: Path, payload: str) -> None:
    from medaudit.report import Run

    with Run.open(tmp_path / "r", verb="scores", settings={}, inputs={}) as run:
        for name in (payload, f"../{payload}", f"/{payload}/x"):
            written = run.write_figure(name, "<svg/>")
            assert written.parent == tmp_path / "r" / "figures"
            assert re.fullmatch(r"[A-Za-z0-9._-]*\.svg", written.name)


def test_an_audit_of_hostile_names_makes_a_page_without_them(tmp_path: Path) -> None:
    """One verb from its table to its page; the others make theirs of the same parts."""
    import numpy as np
    import polars as pl

    from medaudit.cli.main import run

    rng = np.random.default_rng(0)
    folder = tmp_path / "<img src=x onerror=evil()>"
    folder.mkdir()
    words = [*PAYLOADS[:2], "javascript:evil()"]
    name = 'sex"><script>evil()</script>'
    table = pl.DataFrame({
        "case_id": [f"{PAYLOADS[k % len(PAYLOADS)]} {k}" for k in range(90)], name: [words[k % 3] for k in range(90)],
        "d<svg onload=evil()>": np.clip(rng.normal(0.8, 0.05, 90), 0, 1),
    })  # fmt: skip
    table.write_csv(folder / "cases.csv")
    asked = ["scores", str(folder / "cases.csv"), "--score", "d<svg onload=evil()>", "--by", name,
             "--resamples", "100", "--quiet", "--out", str(tmp_path / "run")]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        run(asked)
    assert ended.value.code == 0
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert runs_or_loads(page) == []
    assert not {"base", "iframe", "object", "embed", "form", "foreignobject"} & {tag for tag, _ in page.elements}
    for chart_file in (tmp_path / "run" / "figures").iterdir():
        assert not [e for e in ET.parse(chart_file).iter() if e.tag.endswith(("script", "foreignObject", "image"))]


MAKE_HTML = {
    "report/html.py": "the page of a report: figures are parsed, the script is ours",
    "report/site.py": "pages of several runs: the style is ours",
    "review/web/render.py": "Markdown by markdown-it, HTML off: tests/review/test_security.py",
    "audits/explanations/cards.py": "a card: tests/fuzz/test_safe_loading.py",
}
"""Where HTML is made other than by templates that escape."""


def _makers() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if re.search(
            r"\bMarkup\(|<!doctype|<html|<t[dhr][ >]|autoescape=False|\|\s*safe\b|__html__", text, re.IGNORECASE
        ):
            yield path.relative_to(SOURCE).as_posix()


def test_html_is_made_in_few_places_and_all_templates_escape() -> None:
    assert [place for place in _makers() if place not in MAKE_HTML] == []
    for template in SOURCE.rglob("templates/*.html"):
        # A constant may be called safe, nothing else.
        assert not re.search(r"(?<!\")\|\s*safe\b|autoescape\s+false|Markup", template.read_text(), re.IGNORECASE), (
            template
        )
