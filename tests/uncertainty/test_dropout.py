"""MC dropout has the mean and variance of its closed form, the same mask for the same case, and refuses in words."""

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.dropout import _masks, mc_dropout


def net(rate: float = 0.5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(rate), nn.Flatten(), nn.Dropout(rate),
        nn.Linear(6 * 36, 3),
    )  # fmt: skip


IMAGES = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_variance_of_a_linear_layer_is_its_closed_form() -> None:
    # E[w.(m*x)] = w.x and Var = p / (1 - p) sum w^2 x^2 for inverted dropout.
    rng = np.random.default_rng(0)
    w, x, rate = rng.normal(size=12), rng.normal(size=12), 0.3
    masks = np.concatenate([_masks(5, t, 0, 0, 20_000, 12, rate) for t in range(20)]).astype(np.float64)
    found = masks @ (w * x)
    variance = rate / (1 - rate) * float((w**2 * x**2).sum())
    n = len(found)
    assert abs(found.mean() - w @ x) < 4 * np.sqrt(variance / n)
    assert found.var() == pytest.approx(variance, rel=0.01)
    assert set(np.unique(masks)) == {0.0, np.float64(np.float32(1 / 0.7))}


def test_masks_are_unrelated_between_passes_layers_and_cases() -> None:
    base = _masks(1, 0, 0, 0, 200, 400, 0.5).ravel() - 1
    for other in (
        _masks(1, 1, 0, 0, 200, 400, 0.5),
        _masks(1, 0, 1, 0, 200, 400, 0.5),
        _masks(1, 0, 0, 1, 200, 400, 0.5),
    ):
        assert abs(np.corrcoef(base, other.ravel() - 1)[0, 1]) < 4 / np.sqrt(base.size)


def test_batch_size_changes_nothing() -> None:
    model = net()
    whole = mc_dropout(model, [IMAGES], passes=4, seed=3)
    parts = mc_dropout(model, IMAGES.split(3), passes=4, seed=3)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    assert not np.allclose(whole, mc_dropout(model, [IMAGES], passes=4, seed=4))
    assert whole.shape == (4, 10, 3)
    assert np.ptp(whole, axis=0).max() > 0.01


def test_only_dropout_is_on_and_modes_come_back() -> None:
    model = net().train()
    before = model[1].running_mean.clone()
    mc_dropout(model, [IMAGES], passes=3)
    torch.testing.assert_close(model[1].running_mean, before)  # BatchNorm never saw the batch
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())

    def broken() -> object:
        yield IMAGES
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        mc_dropout(model, broken(), passes=2)
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_a_rate_near_0_is_the_eval_pass() -> None:
    model = net(1e-9).eval()
    with torch.no_grad():
        wanted = torch.softmax(model(IMAGES).double(), 1).numpy()
    np.testing.assert_allclose(mc_dropout(model, [IMAGES], passes=2), np.stack([wanted] * 2), atol=1e-6)


def test_the_head_alone_is_repeated_to_the_same_numbers() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten())
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6 * 36, 3))
    model = nn.Sequential(trunk, head)
    calls = []
    trunk.register_forward_hook(lambda *_: calls.append(1))
    whole = mc_dropout(model, IMAGES.split(5), passes=6)
    assert len(calls) == 12
    calls.clear()
    quick = mc_dropout(model, IMAGES.split(5), passes=6, head=head)
    assert len(calls) == 2
    np.testing.assert_allclose(quick, whole, atol=1e-6)


def test_stops_when_the_order_is_stable() -> None:
    draws = mc_dropout(net(0.01), [IMAGES], passes=64, tolerance=0.9)
    assert 4 <= len(draws) < 64


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), UsageError, "no dropout module"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(64, 2)), DataError, "rate 0"),
        (
            nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.1), nn.Linear(64, 2)),
            UsageError,
            "AlphaDropout is not supported",
        ),
    ],
)
def test_refuses_a_net_whose_passes_cannot_differ(model: nn.Module, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        mc_dropout(model, [IMAGES])


def test_refuses_a_head_that_leaves_dropout_out() -> None:
    model = net()
    with pytest.raises(UsageError, match="does not hold all"):
        mc_dropout(model, [IMAGES], head=model[6])
