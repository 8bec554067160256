"""Linear equivariant layers: all maps there are, each as its formula, fast as slow, and blind to numbering."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.graphs.equivariant import (
    MODES,
    Mix,
    NodeToNode,
    NodeToPair,
    PairToNode,
    PairToPair,
)

LAYERS = (PairToPair, NodeToPair, PairToNode, NodeToNode)
BEFORE = {PairToPair: 2, NodeToPair: 1, PairToNode: 2, NodeToNode: 1}
EVERY = [(layer, mode) for layer in LAYERS for mode in MODES]


def made(layer: type, mode: str, dtype: torch.dtype = torch.float64, c_in: int = 3, c_out: int = 4) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return layer(c_in, c_out, mode).to(dtype)


def inputs(
    layer: type, n: int, real: list[int], dtype: torch.dtype = torch.float64, c: int = 3
) -> tuple[Tensor, Tensor]:
    """Return numbers, not zero at empty slots, and who exists."""
    drawn = torch.Generator().manual_seed(n)
    x = torch.randn(len(real), c, *[n] * BEFORE[layer], generator=drawn, dtype=torch.float64)
    return x.to(dtype), (torch.arange(n) < torch.tensor(real)[:, None])[:, None].to(dtype)


def maps(layer: type, x: np.ndarray, real: int, mode: str) -> list[np.ndarray]:
    """Return each map of one channel, entry by entry, as spec 1.3 has it; ``real`` slots come first."""
    n = len(x)
    who = range(n if mode == "paper" else real)
    k = len(who)
    if layer is NodeToNode:
        total = sum(x[i] for i in who)
        return [x, np.full(n, total if mode == "paper" else total / k)]
    if layer is NodeToPair:
        mean = sum(x[i] for i in who) / k
        rules = [
            lambda i, j: x[i] * (i == j), lambda i, j: mean * (i == j), lambda i, j: x[j], lambda i, j: x[i],
            lambda i, j: mean,
        ]  # fmt: skip
        return [np.array([[rule(i, j) for j in range(n)] for i in range(n)]) for rule in rules]
    d = [x[i, i] for i in range(n)]
    r = [sum(x[i, j] for j in who) / k for i in range(n)]
    c = [sum(x[j, i] for j in who) / k for i in range(n)]
    dm, a = sum(d[i] for i in who) / k, sum(r[i] for i in who) / k
    if layer is PairToNode:
        scale = k if mode == "paper" else 1
        # Sums over rows, which are a number a column, come first: the released code sums over dim 2, then over dim 3.
        return [
            np.array(d), np.full(n, dm), np.array(c) * scale, np.array(r) * scale, np.full(n, a * scale * scale),
        ]  # fmt: skip
    rules = [
        lambda i, j: d[i] * (i == j), lambda i, j: dm * (i == j), lambda i, j: r[i] * (i == j),
        lambda i, j: c[i] * (i == j), lambda i, j: a * (i == j), lambda i, j: c[i], lambda i, j: r[i],
        lambda i, j: c[j], lambda i, j: r[j], lambda i, j: x[i, j], lambda i, j: x[j, i], lambda i, j: d[i],
        lambda i, j: d[j], lambda i, j: dm, lambda i, j: a,
    ]  # fmt: skip
    return [np.array([[rule(i, j) for j in range(n)] for i in range(n)]) for rule in rules]


@pytest.mark.parametrize(
    ("layer", "ranks"),
    [
        (PairToPair, [1, 8, 14, 15, 15]), (NodeToPair, [1, 4, 5, 5, 5]), (PairToNode, [1, 4, 5, 5, 5]),
        (NodeToNode, [1, 2, 2, 2, 2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_the_maps_are_as_many_as_there_are_ways_to_part_the_axes(layer: type, ranks: list[int], mode: str) -> None:
    for n, rank in enumerate(ranks, start=1):
        size = n ** BEFORE[layer]
        units = torch.eye(size, dtype=torch.float64).view(size, 1, *[n] * BEFORE[layer])
        found = made(layer, mode).ops(units, torch.ones(size, 1, n, dtype=torch.float64))
        assert found.shape[1] == layer.maps
        assert int(torch.linalg.matrix_rank(found.transpose(0, 1).flatten(1))) == rank


@pytest.mark.parametrize(("layer", "mode"), EVERY)
def test_a_layer_is_the_sum_of_the_formulas(layer: type, mode: str) -> None:
    net, (x, exists) = made(layer, mode), inputs(layer, 6, [4, 6, 1])
    found, weight = net(x, exists).detach().numpy(), net.weight.detach().numpy()
    for row, real in enumerate([4, 6, 1]):
        each = np.array([maps(layer, channel, real, mode) for channel in x[row].numpy()])  # channel, map, ...
        wanted = np.einsum("koc,ck...->o...", weight, each) / layer.maps
        if mode == "masked":
            inside = np.arange(6) < real
            wanted = wanted * (inside if wanted.ndim == 2 else np.outer(inside, inside))
        np.testing.assert_allclose(found[row], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("layer", "mode"), EVERY)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_fast_is_slow(layer: type, mode: str, dtype: torch.dtype, near: float) -> None:
    net, (x, exists) = made(layer, mode, dtype, c_in=20, c_out=20), inputs(layer, 13, [13, 7, 1, 0], dtype, c=20)
    learned = [x.requires_grad_(), net.weight, *([exists.requires_grad_()] if mode == "masked" else [])]
    fast, slow = net(x, exists), net.naive(x, exists)
    torch.testing.assert_close(fast, slow, rtol=near, atol=near)
    to = torch.randn(fast.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    for a, b in zip(torch.autograd.grad(fast, learned, to), torch.autograd.grad(slow, learned, to), strict=True):
        scale = float(b.abs().max())
        assert scale > 0
        torch.testing.assert_close(a, b, rtol=0, atol=near * max(1.0, scale))


@pytest.mark.parametrize(("layer", "mode"), EVERY)
def test_gradients_of_both_orders_are_those_of_differences(layer: type, mode: str) -> None:
    net, (x, exists) = made(layer, mode, c_in=2, c_out=2), inputs(layer, 4, [3, 4], c=2)
    exists = (exists * 0.8 + 0.1).requires_grad_()  # soft, as between hard decodes
    assert torch.autograd.gradcheck(net, (x.requires_grad_(), exists))
    assert torch.autograd.gradgradcheck(net, (x, exists))


@pytest.mark.parametrize(("layer", "mode"), EVERY)
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_renumbering_the_input_renumbers_the_output(layer: type, mode: str, n: int) -> None:
    net, (x, exists) = made(layer, mode), inputs(layer, n, [n, max(1, n // 2)])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3))

    def moved(values: Tensor) -> Tensor:
        return values[..., order][..., order, :] if values.ndim == 4 else values[..., order]

    torch.testing.assert_close(net(moved(x), moved(exists)), moved(net(x, exists)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_empty_slots_change_nothing_in_masked_mode_and_much_in_the_papers(layer: type) -> None:
    x, exists = inputs(layer, 6, [6, 6])
    more = torch.nn.functional.pad(x, (0, 5) * BEFORE[layer]), torch.nn.functional.pad(exists, (0, 5))
    inside = (..., *[slice(6)] * (2 if layer in (PairToPair, NodeToPair) else 1))
    net = made(layer, "masked")
    torch.testing.assert_close(net(*more)[inside], net(x, exists), rtol=0, atol=1e-12)
    noisy = more[0] + torch.randn(more[0].shape, dtype=torch.float64) * (1 - _pad_mask(more[1], BEFORE[layer]))
    torch.testing.assert_close(net(noisy, more[1])[inside], net(x, exists), rtol=0, atol=1e-12)
    net = made(layer, "paper")
    apart = float((net(*more)[inside] - net(x, exists)).detach().abs().max())
    assert (apart > 1e-2) == (layer is not NodeToNode)  # a sum of zeros more is the same sum


def _pad_mask(exists: Tensor, axes: int) -> Tensor:
    return exists if axes == 1 else exists.unsqueeze(-1) * exists.unsqueeze(-2)


def test_the_papers_bias_is_there_and_does_nothing() -> None:
    net, (x, exists) = made(PairToPair, "paper"), inputs(PairToPair, 4, [4])
    net(x, exists).sum().backward()
    assert net.bias.grad is None
    assert net.bias.shape == (4,)
    assert made(PairToPair, "masked").bias is None
    with pytest.raises(UsageError, match="no mode 'sum'"):
        PairToPair(1, 1, "sum")


def test_weights_start_as_kaimings_rule_has_them() -> None:
    weight = made(PairToPair, "masked", c_in=25, c_out=40).weight.detach()
    assert weight.shape == (15, 40, 25)
    assert 0.19 < float(weight.abs().max()) <= 0.2  # 1 / sqrt(25)
    assert float(weight.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)


def test_a_mix_is_a_convolution_of_one_pixel() -> None:
    torch.manual_seed(0)
    mix, x = Mix(3, 5).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(x, mix.weight[:, :, None, None], mix.bias)
    torch.testing.assert_close(mix(x), wanted, rtol=0, atol=1e-13)
    torch.testing.assert_close(mix(x[..., 0]), wanted[..., 0], rtol=0, atol=1e-13)
