"""Train one VAE on prepared images: what every study of generators is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.networks.vae import Vae, VaeShape, kl_divergence
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

Distance = Callable[[Tensor, Tensor], Tensor]
"""Images and reconstructions (N, C, H, W) to a distance each, (N,)."""


@dataclass(frozen=True)
class VaeRecipe:
    """How a VAE is trained; all our choice, the papers' training is not known to us.

    The loss of an image is |x - f|² / (2 s²) + β KL + κ d(x, f), over its number of pixels and channels. s² is the mean
    squared error of the batch itself, its maximum-likelihood value (σ-VAE: Rybkin et al., ICML 2021), so that β = 1
    is the evidence bound whatever the images' noise.
    """

    shape: VaeShape
    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    epochs: int = 5
    """Into how many parts the steps are divided; a checkpoint follows each."""
    beta: float = 1.0
    perceptual: float = 0.0
    """κ: the weight of the perceptual distance, beside a mean squared error of 1."""
    flip: bool = True

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer="adam",
            schedule="cosine",
            warmup_steps=min(20, self.steps // 10),
            clip_norm=5.0,
            seed=seed,
            accelerator=device,
        )


VAES: dict[str, VaeRecipe] = {
    "fast": VaeRecipe(VaeShape(side=32, widths=(16, 32, 64), latent=32), steps=600),
    "cpu": VaeRecipe(VaeShape(side=64, widths=(16, 32, 64, 128), latent=64), steps=2_000, batch_size=32),
    "gpu": VaeRecipe(
        VaeShape(side=128, widths=(32, 64, 128, 256, 512), latent=256), steps=30_000, batch_size=64, epochs=30
    ),
}
"""By preset."""


def fit_vae(
    model: Vae, images: np.ndarray, rows: Sequence[int], recipe: VaeRecipe, folder: Path, *, seed: int,
    device: str = "cpu", distance: Distance | None = None,
    after_epoch: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> Vae:  # fmt: skip
    """Return ``model`` trained on the cases ``rows`` of ``images`` (n, C, H, W), from 0 to 1.

    Goes on where ``folder`` was stopped, to the same bits. ``distance`` is the perceptual distance, needed where
    ``recipe.perceptual`` is not 0. Images are mirrored by chance and nothing else: what a colour is must stay.
    """

    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        image = np.asarray(images[rows[index]], dtype=np.float32)
        if recipe.flip and rng.random() < 0.5:
            image = image[..., ::-1].copy()
        return {"image": torch.from_numpy(image)}

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return vae_loss(net, batch["image"], recipe, distance)

    data = TrainingData([str(i) for i in rows], load)
    train(model, loss_of, data, recipe.settings(seed, device), folder=folder, validate=after_epoch, progress=False)
    return model


def vae_loss(net: nn.Module, images: Tensor, recipe: VaeRecipe, distance: Distance | None = None) -> dict[str, Tensor]:
    """Return the loss, and its parts: mean squared error, KL in nats an image, perceptual distance."""
    made, mean, log_variance = net(images)
    size = images[0].numel()
    error = (images - made).square().mean()
    divergence = kl_divergence(mean, log_variance).mean()
    # log s² + error / s² at its minimum, s² = error: the gradient is that of error / (2 s²) with s² held.
    likelihood = 0.5 * torch.log(error + 1e-6)
    loss = likelihood + recipe.beta * divergence / size
    parts = {"error": error, "kl": divergence}
    if recipe.perceptual:
        if distance is None:
            raise ValueError("a perceptual weight needs a distance")
        parts["perceptual"] = distance(images, made).mean()
        loss = loss + recipe.perceptual * parts["perceptual"]
    return {"loss": loss, **parts}
