"""Intervals and boxes: where an explanation stands on two axes, as a range and never as a point.

A method under-determines a stance, so each choice only says how far one can go on an axis. Boxes intersect; an
intersection that is empty is a finding in itself: nobody can hold all of these assumptions at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from medaudit.errors import UsageError


@dataclass(frozen=True, order=True)
class Interval:
    """A closed interval, ``lo`` <= ``hi``; UsageError where it is not one."""

    lo: float = -1.0
    hi: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.lo) and isfinite(self.hi) and self.lo <= self.hi):
            raise UsageError(f"[{self.lo}, {self.hi}] is no interval; expected two finite numbers, the lower first")

    @property
    def width(self) -> float:
        """How long it is; 0 for a point."""
        return self.hi - self.lo

    def intersect(self, other: Interval) -> Interval | None:
        """Return what both share, None where that is nothing."""
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Interval(lo, hi) if lo <= hi else None

    def contains(self, other: Interval) -> bool:
        """Whether ``other`` lies within, the ends included."""
        return self.lo <= other.lo and other.hi <= self.hi

    def share_in(self, other: Interval) -> float:
        """Return which part of it lies in ``other``, 0 to 1; of a point, whether it does."""
        common = self.intersect(other)
        if common is None:
            return 0.0
        return common.width / self.width if self.width > 0 else 1.0

    def __str__(self) -> str:
        return f"[{self.lo:+.2f}, {self.hi:+.2f}]"


@dataclass(frozen=True, order=True)
class Box:
    """A range on each of a framework's two axes; ``O`` and ``E`` are its first and second, whatever it calls them."""

    O: Interval = Interval()  # noqa: E741
    E: Interval = Interval()

    @classmethod
    def of(cls, first: tuple[float, float], second: tuple[float, float]) -> Box:
        """Return the box of two pairs of numbers."""
        return cls(Interval(*first), Interval(*second))

    @property
    def area(self) -> float:
        """Width times width; the whole square has 4."""
        return self.O.width * self.E.width

    def intersect(self, other: Box) -> Box | None:
        """Return what both share, None where that is nothing; an edge or a corner is something."""
        first, second = self.O.intersect(other.O), self.E.intersect(other.E)
        return None if first is None or second is None else Box(first, second)

    def contains(self, other: Box) -> bool:
        """Whether ``other`` lies within, the edges included."""
        return self.O.contains(other.O) and self.E.contains(other.E)

    def share_in(self, other: Box) -> float:
        """Return area shared over own area, 0 to 1 (spec 08, appendix A).

        A box that is a line or a point has no area: there it is the part of the line, or whether the point lies within.
        """
        return self.O.share_in(other.O) * self.E.share_in(other.E)

    def as_dict(self) -> dict[str, list[float]]:
        """Return it as plain data."""
        return {"O": [self.O.lo, self.O.hi], "E": [self.E.lo, self.E.hi]}


EVERYWHERE = Box()
"""Nothing is known: the whole square."""


def common(boxes: Iterable[Box]) -> Box | None:
    """Return what all the boxes share, None where that is nothing; the whole square of none."""
    found = EVERYWHERE
    for box in boxes:
        shared = found.intersect(box)
        if shared is None:
            return None
        found = shared
    return found
