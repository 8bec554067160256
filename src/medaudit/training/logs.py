"""What a training says while it runs: a CSV file, TensorBoard where it is installed, a bar on a terminal."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medaudit.training.checkpoint import cannot_write, replace

Row = dict[str, float]


def rewrite_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Make ``path`` hold these rows and no others: after a kill it may be ahead of the checkpoint."""
    lines = [_line(rows[0])] if rows else []
    replace(path, "".join([*lines, *(_line(row.values()) for row in rows)]).encode())


def append_csv(path: Path, row: Mapping[str, float]) -> None:
    """Add a row, with the names above it if it is the first. Numbers are printed so that they read back to the bit.

    There is no time in it: an interrupted training leaves the same file as an unbroken one.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(_line(row))
            file.write(_line(row.values()))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from None


def _line(cells: Any) -> str:
    return ",".join(cell if isinstance(cell, str) else repr(cell) for cell in cells) + "\n"


@contextmanager
def tensorboard(folder: Path, first_epoch: int, wanted: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Return what writes a row to TensorBoard, nothing where it is not installed or not ``wanted``.

    Events from ``first_epoch`` on that an interrupted training left are hidden.
    """
    if not wanted or importlib.util.find_spec("tensorboard") is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch) as writer:

        def log(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                writer.add_scalar(name, value, int(row["epoch"]))

        yield log


@contextmanager
def progress_bar(first: int, steps: int, wanted: bool) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Return what moves the bar to a step and shows its losses; on stderr, and only on a terminal."""
    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield lambda step, losses: None
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=steps, completed=first, said="")

        def show(step: int, losses: Mapping[str, float]) -> None:
            bar.update(task, completed=step, said="  ".join(f"{name} {value:.4g}" for name, value in losses.items()))

        yield show
