"""A subsampled randomised trigonometric transform: s numbers that keep the lengths of vectors of P.

S = sqrt(P / s) R H D: random signs D, the discrete Hartley transform H, which is orthogonal for every P, and s rows R
drawn without replacement (with it, equal rows would make the sketch singular). Signs and rows have seeds of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import UsageError


@dataclass(frozen=True, eq=False)
class Sketch:
    """S, (s, P), which is never formed: ``signs`` (P,) int8 and ``rows`` (s,)."""

    signs: Tensor
    rows: Tensor

    @classmethod
    def draw(cls, size: int, sketch_size: int, seed: int) -> Sketch:
        """Return a sketch of vectors of ``size``; UsageError where ``sketch_size`` is not 1 to ``size``."""
        if not 1 <= sketch_size <= size:
            raise UsageError(f"sketch is {sketch_size}; expected 1 to {size}, the number of parameters")
        signs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(2 * seed), dtype=torch.int8)
        rows = torch.randperm(size, generator=torch.Generator().manual_seed(2 * seed + 1))[:sketch_size]
        return cls(signs * 2 - 1, rows)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return S v for each row of ``vectors`` (b, P), (b, s); E |S v|² = |v|²."""
        spectrum = torch.fft.fft(vectors * self.signs.to(vectors.device), dim=-1)
        hartley = (spectrum.real - spectrum.imag)[..., self.rows.to(vectors.device)]
        return hartley / len(self.rows) ** 0.5
