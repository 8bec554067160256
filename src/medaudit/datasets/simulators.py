"""Simulator: a cohort that is made instead of read, with planted causes, by the name that ``--simulate`` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medaudit.cohort import Cohort
from medaudit.datasets.image_plants import IMAGE_PLANTS
from medaudit.datasets.simulate_dce import simulate_dce
from medaudit.datasets.simulate_scores import SCORE_PLANTS, simulate_scores
from medaudit.datasets.simulate_shortcuts import CHEST_PLANTS, LESION_PLANTS, ShortcutPlant, simulate_shortcuts
from medaudit.datasets.simulate_skin import SKIN_PLANTS, simulate_skin
from medaudit.datasets.simulate_ultrasound import ULTRASOUND_PLANTS, simulate_ultrasound
from medaudit.errors import UsageError

IMAGE_SHAPE = (48, 48, 48)
"""Voxels of a simulated breast-MRI case: small enough that hundreds are made in a minute."""


@dataclass(frozen=True)
class Simulator:
    """What a simulator makes, and the causes that it can plant."""

    name: str
    title: str
    plants: Mapping[str, Any]
    make: Callable[..., Cohort]


IMAGES = {
    "breast-mri": Simulator(
        "breast-mri",
        "DCE breast-MRI phantoms with expert and automated tumour masks",
        IMAGE_PLANTS,
        partial(simulate_dce, shape=IMAGE_SHAPE),
    )
}
"""Simulators of images and masks."""

PICTURES = {
    "chest": Simulator(
        "chest",
        "small chest X-rays: cardiomegaly, a pacemaker or a burned-in marker that goes with it, a control, and masks",
        CHEST_PLANTS,
        partial(simulate_shortcuts, "chest"),
    ),
    "fetal-ultrasound": Simulator(
        "fetal-ultrasound",
        "B-mode frames of fetal phantoms: five planes, four devices, patients and operators as factors of their own",
        ULTRASOUND_PLANTS,
        simulate_ultrasound,
    ),
    "lesions": Simulator(
        "lesions",
        "small dermoscopy pictures: a sign of disease, a ruler or a patch that goes with it, ink as control, and masks",
        LESION_PLANTS,
        partial(simulate_shortcuts, "lesions"),
    ),
    "skin": Simulator(
        "skin",
        "pictures of skin from two-layer optics: six types, four diagnoses, the same geometry at any tone",
        SKIN_PLANTS,
        simulate_skin,
    ),
}
"""Simulators of pictures with attributes to be told from them, and without automated masks."""

SCORES = {
    "mama-mia-scores": Simulator(
        "mama-mia-scores",
        "a table of per-case scores like MAMA-MIA's, 1,506 patients of four sources",
        SCORE_PLANTS,
        simulate_scores,
    )
}
"""Simulators of tables of scores."""

SIMULATORS = {**IMAGES, **PICTURES, **SCORES}
"""All simulators by name."""


def simulated_images(
    name: str, root: Path, *, plant: str, size: int, seed: int, jobs: int = 1, progress: bool = False
) -> Cohort:
    """Return a simulated cohort of ``size`` cases whose images and masks are written to ``root``.

    ``plant`` is a name, and for a planted shortcut it may have a strength: ``ruler``, ``ruler:0.5``. Raises UsageError
    for a name, a plant or a strength that cannot be.
    """
    simulator = _find({**IMAGES, **PICTURES}, name, "simulator of images")
    planted = _planted(simulator, plant)
    return simulator.make(root, n=size, seed=seed, plant=planted, jobs=jobs, progress=progress)


def check_predictions(name: str, plant: str) -> None:
    """Raise UsageError where a simulated cohort of this plant has no ``prediction``, with the plants that have one."""
    plants = _find(IMAGES, name, "simulator of images").plants
    if _find(plants, plant, f"plant of {name}").model is None:
        having = ", ".join(other for other, planted in plants.items() if planted.model is not None)
        raise UsageError(f"the plant '{plant}' of {name} has no prediction masks; these plants have: {having}")


def simulated_scores(name: str, *, plant: str, size: int, seed: int) -> Cohort:
    """Return a simulated table of scores of ``size`` cases; UsageError for a name or a plant that is not known."""
    simulator = _find(SCORES, name, "simulator of scores")
    return simulator.make(n=size, seed=seed, plant=_find(simulator.plants, plant, f"plant of {name}"))


def _planted(simulator: Simulator, plant: str) -> Any:
    """Return the plant of that name, ``ruler``, or of that name and strength, ``ruler:0.5``."""
    name, colon, strength = plant.partition(":")
    planted = _find(simulator.plants, name, f"plant of {simulator.name}")
    if not colon:
        return planted
    if name == "none" or not isinstance(planted, ShortcutPlant):
        raise UsageError(f"the plant '{name}' of {simulator.name} takes no strength; write it without ':{strength}'")
    try:
        return replace(planted, strength=float(strength))
    except ValueError:
        raise UsageError(
            f"cannot read the strength in '{plant}'; expected a number from -1 to 1, as {name}:0.9"
        ) from None


def _find(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise UsageError(f"no {what} is called '{name}'; there are: {', '.join(known)}")
    return known[name]
