"""A whole audit at full size: 448 x 448 x 160 masks measured and audited, extrapolated to MAMA-MIA's 1,506 cases.

    python -m benchmarks.full_audit --cases 60 --jobs 2

Writes that many simulated pairs to a temporary folder (not timed), runs `medaudit labels` on them in one process tree,
and prints the time a case, the time of statistics and report, the extrapolation, and the largest worker's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import polars as pl
import psutil

from benchmarks.full_size_case import full_size_pair
from medaudit.cli.main import run

COHORT = 1506


def write_cases(folder: Path, n: int) -> None:
    for role in ("expert", "automatic"):
        (folder / role).mkdir()
    for i in range(n):
        reference, labels, spacing = full_size_pair(seed=i + 1, far=i % 10 == 9)
        affine = np.diag([*spacing, 1.0])
        for role, mask in (("expert", reference), ("automatic", labels)):
            nibabel.save(nibabel.Nifti1Image(mask, affine), folder / role / f"case{i:04d}.nii.gz")
    rng = np.random.default_rng(0)
    pl.DataFrame(
        {
            "case_id": [f"case{i:04d}" for i in range(n)],
            "age": rng.integers(25, 80, n),
            "source": rng.choice(["A", "B"], n),
        }
    ).write_csv(folder / "cases.csv")


class Memory(threading.Thread):
    """The largest memory of any single process of this tree, sampled four times a second.

    ``uss``: what the process has of its own. ``rss`` also counts library pages that all workers share.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own: dict[int, int] = {}
        self.resident: dict[int, int] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.stop.wait(0.25):
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_full_info()
                    self.own[process.pid] = max(self.own.get(process.pid, 0), memory.uss)
                    self.resident[process.pid] = max(self.resident.get(process.pid, 0), memory.rss)


def labels(folder: Path, table: str, out: Path, jobs: int, *more: str) -> float:
    start = time.perf_counter()
    call = ["labels", "--cases", str(folder / table), "--reference", "expert/{case_id}.nii.gz"]
    call += ["--labels", "automatic/{case_id}.nii.gz", "--by", "age:40,55", "--within", "source"]
    call += ["--out", str(out), "--jobs", str(jobs), "--quiet", *more]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        run(call)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_cases(folder, asked.cases)
        few = asked.cases // 4
        pl.read_csv(folder / "cases.csv").head(few).write_csv(folder / "few.csv")
        labels(folder, "few.csv", folder / "warm", asked.jobs)  # compiles what is not in the cache yet
        # Two sizes free the time a case from the workers' start; few resamples and the best of three keep the noise of
        # the statistics out of that difference.
        quick = ("--resamples", "100")
        part = min(labels(folder, "few.csv", folder / f"few{k}", asked.jobs, *quick) for k in range(3))
        most = min(labels(folder, "cases.csv", folder / f"most{k}", asked.jobs, *quick) for k in range(3))
        per_case = (most - part) / (asked.cases - few)
        whole = labels(folder, "cases.csv", folder / "whole", asked.jobs)
        # The same command again measures nothing: what is left are statistics and report.
        rest = labels(folder, "cases.csv", folder / "whole", asked.jobs)
        findings = len(json.loads((folder / "whole" / "findings.json").read_text()))
        memory = Memory()
        memory.start()
        labels(folder, "cases.csv", folder / "watched", asked.jobs)
        memory.stop.set()
        memory.join()
    fixed = whole - per_case * asked.cases
    workers = {pid: own for pid, own in memory.own.items() if pid != os.getpid()} or memory.own
    largest = max(workers, key=lambda pid: workers[pid])
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{asked.cases} cases of 448 x 448 x 160, {asked.jobs} processes, {findings} findings")
    print(f"whole audit                         {whole:8.1f} s")
    print(f"statistics and report alone         {rest:8.1f} s")
    print(f"start of workers, statistics, report {fixed:7.1f} s")
    print(f"a case, gunzip to numbers           {1000 * per_case:8.0f} ms")
    print(f"extrapolated to {COHORT:,} cases       {per_case * COHORT + fixed:8.1f} s")
    print(f"largest worker, own memory          {workers[largest] / 2**20:8.0f} MiB")
    print(f"largest worker, resident            {memory.resident[largest] / 2**20:8.0f} MiB")
    print(f"this process, own memory            {memory.own[os.getpid()] / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
