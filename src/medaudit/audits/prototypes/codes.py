"""What a code knows of attributes beside principal components of equal size, and how images drawn from it compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medaudit.metrics.generation import GenerationScore, kernel_distance
from medaudit.metrics.latent_codes import LatentAuroc, Tad, latent_auroc, tad

OWN, COMPONENTS = "activations", "principal components"
_FITTED = 4_000  # training images that components are of
_LEAST = 40  # images of a kind below which a distance of sets of images says nothing


@dataclass(frozen=True, eq=False)
class Told:
    """What a code tells of attributes."""

    readout: LatentAuroc
    """Of all its numbers together, by logistic regression."""
    tad: Tad


def components(training: np.ndarray, images: np.ndarray, m: int) -> np.ndarray:
    """Return the m principal components of training images (N, C, H, W), of ``images``: (n, m).

    What the simplest code of the same size knows: less than this, and a code was not worth training.
    """
    from sklearn.decomposition import PCA  # slow to import, and only this asks for it

    some = training[np.unique(np.linspace(0, len(training) - 1, min(_FITTED, len(training))).astype(int))]
    flat = np.asarray(some, dtype=np.float32).reshape(len(some), -1)
    fitted = PCA(min(m, *flat.shape), svd_solver="randomized", random_state=0).fit(flat)
    return np.concatenate(
        [
            fitted.transform(
                np.asarray(images[k : k + 1_024], dtype=np.float32).reshape(len(images[k : k + 1_024]), -1)
            )
            for k in range(0, len(images), 1_024)
        ]
    )


def told(
    codes: Mapping[str, np.ndarray], labels: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int
) -> dict[str, Told]:
    """Return what each of ``codes`` (n, m) tells of ``labels`` (n, K) in patients that its readout did not see."""
    return {
        name: Told(
            latent_auroc(values, labels, patients=patients, resamples=resamples, seed=seed),
            tad(values, labels, first=None, seed=seed),
        )
        for name, values in codes.items()
    }


def more(first: LatentAuroc, second: LatentAuroc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by how much one code's AUROC is above another's, of the same images, and its 95 % limits: (K,) each."""
    known = first.draws - second.draws
    low, high = np.full((2, known.shape[1]), np.nan)
    for k in np.flatnonzero(np.isfinite(known).any(0)):
        low[k], high[k] = np.nanquantile(known[:, k], (0.025, 0.975))
    return first.by_attribute - second.by_attribute, low, high


def distances(
    real: np.ndarray, training: np.ndarray, drawn: np.ndarray, patients: tuple[np.ndarray, np.ndarray], extractor: str,
    seed: int,
) -> dict[str, GenerationScore]:  # fmt: skip
    """Return the kernel distance of drawn images from ``real`` ones, and of as many training images from the same.

    All are features (n, D) of ``extractor``; ``patients`` of the real and the training ones. Empty where there are
    fewer than forty of a kind. The second is what a generator that is right would have.
    """
    if min(map(len, (real, training, drawn))) < _LEAST or len(np.unique(patients[0])) < _LEAST:
        return {}
    some = np.linspace(0, len(training) - 1, min(len(training), len(drawn))).astype(int)
    return {
        "drawn": kernel_distance(real, drawn, extractor=extractor, real_patients=patients[0], seed=seed),
        "training": kernel_distance(
            real,
            training[some],
            extractor=extractor,
            real_patients=patients[0],
            generated_patients=patients[1][some],
            seed=seed,
        ),
    }
