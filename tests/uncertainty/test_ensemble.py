"""An ensemble in one pass is the ensemble one by one; what is no ensemble is called by its name."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.classification import Classifier, build_classifier
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.ensemble import ensemble, ensemble_kind, softmax_of

IMAGES = torch.rand(7, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def members(n: int = 3) -> list[nn.Module]:
    return [build_classifier("cpu", 4, seed=seed) for seed in range(n)]


def test_one_pass_is_one_by_one() -> None:
    nets = members()
    together = ensemble(nets, IMAGES.split(4), vectorised=True)
    apart = ensemble(nets, IMAGES.split(4))
    with torch.no_grad():
        by_hand = np.stack([torch.softmax(net.eval()(IMAGES).double(), 1).numpy() for net in nets])
    np.testing.assert_allclose(apart, by_hand, atol=1e-6)
    np.testing.assert_allclose(together, by_hand, atol=1e-5)
    assert decompose(together).epistemic.min() > 0


def test_other_architectures_run_one_by_one() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(1024, 4))
    found = ensemble([build_classifier("cpu", 4, seed=0), other], [IMAGES], vectorised=True)
    assert found.shape == (2, 7, 4)


class Branching(nn.Module):
    """A net that looks at its data: vmap cannot run it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.last = nn.Linear(1024, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.last(x.flatten(1))
        return z if z.sum() > 0 else 2 * z


def flat(seed: int, activation: nn.Module) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 8), activation, nn.Linear(8, 3))


@pytest.mark.parametrize(
    "nets",
    [
        [Branching(0), Branching(1)],
        [flat(0, nn.ReLU()), flat(1, nn.Tanh())],  # of one type and of weights that stack, but not one architecture
        [flat(0, nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))],
    ],
)
def test_what_cannot_be_vectorised_runs_in_turn(nets: list[nn.Module]) -> None:
    with torch.no_grad():
        by_hand = np.stack([torch.softmax(net.eval()(IMAGES).double(), 1).numpy() for net in nets])
    np.testing.assert_allclose(ensemble(nets, [IMAGES], vectorised=True), by_hand, atol=1e-6)


def test_one_pass_never_runs_the_members_again() -> None:
    nets = members(2)
    calls: list[int] = []
    for net in nets:
        net.register_forward_hook(lambda *_: calls.append(1))
    ensemble(nets, IMAGES.split(1), vectorised=False)
    assert len(calls) == 2 * len(IMAGES)
    calls.clear()
    ensemble(nets, IMAGES.split(1), vectorised=True)
    # The stacked copy carries the first net's hook: two passes to compare, one of it, then one a batch.
    assert len(calls) == 2 + 1 + len(IMAGES)


def test_modes_come_back() -> None:
    nets = [net.train() for net in members(2)]
    nets[0].trunk.eval()
    modes = [module.training for net in nets for module in net.modules()]
    for vectorised in (False, True):
        ensemble(nets, [IMAGES], vectorised=vectorised)
        with pytest.raises(RuntimeError):
            ensemble(nets, [torch.zeros(1, 5, 32, 32)], vectorised=vectorised)
    assert [module.training for net in nets for module in net.modules()] == modes


def test_kinds() -> None:
    nets = members(2)
    assert ensemble_kind(nets) == "deep"
    assert ensemble_kind([nets[0], copy.deepcopy(nets[0])]) == "identical"
    shared = Classifier(nets[0].trunk, nets[1].head)
    assert ensemble_kind([nets[0], shared]) == "head"


def test_refuses_what_cannot_disagree() -> None:
    nets = members(1)
    with pytest.raises(UsageError, match="2 members"):
        ensemble(nets, [IMAGES])
    with pytest.raises(DataError, match="same weights"):
        ensemble([nets[0], copy.deepcopy(nets[0])], [IMAGES])
    with pytest.raises(DataError, match="no batch"):
        ensemble(members(2), [])
    with pytest.raises(DataError, match="same classes"):
        ensemble([nets[0], build_classifier("cpu", 3, seed=5)], [IMAGES])
    with pytest.raises(DataError, match="not finite"):
        ensemble(members(2), [IMAGES / 0])


@pytest.mark.parametrize(
    ("returned", "says"), [(torch.zeros(5, 1), r"\(5, 1\)"), (torch.zeros(5), r"\(5,\)"), ({"logits": 0}, "a dict")]
)
def test_what_is_no_logits_is_named(returned: object, says: str) -> None:
    with pytest.raises(DataError, match=f"Flatten returned .*{says}"):
        softmax_of(returned, nn.Flatten())


def test_softmax_is_float64() -> None:
    p = softmax_of(torch.tensor([[0.0, 20.0]]), nn.Flatten())
    assert 1 - p[0, 1] == pytest.approx(1 / (1 + np.exp(20.0)), rel=1e-6)  # 0 in float32
