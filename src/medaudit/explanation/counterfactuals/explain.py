"""From graphs and a classifier to counterfactuals that the classifier itself has confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import UsageError
from medaudit.explanation.counterfactuals.baselines import decoded_mean, drawn, nearest_graphs, nearest_latent
from medaudit.explanation.counterfactuals.black_box import BlackBox, leads
from medaudit.explanation.counterfactuals.minimal import judged, margin, minimal
from medaudit.explanation.counterfactuals.search import Search, search
from medaudit.explanation.counterfactuals.slots import Constraints, Slots, edits_between, unedited
from medaudit.explanation.counterfactuals.traversal import Walk, Walked, published_walk, walk
from medaudit.networks.graphs.batch import GraphChannels
from medaudit.networks.graphs.vae import GraphVAE

METHODS = ("walk", "search", "instance", "both")
"""``both``: the least of a walk's, a search's and an instance's."""
BASELINES = ("paper", "random", "nearest", "mean")
"""The paper's walk and its three baselines: one proposal a graph, taken as it is."""
_REDUCED = 4  # proposals of a walk that are made minimal, those of the fewest edits


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """What would have to change in one graph."""

    graph: Graph
    source: int
    """The class that the classifier gives it."""
    target: int
    before: Slots
    after: Slots | None
    """In the same slots as ``before``; None where nothing was proposed."""
    flips: bool
    """Whether the classifier gives ``found`` the target: asked of the hard graph without empty slots."""
    probability: float
    """Of the target there."""
    minimal: bool
    """Whether no single edit can be taken back without losing the target."""
    by: str
    """What found it: walk, search, instance, or a baseline."""
    rebuilt: Slots | None = None
    """How the autoencoder rebuilds the graph itself."""
    steps: int = 0
    """Of the walk, where one was gone."""
    far: float = float("nan")
    """Euclidean distance of the latents at both ends of the walk, where it is the walk's."""

    @property
    def found(self) -> Graph | None:
        """The counterfactual as a graph."""
        return None if self.after is None else self.after.graph(f"{self.graph.id}*")

    @property
    def edits(self) -> int:
        """How many edits lie between the two as they stand in their slots: an upper bound of their distance."""
        return -1 if self.after is None else len(edits_between(self.before, self.after))


@dataclass(frozen=True)
class How:
    """How counterfactuals are looked for."""

    method: str = "both"
    walk: Walk = field(default_factory=Walk)
    search: Search = field(default_factory=Search)
    rules: Constraints = field(default_factory=Constraints)
    instances: int = 2
    """Real graphs that are tried as ends, nearest first."""
    published_steps: int = 1_000

    def __post_init__(self) -> None:
        if self.method not in METHODS + BASELINES:
            raise UsageError(f"no method '{self.method}'; expected one of {', '.join(METHODS + BASELINES)}")


def targets_of(predicted: np.ndarray, classes: int, wanted: int | None = None) -> np.ndarray:
    """Return the class that each graph should be led to: ``wanted``, or of two the other one.

    From the *predicted* class: a graph that the classifier gets wrong would else have flipped before it started.
    """
    if wanted is not None:
        return np.full(len(predicted), wanted)
    if classes != 2:
        raise UsageError(f"there are {classes} classes; say which one with --target")
    return 1 - predicted


def explain(
    graphs: Sequence[Graph], targets: Sequence[int], box: BlackBox, vae: GraphVAE | None, known: Graphs, size: int,
    how: How, *, seed: int = 0, valid: Callable[[Graph], bool] | None = None,
    tell: Callable[[int], None] | None = None,
) -> list[Counterfactual]:  # fmt: skip
    """Return a counterfactual of each graph; every flip is the classifier's own word on the final hard graph.

    ``known``: the training graphs with their classes. ``valid`` says whether a graph may be proposed (valences).
    ``tell`` is called with the number of graphs that are done. Raises UsageError for a method that needs an
    autoencoder, or gradients, where there are none.
    """
    if not len(graphs):
        return []
    walking = how.method == "walk" or (how.method == "both" and leads(box, graphs[0], GraphChannels.of(known)))
    if vae is None and (walking or how.method in BASELINES):
        raise UsageError(f"method '{how.method}' needs an autoencoder of graphs; ask for search or instance")
    predicted = box.probabilities(graphs).argmax(1)
    if how.method in BASELINES:
        assert vae is not None
        made, went = _baseline(vae, box, graphs, targets, known, size, how, seed)
        told = [_told(box, graph, int(source), int(target), one, how.method)
                for graph, source, target, one in zip(graphs, predicted, targets, made, strict=True)]  # fmt: skip
        return [_walked_to(one, at) for one, at in zip(told, went, strict=True)] if went else told
    walks: list[Walked] = []
    if walking:
        assert vae is not None
        walks = walk(vae, box, graphs, targets, size, how.walk, seed=seed, keep_nodes=known.matched)
    channels = GraphChannels.of(known)
    rules = _of_matched(how.rules) if known.matched else how.rules
    ends = _ends(box, known) if how.method in ("instance", "both") else {}

    def allowed(slots: Slots) -> bool:
        if valid is None:
            return bool(slots.there.any())
        graph = slots.graph("tried")
        return graph is not None and valid(graph)

    found = []
    for k, (graph, source, target) in enumerate(zip(graphs, predicted, targets, strict=True)):
        own = Slots.of(graph, size)
        offers: list[tuple[str, Slots, Slots]] = []
        if walks:
            offers += [("walk", own, one) for one in walks[k].proposals]
        if how.method in ("search", "both"):
            end = search(box, own, int(target), channels, how.search, rules, allowed=allowed, seed=seed)
            offers += [("search", own, end)] if end is not None else []
        if ends.get(int(target)):
            near = nearest_graphs(graph, ends[int(target)], most=how.instances, matched=known.matched)
            offers += [("instance", a, b) for a, b, _ in near]
        best = _best(box, graph, int(source), int(target), offers, rules, allowed)
        found.append(_walked_to(best, walks[k]) if walks else best)
        if tell is not None:
            tell(k + 1)
    return found


def _best(
    box: BlackBox, graph: Graph, source: int, target: int, offers: list[tuple[str, Slots, Slots]], rules: Constraints,
    allowed: Callable[[Slots], bool],
) -> Counterfactual:  # fmt: skip
    """Return the confirmed offer of the fewest edits after all that can be spared was taken back."""
    kept = [(by, a, unedited(a, rules.kept(a, b))) for by, a, b in offers]
    kept = [(by, a, b) for by, a, b in kept if allowed(b) and rules.allow(a, b)]
    if kept:
        leads = margin(judged(box, [b for _, _, b in kept]), target)
        kept = [one for one, lead in zip(kept, leads, strict=True) if lead > 0]
    kept.sort(key=lambda one: len(edits_between(one[1], one[2])))
    tried: dict[str, int] = {}
    best: tuple[int, str, Slots, Slots, bool] | None = None
    for by, a, b in kept:
        tried[by] = tried.get(by, 0) + 1
        if tried[by] > _REDUCED:
            continue
        end, least = minimal(box, a, b, target, allowed=allowed)
        edits = len(edits_between(a, end))
        if best is None or edits < best[0]:
            best = edits, by, a, end, least
    if best is None:
        return Counterfactual(graph, source, target, Slots.of(graph), None, False, float("nan"), False, "none")
    _, by, a, end, least = best
    return Counterfactual(graph, source, target, a, end, True, _of(box, end, target), least, by)


def _walked_to(one: Counterfactual, at: Walked) -> Counterfactual:
    """Return it with how its graph is rebuilt, and how far the walk went where the walk has found it."""
    far = float(np.linalg.norm(at.z - at.z0)) if one.by in ("walk", "paper") else float("nan")
    return replace(one, rebuilt=at.start, steps=at.steps, far=far)


def _told(box: BlackBox, graph: Graph, source: int, target: int, made: Slots, by: str) -> Counterfactual:
    own = Slots.of(graph, len(made.kinds))
    if made.graph("made") is None:
        return Counterfactual(graph, source, target, own, None, False, float("nan"), False, by)
    told = judged(box, [made])
    return Counterfactual(graph, source, target, own, made, bool(margin(told, target)[0] > 0), float(told[0, target]),
                          False, by)  # fmt: skip


def _baseline(
    vae: GraphVAE, box: BlackBox, graphs: Sequence[Graph], targets: Sequence[int], known: Graphs, size: int, how: How,
    seed: int,
) -> tuple[list[Slots], list[Walked]]:  # fmt: skip
    if how.method == "paper":
        walks = published_walk(
            vae, box, graphs, targets, size, steps=how.published_steps, seed=seed, keep_nodes=known.matched
        )
        return [one.proposals[0] for one in walks], walks
    if how.method == "random":
        return drawn(vae, graphs, size, seed=seed, keep_nodes=known.matched), []
    if how.method == "nearest":
        return nearest_latent(vae, graphs, targets, known.graphs, known.y, size, seed=seed), []
    return decoded_mean(
        vae, graphs, targets, known.graphs, known.y, size, seed=seed, keep_nodes=known.matched
    ), []  # fmt: skip


def _ends(box: BlackBox, known: Graphs) -> dict[int, list[Graph]]:
    """Return the known graphs by the class that the classifier gives them."""
    predicted = box.probabilities(known.graphs).argmax(1)
    return {int(c): [known.graphs[i] for i in np.flatnonzero(predicted == c)] for c in np.unique(predicted)}


def _of_matched(rules: Constraints) -> Constraints:
    """Return the rules for graphs whose nodes are matched: none comes, goes or becomes another."""
    return Constraints(rules.freeze, False, False, False, rules.add_edges, rules.delete_edges)


def _of(box: BlackBox, slots: Slots, target: int) -> float:
    return float(judged(box, [slots])[0, target])
