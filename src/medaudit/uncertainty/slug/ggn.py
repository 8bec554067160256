"""Products with the GGN of a training set, one pass over the images for a whole block of vectors.

G = Σ_n J_n^T H_n J_n, the sum and not the mean over images, with H the Hessian of the negative log-likelihood in the
outputs: I / s² for a Gaussian with variance s². One convention everywhere; curvlinops' ``MSELoss(reduction="sum")`` is
2 J^T J (spec 6.2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp

from medaudit.errors import DataError
from medaudit.uncertainty.slug.model import Reconstruction, batches_of

Images = Iterable[Any] | Tensor


@dataclass(frozen=True)
class Gaussian:
    """Outputs with independent noise of one variance: H = I / s²."""

    def hessian(self, outputs: Tensor, tangents: Tensor, variance: float) -> Tensor:
        """Return H y for ``tangents`` (b, N, C, H, W)."""
        return tangents / variance


@dataclass(frozen=True)
class Perceptual:
    """A Gaussian and a squared distance of features: H = I / s² + 2 κ J_ψ^T J_ψ at the reconstruction (spec 1.2).

    ``embed`` maps images (N, C, H, W) to features (N, ...) whose squared difference is the distance, weights included;
    ``weight`` is κ, in units of one over the distance, on the scale of the negative log-likelihood.
    """

    embed: Callable[[Tensor], Tensor]
    weight: float

    def hessian(self, outputs: Tensor, tangents: Tensor, variance: float) -> Tensor:
        """Return H y for ``tangents`` (b, N, C, H, W); positive semi-definite, as a Gauss-Newton matrix is."""
        back = vjp(self.embed, outputs)[1]
        rows = []
        for one in tangents:
            with torch.no_grad():
                pushed = jvp(self.embed, (outputs,), (one,))[1]
            rows.append(one / variance + 2 * self.weight * back(pushed)[0])
        return torch.stack(rows)


Likelihood = Gaussian | Perceptual


@dataclass(frozen=True)
class TrainingSet:
    """What one pass over the training images says of them."""

    images: int
    residual_variance: float
    """Mean squared residual of all pixels: the maximum-likelihood s²."""
    fingerprint: str
    """Of the images, whatever their order."""
    total: float
    """A sum over all pixels, weighted by their places: what a further pass is compared by."""


def look_at(model: Reconstruction, images: Images, limit: int | None) -> TrainingSet:
    """Return the number of images (at most ``limit``), their residual variance and their fingerprint."""
    count, total, digest, pixels = 0, 0.0, 0, 0.0
    for batch in limited(images, limit):
        check_shape(model, batch)
        residual = batch.to(model.device, model.dtype) - model.reconstruct(batch.to(model.device, model.dtype))
        total += float(residual.double().square().sum())
        count += len(batch)
        pixels += _sum(batch)
        for image in batch.detach().cpu().float().contiguous():
            # A sum of hashes does not depend on the order, and two equal images do not cancel as under XOR.
            digest = (digest + int.from_bytes(hashlib.sha256(image.numpy().tobytes()).digest(), "big")) % 2**256
    if not count:
        raise DataError("the loader gives no images")
    return TrainingSet(count, total / (count * model.outputs), f"{digest:064x}", pixels)


def ggn_products(
    model: Reconstruction, images: Images, rows: Tensor, *, likelihood: Likelihood, variance: float,
    limit: int | None = None, expected: TrainingSet | None = None, at_once: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:  # fmt: skip
    """Return G v for each row v of ``rows`` (b, P): a JVP, the Hessian, and a VJP, batch by batch.

    Raises DataError where the pass gives other images than those that were ``expected``.
    """
    total = torch.zeros_like(rows)
    count, pixels = 0, 0.0
    for batch in limited(images, limit):
        x = batch.to(model.device, model.dtype)
        tangents = model.push(x, rows, at_once)
        if isinstance(likelihood, Gaussian):
            weighted = tangents / variance
        else:
            weighted = likelihood.hessian(model.reconstruct(x), tangents, variance)
        total += model.pull(x, weighted, at_once)
        count += len(batch)
        pixels += _sum(batch)
        if progress is not None:
            progress(len(batch))
    if expected is not None and (count != expected.images or not math.isclose(pixels, expected.total, rel_tol=1e-6)):
        what = f"{count} images, the first one {expected.images}" if count != expected.images else "other images"
        raise DataError(
            f"this pass over the loader gave {what}; it must give the same ones "
            "again (no drop_last, no random subset, no augmentation)"
        )
    return total


def ggn_trace(
    model: Reconstruction, images: Images, *, likelihood: Likelihood, variance: float, probes: int, seed: int,
    limit: int | None = None,
) -> tuple[float, float]:  # fmt: skip
    """Return Tr G and its standard error by Hutchinson with ``probes`` sign vectors over the parameters."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (probes, model.size), generator=generator, dtype=torch.int8).to(model.dtype) * 2 - 1
    found = torch.zeros(probes, dtype=torch.float64)
    for batch in limited(images, limit):
        x = batch.to(model.device, model.dtype)
        tangents = model.push(x, signs.to(model.device))
        weighted = likelihood.hessian(
            model.reconstruct(x) if isinstance(likelihood, Perceptual) else x, tangents, variance
        )
        found += (tangents * weighted).flatten(1).double().sum(dim=1).cpu()
    return float(found.mean()), float(found.std() / probes**0.5) if probes > 1 else float("nan")


def _sum(batch: Tensor) -> float:
    # Weighted by place, which a mirrored or turned image changes; not by image, whose order is free.
    weights = torch.cos(0.7 * torch.arange(batch[0].numel(), dtype=torch.float64, device=batch.device)) + 2
    return float((batch.double().flatten(1) @ weights).sum())


def limited(images: Images, limit: int | None) -> Iterable[Tensor]:
    """Yield batches until ``limit`` images were given."""
    left = limit
    for batch in batches_of(images):
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch[:left]
        left -= len(batch)


def check_shape(model: Reconstruction, batch: Tensor) -> None:
    """Raise DataError where images have another shape than those that the model was checked on."""
    if tuple(batch.shape[1:]) != model.image_shape:
        raise DataError(f"images are {tuple(batch.shape[1:])}, the first ones {model.image_shape}; expected one shape")
