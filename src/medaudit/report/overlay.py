"""A case to look at: its image with the reference's outline and the automated one over it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medaudit.report import theme

REFERENCE_COLOUR = theme.SKY
LABELS_COLOUR = theme.ORANGE

_SUPERSAMPLED = 2  # drawn this much larger and scaled down, so that slanting lines are smooth
_CONTEXT = 0.35  # of the masks' extent, shown around them
_DASH, _GAP = 7.0, 5.0  # pixels of the result

Point = tuple[float, float]


def worst_slice(reference: np.ndarray, labels: np.ndarray, axis: int = 0) -> int:
    """Return the index along ``axis`` at which two 3-D masks disagree in the most voxels (the first of equals)."""
    differs = (np.asarray(reference) != 0) != (np.asarray(labels) != 0)
    others = tuple(i for i in range(differs.ndim) if i != axis % differs.ndim)
    return int(np.count_nonzero(differs, axis=others).argmax())


def overlay_png(
    image: np.ndarray | None,
    reference: np.ndarray,
    labels: np.ndarray,
    *,
    spacing: tuple[float, float] | None = None,
    pixels: int = 320,
) -> bytes:
    """Return a PNG of the masks' outlines over the image, cropped around them, its longer side ``pixels`` long.

    ``image`` is (H, W), any number type, ``None`` for a plain ground; ``reference`` and ``labels`` are (H, W), nonzero
    inside. ``spacing`` is the millimetres between rows and between columns: the picture has the true proportions and a
    scale bar. The reference is a thick solid line, the labels a thin dashed one, so that they differ in a grey print.
    """
    reference, labels = np.asarray(reference) != 0, np.asarray(labels) != 0
    step = spacing or (1.0, 1.0)
    rows, columns = _window(reference | labels, step)
    height, width = (rows.stop - rows.start) * step[0], (columns.stop - columns.start) * step[1]
    scale = pixels / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = _ground(None if image is None else np.asarray(image)[rows, columns], reference[rows, columns], size)
    large = picture.resize((size[0] * _SUPERSAMPLED, size[1] * _SUPERSAMPLED), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    to_pixels = (step[0] * scale * _SUPERSAMPLED, step[1] * scale * _SUPERSAMPLED)
    for mask, colour, thick, dashed in (
        (reference, REFERENCE_COLOUR, 4.0, False),
        (labels, LABELS_COLOUR, 2.5, True),
    ):
        for loop in outlines(mask[rows, columns]):
            line = [(column * to_pixels[1], row * to_pixels[0]) for row, column in loop]
            pieces = list(_dashes(line)) if dashed else [line]
            # A dark rim keeps a bright line visible on bright tissue.
            for ink, extra in (("#000000", 1.5), (colour, 0.0)):
                for piece in pieces:
                    draw.line(piece, fill=ink, width=round((thick + extra) * _SUPERSAMPLED), joint="curve")
    picture = large.reduce(_SUPERSAMPLED)
    if spacing is not None:
        _scale_bar(picture, scale)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def outlines(mask: np.ndarray) -> list[list[Point]]:
    """Return the closed outlines of a (H, W) mask along its pixels' edges, as (row, column) corners.

    Pixel (0, 0) reaches from corner (0, 0) to corner (1, 1). Each loop ends where it starts; holes are loops of
    their own.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge between inside and outside, directed so that the inside is on its right.
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        ends = ((row, column), (row, column + 1))
        start, end = ends if padded[row + 1, column + 1] else ends[::-1]
        following.setdefault((int(start[0]), int(start[1])), []).append((int(end[0]), int(end[1])))
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        ends = ((row + 1, column), (row, column))
        start, end = ends if padded[row + 1, column + 1] else ends[::-1]
        following.setdefault((int(start[0]), int(start[1])), []).append((int(end[0]), int(end[1])))
    loops = []
    while following:
        first = here = next(iter(following))
        loop: list[Point] = [first]
        while True:
            after = following[here].pop()
            if not following[here]:
                del following[here]
            loop.append(after)
            here = after
            if here == first:
                break
        loops.append(loop)
    return loops


def _window(union: np.ndarray, step: tuple[float, float]) -> tuple[slice, slice]:
    """Return the rows and columns to show: a square in millimetres around the union, as far as the image goes.

    Where the union is empty, everything is shown.
    """
    if not union.any():
        return slice(0, union.shape[0]), slice(0, union.shape[1])
    spans = []
    for axis in (0, 1):
        inside = np.flatnonzero(union.any(axis=1 - axis))
        spans.append((int(inside[0]), int(inside[-1]) + 1))
    side = (1 + 2 * _CONTEXT) * max((high - low) * mm for (low, high), mm in zip(spans, step, strict=True))
    windows = []
    for (low, high), mm, size in zip(spans, step, union.shape, strict=True):
        room = max(3, math.ceil((side / mm - (high - low)) / 2))
        windows.append(slice(max(0, low - room), min(size, high + room)))
    return windows[0], windows[1]


def _ground(image: np.ndarray | None, reference: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return the cropped image in grey, windowed to its 1st and 99th percentile; the reference's area if none."""
    if image is None:
        grey = np.where(reference, 214, 245).astype(np.uint8)
        return Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).convert("RGB")
    values = image.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
    level = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5, np.float32)
    grey = np.round(255 * np.clip(np.nan_to_num(level, posinf=1.0, neginf=0.0), 0, 1)).astype(np.uint8)
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _dashes(line: list[Point]) -> Iterator[list[Point]]:
    """Yield the pieces of a polyline that a dashed pen leaves on the paper, measured along the line."""
    dash, gap = _DASH * _SUPERSAMPLED, _GAP * _SUPERSAMPLED
    piece, left, down = [line[0]], dash, True
    for (x0, y0), (x1, y1) in pairwise(line):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done >= left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if down:
                yield [*piece, at]
            piece, down = [at], not down
            left = dash if down else gap
        left -= length - done
        piece.append((x1, y1))
    if down and len(piece) > 1:
        yield piece


def _scale_bar(picture: Image.Image, scale: float) -> None:
    """Draw a bar of a round number of millimetres, at most a third of the picture, in the corner."""
    lengths = [a * 10**b for b in range(-2, 4) for a in (1, 2, 5)]
    fitting = [mm for mm in lengths if mm * scale <= picture.width / 3]
    if not fitting:
        return
    mm = fitting[-1]
    draw = ImageDraw.Draw(picture)
    left, bottom = 8, picture.height - 8
    font = ImageFont.load_default(15)
    for ink, extra in (("#000000", 2), ("#ffffff", 0)):
        draw.rectangle((left - extra, bottom - 3 - extra, left + round(mm * scale) + extra, bottom + extra), fill=ink)
    draw.text(
        (left, bottom - 7), f"{mm:g} mm", font=font, fill="#ffffff", anchor="lb", stroke_width=2, stroke_fill="#000000"
    )
