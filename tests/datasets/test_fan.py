"""The fan of drawn sectors, whose apex is known: whole, tilted, cropped, with text, boxes and shadows over them."""

import numpy as np
import pytest

from medaudit.datasets.fan import Fan, find_fan
from medaudit.errors import DataError


def sector(shape, apex, near, far, left, right, seed=0):
    """Draw a sector of speckle-like grey on black; angles in degrees from straight down."""
    rows, columns = np.indices(shape, dtype=float)
    distance = np.hypot(rows - apex[0], columns - apex[1])
    angle = np.rad2deg(np.arctan2(columns - apex[1], rows - apex[0]))
    inside = (distance >= near) & (distance <= far) & (angle >= left) & (angle <= right)
    grey = np.random.default_rng(seed).integers(30, 120, shape)
    return np.where(inside, grey, 0).astype(np.uint8), inside


SECTORS = {
    "apex above the picture": ((270, 400), (-60.0, 199.5), 70, 320, -30, 30),
    "apex in the picture": ((400, 500), (5.0, 250.0), 12, 380, -42, 42),
    "far apex, narrow": ((300, 300), (-220.0, 150.0), 230, 500, -15, 15),
    "tilted": ((300, 420), (-80.0, 180.0), 90, 370, -18, 34),
    "large": ((540, 800), (-120.0, 400.0), 140, 640, -33, 33),
}


@pytest.mark.parametrize("name", SECTORS)
def test_the_apex_is_found_within_a_few_pixels_and_the_beams_within_a_degree(name):
    image, inside = sector(*SECTORS[name])
    _, apex, near, far, left, right = SECTORS[name]
    fan = find_fan(image)
    assert np.hypot(fan.apex[0] - apex[0], fan.apex[1] - apex[1]) < 0.02 * max(image.shape)
    assert np.rad2deg(fan.left) == pytest.approx(left, abs=1)
    assert np.rad2deg(fan.right) == pytest.approx(right, abs=1)
    assert fan.near == pytest.approx(near, abs=6)
    assert fan.far == pytest.approx(min(far, np.hypot(*(np.argwhere(inside) - apex).T).max()), abs=6)
    assert (fan.mask & inside).sum() / (fan.mask | inside).sum() > 0.98


@pytest.mark.parametrize("disturbed", ["text", "box", "shadow", "vessel at the rim"])
def test_text_boxes_and_shadows_move_nothing(disturbed):
    shape, apex, *rest = SECTORS["apex above the picture"]
    image, inside = sector(shape, apex, *rest)
    clean = find_fan(image)
    rows, columns = np.indices(shape)
    if disturbed == "text":
        image[20:100, 1:4] = 220  # a grey bar
        image[10:18:2, 330:390] = 255  # a line of text
        image[40:260:20, 394:399] = 255  # depth ticks
    elif disturbed == "box":
        image[220:, 300:] = 0
        inside = inside & ~((rows >= 220) & (columns >= 300))
    elif disturbed == "shadow":
        angle = np.rad2deg(np.arctan2(columns - apex[1], rows - apex[0]))
        image = np.where((angle > 22) & (rows > 100), image // 60, image)
    else:
        image[np.hypot(rows - 150, columns - 100) < 25] = 2
        image[~inside] = 0
    fan = find_fan(image)
    assert np.hypot(fan.apex[0] - clean.apex[0], fan.apex[1] - clean.apex[1]) < 8
    assert (fan.mask & inside).sum() / (fan.mask | inside).sum() > 0.95


def test_a_sector_with_one_visible_edge_is_taken_as_symmetric_about_the_pictures_middle():
    image, _ = sector((300, 400), (-80.0, 199.5), 90, 380, -33, 33)
    # Poor contact leaves the right side dark from an upright line on, which is no edge, and hides all of that edge.
    image[:, 240:] = 0
    fan = find_fan(image)
    assert fan.apex[0] == pytest.approx(-80, abs=6)
    assert fan.apex[1] == 199.5


@pytest.mark.parametrize("box", [(0, 300, 0, 400), (20, 290, 60, 340)])
def test_a_linear_probe_has_parallel_beams_and_its_depth_is_the_row(box):
    top, bottom, left, right = box
    image = np.zeros((300, 400), np.uint8)
    image[top:bottom, left:right] = np.random.default_rng(0).integers(30, 120, (bottom - top, right - left))
    fan = find_fan(image)
    assert fan.apex is None
    assert (fan.near, fan.far, fan.left, fan.right) == pytest.approx((top, bottom - 1, left, right - 1), abs=2)
    assert np.array_equal(fan.mask, image > 0)
    depth = fan.depth()
    assert np.ptp(depth, axis=1).max() == 0
    assert depth[(top + bottom) // 2, 5] == pytest.approx(0.5, abs=0.01)
    assert not fan.angle().any()


def test_depth_and_beams_run_from_0_to_1_and_from_minus_1_to_1():
    shape, apex, near, far, left, right = SECTORS["apex above the picture"]
    fan = Fan(np.ones(shape, bool), apex, near, far, np.deg2rad(left), np.deg2rad(right))
    distance = np.hypot(100 - apex[0], 250 - apex[1])
    assert fan.depth()[100, 250] == pytest.approx((distance - near) / (far - near))
    assert fan.angle()[100, 250] == pytest.approx(np.arctan2(250 - apex[1], 100 - apex[0]))
    assert fan.across()[100, 250] == pytest.approx(np.rad2deg(fan.angle()[100, 250]) / 30)
    assert (fan.depth().min(), fan.depth().max()) == (0, 1)


@pytest.mark.parametrize("apex", [(-60.0, 199.5), None])
def test_a_smooth_picture_survives_the_way_to_the_polar_grid_and_back(apex):
    limits = (0, 269, 0, 399) if apex is None else (70, 320, -0.52, 0.52)
    fan = Fan(np.ones((270, 400), bool), apex, *limits)
    rows, columns = np.indices((270, 400))
    image = 100 + 50 * np.sin(rows / 20) * np.cos(columns / 25)
    inside = (fan.depth() > 0.02) & (fan.depth() < 0.98) & (np.abs(fan.across()) < 0.98)
    back = fan.from_polar(fan.to_polar(image))
    # Bilinear twice: half the second derivative times a quarter pixel squared, both ways.
    assert np.abs(back - image)[inside].max() < 0.1
    if apex is None:
        assert np.allclose(back, image)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.zeros((40, 40)), "nothing in the image is lit"),
        (np.full((40, 40), np.nan), "NaN or infinite"),
        (np.zeros((4, 40)), "8 x 8 or larger"),
        (np.zeros((40, 40, 3)), r"expected grey levels \(rows, columns\)"),
    ],
)
def test_what_is_no_image_is_said(image, why):
    with pytest.raises(DataError, match=why):
        find_fan(image)


def test_a_fan_without_extent_is_refused():
    with pytest.raises(DataError, match="near < far"):
        Fan(np.ones((4, 4), bool), None, 3, 3, 0, 3)


@pytest.mark.realdata
def test_most_real_fetal_images_show_a_sector_and_most_breast_images_a_rectangle(public_data):
    from medaudit.cohort import read_image

    heads = sorted((public_data / "hc18" / "training_set").glob("*HC.png"))[::25]
    breasts = sorted((public_data / "breast_lesions_usg").glob("*/case[0-9][0-9][0-9].png"))[::8]
    sectors = []
    for paths in (heads, breasts):
        fans = []
        for path in paths:
            pixels = read_image(path).array
            fans.append(find_fan(pixels if pixels.ndim == 2 else pixels.mean(axis=2)))
        sectors.append(np.mean([fan.apex is not None for fan in fans]))
        assert min(fan.mask.mean() for fan in fans) > 0.25
    assert sectors[0] > 0.8
    assert sectors[1] < 0.25
