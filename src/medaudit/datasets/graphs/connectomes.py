"""Connectomes: brains as graphs whose node i is the same region in every subject.

Four layouts, all read from your disk, none shipped:

- :func:`read_matrices`: a folder for each class, in it a matrix a subject. So are the 101 children of ABIDE in GRETEL
  (116 regions of AAL, 0 or 1, CC BY-NC-SA; Craddock et al. 2013, Lanciano et al. 2020; Abrate & Bonchi 2021).
- :func:`read_fnc`: a CSV with the upper triangle of a correlation matrix a row. So is the MLSP 2014 schizophrenia
  challenge in geomstats (86 subjects, 28 components; Silva et al. 2014; no licence stated).
- :func:`read_edge_lists`: an edge list a subject, and a table. So are the mice of graspologic (32 animals, 332 regions;
  Wang et al. 2020; the package is MIT, of the data it says nothing).
- :func:`read_adjlists`: networkx's multi-line adjacency lists, each with the class as JSON. So is ADHD-200 in GRETEL
  (520 subjects, 190 regions, CC BY-NC-SA).

With them comes a rule that tells the two classes of ABIDE apart, :func:`asd_rule`, whose best counterfactual is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.cohort import read_table
from medaudit.cohort.cohort import Source
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.number_files import line_of, numbers, text_of
from medaudit.errors import DataError, UsageError

CONTROLS = ("td", "hc", "control", "controls", "healthy")
"""Folders of the class that comes first, 0."""
SHORT = ("td", "hc", "asd", "adhd")
"""Folders whose class is written in capitals."""
MATRICES = (".txt", ".csv", ".tsv")
MOST_NODES = 100_000
"""Nodes that a connectome may have: each graph has all of them, whichever its edges name."""
LABELS = ("participants.csv", "participants.tsv", "labels.csv")
"""Tables with the class of each edge list; the subject is in their first column."""

ASD_RULE_TD = (65, 70, 99, 80, 69, 6, 7, 8, 9, 13, 77, 45, 16, 81, 78, 92, 56, 57, 60, 93, 63)
ASD_RULE_ASD = (0, 36, 37, 38, 81, 40, 41, 74, 75, 76, 70, 72, 114, 20, 21, 73, 90, 28, 29)
"""Regions of AAL, counted from 0: among the first, edges speak for TD, among the second for ASD (Abrate & Bonchi, KDD
2021, as coded in MarioTheOne/GRETEL, MIT). Two are in both."""
ASD_RULE_WEIGHTS = (3.2844839747590915, -0.181742414867891, 0.04327200353999672)
"""The rule's intercept, and what an edge among the first and among the second regions adds."""

_ABIDE = Source(
    "ABIDE connectomes",
    "CC BY-NC-SA (ABIDE)",
    "Craddock C, Benhajali Y, Chu C, et al. The Neuro Bureau Preprocessing Initiative. Front Neuroinform 2013. "
    "Abrate C, Bonchi F. Counterfactual graphs for explainable classification of brain networks. KDD 2021",
    "https://github.com/aiim-research/GRETEL",
)
_MLSP = Source(
    "MLSP 2014 schizophrenia classification challenge",
    "no licence stated: use here, never ship",
    "Silva RF, Castro E, Gupta CN, et al. The tenth annual MLSP competition: schizophrenia classification challenge. "
    "MLSP 2014",
    "https://github.com/geomstats/geomstats",
)


def read_matrices(folder: str | Path, *, threshold: float | None = None) -> Graphs:
    """Return the graphs of square matrices (n, n), one a file (.txt, .csv, .tsv), a sub-folder a class.

    ``td`` and others of :data:`CONTROLS` are class 0, the rest follow in order. Matrices of 0 and 1 become graphs
    without weights. Other numbers become weights, and where ``threshold`` is given only those beyond it, up or down,
    are edges. The diagonal is left out. A graph's id is its file's name.

    Raises DataError naming the file for a matrix that is not square or not symmetric, for one with another number of
    nodes than the first, and for a subject in two classes.
    """
    folder = Path(folder)
    found = class_folders(folder)
    if not found:
        raise DataError(f"{folder}: has no sub-folders with matrices (.txt, .csv); expected one for each class")
    graphs: list[Graph] = []
    classes, y, diagonals = [], [], 0
    for place, files in found:
        for path in files:
            matrix = numbers(path)
            _check_matrix(path, matrix, graphs)
            diagonals += bool(np.diagonal(matrix).any())
            graphs.append(_weighted(path, matrix, threshold))
        classes.append(place.name.upper() if place.name.lower() in SHORT else place.name)
        y += [len(classes) - 1] * len(files)
    ids = [graph.id for graph in graphs]
    if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        raise DataError(f"{folder}: {twice[0]} is in two classes; expected each subject once")
    if all(graph.weights is None or bool((graph.weights == 1).all()) for graph in graphs):
        graphs = [Graph(g.id, g.nodes, g.edges, g.edge_kinds) for g in graphs]
    notes = []
    if diagonals:
        notes.append(f"{diagonals} of {len(graphs)} matrices have something on their diagonal; it is left out.")
    source = _ABIDE if set(classes) == {"TD", "ASD"} and graphs[0].n == 116 else None
    name = "ABIDE" if source else folder.resolve().name
    if source:
        notes.append(f"{len(ids)} subjects of {len(set(map(_site, ids)))} sites, which their ids begin with.")
    return Graphs(name, tuple(graphs), np.array(y), tuple(classes), matched=True, notes=tuple(notes), source=source)


def sites(graphs: Graphs) -> np.ndarray:
    """Return (N,) str: the site of each subject, what its id begins with before its number, as NYU in NYU_0050952."""
    return np.array([_site(graph.id) for graph in graphs])


def read_fnc(folder: str | Path, *, threshold: float = 0.3) -> Graphs:
    """Return the graphs of a table of correlations: ``*FNC.csv``, a subject a row, beside ``*labels.csv`` (Id, Class).

    A row is the subject's id and the n (n - 1) / 2 numbers above the diagonal, row by row. Correlations beyond
    ``threshold``, up or down, are edges, and keep their value as weight. Classes 0 and 1 of 28 nodes are the MLSP
    challenge's, ``healthy`` and ``schizophrenia``.

    Raises DataError naming the file for a missing file, a number of columns that is no triangle, an empty cell, and a
    subject without a class; UsageError for a threshold below 0.
    """
    folder = Path(folder)
    if not threshold >= 0:
        raise UsageError(f"cannot keep correlations beyond {threshold:g}; expected a threshold of 0 or more")
    table_path, label_path = _one(folder, "*FNC.csv"), _one(folder, "*labels.csv")
    table, labels = read_table(table_path), read_table(label_path)
    wide = table.width - 1
    n = round((1 + np.sqrt(1 + 8 * wide)) / 2)
    if n < 2 or n * (n - 1) // 2 != wide:
        raise DataError(f"{table_path}: has {wide} numbers a row; expected n (n - 1) / 2, as 378 for 28 nodes")
    try:
        values = table[:, 1:].cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError:
        raise DataError(f"{table_path}: has cells that are no numbers; expected correlations") from None
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{table_path}, line {row + 2}: {table.columns[column + 1]} is empty; expected a number")
    ids = [str(one) for one in table[:, 0].to_list()]
    y, classes, _ = _looked_up(ids, label_path, labels.columns[0], labels.columns[1] if labels.width > 1 else "Class")
    mlsp = n == 28 and classes == ("0", "1")
    i, j = np.triu_indices(n, 1)
    graphs = []
    for id_, row in zip(ids, values, strict=True):
        kept = np.abs(row) > threshold
        graphs.append(Graph.of(id_, np.zeros(n), np.stack([i[kept], j[kept]], axis=1), weights=row[kept]))
    return Graphs(
        "FNC", tuple(graphs), y, ("healthy", "schizophrenia") if mlsp else classes, matched=True,
        notes=(f"Correlations beyond {threshold:g}, up or down, are edges.",), source=_MLSP if mlsp else None,
    )  # fmt: skip


def read_edge_lists(folder: str | Path, *, column: str | None = None, threshold: float = 0.0) -> Graphs:
    """Return the graphs of ``*.edgelist``, in ``edgelists/`` or here, with their classes from ``participants.csv``.

    A line is ``i j`` or ``i j weight``, nodes counted from 0; in every graph there are as many nodes as the highest
    number asks for. Weights beyond ``threshold``, up or down, are edges. ``column`` of the table is the class, without
    it the one after the first; the first, the patient, is what a file's name begins with.

    Raises DataError naming the file for a missing table, a line that is no edge, and a subject without a class, and
    naming the subject for an edge that is there twice with different weights; UsageError for a column that is not
    there.
    """
    folder = Path(folder)
    files = edge_lists(folder)
    if not files:
        raise DataError(f"{folder}: has no *.edgelist, nor has edgelists/ in it")
    table_path = next((folder / name for name in LABELS if (folder / name).is_file()), None)
    if table_path is None:
        raise DataError(f"{folder}: has no table of classes; expected one of {', '.join(LABELS)}")
    columns = read_table(table_path).columns
    if column is not None and column not in columns:
        raise UsageError(f"{table_path} has no column '{column}'; it has: {', '.join(columns)}")
    if len(columns) < 2:
        raise DataError(f"{table_path}: has one column; expected the subject and its class")
    lists, loops = [], 0
    for path in files:
        values = numbers(path)
        values = values if len(values) else np.empty((0, 2))
        if values.shape[1] not in (2, 3):
            raise DataError(f"{path}, line 1: has {values.shape[1]} numbers; expected 'i j' or 'i j weight'")
        ends = np.clip(values[:, :2], -1, 2**53).astype(np.int64)  # 1e300 is no int64
        if (odd := ((ends != values[:, :2]) | (ends < 0)).any(axis=1)).any():
            row = int(np.flatnonzero(odd)[0])
            raise DataError(f"{path}, line {line_of(path, row)}: expected nodes as whole numbers, counted from 0")
        heavy = values[:, 2] if values.shape[1] == 3 else np.ones(len(values))
        kept = (np.abs(heavy) > threshold) & (ends[:, 0] != ends[:, 1])
        loops += int((ends[:, 0] == ends[:, 1]).sum())
        lists.append((ends[kept], heavy[kept] if values.shape[1] == 3 else None))
    n = 1 + max((int(ends.max()) for ends, _ in lists if len(ends)), default=0)
    if n > MOST_NODES:
        worst = next(path for path, (ends, _) in zip(files, lists, strict=True) if len(ends) and ends.max() == n - 1)
        raise DataError(f"{worst}: has a node {n - 1}; expected at most {MOST_NODES:,} nodes, counted from 0")
    stems = [path.stem for path in files]
    y, classes, whom = _looked_up(stems, table_path, columns[0], column or columns[1], begins=True)
    graphs = tuple(
        _graph(path, path.stem, np.zeros(n), ends, heavy) for path, (ends, heavy) in zip(files, lists, strict=True)
    )
    notes = [f"{loops:,} edges from a node to itself are left out."] if loops else []
    if threshold > 0:
        notes.append(f"Weights beyond {threshold:g}, up or down, are edges.")
    return Graphs(folder.resolve().name, graphs, y, classes, matched=True, patients=whom, notes=tuple(notes))


def read_adjlists(folder: str | Path) -> Graphs:
    """Return the graphs of ``*.adjlist``, at any depth, each with its class beside it.

    The class of ``NAME_graph.adjlist`` is in ``NAME_graph_label.json`` or ``NAME_label.json``, by itself or under
    ``label``: a whole number or a word. The lists are networkx's multi-line ones: "node degree", then a neighbour a
    line, with or without ``{'weight': 1}``; lines that begin with # are comments. Weights that are all 1 are left out.

    Raises DataError naming the file, and the line, for what is not so.
    """
    folder = Path(folder)
    files = sorted(folder.rglob("*.adjlist"))
    if not files:
        raise DataError(f"{folder}: has no *.adjlist")
    lists = [_adjacency(path) for path in files]
    labels = [_json_label(path) for path in files]
    for path, (n, _ends, _heavy) in zip(files, lists, strict=True):
        if n != lists[0][0]:
            raise DataError(f"{path}: has {n} nodes, {files[0].name} has {lists[0][0]}; expected the same")
    weighted = any((heavy != 1).any() for _n, _ends, heavy in lists)
    classes, y = np.unique(np.array(labels), return_inverse=True)
    ids = [path.stem.removesuffix("_graph") for path in files]
    graphs = tuple(
        _graph(path, id_, np.zeros(n), ends, heavy if weighted else None)
        for path, id_, (n, ends, heavy) in zip(files, ids, lists, strict=True)
    )
    return Graphs(folder.resolve().name, graphs, y.ravel(), tuple(classes.tolist()), matched=True)


def asd_score(graph: Graph) -> float:
    """Return the rule's score: above 0 it says ASD; DataError for a graph that has not AAL's 116 regions."""
    base, td, asd = ASD_RULE_WEIGHTS
    among_td, among_asd = _among(graph)
    return base + td * int(among_td.sum()) + asd * int(among_asd.sum())


def asd_rule(graph: Graph) -> int:
    """Return the class by the rule of Abrate & Bonchi (KDD 2021): 1 is ASD, 0 is TD.

    It counts edges among two sets of regions, and is right for 77 % of ABIDE's 101 subjects.
    """
    return int(asd_score(graph) > 0)


def asd_rule_optimum(graph: Graph) -> int:
    """Return the fewest edges to add or delete that make :func:`asd_rule` say the other class.

    The score is linear in the edges, so the best edits are those that move it most: they are sorted, and counted until
    the score has crossed 0.
    """
    score = asd_score(graph)
    there = graph.matrix() > 0
    i, j = np.triu_indices(graph.n, 1)
    within = [np.isin(np.arange(graph.n), regions) for regions in (ASD_RULE_TD, ASD_RULE_ASD)]
    weight = sum(w * (inside[i] & inside[j]) for w, inside in zip(ASD_RULE_WEIGHTS[1:], within, strict=True))
    gains = np.where(there[i, j], -weight, weight)
    gains = np.sort(-gains if score > 0 else gains)[::-1]
    left = abs(score) - np.cumsum(gains[gains > 0])
    # ASD needs more than 0, TD needs 0 or less.
    return int(np.argmax(left <= 0 if score > 0 else left < 0)) + 1


def _among(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    if graph.n != 116:
        raise DataError(f"graph {graph.id}: has {graph.n} nodes; the ABIDE rule is about the 116 regions of AAL")
    i, j = graph.edges.T
    td, asd = (np.isin(i, regions) & np.isin(j, regions) for regions in (ASD_RULE_TD, ASD_RULE_ASD))
    return td, asd


def class_folders(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Return the sub-folders that hold matrices, controls first, each with its files in order."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = []
    for place in sorted(folder.iterdir(), key=lambda path: (path.name.lower() not in CONTROLS, path.name.lower())):
        if place.is_dir() and not place.name.startswith("."):
            files = sorted(path for path in place.iterdir() if path.suffix.lower() in MATRICES)
            if files:
                found.append((place, files))
    return found


def edge_lists(folder: Path) -> list[Path]:
    """Return the ``*.edgelist`` of a folder, or of ``edgelists/`` in it, in order."""
    return sorted((folder / "edgelists").glob("*.edgelist")) or sorted(folder.glob("*.edgelist"))


def _site(id_: str) -> str:
    return re.sub(r"_?\d+$", "", id_)


def _check_matrix(path: Path, matrix: np.ndarray, graphs: Sequence[Graph]) -> None:
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{path}: is a matrix of {matrix.shape[0]} x {matrix.shape[1]}; expected a square")
    if graphs and graphs[0].n != len(matrix):
        raise DataError(f"{path}: has {len(matrix)} nodes, {graphs[0].id} has {graphs[0].n}; expected the same")
    # Correlations written with a few digits may differ in the last.
    if (apart := ~np.isclose(matrix, matrix.T, rtol=1e-6, atol=1e-9)).any():
        i, j = np.argwhere(apart)[0]
        raise DataError(
            f"{path}: row {i + 1}, column {j + 1} is {matrix[i, j]:g}, mirrored it is {matrix[j, i]:g}; expected no "
            "direction"
        )


def _graph(path: Path, id_: str, nodes: np.ndarray, ends: np.ndarray, heavy: np.ndarray | None) -> Graph:
    """Return the graph; DataError names the file too."""
    try:
        return Graph.of(id_, nodes, ends, weights=heavy)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _weighted(path: Path, matrix: np.ndarray, threshold: float | None) -> Graph:
    i, j = np.nonzero(np.triu(np.abs(matrix) > (threshold or 0.0), 1))
    return _graph(path, path.stem, np.zeros(len(matrix)), np.stack([i, j], axis=1), matrix[i, j])


def _one(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise DataError(f"{folder}: has {len(files)} files {pattern}; expected one")
    return files[0]


def _looked_up(
    ids: Sequence[str], path: Path, key: str, column: str, *, begins: bool = False
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Return the class of each id in a table, the classes' names, and who each is; ids may go on after that."""
    table = read_table(path)
    if column not in table.columns:
        raise DataError(f"{path}: has no column '{column}'; expected the class of each subject")
    known = {
        str(a): None if b is None else str(b)
        for a, b in zip(table[key].to_list(), table[column].to_list(), strict=True)
    }
    labels, whom = [], []
    for id_ in ids:
        ends = [id_, *(id_[: k.start()] for k in re.finditer(r"[_.-]", id_))] if begins else [id_]
        who = next((end for end in ends if known.get(end) is not None), None)
        if who is None:
            raise DataError(f"{path}: says no {column} for {id_}; expected one for each subject")
        labels.append(known[who])
        whom.append(who)
    classes, y = np.unique(np.array(labels, dtype=str), return_inverse=True)
    return y.ravel(), tuple(classes.tolist()), np.array(whom)


def _adjacency(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of nodes, (e, 2) ends and (e,) weights of a multi-line adjacency list."""
    lines = [(k, line) for k, line in enumerate(text_of(path).splitlines(), 1) if line.split("#")[0].strip()]
    ends, heavy, seen, at = [], [], [], 0
    while at < len(lines):
        k, line = lines[at]
        words = line.split()
        if len(words) != 2 or not all(_COUNT.fullmatch(word) for word in words):
            raise DataError(f"{path}, line {k}: '{line.strip()[:40]}'; expected a node and its number of neighbours")
        node, degree = int(words[0]), int(words[1])
        seen.append(node)
        if at + degree >= len(lines) + (degree == 0):
            raise DataError(f"{path}, line {k}: node {node} has {degree} neighbours; the file ends before")
        for k, line in lines[at + 1 : at + 1 + degree]:
            neighbour = _NEIGHBOUR.fullmatch(line)
            if neighbour is None or not np.isfinite(float(neighbour[2] or 1)):
                raise DataError(f"{path}, line {k}: '{line.strip()[:40]}'; expected a neighbour of node {node}")
            ends.append((node, int(neighbour[1])))
            heavy.append(float(neighbour[2] or 1))
        at += 1 + degree
    if sorted(seen) != list(range(len(seen))):
        raise DataError(f"{path}: lists nodes that are not 0 to {len(seen) - 1}, each once")
    return len(seen), np.array(ends, dtype=np.int64).reshape(-1, 2), np.array(heavy)


_COUNT = re.compile(r"[0-9]{1,9}")
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,9})?"
_NEIGHBOUR = re.compile(rf"\s*([0-9]{{1,9}})\s*(?:\{{(?:'weight':\s*({_NUMBER}))?.*\}})?\s*")


def _json_label(path: Path) -> str:
    named = [path.with_name(f"{stem}_label.json") for stem in (path.stem, path.stem.removesuffix("_graph"))]
    file = next((file for file in named if file.is_file()), None)
    if file is None:
        raise DataError(f"{path}: has no {named[0].name} beside it; expected its class there")
    try:
        label = json.loads(text_of(file))
    except (ValueError, RecursionError):
        raise DataError(f"{file}: is not JSON; expected a class") from None
    if isinstance(label, dict):
        label = next((label[key] for key in ("label", "graph_label", "class", "y") if key in label), None)
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise DataError(f"{file}: holds no class; expected a number or a word, or 'label' with one")
    return str(label)
