"""A function in a Python file of the user's, called; what goes wrong there is told in one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from medaudit.errors import DataError, UsageError


def called(path: Path, function: str, *given: Any) -> Any:
    """Return what ``function`` in the file ``path`` returns of ``given``; the file is run as it is.

    Raises UsageError where the file has no such function, and DataError where either fails, or ends the program.
    """
    spec = importlib.util.spec_from_file_location("medaudit_user_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # SystemExit too: a script that ends itself must not end us.
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, function):
        raise UsageError(f"{path} has no '{function}'")
    try:
        return getattr(module, function)(*given)
    except (Exception, SystemExit) as error:
        raise DataError(f"{path}:{function} failed: {type(error).__name__}: {error}") from error
