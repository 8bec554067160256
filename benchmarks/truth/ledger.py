"""The ledger of a study: a JSON line for each (world, seed) that was done; a killed run goes on after the last one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from joblib import Parallel, delayed

from benchmarks.truth.world import Study, World
from medaudit.report import Finding

Family = Literal["primary", "exploratory", "interval"]


@dataclass(frozen=True)
class Line:
    """What one study of one cohort said: verdict and family of each finding.

    A finding's family is ``primary`` (corrected by Holm), ``exploratory`` (by Benjamini-Hochberg), or ``interval``:
    without a p-value, judged by the limits of an interval.
    """

    world: str
    seed: int
    key: str
    verdicts: dict[str, str]
    families: dict[str, Family]
    seconds: float


def done(study: Study, work: Path) -> list[Line]:
    """Return the lines of a study's worlds as they are defined now; a line that was cut short is passed over."""
    path = work / f"{study.name}.jsonl"
    lines = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = Line(**json.loads(text))
        except (ValueError, TypeError):
            continue
        if line.world in study.worlds and study.worlds[line.world].key == line.key:
            lines[line.world, line.seed] = line
    return list(lines.values())


def fill(study: Study, work: Path, *, seeds: int | None, jobs: int, worlds: Sequence[str] = ()) -> Iterator[Line]:
    """Yield each line that was missing of the first ``seeds`` of every world (its own number if None), as it is done.

    All worlds' first seeds come before all second ones, so that a run that is stopped is balanced.
    """
    work.mkdir(parents=True, exist_ok=True)
    there = {(line.world, line.seed) for line in done(study, work)}
    wanted = [
        (seed, name)
        for name, world in study.worlds.items()
        if not worlds or name in worlds
        for seed in range(world.seeds if seeds is None else seeds)
        if (name, seed) not in there
    ]
    path = work / f"{study.name}.jsonl"
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:  # a killed run's half line stays one, and is passed over
            file.write("\n")
    calls = (delayed(judged)(study, name, study.worlds[name], seed, work) for seed, name in sorted(wanted))
    for line in Parallel(n_jobs=jobs, return_as="generator_unordered")(calls):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
        yield line


def judged(study: Study, name: str, world: World, seed: int, work: Path) -> Line:
    """Return the verdicts of a study on one cohort of a world; what it wrote meanwhile is removed."""
    folder = work / f"{study.name}-{name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    try:
        findings = study.run(world.made, seed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Line(
        name,
        seed,
        world.key,
        {finding.id: finding.verdict for finding in findings},
        {finding.id: family(finding) for finding in findings},
        round(time.perf_counter() - start, 2),
    )


def family(finding: Finding) -> Family:
    """Return which correction a finding's p-value had: the study says so in what the finding rests on."""
    for note in finding.rests_on:
        if note.startswith("p adjusted by Holm"):
            return "primary"
        if note.startswith("p adjusted by Benjamini-Hochberg"):
            return "exploratory"
    return "interval"
