"""`medaudit review`: recompute, saved searches, people, releases, site, log and copies, as somebody types them."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest

from medaudit.review.computed import chest
from medaudit.review.computed import source as tables_of
from medaudit.review.records import as_yaml

CASSETTE = Path(__file__).parents[1] / "review" / "cassettes" / "t0"


@pytest.fixture
def review(tmp_path: Path, medaudit, monkeypatch: pytest.MonkeyPatch) -> Path:
    db = tmp_path / "r.sqlite"
    monkeypatch.setenv("MEDAUDIT_REVIEW", str(db))
    assert medaudit("review", "init", "--profile", "paper-demo").code == 0
    for name, role in (("ada", "contributor"), ("grace", "reviewer"), ("edith", "editor"), ("root", "admin")):
        assert medaudit("review", "person", name, "--role", role).code == 0
    return db


# Recompute -------------------------------------------------------------------------------------------------------


def wheel(folder: Path, rows: list[str]) -> Path:
    """Write a wheel of label tables that has one of them: the masks of SIIM-ACR."""
    folder.mkdir(exist_ok=True)
    path = folder / "torchxrayvision-0.0.1-py3-none-any.whl"
    text = "\n".join(["ImageId, EncodedPixels", *rows]).encode() + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"torchxrayvision/data/{chest.SIIM}", gzip.compress(text, mtime=0))
        archive.writestr("torchxrayvision-0.0.1.dist-info/METADATA", "Version: 0.0.1\n")
    return path


ROWS = ["a, -1", "b, 1 2 3", "b, 7 2", "c,-1"]
SLUG = "computed-siim-acr-ptx-counts"


@pytest.fixture
def recomputable(tmp_path: Path, medaudit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return tables whose counts are published in a review of their own."""
    monkeypatch.setenv("MEDAUDIT_REVIEW", str(tmp_path / "own.sqlite"))
    assert medaudit("review", "init", "--empty").code == 0
    for name, role in (("ada", "contributor"), ("grace", "reviewer")):
        assert medaudit("review", "person", name, "--role", role).code == 0
    tables = wheel(tmp_path / "tables", ROWS)
    (tmp_path / "siim.yaml").write_text("kind: dataset\nslug: siim-acr-ptx\nname: SIIM-ACR Pneumothorax\n")
    (tmp_path / "counts.yaml").write_text(as_yaml(chest.siim(tables_of(tables)).plain()))
    for number, file in enumerate(("siim.yaml", "counts.yaml"), 1):
        assert medaudit("review", "import", "yaml", tmp_path / file, "--as", "ada").code == 0
        assert medaudit("review", "accept", number, "--as", "grace").code == 0
    return tables


def test_published_numbers_are_the_same_from_the_same_table(recomputable: Path, medaudit) -> None:
    said = medaudit("review", "recompute", SLUG, "--tables", recomputable)
    assert said.code == 0
    assert said.out == f"{SLUG}: 6 of 6 numbers are the same\n"  # five counts and the table's hash
    told = medaudit("review", "recompute", "--tables", recomputable.parent, "--json").json
    assert told["missed"] == {}
    assert {row["field"]: row["recomputed"] for row in told["recomputed"][SLUG]}["images with several masks"] == 1


def test_a_number_that_another_table_gives_is_told_and_ends_with_code_1(
    recomputable: Path, tmp_path: Path, medaudit
) -> None:
    other = wheel(tmp_path / "other", [*ROWS, "d, 5 5"])
    said = medaudit("review", "recompute", SLUG, "--tables", other)
    assert said.code == 1
    assert f"{SLUG}: 1 of 6 numbers are the same" in said.out  # images with several masks
    assert "images with a mask: published 1, recomputed 2" in said.out
    told = medaudit("review", "recompute", SLUG, "--tables", other, "--json")
    assert (told.code, sum(not row["same"] for row in told.json["recomputed"][SLUG])) == (1, 5)


def test_tables_that_are_not_there_are_left_out_unless_they_were_asked_for(
    recomputable: Path, tmp_path: Path, medaudit
) -> None:
    (tmp_path / "nothing").mkdir()
    said = medaudit("review", "recompute", "--tables", tmp_path / "nothing")
    assert said.code == 0
    assert said.out.startswith(f"{SLUG}: not recomputed: ")
    medaudit("review", "recompute", SLUG, "--tables", tmp_path / "nothing").refuses(1, "holds no tables")
    medaudit("review", "recompute", "computed-nothing").refuses(2, "'computed-nothing' is no computed artifact")


# Saved searches --------------------------------------------------------------------------------------------------


def test_searches_are_listed_run_from_a_bulk_file_and_retired(review: Path, tmp_path: Path, medaudit) -> None:
    asked = "dataset:10.5281/zenodo.1"
    saved = ("review", "query", "cited", "--provider", "corpus", "--expression", asked, "--as", "grace")
    assert medaudit(*saved, "--every", 7).code == 0
    (one,) = medaudit("review", "query", "--json").json
    assert (one["name"], one["provider"], one["expression"], one["every_days"]) == ("cited", "corpus", asked, 7)
    listed = medaudit("review", "query").out
    assert asked in listed
    assert "never" in listed
    assert medaudit("review", "query", "cited", "--json").json == [one]
    bulk = tmp_path / "corpus.jsonl"
    rows = (("one", "1", 2024), ("two", "2", 2023), ("three", "1", 2025))
    bulk.write_text(
        "".join(
            json.dumps(
                {"publication": f"10.1000/{name}", "dataset": f"10.5281/zenodo.{of}", "publishedDate": str(year)}
            )
            + "\n"
            for name, of, year in rows
        )
    )
    medaudit("review", "harvest", "cited", "--bulk", bulk, "--live").refuses(2, "one of --recorded DIR, --bulk")
    first = medaudit("review", "harvest", "cited", "--bulk", bulk)
    assert (first.code, first.out) == (0, "cited: 2 found, 2 new, 0 known under another name\n")
    assert medaudit("review", "harvest", "cited", "--bulk", bulk).out.startswith("cited: 2 found, 0 new")
    assert "never" not in medaudit("review", "query").out
    queue = medaudit("review", "screen", "--json", "--as", "grace").json
    assert [work["doi"] for work in queue] == ["10.1000/three", "10.1000/one"]  # the newest first
    lines = medaudit("review", "screen", "--as", "grace").out
    assert lines.index("2025") < lines.index("2024")
    assert medaudit("review", "query", "cited", "--retire", "read to the end", "--as", "grace").code == 0
    medaudit("review", "harvest", "cited", "--bulk", bulk).refuses(2, "cited")
    assert medaudit("review", "query", "--json").json[0]["retired"] is not None


def test_screening_is_asked_in_words_that_it_knows(review: Path, medaudit) -> None:
    medaudit("review", "screen", "--stage", "cover", "--as", "grace").refuses(2, "'cover': expected title or fulltext")
    medaudit("review", "screen", 3, "--as", "grace").refuses(2, "--decision is missing")
    medaudit("review", "screen", 3, "--decision", "include", "--as", "grace").refuses(2, "record 3 is not there")
    assert medaudit("review", "screen", "--propose", "--as", "grace").out == "nothing to propose\n"
    medaudit("review", "query", "nothing").refuses(2, "nothing")


# People ----------------------------------------------------------------------------------------------------------


def test_a_person_gets_a_password_and_a_token_and_is_barred(
    review: Path, medaudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medaudit.review import database, people

    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough password\n"))
    said = medaudit("review", "person", "grace", "--password", "--token")
    token = said.out.strip()
    assert said.code == 0
    opened = database.connect(str(review))
    with opened.writing() as connection:
        assert people.check_password(connection, "grace", "a long enough password") is not None
        assert people.check_password(connection, "grace", "a long enough passw0rd") is None
        assert people.of_token(connection, token).name == "grace"
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    medaudit("review", "person", "grace", "--password").refuses(2, "12")
    assert medaudit("review", "person", "grace", "--bar").code == 0
    rows = [line.split() for line in medaudit("review", "person").out.splitlines()]
    assert ["grace", "reviewer", "barred"] in rows
    assert ["ada", "contributor"] in rows
    with opened.writing() as connection:
        assert people.of_token(connection, token) is None
    opened.close()


def test_a_password_is_asked_for_twice_at_a_terminal(review: Path, medaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    answers = iter(["a long enough password", "a long enough passw0rd"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    medaudit("review", "person", "grace", "--password").refuses(2, "the two are not the same")


# Releases, site, log, copies -------------------------------------------------------------------------------------


def test_a_release_is_frozen_listed_and_needs_nothing_brought_back(review: Path, medaudit) -> None:
    made = medaudit("review", "release", "v2031.01", "--trigger", "a new year", "--as", "edith")
    assert made.code == 0
    digest = made.out.split()[-1]
    listed = {one["version"]: one for one in medaudit("review", "release", "--json").json}
    assert listed["v2031.01"]["digest"] == digest
    assert f"{made.out.split()[1]} " in medaudit("review", "release").out
    back = medaudit("review", "restore", "v2031.01", "--as", "edith")
    assert (back.code, back.out) == (0, "what is public is as in v2031.01\n")
    assert medaudit("review", "retire", "dataset", "ddi", "--as", "ada").code == 0
    number = medaudit("review", "queue", "--json").json[0]["id"]
    assert medaudit("review", "accept", number, "--as", "edith").code == 0
    proposed = medaudit("review", "restore", "v2031.01", "--as", "edith")
    assert "is proposed; another person accepts it" in proposed.out
    medaudit("review", "show", "ddi").refuses(2, "ddi")


def test_the_site_is_written_as_files_and_not_over_something_else(review: Path, tmp_path: Path, medaudit) -> None:
    said = medaudit("review", "build-site", tmp_path / "site", "--quiet")
    files = sorted((tmp_path / "site").rglob("*.html"))
    assert said.code == 0
    assert said.out.startswith(f"{tmp_path / 'site' / 'index.html'}: ")
    assert len(files) >= 16 + 24  # a page for each dataset and artifact
    assert "CheXpert" in (tmp_path / "site" / "datasets" / "chexpert.html").read_text()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    medaudit("review", "build-site", tmp_path / "full").refuses(2, "holds something else")


def test_the_log_is_shown_and_a_changed_entry_is_told_in_json_too(review: Path, medaudit) -> None:
    shown = medaudit("review", "audit-log", "show").out.splitlines()
    told = medaudit("review", "audit-log", "show", "--json").json
    assert len(shown) == len(told) == told[-1]["seq"]
    assert any("grace" in line for line in shown)
    whole = medaudit("review", "audit-log", "verify", "--json")
    assert (whole.code, whole.json["entries"], whole.json["problems"]) == (0, len(told), [])
    with sqlite3.connect(review) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("UPDATE audit SET action = 'sleep' WHERE seq = 2")
    broken = medaudit("review", "audit-log", "verify", "--json")
    assert broken.code == 1
    assert any(problem.startswith("entry 2") for problem in broken.json["problems"])


def test_a_review_of_this_version_is_left_as_it_is_by_migrate(review: Path, medaudit) -> None:
    before = medaudit("review", "export", "--format", "json").out
    said = medaudit("review", "migrate")
    assert (said.code, "tables of version" in said.out) == (0, True)
    assert medaudit("review", "export", "--format", "json").out == before
    medaudit("review", "migrate", "--db", review.with_name("none.sqlite")).refuses(2, "medaudit review init")


def test_serving_a_review_that_is_not_there_is_one_line(tmp_path: Path, medaudit) -> None:
    medaudit("review", "serve", "--db", tmp_path / "none.sqlite").refuses(2, "medaudit review init")


def test_serve_hands_the_review_to_its_workers(review: Path, medaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    from medaudit.review.web import app as site

    asked: dict[str, object] = {}

    def served(app: str, **how: object) -> None:
        asked.update(how, app=app, db=os.environ[site.ADDRESS], registration=os.environ[site.REGISTRATION])

    monkeypatch.setattr("uvicorn.run", served)
    monkeypatch.setenv(site.REGISTRATION, "")
    said = medaudit("review", "serve", "--port", 1234, "--workers", 4, "--open-registration")
    assert (said.code, "http://127.0.0.1:1234" in said.err) == (0, True)
    assert (asked["db"], asked["workers"], asked["port"], asked["registration"]) == (str(review), 4, 1234, "yes")
    module, _, name = str(asked["app"]).partition(":")
    assert module == site.__name__
    assert getattr(site, name)() is not None  # what a worker calls
