"""Deep ensembles: several nets, trained alike from other seeds (Lakshminarayanan et al., NeurIPS 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.outputs import device_of, evaluating

_ROUNDING = 1e-5
"""By how much logits of one pass may miss those of a pass a member, as a share of the largest."""


def ensemble(models: Sequence[nn.Module], batches: Iterable[Tensor], vectorised: bool = False) -> np.ndarray:
    """Return softmax probabilities (M, N, C), float64, of all members.

    ``vectorised``: one forward pass over stacked weights (``torch.func``) instead of one a member. Members of several
    architectures, and an operation that cannot be vectorised, run in turn all the same: the numbers agree up to
    rounding. Raises UsageError for fewer than two members, DataError where two members have the same weights or their
    outputs are not logits of the same classes.
    """
    if len(models) < 2:
        raise UsageError(f"an ensemble of {len(models)}; expected 2 members or more")
    if ensemble_kind(models) == "identical":
        raise DataError(
            "members of the ensemble have the same weights: they cannot disagree; train them from other seeds"
        )
    together: Callable[[Tensor], Tensor] | None = None
    found: list[np.ndarray] = []
    with torch.no_grad():
        for number, images in enumerate(batches):
            if vectorised and number == 0:
                together = _vectorised(models, images[:1])
            logits = _in_turn(models, images) if together is None else list(together(images))
            found.append(np.stack([softmax_of(z, model) for z, model in zip(logits, models, strict=True)]))
    if not found:
        raise DataError("no batch of images was given")
    return np.concatenate(found, axis=1)


def ensemble_kind(models: Sequence[nn.Module]) -> str:
    """Return ``deep``, ``head`` where some weights are shared by all members, or ``identical`` where two are the same.

    An ensemble of heads on one trunk knows only what the heads disagree on: it must not be called a deep ensemble.
    """
    states = [dict(model.named_parameters()) for model in models]
    alike = lambda a, b, name: name in b and a[name].shape == b[name].shape and bool(torch.equal(a[name], b[name]))
    for i, a in enumerate(states):
        if any(len(a) == len(b) and all(alike(a, b, name) for name in a) for b in states[i + 1 :]):
            return "identical"
    # Biases and norms start alike from every seed and may stay alike in a dead layer: only weights of 2 axes count.
    heavy = [name for name, value in states[0].items() if value.ndim >= 2]
    shared = [name for name in heavy if all(alike(states[0], other, name) for other in states[1:])]
    return "head" if shared else "deep"


def softmax_of(logits: Any, model: nn.Module) -> np.ndarray:
    """Return the softmax (N, C), float64, of what a model returned; DataError where that is not logits (N, C)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise DataError(
            f"{type(model).__name__} returned {what}; expected logits (cases, classes) with 2 classes or more "
            "(wrap a net of one output so that it returns a column for each class)"
        )
    if not bool(torch.isfinite(logits).all()):
        raise DataError(
            f"{type(model).__name__} returned logits that are not finite; look at the images, or at a training that "
            "diverged"
        )
    return torch.softmax(logits.double(), dim=1).cpu().numpy()


def _in_turn(models: Sequence[nn.Module], images: Tensor) -> list[Tensor]:
    logits = []
    for model in models:
        with evaluating(model):
            logits.append(model(images.to(device_of(model))))
    if len({getattr(z, "shape", None) for z in logits}) > 1:
        raise DataError(
            f"the members returned outputs of shapes {[tuple(z.shape) for z in logits]}; expected the same classes "
            "of all"
        )
    return logits


def _vectorised(models: Sequence[nn.Module], probe: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return images -> logits (M, n, C) in one pass, or None where it does not give the members' own numbers.

    Weights that stack do not make the architectures equal (an activation or a stride has none), so the ``probe`` images
    (n, C, H, W) go through both ways once.
    """
    members = [copy.deepcopy(model).eval() for model in models]
    device = device_of(models[0])
    if any(type(member) is not type(members[0]) or device_of(member) != device for member in members):
        return None
    wanted = _in_turn(models, probe)
    try:
        parameters, buffers = stack_module_state(members)
        shell = copy.deepcopy(members[0]).to("meta")

        def one(weights: Any, state: Any, images: Tensor) -> Tensor:
            return functional_call(shell, (weights, state), (images,))

        forward = vmap(one, in_dims=(0, 0, None))
        found = forward(parameters, buffers, probe.to(device))
    except (RuntimeError, ValueError, KeyError, NotImplementedError):  # torch has no error of its own for this
        return None
    own = torch.stack(wanted)
    if found.shape != own.shape or bool((found - own).abs().max() > _ROUNDING * own.abs().max().clamp_min(1)):
        return None
    return lambda images: forward(parameters, buffers, images.to(device))
