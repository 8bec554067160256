"""torch is imported by those who train, and by nobody else."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["medaudit", "medaudit.cli.main", "medaudit.audits.labels.run", "medaudit.networks.nnunet"]
)
def test_torch_is_not_imported_by(module):
    look = (
        f"import {module}, sys; print([name for name in ('torch', 'monai', 'lightning_fabric') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
