"""`medaudit metrics`: the numbers of two masks in every format, for people and for scripts."""

import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from small_cohorts import ball, save

A, B = ball((10, 10, 10), 5), ball((11, 10, 10), 5)
SQUARE = np.zeros((32, 32), np.uint8)
SQUARE[5:15, 5:15] = 255
DICE = 2 * (A & B).sum() / (A.sum() + B.sum())


def write(path, mask):
    """Write a mask in the format of the file's name."""
    if ".nii" in path.name:
        save(path, mask)
    elif path.suffix in (".nrrd", ".mha", ".mhd"):
        image = sitk.GetImageFromArray(mask.transpose(2, 1, 0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # RAS, as the NIfTI files here
        sitk.WriteImage(image, str(path))
    elif path.suffix == ".npy":
        np.save(path, mask)
    elif path.suffix == ".npz":
        np.savez(path, mask=mask)
    else:
        Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.nrrd", "m.mha", "m.mhd", "m.npy", "m.npz"])
def test_a_volume_has_the_same_numbers_in_every_format(medaudit, tmp_path, name):
    said = medaudit("metrics", write(tmp_path / "a.nii.gz", A), write(tmp_path / name, B), "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["dice"] == pytest.approx(DICE)
    assert said.json["hd_mm"] == 1
    assert said.json["reference_volume_ml"] == pytest.approx(A.sum() / 1000)
    assert said.json["spacing_known"] is True


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp", "m.npy"])
def test_a_picture_has_the_same_numbers_in_every_format(medaudit, tmp_path, name):
    files = write(tmp_path / "a.png", SQUARE), write(tmp_path / name, np.roll(SQUARE, 2, 0))
    plain, scaled = medaudit("metrics", *files, "--json"), medaudit("metrics", *files, "--json", "--spacing", "0.5")
    assert plain.json["dice"] == scaled.json["dice"] == pytest.approx(0.8)
    assert (plain.json["hd_mm"], plain.json["spacing_known"]) == (2, False)
    assert (scaled.json["hd_mm"], scaled.json["spacing_known"]) == (1, True)
    assert scaled.json["reference_area_mm2"] == pytest.approx(25)


def test_a_spacing_for_each_axis_is_in_the_order_of_the_array(medaudit, tmp_path):
    files = write(tmp_path / "a.npy", A), write(tmp_path / "b.npy", B)
    assert medaudit("metrics", *files, "--json", "--spacing", "3;1;1").json["hd_mm"] == 3
    assert medaudit("metrics", *files, "--json", "--spacing", "1;1;3").json["hd_mm"] == 1


def test_label_maps_are_compared_label_by_label(medaudit, tmp_path):
    first, second = A + 2 * (B & ~A.astype(bool)), B + 2 * (A & ~B.astype(bool))
    files = write(tmp_path / "a.nii.gz", first.astype(np.uint8)), write(tmp_path / "b.nii.gz", second.astype(np.uint8))
    medaudit("metrics", *files, "--json").refuses(1, "a.nii.gz", "0, 1, 2", "--label")
    one = medaudit("metrics", *files, "--json", "--label", "1").json
    assert one["dice"] == pytest.approx(DICE)
    both = medaudit("metrics", *files, "--json", "--label", "1", "--label", "2").json
    assert both["1"] == one
    assert both["2"]["dice"] == 0
    assert medaudit("metrics", *files, "--json", "--label", "9").json["dice"] is None
    assert "\n2\n" in medaudit("metrics", *files, "--label", "1", "--label", "2").out


def test_json_says_null_for_what_is_undefined_and_inf_for_what_is_endless(medaudit, tmp_path):
    full, empty = write(tmp_path / "full.nii.gz", A), write(tmp_path / "empty.nii.gz", A * 0)
    missed = medaudit("metrics", full, empty, "--json").json
    assert (missed["dice"], missed["precision"], missed["hd95_mm"]) == (0, None, "inf")
    penalised = medaudit("metrics", full, empty, "--json", "--empty", "penalise").json
    assert penalised["hd95_mm"] == pytest.approx(24 * 3**0.5)
    nothing = medaudit("metrics", empty, empty, "--json").json
    assert (nothing["dice"], nothing["hd95_mm"], nothing["reference_voxels"]) == (None, None, 0)
    agreed = medaudit("metrics", empty, empty, "--json", "--empty", "penalise").json
    assert (agreed["dice"], agreed["hd95_mm"]) == (1, 0)


def test_the_table_for_people_has_the_numbers_of_the_json(medaudit, tmp_path):
    files = write(tmp_path / "a.nii.gz", A), write(tmp_path / "b.nii.gz", B)
    lines = dict(line.split() for line in medaudit("metrics", *files).out.splitlines())
    numbers = medaudit("metrics", *files, "--json").json
    assert set(lines) == set(numbers)
    assert float(lines["dice"]) == pytest.approx(numbers["dice"], rel=1e-5)


DAMAGED = {
    "probabilities": (lambda p: save(p, A * np.float32(0.5)), ("0, 0.5", "threshold")),
    "NaN": (lambda p: save(p, np.where(A, np.nan, 0).astype(np.float32)), ("515 of 13824", "NaN")),
    "4-D": (lambda p: save(p, np.stack([A, B], -1)), ("4 dimensions", "split")),
    "shape": (lambda p: save(p, A[:20]), ("20 x 24 x 24 against 24 x 24 x 24", "Resample")),
    "affine": (lambda p: save(p, A, np.diag([-1, -1, 1, 1.0])), ("other affine", "LPS")),
    "missing": (lambda p: None, ("no such file",)),
    "no image": (lambda p: p.write_text("hi"), ("not gzipped",)),
    "cut": (lambda p: (save(p, A), p.write_bytes(p.read_bytes()[:-40])), ("truncated",)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_mask_that_cannot_be_compared_is_named_with_the_cure(medaudit, tmp_path, damage):
    harm, words = DAMAGED[damage]
    harm(tmp_path / "b.nii.gz")
    medaudit("metrics", write(tmp_path / "a.nii.gz", A), tmp_path / "b.nii.gz", "--json").refuses(1, "b.nii.gz", *words)


def test_a_volume_against_a_picture_and_a_jpeg_are_refused(medaudit, tmp_path):
    square = write(tmp_path / "a.png", SQUARE)
    medaudit("metrics", square, write(tmp_path / "b.npy", A)).refuses(1, "a picture, the other a volume")
    Image.fromarray(SQUARE).save(tmp_path / "c.jpg", quality=50)
    medaudit("metrics", square, tmp_path / "c.jpg").refuses(1, "c.jpg", "export it as PNG")
    (tmp_path / "d.txt").write_text("hi")
    medaudit("metrics", square, tmp_path / "d.txt").refuses(1, "d.txt", "expected NIfTI")


@pytest.mark.parametrize("spacing", ["0", "-1", "one", "inf", "nan", "", "1;;2"])
def test_a_spacing_that_cannot_be_one_is_refused(medaudit, tmp_path, spacing):
    file = write(tmp_path / "a.npy", A)
    medaudit("metrics", file, file, "--spacing", spacing).refuses(2, "--spacing", "0.8;0.8;1.1")


def test_a_spacing_of_other_axes_or_against_the_files_own_is_refused(medaudit, tmp_path):
    file, nifti = write(tmp_path / "a.npy", A), write(tmp_path / "a.nii.gz", A)
    medaudit("metrics", file, file, "--spacing", "1;2").refuses(1, "a.npy", "3 axes")
    medaudit("metrics", nifti, nifti, "--spacing", "2").refuses(1, "a.nii.gz", "1 x 1 x 1 mm")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--empty", "zero", ("nan", "penalise", "ignore")),
        ("--surface", "mesh", ("voxel or area",)),
        ("--hd95", "mean", ("pooled or max",)),
        ("--tolerance-mm", "-1", ("0 or more",)),
    ],
)
def test_a_definition_that_is_not_offered_is_refused(medaudit, tmp_path, option, value, words):
    file = write(tmp_path / "a.npy", A)
    medaudit("metrics", file, file, option, value).refuses(2, option, value, *words)


def test_every_definition_that_is_offered_is_taken(medaudit, tmp_path):
    files = write(tmp_path / "a.nii.gz", A), write(tmp_path / "b.nii.gz", B)
    for option, values in (("--surface", ("voxel", "area")), ("--hd95", ("pooled", "max"))):
        for value in values:
            assert medaudit("metrics", *files, option, value, "--json").json["dice"] == pytest.approx(DICE)
    tolerances = medaudit("metrics", *files, "--tolerance-mm", "0.5", "--tolerance-mm", "3", "--json").json
    assert 0 < tolerances["nsd_0.5mm"] < tolerances["nsd_3mm"] == 1


def test_a_script_reads_one_json_object_from_the_real_program(tmp_path):
    files = [str(write(tmp_path / name, mask)) for name, mask in (("a.nii.gz", A), ("b.nii.gz", B))]
    call = [sys.executable, "-m", "medaudit", "metrics", *files, "--json"]
    said = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["dice"] == pytest.approx(DICE)
    assert said.stderr == ""
