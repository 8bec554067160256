"""Plant causes, audit, count: write each study's verdicts against what was planted into docs/truth.md.

    python -m benchmarks.truth [STUDY...] [--seeds N] [--work FOLDER] [--jobs J] [--worlds W...] [--table]

Every (study, world, seed) is a JSON line in FOLDER/STUDY.jsonl and is not done again; a killed run goes on. `--table`
runs nothing and writes the page from what is there. Without `--seeds` each world has its own number.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.truth import ledger
from benchmarks.truth.page import record
from benchmarks.truth.studies import STUDIES


def main() -> None:
    """Run what the command line asks for, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="STUDY", help=f"Of: {', '.join(STUDIES)}; all that are cheap if "
                        "none is named.")  # fmt: skip
    parser.add_argument("--seeds", type=int, help="Of each world; each world's own number if not given.")
    parser.add_argument("--worlds", nargs="*", default=[], help="Only these worlds.")
    parser.add_argument("--work", type=Path, default=Path("runs/truth"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="Run nothing; write the page from what is there.")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in STUDIES]
    if unknown:
        parser.error(f"no study is called '{unknown[0]}'; there are: {', '.join(STUDIES)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: one thread a job
    for name in asked.names or [name for name, study in STUDIES.items() if not study.trained or asked.table]:
        study, start = STUDIES[name], time.perf_counter()
        if not asked.table:
            todo = ledger.fill(study, asked.work, seeds=asked.seeds, jobs=asked.jobs, worlds=asked.worlds)
            for count, line in enumerate(todo, 1):
                if study.trained or count % 50 == 0:
                    print(f"{name}: {count}, {time.perf_counter() - start:.0f} s; {line.world} {line.seed}: "
                          f"{line.seconds:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        lines = ledger.done(study, asked.work)
        if lines:
            print(record(study, lines), flush=True)


if __name__ == "__main__":
    main()
