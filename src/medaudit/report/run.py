"""Run: a folder that stands alone: settings and seeds, hashes, measurements, findings, figures, report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl

import medaudit
from medaudit.errors import DataError, UsageError
from medaudit.report.atomic import cannot_write, write_atomically
from medaudit.report.checkpoint import Checkpoint, parquet_bytes
from medaudit.report.finding import Finding
from medaudit.report.html import Report, render
from medaudit.report.lock import Lock
from medaudit.report.saved import from_json, to_json

RECORD = "run.json"
_MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a file of JSON may raise that is no such file: another shape, or nested too deep."""
_PACKAGES = ("numpy", "scipy", "polars", "statsmodels", "numba")


@dataclass(frozen=True)
class Run:
    """One study of one set of inputs, in a folder.

    ``verb``, ``settings`` (with the seed), ``inputs`` (name to hash) and ``versions`` are what makes it this
    run and no other: a folder goes on only under the same four. Until it is finished its inputs may be mended; each
    row knows what it was measured from (:class:`Checkpoint`). Use it as a context manager; the lock is given back
    at the end.
    """

    path: Path
    verb: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    versions: Mapping[str, str]
    started: str
    finished: str | None = None
    _lock: Lock | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path, *, verb: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Run:
        """Return the run in the folder ``path``: a new one, or the one that is there if it is the same study.

        ``settings`` are plain values, those that can change a number: not ``--jobs``, nor where the data lie.
        ``inputs`` maps an input's name to its hash (:func:`hash_file`). Raises UsageError where ``path`` is a file,
        holds another run (naming what differs) or something that is no run, or is being written by another process;
        DataError where it cannot be written.
        """
        path = Path(path)
        wanted = {
            "verb": verb,
            "settings": json.loads(json.dumps(dict(settings), default=str)),
            "inputs": dict(inputs),
            "versions": versions(),
        }
        try:
            refuse_what_is_no_run(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(path)
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {(error.strerror or str(error)).lower()}; choose another --out"
            ) from None
        try:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            finished = None
            if (path / RECORD).exists():
                found = _read_record(path)
                fixed = ("settings", "inputs", "versions") if found["finished"] else ("settings", "versions")
                differences = _differences(found, wanted, fixed)
                if differences:
                    raise UsageError(f"{path} holds another run: {differences}; choose another --out")
                started, finished = found["started"], found["finished"]
            for leftover in path.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            run = cls(path, **wanted, started=started, finished=finished, _lock=lock)
            run._write_record(finished)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """Return the run in the folder ``path`` to be looked at; UsageError where there is none."""
        path = Path(path)
        if not (path / RECORD).is_file():
            raise UsageError(
                f"{path} is not the folder of a run (it has no {RECORD}); give the --out of an earlier run"
            )
        found = _read_record(path)
        return cls(
            path,
            **{key: found[key] for key in ("verb", "settings", "inputs", "versions", "started", "finished")},
        )

    def rows(self, name: str = "measurements") -> Checkpoint:
        """Return the checkpoint of ``{name}.parquet``: the rows so far, and where to put the next."""
        return Checkpoint(self.path, name)

    def measurements(self, name: str = "measurements") -> pl.DataFrame:
        """Return ``{name}.parquet``, a row a case and ruler; DataError where it is not there or damaged."""
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path} is not there: the run was not finished; run the same command again")
        try:
            return pl.read_parquet(path.read_bytes())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}); delete it and run again") from None

    def findings(self) -> list[Finding]:
        """Return the findings of ``findings.json``; DataError where it is not there or damaged."""
        path = self.path / "findings.json"
        try:
            return [Finding.from_dict(entry) for entry in json.loads(path.read_bytes())]
        except FileNotFoundError:
            raise DataError(f"{path} is not there: the run was not finished; run the same command again") from None
        except _MALFORMED as error:
            raise DataError(f"{path} cannot be read ({_short(str(error))}); delete it and run again") from None

    def write_measurements(self, frame: pl.DataFrame, name: str = "measurements") -> Path:
        """Write ``{name}.parquet`` and return its path, for a study that has its numbers at once."""
        return self._write(f"{name}.parquet", parquet_bytes(frame))

    def write_findings(self, findings: Sequence[Finding]) -> Path:
        """Write ``findings.json``, a list of findings, and return its path; it holds no time and no path."""
        return self._write("findings.json", _json_bytes([finding.as_dict() for finding in findings]))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text (``report.html``) into the folder and return its path."""
        return self._write(name, text.encode())

    def write_figure(self, name: str, svg: str) -> Path:
        """Write ``figures/{name}.svg`` and return its path; what a file name cannot hold becomes a dash."""
        return self._write(f"figures/{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')}.svg", svg.encode())

    def write_report(self, report: Report) -> Path:
        """Write ``report.html``, each figure, and ``report.json`` to show it again; return the page's path."""
        for section in report.sections:
            for figure in section.figures:
                self.write_figure(figure.title, figure.svg)
        self.write_text("report.json", to_json(report))
        return self.write_text("report.html", render(report))

    def report(self) -> Report:
        """Return the content of the report that was written; DataError where that is not there or damaged."""
        path = self.path / "report.json"
        try:
            return from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path} is not there: the run was not finished; run the same command again") from None
        except _MALFORMED as error:
            raise DataError(f"{path} cannot be read ({_short(str(error))}); run the same command again") from None

    def render_again(self) -> Path:
        """Write ``report.html`` anew from ``report.json``; DataError where that is not there or damaged."""
        report = self.report()
        try:
            return self.write_text("report.html", render(report))
        except DataError:
            raise
        except Exception as error:  # the words of a page may be anything in a file that was changed by hand
            path = self.path / "report.json"
            raise DataError(f"{path} cannot be shown ({_short(str(error))}); run the same command again") from None

    def finish(self) -> None:
        """Record that the run is complete, and give its lock back."""
        self._write_record(datetime.now(UTC).isoformat(timespec="seconds"))
        self.close()

    def close(self) -> None:
        """Give the run's lock back; what is in the folder stays for the next time."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Run:
        """Return the run itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the lock back."""
        self.close()

    def _write(self, name: str, data: bytes) -> Path:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from None
        write_atomically(path, data)
        return path

    def _write_record(self, finished: str | None) -> None:
        record = {
            "verb": self.verb,
            "settings": self.settings,
            "inputs": self.inputs,
            "versions": self.versions,
            "started": self.started,
            "finished": finished,
        }
        self._write(RECORD, _json_bytes(record))


def versions() -> dict[str, str]:
    """Return the versions of medaudit, Python and the packages that the numbers depend on."""
    found = {"medaudit": medaudit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; DataError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def refuse_what_is_no_run(path: Path) -> None:
    """Raise UsageError where ``path`` is a file, or a folder with something in it that is no run."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; --out needs a folder, which is made if it is not there")
    if path.is_dir() and not (path / RECORD).exists():
        # A run killed in its first instant leaves only these two.
        foreign = sorted(p.name for p in path.iterdir() if p.name not in (".lock", f".{RECORD}.tmp"))
        if foreign:
            raise UsageError(
                f"{path} is not empty and not the folder of a run (it holds '{foreign[0]}' and no {RECORD}); "
                "choose another --out, or an empty folder"
            )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / RECORD).read_bytes())
        for key in ("settings", "inputs", "versions"):
            dict(record[key])
        return {key: record[key] for key in ("verb", "settings", "inputs", "versions", "started", "finished")}
    except _MALFORMED:
        raise UsageError(f"{path / RECORD} is not the record of a medaudit run; choose another --out") from None


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Return at most three differences between two runs in ``parts`` as a phrase; "" where they are the same."""
    if found["verb"] != wanted["verb"]:
        return f"verb was {found['verb']}, now {wanted['verb']}"
    phrases = []
    for part in parts:
        before, now = _flat(found[part]), _flat(wanted[part])
        for key in dict.fromkeys((*now, *before)):
            if before.get(key) == now.get(key):
                continue
            if part == "inputs" and key in before and key in now:
                phrases.append(f"{key} has other contents now")
            else:
                phrases.append(f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}")
    more = f" and {len(phrases) - 3} more" if len(phrases) > 3 else ""
    return ", ".join(phrases[:3]) + more


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a nested mapping as one of dotted names to JSON texts, in which a NaN equals a NaN."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _short(text: str | None) -> str:
    if text is None:
        return "not given"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
