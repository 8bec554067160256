"""The leak guard of a probe: test images among what was pretrained on, or among other patients' training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaudit.audits.pretraining.design import Plan
from medaudit.training.frames import Frames, open_frames
from medaudit.training.leaks import Fingerprints, of_frames, transductive

FRAMES = "frames"
"""Where a pretraining's run keeps its frames."""


@dataclass(frozen=True, eq=False)
class Found:
    """Test images that are among others: ``identical`` ones, and those that are ``alike`` (hash and correlation)."""

    identical: tuple[str, ...]
    alike: tuple[str, ...]
    of: int

    @property
    def share(self) -> float:
        """Of all test images, from 0 to 1."""
        return (len(self.identical) + len(self.alike)) / self.of


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What was found, by ``pretraining`` (where its frames are there) and ``training``; ``test``: images looked for."""

    found: Mapping[str, Found]
    test: int


def overlaps_of(own: tuple[str, ...], frames: Frames, plan: Plan, rows: np.ndarray) -> Overlaps:
    """Return the overlaps of the test images; ``rows`` (n,) are the cases' places among ``frames``."""
    whole = of_frames(frames)
    test = _some(whole, rows[plan.rows(2)], plan.patients[plan.rows(2)])
    train = _some(whole, rows[plan.rows(0)], plan.patients[plan.rows(0)])
    found: dict[str, Found] = {}
    for where in own:
        if (Path(where) / FRAMES / "frames.json").is_file():
            seen = _among(of_frames(open_frames(Path(where) / FRAMES)), test)
            if "pretraining" not in found or seen.share > found["pretraining"].share:
                found["pretraining"] = seen
    found["training"] = _among(train, test)
    return Overlaps(found, len(test.ids))


def _among(seen: Fingerprints, test: Fingerprints) -> Found:
    ids = set(transductive(seen, test).ids)
    known = set(seen.sha256)
    same = {name for name, sha256 in zip(test.ids, test.sha256, strict=True) if sha256 in known}
    return Found(tuple(n for n in test.ids if n in same), tuple(n for n in test.ids if n in ids - same), len(test.ids))


def _some(whole: Fingerprints, at: np.ndarray, patients: np.ndarray) -> Fingerprints:
    images = whole.images[at] if whole.images is not None else None
    return Fingerprints(
        [whole.ids[i] for i in at], list(patients), [whole.sha256[i] for i in at], whole.dhash[at], images
    )
