"""Plant a shortcut at several strengths, train a model of prototypes on each world, and see what the audit finds.

    python -m benchmarks.planted_shortcuts --work FOLDER [--strengths 0 0.3 0.9] [--seeds 11 12 13] [--jobs 2]

A world is 6,000 simulated pictures in which a shortcut goes with a sign at a correlation, one training of the preset
`cpu-tiny` with 32 prototypes, and an audit on 2,000 other pictures in which nothing goes together. What is finished in
``--work`` is not done again. Prints for each strength, of all worlds there, how often the shortcut was found (either
way), how often the control was, and how often the carriers lie where what they carry is.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import binom

from medaudit.audits.prototypes.run import audit_simulated
from medaudit.audits.prototypes.settings import AuditSettings, TrainSettings
from medaudit.workers import in_processes

SIZE = 6_000
WORLDS = {"lesions": ("ruler", "disease", "ink"), "chest": ("pacemaker", "cardiomegaly", "laterality")}
"""A simulator, its shortcut, its sign and its control."""


@dataclass(frozen=True)
class World:
    """A simulated cohort and a training."""

    simulator: str
    strength: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.simulator}-{self.strength:g}-{self.seed}"


def run(world: World, work: Path) -> World:
    """Train and audit a world; its findings stay in ``work``, its images and weights do not."""
    kept = work / f"{world.name}.json"
    if not kept.exists():
        shortcut = WORLDS[world.simulator][0]
        out = work / world.name
        done = audit_simulated(
            world.simulator, f"{shortcut}:{world.strength:g}", SIZE,
            TrainSettings(preset="cpu-tiny", test_share=0.0, seed=world.seed),
            AuditSettings(seed=world.seed, drawn=0, leaks=0), out=out, progress=False,
        )  # fmt: skip
        kept.write_text(json.dumps([finding.as_dict() for finding in done.findings]))
        for folder in (out, *(out.with_name(f"{out.name}-{part}") for part in ("images", "probe", "model"))):
            shutil.rmtree(folder, ignore_errors=True)
    return world


def main() -> None:
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--simulator", default="lesions", choices=WORLDS)
    parser.add_argument("--strengths", nargs="*", type=float, default=[0.0, 0.1, 0.2, 0.3, 0.6, 0.9])
    parser.add_argument("--seeds", nargs="*", type=int, default=[11, 12, 13])
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    worlds = [World(asked.simulator, rho, seed) for seed in asked.seeds for rho in asked.strengths]
    for world in in_processes(partial(run, work=asked.work), worlds, asked.jobs):
        print(f"done: {world.name}", flush=True)
    print(table(asked.work, asked.simulator))


def table(work: Path, simulator: str) -> str:
    """Return the table of all worlds of a simulator in ``work``."""
    shortcut, sign, control = WORLDS[simulator]
    by_strength: dict[float, list[dict[str, dict]]] = {}
    for path in sorted(work.glob(f"{simulator}-*.json")):
        rho = float(path.stem.split("-")[1])
        by_strength.setdefault(rho, []).append({one["id"]: one for one in json.loads(path.read_text())})
    lines = [
        f"| {shortcut} with {sign} | worlds | found | 95 % | absorbed | {control} found | {shortcut} brings {sign}, "
        f"points | {sign} brings {shortcut} | {shortcut} located | {sign} located |",
        "|---:|---:|---:|---|---:|---:|---|---|---:|---:|",
    ]
    for rho, some in sorted(by_strength.items()):
        between = (f"{shortcut}->{sign}", f"{sign}->{shortcut}")
        yes = sum(any(_is(one, f"shortcut:{pair}") for pair in between) for one in some)
        taken = sum(any(_is(one, f"absorbed:{pair}") for pair in between) for one in some)
        wrong = sum(any(_is(one, name) for name in one if name.startswith("shortcut:") and control in name)
                    for one in some)  # fmt: skip
        low, high = _exact(yes, len(some))
        cells = [f"{rho:g}", len(some), yes, f"{100 * low:.0f} to {100 * high:.0f} %", taken, wrong,
                 *(_points(some, f"shortcut:{pair}") for pair in between),
                 *(sum(_is(one, f"located:{name}") for one in some) for name in (shortcut, sign))]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _points(some: list[dict[str, dict]], name: str) -> str:
    values = [one[name]["estimate"]["value"] for one in some]
    return ", ".join("not told" if v is None else f"{100 * v:.0f}" for v in values)


def _is(one: dict[str, dict], name: str) -> bool:
    return name in one and one[name]["verdict"] == "supported"


def _exact(successes: int, n: int) -> tuple[float, float]:
    """Return Clopper's and Pearson's interval, found on a fine grid."""
    grid = np.linspace(0, 1, 10_001)
    inside = (binom.cdf(successes, n, grid) > 0.025) & (binom.sf(successes - 1, n, grid) > 0.025)
    return float(grid[inside][0]), float(grid[inside][-1])


if __name__ == "__main__":
    main()
