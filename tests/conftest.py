"""What holds for all tests."""

import os
from pathlib import Path
from typing import Any

# Both cores are busy with tests: a verb that asks for "a process a core" gets one. Tests of several processes say how
# many they want.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
# Two processes of tests with two threads each wait for one another on two cores: set before torch and numpy are there.
os.environ.setdefault("OMP_NUM_THREADS", "1")


_LONG = ("training", "uncertainty", "cli", "review", "audits")
"""Rooms with the longest tests."""


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Put long tests first: two processes that share the files then end together, on short ones."""
    here = Path(__file__).parent

    def place(item: Any) -> int:
        room = item.path.relative_to(here).parts[0]
        return _LONG.index(room) if room in _LONG else len(_LONG)

    items.sort(key=place)
