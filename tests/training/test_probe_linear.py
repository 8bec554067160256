"""The linear grid: one product for all rates moves each head as torch's own SGD would; validation alone chooses."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import UsageError
from medaudit.training.probes.linear import (
    LINEAR,
    RATES,
    LinearSettings,
    linear_probabilities,
    linear_probe,
    sgd_heads,
    started,
    variant,
)
from medaudit.training.sampling import places
from medaudit.training.schedules import rate_factor


@dataclass(frozen=True)
class Cached:
    layers: np.ndarray
    mean_patch: np.ndarray


def cached(codes, blocks=4, d=8, apart=4.0, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    layers = noise * rng.normal(size=(len(codes), blocks, d))
    layers[:, -1] += apart * np.eye(3, d)[codes]
    return Cached(layers.astype(np.float32), rng.normal(size=(len(codes), d)).astype(np.float32))


@pytest.mark.parametrize("rescale", [False, True])
def test_all_rates_in_one_product_move_each_head_as_torchs_sgd_moves_it_alone(rescale):
    torch.manual_seed(0)
    features, codes = torch.randn(90, 7), torch.randint(0, 4, (90,))
    settings = LinearSettings(epochs=6, warmup_epochs=2, rescale=rescale, batch_size=32, seed=3)
    weight, bias = sgd_heads(features, codes, 4, settings)
    steps, warmup = 6 * 2, 2 * 2
    for h, rate in enumerate(RATES):
        own = slice(4 * h, 4 * h + 4)
        head = nn.Linear(7, 4)
        with torch.no_grad():
            head.weight.copy_(started(7, len(RATES), 4, 3)[0][:, own].T)
            head.bias.zero_()
        scaled = rate * (32 / 256 if rescale else 1)
        optimizer = torch.optim.SGD(head.parameters(), lr=scaled, momentum=0.9, weight_decay=0.0)
        for step, some in enumerate(places(90, 32, 3, range(steps), 0, 1)):
            optimizer.param_groups[0]["lr"] = scaled * rate_factor("cosine", step, steps, warmup)
            rows = [index for index, _ in some]
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(features[rows]), codes[rows]).backward()
            optimizer.step()
        torch.testing.assert_close(weight[:, own].T, head.weight.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(bias[own], head.bias.detach(), atol=1e-5, rtol=1e-5)


def test_separable_features_are_separated_and_the_grid_has_52_heads():
    codes, unseen = np.arange(240) % 3, np.arange(60) % 3
    settings = replace(LINEAR["paper"], batch_size=16)
    probe = linear_probe(cached(codes, apart=9), codes, cached(unseen, apart=9, seed=1), unseen, 3, settings)
    assert len(probe.table) == 52
    assert probe.chosen.accuracy == 1.0
    test = np.arange(90) % 3
    p = linear_probabilities(probe, cached(test, apart=9, seed=2))
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.argmax(axis=1) == test).mean() == 1.0


@pytest.mark.parametrize("select", ["accuracy", "macro_f1"])
def test_the_chosen_head_is_the_best_of_the_table(select):
    codes, unseen = np.arange(120) % 3, np.arange(45) % 3
    settings = replace(LINEAR["paper"], batch_size=16, select=select)
    probe = linear_probe(cached(codes, apart=1), codes, cached(unseen, apart=1, seed=1), unseen, 3, settings)
    best = max(getattr(head, select) for head in probe.table)
    assert getattr(probe.chosen, select) == best
    assert probe.chosen == next(head for head in probe.table if getattr(head, select) == best)
    assert len({getattr(head, select) for head in probe.table}) > 3


def test_standardised_features_of_any_scale_give_the_same_heads():
    codes, unseen = np.arange(90) % 3, np.arange(30) % 3
    train, validation = cached(codes), cached(unseen, seed=1)
    settings = LinearSettings(epochs=3, warmup_epochs=0, rescale=False, batch_size=16, standardise=True)
    grown = [Cached(100 * one.layers + 7, 100 * one.mean_patch - 5) for one in (train, validation)]
    tables = [linear_probe(a, codes, b, unseen, 3, settings).table for a, b in ((train, validation), grown)]
    assert tables[0] == tables[1]


def test_blocks_are_side_by_side_last_one_last_and_the_mean_patch_after_them():
    layers = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    one = Cached(layers, -np.ones((2, 3)))
    assert variant(one, 1, False)[0].tolist() == [9, 10, 11]
    assert variant(one, 2, True)[0].tolist() == [6, 7, 8, 9, 10, 11, -1, -1, -1]
    with pytest.raises(UsageError, match="features of 4 were kept"):
        variant(one, 5, False)
