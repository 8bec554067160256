"""One phantom of a DCE breast MRI: a tumour, the breast round it, and what contrast agent does to both.

The tumour is made in a crop round it; the breast is a cheap background that is filled in slab by slab, so that a case
of 448 x 448 x 160 voxels needs little more memory than its own images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medaudit.datasets.label_errors import LabelError, automatic_mask, signed_distance, waves

MORPHOLOGIES = ("mass", "spiculated", "non-mass")
_FAT, _GLAND, _MUSCLE = 160.0, 380.0, 300.0  # arbitrary units before contrast, fat suppressed
_WALL = 0.12  # the chest wall takes this share of the depth
_WASHOUT = (1.0, 0.95, 0.9)  # uptake in the phases after contrast
_SLAB = 8  # slices at a time
_NATIVE_MM, _VIEW_MM = 0.8, 96.0


@dataclass(frozen=True)
class Look:
    """How a source images: its plane, slice thickness over pixel size, gain, and noise SD over glandular signal."""

    plane: str
    thickness: float
    gain: float
    noise: float

    def spacing_mm(self, shape: tuple[int, int, int]) -> tuple[float, float, float]:
        """Return the voxel size of an image of ``shape``: a view of 96 mm or more at 0.8 mm or coarser.

        Axes are right, anterior, superior: an axial stack is thick along the last, a sagittal one along the first.
        """
        thick = 2 if self.plane == "axial" else 0
        pixel = max(_NATIVE_MM, _VIEW_MM / min(n for axis, n in enumerate(shape) if axis != thick))
        a, b, c = (pixel * (self.thickness if axis == thick else 1.0) for axis in range(3))
        return a, b, c


@dataclass(frozen=True)
class Tumour:
    """What a tumour is like. ``contrast`` is its uptake over glandular signal; ``irregularity`` in radii."""

    volume_ml: float
    morphology: str = "mass"
    contrast: float = 1.0
    irregularity: float = 0.15
    satellites: int = 0


@dataclass(frozen=True)
class Masks:
    """The masks of one phantom, uint8 of the whole volume, and the crop round the tumour.

    ``reference`` is the expert's, ``labels`` the automated one, ``prediction`` a model's, where there is a model.
    """

    reference: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]
    corner: tuple[int, int, int]
    lesion: np.ndarray
    """The expert mask in the crop, bool, satellites included; ``corner`` is its first voxel."""
    prediction: np.ndarray | None = None

    @property
    def dice(self) -> float:
        """Dice of the automated mask against the expert's."""
        return overlap(self.reference, self.labels)

    @property
    def volume_ml(self) -> float:
        """Volume of the expert mask."""
        return float(self.lesion.sum() * np.prod(self.spacing_mm) / 1000)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice of two masks of 0 and 1, 1 where both are empty."""
    voxels = int(a.sum(dtype=np.int64)) + int(b.sum(dtype=np.int64))
    return 2 * int(np.count_nonzero(a & b)) / voxels if voxels else 1.0


def phantom_masks(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    tumour: Tumour,
    error: LabelError,
    seed: tuple[int, ...],
    *,
    prediction: LabelError | None = None,
    twin: bool = False,
) -> Masks:
    """Return the expert mask of a random tumour and the automated mask that ``error`` makes of it.

    ``prediction`` is how a model's mask errs, by random numbers of its own; with ``twin`` the automated mask is made
    from the model's instead of from the expert's. ``seed`` alone decides the random numbers: another ``error`` changes
    the automated mask and nothing else. A volume that the field of view cannot hold is cut to what it can (a radius of
    a quarter of its shortest side).
    """
    shape_rng, error_rng, model_rng = (np.random.default_rng((*seed, stream)) for stream in (1, 2, 4))
    steps = np.asarray(spacing_mm)
    radius = min((3000 * tumour.volume_ml / (4 * np.pi)) ** (1 / 3), 0.25 * float(min(steps * shape)))
    reach = 2.9 if tumour.satellites else 2.1
    size = np.minimum(np.ceil(2 * reach * radius / steps).astype(int) + 3, shape)
    middle = np.asarray([shape_rng.choice([0.27, 0.73]) if _bilateral(shape, spacing_mm) else 0.5, 0.45, 0.5])
    centre = np.asarray(shape) * (middle + shape_rng.uniform(-0.08, 0.08, 3))
    corner = np.clip(np.round(centre - size / 2).astype(int), 0, np.asarray(shape) - size)

    lesion = _lesion(tuple(size), spacing_mm, radius, tumour, shape_rng)
    satellites = [_satellite(tuple(size), spacing_mm, radius, shape_rng) & ~lesion for _ in range(tumour.satellites)]
    expert = np.logical_or.reduce([lesion, *satellites])
    a, b, c = (int(start) for start in corner)
    crop = (slice(a, a + int(size[0])), slice(b, b + int(size[1])), slice(c, c + int(size[2])))
    empty = np.zeros(shape, dtype=np.uint8, order="F")
    reference = empty.copy(order="K")
    reference[crop] = expert

    def erring(
        start: np.ndarray, lesion: np.ndarray, satellites: list[np.ndarray], error: LabelError, rng: np.random.Generator
    ) -> np.ndarray:
        full = start.copy(order="K")
        full[crop] = automatic_mask(lesion, satellites, spacing_mm, error, rng)
        if rng.random() < error.false_positive:
            _add_far_blob(full, corner + size / 2, spacing_mm, rng)
        return full

    predicted = erring(empty, lesion, satellites, prediction, model_rng) if prediction is not None else None
    if twin and predicted is not None:
        labels = erring(predicted, predicted[crop] > 0, [], error, error_rng)
    else:
        labels = erring(empty, lesion, satellites, error, error_rng)
    return Masks(reference, labels, spacing_mm, (a, b, c), expert, predicted)


def phantom_phases(
    masks: Masks, tumour: Tumour, look: Look, seed: tuple[int, ...], *, phases: int = 2, vessels: int = 3
) -> list[np.ndarray]:
    """Return the pre-contrast image and ``phases - 1`` after contrast, int16 of the masks' shape, in scanner units.

    Uptake is quick and washes out slowly. Magnitude images: noise is Rician. Vessels take up contrast as tumours do.
    """
    rng = np.random.default_rng((*seed, 3))
    # Here arrays run (superior, anterior, right): the order in which NIfTI stores voxels, slab after slab.
    shape, steps = masks.reference.shape[::-1], masks.spacing_mm[::-1]
    parenchyma, breast = _parenchyma(shape, steps, rng), _breast(shape, steps)
    vessel = _vessels(shape, steps, vessels, rng)
    weight, texture = _uptake(masks, rng)
    up, *crop = (slice(a, a + n) for a, n in zip(masks.corner[::-1], weight.shape, strict=True))
    images = [np.empty(shape, dtype=np.int16) for _ in range(phases)]
    for start in range(0, shape[0], _SLAB):
        stop = min(start + _SLAB, shape[0])
        signal, density = _tissue(parenchyma, breast, start, stop)
        low, high = max(up.start, start), min(up.stop, stop)
        here = (slice(low - start, max(high - start, 0)), *crop)
        part = slice(low - up.start, max(high - up.start, 0))
        signal[here] += weight[part] * (_GLAND - signal[here])  # before contrast a tumour looks like gland
        z, y, x = vessel[:, (vessel[0] >= start) & (vessel[0] < stop)]
        for phase, image in enumerate(images):
            value = rng.standard_normal(signal.shape, dtype=np.float32)
            value *= np.float32(look.noise * _GLAND)
            value += signal
            if phase:
                level = np.float32(_GLAND * _WASHOUT[min(phase, len(_WASHOUT)) - 1])
                value += 0.15 * level * density
                value[here] += tumour.contrast * level * weight[part] * texture[part]
                value[z - start, y, x] += 0.9 * level
            np.abs(value, out=value)
            value *= np.float32(look.gain)
            image[start:stop] = value
    return [image.T for image in images]


def affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the (4, 4) affine in RAS+ mm that puts the volume's centre at the origin."""
    matrix = np.diag([*spacing_mm, 1.0])
    matrix[:3, 3] = -np.asarray(spacing_mm) * (np.asarray(shape) - 1) / 2
    return matrix


def _axes_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...], centre_mm: np.ndarray) -> list[np.ndarray]:
    """Return the coordinates of the voxels along each axis from the crop's centre, ready to broadcast."""
    axes = []
    for axis, (n, step) in enumerate(zip(shape, spacing_mm, strict=True)):
        at = (np.arange(n) - (n - 1) / 2) * step - centre_mm[axis]
        axes.append(at.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)]))
    return axes


def _radii(axes: list[np.ndarray], frame: np.ndarray) -> np.ndarray:
    """Return each voxel's distance from the centre in the metric whose half axes are the rows of ``frame``."""
    x, y, z = axes
    rows = [row / (row @ row) for row in frame.astype(np.float32)]
    squares = [np.square(row[0] * x + row[1] * y + row[2] * z) for row in rows]
    return np.sqrt(squares[0] + squares[1] + squares[2])


def _frame(radius: float, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return three orthogonal half axes (rows, mm) of a random ellipsoid that has a ball's volume of ``radius``."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    ratio = np.exp(spread * rng.standard_normal(3))
    return turn * (radius * ratio / np.prod(ratio) ** (1 / 3))[:, None]


def _lesion(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    radius: float,
    tumour: Tumour,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the main lesion in its crop, bool: the voxels of least ``distance`` that make up its volume exactly."""
    frame = _frame(radius, 0.18, rng)
    axes = _axes_mm(shape, spacing_mm, np.zeros(3))
    distance = _radii(axes, frame)
    if tumour.morphology == "spiculated":
        x, y, z = axes
        length = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
        spikes = np.zeros(shape, dtype=np.float32)
        for spike in rng.standard_normal((14, 3)).astype(np.float32):
            spike /= np.linalg.norm(spike)
            aligned = (spike[0] * x + spike[1] * y + spike[2] * z) / length
            spikes += np.float32(rng.uniform(0.3, 0.8)) * np.exp(50 * (aligned - 1))
        distance /= 1 + spikes
    elif tumour.morphology == "non-mass":
        # Patches along a duct: the union of small ellipsoids strewn about a line.
        along = frame[0] * 0.75
        patches = []
        for place in np.linspace(-1, 1, 7):
            centre = place * along + 0.3 * radius * rng.standard_normal(3)
            patches.append(_radii(_axes_mm(shape, spacing_mm, centre), _frame(0.5 * radius, 0.25, rng)))
        distance = np.minimum.reduce(patches)
    distance = distance + np.float32(tumour.irregularity) * waves(shape, spacing_mm, 1.1 * radius, rng)
    volume = 4 / 3 * np.pi * radius**3 / float(np.prod(spacing_mm))
    count = int(np.clip(round(volume), 8, distance.size // 2))
    return distance <= np.partition(distance, count - 1, axis=None)[count - 1]


def _satellite(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a small lesion beside the main one, inside the crop even where the field of view cuts that short."""
    direction, size = rng.standard_normal(3), radius * rng.uniform(0.3, 0.42)
    centre = direction / np.linalg.norm(direction) * radius * rng.uniform(1.7, 2.3)
    room = np.maximum(np.asarray(spacing_mm) * shape / 2 - size, 0)
    return _radii(_axes_mm(shape, spacing_mm, np.clip(centre, -room, room)), _frame(size, 0.15, rng)) <= 1


def _add_far_blob(
    mask: np.ndarray, centre: np.ndarray, spacing_mm: tuple[float, ...], rng: np.random.Generator
) -> None:
    """Set a ball of 3 to 6 mm in the corner away from ``centre``, as where a vessel was taken for a lesion."""
    radius, whole = rng.uniform(3, 6), np.asarray(mask.shape)
    half = np.ceil(radius / np.asarray(spacing_mm)).astype(int)
    middle = (np.where(centre > whole / 2, 0.12, 0.88) * whole).astype(int)
    start, stop = np.maximum(middle - half, 0), np.minimum(middle + half + 1, whole)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    mask[box] |= _radii(_axes_mm(tuple(stop - start), spacing_mm, np.zeros(3)), radius * np.eye(3)) <= 1


def _uptake(masks: Masks, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each voxel of the crop is tumour, and the texture of its uptake, axes reversed."""
    distance = signed_distance(masks.lesion, masks.spacing_mm)
    weight = 1 / (1 + np.exp(np.clip(distance / np.float32(0.4 * min(masks.spacing_mm)), -30, 30)))
    texture = 1 + np.float32(0.2) * waves(masks.lesion.shape, masks.spacing_mm, 12.0, rng)
    return weight.T, texture.T


def _parenchyma(
    shape: tuple[int, ...], steps: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return glandular texture, still at its 6 mm grid along the first axis, and where on that grid each slice lies."""
    counts = [int(np.ceil(n * step / 6.0)) + 2 for n, step in zip(shape, steps, strict=True)]
    noise = ndimage.gaussian_filter(rng.standard_normal(counts, dtype=np.float32), 1.0)
    noise /= noise.std()
    for axis in (2, 1):
        noise = _between(noise, np.arange(shape[axis]) * steps[axis] / 6.0, axis)
    return noise, np.arange(shape[0]) * steps[0] / 6.0


def _between(grid: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Return ``grid`` interpolated linearly along one axis; the same sums on every machine, unlike a matrix product."""
    below = position.astype(int)
    part = (position - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(grid.ndim)])
    first = grid.take(below, axis)
    return first + part * (grid.take(below + 1, axis) - first)


def _bilateral(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> bool:
    # An axial view wide enough for both breasts; a sagittal stack (thick along the first axis) shows one.
    return shape[0] * spacing_mm[0] > 200 and spacing_mm[0] == min(spacing_mm)


def _breast(shape: tuple[int, ...], steps: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, ready to broadcast, the skin's fall up and down, each row's place (0 to 1), its fall sideways."""
    up, forward, across = np.linspace(-1, 1, shape[0]), np.linspace(0, 1, shape[1]), np.linspace(-1, 1, shape[2])
    if _bilateral(shape[::-1], steps[::-1]):
        across = 2 * np.abs(across) - 1
    return (0.4 * up**2)[:, None, None], forward[None, :, None], (0.5 * across**2)[None, None, :]


def _tissue(
    parenchyma: tuple[np.ndarray, np.ndarray],
    breast: tuple[np.ndarray, np.ndarray, np.ndarray],
    start: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the signal before contrast and the glandular fraction of a slab, float32; air is 0 in both."""
    grid, position = parenchyma
    up, forward, across = breast
    inside = (forward < 0.97 - up[start:stop] - across) & (forward >= _WALL)
    density = _between(grid, position[start:stop], 0)
    density *= np.float32(0.8)
    density += np.float32(0.5)
    np.clip(density, 0, 1, out=density)
    density *= inside
    signal = np.float32(_GLAND - _FAT) * density
    signal += np.float32(_FAT) * inside
    signal += np.where(forward < _WALL, np.float32(_MUSCLE), np.float32(0))
    return signal, density


def _vessels(shape: tuple[int, ...], steps: tuple[float, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the voxels, (3, m), of ``count`` curved vessels about 2 mm wide."""
    size, t = np.asarray(steps) * shape, np.linspace(0, 1, 2000)[:, None]
    width = 0.8 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    voxels = [np.empty((0, 3), dtype=np.int64)]
    for _ in range(count):
        one, bend, other = rng.uniform(0.1, 0.9, (3, 3)) * size
        path = (1 - t) ** 2 * one + 2 * t * (1 - t) * bend + t**2 * other
        voxels.append(np.round((path[:, None] + width) / steps).astype(np.int64).reshape(-1, 3))
    every = np.concatenate(voxels)
    inside = every[np.all((every >= 0) & (every < np.asarray(shape)), axis=1)]
    # One number a voxel: to sort rows would take longer than all the rest of a small phantom.
    return np.stack(np.unravel_index(np.unique(np.ravel_multi_index(tuple(inside.T), shape)), shape))
