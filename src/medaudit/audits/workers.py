"""Long work in several processes, one task at a time each, with a bar that shows how much is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medaudit.errors import DataError


def in_processes(run: Callable[[Any], Any], tasks: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Yield what ``run`` returns of each task, in the order of finishing; ``jobs`` -1 means a process a core.

    Raises DataError where a process was killed from outside, with what to do.
    """
    workers = min(cpu_count() if jobs < 0 else max(1, jobs), max(1, len(tasks)))
    if workers == 1:
        yield from (run(task) for task in tasks)
        return
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="2*n_jobs", inner_max_num_threads=1)
    try:
        yield from pool(delayed(run)(task) for task in tasks)
    except BrokenProcessPool:
        raise DataError(
            "a process was killed, most often because memory ran out; what was finished is kept: run the same command "
            f"with fewer than {workers} --jobs"
        ) from None


@contextmanager
def bar(words: str, wanted: bool) -> Iterator[Any]:
    """Return ``show(stream, total, left)``, which passes a stream on and draws how much of ``total`` is done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (wanted and console.is_terminal), transient=True) as progress:

        def show(stream: Iterable[Any], total: int, left: int | None = None) -> Iterator[Any]:
            task = progress.add_task(words, total=total, completed=0 if left is None else total - left)
            for done in stream:
                yield done
                progress.advance(task)

        yield show
