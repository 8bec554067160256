"""What the studies of prototypes were asked: every choice that their findings depend on."""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.errors import UsageError

PRESETS = ("cpu-tiny", "cpu-small", "cpu", "gpu", "paper-32", "paper-64", "paper-224")
"""Of ``training.prototypes``; named here so that a wrong one is refused before torch is loaded."""

SAMPLERS = ("ddim", "ddpm", "dpm-solver++")


@dataclass(frozen=True)
class TrainSettings:
    """The options of ``medaudit prototypes train``; see its help for what each means."""

    preset: str = "cpu-small"
    prototypes: int = 32
    side: int | None = None
    steps: int | None = None
    recipe: str | None = None
    flip: bool = False
    precision: str | None = None
    test_share: float = 0.2
    weights: str | None = None
    """A model that the authors published, ``ckpt.tar``, to be looked at instead of a training."""
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None and self.side is None:
            raise UsageError("--weights needs --side, the pixels of the images that the published model is for")
        if self.preset not in PRESETS:
            raise UsageError(f"no preset '{self.preset}'; expected one of {', '.join(PRESETS)}")
        if self.prototypes < 2:
            raise UsageError(f"{self.prototypes} prototypes; expected 2 or more")
        if not 0 <= self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share:g}: expected a share from 0 to less than 1")


@dataclass(frozen=True)
class AuditSettings:
    """The options of ``medaudit prototypes audit``; see its help for what each means."""

    attributes: tuple[str, ...] = ()
    """Columns of two values; none: those of the simulation, or of the attributes' table."""
    images: int = 64
    """Test images that are changed; more give narrower intervals and take longer."""
    steps: int = 50
    margin: float = 0.1
    """The smallest change of an attribute's probability that matters."""
    captured: float = 0.75
    """The AUROC from which on an attribute is said to be captured by a prototype; TAD's, in the paper."""
    drawn: int = 256
    """Images painted from drawn activations, for what the model makes more of than the data; 0: none."""
    leaks: int = 16
    """Images on which each prototype's effect on all others is measured; 0: not at all."""
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_patients: int = 20

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("steps", 2), ("drawn", 0), ("leaks", 0), ("resamples", 100)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} {getattr(self, name)}: expected {least} or more")
        if not 0 < self.margin < 1:
            raise UsageError(f"--margin {self.margin:g}: expected a change of probability between 0 and 1")
        if not 0.5 < self.captured < 1:
            raise UsageError(f"--captured {self.captured:g}: expected an AUROC between 0.5 and 1")
