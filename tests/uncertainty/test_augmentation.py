"""Views: the first is the case itself, each does what its number says, and batch size changes nothing."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.augmentation import _drawn, augmented, ultrasound_view

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
    torch.testing.assert_close(seen(IMAGES, degrees=90.0), torch.rot90(IMAGES, 1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (20, 44), (44, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_geometry_is_scipy_s(shape: tuple[int, int], dtype: torch.dtype) -> None:
    image = torch.rand(1, 1, *shape, dtype=dtype, generator=torch.Generator().manual_seed(4))
    found = seen(image, x=0.03, y=-0.02, degrees=13.0, scale=1.04)
    turn = np.deg2rad(13.0)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / 1.04  # of (row, column)
    centre, shift = (np.array(shape) - 1) / 2, np.array([-0.02 * shape[0], 0.03 * shape[1]])
    wanted = affine_transform(
        image[0, 0].double().numpy(), matrix, centre - matrix @ centre + shift, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(found[0, 0].numpy(), wanted, atol=1e-4 if dtype == torch.float32 else 1e-6)
    assert found.dtype == dtype


def test_black_stays_black() -> None:
    assert seen(torch.zeros(1, 1, 24, 24), gain=3.0).max() == 0


def test_first_view_is_the_case_and_batches_change_nothing() -> None:
    model = net()
    found = augmented(model, [IMAGES], views=4, seed=2)
    with torch.no_grad():
        np.testing.assert_allclose(found[0], torch.softmax(model(IMAGES).double(), 1).numpy(), atol=1e-7)
    np.testing.assert_allclose(found, augmented(model, IMAGES.split(2), views=4, seed=2), atol=1e-6)
    assert np.ptp(found, axis=0).max() > 1e-3
    assert not np.allclose(found[1:], augmented(model, [IMAGES], views=4, seed=3)[1:])


def test_views_are_within_their_ranges_and_mirror_only_where_asked() -> None:
    how = np.concatenate([_drawn(0, view, 0, 200, flip=True).numpy() for view in range(1, 6)])
    low, high = [-0.04, -0.04, -5, 0.95, 0.8, -3, 0, -1], [0.04, 0.04, 5, 1.05, 1.25, 3, 1, 1]
    reached = (how.max(0) - how.min(0)) / (np.array(high) - low)
    assert (how >= np.float32(low)).all()
    assert (how <= np.float32(high)).all()
    assert reached.min() > 0.97
    assert abs((how[:, 7] < 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    assert (_drawn(0, 1, 0, 200, flip=False)[:, 7] == 1).all()
    np.testing.assert_array_equal(_drawn(0, 1, 50, 5, flip=True), _drawn(0, 1, 0, 200, flip=True)[50:55])


def test_refuses_bad_input_and_gives_modes_back() -> None:
    model = net().train()
    with pytest.raises(UsageError, match="2 or more"):
        augmented(model, [IMAGES], views=1)
    with pytest.raises(DataError, match="no batch"):
        augmented(model, [])
    for wrong in (IMAGES * 255, IMAGES - 0.5, IMAGES * float("nan")):
        with pytest.raises(DataError, match="case 5 has grey levels"):
            augmented(model, [IMAGES, wrong])
    with pytest.raises(DataError, match="expected \\(N, C, H, W\\)"):
        augmented(model, [IMAGES[:, 0]])
    assert all(module.training for module in model.modules())
