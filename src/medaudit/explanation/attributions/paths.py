"""Integrated gradients for any number of references, with what is missing to the whole said for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.explanation.attributions.batching import Scalar, every, finite, in_batches, rows_at_once, slopes, values


@dataclass(frozen=True, eq=False)
class PathBank:
    """Path integrals from K references to each of N inputs."""

    mean: Tensor
    """(N, ...): the mean over references."""
    standard_error: Tensor | None
    """(N, ...): of that mean, as of references drawn at random; None where there is one."""
    gap: Tensor
    """(K, N): the sum of the attribution minus (f(x) - f(reference)); 0 were the integral exact."""
    share: Tensor
    """(K, N): the gap as a share of |f(x) - f(reference)|, or of a twentieth of all that is attributed if that is
    more; 0 where it is within rounding of the two values of f."""
    nodes: Tensor
    """(K, N): how many nodes were used in the end."""
    complete: Tensor
    """(K, N): whether the share came below the tolerance."""
    each: Tensor | None
    """(K, N, ...): that of each reference, where they were to be kept."""


def integrated_gradients(
    f: Scalar, x: Tensor, references: Tensor | Callable[[Tensor, Tensor], Tensor], *, nodes: int = 32,
    most: int = 512, tolerance: float = 0.01, keep: bool = False, rows: Tensor | None = None,
    at_once: int | None = None,
) -> PathBank:  # fmt: skip
    """Return the integral of the gradient from references to ``x`` (N, ...), times the way (Sundararajan et al. 2017).

    ``references`` are (K, N, ...), or (K, 1, ...), or an absence that gives them. Gauss and Legendre's ``nodes``, exact
    where f is a polynomial of degree 2 ``nodes`` at most along the way; where the gap's share is not below
    ``tolerance``, twice as many, until ``most``. ``most`` = ``nodes`` refines nothing.
    """
    if not 1 <= nodes <= most:
        raise UsageError(f"nodes are {nodes} and at most {most}; expected 1 or more, and no fewer at most")
    which = every(x) if rows is None else rows
    step = at_once or rows_at_once(f, x, which, gradients=True)
    return banked(_along, f, x, references, nodes, most, tolerance, keep, which, step)


def expected_gradients(
    f: Scalar, x: Tensor, references: Tensor | Callable[[Tensor, Tensor], Tensor], *, nodes: int = 16,
    most: int = 128, tolerance: float = 0.01, rows: Tensor | None = None, at_once: int | None = None,
) -> PathBank:  # fmt: skip
    """Return the mean of integrated gradients over references that are draws of the data, with its standard error.

    Erion et al. (2021) draw one point of each way; all ways are integrated here, so that only the references are a
    sample. Raises UsageError for fewer than two.
    """
    found = integrated_gradients(
        f, x, references, nodes=nodes, most=most, tolerance=tolerance, rows=rows, at_once=at_once
    )
    if found.standard_error is None:
        raise UsageError("expected gradients were asked of one reference; expected two or more draws of the data")
    return found


Along = Callable[[Scalar, Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor, Tensor]]
"""(f, ends (p, ...), origins, whose (p,), nodes, rows at once) to attributions (p, ...), their sum, that of sizes."""


def banked(
    along: Along, f: Scalar, x: Tensor, references: Tensor | Callable[[Tensor, Tensor], Tensor], nodes: int, most: int,
    tolerance: float, keep: bool, which: Tensor, step: int,
) -> PathBank:  # fmt: skip
    """Return what ``along`` attributes on each way from a reference, images in blocks, with gaps and refinement."""
    shape = x.shape[1:]
    parts: list[tuple[Tensor, ...]] = []
    start = values(f, x, which, at_once=step)
    many = len(references) if isinstance(references, Tensor) else getattr(references, "count", 1)
    block = max(1, 4 * step // (many * nodes))
    k_all = done = 0
    while done < len(x):
        here = slice(done, min(done + block, len(x)))
        if isinstance(references, Tensor):
            own = references if references.shape[1] == 1 else references[:, here]
            own = own.to(x).expand(len(own), len(x[here]), *shape)
        else:
            own = references(x[here], which[here])
        k_all, n = own.shape[:2]
        ends, origin = x[here].expand(own.shape).flatten(0, 1), own.flatten(0, 1)
        whose = which[here].repeat(k_all)
        target = start[here].repeat(k_all)
        found, total, mass = along(f, ends, origin, whose, nodes, step)
        base = values(f, origin, whose, at_once=step)
        used = torch.full((len(ends),), nodes)
        share = _share(total, mass, target, base)
        count = nodes
        while count * 2 <= most and bool((share > tolerance).any()):
            count *= 2
            again = torch.nonzero(share > tolerance)[:, 0]
            on = again.to(x.device)
            found[on], total[again], mass[again] = along(f, ends[on], origin[on], whose[on], count, step)
            used[again] = count
            share = _share(total, mass, target, base)
        maps = found.reshape(k_all, n, *shape)
        exact = maps.double() if x.device.type != "mps" else maps
        error = (exact.var(0) / k_all).sqrt().float() if k_all > 1 else torch.empty(0)
        parts.append((
            exact.mean(0).float(), error, (total - (target - base)).reshape(k_all, n), share.reshape(k_all, n),
            used.reshape(k_all, n), maps if keep else torch.empty(0),
        ))  # fmt: skip
        done = here.stop
    mean, errors, gap, shares, counts, each = zip(*parts, strict=True)
    share = torch.cat(shares, 1)
    whole = finite(torch.cat(mean), "the path integral")
    return PathBank(
        whole, torch.cat(errors) if k_all > 1 else None, torch.cat(gap, 1), share,
        torch.cat(counts, 1), share <= tolerance, torch.cat(each, 1) if keep else None,
    )  # fmt: skip


def _along(
    f: Scalar, ends: Tensor, origin: Tensor, whose: Tensor, nodes: int, step: int
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return attributions (p, ...), their sum (p,) and the sum of their sizes, of p ways."""
    at, weight = (torch.from_numpy(part).to(ends) for part in legendre(nodes))
    way = ends - origin
    found = torch.zeros_like(ends)
    wide = (1,) * (ends.ndim - 1)

    def ask(start: int, stop: int) -> None:
        flat = torch.arange(start, stop, device=ends.device)
        pair, node = flat // nodes, flat % nodes
        points = origin[pair] + at[node].reshape(-1, *wide) * way[pair]
        slope = slopes(f, points, whose[pair])
        found.index_add_(0, pair, weight[node].reshape(-1, *wide) * slope)

    in_batches(ask, len(ends) * nodes, step)
    found *= way
    flat = found.flatten(1)
    flat = flat if flat.device.type == "mps" else flat.double()
    return found, flat.sum(1).double().cpu(), flat.abs().sum(1).double().cpu()


def _share(total: Tensor, mass: Tensor, target: Tensor, base: Tensor) -> Tensor:
    gap = (total - (target - base)).abs()
    rounding = 1e-5 * torch.maximum(target.abs(), base.abs())
    whole = torch.maximum((target - base).abs(), mass / 20)
    return torch.where(gap <= rounding, 0.0, gap / whole.clamp(min=torch.finfo(torch.float64).tiny))


@lru_cache(maxsize=32)
def legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in (0, 1) and weights that sum to 1."""
    at, weight = np.polynomial.legendre.leggauss(nodes)
    return (at + 1) / 2, weight / 2
