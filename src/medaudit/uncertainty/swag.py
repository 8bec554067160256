"""SWAG: a Gaussian over weights from the path of a constant-rate SGD (Maddox et al., NeurIPS 2019)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.training import checkpoint
from medaudit.uncertainty.ensemble import softmax_of
from medaudit.uncertainty.outputs import device_of, evaluating

State = Mapping[str, Tensor]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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
    def of(cls, snapshots: Iterable[State], rank: int = 20) -> Swag:
        """Return the posterior of snapshots of parameters (state dicts), in the order in which they were taken.

        The last ``rank`` deviations are kept; the first snapshot's is 0. Snapshots may come one by one: only the sums
        and deviations stay in memory. Raises DataError for fewer than two snapshots, for one that is of another net,
        and for one that is not finite.
        """
        mean: dict[str, Tensor] = {}
        square: dict[str, Tensor] = {}
        deviations: dict[str, list[Tensor]] = {}
        count = 0
        for snapshot in snapshots:
            state = {name: value for name, value in snapshot.items() if value.is_floating_point() and not _buffer(name)}
            _check_snapshot(state, mean, count)
            for name, parameter in state.items():
                value = parameter.detach().double()
                # Both sums start at the first snapshot: from 0, its share of rounding would be as large as itself.
                mean[name] = value.clone() if count == 0 else mean[name] + (value - mean[name]) / (count + 1)
                square[name] = value**2 if count == 0 else square[name] + (value**2 - square[name]) / (count + 1)
                deviations[name] = [*deviations.get(name, []), value - mean[name]][-rank:]
            count += 1
        if count < 2:
            raise DataError(f"{count} snapshots; expected 2 or more")
        diagonal = {name: (square[name] - mean[name] ** 2).clamp_min(1e-30) for name in mean}
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
        checkpoint.write(
            path, {"mean": dict(self.mean), "diagonal": dict(self.diagonal), "deviations": dict(self.deviations)}
        )

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
    no training images, or for fewer than two samples; DataError where the posterior is of another net. ``model`` itself
    is not changed.
    """
    if samples < 2:
        raise UsageError(f"{samples} samples; expected 2 or more")
    net = copy.deepcopy(model)
    state = net.state_dict()
    for name, mean in posterior.mean.items():
        if name not in state or state[name].shape != mean.shape:
            what = f"has it as {tuple(state[name].shape)}" if name in state else "has none of that name"
            raise DataError(
                f"the posterior is of another net: its '{name}' is {tuple(mean.shape)}, {type(model).__name__} {what}"
            )
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
            found = [softmax_of(net(images.to(device)), net) for images in batches()]
        if not found:
            raise DataError("no batch of images was given")
        draws.append(np.concatenate(found))
    return np.stack(draws)


def renew_batch_norm(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Compute the running statistics of all BatchNorm layers anew: the mean over ``batches``, all else in eval mode.

    Raises DataError where there are no batches: the statistics would stay those of an untrained net.
    """
    norms = [module for module in net.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    device = device_of(net)
    with evaluating(net), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean over the batches
            norm.train()
        count = 0
        try:
            for images in batches:
                net(images.to(device))
                count += 1
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if count == 0:
        raise DataError("no batch of training images was given: BatchNorm's statistics cannot be computed")


def _check_snapshot(state: State, first: State, number: int) -> None:
    if not state:
        raise DataError(f"snapshot {number} has no floating-point parameter; expected a model's state_dict()")
    if first and {name: value.shape for name, value in state.items()} != {name: v.shape for name, v in first.items()}:
        raise DataError(f"snapshot {number} is of another net than the first: its parameters' names or shapes differ")
    bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise DataError(
            f"snapshot {number} is not finite in '{bad[0]}': the training diverged; lower its learning rate"
        )


def _buffer(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")
