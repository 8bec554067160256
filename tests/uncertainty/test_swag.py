"""SWAG draws from the covariance of its equation, and renews BatchNorm for each net that it draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.swag import Swag, renew_batch_norm, swag_predict

GENERATOR = torch.Generator().manual_seed(0)


def states(k: int = 6) -> list[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(1)
    return [{"w": torch.randn(3, generator=rng) * torch.tensor([1.0, 2.0, 0.5])} for _ in range(k)]


def test_moments_by_numpy() -> None:
    snapshots = states()
    table = np.stack([s["w"].double().numpy() for s in snapshots])
    posterior = Swag.of(snapshots, rank=4)
    np.testing.assert_allclose(posterior.mean["w"], table.mean(0), rtol=1e-12)
    np.testing.assert_allclose(posterior.diagonal["w"], table.var(0), rtol=1e-9)
    running = np.stack([row - table[: k + 1].mean(0) for k, row in enumerate(table)])
    np.testing.assert_allclose(posterior.deviations["w"], running[-4:], atol=1e-12)


def test_snapshots_may_come_one_by_one_and_the_first_deviation_is_0() -> None:
    posterior = Swag.of(states(), rank=20)
    stream = Swag.of(iter(states()), rank=20)
    assert posterior.deviations["w"].shape == (6, 3)
    assert (posterior.deviations["w"][0] == 0).all()
    for part in ("mean", "diagonal", "deviations"):
        assert torch.equal(getattr(posterior, part)["w"], getattr(stream, part)["w"])


def test_equal_snapshots_have_no_spread() -> None:
    one = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1e3}
    posterior = Swag.of([one] * 7)
    assert (posterior.diagonal["w"] == 1e-30).all()
    assert torch.equal(posterior.sample(torch.Generator().manual_seed(0))["w"], one["w"])


def test_scale_scales_the_covariance() -> None:
    posterior = Swag.of(states())
    one, four = (posterior.sample(torch.Generator().manual_seed(5), scale)["w"].double() for scale in (1.0, 4.0))
    torch.testing.assert_close(four - posterior.mean["w"], 2 * (one - posterior.mean["w"]), rtol=1e-5, atol=1e-6)


def test_covariance_of_many_samples_is_the_equations() -> None:
    posterior = Swag.of(states(), rank=5)
    draws = np.stack([posterior.sample(GENERATOR)["w"].numpy() for _ in range(15_000)])
    d = posterior.deviations["w"].numpy()
    wanted = np.diag(posterior.diagonal["w"].numpy()) / 2 + d.T @ d / (2 * (len(d) - 1))
    error = 5 * np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / len(draws))
    assert (np.abs(np.cov(draws.T) - wanted) < error).all()


def norm_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()


IMAGES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 3 + 1


def test_identical_snapshots_are_the_net_with_renewed_statistics() -> None:
    model = norm_net()
    posterior = Swag.of([dict(model.state_dict())] * 3)
    found = swag_predict(model, posterior, lambda: [IMAGES], lambda: [IMAGES], samples=2)
    renewed = norm_net()
    renew_batch_norm(renewed, [IMAGES])
    with torch.no_grad():
        wanted = torch.softmax(renewed(IMAGES).double(), 1).numpy()
        stale = torch.softmax(model(IMAGES).double(), 1).numpy()
    np.testing.assert_allclose(found, np.stack([wanted] * 2), atol=1e-5)
    assert np.abs(found[0] - stale).max() > 0.01  # else nothing would show that the statistics were renewed
    torch.testing.assert_close(model[1].running_mean, torch.zeros(4))


def test_a_net_without_batch_norm_needs_no_training_images() -> None:
    # One linear layer: the log-odds' variance over samples follows from the weights' covariance, by hand.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).train()
    snapshots = [{"1.weight": torch.randn(2, 64, generator=torch.Generator().manual_seed(k)) / 30} for k in range(5)]
    posterior = Swag.of(snapshots)
    before = model[1].weight.detach().clone()
    p = swag_predict(model, posterior, lambda: IMAGES[:3].split(2), None, samples=1500, seed=1)
    odds = np.log(p[..., 0] / p[..., 1])
    contrast = np.concatenate([IMAGES[:3].flatten(1).double().numpy()] * 2, axis=1) * np.repeat([1.0, -1.0], 64)
    d = posterior.deviations["1.weight"].flatten(1).numpy()
    covariance = np.diag(posterior.diagonal["1.weight"].flatten().numpy()) / 2 + d.T @ d / (2 * (len(d) - 1))
    wanted = np.einsum("np,pq,nq->n", contrast, covariance, contrast)
    np.testing.assert_allclose(odds.var(axis=0), wanted, rtol=5 * np.sqrt(2 / 1500))
    mean = contrast @ posterior.mean["1.weight"].flatten().numpy()
    assert (np.abs(odds.mean(axis=0) - mean) < 4 * np.sqrt(wanted / 1500)).all()
    assert torch.equal(model[1].weight, before)
    assert model.training


def test_renewed_statistics_are_the_data_s() -> None:
    model = norm_net()
    renew_batch_norm(model, IMAGES.split(8))
    with torch.no_grad():
        seen = model[0](IMAGES)
    torch.testing.assert_close(model[1].running_mean, seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    renew_batch_norm(model, [IMAGES * 5])  # of a net that has statistics already: none of the old ones stays
    with torch.no_grad():
        other = model[0](IMAGES * 5)
    torch.testing.assert_close(model[1].running_mean, other.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model[1].running_var, other.transpose(0, 1).flatten(1).var(1), atol=1e-4, rtol=1e-4)
    assert not model[1].training
    assert model[1].momentum == 0.1


def test_refuses_and_reads_back(tmp_path: Path) -> None:
    model = norm_net()
    posterior = Swag.of([dict(model.state_dict()), dict(norm_net().state_dict())])
    with pytest.raises(UsageError, match="BatchNorm"):
        swag_predict(model, posterior, lambda: [IMAGES], None)
    with pytest.raises(DataError, match="no batch of training images"):
        swag_predict(model, posterior, lambda: [IMAGES], lambda: [])
    with pytest.raises(DataError, match="no batch of images"):
        swag_predict(model, posterior, lambda: [], lambda: [IMAGES])
    with pytest.raises(UsageError, match="2 or more"):
        swag_predict(model, posterior, lambda: [IMAGES], lambda: [IMAGES], samples=1)
    with pytest.raises(
        DataError, match="of another net: its '0\\.weight'"
    ):  # else every sample would be the net itself
        swag_predict(nn.ModuleDict({"net": model}), posterior, lambda: [IMAGES], lambda: [IMAGES])
    with pytest.raises(DataError, match="of another net"):
        swag_predict(nn.Sequential(nn.Conv2d(1, 5, 3)), posterior, lambda: [IMAGES], lambda: [IMAGES])
    with pytest.raises(DataError, match="1 snapshots"):
        Swag.of([dict(model.state_dict())])
    with pytest.raises(DataError, match="0 snapshots"):
        Swag.of([])
    with pytest.raises(DataError, match="snapshot 1 is of another net"):
        Swag.of([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])
    with pytest.raises(DataError, match="snapshot 1 is not finite in 'w'"):
        Swag.of([{"w": torch.zeros(2)}, {"w": torch.tensor([0.0, float("nan")])}])
    with pytest.raises(DataError, match="no floating-point parameter"):
        Swag.of([{"n": torch.tensor(1)}, {"n": torch.tensor(2)}])
    posterior.save(tmp_path / "swag.pt")
    again = Swag.load(tmp_path / "swag.pt")
    one, two = (p.sample(torch.Generator().manual_seed(9)) for p in (posterior, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert "1.running_mean" not in one
