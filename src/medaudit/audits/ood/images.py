"""The images of the study: cases acquired anew, numbers that need no model, and pictures for the page."""

from __future__ import annotations

import io
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.audits.ood.design import Design, ShiftSet, with_sets
from medaudit.cohort import Case, Cohort, Role, grey_image
from medaudit.datasets.acquisition import ACQUISITION, DEVICE_SHIFTS, acquire
from medaudit.errors import DataError, UsageError
from medaudit.metrics.image_cues import NAMES, cues
from medaudit.report.atomic import write_atomically
from medaudit.workers import bar, in_processes

ACQUIRED = "acquired"
_KNOWN = ", ".join((*ACQUISITION, *DEVICE_SHIFTS))
SEVERITIES = (1, 2, 3, 4, 5)


def acquisitions(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return (name, severity) of what ``--acquire`` asks: ``gain`` is all five severities, ``gain:3`` or ``gain:1,5``.

    Raises UsageError for a name or severity that is not known.
    """
    wanted = []
    for text in texts:
        name, _, levels = text.partition(":")
        if name not in (*ACQUISITION, *DEVICE_SHIFTS):
            raise UsageError(f"no acquisition shift is called '{name}'; there are: {_KNOWN}")
        try:
            chosen = tuple(int(level) for level in levels.split(",")) if levels else SEVERITIES
        except ValueError:
            chosen = (0,)
        if not set(chosen) <= set(SEVERITIES):
            raise UsageError(f"--acquire {text}: severities are whole numbers from 1 to 5, as '{name}:1,3,5'")
        wanted += [(name, level) for level in chosen]
    return list(dict.fromkeys(wanted))


def with_acquired(
    cohort: Cohort, design: Design, texts: tuple[str, ...], out: Path, *, seed: int, jobs: int, progress: bool
) -> tuple[Cohort, Design]:
    """Return the cohort with its test cases once more for each acquisition, and the design with a set for each.

    The images are written to ``out/acquired/NAME-SEVERITY`` once, and anew where the files they are made from changed.
    """
    wanted = acquisitions(texts)
    if not wanted:
        return cohort, design
    cases = list(cohort.cases("image"))
    _forget_other_images(out / ACQUIRED, [cases[row] for row in design.test])
    tasks = [(cases[row], name, level) for name, level in wanted for row in design.test]
    left = [task for task in tasks if not _path(out, *task).exists()]
    with bar("acquiring images anew", progress) as show:
        run = partial(_acquire, out=out, seed=seed)
        for _ in show(in_processes(run, left, jobs if len(left) > 20 else 1), total=len(tasks), left=len(left)):
            pass
    frames, sets, clusters = [cohort.table], [], [design.clusters]
    column, size = cohort.roles["image"].column, len(cohort)
    source: list[np.ndarray] = []
    for name, level in wanted:
        made = cohort.table[design.test.tolist()]
        paths = [str(_path(out, cases[row], name, level).resolve()) for row in design.test]
        identity = [f"{case_id}@{name}-{level}" for case_id in made["case_id"]]
        patients = cohort.clusters[design.test.tolist()].cast(pl.String)
        made = made.with_columns(
            pl.Series("case_id", identity), pl.Series(column, paths), pl.Series("patient_id", patients)
        )
        frames.append(made)
        sets.append(ShiftSet(f"{name} {level}", "image", size + np.arange(len(design.test)), paired=True))
        size += len(design.test)
        clusters.append(design.clusters[design.test])
        source.append(design.test)
    table = pl.concat(frames, how="diagonal_relaxed")
    larger = with_sets(design, sets, np.concatenate(clusters), np.concatenate(source))
    return replace(cohort, table=table), larger


def merged(cohort: Cohort, other: Cohort) -> tuple[Cohort, str]:
    """Return both cohorts as one, whose column ``dataset`` names them, and the expression that is true of the other."""
    if cohort.name == other.name:
        raise UsageError(f"both datasets are called {cohort.name}; expected another one for --ood-dataset")
    frames = []
    for part in (cohort, other):
        if "image" not in part.roles:
            raise UsageError(f"{part.name}: say where the images are with --image COLUMN or TEMPLATE")
        paths = [None if case.files["image"] is None else str(case.files["image"]) for case in part.cases("image")]
        shared = part.table.with_columns(
            pl.lit(part.name).alias("dataset"),
            pl.Series("image_path", [None if p is None else str(Path(p).resolve()) for p in paths], dtype=pl.String),
            pl.format("{}/{}", pl.lit(part.name), part.clusters.cast(pl.String)).alias("patient_id"),
        )
        frames.append(shared)
    alike = [name for name in frames[0].columns if name in frames[1].columns]
    clash = [n for n in alike if frames[0].schema[n] != frames[1].schema[n]]
    frames = [frame.with_columns(pl.col(name).cast(pl.String) for name in clash) for frame in frames]
    table = pl.concat(frames, how="diagonal_relaxed")
    twice = table["case_id"].is_duplicated()
    if twice.any():
        table = table.with_columns(case_id=pl.format("{}/{}", pl.col("dataset"), pl.col("case_id")))
    whole = Cohort(
        f"{cohort.name} with {other.name}",
        table,
        cohort.root,
        {"image": Role("image_path")},
        # A cohort has one source: what the other dataset's users owe stands among what a reader must know.
        notes=(*cohort.notes, *other.notes, *((f"{other.name}: {other.source.citation}",) if other.source else ())),
        source=cohort.source,
    )
    return whole, f'dataset == "{other.name}"'


def trivial_cues(cohort: Cohort, rows: np.ndarray, *, jobs: int, progress: bool) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the trivial cues and their values (N, C) of the cases ``rows``, on the images as they are."""
    cases = list(cohort.cases("image"))
    found = np.empty((len(rows), len(NAMES)))
    tasks = [(place, cases[row]) for place, row in enumerate(rows)]
    with bar("looking at trivial cues", progress) as show:
        for place, values in show(in_processes(_cues, tasks, jobs if len(tasks) > 50 else 1), total=len(tasks)):
            found[place] = values
    return NAMES, found


def montage(cohort: Cohort, rows: np.ndarray, *, height: int = 120, most: int = 6) -> bytes:
    """Return a PNG of the images of some cases side by side."""
    cases = list(cohort.cases("image"))
    strip = []
    for row in rows[:most]:
        picture = Image.fromarray(np.rint(grey(cases[int(row)])).astype(np.uint8))
        width = max(1, round(picture.width * height / picture.height))
        strip.append(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))
        strip.append(np.full((height, 4), 255, dtype=np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(np.hstack(strip[:-1])).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def grey(case: Case) -> np.ndarray:
    """Return a case's image (H, W) float32 from 0 to 255; DataError naming the case where it cannot be read."""
    array = grey_image(case)
    if array.ndim != 2:
        raise DataError(f"case {case.case_id}: the image has {array.ndim} dimensions; this study is of pictures")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 255:
        return array
    return (array - low) * np.float32(255 / max(high - low, 1e-6))


def _cues(task: tuple[int, Case]) -> tuple[int, list[float]]:
    place, case = task
    values = cues(grey(case))
    return place, [values[name] for name in NAMES]


def _acquire(task: tuple[Case, str, int], *, out: Path, seed: int) -> None:
    case, name, level = task
    # One seed a case and not a severity: a case's shadow grows where it is, and does not jump about.
    own = int(np.random.SeedSequence((seed, zlib.crc32(case.case_id.encode()))).generate_state(1)[0])
    try:
        image = acquire(grey(case), name, level, own)
    except DataError as error:
        said = str(error)
        raise DataError(said if case.case_id in said else f"case {case.case_id}: {said}") from None
    path = _path(out, case, name, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    Image.fromarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8)).save(part, format="PNG", compress_level=1)
    part.replace(path)


def _forget_other_images(folder: Path, cases: Sequence[Case]) -> None:
    """Remove what was acquired from other files than those of now: each file's size and time of change tell."""
    about = [
        (case.case_id, path and path.is_file() and path.stat()) for case in cases for path in [case.files["image"]]
    ]
    now = "\n".join(f"{case} {stat and (stat.st_size, stat.st_mtime_ns)}" for case, stat in about)
    record = folder / "made-from.txt"
    if record.exists() and record.read_text() == now:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_atomically(record, now.encode())


def _path(out: Path, case: Case, name: str, level: int) -> Path:
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in case.case_id)
    return out / ACQUIRED / f"{name}-{level}" / f"{safe}-{zlib.crc32(case.case_id.encode()):08x}.png"
