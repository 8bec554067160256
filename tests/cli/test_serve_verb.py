"""`medaudit serve` as a browser and as an attacker see it: runs and review in one site, and nothing else let out."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medaudit.cli.main import run

SECRET = "the secret of another folder"


def medaudit(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    assert not stop.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder: runs/first, published; runs/deeper/second, not; a review; and links that lead out of them."""
    root = tmp_path_factory.mktemp("served")
    table = root / "scores.csv"
    rows = [f"c{n},{'AB'[n % 2]},{0.5 + 0.3 * (n % 2) + 0.001 * (n % 7)}" for n in range(60)]
    table.write_text("\n".join(["case_id,site,dice", *rows]) + "\n")
    for name, seed in (("first", 0), ("deeper/second one", 1)):
        medaudit("scores", table, "--by", "site", "--score", "dice", "--resamples", 200, "--seed", seed, "--quiet",
                 "--out", root / "runs" / name)  # fmt: skip
    db = root / "review.sqlite"
    medaudit("review", "init", "--db", db, "--profile", "paper-figure")
    for person, role in (("ada", "contributor"), ("grace", "reviewer")):
        medaudit("review", "person", person, "--role", role, "--db", db)
    medaudit("publish", root / "runs/first", "--to", db, "--about", "my-own-set", "--as", "ada")
    medaudit("review", "accept", 2, "--db", db, "--as", "grace")
    (root / "outside").mkdir()
    (root / "outside/secret.txt").write_text(SECRET)
    (root / "outside/run.json").write_text((root / "runs/first/run.json").read_text())
    (root / "outside/report.html").write_text(SECRET)
    (root / "runs/linked").symlink_to(root / "outside")
    led = root / "runs/led astray"
    shutil.copytree(root / "runs/first", led)
    (led / "figures/evil.svg").symlink_to(root / "outside/secret.txt")
    (led / "findings.json").unlink()
    (led / "findings.json").symlink_to(root / "outside/secret.txt")
    (led / "notes.txt").write_text(SECRET)
    return root


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[tuple[str, int]]:
    """Yield host and port of the server, started as a user starts it."""
    call = [sys.executable, "-m", "medaudit", "serve", "runs", "--db", "review.sqlite", "--port", "0"]
    server = subprocess.Popen(call, cwd=place, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        said = server.stderr.readline()
        found = re.search(r"http://(127\.0\.0\.1):(\d+)/runs/", said)
        assert found, said + (server.stderr.read() if server.poll() is not None else "")
        yield found[1], int(found[2])
    finally:
        server.terminate()
        server.wait(20)


class Answer:
    """Status, headers and text of an answer."""

    def __init__(self, address: tuple[str, int], path: str, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection(*address, timeout=20)
        connection.request(method, path, headers=headers)
        got = connection.getresponse()
        self.status, self.headers = got.status, {name.lower(): value for name, value in got.getheaders()}
        self.text = got.read().decode("utf-8", "replace")
        connection.close()


def test_the_list_has_every_run_its_verdicts_and_the_way_to_the_review(address, place):
    page = Answer(address, "/runs/")
    assert page.status == 200
    for name in ("first", "deeper/second one", "led astray"):
        assert f">{name}</a>" in page.text
    assert ">linked</a>" not in page.text  # it is a link to another folder
    assert '<a href="/">Review</a>' in page.text
    found = json.loads((place / "runs/first/findings.json").read_text())
    supported = sum(one["verdict"] == "supported" for one in found)
    assert supported
    row = re.search(r">first</a></th>.*?</tr>", page.text, re.DOTALL)
    assert row is not None
    assert f'<td class="number">{supported}</td>' in row[0]


def test_the_review_is_beside_it_with_one_navigation_and_is_only_read(address):
    home = Answer(address, "/")
    assert home.status == 200
    assert '<a href="/runs/">Runs</a>' in home.text
    assert "Sign in" not in home.text
    for path in ("/sign-in", "/submit", "/queue", "/contributions/2"):
        assert Answer(address, path).status == 404
    for path in ("/sign-in", "/api/v1/contributions", "/runs/"):
        assert Answer(address, path, "POST").status == 405


def test_a_run_s_page_says_which_contribution_holds_its_findings(address):
    page = Answer(address, "/runs/r/first/")
    assert "Contribution 2 of the review, accepted" in page.text
    artifact = re.search(r'href="(/artifacts/[^"]+)"', page.text)
    assert artifact is not None
    assert Answer(address, artifact[1]).status == 200
    other = Answer(address, "/runs/r/deeper/second%20one/")
    assert "The review has none of this run" in other.text


def test_reports_and_files_come_as_they_are_in_the_folder(address, place):
    folder = place / "runs/deeper/second one"
    for name in ("report.html", "findings.json", "run.json"):
        got = Answer(address, f"/runs/r/deeper/second%20one/{name}")
        assert (got.status, got.text) == (200, (folder / name).read_text())
    figure = next((folder / "figures").glob("*.svg")).name
    assert Answer(address, f"/runs/r/deeper/second%20one/figures/{figure}").headers["content-type"] == "image/svg+xml"
    parquet = Answer(address, "/runs/r/first/measurements.parquet")
    assert int(parquet.headers["content-length"]) == (place / "runs/first/measurements.parquet").stat().st_size


def test_the_gallery_has_the_first_screen_of_each_and_its_links_lead_to_the_reports(address):
    page = Answer(address, "/runs/gallery")
    found = re.findall(r'href="(/runs/r/[^"]+report\.html)"', page.text)
    assert len(found) == 3
    assert all(Answer(address, path).status == 200 for path in found)


@pytest.mark.parametrize(
    "path",
    [
        "/runs/r/../../outside/secret.txt", "/runs/r/first/../../../outside/secret.txt",
        "/runs/r/first/%2e%2e/%2e%2e/%2e%2e/outside/secret.txt", "/runs/r/first/..%2f..%2f..%2foutside%2fsecret.txt",
        "/runs/r/first/figures/../../../outside/secret.txt", "/runs/r/%2Fetc/passwd", "/runs/r//etc/passwd",
        "/runs/r/linked/report.html", "/runs/r/linked/", "/runs/r/led%20astray/figures/evil.svg",
        "/runs/r/led%20astray/findings.json", "/runs/r/led%20astray/notes.txt", "/runs/r/first/report.json",
        "/runs/r/first/.lock", "/runs/r/first/figures/", "/runs/r/first/report.html%00.svg", "/runs/r/nothing/",
        "/runs/r/", "/runs/nothing", "/runs/r/first/figures/..%5c..%5csecret.txt",
    ],
)  # fmt: skip
def test_nothing_outside_a_run_and_nothing_unknown_inside_one_is_let_out(address, path):
    got = Answer(address, path)
    assert got.status in (400, 404)
    assert SECRET not in got.text
    assert "root:" not in got.text


@pytest.mark.parametrize(
    "path",
    ["/runs/", "/runs/gallery", "/runs/r/first/", "/runs/r/first/report.html", "/runs/r/first/findings.json",
     "/runs/r/nothing/", "/"],
)  # fmt: skip
def test_every_answer_tells_a_browser_to_load_nothing_from_elsewhere_and_to_be_framed_by_nobody(address, path):
    headers = Answer(address, path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    script = re.search(r"script-src ([^;]+)", policy)
    assert script is None or "unsafe-inline" not in script[1]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


def test_a_page_of_another_name_that_was_led_here_is_not_answered(address):
    assert Answer(address, "/runs/", Host="evil.example").status == 421
    assert Answer(address, "/", Host="evil.example:8765").status == 421
    assert Answer(address, "/runs/", Host=f"localhost:{address[1]}").status == 200


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere", "--db", "review.sqlite"], "nowhere: no such folder"),
        (["runs", "--db", "nowhere.sqlite"], "nowhere.sqlite"),
        (["runs", "--db", "scores.csv"], "scores.csv"),
        (["runs", "--db", "review.sqlite", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
    ],
)
def test_a_mistake_is_one_line(place, monkeypatch, capsys, arguments, word):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as stop:
        run(["serve", *arguments])
    err = capsys.readouterr().err
    assert stop.value.code in (1, 2)
    assert err.count("\n") == 1
    assert word in err


def test_a_port_that_is_taken_is_said_in_one_line(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as stop:
            run(["serve", "runs", "--db", "review.sqlite", "--port", str(port)])
    err = capsys.readouterr().err
    assert (stop.value.code, err.count("\n")) == (2, 1)
    assert f"port {port}" in err


def test_the_help_shows_an_example(capsys):
    with pytest.raises(SystemExit):
        run(["serve", "--help"])
    assert "Example: medaudit serve runs --db review.sqlite" in capsys.readouterr().out


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_pages_can_be_read_by_everybody_and_fit_a_phone(address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for path in ("/runs/", "/runs/r/first/", "/runs/gallery"):
            # axe is put into the page, which the site's policy would not let in.
            page = browser.new_context(bypass_csp=True, viewport={"width": 390, "height": 800}).new_page()
            page.goto(f"http://{address[0]}:{address[1]}{path}")
            wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide[0] <= wide[1], path
            found = axe.run(page).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], path
        browser.close()
