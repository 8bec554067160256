"""`medaudit counterfactuals`: what would have to change in a graph for another prediction?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medaudit.cli import options
from medaudit.errors import DataError, UsageError


def counterfactuals(
    out: options.RunFolder,
    graphs: Annotated[
        Path | None,
        typer.Option("--graphs", metavar="DIR", help="A folder: TUDataset, matrices by class, edge lists, SDF."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="A TUDataset by name, as MUTAG, below --data.")
    ] = None,
    data: options.Data = None,
    simulate: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Simulated graphs: tree-cycles, ba-2motifs, vessels, cells, airways, "
                     "size-shortcut."),
    ] = None,
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many graphs.")] = 400,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="Column of the class, where the folder has a table.")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier", metavar="FILE",
            help="Yours: FILE.py:NAME, a function that returns a model; or a graph_classifier.pt of a run.",
        ),
    ] = None,
    net: Annotated[str, typer.Option("--net", help="Classifier trained without one: dense, gcn, gin.")] = "dense",
    classifier_steps: Annotated[int, typer.Option("--classifier-steps", min=1, help="Steps of its training.")] = 600,
    target: Annotated[
        str | None, typer.Option("--target", metavar="CLASS", help="Led to; default, of two: the one not predicted.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="both, walk, search or instance.")] = "both",
    baseline: Annotated[
        list[str], typer.Option("--baseline", help="paper, random, nearest, mean, or none; repeat.")
    ] = ["random", "nearest", "mean"],
    preset: Annotated[str, typer.Option("--preset", help="Of the autoencoder: fast, cpu or paper.")] = "cpu",
    steps: Annotated[int | None, typer.Option("--steps", min=10, help="Its steps; default: the preset's.")] = None,
    explained: Annotated[int, typer.Option("--explain", min=2, help="Held-out graphs that are explained.")] = 100,
    largest: Annotated[int, typer.Option("--largest", min=2, help="Graphs of more nodes are left out.")] = 50,
    rarest: Annotated[
        int, typer.Option("--rarest", min=0, help="Graphs with a kind of node seen so often or less are left out.")
    ] = 0,
    no_features: Annotated[bool, typer.Option("--no-features", help="Leave the numbers of nodes out.")] = False,
    freeze: Annotated[
        str | None, typer.Option("--freeze", metavar="NODES", help="Nodes that stay as they are: 0,3,7.")
    ] = None,
    keep: Annotated[
        list[str],
        typer.Option("--keep", metavar="EDIT", help="What may not be done: add-nodes, delete-nodes, kinds, add-edges, "
                     "delete-edges; repeat."),
    ] = [],
    chemistry: Annotated[bool, typer.Option("--chemistry", help="Propose only possible valences.")] = False,
    budget: Annotated[float, typer.Option("--budget", help="Seconds an exact edit distance may take a pair.")] = 0.0,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of patients that are held out.")] = 0.2,
    seed: options.Seed = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Processes that exact distances are asked of (-1: one a core).")
    ] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_graphs: Annotated[int, typer.Option("--min-graphs", min=2, help="Fewer: 'cannot tell'.")] = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Find the nearest graph that a classifier calls otherwise, and say whether to believe it.

    First whether the question is trivial (does the number of nodes tell the class?); then counterfactuals that the
    classifier confirmed on the hard graph, made minimal, with certain bounds of their edit distance.

    Example: medaudit counterfactuals --dataset MUTAG --data tudataset --out runs/mutag
    """
    from medaudit.audits.counterfactuals.settings import CounterfactualSettings

    settings = CounterfactualSettings(
        method=method, baselines=() if baseline == ["none"] else tuple(baseline), target=target, net=net, preset=preset,
        steps=steps, classifier_steps=classifier_steps, explained=explained, largest=largest, rarest=rarest,
        features=not no_features, freeze=_nodes(freeze), keep=tuple(keep), chemistry=chemistry, budget=budget,
        test_share=test_share, device=device, seed=seed, resamples=resamples, min_graphs=min_graphs,
    )  # fmt: skip
    from medaudit.audits.counterfactuals.run import audit_counterfactuals
    from medaudit.cli import show
    from medaudit.cli.sources import known

    found = _graphs(graphs, dataset, data, simulate, size, label, seed)
    opens = None if classifier is None else _classifier(classifier)
    all_kinds = classifier is not None and ".py:" in classifier
    told = known((dataset.lower(),))[0] if dataset else ()
    result = audit_counterfactuals(
        found, settings, out=out, opens=opens, all_kinds=all_kinds, known=told, jobs=jobs, progress=not quiet
    )
    first = [f for f in result.findings if f.id in ("flips", "plausible") or f.id.startswith("shortcut:")]
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=first)


def _graphs(
    folder: Path | None, dataset: str | None, data: Path | None, simulate: str | None, size: int, label: str | None,
    seed: int,
) -> Any:  # fmt: skip
    from medaudit.datasets.graphs.folder import read_folder
    from medaudit.datasets.graphs.simulate import SIMULATORS

    if sum(given is not None for given in (folder, dataset, simulate)) != 1:
        raise UsageError("say which graphs: --graphs DIR, --dataset NAME with --data DIR, or --simulate NAME")
    if simulate is not None:
        if simulate not in SIMULATORS:
            raise UsageError(f"--simulate {simulate}: no such graphs; expected one of {', '.join(SIMULATORS)}")
        return SIMULATORS[simulate](size, seed=seed).graphs
    if dataset is not None:
        if data is None:
            raise UsageError(f"--dataset {dataset} needs --data DIR, the folder that holds it")
        folder = data / dataset if (data / dataset).is_dir() else data
    assert folder is not None
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return read_folder(folder, label=label)


def _classifier(where: str) -> Any:
    """Return what opens the user's classifier, given the graphs that are left."""
    from medaudit.explanation.counterfactuals.user_model import open_classifier

    return partial(open_classifier, where)


def _nodes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--freeze {text}: expected numbers of nodes, as 0,3,7") from None
