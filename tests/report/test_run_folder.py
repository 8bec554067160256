"""A Run stands alone, goes on after a kill, refuses what is not its own, and gives the same bytes twice."""

import errno
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.report import Checkpoint, Finding, Run, hash_file, versions
from medaudit.statistics import Estimate

STUDY = {"verb": "labels", "settings": {"seed": 0, "by": ["age:40,55"]}, "inputs": {"cases.csv": "ab12"}}

FINDING = Finding(
    id="gap:age:dice",
    question="Are the labels equally good at every age?",
    claim="Dice differs by 0.053 between the age groups.",
    verdict="supported",
    groups={"<=40": {"n": np.int64(349), "mean": np.float64(0.8082), "hd95_mm": math.inf}},
    estimate=Estimate("gap", 0.053, 0.021, 0.085, 0.0006, n=1503, extra={"null_mean": math.nan}),
    rests_on=("HD95: pooled, ≤ 10 mm",),
)


def measure(case: int) -> dict[str, object]:
    """Return what a ruler could say of a case, with every awkward value that one can."""
    return {
        "case_id": f"case-{case:03d}",
        "dice": np.float64(case / 7),
        "hd95_mm": math.inf if case % 5 == 0 else case * 0.1,
        "nsd": -np.float64(math.nan) if case % 7 == 0 else 1 / 3,
        "components": None if case % 3 == 0 else case,
    }


def append(rows: Checkpoint, cases: int) -> None:
    for case in range(cases):
        rows.append(f"case-{case:03d}", measure(case), "v1")


def complete(folder: Path, cases: list[int]) -> None:
    """Measure what is missing, as a study does, and finish."""
    with Run.open(folder, **STUDY) as run:
        rows = run.rows()
        for key in rows.todo({f"case-{c:03d}": "v1" for c in cases}):
            rows.append(key, measure(int(key[5:])), "v1")
        rows.finish([f"case-{c:03d}" for c in cases])
        run.write_findings([FINDING])
        run.finish()


# The folder ---------------------------------------------------------------------------------------------


def test_a_run_reads_back_what_was_written(tmp_path):
    complete(tmp_path / "run", list(range(20)))
    run = Run.read(tmp_path / "run")
    assert (run.verb, run.settings["seed"], run.inputs) == ("labels", 0, {"cases.csv": "ab12"})
    assert run.finished is not None
    assert run.versions == versions()
    assert run.measurements().height == 20
    (finding,) = run.findings()
    assert (finding.id, finding.estimate.low, finding.rests_on) == (
        "gap:age:dice",
        0.021,
        ("HD95: pooled, ≤ 10 mm",),
    )
    assert math.isnan(finding.estimate.extra["null_mean"])
    assert finding.groups["<=40"] == {"n": 349, "mean": 0.8082, "hd95_mm": None}


def test_a_finished_folder_holds_only_what_it_promises(tmp_path):
    complete(tmp_path / "run", [1, 2])
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "measurements.parquet", "findings.json", ".measurements.fingerprints.json"}


def test_same_inputs_and_seed_give_the_same_bytes_in_two_folders(tmp_path):
    for name in ("a", "elsewhere/b"):
        complete(tmp_path / name, list(range(50)))
    for file in ("findings.json", "measurements.parquet"):
        assert hash_file(tmp_path / "a" / file) == hash_file(tmp_path / "elsewhere/b" / file)


def test_findings_hold_strict_json_without_paths_or_times(tmp_path):
    complete(tmp_path / "run", [1])
    text = (tmp_path / "run/findings.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert str(tmp_path) not in text
    assert not re.search(r"\d{4}-\d{2}-\d{2}", text)


def test_versions_name_every_package_that_makes_a_number():
    assert set(versions()) == {"medaudit", "python", "numpy", "scipy", "polars", "statsmodels", "numba"}
    assert versions()["numpy"] == np.__version__


def test_hash_file_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    # The digest of "abc" as FIPS 180-2 prints it.
    assert hash_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match=r"cannot read .*y"):
        hash_file(tmp_path / "y")


def test_a_figure_named_after_a_finding_gets_a_file_name(tmp_path):
    with Run.open(tmp_path / "run", **STUDY) as run:
        path = run.write_figure("gap:age/sex:../dice", "<svg/>")
    assert path.parent == tmp_path / "run/figures"
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.svg", path.name)


# Whose folder it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"settings": {"seed": 1, "by": ["age:40,55"]}},
            "another run: seed was 0, now 1; choose another --out",
        ),
        ({"settings": {"seed": 0}}, r'by was \["age:40,55"\], now not given'),
        ({"verb": "ruler"}, "verb was labels, now ruler"),
        ({"inputs": {"cases.csv": "ffff"}}, "cases.csv has other contents now"),
    ],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(tmp_path, change, said):
    Run.open(tmp_path / "run", **STUDY).finish()
    before = (tmp_path / "run/run.json").read_bytes()
    with pytest.raises(UsageError, match=said):
        Run.open(tmp_path / "run", **{**STUDY, **change})
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_inputs_may_be_mended_until_the_run_is_finished(tmp_path):
    with Run.open(tmp_path / "run", **STUDY) as run:
        run.rows().append("case-1", measure(1), "v1")
    mended = {**STUDY, "inputs": {"cases.csv": "ffff"}}
    with Run.open(tmp_path / "run", **mended) as run:
        assert list(run.rows().done) == ["case-1"]
    assert Run.read(tmp_path / "run").inputs == {"cases.csv": "ffff"}


def test_other_versions_are_another_run(tmp_path, monkeypatch):
    Run.open(tmp_path / "run", **STUDY).close()
    monkeypatch.setattr("medaudit.report.run.versions", lambda: {**versions(), "numpy": "9.9"})
    with pytest.raises(UsageError, match=r"numpy was .*, now 9\.9"):
        Run.open(tmp_path / "run", **STUDY)


def test_a_setting_that_is_not_a_number_does_not_differ_from_itself(tmp_path):
    study = {**STUDY, "settings": {"margin": math.nan, "out": Path("x"), "edges": (40, 55)}}
    Run.open(tmp_path / "run", **study).close()
    Run.open(tmp_path / "run", **study).close()


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(UsageError, match=r"not empty and not the folder of a run \(it holds 'thesis.docx'"):
        Run.open(tmp_path, **STUDY)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_in_the_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="out is a file; --out needs a folder"):
        Run.open(tmp_path / "out", **STUDY)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/run: not a directory; choose another --out"):
        Run.open(tmp_path / "file" / "run", **STUDY)


def test_a_foreign_run_json_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"scripts": {}}')
    with pytest.raises(UsageError, match="not the record of a medaudit run"):
        Run.open(tmp_path, **STUDY)


def test_reading_what_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="not the folder of a run"):
        Run.read(tmp_path)
    Run.open(tmp_path / "run", **STUDY).close()
    run = Run.read(tmp_path / "run")
    with pytest.raises(DataError, match=r"findings.json is not there.*run the same command again"):
        run.findings()
    with pytest.raises(DataError, match=r"measurements.parquet is not there"):
        run.measurements()
    (tmp_path / "run/findings.json").write_text('[{"id": "gap')
    (tmp_path / "run/measurements.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match=r"findings.json cannot be read"):
        run.findings()
    with pytest.raises(DataError, match=r"measurements.parquet cannot be read"):
        run.measurements()


# One writer ---------------------------------------------------------------------------------------------

HOLD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_run_folder import STUDY
from medaudit.report import Run
run = Run.open(sys.argv[1], **STUDY)
print("holding", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"holding\n"
        with pytest.raises(UsageError, match=rf"written by another process \(id {first.pid}\)"):
            Run.open(tmp_path / "run", **STUDY)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (tmp_path / "run/.lock").exists()  # the dead process could not remove it
        Run.open(tmp_path / "run", **STUDY).close()
    assert not (tmp_path / "run/.lock").exists()


def test_giving_the_lock_back_twice_closes_nobody_elses_file(tmp_path):
    run = Run.open(tmp_path / "run", **STUDY)
    run.close()
    with (tmp_path / "other").open("w") as other:  # gets the number that the lock's file had
        run.close()
        other.write("still open")
        other.flush()
    assert (tmp_path / "other").read_text() == "still open"


# Going on -----------------------------------------------------------------------------------------------

APPEND = """
import sys
sys.path.insert(0, sys.argv[2])
from test_run_folder import STUDY, measure
from medaudit.report import Run
rows = Run.open(sys.argv[1], **STUDY).rows()
for case in range(100000):
    rows.append(f"case-{case:03d}", measure(case), "v1")
"""


def test_killed_halfway_a_run_goes_on_and_gives_the_same_bytes(tmp_path):
    partial = tmp_path / "killed/measurements.partial.jsonl"
    command = [sys.executable, "-c", APPEND, str(tmp_path / "killed"), str(Path(__file__).parent)]
    with subprocess.Popen(command) as process:
        while process.poll() is None and (not partial.exists() or partial.stat().st_size < 20_000):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    with Run.open(tmp_path / "killed", **STUDY) as run, run.rows() as rows:
        survivors = len(rows.done)
    assert survivors > 50
    cases = list(range(survivors + 30))  # some of it done, some not
    complete(tmp_path / "killed", cases)
    complete(tmp_path / "unbroken", cases)
    for file in ("measurements.parquet", "findings.json"):
        assert hash_file(tmp_path / "killed" / file) == hash_file(tmp_path / "unbroken" / file)


@pytest.mark.parametrize("torn_at", [1, 20, 60])
def test_a_torn_last_line_is_measured_anew_and_nothing_else(tmp_path, torn_at):
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        for case in range(3):
            rows.append(f"case-{case:03d}", measure(case), "v1")
    partial = tmp_path / "measurements.partial.jsonl"
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:2]) + lines[2][:torn_at])
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        assert list(rows.done) == ["case-000", "case-001"]
        rows.append("case-009", measure(9), "v1")  # must not be glued to the torn line
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        assert list(rows.done) == ["case-000", "case-001", "case-009"]


def test_a_case_whose_files_changed_is_measured_anew(tmp_path):
    fingerprints = {"a": "1", "b": "1", "c": "1"}
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        for key in ("a", "b"):
            rows.append(key, {"case_id": key, "dice": 0.5}, "1")
    changed = {**fingerprints, "a": "2"}
    with Run.open(tmp_path, **STUDY) as run:
        rows = run.rows()
        assert rows.todo(changed) == ["a", "c"]
        for key in rows.todo(changed):
            rows.append(key, {"case_id": key, "dice": 0.9}, changed[key])
        assert rows.finish("abc")["dice"].to_list() == [0.9, 0.5, 0.9]


def test_a_finished_run_measures_nothing_twice(tmp_path):
    complete(tmp_path / "run", list(range(10)))
    before = (tmp_path / "run/measurements.parquet").read_bytes()
    with Run.open(tmp_path / "run", **STUDY) as run:
        rows = run.rows()
        assert rows.todo({f"case-{c:03d}": "v1" for c in range(10)}) == []
        rows.finish(f"case-{c:03d}" for c in range(10))
    assert (tmp_path / "run/measurements.parquet").read_bytes() == before


def test_a_table_changed_by_hand_is_not_taken_for_measured(tmp_path):
    complete(tmp_path / "run", [1, 2])
    pl.DataFrame({"case_id": ["case-001", "case-002"], "dice": [1.0, 1.0]}).write_parquet(
        tmp_path / "run/measurements.parquet"
    )
    with Run.open(tmp_path / "run", **STUDY) as run, run.rows() as rows:
        assert rows.done == {}


def test_infinite_and_missing_numbers_survive_the_checkpoint(tmp_path):
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        rows.append("a", {"hd95_mm": -math.inf, "nsd": math.nan, "lesions": None, "n": np.int32(3), "ok": True})
    with Run.open(tmp_path, **STUDY) as run:
        frame = run.rows().finish(["a"])
    assert frame.row(0)[0] == -math.inf
    assert math.isnan(frame["nsd"][0])
    assert frame.row(0)[2:] == (None, 3, True)


def test_the_order_of_measuring_does_not_reach_the_table(tmp_path):
    tables = []
    for name, order in (("up", range(30)), ("down", range(29, -1, -1))):
        with Run.open(tmp_path / name, **STUDY) as run:
            rows = run.rows()
            for case in order:
                rows.append(f"case-{case:03d}", measure(case), "v1")
            rows.finish(f"case-{c:03d}" for c in range(30))
        tables.append((tmp_path / name / "measurements.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_finishing_without_a_case_is_refused(tmp_path):
    with Run.open(tmp_path, **STUDY) as run, run.rows() as rows:
        rows.append("a", {"dice": 1.0})
        with pytest.raises(ValueError, match="'b'"):
            rows.finish(["a", "b"])


# Disk full ----------------------------------------------------------------------------------------------


def test_a_failing_write_leaves_the_old_file_and_one_clear_line(tmp_path, monkeypatch):
    run = Run.open(tmp_path, **STUDY)
    run.write_text("report.html", "old")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medaudit.cohort.atomic.os.fsync", no_space)
    with pytest.raises(DataError, match=r"report.html: the disk is full; what was measured so far is kept") as caught:
        run.write_text("report.html", "new")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_full_disk_nothing_measured_is_lost_and_the_rerun_goes_on(small_disk, tmp_path):
    cases = list(range(120))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40_000))
    with Run.open(small_disk / "run", **STUDY) as run:
        rows = run.rows()
        with pytest.raises(DataError, match="the disk is full; what was measured so far is kept"):
            append(rows, 10_000)
        kept = len(rows.done)
    assert 10 < kept < 120
    ballast.unlink()
    with Run.open(small_disk / "run", **STUDY) as run, run.rows() as rows:
        assert len(rows.done) == kept
    complete(small_disk / "run", cases)
    complete(tmp_path / "roomy", cases)
    for file in ("measurements.parquet", "findings.json"):
        digests = {
            hashlib.sha256((p / file).read_bytes()).hexdigest() for p in (small_disk / "run", tmp_path / "roomy")
        }
        assert len(digests) == 1
