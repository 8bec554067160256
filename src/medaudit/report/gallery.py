"""Pictures side by side: images, reconstructions and heat-maps, in rows that are read from left to right."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_HEADER = 22


def tiles(rows: Sequence[Sequence[np.ndarray]], *, columns: Sequence[str] = (), pixels: int = 96) -> bytes:
    """Return a PNG of pictures in rows, each ``pixels`` tall and wide, with the columns' titles above.

    A picture is (H, W, 3) or (H, W), uint8, or floats from 0 to 1. Small ones are enlarged without smoothing: a pixel
    stays a pixel.
    """
    wide = max((len(row) for row in rows), default=1)
    top = _HEADER if columns else 0
    sheet = Image.new("RGB", (wide * (pixels + _GAP) - _GAP, top + len(rows) * (pixels + _GAP) - _GAP), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for j, title in enumerate(columns):
        draw.text((j * (pixels + _GAP) + 1, 3), title, fill=(40, 40, 40), font=ImageFont.load_default(size=12))
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            shown = Image.fromarray(_bytes(picture)).resize((pixels, pixels), Image.Resampling.NEAREST)
            sheet.paste(shown, (j * (pixels + _GAP), top + i * (pixels + _GAP)))
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def shared_range(maps: np.ndarray) -> tuple[float, float]:
    """Return the 1st and 99th percentile of all maps together: one scale a page, never one a picture.

    With a scale of its own each picture would have a brightest place, whether or not anything is there.
    """
    low, high = np.nanpercentile(maps, (1, 99))
    return float(low), float(high)


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a map (H, W) as colours (H, W, 3) uint8, dark where ``low``, through red to yellow where ``high``."""
    share = np.clip((np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-30), 0, 1)
    stops = np.asarray([[12, 8, 38], [110, 28, 92], [214, 70, 48], [250, 172, 50], [252, 246, 190]], dtype=np.float64)
    at = share * (len(stops) - 1)
    below = np.minimum(at.astype(int), len(stops) - 2)
    part = (at - below)[..., None]
    return np.rint((1 - part) * stops[below] + part * stops[below + 1]).astype(np.uint8)


def _bytes(picture: np.ndarray) -> np.ndarray:
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        array = np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)
    return np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array
