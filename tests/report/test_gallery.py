"""Pictures side by side, and heat-maps on one scale."""

import io

import numpy as np
from PIL import Image

from medaudit.report import gallery


def test_tiles_are_where_they_belong_and_pixels_stay_pixels() -> None:
    red = np.zeros((2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    half = np.full((4, 4), 0.5)
    sheet = np.asarray(Image.open(io.BytesIO(gallery.tiles([[red, half], [half, red]], columns=("a", "b"), pixels=20))))
    assert sheet.shape == (22 + 2 * 24 - 4, 2 * 24 - 4, 3)
    assert tuple(sheet[30, 10]) == (255, 0, 0)
    assert tuple(sheet[30, 34]) == (128, 128, 128)
    assert tuple(sheet[54, 10]) == (128, 128, 128)
    assert tuple(sheet[54, 34]) == (255, 0, 0)


def test_heat_is_dark_below_its_scale_bright_above_and_rises_between() -> None:
    shown = gallery.heat(np.linspace(-1, 2, 31)[None], 0.0, 1.0)[0].astype(int)
    assert (shown[0] == shown[10]).all()
    assert (shown[20] == shown[-1]).all()
    light = shown.sum(axis=1)
    assert (np.diff(light) >= 0).all()
    assert light[-1] > light[0] + 400


def test_maps_share_one_range_that_an_outlier_does_not_rule() -> None:
    maps = np.random.default_rng(0).random((4, 30, 30))
    maps[0, 0, 0] = 1e6
    low, high = gallery.shared_range(maps)
    assert 0 <= low < 0.05
    assert 0.95 < high <= 1.0
