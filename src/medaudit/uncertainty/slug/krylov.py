"""The largest eigenpairs of a symmetric matrix that is known by its products with a block of vectors.

Block Lanczos with full reorthogonalisation (Golub & Underwood 1977). A block of b starting vectors finds an eigenvalue
up to b times: a single vector sees each distinct eigenvalue once, however often it occurs, and the GGN of an image with
C channels has the last layer's eigenvalues C times (spec 6.1, case 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError

Product = Callable[[Tensor], Tensor]
"""Rows (b, P) to the products with each of them, (b, P)."""

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-13}  # what is left of a vector that lay in the space


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Ritz pairs, largest first: ``values`` (k,) float64, ``vectors`` (k, P) as orthonormal rows.

    ``residuals`` (k,) are the norms of G u - λ u, so that an eigenvalue of G lies within each of its λ.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    """How many products with one vector were taken."""

    def converged(self, tolerance: float) -> int:
        """Return how many pairs have a residual of at most ``tolerance`` times the largest value."""
        return int((self.residuals <= tolerance * self.values[0].clamp_min(0)).sum()) if len(self.values) else 0


@dataclass
class Krylov:
    """What was found so far; a search that was stopped goes on from it."""

    basis: list[Tensor] = field(default_factory=list)
    """Blocks (b, P) of orthonormal rows; one more than ``columns``."""
    columns: list[Tensor] = field(default_factory=list)
    """Of Q^T G Q, (rows so far, b) float64 each."""
    tail: Tensor | None = None
    """What leads out of the space: the last block's triangle (b, b) float64."""


def largest(
    product: Product, size: int, rank: int, *, block: int, seed: int, dtype: torch.dtype, device: torch.device,
    tolerance: float = 1e-2, depth: int | None = None, state: Krylov | None = None,
    after_block: Callable[[Krylov], None] | None = None,
) -> Eigenpairs:  # fmt: skip
    """Return the ``rank`` largest eigenpairs of a positive semi-definite (size, size) matrix.

    ``block`` vectors are multiplied at a time. It stops when all of the ``rank`` first Ritz pairs have converged, after
    ``depth`` blocks (default: a space of 1.25 rank), or when the space is exhausted, which makes the pairs exact.
    Raises UsageError for a rank that is not between 1 and ``size``, DataError for a product that is not finite.
    """
    if not 1 <= rank <= size:
        raise UsageError(f"rank is {rank}; expected 1 to {size}, the number of parameters")
    if block < 1:
        raise UsageError(f"block is {block}; expected 1 or more")
    block = min(block, size)
    depth = depth or -(-max(rank, int(1.25 * rank)) // block)
    if depth * block < rank:
        raise UsageError(f"{depth} blocks of {block} hold {depth * block} vectors; expected at least rank = {rank}")
    found = state or Krylov()
    if not found.basis:
        found.basis.append(orthonormal(_random(block, size, seed, 0, dtype, device), [])[0])
    # Asked before a block, not after: a search that was stopped when it had ended must not take one more.
    while len(found.columns) < depth and not _ended(found, rank, tolerance):
        extend(found, product, size, seed)
        if after_block is not None:
            after_block(found)
    values, residuals, weights = ritz(found)
    top = min(rank, len(values))
    rows = torch.cat(found.basis[: len(found.columns)])
    vectors = weights[:, :top].T.to(dtype).to(rows.device) @ rows
    products = sum(column.shape[1] for column in found.columns)
    return Eigenpairs(values[:top].clamp_min(0), vectors, residuals[:top], products)


def extend(found: Krylov, product: Product, size: int, seed: int) -> None:
    """Add one block: the product with the newest vectors, made orthogonal to all before, twice."""
    newest = found.basis[-1]
    image = product(newest)
    if not bool(torch.isfinite(image).all()):
        raise DataError("a product with the GGN is not finite; look at the images and weights for very large values")
    coefficients = torch.zeros(sum(map(len, found.basis)), len(newest), dtype=torch.float64)
    scale = image.norm(dim=1).max()
    for _ in range(2):
        at = 0
        for rows in found.basis:
            overlap = rows @ image.T
            image = image - overlap.T @ rows
            coefficients[at : at + len(rows)] += overlap.double().cpu()
            at += len(rows)
    new, triangle = orthonormal(image, found.basis, least=ROUNDING[image.dtype] * float(scale))
    room = size - at
    found.columns.append(coefficients)
    found.tail = triangle.double().cpu()
    found.basis.append(new[: max(room, 0)])
    if len(found.basis[-1]) < len(newest) and room > len(new):
        # Some directions are exhausted: fresh ones take their place, so that a further copy of an eigenvalue is found.
        fresh = _random(len(newest) - len(new), size, seed, len(found.columns), new.dtype, new.device)
        fresh = orthonormal(fresh, found.basis)[0][: max(room - len(new), 0)]
        found.basis[-1] = torch.cat([found.basis[-1], fresh])


def ritz(found: Krylov) -> tuple[Tensor, Tensor, Tensor]:
    """Return Ritz values, largest first, their residuals, and their weights on the basis (m, m)."""
    m = sum(column.shape[1] for column in found.columns)
    projected = torch.zeros(m, m, dtype=torch.float64)
    at = 0
    for column in found.columns:
        width = column.shape[1]
        projected[: len(column), at : at + width] = column[:m]
        projected[at : at + width, : len(column)] = column[:m].T
        at += width
    values, weights = torch.linalg.eigh(projected)
    values, weights = values.flip(0), weights.flip(1)
    last = found.columns[-1].shape[1]
    tail = found.tail if found.tail is not None else torch.zeros(0, last, dtype=torch.float64)
    return values, (tail @ weights[-last:]).norm(dim=0), weights


def _ended(found: Krylov, rank: int, tolerance: float) -> bool:
    """Say whether the space is exhausted, or holds ``rank`` pairs that have all converged."""
    if not found.columns:
        return False
    if not len(found.basis[-1]) or _exhausted(found):
        return True
    if sum(len(rows) for rows in found.basis[:-1]) < rank:
        return False
    values, residuals, _ = ritz(found)
    top = min(rank, len(values))
    return bool((residuals[:top] <= tolerance * values[0].clamp_min(0)).all()) and not _could_be_more(found)


def _exhausted(found: Krylov) -> bool:
    """Say whether the matrix is 0 on the newest block: nothing is left outside of the space."""
    column, scale = found.columns[-1], max(float(column.abs().max()) for column in found.columns)
    return float(column.abs().max()) <= 1e-9 * scale and (found.tail is None or not len(found.tail))


def _could_be_more(found: Krylov) -> bool:
    """Say whether directions were refilled in the last step: copies may be there that the values do not show yet."""
    return found.tail is not None and len(found.tail) < found.columns[-1].shape[1] and len(found.basis[-1]) > 0


def _random(rows: int, size: int, seed: int, step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = generator_of(seed, "search", step)
    # Drawn in one precision whatever the model's: the search then begins alike.
    return torch.randn(rows, size, generator=generator, dtype=torch.float64).to(device, dtype)


def generator_of(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """Return a generator of its own for each purpose: a probe must not repeat what the search began with."""
    place = (seed, sum(purpose.encode()), number)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))


def orthonormal(rows: Tensor, others: list[Tensor], least: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return orthonormal rows Q (r, P) that span ``rows`` (b, P), and R (r, b) with rows = R^T Q; r may be below b.

    Orthogonal to ``others`` too, to rounding: what was small before it was normed is made orthogonal again.
    """
    _, singular, right = torch.linalg.svd(rows, full_matrices=False)
    basis = right[singular > max(least, torch.finfo(rows.dtype).tiny)]
    for _ in range(2 if others else 0):
        for block in others:
            basis = basis - (basis @ block.T) @ block
        if len(basis):
            basis = torch.linalg.qr(basis.T).Q.T.contiguous()
    return basis, basis @ rows.T
