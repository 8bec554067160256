"""Public datasets and simulators: each becomes a Cohort."""

from __future__ import annotations

import difflib
from pathlib import Path

from medaudit.cohort import Cohort
from medaudit.datasets import (
    african_planes,
    breast_lesions_usg,
    ddi,
    fashion_mnist,
    fetal_planes_db,
    fitzpatrick17k,
    hc18,
    isic,
    mama_mia,
    medmnist,
    pad_ufes_20,
    ph2_patches,
    shortcut_tables,
)
from medaudit.datasets.dataset import Dataset, check, unknown
from medaudit.datasets.simulators import (
    SIMULATORS,
    Simulator,
    check_predictions,
    simulated_images,
    simulated_scores,
)
from medaudit.errors import DataError, UsageError

DATASETS: dict[str, Dataset] = {
    "african-planes": african_planes.DATASET,
    "breast-lesions-usg": breast_lesions_usg.DATASET,
    "chexpert-pacemaker": shortcut_tables.CHEXPERT_PACEMAKER,
    "ddi": ddi.DATASET,
    "fashion-mnist": fashion_mnist.DATASET,
    "fetal-planes-db": fetal_planes_db.DATASET,
    "fitzpatrick17k": fitzpatrick17k.DATASET,
    "hc18": hc18.DATASET,
    "isic": isic.DATASET,
    "isic-ruler": shortcut_tables.ISIC_RULER,
    "mama-mia": mama_mia.DATASET,
    "medmnist": medmnist.DATASET,
    "nih-drain": shortcut_tables.NIH_DRAIN,
    "pad-ufes-20": pad_ufes_20.DATASET,
    "ph2-patches": ph2_patches.DATASET,
}
"""The datasets on disk, by the name that ``--dataset`` takes."""


def find(name: str) -> Dataset:
    """Return the dataset of that name; UsageError naming the nearest one where there is none."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), DATASETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(DATASETS)}"
        raise UsageError(f"no dataset is called '{name}'; {hint}")
    return DATASETS[name]


def load(name: str, root: str | Path) -> Cohort:
    """Return the cohort of a dataset whose files lie in ``root``.

    Raises UsageError for a name that is not in :data:`DATASETS`, DataError where ``root`` is not that dataset's folder.
    """
    dataset, root = find(name), Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {dataset.needs}")
    return dataset.load(root)


__all__ = [
    "DATASETS",
    "SIMULATORS",
    "Dataset",
    "Simulator",
    "check",
    "check_predictions",
    "find",
    "load",
    "simulated_images",
    "simulated_scores",
    "unknown",
]
