"""Spectral normalisation with a soft bound: layers that may not stretch distances by more than a factor.

DDU and SNGP need it: only a net that keeps far cases far can tell them by their features (Liu et al., NeurIPS 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class SoftSpectralNorm(nn.Module):
    """W times min(1, bound / sigma): weights within the bound stay as they are.

    sigma is the largest singular value of the weight as a matrix (out, rest), by power iteration, one or more steps
    each training pass from the last vector. For a convolution this is the reshaped kernel's norm, not that of the
    operator, as in DDU's and SNGP's published code; the operator's is at most the square root of the kernel's size
    larger.
    """

    left: Tensor

    def __init__(self, weight: Tensor, bound: float, iterations: int) -> None:
        super().__init__()
        self.bound, self.iterations = bound, iterations
        matrix = weight.detach().flatten(1)
        # The first vector is found to convergence: a net that is never trained is within its bound too.
        start = torch.ones(matrix.shape[0], dtype=weight.dtype) / matrix.shape[0] ** 0.5
        self.register_buffer("left", _iterated(matrix, start, 30))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the bounded weight."""
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                # Not in place: a step's graph may hold the old vector.
                self.left = _iterated(matrix, self.left, self.iterations)
        right = nn.functional.normalize(matrix.detach().T @ self.left, dim=0)
        sigma = self.left @ matrix @ right
        return weight * torch.clamp(self.bound / sigma, max=1.0)


def spectral_normalised(module: nn.Module, bound: float = 3.0, iterations: int = 1) -> nn.Module:
    """Return ``module`` with every Conv and Linear weight in it under a soft bound (changed in place)."""
    layers: list[Any] = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", SoftSpectralNorm(layer.weight, bound, iterations))
    return module


def _iterated(matrix: Tensor, left: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        right = nn.functional.normalize(matrix.T @ left, dim=0)
        left = nn.functional.normalize(matrix @ right, dim=0)
    return left.detach().clone()
