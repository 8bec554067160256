"""DICOM: one file, the folder of one series, or a segmentation object (SEG); geometry by highdicom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from medaudit.cohort.bounds import check_promise
from medaudit.cohort.nifti import MOST_DEFLATE
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""


def read_dicom(path: Path, *, segment: int | None = None) -> Volume:
    """Return the volume (column, row, slice) of a file or of a series' folder, or a 2-D image (row, column).

    A file without position in the patient (ultrasound, projection X-ray) is 2-D; its spacing is ``PixelSpacing``.
    Intensities are float32 after the modality's rescale. A SEG gives ``segment`` (its only one by default) as bool,
    on the planes that it stores.

    Raises DataError where a folder holds no series or several, a slice is missing, or the segment is not there.
    """
    files = _files(path)
    first = files[0]
    if str(first.get("SOPClassUID", "")) in _SEG:
        if len(files) > 1:
            raise DataError(f"{path}: holds {len(files)} SEG files; expected one, name the file")
        return _segment(path, first, segment)
    if "PixelData" not in first:
        raise DataError(
            f"{path}: DICOM without pixels ({first.get('Modality', 'no modality')}); expected an image or SEG"
        )
    if len(files) == 1 and not _placed(first):
        return _flat(path, first)
    if len(files) == 1:
        volume = hd.Image.from_dataset(first, copy=False).get_volume(dtype=np.float32)
        return _ours(volume, path, float(first.get("SliceThickness") or 0))
    return _ours(hd.get_volume_from_series(files, dtype=np.float32), path)


def _read(path: Path) -> FileDataset:
    """Return a file's dataset; DataError where it unfolds to more than one file may."""
    check_promise(path, size := path.stat().st_size)
    if str(read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
        check_promise(path, size * MOST_DEFLATE)  # pydicom unpacks all there is, and asks nobody
    dataset = pydicom.dcmread(path)
    values = [dataset.get(name) or 1 for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    check_promise(path, math.prod(max(1, int(value)) for value in values) * 4)
    return dataset


def _files(path: Path) -> list[FileDataset]:
    if not path.is_dir():
        return [_read(path)]
    found = []
    for file in sorted(
        p for p in path.iterdir() if p.is_file() and p.name != "DICOMDIR" and not p.name.startswith(".")
    ):
        try:
            found.append(_read(file))
        except InvalidDicomError:
            continue
    if not found:
        raise DataError(f"{path}: no DICOM file in this folder; expected the files of one series")
    series = {str(f.get("SeriesInstanceUID", "")) for f in found}
    if len(series) > 1:
        raise DataError(f"{path}: holds {len(series)} DICOM series; expected one a folder")
    return found


def _placed(dataset: FileDataset) -> bool:
    return "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset


def _flat(path: Path, dataset: FileDataset) -> Volume:
    array = dataset.pixel_array
    colour = int(dataset.get("SamplesPerPixel", 1)) > 1
    if array.ndim != 2 + colour:
        raise DataError(f"{path}: has {dataset.get('NumberOfFrames')} frames without position; expected one image")
    if not colour:
        array = pydicom.pixels.apply_rescale(array, dataset).astype(np.float32)
    spacing = dataset.get("PixelSpacing")
    return Volume(array, tuple(float(s) for s in spacing) if spacing else None, None, path, colour)


def _segment(path: Path, dataset: FileDataset, segment: int | None) -> Volume:
    seg = hd.seg.Segmentation.from_dataset(dataset, copy=False)
    names = {n: seg.get_segment_description(n).segment_label for n in seg.segment_numbers}
    if len(names) > 1 if segment is None else segment not in names:
        listed = ", ".join(f"{n} ({name})" for n, name in names.items())
        raise DataError(f"{path}: choose a segment with --label; the SEG has: {listed}")
    number = segment if segment is not None else next(iter(names))
    volume = seg.get_volume(segment_numbers=[number], combine_segments=False, rescale_fractional=True)
    array = volume.array[..., 0]
    if np.any((array != 0) & (array != 1)):
        raise DataError(f"{path}: segment {number} holds probabilities; threshold it before the audit")
    return replace(_ours(volume.with_array(array.astype(bool)), path), cropped=True)


def _ours(volume: hd.Volume, path: Path, thickness: float = 0.0) -> Volume:
    """Return highdicom's (slice, row, column) in LPS as (column, row, slice) in RAS, slices along column x row.

    That is the order in which ITK stacks a series, so that a mask made from its NIfTI fits. ``thickness`` is the step
    of a volume of one slice, which has no neighbour to tell it.
    """
    array, affine = volume.array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]]
    if np.linalg.det(affine) < 0:
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
        array = array[:, :, ::-1]
    if array.shape[2] == 1 and thickness > 0:
        affine[:3, 2] *= thickness / np.linalg.norm(affine[:3, 2])
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(array, spacing, _LPS_TO_RAS @ affine, path)
