"""A user's own classifier of graphs: from a file that a run left, or from a function in a Python file."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from torch import nn

from medaudit.cohort.graphs import Graphs
from medaudit.errors import DataError, UsageError
from medaudit.explanation.counterfactuals.black_box import BlackBox, CheckedBox, DenseBox, PygBox, RuleBox
from medaudit.explanation.user_code import called
from medaudit.networks.graphs.batch import GraphChannels
from medaudit.training import checkpoint
from medaudit.training.graphs.classifier import GraphClassifierRecipe, empty_classifier


def open_classifier(where: str, graphs: Graphs) -> tuple[BlackBox, str]:
    """Return the classifier and what tells it from another.

    ``FILE.py:NAME``: NAME(graphs) is called. It returns a model of PyTorch Geometric (``forward(x, edge_index,
    batch)``), a net of dense batches, an object with ``probabilities`` and ``logits``, or a function of a graph that
    returns its class, a number. Else a ``graph_classifier.pt`` that a run of ``medaudit counterfactuals`` left; no code
    in that runs.
    Raises UsageError and DataError for what is none of these.
    """
    name, _, function = where.partition(".py:")
    path = Path(f"{name}.py" if function else where)
    if not path.is_file():
        raise DataError(f"{path}: no such file; --classifier is FILE.py:NAME or a graph_classifier.pt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    channels = GraphChannels.of(graphs)
    if not function:
        return _kept(path, graphs, channels), f"{path.name} {digest[:16]}"
    made = called(path, function, graphs)
    told = f"{path.name}:{function} {digest[:16]}"
    if isinstance(made, nn.Module):
        made = made.eval()
        takes = set(inspect.signature(made.forward).parameters)
        box: BlackBox = PygBox(made, channels) if "edge_index" in takes else DenseBox(made, channels)
        return CheckedBox(box, where, len(graphs.classes)), told
    if hasattr(made, "probabilities") and hasattr(made, "logits"):
        return CheckedBox(made, where, len(graphs.classes)), told
    if callable(made):
        return CheckedBox(RuleBox(made, len(graphs.classes)), where, len(graphs.classes)), told
    raise UsageError(f"{where} returned {type(made).__name__}; expected a model, or a function of a graph")


def _kept(path: Path, graphs: Graphs, channels: GraphChannels) -> BlackBox:
    kept = checkpoint.read(path)
    try:
        this = kept["this"]
        recipe, classes = GraphClassifierRecipe(**this["recipe"]), tuple(this["classes"])
        its = GraphChannels(**this["channels"])
    except (KeyError, TypeError):
        raise DataError(f"{path} is no classifier of graphs that medaudit trained") from None
    if its != channels or classes != graphs.classes:
        raise DataError(
            f"{path} was trained on graphs of {its.node_kinds} kinds of nodes, {its.edge_kinds} of edges and the "
            f"classes {', '.join(classes)}; these have {channels.node_kinds}, {channels.edge_kinds} and "
            f"{', '.join(graphs.classes)}"
        )
    net = empty_classifier(its, recipe, len(classes))
    checkpoint.check_architecture(net.state_dict(), kept["model"], path)
    net.load_state_dict(kept["model"])
    return DenseBox(net.eval(), channels)
