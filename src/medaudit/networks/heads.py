"""Heads that know distance: a Gaussian process by random features (SNGP), and radial basis functions (DUQ)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError


class RandomFeatureGP(nn.Module):
    """SNGP's head (Liu et al., NeurIPS 2020): features (N, D) to logits (N, C); its variance grows with distance.

    A fixed Gaussian projection to ``projection`` dimensions, LayerNorm, random features k(x) = sqrt(2 / L)
    cos(W x + b) whose W is orthogonal with chi-distributed rows (Yu et al. 2016), and a linear layer. The precision
    ridge I + sum k k^T is accumulated over the training set, once, with the last weights; until then there is no
    variance.
    """

    projection: Tensor
    frequencies: Tensor
    phases: Tensor
    precision: Tensor

    def __init__(
        self, in_features: int, classes: int, inducing: int = 1024, projection: int = 128, ridge: float = 1.0,
        length_scale: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.ridge = ridge
        self.register_buffer("projection", 0.05 * torch.randn(projection, in_features, generator=generator))
        self.norm = nn.LayerNorm(projection)
        self.register_buffer("frequencies", orthogonal_frequencies(inducing, projection, generator) / length_scale)
        self.register_buffer("phases", 2 * math.pi * torch.rand(inducing, generator=generator))
        self.register_buffer("precision", torch.zeros(inducing, inducing, dtype=torch.float64))
        self.beta = nn.Linear(inducing, classes)

    def kernel_features(self, features: Tensor) -> Tensor:
        """Return the random features (N, L): their inner products are the RBF kernel, in expectation."""
        x = self.norm(features @ self.projection.T)
        scale = math.sqrt(2 / len(self.phases))
        return scale * torch.cos(x @ self.frequencies.T + self.phases)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, C) at the mean of the posterior."""
        return self.beta(self.kernel_features(features))

    def reset_precision(self) -> None:
        """Forget what was accumulated."""
        self.precision.zero_()

    @torch.no_grad()
    def update_precision(self, features: Tensor) -> None:
        """Add training cases (N, D) to the precision."""
        k = self.kernel_features(features).double()
        self.precision += k.T @ k

    @torch.no_grad()
    def variance(self, features: Tensor) -> Tensor:
        """Return the posterior variance (N,) float64, ridge k^T (ridge I + sum k k^T)^-1 k, at most about 1.

        Raises DataError where no precision was accumulated.
        """
        if not bool(self.precision.any()):
            raise DataError("SNGP's precision was never accumulated over training cases: it has no variance yet")
        k = self.kernel_features(features).double()
        whole = self.precision.double() + self.ridge * torch.eye(len(self.precision)).to(k)
        solved = torch.cholesky_solve(k.T, torch.linalg.cholesky(whole))
        return self.ridge * (k.T * solved).sum(dim=0)


def mean_field_logits(logits: Tensor, variance: Tensor, factor: float = math.pi / 8) -> Tensor:
    """Return logits (N, C) shrunk by their variance (N,): z / sqrt(1 + factor * variance)."""
    return logits / torch.sqrt(1 + factor * variance)[:, None].to(logits.dtype)


def orthogonal_frequencies(count: int, dims: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` frequencies (count, dims), orthogonal in blocks of ``dims``, with chi-distributed lengths."""
    blocks = []
    for _ in range(math.ceil(count / dims)):
        q, r = torch.linalg.qr(torch.randn(dims, dims, generator=generator))
        blocks.append(q * torch.sign(torch.diagonal(r)))
    lengths = torch.randn(count, dims, generator=generator).norm(dim=1)
    return torch.cat(blocks)[:count] * lengths[:, None]


class RadialBasis(nn.Module):
    """DUQ's head (van Amersfoort et al., ICML 2020): K_c = exp(-mean((W_c f - e_c)^2) / (2 s^2)), (N, C), from 0 to 1.

    The centroids e_c are moving averages of W_c f over the cases of a class.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        in_features: int,
        classes: int,
        size: int,
        length_scale: float = 0.1,
        momentum: float = 0.999,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.length_scale, self.momentum = length_scale, momentum
        weight = torch.randn(size, classes, in_features, generator=generator) * math.sqrt(2 / in_features)
        self.weight = nn.Parameter(weight)
        self.register_buffer("counts", torch.full((classes,), 13.0))
        self.register_buffer("sums", 13.0 * 0.05 * torch.randn(size, classes, generator=generator))

    def embedded(self, features: Tensor) -> Tensor:
        """Return W_c f for every class, (N, size, C)."""
        return torch.einsum("nd,scd->nsc", features, self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return the kernels (N, C)."""
        off = self.embedded(features) - self.sums / self.counts
        return torch.exp(-(off**2).mean(dim=1) / (2 * self.length_scale**2))

    @torch.no_grad()
    def update_centroids(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids by a batch's features (N, D) and one-hot ``labels`` (N, C)."""
        self.counts = self.momentum * self.counts + (1 - self.momentum) * labels.sum(dim=0)
        added = torch.einsum("nsc,nc->sc", self.embedded(features), labels)
        self.sums = self.momentum * self.sums + (1 - self.momentum) * added


def gradient_penalty(inputs: Tensor, kernels: Tensor, weight: float) -> Tensor:
    """Return DUQ's two-sided penalty: weight times the mean of (|d sum_c K_c / d x|^2 - 1)^2 over cases.

    Raises UsageError where ``kernels`` (N, C) were computed from ``inputs`` (N, ...) without their gradient.
    """
    if not inputs.requires_grad or not kernels.requires_grad:
        raise UsageError(
            "DUQ's penalty needs the inputs' gradient: call inputs.requires_grad_(True) before the net runs"
        )
    gradient: Any = torch.autograd.grad(kernels.sum(), inputs, create_graph=True)[0]
    return weight * ((gradient.flatten(1).norm(dim=1) ** 2 - 1) ** 2).mean()
