"""Does the diagnosis name the planted cause? Simulated worlds with known causes, planted against named.

    python -m benchmarks.planted_causes [--worlds 20] [--size 270] [--processes 2] [--out FOLDER]

Each world is a simulated breast-MRI cohort of its own seed: images are made, models are trained on a CPU (preset
`fast`, two folds), and the causes are named from their scores. A world counts as right if exactly the planted ones of
label bias, representation and difficulty imbalance are named. What was done is kept in FOLDER and not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from joblib import Parallel, delayed

PLANTS = {
    "label": {"label_bias"},
    "representation": {"representation"},
    "imbalance": {"difficulty_imbalance"},
    "both": {"label_bias", "representation"},
    "none": set(),
}
ROOTS = ("label_bias", "representation", "difficulty_imbalance")
"""The causes that can be planted; the ruler and amplification are their consequences."""
CAUSES = (*ROOTS, "ruler", "amplification", "source_confounding")
FALLING = (120, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--size", type=int, default=270)
    parser.add_argument("--first-seed", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--falling-worlds", type=int, default=5, help="Worlds of each smaller size and plant.")
    parser.add_argument("--out", type=Path, default=Path("runs/planted-causes"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = range(options.first_seed, options.first_seed + options.worlds)
    asked = [(plant, seed, options.size) for seed in seeds for plant in PLANTS]
    few = list(seeds)[: options.falling_worlds]
    asked += [(plant, seed, size) for size in FALLING for seed in few for plant in ("label", "representation", "none")]
    start = time.perf_counter()
    worlds = []
    pool = Parallel(n_jobs=options.processes, return_as="generator_unordered")
    for done in pool(delayed(world)(*which, options.out) for which in asked):
        worlds.append(done)
        said = f"{done['plant']} {done['seed']} n={done['size']}: {', '.join(named(done)) or '-'}"
        print(f"{len(worlds)}/{len(asked)} {said} ({done['seconds']:.0f} s)", file=sys.stderr, flush=True)
    report(worlds, options.size, time.perf_counter() - start)


def world(plant: str, seed: int, size: int, out: Path) -> dict:
    """Return the verdicts of one world, from ``out`` if it was done before."""
    from medaudit.audits.diagnosis.run import diagnose_cohort
    from medaudit.audits.diagnosis.settings import Settings
    from medaudit.audits.simulated import simulated_beside

    folder = out / f"{plant}-{seed}-{size}"
    kept = out / f"{folder.name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    start = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    cohort = simulated_beside(folder, "breast-mri", plant=plant, size=size, seed=seed, jobs=1)
    settings = Settings(
        by="age:40,55", within="source", preset="fast", folds=2, seed=seed, resamples=2_000, min_patients=10,
        trainings=("difficulty-balanced", "silver-trained"),
    )  # fmt: skip
    result = diagnose_cohort(cohort, settings, out=folder, jobs=1, progress=False)
    said = {
        "plant": plant,
        "seed": seed,
        "size": size,
        "seconds": time.perf_counter() - start,
        "trainings": list(result.evidence.design.names),
        "baseline": float(result.evidence.models.draws.observed[0].mean()),
        "findings": {
            f.id: {
                "verdict": f.verdict,
                "value": f.estimate.as_dict()["value"],
                "p": f.estimate.as_dict()["p_adjusted"],
            }
            for f in result.findings
        },
    }
    kept.write_text(json.dumps(said))
    shutil.rmtree(folder)
    shutil.rmtree(folder.with_name(f"{folder.name}-images"))
    return said


def named(done: dict, among: Iterable[str] = CAUSES) -> list[str]:
    return [cause for cause in among if done["findings"][cause]["verdict"] == "supported"]


def report(worlds: list[dict], size: int, seconds: float) -> None:
    full = [done for done in worlds if done["size"] == size]
    print("| planted | worlds | exactly right | " + " | ".join(f"named {cause}" for cause in CAUSES) + " |")
    print("|---|---|---|" + "---|" * len(CAUSES))
    right_all = 0
    for plant, planted in PLANTS.items():
        some = [done for done in full if done["plant"] == plant]
        right = sum(set(named(done, ROOTS)) == planted for done in some)
        right_all += right
        counts = [sum(cause in named(done) for done in some) for cause in CAUSES]
        print(f"| {plant} | {len(some)} | {right} | " + " | ".join(str(n) for n in counts) + " |")
    seeds = sorted({done["seed"] for done in full})
    print(f"\n{right_all} of {len(full)} worlds exactly right (seeds {seeds[0]} to {seeds[-1]}, n = {size}).\n")
    print("| n | planted | worlds | supported / insufficient / refuted: the planted cause, of `none` label bias |")
    print("|---|---|---|---|")
    for n in sorted({done["size"] for done in worlds}, reverse=True):
        for plant in ("label", "representation", "none"):
            some = [done for done in worlds if done["plant"] == plant and done["size"] == n]
            cause = next(iter(PLANTS[plant]), "label_bias")
            verdicts = [done["findings"][cause]["verdict"] for done in some]
            told = " / ".join(str(verdicts.count(word)) for word in ("supported", "insufficient", "refuted"))
            print(f"| {n} | {plant} | {len(some)} | {told} |")
    spent = sum(done["seconds"] for done in worlds)
    print(f"\n{len(worlds)} worlds, {spent / len(worlds):.0f} s a world on one core; this call {seconds:.0f} s.")


if __name__ == "__main__":
    main()
