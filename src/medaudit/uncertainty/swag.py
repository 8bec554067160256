"""SWAG: a Gaussian over weights from the path of a constant-rate SGD (Maddox et al., NeurIPS 2019)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.outputs import device_of, evaluating

State = Mapping[str, Tensor]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Swag:
    """The posterior N(mean, diagonal / 2 + D D^T / (2 (K - 1))) over the floating-point parameters of a net.

    By name of the parameter: ``mean``, ``diagonal`` (the variance, at least 1e-30), and ``deviations`` (K, ...), each
    snapshot minus the mean of those up to it. Buffers, as BatchNorm's statistics, are no part of it.
    """

    mean: State
    diagonal: State
    deviations: State

    @classmethod
    def of(cls, snapshots: Sequence[State], rank: int = 20) -> Swag:
        """Return the posterior of snapshots of parameters, in the order in which they were taken; the last ``rank``
        deviations are kept. Raises DataError for fewer than two snapshots.
        """
        if len(snapshots) < 2:
            raise DataError(f"{len(snapshots)} snapshots; expected 2 or more")
        names = [name for name, value in snapshots[0].items() if value.is_floating_point() and not _buffer(name)]
        mean = {name: torch.zeros_like(snapshots[0][name], dtype=torch.float64) for name in names}
        square = {name: torch.zeros_like(mean[name]) for name in names}
        deviations: dict[str, list[Tensor]] = {name: [] for name in names}
        for k, snapshot in enumerate(snapshots):
            for name in names:
                value = snapshot[name].double()
                mean[name] = (mean[name] * k + value) / (k + 1)
                square[name] = (square[name] * k + value**2) / (k + 1)
                deviations[name] = [*deviations[name], value - mean[name]][-rank:]
        diagonal = {name: (square[name] - mean[name] ** 2).clamp_min(1e-30) for name in names}
        return cls(mean, diagonal, {name: torch.stack(kept) for name, kept in deviations.items()})

    def sample(self, generator: torch.Generator, scale: float = 1.0) -> dict[str, Tensor]:
        """Return weights drawn from the posterior, float32 (eq. 1 of the paper; ``scale`` is its s)."""
        rank = len(next(iter(self.deviations.values())))
        low = torch.randn(rank, generator=generator, dtype=torch.float64)
        drawn = {}
        for name, mean in self.mean.items():
            noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            step = self.diagonal[name].sqrt() * noise / 2**0.5
            if rank > 1:
                step = step + torch.tensordot(low, self.deviations[name], 1) / (2 * (rank - 1)) ** 0.5
            drawn[name] = (mean + scale**0.5 * step).float()
        return drawn

    def save(self, path: Path) -> None:
        """Write the posterior as a torch file of plain tensors."""
        part = path.with_name(f".{path.name}")
        torch.save(
            {"mean": dict(self.mean), "diagonal": dict(self.diagonal), "deviations": dict(self.deviations)}, part
        )
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Swag:
        """Return what :meth:`save` wrote; nothing but tensors is read."""
        found = torch.load(path, weights_only=True)
        return cls(found["mean"], found["diagonal"], found["deviations"])


def swag_predict(
    model: nn.Module,
    posterior: Swag,
    batches: Callable[[], Iterable[Tensor]],
    train_batches: Callable[[], Iterable[Tensor]] | None,
    samples: int = 30,
    seed: int = 0,
) -> np.ndarray:
    """Return softmax probabilities (S, N, C), float64, of ``samples`` nets drawn from the posterior.

    ``batches()`` and ``train_batches()`` yield images anew. Each drawn net's BatchNorm statistics are computed on the
    training images: those of other weights do not fit it. Raises UsageError where the net has BatchNorm and there are
    no training images. ``model`` itself is not changed.
    """
    net = copy.deepcopy(model)
    norms = [module for module in net.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    if norms and train_batches is None:
        raise UsageError(
            "the net has BatchNorm: SWAG needs training images, to compute its statistics for every sample"
        )
    generator = torch.Generator().manual_seed(seed)
    device = device_of(net)
    draws = []
    for _ in range(samples):
        net.load_state_dict(posterior.sample(generator), strict=False)
        if norms and train_batches is not None:
            renew_batch_norm(net, train_batches())
        with evaluating(net), torch.no_grad():
            logits = torch.cat([net(images.to(device)) for images in batches()])
        draws.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    return np.stack(draws)


def renew_batch_norm(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Compute the running statistics of all BatchNorm layers anew: the mean over ``batches``, all else in eval mode."""
    norms = [module for module in net.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    device = device_of(net)
    with evaluating(net), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean over the batches
            norm.train()
        try:
            for images in batches:
                net(images.to(device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _buffer(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")
