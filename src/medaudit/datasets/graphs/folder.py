"""A folder of graphs, whatever its layout: it is found out, and read."""

from __future__ import annotations

from pathlib import Path

from medaudit.cohort import read_table
from medaudit.cohort.graphs import Graphs
from medaudit.datasets.graphs import connectomes, molecules, tudataset
from medaudit.errors import DataError

LAYOUTS = {
    "TUDataset": "NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt, here or in raw/",
    "edge lists": "*.edgelist, here or in edgelists/, and participants.csv or labels.csv",
    "adjacency lists": "*.adjlist at any depth, each with its class beside it, *_label.json",
    "correlations": "*FNC.csv and *labels.csv",
    "matrices": "two or more sub-folders, a class each, of square matrices as .txt or .csv",
    "SDF": "one .sdf, V2000",
    "SMILES": "one .csv with a column smiles",
}
"""What :func:`read_folder` accepts, in the order in which it looks."""


def read_folder(path: str | Path, *, label: str | None = None) -> Graphs:
    """Return the graphs of a folder, or of a single SDF or CSV, in any of :data:`LAYOUTS`.

    ``label`` names the property (SDF) or column (SMILES, edge lists) that is the class. Raises DataError that lists the
    layouts where it is none of them, and what the layout's own reader raises.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".sdf", ".sd"):
        return molecules.read_sdf(path, label=label)
    if path.is_file() and path.suffix.lower() == ".csv":
        return molecules.read_smiles(path, label=label)
    if path.is_dir():
        layout = layout_of(path)
        if layout == "TUDataset":
            return tudataset.read(path)
        if layout == "edge lists":
            return connectomes.read_edge_lists(path, column=label)
        if layout == "adjacency lists":
            return connectomes.read_adjlists(path)
        if layout == "correlations":
            return connectomes.read_fnc(path)
        if layout == "matrices":
            return connectomes.read_matrices(path)
        if layout == "SDF":
            return molecules.read_sdf(next(iter(sorted(path.glob("*.sdf")))), label=label)
        if layout == "SMILES":
            return molecules.read_smiles(next(iter(sorted(path.glob("*.csv")))), label=label)
    missing = "" if path.exists() else "no such folder; "
    accepted = "; ".join(f"{name} ({what})" for name, what in LAYOUTS.items())
    raise DataError(f"{path}: {missing}expected a folder of graphs: {accepted}")


def layout_of(folder: str | Path) -> str | None:
    """Return which of :data:`LAYOUTS` a folder has, or nothing."""
    folder = Path(folder)
    if tudataset.is_one(folder):
        return "TUDataset"
    if connectomes.edge_lists(folder):
        return "edge lists"
    if next(folder.rglob("*.adjlist"), None):
        return "adjacency lists"
    if sorted(folder.glob("*FNC.csv")):
        return "correlations"
    places = connectomes.class_folders(folder)
    if len(places) > 1 and all(_begins_with_numbers(files[0]) for _place, files in places):
        return "matrices"
    if len(sorted(folder.glob("*.sdf"))) == 1:
        return "SDF"
    tables = sorted(folder.glob("*.csv"))
    if len(tables) == 1 and "smiles" in [name.lower() for name in read_table(tables[0]).columns]:
        return "SMILES"
    return None


def _begins_with_numbers(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        words = file.readline().replace(",", " ").split()
    try:
        return len([float(word) for word in words]) > 1
    except ValueError:
        return False
