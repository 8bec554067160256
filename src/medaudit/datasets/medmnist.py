"""MedMNIST v2: small images of many modalities, Yang et al. 2023; CC BY 4.0, but DermaMNIST is CC BY-NC 4.0.

From https://medmnist.com/, a file a set, as ``pneumoniamnist.npz``, with the arrays ``train_images`` (N, 28, 28) or
(N, 28, 28, 3) uint8, ``train_labels`` (N, 1), and the same for ``val`` and ``test``. A cohort needs a file a case, so
:func:`extract` writes PNGs and a table once, and :func:`load` reads that folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role, read_table
from medaudit.cohort.atomic import replace_file
from medaudit.cohort.npy import arrays_of, names_in
from medaudit.datasets.dataset import Dataset
from medaudit.errors import DataError, UsageError

TABLE = "cases.csv"
SPLITS = ("train", "val", "test")


def extract(npz: str | Path, folder: str | Path) -> Cohort:
    """Write each image of a MedMNIST file to ``folder`` as PNG, with a table, and return the cohort.

    Files that are there already are left alone; the table comes last. Raises DataError for a file that is missing,
    broken or not MedMNIST's, or is of volumes, UsageError where ``folder`` holds another set.
    """
    npz, folder = Path(npz), Path(folder)
    arrays = _arrays(npz)
    rows = []
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        for i in range(len(images)):
            row: dict[str, str | int] = {"case_id": f"{split}_{i + 1:06d}", "dataset": npz.stem, "split": split}
            # One label, or a yes or no for each of several findings.
            columns = ["label"] if labels.shape[1] == 1 else [f"label_{k}" for k in range(labels.shape[1])]
            rows.append({**row, **dict(zip(columns, labels[i].tolist(), strict=True))})
    table = pl.DataFrame(rows)
    table = table.with_columns(image_path=pl.format("images/{}.png", "case_id"))
    if (folder / TABLE).exists() and not read_table(folder / TABLE).equals(table):
        raise UsageError(f"{folder} holds another set of MedMNIST ({TABLE}); give a new folder for {npz.name}")
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            for i, image in enumerate(arrays[f"{split}_images"]):
                path = folder / "images" / f"{split}_{i + 1:06d}.png"
                if not path.exists():
                    part = path.with_name(f".{path.name}")
                    Image.fromarray(image).save(part, format="PNG")
                    os.replace(part, path)
        replace_file(folder / TABLE, table.write_csv().encode(), flush=False)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    return load(folder)


def load(root: Path) -> Cohort:
    """Return a set of MedMNIST that :func:`extract` wrote: ``split``, ``label``, role ``image``.

    ``label`` is MedMNIST's number (of several findings: ``label_0``, ``label_1`` ..., 0 or 1 each). Raises DataError
    where ``root`` has no such table.
    """
    if not (root / TABLE).exists():
        npz = next(iter(sorted(root.glob("*.npz"))), root / "pneumoniamnist.npz")
        raise DataError(
            f"{root / TABLE}: not found; write the images first, in Python: "
            f"medaudit.datasets.medmnist.extract('{npz}', FOLDER)"
        )
    table = read_table(root / TABLE)
    if missing := [name for name in ("case_id", "dataset", "split", "image_path") if name not in table.columns]:
        raise DataError(f"{root / TABLE}: has no column '{missing[0]}'; is it a folder that medmnist.extract wrote?")
    name = table["dataset"][0]
    counts = ", ".join(f"{table.filter(pl.col('split') == split).height:,} {split}" for split in SPLITS)
    return Cohort(
        str(name),
        table.drop("dataset"),
        root,
        {"image": Role("image_path")},
        notes=(
            f"{table.height:,} images of MedMNIST's {name} ({counts}), labels as numbers.",
            "MedMNIST names no patients: intervals are by image, and are too narrow where a patient has several.",
        ),
        source=DATASET.source,
    )


def _arrays(npz: Path) -> dict[str, np.ndarray]:
    if not npz.exists():
        raise DataError(f"{npz}: no such file; expected a file of MedMNIST, as pneumoniamnist.npz")
    wanted = [f"{split}_{what}" for split in SPLITS for what in ("images", "labels")]
    try:
        there = names_in(npz)
        lacking = next((name for name in wanted if name not in there), None)
        arrays = {} if lacking else arrays_of(npz, wanted)
    except DataError:
        raise
    except Exception as error:  # a zip, an npy header or an array that is not one: each raises its own
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{npz}: cannot be read as an npz file ({reason}); download it again") from None
    if lacking:
        raise DataError(f"{npz}: has no array '{lacking}'; is it a file of MedMNIST?")
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
            raise DataError(
                f"{npz}: {split}_images is {images.dtype} {images.shape}; expected uint8 (N, H, W) or (N, H, W, 3), "
                "pictures and not volumes"
            )
        if labels.ndim != 2 or len(labels) != len(images) or labels.dtype.kind not in "iu":
            raise DataError(
                f"{npz}: {split}_labels is {labels.dtype} {labels.shape}; expected whole numbers, a row for each of "
                f"the {len(images)} images"
            )
    return arrays


DATASET = Dataset(
    name="medmnist",
    load=load,
    title="MedMNIST v2: small images of many modalities",
    licence="CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)",
    citation=(
        "Yang J, Shi R, Wei D, et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
        "classification. Scientific Data 10:41, 2023. doi:10.1038/s41597-022-01721-8"
    ),
    url="https://medmnist.com/",
    layout="""\
ROOT/
  cases.csv
  images/train_000001.png ...
""",
    needs="the folder that medmnist.extract writes from one of MedMNIST's npz files",
)
