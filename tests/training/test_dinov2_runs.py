"""A pretraining as a whole: it learns, goes on where it was stopped, is the same in two processes, and says what fails.

Also a program, under torchrun: ``test_dinov2_runs.py FRAMES FOLDER``.
"""

import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medaudit.errors import DataError, UsageError
from medaudit.networks.vit import ViTShape
from medaudit.training import checkpoint
from medaudit.training.dinov2.model import DinoV2, Objective
from medaudit.training.dinov2.monitors import OnlineProbe, _knn, alarm, rankme, watching
from medaudit.training.dinov2.recipe import PRESETS
from medaudit.training.dinov2.run import pretrain
from medaudit.training.frames import open_frames, shrink

SMOKE = PRESETS["smoke"]
TINY = replace(
    SMOKE,
    shape=ViTShape(24, 2, 2, patch=8, side=32, registers=0, layer_scale=1.0),
    crops=replace(SMOKE.crops, global_side=32, local_side=16),
    prototypes=16,
    hidden=24,
    bottleneck=12,
    batch_size=8,
    steps=6,
    epochs=3,
    side=40,
)
APART = replace(TINY, batch_norm=False, koleo=0.0, steps=4, epochs=4)  # what no process needs others' images for
CENTRINGS = ("centre", "sinkhorn")
PATIENTS = 12


def texture(kind, rng, side):
    """Stripes down or across, a lattice or rings, under much light and noise of its own; no mirror changes a kind."""
    y, x = np.mgrid[:side, :side] / side
    phases, many = rng.uniform(0, 2 * math.pi, 2), 2 * math.pi * rng.uniform(5, 7)
    down, across = np.sin(many * x + phases[0]), np.sin(many * y + phases[1])
    rings = np.sin(many * np.hypot(x - rng.uniform(), y - rng.uniform()) + phases[0])
    wave = (down, across, 1.4 * down * across, rings)[kind]
    light = rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y
    grey = 128 + 40 * wave + 60 * light + rng.uniform(-25, 25) + rng.normal(0, 8, (side, side))
    return grey.clip(0, 255).astype(np.uint8)


def shrunk(folder, n, side):
    rng = np.random.default_rng(0)
    (folder / "png").mkdir()
    for i in range(n):
        Image.fromarray(texture(i % 4, rng, 56)).save(folder / "png" / f"p{i // 4 % PATIENTS:02d}_{i:03d}.png")
    return shrink(folder / "png", folder / "frames", side=side, patient=r"^(p\d+)_")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return shrunk(tmp_path_factory.mktemp("few"), 20, 40)


def run(frames, folder, recipe=TINY, **more):
    return pretrain(frames, recipe, folder, progress=False, **more)


def outcome(folder):
    training = folder / "training"
    return checkpoint.read(training / "weights.pt")["model"], (training / "log.csv").read_bytes()


def assert_same(folder, other):
    (weights, log), (others, other_log) = outcome(folder), outcome(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert log == other_log
    assert (folder / "backbone.json").read_bytes() == (other / "backbone.json").read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("unbroken")
    run(frames, folder)
    return folder


# It goes on where it was stopped


def killed(frames_folder, folder, count):
    """Pretrain and kill this process with SIGKILL in the ``count``-th step."""
    torch.set_num_threads(1)
    loss_of, left = Objective.loss_of, [count]

    def loss(self, network, batch):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss_of(self, network, batch)

    Objective.loss_of = loss
    run(open_frames(frames_folder), folder)


@pytest.mark.parametrize("count", random.Random(11).sample(range(1, 7), 2))
def test_killed_in_a_random_step_it_ends_with_the_bits_of_an_unbroken_one(tmp_path, frames, unbroken, count):
    context = multiprocessing.get_context("forkserver")  # a fork of this process could inherit a locked thread
    context.set_forkserver_preload(["medaudit.training.dinov2.run"])
    process = context.Process(target=killed, args=(frames.folder, tmp_path, count))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    run(frames, tmp_path)
    assert_same(tmp_path, unbroken)


@pytest.mark.parametrize("centring", CENTRINGS)
def test_from_each_checkpoint_it_goes_on_to_the_same_bits(tmp_path, frames, centring):
    recipe = replace(TINY, batch_norm=False, centring=centring, shape=replace(TINY.shape, drop_path=0.4))
    whole = run(frames, tmp_path / "whole", recipe)
    broken = tmp_path / "broken"
    run(frames, broken, recipe)
    checkpoint.found(broken / "training")[0].unlink()
    for name in ("weights.pt", "best.pt", "log.csv"):
        (broken / "training" / name).unlink()
    (broken / "backbone.pt").unlink()
    again = run(frames, broken, recipe)
    assert_same(broken, tmp_path / "whole")
    assert again.history == whole.history
    assert run(frames, broken, recipe).history == whole.history  # and a finished one is returned as it is


def test_workers_that_read_frames_change_nothing(tmp_path, frames, unbroken):
    run(frames, tmp_path, workers=1)
    assert_same(tmp_path, unbroken)


def test_another_seed_is_another_training(tmp_path, frames, unbroken):
    run(frames, tmp_path, seed=1)
    one, other = outcome(tmp_path)[0], outcome(unbroken)[0]
    assert not torch.equal(one["teacher.backbone.pos_embed"], other["teacher.backbone.pos_embed"])


# Two processes


@pytest.fixture(scope="module")
def of_two(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [sys.executable, *torchrun, __file__, str(frames.folder), str(folder)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("centring", CENTRINGS)
def test_two_processes_have_the_losses_and_centres_of_one_with_the_whole_batch(tmp_path, frames, of_two, centring):
    one = run(frames, tmp_path, replace(APART, centring=centring)).history
    header, *rows = (line.split(",") for line in (of_two / centring / "training/log.csv").read_text().splitlines())
    assert len(rows) == len(one) == 4
    for row, expected in zip(rows, one, strict=True):
        found = dict(zip(header, map(float, row), strict=True))
        for name in ("loss", "dino", "ibot", "teacher_entropy", "val_rankme", "val_spread"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    weights, others = outcome(tmp_path)[0], outcome(of_two / centring)[0]
    torch.testing.assert_close(others["centre"], weights["centre"], atol=1e-5, rtol=0)
    assert bool(weights["centre"].any()) == (centring == "centre")
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], atol=1e-5, rtol=0)
    assert (of_two / centring / "backbone.json").is_file()


# What is wrong is said


def test_fewer_frames_than_a_batch_are_refused(tmp_path, frames):
    with pytest.raises(DataError, match="there are 20 frames, and a batch has 32"):
        run(frames, tmp_path, replace(TINY, batch_size=32))
    with pytest.raises(DataError, match="there are 3 frames, and a batch has 8"):
        run(frames, tmp_path, rows=[0, 5, 7])
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_names_the_frames(tmp_path, frames):
    names = frames.table["frame_id"].to_list()
    with pytest.raises(DataError, match=r"the loss is nan at step 1, cases .*png, .*look at their images") as raised:
        run(replace(frames, std=math.nan), tmp_path, rows=range(8))
    assert all(name in str(raised.value) for name in names[:8])
    assert names[8] not in str(raised.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(TINY, shape=replace(TINY.shape, dim=48)), r"shape\.dim was 24, now 48"),
        (replace(TINY, koleo=0.0), r"koleo was 0\.1, now 0\.0"),
        (replace(TINY, crops=replace(TINY.crops, locals=3)), r"crops\.locals was 2, now 3"),
        (
            replace(TINY, teacher_temperature=(0.04, 0.07)),
            r"teacher_temperature was \[0\.02, 0\.02\], now \[0\.04, 0\.07\]",
        ),
        (replace(TINY, steps=9), "steps was 6, now 9"),
    ],
)
def test_a_folder_of_another_recipe_is_refused_with_what_differs(frames, unbroken, other, said):
    with pytest.raises(DataError, match=f"holds a pretraining of another recipe: {said}; choose another folder"):
        run(frames, unbroken, other)


def test_a_folder_from_before_recipes_were_kept_goes_on_and_still_tells_architectures_apart(tmp_path, frames, unbroken):
    run(frames, tmp_path)
    kept = tmp_path / "training" / "recipe.json"
    kept.unlink()
    with pytest.raises(DataError, match=r"of another architecture: its 'student.backbone.cls_token' is 1 x 1 x 24"):
        run(frames, tmp_path, replace(TINY, shape=replace(TINY.shape, dim=48)))
    kept.unlink()
    run(frames, tmp_path)
    assert_same(tmp_path, unbroken)
    kept.write_text("{")
    with pytest.raises(DataError, match=r"recipe\.json is damaged"):
        run(frames, tmp_path)


def test_a_folder_of_another_seed_or_other_frames_is_refused(frames, unbroken):
    with pytest.raises(UsageError, match="holds another training: seed was 0, now 1"):
        run(frames, unbroken, seed=1)
    with pytest.raises(UsageError, match="holds another training: other cases"):
        run(frames, unbroken, rows=range(12))


def test_recipes_that_cannot_be_are_refused():
    for wrong, said in (
        ({"fidelity": "exact"}, "fidelity is 'exact'"),
        ({"centring": "none"}, "centring is 'none'"),
        ({"batch_size": 1}, "a batch of 1"),
        ({"precision": "16-mixed"}, "float16"),
        ({"crops": replace(TINY.crops, local_side=20)}, "crops of 20 pixels"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(TINY, **wrong)


# Monitors


def test_the_alarm_ends_what_has_collapsed_or_does_not_learn_and_nothing_else():
    recipe = replace(SMOKE, steps=1_000, epochs=10)
    check, plateau = alarm(recipe), math.log(recipe.prototypes)
    fine = {"step": 300, "dino": 0.9 * plateau, "val_rankme": 5.0, "val_spread": 0.3}
    check(fine)
    check({"step": 1_000, "dino": 0.9 * plateau})
    with pytest.raises(DataError, match=r"has collapsed at step 300 of 1000: .*\(RankMe 1\.02\)"):
        check({**fine, "val_rankme": 1.02})
    with pytest.raises(DataError, match="has collapsed"):
        check({**fine, "step": 200, "val_spread": 1e-6})
    with pytest.raises(DataError, match=r"has collapsed .* all images have one prototype \(DINO loss 0\.001\)"):
        check({**fine, "dino": 0.001})
    with pytest.raises(DataError, match=r"does not learn at step 300 of 1000: its DINO loss is 4\.8\d\d, and 4\.852"):
        check({**fine, "dino": 0.999 * plateau})
    check({**fine, "step": 200, "dino": plateau})  # a mean over steps that are not late yet
    check({**fine, "step": 100, "val_rankme": 1.003})
    alarm(SMOKE)({**fine, "step": 20, "dino": 1.03 * plateau})  # a third of 60 steps, and yet the beginning


def test_a_fresh_net_of_the_papers_is_no_collapse_at_the_first_look(frames):
    recipe = replace(PRESETS["vit-s"], shape=replace(PRESETS["vit-s"].shape, depth=2, dim=48), prototypes=8)
    torch.manual_seed(0)
    seen = watching(recipe, frames.images, frames.mean, frames.std, None)(DinoV2(recipe).eval())
    assert seen["rankme"] < 1.1  # LayerScale begins near 0, so all class tokens are nearly one
    row = {f"val_{name}": value for name, value in seen.items()}
    alarm(recipe)({**row, "step": recipe.steps // recipe.epochs, "dino": math.log(recipe.prototypes)})


def test_a_training_without_centring_collapses_and_is_ended(tmp_path, frames):
    nothing = replace(
        TINY, batch_norm=False, centring="centre", centre_momentum=1.0, koleo=0.0, momentum=0.5, learning_rate=0.02,
        steps=60, epochs=3, freeze_last=0.0,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"the training has collapsed at step 60 of 60: all images have one prototype"):
        run(frames, tmp_path, nothing)


def test_a_training_that_stays_at_guessing_is_ended(tmp_path, frames):
    still = replace(
        TINY, batch_norm=False, centring="centre", teacher_temperature=(0.5, 0.5), student_temperature=0.5,
        learning_rate=1e-7, least_rate=0.0, steps=72, epochs=6,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"does not learn at step 72 of 72: its DINO loss is 2\.9.* \(ln K\)"):
        run(frames, tmp_path, still)
    assert len(checkpoint.found(tmp_path / "training")) == 2  # of the epochs before


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_r_equal_directions_is_r(rank):
    features = torch.eye(8)[:rank].repeat(5, 1) * 3
    assert rankme(features) == pytest.approx(rank, abs=1e-3)


def test_rankme_of_one_feature_for_all_is_1_and_knows_no_scale():
    assert rankme(torch.ones(30, 16)) == pytest.approx(1, abs=1e-3)
    x = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    assert 10 < rankme(x) < 16
    assert rankme(100 * x) == pytest.approx(rankme(x))


def test_neighbours_of_the_same_patient_do_not_vote():
    # Each patient's frames lie together, the patients of a class apart: nearest of all is the patient's own.
    axes = torch.eye(4)
    cls = torch.cat([axes[:1] + 0.01 * axes[2:3], axes[:1] + 0.02 * axes[2:3], axes[1:2], axes[1:2] + 0.01 * axes[3:]])
    own = OnlineProbe(range(4), [0, 0, 1, 1], ["a", "a", "b", "b"])
    assert _knn(cls, own) == 0  # who asks the other patient hears the other class
    others = OnlineProbe(range(4), [0, 0, 1, 1], ["a", "b", "c", "d"])
    assert _knn(cls, others) == 1
    mixed = OnlineProbe(range(4), [0, 1, 1, 1], ["a", "a", "b", "b"])
    assert _knn(cls, mixed) == pytest.approx(1 / 4)


def test_what_is_watched_is_the_teacher(frames):
    torch.manual_seed(0)
    model = DinoV2(TINY).eval()
    probe = OnlineProbe(range(20), [i % 4 for i in range(20)], frames.table["patient_id"].to_list())
    look = watching(TINY, frames.images, frames.mean, frames.std, probe)
    before = look(model)
    assert set(before) == {"rankme", "rankme_patch", "spread", "knn"}
    with torch.no_grad():
        for p in model.student.parameters():
            p.zero_()
    assert look(model) == before


# It learns

QUICK = replace(
    SMOKE,
    shape=replace(SMOKE.shape, depth=2, side=32),
    crops=replace(SMOKE.crops, global_side=32, local_side=16),
    prototypes=16,
    learning_rate=2e-2,
    momentum=0.9,
    steps=45,
    side=40,
)


def test_a_few_steps_leave_guessing_and_tell_textures_apart_better_than_a_fresh_net(tmp_path):
    frames = shrunk(tmp_path, 96, 40)
    kinds = [int(name[4:7]) % 4 for name in frames.table["frame_id"].to_list()]
    probe = OnlineProbe(range(96), kinds, frames.table["patient_id"].to_list())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = watching(QUICK, frames.images, frames.mean, frames.std, probe)(DinoV2(QUICK).eval())
    done = run(frames, tmp_path / "run", QUICK, probe=probe)
    last, plateau = done.history[-1], math.log(QUICK.prototypes)
    assert last["dino"] < plateau - 0.1
    assert last["ibot"] < plateau / 2  # half of the crops are masked
    assert 0.1 < last["teacher_entropy"] < plateau - 0.5
    assert last["val_rankme"] > 6
    assert last["val_knn"] > fresh["knn"] + 0.15
    assert (done.frames, done.samples) == (96, 45 * 32)
    weights = outcome(tmp_path / "run")[0]
    assert not torch.equal(weights["teacher.backbone.norm.weight"], weights["student.backbone.norm.weight"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in CENTRINGS:
        recipe = replace(APART, centring=kind)
        run(open_frames(Path(sys.argv[1])), Path(sys.argv[2]) / kind, recipe, devices=2, strategy="ddp")
