"""From numbers to an answer: explicit rules, as pure functions, with a third verdict for "these data cannot tell"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medaudit.statistics.confounding import Attenuation

MIN_CLUSTERS = 20
"""Smallest group, in patients, that is tested at all (our choice)."""


@dataclass(frozen=True)
class Decision:
    """A verdict and the ``reason`` for it, in words that a report can print."""

    verdict: Literal["supported", "refuted", "insufficient"]
    reason: str


def three_way(
    p_adjusted: float,
    equivalence_high: float,
    margin: float,
    *,
    alpha: float = 0.05,
    smallest_group: int | None = None,
    min_clusters: int = MIN_CLUSTERS,
    detectable: float = float("nan"),
) -> Decision:
    """Return the verdict on a problem whose size is ``>= 0`` (a gap, a DPD, 1 - DIR).

    Insufficient if the smallest compared group has fewer than ``min_clusters`` clusters; supported if the
    p-value after correction is below ``alpha``; refuted if the (1 - 2 alpha) interval's upper limit
    ``equivalence_high`` is inside the margin; else insufficient. A difference that is both significant and
    inside the margin is supported: it is there, and the reason says that it is small.
    """
    if smallest_group is not None and smallest_group < min_clusters:
        return Decision("insufficient", f"the smallest group has {smallest_group} patients, fewer than {min_clusters}")
    small = equivalence_high < margin
    if p_adjusted < alpha:
        note = f", but smaller than the margin of {margin:g}" if small else ""
        return Decision("supported", f"adjusted p = {p_adjusted:.2g} is below {alpha:g}{note}")
    if small:
        share = 100 * (1 - 2 * alpha)
        return Decision(
            "refuted", f"the {share:g} % interval ends at {equivalence_high:.3g}, inside the margin of {margin:g}"
        )
    seen = f"; a gap of {detectable:.3g} would have been seen with 80 % power" if np.isfinite(detectable) else ""
    return Decision(
        "insufficient",
        f"not significant (adjusted p = {p_adjusted:.2g}) and not shown to be inside the margin of {margin:g}{seen}",
    )


def confounding_verdict(
    pooled: Decision | Literal["supported", "refuted", "insufficient"],
    result: Attenuation,
    p_within: float,
    margin: float,
    *,
    alpha: float = 0.05,
) -> Decision:
    """Return whether the pooled gap is explained by the source.

    ``pooled`` is the verdict on the pooled gap; ``p_within`` the p-value of the gap within sources (permutation
    within strata). Supported: the pooled gap is evident, and either the attenuation is above one half with its
    whole interval, or its interval excludes 0 and the adjusted contrast's 90 % interval is inside the margin.
    Refuted ("intrinsic"): the gap is significant within sources and the attenuation's whole interval is below
    one half. Else insufficient.
    """
    verdict = pooled if isinstance(pooled, str) else pooled.verdict
    share = result.attenuation
    if result.reason:
        return Decision("insufficient", result.reason)
    if verdict != "supported":
        return Decision("insufficient", "there is no evident pooled gap to explain")
    if np.isnan(share.low):
        return Decision("insufficient", "the share explained by the source has no interval")
    inner = result.adjusted.extra
    equivalent = inner["low_90"] > -margin and inner["high_90"] < margin
    percent = f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %)"
    if share.low > 0.5:
        return Decision("supported", f"the source explains {percent} of the pooled gap")
    if equivalent and share.low > 0:
        return Decision("supported", f"the source explains {percent}; what remains is inside {margin:g}")
    if p_within < alpha and share.high < 0.5:
        return Decision(
            "refuted", f"the gap is there within sources (p = {p_within:.2g}); the source explains only {percent}"
        )
    return Decision("insufficient", f"the source explains {percent} of the pooled gap: too uncertain to call")
