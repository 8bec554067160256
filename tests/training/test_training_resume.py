"""Killed and called again, a training ends with the bits of an unbroken one; and what a damaged folder does."""

import dataclasses
import errno
import multiprocessing
import os
import pickle
import random
import signal
import time

import pytest
import torch
from problems import CASES, linear, network, regression_data, squared_error, validate

from medaudit.errors import DataError, UsageError
from medaudit.training import TrainingData, TrainingSettings, checkpoint, load_weights, train

SETTINGS = TrainingSettings(
    epochs=6, batch_size=6, learning_rate=0.02, ema_decay=0.7, clip_norm=0.5, warmup_steps=3, seed=2, checkpoint_every=2
)


def trained_in(folder, settings=SETTINGS, model=None, loss=squared_error, data=None):
    return train(model or network(), loss, data or regression_data(0.1), settings, folder=folder, validate=validate)


def outcome(folder):
    weights = checkpoint.read(folder / "weights.pt")["model"]
    best = checkpoint.read(folder / "best.pt")["model"]
    return {**weights, **{f"best.{k}": v for k, v in best.items()}}, (folder / "log.csv").read_bytes()


def assert_same(folder, other):
    (weights, log), (others, other_log) = outcome(folder), outcome(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert log == other_log


def killed(folder, where, count):
    """Train and kill this process with SIGKILL at the ``count``-th ``where``: a step, or a call of the system."""
    torch.set_num_threads(1)
    left = [count]

    def tick():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def loss(model, batch):
        if where == "step":
            tick()
        return squared_error(model, batch)

    if where != "step":
        system = getattr(os, where)

        def call(*arguments):
            tick()
            return system(*arguments)

        setattr(os, where, call)
    trained_in(folder, loss=loss)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    trained_in(folder)
    return folder


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")  # a fork of this process could inherit a locked thread
    context.set_forkserver_preload(["medaudit.training"])
    return context


def run_until_killed(processes, folder, where, count):
    process = processes.Process(target=killed, args=(folder, where, count))
    process.start()
    process.join(60)
    return process.exitcode


rng = random.Random(20261123)
KILLS = int(os.environ.get("MEDAUDIT_KILLS", "1"))
POINTS = [
    (where, rng.randint(1, 24 if where == "step" else 12))
    for where in ("step", "replace", "fsync") for _ in range(max(1, KILLS // 2))
]  # fmt: skip


@pytest.mark.parametrize(("where", "count"), POINTS)
def test_killed_at_a_random_point_it_ends_with_the_bits_of_an_unbroken_one(tmp_path, processes, unbroken, where, count):
    assert run_until_killed(processes, tmp_path, where, count) == -signal.SIGKILL
    trained_in(tmp_path)
    assert_same(tmp_path, unbroken)
    assert not list(tmp_path.glob(".*.tmp"))


def test_killed_again_and_again_it_still_ends_with_the_same_bits(tmp_path, processes, unbroken):
    for steps in (11, 3, 11, 20):
        run_until_killed(processes, tmp_path, "step", steps)
    trained_in(tmp_path)
    assert_same(tmp_path, unbroken)


def test_killed_from_outside_at_any_time_it_ends_with_the_same_bits(tmp_path, processes, unbroken):
    process = processes.Process(target=killed, args=(tmp_path, "step", 10**9))
    process.start()
    deadline = time.monotonic() + 60
    while not checkpoint.found(tmp_path) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    trained_in(tmp_path)
    assert_same(tmp_path, unbroken)


def test_a_resumed_training_computes_only_what_is_missing(tmp_path, processes):
    run_until_killed(processes, tmp_path, "step", 19)  # 4 steps an epoch, a checkpoint every 2 epochs: 16 are kept
    steps = []

    def loss(model, batch):
        steps.append(1)
        return squared_error(model, batch)

    trained = trained_in(tmp_path, loss=loss)
    assert len(steps) == 24 - 16
    assert len(trained.history) == 6


def test_a_finished_training_is_returned_as_it_was(tmp_path):
    trained = trained_in(tmp_path)
    model = network(seed=9)
    again = trained_in(tmp_path, model=model)
    assert again == trained
    assert torch.equal(model[0].weight, checkpoint.read(trained.weights)["model"]["0.weight"])


def test_a_truncated_checkpoint_falls_back_to_the_one_before_it(tmp_path, unbroken):
    trained_in(tmp_path)
    path = checkpoint.found(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=f"{path.name} is damaged or truncated; trying the one before it"):
        trained_in(tmp_path)
    assert_same(tmp_path, unbroken)


def test_only_damaged_checkpoints_are_one_clear_line(tmp_path):
    trained_in(tmp_path)
    for path in checkpoint.found(tmp_path):
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(DataError, match=r"none of the 2 checkpoints in .* can be read; remove them to start anew"),
    ):
        trained_in(tmp_path)


def full_after(monkeypatch, calls):
    """The disk is full from the ``calls``-th flush on."""
    fsync, left = os.fsync, [calls]

    def full(descriptor):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("calls", range(8, 20, 2))
def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_training_goes_on_from_it(
    tmp_path, monkeypatch, unbroken, calls
):
    with monkeypatch.context() as patch:
        full_after(patch, calls)
        with pytest.raises(DataError, match=r"the disk is full; (the last good checkpoint|there is no checkpoint yet)"):
            trained_in(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))
    kept = checkpoint.found(tmp_path)
    assert all(checkpoint.read(path)["history"] for path in kept)
    trained_in(tmp_path)
    assert_same(tmp_path, unbroken)


def test_a_full_disk_while_a_checkpoint_is_written_names_the_one_that_is_kept(tmp_path, monkeypatch):
    first = checkpoint.save(tmp_path, 1, {"a": torch.ones(3)})
    full_after(monkeypatch, 1)
    with pytest.raises(DataError, match=f"the last good checkpoint, {first.name}, is kept"):
        checkpoint.save(tmp_path, 2, {"a": torch.zeros(3)})
    assert checkpoint.found(tmp_path) == [first]
    assert torch.equal(checkpoint.newest(tmp_path)["a"], torch.ones(3))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (linear, "it has no 'weight' and 1 more"),
        (lambda: network(width=16), "its '0.weight' is 8 x 3, the model's 16 x 3"),
        (lambda: network()[:1], "its '3.weight' is not in the model, nor 1 more"),
    ],
)
def test_a_checkpoint_of_another_architecture_says_what_differs(tmp_path, model, said):
    trained = trained_in(tmp_path)
    with pytest.raises(DataError, match=f"of another architecture: {said}"):
        load_weights(model(), trained.weights)
    with pytest.raises(DataError, match=f"of another architecture: {said}"):
        trained_in(tmp_path, model=model())


def test_a_folder_of_other_settings_or_cases_is_refused(tmp_path):
    trained_in(tmp_path)
    other = dataclasses.replace(SETTINGS, learning_rate=0.03)
    with pytest.raises(UsageError, match=r"holds another training: learning_rate was 0\.02, now 0\.03"):
        trained_in(tmp_path, settings=other)
    data = regression_data()
    with pytest.raises(UsageError, match="holds another training: other cases"):
        trained_in(tmp_path, data=TrainingData([f"other-{i}" for i in range(CASES)], data.load))
    trained_in(tmp_path, settings=dataclasses.replace(SETTINGS, workers=1))  # where it runs may change


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    path = tmp_path / "weights.pt"
    torch.save({"model": Evil()}, path)
    with pytest.raises(DataError, match="holds more than tensors and plain values"):
        load_weights(linear(), path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match=r"weights\.pt"):
        load_weights(linear(), path)
    assert not (tmp_path / "it ran").exists()
    with pytest.raises(DataError, match="is not there"):
        load_weights(linear(), tmp_path / "none.pt")
