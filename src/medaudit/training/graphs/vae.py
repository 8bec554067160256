"""Train an autoencoder of graphs, keep it, and say how well it rebuilds graphs that it did not see."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError, UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense
from medaudit.networks.graphs.decoding import decode_most_likely
from medaudit.networks.graphs.pegvae import PegShape, PegVAE
from medaudit.networks.graphs.strong import StrongShape, StrongVAE
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.networks.graphs.vae_losses import beta, kl, paper_kl, reconstruction
from medaudit.training import checkpoint
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

ARCHITECTURES = ("strong", "paper")
KEPT = "graph_vae.pt"


@dataclass(frozen=True)
class GraphVaeRecipe:
    """How an autoencoder is trained.

    ``paper``: the published net, loss and schedule of the divergence's weight (30,000 steps there). ``strong``: ours,
    which rebuilds graphs within a budget of minutes.
    """

    arch: str = "strong"
    steps: int = 4_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    beta: float = 1e-3
    """Weight of the divergence; ``paper`` has its own schedule."""
    epochs: int = 10
    """Into how many parts the steps are divided; a checkpoint follows each."""

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise UsageError(f"no architecture '{self.arch}'; expected one of {', '.join(ARCHITECTURES)}")

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs, epoch_steps=max(1, self.steps // self.epochs), batch_size=self.batch_size,
            learning_rate=self.learning_rate, optimizer="adam",
            schedule="constant" if self.arch == "paper" else "cosine",
            warmup_steps=0 if self.arch == "paper" else min(100, self.steps // 10),
            clip_norm=None if self.arch == "paper" else 1.0, seed=seed, accelerator=device,
        )  # fmt: skip


RECIPES = {
    "fast": GraphVaeRecipe(steps=1_000),
    "cpu": GraphVaeRecipe(),
    "paper": GraphVaeRecipe("paper", steps=30_000, learning_rate=1e-3, epochs=30),
}
"""By preset."""


def empty_vae(channels: GraphChannels, recipe: GraphVaeRecipe, seed: int = 0) -> GraphVAE:
    """Return the net of a recipe before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PegVAE(channels, PegShape()) if recipe.arch == "paper" else StrongVAE(channels, StrongShape())


def fit_graph_vae(
    graphs: Graphs, rows: Sequence[int], recipe: GraphVaeRecipe, folder: Path, *, seed: int = 0, device: str = "cpu",
    progress: bool = False,
) -> GraphVAE:  # fmt: skip
    """Return the autoencoder trained on the graphs of ``rows``, in evaluation mode; it stays in ``folder``.

    Goes on where ``folder`` was stopped, to the same bits. Raises DataError for fewer graphs than a batch.
    """
    if len(rows) < recipe.batch_size:
        raise DataError(
            f"{graphs.name}: {len(rows)} graphs to train on, fewer than a batch of {recipe.batch_size}; give more"
        )
    channels, size = GraphChannels.of(graphs), graphs.largest
    net = empty_vae(channels, recipe, seed)
    this = {"recipe": asdict(recipe), "channels": channels.as_dict(), "size": size, "seed": seed,
            "graphs": [graphs.graphs[i].id for i in rows]}  # fmt: skip
    if (folder / KEPT).is_file():
        kept = checkpoint.read(folder / KEPT)
        if kept.get("this") != this:
            raise UsageError(f"{folder} holds another training; choose another folder")
        net.load_state_dict(kept["model"])
        return net.eval()
    paper = recipe.arch == "paper"

    def loss_of(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        parts = model(batch)
        weight = beta(round(batch["progress"] * recipe.steps)) if paper else recipe.beta
        return {"loss": parts["total"] + weight * parts["kl"], **parts}

    data = TrainingData([graphs.graphs[i].id for i in rows], loader(graphs, rows, channels, size))
    settings = recipe.settings(seed, device)
    train(_Costs(net, paper), loss_of, data, settings, folder=folder / "training", progress=progress)
    net = net.cpu().eval()
    checkpoint.write(folder / KEPT, {"model": net.state_dict(), "this": this})
    for file in (folder / "training").glob("*.pt"):
        file.unlink()
    return net


class _Costs(nn.Module):
    """What a batch costs, as the loop wants it: tensors by name."""

    def __init__(self, net: GraphVAE, paper: bool) -> None:
        super().__init__()
        self.net, self.paper = net, paper

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return nats a graph: all parts together, some of them, and the divergence."""
        given = batch_of(batch, self.net.channels.features)
        made = self.net(given)
        parts = reconstruction(given, made.logits, paper=self.paper)
        far = (paper_kl if self.paper else kl)(made.mean, made.log_variance)
        return {"total": parts.total, "adjacency": parts.adjacency, "nodes": parts.nodes, "kl": far}


def loader(graphs: Graphs, rows: Sequence[int], channels: GraphChannels, size: int) -> Any:
    """Return what reads one of the graphs of ``rows`` for the loop: tensors of ``size`` slots, and its class."""

    def load(index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        one = dense([graphs.graphs[rows[index]]], channels, size)
        found = {"exists": one.exists[0], "nodes": one.nodes[0], "adjacency": one.adjacency[0], "edges": one.edges[0],
                 "y": torch.tensor(int(graphs.y[rows[index]]))}  # fmt: skip
        return found if one.weights is None else {**found, "weights": one.weights[0]}

    return load


def batch_of(batch: Mapping[str, Any], features: int) -> GraphBatch:
    """Return what the loop stacked as a batch of graphs."""
    return GraphBatch(
        batch["exists"], batch["nodes"], batch["adjacency"], batch["edges"], batch.get("weights"), features
    )


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """How graphs come back from the mean of their latents, a number a graph (N,)."""

    edge_errors: np.ndarray
    """Pairs whose edge, or its kind, is wrong."""
    edge_f1: np.ndarray
    base_f1: np.ndarray
    """Of a guess that knows how dense the graphs are and nothing else: edges everywhere, or as many by lot."""
    node_errors: np.ndarray
    exact: np.ndarray
    """Bool: node for node and edge for edge as it was."""

    @property
    def passes(self) -> bool:
        """Whether edges are rebuilt better than a guess that knows the density: the mean F1 is halfway from it to 1."""
        base = float(self.base_f1.mean())
        return bool(self.edge_f1.mean() >= base + 0.5 * (1 - base))


@torch.no_grad()
def latents(net: GraphVAE, graphs: Sequence[Graph], size: int, *, seed: int = 0) -> Tensor:
    """Return the means (N, latent, size) of graphs' latents; noise, where the net has any, by each graph's own seed."""
    found = []
    for start in range(0, len(graphs), 128):
        part = dense(graphs[start : start + 128], net.channels, size)
        draws = [torch.Generator().manual_seed(seed_of(graph.id, seed)) for graph in graphs[start : start + 128]]
        found.append(net.encode(part, net.noise(part, draws))[0])
    return torch.cat(found)


@torch.no_grad()
def rebuilt(net: GraphVAE, graphs: Sequence[Graph], size: int, *, seed: int = 0) -> Rebuilt:
    """Return how graphs are rebuilt by the likeliest decode of their latents' means, slot by slot."""
    codes = latents(net, graphs, size, seed=seed)
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(graphs), 128):
        given = dense(graphs[start : start + 128], net.channels, size)
        made = decode_most_likely(net, codes[start : start + 128])
        lower = torch.ones(size, size).tril(-1)
        true, told = given.adjacency[:, 0] * lower, made.adjacency[:, 0] * lower
        hit, wrong = (true * told).sum((1, 2)), ((given.edges != made.edges).any(1) * lower).sum((1, 2))
        density = true.sum((1, 2)) / (given.counts * (given.counts - 1) / 2).clamp(min=1)
        kinds = (given.kinds != made.kinds).any(1).sum(1)
        f1 = 2 * hit / (true.sum((1, 2)) + told.sum((1, 2))).clamp(min=1)
        f1 = torch.where(true.sum((1, 2)) + told.sum((1, 2)) == 0, torch.ones_like(f1), f1)
        parts.append([x.double().numpy() for x in (wrong, f1, 2 * density / (1 + density), kinds)])
    errors, scores, bases, nodes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rebuilt(errors, scores, bases, nodes, (errors == 0) & (nodes == 0))


def seed_of(name: str, seed: int) -> int:
    """Return a seed of a graph's own, so that what it draws does not depend on which graphs are beside it."""
    return zlib.crc32(name.encode()) + 2**32 * (seed % 2**16)
