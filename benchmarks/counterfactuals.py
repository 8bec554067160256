"""Counterfactuals of graphs per second: ours, the published loop's, GRETEL's search and exmol's, in one run.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.counterfactuals [--data ../shared/data] [--graphs 12] [--work FOLDER]

$MEDAUDIT_PEERS/latent-graph-counterfactuals is the code of arXiv 2501.08850 (github.com/abildtrup, c46feb3), GRETEL
that of github.com/aiim-research (0599896), exmol a `pip install --target` of exmol 3.3.0 and RDKit. What is not there
is left out. All run in this Python on one thread of the CPU; modules that they import and do not need here are stubs.

Only what is valid counts: the same classifier, asked of the hard graph without empty slots, gives it the class that was
wanted. Edits are the mean upper bound of the edit distance over what is valid, found alike for all. `asked` is how many
graphs the classifier saw, soft ones of a walk among them. Processor time; nets are trained before, by all ways alike.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import types
from abc import ABCMeta
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs import connectomes, tudataset
from medaudit.datasets.graphs.molecules import valence_ok
from medaudit.explanation.counterfactuals.black_box import BlackBox, DenseBox, EdgeScoreBox, RuleBox
from medaudit.explanation.counterfactuals.explain import How, explain, targets_of
from medaudit.explanation.counterfactuals.search import Search
from medaudit.explanation.counterfactuals.traversal import in_slots, published_walk
from medaudit.metrics.graph_edit import edit_distances, isomorphic
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.training.devices import one_thread
from medaudit.training.graphs.classifier import GraphClassifierRecipe, fit_graph_classifier
from medaudit.training.graphs.vae import GraphVaeRecipe, fit_graph_vae, rebuilt

PEERS = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere"))
ITERATIONS, RATE, WEIGHT, TAU = 1_000, 0.05, 1.0, 1.0
"""Of the published loop: its config/predicter."""
PAPER = GraphVaeRecipe("paper", steps=500, learning_rate=1e-3, epochs=1)
STRONG = GraphVaeRecipe(steps=800)
CLASSIFIER = GraphClassifierRecipe(steps=300)

Ends = list[Graph | None]


class Counted:
    """A classifier, and how many graphs it was asked about."""

    def __init__(self, box: BlackBox) -> None:
        self.box, self.asked = box, 0

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        self.asked += len(graphs)
        return self.box.probabilities(graphs)

    def logits(self, batch: GraphBatch) -> Tensor | None:
        told = self.box.logits(batch)
        self.asked += 0 if told is None else len(batch)
        return told


@dataclass
class Case:
    """Graphs, the class that each should get, and who says which it has."""

    name: str
    graphs: list[Graph]
    targets: list[int]
    box: BlackBox
    known: Graphs
    size: int
    rows: list[tuple[str, int, float, float, float, int, float]] = field(default_factory=list)

    def run(self, name: str, find: Callable[[Counted], Ends], graphs: Sequence[Graph] | None = None) -> None:
        """Time a way, and keep what is valid of what it found: one end, or none, for each graph."""
        box = Counted(self.box)
        start = time.process_time()
        ends = find(box)
        seconds = time.process_time() - start
        graphs = self.graphs if graphs is None else graphs
        of = {graph.id: target for graph, target in zip(self.graphs, self.targets, strict=True)}
        pairs = [
            (graph, end)
            for graph, end in zip(graphs, ends, strict=True)
            if end is not None and self.box.probabilities([end]).argmax() == of[graph.id]
        ]
        edits = np.array([one.upper for one in edit_distances(pairs, matched=self.known.matched)])
        shares = 100 * len(pairs) / len(graphs), float(edits.mean()) if len(pairs) else np.nan
        self.rows.append((name, len(graphs), *shares, len(pairs) / seconds, box.asked, seconds))
        print(f"  {self.name}, {name}: {seconds:.1f} s", file=sys.stderr, flush=True)

    def ours(self, name: str, how: How, vae: GraphVAE | None = None, **more: Any) -> None:
        """Time one of our ways."""

        def find(box: Counted) -> Ends:
            found = explain(self.graphs, self.targets, box, vae, self.known, self.size, how, **more)
            return [one.found if one.flips else None for one in found]

        self.run(name, find)

    def told(self, *against: str) -> None:
        """Print the rows, with how many times as many valid ones a second each way of ``against`` finds."""
        speed = {name: fast for name, _, _, _, fast, _, _ in self.rows}
        heads = "".join(f" {name}, over it |" for name in against)
        print(f"| {self.name} | graphs | flips % | edits | asked | s | valid / s |{heads}")
        print("|---|" + "---:|" * (6 + len(against)))
        for name, count, flips, edits, fast, asked, seconds in self.rows:
            over = "".join(f" {speed[one] / fast:.3g} x |" if fast else " none valid |" for one in against)
            print(f"| {name} | {count} | {flips:.0f} | {edits:.1f} | {asked:,} | {seconds:.2f} | {fast:.3g} |{over}")
        print(flush=True)


class _Anything(ABCMeta):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Anything):
    """A class, a decorator, a function: whatever a stub is asked for, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        pass


class _Stub(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


@contextmanager
def stubs(folder: str, *names: str) -> Iterator[None]:
    """Make a peer importable, with stubs in the place of modules that it does not need here."""
    sys.path.append(str(PEERS / folder))
    kept = {name: sys.modules.get(name) for name in names}
    sys.modules |= {name: _Stub(name) for name in names}
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def trained(
    graphs: Graphs, count: int, work: Path, recipes: Sequence[GraphVaeRecipe]
) -> tuple[Case, list[GraphVAE], str]:  # fmt: skip
    """Return a case of held-out graphs, nets trained on the others, and how they were."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(graphs))
    held, train = np.sort(order[: len(graphs) // 5]), np.sort(order[len(graphs) // 5 :])
    channels = GraphChannels.of(graphs)
    net = fit_graph_classifier(graphs, train.tolist(), CLASSIFIER, work / "classifier")
    box = DenseBox(net, channels)
    predicted = box.probabilities(graphs.graphs).argmax(1)
    right = 100 * float((predicted[held] == graphs.y[held]).mean())
    said = f"{graphs.name}: classifier {CLASSIFIER.steps} steps, right for {right:.0f} % of those held out"
    vaes = []
    for recipe in recipes:
        vae = fit_graph_vae(graphs, train.tolist(), recipe, work / recipe.arch)
        back = rebuilt(vae, [graphs.graphs[i] for i in held], graphs.largest)
        said += f"; autoencoder {recipe.arch} {recipe.steps} steps, rebuilds edges with F1 {back.edge_f1.mean():.2f}"
        vaes.append(vae)
    rows = held[np.linspace(0, len(held) - 1, min(count, len(held))).round().astype(int)]
    targets = targets_of(predicted[rows], 2).tolist()
    case = Case(graphs.name, [graphs.graphs[i] for i in rows], targets, box, graphs.some(train), graphs.largest)
    return case, vaes, said


def released(vae: GraphVAE) -> tuple[nn.Module, nn.Module, Any, Any]:
    """Return the released encoder and decoder with our net's weights, its loop, and its classifier's class."""
    names = (
        "torch_geometric", "torch_geometric.nn", "torch_geometric.data", "stochman", "stochman.nnj", "hydra", "wandb",
        "pytorch_lightning", "torchmetrics", "torchmetrics.classification",
        "counterfactual_graph_generation.visualizations", "counterfactual_graph_generation.visualizations.plotting",
    )  # fmt: skip
    with stubs("latent-graph-counterfactuals", *names):
        from counterfactual_graph_generation.models.decoders import GNNDecoder
        from counterfactual_graph_generation.models.encoders import GNNEncoder
        from counterfactual_graph_generation.models.graphClassifier import DenseGraphClassifier
        from counterfactual_graph_generation.models.model import ClassifierGuidedCF

    shape = (vae.channels.nodes, vae.channels.edges, 1, 20)
    encoder, decoder = GNNEncoder(*shape).eval(), GNNDecoder(*shape).eval()
    with torch.no_grad():
        theirs = [*encoder.parameters(), *decoder.parameters()]
        # Left out, the first, is the Gaussians' of numbers.
        for their, own in zip(theirs, list(vae.parameters())[1:], strict=True):
            their.copy_(own.view_as(their))
    return encoder, decoder, ClassifierGuidedCF, DenseGraphClassifier


class _AsTheirs(nn.Module):
    """Our classifier as the released loop asks one."""

    def __init__(self, box: BlackBox) -> None:
        super().__init__()
        self.box = box

    def forward(self, parts: list[Tensor]) -> tuple[None, None, Tensor | None]:
        nodes, exists, adjacency, edges = parts[:4]
        return None, None, self.box.logits(GraphBatch(exists, nodes, adjacency, edges))


def same(vae: GraphVAE, encoder: nn.Module, decoder: Any, graphs: list[Graph], size: int) -> float:
    """Return by how much codes and logits of the two nets differ at most."""
    given = dense(graphs, vae.channels, size)
    with torch.no_grad():
        mean, _ = vae.encode(given)
        theirs, _ = encoder(given.nodes, given.exists, given.adjacency, given.edges)
        whole = vae.logits(mean, given)
        both = torch.cat([mean, given.exists], dim=1)
        outer = (both.transpose(1, 2) @ both).unsqueeze(1)
        around, edges = (
            (values + values.transpose(2, 3)) / 2
            for values in (
                decoder.adjacency_decoder(outer),
                decoder.edge_attr_decoder(torch.cat([outer, given.adjacency], dim=1)),
            )
        )
        pairs = [
            (mean, theirs),
            (whole.exists, decoder.one_zero_node_decoder(mean)),
            (whole.nodes, decoder.node_decoder(both)),
            (whole.adjacency, around),
            (whole.edges, edges),
        ]
        apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    if apart > 1e-3:
        raise SystemExit(f"the released net and ours with the same weights differ by {apart:.1e}")
    return apart


def walks(data: Path, count: int, work: Path) -> None:
    """Print walks through latents, on the paper's AIDS."""
    graphs = tudataset.filtered(tudataset.read(data / "tudataset" / "AIDS").without_features(), 30)
    case, (paper, strong), said = trained(graphs, count, work / "AIDS", (PAPER, STRONG))
    note = "The released loop is not measured: $MEDAUDIT_PEERS/latent-graph-counterfactuals is not there."
    if (PEERS / "latent-graph-counterfactuals").is_dir():
        encoder, decoder, loop, classifier = released(paper)
        apart = same(paper, encoder, decoder, case.graphs, case.size)

        def model(asked: nn.Module) -> Any:
            given = dense(case.graphs, paper.channels, case.size)
            with torch.no_grad():
                z, _ = encoder(given.nodes, given.exists, given.adjacency, given.edges)
            return loop(z, 1 - torch.tensor(case.targets), decoder, asked, RATE, WEIGHT, TAU)

        def find(box: Counted) -> Ends:
            torch.manual_seed(0)
            made = model(_AsTheirs(box))
            made.train_model(ITERATIONS)
            with torch.no_grad():
                _, nodes, exists, adjacency, edges, *_ = made()
            return [one.graph("found") for one in in_slots(GraphBatch(exists, nodes, adjacency, edges))]

        case.run(f"released loop, {ITERATIONS:,} iterations", find)
        torch.manual_seed(0)
        own = classifier(paper.channels.nodes, paper.channels.edges)
        for weights in own.parameters():
            nn.init.uniform_(weights, -0.1, 0.1)
        per = []
        for asked in (_AsTheirs(case.box), own.eval()):
            made = model(asked)
            made.train_model(2)
            start = time.process_time()
            made.train_model(20)
            per.append(50 * (time.process_time() - start))
        note = (
            f"Same weights: codes and logits within {apart:.0e} of the largest. The released loop asks our classifier "
            f"here, whose layers are fused; with a net of its own class an iteration takes {per[1]:.0f} ms, with ours "
            f"{per[0]:.0f} (20 iterations, random weights)."
        )

    def fused(box: Counted) -> Ends:
        found = published_walk(paper, box, case.graphs, case.targets, case.size, steps=ITERATIONS)
        return [one.proposals[0].graph("found") for one in found]

    case.run("its loop on our layers", fused)
    for name, vae in (("same net", paper), ("strong net", strong)):
        case.ours(f"walk, {name}", How("walk"), vae)
    case.ours("search", How("search"))
    for name, vae in (("same net", paper), ("strong net", strong)):
        case.ours(f"both, {name}", How("both"), vae)
    case.told("walk, same net", "walk, strong net", "both, strong net")
    print(f"{said}.\n{note}\n", flush=True)


class _Asked:
    """A classifier as GRETEL asks one: a matrix of 0 and 1 at a time."""

    def __init__(self, told: Callable[[np.ndarray], int]) -> None:
        self.told, self.asked = told, 0

    def predict(self, instance: Any) -> int:
        self.asked += 1
        return self.told(instance.data)


def gretel() -> tuple[Callable[[Graph, Any], np.ndarray], Any]:
    """Return GRETEL's oblivious bidirectional search of a graph with an oracle, and its rule for ABIDE."""
    names = (
        "src.utils", "src.utils.context", "src.utils.cfg_utils", "src.core.factory_base", "src.core.trainable_base",
        "src.dataset.dataset_base",
    )  # fmt: skip
    with stubs("GRETEL", *names):
        from src.dataset.instances.graph import GraphInstance
        from src.explainer.heuristic.obs import (
            ObliviousBidirectionalSearchExplainer,
        )
        from src.explainer.heuristic.obs_dist import ObliviousBidirectionalDistance
        from src.oracle.custom.oracle_asd_custom import ASDOracle

    rule = object.__new__(ASDOracle)  # its own makers read a configuration and write files
    rule._call_counter = 0
    by = object.__new__(ObliviousBidirectionalSearchExplainer)
    by.distance_metric = ObliviousBidirectionalDistance()

    def search(graph: Graph, oracle: Any) -> np.ndarray:
        by.oracle = oracle
        return by.explain(GraphInstance(graph.id, 0, (graph.matrix() > 0).astype(float))).data

    def rule_of(matrix: np.ndarray) -> int:
        return rule._real_predict(types.SimpleNamespace(data=matrix))

    return search, rule_of


def with_edges(graph: Graph, matrix: np.ndarray, kind: int) -> Graph:
    """Return the graph with the edges of a matrix of 0 and 1: old ones keep their kind, new ones are of ``kind``."""
    had = graph.matrix()
    bonds = np.where(matrix > 0.5, np.where(had > 0, had, kind + 1), 0)
    i, j = np.nonzero(np.triu(bonds, 1))
    return Graph.of(f"{graph.id}*", graph.nodes, np.stack([i, j], axis=1), bonds[i, j] - 1)


def obs(case: Case, count: int, told_of: Callable[[Graph, np.ndarray], int], kind: int) -> Callable[[Counted], Ends]:
    """Return GRETEL's search of the first ``count`` graphs."""
    search, _ = gretel()

    def find(box: Counted) -> Ends:
        random.seed(0)
        ends: Ends = []
        for graph in case.graphs[:count]:
            oracle = _Asked(lambda matrix, graph=graph: told_of(graph, matrix))  # type: ignore[misc]
            ends.append(with_edges(graph, search(graph, oracle), kind))
            box.asked += oracle.asked
        return ends

    return find


def brains(data: Path, count: int, few: int) -> None:
    """Print searches for the fewest edges of connectomes, where the optimum is known."""
    graphs = connectomes.read_matrices(data / "abide_connectomes")
    constant, td, asd = connectomes.ASD_RULE_WEIGHTS
    weights = np.zeros((116, 116))
    for regions, weight in ((connectomes.ASD_RULE_TD, td), (connectomes.ASD_RULE_ASD, asd)):
        weights[np.ix_(list(regions), list(regions))] += weight
    np.fill_diagonal(weights, 0)
    box = EdgeScoreBox(constant, weights)
    predicted = box.probabilities(graphs.graphs).argmax(1)
    rows = np.linspace(0, len(graphs) - 1, count).round().astype(int)
    some = [graphs.graphs[i] for i in rows]
    case = Case("ABIDE, rule", some, (1 - predicted[rows]).tolist(), box, graphs, 116)
    note = "GRETEL is not measured: $MEDAUDIT_PEERS/GRETEL is not there."
    if (PEERS / "GRETEL").is_dir():
        _, rule = gretel()
        alike = sum(rule(graph.matrix() > 0) == told for graph, told in zip(graphs, predicted, strict=True))
        note = f"GRETEL asks its own code of the rule, which says of {alike} of {len(graphs)} subjects what ours says."
        case.run("GRETEL, OBS", obs(case, len(some), lambda _, matrix: rule(matrix), 0))
    how = How("search", search=Search(edits=60, tried=16))
    case.ours("search", how)
    case.ours("search, 2 edits tried a step", How("search", search=Search(edits=60, tried=2)))
    blind = Case(case.name, some[:few], case.targets[:few], RuleBox(connectomes.asd_rule), graphs, 116)
    blind.ours("search, no gradients", how)
    case.rows += blind.rows
    case.told("search", "search, 2 edits tried a step")
    best = np.mean([connectomes.asd_rule_optimum(graph) for graph in some])
    print(f"The fewest edits that there are: {best:.1f} on average. {note}\n", flush=True)


class Chemistry:
    """Molecules of MUTAG as SMILES and back, by RDKit; atoms and bonds that the set does not have are none."""

    def __init__(self, graphs: Graphs) -> None:
        with stubs("exmol", "openai"):
            import exmol
            from rdkit import Chem, RDLogger

        RDLogger.DisableLog("rdApp.*")
        self.exmol, self.chem, self.names = exmol, Chem, graphs.node_kinds
        orders = {"single": Chem.BondType.SINGLE, "double": Chem.BondType.DOUBLE, "triple": Chem.BondType.TRIPLE,
                  "aromatic": Chem.BondType.AROMATIC}  # fmt: skip
        self.bonds = [orders[name] for name in graphs.edge_kinds]

    def smiles(self, graph: Graph) -> str | None:
        """Return SMILES that come back as the same graph; None where there are none."""
        made = self.chem.RWMol()
        for kind in graph.nodes:
            made.AddAtom(self.chem.Atom(self.names[kind]))
        for (i, j), kind in zip(graph.edges.tolist(), graph.edge_kinds, strict=True):
            made.AddBond(i, j, self.bonds[kind])
        for atom in made.GetAtoms():
            bonds = [bond.GetBondType() for bond in atom.GetBonds()]
            around = [other for other in atom.GetNeighbors() if other.GetSymbol() == "O" and other.GetDegree() == 1]
            if atom.GetSymbol() == "N" and len(around) == 2 and len(bonds) == 3:  # nitro, drawn with charges
                atom.SetFormalCharge(1)
                for oxygen in around:
                    if made.GetBondBetweenAtoms(atom.GetIdx(), oxygen.GetIdx()).GetBondType() == self.bonds[1]:
                        oxygen.SetFormalCharge(-1)
        try:
            self.chem.SanitizeMol(made)
            text = self.exmol.sanitize_smiles(self.chem.MolToSmiles(made))[1]
        except Exception:
            return None
        back = None if text is None else self.graph(text)
        return text if back is not None and isomorphic(graph, back) is not None else None

    def graph(self, text: str) -> Graph | None:
        """Return the graph of SMILES."""
        made = self.chem.MolFromSmiles(text) if text else None
        if made is None or not made.GetNumAtoms():
            return None
        symbols, drawn = [atom.GetSymbol() for atom in made.GetAtoms()], list(made.GetBonds())
        if not set(symbols) <= set(self.names) or not {bond.GetBondType() for bond in drawn} <= set(self.bonds):
            return None
        return Graph.of(
            text, [self.names.index(one) for one in symbols],
            [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in drawn],
            [self.bonds.index(bond.GetBondType()) for bond in drawn],
        )  # fmt: skip

    def find(self, texts: list[str], targets: list[int], samples: int) -> Callable[[Counted], Ends]:
        """Return exmol's sampling of molecules around each, and the most alike of the wanted class."""
        alphabet = {
            one for one in self.exmol.get_basic_alphabet() if not any(x in one for x in ("S", "P", "B]", "Branch#"))
        }

        def find(box: Counted) -> Ends:
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            ends: Ends = []
            for text, target in zip(texts, targets, strict=True):

                def told(some: list[str], target: int = target) -> np.ndarray:
                    made = [self.graph(one) for one in some]
                    there = np.array([one is not None for one in made])
                    found = np.full(len(some), 1.0 - target)
                    found[there] = box.probabilities([one for one in made if one is not None]).argmax(1)
                    return found

                space = self.exmol.sample_space(
                    text, told, quiet=True,
                    method_kwargs={"num_samples": samples, "max_mutations": 2, "alphabet": alphabet},
                )  # fmt: skip
                best = self.exmol.cf_explain(space, nmols=1)[1:]
                ends.append(self.graph(best[0].smiles) if best else None)
            return ends

        return find


def molecules(data: Path, count: int, few: int, work: Path) -> None:
    """Print searches on MUTAG, with exmol's molecules."""
    graphs = tudataset.read(data / "tudataset" / "MUTAG")
    case, (strong,), said = trained(graphs, len(graphs), work / "MUTAG", (STRONG,))
    texts: dict[str, str] = {}
    if (PEERS / "exmol").is_dir():
        by = Chemistry(graphs)
        texts = {graph.id: text for graph in case.graphs if (text := by.smiles(graph)) is not None}
        note = f"{len(texts)} of {len(case.graphs)} held-out molecules come back from SMILES as they were; of these"
        keep = [k for k, graph in enumerate(case.graphs) if graph.id in texts][:count]
    else:
        note = "exmol is not measured: $MEDAUDIT_PEERS/exmol is not there. Of these"
        keep = list(range(min(count, len(case.graphs))))
    case.graphs, case.targets = [case.graphs[k] for k in keep], [case.targets[k] for k in keep]
    if (PEERS / "GRETEL").is_dir():
        single = graphs.edge_kinds.index("single")

        def told(graph: Graph, matrix: np.ndarray) -> int:
            return int(case.box.probabilities([with_edges(graph, matrix, single)]).argmax())

        case.run("GRETEL, OBS", obs(case, len(case.graphs), told, single))
    for samples in (3_000, 300) if texts else ():
        some = case.graphs[:few]
        find = by.find([texts[graph.id] for graph in some], case.targets[:few], samples)
        case.run(f"exmol, {samples:,} samples", find, some)
    case.ours("search", How("search"))
    case.ours("search, valences kept", How("search"), valid=lambda graph: valence_ok(graph, graphs))
    case.ours("walk, strong net", How("walk"), strong)
    case.ours("both, strong net", How("both"), strong)
    case.told("search", "search, valences kept", "both, strong net")
    print(f"{said}. {note} {len(case.graphs)} are explained.", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--graphs", type=int, default=12)
    parser.add_argument(
        "--few", type=int, default=4, help="molecules for exmol, and subjects for a search without gradients"
    )
    parser.add_argument("--work", type=Path, help="where trained nets stay")
    parser.add_argument("--only", choices=("walks", "brains", "molecules"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, one_thread("cpu"):
        work = asked.work or Path(folder)
        edit_distances([(Graph.of("a", [0], []), Graph.of("b", [0, 0], [(0, 1)]))])  # compiles
        if asked.only in (None, "brains"):
            brains(asked.data, asked.graphs, asked.few)
        if asked.only in (None, "molecules"):
            molecules(asked.data, asked.graphs, asked.few, work)
        if asked.only in (None, "walks"):
            walks(asked.data, asked.graphs, work)


if __name__ == "__main__":
    main()
