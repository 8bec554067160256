"""The demonstration: a cohort whose automated labels are worse for the young by design; does the audit say so?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medaudit.audits.common.simulated import simulated_beside
from medaudit.audits.labels.run import audit_masks
from medaudit.audits.labels.study import Audit, Settings

BY = ("age:40,55", "ethnicity")


def run(out: Path, *, size: int, seed: int, jobs: int, progress: bool) -> Audit:
    """Return the audit of a simulated breast-MRI cohort with biased labels for the young; everything is in ``out``.

    Images and masks are written beside it, and are there for the next run.
    """
    cohort = simulated_beside(out, "breast-mri", plant="label", size=size, seed=seed, jobs=jobs, progress=progress)
    settings = Settings(by=BY, within="source", seed=seed)
    return audit_masks(cohort, settings, out=out, jobs=jobs, progress=progress)


def planted(result: Audit) -> Iterator[str]:
    """Yield the lines that hold what was planted against what was found."""
    causes = (result.cohort.truth or {}).get("causes", {})
    verdicts = {finding.id: finding.verdict for finding in result.findings}
    yield "planted -> found (gap of mean Dice)"
    for groups in result.comparisons:
        cause = causes.get(groups.name, "none")
        yield f"  {groups.name}: {cause} -> {verdicts[f'gap:{groups.name}:dice']}"
    yield ""
