"""MC dropout has the mean and variance of its closed form, the same mask for the same case, and refuses in words."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.dropout import _dropped, _kept, enough, mc_dropout

IMAGES = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def net(rate: float = 0.5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(rate), nn.Flatten(), nn.Dropout(rate),
        nn.Linear(6 * 36, 3),
    )  # fmt: skip


def split_net(head: nn.Module | None = None) -> tuple[nn.Sequential, list[int]]:
    """A net whose dropout lies in its head, and a list that grows by 1 each time its trunk runs."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(trunk, head or nn.Sequential(nn.Dropout(0.5), nn.Linear(6 * 36, 3)))
    calls: list[int] = []
    trunk.register_forward_hook(lambda *_: calls.append(1))
    return model, calls


def test_variance_of_a_linear_layer_is_its_closed_form() -> None:
    # E[w.(m*x)] = w.x and Var = p / (1 - p) sum w^2 x^2 for inverted dropout.
    rng = np.random.default_rng(0)
    w, x, rate = rng.normal(size=12), rng.normal(size=12), 0.3
    kept = np.concatenate([_kept(5, t, 0, 0, 20_000, 12, rate) for t in range(20)])
    inputs = torch.from_numpy(x).expand(len(kept), 12)
    found = _dropped(nn.Dropout(rate), inputs, torch.from_numpy(kept)).numpy() @ w
    variance = rate / (1 - rate) * float((w**2 * x**2).sum())
    n = len(found)
    assert abs(found.mean() - w @ x) < 4 * np.sqrt(variance / n)
    assert found.var() == pytest.approx(variance, rel=0.01)


def test_the_whole_net_has_the_variance_of_the_closed_form() -> None:
    # Through the public function: the log-odds of two classes are linear in the masked input.
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 2))
    p = mc_dropout(model, [IMAGES], passes=1200, seed=1)
    odds = np.log(p[..., 0] / p[..., 1])
    with torch.no_grad():
        w = (model[2].weight[0] - model[2].weight[1]).double().numpy()
        mean = (model.eval()(IMAGES) @ torch.tensor([1.0, -1.0])).double().numpy()
    variance = 0.25 * (w**2 * IMAGES.flatten(1).double().numpy() ** 2).sum(axis=1)
    assert (np.abs(odds.mean(axis=0) - mean) < 4 * np.sqrt(variance / 1200)).all()
    np.testing.assert_allclose(odds.var(axis=0), variance, rtol=5 * np.sqrt(2 / 1200))


@pytest.mark.parametrize("kind", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_is_torch_s_up_to_the_mask(kind: Callable[[float], nn.Module]) -> None:
    x = torch.randn(400, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    layer = kind(0.3)
    shape = (400, 50) if kind is nn.FeatureAlphaDropout else (400, 50, 3)
    kept = torch.from_numpy(_kept(0, 0, 0, 0, 400, int(np.prod(shape[1:])), 0.3)).reshape(
        *shape, *(1,) * (3 - len(shape))
    )
    found = _dropped(layer, x, kept)
    torch.manual_seed(0)
    theirs = layer.train()(x)
    floor = theirs.flatten().mode().values
    on = theirs != floor  # where they did not drop; an affine map of x
    slope, offset = np.polyfit(x[on].numpy(), theirs[on].numpy(), 1)
    torch.testing.assert_close(found, torch.where(kept, slope * x + offset, floor), atol=1e-9, rtol=0)
    assert found.mean() == pytest.approx(0, abs=0.05)
    assert found.var() == pytest.approx(1, abs=0.05)


def test_masks_are_unrelated_between_seeds_passes_layers_cases_and_calls() -> None:
    base = _kept(1, 0, 0, 0, 200, 400, 0.5).ravel()
    for other in (
        _kept(2, 0, 0, 0, 200, 400, 0.5),
        _kept(1, 1, 0, 0, 200, 400, 0.5),
        _kept(1, 0, 1, 0, 200, 400, 0.5),
        _kept(1, 0, 0, 1, 200, 400, 0.5),
        _kept(1, 0, 0, 0, 200, 400, 0.5, call=1),
    ):
        assert abs(np.corrcoef(base, other.ravel())[0, 1]) < 4 / np.sqrt(base.size)
    np.testing.assert_array_equal(_kept(1, 0, 0, 50, 10, 400, 0.5), _kept(1, 0, 0, 0, 200, 400, 0.5)[50:60])


def test_a_layer_that_runs_twice_drops_anew() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            ones = torch.ones(len(x), 500)
            return torch.stack([(self.dropout(ones) * self.dropout(ones)).mean(1) / 4, ones.sum(1) * 0], 1)

    p = mc_dropout(Twice(), [IMAGES], passes=20)
    share = np.log(p[..., 0] / p[..., 1])  # of features that both calls kept
    assert share.mean() == pytest.approx(0.25, abs=0.01)  # one mask for both would give 0.5


def test_whole_channels_are_dropped() -> None:
    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout2d(0.5)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            dropped = self.dropout(x.expand(-1, 5, -1, -1).abs() + 1)
            self.seen.append(dropped)
            return dropped.mean((2, 3))

    model = Channels()
    mc_dropout(model, [IMAGES], passes=10)
    off = torch.stack(model.seen[-10:]) == 0
    assert (off.all(dim=(3, 4)) | ~off.any(dim=4).any(dim=3)).all()
    assert 0.3 < off.double().mean() < 0.7


def test_batch_size_changes_nothing() -> None:
    model = net()
    whole = mc_dropout(model, [IMAGES], passes=4, seed=3)
    parts = mc_dropout(model, IMAGES.split(3), passes=4, seed=3)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    assert not np.allclose(whole, mc_dropout(model, [IMAGES], passes=4, seed=4))
    assert whole.shape == (4, 10, 3)
    assert whole.dtype == np.float64
    assert np.ptp(whole, axis=0).max() > 0.01


def test_only_dropout_is_on_and_modes_come_back() -> None:
    model = net().train()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    before = model[1].running_mean.clone()
    mc_dropout(model, [IMAGES], passes=3)
    torch.testing.assert_close(model[1].running_mean, before)  # BatchNorm never saw the batch

    def broken() -> Iterator[Tensor]:
        yield IMAGES
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        mc_dropout(model, broken(), passes=2)
    with pytest.raises(RuntimeError):
        mc_dropout(model, [torch.zeros(2, 7, 8, 8)], passes=2)  # channels that the net does not take
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_a_rate_near_0_is_the_eval_pass() -> None:
    with torch.no_grad():
        wanted = torch.softmax(net().eval()(IMAGES).double(), 1).numpy()
    far = [np.abs(mc_dropout(net(rate), [IMAGES], passes=20).mean(axis=0) - wanted).max() for rate in (0.2, 0.01, 1e-3)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 0.005


@pytest.mark.parametrize("given", [True, False])
def test_the_head_alone_is_repeated_to_the_same_numbers(given: bool) -> None:
    model, calls = split_net()
    by_hand = []
    for t in range(6):
        kept = torch.from_numpy(_kept(0, t, 0, 0, 10, 216, 0.5))
        with torch.no_grad():
            z = model[1][1](model[0](IMAGES) * kept * 2)
        by_hand.append(torch.softmax(z.double(), 1).numpy())
    calls.clear()
    quick = mc_dropout(model, IMAGES.split(5), passes=6, head=model[1] if given else None)
    assert len(calls) == 2 + 1  # a batch each, and one case to see that the head makes the logits
    np.testing.assert_allclose(quick, np.stack(by_hand), atol=1e-6)


def test_a_head_that_works_in_place_is_repeated_from_the_same_features() -> None:
    head = nn.Sequential(nn.Hardswish(inplace=True), nn.Dropout(0.5), nn.Linear(216, 3))
    model, calls = split_net(head)
    quick = mc_dropout(model, [IMAGES], passes=3)
    assert len(calls) == 2
    flat = nn.Sequential(*model[0], nn.Hardswish(), *head[1:])  # no module but the net holds the dropout
    np.testing.assert_allclose(quick, mc_dropout(flat, [IMAGES], passes=3), atol=1e-6)


def test_what_is_no_head_is_not_repeated() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(64, 3), nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x.flatten(1)) + self.head(x.flatten(1))

    torch.manual_seed(0)
    model = Residual()
    found = mc_dropout(model, [IMAGES], passes=3)
    with torch.no_grad():
        kept = torch.from_numpy(_kept(0, 1, 0, 0, 10, 64, 0.5))
        wanted = model.first(IMAGES.flatten(1)) + model.head[1](IMAGES.flatten(1) * kept * 2)
    np.testing.assert_allclose(found[1], torch.softmax(wanted.double(), 1).numpy(), atol=1e-6)
    with pytest.raises(UsageError, match="does not make the logits"):
        mc_dropout(model, [IMAGES], passes=3, head=model.head)
    with pytest.raises(UsageError, match="does not hold all"):
        mc_dropout(net(), [IMAGES], head=nn.Linear(3, 3))
    with pytest.raises(UsageError, match="not part of the model"):
        mc_dropout(model, [IMAGES], head=nn.Sequential(model.head))


def test_stops_when_the_order_is_stable() -> None:
    model, calls = split_net(nn.Sequential(nn.Dropout(0.02), nn.Linear(216, 3)))
    everything = mc_dropout(model, [IMAGES], passes=64)
    calls.clear()
    few = mc_dropout(model, [IMAGES], passes=64, tolerance=0.9)
    assert 4 <= len(few) < 64
    np.testing.assert_array_equal(few, everything[: len(few)])
    np.testing.assert_array_equal(mc_dropout(model, iter([IMAGES]), passes=64, tolerance=0.9), few)
    half, whole = decompose(everything[: len(few) // 2]).total, decompose(few).total
    assert kendalltau(half, whole).statistic > 0.9
    assert len(mc_dropout(net(0.7), [IMAGES], passes=13, tolerance=0.999999)) == 13
    assert enough(everything[:3], 0.9) == 3
    for wrong in (0.0, 1.0, -0.5):
        with pytest.raises(UsageError, match=r"0\.995"):
            mc_dropout(model, [IMAGES], tolerance=wrong)


class Functional(nn.Module):
    """As timm's nets: dropout by a function, and a module that is never run."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.last = nn.ModuleList(parts), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.dropout(x.flatten(1), 0.5, self.training))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "Sequential has no dropout module"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(64, 2)), "rate 0"),
        (Functional(), "Functional has no dropout module"),
        (Functional(nn.Dropout(0.5)), "gave the same numbers"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 1)), r"shape \(1, 1\)|shape \(10, 1\)"),
    ],
)
def test_refuses_a_net_whose_passes_say_nothing(model: nn.Module, says: str) -> None:
    with pytest.raises(DataError, match=says):
        mc_dropout(model, [IMAGES])


def test_refuses_bad_input() -> None:
    with pytest.raises(DataError, match="not finite"):
        mc_dropout(net(), [IMAGES * float("nan")])
    with pytest.raises(DataError, match="no batch"):
        mc_dropout(net(), [])
    with pytest.raises(UsageError, match="2 or more"):
        mc_dropout(net(), [IMAGES], passes=1)
