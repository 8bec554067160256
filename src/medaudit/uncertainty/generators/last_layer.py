"""Laplace on the decoder's last convolution alone, in closed form: its output is linear in its weights.

A pixel's prediction is w_c · φ + b_c with φ the patch that the filter sees, (F,). Each channel has weights of its own
and sees the same patches, so one (F + 1, F + 1) precision serves all channels: Λ = Σ φ φ^T / s² + α I over all pixels
of all training images, and a pixel's variance is φ^T Λ⁻¹ φ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from medaudit.errors import UsageError
from medaudit.networks.vae import Vae


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The posterior covariance of one channel's filter and bias, (F + 1, F + 1) float64, and the output's scale."""

    covariance: Tensor
    scale: float


def fit_last_layer(model: Vae, batches: Iterable[Tensor], variance: float, prior_precision: float) -> LastLayer:
    """Return the posterior of the decoder's last convolution from training images; UsageError where it is not linear.

    ``variance`` is s² in the images' units, ``prior_precision`` α of the layer's own weights.
    """
    if model.shape.output != "linear":
        raise UsageError("the last layer is followed by a sigmoid: its output is not linear in its weights")
    if not variance > 0 or not prior_precision > 0:
        raise UsageError(f"variance is {variance}, prior_precision {prior_precision}; expected more than 0")
    scale = _scale(model)
    layer = model.decoder.last
    size = layer.weight[0].numel() + 1
    precision = prior_precision * torch.eye(size, dtype=torch.float64)
    with torch.no_grad():
        for images in batches:
            patches = _patches(model, images).double()
            precision += scale**2 / variance * torch.einsum("nfl,ngl->fg", patches, patches)
    return LastLayer(torch.linalg.inv(precision), scale)


def last_layer_scores(model: Vae, posterior: LastLayer, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the trace of the output's covariance (N,) and its diagonal as a map (N, C, H, W) float32."""
    maps = []
    with torch.no_grad():
        for images in batches:
            patches = _patches(model, images).double()
            variance = torch.einsum("nfl,fg,ngl->nl", patches, posterior.covariance, patches) * posterior.scale**2
            maps.append(variance.view(len(images), 1, *images.shape[2:]).expand(-1, images.shape[1], -1, -1))
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def _patches(model: Vae, images: Tensor) -> Tensor:
    """Return what the last filter sees at each pixel, and a 1 for its bias: (N, F + 1, H W)."""
    layer: nn.Conv2d = model.decoder.last
    codes = model.encode_mean(images)
    features = model.decoder.layers(model.decoder.first(codes).view(-1, *model.decoder.bottom))
    seen = unfold(features, layer.kernel_size, padding=layer.padding)  # type: ignore[arg-type]
    return torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)


def _scale(model: Vae) -> float:
    from medaudit.networks.vae import SCALE

    return SCALE if model.shape.centred else 1.0
