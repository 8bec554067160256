"""The same voxels at the same place, whichever format they were written in and by whichever program."""

import gzip
import struct

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from medaudit.cohort import check_geometry, on_common_grid, read_image, read_mask
from medaudit.errors import DataError

SHAPE, SPACING = (6, 5, 4), (0.8, 0.7, 2.5)
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def place(direction=TURNED):
    """Return an affine in RAS+ mm with an oblique direction and an origin off centre."""
    affine = np.eye(4)
    affine[:3, :3] = direction * SPACING
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


def intensities(seed=0):
    return np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16)


def itk(array, affine):
    """Return the SimpleITK image of an (i, j, k) array placed by a RAS affine."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def slice_dataset(array, affine, k, series, frame):
    """Return slice ``k`` of an (i, j, k) array as a CT image: columns are i, rows are j."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    step = np.linalg.norm(lps[:3, :3], axis=0)
    uid = generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = CTImageStorage, uid, series
    ds.StudyInstanceUID, ds.FrameOfReferenceUID, ds.Modality = "1.2.3", frame, "CT"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "p", "p^p", "", ""
    ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", "", "", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.PositionReferenceIndicator = 1, k + 1, ""
    ds.ImagePositionPatient = [round(float(v), 8) for v in lps[:3, 3] + lps[:3, 2] * k]
    ds.ImageOrientationPatient = [*map(float, lps[:3, 0] / step[0]), *map(float, lps[:3, 1] / step[1])]
    ds.PixelSpacing, ds.SliceThickness = [float(step[1]), float(step[0])], float(step[2])
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = (
        array.shape[1],
        array.shape[0],
        1,
        "MONOCHROME2",
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope = -1000, 1
    ds.PixelData = np.ascontiguousarray((array[:, :, k].astype(int) + 1000).T.astype(np.uint16)).tobytes()
    return ds


def write_series(folder, array, affine):
    """Write an array as a DICOM series, its files named so that their order is not the slices'."""
    folder.mkdir(parents=True)
    series, frame = generate_uid(), generate_uid()
    slices = [slice_dataset(array, affine, k, series, frame) for k in range(array.shape[2])]
    for k, ds in enumerate(slices):
        ds.save_as(folder / f"{(7 * k) % 5}_{k}.dcm", enforce_file_format=True)
    return slices


def write_seg(path, slices, masks, kind=hd.seg.SegmentationTypeValues.BINARY):
    """Write masks (i, j, k) as a SEG with a segment each; planes with nothing on them are left out, as is usual."""
    segments = [
        hd.seg.SegmentDescription(
            segment_number=n,
            segment_label=f"thing {n}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Breast,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in range(1, len(masks) + 1)
    ]
    pixels = np.stack([m.transpose(2, 1, 0) for m in masks], axis=-1).astype(np.uint8)
    hd.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="us",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    ).save_as(path)
    return path


def written(folder, array, affine):
    """Write the same volume in every format that knows a place, by the format's own library."""
    nib.save(nib.Nifti1Image(array, affine), folder / "a.nii")
    nib.save(nib.Nifti1Image(array, affine), folder / "a.nii.gz")
    nib.save(nib.Nifti2Image(array, affine), folder / "b.nii.gz")
    for name in ("a.nrrd", "a.nhdr", "a.mha", "a.mhd", "c.nii.gz"):
        sitk.WriteImage(itk(array, affine), str(folder / name), useCompression=True)
    write_series(folder / "series", array, affine)
    return [
        folder / n
        for n in ("a.nii", "a.nii.gz", "b.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "c.nii.gz", "series")
    ]


@pytest.mark.parametrize("direction", [np.eye(3), TURNED], ids=["straight", "oblique"])
def test_every_format_gives_the_same_voxels_at_the_same_place(tmp_path, direction):
    array, affine = intensities(), place(direction)
    for path in written(tmp_path, array, affine):
        volume = read_image(path)
        assert np.array_equal(volume.array, array), path.name
        np.testing.assert_allclose(volume.spacing_mm, SPACING, rtol=1e-6, err_msg=path.name)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-4, err_msg=path.name)


def test_the_series_place_is_the_one_that_simpleitk_gives(tmp_path):
    array, affine = intensities(), place()
    write_series(tmp_path / "series", array, affine)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    theirs = reader.Execute()
    ours = read_image(tmp_path / "series")
    for index in [(0, 0, 0), (5, 4, 3), (2, 0, 1)]:
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((ours.affine @ [*index, 1])[:3], (-x, -y, z), atol=1e-4)
        assert ours.array[index] == theirs[index]


def test_a_mask_is_the_same_in_every_format(tmp_path):
    mask, affine = (intensities() > 300).astype(np.uint8), place()
    paths = written(tmp_path, mask, affine)
    first = read_mask(paths[0])
    for path in paths:
        again = read_mask(path)
        assert again.array.dtype == np.uint8
        assert np.array_equal(again.array, mask), path.name
        check_geometry("c", first, again)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", ">f4", "<f4", "<f8"])
def test_nifti_of_every_voxel_type_reads_as_nibabel_reads_it(tmp_path, dtype):
    array = (intensities() % 100).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(np.dtype(dtype))
    nib.save(nib.Nifti1Image(array, place(), header, dtype=np.dtype(dtype)), tmp_path / "a.nii.gz")
    volume = read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.array, nib.load(tmp_path / "a.nii.gz").get_fdata())
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")


def test_a_scaled_nifti_is_scaled_as_nibabel_scales_it(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(intensities() * 0.25 + 7, place(), header)
    image.to_filename(tmp_path / "a.nii.gz")
    saved = nib.load(tmp_path / "a.nii.gz")
    assert saved.dataobj.slope != 1
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz").array, saved.get_fdata(), rtol=1e-5, atol=1e-3)


def test_a_mask_that_is_stored_scaled_is_still_a_mask(tmp_path):
    image = nib.Nifti1Image(np.full(SHAPE, 255, np.uint8), place())
    image.header.set_slope_inter(1 / 255, 0)
    raw = bytearray(nib.Nifti1Image(np.full(SHAPE, 255, np.uint8), place()).to_bytes())
    raw[112:120] = struct.pack("<ff", 1 / 255, 0.0)
    (tmp_path / "a.nii").write_bytes(raw)
    assert read_mask(tmp_path / "a.nii").array.min() == 1


def test_a_header_in_metres_or_micrometres_is_read_in_millimetres_as_itk_does(tmp_path):
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        affine = place()
        affine[:3] *= factor
        image = nib.Nifti1Image(intensities(), affine)
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii.gz")
        volume = read_image(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(volume.affine, place(), atol=1e-3)
        np.testing.assert_allclose(
            volume.spacing_mm, sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetSpacing(), rtol=1e-5
        )


def test_a_gzip_of_several_members_is_read_through(tmp_path):
    raw = nib.Nifti1Image(intensities(), place()).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(
        gzip.compress(raw[:200], mtime=0) + gzip.compress(raw[200:500], mtime=0) + gzip.compress(raw[500:], mtime=0)
    )
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array, intensities())


def test_a_gzipped_file_without_gz_in_its_name_is_read(tmp_path):
    (tmp_path / "a.nii").write_bytes(gzip.compress(nib.Nifti1Image(intensities(), place()).to_bytes(), mtime=0))
    assert np.array_equal(read_image(tmp_path / "a.nii").array, intensities())


def test_a_trailing_dimension_of_one_is_dropped_and_more_is_an_error(tmp_path):
    nib.save(nib.Nifti1Image(intensities()[..., None], place()), tmp_path / "one.nii.gz")
    assert read_image(tmp_path / "one.nii.gz").shape == SHAPE
    nib.save(nib.Nifti1Image(np.stack([intensities()] * 2, -1), place()), tmp_path / "two.nii.gz")
    with pytest.raises(DataError, match=r"two\.nii\.gz: has 4 dimensions"):
        read_image(tmp_path / "two.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([itk(intensities(), place())] * 2), str(tmp_path / "two.nrrd"))
    with pytest.raises(DataError, match=r"two\.nrrd: has 4 dimensions"):
        read_image(tmp_path / "two.nrrd")


def test_a_flat_image_is_rows_and_columns_in_every_format(tmp_path):
    rows = np.arange(15, dtype=np.uint8).reshape(5, 3)
    image = sitk.GetImageFromArray(rows)
    image.SetSpacing((0.3, 0.5))
    for name in ("a.mha", "a.nrrd", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(rows).save(tmp_path / name)
    np.save(tmp_path / "a.npy", rows)
    for name in ("a.mha", "a.nrrd", "a.nii.gz", "a.png", "a.tif", "a.bmp", "a.npy"):
        volume = read_image(tmp_path / name, spacing_mm=(0.5, 0.3))
        assert np.array_equal(volume.array, rows), name
        np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.3), rtol=1e-6, err_msg=name)


def ultrasound(path, pixels, spacing=None):
    """Write an ultrasound image: no position in the patient."""
    ds = slice_dataset(np.zeros((2, 2, 1), np.int16), np.eye(4), 0, "1.2", "1.3")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, name)
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    if spacing:
        ds.PixelSpacing = list(spacing)
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds.save_as(path, enforce_file_format=True)
    return path


def test_an_ultrasound_file_is_rows_and_columns_with_its_pixel_spacing(tmp_path):
    pixels = np.arange(15, dtype=np.uint8).reshape(5, 3)
    volume = read_image(ultrasound(tmp_path / "us", pixels, (0.5, 0.25)))
    assert np.array_equal(volume.array, pixels)
    assert volume.spacing_mm == (0.5, 0.25)
    assert volume.affine is None
    assert read_image(ultrasound(tmp_path / "us2.dcm", pixels)).spacing_mm is None
    colour = read_image(ultrasound(tmp_path / "us3.dcm", np.dstack([pixels, pixels + 1, pixels])))
    assert colour.colour
    assert colour.shape == (5, 3)


def test_one_slice_with_a_position_is_a_volume_of_one_slice(tmp_path):
    array, affine = intensities()[:, :, :1], place()
    write_series(tmp_path / "s", array, affine)
    for path in (tmp_path / "s", next((tmp_path / "s").iterdir())):
        volume = read_image(path)
        assert np.array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def test_a_segment_is_found_at_its_place_although_empty_planes_are_not_stored(tmp_path):
    slices = write_series(tmp_path / "series", intensities(), place())
    lesion, organ = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    lesion[2:4, 1:3, 1:3] = 1
    organ[:, :4, 2:] = 1
    seg = write_seg(tmp_path / "seg.dcm", slices, [lesion, organ])
    image = read_image(tmp_path / "series")
    for label, truth in ((1, lesion), (2, organ)):
        mask = read_mask(seg, label=label)
        grid, placed = on_common_grid(image, mask)
        check_geometry("c", grid, placed)
        assert np.array_equal(grid.array, image.array)
        assert np.array_equal(placed.array, truth)
    with pytest.raises(DataError, match=r"choose a segment with --label; the SEG has: 1 \(thing 1\), 2 \(thing 2\)"):
        read_mask(seg)
    with pytest.raises(DataError, match="choose a segment"):
        read_mask(seg, label=3)


def test_the_only_segment_needs_no_label_and_two_segs_meet_on_a_common_grid(tmp_path):
    slices = write_series(tmp_path / "series", intensities(), place())
    below, above = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    below[1:5, 1:4, 0:2] = 1
    above[1:5, 1:4, 1:4] = 1
    masks = [read_mask(write_seg(tmp_path / f"{n}.dcm", slices, [m])) for n, m in (("b", below), ("a", above))]
    first, second = on_common_grid(*masks)
    check_geometry("c", first, second)
    assert np.sum(first.array & second.array) == np.sum(below & above)
    assert np.sum(first.array | second.array) == np.sum(below | above)


def test_a_seg_of_another_series_stays_where_it_is_and_is_refused(tmp_path):
    slices = write_series(tmp_path / "one", intensities(), place())
    shifted = place()
    shifted[:3, 3] += 0.4
    write_series(tmp_path / "two", intensities(), shifted)
    mask = read_mask(write_seg(tmp_path / "seg.dcm", slices, [np.ones(SHAPE, np.uint8)]))
    with pytest.raises(DataError, match=r"case c7: mask .*origin was shifted"):
        check_geometry("c7", *on_common_grid(read_image(tmp_path / "two"), mask))


def test_a_series_with_a_slice_missing_is_refused(tmp_path):
    write_series(tmp_path / "s", intensities(), place())
    next((tmp_path / "s").glob("*_1.dcm")).unlink()
    with pytest.raises(DataError, match="s: cannot be read"):
        read_image(tmp_path / "s")


def test_two_series_in_a_folder_are_refused(tmp_path):
    write_series(tmp_path / "s", intensities(), place())
    for ds in write_series(tmp_path / "t", intensities(), place()):
        ds.save_as(tmp_path / "s" / f"t{ds.InstanceNumber}.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="holds 2 DICOM series"):
        read_image(tmp_path / "s")


def test_a_folder_without_dicom_and_a_dicom_without_pixels_are_refused(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match="no DICOM file in this folder"):
        read_image(tmp_path / "s")
    ds = slice_dataset(intensities(), place(), 0, "1.2", "1.3")
    del ds.PixelData
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="DICOM without pixels"):
        read_image(tmp_path / "a.dcm")
    assert pydicom.dcmread(tmp_path / "a.dcm").Modality == "CT"


def test_an_array_of_an_npz_is_chosen_by_name(tmp_path):
    a, b = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    np.savez(tmp_path / "two.npz", mask=a, image=b, other=b)
    np.savez_compressed(tmp_path / "one.npz", whatever=b)
    np.savez(tmp_path / "none.npz", x=a, y=b)
    assert np.array_equal(read_mask(tmp_path / "two.npz").array, a)
    assert np.array_equal(read_image(tmp_path / "two.npz").array, b)
    assert np.array_equal(read_mask(str(tmp_path / "two.npz") + "#other").array, b)
    assert np.array_equal(read_mask(tmp_path / "one.npz").array, b)
    with pytest.raises(DataError, match=r"has no array 'mask'; choose with 'none\.npz#name' among: x, y"):
        read_mask(tmp_path / "none.npz")


def test_a_pickle_in_an_npy_is_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read"):
        read_mask(tmp_path / "a.npy")


def test_transparency_is_left_away_unless_it_alone_varies(tmp_path):
    disc = np.zeros((6, 7), np.uint8)
    disc[2:4, 2:5] = 255
    opaque = np.dstack([disc, disc, disc, np.full_like(disc, 255)])
    soft = np.dstack([disc, disc, disc, np.where(disc, 255, 75).astype(np.uint8)])
    only = np.dstack([np.full_like(disc, 255)] * 3 + [disc])
    for name, pixels in (("opaque", opaque), ("soft", soft), ("only", only)):
        Image.fromarray(pixels, "RGBA").save(tmp_path / f"{name}.png")
        assert np.array_equal(read_mask(tmp_path / f"{name}.png").array, disc // 255), name


def test_palette_bilevel_and_sixteen_bit_masks_are_read(tmp_path):
    mask = np.zeros((6, 7), np.uint8)
    mask[2:4, 2:5] = 1
    palette = Image.fromarray(mask, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "1.png")
    Image.fromarray(mask.astype(np.uint16) * 65535).save(tmp_path / "16.png")
    for name in ("p.png", "1.png", "16.png"):
        assert np.array_equal(read_mask(tmp_path / name).array, mask), name
    assert read_image(tmp_path / "p.png").colour


def test_a_grey_picture_saved_in_colour_is_grey_and_a_coloured_one_is_not(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "g.png")
    Image.fromarray(np.dstack([grey, grey, grey + 1])).save(tmp_path / "c.png")
    assert np.array_equal(read_image(tmp_path / "g.png").array, grey)
    coloured = read_image(tmp_path / "c.png")
    assert (coloured.colour, coloured.shape) == (True, (3, 4))
    with pytest.raises(DataError, match="is a colour image"):
        read_mask(tmp_path / "c.png")


def test_the_resolution_of_a_picture_is_not_its_spacing(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "a.png", dpi=(300, 300))
    assert read_image(tmp_path / "a.png").spacing_mm is None


def test_a_picture_of_several_pages_is_refused(tmp_path):
    pages = [Image.new("L", (4, 3), v) for v in (0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="has 2 pages"):
        read_mask(tmp_path / "a.tif")


def test_a_slicer_segmentation_that_was_saved_cropped_meets_its_image(tmp_path):
    whole, affine = np.zeros(SHAPE, np.uint8), place()
    whole[2:4, 1:4, 1:3] = 1
    part = affine.copy()
    part[:3, 3] = (affine @ [2, 1, 1, 1])[:3]
    sitk.WriteImage(itk(whole[2:4, 1:4, 1:3], part), str(tmp_path / "m.seg.nrrd"))
    sitk.WriteImage(itk(intensities(), affine), str(tmp_path / "i.nrrd"))
    image, mask = on_common_grid(read_image(tmp_path / "i.nrrd"), read_mask(tmp_path / "m.seg.nrrd"))
    check_geometry("c", image, mask)
    assert np.array_equal(mask.array, whole)


@pytest.mark.parametrize("plane", range(SHAPE[2]))
def test_a_segment_on_one_plane_only_is_found_on_that_plane(tmp_path, plane):
    slices = write_series(tmp_path / "series", intensities(), place())
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:3, 2:4, plane] = 1
    image = read_image(tmp_path / "series")
    for ds in slices:
        ds.SliceThickness = 3.0  # Slices may overlap: thickness is not the step, and one plane knows no other.
    grid, mask = on_common_grid(image, read_mask(write_seg(tmp_path / "seg.dcm", slices, [truth])))
    check_geometry("c", grid, mask)
    assert np.array_equal(mask.array, truth)
    mask, grid = on_common_grid(read_mask(tmp_path / "seg.dcm"), image)
    check_geometry("c", grid, mask)
    assert np.array_equal(mask.array, truth)


def test_a_label_map_segmentation_is_read_by_segment(tmp_path):
    slices = write_series(tmp_path / "series", intensities(), place())
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[:2, :, 1:3] = 1
    second[3:, :, 2:] = 1
    seg = write_seg(tmp_path / "seg.dcm", slices, [first, second], hd.seg.SegmentationTypeValues.LABELMAP)
    image = read_image(tmp_path / "series")
    for label, truth in ((1, first), (2, second)):
        grid, mask = on_common_grid(image, read_mask(seg, label=label))
        check_geometry("c", grid, mask)
        assert np.array_equal(mask.array, truth)


def test_pictures_in_printers_colours_have_three_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 4)).astype(np.uint8)
    Image.fromarray(pixels, "CMYK").save(tmp_path / "a.tif")
    volume = read_image(tmp_path / "a.tif")
    assert volume.array.shape == (5, 4, 3)
    assert volume.shape == (5, 4)
