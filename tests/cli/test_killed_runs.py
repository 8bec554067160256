"""A run that was killed, stopped or crowded out: nothing that was measured is lost, and the end is the same.

The command that is killed is the real one, but that it waits before a case, or before its report, where that is wanted.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from small_cohorts import kills, labels, masks_of_two_readers

from medaudit.cli.main import run as run_medaudit

RESULTS = ("findings.json", "measurements.parquet")


WAITS = """
import sys, time
from medaudit.audits.measuring import one_case
from medaudit.cli.main import run
from medaudit.report import Run

attempt, write_report = one_case.attempt, Run.write_report

def attempted(one, *more, **others):
    wait(one.case_id)
    return attempt(one, *more, **others)

def written(*more):
    wait("report")
    return write_report(*more)

def wait(here):
    while here == sys.argv[1]:
        time.sleep(0.02)

one_case.attempt, Run.write_report = attempted, written
run(sys.argv[2:])
"""


@contextlib.contextmanager
def standing_still(cases: Path, run: Path, at: str, *more: object):
    """Yield a process that audits ``cases`` in ``run`` and goes no further than before the case, or report, ``at``."""
    call = [sys.executable, "-c", WAITS, at, *map(str, labels(cases, run, *more))]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(there: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for what a process does; fail if it ends before, or never gets there."""
    for _ in range(6_000):
        if there():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"still waiting: {process.communicate()}")


def measured(run: Path) -> list[str]:
    """Return the cases whose rows are kept in a run that is not finished."""
    try:
        lines = (run / "measurements.partial.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line)["key"] for line in lines]


def make_unreadable(mask: Path) -> bytes:
    """Spoil a file so that nobody can tell from its size and time, and return what it held."""
    before, held = mask.stat(), mask.read_bytes()
    mask.write_bytes(b"\0" * len(held))
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    return held


def same(run: Path, other: Path) -> bool:
    return all((run / name).read_bytes() == (other / name).read_bytes() for name in RESULTS)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return the run of such a cohort that nobody interrupted."""
    table = masks_of_two_readers(tmp_path_factory.mktemp("unbroken"), 14)
    with pytest.raises(SystemExit) as stop:
        run_medaudit([str(argument) for argument in labels(table, table.parent / "run")])
    assert not stop.value.code
    return table.parent / "run"


def test_a_run_killed_again_and_again_measures_no_case_twice_and_ends_as_one_that_was_not(medaudit, cases, unbroken):
    run = cases.parent / "run"
    points = sorted(random.Random(7).sample(range(1, 14), min(13, kills())))
    kept = []
    spoilt = {}
    for at in points:
        with standing_still(cases, run, f"c{at:03d}") as process:
            wait_until(lambda at=at: len(measured(run)) >= at, process)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert measured(run)[: len(kept)] == kept
        kept = measured(run)
        assert kept == [f"c{i:03d}" for i in range(at)]
        for case in set(kept) - set(spoilt):  # who measured them again could not read them
            spoilt[case] = make_unreadable(cases.parent / f"auto/{case}.nii.gz")
    for case, held in spoilt.items():  # the report's pictures show masks
        mask = cases.parent / f"auto/{case}.nii.gz"
        about = mask.stat()
        mask.write_bytes(held)
        os.utime(mask, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert medaudit(*labels(cases, run)).code == 0
    assert same(run, unbroken)


def test_a_run_killed_while_its_report_is_made_goes_on_with_the_report(medaudit, cases, unbroken, monkeypatch):
    run = cases.parent / "run"
    with standing_still(cases, run, "report") as process:
        wait_until((run / "findings.json").exists, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (run / "report.html").exists()
    monkeypatch.setattr("medaudit.audits.measuring.one_case.attempt", lambda *_, **__: pytest.fail("measured again"))
    assert medaudit(*labels(cases, run)).code == 0
    assert (run / "report.html").exists()
    assert same(run, unbroken)


def test_a_row_torn_by_a_kill_is_measured_again(medaudit, cases, unbroken):
    run, mask = cases.parent / "run", cases.parent / "auto/c013.nii.gz"
    aside = mask.rename(mask.with_name("aside"))
    assert medaudit(*labels(cases, run)).code == 1
    partial = run / "measurements.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-30])
    aside.rename(mask)
    assert medaudit(*labels(cases, run)).code == 0
    assert same(run, unbroken)


def test_ctrl_c_stops_in_one_line_and_the_same_command_goes_on(medaudit, cases, unbroken):
    run = cases.parent / "run"
    with standing_still(cases, run, "c008") as process:
        wait_until(lambda: len(measured(run)) >= 8, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == (
        "",
        "medaudit: stopped; what was measured is kept, and the same command continues where it was\n",
    )
    assert len(measured(run)) == 8
    assert medaudit(*labels(cases, run)).code == 0
    assert same(run, unbroken)


def test_two_processes_never_write_one_run(medaudit, cases):
    run = cases.parent / "run"
    with standing_still(cases, run, "c004") as process:
        wait_until(lambda: len(measured(run)) >= 4, process)
        said = medaudit(*labels(cases, run))
        said.refuses(2, "being written by another process", str(process.pid), "another --out")
        assert process.poll() is None
        assert len(measured(run)) == 4


def test_two_jobs_give_the_bytes_of_one(medaudit, cases, unbroken):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run, "--jobs", "2")).code == 0
    assert same(run, unbroken)


def test_a_worker_that_is_killed_is_one_line_and_its_case_is_measured_later(medaudit, cases, unbroken, monkeypatch):
    run = cases.parent / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            "medaudit.audits.measuring.one_case.attempt", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        )
        medaudit(*labels(cases, run, "--jobs", "2")).refuses(1, "was killed", "memory", "--jobs")
    assert medaudit(*labels(cases, run)).code == 0
    assert same(run, unbroken)


def test_the_other_seed_gives_other_p_values_of_the_same_measurements(medaudit, cases, unbroken):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run, "--seed", "1")).code == 0
    assert (run / RESULTS[1]).read_bytes() == (unbroken / RESULTS[1]).read_bytes()
    first, second = (json.loads((folder / RESULTS[0]).read_text()) for folder in (unbroken, run))
    assert [f["id"] for f in first] == [f["id"] for f in second]
    assert [f["estimate"]["value"] for f in first] == [f["estimate"]["value"] for f in second]
    assert [f["estimate"]["p"] for f in first] != [f["estimate"]["p"] for f in second]


def test_a_mask_that_changed_after_the_run_is_measured_again(medaudit, cases):
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    shutil.copy(cases.parent / "expert/c003.nii.gz", cases.parent / "auto/c003.nii.gz")
    assert medaudit(*labels(cases, run)).code == 0
    rows = pl.read_parquet(run / "measurements.parquet")
    assert rows.filter(case_id="c003")["dice"].to_list() == [1.0]
