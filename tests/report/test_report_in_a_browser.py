"""The report in a real browser: it loads nothing, fails nowhere, fits a phone, and needs no script to be read."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import gallery
import pytest

from medaudit.report import render

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; .ci/run installs it")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(render(gallery.report()), encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_screen_scrolls_sideways(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address)
    wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1]
    page.close()


def test_the_first_screen_holds_the_answer(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    headline = page.locator("h1").bounding_box()
    first = page.locator(".answer").first.bounding_box()
    assert headline["y"] + headline["height"] < 800
    assert first["y"] + first["height"] < 800
    page.close()


def test_nothing_is_fetched_and_nothing_fails(browser, address):
    page = browser.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []
    page.close()


def test_the_methods_can_be_copied(browser, address):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(address)
    button = page.locator("button[data-copies=methods-text]")
    assert button.is_visible()
    button.click()
    page.wait_for_function("document.querySelector('button[data-copies]').textContent !== 'Copy the text'")
    context.close()


def test_without_scripts_the_page_says_the_same(browser, address):
    texts = []
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto(address)
        texts.append(page.locator("main").inner_text().replace("Copy the text", ""))
        context.close()
    assert " ".join(texts[0].split()) == " ".join(texts[1].split())
    assert "Methods, ready to paste" in texts[1]


def test_it_prints_on_paper(browser, address, tmp_path: Path):
    page = browser.new_page()
    page.goto(address)
    page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") >= 2
    page.close()
