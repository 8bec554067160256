"""Evidential deep learning: logits as evidence, a Dirichlet over class probabilities (Sensoy et al., NeurIPS 2018)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from medaudit.errors import DataError, UsageError

ANNEALED = 0.5
"""The KL term reaches its full weight after this share of the training; the paper: after 10 epochs."""


def evidence(logits: Tensor, kind: str = "softplus") -> Tensor:
    """Return the evidence (N, C), 0 or more, of logits; ``kind`` is ``softplus``, ``relu`` or ``exp``.

    The paper's ``relu`` has no gradient where the evidence is 0: a class whose logits start below 0 in all its cases is
    never learned. UsageError for another kind.
    """
    if kind == "softplus":
        return softplus(logits)
    if kind == "relu":
        return logits.clamp_min(0)
    if kind == "exp":
        return logits.clamp(-10, 10).exp()
    raise UsageError(f"no evidence '{kind}'; expected softplus, relu or exp")


def concentration(logits: ArrayLike, kind: str = "softplus") -> np.ndarray:
    """Return the Dirichlet's concentration, alpha = evidence + 1, (N, C) float64."""
    z = torch.from_numpy(np.asarray(logits, dtype=np.float64))
    return (evidence(z, kind) + 1).numpy()


def evidential_loss(logits: Tensor, labels: Tensor, progress: float, kind: str = "softplus") -> Tensor:
    """Return the loss of eq. 5 with the KL term, averaged over cases.

    sum_c (y - alpha / S)^2 + alpha (S - alpha) / (S^2 (S + 1)) + lambda KL(Dir(alpha~) || Dir(1)), where alpha~ keeps
    only the evidence for wrong classes and lambda rises with ``progress``, the share of the training that is done.
    Raises DataError for labels that are no class of the ``logits`` (N, C).
    """
    if bool(((labels < 0) | (labels >= logits.shape[1])).any()):
        raise DataError(
            f"labels from {int(labels.min())} to {int(labels.max())} for logits of {logits.shape[1]} classes; "
            f"expected 0 to {logits.shape[1] - 1}"
        )
    alpha = evidence(logits, kind) + 1
    y = one_hot(labels, alpha.shape[1]).to(alpha.dtype)
    total = alpha.sum(dim=1, keepdim=True)
    share = alpha / total
    fit = ((y - share) ** 2 + share * (1 - share) / (total + 1)).sum(dim=1)
    weight = min(1.0, progress / ANNEALED)
    return (fit + weight * kl_to_uniform(y + (1 - y) * alpha)).mean()


def kl_to_uniform(alpha: Tensor) -> Tensor:
    """Return KL(Dir(alpha) || Dir(1)), (N,): 0 at alpha = 1."""
    total, classes = alpha.sum(dim=1), alpha.shape[1]
    ones = torch.tensor(float(classes), dtype=alpha.dtype)
    head = torch.lgamma(total) - torch.lgamma(ones) - torch.lgamma(alpha).sum(dim=1)
    return head + ((alpha - 1) * (torch.digamma(alpha) - torch.digamma(total)[:, None])).sum(dim=1)
