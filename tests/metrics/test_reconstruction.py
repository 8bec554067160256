"""Reconstruction metrics against scikit-image, pytorch-msssim and closed forms."""

import numpy as np
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.metrics.reconstruction import (
    METRICS,
    delta_e,
    mean_absolute_error,
    ms_ssim,
    normalised_error,
    psnr,
    scales_of,
    squared_error,
    ssim,
)


def pair(height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two seeded images, and reconstructions of less contrast with little noise and with much."""
    rng = np.random.default_rng(0)
    shape = (2, height, width, channels)
    images = rng.random(shape)
    noise = rng.normal(0, [[[[0.05]]], [[[0.2]]]], shape)
    return images, np.clip(images * 0.7 + 0.1 + noise, 0, 1)


@pytest.mark.parametrize(
    ("shape", "similarity", "ratio"),
    [
        ((40, 33, 3), (0.9153187592726123, 0.7069964996416825), (19.105148834402748, 13.350880042673761)),
        ((16, 11, 1), (0.9163257711080304, 0.7124020704486033), (18.68156432061701, 13.623388527943938)),
    ],
)
def test_ssim_and_psnr_are_those_of_scikit_image(shape: tuple, similarity: tuple, ratio: tuple) -> None:
    # skimage 0.26: gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1.
    images, made = pair(*shape)
    assert ssim(images, made) == pytest.approx(similarity, rel=1e-12)
    assert psnr(images, made) == pytest.approx(ratio, rel=1e-12)


def test_ms_ssim_is_that_of_pytorch_msssim() -> None:
    # pytorch-msssim 1.0.0 in float64, with a float64 window; no side is odd before a pooling, where it pads with 0.
    assert ms_ssim(*pair(192, 176, 3)) == pytest.approx((0.9361547717462577, 0.7505328863991826), rel=1e-12)


def test_ms_ssim_of_a_small_image_is_of_as_many_scales_as_fit() -> None:
    # The same package's terms at three scales, to the published weights of the first three times 1.0001 / their sum.
    images, made = pair(64, 48, 3)
    assert ms_ssim(images, made) == pytest.approx((0.9239992606853981, 0.7070396985145001), rel=1e-12)
    assert np.array_equal(ms_ssim(images, made), ms_ssim(images, made, scales=3))
    assert ms_ssim(images, made, scales=1) == pytest.approx(
        np.mean([ssim(images[..., [c]], made[..., [c]]) ** 1.0001 for c in range(3)], axis=0), rel=1e-12
    )
    sides = {10: 0, 11: 1, 21: 1, 22: 2, 32: 2, 43: 2, 44: 3, 64: 3, 88: 4, 175: 4, 176: 5, 512: 5}
    assert {side: scales_of(side, 512) for side in sides} == sides


def test_delta_e_is_that_of_scikit_image() -> None:
    # skimage 0.26: the mean of deltaE_ciede2000 of rgb2lab, whose white differs in the fifth digit.
    rng = np.random.default_rng(3)
    images = rng.random((2, 5, 4, 3))
    made = np.clip(images + rng.normal(0, 0.1, images.shape), 0, 1)
    assert delta_e(images, made) == pytest.approx((8.914587895499855, 9.21238509358722), rel=1e-4)


def test_ssim_of_two_flat_images_is_its_luminance_term() -> None:
    images, made = np.full((1, 16, 16, 3), 0.5), np.full((1, 16, 16, 3), 0.3)
    wanted = (2 * 0.5 * 0.3 + 1e-4) / (0.5**2 + 0.3**2 + 1e-4)
    assert ssim(images, made) == pytest.approx([wanted], rel=1e-10)


def test_errors_of_a_constant_offset_are_closed_forms() -> None:
    images = np.linspace(0.1, 0.8, 2 * 12 * 12 * 3).reshape(2, 12, 12, 3)
    made = images + 0.1
    assert squared_error(images, made) == pytest.approx([0.01] * 2)
    assert mean_absolute_error(images, made) == pytest.approx([0.1] * 2)
    assert psnr(images, made) == pytest.approx([20.0] * 2)


def test_normalised_error_is_1_for_the_mean_colour_and_blind_to_contrast() -> None:
    rng = np.random.default_rng(1)
    images = rng.random((3, 20, 20, 3)) * [0.2, 0.5, 1.0]
    mean = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    assert normalised_error(images, mean) == pytest.approx([1.0] * 3)
    made = 0.5 * images + 0.5 * mean
    assert normalised_error(images, made) == pytest.approx([0.25] * 3)
    # A darker copy of flatter contrast, reconstructed just as badly: squared error is kinder to it, this is not.
    dark, dark_made = (0.05 + 0.3 * x for x in (images, made))
    assert normalised_error(dark, dark_made) == pytest.approx(normalised_error(images, made))
    assert (squared_error(dark, dark_made) < 0.1 * squared_error(images, made)).all()
    assert np.isnan(normalised_error(np.full((1, 12, 12, 3), 0.1), np.full((1, 12, 12, 3), 0.2))).all()


def test_equal_images_have_the_best_value_of_every_metric_and_noise_is_worse() -> None:
    rng = np.random.default_rng(2)
    images = rng.random((2, 32, 32, 3)).astype(np.float32)
    little, much = (
        np.clip(images + s * rng.standard_normal(images.shape), 0, 1).astype(np.float32) for s in (0.05, 0.3)
    )
    best = dict.fromkeys(METRICS, 0.0) | {"psnr": np.inf, "ssim": 1.0, "ms_ssim": 1.0}
    for name, metric in METRICS.items():
        same, near, far = (metric.function(images, made) for made in (images, little, much))
        assert same == pytest.approx([best[name]] * 2, abs=1e-12), name
        assert same.dtype == np.float64
        assert same.shape == (2,)
        sign = 1 if metric.higher_is_better else -1
        assert (sign * (near - far) > 0).all(), name
        assert metric.what.endswith(".")


def test_an_image_has_the_same_value_alone_and_in_a_batch() -> None:
    images, made = pair(24, 30, 3)
    for name, metric in METRICS.items():
        assert np.array_equal(metric.function(images, made)[1:], metric.function(images[1:], made[1:])), name


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_bad_values_are_refused_with_their_place(metric) -> None:
    images, made = pair(16, 16, 3)
    for value, shown in ((np.nan, "nan"), (1.5, "1.5"), (-0.25, "-0.25"), (np.inf, "inf")):
        wrong = made.copy()
        wrong[1, 3, 7, 2] = value
        with pytest.raises(
            DataError, match=f"reconstruction 1, row 3, column 7, channel 2 is {shown}; expected 0 to 1"
        ):
            metric.function(images, wrong)
        with pytest.raises(DataError, match="image 1, row 3"):
            metric.function(wrong, made)
    with pytest.raises(DataError, match="expected the same shape"):
        metric.function(images, made[:1])
    for bad in (images[0], (images * 255).astype(np.uint8), images[:0]):
        with pytest.raises(DataError, match="expected floating-point"):
            metric.function(bad, bad)


def test_what_does_not_fit_is_refused() -> None:
    small = np.zeros((1, 10, 40, 3))
    for function in (ssim, ms_ssim):
        with pytest.raises(DataError, match="10 x 40 pixels"):
            function(small, small)
    images, made = pair(32, 32, 3)
    for scales in (0, 3):
        with pytest.raises(UsageError, match=f"{scales} scales of images of 32 x 32 pixels; expected 1 to 2"):
            ms_ssim(images, made, scales=scales)
    with pytest.raises(DataError, match="2 channels"):
        delta_e(images[..., :2], made[..., :2])
