"""From a cohort to its measurements: every case streamed through its own process, kept as it is measured, resumable."""

from __future__ import annotations

from functools import partial

import polars as pl

from medaudit.audits.measuring import one_case as measure_case
from medaudit.cohort import Cohort
from medaudit.errors import DataError
from medaudit.report import Run
from medaudit.workers import bar, in_processes


def measure(
    cohort: Cohort,
    ruler: measure_case.Ruler,
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
    prints = {case.case_id: measure_case.fingerprint(case, roles, ruler) for case in cases}
    bad: dict[str, str] = {}
    with run.rows(name) as rows, bar("measuring cases", progress) as show:
        left = set(rows.todo(prints))
        todo = [case for case in cases if case.case_id in left]
        measured = in_processes(partial(measure_case.attempt, roles=roles, ruler=ruler), todo, jobs)
        for case_id, row, problem in show(measured, total=len(cases), left=len(todo)):
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


def _summary(bad: dict[str, str], total: int) -> str:
    first = "; ".join(list(bad.values())[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    return (
        f"{len(bad)} of {total} cases cannot be measured: {first}{more}. The other measurements are kept: "
        "mend the cases and run again, or go on without them with --skip-bad"
    )
