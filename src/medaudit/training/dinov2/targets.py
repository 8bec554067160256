"""What keeps the teacher's distributions apart: centring, Sinkhorn-Knopp, and KoLeo for the student."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def mean_logits(points: Tensor, prototypes: Tensor) -> Tensor:
    """Return the mean logits (K,) of points (n, D) over all processes: by linearity, the mean point's logits.

    In float32, also where the training's products are not: a centre gathers what a step leaves.
    """
    sums = torch.cat([points.float().sum(0), points.new_tensor([len(points)], dtype=torch.float32)])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    with torch.autocast(device_type=points.device.type, enabled=False):
        return prototypes.float() @ (sums[:-1] / sums[-1].clamp(min=1.0))


@torch.no_grad()
def sinkhorn_bias(
    points: Tensor, prototypes: Tensor, temperature: float, iterations: int = 3, room: int = 1 << 24
) -> Tensor:
    """Return the bias (K,) that makes ``softmax(logits / temperature + bias)`` Sinkhorn-Knopp's assignment.

    Three rounds as in DINOv2 (after SwAV, arXiv 2006.09882): prototypes to equal weight, then points to weight 1, over
    all processes. As the last division is by points, what is left of the rest is one factor a prototype: the softmax
    does the division, and nothing of n x K is kept. ``points`` (n, D), ``prototypes`` (K, D).
    """
    k = len(prototypes)
    log_u: Tensor | None = None
    step = max(1, room // k)
    several = dist.is_available() and dist.is_initialized()
    for _ in range(iterations):
        # Sums of prototypes over points, as logarithms: nothing overflows at low temperatures.
        total = torch.full((k,), -torch.inf, device=points.device)
        for i in range(0, len(points), step):
            logits = (points[i : i + step] @ prototypes.to(points.dtype).T).float() / temperature
            if log_u is not None:
                logits -= torch.logsumexp(logits + log_u, dim=1, keepdim=True)
            total = torch.logaddexp(total, torch.logsumexp(logits, dim=0))
        if several:
            most = total.clone()
            dist.all_reduce(most, op=dist.ReduceOp.MAX)
            summed = (total - most).exp()
            dist.all_reduce(summed)
            total = most + summed.log()
        log_u = -total
    assert log_u is not None
    return log_u - log_u.mean()  # a constant changes no softmax


def koleo(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the KoLeo loss of features (n, d) (arXiv 1806.03198): minus the mean log distance to the nearest other.

    Features are brought to length 1, in float32; of one process only, as in DINOv2.
    """
    with torch.autocast(device_type=features.device.type, enabled=False):
        z = F.normalize(features.float(), dim=-1, eps=eps)
        with torch.no_grad():
            near = (z @ z.T).fill_diagonal_(-2.0).argmax(1)  # below an opposite one's -1
        return -torch.log(F.pairwise_distance(z, z[near], p=2, eps=eps) + eps).mean()
