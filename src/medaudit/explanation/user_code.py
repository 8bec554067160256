"""A function in a Python file of the user's, called; what goes wrong there is told in one line."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from medaudit.errors import DataError, UsageError


class _AsItIs(SourceFileLoader):
    """Reads the file itself: compiled code is told from it by second and size only, and an edit may change neither."""

    def get_code(self, fullname: str) -> CodeType | None:
        return self.source_to_code(self.get_data(self.path), self.path)


def called(path: Path, function: str, *given: Any) -> Any:
    """Return what ``function`` in the file ``path`` returns of ``given``; the file is run as it is.

    Raises UsageError where the file has no such function, and DataError where either fails, or ends the program.
    """
    name = "medaudit_user_model"
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
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
