"""Connectomes: four layouts become matched graphs, and the rule for ABIDE has the optimum that all edits confirm."""

from itertools import product

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph
from medaudit.datasets.graphs import connectomes
from medaudit.errors import DataError, UsageError


def put(folder, table, labels):
    (folder / "train_FNC.csv").write_text(table)
    (folder / "train_labels.csv").write_text(labels)


def matrix(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, fmt="%g")


PATH = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_a_folder_of_matrices_is_a_class_and_controls_come_first(tmp_path):
    matrix(tmp_path / "asd" / "NYU_0051.txt", PATH)
    matrix(tmp_path / "td" / "KKI_0007.txt", 1 - np.eye(3))
    matrix(tmp_path / "td" / "MaxMun_d_0008.txt", PATH)
    graphs = connectomes.read_matrices(tmp_path)
    assert graphs.matched
    assert graphs.classes == ("TD", "ASD")
    assert graphs.y.tolist() == [0, 0, 1]
    assert [graph.id for graph in graphs] == ["KKI_0007", "MaxMun_d_0008", "NYU_0051"]
    assert connectomes.sites(graphs).tolist() == ["KKI", "MaxMun_d", "NYU"]
    assert graphs.graphs[2].edges.tolist() == [[0, 1], [1, 2]]
    assert graphs.graphs[2].weights is None


def test_correlations_keep_their_weight_beyond_a_threshold(tmp_path):
    values = np.array([[1, 0.5, -0.4], [0.5, 1, 0.1], [-0.4, 0.1, 1]])
    matrix(tmp_path / "healthy" / "a.txt", values)
    matrix(tmp_path / "patients" / "b.txt", values)
    graphs = connectomes.read_matrices(tmp_path, threshold=0.3)
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [0, 2]]
    assert graphs.graphs[0].weights.tolist() == [0.5, -0.4]
    assert graphs.classes == ("healthy", "patients")
    assert graphs.notes == ("2 of 2 matrices have something on their diagonal; it is left out.",)
    assert len(connectomes.read_matrices(tmp_path).graphs[0].edges) == 3


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (PATH[:2], r"b\.txt: is a matrix of 2 x 3; expected a square"),
        (np.triu(PATH), r"b\.txt: row 1, column 2 is 1, mirrored it is 0"),
        (1 - np.eye(4), r"b\.txt: has 4 nodes, a has 3"),
        (PATH * np.nan, r"b\.txt, line 1: nan; expected finite"),
    ],
)
def test_a_matrix_that_is_none_is_named(tmp_path, values, why):
    matrix(tmp_path / "td" / "a.txt", PATH)
    matrix(tmp_path / "zzz" / "b.txt", values)
    with pytest.raises(DataError, match=why):
        connectomes.read_matrices(tmp_path)


def test_a_subject_in_two_classes_and_a_folder_without_any_are_said(tmp_path):
    with pytest.raises(DataError, match="has no sub-folders with matrices"):
        connectomes.read_matrices(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        connectomes.read_matrices(tmp_path / "x")
    matrix(tmp_path / "td" / "a.txt", PATH)
    matrix(tmp_path / "asd" / "a.txt", PATH)
    with pytest.raises(DataError, match="a is in two classes"):
        connectomes.read_matrices(tmp_path)


FNC = "Id,FNC1,FNC2,FNC3\n7,0.5,0.1,-0.4\n8,0.2,0.3,0.31\n"


def test_a_row_of_correlations_is_the_upper_triangle_row_by_row(tmp_path):
    put(tmp_path, FNC, "Id,Class\n8,1\n7,0\n")
    graphs = connectomes.read_fnc(tmp_path)
    assert graphs.y.tolist() == [0, 1]
    assert graphs.matched
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [1, 2]]
    assert graphs.graphs[0].weights.tolist() == [0.5, -0.4]
    assert graphs.graphs[1].edges.tolist() == [[1, 2]]  # 0.3 is not beyond 0.3
    assert [len(graph.edges) for graph in connectomes.read_fnc(tmp_path, threshold=0)] == [3, 3]


@pytest.mark.parametrize(
    ("table", "labels", "why"),
    [
        (FNC.replace(",FNC3", "").replace(",-0.4", "").replace(",0.31", ""), "Id,Class\n7,0\n8,1\n", "has 2 numbers"),
        (FNC.replace("0.31", ""), "Id,Class\n7,0\n8,1\n", "line 3: FNC3 is empty"),
        (FNC.replace("0.31", "high"), "Id,Class\n7,0\n8,1\n", "no numbers"),
        (FNC, "Id,Class\n7,0\n", "says no Class for 8"),
        (FNC, "Id\n7\n8\n", "has no column 'Class'"),
    ],
)
def test_a_flaw_in_the_correlations_is_said(tmp_path, table, labels, why):
    put(tmp_path, table, labels)
    with pytest.raises(DataError, match=why):
        connectomes.read_fnc(tmp_path)


def test_missing_correlations_and_a_negative_threshold_are_said(tmp_path):
    with pytest.raises(DataError, match=r"has 0 files \*FNC\.csv"):
        connectomes.read_fnc(tmp_path)
    with pytest.raises(UsageError, match="threshold of 0 or more"):
        connectomes.read_fnc(tmp_path, threshold=-1)


TABLE = "participant_id,genotype,sex\nsub-1,B6,male\nsub-2,BTBR,female\n"


def test_edge_lists_take_their_class_from_the_table(tmp_path):
    (tmp_path / "edgelists").mkdir()
    (tmp_path / "edgelists" / "sub-1_ses-1.edgelist").write_text("0 1 5.0\n2 0 3\n2 2 9\n")
    (tmp_path / "edgelists" / "sub-1_ses-2.edgelist").write_text("0 1 4.0\n")
    (tmp_path / "edgelists" / "sub-2_ses-1.edgelist").write_text("3 1 0.5\n1 3 0.5\n")
    (tmp_path / "participants.csv").write_text(TABLE)
    graphs = connectomes.read_edge_lists(tmp_path)
    assert [graph.n for graph in graphs] == [4, 4, 4]
    assert graphs.matched
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [0, 2]]
    assert graphs.graphs[0].weights.tolist() == [5, 3]
    assert graphs.graphs[2].edges.tolist() == [[1, 3]]
    assert (graphs.classes, graphs.y.tolist()) == (("B6", "BTBR"), [0, 0, 1])
    assert graphs.who.tolist() == ["sub-1", "sub-1", "sub-2"]
    assert graphs.notes == ("1 edges from a node to itself are left out.",)
    assert connectomes.read_edge_lists(tmp_path, column="sex").classes == ("female", "male")
    strong = connectomes.read_edge_lists(tmp_path, threshold=3)
    assert [len(graph.edges) for graph in strong] == [1, 1, 0]
    with pytest.raises(UsageError, match="has no column 'age'; it has: participant_id, genotype, sex"):
        connectomes.read_edge_lists(tmp_path, column="age")


@pytest.mark.parametrize(
    ("text", "table", "why"),
    [
        ("0 1 2\n0 1.5 2\n", TABLE, r"sub-1\.edgelist, line 2: expected nodes as whole numbers"),
        ("0\n", TABLE, "line 1: has 1 numbers; expected 'i j' or 'i j weight'"),
        ("0 1 2\n1 0 3\n", TABLE, "graph sub-1: edge 0-1 is given twice, with another weight"),
        ("0 1\n", "participant_id,genotype\nsub-9,B6\n", "says no genotype for sub-1"),
        ("0 1\n", None, "has no table of classes"),
    ],
)
def test_a_flaw_in_the_edge_lists_is_said(tmp_path, text, table, why):
    (tmp_path / "sub-1.edgelist").write_text(text)
    if table:
        (tmp_path / "participants.csv").write_text(table)
    with pytest.raises(DataError, match=why):
        connectomes.read_edge_lists(tmp_path)


ADJLIST = "#main.py\n# GMT Fri\n# \n0 2\n1 {'weight': 1}\n2 {'weight': 1}\n1 0\n2 1\n3 {'weight': 1}\n3 0\n"


def subject(folder, name, text=ADJLIST, label="1"):
    place = folder / "adhd_dataset" / name
    place.mkdir(parents=True)
    (place / f"{name}_graph.adjlist").write_text(text)
    if label is not None:
        (place / f"{name}_graph_label.json").write_text(label)


def test_adjacency_lists_are_read_as_networkx_writes_them(tmp_path):
    networkx = pytest.importorskip("networkx")
    subject(tmp_path, "KKI_1", label="0")
    subject(tmp_path, "NYU_2", label='{"label": 1}')
    given = networkx.gnm_random_graph(4, 5, seed=1)
    subject(tmp_path, "NYU_3", text="\n".join(networkx.generate_multiline_adjlist(given)), label="[1]")
    graphs = connectomes.read_adjlists(tmp_path)
    assert [graph.id for graph in graphs] == ["KKI_1", "NYU_2", "NYU_3"]
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [0, 2], [2, 3]]
    assert graphs.graphs[0].weights is None
    assert {tuple(edge) for edge in graphs.graphs[2].edges.tolist()} == {tuple(sorted(edge)) for edge in given.edges}
    assert (graphs.y.tolist(), graphs.classes, graphs.matched) == ([0, 1, 1], ("0", "1"), True)


def test_adjacency_lists_keep_weights_that_say_something(tmp_path):
    subject(tmp_path, "KKI_1", text=ADJLIST.replace("2 {'weight': 1}", "2 {'weight': -2.5e-1}"))
    assert connectomes.read_adjlists(tmp_path).graphs[0].weights.tolist() == [1, -0.25, 1]


@pytest.mark.parametrize(
    ("text", "label", "why"),
    [
        (ADJLIST.replace("3 {'weight': 1}", "three"), "1", r"KKI_1_graph\.adjlist, line 9: 'three'; expected a neigh"),
        (ADJLIST.replace("2 1\n", "2 one\n"), "1", r"line 8: '2 one'; expected a node and its number"),
        (ADJLIST.replace("3 0\n", "3 4\n"), "1", r"line 10: node 3 has 4 neighbours; the file ends before"),
        (ADJLIST.replace("3 0\n", "5 0\n"), "1", "lists nodes that are not 0 to 3, each once"),
        (ADJLIST, None, r"has no KKI_1_graph_label\.json beside it"),
        (ADJLIST, "{", "is not JSON"),
        (ADJLIST, "1.5", "holds no class"),
    ],
)
def test_a_flaw_in_the_adjacency_lists_is_said(tmp_path, text, label, why):
    subject(tmp_path, "KKI_1", text, label)
    with pytest.raises(DataError, match=why):
        connectomes.read_adjlists(tmp_path)


def test_the_optimum_of_the_rule_is_that_of_all_edits(monkeypatch):
    # Small sets of regions that share two, so that all 2^8 ways to draw their edges can be tried.
    monkeypatch.setattr(connectomes, "ASD_RULE_TD", (0, 1, 2, 3))
    monkeypatch.setattr(connectomes, "ASD_RULE_ASD", (2, 3, 4))
    monkeypatch.setattr(connectomes, "ASD_RULE_WEIGHTS", (0.2, -0.18, 0.045))
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    every = list(product([False, True], repeat=len(pairs)))
    graphs = [
        Graph.of("g", np.zeros(116), [(9, 50), *(p for p, there in zip(pairs, some, strict=True) if there)])
        for some in every
    ]
    said, drawn = np.array([connectomes.asd_rule(graph) for graph in graphs]), np.array(every)
    assert 0 < said.mean() < 1
    for graph, one, label in zip(graphs, drawn, said, strict=True):
        assert connectomes.asd_rule_optimum(graph) == (drawn[said != label] != one).sum(axis=1).min()


def test_the_rule_is_for_the_regions_of_aal():
    with pytest.raises(DataError, match="has 3 nodes; the ABIDE rule is about the 116 regions"):
        connectomes.asd_rule(Graph.of("x", np.zeros(3), [(0, 1)]))
    assert (len(set(connectomes.ASD_RULE_TD)), len(set(connectomes.ASD_RULE_ASD))) == (21, 19)


@pytest.mark.realdata
def test_abide_and_its_rule_have_their_published_numbers(public_data):
    graphs = connectomes.read_matrices(public_data / "abide_connectomes")
    assert (len(graphs), graphs.classes, np.bincount(graphs.y).tolist()) == (101, ("TD", "ASD"), [52, 49])
    assert (graphs.largest, graphs.matched, len(set(connectomes.sites(graphs)))) == (116, True, 12)
    assert np.mean([len(graph.edges) for graph in graphs]) == pytest.approx(655.6, abs=0.05)
    assert "NC" in graphs.source.licence
    said = np.array([connectomes.asd_rule(graph) for graph in graphs])
    right = said == graphs.y
    assert [round(float(some.mean()), 3) for some in (right, right[graphs.y == 0], right[graphs.y == 1])] == [
        0.772, 0.731, 0.816,
    ]  # fmt: skip
    best = np.array([connectomes.asd_rule_optimum(graph) for graph in graphs])
    assert (round(float(best.mean()), 2), np.median(best), best.max()) == (8.20, 7, 33)
    assert [round(float(best[said == label].mean()), 2) for label in (0, 1)] == [9.26, 7.28]


@pytest.mark.realdata
def test_the_optimal_edits_flip_the_rule_and_one_less_does_not(public_data):
    graphs = connectomes.read_matrices(public_data / "abide_connectomes")
    td = set(connectomes.ASD_RULE_TD)
    for graph in graphs.graphs[::5]:
        there = {tuple(edge) for edge in graph.edges.tolist()}
        # Among the first regions an edge weighs four times one among the others: these go first.
        ours = {e for e in there if set(e) <= td}
        if connectomes.asd_rule(graph):
            edits = [(i, j) for i in sorted(td) for j in sorted(td) if i < j and (i, j) not in ours]
        else:
            edits = sorted(ours)
        edits.sort(key=lambda e: len(set(e) & {70, 81}))  # the edge in both sets is worth less
        best = connectomes.asd_rule_optimum(graph)
        if best > len(edits):
            continue
        said = [
            connectomes.asd_rule(Graph.of("x", graph.nodes, sorted(there ^ set(edits[:k])))) for k in (best, best - 1)
        ]
        assert said == [1 - connectomes.asd_rule(graph), connectomes.asd_rule(graph)]
