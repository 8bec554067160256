"""Pictures on their grid: colours kept, the middle taken, grey ones three times."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.cohort import Cohort, Role, colour_image
from medaudit.errors import DataError, UsageError
from medaudit.training.prepared import prepare


def cohort(folder: Path, *pictures: np.ndarray) -> Cohort:
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    table = pl.DataFrame(
        {"case_id": [f"c{i}" for i in range(len(pictures))], "image": [f"{i}.png" for i in range(len(pictures))]}
    )
    return Cohort("pictures", table, folder, {"image": Role("image")})


def bordered() -> np.ndarray:
    """Return a wide picture whose middle square is red over blue, and whose sides are green."""
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[..., 1] = 255
    picture[:8, 8:24] = (200, 0, 0)
    picture[8:, 8:24] = (0, 0, 100)
    return picture


def test_the_middle_is_taken_in_its_own_colours(tmp_path: Path) -> None:
    grey = np.full((20, 20), 51, dtype=np.uint8)
    grey[0, 0] = 52
    found = prepare(cohort(tmp_path, bordered(), grey), (), (8, 8), tmp_path / "p", framing="crop", channels=3).images
    assert found.shape == (2, 3, 8, 8)
    np.testing.assert_allclose(found[0, 0, :4], 200 / 255, atol=1e-3)
    np.testing.assert_allclose(found[0, 2, 4:], 100 / 255, atol=1e-3)
    assert float(found[0, 1].max()) < 1e-3  # nothing of the green sides
    np.testing.assert_allclose(found[1], 0.2, atol=2e-3)


def test_one_channel_is_the_mean_of_colours_and_letterboxes_as_before(tmp_path: Path) -> None:
    found = prepare(cohort(tmp_path, bordered()), (), (8, 8), tmp_path / "p", framing="letterbox").images
    assert found.shape == (1, 1, 8, 8)
    assert float(found[0, 0, 0].max()) < float(found[0, 0, 4].max())


def test_another_framing_makes_all_anew_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    cases = cohort(tmp_path, bordered())
    first = prepare(cases, (), (8, 8), tmp_path / "p", framing="crop", channels=3).images.copy()
    again = prepare(cases, (), (8, 8), tmp_path / "p", framing="letterbox", channels=3).images
    assert not np.array_equal(first, again)
    with pytest.raises(UsageError, match="stretch, letterbox, crop"):
        prepare(cases, (), (8, 8), tmp_path / "q", framing="zoom")


def test_a_colour_picture_of_a_grey_file_has_three_equal_channels_and_a_volume_none(tmp_path: Path) -> None:
    cases = cohort(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4))
    picture = colour_image(next(iter(cases.cases("image"))))
    assert picture.shape == (3, 4, 3)
    assert np.ptp(picture, axis=-1).max() == 0
    np.save(tmp_path / "v.npy", np.zeros((3, 4, 5), dtype=np.float32))
    table = pl.DataFrame({"case_id": ["v"], "image": ["v.npy"]})
    volume = Cohort("v", table, tmp_path, {"image": Role("image")})
    with pytest.raises(DataError, match="case v"):
        colour_image(next(iter(volume.cases("image"))))
