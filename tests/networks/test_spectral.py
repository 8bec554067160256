"""The soft bound against numpy's singular values."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.classification import build_classifier
from medaudit.networks.spectral import spectral_normalised


@pytest.mark.parametrize("layer", [nn.Linear(20, 30), nn.Conv2d(3, 8, 3)])
@pytest.mark.parametrize("gain", [0.1, 20.0])
def test_norm_is_at_most_the_bound_and_small_weights_stay(layer: nn.Module, gain: float) -> None:
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.normal_().mul_(gain)
    before = layer.weight.detach().clone()
    largest = np.linalg.svd(before.flatten(1).numpy(), compute_uv=False)[0]
    spectral_normalised(layer, bound=3.0)
    bounded = layer.weight.detach()
    found = np.linalg.svd(bounded.flatten(1).numpy(), compute_uv=False)[0]
    assert found == pytest.approx(min(largest, 3.0), rel=0.02)
    if largest < 3:
        torch.testing.assert_close(bounded, before)


def test_follows_the_weight_in_training_and_is_kept_in_the_state() -> None:
    torch.manual_seed(0)
    layer = spectral_normalised(nn.Linear(6, 6), bound=1.0)
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_().mul_(10)
    layer.train()
    for _ in range(60):
        _ = layer.weight
    assert np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] == pytest.approx(1.0, rel=1e-3)
    layer.eval()
    again = spectral_normalised(nn.Linear(6, 6), bound=1.0).eval()
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again.weight, layer.weight)


def test_a_net_stretches_no_distance_beyond_its_bounds() -> None:
    net = spectral_normalised(
        nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU()), bound=0.9
    ).eval()
    x, y = torch.randn(2, 500, 5, generator=torch.Generator().manual_seed(0))
    ratio = (net(x) - net(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert ratio.max() <= 0.9**2 * 1.02
    trunk = build_classifier("cpu", 3, seed=0).trunk
    assert spectral_normalised(trunk) is trunk


def test_a_weight_whose_columns_sum_to_0_is_bounded() -> None:
    layer = nn.Linear(6, 8)
    with torch.no_grad():
        weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)) * 10
        layer.weight.copy_(weight - weight.mean(dim=0))  # power iteration from a vector of ones would find 0
    spectral_normalised(layer, bound=1.0)
    assert np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] == pytest.approx(1.0, rel=0.01)


def test_a_weight_of_0_can_learn_and_is_bounded_later() -> None:
    layer = nn.Linear(4, 4)
    nn.init.zeros_(layer.weight)
    spectral_normalised(layer, bound=0.5).train()
    layer(torch.ones(2, 4)).sum().backward()
    raw = layer.parametrizations.weight.original
    torch.testing.assert_close(raw.grad, torch.full((4, 4), 2.0))
    with torch.no_grad():
        raw.normal_(generator=torch.Generator().manual_seed(0)).mul_(10)
    for _ in range(60):
        _ = layer.weight
    assert np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] == pytest.approx(0.5, rel=1e-3)


def test_the_convolution_as_an_operator_is_within_the_stated_factor() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.abs_().mul_(20)  # all of one sign: far from the reshaped kernel's norm
        spectral_normalised(conv, bound=1.0).eval()
        operator = conv(torch.eye(2 * 64).reshape(128, 2, 8, 8)).reshape(128, -1).numpy()
    largest = np.linalg.svd(operator, compute_uv=False)[0]
    assert 1.5 < largest <= 3.0 * 1.01


def test_gradient_is_that_of_the_bounded_weight() -> None:
    torch.manual_seed(0)
    layer = spectral_normalised(nn.Linear(3, 4, bias=False).double(), bound=0.2).eval()
    raw = layer.parametrizations.weight.original
    x = torch.randn(5, 3, dtype=torch.float64)

    def loss() -> torch.Tensor:
        # The same weight through numpy's exact singular value, which autograd knows nothing of.
        sigma = np.linalg.svd(raw.detach().numpy(), compute_uv=False)[0]
        return (x @ raw.detach().T * min(1, 0.2 / sigma)).square().sum()

    (layer(x) ** 2).sum().backward()
    for at in ((0, 0), (2, 1), (3, 2)):
        with torch.no_grad():
            raw[at] += 1e-5
            up = loss()
            raw[at] -= 2e-5
            down = loss()
            raw[at] += 1e-5
        assert float(raw.grad[at]) == pytest.approx(float(up - down) / 2e-5, rel=1e-3, abs=1e-6)


def test_refuses_what_it_cannot_bound() -> None:
    with pytest.raises(DataError, match="nothing to bound"):
        spectral_normalised(nn.ReLU())
    with pytest.raises(DataError, match="bound it once"):
        spectral_normalised(spectral_normalised(nn.Linear(2, 2)))
    for bound in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="above 0"):
            spectral_normalised(nn.Linear(2, 2), bound=bound)
