"""`medaudit review` and `medaudit publish`: from an empty file to a published finding; each mistake in one line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from small_cohorts import masks_of_two_readers, small_hc18

from medaudit.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main.run([*arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def review(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    db = str(tmp_path / "r.sqlite")
    assert run(capsys, "review", "init", "--db", db, "--profile", "paper-demo")[0] == 0
    for name, role in (("ada", "contributor"), ("grace", "reviewer"), ("edith", "editor"), ("emmy", "editor")):
        assert run(capsys, "review", "person", name, "--role", role, "--db", db)[0] == 0
    return db


def test_the_seed_s_demonstrator_has_the_size_of_the_paper_s(review, capsys):
    with sqlite3.connect(review) as raw:
        counts = dict(raw.execute("SELECT kind, count(*) FROM entity GROUP BY kind").fetchall())
    assert (counts["dataset"], counts["artifact"]) == (16, 24)
    code, out, _ = run(capsys, "review", "search", "chest x-ray shortcut", "--json", "--db", review)
    found = json.loads(out)
    assert code == 0
    assert found["hits"][0]["kind"] == "artifact"


def test_check_warns_of_shared_patients_first_and_of_names_that_nobody_knows(capsys):
    code, out, _ = run(capsys, "review", "check", "siim-acr-ptx", "ChestX-ray14", "no-such-set")
    assert code == 1
    assert out.splitlines()[0].startswith("critical: ")
    assert "which you use too" in out.splitlines()[0]
    assert "nobody knows 'no-such-set'" in out


def test_a_record_goes_from_a_file_to_the_public_through_two_people(review, tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text(
        "kind: artifact\nslug: my-finding\ntype: data_issue\nfinding: duplicates\ntitle: There are twins.\n"
        "severity: minor\n"
        "summary: Found by hand.\nabout: [{dataset: ddi}]\nurl: https://example.org/twins\n"
    )
    code, out, _ = run(capsys, "review", "import", "yaml", str(file), "--db", review, "--as", "ada")
    assert (code, out.split(":")[0]) == (0, "contribution 2")
    assert run(capsys, "review", "show", "my-finding", "--db", review)[0] == 2
    assert "Import yaml" in run(capsys, "review", "queue", "--json", "--db", review)[1]
    assert "artifact my-finding: new" in run(capsys, "review", "diff", "2", "--db", review)[1]
    code, _, err = run(capsys, "review", "accept", "2", "--db", review, "--as", "ada")
    assert code == 2
    assert "contributor" in err
    assert run(capsys, "review", "accept", "2", "--db", review, "--as", "grace")[0] == 0
    assert "There are twins" in run(capsys, "review", "show", "ddi", "--db", review)[1]
    assert "new artifact my-finding" in run(capsys, "review", "changes", release(capsys, review), "--db", review)[1]
    code, out, _ = run(capsys, "review", "audit-log", "verify", "--db", review)
    assert code == 0
    assert "none changed" in out


def release(capsys, review) -> str:
    return json.loads(run(capsys, "review", "release", "--json", "--db", review)[1])[0]["version"]


def test_one_command_brings_a_release_back(review, capsys):
    first = release(capsys, review)
    before = run(capsys, "review", "export", "--format", "json", "--db", review)[1]
    code, out, _ = run(capsys, "review", "retire", "dataset", "ddi", "--db", review, "--as", "ada")
    assert code == 0
    assert run(capsys, "review", "accept", "2", "--db", review, "--as", "edith")[0] == 0
    assert run(capsys, "review", "show", "ddi", "--db", review)[0] == 2
    code, out, _ = run(capsys, "review", "restore", first, "--db", review, "--as", "edith", "--accepted-by", "emmy")
    assert (code, "public again" in out) == (0, True)
    assert run(capsys, "review", "export", "--format", "json", "--db", review)[1] == before


def test_a_flipped_byte_ends_with_code_1(review, capsys):
    with sqlite3.connect(review) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
    code, out, _ = run(capsys, "review", "audit-log", "verify", "--db", review)
    assert code == 1
    assert out.startswith("entry 3: was changed")


@pytest.mark.parametrize("form", ["croissant", "bibtex", "ris", "csv", "json", "graphml"])
def test_every_format_holds_the_dataset_asked_for(review, capsys, form):
    code, out, _ = run(capsys, "review", "export", "--format", form, "chexpert", "--db", review)
    assert code == 0
    assert "CheXpert" in out
    assert "Fitzpatrick" not in out


def test_the_exported_database_holds_what_is_public_and_nobody_s_name(review, tmp_path, capsys):
    out = tmp_path / "public.sqlite"
    assert run(capsys, "review", "export", "--format", "sqlite", "--out", str(out), "--db", review)[0] == 0
    with sqlite3.connect(out) as raw:
        assert raw.execute("SELECT count(*) FROM dataset").fetchone() == (16,)
        for table in ("person", "contribution", "audit"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_copy_is_equal_and_a_second_one_over_it_is_refused(review, tmp_path, capsys):
    copy = tmp_path / "copy.sqlite"
    assert run(capsys, "review", "backup", str(copy), "--db", review)[0] == 0
    both = [run(capsys, "review", "export", "--format", "json", "--db", where)[1] for where in (review, str(copy))]
    assert both[0] == both[1]
    assert run(capsys, "review", "backup", str(copy), "--db", review)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["search", "x", "--db", "nowhere.sqlite"], 2, "medaudit review init"),
        (["search", "color:red"], 2, "no field is called 'color'"),
        (["accept", "99", "--as", "grace"], 2, "there is no contribution 99"),
        (["accept", "1", "--as", "nobody"], 2, "there is no person 'nobody'"),
        (["reject", "1", "--reason", "x", "--as", "grace"], 2, "contribution 1 is accepted"),
        (["export", "--format", "pdf"], 2, "no format is called 'pdf'"),
        (["export", "--format", "json", "nothing"], 2, "there is no dataset 'nothing'"),
        (["import", "xml"], 2, "cannot be imported"),
        (["import", "csv"], 2, "say which file"),
        (["import", "yaml", "missing.yaml"], 1, "no such file"),
        (["release", "next", "--as", "edith"], 2, "is no version"),
        (["release", "v2027.01", "--as", "grace"], 2, "grace is a reviewer"),
        (["restore", "v1999.01", "--as", "edith"], 2, "there is no release v1999.01"),
        (["audit-log", "burn"], 2, "expected verify or show"),
        (["init"], 2, "not empty"),
        (["person", "x", "--role", "king"], 2, "no role is called 'king'"),
        (["retire", "dataset", "nothing", "--as", "ada"], 2, "there is no dataset 'nothing'"),
    ],
)
def test_a_mistake_is_one_line(review, capsys, monkeypatch, arguments, code, said):
    monkeypatch.setenv("MEDAUDIT_REVIEW", review)
    found, _, err = run(capsys, "review", *arguments)
    assert found == code
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_that_is_no_review_is_said_so(tmp_path, capsys):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE t (a)")
    assert "is no review" in run(capsys, "review", "search", "x", "--db", str(other))[2]
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"no database at all" * 100)
    code, _, err = run(capsys, "review", "search", "x", "--db", str(noise))
    assert code == 1
    assert len(err.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    with pytest.raises(SystemExit) as stop:
        main.run(["demo", "--out", str(out), "--step", "labels", "--size", "60", "--quiet", "--jobs", "1"])
    assert not stop.value.code
    return out / "labels"


def test_the_demo_ends_with_its_findings_published_in_a_review(demo, capsys):
    db = str(demo.parent / "review.sqlite")
    assert json.loads(run(capsys, "review", "queue", "--json", "--db", db)[1]) == []  # nothing is left to decide
    code, out, _ = run(
        capsys, "publish", str(demo), "--to", db, "--about", "simulated-breast-mri", "--as", "demo", "--json"
    )
    assert (code, json.loads(out)["contribution"]) == (0, None)  # the same findings twice are one contribution
    record = json.loads(run(capsys, "review", "show", json.loads(out)["artifact"]["slug"], "--db", db, "--json")[1])
    inputs = json.loads((demo / "run.json").read_text())["inputs"]
    assert record["run"]["inputs"] == inputs
    assert record["type"] == "computed_audit"
    findings = {one["id"]: one for one in json.loads((demo / "findings.json").read_text())}
    for fact in record["facts"]:
        assert fact["value"] == pytest.approx(findings[fact["field"]]["estimate"]["value"], rel=1e-5)
    assert len(record["run"]["findings"]) == len(findings)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--about", "x", "--finding", "nothing"], "has no finding 'nothing'"),
        (["--about", "x", "--as", "nobody"], "no person 'nobody'"),
        (["--about", "x", "--severity", "dreadful"], "severity"),
        ([], "--about"),
    ],
)
def test_what_cannot_be_published_is_said_in_one_line(demo, review, capsys, more, said):
    more = more if "--as" in more else [*more, "--as", "ada"]
    code, _, err = run(capsys, "publish", str(demo), "--to", review, *more)
    assert code in (1, 2)
    assert said in err


def test_an_audit_s_report_says_what_was_known_and_its_findings_do_not_depend_on_it(tmp_path, capsys, monkeypatch):
    data = small_hc18(tmp_path / "hc18", [(f"{n:03d}_HC", (90, 150, 250)[n % 3]) for n in range(9)])
    call = [
        "labels",
        "--labels",
        "../hc18_automatic/{case_id}_automatic.png",
        "--by",
        "trimester",
        "--quiet",
        "--jobs",
        "1",
    ]
    assert run(capsys, *call, "--dataset", "hc18", "--data", str(data), "--out", str(tmp_path / "told"))[0] == 0
    told = (tmp_path / "told" / "report.html").read_text()
    assert "What was known about this dataset already" in told
    assert "an examination" in told
    assert run(capsys, "review", "init", "--empty", "--db", str(tmp_path / "empty.sqlite"))[0] == 0
    monkeypatch.setenv("MEDAUDIT_REVIEW", str(tmp_path / "empty.sqlite"))
    assert run(capsys, *call, "--dataset", "hc18", "--data", str(data), "--out", str(tmp_path / "untold"))[0] == 0
    assert "What was known about this dataset already" not in (tmp_path / "untold" / "report.html").read_text()
    findings = [(tmp_path / name / "findings.json").read_bytes() for name in ("told", "untold")]
    assert findings[0] == findings[1]


def test_cases_of_a_public_dataset_in_a_table_of_one_s_own_are_warned_of_too(tmp_path, capsys):
    table = str(masks_of_two_readers(tmp_path, 6))
    call = [
        "labels",
        "--cases",
        table,
        "--reference",
        "expert_path",
        "--labels",
        "auto_path",
        "--by",
        "source",
        "--quiet",
    ]
    code, _, err = run(capsys, *call, "--about", "ddi", "--about", "Fitzpatrick17k", "--out", str(tmp_path / "run"))
    assert code == 0, err
    report = (tmp_path / "run" / "report.html").read_text()
    assert "DDI" in report
    assert "Fitzpatrick17k holds duplicates" in report
    code, _, err = run(capsys, *call, "--about", "no-such-set", "--out", str(tmp_path / "other"))
    assert (code, err.count("\n")) == (2, 1)
    assert "no-such-set" in err
    code, _, err = run(
        capsys, "labels", "--simulate", "breast-mri", "--by", "age", "--about", "ddi", "--out", str(tmp_path / "x")
    )
    assert code == 2
    assert "--cases" in err


def test_findings_that_were_rejected_are_not_said_to_be_proposed_again(demo, review, capsys):
    call = ["publish", str(demo), "--to", review, "--about", "demo-set", "--as", "ada"]
    number = json.loads(run(capsys, *call, "--json")[1])["contribution"]
    assert (
        run(capsys, "review", "reject", str(number), "--reason", "no source", "--db", review, "--as", "grace")[0] == 0
    )
    out = run(capsys, *call)[1]
    assert "is rejected" in out
    assert "proposed" not in out


def test_a_nameless_user_is_asked_for_a_name(review, capsys, monkeypatch):
    import getpass

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    code, _, err = run(capsys, "review", "accept", "1", "--db", review)
    assert (code, "--as NAME" in err, err.count("\n")) == (2, True, 1)


def test_a_search_of_recorded_answers_is_screened_and_what_is_included_is_proposed(review, capsys):
    recorded = str(Path(__file__).parents[1] / "review" / "cassettes" / "t0")
    say = ["--db", review, "--as", "grace"]
    made = run(
        capsys, "review", "query", "chexpert", "--provider", "openalex", "--expression", "cites:W9000000001", *say
    )
    assert made[0] == 0, made
    assert run(capsys, "review", "harvest", "chexpert", "--db", review)[0] == 2
    code, out, _ = run(capsys, "review", "harvest", "chexpert", "--recorded", recorded, "--db", review)
    assert code == 0
    waiting = json.loads(run(capsys, "review", "screen", "--json", *say)[1])
    assert f"{len(waiting)} new" in out
    assert len(waiting) >= 2
    first, second = (str(one["id"]) for one in waiting[:2])
    refused = run(capsys, "review", "screen", first, "--decision", "exclude", *say)
    assert refused[0] == 2
    assert "reasons" in refused[2]
    excluded = run(capsys, "review", "screen", first, "--decision", "exclude", "--reason", "not about a dataset", *say)
    assert excluded[0] == 0
    for stage in ("title", "fulltext"):
        assert run(capsys, "review", "screen", second, "--stage", stage, "--decision", "include", *say)[0] == 0
    code, out, _ = run(capsys, "review", "screen", "--propose", *say)
    assert (code, out.split()[0]) == (0, "contribution")
    assert run(capsys, "review", "accept", out.split()[1], "--db", review, "--as", "emmy")[0] == 0
    method = run(capsys, "review", "method", "--db", review)[1]
    assert "not about a dataset" in method
