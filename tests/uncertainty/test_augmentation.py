"""Views: the first is the case itself, each does what its number says, and batch size changes nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import UsageError
from medaudit.uncertainty.augmentation import augmented, ultrasound_view

IDENTITY = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
IMAGES = torch.rand(5, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 400, 3)).eval()


def seen(images: torch.Tensor, **changed: float) -> torch.Tensor:
    names = ("x", "y", "degrees", "scale", "gamma", "gain", "mu", "mirror")
    how = [changed.get(name, value) for name, value in zip(names, IDENTITY, strict=True)]
    return ultrasound_view(images, torch.tensor([how] * len(images)))


def test_identity_gain_attenuation_mirror_and_shift() -> None:
    flat = torch.full((1, 1, 24, 24), 0.5)
    torch.testing.assert_close(seen(IMAGES), IMAGES, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen(flat, gain=3.0), flat + 3 / 60)
    torch.testing.assert_close(seen(flat, gamma=2.0), flat**2)
    rows = seen(flat, mu=0.8)[0, 0, :, 0]
    slope = np.polyfit(np.linspace(0, 1, 24), np.log(rows.numpy()), 1)[0]
    assert slope == pytest.approx(-0.8, abs=1e-3)
    torch.testing.assert_close(seen(IMAGES, mirror=-1.0), IMAGES.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen(IMAGES, x=1 / 24)[..., :-1], IMAGES[..., 1:], atol=1e-5, rtol=0)
    quarter = torch.rot90(IMAGES, 1, (2, 3))
    turned = seen(IMAGES, degrees=90.0)
    assert min((turned - quarter).abs().max(), (turned - quarter.flip((2, 3))).abs().max()) < 1e-4


def test_black_stays_black() -> None:
    assert seen(torch.zeros(1, 1, 24, 24), gain=3.0).max() == 0


def test_first_view_is_the_case_and_batches_change_nothing() -> None:
    model = net()
    found = augmented(model, [IMAGES], views=4, seed=2)
    with torch.no_grad():
        np.testing.assert_allclose(found[0], torch.softmax(model(IMAGES).double(), 1).numpy(), atol=1e-7)
    np.testing.assert_allclose(found, augmented(model, IMAGES.split(2), views=4, seed=2), atol=1e-6)
    assert np.ptp(found, axis=0).max() > 1e-3
    with pytest.raises(UsageError, match="2 or more"):
        augmented(model, [IMAGES], views=1)
