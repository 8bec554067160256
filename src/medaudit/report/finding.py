"""Finding: a sentence, the Estimate behind it, a verdict, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medaudit.statistics import Estimate

Verdict = Literal["supported", "refuted", "insufficient"]


@dataclass(frozen=True)
class Finding:
    """An answer to one question of a study.

    ``id`` is stable across runs and names a problem (``gap:age:dice``); ``supported`` always means: there is evidence
    of that problem; ``refuted``: there is evidence that it is absent or smaller than the margin; ``insufficient``:
    these data cannot tell. ``groups`` maps a group's name to its numbers (n, patients, mean ...). ``rests_on`` lists
    what a sceptic would ask: definitions, exclusions, assumptions, the smallest effect that could have been seen.
    """

    id: str
    question: str
    claim: str
    verdict: Verdict
    groups: Mapping[str, Mapping[str, Any]]
    estimate: Estimate
    rests_on: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain data, in the form of ``findings.json``."""
        return {
            "id": self.id,
            "question": self.question,
            "claim": self.claim,
            "verdict": self.verdict,
            "groups": {name: dict(numbers) for name, numbers in self.groups.items()},
            "estimate": self.estimate.as_dict(),
            "rests_on": list(self.rests_on),
        }
