"""Estimate: a number with what is needed to believe it: interval, p, n, method and unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A named value with its interval (``low``, ``high``), p-value, n and the method that made it.

    ``p_adjusted`` is the p-value after correction for the run's other tests. ``extra`` holds further numbers that
    belong to the estimate (null mean, bias-corrected value, smallest detectable gap). NaN stands for "not available".
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan
    n: int = 0
    method: str = ""
    unit: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    def adjusted(self, p_adjusted: float) -> Estimate:
        """Return the estimate with its p-value after correction for multiplicity."""
        return replace(self, p_adjusted=float(p_adjusted))

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; a number that is not finite becomes ``None``."""
        plain = {
            key: _finite(getattr(self, key))
            for key in ("name", "value", "low", "high", "p", "p_adjusted", "n", "method", "unit")
        }
        return {**plain, "extra": {key: _finite(value) for key, value in self.extra.items()}}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
