"""Tasks for workers: importable there, by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from medaudit.errors import DataError
from medaudit.workers import in_processes


def square(n: int) -> int:
    return n * n


def spread(n: int) -> list[int]:
    """A task that would hand out tasks itself."""
    return sorted(in_processes(square, range(n), 2))


def when(seconds: float) -> tuple[float, float]:
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()


def dies_once(name: str) -> str:
    """Kill the worker by the first task of this name; the file lies in the command's folder."""
    if name == "bad" and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()


def dies(name: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return name


def refuses(name: str) -> str:
    raise DataError(f"case {name}: no such file")


def threads(_: int) -> set[int]:
    """How many threads numeric libraries use, torch's among them."""
    import torch
    from threadpoolctl import threadpool_info

    return {pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()}
