"""LAE: an autoencoder trained under the diagonal Laplace posterior of its own weights, which is kept up step by step.

Miani, Warburg et al., NeurIPS 2022 (arXiv 2206.15078), of which we could read the abstract and the public training
code, not the algorithm's text. As there: each step draws weights from N(θ, 1 / (h / s² + α)), descends the mean loss of
the draws with the prior's pull on θ, and moves h towards the diagonal of the GGN at the drawn weights, times cases over
batch: h ← m h + (1 - m) ĥ (the code's plain average; it has another rule too). h starts at the number of cases.

Ours, and not theirs: the diagonal of J^T J comes unbiased from sign vectors over the outputs of a few images, where
they propagate it layer by layer, approximately; s² is the running mean squared error, where they hold it at 1; the net
is this house's VAE with its encoder's mean alone, so no code is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from medaudit.errors import UsageError
from medaudit.networks.vae import MeanEncoder, Vae
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.vae import VaeRecipe
from medaudit.uncertainty.generators.ensemble import WeightDraws, members_variance


@dataclass(frozen=True)
class OnlineLaplaceSettings:
    """How the posterior is kept; the defaults are our choice, but for α = 1, which the public code has."""

    prior_precision: float = 1.0
    """α."""
    memory: float = 0.99
    """m: what of h stays at a step."""
    draws: int = 1
    """Weights a step."""
    images: int = 4
    """Of each batch, for the diagonal: a backward pass each."""

    def __post_init__(self) -> None:
        if not self.prior_precision > 0:
            raise UsageError(f"prior_precision is {self.prior_precision}; expected more than 0")
        if not 0 <= self.memory < 1:
            raise UsageError(f"memory is {self.memory}; expected 0 or more and less than 1")
        if self.draws < 1 or self.images < 1:
            raise UsageError(f"draws is {self.draws}, images {self.images}; expected 1 or more")


@dataclass(frozen=True, eq=False)
class OnlineLaplace:
    """A trained autoencoder and its weights' standard deviations, by name; ``model``'s weights are their means."""

    model: Vae
    deviations: Mapping[str, Tensor]
    noise: float
    """s², the running mean squared error of the drawn nets, in the images' units squared."""

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return weights drawn from the posterior."""
        means = self.model.state_dict()
        return {
            name: means[name] + deviation * torch.randn(deviation.shape, generator=generator)
            for name, deviation in self.deviations.items()
        }


class LaplaceTraining(nn.Module):
    """The net, h and s² as one module, so that a checkpoint of the training loop holds all three."""

    hessian: Tensor
    noise: Tensor

    def __init__(self, vae: Vae, cases: int, settings: OnlineLaplaceSettings) -> None:
        super().__init__()
        vae.encoder.log_variance.requires_grad_(False)
        self.chain = nn.Sequential(MeanEncoder(vae.encoder), vae.decoder)
        self.cases, self.how = cases, settings
        size = sum(value.numel() for value in self.weights().values())
        self.register_buffer("hessian", torch.full((size,), float(cases)))
        self.register_buffer("noise", torch.tensor(float("nan")))

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that the reconstruction depends on, by name."""
        return {name: value for name, value in self.chain.named_parameters() if value.requires_grad}

    def deviations(self) -> dict[str, Tensor]:
        """Return (h / s² + α)^(-1/2) by name of the weight."""
        flat = (self.hessian / self.noise + self.how.prior_precision).rsqrt()
        weights = self.weights()
        parts = flat.split([value.numel() for value in weights.values()])
        return {name: part.view_as(value) for (name, value), part in zip(weights.items(), parts, strict=True)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the loss of one step, over the number of pixels and channels, and its parts; moves h and s²."""
        weights = self.weights()
        if bool(self.noise.isnan()):
            with torch.no_grad():
                self.noise.copy_((images - self.chain(images)).square().mean())
        deviations = self.deviations()
        errors = []
        drawn: dict[str, Tensor] = {}
        for _ in range(self.how.draws):
            drawn = {name: value + deviations[name] * torch.randn_like(value) for name, value in weights.items()}
            errors.append((images - functional_call(self.chain, drawn, (images,))).square().mean())
        error = torch.stack(errors).mean()
        norm = torch.stack([value.square().sum() for value in weights.values()]).sum()
        prior = 0.5 * self.how.prior_precision * norm / (self.cases * images[0].numel())
        if self.training:
            self._move(images, {name: value.detach() for name, value in drawn.items()}, error.detach())
        # As in training.vae: the gradient of error / (2 s²) with s² held at the error.
        return {"loss": 0.5 * torch.log(error + 1e-6) + prior, "error": error, "prior": prior}

    @torch.no_grad()
    def _move(self, images: Tensor, drawn: Mapping[str, Tensor], error: Tensor) -> None:
        some = images[: self.how.images]
        fixed = {name: value.detach() for name, value in self.chain.named_parameters() if name not in drawn}
        total = torch.zeros_like(self.hessian)
        for image in some.split(1):
            back = vjp(lambda named, x=image: functional_call(self.chain, {**fixed, **named}, (x,)), dict(drawn))[1]
            signs = torch.randint_like(image, 0, 2) * 2 - 1
            pulled = back(signs)[0]
            total += torch.cat([pulled[name].flatten() for name in drawn]).square()
        keep = self.how.memory
        self.hessian.mul_(keep).add_(total, alpha=(1 - keep) * self.cases / len(some))
        self.noise.mul_(keep).add_(error, alpha=1 - keep)


def fit_online_laplace(
    model: Vae, images: np.ndarray, rows: Sequence[int], recipe: VaeRecipe, folder: Path, *, seed: int,
    settings: OnlineLaplaceSettings | None = None, device: str = "cpu",
) -> OnlineLaplace:  # fmt: skip
    """Return an autoencoder with ``model``'s first weights, trained on the cases ``rows`` of ``images`` (n, C, H, W).

    ``recipe``'s steps, batches, rate and mirroring are used; there is no KL, so no β, and no perceptual distance:
    UsageError where it asks for one. ``model`` is not changed. Goes on where ``folder`` was stopped, to the same bits.
    """
    if recipe.perceptual:
        raise UsageError("the online Laplace autoencoder has no perceptual distance; expected perceptual=0")
    how = settings or OnlineLaplaceSettings()
    vae = copy.deepcopy(model).requires_grad_(True)
    training = LaplaceTraining(vae, len(rows), how)

    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        image = np.asarray(images[rows[index]], dtype=np.float32)
        if recipe.flip and rng.random() < 0.5:
            image = image[..., ::-1].copy()
        return {"image": torch.from_numpy(image)}

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return net(batch["image"])

    data = TrainingData([str(i) for i in rows], load)
    train(training, loss_of, data, recipe.settings(seed, device), folder=folder, progress=False)
    training.cpu()
    names = {id(value): name for name, value in vae.named_parameters()}
    own = training.weights()
    deviations = {names[id(own[name])]: value.detach().clone() for name, value in training.deviations().items()}
    return OnlineLaplace(vae.eval().requires_grad_(False), deviations, float(training.noise))


def online_laplace_draws(fitted: OnlineLaplace, samples: int, seed: int) -> WeightDraws:
    """Return ``samples`` nets drawn from the posterior, as members; drawn anew in every pass, the same each time."""
    return WeightDraws(fitted.model, fitted.sample, samples, seed)


def online_laplace_variance(
    fitted: OnlineLaplace, batches: Iterable[Tensor], samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the reconstruction over drawn weights: its sum (N,) and its map (N, C, H, W) float32."""
    return members_variance(online_laplace_draws(fitted, samples, seed), batches)
