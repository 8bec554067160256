"""The page answers first, loads nothing, escapes everything, and can be read without colour or sight."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import gallery
import pytest

from medaudit.report import Answer, Figure, Finding, Report, Section, Table, render
from medaudit.report.html import WORDS
from medaudit.statistics import Estimate


class Page(HTMLParser):
    """Elements in order with their attributes, and the text of each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self.text.setdefault(tag, []).append("")
        if tag not in ("meta", "img", "br", "wbr"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag  # every element is closed where it was opened

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.text[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def source() -> str:
    return render(gallery.report())


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def small(**changes: object) -> Report:
    content: dict[str, object] = {"title": "T", "subtitle": "S", "headline": "H", "methods": "M"}
    content |= dict.fromkeys(("answers", "sections", "citations", "limits", "provenance"), ())
    return Report(**(content | changes))  # type: ignore[arg-type]


def test_the_first_words_are_the_answer(page):
    assert page.text["h1"] == [gallery.report().headline]
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


@pytest.mark.parametrize(
    ("claim", "lead"),
    [
        ("Counterfactuals flip the prediction: 100 % (95 to 100).", "Counterfactuals flip the prediction."),
        ("What moves most is absence 66 % (64 to 66); the rest 7 %.", "What moves most is absence 66 % (64 to 66)."),
        ("Nothing is left out.", "Nothing is left out."),
        ("At 12:30 it is noon", "At 12:30 it is noon."),
    ],
)  # fmt: skip
def test_the_lead_of_a_claim_ends_before_its_numbers(claim, lead):
    assert replace(gallery.report().findings[0], claim=claim).lead == lead


def test_a_verdict_is_a_word_and_a_shape_and_a_colour(page):
    cards = [
        i for i, (tag, a) in enumerate(page.elements) if tag == "li" and "answer" in (a.get("class") or "").split()
    ]
    shapes, colours = set(), set()
    for i in cards:
        following = page.elements[i : i + 4]
        assert [tag for tag, _ in following[:3]] == ["li", "span", "svg"]
        shapes.add(following[3][0])
        colours.add(following[1][1]["class"])
    assert len(cards) == len(shapes) == len(colours) == 3
    for word in WORDS.values():
        assert any(word in text for text in page.text["li"])


def test_the_page_loads_nothing(source, page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "@import" not in source
    assert not re.search(r"url\((?!['\"]?#)", source)


def test_the_browser_is_told_to_load_nothing_and_to_run_only_our_script(source, page):
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_whatever_a_group_is_called_it_stays_text(page):
    name = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    hostile = Page(render(gallery.report(young=name)))
    assert len(hostile.all("script")) == 1
    assert len(hostile.all("img")) == len(page.all("img"))
    assert Counter(tag for tag, _ in hostile.elements)["b"] == Counter(tag for tag, _ in page.elements)["b"]
    assert name in " ".join(hostile.text["th"])


def test_every_text_of_the_content_is_escaped():
    bad = "<i>&"
    finding = Finding(bad, bad, bad, "supported", {}, Estimate(bad, 1.0, unit=bad))
    report = Report(
        title=bad, subtitle=bad, headline=bad, answers=[Answer.of(finding)],
        sections=[Section(bad, bad, tables=[Table(bad, [bad], [[bad]], note=bad)], note=bad)],
        methods=bad, citations=[bad], limits=[bad], provenance=[(bad, bad)], findings=[finding],
    )  # fmt: skip
    source = render(report)
    assert bad not in source
    assert source.count("&lt;i&gt;&amp;") >= 20


def test_ids_are_unique_and_every_reference_to_one_is_met(source, page):
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    used = set(re.findall(r"url\(#([^)]+)\)", source)) | {a["href"][1:] for a in page.all("a")}  # type: ignore[index]
    for attributes in page.all("svg"):
        used |= set((attributes.get("aria-labelledby") or "").split())
    assert used
    assert used <= set(ids)


def test_figures_and_pictures_can_be_read_aloud(page):
    charts = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(charts) == sum(len(s.figures) for s in gallery.report().sections)
    assert all(len((a["aria-labelledby"] or "").split()) == 2 for a in charts)
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("aria-hidden") == "true" for a in page.all("svg") if a.get("role") != "img")


def test_the_page_says_its_language_and_its_tables_their_headings(page):
    assert page.all("html") == [{"lang": "en"}]
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert any(a.get("name") == "viewport" for a in page.all("meta"))


def test_numbers_are_aligned_to_the_right():
    table = Table("c", ["group", "n"], [["a", "1,503"]])
    cells = Page(render(small(sections=[Section("h", "r", tables=[table])])))
    assert {"class": "number"} in cells.all("td")
    assert all("class" not in a for a in cells.all("th") if a.get("scope") == "row")


def test_the_page_is_small_enough_to_be_mailed(source):
    assert len(source.encode()) < 3_000_000


def test_the_methods_can_be_pasted_as_they_are(page):
    pasted = " ".join(" ".join(page.text["p"]).split())
    for paragraph in gallery.METHODS.strip().split("\n\n"):
        assert " ".join(paragraph.split()) in pasted


def test_every_finding_stands_in_the_table_with_its_numbers(source):
    rows = re.findall(r"<tr><th scope=\"row\"><code>(.*?)</code>.*?</tr>", source)
    assert [row.replace("<wbr>", "").replace("&gt;", ">") for row in rows] == [f.id for f in gallery.findings()]
    assert "0.0024 (0.0011 to 0.0037)\N{NO-BREAK SPACE}per year" in source
    assert "&lt; 0.001" in source


def test_without_answers_there_are_no_cards_and_no_legend_of_verdicts(source):
    bare = render(small(answers=[]))
    for said in ('class="answers"', 'class="meaning"', "Ruled out"):
        assert said in source
        assert said not in bare


def test_a_card_leaves_out_what_is_not_known():
    finding = Finding("gap:age:dice", "?", "!", "insufficient", {}, Estimate("gap", 0.1))
    assert Answer.of(finding).numbers == [("gap", "0.100")]


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<rect onload="alert(1)"/>',
        '<image href="https://example.org/x.png"/>',
        "<foreignObject/>",
        '<use xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="other.svg#a"/>',
        "<rect",
    ],
)
def test_a_figure_that_would_run_or_load_something_is_refused(inside):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    with pytest.raises(ValueError, match="figure 'Dice by age'"):
        render(small(sections=[Section("h", "r", figures=[Figure(svg, "Dice by age", "d")])]))


def test_the_same_content_gives_the_same_page(source):
    assert render(gallery.report()) == source


def test_an_empty_report_is_still_a_page():
    assert Page(render(small())).text["h1"] == ["H"]


def test_no_colour_of_the_page_is_too_pale_for_text(source):
    colours = dict(re.findall(r"--(ink|quiet|link|supported|refuted|insufficient): (#[0-9a-f]{6});", source))
    assert len(colours) == 6
    for colour in colours.values():
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        assert 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) > 4.5  # WCAG 2.2, AA
