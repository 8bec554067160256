"""Deep ensembles: several nets, trained alike from other seeds (Lakshminarayanan et al., NeurIPS 2017)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.outputs import device_of, evaluating


def ensemble(models: Sequence[nn.Module], batches: Iterable[Tensor], vectorised: bool = False) -> np.ndarray:
    """Return softmax probabilities (M, N, C), float64, of all members.

    ``vectorised``: one forward pass over stacked weights (``torch.func``) instead of one a member, where the members
    are of one architecture; else, and where an operation cannot be vectorised, they run in turn, to the same numbers up
    to rounding. Raises UsageError for fewer than two members, DataError where two members have the same weights.
    """
    if len(models) < 2:
        raise UsageError(f"an ensemble of {len(models)}; expected 2 members or more")
    if ensemble_kind(models) == "identical":
        raise DataError(
            "members of the ensemble have the same weights: they cannot disagree; train them from other seeds"
        )
    run = _vectorised(models) if vectorised else None
    found: list[np.ndarray] = []
    with torch.no_grad():
        for images in batches:
            device = device_of(models[0])
            logits = _forward(models, images.to(device), run)
            found.append(torch.softmax(logits.double(), dim=-1).cpu().numpy())
    if not found:
        raise DataError("no batch of images was given")
    return np.concatenate(found, axis=1)


def ensemble_kind(models: Sequence[nn.Module]) -> str:
    """Return ``deep``, ``head`` where some weights are shared by all members, or ``identical`` where two are the same.

    An ensemble of heads on one trunk knows only what the heads disagree on: it must not be called a deep ensemble.
    """
    states = [dict(model.named_parameters()) for model in models]
    same_names = all(list(state) == list(states[0]) for state in states)
    if not same_names:
        return "deep"
    alike = lambda a, b, name: a[name].shape == b[name].shape and bool(torch.equal(a[name], b[name]))
    for i, a in enumerate(states):
        if any(all(alike(a, b, name) for name in a) for b in states[i + 1 :]):
            return "identical"
    # Biases and norms start alike from every seed and may stay alike in a dead layer: only weights of 2 axes count.
    heavy = [name for name, value in states[0].items() if value.ndim >= 2]
    shared = [name for name in heavy if all(alike(states[0], other, name) for other in states[1:])]
    return "head" if shared else "deep"


def _forward(models: Sequence[nn.Module], images: Tensor, run: Any) -> Tensor:
    if run is not None:
        return run(images)
    logits = []
    for model in models:
        with evaluating(model):
            logits.append(model(images))
    return torch.stack(logits)


def _vectorised(models: Sequence[nn.Module]) -> Any:
    """Return images -> logits (M, n, C) in one pass, or None where the members cannot be stacked."""
    members = [copy.deepcopy(model).eval() for model in models]
    if any(type(member) is not type(members[0]) for member in members):
        return None
    try:
        parameters, buffers = stack_module_state(members)
    except (RuntimeError, ValueError, KeyError):
        return None
    shell = copy.deepcopy(members[0]).to("meta")

    def one(weights: Any, state: Any, images: Tensor) -> Tensor:
        return functional_call(shell, (weights, state), (images,))

    together = vmap(one, in_dims=(0, 0, None))
    return lambda images: together(parameters, buffers, images)
