"""From a trained model and images whose attributes are known to evidence: captured, moved, screened, amplified."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medaudit.audits.prototypes.codes import Told, told
from medaudit.audits.prototypes.effects import Carrier, Effect, Exchange
from medaudit.audits.prototypes.settings import AuditSettings
from medaudit.audits.prototypes.where import Pointed
from medaudit.metrics.generation import GenerationScore
from medaudit.metrics.ranking import auroc
from medaudit.metrics.ranking_draws import ranking_draws
from medaudit.statistics import Estimate, correlation_change, patient_weights

KINDS = ("total", "code", "direct")
"""The moves of :class:`~medaudit.audits.prototypes.effects.Effect`."""
PAINTED = 0.5
"""The change of its own probability from which on a move is said to paint an attribute; ours."""
_PERMUTED = 1_999


@dataclass(frozen=True, eq=False)
class Material:
    """What a study is made of. ``labels`` (n, K) are 0, 1 or NaN, of images that the model never saw."""

    attributes: tuple[str, ...]
    labels: np.ndarray
    patients: np.ndarray
    """(n,): codes of the patients of these images."""
    activations: np.ndarray
    """(n, m)."""
    training: np.ndarray
    """(N, m): activations of the images that the model was trained on."""
    training_patients: np.ndarray
    """(N,): codes of theirs."""
    start: np.ndarray
    """Rows of the images that were changed: none of them shows any attribute."""
    choosing: np.ndarray
    """Rows of the labelled images that carriers were chosen on, and that donors of ``code`` are of."""
    carried: list[Carrier]
    effects: list[Effect]
    drawn: np.ndarray
    """(D, K): the judge's probabilities of images painted from drawn activations; (0, K) where none were."""
    judged_training: np.ndarray
    """(N', K): the same judge's of training images."""
    judge_auroc: np.ndarray
    """(K,): of the judge, on images that it did not learn from."""
    repainted: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    """Rows of images that were painted again from fresh noise, with their own activations."""
    judged_repainted: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """(n', K): the judge's probabilities of these paintings."""
    pointed: Mapping[int, Pointed] = field(default_factory=dict)
    """By attribute: where its carrier lies, against its masks; only of attributes with masks and a carrier that they
    raise."""
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By name, codes (n, .) of the labelled images: the activations, and what they are compared with."""
    distances: Mapping[str, GenerationScore] = field(default_factory=dict)
    """Of drawn images from labelled ones, and of training images from the same."""


@dataclass(frozen=True, eq=False)
class Study:
    """Evidence about each attribute and each ordered pair of them."""

    settings: AuditSettings
    material: Material
    captured: list[Estimate]
    """An AUROC an attribute."""
    change: dict[tuple[int, int, str], Estimate]
    """(moved, judged, kind): the mean change of the judged attribute's probability; kinds are :data:`KINDS`."""
    screen: dict[tuple[int, int], Estimate]
    """(a, b), a < b: correlation of their carriers' activations among training images less that among test images."""
    amplified: dict[tuple[int, int], Estimate]
    """(a, b), a < b: correlation of the judged attributes in painted images less that in training images."""
    decided: dict[int, Estimate]
    """An AUROC an attribute: of the judge in images painted from fresh noise, for the attribute of the image whose
    activations they were painted with."""
    located: dict[int, Estimate]
    """By attribute: the share of its mask in the box of its carrier's nearest cell, less the mean of all cells."""
    told: dict[str, Told]
    """By code: what all its numbers together tell of attributes."""

    def carrier(self, attribute: int) -> Carrier:
        """Return what carries an attribute."""
        return self.material.carried[attribute]

    def is_painted(self, attribute: int) -> bool:
        """Return whether giving an image an attribute's code paints it at all: half of the way from never to always."""
        own = [self.change[key] for kind in ("total", "code") if (key := (attribute, attribute, kind)) in self.change]
        return any(estimate.value >= PAINTED for estimate in own)

    def is_captured(self, attribute: int) -> bool:
        """Return whether some prototype tells the attribute well enough to be called its carrier."""
        return self.captured[attribute].value >= self.settings.captured


def study(material: Material, settings: AuditSettings) -> Study:
    """Return the evidence; all intervals by patients drawn anew."""
    rng = np.random.default_rng((settings.seed, 81))
    k = len(material.attributes)
    captured = [_captured(material, a) for a in range(k)]
    change = {
        (effect.moved, b, kind): (
            moved_alone(effect, b, material.patients[material.start], settings)
            if kind == "direct"
            else exchanged(getattr(effect, kind), b, settings, rng)
        )
        for effect in material.effects
        for b in range(k)
        for kind in KINDS
    }
    pairs = [(a, b) for a in range(k) for b in range(a + 1, k)]
    screen = {pair: _screened(material, *pair) for pair in pairs}
    amplified = {pair: _amplified(material, *pair, settings, rng) for pair in pairs} if len(material.drawn) else {}
    decided = {a: _decided(material, a, settings) for a in range(k) if len(material.repainted)}
    located = {a: _located(one, settings) for a, one in material.pointed.items()}
    enough = len(np.unique(material.patients)) >= settings.min_patients
    known = told(
        material.codes if enough else {}, material.labels, material.patients, resamples=settings.resamples,
        seed=settings.seed,
    )  # fmt: skip
    return Study(settings, material, captured, change, screen, amplified, decided, located, known)


def exchanged(exchange: Exchange, attribute: int, settings: AuditSettings, rng: np.random.Generator) -> Estimate:
    """Return the judge's mean probability of paintings of donors with, less of donors without.

    The interval by donors drawn anew among those of the same other attributes: of this model and its training images.
    p by permutation of who has the attribute, of the difference over its standard error: were it nothing to what is
    painted, all donors would be alike. Permutations do not keep the strata, so that p is rather too large.
    """
    yes, no = (side[:, attribute] for side in exchange.judged)
    values, n = np.concatenate([yes, no]), len(yes)
    draws = [_drawn_anew(side, stratum, settings.resamples, rng)
             for side, stratum in zip((yes, no), exchange.strata, strict=True)]  # fmt: skip
    low, low_90, high_90, high = (float(x) for x in np.quantile(draws[0] - draws[1], (0.025, 0.05, 0.95, 0.975)))
    orders = rng.permuted(np.tile(np.arange(len(values)), (_PERMUTED, 1)), axis=1)
    shuffled = values[np.concatenate([np.arange(len(values))[None], orders])]
    found = np.abs(_studentised(shuffled[:, :n], shuffled[:, n:]))
    p = float((found >= found[0] - 1e-12).mean())
    return Estimate(
        "change of probability", float(yes.mean() - no.mean()), low, high, p=p, n=len(values),
        method=f"donors drawn anew {settings.resamples:,} times within strata; p by permutation",
        extra={"random": math.nan, "low_90": low_90, "high_90": high_90, "with": float(yes.mean()),
               "without": float(no.mean())},
    )  # fmt: skip


def _drawn_anew(values: np.ndarray, strata: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return (B,) means of values drawn anew within strata."""
    total = np.zeros(resamples)
    for s in np.unique(strata):
        some = values[strata == s]
        total += some[rng.integers(0, len(some), (resamples, len(some)))].sum(1)
    return total / len(values)


def _studentised(yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Return each row's difference of means over its standard error (Welch)."""
    error = np.sqrt(yes.var(1, ddof=1) / yes.shape[1] + no.var(1, ddof=1) / no.shape[1])
    return (yes.mean(1) - no.mean(1)) / np.maximum(error, 1e-9)


def moved_alone(effect: Effect, attribute: int, patients: np.ndarray, settings: AuditSettings) -> Estimate:
    """Return the mean change by the carrier alone, with its interval by patients drawn anew.

    Without a p: whether a prototype does more than others do is a question over prototypes, and there are few.
    """
    values = effect.direct[:, attribute]
    code, weights = patient_weights(patients, settings.resamples, settings.seed)
    cases = weights[:, code]
    draws = (cases @ values) / np.maximum(cases.sum(1), 1)
    low, low_90, high_90, high = (float(x) for x in np.quantile(draws, (0.025, 0.05, 0.95, 0.975)))
    return Estimate(
        "change of probability", float(values.mean()), low, high, n=len(np.unique(code)),
        method=f"patients drawn anew {settings.resamples:,} times",
        extra={"random": float(effect.null[:, attribute].mean()), "low_90": low_90, "high_90": high_90},
    )  # fmt: skip


def _captured(material: Material, a: int) -> Estimate:
    carrier = material.carried[a]
    return Estimate(
        "AUROC at equal values of the others", carrier.auroc, n=int(np.isfinite(material.labels[:, a]).sum()),
        method="prototype chosen on half of the test images, judged on the other",
        extra={"where chosen": carrier.chosen_auroc, "judge": float(material.judge_auroc[a])},
    )  # fmt: skip


def _decided(material: Material, a: int, settings: AuditSettings) -> Estimate:
    labels = material.labels[material.repainted, a]
    known = np.isfinite(labels)
    name, n = "AUROC of images painted from fresh noise", int(known.sum())
    if len(np.unique(labels[known])) < 2:
        return Estimate(name, math.nan, n=n)
    code, weights = patient_weights(material.patients[material.repainted][known], settings.resamples, settings.seed)
    scores, has = material.judged_repainted[None, known, a], labels[known] == 1
    draws = ranking_draws(scores, has, None, code, weights)["auroc"][:, 0]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Estimate(
        name, auroc(scores[0][~has], scores[0][has]), float(low), float(high), n=len(np.unique(code)),
        method="by the judge, for the attribute of the image whose activations were painted; patients drawn anew",
    )  # fmt: skip


def _located(one: Pointed, settings: AuditSettings) -> Estimate:
    values = one.inside - one.inside_by_chance
    code, weights = patient_weights(one.patients, settings.resamples, settings.seed)
    cases = weights[:, code]
    low, high = np.quantile((cases @ values) / np.maximum(cases.sum(1), 1), (0.025, 0.975))
    extra = {"inside": one.inside, "inside by chance": one.inside_by_chance, "hit": one.hit,
             "hit by chance": one.hit_by_chance}  # fmt: skip
    return Estimate(
        "share of the mask in the carrier's box, less that of any box", float(values.mean()), float(low), float(high),
        n=len(np.unique(code)), method="patients drawn anew",
        extra={name: float(part.mean()) for name, part in extra.items()},
    )  # fmt: skip


def _screened(material: Material, a: int, b: int) -> Estimate:
    i, j = material.carried[a].prototype, material.carried[b].prototype
    sign = (1 if material.carried[a].up else -1) * (1 if material.carried[b].up else -1)
    change = correlation_change(
        material.training[:, (i, j)], material.activations[:, (i, j)], first_patients=material.training_patients,
        second_patients=material.patients,
    )  # fmt: skip
    value, error = sign * float(change.difference[0, 1]), 1.96 * float(change.se[0, 1])
    extra = {"training": sign * float(change.first[0, 1]), "test": sign * float(change.second[0, 1])}
    return Estimate(
        "correlation in training less that in test images", value, value - error, value + error,
        p=float(change.p[0, 1]), n=len(material.activations), extra=extra, method="jackknife over patients",
    )  # fmt: skip


def _amplified(material: Material, a: int, b: int, settings: AuditSettings, rng: np.random.Generator) -> Estimate:
    painted = (material.drawn[:, (a, b)] > 0.5).astype(float)
    real = (material.judged_training[:, (a, b)] > 0.5).astype(float)
    values, errors = [], []
    for some in (painted, real):
        one = float(_correlation(some, np.ones((1, len(some))))[0])
        draws = _correlation(some, rng.multinomial(len(some), np.full(len(some), 1 / len(some)), settings.resamples))
        values.append(one)
        errors.append(float(np.nanstd(draws)) if np.isfinite(draws).any() else math.nan)
    value, error = values[0] - values[1], float(np.hypot(errors[0], errors[1]))
    return Estimate(
        "phi in painted less that in training images", value, value - 1.96 * error, value + 1.96 * error,
        n=len(painted), method="images drawn anew; both by the same judge",
        extra={"painted": values[0], "training": values[1]},
    )  # fmt: skip


def _correlation(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of two columns under each row of weights (B, n); NaN where one does not vary."""
    total = weights.sum(1)
    mean = weights @ values / total[:, None]
    square = weights @ values**2 / total[:, None] - mean**2
    both = weights @ (values[:, 0] * values[:, 1]) / total - mean[:, 0] * mean[:, 1]
    below = np.sqrt(np.maximum(square[:, 0], 0) * np.maximum(square[:, 1], 0))
    return np.divide(both, below, out=np.full(len(both), np.nan), where=below > 1e-12)
