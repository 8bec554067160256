"""NRRD and MetaImage (MHA, MHD), read by SimpleITK and turned into our conventions."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medaudit.cohort.nifti import MOST_DEFLATE
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_META = [re.compile(rb"(?m)^\s*NDims\s*=\s*[234]\s*$")]
_META += [re.compile(rb"(?m)^\s*" + key + rb"\s*=") for key in (b"DimSize", b"ElementType", b"ElementDataFile")]
_UNPACKED = re.compile(rb"(?im)^(?:encoding: *raw|CompressedData\s*=\s*false)\s*$")
_DATA_FILE = re.compile(rb"(?im)^(?:ElementDataFile\s*=|data ?file:)[ \t]*(\S.*?)\s*$")

# ITK prints its warnings to standard error itself; what matters comes as an exception.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_itk(path: Path) -> Volume:
    """Return the volume in an NRRD or MetaImage file: (i, j, k) with an affine, or 2-D (row, column) without.

    Raises DataError where it has more than three dimensions or several values a voxel (other than colour).
    """
    with path.open("rb") as file:
        head = file.read(65536)
    if path.suffix.lower() in (".mha", ".mhd") and not all(key.search(head) for key in _META):
        # ITK's MetaImage reader overwrites memory where the header claims more dimensions than ten.
        raise DataError(f"{path}: not a MetaImage file of 2 to 4 dimensions, or its header is broken")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, channels = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) > 3 and any(n > 1 for n in size[3:]):
        raise DataError(f"{path}: has {len(size)} dimensions, {size}; expected one volume a file: split it")
    if channels not in (1, 3):
        raise DataError(
            f"{path}: has {channels} values a voxel; expected one (of a layered segmentation, export one layer)"
        )
    # Checked before reading: ITK reserves whatever the header promises.
    voxel = sitk.GetArrayFromImage(sitk.Image([1, 1], reader.GetPixelID(), channels if channels > 1 else 0))
    promised, most = math.prod(size) * voxel.nbytes, _most_bytes(path, head)
    if most is not None and promised > most:
        raise DataError(
            f"{path}: the header promises {promised:,} bytes, the file can hold {most:,}; it is truncated or broken"
        )
    image = reader.Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    array, colour = sitk.GetArrayFromImage(image), channels == 3
    if image.GetDimension() == 2:
        return Volume(array, tuple(float(s) for s in image.GetSpacing()[::-1]), None, path, colour)
    array = array.transpose((2, 1, 0, 3) if colour else (2, 1, 0))
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    spacing = tuple(float(s) for s in image.GetSpacing())
    # 3D Slicer saves a segmentation cropped to what is segmented.
    cropped = path.name.lower().endswith(".seg.nrrd")
    return Volume(array, spacing, _LPS_TO_RAS @ affine, path, colour, cropped)


def _most_bytes(path: Path, head: bytes) -> int | None:
    """Return how many bytes of voxels there can be at most; ``None`` where they lie in a list of files."""
    data = path
    if path.suffix.lower() in (".mhd", ".nhdr"):
        named = _DATA_FILE.search(head)
        data = path.parent / os.fsdecode(named[1]) if named else path
        if not data.is_file():
            return None
    return data.stat().st_size * (1 if _UNPACKED.search(head) else MOST_DEFLATE)
