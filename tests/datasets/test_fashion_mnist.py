"""Fashion-MNIST: idx files become PNGs and a table, bit for bit, once; what is not Fashion-MNIST's is said."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from medaudit import datasets as rooms
from medaudit.cohort import read_image
from medaudit.datasets import fashion_mnist
from medaudit.errors import DataError, UsageError


def idx(array: np.ndarray) -> bytes:
    """An idx file as http://yann.lecun.com/exdb/mnist describes it: magic number, lengths, bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def made(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for prefix, n in (("train", 6), ("t10k", 4)):
        found[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        found[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    return found


@pytest.fixture
def arrays(monkeypatch) -> dict[str, np.ndarray]:
    """Made-up pictures that pass for the published ones."""
    found = made()
    sums = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in found.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", sums)
    return found


def write(folder: Path, arrays: dict[str, np.ndarray], ending: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = gzip.compress(idx(array), mtime=0) if ending == ".gz" else idx(array)
        (folder / f"{name}{ending}").write_bytes(data)
    return folder


@pytest.mark.parametrize(("below", "ending"), [("", ".gz"), ("data/fashion", ".gz"), ("FashionMNIST/raw", "")])
def test_the_arrays_are_read_from_debians_the_authors_and_torchvisions_folders(tmp_path, arrays, below, ending):
    write(tmp_path / below, arrays, ending)
    found = fashion_mnist.read(tmp_path)
    assert list(found) == ["train", "test"]
    for split, prefix in (("train", "train"), ("test", "t10k")):
        assert np.array_equal(found[split][0], arrays[f"{prefix}-images-idx3-ubyte"])
        assert np.array_equal(found[split][1], arrays[f"{prefix}-labels-idx1-ubyte"])


def test_the_pngs_hold_the_arrays_to_the_bit(tmp_path, arrays):
    cohort = fashion_mnist.extract(write(tmp_path / "in", arrays), tmp_path / "out")
    assert rooms.check(cohort) == []
    assert cohort.table["split"].to_list() == ["train"] * 6 + ["test"] * 4
    pixels = [read_image(case.files["image"]).array for case in cohort.cases()]
    assert np.array_equal(pixels, np.concatenate([arrays[f"{p}-images-idx3-ubyte"] for p in ("train", "t10k")]))
    labels = np.concatenate([arrays[f"{p}-labels-idx1-ubyte"] for p in ("train", "t10k")])
    assert cohort.table["label"].to_list() == labels.tolist()
    assert cohort.table["kind"].to_list() == [fashion_mnist.CLASSES[label] for label in labels]
    assert "10 pictures (6 train, 4 test)" in cohort.notes[0]
    assert rooms.load("fashion-mnist", tmp_path / "out").table.equals(cohort.table)


def test_a_second_call_changes_nothing_and_another_set_is_refused(tmp_path, arrays, monkeypatch):
    source, out = write(tmp_path / "in", arrays), tmp_path / "out"
    first = fashion_mnist.extract(source, out)
    times = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert fashion_mnist.extract(source, out).table.equals(first.table)
    assert {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()} == times
    other = made(seed=1)
    sums = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in other.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", sums)
    with pytest.raises(UsageError, match="holds another set"):
        fashion_mnist.extract(write(tmp_path / "b", other), out)


def test_the_packed_folder_itself_says_what_to_do(tmp_path, arrays):
    write(tmp_path, arrays)
    with pytest.raises(DataError, match=rf"fashion_mnist\.extract\('{tmp_path}', FOLDER\)"):
        rooms.load("fashion-mnist", tmp_path)


def test_mnists_digits_under_the_same_names_are_refused(tmp_path, arrays):
    write(tmp_path, made(seed=1))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: its bytes are not Fashion-MNIST's"):
        fashion_mnist.read(tmp_path)


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda file: file.unlink(), "t10k-labels-idx1-ubyte.gz: not found beside the other files"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "t10k-labels-idx1-ubyte.gz: cannot be read"),
        (lambda file: file.write_bytes(b"<html>"), "t10k-labels-idx1-ubyte.gz: cannot be read"),
        (lambda file: file.write_bytes(gzip.compress(b"")), "is no idx file of 1 axes of bytes, or is cut off"),
        (lambda file: file.write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\5abcd")), "is no idx file of 1 axes"),
        (lambda file: file.write_bytes(gzip.compress(b"\0\0\x08\3" + b"\xff" * 12)), "is no idx file of 1 axes"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_named(tmp_path, arrays, break_it, why):
    write(tmp_path, arrays)
    break_it(tmp_path / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=why):
        fashion_mnist.read(tmp_path)


def test_a_folder_without_any_of_it_says_where_debian_puts_it(tmp_path):
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist.read(tmp_path)
    with pytest.raises(DataError, match=r"extract\('/usr/share/datasets/fashion-mnist', FOLDER\)"):
        rooms.load("fashion-mnist", tmp_path)


def test_a_table_of_another_folder_is_refused(tmp_path):
    (tmp_path / "cases.csv").write_text("case_id,label\na,1\n")
    with pytest.raises(DataError, match="has no column 'split'; is it a folder that fashion_mnist"):
        rooms.load("fashion-mnist", tmp_path)


@pytest.mark.skipif(not Path(fashion_mnist.DEBIAN).is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_debians_package_holds_what_is_published():
    found = fashion_mnist.read()
    for split, n in (("train", 60_000), ("test", 10_000)):
        images, labels = found[split]
        assert images.shape == (n, 28, 28)
        assert np.bincount(labels).tolist() == [n // 10] * 10
    # The published mean and SD of the training pixels, 0.2860 and 0.3530.
    scaled = found["train"][0] / np.float32(255)
    assert scaled.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert scaled.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)
