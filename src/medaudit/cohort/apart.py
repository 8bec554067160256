"""Workbooks and Parquet files, read by a process of their own.

Their readers are in Rust, which ends the process where there is no memory for what a file claims. Two cells of a
workbook, A1 and XFD1048576, are a rectangle of 550 GB; a byte of a Parquet file that flipped can be a list of 2^61
entries. So they have a process of their own, with limits of memory and time, and its end is told in one line.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import polars as pl

from medaudit.cohort import table_program
from medaudit.cohort.bounds import VARIABLE, largest
from medaudit.errors import DataError

SECONDS = 300
"""Of processor time, that one table may take."""
_MAGIC = {"workbook": (b"PK", b"\xd0\xcf\x11\xe0"), "Parquet file": (b"PAR1",)}
_PROGRAM = 2 << 30
"""Bytes of addresses that the reader takes before it has read anything."""


def read_apart(
    kind: Literal["workbook", "Parquet file"], path: Path, sheet: str | None = None
) -> tuple[list[str] | None, pl.DataFrame]:
    """Return the first row of a sheet (by default the first) as texts and the rows below it; or a Parquet file's rows.

    Raises DataError where the file cannot be read, has no such sheet, takes more memory than
    :func:`medaudit.cohort.bounds.largest` or more time than :data:`SECONDS`.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a {kind} ({error})") from None
    if not begins.startswith(_MAGIC[kind]):
        raise DataError(f"{path}: cannot be read as a {kind}: it does not begin like one")
    most = largest()
    limits = [str(most), str(3 * most + _PROGRAM), str(SECONDS)]
    command = [sys.executable, "-P", table_program.__file__, *limits, kind, str(path)]
    here = os.environ | {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            [*command, *([sheet] if sheet is not None else [])],
            env=here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise DataError(f"{path}: cannot be read as a {kind} ({error})") from None
    head, _, rest = done.stdout.partition(b"\n")
    if done.returncode != 0 or not head:
        stray = "; delete stray cells far down or far right, or save it as CSV" if kind == "workbook" else ""
        raise DataError(
            f"{path}: cannot be read as a {kind}: it is broken, or takes more than {most / 2**30:g} GiB "
            f"({VARIABLE}) or {SECONDS} seconds{stray}"
        )
    told: dict[str, Any] = json.loads(head)
    if "wrong" in told:
        raise DataError(f"{path}: {told['wrong']}")
    return told["header"], pl.read_ipc_stream(io.BytesIO(rest))
