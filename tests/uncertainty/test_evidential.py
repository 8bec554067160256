"""The Dirichlet's numbers against scipy and torch.distributions."""

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet
from torch.distributions import Dirichlet, kl_divergence

from medaudit.errors import UsageError
from medaudit.uncertainty.decomposition import dirichlet_decomposition
from medaudit.uncertainty.evidential import concentration, evidence, evidential_loss, kl_to_uniform

ALPHA = torch.tensor([[1.0, 1.0, 1.0], [9.0, 1.5, 1.0], [40.0, 40.0, 2.0]], dtype=torch.float64)


def test_kl_is_torch_distributions() -> None:
    wanted = kl_divergence(Dirichlet(ALPHA), Dirichlet(torch.ones_like(ALPHA)))
    torch.testing.assert_close(kl_to_uniform(ALPHA), wanted)
    assert kl_to_uniform(ALPHA)[0] == pytest.approx(0, abs=1e-12)


def test_fit_is_the_expected_squared_error_under_the_dirichlet() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    alpha = concentration(logits.numpy())[0]
    draws = dirichlet(alpha).rvs(200_000, random_state=0)
    wanted = ((draws - np.array([1, 0, 0])) ** 2).sum(1)
    found = float(evidential_loss(logits, torch.tensor([0]), 0.0))
    assert abs(found - wanted.mean()) < 4 * wanted.std() / np.sqrt(len(wanted))


def test_kl_comes_in_with_progress_and_spares_the_right_class() -> None:
    logits = torch.tensor([[8.0, -20.0, -20.0]], dtype=torch.float64)
    right = torch.tensor([0])
    assert float(evidential_loss(logits, right, 1.0) - evidential_loss(logits, right, 0.0)) < 1e-6
    wrong = torch.tensor([1])
    late, early = (float(evidential_loss(logits, wrong, progress)) for progress in (1.0, 0.25))
    assert late > early > float(evidential_loss(logits, wrong, 0.0))


def test_no_evidence_is_most_uncertain() -> None:
    parts = dirichlet_decomposition(ALPHA.numpy())
    assert parts.epistemic[0] > parts.epistemic[1] > parts.epistemic[2] > 0
    assert parts.total[0] == pytest.approx(np.log(3))
    assert evidence(torch.tensor([-1.0, 2.0]), "relu").tolist() == [0.0, 2.0]
    with pytest.raises(UsageError, match="softplus"):
        evidence(torch.zeros(1), "tanh")
