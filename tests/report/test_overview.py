"""The list of runs below a folder, and the page with their first screens."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path

import gallery as invented
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.report import Run, overview
from medaudit.report.listing import DEEPEST, listed


def finished(path: Path, started: str = "2026-01-01T00:00:00+00:00") -> Path:
    with Run.open(path, verb="labels", settings={"seed": 0}, inputs={}) as run:
        content = invented.report()
        run.write_findings(content.findings)
        run.write_report(content)
        run.finish()
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"started": started}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two finished runs, one that is not, a link to another, and what looks like one."""
    root = tmp_path_factory.mktemp("runs")
    finished(root / "older & deeper/one")
    finished(root / "newer", "2026-02-02T00:00:00+00:00")
    finished(root.parent / "elsewhere")
    with Run.open(root / "under way", verb="ood", settings={}, inputs={}):
        pass
    (root / "link").symlink_to(root.parent / "elsewhere")
    (root / "empty").mkdir()
    (root / "strange").mkdir()
    (root / "strange/run.json").write_text("[]")
    finished(root / Path(*"abcdefg"))
    (root / "newer/figures/inside").mkdir()
    (root / "newer/figures/inside/run.json").write_text((root / "newer/run.json").read_text())
    return root


def test_every_run_below_is_listed_once_the_newest_first(folder):
    assert DEEPEST < 7
    found = listed(folder)
    assert [one.name for one in found if one.finished] == ["newer", "older & deeper/one"]
    assert [one.name for one in found if not one.finished] == ["under way"]


def test_the_counts_are_those_of_the_findings(folder):
    found = next(one for one in listed(folder) if one.name == "newer")
    findings = json.loads((folder / "newer/findings.json").read_text())
    for verdict in ("supported", "refuted", "insufficient"):
        assert found.verdicts[verdict] == sum(one["verdict"] == verdict for one in findings)


def test_a_folder_that_is_a_run_is_one_and_one_that_is_not_there_is_said(folder):
    assert [one.name for one in listed(folder / "newer")] == ["newer"]
    with pytest.raises(DataError, match="nowhere: no such folder"):
        listed(folder / "nowhere")


def test_the_gallery_shows_each_first_screen_and_leads_to_each_report(folder):
    path, screens = overview.write_gallery(folder)
    page = path.read_text()
    content = invented.report()
    assert len(screens) == 2
    assert [unescape(said) for said in re.findall(r'<p class="found">(.*?)</p>', page)] == [content.headline] * 2
    assert page.count('<li class="answer ') == 2 * min(3, len(content.answers))
    links = re.findall(r'<p class="more"><a href="([^"]+)"', page)
    assert links == ["newer/report.html", "older%20%26%20deeper/one/report.html"]
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert not re.search(r"<(script|link|iframe)", page)
    os.remove(path)


@pytest.mark.parametrize(
    ("name", "error", "word"), [("newer", UsageError, "is a run"), ("empty", DataError, "no finished run")]
)
def test_a_gallery_of_nothing_or_inside_a_run_is_refused(folder, name, error, word):
    with pytest.raises(error, match=word):
        overview.write_gallery(folder / name)
    assert not (folder / name / "gallery.html").exists()


def test_every_text_of_an_overview_is_escaped():
    evil = "<script>alert(1)</script>"
    part = overview.Passage(evil, evil, (), (evil,))
    screen = overview.Screen(evil, invented.report(), "x/report.html", evil, evil, (), (evil,))
    page = overview.render(overview.Overview(evil, evil, evil, [screen], [part], [part]))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
