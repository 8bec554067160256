"""What a training is: every number that decides its outcome, and on which machines it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medaudit.errors import UsageError
from medaudit.training.schedules import SCHEDULES

OPTIMIZERS = ("adamw", "adam", "sgd")
_WHERE = ("accelerator", "devices", "nodes", "strategy", "workers", "checkpoint_every")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. The defaults are our choice, for a small net on a CPU.

    ``batch_size`` is over all processes, so that the same settings mean the same training on one device or on eight.
    ``accelerator``, ``devices``, ``nodes``, ``strategy`` (``auto``, ``ddp``, ``fsdp``) and ``precision``
    (``32-true``, ``bf16-mixed``, ``16-mixed``) are Fabric's words. Raises UsageError for a value that means nothing.
    """

    epochs: int = 100
    epoch_steps: int | None = None
    """Steps an epoch; ``None``: as many full batches as the cases fill, at least one."""
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    """Of ``sgd`` only; Nesterov's where it is not 0."""
    schedule: str = "cosine"
    warmup_steps: int = 0
    clip_norm: float | None = None
    """The L2 norm of all gradients together is cut to this."""
    ema_decay: float | None = None
    seed: int = 0
    monitor: str = "loss"
    """Which of the numbers that ``validate`` returns decides what is best."""
    higher_is_better: bool = False
    patience: int | None = None
    """Stop after this many epochs without a better ``monitor``."""
    precision: str = "32-true"
    deterministic: bool = True
    """The same bits again on the same machine; some GPU kernels are slower for it."""
    accelerator: str = "cpu"
    devices: int = 1
    """Of one node."""
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0
    """Processes that load cases, per device; 0: the training process itself."""
    checkpoint_every: int = 1
    """Epochs."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices", "nodes", "checkpoint_every"):
            _at_least(1, name, getattr(self, name))
        for name in ("epoch_steps", "patience"):
            if getattr(self, name) is not None:
                _at_least(1, name, getattr(self, name))
        for name in ("seed", "warmup_steps", "workers", "weight_decay", "momentum"):
            _at_least(0, name, getattr(self, name))
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", tuple(SCHEDULES))):
            if getattr(self, name) not in known:
                raise UsageError(f"no {name} '{getattr(self, name)}'; expected one of {', '.join(known)}")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate is {self.learning_rate}; expected more than 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UsageError(f"clip_norm is {self.clip_norm}; expected more than 0, or None")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}; expected 0 or more and less than 1, or None")

    def decisive(self) -> dict[str, Any]:
        """Return the settings that change numbers: a folder goes on only with the same ones.

        Where a training runs is not among them: it may move to other machines.
        """
        return {name: value for name, value in asdict(self).items() if name not in _WHERE}


def _at_least(least: int, name: str, value: float) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}; expected {least} or more")
