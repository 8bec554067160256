"""Whether two claims of one number disagree, or are one number rounded."""

from __future__ import annotations

import re

_SHORT = re.compile(r"[~≈]? ?([0-9]{1,12}(?:[.,][0-9]{1,6})?) ?([kKM])")


def range_of(value: object) -> tuple[float, float] | None:
    """Return the numbers that a claim may mean, both ends included; None where it is no number.

    A number means itself. ``1.7k`` was rounded to its last digit: 1,650 to 1,750.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value), float(value)
    if isinstance(value, str) and (match := _SHORT.fullmatch(value[:40].strip())):
        digits = match[1].replace(",", ".")
        times = 1e3 if match[2] in "kK" else 1e6
        step = times * 10.0 ** -(len(digits.partition(".")[2]))
        return float(digits) * times - step / 2, float(digits) * times + step / 2
    return None


def disagree(first: object, second: object) -> bool:
    """Return whether two claims of one field cannot both be right."""
    one, two = range_of(first), range_of(second)
    if one is None or two is None:
        return str(first).strip().lower() != str(second).strip().lower()
    return one[0] > two[1] or two[0] > one[1]
