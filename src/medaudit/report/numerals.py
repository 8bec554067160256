"""How numbers are written for a person: with their unit, to the digits that their interval supports."""

from __future__ import annotations

import math

MISSING = "–"
"""Stands where there is no number."""


def number(value: float, decimals: int | None = None) -> str:
    """Return a number to ``decimals`` places (default: three significant digits), with a true minus sign."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if decimals is None:
        decimals = max(0, 2 - _magnitude(value)) if value else 0
    text = f"{value:,.{min(decimals, 8)}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("-")  # a zero has no sign
    return text.replace("-", "−")


def with_unit(value: float, unit: str = "", decimals: int | None = None) -> str:
    """Return ``12.3 mm``; a per cent sign follows as ``12.3 %`` with a space that does not break."""
    return _joined(number(value, decimals), unit)


def about(value: float, unit: str = "") -> str:
    """Return a number to two significant digits with its unit, for what is only roughly known (a detectable gap)."""
    if not math.isfinite(value) or value == 0:
        return with_unit(value, unit)
    return with_unit(value, unit, max(0, 1 - _magnitude(value)))


def interval(low: float, high: float, unit: str = "") -> str:
    """Return ``0.021 to 0.085``: the word, since a dash could be read as a minus."""
    if math.isnan(low) or math.isnan(high):
        return MISSING
    decimals = decimals_of(low, high)
    return _joined(f"{number(low, decimals)} to {number(high, decimals)}", unit)


def with_interval(value: float, low: float, high: float, unit: str = "") -> str:
    """Return ``0.053 (0.021 to 0.085)``, all three to the digits that the interval supports."""
    if math.isnan(low) or math.isnan(high):
        return with_unit(value, unit)
    decimals = decimals_of(low, high)
    return _joined(f"{number(value, decimals)} ({number(low, decimals)} to {number(high, decimals)})", unit)


def decimals_of(low: float, high: float) -> int | None:
    """Return how many decimals an interval supports: two significant digits of its half width."""
    half = abs(high - low) / 2
    if not math.isfinite(half) or half == 0:
        return None
    return min(max(0, 1 - _magnitude(half)), 6)


def p_value(p: float) -> str:
    """Return ``p < 0.001``, ``p = 0.023`` or ``p = 0.41``: three decimals below 0.1, two above."""
    if math.isnan(p):
        return MISSING
    cell = p_cell(p)
    return f"p {cell}" if cell.startswith("<") else f"p = {cell}"


def p_cell(p: float) -> str:
    """Return a p-value for a table's column: ``< 0.001``, ``0.023``."""
    if math.isnan(p):
        return MISSING
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def count(n: int) -> str:
    """Return ``1,503``."""
    return f"{n:,}"


def sample(n: int, noun: str = "") -> str:
    """Return ``n = 1,503``, or ``n = 1,503 cases``."""
    return f"n = {count(n)} {noun}".rstrip()


def percent(share: float, decimals: int = 1) -> str:
    """Return a share as ``12.3 %``."""
    return with_unit(100 * share, "%", decimals)


def _joined(text: str, unit: str) -> str:
    return text if not unit or text == MISSING else f"{text}\N{NO-BREAK SPACE}{unit}"


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value)))
