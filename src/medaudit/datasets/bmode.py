"""Physics of a B-mode frame: scatterers, point spread, envelope, attenuation, log compression, scan conversion.

A frame is made on a polar grid (depth x beam) and converted to the fan that a curved probe shows. Where tissue is
uniform its speckle is fully developed: the envelope is Rayleigh distributed (mean/SD 1.913) and its logarithm has an SD
of 5.57 dB (Wagner et al. 1983; the tests measure both). Anatomy comes as two maps over the same grid, reflectivity and
attenuation; the device is everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.sparse import csr_matrix

DEPTHS, BEAMS = 448, 112
"""Samples of the polar grid; fine enough for the narrowest pulse below."""
ROWS, COLUMNS = 192, 256
"""Pixels of a frame."""
CARRIER = 0.25
"""Cycles of the carrier a sample: any value well off 0 and 0.5 makes the filtered field circular."""


@dataclass(frozen=True)
class Device:
    """A scanner with its probe and its settings: all that shapes a frame, apart from what is in front of it."""

    name: str
    pulse_mm: float
    """SD of the axial point spread."""
    beam: float
    """SD of the lateral point spread, in beams."""
    dynamic_range_db: float
    sector_degrees: float
    radius: float
    """The probe's radius of curvature, as a share of the depth shown."""
    frequency_mhz: float
    tgc_db: float = 0.0
    """Time-gain compensation beyond what undoes the attenuation of mean tissue, at full depth."""
    smoothing: float = 0.0
    """SD of the filter over the compressed frame, in samples: what vendors sell as speckle reduction."""
    gain_db: float = 0.0


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the samples of the polar grid lie: ``x``, ``z`` (DEPTHS, BEAMS) in cm from the probe's middle, z down."""

    x: np.ndarray
    z: np.ndarray
    depth_cm: float


def grid(device: Device, depth_cm: float) -> Grid:
    """Return the polar grid of a device that shows ``depth_cm``."""
    radius = device.radius * depth_cm
    along = radius + (np.arange(DEPTHS) + 0.5)[:, None] * depth_cm / DEPTHS
    angle = np.deg2rad(device.sector_degrees) * ((np.arange(BEAMS) + 0.5) / BEAMS - 0.5)[None]
    return Grid(along * np.sin(angle), along * np.cos(angle) - radius, depth_cm)


def envelope(
    reflectivity: np.ndarray, device: Device, depth_cm: float, rng: np.random.Generator, *, noise: float = 0.0
) -> np.ndarray:
    """Return the envelope (DEPTHS, BEAMS) of the echo: white scatterers times ``reflectivity``, through the pulse.

    Scaled so that a uniform reflectivity of 1 has a mean square of 1. ``noise`` is the amplitude of the receiver's
    own noise, white before the pulse's filter as well.
    """
    scatterers = reflectivity * rng.standard_normal(reflectivity.shape)
    if noise:
        scatterers = scatterers + noise * rng.standard_normal(reflectivity.shape)
    return np.abs(fft.ifft2(fft.fft2(scatterers) * _transfer(device.pulse_mm, device.beam, depth_cm)))


def attenuation_db(coefficients: np.ndarray, device: Device, depth_cm: float) -> np.ndarray:
    """Return how much the echo from each sample has lost on both ways, dB; ``coefficients`` in dB/cm/MHz."""
    return 2 * device.frequency_mhz * np.cumsum(coefficients, axis=0) * depth_cm / DEPTHS


def compressed(
    echo: np.ndarray, lost_db: np.ndarray, device: Device, depth_cm: float, *, tissue: float, gain_db: float = 0.0
) -> np.ndarray:
    """Return the log-compressed frame (DEPTHS, BEAMS) in grey levels 0 to 255.

    The time-gain compensation undoes ``tissue`` dB/cm/MHz, the mean tissue that the vendor expects, and adds the
    device's slope; 0 dB, the white end, is three times the RMS of a reflectivity of 1.
    """
    share = (np.arange(DEPTHS) + 0.5)[:, None] / DEPTHS
    expected = 2 * device.frequency_mhz * tissue * share * depth_cm
    level = 20 * np.log10(np.maximum(echo, 1e-9)) - lost_db + expected + device.tgc_db * share
    level = level + device.gain_db + gain_db - 20 * np.log10(3.0)
    return 255 * np.clip(1 + level / device.dynamic_range_db, 0, 1)


def scan_converted(frame: np.ndarray, device: Device) -> np.ndarray:
    """Return the fan (ROWS, COLUMNS) uint8 of a polar frame, bilinear, black outside."""
    fan = _conversion(device.sector_degrees, device.radius) @ frame.ravel()
    return np.rint(np.clip(fan, 0, 255)).astype(np.uint8).reshape(ROWS, COLUMNS)


@lru_cache(maxsize=64)
def _transfer(pulse_mm: float, beam: float, depth_cm: float) -> np.ndarray:
    """Return the transfer function of the pulse, (DEPTHS, BEAMS), with unit power for white scatterers."""
    sigma = pulse_mm / (10 * depth_cm / DEPTHS)
    # The Fourier transform of a Gaussian of SD s under a carrier: a Gaussian of SD 1 / (2 pi s) around the carrier.
    axial = np.exp(-2 * (np.pi * sigma * (fft.fftfreq(DEPTHS) - CARRIER)) ** 2)
    lateral = np.exp(-2 * (np.pi * beam * fft.fftfreq(BEAMS)) ** 2)
    both = axial[:, None] * lateral[None]
    return both / np.sqrt((both**2).mean())


@lru_cache(maxsize=64)
def _conversion(sector_degrees: float, radius: float) -> csr_matrix:
    """Return the sparse matrix (pixels, samples) that converts a polar frame; lengths are in shares of the depth."""
    half = np.deg2rad(sector_degrees) / 2
    top = radius * np.cos(half)  # the probe's arc bends up from its ends
    scale = max((1 + radius - top) / ROWS, 2 * (1 + radius) * np.sin(half) / COLUMNS)
    z = top + (np.arange(ROWS) + 0.5)[:, None] * scale
    x = (np.arange(COLUMNS) + 0.5 - COLUMNS / 2)[None] * scale
    row = (np.hypot(x, z) - radius) * DEPTHS - 0.5
    column = (np.arctan2(x, z) / (2 * half) + 0.5) * BEAMS - 0.5
    inside = (row >= 0) & (row <= DEPTHS - 1) & (column >= 0) & (column <= BEAMS - 1)
    pixel = np.flatnonzero(inside)
    row, column = row[inside], column[inside]
    i, j = np.minimum(row.astype(int), DEPTHS - 2), np.minimum(column.astype(int), BEAMS - 2)
    down, right = row - i, column - j
    corners = [(0, 0, (1 - down) * (1 - right)), (1, 0, down * (1 - right)), (0, 1, (1 - down) * right)]
    corners.append((1, 1, down * right))
    values = np.concatenate([weight for _, _, weight in corners])
    sources = np.concatenate([(i + di) * BEAMS + j + dj for di, dj, _ in corners])
    return csr_matrix((values, (np.tile(pixel, 4), sources)), shape=(ROWS * COLUMNS, DEPTHS * BEAMS))
