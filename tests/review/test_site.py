"""The site in a real browser: find, read, submit, review, publish, export, as two people, without scripts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_reviews import artifact, dataset, serving, work
from playwright.sync_api import Browser, Page, sync_playwright

from medaudit.review import database, people, seed, sites, start, workflow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
PASSWORD = "correct horse battery"
PUBLIC = ("/", "/search?q=chest", "/search?q=color:red", "/search?q=chexprt", "/datasets/chexpert", "/datasets/ddi",
          "/artifacts/larrazabal-2020-sex-imbalance", "/works/irvin-2019-chexpert", "/graph/dataset/chexpert",
          "/graph/dataset/chexpert?hops=2", "/compare?d=chexpert&d=ddi", "/compare", "/timeline", "/gaps", "/releases",
          "/releases/v2026.01", "/releases/changes?earlier=v2026.01", "/history/dataset/chexpert", "/method", "/words",
          "/api", "/sign-in", "/datasets/nothing")  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    db = database.connect(tmp_path_factory.mktemp("site") / "r.sqlite", create=True)
    start.plant(db, start.profile(seed.read(), "paper-demo"), version="v2026.01")
    with db.writing() as connection:
        for name, role in (("ada", "contributor"), ("grace", "reviewer"), ("root", "admin")):
            people.add(connection, name, role, PASSWORD)
        ada, grace = people.named(connection, "ada"), people.named(connection, "grace")
        odd = [work("long", title="Word " * 90), dataset("odd", name="A" * 400, description="B" * 2_000),
               artifact("odd-one", "odd", title="<b>bold</b> & 'quoted'", summary="C" * 3_000)]  # fmt: skip
        workflow.accept(connection, grace, workflow.propose(connection, ada, "odd", workflow.putting(connection, odd)))
    with serving(db) as address:
        yield address
    db.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def sign_in(page: Page, served: str, name: str) -> None:
    page.goto(f"{served}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    assert f"{name} (" in page.inner_text("header")


def test_a_finding_goes_from_a_form_to_the_public_through_two_people_without_scripts(served, browser):
    author, reviewer, anybody = (browser.new_context(java_script_enabled=False).new_page() for _ in range(3))
    anybody.goto(served)
    anybody.locator("#first").fill("chexpert")
    anybody.get_by_role("main").get_by_role("button", name="Search").click()
    anybody.get_by_role("link", name="CheXpert", exact=True).first.click()
    assert "Before you use it" in anybody.inner_text("main")
    assert anybody.locator(".warnings li").count() >= 4
    first = anybody.locator(".warnings li .severity").first.inner_text()
    assert first.strip() in ("critical", "major")
    anybody.get_by_role("link", name="Submit a finding about it").click()
    assert "/sign-in?then=" in anybody.url

    sign_in(author, served, "ada")
    author.goto(f"{served}/submit?dataset=chexpert")
    author.get_by_label("Kind").select_option("shortcut|laterality token")
    author.get_by_label("What was found, in one sentence").fill("A letter tells the side")
    author.get_by_label("How it was found, and what a user should do").fill("Mask **the letter**.")
    author.get_by_label("Severity").select_option("major")
    author.get_by_label("DOI", exact=True).fill("https://doi.org/10.1000/Letter.1")
    author.get_by_label("Title of the work").fill("Letters in chest X-rays")
    author.get_by_role("button", name="Preview").click()
    assert "This will be proposed" in author.inner_text("main")
    assert "doi: 10.1000/letter.1" in author.inner_text("main")
    author.get_by_role("button", name="Submit for review").click()
    number = int(re.search(r"/contributions/(\d+)", author.url)[1])
    assert "waits for another person" in author.inner_text("main")
    assert author.get_by_role("button", name="Accept and publish").count() == 0
    anybody.goto(f"{served}/datasets/chexpert")
    assert "A letter tells the side" not in anybody.inner_text("main")

    sign_in(reviewer, served, "grace")
    reviewer.get_by_role("link", name="Queue").click()
    reviewer.get_by_role("link", name="A letter tells the side").click()
    assert f"/contributions/{number}" in reviewer.url
    reviewer.get_by_label("Note; the author reads it").fill("I read it too.")
    reviewer.get_by_role("button", name="Accept and publish").click()
    assert "accepted by grace" in reviewer.inner_text("main")

    anybody.goto(f"{served}/datasets/chexpert")
    anybody.get_by_role("link", name="A letter tells the side").first.click()
    assert anybody.locator("main strong").inner_text() == "the letter"
    anybody.get_by_role("link", name="Letters in chest X-rays").click()
    assert "doi:10.1000/letter.1" in anybody.inner_text("main")
    export = anybody.request.get(f"{served}/datasets/chexpert/croissant.json").json()
    assert any("A letter tells the side" in one for one in export["rai:dataBiases"])
    assert "@article{irvin-2019-chexpert" in anybody.request.get(f"{served}/datasets/chexpert/cite.bib").text()
    author.goto(f"{served}/contributions")
    assert "I read it too." in author.inner_text("main")


def test_a_person_sends_back_rejects_and_withdraws(served, browser):
    author, reviewer = (browser.new_context(java_script_enabled=False).new_page() for _ in range(2))
    sign_in(author, served, "ada")
    sign_in(reviewer, served, "grace")
    numbers = []
    for year in ("2001", "2002"):
        author.goto(f"{served}/edit/dataset/ddi")
        area = author.get_by_label("The record, as YAML")
        area.fill(re.sub(r"^year: .*$", f"year: {year}", area.input_value(), flags=re.MULTILINE))
        author.get_by_role("button", name="Submit for review").click()
        numbers.append(author.url.rsplit("/", 1)[1])
    reviewer.goto(f"{served}/contributions/{numbers[0]}")
    assert "/year" in reviewer.inner_text("main")
    reviewer.get_by_label("Note; the author reads it").fill("Which source?")
    reviewer.get_by_role("button", name="Ask for changes").click()
    assert "changes requested" in reviewer.inner_text("main")
    author.goto(f"{served}/contributions/{numbers[0]}")
    assert "Which source?" in author.inner_text("main")
    area = author.get_by_label("The records, as YAML")
    area.fill(area.input_value().replace("year: 2001", "year: 2003"))
    author.get_by_role("button", name="Submit it again").click()
    assert "submitted" in author.inner_text("main")
    reviewer.goto(f"{served}/contributions/{numbers[0]}")
    assert "2003" in reviewer.inner_text("main")
    assert "2001" not in reviewer.inner_text("main")
    author.get_by_role("button", name="Withdraw it").click()
    assert "withdrawn" in author.inner_text("main")
    reviewer.goto(f"{served}/queue")
    reviewer.get_by_label(f"Choose {numbers[1]}").check()
    reviewer.get_by_label("Reason").select_option("spam")
    reviewer.get_by_role("button", name="Reject").click()
    author.goto(f"{served}/contributions")
    assert "spam" in author.inner_text("main")


def test_who_was_second_is_shown_what_was_there_what_is_now_and_what_was_proposed(served, browser):
    author, reviewer = (browser.new_context(java_script_enabled=False).new_page() for _ in range(2))
    sign_in(author, served, "ada")
    sign_in(reviewer, served, "grace")
    numbers = []
    for host in ("Theirs", "Ours"):
        author.goto(f"{served}/edit/dataset/pad-ufes-20")
        area = author.get_by_label("The record, as YAML")
        area.fill(re.sub(r"^host: .*$", "", area.input_value(), flags=re.MULTILINE) + f"host: {host}\n")
        author.get_by_role("button", name="Submit for review").click()
        numbers.append(author.url.rsplit("/", 1)[1])
    for number in numbers:
        reviewer.goto(f"{served}/contributions/{number}")
        reviewer.get_by_role("button", name="Accept and publish").click()
    assert "Somebody was faster" in reviewer.inner_text("h1")
    cells = reviewer.locator("table tbody tr", has_text="host").locator("td").all_inner_texts()
    assert [cell.strip() for cell in cells][1:] == ["Theirs", "Ours"]
    author.goto(f"{served}/contributions/{numbers[1]}")
    author.get_by_text("Change what is proposed").click()
    author.get_by_role("button", name="Submit it again").click()  # over what is there now
    reviewer.goto(f"{served}/contributions/{numbers[1]}")
    reviewer.get_by_role("button", name="Accept and publish").click()
    assert "accepted by grace" in reviewer.inner_text("main")


def test_no_page_has_a_serious_fault_of_accessibility_or_scrolls_sideways_or_asks_elsewhere(served, browser):
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda m: said.append(f"{page.url}: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(served) else None)
    sign_in(page, served, "root")
    personal = ("/submit", "/paste", "/contributions", "/queue", "/people", "/edit/dataset/chexpert",
                "/contributions/1", "/datasets/odd", "/artifacts/odd-one", "/works/long")  # fmt: skip
    anonymous = browser.new_context().new_page()
    for paths, opened in ((PUBLIC, anonymous), (personal, page)):
        for path in paths:
            opened.set_viewport_size({"width": 1280, "height": 900})
            opened.goto(f"{served}{path}")
            found = Axe().run(opened).response["violations"]
            assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], path
            opened.set_viewport_size({"width": 320, "height": 700})
            assert opened.evaluate("document.documentElement.scrollWidth") <= 320, path
    allowed = ("404", "400")  # the pages that say so
    assert [one for one in said if not any(code in one for code in allowed)] == []


def test_pages_are_read_in_the_dark_with_enough_contrast(served, browser):
    page = browser.new_context(color_scheme="dark").new_page()
    for path in ("/", "/datasets/chexpert", "/graph/dataset/chexpert", "/gaps"):
        page.goto(f"{served}{path}")
        found = Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
        assert found == [], path


def test_everything_can_be_reached_with_the_keyboard(served, browser):
    page = browser.new_context().new_page()
    page.goto(served)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "first"
    page.keyboard.type("ddi")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=ddi")
    assert "DDI" in page.inner_text("main")


def test_the_site_of_files_is_whole_and_needs_no_server(tmp_path, browser):
    db = database.connect(tmp_path / "r.sqlite", create=True)
    start.plant(db, start.profile(seed.read(), "paper-demo"), version="v2026.01")
    n = sites.build(db, tmp_path / "site")
    db.close()
    assert n > 100
    page = browser.new_context(java_script_enabled=False, offline=True).new_page()
    failed: list[str] = []
    # A picture whose page was left before it was read is aborted; what is not there fails in other words.
    page.on("requestfailed", lambda r: failed.append(r.url) if "ABORTED" not in (r.failure or "") else None)
    page.goto((tmp_path / "site" / "index.html").as_uri())
    seen, left = set(), [page.url]
    while left and len(seen) < 60:
        address = left.pop()
        if address in seen:
            continue
        seen.add(address)
        page.goto(address)
        assert page.locator("form").count() == 0, address
        for href in page.eval_on_selector_all("a[href], svg a", "all => all.map(a => a.href.baseVal ?? a.href)"):
            full = page.evaluate("h => new URL(h, document.baseURI).href.split('#')[0]", href)
            if full.startswith("file:"):
                target = Path(re.sub(r"^file://", "", full))
                assert target.exists(), (address, full)
                if target.suffix == ".html" and full not in seen:
                    left.insert(0, full)
    assert failed == []
    lines = (tmp_path / "site" / "records.jsonl").read_text().splitlines()
    assert len(lines) == len(start.profile(seed.read(), "paper-demo"))
    with pytest.raises(Exception, match="holds something else"):
        sites.build(db, tmp_path)
    assert (tmp_path / "site" / "releases" / "v2026.01.html").exists()
