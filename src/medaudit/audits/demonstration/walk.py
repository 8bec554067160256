"""The walk: one simulated cohort, audit after audit, each in a run of its own; a walk that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medaudit.audits.demonstration.slices import slices
from medaudit.audits.demonstration.steps import STEPS, Check, Step, least
from medaudit.cohort import Known
from medaudit.datasets import simulated_images
from medaudit.errors import DataError, UsageError
from medaudit.report import Finding, Run, versions
from medaudit.report.atomic import write_atomically

RECORD = "demo.json"
COHORT, SLICES = "cohort", "slices"
PLANT = "label"


@dataclass(frozen=True)
class Walked:
    """A step that is done: its run's folder, its findings, and what was planted against what was found."""

    step: Step
    run: Path
    findings: Sequence[Finding]
    checks: Sequence[Check]

    @property
    def headline(self) -> str:
        """Its report's answer in a sentence or two."""
        return Run.read(self.run).report().headline


def begin(out: Path, steps: Sequence[str], *, size: int, seed: int) -> None:
    """Make ``out`` the folder of this walk.

    Raises UsageError for a step that there is not, and where ``out`` is a file or holds another walk or something else.
    """
    for name in steps:
        if name not in STEPS:
            raise UsageError(f"no step is called '{name}'; there are: {', '.join(STEPS)}")
        if size < least(name):
            raise UsageError(
                f"--size {size}: the step {name} needs {least(name)} patients or more; leave it out by naming others, "
                "as --step labels"
            )
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out needs a folder, which is made if it is not there")
    asked = {"size": size, "seed": seed}
    record = out / RECORD
    if record.exists():
        try:
            found = dict(json.loads(record.read_bytes()))
        except (ValueError, TypeError):
            raise UsageError(f"{record} is not the record of a demonstration; choose another --out") from None
        apart = [
            f"{name} was {found.get(name)}, now {value}" for name, value in asked.items() if found.get(name) != value
        ]
        if apart:
            raise UsageError(
                f"{out} holds a demonstration with other settings: {', '.join(apart)}; choose another --out"
            )
        return
    foreign = sorted(path.name for path in out.iterdir() if path.name != f".{RECORD}.tmp") if out.is_dir() else []
    if foreign:
        raise UsageError(
            f"{out} is not empty and not the folder of a demonstration (it holds '{foreign[0]}' and no {RECORD}); "
            "choose another --out, or an empty folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {out}: {(error.strerror or str(error)).lower()}; choose another --out") from None
    write_atomically(record, (json.dumps(asked, indent=1) + "\n").encode())


def walk(
    out: Path, steps: Sequence[str], *, size: int, seed: int, known: Sequence[Known] = (), jobs: int = -1,
    progress: bool = True,
) -> Iterator[Walked]:  # fmt: skip
    """Yield the steps of those names in the order of the walk, each when it is done; everything is below ``out``.

    ``known``: what was known of the dataset before; each report tells it. A step that these versions finished before
    is read and not made again, and is yielded also where it was not asked for. Raises as :func:`begin` and the audits.
    """
    begin(out, steps, size=size, seed=seed)
    cohort = simulated_images(
        "breast-mri", out / COHORT, plant=PLANT, size=size, seed=seed, jobs=jobs, progress=progress
    )  # fmt: skip
    cohort = replace(cohort, known=tuple(known))
    for step in STEPS.values():
        found = _finished(out / step.name)
        if found is None:
            if step.name not in steps:
                continue
            asked = slices(cohort, out / SLICES) if step.pictures else cohort
            found = step.ask(asked, out / step.name, seed, jobs, progress)
        verdicts = {finding.id: finding.verdict for finding in found}
        yield Walked(step, out / step.name, tuple(found), tuple(step.checks(cohort, verdicts)))


def _finished(run: Path) -> Sequence[Finding] | None:
    """Return the findings of a step that was finished by these versions, else None: it is asked then, or goes on."""
    try:
        found = Run.read(run)
        return found.findings() if found.finished and found.versions == versions() else None
    except (UsageError, DataError):
        return None
