"""The command line as a user calls it, in this process: what it says, and the code it ends with."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_cohorts import Said, masks_of_two_readers

from medaudit.cli.main import run

Medaudit = Callable[..., Said]


@pytest.fixture
def medaudit(capsys: pytest.CaptureFixture[str]) -> Medaudit:
    """Return a function that runs `medaudit ARGUMENTS...` and returns what it said."""

    def call(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as stop:
            run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Return the table of a fresh cohort of 14 small cases, whose files a test may break."""
    return masks_of_two_readers(tmp_path / "cohort", 14)
