"""A diffusion model of activations, so that images can be painted that no image was encoded for.

The published code lays a 1-D convolution over prototypes, whose order means nothing; here each layer sees all of them,
as in the latent model of diffusion autoencoders (arXiv 2111.15640, appendix).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.networks.diffusion.unet import sinusoids


@dataclass(frozen=True)
class LatentShape:
    """Activations in, and how wide and deep."""

    activations: int
    width: int = 256
    layers: int = 5
    times: int = 64


class LatentNet(nn.Module):
    """Noisy codes (N, m) and times (N,) to a prediction (N, m): layers with norm and SiLU, each seeing the input again.

    ``centre`` and ``spread`` (m,) bring the logarithms of activations to mean 0 and SD 1.
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
