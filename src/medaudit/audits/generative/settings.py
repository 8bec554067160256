"""What the study of a generator was asked: every choice that its findings depend on."""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.errors import UsageError

PRESETS = ("fast", "cpu", "gpu")
"""Of ``training.vae``; named here so that a wrong one is refused before torch is loaded."""

METRICS = ("normalised_error", "squared_error", "absolute_error", "dssim", "delta_e", "perceptual")
"""What a reconstruction is judged by; ``delta_e`` for colours only, ``perceptual`` where a backbone is installed."""


@dataclass(frozen=True)
class Settings:
    """The options of ``medaudit vae``; see its help for what each means."""

    group: str
    minority: str | None = None
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    seeds: int = 3
    train: int | None = None
    """Training images of each model; ``None``: as many as every share can have."""
    test_share: float = 0.3
    standardise: str | None = None
    metric: str = "normalised_error"
    preset: str = "cpu"
    beta: float = 1.0
    perceptual: float = 0.0
    perceptual_weights: str | None = None
    """``backbone:file`` of the user's own; default: EfficientNet-Lite0 where it is installed."""
    flip: bool = True
    rank: int = 30
    """Of SLUG; 0: do not score it."""
    probes: int = 32
    slug_images: int = 400
    device: str = "cpu"
    seed: int = 0
    resamples: int = 2_000
    min_patients: int = 20
    margin: float = 0.1
    """The smallest relative gap that matters, as a share of the other group's mean error."""

    def __post_init__(self) -> None:
        if not self.shares or any(not 0 <= share <= 1 for share in self.shares):
            raise UsageError("--shares needs shares from 0 to 1, as 0,0.25,0.5,0.75,1")
        if list(self.shares) != sorted(set(self.shares)):
            raise UsageError("--shares must rise, each once, as 0,0.25,0.5,0.75,1")
        if self.seeds < 1:
            raise UsageError(f"--seeds is {self.seeds}; expected 1 or more")
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share is {self.test_share}; expected more than 0 and less than 1")
        if self.preset not in PRESETS:
            raise UsageError(f"no preset is called '{self.preset}'; there are: {', '.join(PRESETS)}")
        if self.metric not in METRICS:
            raise UsageError(f"no metric is called '{self.metric}'; there are: {', '.join(METRICS)}")
        if self.train is not None and self.train < 8:
            raise UsageError(f"--train is {self.train}; expected 8 or more images")
        if self.rank < 0 or self.probes < 4 or self.slug_images < 1:
            raise UsageError("expected --rank 0 or more, --probes 4 or more, --slug-images 1 or more")
        if not (0 <= self.beta < float("inf") and 0 <= self.perceptual < float("inf")):
            raise UsageError("--beta and --perceptual are weights; expected 0 or more")
        if not self.margin > 0:
            raise UsageError(f"--margin is {self.margin}; expected more than 0, as 0.1 for a tenth")

    @property
    def balanced(self) -> int:
        """The place of the share nearest to one half."""
        return min(range(len(self.shares)), key=lambda k: abs(self.shares[k] - 0.5))
