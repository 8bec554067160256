"""The folder of a simulation: claimed by its settings, and written so that a file is either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medaudit.errors import UsageError


def claim(root: Path, settings: Mapping[str, Any], folders: Sequence[str]) -> None:
    """Make ``root`` the folder of this simulation, with its ``folders``; UsageError where it is another's."""
    text = json.dumps(settings, indent=1)
    file = root / "simulation.json"
    if file.exists() and file.read_text() != text:
        raise UsageError(f"{root} holds a simulation with other settings (simulation.json); give a new folder")
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    replace_file(file, text.encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
