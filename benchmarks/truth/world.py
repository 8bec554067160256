"""World and Study: what is planted, which findings are asked, and what the right answer to each is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medaudit.report import Finding

Truth = Literal["there", "absent"]
Kind = Literal["planted", "null", "small"]


@dataclass(frozen=True)
class World:
    """A population with a known truth, of which every seed draws a cohort.

    ``made`` is how it is made, in the words of its study's ``run``. ``truth`` says of each finding that is asked
    whether its problem is there. ``kind``: ``null`` has nothing planted, and every finding of it must be silent;
    ``small`` is too small for any answer but `insufficient`. ``seeds`` is how many cohorts are drawn where the command
    line does not say.
    """

    planted: str
    made: Mapping[str, Any]
    truth: Mapping[str, Truth]
    kind: Kind = "planted"
    seeds: int = 100

    @property
    def key(self) -> str:
        """A hash of how the world is made: verdicts of another definition are not counted as its own."""
        return hashlib.sha256(repr(sorted(self.made.items())).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Study:
    """A study, its worlds, and how one of them is drawn and audited.

    ``run`` takes ``made``, a seed and an empty folder for what it must write, and returns the study's findings.
    ``trained``: models are trained in every seed, so that one takes minutes; else scores are drawn and judged.
    ``how`` says what was run with which settings, ``level`` what the study claims of its false findings.
    """

    name: str
    title: str
    how: str
    worlds: Mapping[str, World]
    run: Callable[[Mapping[str, Any], int, Path], Sequence[Finding]]
    trained: bool = False
    level: float = 0.05
    levelled: tuple[str, ...] = ("primary", "exploratory")
    """The families of findings that the level is claimed for."""
    claims: str = "at most 5 % of studies find any primary problem that is not there (Holm); of the others likewise "\
        "where nothing at all is there (Benjamini-Hochberg)"  # fmt: skip
