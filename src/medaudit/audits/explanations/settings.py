"""What an audit of explanations was asked: every choice that its findings depend on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from medaudit.audits.explanations.advice import configuration_of
from medaudit.errors import UsageError
from medaudit.explanation.assumptions import Configuration, configuration, ends, registry

PAIRS = ("P1", "P4", "P6", "P7", "P8", "P12", "P13")
CONFIGURATIONS = ("ig-black", "ig-mean-image", "grad-cam", "occlusion-mean-colour", "kernel-shap-mean-colour")
FACTORS: dict[str, tuple[str, ...]] = {
    "absence": ("black", "white", "mean-image", "blur"),
    "explanandum": ("logit", "log-prob", "margin"),
    "shown": ("signed", "absolute"),
}
"""Of integrated gradients: 24 configurations that share 12 banks."""


@dataclass(frozen=True)
class ExplainSettings:
    """The options of ``medaudit explain audit``; see its help for what each means."""

    label: str | None = None
    """The column that the classifier tells; needed where one is trained."""
    classes: tuple[str, ...] = ()
    """The values of that column that are told apart; others are left out. None given: all there are, sorted. A model's
    outputs are taken in this order."""
    pairs: tuple[str, ...] = PAIRS
    """Pairs of the registry, or the start of their names: ``P1`` is all of P1."""
    configurations: tuple[str, ...] = CONFIGURATIONS
    """Presets, or families with choices, that are tested and may license claims."""
    factors: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(FACTORS))
    normal: str | None = None
    """The class whose images are what normal means, for the absence ``matched``."""
    target: str | None = None
    """The class that is explained; None: each image's predicted one."""
    explained: int = 32
    side: int = 64
    colours: int = 1
    mean: float = 0.0
    std: float = 1.0
    """How intensities from 0 to 1 become the model's input."""
    runs: int = 3
    """How often what is left to chance is drawn anew: the noise floor is made of it."""
    steps: int = 500
    """Of the classifier's training."""
    test_share: float = 0.4
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_patients: int = 10
    at_once: int | None = None
    """Rows that a model is asked at once; None: by memory."""

    def __post_init__(self) -> None:
        for name, least in (("explained", 2), ("side", 8), ("runs", 2), ("steps", 1), ("resamples", 100)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} {getattr(self, name)}: expected {least} or more")
        if self.std <= 0:
            raise UsageError(f"--std {self.std:g}: expected more than 0")
        if self.colours not in (1, 3):
            raise UsageError(f"{self.colours} colours: expected 1 or 3")
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share:g}: expected a share between 0 and 1")
        if len(set(self.classes)) < len(self.classes) or len(self.classes) == 1:
            raise UsageError(f"--class {', '.join(self.classes)}: expected two values or more, each once")
        if self.label is None and (self.target or self.normal):
            raise UsageError("--target and --normal name a class; say which column has it with --label COLUMN")
        self.chosen_pairs()
        self.chosen()
        self.combined()

    def chosen_pairs(self) -> dict[str, tuple[Configuration, Configuration]]:
        """Return the pairs that are meant; UsageError for one that is not there."""
        known = registry().pairs
        found: dict[str, tuple[Configuration, Configuration]] = {}
        for asked in self.pairs:
            some = [name for name in known if name == asked or name.startswith(f"{asked}-")]
            if not some:
                raise UsageError(f"no pair '{asked}'; expected some of {', '.join(known)}, or the start of their names")
            found |= {name: ends(name) for name in some}
        return found

    def chosen(self) -> dict[str, Configuration]:
        """Return the configurations that are tested, by name; UsageError for one that is not there."""
        return dict(configuration_of(name) for name in self.configurations)

    def combined(self) -> list[Configuration]:
        """Return integrated gradients of all combinations of ``varied``; the last assumption's levels change first.

        Raises UsageError for an assumption or a level that there is not.
        """
        return [configuration("integrated-gradients", None, **dict(zip(self.varied, levels, strict=True)))
                for levels in itertools.product(*self.varied.values())]  # fmt: skip

    @property
    def varied(self) -> dict[str, tuple[str, ...]]:
        """The assumptions of which more than one level was asked for."""
        return {atom: levels for atom, levels in self.factors.items() if len(levels) > 1}
