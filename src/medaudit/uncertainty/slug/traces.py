"""Stochastic estimates of a trace, and of the squared norms of rows, from products with a matrix.

``product`` maps rows (m, n) to A v for each, (m, n), with A symmetric positive semi-definite. Each estimate has a
standard error. Hutchinson 1990; Hutch++: Meyer et al. 2021; XTrace: Epperly, Tropp & Webber 2024.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medaudit.errors import UsageError

Product = Callable[[Tensor], Tensor]


def signs(count: int, size: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return ``count`` rows (count, size) of +1 and -1 (Rademacher)."""
    return torch.randint(0, 2, (count, size), generator=generator, dtype=torch.int8).to(dtype) * 2 - 1


def hutchinson(product: Product, probes: Tensor) -> tuple[float, float]:
    """Return the trace and its standard error from ``probes`` (S, n), rows with E v v^T = I."""
    each = (probes * product(probes)).double().sum(dim=1)
    return float(each.mean()), _error(each)


def hutch_pp(product: Product, probes: Tensor) -> tuple[float, float]:
    """Return Hutch++'s trace and standard error: a third of ``probes`` (S, n) finds the range, a third the rest.

    The products are with S vectors in all. Exact where the rank of A is at most S // 3.
    """
    third = len(probes) // 3
    if third < 1:
        raise UsageError(f"{len(probes)} probes; Hutch++ needs 3 or more")
    basis = _orthonormal(product(probes[:third]))
    inside = (basis * product(basis)).double().sum()
    rest = probes[third : 2 * third]
    rest = rest - (rest @ basis.T) @ basis
    each = (rest * product(rest)).double().sum(dim=1)
    return float(inside + each.mean()), _error(each)


def xtrace(product: Product, probes: Tensor) -> tuple[float, float]:
    """Return XTrace's trace and standard error from ``probes`` (m, n), with 2 m products.

    Each probe is tested against the range that the others find. Exact where the rank of A is below m.
    """
    if not 2 <= len(probes) < probes.shape[1]:
        raise UsageError(
            f"{len(probes)} probes for {probes.shape[1]} rows; XTrace needs 2 or more, and fewer than rows"
        )
    images = product(probes).double()
    basis, leave = _leave_one_out(images)
    pushed = product(basis.to(probes.dtype)).double()
    core = basis @ pushed.T
    whole = torch.trace(core)
    omega = probes.double()
    in_basis = omega @ basis.T
    within = omega @ pushed.T
    each = []
    for i in range(len(probes)):
        s = leave[:, i]
        # Q_(i) Q_(i)^T = Q (I - s s^T) Q^T: what the basis spans without the i-th probe's own image.
        inside = whole - s @ core @ s
        w = in_basis[i] - s * (s @ in_basis[i])
        # (I - Q_(i) Q_(i)^T) omega against A times it; A omega is known.
        cross = omega[i] @ images[i] - 2 * (w @ within[i]) + w @ core @ w
        each.append(inside + cross)
    values = torch.stack(each)
    return float(values.mean()), _error(values)


def row_norms(pushed: Tensor, probes: Tensor, basis: Tensor, pushed_basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared norm of each row of B (n, P), and its standard error, both (n,).

    ``pushed`` (S, n) are B ω for the standard normal ``probes`` (S, P); ``basis`` (m, P) is orthonormal, drawn without
    looking at the probes, and ``pushed_basis`` (m, n) is B times it. With V the basis, a row's squared norm is that of
    B V, which is known, and of B (I - V V^T), which is a mean of squares: never negative, unbiased, and exact where the
    basis spans the rows of B. Without a basis (m = 0) each estimate is χ² with S degrees of freedom, over S.
    """
    rest = pushed - (probes @ basis.T) @ pushed_basis
    squares = rest.double().square()
    known = pushed_basis.double().square().sum(dim=0)
    error = squares.std(dim=0) / len(squares) ** 0.5 if len(squares) > 1 else torch.full_like(known, float("nan"))
    return known + squares.mean(dim=0), error


def _leave_one_out(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis (m, n) of the rows of ``images`` (m, n), and directions in it, columns of (m, m).

    Direction i is the unit vector of the basis that is orthogonal to all images but the i-th: taking
    it out of the basis is leaving the i-th probe out (Epperly, Tropp & Webber 2024, sec. 2.2).
    """
    q, r = torch.linalg.qr(images.T)
    # A rank below m makes R singular: what is below rounding is given a size there, so that directions exist.
    floor = 1e-12 * r.abs().max().clamp_min(1e-300)
    diagonal = torch.diagonal(r)
    r_safe = r + torch.diag(torch.where(diagonal.abs() < floor, floor, torch.zeros_like(diagonal)))
    inverse = torch.linalg.inv(r_safe).T
    return q.T, inverse / inverse.norm(dim=0)


def _orthonormal(rows: Tensor) -> Tensor:
    return torch.linalg.qr(rows.T).Q.T


def _error(each: Tensor) -> float:
    return float(each.std() / len(each) ** 0.5) if len(each) > 1 else float("nan")
