"""The Dirichlet's numbers against scipy and torch.distributions."""

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet
from torch.distributions import Dirichlet, kl_divergence

from medaudit.errors import DataError, UsageError
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
    assert late == pytest.approx(float(evidential_loss(logits, wrong, 0.5)))  # at its full weight from half-way on
    alpha = torch.from_numpy(concentration(logits.numpy()))
    alpha[0, 1] = 1  # the right class's evidence is spared
    whole = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))
    assert late - float(evidential_loss(logits, wrong, 0.0)) == pytest.approx(float(whole))


@pytest.mark.parametrize("kind", ["softplus", "exp"])
def test_training_finds_the_classes_and_is_unsure_between_them(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.cat(
        [torch.randn(100, 2, generator=rng) * 0.3 + at for at in (torch.tensor([2.0, 0]), torch.tensor([0, 2.0]))]
    )
    y = torch.arange(200) // 100
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(net.parameters(), 0.05)
    for step in range(200):
        optimiser.zero_grad()
        evidential_loss(net(x), y, step / 200, kind).backward()
        optimiser.step()
    with torch.no_grad():
        alpha = concentration(net(torch.cat([x, torch.zeros(1, 2)])), kind)
    vacuity = dirichlet_decomposition(alpha).vacuity
    assert (alpha[:200].argmax(1) == y.numpy()).mean() > 0.98
    assert vacuity[200] > np.quantile(vacuity[:200], 0.9)


def test_labels_that_are_no_class_are_refused() -> None:
    for wrong in (-1, 3):
        with pytest.raises(DataError, match="expected 0 to 2"):
            evidential_loss(torch.zeros(2, 3), torch.tensor([0, wrong]), 0.5)


def test_no_evidence_is_most_uncertain() -> None:
    parts = dirichlet_decomposition(ALPHA.numpy())
    assert parts.epistemic[0] > parts.epistemic[1] > parts.epistemic[2] > 0
    assert parts.total[0] == pytest.approx(np.log(3))
    assert parts.vacuity[0] == 1  # C / S at alpha = 1
    np.testing.assert_array_equal(concentration(np.full((1, 3), -1.0), "relu"), np.ones((1, 3)))
    assert evidence(torch.tensor([-1.0, 2.0]), "relu").tolist() == [0.0, 2.0]
    with pytest.raises(UsageError, match="softplus"):
        evidence(torch.zeros(1), "tanh")
