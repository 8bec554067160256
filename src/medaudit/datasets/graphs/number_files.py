"""Text files of nothing but numbers, read fast; where one is no number, the file and the line are named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from medaudit.cohort.bounds import check_promise
from medaudit.errors import DataError


def numbers(path: Path, *, whole: bool = False, columns: int | None = None) -> np.ndarray:
    """Return (rows, columns) float64, or int64 where ``whole``: the numbers of a file, a row for each line with any.

    Commas, blanks or both stand between them. Raises DataError naming the file and the line where something is no
    (whole, finite) number, and where a line has another count of numbers than the first or than ``columns``.
    """
    text = text_of(path).replace(",", " ")
    if not text.strip():
        return np.empty((0, columns or 1), dtype=np.int64 if whole else np.float64)
    try:
        found = np.loadtxt(io.StringIO(text), dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        raise DataError(_what_is_wrong(path, text, columns)) from None
    if columns is not None and found.shape[1] != columns:
        raise DataError(_what_is_wrong(path, text, columns))
    odd = ~np.isfinite(found) | ((found != np.rint(found)) | (np.abs(found) > 2**53) if whole else False)
    if odd.any():
        row, column = np.argwhere(odd)[0]
        wanted = "whole numbers" if whole else "finite numbers"
        raise DataError(f"{path}, line {line_of(path, row)}: {found[row, column]:g}; expected {wanted}")
    return found.astype(np.int64) if whole else found


def text_of(path: Path) -> str:
    """Return a text file's content; DataError where it is not there or cannot be read."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        check_promise(path, path.stat().st_size)
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None


def line_of(path: Path, row: int) -> int:
    """Return the line, counted from 1, that holds a row of numbers, counted from 0: empty lines hold none."""
    filled = [k for k, line in enumerate(text_of(path).splitlines(), 1) if line.replace(",", " ").strip()]
    return filled[row]


def _what_is_wrong(path: Path, text: str, columns: int | None) -> str:
    for k, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"{path}, line {k}: '{word[:40]}' is not a number"
        columns = len(words) if columns is None else columns
        if len(words) != columns:
            return f"{path}, line {k}: has {len(words)} numbers; expected {columns}"
    return f"{path}: cannot be read as numbers"
