"""Writing: a mask as a file that any reader of the house, and any viewer, takes for what it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from medaudit.cohort.volume import Volume
from medaudit.errors import DataError


def mask_ending(axes: int) -> str:
    """Return how a mask's file name ends: ``.png`` for a picture, ``.nii.gz`` for a volume."""
    return ".png" if axes == 2 else ".nii.gz"


def write_mask(path: Path, mask: np.ndarray, like: Volume, *, foreground: int = 255) -> None:
    """Write a binary ``mask`` on the grid of ``like``, whole or not at all: PNG with ``foreground``, NIfTI with 1.

    A picture of another format (NIfTI of one slice) is written as PNG too, so its spacing must come from the table.
    Raises DataError where it cannot be written.
    """
    part = path.with_name(f".{path.name}")  # keeps the ending, by which both writers choose the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mask.ndim == 2:
            from PIL import Image

            Image.fromarray((mask != 0).astype(np.uint8) * np.uint8(foreground)).save(part, compress_level=1)
        else:
            import nibabel as nib

            spacing = like.spacing_mm or (1.0,) * mask.ndim
            place = like.affine if like.affine is not None else np.diag([*spacing, 1.0])
            image = nib.Nifti1Image((mask != 0).astype(np.uint8), place)
            image.header.set_xyzt_units("mm")
            nib.save(image, part)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
