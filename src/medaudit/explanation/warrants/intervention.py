"""Does the model use a marker? Ask it, with and without: no map is needed, and none may say so alone.

The effect is E[f(x with) - f(x without)] over images, its interval over patients. A marker that is planted also covers
what was there and adds an edge; a placebo (the same size elsewhere, or other content) says what that alone does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError
from medaudit.explanation.warrants.comparison import FEWEST
from medaudit.explanation.warrants.curves import Score, scored
from medaudit.explanation.warrants.maps import mean_estimate, slices
from medaudit.statistics import Estimate


@dataclass(frozen=True, eq=False)
class Intervention:
    """What a marker does to the score."""

    effect: np.ndarray
    """(N,): f(with) - f(without)."""
    estimate: Estimate
    placebo: Estimate | None
    """What the placebo does, if there is one."""
    excess: Estimate | None
    """What the marker does beyond the placebo, paired."""
    verdict: str
    """``supported`` (the model uses it), ``refuted`` or ``insufficient``."""
    reason: str


def intervention(
    f: Score, without: Tensor, with_marker: Tensor | Callable[[Tensor], Tensor], *,
    placebo: Tensor | Callable[[Tensor], Tensor] | None = None, margin: float = 0.0,
    patients: Iterable[Any] | None = None, fewest: int = FEWEST, level: float = 0.95, seed: int = 0, at_once: int = 64,
) -> Intervention:  # fmt: skip
    """Return what a marker does to the score of images ``without`` (N, ...) it.

    ``with_marker`` are the same images with it (pairs), or a function that plants it; ``placebo`` likewise. Supported:
    the interval of the effect (beyond the placebo's, if there is one) lies outside of -margin to margin. Refuted: it
    lies inside, which needs a margin above 0, in units of the score. Raises DataError where pairs do not fit.
    """
    owners = None if patients is None else list(patients)
    base = _scores(f, without, at_once)
    effect = _scores(f, _changed(without, with_marker), at_once) - base
    more: dict[str, Any] = {"level": level, "seed": seed}
    estimate = mean_estimate(effect, owners, name="effect of the marker", **more)
    beside, excess = None, None
    if placebo is not None:
        other = _scores(f, _changed(without, placebo), at_once) - base
        beside = mean_estimate(other, owners, name="effect of the placebo", **more)
        excess = mean_estimate(effect - other, owners, name="effect beyond the placebo", **more)
    judged = excess or estimate
    words = f"{judged.name} is {judged.value:.3g} ({judged.low:.3g} to {judged.high:.3g})"
    if judged.n < fewest:
        verdict, words = "insufficient", f"{judged.n} patients; expected {fewest} or more"
    elif judged.low > margin or judged.high < -margin:
        verdict = "supported"
    elif -margin < judged.low and judged.high < margin:
        verdict, words = "refuted", f"{words}, inside the margin of {margin:g}"
    else:
        verdict, words = "insufficient", f"{words}: neither outside nor inside the margin of {margin:g}"
    return Intervention(effect, estimate, beside, excess, verdict, words)


def _changed(x: Tensor, what: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
    made = what if isinstance(what, Tensor) else what(x.clone())
    if made.shape != x.shape:
        raise DataError(f"images with the marker have shape {tuple(made.shape)}; expected {tuple(x.shape)}, in pairs")
    return made


def _scores(f: Score, x: Tensor, at_once: int) -> np.ndarray:
    parts = [
        scored(f, x[k], torch.arange(k.start, k.stop, device=x.device)).double().cpu() for k in slices(len(x), at_once)
    ]
    return torch.cat(parts).numpy()
