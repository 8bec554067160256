"""Worlds of the study of counterfactuals (`medaudit counterfactuals`): planted graphs, explained of their own rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth.world import Study, Truth, World
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.report import Finding

TELLS = ("shortcut:nodes", "shortcut:size")


def told(size: Truth, duplicates: Truth = "absent") -> dict[str, Truth]:
    """Return the truth: whether the number of nodes tells the class, and whether graphs are there twice.

    Sizes with edges tell a ring from none, so `shortcut:size` is there in every world; the rule always knows the
    classes and every graph has a counterfactual.
    """
    return {"shortcut:nodes": size, "shortcut:size": "there", "duplicates": duplicates, "classifier": "there",
            "flips": "there", "minimal": "there"}  # fmt: skip


WORLDS = {
    "none": World(
        "a ring is the class, and the number of nodes says nothing of it", {"strength": 0.0}, told("absent"),
        kind="null", seeds=200,
    ),
    "none, at the edge": World(
        "the class goes with the number of nodes and is right for 60 %, the least that would be called a shortcut; the "
        "rule is of something else",
        {"strength": 0.0, "told_by_size": 0.6}, dict.fromkeys(TELLS, "absent"),
        kind="null", seeds=100,
    ),
    "size": World("larger graphs have the ring: right for 95 %", {"strength": 0.9}, told("there")),
    "duplicates": World(
        "twelve graphs are there twice, their nodes in another order", {"strength": 0.0, "again": 12},
        told("absent", "there"),
    ),
    "small, none": World(
        "that of `none`, in 24 graphs", {"strength": 0.0, "graphs": 24, "min_graphs": 4},
        {"shortcut:nodes": "absent", "flips": "there"}, kind="small",
    ),
    "small, size": World(
        "that of `size` at 0.3, in 24 graphs", {"strength": 0.3, "graphs": 24, "min_graphs": 4},
        {"shortcut:nodes": "there"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on one set of planted graphs; the classifier is the rule that made their classes."""
    from medaudit.audits.counterfactuals.findings import findings
    from medaudit.audits.counterfactuals.run import gather
    from medaudit.audits.counterfactuals.settings import CounterfactualSettings
    from medaudit.audits.counterfactuals.study import study
    from medaudit.datasets.graphs import simulate
    from medaudit.explanation.counterfactuals.black_box import RuleBox

    rng = np.random.default_rng((95, seed))
    world = simulate.size_shortcut(2 * made.get("graphs", 160), seed=20_000 + seed, strength=made["strength"])
    settings = replace(
        CounterfactualSettings(method="search", baselines=(), explained=made.get("explained", 20)),
        seed=seed, resamples=made.get("resamples", 1_000), min_graphs=made.get("min_graphs", 20),
    )  # fmt: skip
    graphs = _twice(_once(world.graphs, made.get("graphs", 160)), made.get("again", 0), rng)
    if "told_by_size" in made:
        large = np.array([graph.n for graph in graphs.graphs]) > (max(simulate.SMALL) + min(simulate.LARGE)) / 2
        graphs = replace(graphs, y=np.where(rng.random(len(large)) < made["told_by_size"], large, ~large).astype(int))
    found = findings(study(gather(graphs, settings, None, folder, RuleBox(world.oracle), progress=False), settings))
    return [f for f in found if f.id in TELLS] if "told_by_size" in made else found


def _once(graphs: Graphs, most: int) -> Graphs:
    """Return the first ``most`` graphs that are certainly not isomorphic to an earlier one, by networkx."""
    import networkx as nx

    kept, seen = [], set()
    for k, graph in enumerate(graphs.graphs):
        other = nx.Graph(graph.edges.tolist())
        other.add_nodes_from(range(graph.n), kind="0")
        mark = nx.weisfeiler_lehman_graph_hash(other, node_attr="kind", iterations=4)
        if mark not in seen and len(kept) < most:
            kept.append(k)
        seen.add(mark)
    return graphs.some(kept)


def _twice(graphs: Graphs, again: int, rng: np.random.Generator) -> Graphs:
    """Return the graphs and the first ``again`` of them once more, renumbered."""
    more: list[Graph] = [
        graph.renumbered(rng.permutation(graph.n), f"{graph.id}-again") for graph in graphs.graphs[:again]
    ]
    return replace(graphs, graphs=(*graphs.graphs, *more), y=np.concatenate([graphs.y, graphs.y[:again]]))


STUDY = Study(
    "counterfactuals",
    "Counterfactuals: `medaudit counterfactuals`",
    """Whole studies of 160 planted graphs with `--method search`; the classifier is the rule that made the classes, so
    that no net is trained; 20 graphs explained, 1,000 resamples instead of 2,000. `classifier` and `flips` are good
    news. The findings asked have no p-value: they are judged by 95 % intervals.""",
    WORLDS,
    run,
    levelled=("interval",),
    claims="""a shortcut is found only where a 95 % interval lies above chance and a tenth: at that edge in at most
    2.5 % of studies by the number of nodes, and in as many by size""",
)
