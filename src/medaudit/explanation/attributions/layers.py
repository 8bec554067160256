"""Explanations that live in one layer (class activation maps), and two that change how ReLUs pass gradients back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.explanation.attributions.batching import Scalar, every, finite, in_batches, rows_at_once, scalar, slopes

CAMS = ("grad-cam", "hires-cam", "layer-cam", "eigen-cam")


def layer_gradients(f: Scalar, x: Tensor, layer: nn.Module, *, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what a layer of the model gives for ``x`` (N, ...), and the derivative of ``f`` to it, in one batch.

    Raises UsageError where the layer is not asked, is asked more than once, returns no tensor, or where ``f`` does not
    depend on it.
    """
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: object, out: object) -> Tensor:
        if not isinstance(out, Tensor):
            raise UsageError(f"the layer returns a {type(out).__name__}; expected a layer that returns one tensor")
        # Cut here: gradients begin at this layer; what follows may change its own copy in place.
        seen.append(out.detach().requires_grad_())
        return seen[-1].clone()

    handle = layer.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            out = scalar(f, x.detach(), every(x) if rows is None else rows)
    finally:
        handle.remove()
    if len(seen) != 1:
        raise UsageError(f"the layer is asked {len(seen)} times for one image; expected a layer that is asked once")
    slope = torch.autograd.grad(out.sum(), seen[0], allow_unused=True)[0] if out.requires_grad else None
    if slope is None:
        raise UsageError("what is explained has no gradient to the layer; expected a layer that it is computed from")
    return seen[0].detach(), slope


def activation_map(
    f: Scalar, x: Tensor, layer: nn.Module, how: str = "grad-cam", *, relu: bool = True,
    reshape: Callable[[Tensor], Tensor] | None = None, rows: Tensor | None = None, at_once: int | None = None,
) -> Tensor:  # fmt: skip
    """Return (N, *spatial of the layer): channels of its activations, weighted and summed; not upsampled.

    ``grad-cam`` weighs a channel by its mean gradient (Selvaraju et al. 2017), ``hires-cam`` each element by its own
    gradient (Draelos & Carin 2020), ``layer-cam`` by what of that is positive (Jiang et al. 2021); ``eigen-cam`` is the
    projection on the first right singular vector of activations, whatever the class (Muhammad & Yeasin 2020), its sign
    such that it sums to 0 or more. ``relu`` keeps what is positive. ``reshape`` makes (N, C, *spatial) of what other
    layers give, as tokens.
    """
    if how not in CAMS:
        raise UsageError(f"the map is {how!r}; expected one of {', '.join(CAMS)}")
    which = every(x) if rows is None else rows
    parts: list[Tensor] = []

    def ask(start: int, stop: int) -> None:
        active, slope = layer_gradients(f, x[start:stop], layer, rows=which[start:stop])
        if reshape is not None:
            active, slope = reshape(active), reshape(slope)
        if active.ndim < 3:
            raise UsageError(f"the layer gives shape {tuple(active.shape)}; expected (N, C, *spatial), or a reshape")
        parts.append(_pooled(active, slope, how))

    in_batches(ask, len(x), at_once or rows_at_once(f, x, which, gradients=True))
    found = finite(torch.cat(parts), "the map")
    return found.clamp(min=0) if relu else found


def upsampled(maps: Tensor, shape: tuple[int, ...], *, smooth: bool = True) -> Tensor:
    """Return maps (N, *spatial) at another shape: linear between, or each cell as it is."""
    mode = ("linear", "bilinear", "trilinear")[maps.ndim - 2] if smooth else "nearest"
    more = {"align_corners": False} if smooth else {}
    return F.interpolate(maps[:, None], shape, mode=mode, **more)[:, 0]


def guided(
    f: Scalar, x: Tensor, model: nn.Module, how: str = "guided", *, rows: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:  # fmt: skip
    """Return (N, ...): the gradient where every ReLU module of ``model`` passes back only what is positive.

    ``guided`` (Springenberg et al. 2015) also stops where the ReLU did; ``deconvolution`` (Zeiler & Fergus 2014) does
    not. Functional and in-place ReLUs are not reached: ``audit.refuse`` finds them.
    """
    which = every(x) if rows is None else rows
    found = torch.empty_like(x)

    def ask(start: int, stop: int) -> None:
        found[start:stop] = slopes(f, x[start:stop], which[start:stop])

    with changed_relus(model, how):
        in_batches(ask, len(x), at_once or rows_at_once(f, x, which, gradients=True))
    return finite(found, "the gradient")


@contextmanager
def changed_relus(model: nn.Module, how: str) -> Iterator[None]:
    """Change how ReLU modules pass gradients back, until the block is left, however it is left."""
    if how not in ("guided", "deconvolution"):
        raise UsageError(f"ReLUs pass back {how!r}; expected guided or deconvolution")

    def back(module: nn.Module, into: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> tuple[Tensor]:
        return ((into if how == "guided" else out)[0].clamp(min=0),)

    modules = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not modules:
        raise UsageError("the model has no ReLU module; expected one for each ReLU")
    handles = [module.register_full_backward_hook(back) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pooled(active: Tensor, slope: Tensor, how: str) -> Tensor:
    if how == "eigen-cam":
        flat = active.flatten(2).movedim(1, 2)
        _, _, right = torch.linalg.svd(flat, full_matrices=False)
        found = (flat @ right[:, 0, :, None])[..., 0]
        found = found * torch.where(found.sum(1, keepdim=True) < 0, -1.0, 1.0)
        return found.reshape(len(active), *active.shape[2:])
    if how == "grad-cam":
        slope = slope.mean(tuple(range(2, slope.ndim)), keepdim=True)
    elif how == "layer-cam":
        slope = slope.clamp(min=0)
    return (slope * active).sum(1)
