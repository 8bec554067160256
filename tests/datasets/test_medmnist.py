"""MedMNIST: a npz becomes PNGs and a table, bit for bit, once; what is not MedMNIST's is said."""

import numpy as np
import pytest

from medaudit import datasets as rooms
from medaudit.cohort import read_image
from medaudit.datasets import medmnist
from medaudit.errors import DataError, UsageError


def arrays(n=3, shape=(6, 5), labels=1, seed=0):
    rng = np.random.default_rng(seed)
    sets = {}
    for split in ("train", "val", "test"):
        sets[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        sets[f"{split}_labels"] = rng.integers(0, 2, (n, labels), dtype=np.uint8)
    return sets


def write(path, **sets):
    np.savez(path, **sets)
    return path


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_the_pngs_hold_the_arrays_to_the_bit(tmp_path, shape):
    sets = arrays(shape=shape)
    cohort = medmnist.extract(write(tmp_path / "mademnist.npz", **sets), tmp_path / "out")
    assert rooms.check(cohort) == []
    assert cohort.name == "mademnist"
    assert cohort.table["split"].to_list() == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    pixels = [read_image(case.files["image"]).array for case in cohort.cases()]
    assert np.array_equal(pixels, np.concatenate([sets[f"{s}_images"] for s in ("train", "val", "test")]))
    labels = np.concatenate([sets[f"{s}_labels"] for s in ("train", "val", "test")])
    assert cohort.table["label"].to_list() == labels[:, 0].tolist()
    assert "names no patients" in " ".join(cohort.notes)


def test_a_second_call_changes_nothing_and_the_folder_loads(tmp_path):
    npz = write(tmp_path / "a.npz", **arrays())
    first = medmnist.extract(npz, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    assert medmnist.extract(npz, tmp_path / "out").table.equals(first.table)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()} == times
    assert medmnist.load(tmp_path / "out").table.equals(first.table)


def test_several_findings_have_a_column_each(tmp_path):
    sets = arrays(labels=3)
    table = medmnist.extract(write(tmp_path / "a.npz", **sets), tmp_path / "out").table
    found = table.filter(split="train").select("label_0", "label_1", "label_2").to_numpy()
    assert np.array_equal(found, sets["train_labels"])


def test_another_sets_folder_is_refused(tmp_path):
    medmnist.extract(write(tmp_path / "a.npz", **arrays()), tmp_path / "out")
    with pytest.raises(UsageError, match="holds another set"):
        medmnist.extract(write(tmp_path / "b.npz", **arrays(seed=1)), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"val_images": np.zeros((3, 4, 4, 4), np.uint8)}, "pictures and not volumes"),
        ({"val_images": np.zeros((3, 4, 4))}, "float64"),
        ({"test_labels": np.zeros((2, 1), np.uint8)}, "each of the 3 images"),
        ({"test_labels": np.array([[{}]] * 3, dtype=object)}, "cannot be read as an npz"),
    ],
)
def test_a_file_that_is_not_medmnists_is_said(tmp_path, change, why):
    with pytest.raises(DataError, match=why):
        medmnist.extract(write(tmp_path / "a.npz", **{**arrays(), **change}), tmp_path / "out")


def test_a_missing_or_broken_file_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        medmnist.extract(tmp_path / "a.npz", tmp_path / "out")
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="cannot be read as an npz"):
        medmnist.extract(tmp_path / "a.npz", tmp_path / "out")
    with pytest.raises(DataError, match="has no array 'train_images'"):
        medmnist.extract(write(tmp_path / "b.npz", images=np.zeros(3)), tmp_path / "out")
    with pytest.raises(DataError, match=r"write the images first.*a\.npz"):
        medmnist.load(tmp_path)


@pytest.mark.realdata
def test_the_real_pneumonia_set_has_its_counts(public_data, tmp_path):
    cohort = medmnist.extract(public_data / "medmnist" / "pneumoniamnist.npz", tmp_path)
    counts = {(s, y): n for s, y, n in cohort.table.group_by("split", "label").len().iter_rows()}
    # The train split is the thinned variant that the data's README describes.
    assert counts == {
        ("train", 0): 388, ("train", 1): 3494, ("val", 0): 135, ("val", 1): 389, ("test", 0): 234, ("test", 1): 390,
    }  # fmt: skip
    first = next(cohort.cases())
    assert read_image(first.files["image"]).shape == (28, 28)
