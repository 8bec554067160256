"""Trivial cues of pictures whose cues are known: white and power-law noise, drawn text, boxes."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medaudit.errors import DataError
from medaudit.metrics.image_cues import CUES, NAMES, cues


def noise(shape=(256, 256), slope=0.0, seed=0):
    """Return grey noise whose power falls as frequency to the ``slope``, made in the frequency domain."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    frequency[0, 0] = np.inf if slope else 1
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * frequency ** (slope / 2)).real
    return 128 + 25 * np.clip(field / field.std(), -5, 5)


def test_every_cue_has_its_name_and_its_sentence():
    found = cues(noise())
    assert tuple(found) == NAMES == tuple(CUES)
    assert all(sentence.endswith(".") for sentence in CUES.values())
    assert all(type(value) is float and np.isfinite(value) for value in found.values())


def test_size_and_shares_are_counted():
    image = np.full((60, 90), 100, np.uint8)
    image[:30] = 0
    image[30:36] = 255
    found = cues(image)
    assert (found["height"], found["width"], found["aspect"]) == (60, 90, 1.5)
    assert found["black_fraction"] == 0.5
    assert found["saturated_fraction"] == 0.1
    assert found["mean_grey"] == pytest.approx(0.4 * 100 + 0.1 * 255)
    assert found["sd_grey"] == pytest.approx(np.std(image))


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0, -3.0])
@pytest.mark.parametrize("shape", [(256, 256), (200, 320)])
def test_the_slope_of_power_law_noise_is_recovered(slope, shape):
    assert cues(noise(shape, slope))["spectral_slope"] == pytest.approx(slope, abs=0.2)


def test_the_pictures_borders_do_not_flatten_the_slope():
    # A part of a smooth field does not close upon itself: without a window its borders alone have a slope of -2.
    part = noise((512, 512), -3.5)[:200, :240]
    assert cues(part)["spectral_slope"] == pytest.approx(-3.5, abs=0.25)


def test_the_laplacians_variance_of_white_noise_is_twenty_times_the_pixels():
    # 4 squared, and 1 for each of the four neighbours.
    image = np.clip(np.random.default_rng(1).normal(128, 10, (300, 300)), 0, 255)
    assert cues(image)["local_contrast"] == pytest.approx(20 * 100, rel=0.03)


def test_a_ramp_has_no_local_contrast():
    ramp = np.tile(np.arange(64.0), (64, 1))
    assert cues(ramp)["local_contrast"] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("background", [0, 60])
def test_text_is_counted_to_the_pixel_wherever_it_stands(background):
    image = np.full((100, 160), background, np.uint8)
    image[20, 10:31] = 255  # a cross of a caliper
    image[10:31, 20] = 255
    image[5:95:10, 155:160] = 220  # nine depth ticks
    image[60:90, 60:120] = 200  # bright tissue is no text
    assert cues(image)["text_pixels"] == 41 + 9 * 5


@pytest.mark.parametrize(("width", "counted"), [(1, True), (4, True), (5, False)])
def test_a_stroke_is_up_to_four_pixels_wide(width, counted):
    image = np.full((60, 60), 20, np.uint8)
    image[20 : 20 + width, 10:50] = 230
    assert cues(image)["text_pixels"] == (40 * width if counted else 0)


def test_drawn_letters_are_text_and_a_thick_skull_is_not():
    skull = Image.new("L", (300, 200), 30)
    ImageDraw.Draw(skull).ellipse((60, 40, 240, 170), outline=230, width=9)
    bare = cues(np.asarray(skull))["text_pixels"]
    ImageDraw.Draw(skull).text((5, 5), "HC 231.4 mm", fill=255, font=ImageFont.load_default(size=12))
    image = np.asarray(skull)
    assert bare == 0
    # Nearly all of the letters' bright pixels, which the font has smoothed.
    assert cues(image)["text_pixels"] > 0.9 * (image[:35, :120] >= 150).sum() > 50


def test_the_same_picture_as_integers_or_floats_has_the_same_cues():
    image = np.rint(noise()).astype(np.uint8)
    assert cues(image) == cues(image.astype(np.float32)) == cues(image.tolist())


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.zeros((20, 20, 3)), r"expected grey levels \(rows, columns\)"),
        (np.zeros((4, 20)), "8 x 8 or larger"),
        (np.full((20, 20), np.nan), "from nan to nan"),
        (np.arange(400.0).reshape(20, 20), "from 0 to 399; expected finite ones, 0 to 255"),
        (np.arange(400.0).reshape(20, 20) - 390, "from -390"),
        (np.array([["a"] * 20] * 20), "expected grey levels"),
    ],
)
def test_what_is_no_picture_is_said(image, why):
    with pytest.raises(DataError, match=why):
        cues(image)


@pytest.mark.realdata
def test_burned_in_scales_of_real_images_are_counted(pytestconfig):
    from os import environ
    from pathlib import Path

    folder = Path(environ.get("MEDAUDIT_DATA", Path(pytestconfig.rootpath) / "../shared/data")) / "hc18/training_set"
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set MEDAUDIT_DATA")
    found = [cues(np.asarray(Image.open(path))) for path in sorted(folder.glob("*HC.png"))[::100]]
    assert all(row["spectral_slope"] < -1 for row in found)
    # The grey bar at HC18's left edge.
    assert np.mean([row["text_pixels"] > 0 for row in found]) > 0.5
