"""MC dropout: the same net several times, each time with other features dropped (Gal & Ghahramani, ICML 2016)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.ensemble import softmax_of
from medaudit.uncertainty.outputs import device_of, evaluating

_WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
_ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_KINDS = (nn.Dropout, *_WHOLE_CHANNELS, nn.AlphaDropout)
_SELU_FLOOR = -1.7580993408473766
"""What SELU tends to far below 0, -lambda alpha: alpha dropout puts a dropped feature there, not at 0."""
_FIRST = 4
"""How many passes are made before the order of cases is looked at for the first time."""


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
    holds all of the net's dropout and whose output are the logits; what comes before it then runs once. Where the net
    has such a module it is found. ``tolerance``, from 0 to 1: stop after 4, 8, 16, ... passes when Kendall's tau
    between the total uncertainty after half of them and after all of them exceeds it; ``batches`` are then read again
    for each doubling, or, where they are an iterator, all passes are made and the first are returned.

    Raises DataError where the net has no dropout module, all its rates are 0, or no pass differs from another, as where
    dropout is called as a function: such passes have no epistemic part, whatever the case. Functional dropout beside
    dropout modules stays off, unseen. Raises UsageError for fewer than two passes or a head that is none.
    """
    layers = _layers(model)
    if passes < 2:
        raise UsageError(f"{passes} passes; expected 2 or more")
    if tolerance is not None and not 0 < tolerance < 1:
        raise UsageError(f"a tolerance of {tolerance}; expected a Kendall's tau between 0 and 1, such as 0.995")
    if head is not None and not _holds(head, layers):
        raise UsageError("the head does not hold all of the net's dropout; leave it out, and the whole net is repeated")
    if tolerance is None or isinstance(batches, Iterator):
        draws = _draws(model, head, layers, batches, range(passes), seed)
    else:
        draws = _draws(model, head, layers, batches, range(min(_FIRST, passes)), seed)
        while len(draws) < passes and not _stable(draws, tolerance):
            more = range(len(draws), min(2 * len(draws), passes))
            draws = np.concatenate([draws, _draws(model, head, layers, batches, more, seed)])
    if np.ptp(draws, axis=0).max() == 0:
        raise DataError(
            f"{len(draws)} passes of {type(model).__name__} gave the same numbers: its dropout modules do not act on "
            "the logits (dropout called as a function cannot be switched on); use nn.Dropout modules that the net runs"
        )
    return draws if tolerance is None else draws[: enough(draws, tolerance)]


def enough(draws: np.ndarray, tolerance: float) -> int:
    """Return after how many of the draws (T, N, C) the order of cases by total uncertainty is stable."""
    t = _FIRST
    while t < len(draws) and not _stable(draws[:t], tolerance):
        t *= 2
    return min(t, len(draws))


def _stable(draws: np.ndarray, tolerance: float) -> bool:
    if len(draws) < _FIRST:
        return False
    half, whole = (decompose(draws[:t]).total for t in (len(draws) // 2, len(draws)))
    return bool(kendalltau(half, whole).statistic > tolerance)


def _layers(model: nn.Module) -> list[Any]:
    """Return the net's dropout layers that drop anything."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, _KINDS)]
    if not layers:
        raise DataError(
            f"{type(model).__name__} has no dropout module, so every pass would be the same; MC dropout "
            "needs nn.Dropout, Dropout1d/2d/3d or AlphaDropout in it (dropout called as a function cannot be turned on)"
        )
    dropping = [layer for layer in layers if layer.p > 0]
    if not dropping:
        raise DataError(f"all {len(layers)} dropout layers of {type(model).__name__} have rate 0: passes cannot differ")
    return dropping


def _holds(head: nn.Module, layers: Sequence[nn.Module]) -> bool:
    return {id(layer) for layer in layers} <= {id(module) for module in head.modules()}


def _draws(
    model: nn.Module, head: nn.Module | None, layers: list[Any], batches: Iterable[Tensor], passes: range, seed: int
) -> np.ndarray:
    device = device_of(model)
    found: list[list[np.ndarray]] = [[] for _ in passes]
    first = 0
    with evaluating(model), torch.no_grad():
        for images in batches:
            images = images.to(device)
            if first == 0:
                head = _checked_head(model, head, layers, images[:1])
            for kept, logits in zip(found, _passes(model, head, layers, images, passes, seed, first), strict=True):
                kept.append(softmax_of(logits, model))
            first += len(images)
    if first == 0:
        raise DataError("no batch of images was given")
    return np.stack([np.concatenate(one) for one in found])


def _passes(
    model: nn.Module, head: nn.Module | None, layers: list[Any], images: Tensor, passes: range, seed: int, first: int
) -> Iterator[Tensor]:
    """Yield the logits of each pass; with a head, what comes before it runs only once."""
    run: Callable[[], Tensor] = lambda: model(images)
    if head is not None:
        with _watched([head]) as seen:
            model(images)
        inputs = seen[0][1]
        run = lambda: head(inputs.clone())  # a clone: the head may work in place
    for t in passes:
        with _masked(layers, seed, t, first):
            yield run()


def _checked_head(model: nn.Module, head: nn.Module | None, layers: list[Any], images: Tensor) -> nn.Module | None:
    """Return the smallest module that may be repeated in place of the net, or None; UsageError for a wrong one."""
    if head is not None and all(module is not head for module in model.modules()):
        raise UsageError(f"the head, a {type(head).__name__}, is not part of the model, a {type(model).__name__}")
    inside = [module for module in model.modules() if module is not model and _holds(module, layers)]
    candidates = inside if head is None else [head]
    with _watched(candidates) as seen:
        logits = model(images)
    # Modules come outermost first; all that hold the same layers lie within each other.
    for candidate in candidates[::-1]:
        inputs = [one for module, one in seen if module is candidate]
        if len(inputs) == 1 and inputs[0] is not None:
            again = candidate(inputs[0].clone())
            if isinstance(again, Tensor) and _same(again, logits):
                return candidate
    if head is not None:
        raise UsageError(
            f"the head, a {type(head).__name__}, does not make the logits from one input; leave it out, and the whole "
            "net is repeated"
        )
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, equal_nan=True)


@contextmanager
def _watched(modules: Sequence[nn.Module]) -> Iterator[list[tuple[nn.Module, Any]]]:
    """Return a list that grows by (module, its input) a call; the input is None where it is not one tensor."""
    seen: list[tuple[nn.Module, Any]] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        one = len(inputs) == 1 and not named and isinstance(inputs[0], Tensor)
        seen.append((module, inputs[0].clone() if one else None))

    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _masked(layers: list[Any], seed: int, t: int, first: int) -> Iterator[None]:
    """Let each dropout layer drop by a mask of its own; hooks are removed whatever happens."""
    calls: Counter[int] = Counter()

    def hook(number: int) -> Callable[..., Tensor]:
        def drop(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            # In eval mode a dropout layer returns its input. One that runs at several places drops anew at each.
            call, x = calls[number], output
            calls[number] += 1
            shape = x.shape[1:2] if isinstance(layer, _WHOLE_CHANNELS) else x.shape[1:]
            flat = _kept(seed, t, number, first, len(x), int(np.prod(shape)), layer.p, call)
            kept = torch.from_numpy(flat).to(x.device).reshape(len(x), *shape)
            return _dropped(layer, x, kept.reshape(*kept.shape, *(1,) * (x.ndim - kept.ndim)))

        return drop

    handles = [layer.register_forward_hook(hook(number)) for number, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _dropped(layer: Any, x: Tensor, kept: Tensor) -> Tensor:
    """Return ``x`` where it is kept, scaled so that its mean (and, for alpha dropout, its variance) stays."""
    rate = layer.p
    if rate >= 1:
        return torch.zeros_like(x)
    if not isinstance(layer, _ALPHA):
        return x * kept / (1 - rate)
    # Klambauer et al., NeurIPS 2017, section 3: an affine map brings mean 0 and variance 1 back.
    scale = ((1 - rate) * (1 + rate * _SELU_FLOOR**2)) ** -0.5
    return scale * (torch.where(kept, x, _SELU_FLOOR) - rate * _SELU_FLOOR)


def _kept(seed: int, t: int, layer: int, first: int, cases: int, size: int, rate: float, call: int = 0) -> np.ndarray:
    """Return what is kept, bool (cases, size). A counter-based hash: no state, so any order and any batches."""
    key = np.random.SeedSequence((seed, t, layer, call)).generate_state(1, np.uint64)[0]
    case = (np.arange(first, first + cases, dtype=np.uint64) + np.uint64(1))[:, None]
    with np.errstate(over="ignore"):
        x = _mixed(key ^ _mixed(case)) + np.arange(size, dtype=np.uint64)[None] * np.uint64(0x9E3779B97F4A7C15)
    uniform = (_mixed(x) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform >= rate


def _mixed(x: np.ndarray) -> np.ndarray:
    """Return a 64-bit finaliser of ``x`` (SplitMix64; Steele et al. 2014): neighbours become unrelated."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
