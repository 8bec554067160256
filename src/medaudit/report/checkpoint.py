"""Checkpoint: the rows of a long measurement, kept one by one so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl

from medaudit.errors import DataError
from medaudit.report.atomic import cannot_write, write_atomically


class Checkpoint:
    """The rows of ``{name}.parquet`` while they are measured: a row a key, with a fingerprint of its inputs.

    ``done`` maps a key (a case, or a case and ruler) to its row; it holds what an earlier, killed or
    finished, run of the same folder measured. Rows lie in ``{name}.partial.jsonl`` until :meth:`finish`. A
    row whose line was torn by a kill is simply not there, and is measured anew.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Read the rows that are in ``folder``; DataError where it cannot be read or written."""
        self.table = folder / f"{name}.parquet"
        self._partial = folder / f"{name}.partial.jsonl"
        # What each row was measured from stands beside the table, not in it: a fingerprint may hold a file's
        # time of change, and the table must be the same wherever the same inputs lie.
        self._sidecar = folder / f".{name}.fingerprints.json"
        self.done: dict[str, dict[str, Any]] = {}
        self._fingerprints: dict[str, str] = {}
        self._load_finished()
        size = self._load_partial()
        try:
            self._descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise cannot_write(self._partial, error) from None

    def todo(self, fingerprints: Mapping[str, str]) -> list[str]:
        """Return the keys to be measured, in order: those without a row, or whose inputs have changed."""
        return [k for k, fp in fingerprints.items() if k not in self.done or self._fingerprints[k] != fp]

    def append(self, key: str, row: Mapping[str, Any], fingerprint: str = "") -> None:
        """Keep one row of plain values (numbers, texts, lists of them); it survives a kill from here on.

        Raises DataError on a full disk; the rows before this one are kept.
        """
        plain = {column: _plain(value) for column, value in row.items()}
        line = json.dumps({"key": key, "fingerprint": fingerprint, "row": plain}).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise cannot_write(self._partial, error) from None
        self._keep(key, plain, fingerprint)

    def finish(self, order: Iterable[str]) -> pl.DataFrame:
        """Write ``{name}.parquet`` with the rows of ``order``, drop the partial file, and return the table.

        The order is the caller's, not that of measuring: however many workers measured, and however often
        they were killed, the file is the same byte for byte.
        """
        keys = list(order)
        missing = [key for key in keys if key not in self.done]
        if missing:
            raise ValueError(f"{len(missing)} rows were never measured, the first is {missing[0]!r}")
        rows = [self.done[key] for key in keys]
        frame = pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()
        data = parquet_bytes(frame)
        write_atomically(self.table, data)
        record = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "rows": [[k, self._fingerprints[k]] for k in keys],
        }
        write_atomically(self._sidecar, json.dumps(record).encode())
        self.close()
        self._partial.unlink(missing_ok=True)
        return frame

    def close(self) -> None:
        """Close the partial file; what it holds stays for the next run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Checkpoint:
        """Return the checkpoint itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the partial file, and keep it."""
        self.close()

    def _keep(self, key: str, row: dict[str, Any], fingerprint: str) -> None:
        self.done[key] = row
        self._fingerprints[key] = fingerprint

    def _load_finished(self) -> None:
        try:
            record, data = json.loads(self._sidecar.read_bytes()), self.table.read_bytes()
        except (FileNotFoundError, ValueError):
            return
        except OSError as error:
            raise DataError(f"cannot read {self.table}: {error.strerror}") from None
        if record.get("sha256") == hashlib.sha256(data).hexdigest():
            rows = pl.read_parquet(io.BytesIO(data)).rows(named=True)
            for (key, fingerprint), row in zip(record["rows"], rows, strict=True):
                self._keep(key, row, fingerprint)

    def _load_partial(self) -> int:
        """Read the rows of the partial file and return its size up to the last whole line."""
        try:
            data = self._partial.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise DataError(f"cannot read {self._partial}: {error.strerror}") from None
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._keep(entry["key"], entry["row"], entry["fingerprint"])
            except (ValueError, KeyError, TypeError):
                continue  # a power cut can leave a broken line; its case is measured anew
        return len(whole)


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return the table as a Parquet file; the same table gives the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON gives it back: a resumed and an unbroken run must write the same bytes."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return float("nan")  # NaNs differ in their sign bit, which JSON does not carry
    return value
