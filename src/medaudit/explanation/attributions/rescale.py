"""DeepLIFT's rescale rule, along the graph of a model, for any number of references at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from medaudit.errors import UsageError
from medaudit.explanation.attributions.batching import Scalar, every, rows_at_once
from medaudit.explanation.attributions.explananda import Bound
from medaudit.explanation.attributions.paths import PathBank, banked
from medaudit.explanation.attributions.steps import Plan, output, pulled, read, record


def deep_lift(
    f: Bound, x: Tensor, references: Tensor | Callable[[Tensor, Tensor], Tensor], *, tolerance: float = 0.01,
    rows: Tensor | None = None, at_once: int | None = None,
) -> PathBank:  # fmt: skip
    """Return DeepLIFT's attributions (Shrikumar et al. 2017) from references (K, N, ...), (K, 1, ...) or an absence.

    An activation passes back the difference of what it gives over that of what it is given; of max pooling, the winner
    that explains the difference gets it. Steps are those of the model's graph: functional ReLUs, and modules used twice
    or in place, are as good as others. The gap of each reference to f(x) - f(reference) is said, as of paths.

    Raises UsageError for what no rule is known for, and for kinds that are no linear function of the outputs.
    """
    if not f.linear:
        raise UsageError(f"DeepLIFT shares out a linear function of outputs, and {f.explanandum.kind} is none; expected"
                         " logit, margin, mask-sum or score")  # fmt: skip
    if not isinstance(f.model, nn.Module):
        raise UsageError("DeepLIFT needs the model's steps; expected a torch module")
    plan = read(f.model)
    if plan.refused:
        raise UsageError("no rule of DeepLIFT is known for {}: {}".format(*plan.refused[0]))
    which = every(x) if rows is None else rows
    step = at_once or max(1, rows_at_once(f, x, which, gradients=True) // 2)

    def along(f: Scalar, ends: Tensor, origin: Tensor, whose: Tensor, nodes: int, step: int) -> Any:
        found = torch.empty_like(ends)
        for start in range(0, len(ends), step):
            here = slice(start, start + step)
            assert isinstance(f, Bound)
            found[here] = _lifted(plan, f, ends[here], origin[here], whose[here])
        flat = found.flatten(1).double()
        return found, flat.sum(1).cpu(), flat.abs().sum(1).cpu()

    return banked(along, f, x, references, 1, 1, tolerance, True, which, step)


def _lifted(plan: Plan, f: Bound, x: Tensor, reference: Tensor, rows: Tensor) -> Tensor:
    there, base = record(plan, x), record(plan, reference)
    end = output(plan)
    with torch.no_grad():
        plan.check(there[end], f.model(x))
    with torch.enable_grad():
        at = there[end].detach().requires_grad_()
        multipliers: dict[fx.Node, Tensor] = {end: torch.autograd.grad(f.read(at, rows).sum(), at)[0]}
    for node in reversed(plan.module.graph.nodes):
        kind = plan.kinds[node]
        if kind in ("none", "output", "input") or node not in multipliers:
            continue
        own = multipliers.pop(node)
        at_x = {before: there[before] for before in node.all_input_nodes}
        if kind in ("relu", "bend", "max"):
            at_base = {before: base[before] for before in node.all_input_nodes}
            given = _differences(node, plan, at_x, at_base, there[node], base[node], own, kind)
        else:
            given = pulled(node, plan, at_x, partial(_same, own))
        for before, share in given.items():
            multipliers[before] = multipliers[before] + share if before in multipliers else share
    entry = next(node for node, kind in plan.kinds.items() if kind == "input")
    return multipliers.get(entry, torch.zeros_like(x)) * (x - reference)


def _same(own: Tensor, out: Tensor) -> Tensor:
    return own


def _differences(
    node: fx.Node, plan: Plan, at_x: dict[fx.Node, Any], at_base: dict[fx.Node, Any], out: Tensor, base: Tensor,
    own: Tensor, kind: str,
) -> dict[fx.Node, Tensor]:  # fmt: skip
    """Return the multiplier of the one tensor that an activation or a max pooling takes."""
    before = node.all_input_nodes[0]
    way = at_x[before] - at_base[before]
    near = way.abs() <= 1e-6 * torch.maximum(at_x[before].abs(), at_base[before].abs())
    slope = pulled(node, plan, at_x, lambda _: own)[before]
    if kind == "max":
        # What is above the higher of both falls to the winner at x, what is below to that at the reference.
        higher = torch.maximum(out, base)
        risen = pulled(node, plan, at_x, lambda _: own * (higher - base))[before]
        fallen = pulled(node, plan, at_base, lambda _: own * (out - higher))[before]
        whole = risen + fallen
    else:
        whole = own * (out - base)
    return {before: torch.where(near, slope, whole / torch.where(near, 1, way))}
