"""Values of coalitions, asked once, and every way of sharing them out: the same evaluations, weighted differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.absence import Absence
from medaudit.explanation.attributions.batching import (
    Scalar,
    every,
    finite,
    generator,
    in_batches,
    rows_at_once,
    scalar,
)  # fmt: skip
from medaudit.explanation.attributions.coalitions import (
    Coalitions,
    bernoulli,
    effective,
    lime_kernel,
    shapley_kernel,
    weights,
)  # fmt: skip
from medaudit.explanation.attributions.units import Units, kept, paint


@dataclass(frozen=True, eq=False)
class UnitValues:
    """What each unit is given."""

    values: Tensor
    """(N, M) float64."""
    standard_error: Tensor | None
    """(N, M) float64, of the drawing of coalitions; 0 where all were asked; None where there is none to be had."""
    effective: float
    """How many coalitions of equal weight would tell as much."""
    samples: int
    """How many coalitions were asked."""

    def painted(self, units: Units) -> Tensor:
        """Return (N, *spatial) float32."""
        return paint(self.values, units).float()


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Coalitions and their values, from which every estimator of this file takes what it needs."""

    coalitions: Coalitions
    values: Tensor
    """(n, N) float64."""


def mask_bank(
    f: Scalar, x: Tensor, coalitions: Coalitions, units: Units, absence: Absence, *, rows: Tensor | None = None,
    at_once: int | None = None,
) -> MaskBank:  # fmt: skip
    """Return the value of every coalition for each of ``x`` (N, ...): the mean over what absence puts in its place.

    Units that are out are as ``absence`` has them. Masked inputs are made batch by batch, of ``at_once`` rows in all.
    """
    return MaskBank(coalitions, evaluate(f, x, coalitions.masks, units, absence, rows=rows, at_once=at_once))


def evaluate(
    f: Scalar, x: Tensor, masks: Tensor, units: Units, absence: Absence, *, rows: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:  # fmt: skip
    """Return (n, N) float64 on the CPU: ``f`` where only the units in masks (n, M) are left of ``x`` (N, ...)."""
    own = units.check(x)
    if masks.shape[1] != own.count:
        raise UsageError(f"coalitions are of {masks.shape[1]} units; expected {own.count}, as there are")
    where = masks.to(x.device)

    def keep(start: int, stop: int, here: slice) -> Tensor:
        return kept(where[start:stop], own.labels if len(own.labels) == 1 else own.labels[here], x)

    return _asked(f, x, len(masks), keep, absence, rows, at_once)


def bank_of(value: Callable[[Tensor], Tensor], coalitions: Coalitions) -> MaskBank:
    """Return the bank of any function of masks, (n, M) bool to (n,) or (n, N): edges of graphs, words, a service."""
    found = torch.as_tensor(value(coalitions.masks)).double().cpu()
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or len(found) != len(coalitions):
        raise DataError(f"the function of masks returns shape {tuple(found.shape)}; expected ({len(coalitions)},) or "
                        f"({len(coalitions)}, N)")  # fmt: skip
    return MaskBank(coalitions, finite(found, "the value of a coalition"))


def shapley(bank: MaskBank) -> UnitValues:
    """Return Shapley values by the weighted least squares of Lundberg & Lee (2017), which sum to f(x) - f(absent).

    The sum is a constraint of the fit, exact up to rounding. With all coalitions these are the Shapley values; else
    standard errors are of the sandwich kind, a coalition and its complement one draw of their stratum, and whole
    strata without error.
    """
    empty, full = _ends(bank)
    weight = weights(bank.coalitions, shapley_kernel(bank.coalitions.units))
    masks, values = bank.coalitions.masks.double(), bank.values
    units = masks.shape[1]
    if units == 1:
        return UnitValues((full - empty)[:, None], torch.zeros(len(full), 1).double(), 1.0, len(masks))
    inverse = _inverse(masks.T @ (weight[:, None] * masks), units)
    ones = inverse.sum(1)
    project = inverse @ (masks * weight[:, None]).T
    project = project - torch.outer(ones, project.sum(0)) / ones.sum()
    found = project @ (values - empty) + torch.outer(ones / ones.sum(), full - empty)
    found = found + (full - empty - found.sum(0)) / units
    residual = values - empty - masks @ found
    error = _error(project, residual, bank.coalitions, units - 1)
    return UnitValues(found.T, error.T, effective(weight), len(masks))


def banzhaf(bank: MaskBank) -> UnitValues:
    """Return Banzhaf values: the best linear fit where every unit is in with one half (Hammer & Holzman 1992)."""
    return surrogate(bank, weights(bank.coalitions, bernoulli(bank.coalitions.units)))


def lime(bank: MaskBank, width: float = 0.25, *, ridge: float = 0.0, distance: str = "cosine") -> UnitValues:
    """Return LIME's (Ribeiro et al. 2016): the slopes of a linear fit, weighted by the kernel of ``width``.

    Weights are as of n coalitions of which every unit is in with one half, so that ``ridge`` means the same whatever
    law the coalitions were drawn by. A narrow kernel wants coalitions that are nearly full: ``effective`` says how many
    there were.
    """
    mass = lime_kernel(bank.coalitions.units, width, distance)
    return surrogate(bank, len(bank.coalitions) * weights(bank.coalitions, mass), ridge=ridge)


def surrogate(bank: MaskBank, weight: Tensor, *, ridge: float = 0.0) -> UnitValues:
    """Return slopes of a linear fit with an intercept to values, weighted by ``weight`` (n,), penalised by ``ridge``.

    One factorisation serves all images. Raises UsageError where the coalitions do not determine it.
    """
    if not ridge >= 0:
        raise UsageError(f"the ridge is {ridge}; expected 0 or more")
    masks, values = bank.coalitions.masks.double(), bank.values
    units = masks.shape[1]
    total = weight.sum()
    off = masks - (weight @ masks) / total
    inverse = _inverse(off.T @ (weight[:, None] * off) + ridge * torch.eye(units).double(), units)
    project = inverse @ (off * weight[:, None]).T
    found = project @ values
    residual = values - (weight @ values) / total - off @ found
    error = _error(project, residual, bank.coalitions, units)
    return UnitValues(found.T, error.T, effective(weight), len(masks))


def mean_mask(bank: MaskBank, share: float = 0.5) -> UnitValues:
    """Return the mean value where a unit is in, every unit in with probability ``share`` (RISE, Petsiuk et al. 2018).

    It is a mean, not a difference: a unit that does nothing has the mean of all.
    """
    weight = weights(bank.coalitions, bernoulli(bank.coalitions.units, share))
    masks = bank.coalitions.masks.double() * weight[:, None]
    total = masks.sum(0)
    if (total <= 0).any():
        raise UsageError(f"unit {int(torch.nonzero(total <= 0)[0])} is in no coalition; expected more coalitions")
    project = (masks / total).T
    found = project @ bank.values
    error = _mean_error(project, bank.values, found, bank.coalitions)
    return UnitValues(found.T, error.T, effective(weight), len(masks))


def without_one(bank: MaskBank) -> UnitValues:
    """Return f(x) - f(x without the unit): occlusion, or feature ablation."""
    return _single(bank, bank.coalitions.units - 1)


def with_one(bank: MaskBank) -> UnitValues:
    """Return f(the unit alone) - f(absent)."""
    return _single(bank, 1)


def exact_shapley(bank: MaskBank) -> Tensor:
    """Return (N, M) by the definition, from all 2^M coalitions: the mean marginal contribution over all orders."""
    units = bank.coalitions.units
    law = torch.tensor([1 / (units * math.comb(units - 1, s)) for s in range(units)], dtype=torch.float64)
    return _marginal(bank, lambda size: law[size])


def exact_banzhaf(bank: MaskBank) -> Tensor:
    """Return (N, M) by the definition, from all 2^M coalitions: the mean marginal contribution over all coalitions."""
    units = bank.coalitions.units
    return _marginal(bank, lambda size: torch.full(size.shape, 0.5 ** (units - 1)).double())


def ablation(
    f: Scalar, x: Tensor, units: Units, absence: Absence, *, rows: Tensor | None = None, at_once: int | None = None
) -> UnitValues:  # fmt: skip
    """Return f(x) - f(x without the unit), asking no more than it needs: M + 1 values an image."""
    own = units.check(x)

    def keep(start: int, stop: int, here: slice) -> Tensor:
        labels = own.labels if len(own.labels) == 1 else own.labels[here]
        out = torch.arange(start, stop, device=x.device)  # the last, M, is the image itself
        where = labels != out.reshape(-1, *([1] * labels.ndim))
        return where if x.ndim == 2 else where.unsqueeze(2)

    told = _asked(f, x, own.count + 1, keep, absence, rows, at_once)
    return UnitValues((told[-1] - told[:-1]).T, None, float(own.count), own.count + 1)


def occlusion(
    f: Scalar, x: Tensor, absence: Absence, window: int | Sequence[int], stride: int | Sequence[int] | None = None, *,
    rows: Tensor | None = None, at_once: int | None = None,
) -> Tensor:  # fmt: skip
    """Return (N, *spatial): the mean drop over all windows that cover a pixel, all channels taken out together.

    Windows start at every multiple of ``stride`` (by default the window) until one reaches the far border, where the
    last is cut.
    """
    shape = tuple(x.shape[2:])
    wide, by = (_axes(part, shape) for part in (window, window if stride is None else stride))
    if any(not 1 <= b <= w <= size for b, w, size in zip(by, wide, shape, strict=True)):
        raise UsageError(f"the window is {wide} by {by} on {shape}; expected strides of 1 to the window, and windows "
                         "no wider than the image")  # fmt: skip
    counts = [-((w - size) // b) + 1 for w, b, size in zip(wide, by, shape, strict=True)]
    total = math.prod(counts)

    def inside(start: int, stop: int) -> Tensor:
        left = torch.arange(start, stop, device=x.device)
        found = torch.ones((stop - start, *[1] * len(shape)), dtype=torch.bool, device=x.device)
        for axis in reversed(range(len(shape))):
            first = (left % counts[axis]) * by[axis]
            left = left // counts[axis]
            along = torch.arange(shape[axis], device=x.device)
            hit = (along >= first[:, None]) & (along < first[:, None] + wide[axis])
            found = found & hit.reshape([-1] + [shape[axis] if k == axis else 1 for k in range(len(shape))])
        return found

    def keep(start: int, stop: int, here: slice) -> Tensor:
        # The last is the image itself.
        last = torch.zeros((1, *shape), dtype=torch.bool, device=x.device)
        covered = inside(start, min(stop, total))
        return ~(torch.cat([covered, last]) if stop > total else covered)[:, None, None]

    told = _asked(f, x, total + 1, keep, absence, rows, at_once)
    drop = (told[-1] - told[:-1]).to(torch.float32)
    found, times = torch.zeros(len(x), math.prod(shape)), torch.zeros(math.prod(shape))
    block = max(1, 2**24 // math.prod(shape))
    for start in range(0, total, block):
        covered = inside(start, min(start + block, total)).flatten(1).float().cpu()
        found += drop[start : start + block].T @ covered
        times += covered.sum(0)
    return (found / times).reshape(len(x), *shape).to(x.device)


def rise(
    f: Scalar, x: Tensor, absence: Absence, *, cells: int = 7, share: float = 0.5, draws: int = 1000, seed: int = 0,
    rows: Tensor | None = None, at_once: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return RISE's map (N, *spatial) and its standard error: the mean value, weighted by smooth random masks.

    Each of ``draws`` masks is a grid of ``cells`` an axis, each in with probability ``share``, drawn out linearly and
    shifted at random (Petsiuk et al. 2018); the same masks for all images. What is out is as the absence's references,
    mixed as the mask says. Divided by each pixel's own mean mask.
    """
    if x.ndim < 3:
        raise UsageError(f"smooth masks were asked of shape {tuple(x.shape)}; expected images (N, C, *spatial)")
    if draws < 2 or not 0 < share < 1 or cells < 1:
        raise UsageError(f"{draws} masks of {cells} cells, in with probability {share}; expected 2 or more, 1 or more, "
                         "and a probability between 0 and 1")  # fmt: skip
    which = every(x) if rows is None else rows
    step = at_once or rows_at_once(f, x, which, gradients=False)
    shape = tuple(x.shape[2:])
    stream = generator(seed, 0)
    size = math.prod(shape)
    mass = torch.zeros(size, dtype=torch.float64)
    square = torch.zeros_like(mass)
    sums = [torch.zeros(len(x), size, dtype=torch.float64) for _ in range(3)]
    block = max(1, min(step, 64))
    for first in range(0, draws, block):
        masks = torch.stack([_smooth(shape, cells, share, stream) for _ in range(min(block, draws - first))])
        told = torch.empty(len(masks), len(x), dtype=torch.float64)
        for n in range(len(x)):
            own = absence(x[n : n + 1], which[n : n + 1])[:, 0]

            def ask(
                start: int, stop: int, n: int = n, own: Tensor = own, masks: Tensor = masks, told: Tensor = told
            ) -> None:  # fmt: skip
                soft = masks[start:stop].to(x)[:, None, None]
                points = (soft * x[n] + (1 - soft) * own).flatten(0, 1)
                with torch.inference_mode():
                    found = scalar(f, points, which[n].expand(len(points))).double().cpu()
                told[start:stop, n] = found.reshape(stop - start, -1).mean(1)

            in_batches(ask, len(masks), max(1, step // absence.count))
        finite(told, "the value of a mask")
        flat = masks.flatten(1).double()
        mass += flat.sum(0)
        square += (flat**2).sum(0)
        for total, value, power in zip(sums, (told, told, told**2), (1, 2, 2), strict=True):
            total += value.T @ flat**power
    mass = mass.clamp(min=1e-12)
    mean = sums[0] / mass
    error = (sums[2] - 2 * mean * sums[1] + mean**2 * square).clamp(min=0).sqrt() / mass
    found, deviation = (part.reshape(len(x), *shape).float().to(x.device) for part in (mean, error))
    return found, deviation


def _asked(
    f: Scalar, x: Tensor, count: int, keep: Callable[[int, int, slice], Tensor], absence: Absence,
    rows: Tensor | None, at_once: int | None,
) -> Tensor:  # fmt: skip
    """Return (count, N): each of ``count`` masks, made by ``keep(start, stop, images)``, on each image."""
    which = every(x) if rows is None else rows
    step = at_once or rows_at_once(f, x, which, gradients=False)
    found = torch.empty(count, len(x), dtype=torch.float64)
    many = absence.count
    wide = max(1, min(len(x), step // many))
    for first in range(0, len(x), wide):
        here = slice(first, min(first + wide, len(x)))
        own, whose = x[here], which[here]
        references = None if absence.paint is not None else absence(own, whose)

        def ask(
            start: int, stop: int, own: Tensor = own, whose: Tensor = whose, here: slice = here,
            references: Tensor | None = references,
        ) -> None:  # fmt: skip
            with torch.inference_mode():
                there = keep(start, stop, here)
                m, n = stop - start, len(own)
                if references is not None:
                    points = torch.where(there[:, None], own, references)
                else:
                    alike = own.expand(m, *own.shape).flatten(0, 1)
                    mask = (there if x.ndim == 2 else there[:, :, 0]).expand(m, n, *_spatial(x)).flatten(0, 1)
                    painted = absence.filled(alike, mask, whose.repeat(m))
                    points = painted.reshape(many, m, *own.shape).movedim(0, 1)
                points, whom = points.flatten(0, 2), whose.repeat(m * many)
                told = [
                    scalar(f, points[k : k + step], whom[k : k + step]).double()
                    for k in range(0, len(points), max(step, 1))
                ]
                found[start:stop, here] = torch.cat(told).reshape(m, many, n).mean(1).cpu()

        in_batches(ask, count, max(1, step // (wide * many)))
    return finite(found, "the value of a coalition")


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[1:] if x.ndim == 2 else x.shape[2:])


def _ends(bank: MaskBank) -> tuple[Tensor, Tensor]:
    """Return the values (N,) of the empty and of the full coalition."""
    sizes = bank.coalitions.sizes
    found = []
    for size, name in ((0, "empty"), (bank.coalitions.units, "full")):
        where = torch.nonzero(sizes == size)[:, 0]
        if len(where) == 0:
            raise UsageError(f"the {name} coalition is not among those asked; expected it, for the sum to be right")
        found.append(bank.values[where[0]])
    return found[0], found[1]


def _inverse(matrix: Tensor, units: int) -> Tensor:
    root, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed) or float(root.diagonal().min() / root.diagonal().max()) < 1e-7:
        raise UsageError(f"these coalitions do not determine the values of {units} units; expected more of them")
    return torch.cholesky_inverse(root)


def _drawn(coalitions: Coalitions) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the places of drawn coalitions, of each one's partner among these (-1), and of each stratum."""
    place = torch.nonzero(~coalitions.whole[coalitions.sizes])[:, 0]
    where = torch.full((len(coalitions) + 1,), -1)
    where[place] = torch.arange(len(place))
    partner = where[coalitions.partner[place]]  # partner -1 looks at the last place, which is -1
    sizes = coalitions.sizes[place]
    stratum = torch.where(partner >= 0, torch.minimum(sizes, coalitions.units - sizes), sizes)
    return place, partner, [torch.nonzero(stratum == s)[:, 0] for s in torch.unique(stratum).tolist()]


def _error(project: Tensor, residual: Tensor, coalitions: Coalitions, fitted: int) -> Tensor:
    """Return (M, N) standard errors of ``project`` (M, n) times values with residuals (n, N)."""
    place, partner, strata = _drawn(coalitions)
    if len(place) == 0:
        return torch.zeros(len(project), residual.shape[1], dtype=torch.float64)
    p, r = project[:, place], residual[place]
    beside, there = partner.clamp(min=0), (partner >= 0).double()
    total = (p**2) @ (r**2) + (p * p[:, beside] * there) @ (r * r[beside])
    for rows in strata:
        pairs = len(rows) / (1 + float(there[rows].mean()))
        if pairs > 1:
            total = total - (p[:, rows] @ r[rows]) ** 2 / pairs
    draws = len(place) / (1 + float(there.mean()))
    return (total.clamp(min=0) * draws / max(draws - fitted, 1.0)).sqrt()


def _mean_error(project: Tensor, values: Tensor, mean: Tensor, coalitions: Coalitions) -> Tensor:
    """Return (M, N) standard errors of weighted means (M, N), whose residuals differ from unit to unit."""
    place, partner, strata = _drawn(coalitions)
    if len(place) == 0:
        return torch.zeros_like(mean)
    p, v = project[:, place], values[place]
    beside, there = partner.clamp(min=0), (partner >= 0).double()

    def squares(q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return q @ (a * b) - mean * (q @ (a + b)) + mean**2 * q.sum(1, keepdim=True)

    total = squares(p**2, v, v) + squares(p * p[:, beside] * there, v, v[beside])
    for rows in strata:
        pairs = len(rows) / (1 + float(there[rows].mean()))
        if pairs > 1:
            total = total - (p[:, rows] @ v[rows] - mean * p[:, rows].sum(1, keepdim=True)) ** 2 / pairs
    draws = len(place) / (1 + float(there.mean()))
    return (total.clamp(min=0) * draws / max(draws - 1, 1.0)).sqrt()


def _single(bank: MaskBank, size: int) -> UnitValues:
    units = bank.coalitions.units
    masks, sizes = bank.coalitions.masks, bank.coalitions.sizes
    alone = size == 1 and units > 1
    rows = torch.nonzero(sizes == size)[:, 0]
    which = (masks[rows] if alone else ~masks[rows]).long().argmax(1)
    if len(torch.unique(which)) != units:
        what = "each unit alone" if alone else "all but each unit"
        raise UsageError(f"coalitions of {what} are not all among those asked; expected these {units}")
    at = torch.empty(units, dtype=torch.int64)
    at[which] = rows
    end = torch.nonzero(sizes == (0 if alone else units))[:, 0]
    if len(end) == 0:
        raise UsageError(f"the {'empty' if alone else 'full'} coalition is not among those asked; expected it")
    found = bank.values[at] - bank.values[end[0]]
    return UnitValues((found if alone else -found).T, None, float(units), units + 1)


def _marginal(bank: MaskBank, law: Callable[[Tensor], Tensor]) -> Tensor:
    units = bank.coalitions.units
    number = (bank.coalitions.masks.long() << torch.arange(units)).sum(1)
    if units > 20 or len(torch.unique(number)) != 2**units:
        raise UsageError(f"the exact values need all 2^{units} coalitions; expected all of them")
    value = torch.empty(2**units, bank.values.shape[1], dtype=torch.float64)
    value[number] = bank.values
    every_one = torch.arange(2**units)
    size = ((every_one[:, None] >> torch.arange(units)) & 1).sum(1)
    found = []
    for unit in range(units):
        out = every_one[(every_one >> unit) & 1 == 0]
        found.append(law(size[out]) @ (value[out | (1 << unit)] - value[out]))
    return torch.stack(found, 1)


def _smooth(shape: tuple[int, ...], cells: int, share: float, stream: torch.Generator) -> Tensor:
    """Return one mask (*spatial) in [0, 1]."""
    dims = len(shape)
    step = [-(-size // cells) for size in shape]
    coarse = (torch.rand([cells + 1] * dims, generator=stream) < share).float()
    at = [int(torch.randint(s, (), generator=stream)) for s in step]
    mode = ("linear", "bilinear", "trilinear")[dims - 1]
    drawn = F.interpolate(coarse[None, None], [(cells + 1) * s for s in step], mode=mode, align_corners=False)[0, 0]
    return drawn[tuple(slice(a, a + size) for a, size in zip(at, shape, strict=True))]


def _axes(value: int | Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    found = (value,) * len(shape) if isinstance(value, int) else tuple(value)
    if len(found) != len(shape):
        raise UsageError(f"{found} has {len(found)} axes; expected {len(shape)}")
    return found
