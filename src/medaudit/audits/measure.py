"""From a cohort to its measurements: every case streamed through its own process, kept as it is measured, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import polars as pl
from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medaudit.audits import compare
from medaudit.cohort import Case, Cohort, Role
from medaudit.errors import DataError
from medaudit.report import Run


def measure(
    cohort: Cohort,
    ruler: compare.Ruler,
    run: Run,
    *,
    jobs: int = -1,
    progress: bool = True,
    skip_bad: bool = False,
    name: str = "measurements",
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the measurements of every case (a row a case), and what was wrong with the cases left out.

    What is measured is kept in ``run`` at once, as ``{name}.parquet``, so that a run that was killed goes on where it
    was. At most ``jobs`` cases are in memory at a time. Raises DataError, after all other cases were measured, if some
    cannot be read and ``skip_bad`` is not set.
    """
    roles = {name: cohort.roles[name] for name in (ruler.reference, ruler.prediction)}
    cases = list(cohort.cases(*roles))
    prints = {case.case_id: compare.fingerprint(case, roles, ruler) for case in cases}
    bad: dict[str, str] = {}
    with run.rows(name) as rows:
        left = set(rows.todo(prints))
        todo = [case for case in cases if case.case_id in left]
        for case_id, row, problem in _with_progress(_stream(todo, roles, ruler, jobs), len(cases), len(todo), progress):
            if row is None:
                bad[case_id] = problem
            else:
                rows.append(case_id, row, prints[case_id])
        bad = {case.case_id: bad[case.case_id] for case in cases if case.case_id in bad}  # whoever was read first
        if len(bad) == len(cases):
            raise DataError(f"none of the {len(cases)} cases can be measured; the first: {next(iter(bad.values()))}")
        if bad and not skip_bad:
            raise DataError(_summary(bad, len(cases)))
        return rows.finish([case.case_id for case in cases if case.case_id not in bad]), bad


def _stream(cases: list[Case], roles: dict[str, Role], ruler: compare.Ruler, jobs: int) -> Iterator[compare.Outcome]:
    workers = min(cpu_count() if jobs < 0 else max(1, jobs), max(1, len(cases)))
    if workers == 1:
        yield from (compare.attempt(case, roles, ruler) for case in cases)
        return
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="2*n_jobs", inner_max_num_threads=1)
    try:
        yield from pool(delayed(compare.attempt)(case, roles, ruler) for case in cases)
    except BrokenProcessPool:
        raise DataError(
            "a process that measured cases was killed, most often because memory ran out; what was measured is kept: "
            f"run the same command with fewer than {workers} --jobs"
        ) from None


def _with_progress(stream: Iterator[compare.Outcome], total: int, todo: int, show: bool) -> Iterator[compare.Outcome]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True) as bar:
        task = bar.add_task("measuring cases", total=total, completed=total - todo)
        for outcome in stream:
            yield outcome
            bar.advance(task)


def _summary(bad: dict[str, str], total: int) -> str:
    first = "; ".join(list(bad.values())[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    return (
        f"{len(bad)} of {total} cases cannot be measured: {first}{more}. The other measurements are kept: "
        "mend the cases and run again, or go on without them with --skip-bad"
    )
