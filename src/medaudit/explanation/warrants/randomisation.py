"""Does an explanation change when the model's parameters do? Model parameter randomisation, and models trained anew.

Adebayo et al. (NeurIPS 2018): layers are re-initialised from the top down, cascading, or one at a time. A layer is
given anew what it began training with (``reset_parameters``, or what the caller's ``initialise`` does), from several
seeds; the statistics of batch normalisation are then those of data that have passed through the randomised net, since
old ones would leave it with activations that no training ever sees. The model as it was is never part of an average.

Three numbers say what is similar without any model: the map beside the image itself and beside its edges, and two maps
of noise multiplied by the image. A method that multiplies by the input keeps the image's shape whatever the model is.

The efficient variant (Hedström et al., arXiv 2401.06465) asks instead by how much the entropy of a map rises.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.explanation.warrants.comparison import agreement_matrix, similarity_of
from medaudit.explanation.warrants.curves import edges
from medaudit.explanation.warrants.maps import numbers, rows, slices
from medaudit.explanation.warrants.perturbation import Explain, _of

Initialise = Callable[[nn.Module], None]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, eq=False)
class Randomisation:
    """Similarity of maps of a model before and after randomisation."""

    layers: tuple[str, ...]
    """From the top down."""
    similarity: np.ndarray
    """(L, seeds, N): with the layers down to this one randomised, or this one alone; NaN where a map is constant."""
    cascading: bool
    controls: dict[str, np.ndarray]
    """(N,) each: ``image``, ``edges``, ``times-input``: what is similar without any model."""

    @property
    def average(self) -> np.ndarray:
        """(N,): the mean over layers and seeds."""
        return self.similarity.mean(axis=(0, 1))

    @property
    def complete(self) -> np.ndarray:
        """(N,): the mean over seeds with all layers randomised. Raises UsageError if layers were taken one by one."""
        if not self.cascading:
            raise UsageError("layers were randomised one by one; expected a cascade, to have all of them random")
        return self.similarity[-1].mean(axis=0)


def layers_of(model: nn.Module, x: Tensor) -> tuple[str, ...]:
    """Return the names of modules with parameters of their own that ``x`` passes, the last one first.

    The order is that of the calls, not of definition; of a module that is called more than once, its last call.
    """
    own = {
        module: name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))
    }
    # A module that resets all that is in it (attention) is one layer; what is in it is reset with it.
    inside = {part for module in own for part in module.modules() if part is not module}
    last: dict[str, int] = {}
    count = 0

    def hook(module: nn.Module, *_: Any) -> None:
        nonlocal count
        count += 1
        last[own[module]] = count

    held = [module.register_forward_hook(hook) for module in own if module not in inside]
    try:
        with torch.no_grad():
            model(x[:2])
    finally:
        for one in held:
            one.remove()
    if not last:
        raise UsageError("the model has no layer with parameters on the way of the images; expected one or more")
    return tuple(sorted(last, key=lambda name: -last[name]))


def randomise(model: nn.Module, names: Sequence[str], *, seed: int, initialise: Initialise | None = None) -> nn.Module:
    """Re-initialise the modules ``names`` of ``model`` in place, and return it; the global generator is left alone.

    Raises UsageError, naming the layer, for one that does not know how it began and no ``initialise``.
    """
    modules = dict(model.named_modules())
    used = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=used), torch.no_grad():
        torch.manual_seed(seed)
        for name in names:
            module = modules[name]
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if initialise is not None:
                initialise(module)
            elif callable(reset):
                reset()
            else:
                raise UsageError(
                    f"layer '{name}' ({type(module).__name__}) has no reset_parameters; expected one, or initialise="
                )
    return model


def has_statistics(model: nn.Module) -> bool:
    """Return whether a model holds statistics of batches."""
    return any(isinstance(module, _NORMS) and module.track_running_stats for module in model.modules())


def refresh_statistics(model: nn.Module, data: Tensor | Iterable[Tensor], *, batch: int = 128) -> nn.Module:
    """Give a model's batch normalisations the statistics of ``data`` (M, ...), or of batches of it, in place.

    Each batch is normalised by itself, as in training; dropout stays off. Means and variances are averages over batches
    of ``batch``, so they depend on it a little, and the last batch should not be a small one.
    """
    norms = [module for module in model.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    if not norms:
        return model
    was = [(module.momentum, module.training) for module in norms]
    training = model.training
    model.eval()
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # a plain average over batches
        module.train()
    try:
        with torch.no_grad():
            batches = (data[k] for k in slices(len(data), batch)) if isinstance(data, Tensor) else data
            for some in batches:
                model(some)
    finally:
        model.train(training)
        for module, (momentum, mode) in zip(norms, was, strict=True):
            module.momentum = momentum
            module.train(mode)
    return model


def parameter_randomisation(
    explain: Explain, model: nn.Module, x: Tensor, targets: Any = None, *, cascading: bool = True, seeds: int = 3,
    data: Tensor | None = None, initialise: Initialise | None = None, similarity: str = "spearman-absolute",
    layers: Sequence[str] | None = None, seed: int = 0, at_once: int = 64,
) -> Randomisation:  # fmt: skip
    """Return how similar maps are to those of randomised models, layer by layer from the top.

    The model itself is not touched: copies are. ``data`` (M, ...) are images to take statistics of batches from
    (training images; needed where the model has any). ``layers`` names some, from the top down; by default all that
    ``x`` passes.
    """
    of = similarity_of(similarity).function
    if data is None and has_statistics(model):
        raise UsageError("the model has batch normalisation; give data= images, to take its statistics anew")
    names = tuple(layers) if layers is not None else layers_of(model, x)
    if seeds < 1 or not names:
        raise UsageError(f"seeds are {seeds}, layers {len(names)}; expected one or more of both")
    own = _maps(explain, model, x, targets, at_once)
    found = np.empty((len(names), seeds, len(x)))
    for s in range(seeds):
        # Of a cascade one copy is enough; the statistics are taken anew after each layer.
        moving = copy.deepcopy(model).eval()
        for k, name in enumerate(names):
            if not cascading:
                moving = copy.deepcopy(model).eval()
            randomise(moving, [name], seed=seed + 1_000 * s + k, initialise=initialise)
            if data is not None:
                refresh_statistics(moving, data)
            found[k, s] = of(own, _maps(explain, moving, x, targets, at_once))
    return Randomisation(names, found, cascading, _controls(own, x, of, seed))


@dataclass(frozen=True, eq=False)
class Complexity:
    """By how much the entropy of a map rises when all layers are random; all (N,)."""

    before: np.ndarray
    after: np.ndarray
    """The mean over seeds."""

    @property
    def rise(self) -> np.ndarray:
        """(N,): (after - before) / before; above 0 where a map of the trained model has more structure."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.before > 0, (self.after - self.before) / self.before, np.nan)


def efficient_randomisation(
    explain: Explain, model: nn.Module, x: Tensor, targets: Any = None, *, seeds: int = 3, bins: int = 100,
    data: Tensor | None = None, initialise: Initialise | None = None, seed: int = 0, at_once: int = 64,
) -> Complexity:  # fmt: skip
    """Return the entropies of maps before and after all layers are randomised: efficient MPRT."""
    if data is None and has_statistics(model):
        raise UsageError("the model has batch normalisation; give data= images, to take its statistics anew")
    names = layers_of(model, x)
    before = histogram_entropy(_maps(explain, model, x, targets, at_once), bins)
    after = []
    for s in range(seeds):
        moving = randomise(copy.deepcopy(model).eval(), names, seed=seed + 1_000 * s, initialise=initialise)
        if data is not None:
            refresh_statistics(moving, data)
        after.append(histogram_entropy(_maps(explain, moving, x, targets, at_once), bins))
    return Complexity(before, np.mean(after, axis=0))


def histogram_entropy(maps: Any, bins: int = 100) -> np.ndarray:
    """Return the entropy in nats of each map's histogram of ``bins`` equal bins from its least to its largest value."""
    x = rows(maps)
    low, wide = x.min(1, keepdims=True), np.ptp(x, axis=1, keepdims=True)
    place = np.minimum(((x - low) / np.where(wide > 0, wide, 1.0) * bins).astype(np.int64), bins - 1)
    counts = np.bincount((place + bins * np.arange(len(x))[:, None]).ravel(), minlength=bins * len(x))
    share = counts.reshape(len(x), bins) / x.shape[1]
    return -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)


def between_models(
    explain: Explain, models: Sequence[Any], x: Tensor, targets: Any = None, *, similarity: str = "spearman",
    at_once: int = 64,
) -> np.ndarray:  # fmt: skip
    """Return the similarity of one method's maps between models, (K, K, N).

    With models of one architecture trained from other seeds it is repeatability, with other architectures
    reproducibility (Arun et al., Radiology: AI 2021), with models as good as each other the Rashomon spread, and beside
    a model trained on shuffled labels data randomisation, where it should be low.
    """
    if len(models) < 2:
        raise UsageError(f"there are {len(models)} models; expected two or more to compare")
    return agreement_matrix([_maps(explain, model, x, targets, at_once) for model in models], similarity)


def _maps(explain: Explain, model: Any, x: Tensor, targets: Any, at_once: int) -> np.ndarray:
    n = len(x)
    return np.concatenate([numbers(explain(model, x[k], _of(targets, k, n))) for k in slices(n, at_once)])


def _controls(own: np.ndarray, x: Tensor, of: Callable[[Any, Any], np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return how similar maps are to what knows nothing of the model; empty where maps are not of pixels."""
    strength = x.detach().abs().sum(1) if x.ndim > 2 else x.detach().abs()
    image = numbers(strength)
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(image.shape) * image for _ in range(2)]
    found = {"times-input": of(*noise)}
    if own.shape == image.shape:
        found["image"] = of(own, image)
        if x.ndim > 2:
            found["edges"] = of(own, numbers(edges(x.detach())))
    return found
