"""All uncertainties of one trained VAE side by side: SLUG over either set of parameters, and what else is on offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medaudit.audits.generative.judge import BATCH, reconstructed, tensors
from medaudit.audits.generative.settings import Settings as VaeSettings
from medaudit.audits.generative_uncertainty.further import Ask, further
from medaudit.audits.generative_uncertainty.settings import Settings
from medaudit.metrics.reconstruction import squared_error
from medaudit.networks.vae import MeanEncoder, Vae
from medaudit.uncertainty import generators, slug
from medaudit.uncertainty.slug.model import reconstruction

SCORES: dict[str, str] = {
    "slug": "Tr J Σ Jᵀ over all parameters (arXiv 2503.17477, as reconstructed here)",
    "rho": "the part of the prior's variance that training has not taken away",
    "slug_decoder": "Tr J Σ Jᵀ over the decoder's parameters, the code held",
    "rho_decoder": "the same part over the decoder's parameters",
    "jacobian": "|J|² / α: SLUG without any data",
    "diagonal": "Laplace with a diagonal posterior over all parameters",
    "last_layer": "Laplace on the last convolution, in closed form",
    "encoder_variance": "sum of the code's variances",
    "encoder_log_variance": "mean of the code's log-variances",
    "encoder_entropy": "entropy of the code's Gaussian",
    "latent_monte_carlo": "variance of the image over codes drawn from the encoder",
    "latent_delta": "the same by the linearised decoder",
    "ensemble": "variance over trainings from other seeds",
    "swag": "variance over weights drawn along SGD's path, trained on from the VAE (with --also)",
    "online_laplace": "variance over weights of an autoencoder trained under a diagonal posterior (with --also)",
    "dropout": "variance over masks, of a VAE trained with dropout 0.1 (with --also)",
    "negative_waic": "WAIC over the ensemble; looks at the image",
    "disagreement": "how unevenly the ensemble's members find the image likely; looks at the image",
    "negative_elbo": "minus the evidence bound; looks at the image",
    "negative_iwae": "minus the importance-weighted bound; looks at the image",
    "squared_error_oracle": "the squared error itself: what others try to foretell",
}
"""By name; what each is. Those that look at the image know more than an uncertainty of a new sample could."""


@dataclass(frozen=True, eq=False)
class Everything:
    """One trained VAE with all posteriors that were fitted for it."""

    model: Vae
    members: tuple[Vae, ...]
    states: dict[str, slug.SlugState]
    diagonal: Tensor
    last_layer: generators.LastLayer
    variance: float
    seed: int
    fits: list[str] = field(default_factory=list)
    more: dict[str, Ask] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: Vae, members: Sequence[Vae], images: np.ndarray, rows: np.ndarray, settings: Settings, seed: int,
        folder: Path, vae: VaeSettings,
    ) -> Everything:  # fmt: skip
        """Return the posteriors from the training cases ``rows`` of ``images``; SLUG's are kept in ``folder``."""
        chosen = np.random.default_rng((seed, 41)).permutation(rows)[: settings.images]
        some = np.asarray(images[np.sort(chosen)], dtype=np.float32)
        batches = tensors(some)
        folder.mkdir(parents=True, exist_ok=True)
        states: dict[str, slug.SlugState] = {}
        fits: list[str] = []
        for params in settings.params:
            states[params] = slug.fit(
                MeanEncoder(model.encoder), model.decoder, batches, rank=settings.rank, params=params,
                weights=settings.weights, training_images=len(rows), seed=seed,
                checkpoint=folder / f"krylov-{params}.pt",
            )  # fmt: skip
            states[params].save(folder / f"slug-{params}.pt")
            (folder / f"krylov-{params}.pt").unlink(missing_ok=True)
            fits.append(slug.describe(states[params]))
        pictures = np.moveaxis(some.clip(0, 1), 1, -1), np.moveaxis(reconstructed(model, some), 1, -1)
        variance = float(squared_error(*pictures).mean())
        first = next(iter(states.values())).fitted
        whole = reconstruction(MeanEncoder(model.encoder), model.decoder, batches[0])
        few = np.sort(chosen[:100])  # by lot, and not the head of the table
        part = tensors(np.asarray(images[few], dtype=np.float32))
        scale = len(rows) / len(few)
        return cls(
            model,
            tuple(members),
            states,
            generators.ggn_diagonal(whole, part, variance, 1, seed) * scale,
            generators.fit_last_layer(model, batches, variance, first.prior_precision),
            variance,
            seed,
            fits,
            further(model, settings.also, vae, images, rows, settings.latent_draws, seed, folder),
        )


def scores_of(
    everything: Everything, images: np.ndarray, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return scores (N,) and maps (N, C, H, W) of ``images`` (N, C, H, W) by name."""
    model, seed = everything.model, everything.seed
    batches = tensors(images)
    scores: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    for params, state in everything.states.items():
        end = "" if params == "all" else f"_{params}"
        said = slug.score(
            state, torch.from_numpy(np.ascontiguousarray(images)), relative_error=None, min_probes=2,
            max_probes=settings.probes, pixel_map=True, batch_size=BATCH, seed=seed,
        )  # fmt: skip
        scores |= {f"slug{end}": said.score, f"rho{end}": said.rho}
        if params == "all":
            scores["jacobian"] = said.jacobian
        assert said.pixels is not None
        maps[f"slug{end}"] = said.pixels
    first = next(iter(everything.states.values()))
    whole = reconstruction(MeanEncoder(model.encoder), model.decoder, batches[0])
    pairs = {
        "diagonal": generators.diagonal_scores(
            whole, everything.diagonal, first.fitted.prior_precision, batches, min(settings.probes, 16), seed
        ),
        "last_layer": generators.last_layer_scores(model, everything.last_layer, batches),
        "latent_monte_carlo": generators.latent_monte_carlo(model, batches, settings.latent_draws, seed),
        "latent_delta": generators.latent_delta(model, batches),
        "squared_error_oracle": generators.squared_errors(model, batches),
    }
    if len(everything.members) > 1:
        pairs["ensemble"] = generators.members_variance(everything.members, batches)
        likely = generators.log_likelihoods(everything.members, batches, everything.variance, 8, seed)
        scores["negative_waic"] = generators.negative_waic(likely)
        scores["disagreement"] = generators.disagreement_score(likely)
    pairs |= {name: ask(batches) for name, ask in everything.more.items()}
    scores |= generators.encoder_scores(model, batches)
    scores["negative_elbo"] = generators.negative_elbo(model, batches, everything.variance, 8, seed)
    scores["negative_iwae"] = generators.negative_iwae(model, batches, everything.variance, 8, seed)
    for name, (values, pixels) in pairs.items():
        scores[name], maps[name] = values, pixels
    return {name: scores[name] for name in SCORES if name in scores}, maps
