"""Where a run goes: its own folder, nobody else's, and on a disk that may be full."""

import errno
import json
import os
import subprocess

import polars as pl
import pytest
from small_cohorts import labels, masks_of_two_readers, scores

RESULTS = ("findings.json", "measurements.parquet")


def results(run):
    return {name: (run / name).read_bytes() for name in RESULTS}


def test_out_that_is_a_file_is_refused_and_left_alone(medaudit, cases):
    run = cases.parent / "run"
    run.write_text("precious")
    medaudit(*labels(cases, run)).refuses(2, "run is a file", "--out needs a folder")
    assert run.read_text() == "precious"


def test_a_folder_that_is_no_run_is_refused_and_left_alone(medaudit, cases):
    run = cases.parent / "run"
    run.mkdir()
    (run / "thesis.docx").write_text("precious")
    medaudit(*labels(cases, run)).refuses(2, "not the folder of a run", "thesis.docx", "choose another --out")
    assert [path.name for path in run.iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], "seed was 0, now 1"),
        (["--by", "source"], "by was"),
        (["--empty", "nan"], "empty was penalise"),
    ],
    ids=["seed", "by", "empty"],
)
def test_the_folder_of_another_run_is_refused_and_left_alone(medaudit, tmp_path, more, said):
    run = tmp_path / "run"
    call = labels(masks_of_two_readers(tmp_path / "cohort", 6), run)
    assert medaudit(*call).code == 0
    before = results(run)
    medaudit(*call, *more).refuses(2, "another run", said, "choose another --out")
    medaudit("scores", scores(tmp_path / "scores.csv"), "--by", "age:50", "--out", run).refuses(2, "verb was labels")
    assert results(run) == before


def test_another_cohort_does_not_overwrite_a_finished_run(medaudit, cases):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    before = results(run)
    other = masks_of_two_readers(cases.parent / "other", 6)
    medaudit(*labels(other, run)).refuses(2, "another run", "cases has other contents now")
    assert results(run) == before


def test_a_finished_run_run_again_gives_the_same_bytes(medaudit, cases):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    before = results(run)
    assert medaudit(*labels(cases, run)).code == 0
    assert results(run) == before


def test_paths_may_be_absolute_relative_or_through_a_link(medaudit, cases, monkeypatch):
    where = cases.parent.parent
    monkeypatch.chdir(where)
    os.symlink(cases.parent, where / "link")
    runs = [where / name for name in ("absolute", "relative", "linked", "template")]
    assert medaudit(*labels(cases, runs[0])).code == 0
    assert medaudit(*labels("cohort/cases.csv", "relative")).code == 0
    assert medaudit(*labels("link/cases.csv", "./x/../linked")).code == 0
    with_templates = labels("cohort/cases.csv", runs[3], "--data", "link")
    with_templates += ["--reference", "expert/{case_id}.nii.gz", "--labels", "../cohort/auto/{case_id}.nii.gz"]
    assert medaudit(*with_templates).code == 0
    first = results(runs[0])
    assert [results(run) == first for run in runs] == [True] * 4


def test_a_run_whose_record_is_broken_is_refused(medaudit, cases):
    run = cases.parent / "run"
    run.mkdir()
    (run / "run.json").write_text("{")
    medaudit(*labels(cases, run)).refuses(2, "run.json is not the record of a medaudit run")
    medaudit("report", run).refuses(2, "run.json is not the record of a medaudit run")


# The report of a run --------------------------------------------------------------------------------------


def test_the_report_of_an_unfinished_run_says_that_it_is_unfinished(medaudit, cases):
    (cases.parent / "auto/c003.nii.gz").unlink()
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 1
    for more in ([], ["--json"], ["--quiet"]):
        medaudit("report", run, *more).refuses(1, "the run was not finished; run the same command again")


@pytest.mark.parametrize("where", ["nowhere", "cases.csv", "."])
def test_a_folder_without_a_run_has_no_report(medaudit, cases, where):
    medaudit("report", cases.parent / where).refuses(2, "not the folder of a run", "--out of an earlier run")


def test_a_broken_file_of_a_run_is_named(medaudit, cases):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    (run / "findings.json").write_text("[{]")
    medaudit("report", run).refuses(1, "findings.json cannot be read", "run again")
    (run / "report.json").write_text("[]")
    medaudit("report", run).refuses(1, "report.json cannot be read", "run the same command again")
    assert medaudit(*labels(cases, run)).code == 0
    assert medaudit("report", run, "--json").json[0]["id"] == "gap:age:dice"


def test_the_report_is_made_again_without_measuring(medaudit, cases):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    (cases.parent / "auto").rename(cases.parent / "gone")
    said = medaudit("report", run, "--json")
    assert said.code == 0
    assert said.json == json.loads((run / "findings.json").read_text())
    assert (run / "report.html").read_bytes() == page


# A full disk ----------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_measuring_keeps_what_was_measured(medaudit, cases, monkeypatch):
    write = os.write
    rows = []

    def fills(descriptor, data):
        if bytes(data).startswith(b'{"key"'):
            if len(rows) == 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rows.append(data)
        return write(descriptor, data)

    run = cases.parent / "run"
    with monkeypatch.context() as patch:
        patch.setattr("medaudit.report.checkpoint.os.write", fills)
        medaudit(*labels(cases, run)).refuses(
            1, "measurements.partial.jsonl", "the disk is full", "kept", "free some space", "run the same command"
        )
    assert (run / "measurements.partial.jsonl").read_bytes() == b"".join(rows)
    assert medaudit(*labels(cases, run)).code == 0
    assert len(pl.read_parquet(run / "measurements.parquet")) == 14


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of its own of 120 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_after_making_room_the_run_ends_as_it_would_have(medaudit, cases, small_disk):
    (small_disk / "ballast").write_bytes(b"x" * 40_000)
    run = small_disk / "run"
    medaudit(*labels(cases, run)).refuses(1, "cannot write", "the disk is full", "kept", "free some space")
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert medaudit(*labels(cases, run)).code == 0
    elsewhere = cases.parent / "run"
    assert medaudit(*labels(cases, elsewhere)).code == 0
    assert results(run) == results(elsewhere)


def test_a_simulation_on_a_full_disk_is_one_line(medaudit, small_disk):
    call = ["labels", "--simulate", "breast-mri", "--size", "3", "--by", "age:40,55", "--quiet", "--jobs", "1"]
    medaudit(*call, "--out", small_disk / "run").refuses(1, "no space left on device", "run the same command again")
