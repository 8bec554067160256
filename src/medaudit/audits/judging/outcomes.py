"""What is compared: measures with unit, direction and margin, and success rules such as ``dice>0.8``, ``top25``."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.errors import DataError, UsageError
from medaudit.statistics import top_fraction

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_FRACTIONS = ("dice", "iou", "ndsc", "nsd", "precision", "recall", "jaccard", "auc")
_WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "ndsc": "nDSC",
    "precision": "precision",
    "recall": "recall",
    "hd_mm": "Hausdorff distance",
    "hd95_mm": "HD95",
    "assd_mm": "ASSD",
    "masd_mm": "MASD",
}

RATE_MARGIN = 0.10
"""A difference of success rates below this is of no consequence unless the user says otherwise (our choice)."""


@dataclass(frozen=True)
class Measure:
    """A per-case number: its column, how it is called in prose, its unit, which way is better, the margin.

    ``margin`` is the smallest gap of means that would matter: gaps shown to lie below it are ``refuted``.
    """

    name: str
    words: str
    unit: str
    higher_is_better: bool
    margin: float
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def worse(self, other: bool = False) -> str:
        """Return the word for the bad direction: lower or higher."""
        return "lower" if self.higher_is_better != other else "higher"


@dataclass(frozen=True)
class Outcome:
    """A success rule on one measure: a threshold, or the best share of the cohort."""

    text: str
    measure: str
    compare: str = ""
    threshold: float = np.nan
    fraction: float = 0.0
    higher_is_better: bool = True

    def success(self, values: np.ndarray, ties: str = "include") -> np.ndarray:
        """Return 1 where the case succeeds, 0 where not, NaN where the measure is missing, (n,) float64."""
        if self.fraction:
            better = "higher" if self.higher_is_better else "lower"
            return top_fraction(values, self.fraction, better=better, ties=ties)  # type: ignore[arg-type]
        passed = _COMPARISONS[self.compare](values, self.threshold).astype(np.float64)
        return np.where(np.isnan(values), np.nan, passed)


def measure(name: str, values: np.ndarray, margins: Sequence[str] = (), lower_is_better: Sequence[str] = ()) -> Measure:
    """Return the :class:`Measure` of a column, with what its name says of unit and direction.

    A name that ends in ``_mm`` is a distance: less is better, margin 5 mm. A known overlap score lies in [0, 1]: more
    is better, margin 0.05. Of any other the margin is a quarter of its SD, and more is taken as better unless
    ``lower_is_better`` names it (all margins are our choice; ``--margin`` sets them).
    """
    base = name.lower()
    fraction = any(base == known or base.startswith(known + "_") for known in _FRACTIONS)
    distance = base.endswith("_mm") or (base.startswith("hd95") and not fraction)
    finite = values[np.isfinite(values)]
    spread = float(finite.std(ddof=1)) if finite.size > 1 else 0.0
    margin = 5.0 if distance else 0.05 if fraction else 0.25 * spread
    given = _margins(margins)
    return Measure(
        name=name,
        words=_WORDS.get(base, name.replace("_", " ")),
        unit="mm" if distance else "",
        higher_is_better=not distance and name not in lower_is_better,
        margin=given.get(name, margin),
        bounds=(0.0, 1.0) if fraction else (0.0, np.inf) if distance else (-np.inf, np.inf),
    )


def parse(text: str, measures: Sequence[Measure]) -> Outcome:
    """Return the success rule written as ``dice>0.8``, ``hd95_mm<=5``, ``top25`` or ``top25:hd95_mm``.

    ``top25`` is the best 25 % by the first measure. Raises UsageError for a rule that cannot be read or that names a
    measure which is not there.
    """
    known = {measure.name: measure for measure in measures}
    rule = text.strip()
    top = re.fullmatch(r"top\s*(\d+(?:\.\d+)?)\s*(?::\s*(.+))?", rule)
    threshold = re.fullmatch(r"(.+?)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)", rule)
    name = (top and (top[2] or measures[0].name)) or (threshold and threshold[1])
    if not name or (top and not 0 < float(top[1]) < 100):
        raise UsageError(
            f"cannot read the outcome '{text}'; expected a threshold, as 'dice>0.8' or 'hd95_mm<=5', "
            "or the best share in percent, as 'top25' or 'top25:hd95_mm'"
        )
    if name not in known:
        raise UsageError(f"the outcome '{text}' needs the measure '{name}'; there are: {', '.join(known)}")
    better = known[name].higher_is_better
    if top:
        rule = f"top{top[1]}:{top[2]}" if top[2] else f"top{top[1]}"
        return Outcome(rule, name, fraction=float(top[1]) / 100, higher_is_better=better)
    assert threshold is not None
    return Outcome("".join(threshold.groups()), name, threshold[2], float(threshold[3]), higher_is_better=better)


def check(
    measures: Sequence[str],
    outcomes: Sequence[str],
    margins: Sequence[str],
    lower_is_better: Sequence[str],
    cap_mm: float,
    known: Collection[str],
) -> None:
    """Raise UsageError for a measure that is not ``known``, and for a rule, margin or direction of no measure."""
    for name in measures:
        if name not in known:
            raise UsageError(f"no measure is called '{name}'; {_nearest(name, known)}")
    # nDSC accompanies Dice wherever the masks are at hand.
    names = [*measures, *(["ndsc"] if "dice" in measures and "reference_voxels" in known else [])]
    for text in outcomes:
        parse(text, [measure(name, np.zeros(0), (), lower_is_better) for name in names])
    for what, given, there in (
        ("--margin", _margins(margins), [*names, "rate"]),
        ("--lower-is-better", lower_is_better, names),
    ):
        stray = next((name for name in given if name not in there), None)
        if stray is not None:
            raise UsageError(f"{what} names '{stray}', which is not compared; there are: {', '.join(there)}")
    if not 0 < cap_mm < np.inf:
        raise UsageError(f"--cap-mm is {cap_mm:g}; expected a distance in mm above 0, for an object that was missed")


def check_range(name: str, values: np.ndarray, case_ids: Sequence[str], lower_is_better: Sequence[str] = ()) -> None:
    """Raise DataError naming the first case whose score cannot be one; only what is better low may be infinite."""
    of = measure(name, values, (), lower_is_better)
    low, high = of.bounds
    endless = np.isinf(values) & (of.higher_is_better | (values < 0))
    bad = np.flatnonzero(endless | (values < low - 1e-9) | (values > high + 1e-9))
    if bad.size:
        value = values[bad[0]]
        expected = "a number from 0 to 1" if high == 1 else "0 mm or more" if low == 0 else "a finite number"
        mend = "; divide percentages by 100" if high == 1 and 1 < value <= 100 else ""
        more = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
        raise DataError(f"case {case_ids[int(bad[0])]}{more}: {name} is {value:g}; expected {expected}{mend}")


def default_outcomes(measures: Sequence[Measure]) -> list[str]:
    """Return the papers' outcomes: Dice > 0.8 (arXiv 2511.00477), the best quarter by each measure (2510.27421)."""
    rules = ["dice>0.8"] if any(m.name == "dice" for m in measures) else []
    return [*rules, "top25", *(f"top25:{m.name}" for m in measures[1:] if m.name != "ndsc")]


def rate_margin(margins: Sequence[str]) -> float:
    """Return the margin for differences of success rates: ``--margin rate=0.1``."""
    return _margins(margins).get("rate", RATE_MARGIN)


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(list(known)[:12])}{more}"


def _margins(margins: Sequence[str]) -> dict[str, float]:
    given = {}
    for text in margins:
        name, _, value = text.partition("=")
        try:
            given[name.strip()] = float(value)
        except ValueError:
            given[name.strip()] = -1.0
        if not 0 < given[name.strip()] < np.inf:
            raise UsageError(f"cannot read the margin '{text}'; expected MEASURE=VALUE, as 'dice=0.05' or 'rate=0.1'")
    return given
