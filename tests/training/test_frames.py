"""Unlabelled images become frames: every kind of file, the levels kept, the bad ones named, the same bytes again."""

import hashlib
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medaudit.cohort import Cohort, Role
from medaudit.errors import DataError, UsageError
from medaudit.training.frames import open_frames, shrink

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"


def texture(seed: int, rows: int = 40, columns: int = 60) -> np.ndarray:
    """Return a smooth random picture, (rows, columns) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC))


def save_dicom(path: Path, frames: np.ndarray, **tags: object) -> None:
    """Write (n, rows, columns) or, in colour, (n, rows, columns, 3) frames as one uncompressed clip."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ULTRASOUND, generate_uid()
    clip = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    clip.SOPClassUID, clip.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    clip.Modality, clip.PatientID = "US", "P7"
    clip.NumberOfFrames, (clip.Rows, clip.Columns) = len(frames), frames.shape[1:3]
    colour, bits = frames.ndim == 4, 8 * frames.dtype.itemsize
    clip.SamplesPerPixel, clip.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        clip.PlanarConfiguration = 0
    clip.BitsAllocated = clip.BitsStored = bits
    clip.HighBit, clip.PixelRepresentation = bits - 1, 0
    clip.PixelData = frames.tobytes()
    for name, value in tags.items():
        setattr(clip, name, value)
    clip.save_as(path, enforce_file_format=True)


def folder_of(root: Path, n: int, side: int = 24) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(texture(i, side, side)).save(root / f"{i // 2:03d}_{i}.png")
    return root


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def reasons(frames) -> dict[str, str]:
    return {one.path: one.reason for one in frames.skipped}


def test_a_folder_of_every_kind_becomes_one_array_in_sorted_order(tmp_path):
    source = tmp_path / "in"
    (source / "b/deep").mkdir(parents=True)
    grey = texture(0)
    Image.fromarray(grey).save(source / "b/deep/z.PNG")
    Image.fromarray(grey).save(source / "a.bmp")
    Image.fromarray(grey).save(source / "c.tif")
    Image.fromarray(grey).save(source / "d.jpeg", quality=95)
    save_dicom(source / "e.dcm", grey[None])
    save_dicom(source / "1.2.840.99", grey[None])  # as archives call them
    (source / "notes.txt").write_text("not an image")
    Image.fromarray(grey).save(source / ".hidden.png")
    frames = shrink(source, tmp_path / "out", side=32)
    assert frames.table["frame_id"].to_list() == ["1.2.840.99", "a.bmp", "b/deep/z.PNG", "c.tif", "d.jpeg", "e.dcm"]
    assert (frames.images.shape, frames.images.dtype, frames.side) == ((6, 32, 32), np.uint8, 32)
    lossless = frames.table.filter(pl.col("path") != "d.jpeg")
    assert lossless["sha256"].n_unique() == 1  # the same pixels, whatever the file
    assert frames.table["sha256"].n_unique() == 2
    assert frames.table["patient_id"].to_list() == ["P7", None, None, None, None, "P7"]
    assert frames.skipped == ()


def test_letterbox_stretch_and_crop_are_what_pillow_makes(tmp_path):
    wide = texture(3, 40, 80)
    Image.fromarray(wide).save(tmp_path / "w.png")
    (tmp_path / "list.txt").write_text("w.png\n")
    made = {
        how: shrink(tmp_path / "list.txt", tmp_path / how, side=20, framing=how).images[0]
        for how in ("letterbox", "stretch", "crop")
    }
    image, bicubic = Image.fromarray(wide), Image.Resampling.BICUBIC
    np.testing.assert_array_equal(made["letterbox"][5:15], np.asarray(image.resize((20, 10), bicubic)))
    assert (made["letterbox"][:5] == wide.min()).all()
    assert (made["letterbox"][15:] == wide.min()).all()
    np.testing.assert_array_equal(made["stretch"], np.asarray(image.resize((20, 20), bicubic)))
    np.testing.assert_array_equal(made["crop"], np.asarray(image.crop((20, 0, 60, 40)).resize((20, 20), bicubic)))


def test_shrinking_does_not_alias(tmp_path):
    rows, columns = np.indices((320, 320))
    Image.fromarray((((rows + columns) % 2) * 255).astype(np.uint8)).save(tmp_path / "checks.png")
    (tmp_path / "list.txt").write_text("checks.png\n")
    small = shrink(tmp_path / "list.txt", tmp_path / "out", side=32).images[0].astype(int)
    assert np.abs(small[2:-2, 2:-2] - 127.5).max() <= 1.5


def test_eight_bits_keep_their_levels_and_others_their_own_range(tmp_path):
    dim = (texture(1, 32, 32) // 8 + 40).astype(np.uint8)  # 40 to 71
    Image.fromarray(dim).save(tmp_path / "a.png")
    Image.fromarray(dim.astype(np.uint16) * 100).save(tmp_path / "b.png")
    Image.fromarray(dim.astype(np.float32) / 7).save(tmp_path / "c.tif")
    save_dicom(tmp_path / "d.dcm", dim[None].astype(np.uint16) * 50)
    save_dicom(tmp_path / "e.dcm", dim[None])
    images = shrink(tmp_path, tmp_path / "out", side=32).images.astype(int)
    low, high = int(dim.min()), int(dim.max())
    own = np.rint((dim.astype(float) - low) / (high - low) * 255)
    np.testing.assert_array_equal(images[0], dim)
    np.testing.assert_array_equal(images[4], dim)
    for i in (1, 2, 3):
        np.testing.assert_allclose(images[i], own, atol=1)


def test_colours_become_their_mean_as_the_house_reads_them(tmp_path):
    colours = np.stack([texture(i, 32, 32) for i in range(3)], axis=-1)
    Image.fromarray(colours).save(tmp_path / "a.png")
    save_dicom(tmp_path / "b.dcm", colours[None])
    images = shrink(tmp_path, tmp_path / "out", side=32).images
    np.testing.assert_allclose(images[0], colours.mean(axis=-1), atol=0.51)
    np.testing.assert_array_equal(images[0], images[1])


def test_each_frame_of_a_clip_is_a_frame(tmp_path):
    clip = np.stack([texture(i, 32, 32) for i in range(4)])
    clip[2] = 9  # the probe was lifted
    save_dicom(tmp_path / "clip.dcm", clip)
    frames = shrink(tmp_path, tmp_path / "out", side=32)
    assert frames.table["frame_id"].to_list() == ["clip.dcm#0", "clip.dcm#1", "clip.dcm#3"]
    assert frames.table["frame"].to_list() == [0, 1, 3]
    assert set(frames.table["path"]) == {"clip.dcm"}
    np.testing.assert_array_equal(frames.images, clip[[0, 1, 3]])
    assert reasons(frames) == {"clip.dcm#2": "one grey value"}


def test_a_clip_that_breaks_off_gives_its_good_frames(tmp_path):
    clip = np.stack([texture(i, 32, 32) for i in range(4)])
    save_dicom(tmp_path / "clip.dcm", clip)
    whole = (tmp_path / "clip.dcm").read_bytes()
    (tmp_path / "clip.dcm").write_bytes(whole[:-1500])
    frames = shrink(tmp_path, tmp_path / "out", side=32)
    np.testing.assert_array_equal(frames.images, clip[:2])
    assert "from frame 2 of 4 on" in reasons(frames)["clip.dcm"]


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path):
    source = folder_of(tmp_path / "in", 1)
    (source / "empty.png").write_bytes(b"")
    (source / "noise.jpg").write_bytes(b"\xff\xd8\xff" + bytes(range(200)))
    (source / "cut.png").write_bytes((source / "000_0.png").read_bytes()[:120])
    (source / "text.dcm").write_text("no DICOM")
    Image.fromarray(np.full((9, 9), 4, dtype=np.uint8)).save(source / "flat.png")
    pages = [Image.fromarray(texture(i)) for i in range(3)]
    pages[0].save(source / "pages.tif", save_all=True, append_images=pages[1:])
    save_dicom(source / "slices.dcm", np.stack([texture(i) for i in range(3)]), ImagePositionPatient=[0, 0, 0])
    save_dicom(source / "promises.dcm", texture(0)[None], NumberOfFrames=2_000_000_000)
    image = np.full((8, 8), np.nan, dtype=np.float32)
    Image.fromarray(image).save(source / "nan.tif")
    frames = shrink(source, tmp_path / "out", side=16)
    said = reasons(frames)
    assert frames.table["path"].to_list() == ["000_0.png"]
    assert said["flat.png"] == "one grey value"
    assert "3 pages" in said["pages.tif"]
    assert "a volume of 3 slices" in said["slices.dcm"]
    assert "2000000000 frames" in said["promises.dcm"]
    assert "NaN" in said["nan.tif"]
    for name in ("empty.png", "noise.jpg", "cut.png", "text.dcm"):
        assert "cannot be read" in said[name]
    assert not [reason for reason in said.values() if str(tmp_path) in reason]


def test_nothing_left_is_an_error_that_names_the_first(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        shrink(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no frame is left of 1 .*a\.png"):
        shrink(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DataError, match="no shrunk frames"):
        open_frames(tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        shrink(tmp_path / "nowhere", tmp_path / "out")


def test_lists_tables_and_cohorts_name_files_and_patients(tmp_path):
    folder_of(tmp_path / "in", 4)
    (tmp_path / "list.txt").write_text("# frames\nin/001_2.png\n\nin/gone.png\n./in/000_0.png\nin/001_2.png\n")
    listed = shrink(tmp_path / "list.txt", tmp_path / "a", side=16, patient=r"/(\d+)_")
    assert listed.table["frame_id"].to_list() == ["in/001_2.png", "in/000_0.png"]
    assert listed.table["patient_id"].to_list() == ["001", "000"]
    assert reasons(listed) == {"in/001_2.png": "is named twice; the first is kept", "in/gone.png": "no such file"}

    rows = pl.DataFrame({"path": ["in/000_0.png", "in/001_2.png"], "patient_id": ["x", None]})
    for name, write in (("t.csv", rows.write_csv), ("t.parquet", rows.write_parquet)):
        write(tmp_path / name)
        table = shrink(tmp_path / name, tmp_path / f"of-{name}", side=16, patient=r"/(\d+)_").table
        assert table["patient_id"].to_list() == ["x", "001"]

    cases = pl.DataFrame({"case_id": ["c1", "c0"], "patient_id": ["p", "q"], "image": ["001_2.png", None]})
    cohort = shrink(Cohort("c", cases, tmp_path / "in", {"image": Role("image")}), tmp_path / "c", side=16)
    assert cohort.table.select("frame_id", "path", "patient_id").rows() == [("c1", "001_2.png", "p")]
    assert reasons(cohort) == {"c0": "the table gives no file for its image"}


def test_the_statistics_are_those_of_all_pixels(tmp_path):
    frames = shrink(folder_of(tmp_path / "in", 5), tmp_path / "out", side=20)
    assert frames.mean == pytest.approx(frames.images.astype(float).mean() / 255, abs=1e-12)
    assert frames.std == pytest.approx(frames.images.astype(float).std() / 255, abs=1e-12)


def test_the_hashes_are_those_of_their_definitions(tmp_path):
    (tmp_path / "in").mkdir()
    grey = texture(5, 72, 72)
    Image.fromarray(grey).save(tmp_path / "in/a.png")
    row = shrink(tmp_path / "in", tmp_path / "out", side=72).table.row(0, named=True)
    blocks = grey.reshape(8, 9, 9, 8).mean(axis=(1, 3))
    bits = "".join("1" if right > left else "0" for line in np.floor(blocks + 0.5) for left, right in pairwise(line))
    assert f"{row['dhash']:064b}" == bits
    assert row["sha256"] == hashlib.sha256(b"|u1 (72, 72)" + grey.tobytes()).hexdigest()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    source = folder_of(tmp_path / "in", 150)
    (source / "bad.png").write_bytes(b"")  # so that frames are moved together, too
    whole = shrink(source, tmp_path / "whole", side=16)
    kill = (
        "import os, sys; from pathlib import Path; from medaudit.training.frames import shrink\n"
        "def dies(stream):\n"
        "    for i, done in enumerate(stream):\n"
        "        if i == 100: os._exit(9)\n"
        "        yield done\n"
        "shrink(Path(sys.argv[1]), Path(sys.argv[2]), side=16, progress=dies)"
    )
    part = tmp_path / "part"
    assert subprocess.run([sys.executable, "-c", kill, source, part]).returncode == 9
    assert not (part / "frames.json").exists()
    with (part / "making.jsonl").open("ab") as journal:
        journal.write(b'{"file": 70, "ke')  # killed while it wrote
    left = []
    frames = shrink(source, part, side=16, progress=lambda stream: left.append(len(stream)) or stream)
    assert left == [151 - 64]
    assert bytes_of(part) == bytes_of(tmp_path / "whole")
    assert len(frames.images) == len(whole.images) == 150


@pytest.mark.parametrize("step", ["_compact", "pl.DataFrame.write_parquet"])
def test_a_run_that_was_killed_while_it_moved_frames_together_goes_on(tmp_path, monkeypatch, step):
    source = folder_of(tmp_path / "in", 6)
    (source / "000_00.png").write_bytes(b"")
    shrink(source, tmp_path / "whole", side=16)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"medaudit.training.frames.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            shrink(source, tmp_path / "part", side=16)
    shrink(source, tmp_path / "part", side=16, progress=lambda stream: pytest.fail("all files were done"))
    assert bytes_of(tmp_path / "part") == bytes_of(tmp_path / "whole")


def test_several_processes_write_the_same_bytes(tmp_path):
    source = folder_of(tmp_path / "in", 20)
    shrink(source, tmp_path / "one", side=16)
    shrink(source, tmp_path / "two", side=16, jobs=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_what_is_there_is_opened_and_another_question_makes_it_anew(tmp_path):
    source = folder_of(tmp_path / "in", 4)
    first = shrink(source, tmp_path / "out", side=16)
    never = lambda stream: pytest.fail("it was there")
    again = shrink(source, tmp_path / "out", side=16, progress=never)
    assert again.table.equals(first.table)
    shutil.copytree(source, tmp_path / "moved")  # the same files at another place, with their times
    assert len(shrink(tmp_path / "moved", tmp_path / "out", side=16, progress=never).images) == 4
    assert shrink(tmp_path / "out", tmp_path / "unused", side=16).folder == tmp_path / "out"
    with pytest.raises(UsageError, match="16 pixels a side, not 32"):
        shrink(tmp_path / "out", tmp_path / "unused", side=32)
    assert shrink(source, tmp_path / "out", side=18).side == 18
    assert shrink(source, tmp_path / "out", side=18, framing="crop").framing == "crop"
    assert shrink(source, tmp_path / "out", side=18, patient=r"^(\d+)").table["patient_id"][0] == "000"
    Image.fromarray(texture(9, 24, 24)).save(source / "new.png")
    assert len(shrink(source, tmp_path / "out", side=18).images) == 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"patient": "(a"}, "not a regular expression"),
        ({"patient": "^a_"}, "0 groups"),
        ({"patient": "^nobody(.)"}, "000_0.png"),
        ({"framing": "zoom"}, "letterbox"),
        ({"side": 8}, "at least 16"),
    ],
)
def test_a_wrong_question_is_refused(tmp_path, wrong, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        shrink(folder_of(tmp_path / "in", 1), tmp_path / "out", **wrong)


def test_a_damaged_folder_says_so(tmp_path):
    shrink(folder_of(tmp_path / "in", 3), tmp_path / "out", side=16)
    os.truncate(tmp_path / "out/frames.npy", 300)
    with pytest.raises(DataError, match="damaged"):
        open_frames(tmp_path / "out")
    (tmp_path / "out/frames.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_frames(tmp_path / "out")
