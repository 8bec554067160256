"""Keep the memory of a step for the next one: on a CPU a training otherwise maps and clears it anew each time."""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of glibc's malloc.h
_NEVER = (1 << 31) - 1


@functools.cache
def keep_memory() -> bool:
    """Tell glibc's allocator to keep what is freed in this process; return whether it could be told.

    By default blocks over 32 MB are mapped when they are asked for and unmapped when they are freed, and each page is
    cleared by the kernel at its first touch. The process then keeps its largest size until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # another C library
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, 64 << 20)])
