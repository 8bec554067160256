"""What makes a run this run, and what its page says of that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from medaudit.cohort import Cohort
from medaudit.report import Run


def fingerprint(cohort: Cohort) -> str:
    """Return the SHA-256 of who the cases are and where their files lie: what makes a run this run."""
    roles = sorted((name, role.column, role.fill, role.label) for name, role in cohort.roles.items())
    return hashlib.sha256(f"{cohort.table.write_json()}{roles}".encode()).hexdigest()


def told(
    run: Run, dataset: str = "", *, more: Mapping[str, Any] | None = None, seconds: Mapping[str, float] | None = None
) -> list[tuple[str, str]]:
    """Return what is needed to make a page again: the dataset, the settings, hashes of the inputs, versions.

    ``more`` is what only this study has to say, ``seconds`` how long this call spent on what.
    """
    settings = {name: value for name, value in run.settings.items() if name != "torch"}
    pairs = {
        **({"dataset": dataset} if dataset else {}),
        **{name.replace("_", " "): value for name, value in settings.items()},
        **(more or {}),
        **{f"seconds of this call: {part}": f"{spent:.0f}" for part, spent in (seconds or {}).items()},
        **{f"input: {name}": value for name, value in run.inputs.items()},
        **{f"version: {name}": value for name, value in run.versions.items()},
        **({"version: torch": run.settings["torch"]} if "torch" in run.settings else {}),
    }
    return [(name, _words(value)) for name, value in pairs.items()]


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)
