"""Molecules: SDF without RDKit, SMILES with it, and both checks of valence."""

import sys

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs import molecules, tudataset
from medaudit.errors import DataError, UsageError

ETHENOL = """ethenol
  made by hand

  4  3  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0
    1.2000    0.5000   -0.1000 C   0  0  0  0  0  0
    2.4000    0.0000    0.0000 O   0  0  0  0  0  0
    3.1000    0.6000    0.0000 H   0  0  0  0  0  0
  1  2  2  0
  2  3  1  0
  3  4  1  0
M  END
> <class>
soluble

$$$$
"""
METHANE = """

comment
  1  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
M  END
>  <class>  (2)
not

"""


def sdf(folder, text=ETHENOL + METHANE):
    (folder / "set.sdf").write_text(text)
    return folder / "set.sdf"


def test_an_sdf_is_read_without_rdkit(tmp_path):
    graphs = molecules.read_sdf(sdf(tmp_path), label="class")
    first, second = graphs
    assert (first.id, second.id) == ("ethenol", "set_2")
    assert graphs.node_kinds == ("C", "H", "O")
    assert graphs.edge_kinds == ("single", "double")
    assert first.nodes.tolist() == [0, 0, 2, 1]
    assert first.edges.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert first.edge_kinds.tolist() == [1, 0, 0]
    assert (graphs.classes, graphs.y.tolist()) == (("not", "soluble"), [1, 0])
    assert first.features is None
    placed = molecules.read_sdf(sdf(tmp_path), positions=True, hydrogens=False)
    assert placed.graphs[0].n == 3
    assert placed.graphs[0].features[1].tolist() == [1.2, 0.5, -0.1]
    assert placed.y.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ETHENOL.replace("V2000", "V3000"), r"set\.sdf, line 4: is a V3000 block"),
        (ETHENOL.replace("  4  3  0", "  x  3  0"), r"line 4: 'x  3  0.*expected the numbers of atoms and bonds"),
        (ETHENOL.replace("  4  3  0", "  0  0  0"), "line 4: a molecule without atoms"),
        (ETHENOL.replace("    1.2000", "    one   "), r"line 6: 'one .*expected an atom"),
        (ETHENOL.replace("  2  3  1", "  2  9  1"), r"line 10: '2  9  1  0'; expected a bond: two of 4 atoms"),
        (ETHENOL.replace("  2  3  1", "  2  3  8"), r"line 10: '2  3  8  0'; expected a bond"),
        (ETHENOL.replace("  2  3  1", "  2  2  1"), r"line 1: graph ethenol: node 1 has an edge to itself"),
        (ETHENOL + METHANE.split("    0.0000")[0], r"ends before its 1 atoms and 0 bonds"),
        ("", "has no molecules"),
    ],
)
def test_a_flaw_in_an_sdf_is_named_with_its_line(tmp_path, text, why):
    with pytest.raises(DataError, match=why):
        molecules.read_sdf(sdf(tmp_path, text))


def test_a_label_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="no molecule has a property 'colour'"):
        molecules.read_sdf(sdf(tmp_path), label="colour")
    with pytest.raises(DataError, match=r"line 17: molecule set_2 has no property 'class'"):
        molecules.read_sdf(sdf(tmp_path, ETHENOL + METHANE.split(">")[0]), label="class")
    with pytest.raises(DataError, match="no such file"):
        molecules.read_sdf(tmp_path / "x.sdf")


def of(symbols, bonds, kinds=("single", "double", "triple", "aromatic")):
    elements = tuple(sorted(set(symbols)))
    graph = Graph.of(
        "m", [elements.index(s) for s in symbols], [b[:2] for b in bonds], [kinds.index(b[2]) for b in bonds]
    )
    return graph, Graphs("m", (graph,), np.array([0]), ("x",), elements, kinds)


METHYL = [(0, k, "single") for k in range(1, 5)]
RING = [(k, (k + 1) % 6, "aromatic") for k in range(6)]
NITRO = [(0, 1, "single"), (1, 2, "double"), (1, 3, "single")]


@pytest.mark.parametrize(
    ("symbols", "bonds", "implicit", "explicit"),
    [
        (["C", "H", "H", "H", "H"], METHYL, True, True),
        (["C", "H", "H"], METHYL[:2], True, False),
        (["C", "H", "H", "H", "H", "H"], [*METHYL, (0, 5, "single")], False, False),
        (["C"] * 6, RING, True, True),  # explicit: each carbon a cation, three bonds
        (["C"] * 6, [*RING, (0, 3, "double")], True, True),  # two aromatic and a double, as in a quinone
        (["C"] * 6, [*RING, (0, 3, "triple")], False, False),
        (["C", "N", "O", "O"], NITRO, True, False),
        (["F", "F", "F"], [(0, 1, "single"), (1, 2, "single")], False, False),
        (["O", "C"], [(0, 1, "triple")], True, True),  # carbon monoxide, as ions
        (["Pt", "Cl", "Cl", "Cl", "Cl"], METHYL, True, True),
    ],
)
def test_valence_is_that_of_the_element(symbols, bonds, implicit, explicit):
    graph, graphs = of(symbols, bonds)
    assert molecules.valence_ok(graph, graphs) is implicit
    assert molecules.valence_ok(graph, graphs, hydrogens=True) is explicit


def test_without_ions_a_nitro_group_has_a_bond_too_many():
    graph, graphs = of(["C", "N", "O", "O"], NITRO)
    assert not molecules.valence_ok(graph, graphs, ions=False)


def test_kinds_that_are_no_elements_or_bonds_are_said():
    graph, graphs = of(["C", "C"], [(0, 1, "edge")], kinds=("edge",))
    with pytest.raises(UsageError, match="edge kind 'edge' is no bond"):
        molecules.valence_ok(graph, graphs)
    graph, graphs = of(["1", "2"], [(0, 1, "single")])
    with pytest.raises(UsageError, match="node kinds are 1, 2; expected elements"):
        molecules.valence_ok(graph, graphs)


def test_without_rdkit_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(UsageError, match="pip install rdkit"):
        molecules.read_smiles(["C"])


def test_smiles_become_graphs_with_and_without_hydrogens():
    pytest.importorskip("rdkit")
    graphs = molecules.read_smiles(["OC=C", "c1ccccc1", "[Na+].[Cl-]"], ["a", "b", "a"])
    assert graphs.node_kinds == ("C", "Cl", "Na", "O")
    assert graphs.edge_kinds == ("single", "double")
    assert graphs.graphs[1].edge_kinds.tolist().count(1) == 3
    assert (graphs.classes, graphs.y.tolist()) == (("a", "b"), [0, 1, 0])
    assert molecules.read_smiles(["C"], hydrogens=True).graphs[0].n == 5
    assert molecules.read_smiles(["c1ccccc1"], aromatic=True).edge_kinds == ("aromatic",)
    assert molecules.valid(graphs).all()


def test_a_table_of_smiles_is_read_and_its_flaws_are_named(tmp_path):
    pytest.importorskip("rdkit")
    path = tmp_path / "set.csv"
    path.write_text("num,smiles,p_np\n1,CCO,1\n2,c1ccccc1,0\n3,C(C,1\n")
    with pytest.raises(DataError, match=r"set\.csv, row 3: 'C\(C' is no SMILES"):
        molecules.read_smiles(path, label="p_np")
    graphs = molecules.read_smiles(path, label="p_np", leave_out=True)
    assert ([graph.id for graph in graphs], graphs.y.tolist()) == (["set_1", "set_2"], [1, 0])
    assert graphs.notes == ("1 of 3 SMILES cannot be read; they are left out.",)
    with pytest.raises(UsageError, match="has no column 'y'; it has: num, smiles, p_np"):
        molecules.read_smiles(path, label="y")
    path.write_text("smiles,y\nCCO,0.5\nCC,1\n")
    with pytest.raises(UsageError, match=r"row 1: the label is 0\.5; expected a class"):
        molecules.read_smiles(path, label="y")


@pytest.mark.parametrize(
    ("symbols", "bonds", "good"),
    [
        (["C"] * 6, RING, True),
        (["C"] * 5, [(k, (k + 1) % 5, "aromatic") for k in range(5)], False),
        (["C", "N", "O", "O"], NITRO, True),
        (["C"] * 6, [(0, k, "single") for k in range(1, 6)], False),
        (["C", "C"], [], True),
    ],
)
def test_rdkit_says_what_is_a_molecule(symbols, bonds, good):
    pytest.importorskip("rdkit")
    assert molecules.valid(of(symbols, bonds)[1]).tolist() == [good]


def test_rdkit_reads_the_same_from_an_sdf(tmp_path):
    chem = pytest.importorskip("rdkit.Chem")
    graphs = molecules.read_sdf(sdf(tmp_path))
    for graph, other in zip(
        graphs, chem.SDMolSupplier(str(tmp_path / "set.sdf"), sanitize=False, removeHs=False), strict=True
    ):
        assert [graphs.node_kinds[k] for k in graph.nodes] == [atom.GetSymbol() for atom in other.GetAtoms()]
        assert {
            (i, j, graphs.edge_kinds[k]) for (i, j), k in zip(graph.edges.tolist(), graph.edge_kinds, strict=True)
        } == {(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), str(b.GetBondType()).lower()) for b in other.GetBonds()}
    assert molecules.valid(graphs).all()


@pytest.mark.realdata
def test_nearly_all_of_aids_and_mutag_are_molecules(public_data):
    for name, least in (("AIDS", 0.998), ("MUTAG", 0.989)):
        graphs = tudataset.read(public_data / "tudataset" / name)
        assert np.mean([molecules.valence_ok(graph, graphs) for graph in graphs]) >= least


@pytest.mark.realdata
def test_both_checks_agree_on_nearly_all_of_aids(public_data):
    pytest.importorskip("rdkit")
    graphs = tudataset.read(public_data / "tudataset" / "AIDS").some(np.arange(0, 2000, 4))
    ours = np.array([molecules.valence_ok(graph, graphs) for graph in graphs])
    assert (ours == molecules.valid(graphs)).mean() >= 0.995
