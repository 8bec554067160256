"""Pictures in colour on their grid: what is cropped, which colours stay, and masks that follow their image."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.cohort import Cohort, Role
from medaudit.training.prepared import cropped, middle, prepare


def cohort(folder: Path, *pictures: np.ndarray, masks: tuple[np.ndarray, ...] = ()) -> Cohort:
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    for i, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(len(pictures))],
            "image": [f"{i}.png" for i in range(len(pictures))],
            "lesion": [f"{i}_mask.png" if i < len(masks) else None for i in range(len(pictures))],
        }
    )
    return Cohort("pictures", table, folder, {"image": Role("image"), "lesion": Role("lesion")})


@pytest.mark.parametrize(
    ("shape", "grid"), [((40, 16), (8, 8)), ((16, 40), (8, 8)), ((30, 30), (4, 8)), ((31, 17), (8, 8))]
)
def test_the_middle_has_the_grids_proportions_and_as_much_on_either_side(
    shape: tuple[int, int], grid: tuple[int, int]
) -> None:
    rows, columns = np.indices(shape)
    found = middle(rows * 100 + columns, grid)
    scale = min(shape[0] / grid[0], shape[1] / grid[1])
    assert found.shape == (round(grid[0] * scale), round(grid[1] * scale))
    for axis, seen in ((0, found // 100), (1, found % 100)):
        before, after = int(seen.min()), shape[axis] - 1 - int(seen.max())
        assert abs(before - after) <= 1


def test_a_dark_8_bit_picture_stays_dark_and_another_range_is_scaled() -> None:
    dark = np.linspace(0, 20, 64).reshape(8, 8)
    np.testing.assert_allclose(cropped(dark, (8, 8)), dark / 255, atol=1e-6)
    deep = np.linspace(100, 4_000, 64).reshape(8, 8)
    np.testing.assert_allclose(cropped(deep, (8, 8)), (deep - 100) / 3_900, atol=1e-6)


def test_channels_share_one_range_so_that_colours_stay(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[...] = (200, 100, 50)
    picture[0, 0] = (0, 0, 0)
    found = prepare(cohort(tmp_path, picture), (), (8, 8), tmp_path / "p", framing="crop", channels=3).images[0]
    np.testing.assert_allclose(found[:, 4, 4], np.array([200, 100, 50]) / 255, atol=1e-3)
    stretched = prepare(cohort(tmp_path, picture), (), (8, 8), tmp_path / "s", channels=3).images[0].astype(float)
    assert stretched.mean() == pytest.approx(0, abs=2e-3)
    assert stretched.std() == pytest.approx(1, abs=2e-3)
    assert stretched[0, 4, 4] > stretched[1, 4, 4] > stretched[2, 4, 4]


def test_transparency_is_no_fourth_colour(tmp_path: Path) -> None:
    picture = np.full((8, 8, 4), 128, dtype=np.uint8)
    picture[..., 0] = 220
    found = prepare(cohort(tmp_path, picture), (), (4, 4), tmp_path / "p", framing="crop", channels=3).images
    assert found.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(found[0, 0], 220 / 255, atol=1e-3)


def test_a_mask_is_cropped_with_its_image(tmp_path: Path) -> None:
    picture, mask = np.zeros((16, 40, 3), dtype=np.uint8), np.zeros((16, 40), dtype=np.uint8)
    picture[..., 2] = 40
    picture[4:12, 20:26, 0] = 255
    mask[4:12, 20:26] = 255
    made = prepare(
        cohort(tmp_path, picture, masks=(mask,)), ("lesion",), (16, 16), tmp_path / "p", framing="crop", channels=3
    )
    np.testing.assert_array_equal(made.masks["lesion"][0] > 127, made.images[0, 0] > 0.5)
    assert (made.masks["lesion"][0] > 127).sum() == 8 * 6


def test_other_channels_make_all_anew_and_the_same_ones_only_what_is_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = cohort(tmp_path, *rng.integers(0, 256, (3, 12, 12, 3), dtype=np.uint8))
    options = {"framing": "crop", "channels": 3}
    first = np.array(prepare(cases, (), (8, 8), tmp_path / "p", **options).images)
    kept = np.load(tmp_path / "p" / "images.npy", mmap_mode="r+")
    kept[:2] = 0.25  # what is done is not looked at again
    kept.flush()
    done = np.load(tmp_path / "p" / "done.npy", mmap_mode="r+")
    done[1] = False
    done.flush()
    again = prepare(cases, (), (8, 8), tmp_path / "p", **options).images
    assert (again[0] == 0.25).all()
    np.testing.assert_array_equal(again[1:], first[1:])
    grey = prepare(cases, (), (8, 8), tmp_path / "p", framing="crop", channels=1).images
    assert grey.shape == (3, 1, 8, 8)
    back = prepare(cases, (), (8, 8), tmp_path / "p", **options).images
    np.testing.assert_array_equal(back, first)
