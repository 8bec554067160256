"""From a set of graphs, and a classifier if there is one, to counterfactuals with their evidence in a run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.counterfactuals.findings import findings
from medaudit.audits.counterfactuals.page import page
from medaudit.audits.counterfactuals.settings import CounterfactualSettings
from medaudit.audits.counterfactuals.shortcuts import balanced, deduplicated, trivially
from medaudit.audits.counterfactuals.study import Made, Material, Study, study
from medaudit.audits.workers import bar
from medaudit.cohort import split
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.molecules import valence_ok
from medaudit.datasets.graphs.tudataset import filtered
from medaudit.errors import DataError, UsageError
from medaudit.explanation.counterfactuals.black_box import BlackBox, DenseBox
from medaudit.explanation.counterfactuals.explain import Counterfactual, How, explain, targets_of
from medaudit.explanation.counterfactuals.slots import Constraints
from medaudit.metrics.graph_edit import Distance, edit_distance
from medaudit.networks.graphs.batch import GraphChannels
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.report import Finding, Run
from medaudit.training.devices import one_thread
from medaudit.training.graphs.classifier import GraphClassifierRecipe, fit_graph_classifier
from medaudit.training.graphs.vae import RECIPES, Rebuilt, fit_graph_vae, rebuilt

_TRAIN, _TEST = 0, 1


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a study."""

    study: Study
    findings: list[Finding]


def audit_counterfactuals(
    graphs: Graphs, settings: CounterfactualSettings, *, out: Path, box: BlackBox | None = None, box_id: str = "",
    progress: bool = True,
) -> Outcome:  # fmt: skip
    """Return the counterfactuals of held-out graphs and what can be said of them; the run stays in ``out``.

    ``box``: the user's classifier, ``box_id`` what tells it from another; without it one is trained. Raises UsageError
    and DataError as its parts do: among them for an autoencoder that does not rebuild graphs.
    """
    whole = len(graphs)
    if not settings.features and graphs.graphs[0].features is not None:
        graphs = graphs.without_features()
    graphs = filtered(graphs, settings.largest, settings.rarest)
    if len(graphs) < settings.min_graphs:
        raise DataError(
            f"{graphs.name}: {len(graphs)} of {whole} graphs are left within {settings.largest} nodes; "
            f"{settings.min_graphs} are needed: raise --largest"
        )
    target = _target(graphs, settings.target)
    kept = {**asdict(settings), "torch": importlib.metadata.version("torch"), "classifier": box_id or settings.net}
    inputs = {"graphs": fingerprint(graphs)}
    with one_thread(settings.device), Run.open(out, verb="counterfactuals", settings=kept, inputs=inputs) as run:
        start = time.perf_counter()
        material = gather(graphs, settings, target, out, box, progress=progress)
        result = study(material, settings)
        answers = findings(result)
        run.write_measurements(frame(result))
        run.write_findings(answers)
        run.write_report(page(result, answers, run, time.perf_counter() - start))
        run.finish()
    return Outcome(result, answers)


def gather(
    graphs: Graphs, settings: CounterfactualSettings, target: int | None, out: Path, box: BlackBox | None, *,
    progress: bool,
) -> Material:  # fmt: skip
    """Return what the study is made of."""
    unique = deduplicated(graphs)
    graphs = unique.graphs
    shares = (1 - settings.test_share, settings.test_share)
    parts = split(graphs.who.tolist(), [str(c) for c in graphs.y], shares, settings.seed)
    training, held = np.flatnonzero(parts == _TRAIN), np.flatnonzero(parts == _TEST)
    channels, size = GraphChannels.of(graphs), graphs.largest
    if box is None:
        recipe = GraphClassifierRecipe(settings.net, steps=settings.classifier_steps)
        net = fit_graph_classifier(graphs, training.tolist(), recipe, out / "classifier", seed=settings.seed,
                                   device=settings.device, progress=progress)  # fmt: skip
        box = DenseBox(net, channels)
    told = box.probabilities(graphs.graphs)
    if told.shape[1] != len(graphs.classes):
        raise DataError(f"the classifier tells {told.shape[1]} classes, the graphs have {len(graphs.classes)}")
    predicted = told.argmax(1)
    classifier = balanced(predicted[held], graphs.y[held], graphs.who[held], resamples=settings.resamples,
                          seed=settings.seed)  # fmt: skip
    trivial = trivially(graphs, resamples=settings.resamples, seed=settings.seed)
    vae, how_rebuilt = None, None
    if settings.walks:
        vae, how_rebuilt = _autoencoder(graphs, training, held, settings, out, progress)
    aims = targets_of(predicted[held], len(graphs.classes), target)
    rows = held[aims != predicted[held]][: settings.explained]
    aims = targets_of(predicted[rows], len(graphs.classes), target)
    explained = [graphs.graphs[i] for i in rows]
    made: dict[str, Made] = {}
    for method in (settings.method, *settings.baselines):
        how = How(method=method, rules=_rules(settings))
        with bar(f"counterfactuals, {method}", progress) as show:
            found = explain(
                explained, aims.tolist(), box, vae, graphs.some(training), size, how, seed=settings.seed,
                valid=_valid(graphs) if settings.chemistry else None,
                tell=lambda done, show=show: show(done, total=len(explained)),  # type: ignore[misc]
            )  # fmt: skip
        made[method] = Made(found, _distances(found, graphs.matched, settings))
    back = [replace(one, after=one.rebuilt) for one in made[settings.method].found if one.rebuilt is not None]
    floor = np.array([d.upper for d in _distances(back, graphs.matched, settings) if d is not None])
    return Material(graphs, unique, rows, training, classifier, trivial, made, how_rebuilt, floor, predicted)


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
    found: list[Counterfactual], matched: bool, settings: CounterfactualSettings
) -> list[Distance | None]:  # fmt: skip
    """Return the distance of each counterfactual; its slots are one start of the search, so that it is never more."""
    made: list[Distance | None] = []
    for one in found:
        other = one.found
        if other is None or one.after is None:
            made.append(None)
            continue
        there = one.after.there
        slots = np.where(there, np.cumsum(there) - 1, -1)[: one.graph.n]
        made.append(edit_distance(one.graph, other, matched=matched, budget=settings.budget, seed=settings.seed,
                                  starts=(slots,)))  # fmt: skip
    return made


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
    for graph, y in zip(graphs, graphs.y, strict=True):
        digest.update(f"{graph.id}:{y}".encode())
        for part in (graph.nodes, graph.edges, graph.edge_kinds, graph.weights, graph.features):
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
