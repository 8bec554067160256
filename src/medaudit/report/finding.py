"""Finding: a sentence, the Estimate behind it, a verdict, and what it rests on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medaudit.statistics import Estimate

Verdict = Literal["supported", "refuted", "insufficient"]


@dataclass(frozen=True)
class Finding:
    """An answer to one question of a study.

    ``id`` is stable across runs and names a problem (``gap:age:dice``); ``supported`` always means: there is
    evidence of that problem; ``refuted``: there is evidence that it is absent or smaller than the margin;
    ``insufficient``: these data cannot tell. ``groups`` maps a group's name to its numbers (n, patients, mean
    ...). ``rests_on`` lists what a sceptic would ask: definitions, exclusions, assumptions, the smallest
    effect that could have been seen.
    """

    id: str
    question: str
    claim: str
    verdict: Verdict
    groups: Mapping[str, Mapping[str, Any]]
    estimate: Estimate
    rests_on: tuple[str, ...] = ()

    @property
    def lead(self) -> str:
        """The claim as far as its numbers, which follow a colon or a semicolon: what a headline has room for."""
        return re.split(r"[:;] ", self.claim, maxsplit=1)[0].rstrip(".") + "."

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as in ``findings.json``: strict JSON, ``None`` for a number that is not finite."""
        return _strict(
            {
                "id": self.id,
                "question": self.question,
                "claim": self.claim,
                "verdict": self.verdict,
                "groups": self.groups,
                "estimate": self.estimate.as_dict(),
                "rests_on": self.rests_on,
            }
        )

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Finding:
        """Return the finding that :meth:`as_dict` wrote; a number that was not finite comes back as NaN.

        Raises KeyError or TypeError where the entry is no finding.
        """
        written = dict(entry["estimate"])
        for key in ("value", "low", "high", "p", "p_adjusted"):
            written[key] = _number(written[key])
        written["extra"] = {key: _number(value) for key, value in written.get("extra", {}).items()}
        return cls(
            id=entry["id"],
            question=entry["question"],
            claim=entry["claim"],
            verdict=entry["verdict"],
            groups={name: dict(numbers) for name, numbers in entry["groups"].items()},
            estimate=Estimate(**written),
            rests_on=tuple(entry["rests_on"]),
        )


def _strict(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
