"""Do the numbers of a map say what a change of the image does to the score?

Infidelity and max-sensitivity (Yeh et al., NeurIPS 2019), sensitivity-n (Ancona et al., ICLR 2018), of which
faithfulness correlation (Bhatt et al., IJCAI 2020) is the case of one n, completeness (Sundararajan et al., ICML 2017),
local Lipschitz constants (Alvarez-Melis & Jaakkola 2018), and convergence in the number of steps. None is neutral:
infidelity assumes a law of noise and that effects add, max-sensitivity a ball, and a map that is the same for all
images is as insensitive as can be.

``f`` is as in :mod:`medaudit.explanation.warrants.curves`; maps are (N, *spatial), channels summed, or of the shape of
``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants.curves import Score, scored
from medaudit.explanation.warrants.maps import pair, slices

Noise = Callable[[Tensor, torch.Generator], Tensor]
"""Images (B, ...) and a generator to what is taken away from each, (B, ...)."""
Explain = Callable[[Any, Tensor, Any], Tensor]
"""A model, images (N, ...) and targets (N,) or None to maps (N, ...): the method to be tested."""


def gaussian_noise(sd: float, *, per_pixel: bool = True) -> Noise:
    """Return the law of Gaussian noise of standard deviation ``sd``, alike in all channels if ``per_pixel``."""

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(x), 1, *x.shape[2:]) if per_pixel and x.ndim > 2 else x.shape
        return (sd * torch.randn(shape, generator=generator, device=generator.device).to(x)).expand_as(x)

    return draw


def removal_noise(absent: Tensor | float, share: float = 0.2) -> Noise:
    """Return the law that sets a random ``share`` of the pixels to ``absent``, all channels of a pixel together."""

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(x), 1, *x.shape[2:]) if x.ndim > 2 else x.shape
        gone = torch.rand(shape, generator=generator, device=generator.device).to(x) < share
        return (x - torch.as_tensor(absent, dtype=x.dtype, device=x.device)) * gone

    return draw


@dataclass(frozen=True, eq=False)
class Infidelity:
    """How far a map's word about noise is from what the noise does; all (N,)."""

    value: np.ndarray
    """Mean square of (noise times map) less (change of the score)."""
    scaled: np.ndarray
    """The same after the map is multiplied by what suits it best."""
    change: np.ndarray
    """Mean square of the change of the score: the infidelity of a map of zeros."""

    @property
    def relative(self) -> np.ndarray:
        """(N,): infidelity over that of a map of zeros: above 1 it is worse than none; NaN where nothing changes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.change > 0, self.value / self.change, np.nan)


def infidelity(
    f: Score, x: Tensor, maps: Tensor, noise: Noise, *, draws: int = 50,
    contribution_from: Tensor | float | None = None, generator: torch.Generator | None = None, at_once: int = 64,
) -> Infidelity:  # fmt: skip
    """Return the infidelity of ``maps`` under the law of ``noise``: E[(noise . map - (f(x) - f(x - noise)))^2].

    A map must be a slope. One of contributions (that adds up to f(x) - f(absent)) is one after division by x - absent:
    give ``contribution_from``, what is absent; where x is absent, the slope is 0. A map without channels needs noise
    that is alike in all channels, or sums a product that it does not have: DataError.
    """
    generator = generator or torch.Generator().manual_seed(0)
    n, per_pixel = len(x), tuple(maps.shape) != tuple(x.shape)
    if per_pixel and tuple(maps.shape) != (n, *x.shape[2:]):
        raise DataError(f"maps have shape {tuple(maps.shape)}; expected {(n, *x.shape[2:])} or {tuple(x.shape)}")
    slope = maps.detach().to(x)
    if contribution_from is not None:
        if per_pixel:
            if x.shape[1] != 1:
                raise UsageError("contributions without channels cannot be turned into slopes; give maps with channels")
            slope = slope.unsqueeze(1)
            per_pixel = False
        away = x - torch.as_tensor(contribution_from, dtype=x.dtype, device=x.device)
        slope = torch.where(
            away != 0, slope / torch.where(away != 0, away, torch.ones_like(away)), torch.zeros_like(away)
        )
    before = _all(f, x, at_once)
    told, seen = np.empty((draws, n)), np.empty((draws, n))
    for part in slices(draws * n, at_once):
        row = torch.arange(part.start, part.stop, device=x.device) % n
        away = noise(x[row], generator)
        if per_pixel:
            if x.shape[1] > 1 and not torch.equal(away, away[:, :1].expand_as(away)):
                raise DataError("the noise differs between channels and the map has none; give a map with channels")
            product = (away[:, 0] * slope[row]).flatten(1)
        else:
            product = (away * slope[row]).flatten(1)
        told.ravel()[part] = product.double().sum(1).cpu().numpy()
        seen.ravel()[part] = before[row.cpu().numpy()] - scored(f, x[row] - away, row).double().cpu().numpy()
    square = np.square(told).mean(0)
    fit = np.divide((told * seen).mean(0), square, out=np.zeros(n), where=square > 0)
    return Infidelity(np.square(told - seen).mean(0), np.square(fit * told - seen).mean(0), np.square(seen).mean(0))


@dataclass(frozen=True, eq=False)
class Stability:
    """How much a map moves when the image hardly does; both (N,), the largest over draws."""

    max_sensitivity: np.ndarray
    """Length of the map's change over the length of the map."""
    lipschitz: np.ndarray
    """Length of the map's change over the length of the image's."""


def stability(
    explain: Explain, model: Any, x: Tensor, targets: Any = None, *, radius: float = 0.02, draws: int = 10,
    perturb: Noise | None = None, generator: torch.Generator | None = None, at_once: int = 64,
) -> Stability:  # fmt: skip
    """Return max-sensitivity and local Lipschitz constants of a method.

    Images are moved by uniform noise up to ``radius`` (in units of the model's input), or by what ``perturb`` draws,
    added. A method with a state (a random generator) may answer differently for the same image: that counts too.
    """
    generator = generator or torch.Generator().manual_seed(0)
    n = len(x)
    own = torch.cat([explain(model, x[k], _of(targets, k, n)).detach().flatten(1) for k in slices(n, at_once)]).double()
    length = own.norm(dim=1)
    length = torch.where(length > 0, length, torch.ones_like(length))
    most, steep = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for part in slices(draws * n, at_once):
        row = torch.arange(part.start, part.stop) % n
        here = x[row.to(x.device)]
        if perturb is None:
            away = radius * (2 * torch.rand(here.shape, generator=generator, device=generator.device).to(x) - 1)
        else:
            away = perturb(here, generator)
        moved = explain(model, here + away, _of(targets, row, n)).detach().flatten(1).double()
        change = (moved - own[row.to(own.device)]).norm(dim=1)
        step = away.flatten(1).double().norm(dim=1)
        most.scatter_reduce_(0, row, (change / length[row.to(own.device)]).cpu(), "amax")
        slope = torch.where(step > 0, change / step.clamp(min=1e-300), torch.zeros_like(step))
        steep.scatter_reduce_(0, row, slope.cpu(), "amax")
    return Stability(most.numpy(), steep.numpy())


def sensitivity_n(
    f: Score, x: Tensor, maps: Tensor, sizes: Sequence[int], *, absent: Tensor | float, draws: int = 50,
    generator: torch.Generator | None = None, at_once: int = 64,
) -> np.ndarray:  # fmt: skip
    """Return (N, sizes): the correlation, over random sets of n units, of their sum in the map and what removal does.

    1 for all n where contributions are what they claim to be and do not interact. With one size it is faithfulness
    correlation. NaN where either does not vary. Sets are of pixels (all channels) or of columns; map (N, *spatial).
    """
    generator = generator or torch.Generator().manual_seed(0)
    n, flat = len(x), maps.detach().to(x).flatten(1).double()
    spatial = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    size = flat.shape[1]
    if tuple(maps.shape) != (n, *spatial):
        raise DataError(f"maps have shape {tuple(maps.shape)}; expected {(n, *spatial)}, a number a place")
    if not sizes or min(sizes) < 1 or max(sizes) > size:
        raise UsageError(f"sizes of sets are {list(sizes)}; expected 1 to {size}, the number of units")
    nothing = torch.as_tensor(absent, dtype=x.dtype, device=x.device).expand_as(x)
    before = _all(f, x, at_once)
    found = np.empty((n, len(sizes)))
    for column, count in enumerate(sizes):
        told, seen = np.empty((n, draws)), np.empty((n, draws))
        for part in slices(n * draws, at_once):
            row = torch.arange(part.start, part.stop, device=x.device) // draws
            drawn = torch.rand(len(row), size, generator=generator, device=generator.device).to(x.device)
            gone = torch.zeros(len(row), size, dtype=torch.bool, device=x.device)
            gone.scatter_(1, drawn.topk(count, dim=1).indices, True)
            mask = gone.reshape(len(row), *spatial)
            made = torch.where(mask.unsqueeze(1) if x.ndim > 2 else mask, nothing[row], x[row])
            told.ravel()[part] = (flat[row] * gone).sum(1).cpu().numpy()
            seen.ravel()[part] = before[row.cpu().numpy()] - scored(f, made, row).double().cpu().numpy()
        found[:, column] = _correlation(told, seen)
    return found


def faithfulness_correlation(f: Score, x: Tensor, maps: Tensor, size: int, **how: Any) -> np.ndarray:
    """Return faithfulness correlation (N,) for sets of ``size`` units; options are those of :func:`sensitivity_n`."""
    return sensitivity_n(f, x, maps, [size], **how)[:, 0]


def completeness_gap(
    f: Score, x: Tensor, maps: Tensor, *, absent: Tensor | float | None = None, at_once: int = 64
) -> np.ndarray:  # fmt: skip
    """Return abs(sum of the map - (f(x) - f(absent))) over abs(f(x) - f(absent)), (N,); infinite if that is 0.

    Without ``absent`` the score of absence counts as 0, which is how conservation of relevance is meant. Of several
    references, the gap of each is needed: the mean can hide it.
    """
    change = _all(f, x, at_once)
    if absent is not None:
        change = change - _all(
            f, torch.as_tensor(absent, dtype=x.dtype, device=x.device).expand_as(x).contiguous(), at_once
        )
    total = maps.detach().flatten(1).double().sum(1).cpu().numpy()
    with np.errstate(divide="ignore"):
        gap = np.abs(total - change)
        return np.where(gap == 0, 0.0, np.divide(gap, np.abs(change), out=np.full(len(gap), np.inf), where=change != 0))


def convergence(coarse: Any, fine: Any) -> np.ndarray:
    """Return the length of the difference of maps made with n and with 2n steps, over that of the finer, (N,)."""
    a, b = pair(coarse, fine)
    length = np.sqrt(np.square(b).sum(1))
    apart = np.sqrt(np.square(a - b).sum(1))
    return np.where(apart == 0, 0.0, np.divide(apart, length, out=np.full(len(a), np.inf), where=length > 0))


def _all(f: Score, x: Tensor, at_once: int) -> np.ndarray:
    parts = [
        scored(f, x[k], torch.arange(k.start, k.stop, device=x.device)).double().cpu() for k in slices(len(x), at_once)
    ]
    return torch.cat(parts).numpy()


def _of(targets: Any, which: Any, n: int) -> Any:
    """Return the targets of some rows; one that is the same for all, or none, stays as it is."""
    if targets is None or np.ndim(targets) == 0:
        return targets
    if len(targets) != n:
        raise DataError(f"there are {len(targets)} targets for {n} images; expected one for each")
    if isinstance(which, slice):
        return targets[which]
    if isinstance(targets, Tensor):
        return targets[which.to(targets.device)]
    return np.asarray(targets)[which.cpu().numpy()]


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (z - z.mean(1, keepdims=True) for z in (a, b))
    # What does not vary but by rounding has no correlation.
    size = [np.sqrt(np.square(z).sum(1)) for z in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((size[0] > 1e-12) & (size[1] > 1e-12), (a * b).sum(1) / (size[0] * size[1]), np.nan)
