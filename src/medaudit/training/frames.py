"""Frames: unlabelled images shrunk once into one array of bytes on disk, which pretraining reads a hundred times.

Decoding an image of an archive takes longer than a training step on it. Millions of frames of 256 x 256 bytes are one
memory map, and while it is made no more than one frame a process is in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.lib.format import open_memmap, read_array_header_1_0, read_magic

from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError
from medaudit.training.checkpoint import replace
from medaudit.training.frame_files import FrameFile, Skipped, files_of, frames_in
from medaudit.training.frame_pixels import dhash, framed, grey_frames, sha256_of
from medaudit.training.prepared import FRAMINGS
from medaudit.workers import in_processes

__all__ = ["Frames", "Skipped", "described", "open_frames", "shrink", "told"]

_FORMAT = 1  # another number where the same source would give other bytes
_COMMIT_EVERY = 64  # files between two flushes of pixels and journal; so many are done again after a kill
_SMALLEST = 16
_COLUMNS = {
    "frame_id": pl.String, "path": pl.String, "frame": pl.Int64, "patient_id": pl.String, "sha256": pl.String,
    "dhash": pl.UInt64,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frames:
    """Shrunk frames in ``folder``: ``images`` (n, side, side) uint8, memory-mapped, and ``table``, a row a frame.

    The table's columns: ``frame_id`` (unique; the file's path relative to the source, or the case's id, with ``#12``
    behind it in a clip), ``path``, ``frame`` (from 0), ``patient_id`` (null where unknown), ``sha256`` of the original
    grey pixels and their shape, ``dhash`` (see :func:`medaudit.training.frame_pixels.dhash`). ``mean`` and ``std`` are
    over all pixels of all frames, on [0, 1].
    """

    folder: Path
    images: np.ndarray
    table: pl.DataFrame
    skipped: tuple[Skipped, ...]
    mean: float
    std: float
    framing: str

    @property
    def side(self) -> int:
        """Pixels along each side of a frame."""
        return int(self.images.shape[1])


def shrink(
    source: str | Path | Cohort, folder: Path, *, side: int = 256, framing: str = "letterbox",
    patient: str | None = None, jobs: int = 1, progress: Callable[[Any], Iterable[Any]] = iter,
) -> Frames:  # fmt: skip
    """Return the images of ``source`` as grey frames of ``side`` x ``side`` bytes; they lie in ``folder``, and stay.

    ``source``: a folder, a list of paths, a table or a cohort (see :func:`medaudit.training.frame_files.files_of`), or
    a folder that this function made, which is opened. 8-bit images keep their grey levels; those of 16 bits or floats
    are scaled from their own least to their own largest value, each frame by itself. ``framing`` as in
    :func:`medaudit.training.prepared.prepare`: ``letterbox``, ``stretch`` or ``crop``; shrinking is Pillow's bicubic,
    whose support grows with the factor, so that nothing aliases. ``patient``: a regular expression with one group that
    finds the patient in a path; a DICOM file's own PatientID serves where neither source nor expression says.

    Each frame of a DICOM clip is a frame. What cannot be read, has no pixels, is a volume or has one single grey value
    is skipped, and named in ``skipped``. ``jobs`` processes (-1: one a core). A call that was killed goes on where it
    was and ends with the same bytes; another source, side, framing or ``patient`` makes all anew. ``progress`` wraps
    the stream of finished files, whose ``len`` is how many there are to do.

    Raises DataError where nothing is left or the disk is full, UsageError for a side or framing that cannot be.
    """
    if framing not in FRAMINGS:
        raise UsageError(f"framing is '{framing}'; expected one of {', '.join(FRAMINGS)}")
    if side < _SMALLEST:
        raise UsageError(f"side is {side} pixels; expected at least {_SMALLEST}")
    if not isinstance(source, Cohort) and (Path(source) / "frames.json").is_file():
        found = open_frames(Path(source))
        if found.side != side:
            raise UsageError(f"{source} holds frames of {found.side} pixels a side, not {side}; ask for {found.side}")
        return found
    files, unread = files_of(source, patient)
    wanted = _fingerprint(files, side, framing, patient)
    if (folder / "frames.json").is_file() and _json(folder / "frames.json").get("source") == wanted:
        return open_frames(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _shrink_all(files, folder, wanted, side, framing, jobs, progress)
        return _finish(files, unread, done, folder, wanted, framing)
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"{folder}: cannot be written ({why}); mend that and call again, it goes on there") from None


def open_frames(folder: Path) -> Frames:
    """Return the frames that :func:`shrink` made in ``folder``, memory-mapped; DataError where it did not finish."""
    about = _json(folder / "frames.json")
    try:
        images = np.load(folder / "frames.npy", mmap_mode="r")
        table = pl.read_parquet(folder / "frames.parquet")
        skipped = tuple(Skipped(path, reason) for path, reason in about["skipped"])
        found = Frames(folder, images, table, skipped, about["mean"], about["std"], about["framing"])
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{folder}: its frames are damaged ({error}); remove the folder and shrink again") from None
    if images.ndim != 3 or images.dtype != np.uint8 or table.height != len(images):
        raise DataError(f"{folder}: {table.height} rows for frames of {images.shape}; remove it and shrink again")
    return found


def described(frames: Frames) -> dict[str, Any]:
    """Return what there is in plain values: how many frames and patients, their statistics, what was skipped and why.

    ``patients`` counts the known ones; ``without_patient`` the frames of nobody known.
    """
    who = frames.table["patient_id"]
    return {
        "folder": str(frames.folder), "frames": len(frames.images), "side": frames.side, "framing": frames.framing,
        "patients": who.drop_nulls().n_unique(), "without_patient": who.null_count(), "mean": frames.mean,
        "std": frames.std, "skipped": [asdict(one) for one in frames.skipped],
    }  # fmt: skip


def told(frames: Frames) -> list[str]:
    """Return the same in lines for a reader, with the first three that were skipped."""
    about = described(frames)
    unknown = f" ({about['without_patient']:,} frames of unknown patients)" if about["without_patient"] else ""
    lines = [
        f"{frames.folder}: {about['frames']:,} frames of {frames.side} x {frames.side} pixels, {frames.framing}",
        f"patients  {about['patients']:,}{unknown}",
        f"mean, SD  {frames.mean:.4f}, {frames.std:.4f} of all pixels, black 0 and white 1",
        f"skipped   {len(frames.skipped):,}",
    ]
    lines += [f"  {one.path}: {one.reason}" for one in frames.skipped[:3]]
    more = len(frames.skipped) - 3
    return [*lines, f"  and {more:,} more; --json names all"] if more > 0 else lines


@dataclass(frozen=True)
class _Counted:
    """A stream of finished files, and how many there will be: a progress bar wants to know."""

    stream: Iterator[Any]
    left: int

    def __iter__(self) -> Iterator[Any]:
        return self.stream

    def __len__(self) -> int:
        return self.left


def _shrink_all(
    files: list[FrameFile], folder: Path, wanted: str, side: int, framing: str, jobs: int, progress: Any
) -> dict[int, dict[str, Any]]:
    """Write each file's frames into its rows of ``frames.npy``; return what the journal says of each file.

    The journal is flushed after the pixels it speaks of: what stands in it is on the disk.
    """
    record, journal, pixels = folder / "making.json", folder / "making.jsonl", folder / "frames.npy"
    counts, done = _resumed(record, journal, pixels, wanted, len(files))
    if counts is None:
        (folder / "frames.json").unlink(missing_ok=True)
        record.unlink(missing_ok=True)
        journal.write_bytes(b"")
        counts = [n for batch in in_processes(_counts, list(_batches(files)), jobs, ordered=True) for n in batch]
        # An empty file of its full length: the disk gives room only to what is written.
        open_memmap(pixels, mode="w+", dtype=np.uint8, shape=(sum(counts), side, side)).flush()
        replace(record, json.dumps({"source": wanted, "counts": counts}).encode())
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    left = [i for i in range(len(files)) if i not in done]
    if not left:
        return done
    tasks = ((i, files[i].file, files[i].path, counts[i], int(first[i]), pixels, side, framing) for i in left)
    with journal.open("ab") as said, pixels.open("rb+") as written:
        waiting: list[bytes] = []

        def commit() -> None:
            os.fsync(written.fileno())
            said.write(b"".join(waiting))
            said.flush()
            os.fsync(said.fileno())
            waiting.clear()

        try:
            for row in progress(_Counted(in_processes(_shrink_file, tasks, jobs), len(left))):
                done[row["file"]] = row
                waiting.append(json.dumps(row).encode() + b"\n")
                if len(waiting) >= _COMMIT_EVERY:
                    commit()
        finally:
            commit()
    return done


def _shrink_file(task: tuple[int, str | None, str, int, int, Path, int, str]) -> dict[str, Any]:
    """Write the frames of one file; return its kept frames, its skipped ones, and the patient in it."""
    i, file, path, n, first, pixels, side, framing = task
    kept: list[list[Any]] = []
    skipped: list[tuple[str, str]] = []
    patient: str | None = None
    with pixels.open("rb+") as out:
        start = _offset(pixels)
        try:
            for frame, (grey, who) in enumerate(grey_frames(file, n)):
                patient = who
                if grey.min() == grey.max():
                    skipped.append((_frame_id(path, frame, n), "one grey value"))
                    continue
                small = framed(grey, side, framing)
                out.seek(start + (first + frame) * side * side)
                out.write(small.tobytes())
                levels = small.astype(np.int64)
                kept.append([frame, sha256_of(grey), dhash(small), int(levels.sum()), int((levels * levels).sum())])
        except DataError as error:
            # Where the file lies is the reader's own; a table of frames may be handed on.
            skipped.append((path, str(error).removeprefix(f"{file}: ").replace(str(file), path)))
    return {"file": i, "kept": kept, "skipped": skipped, "patient": patient}


def _finish(
    files: list[FrameFile], unread: list[Skipped], done: dict[int, dict[str, Any]], folder: Path, wanted: str,
    framing: str,
) -> Frames:  # fmt: skip
    """Move the kept frames together, and write the table and at last ``frames.json``."""
    counts = json.loads((folder / "making.json").read_bytes())["counts"]
    skipped, total, squares = list(unread), 0, 0
    at: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    first = 0
    for i, (one, n) in enumerate(zip(files, counts, strict=True)):
        row = done[i]
        skipped += [Skipped(path, reason) for path, reason in row["skipped"]]
        for frame, sha256, bits, its_sum, its_squares in row["kept"]:
            at.append(first + frame)
            total, squares = total + its_sum, squares + its_squares
            values = (_frame_id(one.name, frame, n), one.path, frame, one.patient or row["patient"], sha256, bits)
            for name, value in zip(_COLUMNS, values, strict=True):
                columns[name].append(value)
        first += n
    if not at:
        why = f"{skipped[0].path}: {skipped[0].reason}"
        raise DataError(f"{folder}: no frame is left of {len(skipped)} that were tried; the first is {why}")
    side = _compact(folder / "frames.npy", np.asarray(at), first)
    pixels = len(at) * side * side
    mean = total / pixels
    # In whole numbers up to here: the order of the files does not change the last bit.
    std = max(squares * pixels - total * total, 0) ** 0.5 / pixels
    table = io.BytesIO()
    pl.DataFrame(columns, schema=_COLUMNS).write_parquet(table)
    replace(folder / "frames.parquet", table.getvalue())
    about = {
        "format": _FORMAT, "source": wanted, "frames": len(at), "side": side, "framing": framing, "mean": mean / 255,
        "std": std / 255, "skipped": [astuple(one) for one in skipped],
    }  # fmt: skip
    replace(folder / "frames.json", json.dumps(about, indent=1).encode())
    for name in ("making.json", "making.jsonl"):
        (folder / name).unlink(missing_ok=True)
    return open_frames(folder)


def _compact(path: Path, at: np.ndarray, slots: int) -> int:
    """Leave only the frames ``at`` in the file, in a copy that replaces it; return the side of a frame."""
    images = np.load(path, mmap_mode="r")
    side = int(images.shape[1])
    # A call that was killed just after this step finds it done.
    if len(at) == slots or len(images) == len(at):
        return side
    copy = path.with_name("kept.npy")
    kept = open_memmap(copy, mode="w+", dtype=np.uint8, shape=(len(at), side, side))
    for start in range(0, len(at), 256):
        kept[start : start + 256] = images[at[start : start + 256]]
    kept.flush()
    del kept, images
    os.replace(copy, path)
    return side


def _resumed(
    record: Path, journal: Path, pixels: Path, wanted: str, n: int
) -> tuple[list[int] | None, dict[int, dict[str, Any]]]:
    """Return the frames that each file was given and what the journal says, or None where all is to be made anew."""
    if not (record.is_file() and journal.is_file() and pixels.is_file()):
        return None, {}
    about = _json(record)
    if about.get("source") != wanted:
        return None, {}
    done: dict[int, dict[str, Any]] = {}
    whole = 0
    content = journal.read_bytes()
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # the call was killed while it wrote this line
        try:
            row = json.loads(line)
        except ValueError:
            break  # the disk has damaged it
        done[row["file"]] = row
        whole += len(line)
    if whole < len(content):
        os.truncate(journal, whole)
    try:
        slots = len(np.load(pixels, mmap_mode="r"))
    except (OSError, ValueError):
        return None, {}
    # Kept frames are moved together when all files are done, and not before.
    if slots != sum(about["counts"]) and len(done) < n:
        return None, {}
    return about["counts"], done


def _batches(files: list[FrameFile], size: int = 256) -> Iterator[list[str | None]]:
    for start in range(0, len(files), size):
        yield [one.file for one in files[start : start + size]]


def _counts(files: list[str | None]) -> list[int]:
    return [frames_in(file) for file in files]


def _fingerprint(files: list[FrameFile], side: int, framing: str, patient: str | None) -> str:
    """Return what tells whether the frames would be the same: names, patients, and each file's size and time."""
    digest = hashlib.sha256(repr((_FORMAT, side, framing, patient)).encode())
    for one in files:
        try:
            about = os.stat(one.file) if one.file is not None else None
        except OSError:
            about = None
        told = (one.name, one.path, one.patient, about and (about.st_size, about.st_mtime_ns))
        digest.update(f"{told!r}\n".encode())
    return digest.hexdigest()


def _frame_id(name: str, frame: int, n: int) -> str:
    return name if n == 1 else f"{name}#{frame}"


def _offset(pixels: Path) -> int:
    """Return where the pixels of a npy file begin."""
    with pixels.open("rb") as file:
        read_magic(file)
        read_array_header_1_0(file)
        return file.tell()


def _json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path.parent}: no shrunk frames here; make them with `medaudit data shrink`") from None
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged; remove it to shrink again") from None
    if not isinstance(about, dict):
        raise DataError(f"{path} is damaged; remove it to shrink again")
    return about
