"""A simulated cohort with a planted shortcut: a sign of disease, something that goes with it by habit, and a control.

A is the sign, B the shortcut, C the control (:mod:`shortcut_scenes`). A has probability 1/2, P(B = A) = (1 + rho) / 2,
so that the correlation phi of A and B is rho; C is independent of both. At rho 0 the same scenes with another seed are
an unbiased probe, on which A and B can be told apart: ``replace(plant, strength=0.0)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role
from medaudit.cohort.atomic import replace_file
from medaudit.datasets.files import claim
from medaudit.datasets.shortcut_scenes import SCENES, SMALLEST, Scene, scene
from medaudit.errors import UsageError
from medaudit.workers import in_processes, shown


@dataclass(frozen=True)
class ShortcutPlant:
    """Which shortcut goes with the sign, and how strongly: ``strength`` is the correlation phi of the two, -1 to 1."""

    shortcut: str
    strength: float = 0.9

    def __post_init__(self) -> None:
        if not -1 <= self.strength <= 1:  # NaN too
            raise UsageError(
                f"cannot plant {self.shortcut} with a strength of {self.strength:g}; it is a correlation, from -1 to 1"
            )


LESION_PLANTS: Mapping[str, ShortcutPlant] = {
    "none": ShortcutPlant("ruler", 0.0),
    "ruler": ShortcutPlant("ruler"),
    "patch": ShortcutPlant("patch"),
}
CHEST_PLANTS: Mapping[str, ShortcutPlant] = {
    "none": ShortcutPlant("pacemaker", 0.0),
    "pacemaker": ShortcutPlant("pacemaker"),
    "marker": ShortcutPlant("marker"),
}
"""Under ``none`` the shortcut is there in half of the pictures, and goes with nothing."""

_MADE_BY = 1  # to be raised when the same settings come to mean other pixels: old folders are then not continued


@dataclass(frozen=True, eq=False)
class Scenes:
    """Simulated pictures in memory: uint8 (N, S, S, 3), or (N, S, S) for X-rays, and what each of them shows.

    ``attributes`` names the columns of ``labels`` (N, 3) bool and of ``masks`` (N, 3, S, S) bool: the sign, the
    shortcut, the control.
    """

    attributes: tuple[str, str, str]
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def scenes(kind: str, *, n: int, seed: int, plant: ShortcutPlant, size: int = 32, start: int = 0) -> Scenes:
    """Return the cases ``start`` to ``start + n`` of a simulation; case i is the same whatever ``n`` and ``start`` are.

    It holds all in memory: 10,000 pictures of lesions of 32 pixels are 60 MB with their masks. Raises UsageError for a
    kind, a plant, a size or an ``n`` that cannot be.
    """
    names = _attributes(kind, plant, n, size)
    images = np.empty((n, size, size, 3) if SCENES[kind].colour else (n, size, size), dtype=np.uint8)
    labels, masks = np.empty((n, 3), dtype=bool), np.empty((n, 3, size, size), dtype=bool)
    for i, (case, present) in enumerate(_drawn(plant, n, seed, start)):
        made = _scene(kind, names, size, seed, case, present)
        images[i], labels[i], masks[i] = made.image, present, [made.masks[name] for name in names]
    return Scenes(names, images, labels, masks)


def simulate_shortcuts(
    kind: str, root: str | Path, *, n: int, seed: int, plant: ShortcutPlant, jobs: int = 1, progress: bool = False,
    size: int = 32,
) -> Cohort:  # fmt: skip
    """Return a cohort of ``n`` pictures of ``size`` pixels written to ``root`` as PNG, one a patient, with their table.

    The columns of the sign, the shortcut and the control are ``yes`` or ``no`` and have their names; each name is a
    role too, the mask of where it is seen (empty where it is not). Called again, it makes only what is not there.
    ``truth`` holds the plant, and which attribute is the ``sign``, the ``shortcut`` and the ``control``. Raises
    UsageError as :func:`scenes` does, and if ``root`` holds a simulation with other settings.
    """
    root = Path(root)
    names = _attributes(kind, plant, n, size)
    settings = {"simulator": kind, "made_by": _MADE_BY, "n": n, "seed": seed, "size": size, "plant": asdict(plant)}
    folders = ("images", *names)
    claim(root, settings, folders)
    digits = max(5, len(str(n)))
    drawn = [(f"SC_{case + 1:0{digits}d}", case, labels) for case, labels in _drawn(plant, n, seed, 0)]
    left = [one for one in drawn if not all((root / folder / f"{one[0]}.png").exists() for folder in folders)]
    making = in_processes(
        partial(_write, root, kind, names, size, seed), left, jobs if len(left) > 200 else 1, at_once=64
    )
    for _done in shown(making, f"simulating {kind}", len(left), progress):
        pass
    ids, labels = [one[0] for one in drawn], np.stack([one[2] for one in drawn])
    columns: dict[str, list[str]] = {"case_id": ids, "patient_id": [f"P{case_id[3:]}" for case_id in ids]}
    columns |= {name: ["yes" if one else "no" for one in labels[:, k]] for k, name in enumerate(names)}
    columns |= {"image_path": [f"images/{case_id}.png" for case_id in ids]}
    columns |= {f"{name}_path": [f"{name}/{case_id}.png" for case_id in ids] for name in names}
    table = pl.DataFrame(columns)
    replace_file(root / "cases.csv", table.write_csv().encode(), flush=False)
    sign, shortcut, control = names
    return Cohort(
        f"simulated {kind}",
        table,
        root.resolve(),
        {"image": Role("image_path"), **{name: Role(f"{name}_path") for name in names}},
        notes=(
            f"Simulated: {shortcut} goes with {sign} at a correlation of {plant.strength:g}, {control} with neither. "
            "It shows mechanisms, and says nothing of magnitudes in patients.",
        ),
        truth={**settings, "sign": sign, "shortcut": shortcut, "control": control},
    )


def _attributes(kind: str, plant: ShortcutPlant, n: int, size: int) -> tuple[str, str, str]:
    """Return the names of the sign, the shortcut and the control."""
    if kind not in SCENES:
        raise UsageError(f"no kind of scene is called '{kind}'; there are: {', '.join(SCENES)}")
    found = SCENES[kind]
    if plant.shortcut not in found.shortcuts:
        raise UsageError(f"{kind} has no shortcut '{plant.shortcut}'; it has: {', '.join(found.shortcuts)}")
    if n < 1:
        raise UsageError(f"cannot simulate {n} pictures; expected 1 or more")
    if size < SMALLEST:
        raise UsageError(f"cannot simulate pictures of {size} pixels; expected {SMALLEST} or more")
    return found.sign, plant.shortcut, found.control


def _drawn(plant: ShortcutPlant, n: int, seed: int, start: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each case's number and what it shows, (3,) bool; at any strength by the same lot: plants pair up."""
    for case in range(start, start + n):
        lot = np.random.default_rng((seed, case, 1)).random(3)
        sign = bool(lot[0] < 0.5)
        alike = bool(lot[1] < (1 + plant.strength) / 2)
        yield case, np.asarray([sign, sign == alike, lot[2] < 0.5])


def _scene(kind: str, names: tuple[str, ...], size: int, seed: int, case: int, labels: np.ndarray) -> Scene:
    shown = dict(zip(names, labels.tolist(), strict=True))
    return scene(kind, shown, size, np.random.default_rng((seed, case, 2)))


def _write(
    root: Path, kind: str, names: tuple[str, ...], size: int, seed: int, drawn: tuple[str, int, np.ndarray]
) -> None:
    case_id, case, labels = drawn
    made = _scene(kind, names, size, seed, case, labels)
    masks = [(name, made.masks[name].astype(np.uint8) * np.uint8(255)) for name in names]
    # The picture comes last: where it is, all that belongs to it is.
    for folder, array in [*masks, ("images", made.image)]:
        path = root / folder / f"{case_id}.png"
        part = path.with_name(f".{path.name}")
        Image.fromarray(array).save(part, format="PNG", compress_level=1)
        part.replace(path)
