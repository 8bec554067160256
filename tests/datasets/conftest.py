"""Where the public data lie that some tests read."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Return the folder of the public data, MEDAUDIT_DATA or ../shared/data beside the project."""
    beside = Path(__file__).parents[2] / "../shared/data"
    folder = Path(os.environ.get("MEDAUDIT_DATA", beside)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set MEDAUDIT_DATA")
    return folder
