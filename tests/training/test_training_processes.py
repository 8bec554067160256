"""Several processes give the numbers of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medaudit.training import checkpoint

HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def of_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    run(str(HERE / "program.py"), str(folder), "1")
    return folder


@pytest.mark.parametrize(
    "start", [pytest.param(TORCHRUN, id="torchrun"), pytest.param([], id="itself", marks=pytest.mark.slow)]
)
def test_two_processes_give_the_numbers_of_one_at_the_double_batch(tmp_path, of_one, start):
    run(*start, str(HERE / "program.py"), str(tmp_path), "2")
    for part in ("first", "second"):
        for file in ("weights.pt", "best.pt"):
            one, two = (checkpoint.read(folder / part / file)["model"] for folder in (of_one, tmp_path))
            for name in one:
                torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0)
        one, two = ((folder / part / "log.csv").read_text().splitlines() for folder in (of_one, tmp_path))
        assert one[0] == two[0]
        for row, other in zip(one[1:], two[1:], strict=True):
            numbers = [float(cell) for cell in row.split(",")]
            assert [float(cell) for cell in other.split(",")] == pytest.approx(numbers, abs=1e-6)
