"""Acquisition shifts obey their physics, stay in the fan, grow with severity, and change nothing at severity 0."""

import numpy as np
import pytest

from medaudit.datasets.acquisition import (
    ACQUISITION,
    DEVICE_SHIFTS,
    DYNAMIC_RANGE_DB,
    FLOOR,
    STRENGTHS,
    acquire,
)
from medaudit.datasets.fan import Fan
from medaudit.errors import DataError, UsageError

SHAPE, APEX = (270, 400), (-60.0, 199.5)
WHOLE_PICTURE = ("calipers", "jpeg", "resample")
DRAWN = ("shadow", "haze", "reverberation", "speckle", "calipers")
GREY_A_DB = 255 / DYNAMIC_RANGE_DB


def sector():
    """Return a fan of known geometry, made without the finder."""
    rows, columns = np.indices(SHAPE, dtype=float)
    distance = np.hypot(rows - APEX[0], columns - APEX[1])
    angle = np.arctan2(columns - APEX[1], rows - APEX[0])
    mask = (distance >= 70) & (distance <= 320) & (np.abs(angle) <= 0.52)
    return Fan(mask, APEX, 70.0, 320.0, -0.52, 0.52), distance, angle


def linear(shape=(301, 200)):
    return Fan(np.ones(shape, bool), None, 0.0, shape[0] - 1.0, 0.0, shape[1] - 1.0)


def phantom():
    """Return smooth tissue with a bright shell and a dark cyst, in the sector."""
    fan, _, _ = sector()
    rows, columns = np.indices(SHAPE, dtype=float)
    image = 90 + 20 * np.sin(rows / 11) * np.cos(columns / 17)
    image[np.abs(np.hypot(rows - 130, (columns - 190) / 1.3) - 60) < 4] = 210
    image[np.hypot(rows - 150, columns - 210) < 18] = 12
    image += np.random.default_rng(7).normal(0, 6, SHAPE)
    return np.where(fan.mask, np.clip(image, 0, 255), 0).astype(np.float32), fan


def shift(name, image, fan, severity, seed=3):
    return ACQUISITION[name](image.astype(np.float32), fan, severity, np.random.default_rng(seed))


def db_change(new, old):
    return (new.astype(float) - old) / GREY_A_DB


@pytest.mark.parametrize("name", ACQUISITION)
def test_severity_0_is_the_image_and_more_severity_is_further_from_it(name):
    image, fan = phantom()
    assert np.array_equal(shift(name, image, fan, 0), image)
    # An overlay has no half: there are five kinds.
    severities = (1, 2, 3, 4, 5) if name == "calipers" else (0.5, 1, 2, 3, 4, 5)
    distances = [np.sqrt(np.mean((shift(name, image, fan, s) - image) ** 2)) for s in severities]
    assert distances[0] > 0
    assert np.all(np.diff(distances) > 0)


@pytest.mark.parametrize("name", ACQUISITION)
def test_a_shift_is_its_seed_and_keeps_type_range_and_background(name):
    image, fan = phantom()
    new = shift(name, image, fan, 4)
    assert new.dtype == np.float32
    assert new.shape == image.shape
    assert new.min() >= 0
    assert new.max() <= 255
    assert np.array_equal(new, shift(name, image, fan, 4))
    assert np.array_equal(new, shift(name, image, fan, 4, seed=4)) == (name not in DRAWN)
    if name not in WHOLE_PICTURE:
        assert np.array_equal(new[~fan.mask], image[~fan.mask])


@pytest.mark.parametrize(("name", "sign"), [("gain", 1), ("low_gain", -1)])
@pytest.mark.parametrize(("severity", "db"), [(1, 3), (5, 12)])
def test_gain_adds_a_constant_in_db_until_it_clips(name, sign, severity, db):
    ramp = np.tile(np.arange(256.0), (301, 1))
    new = shift(name, ramp, linear(ramp.shape), severity)
    free = (new > 0) & (new < 255)
    assert db_change(new, ramp)[free] == pytest.approx(sign * db, abs=1e-4)
    assert set(np.unique(new[~free])) == ({255.0} if sign > 0 else {0.0})


def test_less_dynamic_range_stretches_db_and_leaves_white():
    ramp = np.tile(np.arange(256.0), (301, 1))
    new = shift("dynamic_range", ramp, linear(ramp.shape), 5)[0]
    assert new[255] == 255
    # What lies 40 dB and more below white is black; the slope is 60 / 40.
    assert not new[: int(255 / 3)].any()
    assert np.diff(new[90:]) == pytest.approx(1.5, abs=1e-3)


def test_the_attenuation_is_recovered_by_regression_on_the_distance_from_the_apex():
    fan, distance, _ = sector()
    image = np.where(fan.mask, 250.0, 0.0)
    for severity, mu in ((1, 0.6), (3, 1.8), (5, 3.0)):
        lost = db_change(shift("depth_attenuation", image, fan, severity), image)[fan.mask]
        left = (10 ** (lost / 20) - FLOOR) / (1 - FLOOR)
        slope, start = np.polyfit((distance[fan.mask] - 70) / 250, np.log(left), 1)
        assert slope == pytest.approx(-mu, rel=1e-3)
        assert start == pytest.approx(0, abs=1e-3)


def test_the_tgc_slope_is_recovered_and_mid_depth_stays():
    fan, distance, _ = sector()
    image = np.where(fan.mask, 120.0, 0.0)
    change = db_change(shift("tgc_slope", image, fan, 4), image)[fan.mask]
    slope, at = np.polyfit((distance[fan.mask] - 70) / 250 - 0.5, change, 1)
    assert (slope, at) == pytest.approx((12, 0), abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_shadow_lies_in_a_wedge_of_beams_and_goes_on_to_the_deepest(seed):
    fan, distance, angle = sector()
    image = np.where(fan.mask, 200.0, 0.0)
    lost = -db_change(shift("shadow", image, fan, 5, seed), image)
    dark = lost > 0.05
    # A quarter of the half span to each side of the middle, at most.
    assert np.ptp(angle[dark]) <= 2 * 0.25 * 0.52 + 1e-6
    middle = angle[lost == lost.max()].mean()
    assert middle == pytest.approx((angle[dark].min() + angle[dark].max()) / 2, abs=0.01)
    # 80 % of the amplitude in the middle, all the way down once it has begun.
    core = fan.mask & (np.abs(angle - middle) < 0.004) & (distance > 70 + 0.36 * 250)
    assert lost[core] == pytest.approx(-20 * np.log10(0.2), abs=0.2)
    assert distance[dark].max() > 318


@pytest.mark.parametrize("apex", [True, False])
def test_new_speckle_on_uniform_tissue_is_rayleigh(apex):
    fan = sector()[0] if apex else linear((500, 500))
    image = np.where(fan.mask, 130.0, 0.0)
    inner = fan.mask & (fan.depth() > 0.1) & (fan.depth() < 0.9) & (np.abs(fan.across()) < 0.9)
    sds, ratios = [], []
    for seed in range(4):
        db = db_change(shift("speckle", image, fan, 5, seed), image)[inner]
        amplitude = 10 ** (db / 20)
        ratios.append(amplitude.mean() / amplitude.std())
        sds.append(db.std())
    # Rayleigh: mean over SD is sqrt(pi / (4 - pi)); the SD of its logarithm is (20 / ln 10) pi / sqrt(24).
    assert np.mean(ratios) == pytest.approx(1.913, abs=0.06)
    assert np.mean(sds) == pytest.approx(5.57, abs=0.2)


@pytest.mark.parametrize("severity", [1, 3])
def test_of_part_of_the_speckle_the_variance_in_db_is_that_part(severity):
    fan = linear((500, 500))
    image = np.full(fan.mask.shape, 150.0)
    sd = np.mean([db_change(shift("speckle", image, fan, severity, seed), image).std() for seed in range(4)])
    # Uniform tissue has no texture of its own; in full the SD is 5.57 dB.
    assert sd == pytest.approx(np.sqrt(STRENGTHS["speckle"][severity - 1]) * 5.57, rel=0.04)


def test_haze_adds_the_same_power_to_dark_and_to_bright_tissue():
    fan, _, _ = sector()

    def power(grey):
        return 10 ** ((grey.astype(float) / 255 - 1) * DYNAMIC_RANGE_DB / 10)

    dark, bright = (np.where(fan.mask, grey, 0.0) for grey in (1.0, 140.0))
    added = [power(shift("haze", image, fan, 4)) - power(image) for image in (dark, bright)]
    assert added[0].max() > power(np.array(140.0))
    assert added[1] == pytest.approx(added[0], rel=1e-3, abs=1e-6)


def test_haze_is_a_ring_of_constant_depth_with_the_stated_level():
    fan, distance, _ = sector()
    image = np.where(fan.mask, 1.0, 0.0)
    hazed = shift("haze", image, fan, 5)
    power = 10 ** ((hazed.astype(float) / 255 - 1) * DYNAMIC_RANGE_DB / 10)
    bins = np.arange(70, 321, 5)
    at = np.digitize(distance[fan.mask], bins)
    ring = np.array([power[fan.mask][at == k].mean() for k in range(1, bins.size)])
    peak = (bins[int(np.argmax(ring))] + 2.5 - 70) / 250
    assert 0.13 < peak < 0.42
    # The mean power of a Rayleigh modulus of mean 1 is 4 / pi.
    assert 10 * np.log10(ring.max() * np.pi / 4) == pytest.approx(STRENGTHS["haze"][4], abs=1)
    # One SD (a tenth of the depth) from the ring the amplitude has fallen to exp(-1/2).
    off = ring[int(np.argmax(ring)) + 5] / ring.max()
    assert off == pytest.approx(np.exp(-1), abs=0.12)


def test_reverberations_are_equally_spaced_and_fall_by_equal_db():
    fan = linear()
    image = np.zeros(fan.mask.shape)
    image[60] = 230
    line = shift("reverberation", image, fan, 4)[:, 100]
    seen = np.flatnonzero(line > 30)
    assert seen.size == 4
    assert seen[0] == 60
    assert np.ptp(np.diff(seen)) == 0
    assert 0.06 * 301 - 1 <= np.diff(seen)[0] <= 0.12 * 301 + 1
    assert np.diff(line[seen]) / GREY_A_DB == pytest.approx(-9, abs=0.05)


def test_frequency_loss_blurs_along_the_beam_only_and_more_with_depth():
    fan = linear()
    image = np.zeros(fan.mask.shape)
    image[[3, 150, 285]] = 200
    profile = shift("frequency_loss", image, fan, 5)[:, 100].astype(float)

    def spread(middle):
        window = np.arange(max(0, middle - 14), min(301, middle + 15))
        weight = profile[window] / profile[window].sum()
        return np.sqrt((weight * (window - middle) ** 2).sum())

    assert spread(285) == pytest.approx(0.015 * 301 * 285 / 300, rel=0.1)
    assert spread(150) == pytest.approx(0.015 * 301 / 2, rel=0.15)
    assert spread(3) < 0.3
    stripes = np.tile(np.where(np.arange(200) % 8 < 4, 50.0, 150.0), (301, 1))
    assert shift("frequency_loss", stripes, fan, 5) == pytest.approx(stripes, abs=1e-3)


@pytest.mark.parametrize("outside", [0.0, 240.0])
def test_frequency_loss_leaves_uniform_tissue_as_it_is_up_to_the_fans_rim(outside):
    fan, _, _ = sector()
    image = np.where(fan.mask, 120.0, outside)
    assert shift("frequency_loss", image, fan, 5) == pytest.approx(image, abs=0.01)


def test_zoom_magnifies_about_the_probe():
    fan, _, _ = sector()
    rows, columns = np.indices(SHAPE)
    disc = np.where(np.hypot(rows - 100, columns - 199.5) < 25, 200.0, 60.0) * fan.mask
    new = shift("zoom", disc, fan, 5) > 130
    assert new.sum() / (disc > 130).sum() == pytest.approx(1.4**2, rel=0.02)
    # The probe's middle is 70 below the apex, row 10: the disc's middle goes from 90 to 126 below it.
    assert np.argwhere(new).mean(axis=0) == pytest.approx((10 + 1.4 * 90, 199.5), abs=0.5)


def test_speckle_reduction_smooths_tissue_and_keeps_an_edge():
    rng = np.random.default_rng(0)
    image = np.full((120, 120), 40.0)
    image[:, 60:] = 220
    new = shift("speckle_reduction", np.clip(image + rng.normal(0, 8, image.shape), 0, 255), linear(image.shape), 5)
    assert new[10:110, 10:50].std() < 8 / 3
    assert new[:, 60].mean() - new[:, 59].mean() > 165


def test_overlays_are_nested_bright_and_reach_beyond_the_fan():
    image, fan = phantom()
    before = np.zeros(SHAPE, dtype=bool)
    for severity in (1, 2, 3, 4, 5):
        new = shift("calipers", image, fan, severity)
        changed = new != image
        assert np.all(new[changed] > image[changed])
        assert np.all(changed[before])
        assert changed.sum() > before.sum()
        before = changed
    assert before[~fan.mask].sum() > 50
    assert before[fan.mask].sum() > 20


def test_resampling_takes_what_a_tenth_of_the_pixels_cannot_hold():
    stripes = np.tile(np.where(np.arange(200) % 4 < 2, 50.0, 150.0), (300, 1))
    new = shift("resample", stripes, linear(stripes.shape), 5)
    assert new[:, 20:-20] == pytest.approx(100, abs=3)


@pytest.mark.parametrize("name", DEVICE_SHIFTS)
def test_a_device_changes_several_things_in_the_fan_it_finds(name):
    image = np.rint(phantom()[0]).astype(np.uint8)
    assert np.array_equal(acquire(image, name, 0, 1), image)
    new = [acquire(image, name, severity, 1).astype(float) for severity in (1, 3, 5)]
    distances = [np.abs(one - image).mean() for one in new]
    assert np.all(np.diff([0, *distances]) > 0)
    assert np.array_equal(new[1], acquire(image, name, 3, 1))
    assert len(DEVICE_SHIFTS[name]) >= 4
    assert set(DEVICE_SHIFTS[name]) <= set(ACQUISITION)
    assert all(0 < weight <= 1 for weight in DEVICE_SHIFTS[name].values())


def test_acquire_finds_the_fan_and_keeps_the_type():
    image, fan = phantom()
    grey = np.rint(image).astype(np.uint8)
    new = acquire(grey, "depth_attenuation", 3, 0)
    assert new.dtype == np.uint8
    known = acquire(grey, "depth_attenuation", 3, 0, fan=fan)
    assert np.abs(new.astype(float) - known)[fan.mask].mean() < 2
    assert acquire(grey.astype(np.float64), "gain", 1, 0).dtype == np.float64


@pytest.mark.parametrize(
    ("image", "name", "severity", "error", "why"),
    [
        (np.ones((40, 40)), "fog", 1, UsageError, "no acquisition shift is called 'fog'; there are: gain"),
        (np.ones((40, 40)), "gain", 6, UsageError, "severity is 6; expected a number from 0"),
        (np.ones((40, 40)), "gain", -1, UsageError, "severity is -1"),
        (np.ones((40, 40)), "gain", np.nan, UsageError, "severity is nan"),
        (np.ones((40, 40, 3)), "gain", 1, DataError, r"expected grey levels 0 to 255 \(rows, columns\)"),
        (np.full((40, 40), 300.0), "gain", 1, DataError, "from 300 to 300; expected finite ones"),
        (np.full((40, 40), np.nan), "gain", 1, DataError, "expected finite ones"),
        (np.zeros((40, 40)), "gain", 1, DataError, "nothing in the image is lit"),
    ],
)
def test_what_cannot_be_shifted_is_said(image, name, severity, error, why):
    with pytest.raises(error, match=why):
        acquire(image, name, severity, 0)
