"""Writing a file so that a reader sees the old one or the new one, never half of one; every room writes by this."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes | memoryview, *, flush: bool = True) -> None:
    """Replace ``path`` by ``data`` in one step: written beside it, flushed to the disk, then renamed over it.

    Without ``flush`` a power cut may lose it, for files that are soon made again. Raises OSError where it cannot be
    written; ``path`` is then what it was before.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if flush:
            _flush_folder(path.parent)  # else a power cut may undo the new name
    except OSError:
        # On a full disk the half-written file would take the room that the user is about to free.
        temporary.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
