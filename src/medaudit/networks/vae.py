"""A convolutional variational autoencoder whose Jacobian means something.

No BatchNorm: its Jacobian depends on the mode and on other images. Inputs are centred and the output is linear: from
raw [0, 1] inputs dark images make small activations and so small Jacobians, and a sigmoid is flat near 0; scores made
from the Jacobian then say "dark" and not "unknown" (spec 6.4). Those set-ups can still be built, to show just that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import UsageError

MEAN, SCALE = 0.5, 0.25
"""Of centred inputs: (x - 0.5) / 0.25 (spec 1.6)."""


@dataclass(frozen=True)
class VaeShape:
    """What a VAE is made of; every layer of the encoder halves the image, the decoder mirrors it."""

    channels: int = 3
    side: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 128)
    latent: int = 128
    centred: bool = True
    norm: bool = True
    output: str = "linear"
    """``linear`` or ``sigmoid``."""
    dropout: float = 0.0
    """After each block of the decoder; for Monte-Carlo dropout only."""

    def __post_init__(self) -> None:
        if self.side % 2 ** len(self.widths) or self.side < 2 ** len(self.widths):
            raise UsageError(
                f"images of {self.side} pixels cannot be halved {len(self.widths)} times; expected a multiple of "
                f"{2 ** len(self.widths)}"
            )
        if self.output not in ("linear", "sigmoid"):
            raise UsageError(f"output is '{self.output}'; expected 'linear' or 'sigmoid'")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; expected 0 or more and less than 1")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, to be kept beside the weights."""
        return asdict(self)


class Encoder(nn.Module):
    """Images (N, C, H, W) from 0 to 1 to the mean and log-variance of their codes, (N, latent) each."""

    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        self.centred = shape.centred
        layers: list[nn.Module] = []
        before = shape.channels
        for width in shape.widths:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), *_normed(width, shape.norm), nn.SiLU()]
            before = width
        self.layers = nn.Sequential(*layers)
        flat = before * (shape.side // 2 ** len(shape.widths)) ** 2
        self.mean = nn.Linear(flat, shape.latent)
        self.log_variance = nn.Linear(flat, shape.latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance; the latter is kept within what can be exponentiated."""
        x = (images - MEAN) / SCALE if self.centred else images
        features = self.layers(x).flatten(1)
        return self.mean(features), self.log_variance(features).clamp(-20.0, 10.0)


class Decoder(nn.Module):
    """Codes (N, latent) to images (N, C, H, W)."""

    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        self.centred, self.sigmoid = shape.centred, shape.output == "sigmoid"
        self.bottom = (shape.widths[-1], *(2 * [shape.side // 2 ** len(shape.widths)]))
        self.first = nn.Linear(shape.latent, int(torch.Size(self.bottom).numel()))
        layers: list[nn.Module] = []
        before = shape.widths[-1]
        for width in [*shape.widths[-2::-1], None]:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            if width is None:
                break
            layers += [nn.Conv2d(before, width, 3, padding=1), *_normed(width, shape.norm), nn.SiLU()]
            if shape.dropout:
                layers.append(nn.Dropout2d(shape.dropout))
            before = width
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(before, shape.channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the mean reconstruction, in the images' own units."""
        made = self.last(self.layers(self.first(codes).view(-1, *self.bottom)))
        if self.sigmoid:
            return torch.sigmoid(made)
        return made * SCALE + MEAN if self.centred else made


class Vae(nn.Module):
    """Encoder and decoder; ``forward`` draws a code, ``reconstruct`` takes its mean."""

    def __init__(self, shape: VaeShape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.decoder = Encoder(shape), Decoder(shape)

    def encode_mean(self, images: Tensor) -> Tensor:
        """Return the mean codes (N, latent)."""
        return self.encoder(images)[0]

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the mean reconstruction (N, C, H, W)."""
        return self.decoder(self.encode_mean(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a reconstruction from a drawn code, and the code's mean and log-variance."""
        mean, log_variance = self.encoder(images)
        codes = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(codes), mean, log_variance


class MeanEncoder(nn.Module):
    """The mean of an encoder that returns mean and log-variance: what :mod:`medaudit.uncertainty.slug` asks for."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean codes."""
        return self.encoder(images)[0]


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)) of each code, (N,), nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def _normed(width: int, wanted: bool) -> list[nn.Module]:
    return [nn.GroupNorm(max(1, width // 8), width)] if wanted else []
