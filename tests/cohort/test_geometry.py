"""Two volumes on other grids are refused, and the line says case, files, difference and the likely cure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medaudit.cohort import Volume, check_geometry, on_common_grid
from medaudit.errors import DataError

SHAPE = (40, 30, 20)


def volume(name, affine=None, shape=SHAPE, **more):
    affine = np.diag([0.8, 0.7, 2.5, 1.0]) if affine is None else affine
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    return Volume(np.zeros(shape, np.uint8), spacing, affine, Path(name), **more)


def place(shift=(0.0, 0.0, 0.0), turn=0.0, spacing=(0.8, 0.7, 2.5)):
    affine = np.eye(4)
    c, s = np.cos(turn), np.sin(turn)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = np.array([-20.0, 5.0, 3.0]) + shift
    return affine


def said(first, second):
    with pytest.raises(DataError) as caught:
        check_geometry("c7", first, second, names=("image", "expert"))
    message = str(caught.value)
    assert message.startswith("case c7: expert b.nii does not lie on image a.nii: ")
    assert "\n" not in message
    return message


def test_the_same_grid_is_accepted_also_after_rounding_to_float32():
    oblique = place(turn=0.3)
    check_geometry("c", volume("a", oblique), volume("b", oblique.astype(np.float32).astype(float)))


@pytest.mark.parametrize(
    ("affine", "cure"),
    [
        (place(shift=(0.4, 0, 0)), "the origin was shifted"),
        (place(turn=0.05), "the axes point elsewhere"),
        (place() @ np.diag([-1, 1, 1, 1]), "the axes point elsewhere"),
        (np.diag([-1, -1, 1, 1]) @ place(), "x and y have the opposite sign"),
    ],
)
def test_another_place_names_the_distance_and_the_cure(affine, cure):
    message = said(volume("a.nii", place()), volume("b.nii", affine))
    assert "mm apart" in message
    assert cure in message


def test_the_distance_is_that_of_the_farthest_corner():
    turn = 0.05
    message = said(volume("a.nii", place()), volume("b.nii", place(turn=turn)))
    corner = np.hypot(0.8 * 39, 0.7 * 29)
    # A rotation about the first voxel moves the opposite corner along a chord.
    assert f"{2 * np.sin(turn / 2) * corner:.4g} mm apart" in message


def test_a_hundredth_of_a_voxel_is_tolerated_and_a_tenth_is_not():
    check_geometry("c", volume("a", place()), volume("b", place(shift=(0.005, 0, 0))))
    assert "mm apart" in said(volume("a.nii", place()), volume("b.nii", place(shift=(0.07, 0, 0))))


def test_an_identity_affine_is_recognised_as_a_header_that_was_lost():
    said_ = said(volume("a.nii", place(spacing=(1, 1, 1))), volume("b.nii", np.eye(4)))
    assert "saved without the other's header" in said_


def test_another_spacing_is_named_in_millimetres():
    message = said(volume("a.nii", place()), volume("b.nii", place(spacing=(0.8, 0.8, 2.5))))
    assert "spacing 0.8 x 0.8 x 2.5 mm against 0.8 x 0.7 x 2.5 mm" in message


def test_swapped_axes_are_recognised():
    assert "axes seem to be in another order" in said(volume("a.nii"), volume("b.nii", shape=SHAPE[::-1]))


def test_another_shape_is_named():
    message = said(volume("a.nii"), volume("b.nii", shape=(40, 30, 19)))
    assert "shape 40 x 30 x 19 against 40 x 30 x 20; was it resampled or cropped?" in message


def test_a_picture_against_a_volume_is_named():
    flat = Volume(np.zeros((40, 30), np.uint8), None, None, Path("b.nii"))
    assert "one is a picture, the other a volume" in said(volume("a.nii"), flat)


def test_what_a_file_does_not_say_is_not_compared():
    bare = Volume(np.zeros(SHAPE, np.uint8), None, None, Path("b.npy"))
    check_geometry("c", volume("a"), bare)
    check_geometry("c", bare, volume("a"))


def test_a_colour_image_has_the_shape_of_its_pixels():
    image = Volume(np.zeros((8, 9, 3), np.uint8), None, None, Path("a.png"), colour=True)
    check_geometry("c", image, Volume(np.zeros((8, 9), np.uint8), None, None, Path("b.png")))


def test_only_files_that_may_be_cropped_are_completed():
    part = volume("b", place(shift=(0.8, 0, 2.5)), shape=(4, 4, 4))
    whole = volume("a", place())
    assert on_common_grid(whole, part) == (whole, part)
    first, second = on_common_grid(whole, replace(part, cropped=True))
    assert first.array is whole.array
    check_geometry("c", first, second)


def test_a_cropped_mask_light_years_away_reserves_no_memory():
    whole = volume("a", place())
    far = volume("b", place(shift=(0.8e6, 0.7e6, 2.5e6)), shape=(4, 4, 4), cropped=True)
    assert on_common_grid(whole, far)[1].shape == (4, 4, 4)
