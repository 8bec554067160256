"""A training's process keeps the memory of a step for the next one."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told to glibc alone")

FAULTS = """
import resource, torch
from medaudit.training.memory import keep_memory
if {keep}:
    assert keep_memory()
for k in range(6):
    if k == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    code = FAULTS.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def test_pages_of_freed_memory_are_not_asked_for_again():
    assert 4 * faults(True) < faults(False)
