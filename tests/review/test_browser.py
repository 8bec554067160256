"""What the pages look like to a person: nothing lies on anything, nothing is told by colour alone, nothing is hidden."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import bibtexparser
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_reviews import artifact, dataset, publish, serving, work
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from medaudit.review import database, freezing, people, seed, start, workflow
from medaudit.review.web.render import markdown

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
PASSWORD = "correct horse battery"
FIGURE = json.loads((Path(__file__).parent / "chexpert_figure.json").read_text())

# What the paper's example does not have: a crowd, claims that disagree, people, a citation, a reply, accents, versions.
RECORDS = [
    work("crowd-2019-maker", title="A dataset of crowds", authors=["Nguyễn, Thị", "O'Brien, Zoë"], year=2019,
         doi="10.1000/crowd", venue="Journal of Müller's"),
    work("must-2020", title="Cite this too", authors=["Must, Ann"], year=2020, doi="10.1000/must"),
    work("cited-only-2021", title="It cites, and uses nothing", uses=[{"dataset": "crowd", "evidence": "cited"}]),
    work("mentions-2021", title="It mentions", uses=[{"dataset": "crowd", "evidence": "mentioned", "locus": "table 2"}]),
    *(work(f"user-{n}-with-a-rather-long-name", uses=[{"dataset": "crowd", "evidence": "manual"}]) for n in range(8)),
    dataset("kin", name="Kin", curated=True, year=2020),
    dataset(
        "crowd", name="Crowd", description="People, in pictures.", curated=True, year=2019, access="open",
        modalities=["CR", "CT"], anatomy=["chest"], tasks=["classification"], produced_by=["crowd-2019-maker"],
        cite=["crowd-2019-maker", "must-2020"], licences=[{"spdx": "CC-BY-4.0"}],
        versions=[{"label": "1", "released": "2019"}, {"label": "2", "supersedes": "1", "note": "without duplicates"}],
        links=[{"relation": "SHARES_PATIENTS_WITH", "to": "kin"}],
        facts=[
            {"field": "images", "value": 10616, "unit": "images", "work": "crowd-2019-maker", "verification": "verified",
             "preferred": True},
            {"field": "images", "value": 331, "unit": "images", "url": "https://example.org/list"},
            {"field": "patients", "value": 1234, "unit": "patients", "package": "made 1.0", "verification": "computed"},
        ],
        demographics=[
            {"attribute": "sex", "group": "women", "n": 300, "work": "crowd-2019-maker"},
            {"attribute": "sex", "group": "men", "n": 100, "work": "crowd-2019-maker"},
            {"attribute": "age", "completeness": 0.25, "package": "made 1.0", "verification": "computed"},
        ],
    ),
    dataset("imported-one", name="Imported one", modalities=["MR"]),
    *(artifact(f"finding-{n}-{kind}-with-a-name".replace("_", "-"), "crowd", type=kind, finding=finding, severity=severity,
               title=f"Finding {n} of {severity}", works=["must-2020"], reported=str(2015 + n),
               verb="INTRODUCE" if kind == "documentation" else "EXTEND")
      for n, (kind, finding, severity) in enumerate([
          ("shortcut", "device", "critical"), ("shortcut", "text overlay", "major"), ("bias", "sex", "major"),
          ("label_issue", "noise rate", "minor"), ("data_issue", "duplicates", "critical"),
          ("annotation", "segmentation", "info"), ("annotation", "landmarks", "info"), ("bias", "age", "minor"),
          ("documentation", "datasheet", "info"), ("benchmark", "challenge", "info"), ("shortcut", "other", "minor"),
          ("derived_dataset", "subset", "info")])),
    artifact("answered", "crowd", type="data_issue", finding="misfiled", severity="minor", title="Some lie elsewhere",
             summary="By hand.", responses=[{"by": "The makers", "text": "Mended in version 2.", "on": "2021-03-04"}]),
]  # fmt: skip
PUBLIC = ("/", "/search?q=crowd", "/search?q=color:red", "/datasets/crowd", "/datasets/chexpert", "/datasets/imported-one",
          "/artifacts/answered", "/works/crowd-2019-maker", "/graph/dataset/crowd", "/graph/dataset/crowd?hops=2",
          "/compare", "/compare?d=crowd&d=kin&d=chexpert&d=imported-one", "/timeline", "/gaps", "/releases",
          "/releases/v2026.01", "/releases/changes?earlier=v2026.01", "/history/dataset/crowd", "/method", "/words", "/api",
          "/sign-in", "/datasets/nothing")  # fmt: skip
PERSONAL = ("/submit?dataset=crowd", "/paste", "/contributions", "/queue", "/contributions/1", "/contributions/3",
            "/contributions/4", "/people", "/edit/dataset/crowd", "/datasets/crowd")  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    db = database.connect(tmp_path_factory.mktemp("looks") / "r.sqlite", create=True)
    start.plant(db, start.profile(seed.read(), "paper-figure"), version="v2026.01")
    with db.writing() as connection:
        for name, role in (("ada", "contributor"), ("grace", "reviewer"), ("root", "admin"), ("edith", "editor")):
            people.add(connection, name, role, PASSWORD)
        ada, grace, edith = (people.named(connection, name) for name in ("ada", "grace", "edith"))
    publish(db, ada, grace, *RECORDS)
    with db.writing() as connection:
        freezing.freeze(connection, edith, "v2026.02", "a test")
        maker = RECORDS[0].model_copy(update={"venue": "Zeitschrift für Müller's <b>", "year": 2018})
        workflow.propose(connection, ada, "Other venue", workflow.putting(connection, [maker]), interests="I know him.")
        spam = work("spam", title="casino", url="https://bit.ly/x")
        fresh = artifact("fresh", "crowd", summary="Größer & \"quoted\" 'it' <i>", facts=[
            {"field": "odds", "value": 2.5, "low": 1.5, "high": 4, "n": 100, "work": "must-2020", "note": "é"}])  # fmt: skip
        workflow.propose(connection, ada, "New ones", workflow.putting(connection, [spam, fresh]))
    with serving(db) as address:
        yield address
    db.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def visit(served: str, browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a path, as somebody or as nobody, and closes what it opened after the test."""
    opened: dict[str, tuple[BrowserContext, Page]] = {}

    def show(path: str, name: str | None = None, **options: object) -> Page:
        key = repr((name, sorted(options.items())))
        if key not in opened:
            context = browser.new_context(**({"java_script_enabled": False} | options))  # type: ignore[arg-type]
            page = context.new_page()
            opened[key] = (context, page)
            if name is not None:
                sign_in(page, served, name)
        page = opened[key][1]
        page.goto(f"{served}{path}")
        return page

    yield show
    for context, _ in opened.values():
        context.close()


def sign_in(page: Page, served: str, name: str) -> None:
    page.goto(f"{served}/sign-in")
    form = page.locator("form[action='/sign-in']")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Sign in").click()
    assert f"{name} (" in page.inner_text("header")


def boxes(page: Page, selector: str) -> list[tuple[str, float, float, float, float]]:
    """Text, left, top, right and bottom of each element, as the browser drew it."""
    found = page.eval_on_selector_all(selector, """all => all.map(one => {
        const box = one.getBoundingClientRect();
        return [one.textContent.trim(), box.left, box.top, box.right, box.bottom]; })""")  # fmt: skip
    return [tuple(one) for one in found]


def overlapping(boxes_: list[tuple[str, float, float, float, float]]) -> list[tuple[str, str]]:
    return [(a[0], b[0]) for a, b in combinations(boxes_, 2)
            if min(a[3], b[3]) - max(a[1], b[1]) > 0.5 and min(a[4], b[4]) - max(a[2], b[2]) > 0.5]  # fmt: skip


# The graph ----------------------------------------------------------------------------------------------------------


def test_the_papers_figure_is_drawn_with_its_verbs_and_boxes(visit):
    page = visit("/graph/dataset/chexpert")
    assert page.locator("svg.graph .root text").all_text_contents() == ["CheXpert", "dataset"]
    boxes_ = {}
    for node in page.locator("svg.graph a").all():
        slug = (node.get_attribute("href") or "").rsplit("/", 1)[1]
        boxes_[(node.get_attribute("href") or "").split("/")[1], slug] = node.locator(".box").text_content()
    assert sorted(boxes_.values()) == sorted(FIGURE["boxes"].values())
    assert all(boxes_[where, slug] == FIGURE["boxes"][slug] for where, slug in boxes_)
    assert sorted(page.locator("svg.graph .verb").all_text_contents()) == sorted(verb for _, verb, _ in FIGURE["edges"])
    # The colours are those of the figure, and a shape tells a work, a dataset and an artifact apart in a grey print.
    fill = {kind: page.locator(f"svg.graph .{kind} rect").first.evaluate("one => getComputedStyle(one).fill")
            for kind in ("dataset", "documentation", "bias", "annotation", "work")}  # fmt: skip
    assert len(set(fill.values())) == 5
    assert len({page.locator(f"svg.graph .{kind} rect").first.get_attribute("rx") for kind in
                ("dataset", "annotation", "work")}) == 3  # fmt: skip
    table = page.locator("table.tight tbody tr")
    assert table.count() == len(FIGURE["edges"])
    assert sorted(table.locator(".said-verb").all_inner_texts()) == [
        "extends",
        "extends",
        "introduces",
        "produces",
        "uses",
    ]


@pytest.mark.parametrize("path", ["/graph/dataset/chexpert", "/graph/dataset/crowd", "/graph/artifact/gaggion-2024-chexmask",
                                  "/graph/work/must-2020"])  # fmt: skip
def test_nothing_in_a_graph_lies_on_anything(visit, path):
    page = visit(path, viewport={"width": 1280, "height": 900}, java_script_enabled=True)
    nodes = boxes(page, "svg.graph .node rect")
    assert 3 <= len(nodes) <= 31
    assert overlapping(nodes) == []
    verbs = boxes(page, "svg.graph .verb")
    assert len(verbs) >= len(nodes) - 1
    assert overlapping(verbs) == []
    for verb in verbs:
        assert overlapping([verb, *nodes]) == []
    for node, text in zip(nodes, boxes(page, "svg.graph .node text:not(.box)"), strict=True):
        assert node[1] - 1 <= text[1]
        assert text[3] <= node[3] + 1
    picture = boxes(page, "svg.graph")[0]
    for one in (*nodes, *verbs):
        assert picture[1] <= one[1] < one[3] <= picture[3]
        assert picture[2] <= one[2] < one[4] <= picture[4]


def test_each_edge_is_an_arrow_from_the_one_that_does_it(visit):
    page = visit("/graph/dataset/crowd", viewport={"width": 1280, "height": 900}, java_script_enabled=True)
    root = boxes(page, "svg.graph .root rect")[0]
    ends = page.eval_on_selector_all("svg.graph .edge", """all => all.map(one => {
        const at = one.getPointAtLength(one.getTotalLength()), from = one.getPointAtLength(0), to = one.getScreenCTM();
        return [one.querySelector("title").textContent, from.x * to.a + to.e, at.x * to.a + to.e, at.y * to.d + to.f];
    })""")  # fmt: skip
    assert len(ends) >= 23
    arriving = [end for end in ends if end[0].endswith(" Crowd")]
    assert len(arriving) == len(ends) - 1  # Crowd itself shares patients with Kin
    for said, begin, x, y in arriving:
        assert abs(x - root[1 if begin < root[1] else 3]) <= 2.5, said  # on the side that it comes from
        assert root[2] <= y <= root[4], said
    assert len({(round(x), round(y)) for _, _, x, y in ends}) == len(ends)


def test_the_graph_can_be_walked_with_the_keyboard_and_is_told_to_a_screen_reader(visit, served):
    page = visit("/graph/dataset/chexpert", java_script_enabled=True)
    svg = page.locator("svg.graph")
    named = (svg.get_attribute("aria-labelledby") or "").split()
    said = [svg.locator(f"#{one}").text_content() for one in named]
    assert said[0] == "The graph around CheXpert"
    assert "6 records and 5 relations" in str(said[1])
    page.locator(".drawing").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('svg.graph') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement.querySelector('rect')).strokeWidth") == "3px"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/(datasets|artifacts|works)/"))


# A dataset's page ---------------------------------------------------------------------------------------------------


def test_warnings_come_first_the_gravest_before_all_each_by_word_and_shape_and_with_its_source(visit):
    page = visit("/datasets/crowd")
    order = page.locator("main h2").all_inner_texts()
    assert order[0] == "Before you use it"
    rows = page.locator(".warnings li")
    words = [row.locator(".severity").inner_text().strip() for row in rows.all()]
    rank = {"critical": 0, "major": 1, "minor": 2, "info": 3}
    assert words == sorted(words, key=rank.__getitem__)
    assert set(words) == {"critical", "major", "minor"}
    shapes = {word: row.locator(".shape path").get_attribute("d") for word, row in zip(words, rows.all(), strict=True)}
    assert len(set(shapes.values())) == 3
    for row in rows.all():
        assert row.locator("small").inner_text().strip()
    assert rows.first.locator("small a").inner_text() == "Cite this too"
    assert page.locator(".tally").inner_text().split() == ["2", "critical", "3", "major", "4", "minor"]


def test_claims_that_disagree_stand_side_by_side_and_are_marked(visit):
    page = visit("/datasets/crowd")
    glance = page.locator(".glance").inner_text()
    assert "10,616" in glance
    assert "sources disagree" in glance
    disputed = page.locator(".facts .disputed")
    assert disputed.count() == 1
    text = disputed.inner_text()
    assert "10,616 images" in text
    assert "331 images" in text
    assert disputed.locator("tr").count() == 2
    assert disputed.locator(".seen").all_inner_texts() == ["verified", "unverified"]
    assert "A dataset of crowds" in text
    assert "https://example.org/list" in text


def test_who_is_in_it_is_told_with_shares_and_with_what_is_missing(visit):
    page = visit("/datasets/crowd")
    rows = [" ".join(row.split()) for row in page.locator(".demographics tbody tr").all_inner_texts()]
    assert rows[0].startswith("sex women 300 patients 75.0 %")
    assert rows[1].startswith("sex men 100 patients 25.0 %")
    assert rows[2].startswith("age value known patients 25.0 % have a value")
    assert "A dataset of crowds" in rows[0]
    assert "made 1.0" in rows[2]
    assert "has no numbers of gender, race, ethnicity, skin tone" in page.locator("#people .note").inner_text()


def test_a_citation_is_never_called_a_use(visit):
    page = visit("/datasets/crowd")
    used = page.locator("#used")
    listed = used.locator("h3 + ul a").all_inner_texts()
    assert len(listed) == 9
    assert "It mentions" in listed
    assert "It cites, and uses nothing" not in listed
    assert used.locator("h3").all_inner_texts() == ["a curator read it 8", "mentioned 1"]
    graph = visit("/graph/dataset/crowd").locator("svg.graph a title")
    assert "It mentions (work)" in graph.all_text_contents()
    assert "It cites, and uses nothing (work)" not in graph.all_text_contents()


def test_what_is_to_be_cited_can_be_had_in_one_click_and_read_by_another_program(visit):
    page = visit("/datasets/crowd", accept_downloads=True)
    for name, check in (("BibTeX", lambda text: {entry.key for entry in bibtexparser.parse_string(text).entries}
                         == {"crowd-2019-maker", "must-2020"}),
                        ("Croissant", lambda text: json.loads(text)["name"] == "Crowd"),
                        ("Feed", lambda text: text.startswith("<?xml"))):  # fmt: skip
        href = page.get_by_role("link", name=name).last.get_attribute("href")
        answer = page.request.get(page.evaluate_handle("location.origin").json_value() + href)
        assert answer.ok
        assert check(answer.text()), name


def test_the_score_shows_its_denominator_and_what_is_missing(visit):
    text = visit("/datasets/imported-one").locator("#documented").inner_text()
    assert re.search(r"1 of 18", text)
    assert "Not answered: what it is, who made it" in text
    assert "Answered: modality." in text
    page = visit("/datasets/imported-one")
    assert page.locator(".crumb .badge").inner_text() == "imported, not curated"
    assert "perhaps nobody has looked" in page.locator("#warnings").inner_text()
    assert visit("/datasets/crowd").locator(".crumb .badge").count() == 0


def test_every_link_within_a_page_leads_somewhere(visit):
    for path in ("/datasets/crowd", "/datasets/imported-one", "/search?q=crowd"):
        page = visit(path)
        for href in page.eval_on_selector_all("a[href^='#']", "all => all.map(a => a.getAttribute('href'))"):
            assert page.locator(href).count() == 1, (path, href)


# The other pages ----------------------------------------------------------------------------------------------------


def test_six_datasets_stand_side_by_side_and_no_more(visit):
    page = visit("/compare?d=crowd&d=kin&d=chexpert&d=imported-one")
    assert page.locator(".compared").first.locator("thead th").count() == 5
    assert "Crowd shares patients with Kin" in page.locator(".warnings").inner_text()
    row = page.locator(".compared tbody tr", has_text="images").first
    assert "sources disagree" in row.locator("td").first.inner_text()
    page = visit("/compare?" + "&".join(f"d={slug}" for slug in ("crowd", "kin", "chexpert", "imported-one")) + "&d=no")
    assert page.locator("form.names input[name=d]").count() == 5  # one more than there are


def test_the_gaps_are_told_by_numbers_and_shaded_in_steps(visit):
    page = visit("/gaps")
    table = page.locator("table.gaps")
    heads = table.locator("thead th").all_inner_texts()
    chest = table.locator("tbody tr", has_text="plain radiograph").locator("td")
    at = {head: chest.nth(n).inner_text() for n, head in enumerate(heads[1:])}
    assert at["sex"] == "2 of 2"  # CheXpert by Larrazabal et al., and Crowd
    assert at["skin tone"] == "0 of 2"
    assert at["age"] == "1 of 2"
    classes = {head: chest.nth(n).get_attribute("class") for n, head in enumerate(heads[1:])}
    assert (classes["sex"], classes["age"], classes["skin tone"]) == ("share4", "share3", "share0")
    assert page.locator(".legend .swatch").count() == 5


def test_the_timeline_counts_what_it_lists(visit):
    page = visit("/timeline")
    section = page.locator("section.year", has=page.get_by_role("heading", name="2019", exact=True))
    findings, datasets = (int(one.split()[-1]) for one in section.locator("h3").all_inner_texts())
    assert findings == section.locator("ul").first.locator("a").count()
    assert datasets == section.locator("ul").last.locator("a").count() == 2  # CheXpert and Crowd
    assert page.locator("svg.years .own.dataset").count() >= 2


def test_what_changed_is_shown_old_beside_new_as_it_was_written(visit):
    page = visit("/contributions/3", "grace")
    rows = {row.locator("th").inner_text(): row.locator("td").all_inner_texts()
            for row in page.locator(".steps tbody tr").all()}  # fmt: skip
    assert rows == {"/venue": ["Journal of Müller's", "Zeitschrift für Müller's <b>"], "/year": ["2019", "2018"]}
    assert "I know him." in page.inner_text("main")
    page = visit("/contributions/4", "grace")
    text = page.inner_text("main")
    assert "Größer & \"quoted\" 'it' <i>" in text  # no escapes of JSON or HTML
    assert "note: é" in text
    assert "suspicious" in page.locator(".remarks").inner_text()
    assert page.locator("[name=reason] option").all_inner_texts() == list(workflow.REASONS)
    assert visit("/contributions/4", "ada").get_by_role("button", name="Accept and publish").count() == 0
    changed = visit("/releases/changes?earlier=v2026.01&later=v2026.02")
    assert f"{len(RECORDS)} new, 0 changed, 0 retired" in changed.inner_text("main")


def test_a_reply_stands_beside_the_finding(visit):
    page = visit("/artifacts/answered")
    assert page.locator("h1").inner_text() == "Some lie elsewhere"
    assert "Mended in version 2." in page.locator(".response").inner_text()
    assert "maintainers replied" in visit("/datasets/crowd").locator("#findings").inner_text()


def test_a_form_says_what_is_wrong_and_keeps_what_was_typed(visit):
    page = visit("/submit", "ada")
    page.get_by_label("Dataset: name, alias or DOI").fill("no such dataset")
    page.get_by_label("What was found, in one sentence").fill("Something")
    page.get_by_label("How it was found, and what a user should do").fill("Somehow")
    page.get_by_label("Kind").select_option("label_issue|noise rate")
    page.get_by_role("button", name="Submit for review").click()
    problem = page.get_by_role("alert")
    assert "nobody knows it" in problem.inner_text()
    assert page.locator("form.stack").get_attribute("aria-describedby") == problem.get_attribute("id")
    assert page.get_by_label("Dataset: name, alias or DOI").input_value() == "no such dataset"
    assert page.get_by_label("Kind").input_value() == "label_issue|noise rate"
    page.get_by_label("Dataset: name, alias or DOI").fill("crowd")
    page.get_by_label("Or an address").fill("https://example.org/noise")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Submit it as shown").click()
    assert "/contributions/" in page.url
    assert page.locator(".crumb .badge").inner_text() == "submitted"
    page.get_by_role("button", name="Withdraw it").click()
    assert page.locator(".crumb .badge").inner_text() == "withdrawn"


def test_a_finding_is_typed_and_submitted_with_the_keyboard_alone(visit):
    page = visit("/submit?dataset=crowd", "ada", java_script_enabled=True)
    page.get_by_label("Dataset: name, alias or DOI").focus()
    for typed in ("\t", "shortcut: text", "\t", "\t", "A date is written in", "\t", "Crop it.", "\t", "major", "\t", "\t",
                  "\t", "\t", "\t", "https://example.org/date"):  # fmt: skip
        page.keyboard.press("Tab") if typed == "\t" else page.keyboard.type(typed)
    assert page.get_by_label("Or an address").input_value() == "https://example.org/date"
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Submit for review"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/contributions/\d+$"))
    assert "text overlay" in page.inner_text("main")
    page.get_by_role("button", name="Withdraw it").press("Enter")
    page.wait_for_load_state()


# All pages ----------------------------------------------------------------------------------------------------------


class _Faults(HTMLParser):
    """What the pages' policy forbids, forms without their secret, and descriptions that are not there."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.described: list[str] = []
        self.posting = self.secret = False
        self.levels: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.faults += [f"{tag} {name}" for name in own if name == "style" or name.startswith("on")]
        self.faults += [tag] * (tag == "style" or (tag == "script" and "src" not in own))
        self.ids += [own["id"] or ""] if "id" in own else []
        for name in ("aria-describedby", "aria-labelledby", "for", "form"):
            self.described += (own.get(name) or "").split()
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "form":
            self.posting, self.secret = own.get("method") == "post", False
        self.secret |= own.get("name") == "csrf" and bool(own.get("value"))
        if re.match(r"(https?:)?//", own.get("src") or "") or (tag == "link" and "//" in (own.get("href") or "")):
            self.faults.append(f"{tag} from elsewhere")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.faults += ["a form without its secret"] * (self.posting and not self.secret)


@pytest.mark.parametrize("name", [None, "root"])
def test_no_page_breaks_its_policy_or_refers_to_nothing(visit, served, name):
    for path in PUBLIC if name is None else PERSONAL:
        page = visit(path, name)
        found = _Faults()
        found.feed(page.request.get(f"{served}{path}").text())
        assert found.faults == [], path
        assert len(set(found.ids)) == len(found.ids), path
        assert set(found.described) <= set(found.ids), path
        assert found.levels.count(1) == 1, path
        assert all(b - a <= 1 for a, b in zip(found.levels, found.levels[1:], strict=False)), (path, found.levels)


@pytest.mark.parametrize("name", [None, "root"])
def test_the_console_says_nothing_and_nobody_else_is_asked(visit, served, name):
    page = visit("/words", name, java_script_enabled=True)
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith((served, "data:")) else None)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.log('policy: ' + e.violatedDirective))"
    )
    for path in PUBLIC if name is None else PERSONAL:
        page.goto(f"{served}{path}")
        page.wait_for_load_state("load")
    # The two pages that are to fail say their status, and nothing else.
    assert [one for one in said if "status of 400" not in one and "status of 404" not in one] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [None, "root"])
def test_no_page_has_a_serious_fault_of_accessibility(visit, name, scheme):
    for path in PUBLIC if name is None else PERSONAL:
        page = visit(path, name, color_scheme=scheme, java_script_enabled=True)
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found
                   if one["impact"] in ("serious", "critical")]  # fmt: skip
        assert serious == [], path


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_scrolls_sideways_without_scripts(visit, width):
    for name, paths in ((None, PUBLIC), ("root", PERSONAL)):
        for path in paths:
            page = visit(path, name, viewport={"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_print_leaves_out_what_cannot_be_clicked_on_paper(visit, tmp_path):
    page = visit("/datasets/crowd", java_script_enabled=True)
    page.emulate_media(media="print")
    for selector in ("header nav", ".find", ".onpage", ".buttons"):
        assert not page.locator(selector).first.is_visible(), selector
    assert page.locator(".warnings li").first.is_visible()
    page.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") >= 2


def test_a_table_of_markdown_is_a_table_without_a_style_of_its_own():
    html = str(markdown('| a | b |\n|:--|--:|\n| 1 | <b> style="x" |'))
    assert html.count("<td>") == 2
    assert html.count("<th>") == 2
    assert "style=" not in re.sub(r"&[a-z]+;", "", html).replace("style=x", "")
    assert "<b>" not in html
