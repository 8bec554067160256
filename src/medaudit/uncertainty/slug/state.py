"""What a fit found, to be kept: one file that knows which model and which images it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medaudit.errors import DataError
from medaudit.training import checkpoint
from medaudit.uncertainty.slug.ggn import Images, look_at
from medaudit.uncertainty.slug.model import Reconstruction, batches_of, reconstruction
from medaudit.uncertainty.slug.sketch import Sketch

_FORMAT = 1


@dataclass(frozen=True)
class Fitted:
    """The plain numbers of a fit; all of them belong in a methods section."""

    params: str
    weights: str
    likelihood: str
    residual_variance: float
    """s², of the outputs, in the images' units squared."""
    prior_precision: float
    """α."""
    images: int
    """How many the GGN was summed over."""
    training_images: int
    """How many it stands for: eigenvalues are multiplied by the ratio."""
    parameters: int
    products: int
    converged: int
    """Pairs whose residual is at most ``tolerance`` of the largest eigenvalue."""
    tolerance: float
    max_images: int | None
    """How many a pass was bounded to."""
    trace: float
    """Tr G, estimated, with its standard error."""
    trace_error: float
    captured: float
    """The part of Tr G that the eigenvalues hold."""
    seed: int
    model: str
    data: str


@dataclass(frozen=True, eq=False)
class SlugState:
    """A fitted posterior and the model that it belongs to.

    ``values`` (k,) and ``vectors`` (k, P) are the eigenpairs of the scaled GGN, ``removed`` (k,) their w. In the
    sketched mode there are no vectors: ``basis`` (k, s) spans the sketched Krylov space.
    """

    model: Reconstruction
    fitted: Fitted
    values: Tensor
    residuals: Tensor
    removed: Tensor
    vectors: Tensor | None
    sketch: Sketch | None = None
    basis: Tensor | None = None

    def save(self, path: str | Path) -> None:
        """Write everything but the model's weights to ``path``; DataError where it cannot be written."""
        kept: dict[str, Any] = {"format": _FORMAT, "fitted": asdict(self.fitted)}
        for name in ("values", "residuals", "removed", "vectors", "basis"):
            if getattr(self, name) is not None:
                kept[name] = getattr(self, name).cpu().contiguous()
        if self.sketch is not None:
            kept |= {"signs": self.sketch.signs, "rows": self.sketch.rows}
        checkpoint.write(Path(path), kept)


def load(
    path: str | Path, encode_mean: nn.Module | Callable, decode: nn.Module | Callable, loader: Images | None = None,
    *, images: Tensor | None = None,
) -> SlugState:  # fmt: skip
    """Return the state that :meth:`SlugState.save` wrote, for the same model and, where ``loader`` is given, its data.

    ``images``: one batch to check the model on, where there is no loader. Raises DataError where the file is damaged,
    or is of another model or other training images.
    """
    path = Path(path)
    kept = checkpoint.read(path)
    if kept.get("format") != _FORMAT or "fitted" not in kept:
        raise DataError(f"{path} is no state of slug.fit")
    needed = {"values", "residuals", "removed"}
    if not needed <= set(kept) or not ("vectors" in kept or {"basis", "signs", "rows"} <= set(kept)):
        raise DataError(f"{path} is no whole state of slug.fit; fit again")
    try:
        fitted = Fitted(**kept["fitted"])
    except TypeError:
        raise DataError(f"{path} was written by another version; fit again") from None
    first = images if images is not None else next(iter(batches_of(loader if loader is not None else [])), None)
    if first is None:
        raise DataError("give the loader, or some images, to check the model on")
    model = reconstruction(encode_mean, decode, first, fitted.params)
    if model.fingerprint() != fitted.model:
        raise DataError(f"{path} belongs to another model (its weights differ); fit again for this one")
    if loader is not None and (found := look_at(model, loader, fitted.max_images)).fingerprint != fitted.data:
        raise DataError(
            f"{path} was fitted on other images than the loader gives ({fitted.images} then, {found.images} now); "
            "fit again"
        )
    device = model.device
    sketch = Sketch(kept["signs"], kept["rows"]) if "signs" in kept else None
    found_basis, vectors = kept.get("basis"), kept.get("vectors")
    return SlugState(
        model,
        fitted,
        kept["values"],
        kept["residuals"],
        kept["removed"],
        None if vectors is None else vectors.to(device),
        sketch,
        None if found_basis is None else found_basis.to(device),
    )


def describe(state: SlugState) -> str:
    """Return the fit in a sentence, with the numbers that a reader would ask for."""
    f = state.fitted
    return (
        f"SLUG over {f.params} parameters (P = {f.parameters:,}): {len(state.values)} eigenpairs of the GGN of "
        f"{f.images:,} images by {f.products} products ({f.converged} with a residual of at most {f.tolerance:g} of "
        "the largest), "
        f"holding {100 * f.captured:.0f} % of its trace; s² = {f.residual_variance:.3g}, "
        f"prior precision {f.prior_precision:.3g}, {f.weights} weights, {f.likelihood} likelihood."
    )
