"""TUDataset's text: read as PyTorch Geometric reads it, its flaws named by file and line, its counts as published."""

import time

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph
from medaudit.datasets.graphs import tudataset
from medaudit.errors import DataError, UsageError

# Two molecules: a triangle of nodes 1-3 with codes 5, 5, 7, and a pair 4-5.
FILES = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n1, 3\n3, 1\n4, 5\n5, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n",
    "graph_labels": "1\n-1\n",
    "node_labels": "5\n5\n7\n6\n5\n",
    "edge_labels": "1\n1\n2\n2\n1\n1\n3\n3\n",
}


def write(folder, raw=True, name="SET", **changed):
    place = folder / "raw" if raw else folder
    place.mkdir(parents=True, exist_ok=True)
    for what, text in {**FILES, **changed}.items():
        if text is not None:
            (place / f"{name}_{what}.txt").write_text(text)
    return folder


def test_codes_lose_their_minimum_and_classes_are_sorted(tmp_path):
    graphs = tudataset.read(write(tmp_path))
    first, second = graphs
    assert (first.id, second.id, graphs.name) == ("SET_1", "SET_2", "SET")
    assert graphs.y.tolist() == [1, 0]
    assert graphs.classes == ("-1", "1")
    assert first.nodes.tolist() == [0, 0, 2]
    assert second.nodes.tolist() == [1, 0]
    assert graphs.node_kinds == ("5", "6", "7")
    assert first.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert first.edge_kinds.tolist() == [0, 0, 1]
    assert second.edges.tolist() == [[0, 1]]
    assert second.edge_kinds.tolist() == [2]
    assert graphs.edge_kinds == ("1", "2", "3")
    assert graphs.notes == ()
    assert "TUDataset" in graphs.source.citation


@pytest.mark.parametrize("change", [lambda text: text.replace(", ", ","), lambda text: text.replace(", ", " ")])
def test_blanks_and_commas_do_not_matter(tmp_path, change):
    usual = tudataset.read(write(tmp_path / "a"))
    other = tudataset.read(write(tmp_path / "b", raw=False, A="\n" + change(FILES["A"]) + "\n\n"))
    for one, two in zip(usual, other, strict=True):
        assert np.array_equal(one.edges, two.edges)
        assert np.array_equal(one.edge_kinds, two.edge_kinds)


def test_loops_and_repeated_edges_go_and_one_way_edges_stay(tmp_path):
    lines = "1, 1\n1, 2\n1, 2\n3, 2\n5, 4\n"
    graphs = tudataset.read(write(tmp_path, A=lines, edge_labels=None))
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [1, 2]]
    assert graphs.graphs[1].edges.tolist() == [[0, 1]]
    assert graphs.edge_kinds == ("edge",)
    assert graphs.notes == (
        "1 edges from a node to itself are left out.",
        "3 of 3 edges are listed in one direction only; they count as edges.",
    )


def test_attributes_are_features_and_a_single_one_of_edges_is_the_weight(tmp_path):
    graphs = tudataset.read(
        write(
            tmp_path,
            node_attributes="1.5, 2\n0,0\n0, 1e-3\n4,5\n6,7\n",
            edge_attributes="\n".join("0.5 0.5 2 2 -1 -1 4 4".split()),  # noqa: SIM905
            node_labels=None,
        )
    )
    assert graphs.node_kinds == ("node",)
    assert graphs.graphs[0].features.tolist() == [[1.5, 2], [0, 0], [0, 1e-3]]
    assert graphs.graphs[1].features.tolist() == [[4, 5], [6, 7]]
    assert graphs.graphs[0].weights.tolist() == [0.5, -1, 2]
    several = tudataset.read(write(tmp_path / "b", edge_attributes="1, 2\n" * 8))
    assert several.graphs[0].weights is None
    assert several.notes == ("SET_edge_attributes.txt has 2 numbers an edge; they are left out.",)


def test_several_columns_of_labels_are_a_kind_for_each_combination(tmp_path):
    graphs = tudataset.read(write(tmp_path, node_labels="0, 1\n0, 1\n1, 0\n1, 1\n0, 1\n"))
    assert graphs.node_kinds == ("0,1", "1,0", "1,1")
    assert [graph.nodes.tolist() for graph in graphs] == [[0, 0, 1], [2, 0]]


def test_legends_name_what_codes_mean(tmp_path):
    graphs = tudataset.read(write(tmp_path, name="AIDS", graph_labels="0\n1\n", edge_labels="0\n0\n1\n1\n0\n0\n2\n2\n"))
    assert graphs.node_kinds == ("S", "Se", "P")  # codes 5 to 7
    assert graphs.edge_kinds == ("single", "double", "triple")
    assert graphs.classes == ("active", "inactive")
    assert "non-commercial" in graphs.source.licence


def test_all_graphs_are_what_graph_of_makes(tmp_path):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 30)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    lines, kinds = [], []
    for k, size in enumerate(sizes):
        for i in range(size):
            for j in range(i):
                if rng.random() < 0.5:
                    kind = int(rng.integers(0, 3))
                    lines += [f"{starts[k] + i + 1}, {starts[k] + j + 1}", f"{starts[k] + j + 1}, {starts[k] + i + 1}"]
                    kinds += [kind, kind]
    order = rng.permutation(len(lines))
    graphs = tudataset.read(
        write(
            tmp_path,
            A="\n".join(lines[k] for k in order),
            edge_labels="\n".join(str(kinds[k]) for k in order),
            graph_indicator="\n".join(str(k + 1) for k, size in enumerate(sizes) for _ in range(size)),
            graph_labels="\n".join(str(k % 2) for k in range(30)),
            node_labels=None,
        )
    )
    assert sum(len(graph.edges) for graph in graphs) == len(lines) / 2
    for graph in graphs:
        again = Graph.of(graph.id, graph.nodes, graph.edges[::-1], graph.edge_kinds[::-1])
        assert np.array_equal(again.edges, graph.edges)
        assert np.array_equal(again.edge_kinds, graph.edge_kinds)
        assert (graph.edges.dtype, graph.nodes.dtype, graph.edge_kinds.dtype) == (np.int64,) * 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"A": "1, 2\n2, 6\n", "edge_labels": None}, r"SET_A\.txt, line 2: edge 2, 6; expected nodes from 1 to 5"),
        ({"A": "\n0, 2\n", "edge_labels": None}, r"SET_A\.txt, line 2: edge 0, 2"),
        ({"A": "1, 2\n3, 4\n", "edge_labels": None}, r"line 2: edge 3, 4 is between graphs 1 and 2"),
        ({"A": "1, 2\n3\n", "edge_labels": None}, r"SET_A\.txt, line 2: has 1 numbers; expected 2"),
        ({"A": "1, 2\n2, x\n", "edge_labels": None}, r"SET_A\.txt, line 2: 'x' is not a number"),
        ({"A": "1, 2, 3\n", "edge_labels": None}, r"SET_A\.txt, line 1: has 3 numbers; expected 2"),
        ({"A": "1, 2\n2, 1.5\n", "edge_labels": None}, r"SET_A\.txt, line 2: 1\.5; expected whole numbers"),
        ({"A": "1, 2\n2, 1\n", "edge_labels": "0\n1\n"}, r"line 2: edge 2, 1 is there twice, with another kind"),
        ({"edge_labels": "1\n"}, r"SET_edge_labels\.txt: has 1 rows; expected one for each of 8 lines of SET_A\.txt"),
        ({"graph_indicator": "1\n1\n2\n1\n2\n"}, r"SET_graph_indicator\.txt, line 4: graph 1 after graph 2"),
        ({"graph_indicator": "1\n1\n1\n3\n3\n"}, r"SET_graph_indicator\.txt, line 4: graph 2 has no nodes"),
        ({"graph_indicator": "0\n0\n0\n1\n1\n"}, r"begins with graph 0; graphs are counted from 1"),
        ({"graph_indicator": ""}, r"SET_graph_indicator\.txt: is empty"),
        ({"graph_indicator": None}, r"SET_graph_indicator\.txt: no such file"),
        ({"graph_labels": None}, r"SET_graph_labels\.txt: no such file"),
        ({"graph_labels": "0\n1\n1\n"}, r"SET_graph_labels\.txt: has 3 rows, but graph 3 has no nodes"),
        ({"graph_labels": "0\n"}, r"SET_graph_labels\.txt: has 1 rows; expected one for each of 2 graphs"),
        ({"node_labels": "0\n"}, r"SET_node_labels\.txt: has 1 rows; expected one for each of 5 nodes"),
        ({"node_attributes": "0\n1\nnan\n3\n4\n"}, r"SET_node_attributes\.txt, line 3: nan; expected finite"),
        ({"A": None}, r"has no NAME_A\.txt, nor has raw/ in it"),
    ],
)
def test_a_flaw_is_named_with_its_file_and_line(tmp_path, changed, why):
    with pytest.raises(DataError, match=why):
        tudataset.read(write(tmp_path, **changed))


def test_a_folder_that_is_none_or_two_is_said(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        tudataset.read(tmp_path / "SET")
    write(write(tmp_path), name="OTHER")
    with pytest.raises(DataError, match="holds several sets"):
        tudataset.read(tmp_path)


def test_graphs_without_any_edges_are_graphs(tmp_path):
    graphs = tudataset.read(write(tmp_path, A="", edge_labels=None))
    assert [len(graph.edges) for graph in graphs] == [0, 0]


def test_the_filter_counts_kinds_in_all_graphs_before_it_leaves_any_out(tmp_path):
    graphs = tudataset.read(write(tmp_path))  # kind 5 occurs three times, 6 and 7 once
    assert len(tudataset.filtered(graphs, 3, rarest=0)) == 2
    kept = tudataset.filtered(graphs, 2, rarest=0)
    assert [graph.id for graph in kept] == ["SET_2"]
    assert kept.node_kinds == ("5", "6")  # 7 is in none that is left
    assert kept.graphs[0].nodes.tolist() == [1, 0]
    assert "1 of 2 graphs are kept" in kept.notes[-1]
    with pytest.raises(UsageError, match="no graph has 3 nodes or fewer"):
        tudataset.filtered(graphs, 3, rarest=1)


# Graphs, mean nodes and edges, most nodes, node and edge kinds, graphs of each class; the paper's filter: most nodes
# allowed, graphs kept, node kinds kept, graphs kept of each class.
PUBLISHED = {
    "AIDS": ((2000, 15.69, 16.20, 95, 38, 3, [400, 1600]), (30, 1635, 9, [168, 1467])),
    "Mutagenicity": ((4337, 30.32, 30.77, 417, 14, 3, [2401, 1936]), (50, 3935, 10, [2275, 1660])),
    "NCI1": ((4110, 29.87, 32.30, 111, 37, 1, [2053, 2057]), (50, 3678, 10, [1947, 1731])),
    "MUTAG": ((188, 17.93, 19.79, 28, 7, 4, [63, 125]), None),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_sets_have_their_published_counts(public_data, name):
    folder = public_data / "tudataset" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    whole, kept = PUBLISHED[name]
    began = time.process_time()
    graphs = tudataset.read(folder)
    assert time.process_time() - began < 5  # 0.1 s for NCI1; a loop over graphs takes ten times that
    assert (
        len(graphs),
        round(np.mean([graph.n for graph in graphs]), 2),
        round(np.mean([len(graph.edges) for graph in graphs]), 2),
        graphs.largest,
        len(graphs.node_kinds),
        len(graphs.edge_kinds),
        np.bincount(graphs.y).tolist(),
    ) == whole
    assert graphs.notes == ()
    if kept:
        left = tudataset.filtered(graphs, kept[0])
        assert (kept[0], len(left), len(left.node_kinds), np.bincount(left.y).tolist()) == kept
        assert left.largest <= kept[0]


@pytest.mark.realdata
def test_the_attributes_of_aids_are_features_and_enzymes_have_six_classes(public_data):
    aids = tudataset.read(public_data / "tudataset" / "AIDS")
    assert aids.graphs[0].features.shape == (aids.graphs[0].n, 4)  # chem, charge, x, y
    enzymes = tudataset.read(public_data / "tudataset" / "ENZYMES")
    assert enzymes.classes == tuple("123456")
    assert enzymes.graphs[0].features.shape[1] == 18
