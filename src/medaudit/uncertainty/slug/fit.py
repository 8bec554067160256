"""Fit: from a trained encoder and decoder and their training images to the largest eigenpairs of the GGN."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.training import checkpoint as files
from medaudit.uncertainty.slug import krylov
from medaudit.uncertainty.slug.ggn import Gaussian, Images, Likelihood, Perceptual, ggn_products, ggn_trace, look_at
from medaudit.uncertainty.slug.model import Reconstruction, batches_of, reconstruction
from medaudit.uncertainty.slug.posterior import marginal_precision, retained
from medaudit.uncertainty.slug.sketch import Sketch
from medaudit.uncertainty.slug.state import Fitted, SlugState


def fit(
    encode_mean: nn.Module | Callable,
    decode: nn.Module | Callable,
    loader: Images,
    rank: int = 50,
    *,
    params: str = "all",
    weights: str = "eigenvalue",
    likelihood: Likelihood | None = None,
    residual_variance: float | None = None,
    prior_precision: float | str = "marginal",
    max_images: int | None = None,
    training_images: int | None = None,
    block: int | None = None,
    tolerance: float = 0.01,
    depth: int | None = None,
    sketch: int | None = None,
    trace_probes: int = 8,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SlugState:
    """Return the Laplace posterior of ``decode(encode_mean(x))`` around its weights (arXiv 2503.17477).

    ``loader`` gives the training images (N, C, H, W), the same in every pass: tensors, tuples that begin with one, or
    mappings with ``image``; without augmentation. ``params``: ``all``, or the ``decoder`` at fixed codes. ``rank``
    eigenpairs of Σ J^T H J are kept. ``residual_variance`` s² defaults to the mean squared residual over them,
    ``prior_precision`` α to the marginal likelihood's (``marginal``). ``max_images`` bounds a pass; eigenvalues are
    then multiplied up to ``training_images`` (default: those that were used). ``block`` vectors are multiplied at once
    (default: the image's channels, at least 2). ``sketch``: keep that many numbers of each vector instead of all, by
    the recurrence without reorthogonalisation; only the global score is then to be had. ``checkpoint``: a file from
    which a fit that was killed goes on. ``progress`` is told products done and in all.

    The defaults are ours: which the paper used could not be read. Raises UsageError for a model that is not a fixed
    differentiable function and for options that mean nothing, DataError for images that are not finite or change.
    """
    images = loader
    first = next(iter(batches_of(images)), None)
    if first is None:
        raise DataError("the loader gives no images")
    model = reconstruction(encode_mean, decode, first, params)
    retained(torch.ones(1), 1.0, weights)
    if not isinstance(rank, Integral) or not 1 <= rank <= model.size:
        raise UsageError(f"rank is {rank}; expected 1 to {model.size}, the number of parameters")
    if prior_precision != "marginal" and not (
        isinstance(prior_precision, (int, float)) and 0 < prior_precision < math.inf
    ):
        raise UsageError(f"prior_precision is {prior_precision!r}; expected more than 0, or 'marginal'")
    if residual_variance is not None and not 0 < residual_variance < math.inf:
        raise UsageError(f"residual_variance is {residual_variance}; expected more than 0")
    if max_images is not None and max_images < 1:
        raise UsageError(f"max_images is {max_images}; expected 1 or more")
    if not tolerance >= 0:
        raise UsageError(f"tolerance is {tolerance}; expected 0 or more")
    if trace_probes < 1:
        raise UsageError(f"trace_probes is {trace_probes}; expected 1 or more")
    if sketch is not None and checkpoint is not None:
        raise UsageError("a sketched fit keeps too little to go on from; leave checkpoint out")
    if sketch is not None and weights != "projector":
        raise UsageError("a sketch keeps no eigenvalues apart: use weights='projector' with it")
    seen = look_at(model, images, max_images)
    variance = residual_variance if residual_variance is not None else seen.residual_variance
    if not variance > 0:
        raise DataError("the training images are reconstructed without any error; give residual_variance")
    chosen = likelihood or Gaussian()
    block = max(2, model.image_shape[0]) if block is None else block
    if block < 1:
        raise UsageError(f"block is {block}; expected 1 or more")
    total = seen.images if training_images is None else training_images
    if total < seen.images:
        raise UsageError(f"training_images is {total}; the pass alone has {seen.images}")
    this: dict[str, Any] = {
        "model": model.fingerprint(),
        "data": seen.fingerprint,
        "seed": seed,
        "block": block,
        # Its last digits depend on the order of the images.
        "variance": f"{variance:.5e}",
        "likelihood": _marks(chosen, model) if isinstance(chosen, Perceptual) else "gaussian",
    }
    depth = -(-max(rank, int(1.25 * rank)) // block) if depth is None else depth
    if depth * block < rank:
        raise UsageError(f"{depth} blocks of {block} hold {depth * block} vectors; expected at least rank = {rank}")
    if sketch is not None and sketch < min(4 * rank, model.size):
        raise UsageError(f"sketch is {sketch}; expected {min(4 * rank, model.size)} or more for rank {rank}")
    done = 0

    def product(rows: Tensor) -> Tensor:
        nonlocal done
        found = ggn_products(model, images, rows, likelihood=chosen, variance=variance, limit=max_images, expected=seen)
        done += len(rows)
        if progress is not None:
            progress(done, depth * block)
        return found

    sketched, basis, vectors = None, None, None
    if sketch is None:
        pairs = _pairs(model, product, rank, block, depth, tolerance, seed, checkpoint, this)
        values, residuals, vectors, products = pairs.values, pairs.residuals, pairs.vectors, pairs.products
        converged = pairs.converged(tolerance)
    else:
        sketched = Sketch.draw(model.size, sketch, seed)
        values, basis, products = _sketched(model, product, rank, block, depth, seed, sketched)
        residuals, converged = torch.full_like(values, float("nan")), 0
    scale = total / seen.images
    trace, error = ggn_trace(
        model, images, likelihood=chosen, variance=variance, probes=trace_probes, seed=seed + 1, limit=max_images
    )
    values, residuals = values * scale, residuals * scale
    norm = float(sum(value.double().square().sum() for value in model.parameters.values()))
    alpha = marginal_precision(values, norm) if prior_precision == "marginal" else float(prior_precision)
    captured = float(values.sum()) / (trace * scale) if trace > 0 else float("nan")
    fitted = Fitted(
        params=params,
        weights=weights,
        likelihood="gaussian"
        if isinstance(chosen, Gaussian)
        else f"gaussian and perceptual (weight {chosen.weight:g})",
        residual_variance=variance,
        prior_precision=alpha,
        images=seen.images,
        training_images=total,
        parameters=model.size,
        products=products,
        converged=converged,
        tolerance=tolerance,
        max_images=max_images,
        trace=trace * scale,
        trace_error=error * scale,
        captured=captured,
        seed=seed,
        model=this["model"],
        data=this["data"],
    )
    removed = retained(values, alpha, weights) if basis is None else torch.ones(len(basis), dtype=torch.float64)
    return SlugState(model, fitted, values, residuals, removed, vectors, sketched, basis)


def _pairs(
    model: Reconstruction, product: Callable[[Tensor], Tensor], rank: int, block: int, depth: int, tolerance: float,
    seed: int, path: str | Path | None, this: dict[str, Any],
) -> krylov.Eigenpairs:  # fmt: skip
    state = None if path is None else _resumed(Path(path), this, model)

    def keep(found: krylov.Krylov) -> None:
        if path is not None:
            files.write(
                Path(path),
                {"this": this, "basis": [rows.cpu() for rows in found.basis], "columns": found.columns,
                 "tail": found.tail},
            )  # fmt: skip

    return krylov.largest(
        product, model.size, rank, block=block, seed=seed, dtype=model.dtype, device=model.device, tolerance=tolerance,
        depth=depth, state=state, after_block=keep,
    )  # fmt: skip


def _resumed(path: Path, this: dict[str, Any], model: Reconstruction) -> krylov.Krylov | None:
    if not path.exists():
        return None
    kept = files.read(path)
    if kept.get("this") != this:
        raise UsageError(f"{path} holds the fit of another model, other images or settings; give another checkpoint")
    return krylov.Krylov([rows.to(model.device) for rows in kept["basis"]], list(kept["columns"]), kept["tail"])


def _marks(likelihood: Perceptual, model: Reconstruction) -> str:
    """Return what another weight or other features would change: features are a function, and have no name."""
    x = 0.5 + 0.3 * torch.sin(torch.arange(model.outputs, dtype=model.dtype)).view(1, *model.image_shape)
    with torch.no_grad():
        made = likelihood.embed(x.to(model.device)).double().cpu().flatten()
    along = torch.cos(torch.arange(len(made), dtype=torch.float64))
    return f"{likelihood.weight!r} {float(made.norm()):.4e} {float(made @ along):.4e}"


def _sketched(
    model: Reconstruction, product: Callable[[Tensor], Tensor], rank: int, block: int, depth: int, seed: int,
    sketch: Sketch,
) -> tuple[Tensor, Tensor, int]:  # fmt: skip
    """Return Ritz values, an orthonormal basis (k, s) of the sketched Krylov space, and the number of products.

    Three blocks of vectors are held, whatever the depth. Without reorthogonalisation copies of vectors that were found
    come back, so the vectors are no eigenvectors; their span is what is used, made orthonormal after sketching.
    """
    generator = krylov.generator_of(seed, "search")
    start = torch.randn(block, model.size, generator=generator, dtype=model.dtype).to(model.device)
    newest, _ = krylov.orthonormal(start, [])
    before: list[Tensor] = []
    kept, diagonal, below = [], [], []
    count = 0
    for _ in range(depth):
        kept.append(sketch(newest))
        image = product(newest)
        count += len(newest)
        diagonal.append((newest @ image.T).double().cpu())
        scale = float(image.norm(dim=1).max())
        for rows in [newest, *before] * 2:
            image = image - (image @ rows.T) @ rows
        new, triangle = krylov.orthonormal(image, [], least=krylov.ROUNDING[image.dtype] * scale)
        below.append(triangle.double().cpu())
        if not len(new):
            break
        before, newest = [newest], new
    m = sum(map(len, diagonal))
    projected = torch.zeros(m, m, dtype=torch.float64)
    at = 0
    for here, down in zip(diagonal, below, strict=True):
        end = at + len(here)
        projected[at:end, at:end] = (here + here.T) / 2
        if end < m:
            projected[end : end + len(down), at:end] = down
            projected[at:end, end : end + len(down)] = down.T
        at = end
    values, weights = torch.linalg.eigh(projected)
    span = torch.cat(kept)
    # The leading Ritz vectors: the space itself is larger than the rank.
    chosen, basis = _without_ghosts(weights.flip(1).T.to(span) @ span, rank)
    return values.flip(0)[chosen].clamp_min(0), basis, count


def _without_ghosts(rows: Tensor, most: int) -> tuple[list[int], Tensor]:
    """Return which of the sketched Ritz vectors, by falling value, are new directions, and an orthonormal basis.

    Ghosts repeat directions: what lies in the span of those before, but for a tenth, is no direction of its own.
    """
    basis, chosen = rows[:0], []
    for at, row in enumerate(rows):
        rest = row / row.norm().clamp_min(torch.finfo(row.dtype).tiny)
        for _ in range(2):
            rest = rest - (rest @ basis.T) @ basis
        if float(rest.norm()) > 0.1:
            chosen.append(at)
            basis = torch.cat([basis, (rest / rest.norm())[None]])
        if len(chosen) == most:
            break
    return chosen, basis
