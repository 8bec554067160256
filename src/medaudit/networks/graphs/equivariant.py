"""All linear maps between numbers of nodes and numbers of pairs that do not care how nodes are numbered.

H. Maron, H. Ben-Hamu, N. Shamir, Y. Lipman, "Invariant and Equivariant Graph Networks" (arXiv 1812.09902): between
tensors of order a and b over n nodes there are as many as ways to part a + b things (at most n parts). A layer has a
matrix over channels for each map: out = (1 / b) sum_k W_k op_k(in), the released code's scale (spec 1.3).

Means run over existing nodes (``masked``: a node's numbers do not depend on how many slots are empty) or over all slots
(``paper``, as in the released code, which has sums where 2 -> 1 and 1 -> 1 pool, and a bias that is never added).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import UsageError

MODES = ("masked", "paper")


class _Equivariant(nn.Module):
    """The matrices of a layer, (maps, c_out, c_in)."""

    maps: int

    def __init__(self, c_in: int, c_out: int, mode: str = "masked") -> None:
        super().__init__()
        if mode not in MODES:
            raise UsageError(f"no mode '{mode}' of an equivariant layer; expected one of {', '.join(MODES)}")
        self.mode = mode
        # Kaiming's uniform with a = sqrt(5) and c_in for the fan is U(-b, b) with b = 1 / sqrt(c_in).
        bound = 1 / math.sqrt(c_in)
        self.weight = nn.Parameter(torch.empty(self.maps, c_out, c_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(c_out)) if mode == "paper" else None

    def ops(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return every map of x by itself, (N, maps, c_in, ...); nothing is cut off where no node is."""
        raise NotImplementedError

    def naive(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return what the layer returns, by way of every map by itself: slow, for comparison."""
        made = self.ops(x, exists)
        flat = mixed(self.weight.transpose(0, 1).flatten(1), made.flatten(1, 2).flatten(2))
        return self._only(flat.unflatten(2, made.shape[3:]) / self.maps, exists)

    def _who(self, exists: Tensor) -> tuple[Tensor, Tensor]:
        """Return who counts (N, 1, n), and one over how many (N, 1, 1)."""
        who = exists if self.mode == "masked" else torch.ones_like(exists)
        return who, 1 / who.sum(2, keepdim=True).clamp(min=1)

    def _only(self, out: Tensor, exists: Tensor) -> Tensor:
        """Return the output, in ``masked`` mode with zeros where no node is."""
        if self.mode == "paper":
            return out
        return out * (exists if out.ndim == 3 else exists.unsqueeze(-1) * exists.unsqueeze(-2))


class Mix(nn.Linear):
    """A product of channels: a 1 x 1 convolution of (N, c_in, ...), several times faster on a CPU as a product."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ...)."""
        return (mixed(self.weight, x.flatten(2)) + self.bias[:, None]).unflatten(2, x.shape[2:])


def mixed(weight: Tensor, x: Tensor) -> Tensor:
    """Return weight @ x, (N, c_out, k) of (c_out, c_in) and (N, c_in, k).

    torch.matmul would copy x to make one product of N.
    """
    return torch.bmm(weight.expand(len(x), -1, -1), x)


class PairToPair(_Equivariant):
    """(N, c_in, n, n) to (N, c_out, n, n): 15 maps."""

    maps = 15

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return (N, c_out, n, n); ``exists`` (N, 1, n).

        Two products of channels for x and its transpose, one for what is added along rows, columns and the diagonal.
        """
        w = self.weight / self.maps
        c_out, n = w.shape[1], x.shape[-1]
        who, share = self._who(exists)
        rows, columns, diagonal = _pooled(x, who)
        rows, columns = rows * share, columns * share
        told = torch.cat([rows, columns, diagonal], dim=1)
        one = torch.cat([(diagonal * who).sum(2), (rows * who).sum(2)], dim=1) * share[:, :, 0]
        along = torch.cat([torch.cat([w[k] for k in role], dim=1) for role in ((6, 5, 11), (8, 7, 12), (2, 3, 0))])
        whole = torch.cat([torch.cat([w[k] for k in role], dim=1) for role in ((13, 14), (1, 4))])
        by_row, by_column, on_diagonal = mixed(along, told).split(c_out, dim=1)
        everywhere, on_it = (one @ whole.T).unsqueeze(2).split(c_out, dim=1)
        pairs = mixed(torch.cat([w[9], w[10]]), x.flatten(2)).unflatten(2, (n, n))
        out = _spread(pairs, by_row + everywhere, by_column, on_diagonal + on_it)
        return self._only(out, exists)

    def ops(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return every map of x, (N, 15, c_in, n, n), in the order of spec 1.3."""
        who, share = self._who(exists)
        n, pair = x.shape[-1], torch.ones_like(x)
        d = x.diagonal(dim1=2, dim2=3)
        r = (x * who.unsqueeze(2)).sum(3) * share
        c = (x * who.unsqueeze(3)).sum(2) * share
        dm = (d * who).sum(2, keepdim=True) * share
        a = (r * who).sum(2, keepdim=True) * share
        one = torch.ones_like(d)
        made = [
            torch.diag_embed(d), torch.diag_embed(dm * one), torch.diag_embed(r), torch.diag_embed(c),
            torch.diag_embed(a * one),
            c.unsqueeze(3).expand(-1, -1, -1, n), r.unsqueeze(3).expand(-1, -1, -1, n),
            c.unsqueeze(2).expand(-1, -1, n, -1), r.unsqueeze(2).expand(-1, -1, n, -1),
            x, x.transpose(2, 3),
            d.unsqueeze(3).expand(-1, -1, -1, n), d.unsqueeze(2).expand(-1, -1, n, -1),
            dm.unsqueeze(3) * pair, a.unsqueeze(3) * pair,
        ]  # fmt: skip
        return torch.stack(made, dim=1)


class NodeToPair(_Equivariant):
    """(N, c_in, n) to (N, c_out, n, n): 5 maps."""

    maps = 5

    def forward(self, f: Tensor, exists: Tensor) -> Tensor:
        """Return (N, c_out, n, n); ``exists`` (N, 1, n)."""
        w = self.weight / self.maps
        who, share = self._who(exists)
        mean = (f * who).sum(2, keepdim=True) * share
        by_column, by_row, on_diagonal = mixed(torch.cat([w[2], w[3], w[0]]), f).split(w.shape[1], dim=1)
        on_it, everywhere = mixed(torch.cat([w[1], w[4]]), mean).split(w.shape[1], dim=1)
        out = (by_row + everywhere).unsqueeze(3) + by_column.unsqueeze(2)
        out.diagonal(dim1=2, dim2=3).add_(on_diagonal + on_it)
        return self._only(out, exists)

    def ops(self, f: Tensor, exists: Tensor) -> Tensor:
        """Return every map of f, (N, 5, c_in, n, n), in the order of spec 1.3."""
        who, share = self._who(exists)
        n = f.shape[-1]
        mean = ((f * who).sum(2, keepdim=True) * share).expand_as(f)
        made = [
            torch.diag_embed(f), torch.diag_embed(mean), f.unsqueeze(2).expand(-1, -1, n, -1),
            f.unsqueeze(3).expand(-1, -1, -1, n), mean.unsqueeze(3).expand(-1, -1, -1, n),
        ]  # fmt: skip
        return torch.stack(made, dim=1)


class PairToNode(_Equivariant):
    """(N, c_in, n, n) to (N, c_out, n): 5 maps; columns, rows and all are summed in ``paper`` mode, else means.

    In the released code's order, so that its weights would mean the same here.
    """

    maps = 5

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return (N, c_out, n); ``exists`` (N, 1, n)."""
        w = self.weight / self.maps
        d, dm, rows, columns, whole = self._told(x, exists)
        out = mixed(torch.cat([w[0], w[2], w[3]], dim=1), torch.cat([d, columns, rows], dim=1))
        return self._only(out + mixed(torch.cat([w[1], w[4]], dim=1), torch.cat([dm, whole], dim=1)), exists)

    def ops(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return every map of x, (N, 5, c_in, n): the diagonal, its mean, columns, rows, all."""
        d, dm, rows, columns, whole = self._told(x, exists)
        return torch.stack([d, dm.expand_as(d), columns, rows, whole.expand_as(d)], dim=1)

    def _told(self, x: Tensor, exists: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        who, share = self._who(exists)
        rows, columns, d = _pooled(x, who)
        dm = (d * who).sum(2, keepdim=True) * share
        if self.mode == "paper":
            return d, dm, rows, columns, rows.sum(2, keepdim=True)
        rows, columns = rows * share, columns * share
        return d, dm, rows, columns, (rows * who).sum(2, keepdim=True) * share


class NodeToNode(_Equivariant):
    """(N, c_in, n) to (N, c_out, n): 2 maps; all are summed in ``paper`` mode, else the mean."""

    maps = 2

    def forward(self, f: Tensor, exists: Tensor) -> Tensor:
        """Return (N, c_out, n); ``exists`` (N, 1, n)."""
        w = self.weight / self.maps
        return self._only(mixed(w[0], f) + mixed(w[1], self._whole(f, exists)), exists)

    def ops(self, f: Tensor, exists: Tensor) -> Tensor:
        """Return both maps of f, (N, 2, c_in, n)."""
        return torch.stack([f, self._whole(f, exists).expand_as(f)], dim=1)

    def _whole(self, f: Tensor, exists: Tensor) -> Tensor:
        who, share = self._who(exists)
        whole = (f * who).sum(2, keepdim=True)
        return whole if self.mode == "paper" else whole * share


class _Pooled(torch.autograd.Function):
    """Sums of rows and of columns over who counts, and the diagonal; the gradient is written in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, who: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, who)
        column = who.unsqueeze(3)
        rows = (x @ column)[..., 0]
        columns = (who.unsqueeze(2) @ x)[..., 0, :]
        return rows, columns, x.diagonal(dim1=2, dim2=3).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, who = ctx.saved_tensors
        rows, columns, diagonal = gradients
        to_x = to_who = None
        if ctx.needs_input_grad[0]:
            to_x = rows.unsqueeze(3) * who.unsqueeze(2)
            to_x.addcmul_(columns.unsqueeze(2), who.unsqueeze(3))
            to_x.diagonal(dim1=2, dim2=3).add_(diagonal)
        if ctx.needs_input_grad[1]:
            to_who = (x * rows.unsqueeze(3)).sum((1, 2)) + (x * columns.unsqueeze(2)).sum((1, 3))
            to_who = to_who.unsqueeze(1)
        return to_x, to_who


def _pooled(x: Tensor, who: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _Pooled.apply(x, who)


class _Spread(torch.autograd.Function):
    """Half the channels, the other half transposed, and what is added along rows, columns and the diagonal."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, by_row: Tensor, by_column: Tensor, on_diagonal: Tensor) -> Tensor:
        straight, turned = pairs.chunk(2, dim=1)
        out = straight + turned.transpose(2, 3)
        out += by_row.unsqueeze(3)
        out += by_column.unsqueeze(2)
        out.diagonal(dim1=2, dim2=3).add_(on_diagonal)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (of,) = gradients
        pairs = torch.cat([of, of.transpose(2, 3)], dim=1)
        return pairs, of.sum(3), of.sum(2), of.diagonal(dim1=2, dim2=3).clone()


def _spread(pairs: Tensor, by_row: Tensor, by_column: Tensor, on_diagonal: Tensor) -> Tensor:
    return _Spread.apply(pairs, by_row, by_column, on_diagonal)
