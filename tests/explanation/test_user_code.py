"""A user's file is run as it is now, not as it was compiled before."""

import os
from pathlib import Path

import pytest

from medaudit.errors import DataError, UsageError
from medaudit.explanation.user_code import called


def test_an_edit_that_changes_neither_second_nor_size_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    for value in (15, 16):
        file.write_text(f"def f(x):\n    return x + {value}\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert called(file, "f", 1) == value + 1
    assert list(tmp_path.iterdir()) == [file]  # and nothing is left beside it


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("def g(): pass", UsageError, "has no 'f'"),
        ("raise SystemExit(3)", DataError, "cannot be run: SystemExit"),
        ("def f(): return 1 / 0", DataError, "f failed: ZeroDivisionError"),
    ],
)
def test_what_goes_wrong_in_it_is_said_in_one_line(tmp_path: Path, text: str, error: type, says: str) -> None:
    file = tmp_path / "model.py"
    file.write_text(text)
    with pytest.raises(error, match=says) as caught:
        called(file, "f")
    assert "\n" not in str(caught.value)
