"""Spectral normalisation with a soft bound: layers that may not stretch distances by more than a factor.

DDU and SNGP need it: only a net that keeps far cases far can tell them by their features (Liu et al., NeurIPS 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medaudit.errors import DataError, UsageError


class SoftSpectralNorm(nn.Module):
    """W times min(1, bound / sigma): weights within the bound stay as they are.

    sigma is the largest singular value of the weight as a matrix (out, rest), by power iteration, one or more steps
    each training pass from the last vector. For a convolution this is the reshaped kernel's norm, not that of the
    operator, as in DDU's published code; the operator's is at most sqrt(height x width) of the kernel times that.
    """

    left: Tensor

    def __init__(self, weight: Tensor, bound: float, iterations: int) -> None:
        super().__init__()
        self.bound, self.iterations = bound, iterations
        matrix = weight.detach().flatten(1)
        # The first vector is found to convergence: a net that is never trained is within its bound too.
        # It starts at random: a vector of ones would miss a weight whose columns sum to 0.
        start = torch.randn(matrix.shape[0], generator=torch.Generator().manual_seed(0)).to(matrix)
        self.register_buffer("left", _iterated(matrix, nn.functional.normalize(start, dim=0), 30))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the bounded weight."""
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                # Not in place: a step's graph may hold the old vector.
                self.left = _iterated(matrix, self.left, self.iterations)
        right = nn.functional.normalize(matrix.detach().T @ self.left, dim=0)
        sigma = self.left @ matrix @ right
        return weight / torch.clamp(sigma / self.bound, min=1.0)  # not bound / sigma: sigma of a weight of 0 is 0


def spectral_normalised(module: nn.Module, bound: float = 3.0, iterations: int = 1) -> nn.Module:
    """Return ``module`` with every Conv and Linear weight in it under a soft bound (changed in place).

    Raises UsageError for a bound or a number of iterations that is not above 0, DataError where there is no such layer
    or where one is bounded already.
    """
    if not bound > 0 or iterations < 1:
        raise UsageError(
            f"a bound of {bound} by {iterations} iterations; expected a bound above 0, and 1 iteration or more"
        )
    layers: list[Any] = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    if not layers:
        raise DataError(f"{type(module).__name__} has no convolution and no linear layer: there is nothing to bound")
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise DataError(f"a weight of {type(module).__name__} is parametrised already; bound it once")
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", SoftSpectralNorm(layer.weight, bound, iterations))
    return module


def _iterated(matrix: Tensor, left: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        right = nn.functional.normalize(matrix.T @ left, dim=0)
        new = matrix @ right
        # A weight of 0 has no direction: the vector is kept, else it would be 0 for ever.
        left = torch.where(new.norm() > 0, nn.functional.normalize(new, dim=0), left)
    return left.detach().clone()
