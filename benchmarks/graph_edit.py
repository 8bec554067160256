"""Time the bounds of the graph edit distance on pairs of molecules, and measure how far they are from the truth.

    python -m benchmarks.graph_edit [--data ../shared/data] [--pairs 10000] [--peers 40] [--budget 20]

Pairs are drawn from the AIDS graphs of up to 30 nodes; node and edge kinds count and every edit costs 1. The first
table is of all of them, by one process. The second is of fewer, by size, all solved to the end or to the budget:
networkx's graph_edit_distance with a timeout of 10 ms is what the code of arXiv 2501.08850 calls (without kinds; here
with them, as for the others), optimize_graph_edit_distance's first path is its fastest. A pair for which networkx
returns None is counted as such and left out of its mean. Processor time, of one thread.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import networkx as nx
import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.metrics.graph_edit import Distance, edit_distances

Pair = tuple[Graph, Graph]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--peers", type=int, default=40)
    parser.add_argument("--budget", type=float, default=20.0)
    options = parser.parse_args()
    graphs = [graph for graph in read(options.data / "tudataset" / "AIDS" / "raw") if graph.n <= 30]
    rng = np.random.default_rng(0)
    edit_distances([(graphs[0], graphs[1])])  # compiles
    print("| pairs of 1 to 30 nodes | effort | s | pairs / s | mean lower | mean upper | closed % |")
    print("|---|---|---|---|---|---|---|")
    pairs = drawn(graphs, options.pairs, rng)
    for effort in (0, 30, 100, 300):
        found, seconds = timed(lambda e=effort: edit_distances(pairs, effort=e))
        means = f"{mean(d.lower for d in found):.2f} | {mean(d.upper for d in found):.2f}"
        closed = 100 * mean(d.exact for d in found)
        print(f"| {len(pairs):,} | {effort} | {seconds:.1f} | {len(pairs) / seconds:,.0f} | {means} | {closed:.1f} |")
    print()
    print("| nodes | pairs | way | ms a pair | mean lower | mean upper | = exact % | no answer |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for low, high in ((4, 8), (9, 12), (13, 20), (21, 30)):
        some = drawn([graph for graph in graphs if low <= graph.n <= high], options.peers, rng)
        sizes(f"{low}-{high}", some, options.budget)


def sizes(name: str, pairs: list[Pair], budget: float) -> None:
    """Print the rows of one size: what is proven, our bounds, and networkx."""
    proven, seconds = timed(lambda: edit_distances(pairs, budget=budget))
    truth = np.array([d.upper if d.exact else np.nan for d in proven])
    ours(name, f"integer programme, {budget:g} s", proven, truth, seconds)
    for effort in (0, 100, 1_000):
        found, seconds = timed(lambda e=effort: edit_distances(pairs, effort=e))
        ours(name, f"bounds, effort {effort}", found, truth, seconds)
    for way, call in (("networkx, 10 ms", limited), ("networkx, first path", first)):
        answers, seconds = timed(lambda c=call: [c(of_networkx(g), of_networkx(h)) for g, h in pairs])
        values = np.array([np.nan if a is None else a for a in answers], dtype=float)
        row(name, way, len(pairs), seconds, "", values, truth)


def ours(name: str, way: str, found: list[Distance], truth: np.ndarray, seconds: float) -> None:
    lower = f"{mean(d.lower for d in found):.2f}"
    row(name, way, len(found), seconds, lower, np.array([d.upper for d in found]), truth)


def row(name: str, way: str, pairs: int, seconds: float, lower: str, upper: np.ndarray, truth: np.ndarray) -> None:
    known = np.isfinite(truth)
    same = 100 * np.mean(upper[known] == truth[known]) if known.any() else np.nan
    none = int(np.isnan(upper).sum())
    print(
        f"| {name} | {pairs} | {way} | {1_000 * seconds / pairs:.3g} | {lower} | {np.nanmean(upper):.2f} "
        f"| {same:.0f} of {known.sum()} | {none} |",
        flush=True,
    )


def limited(g: nx.Graph, h: nx.Graph) -> float | None:
    return nx.graph_edit_distance(g, h, node_match=same_kind, edge_match=same_kind, timeout=0.01)


def first(g: nx.Graph, h: nx.Graph) -> float | None:
    return next(nx.optimize_graph_edit_distance(g, h, node_match=same_kind, edge_match=same_kind), None)


def same_kind(a: dict[str, int], b: dict[str, int]) -> bool:
    return a["kind"] == b["kind"]


def of_networkx(graph: Graph) -> nx.Graph:
    made = nx.Graph()
    made.add_nodes_from((i, {"kind": kind}) for i, kind in enumerate(graph.nodes.tolist()))
    made.add_edges_from((*pair, {"kind": k}) for pair, k in zip(graph.edges.tolist(), graph.edge_kinds, strict=True))
    return made


def drawn(graphs: list[Graph], count: int, rng: np.random.Generator) -> list[Pair]:
    return [(graphs[i], graphs[j]) for i, j in rng.integers(len(graphs), size=(count, 2))]


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def timed(run: Callable[[], list]) -> tuple[list, float]:
    start = time.process_time()
    found = run()
    return found, time.process_time() - start


def read(folder: Path) -> list[Graph]:
    """Return the graphs of a folder in TU text format."""
    edges, of, kinds, bonds = (
        np.loadtxt(folder / f"AIDS_{what}.txt", delimiter=",", dtype=int)
        for what in ("A", "graph_indicator", "node_labels", "edge_labels")
    )
    graphs = []
    for k in range(1, of.max() + 1):
        at = of[edges[:, 0] - 1] == k
        graphs.append(Graph.of(str(k), kinds[of == k], edges[at] - 1 - np.argmax(of == k), bonds[at]))
    return graphs


if __name__ == "__main__":
    main()
