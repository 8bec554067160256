"""The shortcut diagnosis: what painting one attribute in does to the others, by three moves.

The paper (2503.22782, 4.4) sets one prototype to its maximum, others fixed, and looks at eight images. Here it is
measured, by the change of a judge's probability in images that show none of the attributes, against random other
prototypes in the same images. Two moves are added, both ours: by what activations change with an attribute where
attributes do not go together (``code``: the code of that attribute alone), and by what they change with it in the
training images (``total``). Where two things mostly but not always went together only the last shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.painter import Inverted, Painter
from medaudit.metrics.ranking import auroc

Judge = Callable[[np.ndarray], np.ndarray]
"""Images (n, C, H, W) from 0 to 1 to probabilities of the attributes (n, K)."""

_LEAST = 10  # images of each kind without which a stratum says nothing of an AUROC
_ALIKE = 0.5  # a prototype that correlates more with the moved one is no random other one
NULLS = 4


@dataclass(frozen=True, eq=False)
class Carrier:
    """The prototype that carries an attribute best."""

    attribute: int
    prototype: int
    up: bool
    """Whether the attribute raises the activation, else it lowers it."""
    other: float
    """Of the other attributes, the AUROC (0.5 or more) of the one that it tells best: what else it carries."""
    chosen_auroc: float
    """On the images that it was chosen on: too good, by the choice."""
    auroc: float
    """On the others."""
    target: float
    """What its activation is set to: the 95th percentile of training, or the 5th where the attribute lowers it."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What moves did to each image: changes of the judge's probabilities (n, K) against the same image painted
    unmoved.
    """

    moved: int
    """The attribute that was painted in."""
    total: np.ndarray
    """By the change of mean activations with it among training images."""
    code: np.ndarray
    """By the same among labelled images, weighted so that attributes do not go together."""
    direct: np.ndarray
    """By its carrier alone, all other activations as they were."""
    null: np.ndarray
    """(n, NULLS, K): of random other prototypes moved alone to their own 95th percentile."""
    reached: np.ndarray
    """(n,): the change of the carrier in the image painted by it alone, over what was asked for."""
    painted: tuple[np.ndarray, np.ndarray, np.ndarray]
    """The first 8 images (8, C, H, W) by total, code and direct."""


def carriers(
    activations: np.ndarray, labels: np.ndarray, halves: tuple[np.ndarray, np.ndarray], ranges: Ranges
) -> list[Carrier]:
    """Return the carrier of each attribute of ``labels`` (n, K), 0, 1 or NaN, chosen on the first of two halves.

    ``activations`` (n, m). By AUROC within strata of the other attributes, so that a prototype of the shortcut is not
    taken for one of the sign (where both never part, it cannot be told).
    """
    choosing, judging = (np.abs(conditional_auroc(activations[half], labels[half]) - 0.5) for half in halves)
    signed = conditional_auroc(activations[halves[0]], labels[halves[0]])
    told = np.nan_to_num(choosing)
    found = []
    for k in range(labels.shape[1]):
        others = np.delete(told, k, axis=0).max(0) if len(told) > 1 else np.zeros(told.shape[1])
        # One that tells another attribute as well would carry that along, whatever the model has learned.
        j = int(np.argmax(told[k] - others))
        up = bool(np.nan_to_num(signed[k, j], nan=1.0) >= 0.5)
        found.append(
            Carrier(
                k, j, up, 0.5 + float(others[j]), 0.5 + float(choosing[k, j]), 0.5 + float(judging[k, j]),
                float((ranges.high if up else ranges.low)[j]),
            )
        )  # fmt: skip
    return found


def conditional_auroc(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (K, m): how well each activation (n, m) tells each attribute (n, K), at equal values of the others.

    The mean over the strata of the other attributes, weighted by the pairs of images that each compares; NaN where no
    stratum has ten images with the attribute and ten without.
    """
    k, m = labels.shape[1], activations.shape[1]
    found = np.full((k, m), np.nan)
    for a in range(k):
        others = np.nan_to_num(np.delete(labels, a, axis=1), nan=-1.0)
        known = np.isfinite(labels[:, a])
        _, stratum = np.unique(others, axis=0, return_inverse=True)
        total, pairs = np.zeros(m), 0
        for s in np.unique(stratum):
            inside = known & (stratum.ravel() == s)
            yes = labels[inside, a] == 1
            if min(yes.sum(), (~yes).sum()) < _LEAST:
                continue
            weight = int(yes.sum()) * int((~yes).sum())
            total += weight * np.array(
                [auroc(activations[inside][~yes, j], activations[inside][yes, j]) for j in range(m)]
            )
            pairs += weight
        if pairs:
            found[a] = total / pairs
    return found


def shifts(activations: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return (K, m): by how much mean activations (n, m) differ between images with and without each attribute.

    ``weights`` (n,) count some images more. NaN where all have it, or none.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    found = np.full((labels.shape[1], activations.shape[1]), np.nan)
    for k in range(labels.shape[1]):
        yes, no = weights * (labels[:, k] == 1), weights * (labels[:, k] == 0)
        if yes.sum() > 0 and no.sum() > 0:
            found[k] = yes @ activations / yes.sum() - no @ activations / no.sum()
    return found


def effects(
    painter: Painter, judge: Judge, inverted: Inverted, activations: np.ndarray, training: np.ndarray,
    total: np.ndarray, code: np.ndarray, carried: Sequence[Carrier], *, seed: int,
) -> list[Effect]:  # fmt: skip
    """Return what each attribute's moves do to images of ``activations`` (n, m) and their noise.

    ``training`` (N, m) are the activations of the training images; ``total`` and ``code`` (K, m) come from
    :func:`shifts`. An attribute without a shift has no effect here.
    """
    ranges = Ranges.of(training)
    own = judge(painter.paint(inverted.noise, activations))
    correlation = np.nan_to_num(np.corrcoef(training, rowvar=False))
    found = []
    for carrier in carried:
        k, j = carrier.attribute, carrier.prototype
        if not (np.isfinite(total[k]).all() and np.isfinite(code[k]).all()):
            continue
        others = np.flatnonzero(np.abs(correlation[j]) < _ALIKE)
        rng = np.random.default_rng((seed, k))
        null = np.zeros((len(own), NULLS, own.shape[1]))
        for r in range(NULLS if len(others) else 0):
            random = moved_at_random(ranges, activations, rng.choice(others, len(own)))
            null[:, r] = judge(painter.paint(inverted.noise, random)) - own
        moves = (ranges.shifted(activations, total[k]), ranges.shifted(activations, code[k]),
                 ranges.moved(activations, j, carrier.target))  # fmt: skip
        painted = [painter.paint(inverted.noise, move) for move in moves]
        changes = [judge(images) - own for images in painted]
        asked = carrier.target - activations[:, j]
        got = painter.activations(painted[2])[:, j] - activations[:, j]
        reached = np.divide(got, asked, out=np.full(len(got), np.nan), where=np.abs(asked) > 1e-6)
        shown = (painted[0][:8], painted[1][:8], painted[2][:8])
        found.append(Effect(k, changes[0], changes[1], changes[2], null, reached, shown))
    return found


def moved_at_random(ranges: Ranges, activations: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Return activations (n, m) with each image's own drawn prototype alone moved to that one's 95th percentile."""
    moved = np.array(activations, dtype=np.float32)
    for j in np.unique(prototypes):
        rows = np.flatnonzero(prototypes == j)
        moved[rows] = ranges.moved(activations[rows], int(j), float(ranges.high[j]))
    return moved
