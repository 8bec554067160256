"""A model read as a graph by torch.fx: each step, functional or not, used once or twice, with what it is.

Relevance and differences to a reference are passed back along it; the model itself is not changed and has no hooks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from medaudit.errors import UsageError


@dataclass(frozen=True, eq=False)
class Plan:
    """A model read as a graph."""

    module: fx.GraphModule
    kinds: dict[fx.Node, str]
    """Of each step: ``weights`` (convolutions, linear layers), ``bend`` (activations), ``norm`` (folded into the layer
    before), ``same`` (dropout), ``move`` (reshaping), ``max`` (pooling), ``share`` (means, sums, linear and without
    weights), ``input``, ``output``, ``none`` (no tensor of the image)."""
    folded: dict[fx.Node, nn.Module]
    """The batch normalisation that follows a layer and belongs to it."""
    refused: tuple[tuple[str, str], ...]
    """(name, reason) of steps that nothing is known of."""
    bent: tuple[tuple[str, str], ...]
    """(name, kind) of activations that are no ReLU: known to DeepLIFT, not to relevance propagation."""

    def check(self, out: Tensor, own: Tensor) -> None:
        """Raise UsageError where the graph's output is not the model's own: something is changed in place elsewhere."""
        if not torch.allclose(out, own, rtol=1e-3, atol=1e-5 * float(own.abs().max())):
            raise UsageError("the model, read step by step, answers otherwise: a step changes in place what another"
                             " one sees; expected inplace=False, and a = a + b for a += b")  # fmt: skip


_WEIGHTS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_RELU = (nn.ReLU, nn.LeakyReLU)
_BENT = (nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.ReLU6, nn.Hardtanh, nn.Mish,
         nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid)  # fmt: skip
_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_MOVE = (nn.Flatten, nn.Unflatten, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_SHARE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
          nn.Upsample)  # fmt: skip
_MODULES = ((_WEIGHTS, "weights"), (_SAME, "same"), (_RELU, "relu"), (_BENT, "bend"), (_MAX, "max"), (_MOVE, "move"),
            (_SHARE, "share"))  # fmt: skip
_FUNCTIONS: dict[Any, str] = {
    F.dropout: "same",
    **dict.fromkeys((F.relu, torch.relu, F.leaky_relu), "relu"),
    **dict.fromkeys((F.gelu, F.silu, F.elu, F.softplus, torch.sigmoid, F.sigmoid, torch.tanh, F.tanh, F.relu6,
                     F.mish, F.hardswish), "bend"),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose,
                     torch.cat, torch.concat, operator.getitem), "move"),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
                     F.adaptive_max_pool3d), "max"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, torch.mean,
                     F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.interpolate), "share"),
}  # fmt: skip
_METHODS = {
    **dict.fromkeys(("relu", "relu_"), "relu"),
    **dict.fromkeys(("sigmoid", "tanh"), "bend"),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous"), "move"
    ),
    **dict.fromkeys(("mean", "add", "add_"), "share"),
    **dict.fromkeys(("size", "dim"), "none"),
}  # fmt: skip


def read(model: nn.Module) -> Plan:
    """Return the model's graph, what to do at each step, and what is refused; it is not changed."""
    one = type(model).__module__.startswith("torch.nn") and not isinstance(model, nn.Sequential)
    try:
        graph = fx.symbolic_trace(_Alone(model) if one else model)
    except Exception as error:
        reason = f"torch.fx cannot read the model ({error}); expected a forward without choices that depend on tensors"
        return Plan(fx.GraphModule(nn.Module(), fx.Graph()), {}, {}, ((type(model).__name__, reason),), ())
    modules = dict(graph.named_modules())
    kinds: dict[fx.Node, str] = {}
    folded: dict[fx.Node, nn.Module] = {}
    refused: list[tuple[str, str]] = []
    bent: list[tuple[str, str]] = []
    for node in graph.graph.nodes:
        kind, reason = _kind(node, modules, kinds)
        if kind == "fold":
            before = node.args[0]
            if len(before.users) == 1 and before.op == "call_module" and _foldable(modules[before.target]):
                folded[before], kind = modules[node.target], "norm"
            else:
                kind = "share"
        kinds[node] = kind
        if reason:
            refused.append((_name(node), reason))
        if kind == "bend":
            module = node.op == "call_module"
            bent.append((_name(node), type(modules[node.target]).__name__ if module else _name(node)))
    return Plan(graph, kinds, folded, tuple(refused), tuple(bent))


class _Alone(nn.Module):
    """A layer of torch by itself, which would be read into its functions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))


def _foldable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _kind(node: fx.Node, modules: dict[str, nn.Module], kinds: dict[fx.Node, str]) -> tuple[str, str]:
    """Return what to do at a node, and why it is refused, if it is."""
    if node.op == "placeholder":
        more = sum(kind == "input" for kind in kinds.values())
        return "input", "the model takes more than one input; expected one" if more else ""
    if node.op == "output":
        one = isinstance(node.args[0], fx.Node)
        return "output", "" if one else "the model returns several things; expected one tensor"
    if all(kinds.get(before) == "none" for before in node.all_input_nodes) and node.op != "call_module":
        return "none", ""  # sizes and sums of these
    if node.op == "call_module":
        module = modules[str(node.target)]
        name = type(module).__name__
        if isinstance(module, _NORMS):
            fixed = not module.training and module.running_mean is not None
            return "fold", "" if fixed else f"{name} takes its statistics from the batch; call model.eval()"
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training:
            return "same", f"{name} is in training mode; call model.eval()"
        padded = getattr(module, "padding_mode", "zeros")
        if padded != "zeros":
            return "weights", f"{name} pads by {padded}; expected zeros"
        kinds_known = [kind for known, kind in _MODULES if isinstance(module, known)]
        return (kinds_known[0], "") if kinds_known else ("none", f"{name} is none of {_KNOWN}")
    if node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
        if node.target is getattr and node.args[1] in ("shape", "ndim"):
            return "none", ""
        if node.target is F.dropout and node.kwargs.get("training", True):
            return "same", "dropout is always on; expected training=self.training"
        kind = _FUNCTIONS.get(node.target, "")
    else:
        name, kind = str(node.target), _METHODS.get(str(node.target), "") if node.op == "call_method" else ""
    if kind == "share" and name in ("add", "iadd", "add_") and not _sum_of_two(node, kinds):
        return "share", "something that is not of the image is added; expected sums of two branches"
    if not kind:
        return "none", f"{name} is none of {_KNOWN}"
    return kind, ""


_KNOWN = "convolutions, linear layers, ReLUs, pooling, batch normalisation, dropout, reshaping and sums of branches"


def _sum_of_two(node: fx.Node, kinds: dict[fx.Node, str]) -> bool:
    parts = node.args[:2]
    return len(parts) == 2 and all(isinstance(p, fx.Node) and kinds.get(p) != "none" for p in parts) and not node.kwargs


class _Recorder(fx.Interpreter):
    """Keeps what every step gives; what works in place works on a copy."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.module, garbage_collect_values=False)

    def run_node(self, n: fx.Node) -> Any:
        if not _in_place(n, self.module):
            return super().run_node(n)
        first = n.args[0]
        assert isinstance(first, fx.Node)
        kept = self.env[first]
        self.env[first] = kept.clone()
        out = super().run_node(n)
        self.env[first] = kept
        return out


def record(plan: Plan, x: Tensor) -> dict[fx.Node, Any]:
    """Return what every step gives for ``x`` (n, ...), without gradients."""
    recorder = _Recorder(plan)
    with torch.no_grad():
        recorder.run(x)
    return recorder.env


def output(plan: Plan) -> fx.Node:
    """Return the step whose result is the model's output."""
    node = next(node for node in plan.module.graph.nodes if node.op == "output").args[0]
    assert isinstance(node, fx.Node)
    return node


def pulled(
    node: fx.Node, plan: Plan, values: dict[fx.Node, Any], seed: Callable[[Tensor], Tensor]
) -> dict[fx.Node, Tensor]:  # fmt: skip
    """Return ``seed`` of a step's output, brought back to each tensor that it takes by the derivative at ``values``."""
    befores = [before for before in node.all_input_nodes if isinstance(values[before], Tensor)]
    with torch.enable_grad():
        leaves = {before: values[before].detach().requires_grad_() for before in befores}
        # A step in place may not change a leaf.
        own = values | {before: leaf * 1 for before, leaf in leaves.items()}
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda before: own[before])
        if node.op == "call_module":
            out = plan.module.get_submodule(str(node.target))(*args, **kwargs)
        elif node.op == "call_method":
            out = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            assert callable(node.target)
            out = node.target(*args, **kwargs)
        slopes = torch.autograd.grad(out, list(leaves.values()), seed(out.detach()))
    return dict(zip(befores, slopes, strict=True))


def _in_place(node: fx.Node, module: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_function":
        return bool(node.kwargs.get("inplace")) or node.target is operator.iadd
    return node.op == "call_method" and str(node.target).endswith("_")
