"""Cross-entropy between a teacher's and a student's distributions over many prototypes, never held as a whole.

With 65,536 prototypes the logits of a batch are by far the largest thing of a training. They are products of small
factors: made in pieces, used for the loss and all gradients while they are there, and dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ROOM = 1 << 24  # numbers of one piece of logits: 64 MB in float32
_CACHED = 1 << 17  # half a megabyte


def soft_cross_entropy(
    student: Tensor, prototypes: Tensor, weights: Tensor, teacher: Tensor, teacher_prototypes: Tensor, bias: Tensor,
    pairs: Tensor, *, student_temperature: float, teacher_temperature: float, room: int = _ROOM,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the loss, and the teacher's summed entropy in nats (which has no gradient).

    ``student`` (n, S, D) with ``prototypes`` (K, D) and ``teacher`` (n, T, D) with ``teacher_prototypes`` (K, D);
    the loss is the sum over i, s, t of ``weights`` (n,) i times ``pairs`` (S, T) s,t times
    ``-sum_k p_itk log q_isk`` with ``q = softmax(student @ prototypes.T / student_temperature)`` and
    ``p = softmax(teacher @ teacher_prototypes.T / teacher_temperature + bias)``; ``bias`` (K,) is minus the centre
    over the temperature, or what Sinkhorn-Knopp found. Gradients go to ``student`` and ``prototypes`` alone.
    """
    loss, entropy = _SoftCrossEntropy.apply(
        student, prototypes, weights, teacher.detach(), teacher_prototypes.detach(), bias.detach(), pairs,
        student_temperature, teacher_temperature, room,
    )  # fmt: skip
    return loss, entropy


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(
        ctx: Any, student: Tensor, prototypes: Tensor, weights: Tensor, teacher: Tensor, teacher_prototypes: Tensor,
        bias: Tensor, pairs: Tensor, ts: float, tt: float, room: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        n, per, _ = student.shape
        k = len(prototypes)
        needed = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = torch.zeros((), dtype=bias.dtype, device=student.device)
        entropy = torch.zeros_like(loss)
        for_student = torch.zeros_like(student) if needed else None
        for_prototypes = torch.zeros(prototypes.shape, dtype=bias.dtype, device=student.device) if needed else None
        ours, theirs = prototypes.to(student.dtype), teacher_prototypes.to(teacher.dtype)
        total = pairs.sum(1)
        step = max(1, room // (k * (per + teacher.shape[1])))
        # On a CPU what comes after the products is done a few rows at a time, which stay in the cache meanwhile.
        few = max(1, _CACHED // (k * (per + teacher.shape[1]))) if student.device.type == "cpu" else step
        for i in range(0, n, step):
            z, weight = student[i : i + step], weights[i : i + step]
            seen = teacher[i : i + step] @ theirs.T
            made = z @ ours.T
            slope = made if made.dtype == bias.dtype else torch.empty_like(made)
            for j in range(0, len(z), few):
                rows = slice(j, j + few)
                p = seen[rows].to(bias.dtype).div_(tt).add_(bias)
                log_p = torch.log_softmax(p, dim=-1)
                p = torch.exp(log_p, out=p)
                entropy -= torch.dot(p.flatten(), log_p.flatten())
                logits = made[rows].to(bias.dtype).div_(ts)
                target = p.mul_(pairs[0, 0]) if pairs.shape == (1, 1) else torch.einsum("st,ntk->nsk", pairs, p)
                least = torch.logsumexp(logits, dim=-1, keepdim=True)
                fit = torch.linalg.vecdot(target, logits)
                loss += (weight[rows] * ((least[..., 0] * total) - fit).sum(1)).sum()
                if needed:
                    logits.sub_(least).exp_().mul_(total[:, None]).sub_(target).mul_(weight[rows, None, None] / ts)
                    slope[rows] = logits
            if for_student is not None and for_prototypes is not None:
                for_student[i : i + step] = slope @ ours
                by_prototype = slope.flatten(0, 1).T
                if slope.dtype == for_prototypes.dtype:
                    for_prototypes.addmm_(by_prototype, z.flatten(0, 1))
                else:
                    for_prototypes += by_prototype @ z.flatten(0, 1)
        ctx.save_for_backward(for_student, for_prototypes)
        ctx.prototypes_dtype = prototypes.dtype
        ctx.mark_non_differentiable(entropy)
        return loss, entropy

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        for_student, for_prototypes = ctx.saved_tensors
        slope = slopes[0]
        if slope.device.type == "cpu" and slope == 1:  # the rule, and the prototypes' gradient is large
            return for_student, for_prototypes.to(ctx.prototypes_dtype), *[None] * 8
        return (
            (for_student * slope).to(for_student.dtype),
            (for_prototypes * slope).to(ctx.prototypes_dtype),
            *[None] * 8,
        )
