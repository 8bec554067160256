"""From a set of graphs, and a classifier if there is one, to counterfactuals with their evidence in a run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.counterfactuals.findings import findings
from medaudit.audits.counterfactuals.kept import keep, kept
from medaudit.audits.counterfactuals.page import page
from medaudit.audits.counterfactuals.settings import CounterfactualSettings
from medaudit.audits.counterfactuals.shortcuts import balanced, deduplicated, trivially
from medaudit.audits.counterfactuals.study import Made, Material, Study, study
from medaudit.cohort import Known, split
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.molecules import valence_ok
from medaudit.datasets.graphs.tudataset import filtered
from medaudit.errors import DataError, UsageError
from medaudit.explanation.counterfactuals.black_box import BlackBox, DenseBox, leads
from medaudit.explanation.counterfactuals.explain import Counterfactual, How, explain, targets_of
from medaudit.explanation.counterfactuals.slots import Constraints
from medaudit.metrics.graph_edit import Distance, edit_distance
from medaudit.networks.graphs.batch import GraphChannels
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.report import Finding, Run
from medaudit.training.devices import one_thread
from medaudit.training.graphs.classifier import GraphClassifierRecipe, fit_graph_classifier
from medaudit.training.graphs.vae import RECIPES, Rebuilt, fit_graph_vae, rebuilt
from medaudit.workers import bar, in_processes, shown

_TRAIN, _TEST = 0, 1
Opens = Callable[[Graphs], tuple[BlackBox, str]]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a study."""

    study: Study
    findings: list[Finding]


def audit_counterfactuals(
    graphs: Graphs, settings: CounterfactualSettings, *, out: Path, opens: Opens | None = None,
    all_kinds: bool = False, known: Sequence[Known] = (), jobs: int = 1, progress: bool = True,
) -> Outcome:  # fmt: skip
    """Return the counterfactuals of held-out graphs and what can be said of them; the run stays in ``out``.

    ``opens`` returns the user's classifier of the graphs that are left, and what tells it from another; without it one
    is trained. ``all_kinds``: kinds of nodes that no graph is left of keep their numbers, which a model of the user's
    may know. ``known``: what others have found out about the dataset; ``jobs``: processes that exact distances are
    asked of. Raises UsageError and DataError as its parts do:
    among them for an autoencoder that does not rebuild graphs.
    """
    whole = len(graphs)
    graphs = prepared(graphs, settings, all_kinds=all_kinds)
    if len(graphs.classes) < 2:
        raise DataError(f"{graphs.name}: the graphs are all of one class; a classifier tells two or more")
    if settings.freeze and not 0 <= min(settings.freeze) <= max(settings.freeze) < graphs.largest:
        raise UsageError(f"--freeze {','.join(map(str, settings.freeze))}: expected nodes from 0 to "
                         f"{graphs.largest - 1}, which the largest graph has")  # fmt: skip
    if len(graphs) < settings.min_graphs:
        raise DataError(
            f"{graphs.name}: {len(graphs)} of {whole} graphs are left within {settings.largest} nodes; "
            f"{settings.min_graphs} are needed: raise --largest"
        )
    target = _target(graphs, settings.target)
    if settings.chemistry:
        valence_ok(graphs.graphs[0], graphs)  # what are no molecules is refused before anything is trained
    box, box_id = opens(graphs) if opens else (None, settings.net)
    inputs = {"graphs": fingerprint(graphs)}
    # Among the settings too: nets that an unfinished run has trained are not those of other graphs.
    asked = {**asdict(settings), "torch": importlib.metadata.version("torch"), "classifier": box_id, **inputs}
    with one_thread(settings.device), Run.open(out, verb="counterfactuals", settings=asked, inputs=inputs) as run:
        start = time.perf_counter()
        material = gather(graphs, settings, target, out, box, jobs=jobs, progress=progress)
        result = study(material, settings)
        answers = findings(result)
        run.write_measurements(frame(result))
        run.write_findings(answers)
        run.write_report(page(result, answers, run, time.perf_counter() - start, known))
        run.finish()
    return Outcome(result, answers)


def prepared(graphs: Graphs, settings: CounterfactualSettings, *, all_kinds: bool = False) -> Graphs:
    """Return the graphs that are asked for: not too large, of no rare kinds, with numbers of nodes or without."""
    if not settings.features and graphs.graphs[0].features is not None:
        graphs = graphs.without_features()
    left = filtered(graphs, settings.largest, settings.rarest)
    if not all_kinds or left.node_kinds == graphs.node_kinds:
        return left
    place = np.array([graphs.node_kinds.index(name) for name in left.node_kinds])
    made = tuple(replace(graph, nodes=place[graph.nodes]) for graph in left)
    return replace(left, graphs=made, node_kinds=graphs.node_kinds)


def gather(
    graphs: Graphs, settings: CounterfactualSettings, target: int | None, out: Path, box: BlackBox | None, *,
    jobs: int, progress: bool,
) -> Material:  # fmt: skip
    """Return what the study is made of."""
    unique = deduplicated(graphs)
    graphs = unique.graphs
    shares = (1 - settings.test_share, settings.test_share)
    parts = split(graphs.who.tolist(), [str(c) for c in graphs.y], shares, settings.seed)
    training, held = np.flatnonzero(parts == _TRAIN), np.flatnonzero(parts == _TEST)
    channels, size, users = GraphChannels.of(graphs), graphs.largest, box is not None
    if not len(training) or not len(held):
        raise DataError(
            f"{graphs.name}: {len(training)} graphs to train on and {len(held)} held out; give more patients"
        )
    if box is None:
        recipe = GraphClassifierRecipe(settings.net, steps=settings.classifier_steps)
        net = fit_graph_classifier(graphs, training.tolist(), recipe, out / "classifier", seed=settings.seed,
                                   device=settings.device, progress=progress)  # fmt: skip
        box = DenseBox(net, channels)
    told = box.probabilities(graphs.graphs)
    if told.shape[1] != len(graphs.classes):
        raise DataError(f"the classifier tells {told.shape[1]} classes, the graphs have {len(graphs.classes)}")
    led = leads(box, graphs.graphs[0], channels)
    if not led and (settings.method == "walk" or "paper" in settings.baselines):
        raise UsageError("the classifier has no gradients, which a walk needs; ask for --method search or instance, "
                         "and no --baseline paper")  # fmt: skip
    predicted = told.argmax(1)
    classifier = balanced(predicted[held], graphs.y[held], graphs.who[held], resamples=settings.resamples,
                          seed=settings.seed)  # fmt: skip
    trivial = trivially(graphs, resamples=settings.resamples, seed=settings.seed)
    vae, how_rebuilt = None, None
    aims = targets_of(predicted[held], len(graphs.classes), target)
    rows = held[aims != predicted[held]]
    if not len(rows):
        raise DataError(f"the classifier calls all {len(held)} held-out graphs '{settings.target}' already: nothing is "
                        "left to be led there; ask for another --target")  # fmt: skip
    # Evenly, not the first: files list a class after the other.
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(settings.explained, len(rows))).round().astype(int))]
    if settings.method == "walk" or (settings.method == "both" and led) or settings.baselines:
        vae, how_rebuilt = _autoencoder(graphs, training, held, settings, out, progress)
    aims = targets_of(predicted[rows], len(graphs.classes), target)
    explained = [graphs.graphs[i] for i in rows]
    made: dict[str, Made] = {}
    for method in (settings.method, *settings.baselines):
        how = How(method=method, rules=_rules(settings))
        file = out / "counterfactuals" / f"{method}.npz"
        key = hashlib.sha256(repr((how, fingerprint(graphs), rows.tolist(), aims.tolist(), settings)).encode())
        key.update(told.tobytes())
        found = kept(file, key.hexdigest(), explained)
        if found is None:
            with bar(f"counterfactuals, {method}", progress) as show:
                found = explain(
                    explained, aims.tolist(), box, vae, graphs.some(training), size, how, seed=settings.seed,
                    valid=_valid(graphs) if settings.chemistry else None,
                    tell=lambda done, show=show: show(done, total=len(explained)),  # type: ignore[misc]
                )  # fmt: skip
            keep(file, key.hexdigest(), found)
        made[method] = Made(found, _distances(found, graphs.matched, settings, jobs, progress))
    back = [replace(one, after=one.rebuilt) for one in made[settings.method].found if one.rebuilt is not None]
    floor = np.array([d.upper for d in _distances(back, graphs.matched, settings, jobs, progress) if d is not None])
    stays = np.array([one.found is not None and box.probabilities([one.found])[0].argmax() == one.source
                      for one in back], dtype=bool)  # fmt: skip
    return Material(graphs, unique, rows, training, classifier, trivial, made, how_rebuilt, floor, predicted, held,
                    stays, users)  # fmt: skip


def _autoencoder(
    graphs: Graphs, training: np.ndarray, held: np.ndarray, settings: CounterfactualSettings, out: Path, progress: bool
) -> tuple[GraphVAE, Rebuilt]:  # fmt: skip
    recipe = RECIPES[settings.preset]
    if settings.steps is not None:
        recipe = replace(recipe, steps=settings.steps, epochs=min(recipe.epochs, settings.steps))
    recipe = replace(recipe, batch_size=min(recipe.batch_size, max(2, len(training))))
    vae = fit_graph_vae(graphs, training.tolist(), recipe, out / "autoencoder", seed=settings.seed,
                        device=settings.device, progress=progress)  # fmt: skip
    found = rebuilt(vae, [graphs.graphs[i] for i in held], graphs.largest, seed=settings.seed)
    if not found.passes:
        raise DataError(
            f"the autoencoder rebuilds edges with an F1 of {found.edge_f1.mean():.2f}, where a guess that knows the "
            f"density has {found.base_f1.mean():.2f}: its walks would mean nothing; train longer (--steps), or ask for "
            "--method search --baseline none"
        )
    return vae, found


def _distances(
    found: list[Counterfactual], matched: bool, settings: CounterfactualSettings, jobs: int, progress: bool
) -> list[Distance | None]:  # fmt: skip
    """Return the distance of each counterfactual; its slots are one start of the search, so that it is never more.

    Bounds take less than the way to another process; what is exact takes seconds a pair.
    """
    told = partial(_distance, matched=matched, budget=settings.budget, seed=settings.seed)
    if not settings.budget:
        return [told(one) for one in found]
    made = in_processes(told, found, jobs, ordered=True, at_once=1)
    return list(shown(made, "edit distances", len(found), progress))


def _distance(one: Counterfactual, *, matched: bool, budget: float, seed: int) -> Distance | None:
    other = one.found
    if other is None or one.after is None:
        return None
    there = one.after.there
    slots = np.where(there, np.cumsum(there) - 1, -1)[: one.graph.n]
    return edit_distance(one.graph, other, matched=matched, budget=budget, seed=seed, starts=(slots,))


def frame(result: Study) -> pl.DataFrame:
    """Return a row a graph and method."""
    m = result.material
    rows = []
    for method, made in m.made.items():
        for i, one, d in zip(m.rows, made.found, made.distances, strict=True):
            after = one.found
            rows.append(
                {
                    "case_id": one.graph.id, "method": method, "by": one.by,
                    "class": _class(m.graphs, int(m.graphs.y[i])),
                    "predicted": m.graphs.classes[one.source], "target": m.graphs.classes[one.target],
                    "flips": one.flips, "probability": one.probability, "edits_in_slots": one.edits,
                    "distance_lower": d.lower if d else None, "distance_upper": d.upper if d else None,
                    "distance_exact": d.exact if d else None, "minimal": one.minimal, "nodes": one.graph.n,
                    "nodes_after": after.n if after else None, "edges": len(one.graph.edges),
                    "edges_after": len(after.edges) if after else None, "steps": one.steps, "latent_distance": one.far,
                }
            )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame({"case_id": []})


def _class(graphs: Graphs, y: int) -> str:
    return graphs.classes[y] if y >= 0 else ""


def _target(graphs: Graphs, name: str | None) -> int | None:
    if name is None:
        if len(graphs.classes) != 2:
            raise UsageError(f"there are {len(graphs.classes)} classes; say with --target which one graphs are led to: "
                             f"{', '.join(graphs.classes)}")  # fmt: skip
        return None
    if name not in graphs.classes:
        raise UsageError(f"--target {name}: no such class; there are {', '.join(graphs.classes)}")
    return graphs.classes.index(name)


def _rules(settings: CounterfactualSettings) -> Constraints:
    keep = set(settings.keep)
    return Constraints(
        settings.freeze, "add-nodes" not in keep, "delete-nodes" not in keep, "kinds" not in keep,
        "add-edges" not in keep, "delete-edges" not in keep,
    )  # fmt: skip


def _valid(graphs: Graphs) -> Callable[[Graph], bool]:
    return lambda graph: valence_ok(graph, graphs)


def fingerprint(graphs: Graphs) -> str:
    """Return what tells one set of graphs from another."""
    digest = hashlib.sha256()
    if graphs.patients is not None:  # who is held out depends on them
        digest.update("|".join(map(str, graphs.patients)).encode())
    for graph, y in zip(graphs, graphs.y, strict=True):
        digest.update(f"{graph.id}:{y}".encode())
        for part in (graph.nodes, graph.edges, graph.edge_kinds, graph.weights, graph.features):
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
