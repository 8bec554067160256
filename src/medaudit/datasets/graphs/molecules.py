"""Molecules as graphs, out of SMILES (through RDKit) or SDF (without it), and whether a graph is a molecule at all.

A node's kind is its element, an edge's its bond: single, double, triple, and aromatic where rings are not drawn with
double bonds. Charges are not kinds: AIDS and Mutagenicity have none either. So both checks allow an atom the bonds of
its common ions (a nitro group's nitrogen has four).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medaudit.cohort import read_table
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.number_files import text_of
from medaudit.errors import DataError, UsageError

BONDS = ("single", "double", "triple", "aromatic")
_ORDER = {"single": 1, "double": 2, "triple": 3, "1": 1, "2": 2, "3": 3, "aromatic": 0}
"""What an edge kind's name says of the bond's order; 0 is aromatic, 1 or 2."""

VALENCES: dict[str, tuple[int, ...]] = {
    "H": (1,), "B": (3,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "Si": (4,), "P": (3, 5), "S": (2, 4, 6),
    "Cl": (1,), "Ge": (4,), "As": (3, 5), "Se": (2, 4, 6), "Br": (1,), "Sn": (2, 4), "Te": (2, 4, 6), "I": (1, 3, 5),
}  # fmt: skip
"""How many bonds an element has; what is not listed (metals) may have any number."""
IONS: dict[str, tuple[int, ...]] = {
    "B": (4,), "C": (3,), "N": (2, 4, 5), "O": (1, 3), "F": (0,), "P": (4, 6), "S": (1, 3), "Cl": (0, 4), "Se": (1, 3),
    "Br": (0,), "I": (0,), "As": (4,),
}  # fmt: skip
"""How many it has besides, as an ion or as such groups are drawn: nitro with four or five at its nitrogen."""


def read_smiles(
    source: str | Path | Sequence[str], labels: Sequence[Any] | ArrayLike | None = None, *, column: str = "smiles",
    label: str | None = None, hydrogens: bool = False, aromatic: bool = False, leave_out: bool = False,
) -> Graphs:  # fmt: skip
    """Return the molecules of a list of SMILES with their ``labels``, or of a table's ``column`` with its ``label``.

    Without labels no class is known. ``hydrogens`` makes nodes of hydrogens too. Rings are drawn with single and double
    bonds, unless ``aromatic``. What RDKit cannot read is an error, or with ``leave_out`` is counted in a note.

    Raises DataError naming the row for a SMILES that is empty or none, UsageError for a column that is not there, a
    label that is no class, and where RDKit is not installed.
    """
    chem = _rdkit()
    if isinstance(source, str | Path):
        path = Path(source)
        table = read_table(path)
        named = {name.lower(): name for name in table.columns}
        if column.lower() not in named:
            raise UsageError(f"{path} has no column '{column}'; it has: {', '.join(table.columns)}")
        if label is not None and label not in table.columns:
            raise UsageError(f"{path} has no column '{label}'; it has: {', '.join(table.columns)}")
        texts, name = [str(one or "") for one in table[named[column.lower()]].to_list()], path.stem
        labels = None if label is None else table[label].to_list()
        where = [f"{path}, row {k + 1}" for k in range(len(texts))]
    else:
        texts, name = [str(one) for one in source], "smiles"
        where = [f"SMILES {k + 1}" for k in range(len(texts))]
    values = None if labels is None else np.asarray(labels, dtype=object).tolist()
    if values is not None and len(values) != len(texts):
        raise UsageError(f"{len(texts)} SMILES, {len(values)} labels; expected one each")
    rows, atoms, bonds = [], [], []
    with _quiet():
        for k, text in enumerate(texts):
            molecule = chem.MolFromSmiles(text) if text.strip() else None
            if molecule is None:
                if not leave_out:
                    raise DataError(f"{where[k]}: '{text[:60]}' is no SMILES that RDKit reads; leave_out leaves it out")
                continue
            if hydrogens:
                molecule = chem.AddHs(molecule)
            if not aromatic:
                chem.Kekulize(molecule, clearAromaticFlags=True)
            rows.append(k)
            atoms.append([atom.GetSymbol() for atom in molecule.GetAtoms()])
            bonds.append([_bond(bond, where[k]) for bond in molecule.GetBonds()])
    if not rows:
        raise DataError(f"{name}: has no SMILES that RDKit reads")
    bad = len(texts) - len(rows)
    notes = [f"{bad:,} of {len(texts):,} SMILES cannot be read; they are left out."] if bad else []
    return _set(
        name, [f"{name}_{k + 1}" for k in rows], atoms, bonds, None if values is None else [values[k] for k in rows],
        notes, [where[k] for k in rows],
    )  # fmt: skip


def read_sdf(path: str | Path, *, label: str | None = None, hydrogens: bool = True, positions: bool = False) -> Graphs:
    """Return the molecules of an SDF with V2000 blocks; needs no RDKit.

    ``label`` names the property (``> <label>``) that is the class; without it none is known. ``hydrogens`` keeps those
    that the file draws as atoms. ``positions`` keeps (n, 3) coordinates as features. A graph's id is its title, or its
    number where that is empty or taken.

    Raises DataError naming the file and line for a block that is broken, is V3000 or has no atoms, and for a molecule
    without the label; UsageError where no molecule has it.
    """
    path = Path(path)
    ids = dict[str, None]()
    atoms, bonds, labels, places, where = [], [], [], [], []
    every = text_of(path).splitlines()
    for first, lines in _records(every):
        at = f"{path}, line {first}"
        title, symbols, xyz, drawn, properties = _v2000(path, first, lines)
        if not hydrogens and any(symbol != "H" for symbol in symbols):
            kept = [i for i, symbol in enumerate(symbols) if symbol != "H"]
            place = {i: k for k, i in enumerate(kept)}
            symbols, xyz = [symbols[i] for i in kept], xyz[kept]
            drawn = [(place[i], place[j], bond) for i, j, bond in drawn if i in place and j in place]
        ids[title if title and title not in ids else f"{path.stem}_{len(ids) + 1}"] = None
        atoms.append(symbols)
        bonds.append(drawn)
        places.append(xyz)
        labels.append(properties.get(label) if label is not None else None)
        where.append(at)
    if not ids:
        raise DataError(f"{path}: has no molecules; expected an SDF")
    if label is not None and all(one is None for one in labels):
        raise UsageError(f"{path}: no molecule has a property '{label}'")
    if label is not None and None in labels:
        k = labels.index(None)
        raise DataError(f"{where[k]}: molecule {list(ids)[k]} has no property '{label}'")
    return _set(
        path.stem,
        list(ids),
        atoms,
        bonds,
        labels if label is not None else None,
        [],
        where,
        places if positions else None,
    )


def valid(graphs: Graphs) -> np.ndarray:
    """Return (N,) bool: which graphs RDKit takes for molecules (SanitizeMol), hydrogens added where bonds are free.

    Nitrogen, oxygen, sulphur and phosphorus with a bond too many are taken for cations. Parts that do not hang together
    may be valid. Raises UsageError where RDKit is not installed, and where kinds are not elements or bonds.
    """
    chem = _rdkit()
    elements, orders = _elements(graphs), _orders(graphs)
    table = chem.GetPeriodicTable()
    for element in elements:
        try:
            table.GetAtomicNumber(element)
        except RuntimeError:
            raise UsageError(f"{graphs.name}: '{element}' is no element; expected node kinds as C, N, Cl") from None
    types = [
        {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE, 0: chem.BondType.AROMATIC}[order]
        for order in orders
    ]
    found = np.zeros(len(graphs), dtype=bool)
    with _quiet():
        for k, graph in enumerate(graphs):
            molecule = chem.RWMol()
            total = _bonds_of(graph, orders)[0]
            for i, kind in enumerate(graph.nodes):
                atom = chem.Atom(elements[kind])
                if total[i] == {"N": 4, "O": 3, "S": 3, "P": 4}.get(elements[kind]):
                    atom.SetFormalCharge(1)
                molecule.AddAtom(atom)
            for (i, j), kind in zip(graph.edges.tolist(), graph.edge_kinds, strict=True):
                molecule.AddBond(i, j, types[kind])
                if orders[kind] == 0:
                    molecule.GetBondBetweenAtoms(i, j).SetIsAromatic(True)
                    molecule.GetAtomWithIdx(i).SetIsAromatic(True)
                    molecule.GetAtomWithIdx(j).SetIsAromatic(True)
            found[k] = chem.SanitizeMol(molecule, catchErrors=True) == chem.SanitizeFlags.SANITIZE_NONE
    return found


def valence_ok(graph: Graph, graphs: Graphs, *, hydrogens: bool = False, ions: bool = True) -> bool:
    """Whether each atom has as many bonds as its element may have, by :data:`VALENCES` and, with ``ions``, IONS.

    Where hydrogens are not nodes an atom may have fewer, as hydrogens fill up; with ``hydrogens`` it has to be one of
    the numbers. Of an atom with aromatic bonds one of them may count double. It needs no RDKit, and is coarser than
    :func:`valid`. ``graphs`` names the kinds. Raises UsageError where these are not bonds.
    """
    elements = _elements(graphs)
    low, high = _bonds_of(graph, _orders(graphs))
    for i, kind in enumerate(graph.nodes):
        allowed = VALENCES.get(elements[kind])
        if allowed is None:
            continue
        allowed = (*allowed, *(IONS.get(elements[kind], ()) if ions else ()))
        if hydrogens and not any(low[i] <= v <= high[i] for v in allowed):
            return False
        if low[i] > max(allowed):
            return False
    return True


def _bonds_of(graph: Graph, orders: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) the sum of each atom's bond orders, and with one of its aromatic bonds counted double."""
    order = np.array(orders, dtype=np.int64)[graph.edge_kinds]
    ends = graph.edges.ravel()
    low = np.bincount(ends, weights=np.repeat(np.maximum(order, 1), 2), minlength=graph.n)
    aromatic = np.bincount(ends, weights=np.repeat(order == 0, 2), minlength=graph.n) > 0
    return low, low + aromatic


def _elements(graphs: Graphs) -> tuple[str, ...]:
    if not any(kind in VALENCES for kind in graphs.node_kinds):
        raise UsageError(f"{graphs.name}: node kinds are {', '.join(graphs.node_kinds[:5])}; expected elements, as C")
    return graphs.node_kinds


def _orders(graphs: Graphs) -> list[int]:
    if odd := [kind for kind in graphs.edge_kinds if kind not in _ORDER]:
        raise UsageError(f"{graphs.name}: edge kind '{odd[0]}' is no bond; expected {', '.join(BONDS)} or 1, 2, 3")
    return [_ORDER[kind] for kind in graphs.edge_kinds]


def _set(
    name: str, ids: Sequence[str], atoms: Sequence[Sequence[str]], bonds: Sequence[Sequence[tuple[int, int, str]]],
    labels: Sequence[Any] | None, notes: Sequence[str], where: Sequence[str],
    places: Sequence[np.ndarray] | None = None,
) -> Graphs:  # fmt: skip
    """Return the set; elements in order of how often they occur, bonds in that of their order."""
    elements, counts = np.unique([symbol for some in atoms for symbol in some], return_counts=True)
    kinds = tuple(elements[np.lexsort((elements, -counts))].tolist())
    used = {bond for some in bonds for _, _, bond in some}
    edge_kinds = tuple(bond for bond in BONDS if bond in used) or ("single",)
    graphs = []
    for k, (id_, symbols, drawn) in enumerate(zip(ids, atoms, bonds, strict=True)):
        try:
            graphs.append(Graph.of(
                id_, [kinds.index(symbol) for symbol in symbols], [(i, j) for i, j, _ in drawn],
                [edge_kinds.index(bond) for _, _, bond in drawn], features=None if places is None else places[k],
            ))  # fmt: skip
        except DataError as error:
            raise DataError(f"{where[k]}: {error}") from None
    if labels is None:
        return Graphs(name, tuple(graphs), np.full(len(graphs), -1), (), kinds, edge_kinds, notes=tuple(notes))
    for k, label in enumerate(labels):
        if label is None or label == "" or label != label:
            raise DataError(f"{where[k]}: has no label; expected a class")
        if isinstance(label, float) and not label.is_integer():
            raise UsageError(f"{where[k]}: the label is {label:g}; expected a class, not a measurement")
    classes, y = np.unique(
        [str(int(one)) if isinstance(one, float) else str(one).strip() for one in labels], return_inverse=True
    )
    return Graphs(
        name, tuple(graphs), y.ravel(), tuple(classes.tolist()), kinds, edge_kinds, notes=tuple(notes)
    )  # fmt: skip


def _records(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each molecule's first line, counted from 1, and its lines."""
    start = 0
    for k, line in enumerate(lines):
        if line.startswith("$$$$"):
            yield start + 1, list(lines[start:k])
            start = k + 1
    if any(line.strip() for line in lines[start:]):
        yield start + 1, list(lines[start:])


def _v2000(
    path: Path, first: int, lines: Sequence[str]
) -> tuple[str, list[str], np.ndarray, list[tuple[int, int, str]], dict[str, str]]:
    """Return title, elements, (n, 3) positions, bonds and properties; columns are fixed, as the format has them."""
    counts = lines[3] if len(lines) > 3 else ""
    if "V3000" in counts:
        raise DataError(f"{path}, line {first + 3}: is a V3000 block; expected V2000")
    try:
        n, e = int(counts[:3]), int(counts[3:6])
    except ValueError:
        raise DataError(
            f"{path}, line {first + 3}: '{counts.strip()[:40]}'; expected the numbers of atoms and bonds"
        ) from None
    if n < 1:
        raise DataError(f"{path}, line {first + 3}: a molecule without atoms")
    if len(lines) < 4 + n + e:
        raise DataError(f"{path}, line {first + len(lines) - 1}: ends before its {n} atoms and {e} bonds")
    symbols, xyz = [], np.empty((n, 3))
    for k, line in enumerate(lines[4 : 4 + n]):
        symbol = line[31:34].strip()
        symbol = symbol if symbol.isascii() and symbol.isprintable() else ""  # NumPy drops a NUL at a text's end
        try:
            xyz[k] = [float(line[at : at + 10]) for at in (0, 10, 20)]
        except ValueError:
            symbol = ""
        if not symbol:
            raise DataError(f"{path}, line {first + 4 + k}: '{line.strip()[:40]}'; expected an atom: x, y, z, element")
        symbols.append("H" if symbol in ("D", "T") else symbol)
    bonds = []
    for k, line in enumerate(lines[4 + n : 4 + n + e]):
        try:
            i, j, bond = int(line[:3]), int(line[3:6]), int(line[6:9])
        except ValueError:
            i = j = bond = 0
        if not (1 <= i <= n and 1 <= j <= n and 1 <= bond <= 4):
            raise DataError(
                f"{path}, line {first + 4 + n + k}: '{line.strip()[:40]}'; expected a bond: two of {n} atoms, and 1 to "
                "4 for single, double, triple, aromatic"
            )
        bonds.append((i - 1, j - 1, BONDS[bond - 1]))
    properties, rest = {}, lines[4 + n + e :]
    for k, line in enumerate(rest):
        if line.startswith(">") and "<" in line and ">" in line[1:]:
            key = line[line.index("<") + 1 : line.rindex(">")]
            properties[key] = rest[k + 1].strip() if k + 1 < len(rest) else ""
    return lines[0].strip(), symbols, xyz, bonds, properties


def _bond(bond: Any, where: str) -> tuple[int, int, str]:
    kind = str(bond.GetBondType()).lower()
    if kind == "dative":  # as of a metal's complex
        kind = "single"
    if kind not in BONDS:
        raise DataError(f"{where}: has a bond that is {kind}; expected {', '.join(BONDS)}")
    return bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), kind


def _rdkit() -> Any:
    try:
        from rdkit import Chem
    except ImportError:
        raise UsageError("RDKit is not installed, which reads SMILES; pip install rdkit") from None
    return Chem


def _quiet() -> Any:
    """Return a context in which RDKit does not print what it thinks of a molecule."""
    from rdkit.rdBase import BlockLogs

    return BlockLogs()
