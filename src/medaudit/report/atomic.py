"""Writing a file so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from medaudit.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step: written beside it, flushed to the disk, then renamed over it.

    Raises DataError where it cannot be written; ``path`` is then what it was before.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # On a full disk the half-written file would take the room that the user is about to free.
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> DataError:
    """Return the DataError that says why ``path`` was not written, and that the work so far is not lost."""
    if error.errno in FULL:
        why, mend = "the disk is full", "free some space"
    else:
        why, mend = (error.strerror or str(error)).lower(), "mend that"
    return DataError(
        f"cannot write {path}: {why}; what was measured so far is kept: "
        f"{mend} and run the same command again, it goes on from there"
    )
