"""Encoder, prototypes and denoiser as one model (Patronus, arXiv 2503.22782)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medaudit.networks.diffusion.unet import ConditionalUNet
from medaudit.networks.prototypes.encoder import PrototypeEncoder


class PrototypeDiffusion(nn.Module):
    """What the U-Net makes of noisy images depends on the activations of prototypes in the clean ones.

    Activations are brought to the scale of ``centre`` and ``spread`` (m,), which stay as they were set before the
    training; 0 and 1, the published model, leave them alone.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, encoder: PrototypeEncoder, unet: ConditionalUNet, predicts: str = "velocity") -> None:
        super().__init__()
        self.encoder, self.unet, self.predicts = encoder, unet, predicts
        self.register_buffer("centre", torch.zeros(encoder.shape.prototypes))
        self.register_buffer("spread", torch.ones(encoder.shape.prototypes))

    def forward(self, images: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Return the prediction (N, C, H, W) for noisy images at times (N,); the clean ``images`` are encoded."""
        return self.denoise(noisy, times, self.activations(images))

    def activations(self, images: Tensor) -> Tensor:
        """Return the activations (N, m) of images from -1 to 1."""
        return self.encoder(images)

    def denoise(self, noisy: Tensor, times: Tensor, activations: Tensor) -> Tensor:
        """Return the prediction for noisy images under activations (N, m)."""
        return self.unet(noisy, times, ((activations - self.centre) / self.spread).to(noisy.dtype))
