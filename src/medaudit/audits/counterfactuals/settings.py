"""What a study of counterfactuals was asked: every choice that its findings depend on."""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.errors import UsageError

METHODS = ("both", "walk", "search", "instance")
BASELINES = ("paper", "random", "nearest", "mean")
NETS = ("dense", "gcn", "gin")
PRESETS = ("fast", "cpu", "paper")
"""Of ``training.graphs``; named here so that a wrong one is refused before torch is loaded."""


@dataclass(frozen=True)
class CounterfactualSettings:
    """The options of ``medaudit counterfactuals``; see its help for what each means."""

    method: str = "both"
    baselines: tuple[str, ...] = ("random", "nearest", "mean")
    target: str | None = None
    """A class's name; by default of two the one that is not predicted."""
    net: str = "dense"
    """The classifier that is trained where the user brings none."""
    preset: str = "cpu"
    """Of the autoencoder."""
    steps: int | None = None
    classifier_steps: int = 600
    explained: int = 100
    """Held-out graphs that are explained, at most."""
    largest: int = 50
    """Graphs of more nodes are left out."""
    rarest: int = 0
    """Graphs with a kind of node that is seen so often or less are left out; 50 in the paper."""
    features: bool = True
    """Whether nets see the numbers of nodes: in AIDS these are the atoms' places in a drawing."""
    freeze: tuple[int, ...] = ()
    keep: tuple[str, ...] = ()
    """What may not change: add-nodes, delete-nodes, kinds, add-edges, delete-edges."""
    chemistry: bool = False
    """Propose only graphs whose valences are possible."""
    budget: float = 0.0
    """Seconds an exact distance may take a pair."""
    test_share: float = 0.2
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_graphs: int = 20

    def __post_init__(self) -> None:
        for value, known, what in ((self.method, METHODS, "method"), (self.net, NETS, "classifier"),
                                   (self.preset, PRESETS, "preset")):  # fmt: skip
            if value not in known:
                raise UsageError(f"no {what} '{value}'; expected one of {', '.join(known)}")
        for value in self.baselines:
            if value not in BASELINES:
                raise UsageError(f"no baseline '{value}'; expected some of {', '.join(BASELINES)}")
        for value in self.keep:
            if value not in KEPT:
                raise UsageError(f"--keep {value}: expected some of {', '.join(KEPT)}")
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share:g}: expected a share between 0 and 1")
        for name, least in (
            ("explained", 2),
            ("largest", 2),
            ("rarest", 0),
            ("resamples", 100),
            ("classifier_steps", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected {least} or more")
        if self.budget < 0:
            raise UsageError(f"--budget {self.budget:g}: expected seconds, 0 or more")


KEPT = ("add-nodes", "delete-nodes", "kinds", "add-edges", "delete-edges")
