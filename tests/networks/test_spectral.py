"""The soft bound against numpy's singular values."""

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.networks.classification import build_classifier
from medaudit.networks.spectral import spectral_normalised


@pytest.mark.parametrize("layer", [nn.Linear(20, 30), nn.Conv2d(3, 8, 3)])
@pytest.mark.parametrize("gain", [0.1, 20.0])
def test_norm_is_at_most_the_bound_and_small_weights_stay(layer: nn.Module, gain: float) -> None:
    torch.manual_seed(0)
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
