"""Laplace on the decoder's last layer alone, in closed form: its output is linear in its weights.

A pixel's prediction is w_c · φ + b_c with φ what the layer sees there: the patch under the filter of a convolution,
or all features of a linear layer. Each output has weights of its own and the same φ, so one (F + 1, F + 1) precision
serves all channels: Λ = Σ φ φ^T / s² + α I over all pixels of all training images, and a pixel's variance is
φ^T Λ⁻¹ φ. Exact, but for the weights that are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.generators.encoder import Autoencoder, at_rest

_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The posterior covariance of one output's weights and bias, (F + 1, F + 1) float64, and the output's scale."""

    covariance: Tensor
    scale: float
    """What the layer's output is multiplied by to be in the images' units."""


def fit_last_layer(model: Autoencoder, batches: Iterable[Tensor], variance: float, prior_precision: float) -> LastLayer:
    """Return the posterior of the decoder's last layer from training images.

    ``variance`` is s² in the images' units, ``prior_precision`` α of the layer's own weights. Raises UsageError where
    the image is not this layer's output up to a scale and an offset, as after a sigmoid.
    """
    if not variance > 0 or not prior_precision > 0:
        raise UsageError(f"variance is {variance}, prior_precision {prior_precision}; expected more than 0")
    precision, scale = None, 1.0
    for _, features, found in _seen(model, batches):
        if precision is None:
            precision = prior_precision * torch.eye(features.shape[1], dtype=torch.float64)
            scale = found
        rows = features.transpose(0, 1).flatten(1)
        precision += (scale**2 / variance) * (rows @ rows.T).cpu()
    if precision is None:
        raise DataError("no batch of images was given")
    return LastLayer(torch.linalg.inv(precision), scale)


def last_layer_scores(
    model: Autoencoder, posterior: LastLayer, batches: Iterable[Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trace of the output's covariance (N,) and its diagonal as a map (N, C, H, W) float32.

    After a linear layer all pixels of an image have the same variance: the map says nothing there.
    """
    maps = []
    for images, features, _ in _seen(model, batches):
        if features.shape[1] != len(posterior.covariance):
            raise DataError(
                f"the posterior is of a layer with {len(posterior.covariance)} weights an output; this one has "
                f"{features.shape[1]}"
            )
        covariance = posterior.covariance.to(features.device)
        variance = torch.einsum("nfl,fg,ngl->nl", features, covariance, features) * posterior.scale**2
        plane = variance.view(len(images), 1, *(images.shape[2:] if variance.shape[1] > 1 else (1, 1)))
        maps.append(plane.expand(images.shape).cpu())
    if not maps:
        raise DataError("no batch of images was given")
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def _seen(model: Autoencoder, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield images, what the last layer sees of them (N, F + 1, L) float64, and its output's scale.

    L is H W for a convolution and 1 for a linear layer; the last feature is the bias's 1, where there is a bias.
    """
    with at_rest(model) as device:
        for images in batches:
            with _watched(model.decoder) as calls:
                made = model.decoder(model.encoder(images.to(device))[0])
            if not calls:
                raise UsageError("the decoder has no Conv2d or Linear layer; nothing is left to be Bayesian about")
            layer, inputs, outputs = calls[-1]
            scale = _scale(layer, outputs, made)
            yield images, _features(layer, inputs).double(), scale


@contextmanager
def _watched(decoder: nn.Module) -> Iterator[list[tuple[Any, Tensor, Tensor]]]:
    """Return a list that grows by (layer, input, output) in the order in which the layers run."""
    calls: list[tuple[Any, Tensor, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls.append((layer, inputs[0], output))

    handles = [part.register_forward_hook(keep) for part in decoder.modules() if isinstance(part, _LAYERS)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _scale(layer: nn.Module, outputs: Tensor, made: Tensor) -> float:
    """Return a where the image is a times the layer's output plus a constant, by looking at the numbers."""
    x, y = outputs.double().flatten(), made.double().flatten()
    if len(x) == len(y):
        low, high = x.argmin(), x.argmax()
        slope = (y[high] - y[low]) / (x[high] - x[low]).clamp_min(1e-300)
        off = (y - y[low] - slope * (x - x[low])).abs().max()
        if float(off) <= 1e-4 * float(y.max() - y.min()) and float(slope) != 0:
            return float(slope)
    raise UsageError(
        f"the image is not the output of the decoder's last {type(layer).__name__} up to a scale and an offset (a "
        "sigmoid, or another layer, comes after it): it is not linear in that layer's weights"
    )


def _features(layer: Any, inputs: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        if inputs.dim() != 2:
            raise UsageError(f"the decoder's last layer sees {tuple(inputs.shape)}; expected (N, features)")
        seen = inputs.unsqueeze(2)
    else:
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise UsageError(
                f"the decoder's last layer is {layer}; expected a convolution without groups, with a number of zeros "
                "for its padding"
            )
        seen = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return seen if layer.bias is None else torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
