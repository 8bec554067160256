"""How metrics and scores are said in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from medaudit.report import Finding, Section, Table

METRICS = {
    "squared_error": "squared error",
    "normalised_error": "error over the image's own variance",
    "absolute_error": "absolute error",
    "dssim": "1 - SSIM",
    "delta_e": "colour difference (CIEDE2000)",
    "perceptual": "perceptual distance",
}
SCORES = {
    "slug": "SLUG",
    "rho": "ρ",
    "slug_decoder": "SLUG of the decoder",
    "rho_decoder": "ρ of the decoder",
    "jacobian": "the Jacobian's norm",
    "diagonal": "diagonal Laplace",
    "last_layer": "last-layer Laplace",
    "encoder_variance": "the encoder's variance",
    "encoder_log_variance": "the encoder's log-variance",
    "encoder_entropy": "the code's entropy",
    "latent_monte_carlo": "latent Monte Carlo",
    "latent_delta": "the latent delta method",
    "ensemble": "the ensemble",
    "swag": "SWAG",
    "online_laplace": "online Laplace",
    "dropout": "Monte-Carlo dropout",
    "negative_waic": "WAIC over the ensemble",
    "disagreement": "the ensemble's disagreement",
    "negative_elbo": "the evidence bound",
    "negative_iwae": "the importance-weighted bound",
    "squared_error_oracle": "the squared error itself (oracle)",
}
_MARKS = {"supported": "found", "refuted": "ruled out", "insufficient": "cannot tell"}


def metric(name: str) -> str:
    """Return a metric's words."""
    return METRICS.get(name, name.replace("_", " "))


def score(name: str) -> str:
    """Return a score's words."""
    return SCORES.get(name, name.replace("_", " "))


def capital(sentence: str) -> str:
    """Return a sentence with its first letter large."""
    first = sentence[:1]
    # A capital rho would be read as a P.
    return (first.upper() if first.isascii() else first) + sentence[1:]


def listed(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def further(found: Sequence[Finding], shown: Sequence[Finding]) -> Section | None:
    """Return the findings that have no card of their own, as a table; ``None`` where all have."""
    ids = {finding.id for finding in shown}
    rows = [(_MARKS[finding.verdict], finding.claim) for finding in found if finding.id not in ids]
    if not rows:
        return None
    return Section(
        "Every other finding",
        f"The questions beside the main ones, {len(rows)} of them, each with its answer.",
        tables=[Table("Further findings", ("Verdict", "Claim"), rows, "ll")],
    )
