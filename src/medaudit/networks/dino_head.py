"""The projection head of DINO and iBOT: an MLP to a bottleneck on the sphere, and prototypes (arXiv 2104.14294)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DinoHead(nn.Module):
    """Features (M, d) to points on the unit sphere (M, bottleneck); their products with prototypes are the logits.

    The prototypes are weight-normed with trainable lengths that start at 1, as in DINOv2. ``batch_norm`` puts
    BatchNorm by the batch's own statistics, in training and evaluation alike, into the MLP: DINO's option for small
    data, which DINOv2 leaves out.
    """

    def __init__(self, dim: int, prototypes: int, hidden: int = 2048, bottleneck: int = 256, batch_norm: bool = False):
        super().__init__()

        def norm() -> list[nn.Module]:
            return [nn.BatchNorm1d(hidden, track_running_stats=False)] if batch_norm else []

        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), *norm(), nn.GELU(), nn.Linear(hidden, hidden), *norm(), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        self.last_layer = Prototypes(bottleneck, prototypes)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the bottleneck, of length 1 (M, bottleneck)."""
        z = self.mlp(features)
        return F.normalize(z, dim=-1, eps=1e-6 if z.dtype == torch.float16 else 1e-12)

    def prototypes(self) -> Tensor:
        """Return the prototypes (K, bottleneck)."""
        return self.last_layer()


class Prototypes(nn.Module):
    """Directions times lengths, under the names of torch's older weight norm, which published heads bear."""

    def __init__(self, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.trunc_normal_(self.weight_v, std=0.02)

    def forward(self) -> Tensor:
        """Return the prototypes (K, bottleneck)."""
        return torch._weight_norm(self.weight_v.float(), self.weight_g.float(), 0)
