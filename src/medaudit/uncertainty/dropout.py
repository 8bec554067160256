"""MC dropout: the same net several times, each time with other features dropped (Gal & Ghahramani, ICML 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.outputs import device_of, evaluating, head_inputs

_WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_KINDS = (nn.Dropout, *_WHOLE_CHANNELS)


def mc_dropout(
    model: nn.Module,
    batches: Iterable[Tensor],
    passes: int = 20,
    seed: int = 0,
    head: nn.Module | None = None,
    tolerance: float | None = None,
) -> np.ndarray:
    """Return softmax probabilities (T, N, C), float64, of ``passes`` passes with dropout on and all else in eval mode.

    A mask follows from (``seed``, pass, layer, case), so batch size and company change nothing. ``head``: a module that
    holds all of the net's dropout and whose output are the logits; what comes before it then runs once. ``tolerance``:
    stop when Kendall's tau between the total uncertainty after half of the passes and after all so far exceeds it.

    Raises UsageError where the net has no dropout module (functional dropout is not seen), DataError where all its
    rates are 0: every pass would be the same, and its epistemic part 0 whatever the case.
    """
    layers = [module for module in model.modules() if isinstance(module, _KINDS)]
    others = [m for m in model.modules() if isinstance(m, nn.AlphaDropout | nn.FeatureAlphaDropout)]
    if not layers:
        what = f"; its {type(others[0]).__name__} is not supported" if others else ""
        raise UsageError(
            f"{type(model).__name__} has no dropout module, so every pass would be the same{what}; "
            "MC dropout needs nn.Dropout or Dropout1d/2d/3d in the net (functional dropout cannot be switched on)"
        )
    if not any(layer.p > 0 for layer in layers):
        raise DataError(f"all {len(layers)} dropout layers of {type(model).__name__} have rate 0: passes cannot differ")
    if passes < 2:
        raise UsageError(f"{passes} passes; expected 2 or more")
    if head is not None and not {id(layer) for layer in layers} <= {id(module) for module in head.modules()}:
        raise UsageError("the head does not hold all of the net's dropout; leave it out, and the whole net is repeated")
    device = device_of(model)
    found: list[list[np.ndarray]] = [[] for _ in range(passes)]
    first = 0
    with evaluating(model), torch.no_grad():
        for images in batches:
            for t, logits in enumerate(_passes(model, head, layers, images.to(device), passes, seed, first)):
                found[t].append(torch.softmax(logits.double(), dim=1).cpu().numpy())
            first += len(images)
    if not found[0]:
        raise DataError("no batch of images was given")
    draws = np.stack([np.concatenate(one) for one in found])
    return draws if tolerance is None else draws[: enough(draws, tolerance)]


def enough(draws: np.ndarray, tolerance: float) -> int:
    """Return after how many of the draws (T, N, C) the order of cases by total uncertainty is stable."""
    t = 4
    while t < len(draws):
        half, whole = (decompose(draws[:k]).total for k in (t // 2, t))
        if kendalltau(half, whole).statistic > tolerance:
            return t
        t *= 2
    return len(draws)


def _passes(
    model: nn.Module, head: nn.Module | None, layers: list[Any], images: Tensor, passes: int, seed: int, first: int
) -> Iterator[Tensor]:
    """Yield the logits of each pass; with a head, what comes before it runs only once."""
    run: Callable[[], Tensor] = lambda: model(images)
    if head is not None:
        with head_inputs_raw(model, head) as seen:
            model(images)
        inputs = seen[0]
        run = lambda: head(inputs)
    for t in range(passes):
        with _masked(layers, seed, t, first):
            yield run()


@contextmanager
def head_inputs_raw(model: nn.Module, head: nn.Module) -> Iterator[list[Tensor]]:
    """Return a list that grows by the tensor that enters ``head``, as it is."""
    with head_inputs(model, head):  # checks that the head is part of the model
        pass
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _masked(layers: list[Any], seed: int, t: int, first: int) -> Iterator[None]:
    """Let each dropout layer multiply with a mask of its own; hooks are removed whatever happens."""

    def hook(number: int) -> Callable[..., Tensor]:
        def multiply(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            shape = x.shape[1:2] if isinstance(layer, _WHOLE_CHANNELS) else x.shape[1:]
            kept = _masks(seed, t, number, first, len(x), int(np.prod(shape)), layer.p)
            mask = torch.from_numpy(kept).to(x).reshape(len(x), *shape)
            return x * mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))

        return multiply

    handles = [layer.register_forward_hook(hook(number)) for number, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masks(seed: int, t: int, layer: int, first: int, cases: int, size: int, rate: float) -> np.ndarray:
    """Return inverted-dropout masks (cases, size): 0, or 1 / (1 - rate). A counter-based hash: no state, any order."""
    if rate >= 1:
        return np.zeros((cases, size), dtype=np.float32)
    key = np.random.SeedSequence((seed, t, layer)).generate_state(1, np.uint64)[0]
    case = (np.arange(first, first + cases, dtype=np.uint64) + np.uint64(1))[:, None]
    with np.errstate(over="ignore"):
        x = _mixed(key ^ _mixed(case)) + np.arange(size, dtype=np.uint64)[None] * np.uint64(0x9E3779B97F4A7C15)
    uniform = (_mixed(x) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return ((uniform >= rate) / (1 - rate)).astype(np.float32)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Return a 64-bit finaliser of ``x`` (SplitMix64; Steele et al. 2014): neighbours become unrelated."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
