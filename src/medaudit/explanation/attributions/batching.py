"""Asking a model in batches that fit: values, gradients, and random numbers that no batch changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError

Scalar = Callable[..., Tensor]
"""What is explained: (n, ...) to (n,). One with ``by_row`` set also takes ``rows``, (n,) of which image each is."""

MEGABYTES = 64.0
"""What activations of one batch may take on a CPU, where nobody said how many rows to ask at once: more is slower."""
MOST = 512.0
"""What they may take there where it needs more for a batch of 8."""


def scalar(f: Scalar, x: Tensor, rows: Tensor) -> Tensor:
    """Return (n,): ``f`` at ``x`` (n, ...), each a version of the image that ``rows`` (n,) says.

    Raises DataError where ``f`` returns anything but one number a row.
    """
    out = f(x, rows) if getattr(f, "by_row", False) else f(x)
    if isinstance(out, Tensor) and out.shape == (len(x), 1):
        out = out[:, 0]
    if not isinstance(out, Tensor) or out.shape != (len(x),):
        what = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise DataError(f"what is to be explained has {what} of {len(x)} rows; expected one number a row, ({len(x)},)")
    return out


def values(f: Scalar, x: Tensor, rows: Tensor | None = None, *, at_once: int | None = None) -> Tensor:
    """Return (n,) float64 on the CPU, without gradients."""
    which = every(x) if rows is None else rows
    found = torch.empty(len(x), dtype=torch.float64)
    step = at_once or rows_at_once(f, x, which, gradients=False)

    def ask(start: int, stop: int) -> None:
        with torch.inference_mode():
            found[start:stop] = scalar(f, x[start:stop], which[start:stop]).double().cpu()

    in_batches(ask, len(x), step)
    return finite(found, "the model's answer")


def slopes(f: Scalar, x: Tensor, rows: Tensor) -> Tensor:
    """Return the derivative of ``f`` at each of ``x`` (n, ...), of its shape, in one batch.

    Raises UsageError where ``f`` has no gradient.
    """
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        out = scalar(f, at, rows)
        if not out.requires_grad:
            raise UsageError("the model has no gradient to its input; expected one made of differentiable steps of "
                             "torch, or a method that only asks for outputs")  # fmt: skip
        return torch.autograd.grad(out.sum(), at)[0]


def in_batches(ask: Callable[[int, int], None], total: int, at_once: int) -> None:
    """Call ``ask(start, stop)`` over 0 to ``total``; a batch that does not fit the accelerator is halved."""
    if at_once < 1:
        raise UsageError(f"at_once is {at_once}; expected 1 row or more")
    start = 0
    while start < total:
        stop = min(start + at_once, total)
        try:
            ask(start, stop)
        except torch.OutOfMemoryError:
            if stop - start == 1:
                raise
            at_once = (stop - start) // 2
            torch.cuda.empty_cache()
            continue
        start = stop


def rows_at_once(
    f: Scalar, x: Tensor, rows: Tensor | None = None, *, gradients: bool, megabytes: float | None = None
) -> int:  # fmt: skip
    """Return how many rows to ask in one batch: as many as the budget holds, by what two rows keep beyond one.

    The budget is 64 MB on a CPU, whose caches hold no more (for 8 rows up to 512 MB), and a quarter of what is free on
    an accelerator; at most 128 and 512 rows.

    What is kept for gradients is counted, also where none are wanted: then it is more than what is held at one time.
    Where nothing is kept that can be seen (weights that are frozen, a model that is no part of torch), 64 times the
    input is assumed.
    """
    which = every(x) if rows is None else rows
    if len(x) == 0:
        return 1
    pair, whose = torch.cat([x[:1], x[:1]]), torch.cat([which[:1], which[:1]])
    more = _kept(f, pair, whose, gradients) - _kept(f, pair[:1], whose[:1], gradients)
    own = x[:1].numel() * x.element_size()
    a_row = max(more, own) if more > 0 else 64 * own
    limit = 128 if x.device.type == "cpu" else 512
    if megabytes is not None:
        budget = megabytes * 2**20
    elif x.device.type == "cuda":
        budget = torch.cuda.mem_get_info(x.device)[0] / 4
    else:
        budget = max(MEGABYTES * 2**20, min(8 * a_row, MOST * 2**20))
    return int(max(1, min(limit, budget // a_row)))


def _kept(f: Scalar, x: Tensor, rows: Tensor, gradients: bool) -> int:
    """Return the bytes of distinct storages that autograd keeps."""
    storages: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        out = scalar(f, x.detach().clone().requires_grad_(gradients), rows)
    del out
    return sum(storages.values())


def every(x: Tensor) -> Tensor:
    """Return (N,): 0, 1, ... on the device of ``x``."""
    return torch.arange(len(x), device=x.device)


def finite(found: Tensor, what: str) -> Tensor:
    """Return ``found`` (..., N or n); DataError naming the first place where it is not finite."""
    if not torch.isfinite(found).all():
        where = torch.nonzero(~torch.isfinite(found))[0].tolist()
        raise DataError(f"{what} is not finite at {where}; expected finite numbers: are the weights and the inputs?")
    return found


def generator(seed: int, row: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return an image's own stream: what is drawn for it depends on no other image and on no batch."""
    state = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
