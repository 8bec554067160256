"""Run the study of docs/studies/counterfactuals.md: counterfactuals of molecules, proteins and connectomes.

    python -m benchmarks.counterfactual_study --data ../shared/data --work FOLDER [--sets MUTAG AIDS NCI1 ENZYMES ABIDE]

What is finished in ``--work`` is not done again. Prints a row a set, seed and method.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.counterfactuals.run import audit_counterfactuals
from medaudit.audits.counterfactuals.settings import CounterfactualSettings
from medaudit.cohort.graphs import Graphs
from medaudit.datasets.graphs import connectomes, tudataset
from medaudit.errors import DataError
from medaudit.explanation.counterfactuals.black_box import EdgeScoreBox
from medaudit.explanation.counterfactuals.explain import How, explain, targets_of
from medaudit.explanation.counterfactuals.search import Search

SETS: dict[str, dict] = {
    "MUTAG": {"largest": 28},
    "AIDS": {"largest": 30, "rarest": 50},
    "NCI1": {"largest": 50, "rarest": 50},
    "ENZYMES": {"largest": 40, "target": "1"},
}
METHODS = ("both", "paper", "random", "nearest", "mean")


def read(data: Path, name: str) -> Graphs:
    """Return a set."""
    return tudataset.read(data / "tudataset" / name)


def one(data: Path, work: Path, name: str, seed: int, explained: int) -> None:
    """Run a set and seed, unless it is there."""
    settings = CounterfactualSettings(
        baselines=METHODS[1:], explained=explained, features=False, seed=seed, **SETS[name]
    )
    out = work / f"{name}-{seed}"
    refused = work / f"{name}-{seed}.refused"
    if refused.exists():
        return
    try:
        audit_counterfactuals(read(data, name), settings, out=out)
    except DataError as error:
        refused.write_text(str(error))


def rows(work: Path, name: str, seed: int) -> list[str]:
    """Return the rows of a run."""
    refused = work / f"{name}-{seed}.refused"
    if refused.exists():
        return [f"| {name}, {seed} | refused: {refused.read_text()} | | | | | |"]
    table = pl.read_parquet(work / f"{name}-{seed}" / "measurements.parquet")
    found = []
    for method in METHODS:
        some = table.filter(pl.col("method") == method)
        flips = some.filter(pl.col("flips"))
        by = (
            ", ".join(f"{k} {n}" for k, n in sorted(flips["by"].value_counts().iter_rows())) if method == "both" else ""
        )
        lower, upper, after = (_mean(flips[column]) for column in ("distance_lower", "distance_upper", "nodes_after"))
        needed = f"{100 * flips['minimal'].mean():.0f} %" if flips.height else ""
        found.append(
            f"| {name}, {seed} | {method} | {100 * some['flips'].mean():.0f} % of {some.height} | {lower} to {upper} | "
            f"{needed} | {some['nodes'].mean():.1f} to {after} | {by} |"
        )
    claims = {f["id"]: f["claim"] for f in json.loads((work / f"{name}-{seed}" / "findings.json").read_text())}
    told = [f"{k}: {claims[k]}" for k in ("shortcut:nodes", "duplicates", "classifier", "rebuilds", "plausible")]
    return [*found, *[f"| {name}, {seed} | {line} | | | | | |" for line in told]]


def _mean(values: pl.Series) -> str:
    return f"{values.mean():.1f}" if len(values) else "none"


def abide(data: Path) -> str:
    """Return how the rule's optima on connectomes are reached."""
    graphs = connectomes.read_matrices(data / "abide_connectomes")
    constant, td, asd = connectomes.ASD_RULE_WEIGHTS
    weights = np.zeros((116, 116))
    for regions, weight in ((connectomes.ASD_RULE_TD, td), (connectomes.ASD_RULE_ASD, asd)):
        weights[np.ix_(list(regions), list(regions))] += weight
    np.fill_diagonal(weights, 0)
    box = EdgeScoreBox(constant, weights)
    targets = targets_of(box.probabilities(graphs.graphs).argmax(1), 2)
    found = explain(graphs.graphs, targets, box, None, graphs, 116, How("search", search=Search(edits=60, tried=16)))
    edits = np.array([one.edits for one in found])
    best = np.array([connectomes.asd_rule_optimum(graph) for graph in graphs])
    near = explain(graphs.graphs, targets, box, None, graphs, 116, How("instance", instances=1))
    back = np.mean([one.edits for one in near])
    return (
        f"ABIDE: {len(edits)} subjects, {edits.mean():.2f} edits on average, the optimum {best.mean():.2f}; "
        f"reached for {(edits == best).sum()}; from the nearest real subject back: {back:.2f}"
    )


def main() -> None:
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=[*SETS, "ABIDE"], choices=[*SETS, "ABIDE"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--explain", type=int, default=50)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    print("| set, seed | method | flips | distance | every edit needed | nodes | by |\n|---|---|---|---|---:|---|---|")
    for seed in asked.seeds:
        for name in asked.sets:
            if name in SETS:
                one(asked.data, asked.work, name, seed, asked.explain)
                print("\n".join(rows(asked.work, name, seed)), flush=True)
    if "ABIDE" in asked.sets:
        print(abide(asked.data))


if __name__ == "__main__":
    main()
