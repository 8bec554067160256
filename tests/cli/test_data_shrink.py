"""`medaudit data shrink`: what it says, what it writes, what it refuses."""

import numpy as np
import pytest
from PIL import Image
from small_cohorts import small_hc18

from medaudit.training.frames import open_frames


@pytest.fixture
def archive(tmp_path):
    """Return a folder of four images of two patients, two flat ones, and three broken ones."""
    folder = tmp_path / "archive"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a_1", "a_2", "b_1", "b_2"):
        Image.fromarray(rng.integers(0, 255, (30, 40), dtype=np.uint8)).save(folder / f"{name}.png")
    for name in ("flat_1", "flat_2"):
        Image.fromarray(np.full((9, 9), 3, dtype=np.uint8)).save(folder / f"{name}.png")
    for name in ("x", "y", "z"):
        (folder / f"{name}.jpg").write_bytes(b"broken")
    return folder


def test_it_says_what_was_kept_and_names_the_first_three_that_were_not(medaudit, archive, tmp_path):
    said = medaudit("data", "shrink", archive, tmp_path / "out", "--side", 32, "--patient", "^([ab])_")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"{tmp_path / 'out'}: 4 frames of 32 x 32 pixels, letterbox"
    assert lines[1].split() == ["patients", "2"]
    assert lines[3].split() == ["skipped", "5"]
    assert [line.split(":")[0].strip() for line in lines[4:7]] == ["flat_1.png", "flat_2.png", "x.jpg"]
    assert lines[4].endswith("one grey value")
    assert lines[7] == "  and 2 more; --json names all"
    assert open_frames(tmp_path / "out").images.shape == (4, 32, 32)


def test_json_names_all_and_quiet_says_nothing(medaudit, archive, tmp_path):
    about = medaudit("data", "shrink", archive, tmp_path / "out", "--framing", "crop", "--json").json
    frames = open_frames(tmp_path / "out")
    assert (about["frames"], about["side"], about["framing"]) == (4, 256, "crop")
    assert (about["patients"], about["without_patient"]) == (0, 4)
    assert (about["mean"], about["std"]) == (frames.mean, frames.std)
    assert len(about["skipped"]) == 5
    assert set(about["skipped"][0]) == {"path", "reason"}
    quiet = medaudit("data", "shrink", archive, tmp_path / "out", "--framing", "crop", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_named_dataset_gives_its_images_and_patients_and_no_masks(medaudit, tmp_path):
    folder = small_hc18(tmp_path / "hc18", [("000_HC", 90), ("001_HC", 180), ("001_2HC", 190)])
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "training_set/001_HC.png")
    about = medaudit("data", "shrink", folder, tmp_path / "out", "--dataset", "hc18", "--side", 16, "--json").json
    assert about["frames"] + len(about["skipped"]) == 3
    assert set(open_frames(tmp_path / "out").table["frame_id"]) <= {"000_HC", "001_HC", "001_2HC"}
    assert "001" in open_frames(tmp_path / "out").table["patient_id"].to_list()


def test_what_cannot_be_done_is_said_in_a_line(medaudit, archive, tmp_path):
    out = tmp_path / "out"
    medaudit("data", "shrink", tmp_path / "nowhere", out).refuses(1, "nowhere: no such folder")
    medaudit("data", "shrink", archive, out, "--framing", "zoom").refuses(2, "'zoom'", "letterbox")
    medaudit("data", "shrink", archive, out, "--patient", "^nobody(.)").refuses(2, "none of 9 paths", "a_1.png")
    medaudit("data", "shrink", archive, out, "--dataset", "xyzzy").refuses(2, "'xyzzy'")
    assert not out.exists()
    for path in archive.glob("[ab]*"):
        path.unlink()
    medaudit("data", "shrink", archive, out).refuses(1, "no frame is left of 5", "flat_1.png")
    (tmp_path / "file").write_text("")
    medaudit("data", "shrink", archive, tmp_path / "file").refuses(1, "file: cannot be written")
