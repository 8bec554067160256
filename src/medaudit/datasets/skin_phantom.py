"""One picture of skin: its geometry, drawn once, and its rendering at any tone.

The geometry holds no tone: fields that multiply the melanin and the blood of the surrounding skin, a lesion that adds
to them, hairs, glints, light and camera. Rendered at two tones it gives an exact counterfactual pair: whatever differs
between the two pictures is the optics of melanin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from medaudit.datasets.colour import to_srgb
from medaudit.datasets.skin_optics import skin_rgb

DIAGNOSES = ("nevus", "melanoma", "vascular", "inflammation")
"""A regular melanin blob with network, an irregular one with several shades, a blood blob, and scattered redness."""


@dataclass(frozen=True, eq=False)
class Skin:
    """The geometry of one picture, all fields (S, S) but for ``balance`` (3,)."""

    melanin: np.ndarray
    """Multiplies the skin's melanin: about 1."""
    blood: np.ndarray
    lesion_melanin: np.ndarray
    """Added to the melanin: the lesion makes its own, whatever the skin around it."""
    lesion_blood: np.ndarray
    lesion: np.ndarray
    """Where the lesion is, bool."""
    light: np.ndarray
    glints: np.ndarray
    """Added light, linear."""
    hair: np.ndarray
    """The part of the light that hair lets through, 1 where there is none."""
    balance: np.ndarray
    gamma: float


def draw_skin(side: int, diagnosis: str, rng: np.random.Generator, *, hairs: float = 1.0, texture: float = 1.0) -> Skin:
    """Return the geometry of a picture of ``side`` pixels; ``hairs`` and ``texture`` scale how much of either there is.

    What is drawn does not depend on the tone, which is not known here.
    """
    grid = np.linspace(-1, 1, side)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    rough = _noise(side, 1.2, rng)
    pores = gaussian_filter(rng.standard_normal((side, side)), side / 110)
    pores /= pores.std()
    melanin = np.exp(texture * (0.10 * rough + 0.06 * pores))
    vessels = _noise(side, 1.6, rng)
    blood = np.exp(texture * 0.18 * _noise(side, 1.5, rng)) * (1 + 0.5 * texture * (np.abs(vessels) < 0.06))
    inside, soft = _contour(x, y, diagnosis, rng)
    shade = 1 + 0.25 * _noise(side, 1.4, rng)
    added, redness = np.zeros_like(x), np.zeros_like(x)
    if diagnosis == "nevus":
        added = soft * rng.uniform(0.10, 0.18) * shade * (1 + 0.25 * np.sin(40 * _noise(side, 2.0, rng)))
    elif diagnosis == "melanoma":
        zones = _noise(side, 2.0, rng)
        added = soft * rng.uniform(0.12, 0.22) * np.exp(0.7 * zones) * shade
        redness = soft * 0.03 * (zones < -0.7)
    elif diagnosis == "vascular":
        redness = soft * rng.uniform(0.10, 0.20) * shade
    else:
        patches = _noise(side, 1.4, rng)
        soft = soft * np.clip(0.6 + patches, 0, 1)
        redness = soft * rng.uniform(0.05, 0.10)
        inside = soft > 0.3
    direction = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.12 * (np.cos(direction) * x + np.sin(direction) * y) + 0.05 * _noise(side, 2.2, rng)
    light *= 1 - rng.uniform(0.05, 0.2) * (x**2 + y**2) / 2
    bumps = gaussian_filter(rng.standard_normal((side, side)), side / 50)
    glints = rng.uniform(0.02, 0.12) * np.clip(bumps / bumps.std() - 2.2, 0, None)
    light *= rng.uniform(0.9, 1.12)
    balance, gamma = 1 + rng.normal(0, 0.015, 3), float(np.exp(rng.normal(0, 0.04)))
    # Hairs come last: how many there are must not move what else is drawn.
    return Skin(
        melanin=melanin,
        blood=blood,
        lesion_melanin=np.clip(added, 0, None),
        lesion_blood=np.clip(redness, 0, None),
        lesion=inside,
        light=light,
        glints=glints,
        hair=_hair(side, rng.poisson(1.2 * hairs), rng),
        balance=balance,
        gamma=gamma,
    )


def render(skin: Skin, melanin: float, blood: float = 0.02) -> np.ndarray:
    """Return the picture (S, S, 3) uint8 of a geometry in skin of these volume fractions."""
    linear = skin_rgb(melanin * skin.melanin + skin.lesion_melanin, blood * skin.blood + skin.lesion_blood)
    seen = np.clip(linear * skin.light[..., None] * skin.hair[..., None] + skin.glints[..., None], 0, 1)
    shown = to_srgb(seen * skin.balance) ** skin.gamma
    return np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)


def healthy(skin: Skin) -> np.ndarray:
    """Return where plain skin is seen, (S, S) bool: no lesion, hair or glint."""
    return ~skin.lesion & (skin.hair > 0.95) & (skin.glints < 1e-3)


def _noise(side: int, power: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random field (S, S) with a spectrum of 1 / f^power, mean 0 and SD 1."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = np.inf
    spectrum = (rng.standard_normal(f.shape) + 1j * rng.standard_normal(f.shape)) / f**power
    field = np.fft.irfft2(spectrum, (side, side))
    return (field - field.mean()) / field.std()


def _contour(x: np.ndarray, y: np.ndarray, diagnosis: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where the lesion is, and how much of it, with a soft border."""
    rough = {"nevus": 0.05, "melanoma": 0.18, "vascular": 0.08, "inflammation": 0.2}[diagnosis]
    size = {"nevus": (0.25, 0.45), "melanoma": (0.35, 0.6), "vascular": (0.2, 0.45), "inflammation": (0.5, 0.8)}
    middle = rng.uniform(-0.2, 0.2, 2)
    angle = np.arctan2(y - middle[0], x - middle[1])
    radius = rng.uniform(*size[diagnosis]) * np.ones_like(angle)
    for k in range(2, 9):
        radius = radius * (1 + rough * rng.standard_normal() / k**0.7 * np.cos(k * angle + rng.uniform(0, 2 * np.pi)))
    distance = np.hypot(y - middle[0], (x - middle[1]) * rng.uniform(0.8, 1.25)) - radius
    edge = {"nevus": 0.05, "melanoma": 0.05, "vascular": 0.04, "inflammation": 0.15}[diagnosis]
    return distance < 0, 1 / (1 + np.exp(np.clip(distance / edge * 2, -30, 30)))


def _hair(side: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the part of the light that ``count`` hairs let through: quadratic Bézier curves with a soft profile."""
    through = np.ones((side, side))
    t = np.linspace(0, 1, 3 * side)[:, None]
    for _ in range(count):
        start, bend, end = rng.uniform(-0.1, 1.1, (3, 2)) * side
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        rows, columns = np.rint(path).astype(int).T
        seen = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        line = np.zeros((side, side))
        line[rows[seen], columns[seen]] = 1
        width = rng.uniform(0.004, 0.008) * side
        profile = gaussian_filter(line, max(width, 0.45))
        if profile.max() > 0:
            through *= 1 - rng.uniform(0.6, 0.9) * np.clip(profile / profile.max() * 1.3, 0, 1)
    return through
