"""What the studies of pretraining were asked: every choice that their findings depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medaudit.errors import UsageError

OPPONENTS = ("lite0", "hog", "pixels", "random")
"""What a frozen model of one's own has to beat: a trained generalist, two that never learned, and no training."""
HEADS = ("linear", "conv", "upernet")
SEGMENTATION = "segmentation"


@dataclass(frozen=True)
class ProbeSettings:
    """The options of ``medaudit probe``; see its help for what each means."""

    own: tuple[str, ...]
    task: str
    against: tuple[str, ...] = OPPONENTS
    scratch: int = 0
    """Epochs of the same net trained from scratch with labels; 0: not compared."""
    role: str = "reference"
    head: str = "linear"
    head_steps: int = 400
    side: int = 160
    """Of the stored squares that every backbone resizes to what it was trained on."""
    shots: tuple[int, ...] = (5, 20)
    draws: int = 5
    shares: tuple[float, float, float] = (0.6, 0.15, 0.25)
    split_column: str | None = None
    """A column of train, val and test, where a dataset has its own split."""
    margin: float = 0.02
    """The smallest gain that matters."""
    resamples: int = 2_000
    min_patients: int = 20
    seeds: int = 3
    """Of what is drawn or trained here: random nets, nets from scratch, dense heads."""
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.own:
            raise UsageError("nothing to probe; give --backbone at least once")
        if self.head not in HEADS:
            raise UsageError(f"no head is called '{self.head}'; there are: {', '.join(HEADS)}")
        if len(self.shares) != 3 or not all(0 < share < math.inf for share in self.shares):
            raise UsageError("--split needs three shares above 0: training, validation, test, as 0.6,0.15,0.25")
        if not 0 <= self.margin < 1:
            raise UsageError(f"--margin is {self.margin:g}; expected from 0 to 1, as 0.02")
        if any(shots < 1 for shots in self.shots):
            raise UsageError(f"--shots has {min(self.shots)}; expected 1 or more")
        for name, least in (("draws", 1), ("seeds", 1), ("side", 16), ("head_steps", 1), ("scratch", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected {least} or more")

    @property
    def segments(self) -> bool:
        """Whether masks are predicted, not classes."""
        return self.task == SEGMENTATION

    @property
    def measure(self) -> str:
        """What a contender is judged by."""
        return "dice" if self.segments else "macro_f1"
