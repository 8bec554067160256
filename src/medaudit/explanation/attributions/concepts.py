"""Testing with concept activation vectors (Kim et al. 2018): does what is explained rise towards a concept?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.batching import Scalar, every, in_batches, rows_at_once
from medaudit.explanation.attributions.layers import layer_gradients
from medaudit.statistics import holm


@dataclass(frozen=True, eq=False)
class ConceptScore:
    """What TCAV says of one concept."""

    concept: str
    scores: np.ndarray
    """(R,): the share of images whose derivative towards the concept is above 0, for each random counterpart."""
    accuracy: np.ndarray
    """(R,): how well concept and counterpart are told apart by a line, cross-validated; at one half there is none."""
    random: np.ndarray
    """(R,): the scores of random concepts, told apart from one another."""
    p: float
    """Welch's t-test of the scores against those of random concepts, two-sided."""
    p_holm: float
    """The same, Holm-corrected over all concepts that were tested together."""

    @property
    def score(self) -> float:
        """The mean over counterparts."""
        return float(self.scores.mean())


def activations(
    model: nn.Module, layer: nn.Module, images: Tensor, *, pool: bool = False, at_once: int = 64
) -> Tensor:  # fmt: skip
    """Return (N, features) of a layer, flattened; ``pool`` takes the mean over space."""
    parts: list[Tensor] = []

    def hook(module: nn.Module, args: object, out: Tensor) -> None:
        parts.append(_flat(out.detach(), pool))

    handle = layer.register_forward_hook(hook)
    try:
        with torch.no_grad():
            for start in range(0, len(images), at_once):
                model(images[start : start + at_once])
    finally:
        handle.remove()
    if sum(map(len, parts)) != len(images):
        raise UsageError("the layer is not asked once for every image; expected a layer that is")
    return torch.cat(parts)


def concept_vector(concept: Tensor, other: Tensor, *, strength: float = 0.01, seed: int = 0) -> tuple[Tensor, float]:
    """Return the unit normal (features,) of the plane between activations, towards the concept, and its accuracy.

    A logistic regression with scikit-learn's C = ``strength`` on activations of unit mean size; the accuracy is of up
    to five folds, balanced.
    """
    if min(len(concept), len(other)) < 2:
        raise DataError(f"{len(concept)} images of the concept and {len(other)} of its counterpart; expected 2 or more")
    x = torch.cat([concept, other]).double().cpu().numpy()
    y = np.r_[np.ones(len(concept)), np.zeros(len(other))]
    scale = np.abs(x).mean()
    model = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")
    folds = StratifiedKFold(min(5, len(concept), len(other)), shuffle=True, random_state=seed)
    accuracy = cross_val_score(model, x / max(scale, 1e-12), y, cv=folds, scoring="balanced_accuracy").mean()
    normal = model.fit(x / max(scale, 1e-12), y).coef_[0]
    length = np.linalg.norm(normal)
    if length == 0:
        raise DataError("the concept and its counterpart have the same activations; expected other images or a layer")
    return torch.from_numpy(normal / length).to(concept), float(accuracy)


def directional(
    f: Scalar, x: Tensor, layer: nn.Module, vectors: Tensor, *, pool: bool = False, rows: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:  # fmt: skip
    """Return (N, V): the derivative of ``f`` along vectors (V, features) of a layer's activations.

    With ``pool``, along a vector of channels, the same at every place.
    """
    which = every(x) if rows is None else rows
    found = x.new_empty(len(x), len(vectors))

    def ask(start: int, stop: int) -> None:
        _, slope = layer_gradients(f, x[start:stop], layer, rows=which[start:stop])
        flat = slope.flatten(2).sum(2) if pool and slope.ndim > 2 else slope.flatten(1)
        if flat.shape[1] != vectors.shape[1]:
            raise UsageError(f"vectors have {vectors.shape[1]} features; expected {flat.shape[1]}, as the layer has")
        found[start:stop] = flat @ vectors.T.to(flat)

    in_batches(ask, len(x), at_once or rows_at_once(f, x, which, gradients=True))
    return found


def tcav(
    f: Scalar, x: Tensor, model: nn.Module, layer: nn.Module, concepts: Mapping[str, Tensor],
    randoms: Sequence[Tensor], *, strength: float = 0.01, pool: bool = False, seed: int = 0,
    at_once: int | None = None,
) -> list[ConceptScore]:  # fmt: skip
    """Return, for each concept's images, TCAV scores over images ``x`` (N, ...) and what random concepts score.

    Each concept is told apart from each of the random sets; a random set from the next of them. A concept counts where
    its scores differ from those of random concepts: a p of 0.05 or less, Holm-corrected. Raises UsageError for fewer
    than three random sets.
    """
    if len(randoms) < 3:
        raise UsageError(f"{len(randoms)} random sets were given; expected 3 or more (10 is usual)")
    if not concepts:
        raise UsageError("no concepts were given; expected one or more")
    active = {name: activations(model, layer, images, pool=pool) for name, images in concepts.items()}
    chance = [activations(model, layer, images, pool=pool) for images in randoms]
    pairs = [(one, other) for one in active.values() for other in chance]
    pairs += [(one, chance[(k + 1) % len(chance)]) for k, one in enumerate(chance)]
    found = [concept_vector(one, other, strength=strength, seed=seed) for one, other in pairs]
    slopes = directional(f, x, layer, torch.stack([vector for vector, _ in found]), pool=pool, at_once=at_once)
    share = (slopes > 0).double().mean(0).cpu().numpy().reshape(len(concepts) + 1, len(randoms))
    accuracy = np.array([one for _, one in found]).reshape(share.shape)
    raw = [_welch(scores, share[-1]) for scores in share[:-1]]
    corrected = holm(raw)
    return [
        ConceptScore(name, share[k], accuracy[k], share[-1], raw[k], float(corrected[k]))
        for k, name in enumerate(concepts)
    ]


def _welch(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0 and b.std() == 0:
        return float(a.mean() == b.mean())
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def _flat(out: Tensor, pool: bool) -> Tensor:
    return out.flatten(2).mean(2) if pool and out.ndim > 2 else out.flatten(1)
