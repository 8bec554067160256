"""Writing the files of a run: whole or not at all, and what is said to the user where that fails."""

from __future__ import annotations

import errno
from pathlib import Path

from medaudit.cohort.atomic import replace_file
from medaudit.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step; DataError where it cannot be written, and it is what it was before."""
    try:
        replace_file(path, data)
    except OSError as error:
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
