"""The loop against closed forms, and what a training does when something is wrong with it."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from problems import CASES, linear, network, regression, regression_data, squared_error, validate

from medaudit.errors import DataError, UsageError
from medaudit.training import TrainingData, TrainingSettings, load_weights, train
from medaudit.training.schedules import rate_factor

SHORT = TrainingSettings(epochs=4, batch_size=6, seed=3)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_a_linear_model_converges_to_the_least_squares_solution(tmp_path):
    x, y = regression()
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(CASES)]), y, rcond=None)[0].ravel()
    model = linear()
    settings = TrainingSettings(
        epochs=300, batch_size=CASES, optimizer="sgd", momentum=0.0, learning_rate=0.2, schedule="constant"
    )
    train(model, squared_error, regression_data(), settings, folder=tmp_path)
    np.testing.assert_allclose([*model.weight.detach().numpy().ravel(), model.bias.item()], exact, atol=1e-5)


def test_one_step_of_sgd_is_the_gradient_by_hand(tmp_path):
    x, y = regression()
    model = linear()
    w, b = model.weight.detach().numpy().astype(float).T, model.bias.item()
    error = x @ w + b - y
    settings = TrainingSettings(epochs=1, batch_size=CASES, optimizer="sgd", momentum=0.0, learning_rate=0.1)
    trained = train(model, squared_error, regression_data(), settings, folder=tmp_path)
    np.testing.assert_allclose(model.weight.detach().numpy().T, w - 0.1 * 2 * x.T @ error / CASES, atol=1e-6)
    assert trained.history[0]["loss"] == pytest.approx(float((error**2).mean()), rel=1e-6)


def test_clipping_leaves_a_gradient_of_the_norm_asked_for(tmp_path):
    model = linear()
    before = weights(model).clone()
    settings = TrainingSettings(
        epochs=1, batch_size=CASES, optimizer="sgd", momentum=0.0, learning_rate=1.0, clip_norm=0.25
    )
    train(model, squared_error, regression_data(), settings, folder=tmp_path)
    assert torch.linalg.vector_norm(weights(model) - before).item() == pytest.approx(0.25, rel=1e-4)


def test_the_average_is_its_closed_form(tmp_path):
    seen = []

    def loss(model, batch):
        seen.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
        return squared_error(model, batch)

    settings = dataclasses.replace(SHORT, epochs=3, learning_rate=0.05, schedule="constant")
    last = linear()
    train(last, loss, regression_data(), settings, folder=tmp_path / "plain")
    steps = [*seen, weights(last)]  # the weights before each step, and after the last one
    decay, n = 0.8, len(steps) - 1
    closed = decay**n * steps[0] + (1 - decay) * sum(decay ** (n - t) * steps[t] for t in range(1, n + 1))
    model = linear()
    settings = dataclasses.replace(settings, ema_decay=decay)
    trained = train(model, squared_error, regression_data(), settings, folder=tmp_path / "averaged")
    torch.testing.assert_close(weights(model), closed, atol=1e-6, rtol=0)
    read = linear(seed=9)
    load_weights(read, trained.weights)
    assert torch.equal(weights(read), weights(model))


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        ("constant", 7, 1.0),
        ("cosine", 2, 1.0),  # the first step after a warm-up of 2
        ("cosine", 4, 0.75),  # a third of 6: (1 + cos 60°) / 2
        ("cosine", 5, 0.5),
        ("poly", 2, 1.0),
        ("poly", 5, 0.5358867),  # 0.5**0.9
        ("cosine", 0, 0.5),
        ("poly", 1, 1.0),
    ],
)
def test_schedules_have_their_printed_values(schedule, step, factor):
    assert rate_factor(schedule, step, steps=8, warmup_steps=2) == pytest.approx(factor, abs=1e-6)


def test_the_log_says_which_rate_was_used(tmp_path):
    settings = dataclasses.replace(SHORT, schedule="poly", learning_rate=0.1)
    train(linear(), squared_error, regression_data(), settings, folder=tmp_path)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 8, 12, 16]
    expected = [0.1 * (1 - (step - 1) / 16) ** 0.9 for step in (4, 8, 12, 16)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(expected)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    models = [network(), network(), network()]
    for i, seed in enumerate((3, 3, 4)):
        settings = dataclasses.replace(SHORT, seed=seed)
        train(models[i], squared_error, regression_data(jitter=0.1), settings, folder=tmp_path / str(i))
        torch.rand(5)  # what else the program draws must not matter
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_loader_processes_change_no_bit(tmp_path):
    models = [network(), network()]
    for workers in (0, 2):
        settings = dataclasses.replace(SHORT, workers=workers)
        train(models[workers // 2], squared_error, regression_data(0.1), settings, folder=tmp_path / str(workers))
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_the_callers_random_numbers_and_settings_are_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(network(), squared_error, regression_data(), SHORT, folder=tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_no_number_names_the_cases(tmp_path):
    data = regression_data()

    def load(index, rng):
        case = data.load(index, rng)
        return {**case, "y": case["y"] * float("nan")} if index == 17 else case

    with pytest.raises(DataError, match=r"the loss is nan at step \d, cases .*case-17") as error:
        train(linear(), squared_error, TrainingData(data.case_ids, load), SHORT, folder=tmp_path)
    assert str(error.value).count("case-") == 6


def test_a_gradient_that_is_no_number_names_the_cases(tmp_path):
    def loss(model, batch):
        return squared_error(model, batch) + torch.sqrt(model.weight.sum() * 0)  # 0, with an infinite slope

    settings = dataclasses.replace(SHORT, clip_norm=1.0)
    with pytest.raises(DataError, match=r"the gradient is nan at step 1, cases case-"):
        train(linear(), loss, regression_data(), settings, folder=tmp_path)


def test_early_stopping_stops_after_so_many_epochs_without_a_better_one(tmp_path):
    values = iter([5.0, 3.0, 4.0, float("nan"), 3.0, 1.0])
    settings = dataclasses.replace(SHORT, epochs=6, patience=3)
    marks = []

    def validate_by_list(model):
        marks.append(weights(model).clone())
        return {"loss": next(values)}

    trained = train(linear(), squared_error, regression_data(), settings, folder=tmp_path, validate=validate_by_list)
    assert (trained.epochs, trained.stopped_early, trained.best_epoch, trained.best_value) == (5, True, 2, 3.0)
    best = linear(seed=9)
    load_weights(best, trained.best)
    assert torch.equal(weights(best), marks[1])
    # Called again it has nothing to do: validation would run out of values.
    again = train(linear(), squared_error, regression_data(), settings, folder=tmp_path, validate=validate_by_list)
    assert again.epochs == 5
    assert again.stopped_early


def test_higher_is_better_where_it_is_said(tmp_path):
    values = iter([0.1, 0.3, 0.2, 0.25])
    settings = dataclasses.replace(SHORT, monitor="dice", higher_is_better=True)
    trained = train(
        linear(), squared_error, regression_data(), settings, folder=tmp_path, validate=lambda m: {"dice": next(values)}
    )
    assert (trained.best_epoch, trained.stopped_early) == (2, False)


def test_validation_sees_the_average_and_does_not_train(tmp_path):
    modes = []

    def look(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return validate(model)

    settings = dataclasses.replace(SHORT, ema_decay=0.5)
    trained = train(network(), squared_error, regression_data(), settings, folder=tmp_path, validate=look)
    assert set(modes) == {(False, False)}
    model = network(seed=8)
    load_weights(model, trained.weights)
    with torch.no_grad():
        assert validate(model.eval())["loss"] == trained.history[-1]["val_loss"]


def test_several_losses_are_logged_and_one_is_minimised(tmp_path):
    def losses(model, batch):
        error = squared_error(model, batch)
        return {"loss": 2 * error, "error": error}

    trained = train(linear(), losses, regression_data(), SHORT, folder=tmp_path)
    assert trained.history[-1]["loss"] == pytest.approx(2 * trained.history[-1]["error"])
    with pytest.raises(UsageError, match="expected one named 'loss'"):
        train(linear(), lambda m, b: {"dice": squared_error(m, b)}, regression_data(), SHORT, folder=tmp_path / "b")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"optimizer": "lion"}, "no optimizer 'lion'; expected one of adamw"),
        ({"schedule": "step"}, "no schedule 'step'"),
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"patience": 0}, "patience is 0"),
        ({"batch_size": 7, "devices": 2}, "a batch of 7 cannot be dealt evenly to 2"),
        ({"accelerator": "quantum"}, "cannot train on this device"),
        ({"precision": "3-bit"}, "cannot train on this device"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, wrong, said):
    with pytest.raises(UsageError, match=said):
        train(linear(), squared_error, regression_data(), TrainingSettings(**wrong), folder=tmp_path)


def test_no_cases_and_an_unknown_monitor_are_refused(tmp_path):
    with pytest.raises(DataError, match="no cases"):
        train(linear(), squared_error, TrainingData([], lambda i, r: {}), SHORT, folder=tmp_path)
    settings = dataclasses.replace(SHORT, monitor="dice")
    with pytest.raises(UsageError, match="no 'dice' to monitor; it gives loss"):
        train(linear(), squared_error, regression_data(), settings, folder=tmp_path / "b", validate=validate)


def test_mixed_precision_trains_in_bfloat16(tmp_path):
    models = [network(), network()]
    for model, precision in zip(models, ("32-true", "bf16-mixed"), strict=True):
        settings = dataclasses.replace(SHORT, precision=precision)
        train(model, squared_error, regression_data(), settings, folder=tmp_path / precision)
    difference = (weights(models[0]) - weights(models[1])).abs().max()
    assert 0 < difference < 0.02
    assert models[1][0].weight.dtype == torch.float32
