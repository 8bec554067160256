"""A folder's layout is found out; where it has none, what is accepted is said."""

import numpy as np
import pytest

from medaudit.datasets.graphs.folder import LAYOUTS, layout_of, read_folder
from medaudit.errors import DataError

SDF = "a\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 C   0  0\nM  END\n$$$$\n"
FILES = {
    "TUDataset": {"raw/S_A.txt": "1,2\n2,1\n", "raw/S_graph_indicator.txt": "1\n1\n", "raw/S_graph_labels.txt": "0\n"},
    # As graspologic has it: tables in a sub-folder, which are no matrices.
    "edge lists": {
        "edgelists/s1.edgelist": "0 1 2\n", "participants.csv": "participant_id,genotype\ns1,B6\n",
        "features/s1.csv": "ROI,volume\n1,2\n", "more/s1.csv": "ROI,volume\n1,2\n",
    },
    "adjacency lists": {"set/s1/s1_graph.adjlist": "# c\n0 1\n1\n1 0\n", "set/s1/s1_label.json": "0"},
    "correlations": {"train_FNC.csv": "Id,FNC1\n7,0.5\n", "train_labels.csv": "Id,Class\n7,0\n"},
    "matrices": {"td/a.txt": "0 1\n1 0\n", "asd/b.txt": "0 1\n1 0\n"},
    "SDF": {"set.sdf": SDF},
    "SMILES": {"set.csv": "SMILES,label\nCC,0\n"},
}  # fmt: skip


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_found_and_read(tmp_path, layout):
    folder = write(tmp_path, FILES[layout])
    assert layout_of(folder) == layout
    if layout == "SMILES":
        pytest.importorskip("rdkit")
    graphs = read_folder(folder)
    assert len(graphs) == (2 if layout == "matrices" else 1)
    assert graphs.graphs[0].n == (1 if layout == "SDF" else 2)


def test_a_single_file_is_read_too(tmp_path):
    folder = write(tmp_path, FILES["SDF"])
    assert np.array_equal(read_folder(folder / "set.sdf").y, [-1])


def test_what_is_accepted_is_said_where_there_is_nothing(tmp_path):
    write(tmp_path, {"train/a.csv": "name,age\nx,3\n", "test/b.csv": "name,age\ny,4\n", "table.csv": "a,b\n1,2\n"})
    with pytest.raises(DataError, match=r"expected a folder of graphs: TUDataset \(NAME_A\.txt.*SMILES \(one \.csv"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no such folder; expected"):
        read_folder(tmp_path / "x")


@pytest.mark.realdata
def test_the_real_folders_are_found_out(public_data):
    assert layout_of(public_data / "tudataset" / "NCI1") == "TUDataset"
    assert layout_of(public_data / "abide_connectomes") == "matrices"
    assert layout_of(public_data) is None
