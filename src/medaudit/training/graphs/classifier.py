"""Train a classifier of graphs, the black box of an explanation where a user brings none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError, UsageError
from medaudit.networks.graphs.batch import GraphChannels, dense
from medaudit.networks.graphs.classifiers import GCN, GIN, DenseClassifier, DenseShape, MessageShape
from medaudit.training import checkpoint
from medaudit.training.graphs.vae import batch_of, loader
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

NETS = ("dense", "gcn", "gin")
KEPT = "graph_classifier.pt"


@dataclass(frozen=True)
class GraphClassifierRecipe:
    """How a classifier is trained; ``dense`` is the paper's net (its 25 epochs of Adam), masked."""

    net: str = "dense"
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 1e-3
    epochs: int = 4

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise UsageError(f"no classifier '{self.net}'; expected one of {', '.join(NETS)}")


def empty_classifier(channels: GraphChannels, recipe: GraphClassifierRecipe, classes: int, seed: int = 0) -> nn.Module:
    """Return the net before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.net == "dense":
            return DenseClassifier(channels, DenseShape(classes=classes))
        return (GCN if recipe.net == "gcn" else GIN)(channels, MessageShape(classes=classes))


def fit_graph_classifier(
    graphs: Graphs, rows: Sequence[int], recipe: GraphClassifierRecipe, folder: Path, *, seed: int = 0,
    device: str = "cpu", progress: bool = False,
) -> nn.Module:  # fmt: skip
    """Return a classifier trained on the graphs of ``rows``, in evaluation mode; it stays in ``folder``.

    Classes count alike, whatever their numbers. Raises DataError where there is one class only.
    """
    y = graphs.y[np.asarray(rows)]
    counts = np.bincount(y[y >= 0], minlength=len(graphs.classes))
    if (counts > 0).sum() < 2:
        raise DataError(f"{graphs.name}: the graphs to train on are all of one class; a classifier needs two")
    channels, size = GraphChannels.of(graphs), graphs.largest
    net = empty_classifier(channels, recipe, len(graphs.classes), seed)
    this = {"recipe": asdict(recipe), "channels": channels.as_dict(), "classes": list(graphs.classes), "seed": seed,
            "graphs": [graphs.graphs[i].id for i in rows]}  # fmt: skip
    if (folder / KEPT).is_file():
        kept = checkpoint.read(folder / KEPT)
        if kept.get("this") != this:
            raise UsageError(f"{folder} holds another training; choose another folder")
        net.load_state_dict(kept["model"])
        return net.eval()
    weight = torch.tensor(np.where(counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0.0))

    def loss_of(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        logits = model(batch_of(batch, channels.features))[2]
        return F.cross_entropy(logits, batch["y"], weight=weight.to(logits))

    known = [int(i) for i in np.asarray(rows)[y >= 0]]
    settings = TrainingSettings(
        epochs=recipe.epochs, epoch_steps=max(1, recipe.steps // recipe.epochs),
        batch_size=min(recipe.batch_size, len(known)), learning_rate=recipe.learning_rate, weight_decay=1e-4,
        schedule="cosine", warmup_steps=min(20, recipe.steps // 10), clip_norm=5.0, seed=seed, accelerator=device,
    )  # fmt: skip
    data = TrainingData([graphs.graphs[i].id for i in known], loader(graphs, known, channels, size))
    train(net, loss_of, data, settings, folder=folder / "training", progress=progress)
    net = net.cpu().eval()
    checkpoint.write(folder / KEPT, {"model": net.state_dict(), "this": this})
    for file in (folder / "training").glob("*.pt"):
        file.unlink()
    return net


@torch.no_grad()
def probabilities(net: nn.Module, graphs: Sequence[Graph], channels: GraphChannels) -> np.ndarray:
    """Return the probabilities (N, classes) of graphs, each without any empty slot: graphs of one size together."""
    found: dict[int, np.ndarray] = {}
    sizes = np.array([graph.n for graph in graphs], dtype=int)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        step = max(1, 400_000 // size**2)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            logits = net(dense([graphs[i] for i in part], channels, int(size)))[2]
            for row, one in zip(part, logits.double().softmax(1).numpy(), strict=True):
                found[int(row)] = one
    return np.stack([found[i] for i in range(len(graphs))]) if graphs else np.zeros((0, 0))
