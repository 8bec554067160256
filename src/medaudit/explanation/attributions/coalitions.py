"""Which parts are left in and which are taken out: coalitions of units, and how much each counts under a law.

Every law here knows a coalition by its size alone, so that one sample of coalitions serves them all: a coalition of
size s weighs what the law gives to size s, shared by the coalitions of that size that there are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError

EXACT = 12
"""As many units, at most, have all their coalitions asked where nobody said how many to ask."""


@dataclass(frozen=True, eq=False)
class Coalitions:
    """Coalitions of M units, n of them; a unit that is in is as it is in the image."""

    masks: Tensor
    """(n, M) bool."""
    partner: Tensor
    """(n,) int64: where the complement is that was drawn with it; -1 for none."""
    whole: Tensor
    """(M + 1,) bool: the sizes of which every coalition is here, once: they have no sampling error."""
    expected: Tensor
    """(M + 1,) float64: how many coalitions of each size the design asks for."""

    @property
    def units(self) -> int:
        """M."""
        return self.masks.shape[1]

    @property
    def sizes(self) -> Tensor:
        """(n,): how many units are in."""
        return self.masks.sum(1)

    def __len__(self) -> int:
        return len(self.masks)


def draw(
    units: int, samples: int | None = None, *, seed: int = 0, law: str = "shapley", share: float = 0.5
) -> Coalitions:
    """Return coalitions, the empty and the full one among them.

    All 2^M where ``samples`` allows, or where it is None and M is 12 or fewer; else 2 M + 2048 by default. Otherwise
    sizes are dealt out in strata, outermost first, as whole where the law gives them so many (``shapley``: the kernel
    of Lundberg & Lee 2017, 1 / (s (M - s)); ``bernoulli``: every unit is in with probability ``share``, which is drawn
    with complements at one half only; ``mixed``: half of each, for estimators of both kinds from one sample), and every
    coalition is drawn with its complement (Covert & Lee 2021).

    Raises UsageError for fewer than 1 unit, an unknown law, or too few samples.
    """
    if units < 1:
        raise UsageError(f"{units} units were given; expected 1 or more")
    if law not in ("shapley", "bernoulli", "mixed"):
        raise UsageError(f"coalitions are drawn by {law!r}; expected shapley, bernoulli or mixed")
    if not 0 < share < 1:
        raise UsageError(f"a unit is in with probability {share}; expected one between 0 and 1")
    asked = samples if samples is not None else (2**units if units <= EXACT else 2 * units + 2048)
    if units <= 20 and asked >= 2**units:
        return all_of(units)
    if asked < 4:
        raise UsageError(f"{asked} coalitions were asked for; expected 4 or more")
    mass = bernoulli(units, share)
    if law != "bernoulli":
        mass = shapley_kernel(units) if law == "shapley" else (shapley_kernel(units) + mass) / 2
    if law == "bernoulli" and share != 0.5:
        return _unpaired(units, asked, mass, seed)
    return _paired(units, asked, mass, seed)


def all_of(units: int) -> Coalitions:
    """Return all 2^M; coalition k has unit i where bit i of k is set."""
    if units > 20:
        raise UsageError(f"{units} units have 2^{units} coalitions; expected 20 or fewer, or a sample")
    number = torch.arange(2**units)
    masks = (number[:, None] >> torch.arange(units)) & 1
    counts = torch.tensor([math.comb(units, s) for s in range(units + 1)], dtype=torch.float64)
    return Coalitions(masks.bool(), number.flip(0), torch.ones(units + 1, dtype=torch.bool), counts)


def leave_one_out(units: int) -> Coalitions:
    """Return the full coalition and those without one unit, in order."""
    masks = torch.cat([torch.ones(1, units, dtype=torch.bool), ~torch.eye(units, dtype=torch.bool)])
    return of_masks(masks)


def of_masks(masks: Tensor | np.ndarray) -> Coalitions:
    """Return coalitions that somebody else drew, (n, M) of True for units that are in.

    What is evaluated at them may be anything: images, the edges of a graph, a service that nobody can look into.
    """
    found = torch.as_tensor(masks)
    if found.ndim != 2 or not ((found == 0) | (found == 1)).all():
        raise DataError(
            f"coalitions are {found.dtype} of shape {tuple(found.shape)}; expected (n, M) of True and False"
        )
    found = found.bool().cpu()
    units = found.shape[1]
    counts = torch.bincount(found.sum(1), minlength=units + 1)
    distinct = torch.bincount(torch.unique(found, dim=0).sum(1), minlength=units + 1)
    every = torch.tensor([min(math.comb(units, s), 2**62) for s in range(units + 1)])
    whole = (distinct == every) & (counts == every)
    return Coalitions(found, torch.full((len(found),), -1), whole, counts.double())


def shapley_kernel(units: int) -> Tensor:
    """Return (M + 1,) the Shapley kernel's mass of each size, 0 for the empty and the full one, which are exact."""
    sizes = torch.arange(units + 1, dtype=torch.float64)
    inner = sizes * (units - sizes)
    return _law(torch.where(inner > 0, 1 / inner.clamp(min=1), 0.0))


def bernoulli(units: int, share: float = 0.5) -> Tensor:
    """Return (M + 1,) of every unit being in by itself with probability ``share``: RISE's law, and at 0.5 Banzhaf's."""
    return _law(torch.tensor([
        math.exp(_log_choose(units, s) + s * math.log(share) + (units - s) * math.log1p(-share))
        for s in range(units + 1)
    ], dtype=torch.float64))  # fmt: skip


def lime_kernel(units: int, width: float, distance: str = "cosine") -> Tensor:
    """Return (M + 1,) of LIME's: every unit in with one half, times exp(-d^2 / (2 width^2)); it does not sum to 1.

    The distance to the full coalition is that of the cosine, 1 - sqrt(s / M) (Ribeiro et al. 2016, for images), or
    ``hamming``, the share of units that are out.
    """
    if not width > 0:
        raise UsageError(f"the kernel's width is {width}; expected more than 0")
    if distance not in ("cosine", "hamming"):
        raise UsageError(f"the kernel's distance is {distance!r}; expected cosine or hamming")
    there = torch.arange(units + 1, dtype=torch.float64) / units
    off = 1 - (there.sqrt() if distance == "cosine" else there)
    return bernoulli(units) * torch.exp(-(off**2) / (2 * width**2))


def weights(coalitions: Coalitions, mass: Tensor) -> Tensor:
    """Return (n,): what each coalition weighs under a law that gives ``mass`` (M + 1,) to sizes.

    Divided by how many of that size there are; where the sample lacks a size that the law wants, by how many there
    were to be expected, which is right on average. Raises UsageError where the sample could not have had a size that
    carries more than one in a thousand of the law.
    """
    if mass.shape != (coalitions.units + 1,):
        raise UsageError(f"the law gives mass to {len(mass) - 1} units; expected {coalitions.units}")
    have = torch.bincount(coalitions.sizes, minlength=coalitions.units + 1).double()
    never = mass[(coalitions.expected <= 0) & (have == 0)].sum() / mass.sum()
    if never > 1e-3:
        raise UsageError(f"these coalitions are of sizes that carry {1 - float(never):.1%} of the law that is wanted; "
                         "expected ones drawn by another law")  # fmt: skip
    missed = (have == 0) & (mass > 1e-4 * mass.sum())
    by = coalitions.expected if missed.any() else have
    by = torch.where(by > 0, by, have)
    return (mass / by.clamp(min=1e-300) * (have > 0))[coalitions.sizes]


def effective(weight: Tensor) -> float:
    """Return the effective sample size, (sum w)^2 / sum w^2: how many equal ones would tell as much."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _paired(units: int, samples: int, mass: Tensor, seed: int) -> Coalitions:
    rng = np.random.default_rng(seed)
    half = units // 2
    outer = mass[1:units].sum()
    law = {s: float((mass[s] + (mass[units - s] if s != units - s else 0)) / outer) for s in range(1, half + 1)}
    left, rest = (samples - 2) // 2, 1.0
    blocks = [np.zeros((1, units), bool), np.ones((1, units), bool)]
    partner = [np.array([1]), np.array([0])]
    expected = np.zeros(units + 1)
    expected[[0, units]] = 1
    place, start = 2, 1
    while start <= half:  # whole strata, from the outside in, as long as the law gives them so many
        pairs = math.comb(units, start) // (1 if start != units - start else 2)
        if rest <= 0 or pairs > left * law[start] / rest + 1e-9:
            break
        ones = _every(units, start)[:pairs]
        blocks += [ones, ~ones]
        partner += [place + pairs + np.arange(pairs), place + np.arange(pairs)]
        expected[[start, units - start]] = math.comb(units, start)
        place, left, rest, start = place + 2 * pairs, left - pairs, rest - law[start], start + 1
    if start <= half and left > 0:
        sizes = np.arange(start, half + 1)
        share = np.array([law[int(s)] for s in sizes])
        wanted = left * share / share.sum()
        ends = np.floor(np.cumsum(wanted) + rng.random()).astype(int)
        many = np.diff(ends, prepend=0)
        many[-1] += left - many.sum()
        expected[sizes] += wanted
        expected[units - sizes] += wanted
        each = np.repeat(sizes, many)
        ones = rng.random((len(each), units)).argsort(1).argsort(1) < each[:, None]
        blocks += [ones, ~ones]
        partner += [place + len(each) + np.arange(len(each)), place + np.arange(len(each))]
    masks = torch.from_numpy(np.concatenate(blocks))
    whole = torch.tensor([s in (0, units) or min(s, units - s) < start for s in range(units + 1)])
    return Coalitions(masks, torch.from_numpy(np.concatenate(partner)), whole, torch.from_numpy(expected))


def _unpaired(units: int, samples: int, mass: Tensor, seed: int) -> Coalitions:
    rng = np.random.default_rng(seed)
    wanted = (samples - 2) * mass.numpy()
    ends = np.floor(np.cumsum(wanted) + rng.random()).astype(int)
    many = np.diff(ends, prepend=0)
    many[np.argmax(many)] += samples - 2 - many.sum()
    each = np.repeat(np.arange(units + 1), many)
    ones = rng.random((len(each), units)).argsort(1).argsort(1) < each[:, None]
    masks = torch.from_numpy(np.concatenate([np.zeros((1, units), bool), np.ones((1, units), bool), ones]))
    expected = torch.from_numpy(wanted)
    expected[[0, units]] += 1
    whole = torch.zeros(units + 1, dtype=torch.bool)
    whole[[0, units]] = True
    return Coalitions(masks, torch.full((len(masks),), -1), whole, expected)


def _every(units: int, size: int) -> np.ndarray:
    rows = np.array(list(itertools.combinations(range(units), size)), dtype=np.int64).reshape(-1, size)
    found = np.zeros((len(rows), units), bool)
    np.put_along_axis(found, rows, True, axis=1)
    return found


def _law(mass: Tensor) -> Tensor:
    return mass / mass.sum() if mass.sum() > 0 else mass


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
