"""Randomised, refactored and shifted networks: what changes, what must not, and what each method is known to do."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from medaudit.errors import UsageError
from medaudit.explanation.warrants import invariance as inv
from medaudit.explanation.warrants import randomisation as rd


def gradient(model, x, targets):
    x = x.detach().clone().requires_grad_()
    scores = model(x)
    (found,) = torch.autograd.grad((scores.sum(1) if targets is None else scores.gather(1, targets[:, None])).sum(), x)
    return found.sum(1)


def times_input(model, x, targets):
    return gradient(model, x, targets) * x[:, 0]


def path(model, x, targets, steps=8):
    at = (torch.arange(steps) + 0.5) / steps
    return sum(gradient(model, a * x, targets) for a in at) / steps * x[:, 0]


class Net(nn.Module):
    """A small net that uses one activation for all places and calls its layers in another order than it defines."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(1, 8, 3, padding=1, stride=2, bias=False)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        return self.head(self.relu(self.second(x)).flatten(1))


@pytest.fixture(scope="module")
def trained():
    """Return a net trained on digits, 64 of them, and their labels."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16, torch.from_numpy(labels)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(120):
        rows = torch.arange(64 * step, 64 * step + 64) % 1500
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    model.eval()
    assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.8
    return model, x[1500:1564], y[1500:1564], x[:300]


def test_random_parameters_change_gradients_and_hardly_what_is_multiplied_by_the_image(trained):
    model, x, y, data = trained
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    assert rd.layers_of(model, x) == ("head", "second", "norm", "first")
    found = {
        of.__name__: rd.parameter_randomisation(of, model, x, y, data=data, seeds=2)
        for of in (gradient, times_input, path)
    }
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())
    one = found["gradient"]
    assert one.similarity.shape == (4, 2, 64)
    # The order of Adebayo et al., and the reason for it: most of a digit is black, and black times anything is black.
    complete = {name: np.nanmean(result.complete) for name, result in found.items()}
    assert complete["gradient"] < 0.3 < 0.6 < min(complete["times_input"], complete["path"])
    # Multiplication alone, without a model, gives as much.
    assert np.nanmean(one.controls["times-input"]) == pytest.approx(complete["times_input"], abs=0.15)
    # What is not randomised is in no mean (Quantus averages it in).
    np.testing.assert_allclose(one.average, one.similarity.reshape(8, 64).mean(0))
    again = rd.parameter_randomisation(gradient, model, x, y, data=data, seeds=2, at_once=10)
    np.testing.assert_allclose(again.similarity, one.similarity, atol=0.01)
    alone = rd.parameter_randomisation(
        gradient, model, x, y, data=data, seeds=1, cascading=False, layers=["first", "head"]
    )
    assert alone.layers == ("first", "head")
    with pytest.raises(UsageError, match="one by one"):
        _ = alone.complete
    with pytest.raises(UsageError, match="batch normalisation"):
        rd.parameter_randomisation(gradient, model, x, y)


def test_layers_begin_as_they_began(trained):
    model, x, _, data = trained
    other = rd.randomise(copy.deepcopy(model), ["first"], seed=3)
    assert torch.equal(other.second.weight, model.second.weight)
    torch.manual_seed(3)
    fresh = nn.Conv2d(1, 8, 3, padding=1, stride=2, bias=False)
    assert torch.equal(other.first.weight, fresh.weight)
    rd.refresh_statistics(other, data, batch=300)
    inside = other.first(data)
    np.testing.assert_allclose(other.norm.running_mean, inside.mean((0, 2, 3)).detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other.norm.running_var, inside.var((0, 2, 3)).detach(), rtol=1e-4, atol=1e-6)
    assert not other.norm.training
    assert other.norm.momentum == 0.1
    zero = rd.randomise(copy.deepcopy(model), ["head"], seed=0, initialise=lambda layer: nn.init.zeros_(layer.weight))
    assert zero.head.weight.abs().max() == 0

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.scale * images

    with pytest.raises(UsageError, match=r"layer '' \(Own\) has no reset_parameters"):
        rd.parameter_randomisation(gradient, Own(), x)


def test_entropy_rises_where_structure_was(trained):
    model, x, y, data = trained
    even = np.arange(200.0).reshape(1, 200)
    assert rd.histogram_entropy(even, 100)[0] == pytest.approx(np.log(100))
    assert rd.histogram_entropy(np.repeat([[0.0, 1.0]], 50, axis=0), 10)[0] == pytest.approx(np.log(2))
    assert rd.histogram_entropy(np.ones((1, 9)))[0] == 0
    found = rd.efficient_randomisation(gradient, model, x, y, data=data, seeds=1)
    assert found.rise.shape == (64,)
    same = rd.efficient_randomisation(lambda m, z, t: z[:, 0], model, x, y, data=data, seeds=1)
    assert np.abs(same.rise).max() == 0
    pairs = rd.between_models(gradient, [model, model, rd.randomise(copy.deepcopy(model), ["head"], seed=1)], x, y)
    np.testing.assert_allclose(pairs[0, 1], 1)
    assert pairs[0, 2].mean() < 0.5


def test_equal_networks_are_equally_explained_by_gradients_and_not_by_modules(trained):
    model, x, y, _ = trained
    models, missing = inv.equivalents(model, x)
    assert set(models) == {"folded", "own-activations", "factored"}
    assert missing == {"one-activation": "nothing to change"}
    assert not any(isinstance(part, nn.BatchNorm2d) for part in models["folded"].modules())
    assert sum(isinstance(part, nn.ReLU) for part in models["own-activations"].modules()) == 2
    assert len([part for part in models["factored"].modules() if isinstance(part, nn.Linear)]) == 2
    for other in models.values():
        np.testing.assert_allclose(other(x).detach(), model(x).detach(), atol=1e-4)
    assert inv.implementation_invariance(gradient, model, x, y).worst < 1e-4

    def by_modules(net, images, targets):
        """Return a map that depends on how many modules a net has."""
        return gradient(net, images, targets) + len(list(net.modules()))

    assert inv.implementation_invariance(by_modules, model, x, y).worst > 0.1

    def refuses(net, images, targets):
        if not any(isinstance(part, nn.BatchNorm2d) for part in net.modules()):
            raise ValueError("no normalisation")
        return gradient(net, images, targets)

    found = inv.implementation_invariance(refuses, model, x, y)
    assert found.refused == {"folded": "ValueError: no normalisation"}
    assert found.worst == float("inf")
    several = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
    )
    made, _ = inv.equivalents(several, x)
    assert set(made) == {"one-activation", "factored"}
    assert made["one-activation"][1] is made["one-activation"][3]
    back, _ = inv.equivalents(made["one-activation"], x)
    assert "own-activations" in back


def test_a_shift_that_is_undone(trained):
    model, x, y, _ = trained
    moved = inv.shifted(model, x, 0.7)
    np.testing.assert_allclose(moved(x + 0.7).detach(), model(x).detach(), atol=1e-4)
    assert not any(isinstance(part, inv.Subtract) for part in moved.modules())
    assert inv.shift_invariance(gradient, model, x, y, shift=0.7).worst < 1e-4
    # What takes black to be absence sees another image.
    assert inv.shift_invariance(times_input, model, x, y, shift=0.7).worst > 0.5

    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, images):
            return self.net(images**2)

    late = inv.shifted(Later(), x, 0.7)
    assert isinstance(late[0], inv.Subtract)
    np.testing.assert_allclose(late(x + 0.7).detach(), Later()(x).detach(), atol=1e-4)


def test_bits_that_change_are_seen(trained):
    model, x, y, _ = trained
    assert inv.determinism(gradient, model, x, y).all()
    calls = iter(range(9))

    def drifts(net, images, targets):
        found = gradient(net, images, targets)
        found[3, 0, 0] += 1e-6 * next(calls)
        return found

    same = inv.determinism(drifts, model, x, y)
    assert not same[3]
    assert same.sum() == 63
