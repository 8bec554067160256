"""What else passes for a generator's uncertainty, beside SLUG: the encoder, the likelihood, other posteriors.

Scores are (N,) float64, the higher the more uncertain; maps (N, C, H, W) float32, in the images' units squared. What
is drawn is drawn for all images together, so a score does not depend on its batch.
"""

from dataclasses import dataclass

from medaudit.uncertainty.generators.diagonal import diagonal_scores, exact_ggn_diagonal, ggn_diagonal
from medaudit.uncertainty.generators.disagreement import (
    disagreement_score,
    effective_members,
    log_likelihoods,
    negative_waic,
)
from medaudit.uncertainty.generators.dropout import DropoutDraws, dropout_variance
from medaudit.uncertainty.generators.encoder import (
    ENCODER_SCORES,
    Autoencoder,
    encoder_scores,
    latent_monte_carlo,
    latent_spread,
)
from medaudit.uncertainty.generators.ensemble import Members, WeightDraws, members_spread, members_variance
from medaudit.uncertainty.generators.last_layer import LastLayer, fit_last_layer, last_layer_scores
from medaudit.uncertainty.generators.latent import latent_delta
from medaudit.uncertainty.generators.likelihood import (
    negative_elbo,
    negative_iwae,
    residual_variance,
    squared_errors,
)
from medaudit.uncertainty.generators.online_laplace import (
    OnlineLaplace,
    OnlineLaplaceSettings,
    fit_online_laplace,
    online_laplace_draws,
    online_laplace_variance,
)
from medaudit.uncertainty.generators.spread import Spread
from medaudit.uncertainty.generators.swag_vae import SwagRecipe, fit_swag_vae, swag_draws, swag_variance


@dataclass(frozen=True)
class Method:
    """One score: what it is, whose it is, what it needs, and what it gives."""

    what: str
    source: str
    needs: str
    """``one model``, ``members``, ``dropout model`` or ``training images`` (and the model that was trained on them)."""
    pixels: bool
    """Whether it gives a map."""
    oracle: bool = False
    """Whether it is the error that the others try to foretell."""


_OURS = "our choice (spec 1.4)"
METHODS: dict[str, Method] = {
    "encoder_variance": Method("sum of the code's variances", _OURS, "one model", False),
    "encoder_log_variance": Method("mean of the code's log-variances", _OURS, "one model", False),
    "encoder_entropy": Method("entropy of the code's Gaussian, nats", _OURS, "one model", False),
    "latent_monte_carlo": Method("variance of the image over codes drawn from the encoder", _OURS, "one model", True),
    "latent_delta": Method("the same by the linearised decoder", _OURS, "one model", True),
    "squared_error_oracle": Method("the squared error itself", _OURS, "one model", True, oracle=True),
    "negative_elbo": Method(
        "minus the evidence bound, nats; compares with the image", "Kingma & Welling, ICLR 2014", "one model", False
    ),
    "negative_iwae": Method(
        "minus the importance-weighted bound, nats; compares with the image", "Burda et al., ICLR 2016", "one model",
        False,
    ),
    "diagonal": Method(
        "variance under Laplace's posterior with a diagonal precision", _OURS, "training images", True
    ),
    "last_layer": Method(
        "variance under Laplace's posterior of the last layer, in closed form", _OURS, "training images", True
    ),
    "ensemble": Method(
        "variance over trainings from other seeds", "Lakshminarayanan et al., NeurIPS 2017", "members", True
    ),
    "dropout": Method("variance over dropout masks", "Gal & Ghahramani, ICML 2016", "dropout model", True),
    "swag": Method("variance over weights drawn by SWAG", "Maddox et al., NeurIPS 2019", "training images", True),
    "online_laplace": Method(
        "variance over weights of an autoencoder trained under its own Laplace posterior",
        "Miani, Warburg et al., NeurIPS 2022 (arXiv 2206.15078)", "training images", True,
    ),
    "negative_waic": Method(
        "variance minus mean of the members' log-likelihoods; compares with the image",
        "Choi et al., arXiv 1810.01392", "members", False,
    ),
    "disagreement": Method(
        "1 over the effective number of members, by likelihood; compares with the image",
        "Daxberger & Hernández-Lobato, arXiv 1912.05651", "members", False,
    ),
}  # fmt: skip
"""By name. Members may be an ensemble's, or draws of dropout, SWAG or the online Laplace posterior."""

__all__ = [
    "ENCODER_SCORES",
    "METHODS",
    "Autoencoder",
    "DropoutDraws",
    "LastLayer",
    "Members",
    "Method",
    "OnlineLaplace",
    "OnlineLaplaceSettings",
    "Spread",
    "SwagRecipe",
    "WeightDraws",
    "diagonal_scores",
    "disagreement_score",
    "dropout_variance",
    "effective_members",
    "encoder_scores",
    "exact_ggn_diagonal",
    "fit_last_layer",
    "fit_online_laplace",
    "fit_swag_vae",
    "ggn_diagonal",
    "last_layer_scores",
    "latent_delta",
    "latent_monte_carlo",
    "latent_spread",
    "log_likelihoods",
    "members_spread",
    "members_variance",
    "negative_elbo",
    "negative_iwae",
    "negative_waic",
    "online_laplace_draws",
    "online_laplace_variance",
    "residual_variance",
    "squared_errors",
    "swag_draws",
    "swag_variance",
]
