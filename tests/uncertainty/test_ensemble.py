"""An ensemble in one pass is the ensemble one by one; what is no ensemble is called by its name."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.classification import Classifier, build_classifier
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.ensemble import ensemble, ensemble_kind

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
