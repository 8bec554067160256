"""NRRD and MetaImage (MHA, MHD), read by SimpleITK and turned into our conventions."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medaudit.cohort.bounds import check_promise, leads_out
from medaudit.cohort.nifti import MOST_DEFLATE
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER, _LINE = 1 << 20, 1_000
_META = [re.compile(rb"(?m)^\s*NDims\s*=\s*[234]\s*$")]
_META += [re.compile(rb"(?m)^\s*" + key + rb"\s*=") for key in (b"DimSize", b"ElementType", b"ElementDataFile")]
_NDIMS = re.compile(rb"(?m)^\s*NDims\s*[=:]")
_UNPACKED = re.compile(rb"(?im)^(?:encoding: *raw|CompressedData\s*=\s*false)\s*$")
_DATA_FILE = re.compile(rb"(?im)^[ \t]*(?:ElementDataFile\s*[=:]|data *file\s*:)[ \t=]*(.*?)\s*$")
"""Where the voxels lie; the first one counts. What stands after it is a list of files, or voxels."""

# ITK prints its warnings to standard error itself; what matters comes as an exception.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_itk(path: Path) -> Volume:
    """Return the volume in an NRRD or MetaImage file: (i, j, k) with an affine, or 2-D (row, column) without.

    Raises DataError where it has more than three dimensions or several values a voxel (other than colour).
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if path.suffix.lower() in (".mha", ".mhd"):
        if not all(key.search(head) for key in _META) or len(_NDIMS.findall(head)) > 1:
            # ITK's MetaImage reader overwrites memory where the header claims more dimensions than ten.
            raise DataError(f"{path}: not a MetaImage file of 2 to 4 dimensions, or its header is broken")
    elif not _is_nrrd(head):
        # ITK's NRRD reader, too, writes beyond its memory: where a line says more than it has room for.
        raise DataError(f"{path}: not a NRRD file of 2 to 4 dimensions, or its header is broken")
    _check_data_files(path, head)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # By name: ITK would look for any of twenty readers that likes the bytes.
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in (".mha", ".mhd") else "NrrdImageIO")
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
    check_promise(path, promised)
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


def _is_nrrd(head: bytes) -> bool:
    """Return whether a header says once how many axes there are and how long each is, in lines of bearable length."""
    if not head.startswith(b"NRRD"):
        return False
    header = re.split(rb"\r?\n[ \t]*\r?\n", head, maxsplit=1)[0].splitlines()
    fields = [line for line in header if not line.startswith(b"#") and b":=" not in line]
    if any(len(line) > _LINE for line in fields):
        return False
    said = [line.partition(b":") for line in fields]
    axes = [value.strip() for name, _, value in said if name.strip().lower() == b"dimension"]
    if len(axes) != 1 or axes[0] not in (b"2", b"3", b"4"):
        return False
    sizes = [value.split() for name, _, value in said if name.strip().lower() == b"sizes"]
    return len(sizes) == 1 and len(sizes[0]) == int(axes[0])


def _check_data_files(path: Path, head: bytes) -> None:
    """Raise DataError where the header names a file outside of its own folder: ITK would read any file there is."""
    head = head.replace(b"\r", b"\n")
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        end = re.search(rb"\n[ \t]*\n\n?|\n\n", head)
        header = head[: end.start()] if end else head
        named = _DATA_FILE.search(header)
        listed = header[named.end() :].splitlines() if named and named[1].lower().startswith(b"list") else []
    else:
        named = _DATA_FILE.search(head)
        header = head[: named.end()] if named else head
        listed = head[named.end() :].splitlines() if named and named[1].lower().startswith(b"list") else []
    if len(header) >= _HEADER:
        raise DataError(f"{path}: its header has no end within {_HEADER:,} bytes; it is broken")
    if named is None or named[1].lower() == b"local":
        return
    # Of a pattern (slice%03d.raw 1 60 1) and a list (LIST 2), the first word is what counts.
    for name in [named[1], named[1].split(maxsplit=1)[0] if named[1] else b"", *listed]:
        given = os.fsdecode(name.strip())
        if given and (leads_out(given) or ((path.parent / given).exists() and not (path.parent / given).is_file())):
            raise DataError(f"{path}: its voxels are in '{given[:60]}'; expected a file in its own folder")


def _most_bytes(path: Path, head: bytes) -> int | None:
    """Return how many bytes of voxels there can be at most; ``None`` where they lie in a list of files."""
    data = path
    if path.suffix.lower() in (".mhd", ".nhdr"):
        named = _DATA_FILE.search(head)
        data = path.parent / os.fsdecode(named[1]) if named else path
        if not data.is_file():
            return None
    return data.stat().st_size * (1 if _UNPACKED.search(head) else MOST_DEFLATE)
