"""Works out of .bib and .ris files."""

from __future__ import annotations

from pathlib import Path

from medaudit.errors import DataError, UsageError
from medaudit.review.formats import bibtex, ris
from medaudit.review.records import Work

LARGEST = 20_000_000


def read(path: Path) -> list[Work]:
    """Return the works of a file; DataError naming the file and what cannot be read, UsageError for another ending."""
    reader = {".bib": bibtex.read, ".ris": ris.read}.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: expected a file that ends with .bib or .ris")
    try:
        return reader(text_of(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def text_of(path: Path, largest: int = LARGEST) -> str:
    """Return a file's text; DataError where it is missing, too large, or not UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(largest + 1)  # a device or a pipe has no size to ask for
        if len(raw) > largest:
            raise DataError(f"{path}: has more than {largest:,} bytes")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
