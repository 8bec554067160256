"""An outline is filled, a filled mask stays as it is, and a line that is open is not guessed at."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from medaudit.cohort import read_mask
from medaudit.errors import DataError


def ellipse(path, box, *, width=3, filled=False, size=(300, 200)):
    """Draw an ellipse by Pillow, as outline or filled, and save it."""
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse(box, fill=255 if filled else 0, outline=255, width=width)
    image.save(path)
    return path


@pytest.mark.parametrize("width", [1, 3, 6])
@pytest.mark.parametrize(
    "box",
    [
        (60, 40, 240, 160),
        (0, 0, 299, 199),
        (100, 80, 140, 120),
        (-40, 40, 140, 160),
        (-60, -50, 120, 90),
        (-30, 40, 330, 160),
    ],
    ids=["inside", "touching all edges", "small", "cut by one edge", "cut by a corner", "cut by two edges"],
)
def test_a_filled_outline_is_the_ellipse_that_pillow_fills(tmp_path, box, width):
    outline = read_mask(ellipse(tmp_path / "o.png", box, width=width), fill=True).array
    whole = read_mask(ellipse(tmp_path / "f.png", box, width=width, filled=True)).array
    assert np.array_equal(outline, whole)


def test_a_filled_mask_is_left_as_it_is_with_its_holes(tmp_path):
    mask = np.asarray(Image.open(ellipse(tmp_path / "f.png", (60, 40, 240, 160), filled=True))).copy()
    mask[90:100, 140:150] = 0
    Image.fromarray(mask).save(tmp_path / "h.png")
    assert np.array_equal(read_mask(tmp_path / "h.png", fill=True).array, mask // 255)


def test_a_rotated_outline_of_eight_connected_pixels_is_filled(tmp_path):
    rows, columns = np.mgrid[:200, :300]
    turned = (columns - 150) * 0.8 + (rows - 100) * 0.6, (rows - 100) * 0.8 - (columns - 150) * 0.6
    disc = (turned[0] / 100) ** 2 + (turned[1] / 60) ** 2 <= 1
    line = disc & ~ndimage.binary_erosion(disc)
    np.save(tmp_path / "o.npy", line)
    assert np.array_equal(read_mask(tmp_path / "o.npy", fill=True).array, disc)


def test_an_outline_with_a_gap_is_said_not_guessed(tmp_path):
    mask = np.asarray(Image.open(ellipse(tmp_path / "o.png", (60, 40, 240, 160)))).copy()
    mask[90:110, 200:] = 0
    Image.fromarray(mask).save(tmp_path / "gap.png")
    with pytest.raises(DataError, match=r"gap\.png: the outline is not closed"):
        read_mask(tmp_path / "gap.png", fill=True)


def test_an_empty_mask_has_nothing_to_fill(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "e.png")
    assert read_mask(tmp_path / "e.png", fill=True).array.sum() == 0


def test_without_fill_an_outline_stays_an_outline(tmp_path):
    path = ellipse(tmp_path / "o.png", (60, 40, 240, 160))
    assert read_mask(path).array.sum() < 0.2 * read_mask(path, fill=True).array.sum()
