"""Numbers that tell alike nodes apart: without them no equivariant net can rebuild a ring (arXiv 2503.21985).

A net that is equivariant gives nodes that a symmetry of the graph exchanges the same latent. Numbers drawn for each
node at the input lift that, and the net stays equivariant in distribution: renumber nodes and their draws, and latents
are renumbered with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import UsageError

WAYS = ("none", "noise", "sympe")


@dataclass(frozen=True)
class SymmetryBreaking:
    """``none``; ``noise``: standard normal numbers; ``sympe``: sinusoids of a node's place in an order that is drawn.

    ``sympe`` is the simple case of symmetry-breaking positional encodings (arXiv 2503.21985): there the order comes
    from a canonicalisation, of which one is sampled among those that are equally good; here all orders are.
    """

    way: str = "none"
    width: int = 8

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise UsageError(f"no symmetry breaking '{self.way}'; expected one of {', '.join(WAYS)}")
        if self.way != "none" and (self.width < 1 or (self.way == "sympe" and self.width % 2)):
            raise UsageError(f"{self.width} channels of {self.way}; expected 1 or more, for sympe an even number")

    @property
    def channels(self) -> int:
        """How many channels come to the nodes of the input."""
        return 0 if self.way == "none" else self.width

    def draw(self, exists: Tensor, generators: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
        """Return (N, channels, n), zero where ``exists`` (N, 1, n) is.

        With a generator for each graph, the first slots draw the same whatever the number of slots.
        """
        n = exists.shape[-1]
        if self.way == "none":
            return exists.new_zeros(len(exists), 0, n)
        if self.way == "noise":
            return normal(exists.expand(-1, self.width, -1), generators) * exists
        lots = uniform(exists, generators).masked_fill(exists <= 0, 2.0)
        places = lots.argsort(-1).argsort(-1)
        half = torch.arange(self.width // 2, device=exists.device, dtype=exists.dtype)
        angles = places * (math.pi / 2 ** (half + 1))[:, None]
        return torch.cat([angles.sin(), angles.cos()], dim=1) * exists


def uniform(like: Tensor, generators: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
    """Return numbers from 0 to 1 of the shape (N, c, ...), dtype and device of ``like``.

    A generator for each row makes a row the same whatever rows are beside it; a UsageError where they are not N.
    """
    if generators is None or isinstance(generators, torch.Generator):
        where = like.device if generators is None else generators.device
        return torch.rand(like.shape, generator=generators, dtype=like.dtype, device=where).to(like.device)
    if len(generators) != len(like):
        raise UsageError(f"{len(generators)} generators for {len(like)} graphs; expected one each")
    # The channel is the fastest axis, so that more slots change nothing in the first.
    last = (*like.shape[2:], like.shape[1])
    rows = [torch.rand(last, generator=one, dtype=torch.float64, device=one.device) for one in generators]
    drawn = torch.stack(rows) if rows else like.new_zeros(0, *last)
    return drawn.movedim(-1, 1).to(like)


def normal(like: Tensor, generators: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
    """Return standard normal numbers, drawn as in :func:`uniform`."""
    if generators is None or isinstance(generators, torch.Generator):
        where = like.device if generators is None else generators.device
        return torch.randn(like.shape, generator=generators, dtype=like.dtype, device=where).to(like.device)
    flat = uniform(like.double(), generators).clamp(2**-53, 1 - 2**-53)
    return (math.sqrt(2) * torch.erfinv(2 * flat - 1)).to(like.dtype)
