"""Schedules in closed form, the rates that each weight really gets while the loop runs, and the teacher's average."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from medaudit.networks.backbones import open_backbone
from medaudit.networks.vit import ViTShape
from medaudit.training import TrainingData, checkpoint, train
from medaudit.training.dinov2.crops import CropLaw, draw
from medaudit.training.dinov2.model import DinoV2, Objective
from medaudit.training.dinov2.rates import cosine, groups_of, linear
from medaudit.training.dinov2.recipe import PRESETS, Recipe
from medaudit.training.dinov2.run import pretrain
from medaudit.training.frames import Frames

RECIPE = Recipe(
    shape=ViTShape(24, 3, 2, patch=8, side=32, registers=1, layer_scale=1.0, drop_path=0.3),
    crops=CropLaw(32, 16, 1),
    prototypes=16,
    hidden=16,
    bottleneck=8,
    precision="32-true",
    batch_size=4,
    steps=20,
    epochs=2,
    side=40,
    freeze_last=0.1,
)


# Closed forms


def test_a_cosine_starts_at_0_has_its_height_when_it_is_warm_the_middle_half_way_and_its_end_at_the_end():
    def rate(step):
        return cosine(step, 1_000, 4e-3, 1e-6, warmup=100)

    assert rate(0) == 0
    assert rate(33) == pytest.approx(4e-3 * 33 / 99)
    assert rate(99) == pytest.approx(4e-3)
    assert rate(100) == pytest.approx(4e-3)
    assert rate(550) == pytest.approx((4e-3 + 1e-6) / 2)
    assert rate(1_000) == pytest.approx(1e-6)
    assert rate(999) == pytest.approx(1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + math.cos(math.pi * 899 / 900)))


def test_the_schedules_are_the_arrays_of_dinov2():
    steps, warm, start, end = 50, 7, 0.3, 0.02
    rest = np.arange(steps - warm)
    array = np.concatenate(
        [np.linspace(0, start, warm), end + 0.5 * (start - end) * (1 + np.cos(np.pi * rest / len(rest)))]
    )
    assert [cosine(i, steps, start, end, warmup=warm) for i in range(steps)] == pytest.approx(array.tolist())
    array = np.concatenate([np.linspace(0.04, 0.07, 15), np.full(35, 0.07)])
    assert [linear(i, 0.04, 0.07, 15) for i in range(steps)] == pytest.approx(array.tolist())


def test_the_papers_schedules_have_the_papers_numbers():
    paper = Objective(replace(PRESETS["vit-s"], steps=1_000), 0, 0.0, 1.0)
    assert [paper.temperature(i) for i in (0, 299, 300, 999)] == pytest.approx([0.04, 0.07, 0.07, 0.07])
    assert [paper.momentum(i) for i in (0, 500, 1_000)] == pytest.approx([0.992, 0.996, 1.0])
    assert paper.recipe.rate == 4e-3
    assert replace(paper.recipe, batch_size=256).rate == 2e-3
    groups = [{"rate": 1.0, "decay": 1.0, "last": last} for last in (False, True)]
    seen = {}
    for step in (0, 9, 10, 99, 100, 550, 1_000):
        paper.steering().rates(groups, paper.recipe.rate, step, 1_000)
        seen[step] = groups[0]["lr"], groups[1]["lr"], groups[0]["weight_decay"]
    assert seen[0] == pytest.approx((0, 0, 0.04))
    assert seen[9][0] > seen[9][1] == 0
    assert seen[10][0] == seen[10][1] > 0
    assert seen[99][:2] == pytest.approx((4e-3, 4e-3))
    assert seen[550][0] == pytest.approx((4e-3 + 1e-6) / 2)
    assert seen[1_000] == pytest.approx((1e-6, 1e-6, 0.4))


# In the loop


def images(n=8, side=40):
    return np.random.default_rng(1).integers(0, 256, (n, side, side), dtype=np.uint8)


def data(recipe=RECIPE):
    some = images()

    def load(index, rng):
        return {"image": torch.from_numpy(some[index]), "drawn": torch.from_numpy(draw(recipe.crops, rng))}

    return TrainingData([str(i) for i in range(len(some))], load)


def watched(folder, recipe, at_step, model=None):
    """Train, and call ``at_step(model, optimizer's groups, step)`` after each step."""
    torch.manual_seed(0)
    model = model or DinoV2(recipe)
    objective = Objective(recipe, 0, 0.3, 0.2)
    steering, kept = objective.steering(), []

    def rates(groups, highest, step, steps):
        kept[:] = [groups]
        return steering.rates(groups, highest, step, steps)

    def after(model, step, steps):
        steering.after_step(model, step, steps)
        at_step(model, kept[0], step)

    train(
        model, objective.loss_of, data(recipe), replace(recipe.settings(0), monitor="loss"),
        folder=folder, steering=replace(steering, rates=rates, after_step=after), progress=False,
    )  # fmt: skip
    return model


def test_each_weight_has_the_rate_and_decay_of_its_depth_and_kind_while_it_trains(tmp_path):
    def look(model, groups, step):
        of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
        base = cosine(step, 20, RECIPE.rate, 1e-6, warmup=2)
        decay = cosine(step, 20, 0.04, 0.4)
        for name, parameter in model.student.named_parameters():
            part, _, name = name.partition(".")
            power = 0
            if part == "backbone" and not name.startswith("norm"):
                power = 3 - int(name.split(".")[1]) if name.startswith("blocks") else 4
            factor = 0.9**power * (0.2 if name.startswith("patch_embed") else 1.0)
            if name.startswith("last_layer"):
                factor = float(step >= 2)
            still = name.endswith(("bias", "gamma")) or "norm" in name
            assert of.pop(id(parameter)) == pytest.approx((base * factor, 0.0 if still else decay)), name
        assert not of  # and nothing of the teacher
        seen.append(step)

    seen = []
    watched(tmp_path, RECIPE, look)
    assert seen == list(range(20))


def test_the_prototypes_rest_at_first_and_move_then_while_the_rest_moves(tmp_path):
    before, moved = {}, []

    def look(model, groups, step):
        now = {name: p.detach().clone() for name, p in model.student.named_parameters()}
        if before:
            moved.append({name for name in now if not torch.equal(now[name], before[name])})
        before.update(now)

    torch.manual_seed(0)
    model = DinoV2(RECIPE)
    before.update({name: p.detach().clone() for name, p in model.student.named_parameters()})
    watched(tmp_path, RECIPE, look, model)
    last = {"head.last_layer.weight_g", "head.last_layer.weight_v"}
    assert moved[0] == set()  # its rate is 0
    assert moved[1] == before.keys() - last
    assert moved[2] == before.keys()


def test_groups_hold_each_weight_once_and_as_few_as_there_are_rates():
    student = DinoV2(RECIPE).student
    groups = groups_of(student.backbone, student.head, 3, 0.9, 0.2)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in student.parameters())
    assert len({(g["rate"], g["decay"], g["last"]) for g in groups}) == len(groups) == 12
    assert len(groups_of(student.backbone, student.head, 3, 1.0, 1.0)) == 3


# The teacher


def test_the_teacher_is_the_geometric_sum_of_the_students_of_all_steps(tmp_path):
    start = torch.manual_seed(0) and DinoV2(RECIPE)
    students = []

    def look(model, groups, step):
        students.append([p.detach().clone() for p in model.student.parameters()])
        assert not model.teacher.training
        assert model.student.training
        assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())

    recipe = replace(RECIPE, momentum=1.0)  # a cosine from 1 to 1: the teacher never moves
    model = watched(tmp_path / "still", recipe, look)
    for one, other in zip(model.teacher.parameters(), start.teacher.parameters(), strict=True):
        assert torch.equal(one, other)

    students.clear()
    model = watched(tmp_path / "moving", replace(RECIPE, momentum=0.8), look)
    m = [cosine(step, 20, 0.8, 1.0) for step in range(20)]
    expected = [p.detach().double() for p in start.teacher.parameters()]
    for momentum, student in zip(m, students, strict=True):
        expected = [momentum * t + (1 - momentum) * s.double() for t, s in zip(expected, student, strict=True)]
    for one, other in zip(model.teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-6, rtol=1e-5)


def test_with_one_momentum_a_resting_student_is_approached_as_a_power():
    torch.manual_seed(0)
    model = DinoV2(RECIPE)
    first = [p.clone() for p in model.teacher.parameters()]
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(torch.randn_like(p))
    model.student.register_buffer("count", torch.tensor(7))
    model.teacher.register_buffer("count", torch.tensor(0))
    for _ in range(6):
        model.follow(0.7)
    for theirs, ours, start in zip(model.teacher.parameters(), model.student.parameters(), first, strict=True):
        torch.testing.assert_close(theirs, 0.7**6 * start + (1 - 0.7**6) * ours, atol=1e-5, rtol=1e-5)
    assert int(model.teacher.count) == 7


def test_the_teacher_drops_no_path_has_no_gradient_and_the_student_does():
    torch.manual_seed(0)
    model = DinoV2(RECIPE).train()
    x = torch.randn(8, 1, 32, 32)
    first, second = (model.teacher.backbone(x).cls for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(*(model.student.backbone(x).cls for _ in range(2)))
    masks = torch.zeros(8, 16, dtype=torch.bool)
    masks[1, 3:6] = True
    model(x, torch.randn(4, 1, 16, 16), masks, 0.05)["loss"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    assert not model.train().teacher.training
    assert not any(part.training for part in model.teacher.modules())


def test_what_is_exported_is_the_teacher_and_not_the_student(tmp_path):
    table = pl.DataFrame({"frame_id": [f"f{i}" for i in range(8)]})
    frames = Frames(tmp_path, images(), table, (), 0.3, 0.2, "letterbox")
    pretrain(frames, replace(RECIPE, crops=replace(RECIPE.crops, flip="h")), tmp_path / "run", progress=False)
    weights = checkpoint.read(tmp_path / "run" / "training" / "weights.pt")["model"]
    teacher, student = (
        {name.removeprefix(f"{who}.backbone."): w for name, w in weights.items() if name.startswith(f"{who}.backbone")}
        for who in ("teacher", "student")
    )
    exported = open_backbone(tmp_path / "run")
    vit = exported.net.state_dict()
    assert vit.keys() == teacher.keys()
    assert all(torch.equal(vit[name], teacher[name]) for name in teacher)
    assert not any(torch.equal(vit[name], student[name]) for name in student if "mlp" in name)
