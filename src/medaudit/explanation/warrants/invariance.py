"""Do things that must not matter, matter? Reruns, refactored networks, and a shift of the input that is undone.

Implementation invariance (Sundararajan et al., ICML 2017): networks that compute the same must be explained alike. The
refactored ones are built here from the user's: batch normalisation folded into the layer before it, one activation
module for every place or one place for every module, a linear layer as two. Each is checked to give the same scores
before it is used. Input-shift invariance (Kindermans et al. 2017): images plus a constant, which the first layer's bias
takes away again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from medaudit.errors import UsageError
from medaudit.explanation.warrants.maps import rows
from medaudit.explanation.warrants.perturbation import Explain

_LINEAR: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PADS: dict[type, Callable[..., nn.Module]] = {
    nn.Conv1d: nn.ConstantPad1d, nn.Conv2d: nn.ConstantPad2d, nn.Conv3d: nn.ConstantPad3d,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Invariance:
    """How far maps of what is the same are apart."""

    apart: dict[str, np.ndarray]
    """(N,) by variant: length of the difference over the length of the map; 0 is the same."""
    refused: dict[str, str]
    """Variants that the method would not explain, and what it said."""
    missing: dict[str, str]
    """Variants that this model has not, and why."""

    @property
    def worst(self) -> float:
        """The largest of all images and variants; NaN if there is none, infinite if the method refused one."""
        if self.refused:
            return float("inf")
        return float(max((one.max() for one in self.apart.values()), default=float("nan")))


def determinism(explain: Explain, model: Any, x: Tensor, targets: Any = None, *, times: int = 2) -> np.ndarray:
    """Return which images (N,) get the same map bit for bit when it is asked for ``times`` times."""
    first = explain(model, x, targets).detach().flatten(1)
    same = torch.ones(len(x), dtype=torch.bool, device=first.device)
    for _ in range(times - 1):
        again = explain(model, x, targets).detach().flatten(1)
        # Bits: NaN is NaN, and 0 is not -0.
        same &= (_bits(again) == _bits(first)).all(1)
    return same.cpu().numpy()


def implementation_invariance(explain: Explain, model: nn.Module, x: Tensor, targets: Any = None) -> Invariance:
    """Return how far maps of ``model`` are from those of the same function in other modules."""
    models, missing = equivalents(model, x)
    return _apart(explain, model, {name: (other, x) for name, other in models.items()}, x, targets, missing)


def shift_invariance(
    explain: Explain, model: nn.Module, x: Tensor, targets: Any = None, *, shift: float = 1.0
) -> Invariance:  # fmt: skip
    """Return how far maps are from those of images plus ``shift`` (in units of the model's input), that is undone.

    A method whose absence is a fixed value sees it move by the shift: that it fails says that the value matters.
    """
    other = shifted(model, x, shift)
    return _apart(explain, model, {"shift": (other, x + shift)}, x, targets, {})


def equivalents(model: nn.Module, x: Tensor, *, tolerance: float = 1e-4) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return networks that give the scores of ``model`` (checked on ``x``), for evaluation, and why others are missing.

    ``folded``: batch normalisation goes into the layer before it. ``own-activations``: an activation module that is
    used at several places becomes one each. ``one-activation``: all activation modules of a kind become one.
    ``factored``: each linear layer becomes two.
    """
    model = copy.deepcopy(model).eval()
    wanted = _output(model, x)
    found: dict[str, nn.Module] = {}
    missing: dict[str, str] = {}
    for name, build in _BUILDERS.items():
        try:
            made = build(copy.deepcopy(model), x)
        except Exception as error:  # torch.fx fails in as many ways as models are written
            missing[name] = f"cannot be built: {type(error).__name__}"
            continue
        if made is None:
            missing[name] = "nothing to change"
            continue
        made.eval()
        apart = float((_output(made, x) - wanted).norm() / wanted.norm().clamp(min=1e-12))
        if apart > tolerance:
            missing[name] = f"its scores differ by {apart:.1e}"
            continue
        found[name] = made
    return found, missing


def shifted(model: nn.Module, x: Tensor, shift: float) -> nn.Module:
    """Return a network that gives for ``x + shift`` what ``model`` gives for ``x``.

    The first layer, where it is linear, gets another bias, and a padding of ``shift`` where it padded with zeros; else
    a layer that subtracts comes first.
    """
    model = copy.deepcopy(model).eval()
    wanted = _output(model, x)
    name = _first(model, x)
    if name is not None:
        changed = _set(copy.deepcopy(model), name, _without_shift(dict(model.named_modules())[name], shift))
        again = _output(changed, x + shift)
        if torch.allclose(again, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
            return changed
    return nn.Sequential(Subtract(shift), model)


class Subtract(nn.Module):
    """Subtract a constant."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """Return x less the constant."""
        return x - self.shift


def _apart(
    explain: Explain, model: nn.Module, others: dict[str, tuple[nn.Module, Tensor]], x: Tensor, targets: Any,
    missing: dict[str, str],
) -> Invariance:  # fmt: skip
    own = rows(explain(model, x, targets))
    length = np.sqrt(np.square(own).sum(1))
    apart, refused = {}, {}
    for name, (other, images) in others.items():
        try:
            there = rows(explain(other, images, targets))
        except Exception as error:  # what a method cannot explain is a finding, not the end of the test
            refused[name] = f"{type(error).__name__}: {error}"
            continue
        far = np.sqrt(np.square(there - own).sum(1))
        apart[name] = np.where(far == 0, 0.0, np.divide(far, length, out=np.full(len(far), np.inf), where=length > 0))
    return Invariance(apart, refused, missing)


def _bits(maps: Tensor) -> Tensor:
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return maps.contiguous().view(kinds[maps.element_size()])


def _output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(x)
    if not isinstance(out, Tensor):
        raise UsageError(f"the model returns {type(out).__name__}; expected a tensor of scores")
    return out.double()


def _set(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put a module in the place of another, everywhere it stands."""
    old = dict(model.named_modules())[name]
    if old is model:
        return module
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):  # named_children() leaves out what stands there twice
            if child is old:
                setattr(parent, key, module)
    return model


def _called(model: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[tuple[str, nn.Module, int, int]]:
    """Return name, module and the addresses of the input and output objects of each call of modules of these kinds."""
    names = {module: name for name, module in model.named_modules()}
    calls: list[tuple[str, nn.Module, int, int]] = []
    alive: list[Any] = []  # an address is only one's own while it is in use

    def hook(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        alive.extend([given, out])
        calls.append((names[module], module, id(given[0]) if given else 0, id(out)))

    held = [module.register_forward_hook(hook) for module in names if isinstance(module, kinds)]
    try:
        _output(model, x)
    finally:
        for one in held:
            one.remove()
    return calls


def _first(model: nn.Module, x: Tensor) -> str | None:
    """Return the name of the only linear layer that takes the image itself, None if there is none or more."""
    found = [name for name, _, given, _ in _called(model, x, _LINEAR) if given == id(x)]
    return found[0] if len(found) == 1 else None


def _without_shift(layer: nn.Module, shift: float) -> nn.Module:
    """Return a linear layer that gives for its input plus ``shift`` what it gave."""
    new: Any = copy.deepcopy(layer)
    taken = new.weight.detach().double().flatten(1).sum(1) * shift
    old = taken.new_zeros(len(taken)) if new.bias is None else new.bias.detach()
    new.bias = nn.Parameter((old.double() - taken).to(new.weight))
    if isinstance(layer, nn.Linear):
        return new
    padded = isinstance(new.padding, str) or any(new.padding)
    if new.padding_mode != "zeros" or not padded:
        return new
    # As torch counts: from the last axis on, before and after.
    pads = [int(p) for p in new._reversed_padding_repeated_twice]
    new.padding = tuple(0 for _ in new.kernel_size)
    new._reversed_padding_repeated_twice = [0] * len(pads)
    return nn.Sequential(_PADS[type(layer)](tuple(pads), shift), new)


def _folded(model: nn.Module, x: Tensor) -> nn.Module | None:
    # One pass for both, so that what a layer gave is known by its address when a normalisation takes it.
    calls = _called(model, x, _LINEAR + _NORMS)
    made = {out: (name, module) for name, module, _, out in calls if isinstance(module, _LINEAR)}
    plan: list[tuple[str, Any, str, Any]] = [
        (*made[given], name, norm)
        for name, norm, given, _ in calls
        if isinstance(norm, _NORMS) and norm.track_running_stats and given in made
    ]
    for first, linear, second, norm in plan:
        scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
        if norm.affine:
            scale = scale * norm.weight.detach().double()
        offset = -norm.running_mean.double() * scale + (norm.bias.detach().double() if norm.affine else 0)
        new = copy.deepcopy(linear)
        bias = 0 if linear.bias is None else linear.bias.detach().double()
        new.bias = nn.Parameter((bias * scale + offset).to(linear.weight))
        new.weight = nn.Parameter(
            (linear.weight.detach().double() * scale.reshape(-1, *[1] * (linear.weight.ndim - 1))).to(linear.weight)
        )
        _set(_set(model, first, new), second, nn.Identity())
    return model if plan else None


def _own_activations(model: nn.Module, _: Tensor) -> nn.Module | None:
    traced = fx.symbolic_trace(model)
    modules = dict(traced.named_modules())
    seen: set[int] = set()
    changed = False
    for number, node in enumerate(list(traced.graph.nodes)):
        if node.op != "call_module" or not isinstance(modules[node.target], _ACTIVATIONS):
            continue
        module = modules[node.target]
        if id(module) in seen:
            name = f"own_activation_{number}"
            traced.add_submodule(name, copy.deepcopy(module))
            node.target = name
            changed = True
        seen.add(id(module))
    traced.recompile()
    return traced if changed else None


def _one_activation(model: nn.Module, _: Tensor) -> nn.Module | None:
    kept: dict[str, nn.Module] = {}
    changed = False
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if isinstance(child, _ACTIVATIONS):
                one = kept.setdefault(repr(child), child)
                changed |= one is not child
                setattr(parent, key, one)
    return model if changed else None


def _factored(model: nn.Module, _: Tensor) -> nn.Module | None:
    found = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    for name, linear in found:
        # Rows or columns, whichever are fewer, pass an orthogonal matrix and come back.
        weight = linear.weight.detach().double()
        q, r = torch.linalg.qr(weight)
        first, second = nn.Linear(r.shape[1], r.shape[0], bias=False), nn.Linear(q.shape[1], q.shape[0])
        first, second = first.to(linear.weight), second.to(linear.weight)
        with torch.no_grad():
            first.weight.copy_(r)
            second.weight.copy_(q)
            second.bias.copy_(torch.zeros_like(second.bias) if linear.bias is None else linear.bias)
        model = _set(model, name, nn.Sequential(first, second))
    return model if found else None


_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh)
_BUILDERS: dict[str, Callable[[nn.Module, Tensor], nn.Module | None]] = {
    "folded": _folded, "own-activations": _own_activations, "one-activation": _one_activation, "factored": _factored,
}  # fmt: skip
