"""Warrant: a test of an explanation with its number, its threshold and whether it passed.

What a claim needs is written in the registry of assumptions; what the tests gave is written here. Thresholds are ours
unless the rule says otherwise, and a caller may set others. Tests assume things as well: one that shares its model of
absence, or its law of noise, with the method it judges is ``internal``, and no claim may rest on such tests alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants.comparison import FEWEST
from medaudit.explanation.warrants.maps import mean_estimate
from medaudit.statistics import Estimate


class Rule(NamedTuple):
    """How a test is read."""

    passes: str
    """``at most``, ``at least``, ``outside`` (the interval leaves 0 by the threshold) or ``shown`` (never passes)."""
    threshold: float | None
    """None: the caller must say (a mask's share of the image, an agreed number)."""
    exact: bool
    """Whether every image must hold, so that the worst one is the value; else the mean, with its interval."""
    what: str


RULES: Mapping[str, Rule] = {
    "completeness": Rule("at most", 0.01, True, "gap between the sum of the map and the change of the score, relative"),
    "sensitivity-n": Rule("at least", 0.0, False, "correlation of sums in the map and what removal does"),
    "determinism": Rule("at least", 1.0, True, "same map, bit for bit, when asked again"),
    "implementation-invariance": Rule("at most", 1e-3, True, "difference between equal networks, relative"),
    "shift-invariance": Rule("at most", 1e-3, True, "difference after a shift that is undone, relative"),
    "convergence": Rule("at most", 0.01, True, "difference of n and 2n steps, relative"),
    "randomisation": Rule("at most", 0.3, False, "similarity to maps of a model with random parameters"),
    "data-randomisation": Rule("at most", 0.3, False, "similarity to maps of a model of shuffled labels"),
    "deletion": Rule("at least", 0.0, False, "area by which deletion is better than in a random order"),
    "insertion": Rule("at least", 0.0, False, "area by which insertion is better than in a random order"),
    "road": Rule("at least", 0.0, False, "area by which removal with imputation is better than in a random order"),
    "infidelity": Rule("at most", 1.0, False, "infidelity over that of a map of zeros"),
    "max-sensitivity": Rule("at most", 1.0, False, "largest change of the map under small noise, relative"),
    "triangulation": Rule("at least", 0.5, False, "similarity to maps of independent methods"),
    "seed-interval": Rule("at least", 0.9, False, "similarity of maps from other seeds"),
    "repeatability": Rule(
        "at least", 0.5, False, "similarity to maps of a model trained again (0.5: Arun et al. 2021)"
    ),
    "reproducibility": Rule(
        "at least", 0.5, False, "similarity to maps of another architecture (0.5: Arun et al. 2021)"
    ),
    "pointing": Rule("at least", None, False, "largest value in the mask"),
    "mask-overlap": Rule("at least", None, False, "IoU at the mask's own area"),
    "mask-auroc": Rule("at least", 0.5, False, "chance that a pixel of the mask has the larger value"),
    "mass-in-mask": Rule("at least", None, False, "share of the mass in the mask"),
    "annotator-ceiling": Rule("at least", -0.05, False, "localisation less that of annotators among themselves"),
    "random-concepts": Rule("at most", 0.05, True, "p against random concepts"),
    "intervention": Rule("outside", 0.0, False, "change of the score when the marker is planted"),
    "rashomon-spread": Rule("shown", None, False, "similarity between models that are as good as each other"),
    "disagreement": Rule("shown", None, False, "similarity between admissible explanations"),
    "flip-rate": Rule("at most", 0.05, False, "share of pairs of admissible explanations with contrary conclusions"),
    "density-check": Rule("at most", None, False, "how far what stands for absence is from the data"),
    "resolution": Rule("at most", None, True, "size of a unit of the map over the size of the finding"),
}


@dataclass(frozen=True)
class Warrant:
    """The result of a test. ``passed`` is None where the data cannot tell, or the test only shows something."""

    id: str
    value: float
    interval: tuple[float, float] | None
    """Over patients; None where the value is that of the worst image."""
    threshold: float | None
    passed: bool | None
    n: int
    """Patients, or images where the value is that of the worst."""
    note: str = ""
    internal: bool | None = None
    """Whether the test shares its absence or its noise with the method; None if that is not known."""

    def __post_init__(self) -> None:
        if self.id not in RULES:
            raise UsageError(f"the warrant is '{self.id}'; expected one of {', '.join(RULES)}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; a number that is not finite becomes None."""
        limits = None if self.interval is None else [_finite(limit) for limit in self.interval]
        return {
            "id": self.id, "what": RULES[self.id].what, "value": _finite(self.value), "interval": limits,
            "threshold": self.threshold, "passes": RULES[self.id].passes, "passed": self.passed, "n": self.n,
            "note": self.note, "internal": self.internal,
        }  # fmt: skip


def judged(
    name: str, values: Any, *, threshold: float | None = None, patients: Iterable[Any] | None = None, note: str = "",
    internal: bool | None = None, fewest: int = FEWEST, level: float = 0.95, seed: int = 0,
) -> Warrant:  # fmt: skip
    """Return the warrant ``name`` of one number an image, ``values`` (N,), or of an Estimate that has been made.

    Passed where the whole interval is on the right side of the threshold, failed where it is wholly on the wrong one,
    else None, and with fewer than ``fewest`` patients. A test that every image must pass has the worst one as its value
    and no interval. Images without a number (NaN) are left out and counted in the note. Raises UsageError for another
    name and DataError where no image has a number.
    """
    rule = RULES.get(name)
    if rule is None:
        raise UsageError(f"the warrant is '{name}'; expected one of {', '.join(RULES)}")
    bound = rule.threshold if threshold is None else threshold
    if isinstance(values, Estimate):
        estimate = values
        if rule.exact:
            raise UsageError(f"'{name}' is of every image; expected one number an image, not a mean")
    else:
        told = np.asarray(values)
        share = told.dtype == bool
        each = told.astype(np.float64).ravel()
        known = each[~np.isnan(each)]
        if not known.size:
            raise DataError(f"'{name}' has no number for any of {each.size} images; expected one at least")
        if known.size < each.size:
            note = "; ".join(
                part for part in (note, f"{each.size - known.size} of {each.size} images left out") if part
            )
        if rule.exact:
            worst = float(known.max() if rule.passes == "at most" else known.min())
            ok = None if bound is None else bool(worst <= bound if rule.passes == "at most" else worst >= bound)
            return Warrant(name, worst, None, bound, ok, int(known.size), note, internal)
        finite = np.where(np.isinf(each), np.nan, each)
        if np.isinf(each).any():
            raise DataError(f"'{name}' is infinite for {int(np.isinf(each).sum())} images; leave them out, or say why")
        estimate = mean_estimate(finite, patients, name=name, level=level, seed=seed, share=share)
    limits = (estimate.low, estimate.high)
    ok = None
    if estimate.n < fewest:
        note = "; ".join(part for part in (note, f"{estimate.n} patients, fewer than {fewest}") if part)
    elif bound is not None and not math.isnan(estimate.low):
        ok = _passes(rule.passes, limits, bound)
    return Warrant(
        name, estimate.value, None if math.isnan(limits[0]) else limits, bound, ok, estimate.n, note, internal
    )


def shares_assumption(test: Mapping[str, Any], explainer: Mapping[str, Any]) -> bool | None:
    """Return whether a test is internal to a method: the same ``absence`` or the same ``locality``, by name.

    ``test`` and ``explainer`` map atoms to values (``constant(black)``); ``none`` and ``point`` assume nothing that
    could be shared, and ``completeness`` shares its ``allocation`` with what is built to be complete. None where
    neither says.
    """
    told = False
    for atom, empty in (("absence", "none"), ("locality", "point"), ("allocation", "")):
        one, other = test.get(atom), explainer.get(atom)
        if one is None or other is None:
            continue
        told = True
        if one == other and one != empty:
            return True
    return False if told else None


def _passes(how: str, limits: tuple[float, float], bound: float) -> bool | None:
    low, high = limits
    if how == "shown":
        return None
    if how == "outside":
        return True if low > bound or high < -bound else None
    if how == "at most":
        return True if high <= bound else False if low > bound else None
    # Better than nothing must be better: an interval that ends at the threshold has not left it.
    return True if low >= bound and high > bound else False if high < bound else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
