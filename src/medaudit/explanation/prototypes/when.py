"""When in denoising a prototype appears: activations of what the model expects, from noise to image (paper, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.explanation.prototypes.painter import Painter


@dataclass(frozen=True, eq=False)
class Emergence:
    """Curves over the sampler's times, latest first."""

    times: np.ndarray
    """(steps,) of 0 to T - 1."""
    log_snr: np.ndarray
    """(steps,): the logarithm of signal over noise, which does not depend on the schedule."""
    difference: np.ndarray
    """(steps, n): activation of the moved prototype in the expected image, moved run minus own run."""

    @property
    def half(self) -> float:
        """The time at which the mean difference first passes half of its last value; NaN where it never grows."""
        at = self._at_half()
        return float("nan") if at is None else float(self.times[at])

    @property
    def half_log_snr(self) -> float:
        """The same as a log signal-to-noise ratio."""
        at = self._at_half()
        return float("nan") if at is None else float(self.log_snr[at])

    def _at_half(self) -> int | None:
        mean = self.difference.mean(1)
        if abs(mean[-1]) < 1e-6:
            return None
        past = np.flatnonzero(mean / mean[-1] >= 0.5)
        return int(past[0]) if len(past) else None


def emergence(painter: Painter, noise: np.ndarray, own: np.ndarray, moved: np.ndarray, prototype: int) -> Emergence:
    """Return when ``prototype`` appears: painting ``noise`` with activations ``moved`` against ``own`` (n, m).

    With a net that predicts noise, what it expects beyond time 900 of 1,000 is the prediction's error a hundredfold:
    there the curve says nothing.
    """
    schedule = painter.trained.schedule
    curves, times = [], np.empty(0)
    for activations in (moved, own):
        rows: dict[int, list[np.ndarray]] = {}

        def seen(time: int, images: np.ndarray, rows: dict[int, list[np.ndarray]] = rows) -> None:
            clean = np.clip((images + 1) / 2, 0, 1)
            rows.setdefault(time, []).append(painter.activations(clean)[:, prototype])

        painter.paint(noise, activations, seen)
        times = np.array(sorted(rows, reverse=True))
        curves.append(np.stack([np.concatenate(rows[int(time)]) for time in times]))
    log_snr = np.asarray(schedule.log_snr(times), dtype=np.float64)
    return Emergence(times, log_snr, curves[0] - curves[1])


def order(curves: Sequence[Emergence]) -> list[int]:
    """Return the places of the curves, the one that appears first (in the most noise) first; NaN last."""
    return sorted(range(len(curves)), key=lambda i: (np.isnan(curves[i].half), -curves[i].half))
