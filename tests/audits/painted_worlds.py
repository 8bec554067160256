"""A painter that is a formula: each activation is a pixel, so that what a move does is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaudit.audits.prototypes.effects import Donors, carriers, effects
from medaudit.audits.prototypes.settings import AuditSettings
from medaudit.audits.prototypes.study import Material, Study, study
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.painter import Inverted

PROTOTYPES = 12
NAMES = ("sign", "shortcut", "control")


@dataclass(frozen=True)
class FormulaPainter:
    """Activations 0, 1, 2 are of sign, shortcut and control; ``absorbed``: the shortcut is painted as sign too."""

    absorbed: bool = False

    def noise(self, n: int, seed: int) -> np.ndarray:
        """Return noise that says nothing."""
        return np.zeros((n, 1), dtype=np.float32)

    def paint(self, noise: np.ndarray, activations: np.ndarray, seen: object = None) -> np.ndarray:
        """Return the activations as images (n, 1, 1, m), with what is absorbed."""
        made = np.array(activations, dtype=np.float64)
        if self.absorbed:
            made[:, 0] = np.maximum(made[:, 0], made[:, 1])
        return made[:, None, None, :].astype(np.float32)

    def activations(self, images: np.ndarray) -> np.ndarray:
        """Return the images' pixels."""
        return images[:, 0, 0, :]


def judge(images: np.ndarray) -> np.ndarray:
    """Return probabilities: how far a pixel is above 1, between 0.5 and 1.5."""
    return np.clip(images[:, 0, 0, :3] - 0.5, 0, 1)


def world(
    phi: float, *, seed: int, absorbed: bool = False, n: int = 1_200, noise: float = 0.25,
    settings: AuditSettings | None = None,
) -> Study:  # fmt: skip
    """Return the study of a model of images in which sign and shortcut correlate by ``phi``, asked on others."""
    settings = settings or AuditSettings(drawn=0, leaks=0, seed=seed, resamples=500)
    rng = np.random.default_rng(seed)

    def images(count: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
        sign = rng.random(count) < 0.5
        shortcut = np.where(rng.random(count) < (1 + strength) / 2, sign, ~sign)
        labels = np.stack([sign, shortcut, rng.random(count) < 0.5], axis=1).astype(float)
        codes = 0.5 + noise * rng.standard_normal((count, PROTOTYPES))
        codes[:, :3] += labels
        return np.maximum(codes, 0).astype(np.float32), labels

    training, known = images(3_000, phi)
    codes, labels = images(n, 0.0)
    half = np.arange(n) % 2
    choosing, judging = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    carried = carriers(codes, labels, (choosing, judging), Ranges.of(training))
    start = judging[(labels[judging] == 0).all(axis=1)][: settings.images]
    nothing = np.zeros((len(start), 1), dtype=np.float32)
    inverted = Inverted(nothing, nothing[:, 0], nothing[:, 0], 0)
    found = effects(
        FormulaPainter(absorbed), judge, inverted, codes[start],  # type: ignore[arg-type]
        Donors(training, known, np.arange(3_000)), Donors(codes[choosing], labels[choosing], choosing), carried,
        seed=seed,
    )  # fmt: skip
    material = Material(
        NAMES, labels, np.arange(n), codes, training, np.arange(3_000), start, choosing,
        carried, found, np.zeros((0, 3)), np.zeros((0, 3)),
        np.ones(3),
    )  # fmt: skip
    return study(material, settings)
