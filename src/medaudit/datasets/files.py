"""The folder of a simulation, claimed by its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medaudit.cohort.atomic import replace_file
from medaudit.errors import UsageError


def claim(root: Path, settings: Mapping[str, Any], folders: Sequence[str]) -> None:
    """Make ``root`` the folder of this simulation, with its ``folders``; UsageError where it is another's."""
    text = json.dumps(settings, indent=1)
    file = root / "simulation.json"
    if file.exists() and file.read_text() != text:
        raise UsageError(f"{root} holds a simulation with other settings (simulation.json); give a new folder")
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    replace_file(file, text.encode(), flush=False)
