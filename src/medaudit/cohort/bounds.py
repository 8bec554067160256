"""How much a file may hold: asked before memory is reserved or anything is unpacked.

A few kilobytes can promise terabytes: a header of 10^9 x 10^9 voxels, a zip of zeros. What a file promises is compared
with its length where the format allows that, and always with :func:`largest`.
"""

from __future__ import annotations

import os
from pathlib import Path

from zlib_ng import zlib_ng

from medaudit.errors import DataError, UsageError

VARIABLE = "MEDAUDIT_LARGEST_GIB"
"""The environment's variable that says how many GiB one file may unfold to."""
MOST_GIB = 8.0


def largest() -> int:
    """Return how many bytes one file may unfold to: ``MEDAUDIT_LARGEST_GIB``, else 8 GiB or half of the memory.

    Raises UsageError where the variable is no number above 0.
    """
    said = os.environ.get(VARIABLE, "")
    if not said:
        return min(int(MOST_GIB * 2**30), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    try:
        gib = float(said)
    except ValueError:
        gib = 0.0
    if not 0 < gib < 2**20:
        raise UsageError(f"{VARIABLE} is '{said}'; expected how many GiB a file may unfold to, as 16")
    return int(gib * 2**30)


def check_promise(path: Path, promised: int) -> None:
    """Raise DataError where ``path`` promises more bytes than :func:`largest`; nothing was reserved for them yet."""
    if promised > (most := largest()):
        raise DataError(
            f"{path}: promises {promised:,} bytes, more than the {most:,} that one file may hold here; it is broken, "
            f"or raise {VARIABLE}"
        )


def gunzipped(raw: bytes, path: Path, most: int, what: str = "") -> bytes:
    """Return what a gzip stream holds, of one member or several; ``what`` it should be is for the message.

    Raises DataError where it is more than ``most`` bytes, cut off or broken.
    """
    parts: list[bytes] = []
    rest, got = raw, 0
    try:
        while rest:
            member = zlib_ng.decompressobj(31)
            parts.append(member.decompress(rest, most - got + 1))
            got += len(parts[-1])
            if got > most:
                raise DataError(f"{path}: unpacks to more than {most:,} bytes; it is not the file that it is named as")
            if not member.eof:
                raise DataError(f"{path}: cannot be read{what} (the gzip stream is cut off); download it again")
            rest = member.unused_data.lstrip(b"\0")
    except zlib_ng.error as error:  # type: ignore[misc]
        raise DataError(f"{path}: cannot be read{what} (gzip: {error}); download it again") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def leads_out(name: str) -> bool:
    """Return whether the path ``name``, written in a file, leads out of that file's folder."""
    return Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name
