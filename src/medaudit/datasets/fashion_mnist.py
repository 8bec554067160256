"""Fashion-MNIST: 70,000 grey pictures of clothes of ten kinds, 28 x 28 pixels, Xiao et al. 2017, MIT licence.

Four files in the format of MNIST, packed or not, as Debian's ``dataset-fashion-mnist`` puts them into
``/usr/share/datasets/fashion-mnist`` and as https://github.com/zalandoresearch/fashion-mnist has them::

    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-idx3-ubyte.gz  t10k-labels-idx1-ubyte.gz

No medical images, but the one set of arXiv 2503.22782 that is free and small. A cohort needs a file a case, so
:func:`extract` writes PNGs and a table once, and :func:`load` reads that folder; :func:`read` gives the arrays.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role, read_table
from medaudit.cohort.atomic import replace_file
from medaudit.cohort.bounds import gunzipped
from medaudit.datasets.dataset import Dataset
from medaudit.errors import DataError, UsageError

TABLE = "cases.csv"
LARGEST = 60_000_000
"""Bytes that a file may have, packed or not; the largest has 47 million."""
DEBIAN = "/usr/share/datasets/fashion-mnist"
FOLDERS = ("", "data/fashion", "raw", "FashionMNIST/raw")
"""Where the four files lie: Debian's folder, a clone of the authors' repository, what torchvision downloads."""
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""The kinds, 0 to 9, as the authors' README names them."""
PREFIXES = {"train": "train", "test": "t10k"}

SHA256: Mapping[str, str] = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the unpacked bytes, as we computed them on Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1. Debian packed
the files anew, so the sums of the .gz files are others than those in the authors' README."""


def read(source: str | Path = DEBIAN) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images (N, 28, 28) uint8 and labels (N,) uint8 of ``train`` (60,000) and ``test`` (10,000).

    ``source`` is a folder as in :data:`FOLDERS`. MNIST's digits have files of the same names and shapes, so the bytes
    are compared with :data:`SHA256`. Raises DataError where a file is missing, broken or another one.
    """
    folder = _folder(Path(source))
    found = {}
    for split, prefix in PREFIXES.items():
        images = _idx(folder, f"{prefix}-images-idx3-ubyte", axes=3)
        found[split] = images, _idx(folder, f"{prefix}-labels-idx1-ubyte", axes=1)
    return found


def extract(source: str | Path, folder: str | Path) -> Cohort:
    """Write each picture to ``folder`` as PNG, bit for bit, with a table, and return the cohort.

    Pictures that are there already are left alone; the table comes last. Raises DataError as :func:`read` does, and
    UsageError where ``folder`` holds another set.
    """
    folder = Path(folder)
    sets = read(source)
    rows = [
        (f"{split}_{i + 1:05d}", split, int(label), CLASSES[label])
        for split, (_, labels) in sets.items()
        for i, label in enumerate(labels)
    ]
    table = pl.DataFrame(rows, schema=["case_id", "split", "label", "kind"], orient="row")
    table = table.with_columns(image_path=pl.format("images/{}.png", "case_id"))
    if (folder / TABLE).exists() and not read_table(folder / TABLE).equals(table):
        raise UsageError(f"{folder} holds another set ({TABLE}); give a new folder for Fashion-MNIST")
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        pictures = (image for images, _ in sets.values() for image in images)
        for case_id, picture in zip(table["case_id"], pictures, strict=True):
            path = folder / "images" / f"{case_id}.png"
            if not path.exists():
                part = path.with_name(f".{path.name}")
                Image.fromarray(picture).save(part, format="PNG", compress_level=1)
                os.replace(part, path)
        replace_file(folder / TABLE, table.write_csv().encode(), flush=False)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    return load(folder)


def load(root: Path) -> Cohort:
    """Return what :func:`extract` wrote: ``split`` (train, test), ``label`` (0 to 9), ``kind`` (its name), role image.

    Raises DataError where ``root`` has no such table.
    """
    path = root / TABLE
    if not path.exists():
        source = root if any(_stored(root / below, "train-images-idx3-ubyte") for below in FOLDERS) else DEBIAN
        raise DataError(
            f"{path}: not found; write the pictures first, in Python: "
            f"medaudit.datasets.fashion_mnist.extract('{source}', FOLDER)"
        )
    table = read_table(path)
    if missing := [name for name in ("case_id", "split", "label", "kind", "image_path") if name not in table.columns]:
        raise DataError(f"{path}: has no column '{missing[0]}'; is it a folder that fashion_mnist.extract wrote?")
    counts = ", ".join(f"{table.filter(pl.col('split') == split).height:,} {split}" for split in PREFIXES)
    return Cohort(
        "Fashion-MNIST",
        table,
        root,
        {"image": Role("image_path")},
        notes=(
            f"{table.height:,} pictures ({counts}). They are of clothes: a benchmark, not a medical dataset.",
            "Kinds overlap: a shirt, a T-shirt, a pullover and a coat may look alike.",
        ),
        source=DATASET.source,
    )


def _folder(source: Path) -> Path:
    """Return the folder below ``source`` that has the first of the files."""
    for below in FOLDERS:
        if _stored(source / below, "train-images-idx3-ubyte"):
            return source / below
    raise DataError(
        f"{source / 'train-images-idx3-ubyte.gz'}: not found, nor in {', '.join(FOLDERS[1:])} below; "
        f"`apt-get install dataset-fashion-mnist` puts it into {DEBIAN}"
    )


def _stored(folder: Path, name: str) -> Path | None:
    """Return a file of that name, packed or not; some programs write a point for the last hyphen."""
    dotted = name.replace("-idx", ".idx")
    names = (f"{name}.gz", name, f"{dotted}.gz", dotted)
    return next((folder / one for one in names if (folder / one).is_file()), None)


def _idx(folder: Path, name: str, *, axes: int) -> np.ndarray:
    """Return the array of an idx file: two zeros, 8 for uint8, the axes, each length as big-endian int32, the bytes."""
    path = _stored(folder, name)
    if path is None:
        raise DataError(f"{folder / name}.gz: not found beside the other files of Fashion-MNIST; copy it there")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); download it again"
        ) from None
    data = gunzipped(data, path, LARGEST) if path.suffix == ".gz" else data
    header = 4 + 4 * axes
    shape = tuple(np.frombuffer(data[4:header].ljust(4 * axes, b"\0"), dtype=">u4").tolist())
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) != header + math.prod(shape):
        raise DataError(f"{path}: is no idx file of {axes} axes of bytes, or is cut off; download it again")
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise DataError(
            f"{path}: its bytes are not Fashion-MNIST's (MNIST's digits have a file of this name too); "
            f"expected SHA-256 {SHA256[name][:16]}... of the unpacked file; take it from {DATASET.url}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


DATASET = Dataset(
    name="fashion-mnist",
    load=load,
    title="Fashion-MNIST: small grey pictures of clothes, a benchmark",
    licence="MIT",
    citation=(
        "Xiao H, Rasul K, Vollgraf R. Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms. 2017. doi:10.48550/arXiv.1708.07747"
    ),
    url="https://github.com/zalandoresearch/fashion-mnist",
    layout="""\
ROOT/
  cases.csv
  images/train_00001.png ...
""",
    needs="the folder that fashion_mnist.extract writes from the four idx files (Debian: dataset-fashion-mnist)",
)
