"""What else passes for a generator's uncertainty, beside SLUG: the encoder, the likelihood, other posteriors."""

from medaudit.uncertainty.generators.diagonal import diagonal_scores, ggn_diagonal
from medaudit.uncertainty.generators.encoder import (
    ENCODER_SCORES,
    encoder_scores,
    latent_delta,
    latent_monte_carlo,
    members_variance,
)
from medaudit.uncertainty.generators.last_layer import LastLayer, fit_last_layer, last_layer_scores
from medaudit.uncertainty.generators.likelihood import negative_elbo, negative_iwae, squared_errors

__all__ = [
    "ENCODER_SCORES",
    "LastLayer",
    "diagonal_scores",
    "encoder_scores",
    "fit_last_layer",
    "ggn_diagonal",
    "last_layer_scores",
    "latent_delta",
    "latent_monte_carlo",
    "members_variance",
    "negative_elbo",
    "negative_iwae",
    "squared_errors",
]
