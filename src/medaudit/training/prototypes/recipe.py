"""How a prototype diffusion is trained: the published recipe to the letter, or one that a small budget can afford."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medaudit.errors import UsageError
from medaudit.networks.diffusion.unet import UNetShape
from medaudit.networks.prototypes.encoder import EncoderShape
from medaudit.training.settings import TrainingSettings

RECIPES = ("fast", "paper")
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class PrototypeRecipe:
    """Shapes, budget, and which of the two recipes.

    ``paper`` is what the released code does: the loss of the noise, prototypes drawn from U[0, 1), weights from N(0,
    0.1²), AdamW at a constant 1e-5, times 1 to 999. ``fast`` is ours, for budgets a hundredth as large: the loss of the
    velocity, activations brought to mean 0 and SD 1, prototypes and weights started from the data, an average of
    weights, and a rate that rises, then falls.
    """

    encoder: EncoderShape
    unet: UNetShape
    side: int
    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    recipe: str = "fast"
    epochs: int = 10
    """Into how many parts the steps are divided; a checkpoint and a line of the log follow each."""
    noise_steps: int = 1_000
    flip: bool = False
    """Mirror images by chance: only where left and right mean nothing."""
    precision: str = "32-true"
    """Or ``bf16-mixed``: worth it for wide nets on processors that multiply bfloat16. Distances stay in full."""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UsageError(f"no recipe '{self.recipe}'; expected one of {', '.join(RECIPES)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"no precision '{self.precision}'; expected one of {', '.join(PRECISIONS)}")
        if self.encoder.prototypes != self.unet.conditions or self.encoder.channels != self.unet.channels:
            raise UsageError("encoder and U-Net differ in their prototypes or channels; expected one number for both")

    @property
    def predicts(self) -> str:
        """What the net predicts."""
        return "velocity" if self.recipe == "fast" else "noise"

    @property
    def first_time(self) -> int:
        """The least time that is trained: the released code never draws 0, yet asks for it when sampling."""
        return 0 if self.recipe == "fast" else 1

    def of(self, *, channels: int | None = None, prototypes: int | None = None, **changes: Any) -> PrototypeRecipe:
        """Return the recipe for other channels, prototypes, or other fields of its own."""
        encoder, unet = self.encoder, self.unet
        if channels is not None:
            encoder, unet = replace(encoder, channels=channels), replace(unet, channels=channels)
        if prototypes is not None:
            encoder, unet = replace(encoder, prototypes=prototypes), replace(unet, conditions=prototypes)
        return replace(self, encoder=encoder, unet=unet, **changes)

    def settings(self, seed: int, device: str = "cpu") -> TrainingSettings:
        """Return the loop's settings."""
        fast = self.recipe == "fast"
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer="adamw",
            weight_decay=0.01,
            schedule="constant",  # the rate is steered: see rate_of
            clip_norm=1.0 if fast else None,
            ema_decay=0.995 if fast else None,
            monitor="effective_rank",
            higher_is_better=True,
            seed=seed,
            accelerator=device,
            precision=self.precision,
        )

    def record(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)


def from_record(record: dict[str, Any]) -> PrototypeRecipe:
    """Return the recipe that :meth:`PrototypeRecipe.record` gave."""

    def shape(kind: type, fields: dict[str, Any]) -> Any:
        return kind(**{name: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
                       for name, v in fields.items()})  # fmt: skip

    return PrototypeRecipe(
        **{**record, "encoder": shape(EncoderShape, record["encoder"]), "unet": shape(UNetShape, record["unet"])}
    )


_SMALL = EncoderShape(features=(24, 48, 64), kernels=(3, 3, 3), strides=(2, 1, 1), paddings=(1, 0, 0), prototypes=32)

PRESETS: dict[str, PrototypeRecipe] = {
    "cpu-tiny": PrototypeRecipe(
        _SMALL, UNetShape(channels=1, width=16, multipliers=(1, 2, 2), blocks=1, conditions=32, embedding=64),
        side=16, steps=2_000, batch_size=48,
    ),
    "cpu-small": PrototypeRecipe(
        EncoderShape(prototypes=32),
        UNetShape(channels=1, width=24, multipliers=(1, 2, 2), blocks=1, conditions=32, embedding=96),
        side=32, steps=1_200,
    ),
    "cpu": PrototypeRecipe(
        EncoderShape(prototypes=32),
        UNetShape(channels=1, width=16, multipliers=(1, 2, 2, 4), blocks=1, conditions=32, embedding=96),
        side=64, steps=1_500, batch_size=32,
    ),
    "gpu": PrototypeRecipe(
        EncoderShape(prototypes=100), UNetShape(channels=1, conditions=100), side=64, steps=100_000, batch_size=128,
        learning_rate=2e-4, epochs=50,
    ),
    "paper-32": PrototypeRecipe(
        EncoderShape(), UNetShape(channels=1), side=32, steps=46_900, batch_size=128, learning_rate=1e-5,
        recipe="paper", epochs=100,
    ),
    "paper-64": PrototypeRecipe(
        EncoderShape(prototypes=100), UNetShape(channels=1, conditions=100), side=64, steps=763_000, batch_size=64,
        learning_rate=1e-5, recipe="paper", epochs=300,
    ),
    "paper-224": PrototypeRecipe(
        EncoderShape(features=(32, 64, 64, 128, 128), kernels=(5,) * 5, strides=(2, 2, 1, 1, 1),
                     paddings=(1, 1, 0, 0, 0), prototypes=100),
        UNetShape(channels=1, conditions=100), side=224, steps=487_000, batch_size=16, learning_rate=1e-5,
        recipe="paper", epochs=300,
    ),
}  # fmt: skip
"""By name. ``paper-*`` have the released code's shapes; their steps are its epochs on its own data (FMNIST, CelebA,
CardioPM's 25,989 X-rays). The others are ours."""
