"""Layer-wise relevance propagation: what the output is, shared out backwards, layer by layer, by a rule for each.

The model is read as a graph by torch.fx, so that functional steps and modules used twice are seen as they are; what no
rule is known for is refused by name. Rules: Bach et al. 2015 (epsilon, alpha-beta), Montavon et al. 2017 (z-plus and
box: deep Taylor decomposition) and 2019 (gamma, composites), Lapuschkin et al. 2019 (flat); the gamma of layers whose
input has either sign is that of Andéol et al. 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.explanation.attributions.batching import every, finite, in_batches, rows_at_once
from medaudit.explanation.attributions.explananda import Bound
from medaudit.explanation.attributions.steps import Plan, output, pulled, read, record

RULES = ("epsilon", "gamma", "alpha-beta", "z-plus", "flat", "box")


@dataclass(frozen=True, eq=False)
class Rule:
    """How one layer with weights shares out the relevance of what it gives."""

    name: str = "epsilon"
    epsilon: float = 1e-6
    """Added to denominators, with their sign; the epsilon rule's own parameter."""
    gamma: float = 0.25
    alpha: float = 2.0
    """Beta is alpha - 1."""
    bias: bool = True
    """Whether biases take a share, which is lost; without, relevance is conserved (gamma, alpha-beta, z-plus)."""
    low: Tensor | float = 0.0
    """The least that inputs can be, in the unit of the model's input, to be broadcast (box)."""
    high: Tensor | float = 1.0

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise UsageError(f"the rule is {self.name!r}; expected one of {', '.join(RULES)}")
        if not (self.epsilon >= 0 and self.gamma >= 0 and self.alpha >= 1):
            raise UsageError(f"epsilon {self.epsilon}, gamma {self.gamma}, alpha {self.alpha}; expected 0 or more, 0 "
                             "or more, and 1 or more")  # fmt: skip


RuleOf = Callable[[str, nn.Module, bool], Rule]
"""(name, module, whether it sees the input) to the rule of a layer with weights."""


def uniform(rule: Rule) -> RuleOf:
    """Return the same rule for every layer."""
    return lambda name, module, first: rule


def composite(name: str, *, epsilon: float = 1e-6, low: Tensor | float = 0.0, high: Tensor | float = 1.0) -> RuleOf:
    """Return one of the usual composites: epsilon for linear layers, and for convolutions and the first layer

    ``epsilon-plus`` z-plus, ``epsilon-plus-flat`` z-plus and flat, ``epsilon-gamma-box`` gamma 0.25 and box,
    ``epsilon-alpha2-beta1-flat`` alpha 2, beta 1 and flat.
    """
    ways = {
        "epsilon-plus": ("z-plus", None),
        "epsilon-plus-flat": ("z-plus", "flat"),
        "epsilon-gamma-box": ("gamma", "box"),
        "epsilon-alpha2-beta1-flat": ("alpha-beta", "flat"),
    }
    if name not in ways:
        raise UsageError(f"the composite is {name!r}; expected one of {', '.join(ways)}")
    inner, outer = ways[name]

    def of(layer: str, module: nn.Module, first: bool) -> Rule:
        if first and outer is not None:
            return Rule(outer, low=low, high=high)
        return Rule("epsilon", epsilon=epsilon) if isinstance(module, nn.Linear) else Rule(inner)

    return of


def lrp(
    f: Bound, x: Tensor, rule: Rule | RuleOf | None = None, *, rows: Tensor | None = None, at_once: int | None = None
) -> Tensor:  # fmt: skip
    """Return (N, ...), of the shape of ``x``: the relevance of each input to what is explained.

    Batch normalisation is folded into the layer before it where that is all that sees it, and else is a layer of its
    own by the epsilon rule, as are pooling by means and additions; max pooling gives all to the winner. With the
    epsilon rule alone, a small epsilon and ReLUs it is the input times the gradient.

    Raises UsageError for layers that no rule is known for, for models that torch.fx cannot read, and where what is
    explained is no linear function of the model's output (a probability): explain a logit or a margin.
    """
    if not f.linear:
        raise UsageError(f"relevance is shared out of a linear function of outputs, and {f.explanandum.kind} is none; "
                         "expected logit, margin, mask-sum or score")  # fmt: skip
    if not isinstance(f.model, nn.Module):
        raise UsageError("relevance needs the model's layers; expected a torch module")
    plan = read(f.model)
    if reasons := refused(plan):
        raise UsageError("no rule of relevance is known for {}: {}".format(*reasons[0]))
    rule_of = uniform(rule or Rule()) if rule is None or isinstance(rule, Rule) else rule
    which = every(x) if rows is None else rows
    found = torch.empty_like(x)

    def ask(start: int, stop: int) -> None:
        found[start:stop] = _relevance(plan, f, x[start:stop], which[start:stop], rule_of)

    in_batches(ask, len(x), at_once or rows_at_once(f, x, which, gradients=True))
    return finite(found, "the relevance")


def refused(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return (name, reason) of the steps of a model that no rule of relevance is known for."""
    return plan.refused + tuple((name, f"{kind} is no ReLU, and bends what it is given") for name, kind in plan.bent)


Give = Callable[[Any, Tensor], None]


def _relevance(plan: Plan, f: Bound, x: Tensor, rows: Tensor, rule_of: RuleOf) -> Tensor:
    env = record(plan, x)
    end = output(plan)
    with torch.no_grad():
        plan.check(env[end], f.model(x))
    with torch.enable_grad():
        at = env[end].detach().requires_grad_()
        slope = torch.autograd.grad(f.read(at, rows).sum(), at)[0]
    relevance: dict[fx.Node, Tensor] = {end: slope * at.detach()}

    def give(node: Any, share: Tensor) -> None:
        if plan.kinds[node] != "none":
            relevance[node] = relevance[node] + share if node in relevance else share

    found = torch.zeros_like(x)
    for node in reversed(plan.module.graph.nodes):
        kind = plan.kinds[node]
        if kind in ("none", "output") or node not in relevance:
            continue
        own = relevance.pop(node)
        if kind == "input":
            found = own
        elif kind in ("relu", "same", "norm"):
            give(node.args[0], own)
        elif kind == "weights":
            module, before = plan.module.get_submodule(str(node.target)), node.args[0]
            rule = rule_of(str(node.target), module, _first(before, plan))
            give(before, _through(module, plan.folded.get(node), env[before], own, rule))
        else:
            _shared(node, plan, env, own, give)
    return found


def _first(node: Any, plan: Plan) -> bool:
    """Return whether what a layer sees is the input, if reshaped."""
    while plan.kinds[node] in ("move", "same") and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return plan.kinds[node] == "input"


def _shared(node: fx.Node, plan: Plan, env: dict[fx.Node, Any], own: Tensor, give: Give) -> None:
    """Share out over all that a linear step takes, in proportion to what each brought in; moves bring all of it."""
    moved = plan.kinds[node] in ("move", "max")
    values = {before: env[before] for before in node.all_input_nodes}
    slopes = pulled(node, plan, values, lambda out: own if moved else own / _off_zero(out, 1e-9))
    for before, slope in slopes.items():
        give(before, slope if moved else slope * env[before])


def _through(module: Any, norm: nn.Module | None, a: Tensor, own: Tensor, rule: Rule) -> Tensor:
    """Return the relevance (n, ...) of a layer's input ``a``, given that of its output."""
    weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
    if norm is not None:
        weight, bias = _folded(weight, bias, norm)

    def go(a: Tensor, w: Tensor) -> Tensor:
        return _apply(module, a, w)

    def back(w: Tensor, s: Tensor) -> Tensor:
        with torch.enable_grad():
            at = torch.zeros_like(a).requires_grad_()
            return torch.autograd.grad(go(at, w), at, s)[0]

    def beside(b: Tensor | None, z: Tensor) -> Tensor | float:
        if b is None:
            return 0.0
        return b if isinstance(module, nn.Linear) else b.reshape(-1, *([1] * (z.ndim - 2)))

    eps = rule.epsilon
    if rule.name == "flat":
        ones = torch.ones_like(weight)
        return back(ones, own / go(torch.ones_like(a), ones))
    if rule.name == "epsilon":
        z = go(a, weight)
        return a * back(weight, own / _off_zero(z + beside(bias, z), eps))
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    if rule.name == "box":
        low, high = (torch.as_tensor(end).to(a).expand_as(a) for end in (rule.low, rule.high))
        s = own / _off_zero(go(a, weight) - go(low, up) - go(high, down), eps)
        return a * back(weight, s) - low * back(up, s) - high * back(down, s)
    pos, neg = a.clamp(min=0), a.clamp(max=0)
    signed = bool((neg < 0).any())
    z_up, z_down = go(pos, up), go(pos, down)
    if signed:
        z_up, z_down = z_up + go(neg, down), z_down + go(neg, up)
    b_up = beside(bias.clamp(min=0), z_up) if bias is not None and rule.bias else 0.0
    b_down = beside(bias.clamp(max=0), z_up) if bias is not None and rule.bias else 0.0

    def gain(s: Tensor) -> Tensor:
        return pos * back(up, s) + (neg * back(down, s) if signed else 0)

    def loss(s: Tensor) -> Tensor:
        return pos * back(down, s) + (neg * back(up, s) if signed else 0)

    if rule.name == "gamma":
        whole = z_up + b_up + z_down + b_down
        over = whole >= 0
        s = own / _off_zero(whole + rule.gamma * torch.where(over, z_up + b_up, z_down + b_down), eps)
        s_up, s_down = torch.where(over, s, 0), torch.where(over, 0, s)
        return gain(s) + loss(s) + rule.gamma * (gain(s_up) + loss(s_down))
    alpha = 1.0 if rule.name == "z-plus" else rule.alpha
    found = alpha * gain(own / _off_zero(z_up + b_up, eps))
    return found if alpha == 1 else found - (alpha - 1) * loss(own / _off_zero(z_down + b_down, eps))


def _apply(module: nn.Module, a: Tensor, weight: Tensor) -> Tensor:
    """Return the layer without bias, with other weights."""
    if isinstance(module, nn.Linear):
        return F.linear(a, weight)
    assert isinstance(module, nn.modules.conv._ConvNd)
    dims = weight.ndim - 2
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        back: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        return back(a, weight, None, module.stride, module.padding, module.output_padding, module.groups,
                    module.dilation)  # fmt: skip
    step: Any = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return step(a, weight, None, module.stride, module.padding, module.dilation, module.groups)


def _folded(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer and the batch normalisation (eval) after it as one."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.detach()
    before = -norm.running_mean if bias is None else bias - norm.running_mean
    return weight * scale.reshape(-1, *([1] * (weight.ndim - 1))), before * scale + shift


def _off_zero(z: Tensor, epsilon: float) -> Tensor:
    moved = z + torch.where(z < 0, -epsilon, epsilon)
    return torch.where(moved == 0, torch.finfo(z.dtype).tiny, moved)
