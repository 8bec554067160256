"""DINOv2's schedules and groups of weights: rate, decay, teacher's momentum and temperature at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from medaudit.networks.vit import layer_of


def cosine(step: int, steps: int, start: float, end: float, *, warmup: int = 0, warmup_start: float = 0.0) -> float:
    """Return a cosine from ``start`` to ``end`` after a linear rise of ``warmup`` steps, whose last is ``start``.

    The end is what the step after the last would have, as in DINOv2.
    """
    if step < warmup:
        return start if warmup == 1 else warmup_start + (start - warmup_start) * step / (warmup - 1)
    done = (step - warmup) / max(1, steps - warmup)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(1.0, done)))


def linear(step: int, start: float, end: float, over: int) -> float:
    """Return a line from ``start`` at step 0 to ``end`` at step ``over`` - 1, and ``end`` after."""
    return end if over <= 1 or step >= over else start + (end - start) * step / (over - 1)


def groups_of(
    backbone: nn.Module, head: nn.Module, depth: int, layer_decay: float, patch_embed: float
) -> list[dict[str, Any]]:
    """Return the optimiser's groups: one for each (``rate``, ``decay``, ``last``), which are factors and a flag.

    The rate falls by ``layer_decay`` a layer from the end of the net to its beginning, and at the patch embedding by
    ``patch_embed`` more. Biases, norms and LayerScale do not decay. ``last``: the prototypes, whose rate is 0 at first.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        rate = layer_decay ** (depth + 1 - layer_of(name, depth))
        if name.startswith("patch_embed"):
            rate *= patch_embed
        groups.setdefault((rate, _decays(name, parameter), False), []).append(parameter)
    for name, parameter in head.named_parameters():
        groups.setdefault((1.0, _decays(name, parameter), name.startswith("last_layer")), []).append(parameter)
    return [
        {"params": parameters, "rate": rate, "decay": decay, "last": last}
        for (rate, decay, last), parameters in groups.items()
    ]


def set_rates(groups: Sequence[dict[str, Any]], rate: float, decay: float, last: float) -> None:
    """Give each group its rate and weight decay; ``last`` is the factor of the prototypes' rate."""
    for group in groups:
        group["lr"] = rate * group["rate"] * (last if group["last"] else 1.0)
        group["weight_decay"] = decay * group["decay"]


def _decays(name: str, parameter: nn.Parameter) -> float:
    # Of one axis: biases, norms and LayerScale under any name; a BatchNorm in the head is called mlp.1.
    return 0.0 if parameter.ndim == 1 or name.endswith(".bias") else 1.0
