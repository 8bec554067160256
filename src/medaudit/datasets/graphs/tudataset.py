"""TUDataset's text format: molecules and proteins as graphs, Morris et al. 2020, https://chrsmrrs.github.io/datasets/.

A folder NAME holds, flat or under ``raw/``, with ids counted from 1 over all graphs::

    NAME_A.txt                 "i, j", an edge a line, each in both directions
    NAME_graph_indicator.txt   the graph of each node, in order
    NAME_graph_labels.txt      the class of each graph
    NAME_node_labels.txt       the kind of each node                    (may be missing)
    NAME_edge_labels.txt       the kind of each line of NAME_A.txt      (may be missing)
    NAME_node_attributes.txt   numbers of each node                     (may be missing)
    NAME_edge_attributes.txt   numbers of each line of NAME_A.txt       (may be missing)

AIDS and Mutagenicity come from the IAM database (Riesen & Bunke 2008), free for non-commercial research; NCI1 from
PubChem (Wale et al. 2008), public; MUTAG from Debnath et al. 1991, ENZYMES from BRENDA (Borgwardt et al. 2005), neither
with a licence. All are read from your disk; none is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medaudit.cohort.cohort import Source
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.number_files import line_of, numbers
from medaudit.errors import DataError, UsageError

RAREST = 50
"""The paper's filter: a node kind that occurs this often or less, in all graphs together, is too rare to learn."""


@dataclass(frozen=True)
class _Legend:
    """What the codes of a set mean: node kinds from code 0, edge kinds from code 0, classes in order of their code."""

    nodes: tuple[str, ...] = ()
    edges: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    licence: str = ""


_IAM = "free for non-commercial research (IAM graph database)"
_BONDS = ("single", "double", "triple")
LEGENDS: dict[str, _Legend] = {
    "AIDS": _Legend(
        (
            "C", "O", "N", "Cl", "F", "S", "Se", "P", "Na", "I", "Co", "Br", "Li", "Si", "Mg", "Cu", "As", "B", "Pt",
            "Ru", "K", "Pd", "Au", "Te", "W", "Rh", "Zn", "Bi", "Pb", "Ge", "Sb", "Sn", "Ga", "Hg", "Ho", "Tl", "Ni",
            "Tb",
        ),
        _BONDS, ("active", "inactive"), _IAM,
    ),
    "Mutagenicity": _Legend(
        ("C", "O", "Cl", "H", "N", "F", "Br", "S", "P", "I", "Na", "K", "Li", "Ca"),
        _BONDS, ("mutagen", "nonmutagen"), _IAM,
    ),
    "MUTAG": _Legend(
        ("C", "N", "O", "F", "I", "Cl", "Br"),
        ("aromatic", *_BONDS), ("nonmutagen", "mutagen"), "no licence stated: use here, never ship",
    ),
    "NCI1": _Legend(licence="public (PubChem)"),
}  # fmt: skip
"""The sets whose codes are known; of others, as NCI1's 37 kinds of atoms, the codes are the names."""


def is_one(folder: str | Path) -> bool:
    """Whether a folder, or ``raw/`` in it, has TUDataset's edges, ``NAME_A.txt``."""
    return any(sorted(place.glob("*_A.txt")) for place in (Path(folder) / "raw", Path(folder)))


def read(folder: str | Path) -> Graphs:
    """Return the graphs of a TUDataset folder, as PyTorch Geometric reads them but without one-hot codes.

    Node and edge kinds are codes less the smallest code, classes are the sorted codes; loops are left out and an edge
    given twice is one edge. An edge in one direction only counts as an edge; this, and loops, are noted. Several
    columns of node or edge labels become one kind for each combination. A single edge attribute becomes the weights,
    several are left out with a note. The k-th graph is ``NAME_k``.

    Raises DataError, naming the file and line, for a missing file, a node that is not there, an indicator that is not
    in order, a graph without nodes, an edge between two graphs, an edge given twice with different kinds, and for what
    is no number.
    """
    raw, name = _found(Path(folder))
    of = {
        what: raw / f"{name}_{what}.txt"
        for what in ("A", "graph_indicator", "graph_labels", "node_labels", "node_attributes", "edge_labels",
                     "edge_attributes")
    }  # fmt: skip
    for what in ("graph_indicator", "graph_labels"):
        if not of[what].is_file():
            raise DataError(f"{of[what]}: no such file; TUDataset's {name} needs it beside {name}_A.txt")
    legend = LEGENDS.get(name, _Legend())
    starts = _starts(of["graph_indicator"])
    n, count = int(starts[-1]), len(starts) - 1
    y, classes = _classes(of["graph_labels"], count, legend.classes)
    nodes, node_names = _kinds(of["node_labels"], n, "nodes", legend.nodes, "node")
    features = None
    if of["node_attributes"].is_file():
        features = _rows(of["node_attributes"], n, "nodes")
    notes: list[str] = []

    ends = numbers(of["A"], whole=True, columns=2) - 1
    bonds, edge_names = _kinds(of["edge_labels"], len(ends), f"lines of {name}_A.txt", legend.edges, "edge")
    weights = None
    if of["edge_attributes"].is_file():
        values = _rows(of["edge_attributes"], len(ends), f"lines of {name}_A.txt")
        if values.shape[1] == 1:
            weights = values[:, 0]
        else:
            notes.append(f"{of['edge_attributes'].name} has {values.shape[1]} numbers an edge; they are left out.")
    _check_ends(of["A"], ends, starts)
    pairs, bonds, weights, said = _coalesced(of["A"], ends, bonds, weights, n)
    notes += said

    cuts = np.searchsorted(pairs[:, 0], starts)  # pairs are in order of their lower node, so of their graph
    local = pairs - np.repeat(starts[:-1], np.diff(cuts))[:, None]
    made = tuple(
        # All that Graph.of checks holds by now, for all graphs at once; calling it for each takes ten times as long.
        Graph(
            f"{name}_{k + 1}",
            nodes[starts[k] : starts[k + 1]],
            local[cuts[k] : cuts[k + 1]],
            bonds[cuts[k] : cuts[k + 1]],
            None if weights is None else weights[cuts[k] : cuts[k + 1]],
            None if features is None else features[starts[k] : starts[k + 1]],
        )
        for k in range(count)
    )
    source = Source(
        f"TUDataset {name}",
        legend.licence or "not stated: research use",
        "Morris C, Kriege NM, Bause F, et al. TUDataset: a collection of benchmark datasets for learning with graphs. "
        "ICML 2020 Workshop on Graph Representation Learning and Beyond. arXiv:2007.08663",
        "https://chrsmrrs.github.io/datasets/",
    )
    return Graphs(name, made, y, classes, node_names, edge_names, notes=tuple(notes), source=source)


def filtered(graphs: Graphs, largest: int, rarest: int = RAREST) -> Graphs:
    """Return the graphs of at most ``largest`` nodes, none of which has a kind that occurs ``rarest`` times or less.

    That is counted over all nodes of the set, before anything is left out, as by Hansen et al. 2025
    (github.com/abildtrup/latent-graph-counterfactuals): 1,635 of AIDS (30), 3,935 of Mutagenicity (50), 3,678 of NCI1
    (50). Node kinds that are then in no graph lose their number: of AIDS 9 are left. Raises UsageError where no graph
    is left.
    """
    counts = np.bincount(np.concatenate([graph.nodes for graph in graphs]), minlength=len(graphs.node_kinds))
    rare = counts <= rarest
    rows = [i for i, graph in enumerate(graphs) if graph.n <= largest and not rare[graph.nodes].any()]
    if not rows:
        raise UsageError(
            f"{graphs.name}: no graph has {largest} nodes or fewer and only kinds that occur more than {rarest} times; "
            "ask for less"
        )
    kept = graphs.some(
        rows,
        f"{len(rows):,} of {len(graphs):,} graphs are kept: {largest} nodes or fewer, no node kind that occurs "
        f"{rarest} times or less.",
    )
    used = np.unique(np.concatenate([graph.nodes for graph in kept]))
    place = np.zeros(len(graphs.node_kinds), dtype=np.int64)
    place[used] = np.arange(len(used))
    made = tuple(replace(graph, nodes=place[graph.nodes]) for graph in kept)
    return replace(kept, graphs=made, node_kinds=tuple(graphs.node_kinds[k] for k in used))


def _found(folder: Path) -> tuple[Path, str]:
    """Return the folder that holds the files, and the set's name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of TUDataset, as MUTAG/")
    for raw in (folder / "raw", folder):
        names = [path.name.removesuffix("_A.txt") for path in sorted(raw.glob("*_A.txt"))]
        if len(names) > 1:
            raise DataError(f"{raw}: holds several sets ({', '.join(names)}); expected one NAME_A.txt")
        if names:
            return raw, names[0]
    raise DataError(f"{folder}: has no NAME_A.txt, nor has raw/ in it; is it a folder of TUDataset?")


def _starts(path: Path) -> np.ndarray:
    """Return (graphs + 1,): the first node of each graph, and after the last."""
    graph_of = numbers(path, whole=True, columns=1)[:, 0]
    if not len(graph_of):
        raise DataError(f"{path}: is empty; expected the graph of each node")
    if (back := np.diff(graph_of) < 0).any():
        row = int(np.flatnonzero(back)[0]) + 1
        raise DataError(
            f"{path}, line {line_of(path, row)}: graph {graph_of[row]} after graph {graph_of[row - 1]}; expected the "
            "nodes of one graph after those of another, in order"
        )
    if graph_of[0] != 1:
        raise DataError(f"{path}, line {line_of(path, 0)}: begins with graph {graph_of[0]}; graphs are counted from 1")
    if (gap := np.diff(graph_of) > 1).any():
        row = int(np.flatnonzero(gap)[0]) + 1
        raise DataError(f"{path}, line {line_of(path, row)}: graph {graph_of[row - 1] + 1} has no nodes")
    return np.concatenate([[0], np.flatnonzero(np.diff(graph_of)) + 1, [len(graph_of)]])


def _rows(path: Path, count: int, what: str, *, whole: bool = False) -> np.ndarray:
    found = numbers(path, whole=whole)
    if len(found) != count:
        raise DataError(f"{path}: has {len(found)} rows; expected one for each of {count} {what}")
    return found


def _classes(path: Path, count: int, legend: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    labels = numbers(path, whole=True, columns=1)[:, 0]
    if len(labels) > count:
        raise DataError(f"{path}: has {len(labels)} rows, but graph {count + 1} has no nodes in the indicator")
    if len(labels) < count:
        raise DataError(f"{path}: has {len(labels)} rows; expected one for each of {count} graphs")
    codes, y = np.unique(labels, return_inverse=True)
    names = legend if len(legend) == len(codes) else tuple(str(code) for code in codes)
    return y.ravel().astype(np.int64), names


def _kinds(
    path: Path, count: int, what: str, legend: tuple[str, ...], otherwise: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (count,) kinds from 0, and their names: by the legend, or the codes."""
    if not path.is_file():
        return np.zeros(count, dtype=np.int64), (otherwise,)
    labels = _rows(path, count, what, whole=True)
    if not count:
        return np.zeros(0, dtype=np.int64), (otherwise,)
    if labels.shape[1] > 1:
        rows, which = np.unique(labels, axis=0, return_inverse=True)
        return which.ravel().astype(np.int64), tuple(",".join(str(code) for code in row) for row in rows.tolist())
    codes = labels[:, 0]
    low, high = int(codes.min()), int(codes.max())
    if high - low > 1_000_000:
        raise DataError(f"{path}: has codes from {low} to {high}; expected kinds, counted without such gaps")
    names = tuple(legend[code] if 0 <= code < len(legend) else str(code) for code in range(low, high + 1))
    return codes - low, names


def _check_ends(path: Path, ends: np.ndarray, starts: np.ndarray) -> None:
    n = int(starts[-1])
    if (outside := ((ends < 0) | (ends >= n)).any(axis=1)).any():
        row = int(np.flatnonzero(outside)[0])
        i, j = ends[row] + 1
        raise DataError(f"{path}, line {line_of(path, row)}: edge {i}, {j}; expected nodes from 1 to {n}")
    graph = np.searchsorted(starts, ends, side="right")
    if (between := graph[:, 0] != graph[:, 1]).any():
        row = int(np.flatnonzero(between)[0])
        i, j = ends[row] + 1
        raise DataError(
            f"{path}, line {line_of(path, row)}: edge {i}, {j} is between graphs {graph[row, 0]} and {graph[row, 1]}; "
            "expected edges within a graph"
        )


def _coalesced(
    path: Path, ends: np.ndarray, bonds: np.ndarray, weights: np.ndarray | None, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, list[str]]:
    """Return each edge once, the lower node first, in order, with its kind and weight; and what there is to note."""
    notes = []
    if loops := int((ends[:, 0] == ends[:, 1]).sum()):
        notes.append(f"{loops:,} edges from a node to itself are left out.")
    rows = np.flatnonzero(ends[:, 0] != ends[:, 1])
    ends, bonds = ends[rows], bonds[rows]
    weights = None if weights is None else weights[rows]
    keys = ends.min(axis=1) * n + ends.max(axis=1)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.concatenate([[True], np.diff(keys) > 0]) if len(keys) else np.zeros(0, dtype=bool)
    which = np.cumsum(first) - 1
    picked = order[first]
    for what, values in (("kind", bonds), ("weight", weights)):
        if values is not None and (odd := values[order] != values[picked][which]).any():
            row = int(order[np.flatnonzero(odd)[0]])
            i, j = ends[row] + 1
            raise DataError(
                f"{path}, line {line_of(path, int(rows[row]))}: edge {i}, {j} is there twice, with another {what}"
            )
    up = np.bincount(which, weights=ends[order, 0] < ends[order, 1], minlength=len(picked)) > 0
    down = np.bincount(which, weights=ends[order, 0] > ends[order, 1], minlength=len(picked)) > 0
    if one_way := int((up != down).sum()):
        notes.append(f"{one_way:,} of {len(picked):,} edges are listed in one direction only; they count as edges.")
    return np.sort(ends[picked], axis=1), bonds[picked], None if weights is None else weights[picked], notes
