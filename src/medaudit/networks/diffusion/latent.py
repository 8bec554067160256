"""A diffusion model of activations, so that images can be painted that no image was encoded for.

The published code lays a 1-D convolution over prototypes, whose order means nothing; here each layer sees all of them,
as in the latent model of diffusion autoencoders (arXiv 2111.15640, appendix), in our own reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.diffusion.unet import sinusoids
from medaudit.networks.prototypes.encoder import SIMILARITIES, activation_of, distance_of

_LEAST = 1e-6  # a log similarity of 0, as of a patch infinitely far away, has no distance
_LEAST_SPREAD = 1e-4  # of a prototype that is equally far from every image


@dataclass(frozen=True)
class LatentShape:
    """How many activations and of which similarity, and how wide and deep the net is."""

    activations: int
    width: int = 256
    layers: int = 5
    times: int = 64
    """Numbers that a time becomes before the first layer."""
    similarity: str = "log"
    epsilon: float = 1e-4
    """The encoder's own."""

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise UsageError(f"no similarity '{self.similarity}'; expected one of {', '.join(SIMILARITIES)}")


class LatentPrior(nn.Module):
    """Noisy codes (N, m) and times (N,) to a prediction (N, m): layers with norm and SiLU, each seeing the input again.

    A code is -log(d² + epsilon) of the squared distance d² that an activation means, brought to mean 0 and SD 1 by
    ``centre`` and ``spread`` (m,). Activations are bounded (the log similarity between 0 and log(1 / epsilon)), and a
    sampler respects no bound; but any code means a distance of 0 or more, so that what is drawn is an activation that
    an image can have. Of the log similarity s the code is log(exp(s) - 1), the inverse of softplus, but for a constant.
    Where s is small that is log(s); unlike log(s) it is still even in distance where s is large.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, shape: LatentShape) -> None:
        super().__init__()
        self.shape = shape
        m, w = shape.activations, shape.width
        self.time = nn.Sequential(nn.Linear(shape.times, w), nn.SiLU(), nn.Linear(w, w))
        self.layers = nn.ModuleList(nn.Linear(m if k == 0 else w + m, w) for k in range(shape.layers))
        self.scales = nn.ModuleList(nn.Linear(w, w) for _ in range(shape.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(w) for _ in range(shape.layers))
        self.last = nn.Linear(w + m, m)
        self.register_buffer("centre", torch.zeros(m))
        self.register_buffer("spread", torch.ones(m))

    def forward(self, codes: Tensor, times: Tensor) -> Tensor:
        """Return the prediction (N, m)."""
        time = self.time(sinusoids(times, self.shape.times).to(codes.dtype))
        h = codes
        for k, (layer, scale, norm) in enumerate(zip(self.layers, self.scales, self.norms, strict=True)):
            h = layer(h if k == 0 else torch.cat([h, codes], dim=1))
            h = F.silu(norm(h * (1 + scale(time))))
        return self.last(torch.cat([h, codes], dim=1))

    @torch.no_grad()
    def fit_scale(self, activations: Tensor) -> None:
        """Set ``centre`` and ``spread`` by activations (N, m)."""
        raw = self._raw(activations)
        self.centre.copy_(raw.mean(0))
        self.spread.copy_(raw.std(0, correction=0).clamp(min=_LEAST_SPREAD))

    def encode(self, activations: Tensor) -> Tensor:
        """Return the codes (N, m) float32 of activations (N, m)."""
        return ((self._raw(activations) - self.centre) / self.spread).float()

    def decode(self, codes: Tensor) -> Tensor:
        """Return the activations (N, m) float32 of codes (N, m)."""
        raw = codes.double() * self.spread + self.centre
        squared = (torch.exp(-raw) - self.shape.epsilon).clamp(min=0)
        return activation_of(squared, self.shape.similarity, self.shape.epsilon).float()

    def _raw(self, activations: Tensor) -> Tensor:
        """Return -log(d² + epsilon), in float64: distances span many orders of magnitude."""
        values = activations.double()
        if self.shape.similarity == "log":
            values = values.clamp(min=_LEAST)
        squared = distance_of(values, self.shape.similarity, self.shape.epsilon)
        return -torch.log(squared.clamp(min=0) + self.shape.epsilon)
