"""Fetal phantoms: what lies in front of the probe in each plane, as maps of reflectivity and attenuation.

Shapes and echo levels are our choice: enough for a plane to be known from its anatomy alone, whatever the device. They
are no model of any fetus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medaudit.datasets.bmode import Grid

FLUID, SOFT, TISSUE, BRIGHT, BONE = 0.02, 0.22, 0.45, 1.1, 3.0
"""Reflectivity (RMS amplitude) of amniotic fluid, soft organs, maternal and fetal tissue, walls, bone."""
BONE_LOSS = 3.0
"""Attenuation of bone, dB/cm/MHz; what lies behind it is in its shadow."""


@dataclass(frozen=True)
class Subject:
    """A woman and her fetus: what does not depend on plane or device."""

    weeks: float
    """Gestational age; sizes follow it roughly linearly."""
    attenuation: float
    """Mean of her tissue, dB/cm/MHz."""
    wall_cm: float
    """From the probe to the uterus."""
    echo: float
    """Her tissue's echo level, times that of an average woman."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Two maps over the polar grid: ``reflectivity`` (amplitude) and ``attenuation`` (dB/cm/MHz)."""

    reflectivity: np.ndarray
    attenuation: np.ndarray


def anatomy(plane: str, subject: Subject, grid: Grid, rng: np.random.Generator) -> Anatomy:
    """Return what the probe sees of ``subject`` in ``plane``; ``rng`` draws place, turn and shape."""
    scene = _Scene(grid, subject)
    PLANES[plane](scene, subject, rng)
    return Anatomy(scene.reflectivity, scene.attenuation)


class _Scene:
    """The maps while they are painted; shapes are ellipses in cm, soft-edged over about a millimetre."""

    def __init__(self, grid: Grid, subject: Subject) -> None:
        self.x, self.z, self.depth = grid.x, grid.z, grid.depth_cm
        self.reflectivity = np.full(grid.x.shape, FLUID)
        self.attenuation = np.full(grid.x.shape, 0.05)
        wall = self.z < subject.wall_cm + 0.12 * np.sin(2.1 * self.x)
        layers = 1 + 0.35 * np.sin(9.0 * self.z + 0.6 * self.x)
        self.reflectivity = np.where(wall, TISSUE * subject.echo * layers, self.reflectivity)
        self.attenuation = np.where(wall, subject.attenuation, self.attenuation)
        back = self.z > 0.86 * self.depth + 0.2 * np.cos(1.3 * self.x)
        self.reflectivity = np.where(back, 0.8 * TISSUE * subject.echo, self.reflectivity)
        self.attenuation = np.where(back, subject.attenuation, self.attenuation)

    def distance(self, centre: tuple[float, float], axes: tuple[float, float], turn: float) -> np.ndarray:
        """Return an ellipse's normalised radius at each sample: 1 on its border."""
        x, z = self.x - centre[0], self.z - centre[1]
        along, across = np.cos(turn) * x + np.sin(turn) * z, -np.sin(turn) * x + np.cos(turn) * z
        return np.hypot(along / axes[0], across / axes[1])

    def fill(
        self, centre: tuple[float, float], axes: tuple[float, float], turn: float, echo: float, loss: float
    ) -> None:
        """Paint an ellipse."""
        soft = 1 / (1 + np.exp((self.distance(centre, axes, turn) - 1) * min(axes) / 0.05))
        self.reflectivity = (1 - soft) * self.reflectivity + soft * echo
        self.attenuation = (1 - soft) * self.attenuation + soft * loss

    def ring(
        self, centre: tuple[float, float], axes: tuple[float, float], turn: float, width: float, echo: float,
        loss: float,
    ) -> None:  # fmt: skip
        """Paint an ellipse's border, brightest where it faces the beam."""
        off = (self.distance(centre, axes, turn) - 1) * min(axes) / (width / 2)
        line = np.exp(-0.5 * off**2)
        facing = 0.35 + 0.65 * np.abs(self.z - centre[1]) / (1e-6 + np.hypot(self.x - centre[0], self.z - centre[1]))
        self.reflectivity = np.maximum(self.reflectivity, echo * line * facing)
        self.attenuation = np.maximum(self.attenuation, loss * line)


def _brain(scene: _Scene, subject: Subject, rng: np.random.Generator) -> None:
    half = 0.125 * subject.weeks  # cm, half the biparietal diameter
    centre, turn = _place(scene, subject, rng, 1.25 * half)
    axes = (1.28 * half, half)
    scene.fill(centre, axes, turn, SOFT, 0.35)
    scene.ring(centre, axes, turn, 0.28, BONE, 0.7)
    midline = (0.9 * axes[0], 0.05)
    scene.fill(centre, midline, turn, BRIGHT, 0.35)
    for side in (-1, 1):
        place = _beside(centre, turn, 0.35 * axes[0] * rng.choice([-1, 1]), side * 0.42 * axes[1])
        scene.fill(place, (0.32 * axes[0], 0.13 * axes[1]), turn, FLUID, 0.1)
    scene.fill(_beside(centre, turn, 0.05 * axes[0], 0), (0.2 * axes[0], 0.28 * axes[1]), turn, 0.7 * SOFT, 0.35)


def _abdomen(scene: _Scene, subject: Subject, rng: np.random.Generator) -> None:
    half = 0.13 * subject.weeks
    centre, turn = _place(scene, subject, rng, half)
    axes = (1.06 * half, half)
    scene.fill(centre, axes, turn, TISSUE, 0.4)
    scene.ring(centre, axes, turn, 0.2, BRIGHT, 0.5)
    stomach = _beside(centre, turn, -0.45 * axes[0], 0.1 * axes[1])
    scene.fill(stomach, (0.24 * half, 0.17 * half), turn + 0.4, FLUID, 0.05)
    vein = _beside(centre, turn, 0.22 * axes[0], -0.12 * axes[1])
    scene.fill(vein, (0.3 * half, 0.07 * half), turn + 0.8, FLUID, 0.05)
    spine = _beside(centre, turn, 0.1 * axes[0], 0.75 * axes[1])
    scene.fill(spine, (0.18 * half, 0.12 * half), turn, BONE, BONE_LOSS)


def _femur(scene: _Scene, subject: Subject, rng: np.random.Generator) -> None:
    half = 0.095 * subject.weeks
    centre, turn = _place(scene, subject, rng, 1.2, tilt=0.35)
    scene.fill(centre, (1.35 * half, 0.45 * half), turn, TISSUE, 0.4)
    scene.fill(centre, (half, 0.22), turn, BONE, BONE_LOSS)
    for end in (-1, 1):
        scene.fill(_beside(centre, turn, end * half, 0.05), (0.3, 0.32), turn, BONE, BONE_LOSS)


def _thorax(scene: _Scene, subject: Subject, rng: np.random.Generator) -> None:
    half = 0.125 * subject.weeks
    centre, turn = _place(scene, subject, rng, half)
    axes = (1.1 * half, half)
    scene.fill(centre, axes, turn, 1.3 * TISSUE, 0.45)
    for angle in np.linspace(0, 2 * np.pi, 9)[:-1] + rng.uniform(0, 0.7):
        rib = _beside(centre, turn, 0.95 * axes[0] * np.cos(angle), 0.95 * axes[1] * np.sin(angle))
        scene.fill(rib, (0.22, 0.12), turn + angle + np.pi / 2, BONE, 1.2)
    heart, lean = _beside(centre, turn, -0.12 * axes[0], -0.08 * axes[1]), turn + 0.75
    scene.fill(heart, (0.52 * half, 0.42 * half), lean, BRIGHT, 0.4)
    for along in (-1, 1):
        for across in (-1, 1):
            chamber = _beside(heart, lean, along * 0.23 * half, across * 0.18 * half)
            scene.fill(chamber, (0.18 * half, 0.13 * half), lean, FLUID, 0.05)


def _cervix(scene: _Scene, subject: Subject, rng: np.random.Generator) -> None:
    """Paint no fetus at all: bladder above, two lips of the cervix, and the canal between them."""
    turn = rng.uniform(-0.25, 0.25) + rng.choice([-1, 1]) * 0.35
    centre = (rng.uniform(-0.6, 0.6), subject.wall_cm + 0.30 * scene.depth + rng.uniform(-0.5, 0.5))
    length = rng.uniform(2.6, 4.2)
    scene.fill(centre, (1.7 * length, 0.9 * length), turn, TISSUE * subject.echo, 0.45)
    scene.fill(centre, (length, 0.55), turn, 1.5 * TISSUE * subject.echo, 0.5)
    scene.fill(centre, (0.95 * length, 0.07), turn, FLUID, 0.1)
    bladder = (centre[0] - 0.5 * length, centre[1] - 0.85 * length)
    scene.fill(bladder, (0.9 * length, 0.32 * length), turn * 0.5, FLUID, 0.05)


def _place(
    scene: _Scene, subject: Subject, rng: np.random.Generator, reach: float, *, tilt: float = np.pi / 2
) -> tuple[tuple[float, float], float]:
    """Return a centre and a turn such that most of a shape of that ``reach`` (cm) lies in the fan, below the wall."""
    top, bottom = subject.wall_cm + reach + 0.3, 0.86 * scene.depth - 0.7 * reach
    z = rng.uniform(top, max(top + 0.3, bottom))
    return (rng.uniform(-1.0, 1.0), z), rng.uniform(-tilt, tilt)


def _beside(centre: tuple[float, float], turn: float, along: float, across: float) -> tuple[float, float]:
    """Return the point that lies ``along`` and ``across`` the turned axes of a shape."""
    cos, sin = np.cos(turn), np.sin(turn)
    return centre[0] + cos * along - sin * across, centre[1] + sin * along + cos * across


PLANES: dict[str, Callable[[_Scene, Subject, np.random.Generator], None]] = {
    "brain": _brain,
    "abdomen": _abdomen,
    "femur": _femur,
    "thorax": _thorax,
    "cervix": _cervix,
}
"""By the names that FETAL_PLANES_DB gives them, shortened."""
