"""PNG, JPEG, TIFF and BMP, read by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Of the forty that Pillow knows: for one of them, EPS, it starts another program."""
_AS = {"1": "L", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
"""Pillow's modes that are read as another one."""


def read_picture(path: Path, *, mask: bool) -> Volume:
    """Return a picture as (row, column), or (row, column, 3) where its channels differ; its spacing is never known.

    The resolution in a PNG's or JPEG's header is the screen's or printer's, not the scanner's. Transparency is left
    away, but for a ``mask`` in which it alone varies. Raises DataError for a file of several pages.
    """
    with Image.open(path, formats=_FORMATS) as opened:
        pages = getattr(opened, "n_frames", 1)
        if pages != 1:
            raise DataError(f"{path}: has {pages} pages; expected one picture (save a volume as NIfTI)")
        # A mask's palette is only how its labels are shown; an image's palette is its colours.
        to = {"P": "P" if mask else "RGB", **_AS}.get(opened.mode, opened.mode)
        picture = opened if to == opened.mode else opened.convert(to)
        array, mode = np.asarray(picture), picture.mode
    if array.ndim == 3 and mode in ("LA", "RGBA", "La", "RGBa"):
        colours, alpha = array[..., :-1], array[..., -1]
        flat = bool(np.all(colours == colours[:1, :1]))
        array = alpha if mask and flat and alpha.min() != alpha.max() else colours
    if array.ndim == 3 and np.all(array == array[..., :1]):
        array = array[..., 0]
    return Volume(array, None, None, path, colour=array.ndim == 3)
