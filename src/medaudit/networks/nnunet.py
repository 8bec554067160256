"""To and from nnU-Net: its raw dataset, its folds and its predictions, as files; nnU-Net itself is not imported.

The format is that of nnU-Net's documentation (version 2: "dataset format", "manual data splits"; arXiv 1904.08128).
A lab with GPUs trains there, and the predictions come back to be audited by case id.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaudit.errors import DataError, UsageError

LOSSLESS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff")
_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class NnunetCase:
    """A training case: its id, an image a channel, and its segmentation, all of one geometry."""

    case_id: str
    images: Sequence[Path]
    label: Path


def export_raw(
    folder: str | Path,
    dataset_id: int,
    name: str,
    cases: Sequence[NnunetCase],
    *,
    channel_names: Sequence[str],
    labels: Sequence[str],
    link: bool = False,
) -> Path:
    """Return ``folder/DatasetXXX_name``, written as nnU-Net reads it: point ``nnUNet_raw`` at ``folder``.

    ``channel_names``: one an image; ``CT`` makes nnU-Net normalise by the dataset, any other name by the image.
    ``labels``: what the values 1, 2, ... mean; 0 is the background. Files are copied as they are (``link``: linked);
    nothing is resampled or relabelled. ``dataset.json`` comes last, so a broken export is never taken for a whole one.

    Raises UsageError for a bad id or name, DataError naming the case if a file is missing, of another ending or a
    lossy one, if its id is no file name or comes twice, or if other cases are there already.
    """
    if not 1 <= dataset_id <= 999 or not _CASE_ID.fullmatch(name):
        raise UsageError(f"no dataset {dataset_id} '{name}'; expected a number from 1 to 999 and a name without spaces")
    if not cases:
        raise DataError("no cases to export; expected at least one")
    if len(set(labels)) != len(labels) or "background" in labels or not labels:
        raise UsageError(f"labels are {', '.join(labels) or 'none'}; expected different names beside the background")
    ending = _ending(cases[0].label)
    _check(cases, len(channel_names), ending)

    dataset = Path(folder) / f"Dataset{dataset_id:03d}_{name}"
    ours = {f"{case.case_id}{ending}" for case in cases}
    others = [path.name for path in (dataset / "labelsTr").glob("*") if path.name not in ours]
    if others:
        raise DataError(f"{dataset} holds other cases already, such as {others[0]}; choose another folder or number")
    try:
        (dataset / "dataset.json").unlink(missing_ok=True)
        for part in ("imagesTr", "labelsTr"):
            (dataset / part).mkdir(parents=True, exist_ok=True)
        for case in cases:
            for channel, image in enumerate(case.images):
                _place(Path(image), dataset / "imagesTr" / f"{case.case_id}_{channel:04d}{ending}", link)
            _place(Path(case.label), dataset / "labelsTr" / f"{case.case_id}{ending}", link)
        written = {
            "channel_names": {str(channel): channel_name for channel, channel_name in enumerate(channel_names)},
            "labels": {"background": 0, **{label: value for value, label in enumerate(labels, start=1)}},
            "numTraining": len(cases),
            "file_ending": ending,
        }
        (dataset / "dataset.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {dataset}: {(error.strerror or str(error)).lower()}") from None
    return dataset


def splits(case_ids: Sequence[str], fold: Sequence[int] | np.ndarray) -> list[dict[str, list[str]]]:
    """Return nnU-Net's splits of folds 0 ... k-1 (``cohort.folds``): for each, who trains and who validates.

    Raises DataError if ids repeat, or a fold is empty or holds all cases.
    """
    fold = np.asarray(fold)
    if len(fold) != len(case_ids) or len(set(case_ids)) != len(case_ids):
        raise DataError(f"{len(fold)} folds for {len(case_ids)} case ids; expected one each, and no id twice")
    made = []
    for k in range(int(fold.max(initial=-1)) + 1):
        train = [case for case, f in zip(case_ids, fold, strict=True) if f != k]
        val = [case for case, f in zip(case_ids, fold, strict=True) if f == k]
        if not train or not val:
            raise DataError(f"fold {k} has {len(val)} of {len(fold)} cases; expected some in each fold")
        made.append({"train": train, "val": val})
    return made


def write_splits(path: str | Path, case_ids: Sequence[str], fold: Sequence[int] | np.ndarray) -> None:
    """Write ``splits_final.json``; nnU-Net looks for it in ``nnUNet_preprocessed/DatasetXXX_name``."""
    Path(path).write_text(json.dumps(splits(case_ids, fold), indent=2) + "\n", encoding="utf-8")


def read_splits(path: str | Path) -> dict[str, int]:
    """Return the fold in which each case validates; the other way of ``write_splits``.

    Raises DataError if the file is not a list of ``train`` and ``val``, or if a case validates twice or trains where
    it validates: its prediction would not be out of fold.
    """
    path = Path(path)
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(list(map(str, split["train"])), list(map(str, split["val"]))) for split in made]
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path} is not a list of splits with 'train' and 'val'") from None
    fold: dict[str, int] = {}
    for k, (train, val) in enumerate(pairs):
        for case in val:
            if case in fold or case in train:
                also = f"validates in fold {fold[case]} too" if case in fold else "trains there too"
                raise DataError(f"{path}: case '{case}' validates in fold {k} and {also}")
            fold[case] = k
    return fold


def find_predictions(
    folder: str | Path, case_ids: Sequence[str], *, file_ending: str | None = None, partial: bool = False
) -> dict[str, Path]:
    """Return the predicted mask of each case, whatever the folds: from one folder of predictions or a trained model's.

    Looked for in ``folder`` and in its ``fold_*/validation``; nnU-Net names a prediction ``case.ending``.
    ``file_ending`` may be left out: it is then that of the files. With ``partial`` cases without a prediction are
    left out.

    Raises DataError if a case has none (unless ``partial``) or two, or if there is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not there; expected the folder of nnU-Net's predictions")
    there: dict[str, list[Path]] = {}
    for place in (folder, *sorted(folder.glob("fold_*/validation"))):
        for path in sorted(place.iterdir()):
            ending = next((e for e in LOSSLESS if path.name.endswith(e)), None)
            if path.is_file() and ending and file_ending in (None, ending):
                there.setdefault(path.name.removesuffix(ending), []).append(path)
    missing = [case for case in case_ids if case not in there]
    if missing and not partial:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder} has no prediction for case '{missing[0]}'{others} of {len(case_ids)} cases")
    found = {}
    for case in case_ids:
        if len(there.get(case, [])) > 1:
            first, second = there[case][:2]
            raise DataError(f"case '{case}' has two predictions: {first} and {second}; keep one")
        if case in there:
            found[case] = there[case][0]
    return found


def read_dataset(dataset: str | Path) -> tuple[list[NnunetCase], Mapping[str, int]]:
    """Return the training cases of ``DatasetXXX_name`` and the value of each label; the other way of ``export_raw``.

    Raises DataError if ``dataset.json`` lacks a field, or naming the case whose files are not all there.
    """
    dataset = Path(dataset)
    try:
        described = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        channels, labels = len(described["channel_names"]), described["labels"]
        number, ending = described["numTraining"], described["file_ending"]
    except OSError as error:
        raise DataError(f"cannot read {dataset / 'dataset.json'}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{dataset / 'dataset.json'} is not a version 2 description: {error}") from None
    cases = []
    for label in sorted((dataset / "labelsTr").glob(f"*{ending}")):
        case_id = label.name.removesuffix(ending)
        cases.append(
            NnunetCase(case_id, [dataset / "imagesTr" / f"{case_id}_{c:04d}{ending}" for c in range(channels)], label)
        )
    if len(cases) != number:
        raise DataError(f"{dataset} has {len(cases)} labels; its dataset.json says {number}")
    if cases:
        _check(cases, channels, ending)
    return cases, labels


def _check(cases: Sequence[NnunetCase], channels: int, ending: str) -> None:
    seen = set()
    for case in cases:
        # nnU-Net on Windows and macOS would take ids that differ in case only for the same files.
        if not _CASE_ID.fullmatch(case.case_id) or case.case_id.lower() in seen:
            raise DataError(f"case id '{case.case_id}' comes twice or is no file name; expected letters, digits, . _ -")
        seen.add(case.case_id.lower())
        if len(case.images) != channels:
            raise DataError(f"case '{case.case_id}' has {len(case.images)} images for {channels} channels")
        for path in (*case.images, case.label):
            if not Path(path).is_file():
                raise DataError(f"case '{case.case_id}': {path} is not there")
            if _ending(Path(path)) != ending:
                raise DataError(
                    f"case '{case.case_id}': {path} does not end in {ending}; nnU-Net wants one ending for all"
                )


def _ending(path: Path) -> str:
    ending = next((known for known in LOSSLESS if path.name.endswith(known)), None)
    if ending is None:
        raise DataError(f"{path} is of a format that nnU-Net does not take; expected one of {', '.join(LOSSLESS)}")
    return ending


def _place(source: Path, target: Path, link: bool) -> None:
    target.unlink(missing_ok=True)
    if link:
        os.symlink(source.resolve(), target)
    else:
        shutil.copyfile(source, target)
