"""Acquisition shifts of real B-mode images: what another scanner, setting or export does, in the probe's own geometry.

A shift takes grey levels 0 to 255, the image's :class:`~medaudit.datasets.fan.Fan`, a severity from 0 (the image
itself, to the bit) to 5, and a generator. Grey levels are taken as log-compressed echo: 255 is 0 dB, 0 is -60 dB. So
gains and losses are added, in dB, and echoes that overlap add up as power. What depends on depth or beam follows the
fan, and pixels outside it stay as they are; calipers, JPEG and resampling act on the picture as a whole, as a vendor's
or an archive's software does. With one seed, a greater severity is more of the same shift, not another draw.

The strengths are our choice: no scanner was measured. What they do to a model's accuracy must be measured beside what
they do to its scores. They are no substitute for images from a second scanner.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medaudit.datasets.fan import Fan, find_fan
from medaudit.errors import DataError, UsageError

DYNAMIC_RANGE_DB = 60.0
"""What the grey levels 0 to 255 are taken to span; a file does not say it."""
SEVEREST = 5

Shift = Callable[[np.ndarray, Fan, float, np.random.Generator], np.ndarray]
"""(image (H, W) float32 in 0..255, fan, severity 0..5, generator) -> image (H, W) float32 in 0..255."""

STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "gain": (3.0, 5.25, 7.5, 9.75, 12.0),  # dB more, everywhere
    "low_gain": (3.0, 5.25, 7.5, 9.75, 12.0),  # dB less, everywhere
    "dynamic_range": (4.0, 8.0, 12.0, 16.0, 20.0),  # dB taken off the 60 that are shown; white stays white
    "tgc_slope": (3.0, 6.0, 9.0, 12.0, 15.0),  # dB between probe and deepest; mid-depth stays
    "depth_attenuation": (0.6, 1.2, 1.8, 2.4, 3.0),  # mu, nepers over the depth shown
    "frequency_loss": (0.003, 0.006, 0.009, 0.012, 0.015),  # SD of the axial blur at the deepest, share of the depth
    "shadow": (0.25, 0.4, 0.55, 0.7, 0.8),  # share of the amplitude lost in the middle of the wedge
    "haze": (-44.0, -39.0, -34.0, -29.0, -24.0),  # dB of the haze at its ring; 0 dB is white
    "reverberation": (-18.0, -15.0, -12.0, -9.0, -6.0),  # dB of each copy to the one before
    "speckle": (0.2, 0.4, 0.6, 0.8, 1.0),  # share of the texture's variance (in dB) that is new
    "speckle_reduction": (0.5, 0.875, 1.25, 1.625, 2.0),  # spatial SD of the bilateral filter, pixels
    "zoom": (1.08, 1.16, 1.24, 1.32, 1.4),  # magnification about the middle of the probe
    "calipers": (1.0, 2.0, 3.0, 4.0, 5.0),  # how many kinds of overlay: see overlay()
    "jpeg": (50.0, 35.0, 22.0, 12.0, 7.0),  # quality
    "resample": (0.3, 0.25, 0.2, 0.15, 0.1),  # size in between, share of rows and columns
}
"""The strength of each severity from 1 to 5, each in the unit of its comment."""

_FROM: Mapping[str, float] = {"haze": -60.0, "reverberation": -60.0, "zoom": 1.0, "jpeg": 95.0, "resample": 1.0}
"""The strength towards which severities below 1 go, where it is not 0."""

FLOOR = 0.01
"""The share of the amplitude that depth attenuation leaves at any depth: what is received without an echo."""
RING, RING_SD = (0.15, 0.4), 0.1
"""Where the haze's ring lies and its SD, shares of the depth."""
PULSE, BEAM = 0.004, 0.006
"""SDs of the new speckle's point spread, along the beam as a share of the depth, across it of the beams' span."""
WEDGE = (0.1, 0.25)
"""The half width of a shadow, a share of the beams' half span, from its least to its greatest severity."""


def _strength(name: str, severity: float) -> float:
    table = STRENGTHS[name]
    return float(np.interp(severity, range(SEVEREST + 1), (_FROM.get(name, 0.0), *table)))


def _db(image: np.ndarray) -> np.ndarray:
    """Return grey levels as dB below white, -60 to 0."""
    return (np.asarray(image, dtype=float) / 255 - 1) * DYNAMIC_RANGE_DB


def _grey(db: np.ndarray) -> np.ndarray:
    return 255 * np.clip(1 + db / DYNAMIC_RANGE_DB, 0, 1)


def _amplitude(image: np.ndarray) -> np.ndarray:
    return 10 ** (_db(image) / 20)


def _level(amplitude: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(amplitude, 1e-9))


def _within(fan: Fan, new: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return ``new`` where the beams reach, ``image`` elsewhere."""
    return np.where(fan.mask, np.clip(new, 0, 255), image).astype(np.float32)


def gain(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with 3 to 12 dB more gain; black pixels brighten too, as receiver noise does."""
    return _within(fan, _grey(_db(image) + _strength("gain", severity)), image)


def low_gain(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with 3 to 12 dB less gain."""
    return _within(fan, _grey(_db(image) - _strength("low_gain", severity)), image)


def dynamic_range(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image as 56 to 40 dB would be shown: white stays, the faint echoes become black."""
    shown = DYNAMIC_RANGE_DB - _strength("dynamic_range", severity)
    return _within(fan, 255 * np.clip(1 + _db(image) / shown, 0, 1), image)


def tgc_slope(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with a time-gain compensation 3 to 15 dB steeper: darker near the probe, brighter below."""
    return _within(fan, _grey(_db(image) + _strength("tgc_slope", severity) * (fan.depth() - 0.5)), image)


def depth_attenuation(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with the amplitude times A = (1 - l) exp(-mu d) + l, d the depth along the beam from 0 to 1.

    mu is 0.6 to 3 (5 to 24 dB lost at the deepest), l is :data:`FLOOR`.
    """
    left = (1 - FLOOR) * np.exp(-_strength("depth_attenuation", severity) * fan.depth()) + FLOOR
    return _within(fan, _grey(_db(image) + 20 * np.log10(left)), image)


def frequency_loss(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image blurred along its beams, from nothing at the probe to an SD of 0.3 to 1.5 % of the depth.

    Tissue takes the high frequencies first, so that the pulse grows longer as it goes.
    """
    # Of the fan alone, and over its weight: what lies outside must neither darken nor brighten the fan's rim.
    inside = fan.to_polar(fan.mask, outside=0.0)
    polar = fan.to_polar(np.where(fan.mask, image, 0), outside=0.0)
    longest = _strength("frequency_loss", severity) * polar.shape[0]
    steps = 6
    levels = [polar / np.maximum(inside, 1e-6)]
    for k in range(1, steps + 1):
        blurred = [ndimage.gaussian_filter1d(a, longest * k / steps, axis=0) for a in (polar, inside)]
        levels.append(blurred[0] / np.maximum(blurred[1], 1e-6))
    at = np.linspace(0, steps, polar.shape[0])
    below = np.minimum(at.astype(int), steps - 1)
    share = (at - below)[:, None]
    rows = np.arange(polar.shape[0])
    stack = np.stack(levels)
    mixed = (1 - share) * stack[below, rows] + share * stack[below + 1, rows]
    # Only the change goes through the polar grid, so that nothing is lost to it where nothing changes.
    return _within(fan, image + fan.from_polar(np.where(inside > 0, mixed - levels[0], 0)), image)


def shadow(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with a shadow in a wedge of beams, from a drawn depth in the upper third down.

    In the middle of the wedge 25 to 80 % of the amplitude are lost (2.5 to 14 dB); towards its sides the loss goes to
    0 as a raised cosine.
    """
    middle, begins = rng.uniform(-0.6, 0.6), rng.uniform(0.0, 0.3)
    half = float(np.interp(severity, (0, 1, SEVEREST), (WEDGE[0], *WEDGE)))
    off = np.clip(np.abs(fan.across() - middle) / half, 0, 1)
    lost = _strength("shadow", severity) * 0.5 * (1 + np.cos(np.pi * off))
    # A shadow deepens over the thickness of what casts it.
    lost = lost * np.clip((fan.depth() - begins) / 0.05, 0, 1)
    return _within(fan, np.where(lost > 0, _grey(_db(image) + 20 * np.log10(1 - lost)), image), image)


def haze(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with clutter in a ring of constant depth, speckled, of -44 to -24 dB where it is densest."""
    centre = rng.uniform(*RING)
    ring = np.exp(-0.5 * ((fan.depth() - centre) / RING_SD) ** 2)
    clutter = 10 ** (_strength("haze", severity) / 20) * ring * _rayleigh(fan, rng)
    return _within(fan, _grey(_level(np.hypot(_amplitude(image), clutter))), image)


def reverberation(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with three copies of itself, each deeper by one drawn spacing and weaker by 18 to 6 dB.

    The spacing is 6 to 12 % of the depth, the distance from the probe to the layer between which the sound goes to
    and fro. Copies add to the image as power.
    """
    spacing = rng.uniform(0.06, 0.12)
    polar = _amplitude(fan.to_polar(np.where(fan.mask, image, 0), outside=0.0))
    step = max(1, round(spacing * polar.shape[0]))
    ratio = 10 ** (_strength("reverberation", severity) / 20)
    power = np.zeros_like(polar)
    for k in range(1, 4):
        if k * step < polar.shape[0]:
            power[k * step :] += (ratio**k * polar[: -k * step]) ** 2
    copies = fan.from_polar(np.sqrt(power))
    return _within(fan, _grey(_level(np.hypot(_amplitude(image), copies))), image)


def speckle(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with a fifth to all of its texture exchanged for Rayleigh speckle of another point spread.

    The texture is the amplitude over its local mean. Old and new are mixed in dB with weights whose squares sum to 1:
    the variance of a fully developed speckle stays, its grain becomes that of :data:`PULSE` and :data:`BEAM`.
    """
    amplitude, weight = _amplitude(image), fan.mask.astype(float)
    width = 0.02 * (fan.far - fan.near)
    local = ndimage.gaussian_filter(amplitude * weight, width) / np.maximum(
        ndimage.gaussian_filter(weight, width), 1e-6
    )
    old, new = _level(amplitude / np.maximum(local, 1e-9)), _level(_rayleigh(fan, rng))
    share = _strength("speckle", severity)
    return _within(fan, _grey(_level(local) + np.sqrt(1 - share) * old + np.sqrt(share) * new), image)


def speckle_reduction(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image after a bilateral filter (Tomasi and Manduchi 1998), 0.5 to 2 pixels and 40 grey levels wide."""
    sigma, tolerance = _strength("speckle_reduction", severity), 40.0
    reach = int(np.ceil(2 * sigma))
    grey = np.pad(np.asarray(image, dtype=float), reach, mode="edge")
    inside = np.pad(fan.mask.astype(float), reach)
    rows, columns = image.shape
    total, weights = np.zeros(image.shape), np.zeros(image.shape)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            near = grey[i : i + rows, j : j + columns]
            far = ((i - reach) ** 2 + (j - reach) ** 2) / sigma**2
            weight = np.exp(-0.5 * (far + ((near - image) / tolerance) ** 2)) * inside[i : i + rows, j : j + columns]
            total += weight * near
            weights += weight
    return _within(fan, total / np.maximum(weights, 1e-12), image)


def zoom(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image magnified 1.08 to 1.4 times about the middle of the probe, in the fan as it is: less depth.

    The severity is the magnification: of fine texture, the distance in grey levels is near its greatest from 1 on.
    """
    scale = _strength("zoom", severity)
    rows, columns = np.indices(image.shape, dtype=float)
    probe = fan.cartesian(np.asarray(fan.near), np.asarray((fan.left + fan.right) / 2))
    rows, columns = probe[0] + (rows - probe[0]) / scale, probe[1] + (columns - probe[1]) / scale
    # Beside the middle of a curved probe the way to it leaves the fan: those pixels show the skin.
    along, across = fan.polar(rows, columns)
    rows, columns = fan.cartesian(np.maximum(along, fan.near), across)
    return _within(fan, ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest"), image)


def overlay(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with what a sonographer and a scanner write on it, over the fan and beside it.

    By severity: a pair of caliper crosses and the dotted line between them; depth ticks at the right; the measured
    value at the lower left; a second pair; the scanner's header. Severities in between round up. Lengths are shares
    of the picture's height.
    """
    rows, columns = image.shape
    arm = max(2, round(rows / 90))
    lit = np.argwhere(fan.mask & (fan.depth() > 0.2) & (fan.depth() < 0.85) & (np.abs(fan.across()) < 0.7))
    lit = lit if len(lit) else np.argwhere(fan.mask)
    ends = lit[rng.integers(0, len(lit), 4)][:, ::-1]  # (x, y)
    value = f"{rng.uniform(10, 99):.1f} mm"
    kinds = int(np.ceil(_strength("calipers", severity)))
    ink = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(ink)
    font = ImageFont.load_default(size=max(6, round(rows / 28)))

    def calipers(a: np.ndarray, b: np.ndarray) -> None:
        for x, y in (a, b):
            draw.line((x - arm, y, x + arm, y), fill=255)
            draw.line((x, y - arm, x, y + arm), fill=255)
        for at in np.linspace(0, 1, max(2, int(np.hypot(*(b - a)) / max(3, arm)))):
            x, y = np.rint(a + at * (b - a))
            draw.point((x, y), fill=255)

    for kind in range(kinds):
        if kind in (0, 3):
            calipers(*ends[(0, 1) if kind == 0 else (2, 3), :])
        elif kind == 1:
            for i, y in enumerate(np.linspace(0.05 * rows, 0.95 * rows, 19)):
                long = 2 * arm if i % 3 == 0 else arm
                draw.line((columns - 1 - long, round(y), columns - 1, round(y)), fill=220)
        elif kind == 2:
            draw.text((arm, rows - round(rows / 14)), value, fill=255, font=font)
        else:
            draw.text((arm, arm), "OB  2/3 Trim.  MI 1.1", fill=200, font=font)
    drawn = np.asarray(ink, dtype=np.float32)
    return np.maximum(image, drawn).astype(np.float32)


def jpeg(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image as JPEG of quality 50 down to 7 leaves it."""
    buffer = io.BytesIO()
    quality = round(_strength("jpeg", severity))
    Image.fromarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32)


def resample(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image made smaller, to 30 % down to 10 % of its rows and columns (bilinear with area), and larger."""
    share = _strength("resample", severity)
    rows, columns = image.shape
    small = (max(1, round(columns * share)), max(1, round(rows * share)))
    picture = Image.fromarray(image.astype(np.float32))
    back = picture.resize(small, Image.Resampling.BILINEAR).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(back, dtype=np.float32), 0, 255)


def _rayleigh(fan: Fan, rng: np.random.Generator) -> np.ndarray:
    """Return fully developed speckle (H, W) of the fan's beams: the modulus of a circular Gaussian field, mean 1."""
    along, across = fan.grid
    white = rng.standard_normal((2, along, across))
    sd = max(1.0, PULSE * along), max(1.0, BEAM * across)
    # Of the field and not of its modulus: a Gaussian stays one under interpolation.
    field = [fan.from_polar(ndimage.gaussian_filter(part, sd, mode="wrap")) for part in white]
    modulus = np.hypot(*field)
    return np.asarray(modulus / modulus[fan.mask].mean())


def _from_severity_0(shift: Shift) -> Shift:
    """Return the shift so that severity 0 gives the image back to the bit."""

    def shifted(image: np.ndarray, fan: Fan, severity: float, rng: np.random.Generator) -> np.ndarray:
        _check_severity(severity)
        image = np.asarray(image, dtype=np.float32)
        return image.copy() if severity == 0 else shift(image, fan, severity, rng)

    return shifted


def _check_severity(severity: float) -> None:
    if not 0 <= severity <= SEVEREST:
        raise UsageError(f"severity is {severity}; expected a number from 0 (no change) to {SEVEREST}")


ACQUISITION: Mapping[str, Shift] = {
    name: _from_severity_0(shift)
    for name, shift in {
        "gain": gain,
        "low_gain": low_gain,
        "dynamic_range": dynamic_range,
        "tgc_slope": tgc_slope,
        "depth_attenuation": depth_attenuation,
        "frequency_loss": frequency_loss,
        "shadow": shadow,
        "haze": haze,
        "reverberation": reverberation,
        "speckle": speckle,
        "speckle_reduction": speckle_reduction,
        "zoom": zoom,
        "calipers": overlay,
        "jpeg": jpeg,
        "resample": resample,
    }.items()
}
"""The shifts by name. ``calipers``, ``jpeg`` and ``resample`` act on the whole picture, the others in the fan."""

DEVICE_SHIFTS: Mapping[str, Mapping[str, float]] = {
    "high_end_scanner": {"zoom": 0.4, "speckle_reduction": 0.8, "dynamic_range": 0.3, "tgc_slope": 0.3},
    "portable_scanner": {"frequency_loss": 1.0, "speckle": 0.8, "depth_attenuation": 0.4, "haze": 0.4, "low_gain": 0.2},
    "old_scanner": {"reverberation": 0.6, "speckle": 0.6, "dynamic_range": 0.5, "jpeg": 0.6},
}
"""Scanners that change several things at once, in this order: each part's severity is its number times the whole's."""


def acquire(image: np.ndarray, name: str, severity: float, seed: int, *, fan: Fan | None = None) -> np.ndarray:
    """Return ``image`` (H, W), grey levels 0 to 255, under a shift of :data:`ACQUISITION` or :data:`DEVICE_SHIFTS`.

    The fan is found in the image unless given. The result is of the image's type, rounded where that is uint8; the same
    seed gives the same image, and severity 0 the image itself. Raises UsageError for an unknown name or severity,
    DataError for an image that is not two-dimensional, not finite, not in 0 to 255, or dark all over.
    """
    if name not in ACQUISITION and name not in DEVICE_SHIFTS:
        raise UsageError(
            f"no acquisition shift is called '{name}'; there are: {', '.join((*ACQUISITION, *DEVICE_SHIFTS))}"
        )
    _check_severity(severity)
    pixels = np.asarray(image)
    if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
        raise DataError(f"an image of {pixels.dtype} {pixels.shape}; expected grey levels 0 to 255 (rows, columns)")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 255:
        raise DataError(f"grey levels are from {pixels.min():g} to {pixels.max():g}; expected finite ones, 0 to 255")
    if severity == 0:
        return pixels.copy()
    fan = find_fan(pixels) if fan is None else fan
    parts = DEVICE_SHIFTS.get(name, {name: 1.0})
    shown = pixels.astype(np.float32)
    for i, (part, weight) in enumerate(parts.items()):
        shown = ACQUISITION[part](shown, fan, weight * severity, np.random.default_rng((seed, i)))
    return np.rint(shown).astype(pixels.dtype) if pixels.dtype.kind in "ui" else shown.astype(pixels.dtype)
