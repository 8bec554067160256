"""What is asked of a diagnosis; the words are those of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.audits.measuring.one_case import Ruler

PRESETS = ("fast", "cpu", "gpu")
"""How models are trained (``training.segmentation.RECIPES``); here too, so that a question is refused without torch."""


@dataclass(frozen=True)
class Settings:
    """What is asked of a diagnosis; all of it is kept in ``run.json``."""

    by: str
    within: str | None = None
    difficulty: str | None = None
    """A column that says how hard a case is; ``None``: the quality tiers, where two people rated the labels."""
    preset: str = "cpu"
    folds: int = 5
    trainings: tuple[str, ...] = ()
    measure: str = "dice"
    outcome: str | None = None
    margins: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    surface: str = "voxel"
    hd95: str = "pooled"
    empty: str = "penalise"
    device: str = "cpu"
    seed: int = 0
    resamples: int = 10_000
    min_patients: int = 20
    skip_bad: bool = False

    def ruler(self, reference: str, prediction: str) -> Ruler:
        """Return how masks of the role ``prediction`` are measured against those of ``reference``."""
        return Ruler(
            reference=reference,
            prediction=prediction,
            tolerances_mm=self.tolerances_mm,
            surface=self.surface,
            hd95=self.hd95,
            empty=self.empty,
        )
