"""Time the bounds of the graph edit distance on pairs of molecules, and measure how far they are from the truth.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.graph_edit [--data ../shared/data] [--pairs 10000] [--peers 40]
                                                              [--budget 20] [--gedlib 1000]

Pairs are drawn from the AIDS graphs of up to 30 nodes; node and edge kinds count and every edit costs 1. The first
table is of all of them, by one process. The second is of fewer, by size, all solved to the end or to the budget:
networkx's graph_edit_distance with a timeout of 10 ms is what the code of arXiv 2501.08850 calls (without kinds; here
with them, as for the others), optimize_graph_edit_distance's first path is its fastest. A pair for which networkx
returns None is counted as such and left out of its mean. Processor time, of one thread.

The third is of the first pairs of the first table, beside GEDLIB: $MEDAUDIT_PEERS/gedlib is a clone of
github.com/dbblumenthal/gedlib at b017848c7; with the assignment solver of later commits BRANCH_TIGHT gets worse by its
own iterations. g++ compiles gedlib_driver.cpp, beside this file, against it (a minute), to a gedlib_driver beside the
clone; what only its learned methods ask of other libraries is left unresolved. All distances are whole here, so that
GEDLIB's lower bounds may be rounded up as ours are. A lower bound above an upper one, of whichever methods, is refuted.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import networkx as nx
import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.metrics.graph_edit import Distance, edit_distances

Pair = tuple[Graph, Graph]

DRIVER = Path(__file__).with_name("gedlib_driver.cpp")
PEERS = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere"))
START = "--randomness PSEUDO --initialization-method BRANCH_FAST"
GEDLIB = {
    "NODE": ("NODE", ""),
    "STAR": ("STAR", ""),
    "BIPARTITE": ("BIPARTITE", ""),
    "BRANCH": ("BRANCH", ""),
    "BRANCH_FAST": ("BRANCH_FAST", ""),
    "BRANCH_TIGHT, to 1 %": ("BRANCH_TIGHT", ""),
    "BRANCH_TIGHT, 20 rounds": ("BRANCH_TIGHT", "--iterations 20 --epsilon 0"),
    "BRANCH_TIGHT, 100 rounds": ("BRANCH_TIGHT", "--iterations 100 --epsilon 0"),
    "REFINE": ("REFINE", START),
    "REFINE, 40 starts": ("REFINE", f"{START} --initial-solutions 40"),
    "REFINE, 40 starts, 3 of RANDPOST": ("REFINE", f"{START} --initial-solutions 40 --num-randpost-loops 3"),
    "IPFP": ("IPFP", START),
    "IPFP, 10 starts": ("IPFP", f"{START} --initial-solutions 10"),
    "IPFP, 40 starts": ("IPFP", f"{START} --initial-solutions 40"),
    "IPFP, 40 starts, BRANCH_TIGHT": ("IPFP", f"{START} --initial-solutions 40 --lower-bound-method BRANCH_TIGHT"),
    "ANCHOR_AWARE_GED, 0.1 s": ("ANCHOR_AWARE_GED", "--time-limit 0.1"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--peers", type=int, default=40)
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--gedlib", type=int, default=1_000)
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
    print()
    if (PEERS / "gedlib").is_dir():
        beside_gedlib(pairs[: options.gedlib])
    else:
        print("GEDLIB is not measured: $MEDAUDIT_PEERS/gedlib is not there.")


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


def beside_gedlib(pairs: list[Pair]) -> None:
    """Print our bounds and GEDLIB's of the same pairs, and every lower bound that an upper one refutes."""
    driver, text = built(), written(pairs)
    print("| method | pairs | ms a pair | mean lower | rounded up | mean upper | closed % | refuted |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    bounds = {}
    for effort in (0, 30, 100, 300):
        found, seconds = timed(lambda e=effort: edit_distances(pairs, effort=e))
        bounds[f"medaudit, effort {effort}"] = np.array([(d.lower, d.upper) for d in found]), seconds
    for name, call in GEDLIB.items():
        answer = subprocess.run([driver, *call], input=text, capture_output=True, text=True, check=True).stdout
        prepared, *rows = (np.array(line.split(), dtype=float) for line in answer.splitlines())
        table = np.array(rows)
        bounds[f"GEDLIB, {name}"] = table[:, :2], prepared[0] + table[:, 2].sum()
    lowers = {name: np.ceil(both[:, 0] - 1e-6) for name, (both, _) in bounds.items()}
    uppers = {name: both[:, 1] for name, (both, _) in bounds.items()}
    refuted = {name: lower > np.min(list(uppers.values()), axis=0) for name, lower in lowers.items()}
    for name, (both, seconds) in bounds.items():
        print(
            f"| {name} | {len(pairs):,} | {1_000 * seconds / len(pairs):.3g} | {both[:, 0].mean():.2f} "
            f"| {lowers[name].mean():.2f} | {uppers[name].mean():.2f} "
            f"| {100 * np.mean(lowers[name] >= uppers[name]):.1f} | {refuted[name].sum()} |"
        )
    print()
    known = []
    for whose in ("medaudit", "GEDLIB"):
        sound = [name for name in bounds if name.startswith(whose) and not refuted[name].any()]
        lower = np.max([lowers[name] for name in sound], axis=0)
        known.append(np.where(lower == (upper := np.min([uppers[name] for name in sound], axis=0)), upper, np.nan))
        print(f"{whose} knows {np.isfinite(known[-1]).sum():,} distances, by methods of which no bound is refuted.")
    both_know = np.isfinite(known).all(axis=0)
    print(f"Both know {both_know.sum():,}, of which {(known[0] == known[1]).sum():,} are the same.")
    for name, at in refuted.items():
        if at.any():
            k = int(np.argmax(at))
            by = min(uppers, key=lambda other, k=k: uppers[other][k])
            print(
                f"{name}: refuted first at graphs {pairs[k][0].id} and {pairs[k][1].id}, whose distance it says is "
                f"{lowers[name][k]:g} or more; {by} has edits of {uppers[by][k]:g}."
            )


def built() -> Path:
    """Return the driver of GEDLIB, compiled if there is none as new as its source."""
    made, root = PEERS / "gedlib_driver", PEERS / "gedlib"
    if not made.exists() or made.stat().st_mtime < DRIVER.stat().st_mtime:
        parts = (
            "boost.1.69.0", "nomad.3.8.1/ext/sgtelib/src", "nomad.3.8.1/src", "lsape.5/include", "eigen.3.3.4/Eigen",
            "libsvm.3.22", "fann.2.2.0/include",
        )  # fmt: skip
        folders = [f"-I{root}", *(f"-I{root / 'ext' / part}" for part in parts)]
        flags = ["-std=c++11", "-O3", "-DNDEBUG", "-march=native", "-w", "-no-pie"]
        call = ["g++", *flags, *folders, DRIVER, "-Wl,--unresolved-symbols=ignore-all", "-o", made]
        subprocess.run(call, check=True)
    return made


def written(pairs: list[Pair]) -> str:
    """Return the graphs and the pairs as the driver reads them."""
    places = {id(graph): graph for pair in pairs for graph in pair}
    numbers = {key: k for k, key in enumerate(places)}
    lines = [f"{len(places)}"]
    for graph in places.values():
        lines += [f"{graph.n} {len(graph.edges)}", " ".join(map(str, graph.nodes))]
        lines += [f"{i} {j} {kind}" for (i, j), kind in zip(graph.edges, graph.edge_kinds, strict=True)]
    lines += [f"{len(pairs)}", *(f"{numbers[id(g)]} {numbers[id(h)]}" for g, h in pairs)]
    return "\n".join(lines) + "\n"


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
