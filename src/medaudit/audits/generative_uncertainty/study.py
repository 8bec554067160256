"""The statistics: does a score follow error, flag a neglected group, and find what does not belong, and where?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medaudit.audits.generative.design import Design
from medaudit.audits.generative.study import AUROC, Judged, judged
from medaudit.audits.generative_uncertainty.settings import Settings
from medaudit.metrics.ranking_draws import ranking_draws
from medaudit.statistics import Estimate, patient_weights, spearman_draws, two_level

PIXEL = ("auroc", "average_precision", "best_iou")


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of test images and of edited ones, under the trainings of K shares and S seeds.

    ``clean`` maps a score to (K, S, n) on the test images ``rows``; ``edited`` maps it to (K, S, E, m) on the test
    images ``sources`` (m places in ``rows``) with each of E edits. ``pixels`` maps a score with a map to (K, S, E, m,
    3): AUROC, average precision and best IoU of the map against the edit's mask, NaN without one. ``errors`` (K, S, n).
    """

    rows: np.ndarray
    shares: tuple[float, ...]
    edits: tuple[str, ...]
    sources: np.ndarray
    clean: Mapping[str, np.ndarray]
    edited: Mapping[str, np.ndarray]
    pixels: Mapping[str, np.ndarray]
    errors: np.ndarray
    luminance: np.ndarray
    fits: tuple[str, ...] = ()
    """A sentence on each posterior: rank, captured trace, residuals."""


@dataclass(frozen=True, eq=False)
class Found:
    """What one score finds of edits and artefacts, at the first share: AUROC of image level and of pixel level."""

    edits: Mapping[str, Estimate]
    pixels: Mapping[str, Mapping[str, Estimate]]
    artefacts: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Study:
    """All that the findings and the page are made from."""

    design: Design
    settings: Settings
    metric: str
    scored: Scored
    judged: Mapping[str, Judged]
    found: Mapping[str, Found]
    beats: Mapping[str, Estimate]
    """By score: its correlation with error minus that of the encoder's variance, at the last share."""
    worse: Estimate
    """At the first share: the logarithm of the minority's mean error over the majority's."""
    patients: tuple[int, int]

    @property
    def minority(self) -> np.ndarray:
        """Which test images are of the minority, (n,) bool."""
        return self.design.code[self.scored.rows] == 1


def study(
    design: Design, scored: Scored, settings: Settings, metric: str, artefacts: Mapping[str, np.ndarray],
    baseline: str = "encoder_variance",
) -> Study:  # fmt: skip
    """Return the study; ``artefacts`` maps a column to (n,) of 1, 0 and -1 (unknown) on the test images."""
    minority = design.code[scored.rows] == 1
    clusters, weights = patient_weights(
        design.clusters[scored.rows], settings.resamples, settings.seed, minority.astype(int)
    )
    once = np.ones((1, weights.shape[1]), dtype=weights.dtype)
    patients = tuple(len(np.unique(clusters[minority == g])) for g in (False, True))
    found = {name: found_of(name, scored, artefacts, clusters, weights) for name in scored.clean}
    return Study(
        design,
        settings,
        metric,
        scored,
        {
            name: judged(values, scored.errors, scored.luminance, minority, clusters, weights)
            for name, values in scored.clean.items()
        },
        found,
        _beats(scored, baseline, clusters, weights, once),
        _worse(scored, minority, clusters, weights, min(patients)),
        (patients[0], patients[1]),
    )


def found_of(
    name: str, scored: Scored, artefacts: Mapping[str, np.ndarray], clusters: np.ndarray, weights: np.ndarray
) -> Found:
    """Return what a score finds. An edited image and its original are one patient's: they are drawn together."""
    once = np.ones((1, weights.shape[1]), dtype=weights.dtype)
    clean = scored.clean[name][0]
    own = clusters[scored.sources]
    people = len(np.unique(own))
    edits, pixels = {}, {}
    for e, edit in enumerate(scored.edits):
        both = np.concatenate([clean[:, scored.sources], scored.edited[name][0][:, e]], axis=1)
        shifted = np.repeat([False, True], len(scored.sources))
        args = (np.ascontiguousarray(both), shifted, None, np.tile(own, 2))
        point, drawn = (ranking_draws(*args, w)["auroc"] for w in (once, weights))
        edits[edit] = two_level("AUROC", point[0], drawn, n=both.shape[1], patients=people, **AUROC)
        if name in scored.pixels:
            # An edit that fell outside of its image has no mask to be found.
            there = np.isfinite(scored.pixels[name][0, :, e]).all(axis=(0, 2))
            if there.any():
                pixels[edit] = {
                    metric: _mean(scored.pixels[name][0][:, e, there, i], own[there], weights)
                    for i, metric in enumerate(PIXEL)
                }
    real = {}
    for column, there in artefacts.items():
        known = there >= 0
        if not ((there == 1).any() and (there == 0).any()):
            continue
        args = (np.ascontiguousarray(clean[:, known]), there[known] == 1, None, clusters[known])
        point, drawn = (ranking_draws(*args, w)["auroc"] for w in (once, weights))
        real[column] = two_level(
            "AUROC", point[0], drawn, n=int(known.sum()), patients=len(np.unique(clusters[known])), **AUROC
        )
    return Found(edits, pixels, real)


def _mean(values: np.ndarray, own: np.ndarray, weights: np.ndarray) -> Estimate:
    people = len(np.unique(own))
    cases = weights[:, own].astype(np.float64)
    with np.errstate(invalid="ignore"):
        drawn = cases @ values.T / cases.sum(axis=1)[:, None]
    return two_level("mean over images", values.mean(axis=1), drawn, n=values.shape[1], patients=people, **AUROC)


def _beats(
    scored: Scored, baseline: str, clusters: np.ndarray, weights: np.ndarray, once: np.ndarray
) -> dict[str, Estimate]:
    error = scored.errors[-1]
    base = [spearman_draws(scored.clean[baseline][-1], error, clusters, w) for w in (once, weights)]
    return {
        name: two_level(
            f"rho of {name} - rho of {baseline}",
            spearman_draws(values[-1], error, clusters, once)[0] - base[0][0],
            spearman_draws(values[-1], error, clusters, weights) - base[1],
            n=error.shape[1],
            patients=weights.shape[1],
        )
        for name, values in scored.clean.items()
        if name != baseline
    }


def _worse(scored: Scored, minority: np.ndarray, clusters: np.ndarray, weights: np.ndarray, people: int) -> Estimate:
    error = scored.errors[0]
    logs = []
    for g in (True, False):
        inside = minority == g
        cases = weights[:, clusters[inside]].astype(np.float64)
        drawn = np.log(cases @ error[:, inside].T / cases.sum(axis=1)[:, None])
        logs.append((np.log(error[:, inside].mean(axis=1)), drawn))
    return two_level(
        "log ratio of errors", logs[0][0] - logs[1][0], logs[0][1] - logs[1][1], n=error.shape[1], patients=people
    )
