"""A pretraining whose weights are cut over two processes (FSDP2) is the one of a single process."""

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
    run(str(HERE / "sharded_program.py"), str(folder), "1", "auto")
    return folder


def numbers_of(folder):
    return [[float(cell) for cell in line.split(",")] for line in (folder / "log.csv").read_text().splitlines()[1:]]


def test_sharded_weights_teacher_and_centre_are_those_of_one_process(tmp_path, of_one):
    run(*TORCHRUN, str(HERE / "sharded_program.py"), str(tmp_path), "2", "fsdp")
    one, two = (checkpoint.read(folder / "weights.pt")["model"] for folder in (of_one, tmp_path))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=0)
    teacher, student = (one[f"{who}.backbone.blocks.0.mlp.fc1.weight"] for who in ("teacher", "student"))
    assert (teacher - student).abs().max() > 1e-4
    for row, other in zip(numbers_of(of_one), numbers_of(tmp_path), strict=True):
        # KoLeo and the entropy of masked patches are means over what each process has; the loss has neither.
        assert other[:6] == pytest.approx(row[:6], abs=2e-5)


def test_a_sharded_training_goes_on_from_its_checkpoint(tmp_path, of_one):
    run(*TORCHRUN, str(HERE / "sharded_program.py"), str(tmp_path), "2", "fsdp")
    found = checkpoint.found(tmp_path)
    states = {path: checkpoint.read(path)["history"][-1]["epoch"] for path in found}
    assert sorted(states.values())[-2:] == [2, 3]
    max(states, key=states.__getitem__).unlink()
    (tmp_path / "weights.pt").unlink()
    run(*TORCHRUN, str(HERE / "sharded_program.py"), str(tmp_path), "2", "fsdp")
    one, two = (checkpoint.read(folder / "weights.pt")["model"] for folder in (of_one, tmp_path))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=0)
