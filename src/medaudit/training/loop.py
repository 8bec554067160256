"""The one training loop. Read it from top to bottom; nothing else moves the weights of a model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from medaudit.errors import DataError, UsageError
from medaudit.training import checkpoint
from medaudit.training.devices import (
    optimizer_state_of,
    reproducible,
    seed_step,
    set_optimizer_state,
    set_up,
    set_weights,
    start,
    weights_of,
)
from medaudit.training.ema import averaged, start_average, update_average
from medaudit.training.logs import Row, append_csv, progress_bar, rewrite_csv, tensorboard
from medaudit.training.memory import keep_memory
from medaudit.training.sampling import TrainingData, batches
from medaudit.training.schedules import rate_factor
from medaudit.training.settings import TrainingSettings
from medaudit.training.steering import PLAIN, Steering

Losses = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    folder: Path
    epochs: int
    """How many were trained, all calls together."""
    stopped_early: bool
    history: tuple[Row, ...]
    """A row an epoch: ``epoch``, ``step``, ``learning_rate``, mean training losses, ``val_...``."""
    best_epoch: int | None
    """Counted from 1; ``None`` without validation."""
    best_value: float | None
    weights: Path
    """The last weights, averaged where ``ema_decay`` is set; ``load_weights`` reads them."""
    best: Path | None
    """The weights of the best epoch."""


def train(
    model: nn.Module,
    loss_of: Callable[[nn.Module, dict[str, Any]], Losses],
    data: TrainingData,
    settings: TrainingSettings,
    *,
    folder: str | Path,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    steering: Steering = PLAIN,
    progress: bool = True,
) -> Trained:
    """Return the trained weights and their history; ``folder`` goes on where it was if it holds this training.

    ``loss_of(model, batch)`` returns the loss, a scalar, or several by name of which ``loss`` is minimised and the
    others are logged. It must be a mean over the cases of the batch: then several processes, which average their
    gradients, give the numbers of one. ``batch`` holds what ``data.load`` returns, stacked, ``case_id``, and
    ``progress``, the share of all steps that is done (0 at the first).
    ``validate(model)`` returns numbers after every epoch, of the averaged weights where ``ema_decay`` is set; every
    process calls it, and the first one's answer counts. ``steering`` says what settings cannot: other rates for some
    weights, gradients cut by parts, a teacher that follows. The model has its last weights when this returns (averaged
    where ``ema_decay`` is set; with ``fsdp`` read them from ``Trained.weights``).

    Killed at any time and called again it ends with the same bits: a step follows from the weights, the seed and its
    number. Raises DataError if the loss is not finite, naming the cases, if a file cannot be written or no checkpoint
    can be read, and UsageError if ``folder`` holds another training.
    """
    folder = Path(folder)
    fabric = start(settings)
    if fabric.device.type == "cpu":
        keep_memory()
    first_rank = fabric.is_global_zero
    epoch_steps = settings.epoch_steps or max(1, len(data.case_ids) // settings.batch_size)
    steps = settings.epochs * epoch_steps
    this = {**settings.decisive(), "cases": hashlib.sha256("\n".join(map(str, data.case_ids)).encode()).hexdigest()}

    with reproducible(fabric, settings.deterministic):
        network, optimizer = set_up(fabric, model, lambda sharded: optimizer_of(sharded, settings, steering))
        average = start_average(network) if settings.ema_decay is not None else None
        history, best, stopped = _resume(folder, network, optimizer, average, fabric, this)
        epoch = len(history)
        if first_rank:
            _make_folder(folder)
            rewrite_csv(folder / "log.csv", history)

        loader = batches(
            data,
            settings.batch_size,
            settings.seed,
            range(steps, steps) if stopped else range(epoch * epoch_steps, steps),
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            workers=settings.workers,
            pin_memory=fabric.device.type == "cuda",
        )
        network.train()
        sums: dict[str, float] = {}
        with (
            progress_bar(epoch * epoch_steps, steps, progress and first_rank) as show,
            tensorboard(folder, epoch + 1, first_rank) as log_events,
        ):
            for step, batch in enumerate(loader, start=epoch * epoch_steps):
                factor = rate_factor(settings.schedule, step, steps, settings.warmup_steps)
                rate = steering.rates(optimizer.param_groups, settings.learning_rate * factor, step, steps)
                seed_step(settings.seed, step, fabric.global_rank)

                batch["progress"] = step / steps
                losses = _by_name(loss_of(network, fabric.to_device(batch)))
                values = _values(losses)
                if not math.isfinite(values["loss"]):
                    raise _not_finite("the loss", values["loss"], step, batch)
                fabric.backward(losses["loss"])
                if settings.clip_norm is not None:
                    norm = _clipped(fabric, network, optimizer, steering.parts(model), settings.clip_norm)
                    # Half precision may overflow: its scaler then leaves the step out and tries a smaller scale.
                    if settings.precision != "16-mixed" and not torch.isfinite(norm):
                        raise _not_finite("the gradient", float(norm), step, batch)
                optimizer.step()
                optimizer.zero_grad()
                if average is not None:
                    update_average(average, network, settings.ema_decay or 0.0)
                steering.after_step(model, step, steps)

                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value
                show(step + 1, values)
                if (step + 1) % epoch_steps:
                    continue

                epoch += 1
                row: Row = {"epoch": epoch, "step": step + 1, "learning_rate": rate}
                row |= {name: value / epoch_steps for name, value in _over_ranks(sums, fabric).items()}
                sums = {}
                if validate is not None:
                    row |= _validated(validate, network, average, fabric)
                steering.check(row)
                if validate is not None:
                    best = _better(best, row, settings)
                    stopped = settings.patience is not None and epoch - best["epoch"] >= settings.patience
                    if best["epoch"] == epoch:
                        _write_weights(folder / "best.pt", network, average, first_rank)
                history.append(row)
                if first_rank:
                    append_csv(folder / "log.csv", row)
                    log_events(row)
                if stopped or epoch == settings.epochs or epoch % settings.checkpoint_every == 0:
                    state = _state(network, optimizer, average, fabric)
                    if first_rank:
                        progressed = {"this": this, "history": history, "best": best, "stopped": stopped}
                        checkpoint.save(folder, epoch, {**state, **progressed})
                if stopped:
                    break

        _write_weights(folder / "weights.pt", network, average, first_rank)
        fabric.barrier()
        if average is not None:
            with torch.no_grad():
                for parameter, mean in zip(network.parameters(), average, strict=True):
                    parameter.copy_(mean)
    return Trained(
        folder=folder,
        epochs=epoch,
        stopped_early=stopped,
        history=tuple(history),
        best_epoch=best.get("epoch"),
        best_value=best.get("value"),
        weights=folder / "weights.pt",
        best=folder / "best.pt" if best else None,
    )


def optimizer_of(model: nn.Module, settings: TrainingSettings, steering: Steering = PLAIN) -> Optimizer:
    """Return the optimiser that the settings name, over all parameters of the model that learn."""
    rate, decay, momentum = settings.learning_rate, settings.weight_decay, settings.momentum
    parameters = steering.groups(model)
    if settings.optimizer == "sgd":
        return SGD(parameters, lr=rate, weight_decay=decay, momentum=momentum, nesterov=momentum > 0)
    return (AdamW if settings.optimizer == "adamw" else Adam)(parameters, lr=rate, weight_decay=decay, fused=True)


def _clipped(
    fabric: Fabric, network: nn.Module, optimizer: Optimizer, parts: Sequence[nn.Module] | None, most: float
) -> Tensor:
    """Cut the gradients, of all weights together or of each part by itself; return the largest norm before."""
    if parts is None:
        return fabric.clip_gradients(network, optimizer, max_norm=most, error_if_nonfinite=False)  # type: ignore
    norms = [nn.utils.clip_grad_norm_(part.parameters(), most) for part in parts]
    whole = [getattr(norm, "full_tensor", lambda norm=norm: norm)() for norm in norms]  # of sharded gradients
    return torch.stack([norm.float() for norm in whole]).max()


def _by_name(losses: Losses) -> Mapping[str, Tensor]:
    if isinstance(losses, Tensor):
        return {"loss": losses}
    if "loss" not in losses:
        raise UsageError(f"the losses are named {', '.join(losses)}; expected one named 'loss', which is minimised")
    return losses


def _values(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the losses as numbers, by one transfer: each one waits for the GPU."""
    numbers = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
    return dict(zip(losses, numbers, strict=True))


def _not_finite(what: str, value: float, step: int, batch: Mapping[str, Any]) -> DataError:
    return DataError(
        f"{what} is {value} at step {step + 1}, cases {', '.join(batch['case_id'])}; look at their images and labels, "
        "or lower the learning rate; the checkpoints are from before"
    )


def _over_ranks(sums: Mapping[str, float], fabric: Fabric) -> dict[str, float]:
    if fabric.world_size == 1:
        return dict(sums)
    mean = fabric.all_reduce(torch.tensor(list(sums.values()), dtype=torch.float64, device=fabric.device))
    return dict(zip(sums, mean.tolist(), strict=True))  # type: ignore[union-attr]


def _validated(validate: Callable, network: nn.Module, average: list[Tensor] | None, fabric: Fabric) -> Row:
    network.eval()
    with averaged(network, average), torch.no_grad():
        numbers = {f"val_{name}": float(value) for name, value in validate(network).items()}
    network.train()
    return fabric.broadcast(numbers)


def _better(best: dict[str, Any], row: Row, settings: TrainingSettings) -> dict[str, Any]:
    """Return the best epoch and its value so far; a number that is not finite is never better."""
    name = f"val_{settings.monitor}"
    if name not in row:
        known = ", ".join(n.removeprefix("val_") for n in row if n.startswith("val_")) or "nothing"
        raise UsageError(f"validation gives no '{settings.monitor}' to monitor; it gives {known}")
    value, before = row[name], best.get("value")
    if not best or before is None or (value > before if settings.higher_is_better else value < before):
        return {"epoch": int(row["epoch"]), "value": value if math.isfinite(value) else None}
    return best


def _state(network: nn.Module, optimizer: Optimizer, average: list[Tensor] | None, fabric: Fabric) -> dict[str, Any]:
    """Return what the next step depends on, beside its number and the seed."""
    state = {
        "model": weights_of(network),
        "optimizer": optimizer_state_of(network, optimizer),
        "precision": fabric.strategy.precision.state_dict(),
    }
    if average is not None:
        with averaged(network, average):
            state["average"] = weights_of(network)
    return state


def _resume(
    folder: Path,
    network: nn.Module,
    optimizer: Optimizer,
    average: list[Tensor] | None,
    fabric: Fabric,
    this: Mapping[str, Any],
) -> tuple[list[Row], dict[str, Any], bool]:
    """Put the newest checkpoint's state into the model and its companions; return history, best epoch, stopped."""
    state = checkpoint.newest(folder)
    if state is None:
        return [], {}, False
    checkpoint.check_same_training(this, state["this"], folder)
    ours = weights_of(network)
    if fabric.is_global_zero:  # where weights are sharded the others hold no whole ones to compare
        checkpoint.check_architecture(ours, state["model"], folder)
    if average is not None:
        set_weights(network, state["average"])
        for value, parameter in zip(average, network.parameters(), strict=True):
            value.copy_(parameter.detach())
    set_weights(network, state["model"])
    set_optimizer_state(network, optimizer, state["optimizer"])
    fabric.strategy.precision.load_state_dict(state["precision"])
    return state["history"], state["best"], state["stopped"]


def _write_weights(path: Path, network: nn.Module, average: list[Tensor] | None, first_rank: bool) -> None:
    with averaged(network, average):
        weights = weights_of(network)
        if first_rank:
            checkpoint.write(path, {"model": weights})


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checkpoint.cannot_write(folder, error) from None
