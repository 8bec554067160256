"""Learning-rate schedules: pure functions of the step, so that there is nothing to save and nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(done: float) -> float:
    """Return 1 whatever the share ``done``."""
    return 1.0


def cosine(done: float) -> float:
    """Return the factor of half a cosine from 1 to 0 (arXiv 1608.03983, eq. 5, one cycle, lowest rate 0)."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def poly(done: float) -> float:
    """Return ``(1 - done)**0.9``, nnU-Net's polynomial decay (arXiv 1904.08128); theirs by epoch, ours by step."""
    return (1.0 - done) ** 0.9


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine, "poly": poly}


def rate_factor(schedule: str, step: int, steps: int, warmup_steps: int = 0) -> float:
    """Return what the learning rate is multiplied with at ``step`` (0 ... ``steps`` - 1).

    It rises linearly over the first ``warmup_steps``, to 1 at the last of them; the schedule takes the rest.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule]((step - warmup_steps) / max(1, steps - warmup_steps))
