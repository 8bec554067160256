"""Trivial cues of pictures whose cues are known: white and power-law noise, drawn text, boxes."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.metrics.image_cues import MEANINGS, NAMES, cues


def noise(shape=(256, 256), slope=0.0, seed=0):
    """Return grey noise whose power falls as frequency to the ``slope``, made in the frequency domain."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    frequency[0, 0] = np.inf if slope else 1
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * frequency ** (slope / 2)).real
    return 128 + 25 * np.clip(field / field.std(), -4, 4)


def test_every_cue_has_its_name_and_its_meaning():
    found = cues(noise())
    assert tuple(found) == NAMES == tuple(MEANINGS)
    assert all(type(value) is float and np.isfinite(value) for value in found.values())


def test_size_and_shares_are_counted_and_grey_is_that_of_what_is_not_black():
    image = np.full((60, 90), 100, np.uint8)
    image[:30] = 0
    image[30:36] = 255
    found = cues(image)
    assert (found["height"], found["width"], found["aspect"]) == (60, 90, 1.5)
    assert found["black_fraction"] == pytest.approx(0.5)
    assert found["white_fraction"] == pytest.approx(0.1)
    assert found["mean_grey"] == pytest.approx(0.8 * 100 + 0.2 * 255, rel=1e-6)
    assert found["sd_grey"] == pytest.approx(np.std(image[30:]), rel=1e-6)


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0, -3.0])
@pytest.mark.parametrize("shape", [(256, 256), (200, 320)])
def test_the_slope_of_power_law_noise_is_recovered(slope, shape):
    found = np.mean([cues(noise(shape, slope, seed))["spectral_slope"] for seed in range(6)])
    assert found == pytest.approx(slope, abs=0.15)


def test_the_sharpness_of_white_noise_follows_from_its_laplacian():
    # The Laplacian's variance is 20 times the pixels' (4 squared, and 1 for each of four neighbours), and the mean
    # absolute value of a normal variable is its SD times sqrt(2 / pi).
    image = np.clip(np.random.default_rng(1).normal(128, 10, (300, 300)), 0, 255)
    assert cues(image)["sharpness"] == pytest.approx(10 * np.sqrt(20 * 2 / np.pi) / 128, rel=0.02)


def test_burned_in_text_on_black_is_counted_to_the_pixel():
    image = np.zeros((100, 160), np.uint8)
    image[20, 10:31] = 255  # a cross of a caliper
    image[10:31, 20] = 255
    image[5:95:10, 155:160] = 220  # nine depth ticks
    assert cues(image)["text_pixels"] * image.size == pytest.approx(41 + 9 * 5)
    image[40:95, 60:120] = 120  # tissue is no text, nor is what is bright amid tissue
    image[60, 80:90] = 250
    assert cues(image)["text_pixels"] * image.size == pytest.approx(41 + 9 * 5)


def test_integers_and_floats_have_the_same_cues():
    image = np.rint(noise()).astype(np.uint8)
    assert cues(image) == cues(image.astype(np.float64))


@pytest.mark.parametrize("image", [np.zeros((20, 20)), np.full((20, 20), 7), np.full((9, 40), 200), np.eye(3) * 255])
def test_a_constant_or_tiny_picture_has_finite_cues(image):
    assert all(np.isfinite(value) for value in cues(image).values())


@pytest.mark.parametrize(
    "image", [np.zeros((20, 20, 3)), np.full((20, 20), np.nan), np.full((20, 20), np.inf), np.zeros((0, 4))]
)
def test_what_is_no_picture_is_said(image):
    with pytest.raises(DataError, match="expected \\(rows, columns\\) of finite grey levels"):
        cues(image)
