"""A mask is 0 and one other value; what is not is said in one line that names the file, and no byte breaks this."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medaudit.cohort import read_image, read_mask
from medaudit.errors import DataError

SUFFIXES = [
    ".nii",
    ".nii.gz",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".dcm",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".npy",
    ".npz",
    ".bin",
]
DISC = np.zeros((12, 10, 4), np.uint8)
DISC[3:8, 2:7, 1:3] = 1


def nifti(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def said(path, read=read_mask, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_is_0_and_1_whatever_it_is_stored_as(tmp_path, dtype, high):
    if np.dtype(dtype).itemsize == 1 and high > np.iinfo(dtype).max:
        pytest.skip("does not fit")
    mask = read_mask(nifti(tmp_path / "a.nii.gz", (DISC * high).astype(dtype))).array
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, DISC)


def test_a_boolean_array_is_a_mask(tmp_path):
    np.save(tmp_path / "a.npy", DISC.astype(bool))
    assert np.array_equal(read_mask(tmp_path / "a.npy").array, DISC)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value):
    mask = read_mask(nifti(tmp_path / "a.nii.gz", np.full((3, 4, 5), value, np.uint8))).array
    assert mask.mean() == (value > 0)


def test_a_mask_is_not_copied_to_eight_times_its_size(tmp_path):
    mask = read_mask(nifti(tmp_path / "a.nii", DISC)).array
    assert mask.base is not None  # a view of the file's bytes
    assert not mask.flags.writeable


def test_more_values_than_two_are_named_with_the_option_that_picks_one(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", (np.arange(60) % 4).reshape(3, 4, 5).astype(np.uint8))
    assert "the values are 0, 1, 2, 3; expected a binary mask, 0 with 1 or 255; pick one value" in said(path)
    assert "--label" in said(path)
    assert read_mask(path, label=2).array.sum() == 15


def test_a_label_map_in_which_one_label_is_left_is_not_taken_for_binary(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", DISC * 2)
    assert "the values are 0, 2" in said(path)
    assert np.array_equal(read_mask(path, label=2).array, DISC)
    assert read_mask(path, label=1).array.sum() == 0


def test_a_label_for_a_mask_of_0_and_255_is_a_mistake_not_an_empty_mask(tmp_path):
    assert "leave --label away" in said(nifti(tmp_path / "a.nii.gz", DISC * 255), label=1)


def test_nan_in_a_mask_is_counted(tmp_path):
    array = DISC.astype(np.float32)
    array[0, 0, :3] = np.nan
    path = nifti(tmp_path / "a.nii.gz", array)
    assert "3 of 480 values are NaN or infinite" in said(path)
    assert "3 of 480 values are NaN or infinite" in said(path, label=1)


def test_nan_in_an_image_is_counted_unless_it_is_allowed(tmp_path):
    array = DISC.astype(np.float32)
    array[0, 0, :2] = np.nan, np.inf
    path = nifti(tmp_path / "a.nii.gz", array)
    assert "2 of 480 values are NaN or infinite" in said(path, read_image)
    assert np.isnan(read_image(path, allow_nan=True).array).sum() == 1


def test_probabilities_are_no_mask_and_no_label_map(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", DISC.astype(np.float32) * 0.7)
    assert "threshold probabilities" in said(path)
    assert "whole numbers" in said(path, label=1)


def test_negative_values_are_no_mask(tmp_path):
    assert "the values are -1, 0" in said(nifti(tmp_path / "a.nii.gz", -DISC.astype(np.int8)))


def test_a_mask_that_jpeg_has_blurred_is_refused_with_the_cure(tmp_path):
    Image.fromarray(DISC[:, :, 1].repeat(4, 0).repeat(4, 1) * 255).save(tmp_path / "a.jpg")
    assert "export it as PNG" in said(tmp_path / "a.jpg")


def test_complex_and_colour_voxels_are_no_mask(tmp_path):
    assert "expected one real number a voxel" in said(nifti(tmp_path / "a.nii", DISC.astype(np.complex64)))
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "expected one real number a voxel" in said(nifti(tmp_path / "b.nii", rgb))


def test_a_missing_file_is_said(tmp_path):
    assert "no such file" in said(tmp_path / "a.nii.gz")


def test_a_file_that_may_not_be_read_or_is_a_folder_is_said(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    assert said(tmp_path / "a.nii.gz")
    (tmp_path / "notes.txt").write_text("hello")
    assert "cannot tell what kind of file it is" in said(tmp_path / "notes.txt")


def test_a_corrupt_gzip_is_said(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    assert "gzip stream is broken" in said(path) or "truncated" in said(path)


def test_a_gzip_whose_checksum_is_wrong_is_said(tmp_path):
    raw = bytearray(gzip.compress(nib.Nifti1Image(DISC, np.eye(4)).to_bytes(), mtime=0))
    raw[-6] ^= 0xFF
    (tmp_path / "a.nii.gz").write_bytes(raw)
    assert "gzip stream is broken" in said(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.npy", "a.npz", "a.png"])
def test_a_truncated_file_is_said_in_every_format(tmp_path, name, part):
    noise = np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8)
    path = tmp_path / name
    if ".nii" in name:
        nifti(path, noise)
    elif name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    elif name == "a.png":
        Image.fromarray(noise[0]).save(path)
    else:
        (np.save if name.endswith("y") else np.savez)(path, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert said(path)


def test_a_text_file_called_nifti_is_said(tmp_path):
    (tmp_path / "a.nii.gz").write_text("<html>please log in</html>")
    assert "is not gzipped" in said(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii").write_text("<html>please log in</html>" * 40)
    assert "not a NIfTI file" in said(tmp_path / "a.nii")


def test_a_header_that_promises_a_million_million_voxels_reserves_no_memory(tmp_path):
    raw = bytearray(nib.Nifti2Image(DISC, np.eye(4)).to_bytes())
    raw[16:80] = struct.pack("<8q", 3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
    (tmp_path / "a.nii").write_bytes(raw)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(raw), mtime=0))
    for name in ("a.nii", "a.nii.gz"):
        assert "the header promises 1,000,000,000,544 bytes" in said(tmp_path / name)
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10000 10000 10000\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(100))
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 10000 10000 10000\nElementType = MET_UCHAR\nElementDataFile = "
    (tmp_path / "a.mha").write_bytes(meta.encode() + b"LOCAL\n" + bytes(100))
    (tmp_path / "a.mhd").write_bytes(meta.encode() + b"a.raw\n")
    (tmp_path / "a.raw").write_bytes(bytes(100))
    (tmp_path / "a.nhdr").write_bytes(header.encode().replace(b"\n\n", b"\ndata file: a.raw\n\n"))
    for name in ("a.nrrd", "a.mha", "a.mhd", "a.nhdr"):
        assert "the header promises 1,000,000,000,000 bytes" in said(tmp_path / name)


def test_a_gzip_bomb_is_not_unpacked_beyond_what_its_header_asks_for(tmp_path):
    raw = nib.Nifti1Image(DISC, np.eye(4)).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw + bytes(200_000_000), 1, mtime=0))
    assert np.array_equal(read_mask(tmp_path / "a.nii.gz").array, DISC)


@pytest.mark.parametrize("dims", [(3, 0, 4, 5), (3, -2, 4, 5), (0, 1, 1, 1), (9, 1, 1, 1)])
def test_a_header_with_impossible_dimensions_is_said(tmp_path, dims):
    raw = bytearray(nib.Nifti1Image(DISC, np.eye(4)).to_bytes())
    raw[40:48] = struct.pack("<4h", *dims)
    (tmp_path / "a.nii").write_bytes(raw)
    assert said(tmp_path / "a.nii")


def test_an_affine_that_is_not_a_number_or_flat_is_said(tmp_path):
    for first_row in ((np.nan, 0, 0, 0), (0, 0, 0, 0)):
        raw = bytearray(nib.Nifti1Image(DISC, np.eye(4)).to_bytes())
        raw[280:296] = struct.pack("<4f", *first_row)
        (tmp_path / "a.nii").write_bytes(raw)
        assert "affine is not finite or not invertible" in said(tmp_path / "a.nii")


def test_a_spacing_that_contradicts_the_file_or_its_axes_is_said(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", DISC, np.diag([0.8, 0.8, 2, 1]))
    assert read_mask(path, spacing_mm=(0.8, 0.8, 2)).spacing_mm == pytest.approx((0.8, 0.8, 2))
    assert "the file's spacing is 0.8 x 0.8 x 2 mm, the table says 1 x 1 x 1 mm" in said(path, spacing_mm=(1.0,))
    assert "does not fit an image of 3 axes" in said(path, spacing_mm=(0.8, 0.8))
    np.save(tmp_path / "b.npy", DISC)
    assert read_mask(tmp_path / "b.npy", spacing_mm=(0.8,)).spacing_mm == (0.8, 0.8, 0.8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", SUFFIXES)
@given(raw=st.binary(max_size=800))
def test_any_bytes_are_a_mask_or_one_line_of_complaint(tmp_path, suffix, raw):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(raw)
    complaint = f"{path}"
    try:
        read_mask(path)
    except DataError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert str(path) in complaint


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".dcm", ".bin", ".jpeg", ".tiff")])
@given(data=st.data())
def test_a_mask_with_a_few_bytes_changed_is_a_mask_or_one_line_of_complaint(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    if ".nii" in suffix:
        nifti(path, DISC)
    elif suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        sitk.WriteImage(sitk.GetImageFromArray(DISC), str(path))
    elif suffix in (".npy", ".npz"):
        (np.save if suffix == ".npy" else np.savez_compressed)(path, DISC)
    else:
        Image.fromarray(DISC[:, :, 1] * 255).save(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 500)))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    complaint = ""
    try:
        mask = read_mask(path).array
        assert set(np.unique(mask)) <= {0, 1}
    except DataError as error:
        complaint = str(error)
    assert "\n" not in complaint
