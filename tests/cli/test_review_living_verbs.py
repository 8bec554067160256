"""`medaudit review`: searches that are due, duplicates, conflicts, retractions, citations and mentions, as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASSETTES = Path(__file__).parents[1] / "review" / "cassettes"
CHEXPERT = "10.1609/aaai.v33i01.3301590"
KNOWN = """\
kind: work
slug: franklin-2022-sex
type: paper
title: Sex and chest radiographs
doi: 10.1234/sex.2022.7
---
kind: artifact
slug: franklin-2022-labels
type: label_issue
finding: noise rate
title: Labels are noisy.
severity: minor
summary: Found by hand.
works: [franklin-2022-sex]
about: [{dataset: chexpert}]
"""


@pytest.fixture
def review(tmp_path: Path, medaudit, monkeypatch: pytest.MonkeyPatch) -> Path:
    db = tmp_path / "r.sqlite"
    monkeypatch.setenv("MEDAUDIT_REVIEW", str(db))
    assert medaudit("review", "init", "--profile", "paper-demo").code == 0
    for name, role in (("ada", "contributor"), ("grace", "reviewer"), ("emmy", "reviewer"), ("edith", "editor")):
        assert medaudit("review", "person", name, "--role", role).code == 0
    for name, asked in (("cites chexpert", "cites:W9000000001"), ("nothing", "cites:W9000009999")):
        made = medaudit("review", "query", name, "--provider", "openalex", "--expression", asked, "--as", "grace")
        assert made.code == 0
    return db


def works(medaudit) -> dict[str, int]:
    """Return the numbers of the works that wait, by title."""
    return {one["title"]: one["id"] for one in medaudit("review", "screen", "--json", "--as", "grace").json}


def test_searches_that_are_due_run_though_one_fails_and_the_failed_one_is_named(review: Path, medaudit) -> None:
    said = medaudit("review", "harvest", "--due", "--recorded", CASSETTES / "t0")
    assert said.code == 1
    assert said.out == "cites chexpert: 4 found, 4 new, 0 known under another name\n"
    told, ended = said.err.splitlines()
    assert told.startswith("nothing: ")
    assert "was not recorded" in told
    assert ended == "medaudit: 1 of 2 searches did not end: nothing"
    assert medaudit("review", "query", "nothing", "--retire", "no answers", "--as", "grace").code == 0
    done = medaudit("review", "harvest", "--due", "--recorded", CASSETTES / "t0")
    assert (done.code, done.out) == (0, "no search is due\n")


def test_a_search_that_only_files_answer_keeps_no_other_from_running(review: Path, medaudit) -> None:
    saved = ("--provider", "corpus", "--expression", "dataset:10.5281/zenodo.1", "--as", "grace")
    assert medaudit("review", "query", "a corpus", *saved).code == 0  # comes first, by name
    said = medaudit("review", "harvest", "--due", "--recorded", CASSETTES / "t0")
    assert said.out.startswith("cites chexpert: 4 found")
    assert said.err.splitlines()[0].startswith("a corpus: ")
    assert "2 of 3 searches did not end: a corpus, nothing" in said.err


def test_a_heading_cannot_steer_the_terminal(tmp_path: Path, medaudit) -> None:
    paper = tmp_path / "paper.md"
    paper.write_text("# Data\x1b[2J and methods\n\nWe train on CheXpert.\n")
    assert "\x1b" not in medaudit("review", "mentions", paper).out


def test_what_is_to_run_and_whom_to_ask_is_said_once(review: Path, tmp_path: Path, medaudit) -> None:
    medaudit("review", "harvest", "--live").refuses(2, "NAME, or --due")
    medaudit("review", "harvest", "nothing", "--due", "--live").refuses(2, "NAME, or --due")
    medaudit("review", "harvest", "--due", "--bulk", tmp_path / "x.csv").refuses(2, "of one source")
    medaudit("review", "retractions", "--live", "--recorded", CASSETTES / "t1").refuses(2, "not both")
    medaudit("review", "retractions", "--source", "corpus").refuses(2, "openalex or crossref")
    medaudit("review", "retractions", "--recorded", tmp_path / "none").refuses(2, "no folder of recorded answers")


def test_two_persons_who_differ_are_listed_with_what_each_said(review: Path, medaudit) -> None:
    assert medaudit("review", "harvest", "cites chexpert", "--recorded", CASSETTES / "t0").code == 0
    number = min(works(medaudit).values())
    blind = ("--independent", 2)
    yes = ("review", "screen", number, "--decision", "include", *blind, "--as", "grace")
    no = ("review", "screen", number, "--decision", "exclude", "--reason", "other", *blind, "--as", "emmy")
    assert medaudit(*yes).code == 0
    assert medaudit("review", "screen", "--conflicts", *blind, "--json", "--as", "edith").json == []
    assert medaudit(*no).code == 0
    (apart,) = medaudit("review", "screen", "--conflicts", *blind, "--json", "--as", "edith").json
    assert (apart["id"], apart["stage"]) == (number, "title")
    assert {one["person"]: one["decision"] for one in apart["decisions"]} == {"grace": "include", "emmy": "exclude"}
    medaudit("review", "screen", "--conflicts", "--as", "ada").refuses(2, "ada")  # a contributor screens nothing
    assert "grace: include; emmy:" in medaudit("review", "screen", "--conflicts", *blind, "--as", "edith").out


def test_titles_alike_are_listed_merged_by_a_person_and_taken_apart_again(
    review: Path, tmp_path: Path, medaudit
) -> None:
    saved = ("review", "query", "bulk", "--provider", "openalex", "--expression", "cites:W9000000001", "--as", "grace")
    assert medaudit(*saved).code == 0
    titles = (
        "Hidden stratification in chest radiographs, part I", "Hidden stratification in chest radiographs, part II",
        "Sex and the chest radiograph of the adult", "Sex and chest radiograph of the adult",
    )  # fmt: skip
    bulk = tmp_path / "works.jsonl"
    bulk.write_text(
        "".join(
            json.dumps({"id": f"https://openalex.org/W{n}", "title": title, "publication_year": 2022,
                        "referenced_works": ["https://openalex.org/W9000000001"]}) + "\n"
            for n, title in enumerate(titles, 700)
        )
    )  # fmt: skip
    assert medaudit("review", "harvest", "bulk", "--bulk", bulk).out.startswith("bulk: 4 found, 4 new")
    listed = [one for one in medaudit("review", "duplicates", "--json").json if one["first_title"] in titles]
    assert [(one["first_title"], one["note"]) for one in listed] == [
        (titles[2], ""), (titles[0], "the titles differ by a number"),
    ]  # fmt: skip
    keep, drop = listed[0]["first"], listed[0]["second"]
    medaudit("review", "duplicates", keep, "--as", "grace").refuses(2, "two numbers")
    medaudit("review", "duplicates", keep, drop, "--as", "ada").refuses(2, "ada")
    assert medaudit("review", "duplicates", keep, drop, "--as", "grace").code == 0
    assert len(works(medaudit)) == 3
    left = medaudit("review", "duplicates", "--json").json
    assert (keep, drop) not in {(one["first"], one["second"]) for one in left}
    assert medaudit("review", "duplicates", "--separate", drop, "--as", "grace").code == 0
    assert len(works(medaudit)) == 4
    assert "part II" in medaudit("review", "duplicates").out
    assert medaudit("review", "duplicates", "--alike", 100, "--json").json == []


def test_what_rests_on_a_retracted_work_ends_with_code_1(review: Path, tmp_path: Path, medaudit) -> None:
    for record in KNOWN.split("---\n"):
        (tmp_path / "known.yaml").write_text(record)
        assert medaudit("review", "import", "yaml", tmp_path / "known.yaml", "--as", "ada").code == 0
        number = medaudit("review", "queue", "--json").json[0]["id"]
        assert medaudit("review", "accept", number, "--as", "grace").code == 0
    before = medaudit("review", "retractions", "--json")
    assert (before.code, before.json["rests_on_retracted"]) == (0, [])
    assert medaudit("review", "harvest", "cites chexpert", "--recorded", CASSETTES / "t0").code == 0
    # A month later; whom the search found is asked for one by one.
    after = medaudit("review", "retractions", "--recorded", CASSETTES / "t1", "--json")
    assert after.code == 1
    assert after.json["retracted"] == 1
    rests = {(one["kind"], one["slug"], one["role"]) for one in after.json["rests_on_retracted"]}
    assert rests == {("artifact", "franklin-2022-labels", "source"), ("work", "franklin-2022-sex", "itself")}
    again = medaudit("review", "retractions")
    assert again.code == 1
    assert "franklin-2022-labels" in again.out
    assert "newly retracted" not in again.out  # nobody was asked


def test_citations_are_loaded_once_and_are_no_uses(review: Path, tmp_path: Path, medaudit) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = [f"10.5555/citing.{n},{CHEXPERT}" for n in range(5)] + ["10.5555/citing.0,10.5555/unknown", "nothing,x"]
    pairs.write_text("\n".join(["from,to", *rows]) + "\n")
    call = ("review", "citations", pairs, "--name", "made", "--columns", "from,to", "--known-only")
    assert medaudit(*call).out == "made: 7 pairs read, 5 citations new, 1 without two identifiers\n"
    assert "0 citations new" in medaudit(*call).out
    (one,) = medaudit("review", "citations", "--dataset", "chexpert", "--json").json
    assert (one["citations"], one["cited_only"]) == (5, 5)
    rows_of = [line.split() for line in medaudit("review", "citations").out.splitlines()]
    assert ["chexpert", "5", "5"] in [row[:3] for row in rows_of]
    medaudit("review", "citations", pairs).refuses(2, "--name NAME")
    medaudit("review", "citations", pairs, "--name", "other", "--columns", "from").refuses(2, "two names")
    medaudit("review", "citations", pairs, "--name", "other").refuses(1, "pairs.csv", "lacks 'citing'")
    medaudit("review", "citations", "--dataset", "nothing").refuses(2, "there is no dataset 'nothing'")


PAPER = """# Introduction

Others train on ChestX-ray14. We do not.

# Data

We train on CheXpert, 224,316 radiographs.
"""


def test_a_paper_s_datasets_are_told_from_those_that_it_only_names(tmp_path: Path, medaudit) -> None:
    paper = tmp_path / "paper.md"
    paper.write_text(PAPER)
    told = medaudit("review", "mentions", paper, "--json").json
    assert {one["dataset"]: (one["locus"], one["counts"]) for one in told["mentions"]} == {
        "chestx-ray14": ("Introduction", False), "chexpert": ("Data", True),
    }  # fmt: skip
    assert [(use["dataset"], use["evidence"]) for use in told["uses"]] == [("chexpert", "mentioned")]
    both = medaudit("review", "mentions", paper, "--cites", "CheXpert", "--cites", "10.1109/cvpr.2017.369").out
    assert "chexpert: cited and mentioned, in 'Data'" in both
    assert "chestx-ray14: cited\n" in both  # named in the introduction alone: no use
    medaudit("review", "mentions", paper, "--cites", "no-such-set").refuses(2, "no-such-set")


def test_what_is_no_text_of_a_paper_is_one_line(tmp_path: Path, medaudit) -> None:
    medaudit("review", "mentions", tmp_path / "none.txt").refuses(1, "none.txt: no such file")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7\n" + b"\0" * 99)
    medaudit("review", "mentions", tmp_path / "paper.pdf").refuses(1, "a PDF", "pdftotext")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(20_000_001)
    medaudit("review", "mentions", tmp_path / "large.txt").refuses(1, "larger than 20 MB")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 40)
    assert medaudit("review", "mentions", tmp_path / "noise.txt", "--json").json == {"mentions": [], "uses": []}


def test_a_pipe_that_closes_early_ends_it_quietly(review: Path, medaudit) -> None:
    call = f"{sys.executable} -m medaudit review citations --db {review} | head -0"
    assert subprocess.run(call, shell=True, capture_output=True, text=True).stderr == ""
