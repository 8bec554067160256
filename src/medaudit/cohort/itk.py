"""NRRD and MetaImage (MHA, MHD), read by SimpleITK and turned into our conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medaudit.cohort.nifti import MOST_DEFLATE
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# ITK prints its warnings to standard error itself; what matters comes as an exception.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_itk(path: Path) -> Volume:
    """Return the volume in an NRRD or MetaImage file: (i, j, k) with an affine, or 2-D (row, column) without.

    Raises DataError where it has more than three dimensions or several values a voxel (other than colour).
    """
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
    if path.suffix.lower() in (".mha", ".nrrd"):
        # Checked before reading: ITK reserves whatever the header promises.
        promised = int(np.prod(size, dtype=object)) * channels
        if promised > path.stat().st_size * MOST_DEFLATE:
            raise DataError(
                f"{path}: the header promises {promised:,} voxels, more than the file can hold; it is broken"
            )
    image = reader.Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    array = sitk.GetArrayFromImage(image)
    colour = channels == 3
    if image.GetDimension() == 2:
        return Volume(array, tuple(float(s) for s in image.GetSpacing()[::-1]), None, path, colour)
    array = array.transpose((2, 1, 0, 3) if colour else (2, 1, 0))
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(array, tuple(float(s) for s in image.GetSpacing()), _LPS_TO_RAS @ affine, path, colour)
