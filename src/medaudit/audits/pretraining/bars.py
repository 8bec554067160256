"""The bar over images that are shrunk, which both verbs show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import track


def bar(progress: bool) -> Callable[[Any], Iterable[Any]]:
    """Return what wraps the stream of finished files: a bar on a terminal where ``progress``, else nothing."""
    console = Console(stderr=True)
    if not (progress and console.is_terminal):
        return iter
    return lambda stream: track(stream, "shrinking images", total=len(stream), console=console, transient=True)
