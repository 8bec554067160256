"""The shortcut diagnosis: what painting one attribute in does to the others, by three comparisons.

The paper (2503.22782, 4.4) sets one prototype to its maximum, others fixed, and looks at eight images. Here it is
measured, by the change of a judge's probability in images that show none of the attributes; what random other
prototypes do is shown beside it. Two comparisons are added, both ours: fresh noise is painted with the activations of
donors that have an attribute, and of donors that have it not. Donors are training images (``total``), or labelled
images that have no other attribute (``code``). Where two things mostly but not always went together only the first
shows it; where the model has taken one for the other, the second does. From an image's own noise a small thing is
hardly painted whatever the activations say: that noise knows that it was not there.
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
DONORS = 256
"""Of each kind, at most; fewer are painted several times, each from other noise."""
_FEWEST = 5  # donors of a kind


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
class Exchange:
    """What was painted of donors that have an attribute, and of donors that have it not; a row a donor.

    Donors are of different patients, so that they are what is drawn anew and exchanged.
    """

    donors: tuple[np.ndarray, np.ndarray]
    """Rows (n1,) with, (n0,) without."""
    judged: tuple[np.ndarray, np.ndarray]
    """(n1, K), (n0, K): the judge's probabilities of their paintings; the mean where there are several."""
    strata: tuple[np.ndarray, np.ndarray]
    """(n1,), (n0,): donors of one number have the same other attributes."""
    shown: np.ndarray
    """The first 8 paintings with it (8, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What painting an attribute in did."""

    moved: int
    """The attribute that was painted in."""
    total: Exchange
    """Of training images."""
    code: Exchange
    """Of labelled images that have nothing else."""
    direct: np.ndarray
    """(n, K): the change in each image of its carrier alone moved, less painted unmoved; from the image's own noise."""
    null: np.ndarray
    """(n, K): of random other prototypes, each moved alone to its own 95th percentile, less unmoved; means of
    several.
    """
    reached: np.ndarray
    """(n,): the change of the carrier in the image painted by it alone, over what was asked for."""
    shown: np.ndarray
    """The first 8 images (8, C, H, W) by direct."""


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


@dataclass(frozen=True, eq=False)
class Donors:
    """Images whose activations are given to others."""

    activations: np.ndarray
    """(N, m)."""
    labels: np.ndarray
    """(N, K): 0, 1 or NaN."""
    patients: np.ndarray
    """(N,)."""

    def rows(self, attribute: int, value: int, alone: bool) -> np.ndarray:
        """Return the donors with an attribute at ``value``, the first of each patient; ``alone``: all others at 0."""
        wanted = self.labels[:, attribute] == value
        if alone:
            wanted = wanted & (np.delete(self.labels, attribute, axis=1) == 0).all(axis=1)
        found = np.flatnonzero(wanted)
        return found[np.sort(np.unique(self.patients[found], return_index=True)[1])]

    def drawn(
        self, rows: np.ndarray, attribute: int, most: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return up to ``most`` of the rows, and the stratum of each: its other attributes.

        Strata come as often as among all rows: which donors were drawn then adds no association that the training
        images do not have.
        """
        others = np.nan_to_num(np.delete(self.labels[rows], attribute, axis=1), nan=-1.0)
        stratum = np.unique(others, axis=0, return_inverse=True)[1].ravel()
        if len(rows) <= most:
            return rows, stratum
        share = most * np.bincount(stratum) / len(rows)
        count = np.floor(share).astype(int)
        count[np.argsort(count - share, kind="stable")[: most - count.sum()]] += 1
        chosen = np.sort(
            np.concatenate([rng.permutation(np.flatnonzero(stratum == s))[:n] for s, n in enumerate(count)])
        )
        return rows[chosen], stratum[chosen]


def effects(
    painter: Painter, judge: Judge, inverted: Inverted, activations: np.ndarray, training: Donors, labelled: Donors,
    carried: Sequence[Carrier], *, seed: int,
) -> list[Effect]:  # fmt: skip
    """Return what painting each attribute does; ``inverted`` and ``activations`` (n, m) are of images without any.

    An attribute that has too few donors, five with and five without, has no effect here.
    """
    ranges = Ranges.of(training.activations)
    own = judge(painter.paint(inverted.noise, activations))
    correlation = np.nan_to_num(np.corrcoef(training.activations, rowvar=False))
    fresh = painter.noise(DONORS, seed)
    found = []
    for carrier in carried:
        k, j = carrier.attribute, carrier.prototype
        groups = [
            (donors.rows(k, 1, alone), donors.rows(k, 0, alone))
            for donors, alone in ((training, False), (labelled, True))
        ]  # fmt: skip
        if min(len(rows) for pair in groups for rows in pair) < _FEWEST:
            continue
        rng = np.random.default_rng((seed, k))
        total = _exchanged(painter, judge, fresh, training, groups[0], k, rng)
        code = _exchanged(painter, judge, fresh, labelled, groups[1], k, rng)
        alone_ = painter.paint(inverted.noise, ranges.moved(activations, j, carrier.target))
        others = np.flatnonzero(np.abs(correlation[j]) < _ALIKE)
        null = np.zeros_like(own)
        for _ in range(NULLS if len(others) else 0):
            random = moved_at_random(ranges, activations, rng.choice(others, len(own)))
            null += (judge(painter.paint(inverted.noise, random)) - own) / NULLS
        asked = carrier.target - activations[:, j]
        got = painter.activations(alone_)[:, j] - activations[:, j]
        reached = np.divide(got, asked, out=np.full(len(got), np.nan), where=np.abs(asked) > 1e-6)
        found.append(Effect(k, total, code, judge(alone_) - own, null, reached, alone_[:8]))
    return found


def _exchanged(
    painter: Painter, judge: Judge, noise: np.ndarray, donors: Donors, pair: tuple[np.ndarray, np.ndarray],
    attribute: int, rng: np.random.Generator,
) -> Exchange:  # fmt: skip
    """Return fresh noise painted as donors with and without; both sides use the same noise, each place its own."""
    chosen, strata, judged, shown = [], [], [], None
    for rows in pair:
        some, stratum = donors.drawn(rows, attribute, len(noise), rng)
        times = len(noise) // len(some)
        at = np.tile(np.arange(len(some)), times)
        painted = painter.paint(noise[: len(at)], donors.activations[some[at]])
        judged.append(judge(painted).reshape(times, len(some), -1).mean(0))
        chosen.append(some)
        strata.append(stratum)
        shown = painted[:8] if shown is None else shown
    assert shown is not None
    return Exchange((chosen[0], chosen[1]), (judged[0], judged[1]), (strata[0], strata[1]), shown)


def moved_at_random(ranges: Ranges, activations: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Return activations (n, m) with each image's own drawn prototype alone moved to that one's 95th percentile."""
    moved = np.array(activations, dtype=np.float32)
    for j in np.unique(prototypes):
        rows = np.flatnonzero(prototypes == j)
        moved[rows] = ranges.moved(activations[rows], int(j), float(ranges.high[j]))
    return moved
