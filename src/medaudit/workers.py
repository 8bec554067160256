"""Long work in several processes, one task at a time each, with a bar that shows how much is done.

Every room that hands work to processes does it here, so that what holds of one holds of all: a worker runs one thread,
few tasks wait in line, and a process that is killed from outside ends in one line that says what to do. Inside
:func:`medaudit.clusters.engine` the processes are those of a Dask or Ray cluster, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medaudit.clusters import current, on_cluster
from medaudit.errors import DataError

Done = TypeVar("Done")


def in_processes(
    run: Callable[..., Done], tasks: Iterable[Any], jobs: int, *, ordered: bool = False, at_once: int | None = None
) -> Iterator[Done]:
    """Yield what ``run`` returns of each task, in the order of finishing, or of the tasks where ``ordered``.

    ``jobs``: how many processes, -1 for one a core; with one nothing leaves this process. ``at_once``: how many tasks
    go to a process together, for tasks shorter than the way to it; None lets joblib find out. With an engine its
    workers do the tasks, also where ``jobs`` is 1: at most ``jobs`` at a time, -1 for all workers. Raises DataError
    where a process was killed from outside, with what to do.
    """
    if current() is not None:
        yield from on_cluster(run, tasks, jobs, ordered=ordered, at_once=at_once)
        return
    workers = cpu_count() if jobs < 0 else max(1, jobs)
    if isinstance(tasks, Sized):
        workers = min(workers, max(1, -(-len(tasks) // (at_once or 1))))
    if workers == 1:
        yield from (run(task) for task in tasks)
        return
    pool = Parallel(
        n_jobs=workers,
        return_as="generator" if ordered else "generator_unordered",
        pre_dispatch=f"{2 * (at_once or 1)}*n_jobs",
        batch_size=at_once or "auto",
        inner_max_num_threads=1,
    )
    try:
        yield from pool(delayed(run)(task) for task in tasks)
    except BrokenProcessPool:
        raise DataError(
            "a process was killed, most often because memory ran out; what was finished is kept: run the same command "
            f"with fewer than {workers} --jobs"
        ) from None


@contextmanager
def bar(words: str, wanted: bool) -> Iterator[Any]:
    """Return ``show(stream, total, left)``, which passes a stream on and draws how much of ``total`` is done.

    It draws on standard error, and only where that is a terminal.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (wanted and console.is_terminal), transient=True) as progress:

        def show(stream: Iterable[Done], total: int, left: int | None = None) -> Iterator[Done]:
            task = progress.add_task(words, total=total, completed=0 if left is None else total - left)
            for done in stream:
                yield done
                progress.advance(task)

        yield show


def shown(stream: Iterable[Done], words: str, total: int, wanted: bool) -> Iterator[Done]:
    """Yield the stream with a bar of ``total`` while it lasts."""
    with bar(words, wanted) as show:
        yield from show(stream, total)
