"""Cases on one grid: what is averaged stays, what was made once is not made again, what changed is."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.cohort import Cohort, Role
from medaudit.errors import DataError
from medaudit.training.prepared import grid_of, prepare, resized


def pictures(root, n=6, shape=(40, 60)):
    """A cohort of discs in noise, with their masks, as PNG."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for folder in ("image", "mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        disc = (rows - 20) ** 2 + (columns - rng.uniform(15, 45)) ** 2 <= 81
        Image.fromarray((80 * disc + rng.integers(0, 60, shape)).astype(np.uint8)).save(root / f"image/{i}.png")
        Image.fromarray((disc * 255).astype(np.uint8)).save(root / f"mask/{i}.png")
    table = pl.DataFrame({"case_id": [f"d{i}" for i in range(n)], "number": range(n)})
    return (
        Cohort("discs", table, root)
        .with_role("image", "image/{number}.png")
        .with_role("reference", "mask/{number}.png")
    )


def test_a_mask_keeps_its_area_and_an_image_its_mean(tmp_path):
    cohort = pictures(tmp_path)
    prepared = prepare(cohort, ["reference"], (8, 12), tmp_path / "prepared")
    for i in range(6):
        mask = np.asarray(Image.open(tmp_path / f"mask/{i}.png")) > 0
        assert prepared.masks["reference"][i].mean() / 255 == pytest.approx(mask.mean(), abs=0.003)
        # Both averaged over 5 x 5 pixels, which is what the grid is of the picture.
        blocks = np.asarray(Image.open(tmp_path / f"image/{i}.png"), float).reshape(8, 5, 12, 5).mean(axis=(1, 3))
        expected = (blocks - blocks.mean()) / blocks.std()
        assert prepared.images[i, 0] == pytest.approx(expected, abs=0.01)


def test_the_grid_follows_the_field_of_view_and_the_networks_stride(tmp_path):
    cohort = pictures(tmp_path)
    assert grid_of(cohort, 48, 8) == (32, 48)
    assert grid_of(cohort, 64, 8) == (40, 64)
    assert grid_of(cohort, 16, 8) == (8, 16)


def test_a_finer_grid_is_interpolated_and_a_coarser_one_averaged():
    ramp = np.tile(np.arange(8.0), (8, 1))
    assert resized(ramp, (4, 4))[0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert resized(ramp, (16, 16))[0, 1:-1] == pytest.approx(np.arange(0.25, 7, 0.5), abs=1e-6)
    assert resized(np.ones((5, 6, 7)), (8, 8, 8)).shape == (8, 8, 8)


def test_what_was_prepared_is_not_prepared_again_unless_a_file_changed(tmp_path, monkeypatch):
    cohort = pictures(tmp_path)
    first = np.array(prepare(cohort, ["reference"], (8, 8), tmp_path / "prepared").images)
    with monkeypatch.context() as patch:
        patch.setattr("medaudit.training.prepared._prepare_case", lambda *_: pytest.fail("prepared again"))
        again = prepare(cohort, ["reference"], (8, 8), tmp_path / "prepared")
    assert np.array_equal(first, again.images)
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "image/3.png")
    changed = prepare(cohort, ["reference"], (8, 8), tmp_path / "prepared")
    assert not changed.images[3].any()
    assert np.array_equal(first[:3], changed.images[:3])


def test_a_preparation_that_was_stopped_goes_on_where_it_was(tmp_path):
    cohort = pictures(tmp_path)
    whole = np.array(prepare(cohort, ["reference"], (8, 8), tmp_path / "whole").images)
    aside = (tmp_path / "image/4.png").rename(tmp_path / "aside.png")
    with pytest.raises(DataError, match=r"case d4: .*no such file"):
        prepare(cohort, ["reference"], (8, 8), tmp_path / "stopped")
    aside.rename(tmp_path / "image/4.png")
    assert np.array_equal(prepare(cohort, ["reference"], (8, 8), tmp_path / "stopped").images, whole)


def test_two_processes_prepare_what_one_does(tmp_path):
    cohort = pictures(tmp_path)
    one, two = (prepare(cohort, ["reference"], (8, 8), tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.masks["reference"], two.masks["reference"])


def test_an_image_and_a_mask_of_other_sizes_are_an_error_that_names_the_case(tmp_path):
    cohort = pictures(tmp_path)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "mask/2.png")
    with pytest.raises(DataError, match=r"case d2: the reference mask is \(40, 50\), the image \(40, 60\)"):
        prepare(cohort, ["reference"], (8, 8), tmp_path / "prepared")


def test_a_missing_mask_is_empty_and_a_missing_image_an_error(tmp_path):
    cohort = pictures(tmp_path)
    paths = [None if i == 1 else f"mask/{i}.png" for i in range(6)]
    some = Cohort(
        "some", cohort.table.with_columns(some=pl.Series(paths)), tmp_path, {**cohort.roles, "labels": Role("some")}
    )
    prepared = prepare(some, ["labels"], (8, 8), tmp_path / "prepared")
    assert not prepared.masks["labels"][1].any()
    assert prepared.masks["labels"][0].any()
    none = Cohort(
        "none", cohort.table.with_columns(nothing=pl.lit(None, pl.String)), tmp_path, {"image": Role("nothing")}
    )
    with pytest.raises(DataError, match="case d0: the table gives no file for its image"):
        grid_of(none, 8, 8)


def test_a_mask_lies_where_its_letterboxed_image_lies(tmp_path):
    picture, mask = np.full((24, 40), 100, np.uint8), np.zeros((24, 40), np.uint8)
    picture[0, 0], picture[8:14, 20:30], mask[8:14, 20:30] = 0, 255, 255
    for name, made in (("image", picture), ("mask", mask)):
        Image.fromarray(made).save(tmp_path / f"{name}.png")
    (tmp_path / "cases.csv").write_text("case_id,image,mask\na,image.png,mask.png\n")
    cohort = Cohort.read(tmp_path / "cases.csv").with_role("image", "image").with_role("mask", "mask")
    for framing in ("letterbox", "crop"):
        made = prepare(cohort, ["mask"], (40, 40), tmp_path / framing, framing=framing)
        assert np.array_equal(made.images[0, 0] > 0.9, made.masks["mask"][0] > 230)
