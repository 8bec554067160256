"""SLUG: sketched Lanczos uncertainty, a global score and a pixel map for any encoder and decoder (arXiv 2503.17477).

``state = fit(encode_mean, decode, loader, rank=50)``, then ``score(state, images)``. How much the reconstruction would
change under the Laplace posterior of the weights, by stochastic traces: at a cost that does not grow with the number of
pixels.
"""

from medaudit.uncertainty.slug.fit import fit
from medaudit.uncertainty.slug.ggn import Gaussian, Perceptual
from medaudit.uncertainty.slug.scores import Scores, score
from medaudit.uncertainty.slug.state import Fitted, SlugState, describe, load

__all__ = ["Fitted", "Gaussian", "Perceptual", "Scores", "SlugState", "describe", "fit", "load", "score"]
