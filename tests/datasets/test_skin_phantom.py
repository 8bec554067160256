"""A picture of skin: its geometry knows no tone, and tones differ in nothing but the optics of melanin."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import label

from medaudit.datasets.colour import lab, to_linear
from medaudit.datasets.skin_phantom import DIAGNOSES, Skin, draw_skin, healthy, render

TONES = (0.01, 0.04, 0.08, 0.16, 0.3)


def drawn(diagnosis: str = "nevus", seed: int = 0, side: int = 64, **other: float) -> Skin:
    return draw_skin(side, diagnosis, np.random.default_rng(seed), **other)


def same(first: Skin, second: Skin) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Skin))


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_a_seed_is_a_geometry_whatever_is_rendered_between(diagnosis: str) -> None:
    first = drawn(diagnosis, 5)
    pictures = [render(first, tone) for tone in TONES]
    second = drawn(diagnosis, 5)
    assert same(first, second)  # and rendering left the first as it was
    assert all(np.array_equal(render(second, tone), one) for tone, one in zip(TONES, pictures, strict=True))
    assert not same(first, drawn(diagnosis, 6))
    assert pictures[0].shape == (64, 64, 3)
    assert pictures[0].dtype == np.uint8


def test_a_flat_geometry_has_the_colour_of_its_skin_at_every_pixel() -> None:
    # No texture, light or camera: what is rendered is the optics, here against single spectra.
    one, none = np.ones((32, 32)), np.zeros((32, 32))
    bare = Skin(one, one, none, none, none.astype(bool), one, none, one, np.ones(3), 1.0)
    for tone, srgb in ((0.005, (208, 180, 166)), (0.08, (177, 133, 96)), (0.43, (79, 46, 37))):  # spec 05, 4.7
        picture = render(bare, tone)
        assert np.ptp(picture.reshape(-1, 3), axis=0).max() == 0
        assert np.abs(picture[0, 0].astype(int) - srgb).max() <= 2
    half = replace(bare, light=0.5 * one)
    np.testing.assert_allclose(
        to_linear(render(half, 0.02)[0, 0] / 255), 0.5 * to_linear(render(bare, 0.02)[0, 0] / 255), rtol=0.03
    )


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_two_tones_share_light_hair_and_glints_and_differ_by_optics(diagnosis: str) -> None:
    # What multiplies light leaves a ratio of tones as it was: undo the camera and the glints, and divide.
    skin = replace(drawn(diagnosis, 2), balance=np.ones(3), gamma=1.0)
    shade = skin.light * skin.hair
    lit = (shade > 0.5) & (skin.glints == 0)
    for tone in (0.012, 0.15):
        bare = replace(skin, light=np.ones_like(shade), hair=np.ones_like(shade))
        seen, under = to_linear(render(skin, tone) / 255), to_linear(render(bare, tone) / 255)
        bright = lit[..., None] & (under > 0.03) & (seen < 1)
        assert bright.mean() > 0.5
        ratio = (seen / np.maximum(under, 1e-9) / shade[..., None])[bright]
        assert np.abs(ratio - 1).max() < 0.12  # rounding to 8 bits, on both
        assert abs(ratio.mean() - 1) < 0.01


def test_no_pixel_is_lighter_in_darker_skin() -> None:
    for diagnosis in DIAGNOSES:
        skin = drawn(diagnosis, 3)
        pictures = [render(skin, tone) for tone in TONES]
        for lighter, darker in pairwise(pictures):
            # Blue may gain a level or two in what is nearly black: red light counts against it in sRGB.
            assert np.all(lab(darker / 255)[..., 0] <= lab(lighter / 255)[..., 0] + 0.05)
            assert np.all(darker[..., :2] <= lighter[..., :2])
            assert np.all(darker[..., 2] <= lighter[..., 2] + 2.0)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_a_lesions_contrast_falls_with_tone(diagnosis: str) -> None:
    for seed in range(8):
        skin = drawn(diagnosis, seed)
        contrast = []
        for tone in TONES:
            lightness = lab(render(skin, tone) / 255)[..., 0]
            contrast.append(lightness[healthy(skin)].mean() - lightness[skin.lesion].mean())
        assert np.all(np.diff(contrast) < 0)
        assert contrast[0] > (8 if diagnosis != "inflammation" else 4)
        assert contrast[-1] < 0.6 * contrast[0]


def test_the_lesion_adds_its_own_melanin_or_blood() -> None:
    for seed in range(10):
        for diagnosis in ("nevus", "melanoma"):
            skin = drawn(diagnosis, seed)
            assert skin.lesion_melanin[skin.lesion].mean() > 0.05
            assert skin.lesion_melanin[skin.lesion].mean() > 20 * skin.lesion_melanin[~skin.lesion].mean()
        for diagnosis in ("vascular", "inflammation"):
            skin = drawn(diagnosis, seed)
            assert not skin.lesion_melanin.any()
            assert skin.lesion_blood[skin.lesion].mean() > 0.02
        red = lab(render(replace(drawn("vascular", seed), hair=np.ones((64, 64))), 0.02) / 255)
        skin = drawn("vascular", seed)
        assert red[skin.lesion, 1].mean() - red[healthy(skin), 1].mean() > 8


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_every_diagnosis_makes_a_lesion_of_sensible_size(diagnosis: str, side: int) -> None:
    for seed in range(40 if side < 128 else 12):
        skin = drawn(diagnosis, seed, side)
        assert 0.02 < skin.lesion.mean() < 0.5
        assert healthy(skin).mean() > 0.4
        assert not (healthy(skin) & skin.lesion).any()
        if diagnosis != "inflammation":  # which is scattered
            assert label(skin.lesion)[1] == 1


def test_a_melanoma_is_larger_and_more_ragged_than_a_nevus() -> None:
    area, raggedness = {}, {}
    for diagnosis in ("nevus", "melanoma"):
        masks = [drawn(diagnosis, seed, 128).lesion for seed in range(25)]
        area[diagnosis] = np.median([mask.mean() for mask in masks])
        raggedness[diagnosis] = np.median([moment_ratio(mask) for mask in masks])
    assert area["melanoma"] > 1.4 * area["nevus"]
    assert raggedness["melanoma"] > 1.5 * raggedness["nevus"]


def moment_ratio(mask: np.ndarray) -> float:
    """Return by how much a region's normalised second moment exceeds that of an ellipse, 1 / (4 pi)^2."""
    moments = np.cov(np.argwhere(mask).T.astype(float))
    return float(np.linalg.det(moments) / mask.sum() ** 2 * (4 * np.pi) ** 2 - 1)


def test_fields_do_not_depend_on_the_size_of_the_picture_in_scale() -> None:
    for side in (32, 128):
        skins = [drawn("nevus", seed, side) for seed in range(30)]
        assert np.mean([skin.melanin.mean() for skin in skins]) == pytest.approx(1, abs=0.03)
        assert np.mean([np.log(skin.melanin).std() for skin in skins]) == pytest.approx(np.hypot(0.10, 0.06), rel=0.05)


def test_hairs_and_texture_scale() -> None:
    covered = [
        np.mean([(drawn(seed=seed, hairs=hairs).hair < 0.95).mean() for seed in range(50)]) for hairs in (0, 1, 3)
    ]
    assert covered[0] == 0
    assert 2 < covered[2] / covered[1] < 4  # less than three where hairs cross
    haired = np.mean([(drawn(seed=seed).hair < 0.95).any() for seed in range(100)])
    assert haired == pytest.approx(1 - np.exp(-1.2), abs=0.12)  # Poisson(1.2), a few of them outside the frame
    for seed in range(5):
        plain, rough = drawn(seed=seed), drawn(seed=seed, texture=2.0)
        np.testing.assert_allclose(np.log(rough.melanin), 2 * np.log(plain.melanin), rtol=1e-9)
        assert np.log(rough.blood).std() > 1.7 * np.log(plain.blood).std()
        assert np.array_equal(plain.lesion, rough.lesion)
        assert np.array_equal(plain.hair, rough.hair)
        assert np.all(drawn(seed=seed, texture=0.0).melanin == 1)


def test_more_hair_changes_the_hair_and_nothing_else() -> None:
    plain, hairy = drawn(seed=3), drawn(seed=3, hairs=3.0)
    assert not np.array_equal(plain.hair, hairy.hair)
    assert same(replace(plain, hair=hairy.hair), hairy)


def test_hair_darkens_and_glints_lighten() -> None:
    skins = (drawn(seed=seed, hairs=3.0) for seed in range(40))
    skin = next(one for one in skins if one.glints.max() > 0.02 and one.hair.min() < 0.5)
    assert skin.hair.max() == 1
    shown = render(skin, 0.03).astype(int)
    assert np.all(render(replace(skin, hair=np.ones_like(skin.hair)), 0.03) >= shown)
    assert np.all(render(replace(skin, glints=np.zeros_like(skin.hair)), 0.03) <= shown)


def test_more_blood_in_the_skin_reddens_the_picture() -> None:
    skin = drawn(seed=1)
    plain = healthy(skin)
    redness = [lab(render(skin, 0.02, blood) / 255)[plain, 1].mean() for blood in (0.01, 0.02, 0.05)]
    assert np.all(np.diff(redness) > 2)
