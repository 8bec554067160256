"""What in a network breaks which method: found by running it once and looking, not by trusting its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medaudit.errors import UsageError
from medaudit.explanation.attributions import lrp, steps

GRADIENTS = ("derivative", "path-integral", "guided", "deconvolution", "rescale", "gradient-cam", "element-cam",
             "epsilon-rule", "composite-rule", "concept-derivative")  # fmt: skip
HOOKS = "hooks"
"""DeepLIFT and relevance as others have them, by hooks on modules (captum's); those here read the model's steps."""
RELUS = ("guided", "deconvolution", HOOKS)
"""Methods that only reach activations which are modules."""
RELEVANCE = ("epsilon-rule", "composite-rule")
ALL = ("all",)


@dataclass(frozen=True)
class Refusal:
    """One thing in a network that makes some methods wrong."""

    methods: tuple[str, ...]
    """Rules of allocation that it concerns; ``all`` for every one."""
    where: str
    """The module's name, or ``forward``."""
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}; {self.mend}"

    def concerns(self, method: str) -> bool:
        """Return whether it forbids a method."""
        return method in self.methods or self.methods == ALL


def refusals(model: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Refusal, ...]:
    """Return all that is found with inputs ``x`` (N, ...), of which two at most are asked.

    The model is left as it was: also statistics that a model in training mode would have updated.
    """
    some = x[:2].detach()
    found: list[Refusal] = []
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        found.append(
            Refusal(GRADIENTS, type(model).__name__, "hooks do not reach its replicas", "explain model.module")
        )
    if isinstance(model, nn.Module):
        found += _modes(model)
        devices = sorted({str(part.device) for part in (*model.parameters(), *model.buffers())})
        if wrong := [device for device in devices if device != str(x.device)]:
            found.append(Refusal(ALL, "model", f"its weights are on {wrong[0]} and the images on {x.device}",
                                 "move both to one device"))  # fmt: skip
            return tuple(found)
        if any(module.training for module in model.modules() if _changes(module)):
            return tuple(found)  # to ask it would change it
        found += _relevance(model)
    try:
        with torch.no_grad():
            first, second, alone = model(some), model(some), model(some[:1])
    except Exception as error:
        found.append(Refusal(ALL, "forward", f"it fails on these images ({type(error).__name__}: {error})",
                             "give images as the model takes them"))  # fmt: skip
        return tuple(found)
    if not isinstance(first, Tensor):
        what = f"it returns a {type(first).__name__}"
        found.append(Refusal(ALL, "forward", what, "wrap it in a function that returns one tensor"))
        return tuple(found)
    found += _answers(first, second, alone)
    found += _gradient(model, some)
    if isinstance(model, nn.Module):
        found += _steps(model, some)
    return tuple(found)


def refuse(model: Callable[[Tensor], Tensor], x: Tensor, method: str) -> None:
    """Raise UsageError, naming the module and how to mend it, where a method would be wrong for this model."""
    for refusal in refusals(model, x):
        if refusal.concerns(method):
            raise UsageError(f"{method} is refused: {refusal}")


def _changes(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._NormBase)


def _modes(model: nn.Module) -> list[Refusal]:
    found = [
        Refusal(ALL, name or type(module).__name__, f"{type(module).__name__} is in training mode", "call model.eval()")
        for name, module in model.named_modules()
        if _changes(module) and module.training
    ]
    if not found and model.training:
        found.append(Refusal(ALL, type(model).__name__, "the model is in training mode", "call model.eval()"))
    return found


def _relevance(model: nn.Module) -> list[Refusal]:
    plan = steps.read(model)
    mend = "explain by gradients, or rewrite the step"
    known = {name for name, _ in plan.refused}
    return [
        Refusal((*RELEVANCE, "rescale") if name in known else RELEVANCE, name, reason, mend)
        for name, reason in lrp.refused(plan)
    ]


def _answers(first: Tensor, second: Tensor, alone: Tensor) -> list[Refusal]:
    found = []
    if not torch.isfinite(first).all():
        found.append(Refusal(ALL, "forward", "its output is not finite", "look for NaN in the weights and the images"))
        return found
    scale = float(first.abs().max().clamp(min=1e-6))
    if first.shape == second.shape and float((first - second).abs().max()) > 1e-4 * scale:
        found.append(Refusal(ALL, "forward", "it answers the same images differently when asked again",
                             "switch off what is random: dropout with training=self.training"))  # fmt: skip
    elif alone.shape[1:] != first.shape[1:] or float((first[:1] - alone).abs().max()) > 1e-3 * scale:
        found.append(Refusal(ALL, "forward", "its answer for an image depends on what else is in the batch",
                             "use running statistics instead of the batch's"))  # fmt: skip
    return found


def _gradient(model: Callable[[Tensor], Tensor], x: Tensor) -> list[Refusal]:
    mend = "use a method that only asks for outputs"
    try:
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            out = model(at)
            if not out.requires_grad:
                return [Refusal(GRADIENTS, "forward", "its output has no gradient to the input", mend)]
            slope = torch.autograd.grad(out.sum(), at, allow_unused=True)[0]
    except Exception as error:
        return [Refusal(GRADIENTS, "forward", f"its gradient fails ({type(error).__name__}: {error})", mend)]
    if slope is None:
        return [Refusal(GRADIENTS, "forward", "its output has no gradient to the input", mend)]
    if not torch.isfinite(slope).all():
        return [Refusal(GRADIENTS, "forward", "its gradient is not finite", mend)]
    return []


def _steps(model: nn.Module, x: Tensor) -> list[Refusal]:
    """Return what a forward pass does that hooks on modules do not see, or that they trip over."""
    names = {module: name or type(module).__name__ for name, module in model.named_modules()}
    calls: Counter[nn.Module] = Counter()
    stack: list[nn.Module] = []

    def enter(module: nn.Module, args: Any) -> None:
        stack.append(module)
        calls[module] += 1

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        stack.pop()

    handles = [m.register_forward_pre_hook(enter) for m in names] + [m.register_forward_hook(leave) for m in names]
    seen = _Functions(stack)
    try:
        with torch.no_grad(), seen:
            model(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for module, times in calls.items():
        if isinstance(module, _ACTIVATIONS) and times > 1:
            found.append(Refusal((HOOKS,), names[module], f"{type(module).__name__} is used {times} times, of "
                                 "which hooks keep the last", "make one module for each place"))  # fmt: skip
        if getattr(module, "inplace", False) and isinstance(module, _ACTIVATIONS):
            found.append(Refusal(RELUS, names[module], f"{type(module).__name__} works in place, under the hooks that "
                                 "the method needs", "set inplace=False"))  # fmt: skip
    for (place, name), times in seen.functional.items():
        where = names.get(place, "forward") if place is not None else "forward"
        found.append(Refusal(RELUS, where, f"{name} is called {times} times as a function, where hooks do not reach",
                             "use a module for each, such as nn.ReLU()"))  # fmt: skip
    for (place, name), times in seen.in_place.items():
        where = names.get(place, "forward") if place is not None else "forward"
        found.append(Refusal(RELUS, where, f"{name} changes a tensor in place {times} times, under the hooks that the "
                             "method needs", "write a = a + b for a += b"))  # fmt: skip
    return found


_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid,
                nn.Tanh, nn.PReLU, nn.Hardtanh, nn.Mish, nn.Hardswish, nn.Hardsigmoid)  # fmt: skip
_FUNCTIONAL = {"relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "selu", "gelu", "silu", "softplus",
               "sigmoid", "tanh", "clamp", "clamp_min", "maximum", "hardtanh", "mish", "threshold"}  # fmt: skip
_IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "add_", "sub_", "mul_", "div_"}


class _Functions(TorchFunctionMode):
    """Notes functions that are called outside a module which is there for them."""

    def __init__(self, stack: list[nn.Module]) -> None:
        super().__init__()
        self.stack = stack
        self.functional: Counter[tuple[nn.Module | None, str]] = Counter()
        self.in_place: Counter[tuple[nn.Module | None, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        top = self.stack[-1] if self.stack else None
        if not isinstance(top, _ACTIVATIONS) and any(isinstance(arg, Tensor) for arg in args):
            if name in _FUNCTIONAL:
                self.functional[top, name] += 1
            elif name in _IN_PLACE and not isinstance(top, nn.modules.batchnorm._NormBase):
                self.in_place[top, name] += 1
        return func(*args, **(kwargs or {}))
