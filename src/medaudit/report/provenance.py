"""What a page says of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medaudit.report.run import Run


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
