"""Leaks between sets of frames: copies are found however they were saved, look-alikes and dark images are not."""

import io
from dataclasses import replace
from os import environ
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaudit.errors import DataError, UsageError
from medaudit.training import leaks as rooms
from medaudit.training.frame_pixels import framed
from medaudit.training.frames import shrink
from medaudit.training.leaks import Fingerprints, leaks, of_frames, of_images, transductive, within


def speckled(seed: int, rows: int = 90, columns: int = 120) -> np.ndarray:
    """Return a random picture with structures of several sizes and speckle, uint8."""
    rng = np.random.default_rng(seed)
    made = np.zeros((rows, columns))
    for cells, weight in ((6, 90), (20, 50), (60, 20)):
        coarse = rng.random((cells, cells)).astype(np.float32)
        made += weight * np.asarray(Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC))
    return np.clip(made + rng.normal(0, 8, made.shape), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


COPIES = {
    "jpeg": lambda image: jpeg(image, 50),
    "brighter": lambda image: np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
    "cropped by a pixel": lambda image: image[1:, 1:],
    "half the size": lambda image: np.asarray(Image.fromarray(image).reduce(2)),
}


def small(*images: np.ndarray) -> np.ndarray:
    return np.stack([framed(image, 64, "letterbox") for image in images])


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_near_its_original_and_no_other(how):
    originals = [speckled(i) for i in range(12)]
    first = of_images(small(*originals), [f"a{i}" for i in range(12)])
    second = of_images(small(*(COPIES[how](image) for image in originals[::-1])), [f"b{i}" for i in range(11, -1, -1)])
    found = leaks(first, second)
    assert sorted((one.kind, one.first, one.second) for one in found) == sorted(
        ("near", f"a{i}", f"b{i}") for i in range(12)
    )
    assert all(0 <= one.distance <= 1 - rooms.CORRELATED for one in found)


def test_identical_frames_and_patients_are_named():
    images = small(*(speckled(i) for i in range(6)))
    first = of_images(images[[0, 0, 1, 2]], ["a", "a2", "b", "c"], ["p", "p", "q", None])
    second = of_images(images[[0, 3, 4, 5]], ["d", "e", "f", "g"], [None, "q", "q", "r"])
    found = {(one.kind, one.first, one.second, one.distance) for one in leaks(first, second)}
    assert found == {("identical", "a", "d", 0), ("identical", "a2", "d", 0), ("patient", "b", "e", 0)}


def test_near_pairs_are_those_of_brute_force_however_they_are_blocked(monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, k, replace=False)) for k in rng.integers(0, 9, 60)]
    other = np.asarray([int(base[rng.integers(40)]) ^ flip for flip in flips], dtype=np.uint64)
    first = Fingerprints([f"a{i}" for i in range(40)], [None] * 40, [f"{i}" for i in range(40)], base)
    second = Fingerprints([f"b{i}" for i in range(60)], [None] * 60, [f"{i}'" for i in range(60)], other)
    expected = [
        (f"a{i}", f"b{j}", (int(a) ^ int(b)).bit_count() / 64)
        for i, a in enumerate(base)
        for j, b in enumerate(other)
        if (int(a) ^ int(b)).bit_count() <= 4
    ]
    for pairs_at_once in (2**22, 130, 1):
        monkeypatch.setattr(rooms, "_BLOCK", pairs_at_once)
        assert [(one.first, one.second, one.distance) for one in leaks(first, second)] == expected
    assert 0 < len(expected) < 60


def test_dark_images_of_one_hash_are_no_duplicates():
    rng = np.random.default_rng(1)
    dark = np.zeros((200, 64, 64), dtype=np.uint8)
    for image in dark:  # black, but for a dim echo somewhere
        row, column = rng.integers(4, 60, 2)
        image[row : row + 3, column : column + 3] = rng.integers(8, 14, (3, 3))[: 64 - row, : 64 - column]
    first, second = of_images(dark[:100]), of_images(dark[100:])
    by_hash = leaks(replace(first, images=None), replace(second, images=None))
    apart = [one for one in leaks(first, second) if one.kind == "near"]
    assert len(by_hash) > 1000
    assert len(apart) < len(by_hash) / 50


def test_embeddings_find_what_hashes_do_not():
    images = small(*(speckled(i) for i in range(8)))
    vectors = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    first = of_images(images[:4], list("abcd"), embeddings=vectors)
    second = of_images(images[4:], list("efgh"), embeddings=np.roll(vectors, 1, axis=0) * 3)
    found = leaks(first, second, cosine=0.99)
    assert [(one.kind, one.first, one.second) for one in found] == [
        ("near", "a", "f"), ("near", "b", "g"), ("near", "c", "h"), ("near", "d", "e")
    ]  # fmt: skip
    assert max(one.distance for one in found) < 1e-6
    with pytest.raises(UsageError, match="no embeddings"):
        leaks(first, replace(second, embeddings=None), cosine=0.99)


def test_test_frames_that_were_in_pretraining_are_counted_once():
    images = [speckled(i) for i in range(6)]
    pretraining = of_images(small(*images[:3], jpeg(images[0], 40)))
    test = of_images(small(images[0], images[4], COPIES["brighter"](images[2]), images[5]), list("wxyz"))
    found = transductive(pretraining, test)
    assert (found.ids, found.of, found.share) == (("w", "y"), 4, 0.5)
    with pytest.raises(DataError, match="0 test frames"):
        transductive(pretraining, of_images(np.zeros((0, 64, 64), dtype=np.uint8)))


def test_one_frame_under_two_patients_is_a_group_and_the_frames_of_one_are_not():
    a, b, c = (speckled(i) for i in range(3))
    images = small(a, b, jpeg(a, 60), a, b, jpeg(b, 60), c, c)
    patients = ["p", "q", "p", "r", "q", "q", "s", None]
    found = within(of_images(images, list("abcdefgh"), patients))
    assert found == [(("a", "c", "d"), ("p", "r"))]


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(DataError, match="expected uint8"):
        of_images(np.zeros((2, 8, 8)))
    with pytest.raises(DataError, match="2 frames have 1 patients"):
        of_images(np.zeros((2, 8, 8), dtype=np.uint8), patients=["p"])


@pytest.mark.realdata
def test_images_of_different_women_are_not_called_duplicates(tmp_path):
    folder = Path(environ.get("MEDAUDIT_DATA", Path(__file__).parents[2] / "../shared/data")) / "hc18/training_set"
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set MEDAUDIT_DATA")
    found = sorted(path.name for path in folder.glob("*HC.png"))
    (tmp_path / "list.txt").write_text("\n".join(str(folder.resolve() / name) for name in found))
    frames = of_frames(shrink(tmp_path / "list.txt", tmp_path / "out", side=128, patient=r"/(\d+)_\d?HC"))
    assert within(frames) == []
    assert len(within(replace(frames, images=None))) > 0  # the hash alone would call some duplicates
    second = replace(frames, patients=[f"{i}" for i in range(len(frames))])
    named = {name for group, _ in within(second) for name in (Path(path).name for path in group)}
    assert {"392_HC.png", "392_2HC.png", "788_HC.png", "788_2HC.png"} <= named  # one scan, published twice
