"""What a pretraining is: the net, its crops, masks, head, objective and schedules; presets from two cores to nodes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medaudit.errors import UsageError
from medaudit.networks.vit import SHAPES, ViTShape
from medaudit.training.dinov2.crops import CropLaw
from medaudit.training.dinov2.masks import MaskLaw
from medaudit.training.settings import TrainingSettings

FIDELITIES = ("paper", "fixed")


@dataclass(frozen=True)
class Recipe:
    """All numbers of a pretraining. The defaults are those of UltraDINO's released code (arXiv 2506.19552)."""

    shape: ViTShape = SHAPES["small"]
    crops: CropLaw = field(default_factory=CropLaw)
    masks: MaskLaw = field(default_factory=MaskLaw)
    prototypes: int = 65_536
    hidden: int = 2_048
    bottleneck: int = 256
    batch_norm: bool = False
    """In the head's MLP: leaves the plateau at ln K sooner where batches are small; not in DINOv2."""
    centring: str = "centre"
    """Or ``sinkhorn``."""
    centre_momentum: float = 0.9
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    teacher_warmup: float = 0.3
    """Share of the steps over which the teacher's temperature rises (30 of 100 epochs)."""
    dino: float = 1.0
    ibot: float = 1.0
    koleo: float = 0.1
    momentum: float = 0.992
    """Of the teacher, at the start; 1 at the end."""
    batch_size: int = 1_024
    steps: int = 250_000
    learning_rate: float = 4e-3
    """For a batch of 1,024; times the square root of batch / 1,024."""
    least_rate: float = 1e-6
    warmup: float = 0.1
    """Share of the steps."""
    layer_decay: float = 0.9
    patch_embed: float = 0.2
    weight_decay: tuple[float, float] = (0.04, 0.4)
    freeze_last: float = 0.01
    """Share of the steps in which the prototypes do not move (1 of 100 epochs)."""
    clip: float = 3.0
    precision: str = "bf16-mixed"
    """The released code used float16 with a loss scaler."""
    fidelity: str = "paper"
    """``paper``: what the released code did: flips upside down, and blurs with turned probabilities."""
    epochs: int = 100
    """Parts of the run; after each come monitors and a checkpoint."""
    side: int = 256
    """Of the stored frames that crops are cut from."""

    def __post_init__(self) -> None:
        if self.fidelity not in FIDELITIES:
            raise UsageError(f"fidelity is '{self.fidelity}'; expected one of {', '.join(FIDELITIES)}")
        if self.centring not in ("centre", "sinkhorn"):
            raise UsageError(f"centring is '{self.centring}'; expected centre or sinkhorn")
        for side in (self.crops.global_side, self.crops.local_side):
            if side % self.shape.patch:
                raise UsageError(f"crops of {side} pixels are not made of whole patches of {self.shape.patch}")
        if self.batch_size < 2:
            raise UsageError(f"a batch of {self.batch_size} has no two images to tell apart; expected 2 or more")
        if self.precision == "16-mixed":
            raise UsageError(
                "float16 needs a loss scaler that cutting gradients by parts does not know; use bf16-mixed"
            )

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate * math.sqrt(self.batch_size / 1_024)

    def settings(self, seed: int, *, device: str = "cpu", devices: int = 1, nodes: int = 1, strategy: str = "auto",
                 workers: int = 0) -> TrainingSettings:  # fmt: skip
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs, epoch_steps=max(1, self.steps // self.epochs), batch_size=self.batch_size,
            learning_rate=self.rate, schedule="constant", clip_norm=self.clip, seed=seed, precision=self.precision,
            accelerator=device, devices=devices, nodes=nodes, strategy=strategy, workers=workers,
            deterministic=device == "cpu", monitor="rankme", higher_is_better=True,
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return all numbers, as JSON can hold them."""
        return asdict(self)


_PAPER = Recipe()
_TINY = Recipe(
    shape=replace(SHAPES["tiny"], layer_scale=1.0, registers=0),
    crops=CropLaw(48, 24, 2, local_scale=(0.15, 0.5), flip="h", strength=0.3, blur=(0.0, 0.3, 0.2), solarize=0.0),
    prototypes=128, hidden=256, bottleneck=64, batch_norm=True, centring="sinkhorn",
    teacher_temperature=(0.02, 0.02), momentum=0.98, batch_size=64, steps=4_000, learning_rate=5e-3,
    weight_decay=(0.04, 0.04), layer_decay=1.0, patch_embed=1.0, precision="32-true", epochs=20, side=64,
    fidelity="fixed",
)  # fmt: skip
"""Found by looking at a few hundred steps on simulated frames: the released numbers stay at ln K there."""

PRESETS: dict[str, Recipe] = {
    "smoke": replace(_TINY, steps=60, epochs=3, batch_size=32),
    "cpu-tiny": _TINY,
    "cpu-small": replace(_TINY, shape=ViTShape(192, 6, 3, patch=8, side=64, layer_scale=1.0),
                         crops=replace(_TINY.crops, global_side=64, local_side=32, locals=4), side=80, prototypes=512),
    "vit-s": replace(_PAPER, shape=replace(SHAPES["small"], drop_path=0.3)),
    "vit-b": replace(_PAPER, shape=replace(SHAPES["base"], drop_path=0.3)),
    "vit-l": replace(_PAPER, shape=replace(SHAPES["large"], drop_path=0.3)),
    "vit-s-small-data": replace(_PAPER, shape=replace(SHAPES["small"], drop_path=0.1), prototypes=4_096,
                                batch_size=128, steps=50_000, teacher_temperature=(0.04, 0.04), momentum=0.994,
                                centring="sinkhorn"),
}  # fmt: skip
"""``vit-s``, ``vit-b`` and ``vit-l`` have the released code's numbers; the others are our choice. ``vit-l`` is for
several devices or nodes (``--strategy ddp`` or ``fsdp``)."""


def faithful(recipe: Recipe, fidelity: str) -> Recipe:
    """Return the recipe with what the released code did, or with what was meant.

    ``fixed`` mirrors left to right and blurs with the probabilities that are written down. Both do so to any preset.
    """
    if fidelity == "paper":
        return replace(recipe, fidelity="paper", crops=replace(recipe.crops, flip="v", blur=(0.0, 0.9, 0.5)))
    return replace(recipe, fidelity=fidelity, crops=replace(recipe.crops, flip="h", blur=(1.0, 0.1, 0.5)))
