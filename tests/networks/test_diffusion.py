"""What the samplers and the inversion owe to each image alone, and ancestral sampling between its extremes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.diffusion.inversion import invert, slerp
from medaudit.networks.diffusion.samplers import METHODS, Denoise, sample, times_of
from medaudit.networks.diffusion.schedule import linear_schedule

SCHEDULE = linear_schedule()
SD = 0.5


def best_net(x: Tensor, times: Tensor) -> Tensor:
    """Return the best guess of the noise in x ~ N(0, sd²) noised to x_t."""
    a = torch.from_numpy(SCHEDULE.signal)[times].view(-1, 1, 1, 1).to(x.dtype)
    return (1 - a).sqrt() * x / (a * SD**2 + 1 - a)


def smooth_net(channels: int = 2) -> Denoise:
    """Return a small random net that is smooth in its images, as float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        net = nn.Sequential(first, nn.Tanh(), last).double()

    def denoise(x: Tensor, times: Tensor) -> Tensor:
        return net(x * (1 + 0.1 * torch.cos(times.double() / 100)).view(-1, 1, 1, 1))

    return denoise


def test_ancestral_sampling_has_the_variance_of_its_recursion() -> None:
    steps, n, eta = 50, 40_000, 0.6
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 1, 1, 1, dtype=torch.float64, generator=generator)
    found = sample(
        best_net, noise, SCHEDULE, steps=steps, method="ddim", eta=eta, predicts="noise", generator=generator
    )
    variance, times = 1.0, [*times_of(SCHEDULE, steps), -1]
    for now, after in itertools.pairwise(times):
        a, b = SCHEDULE.signal_at(now), SCHEDULE.signal_at(after)
        total = a * SD**2 + 1 - a
        fresh = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        factor = math.sqrt(b * a) * SD**2 / total + math.sqrt(1 - b - fresh) * math.sqrt(1 - a) / total
        variance = factor**2 * variance + fresh
    # The standard error of a variance of n normal numbers is sqrt(2 / n) of it; four of them.
    assert float(found.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / n))
    assert float(found.mean()) == pytest.approx(0, abs=4 * SD / math.sqrt(n))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_seen_on_the_way_ends_in_the_image(method: str) -> None:
    noise, seen = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    made = sample(smooth_net(), noise, SCHEDULE, steps=5, method=method, predicts="velocity",
                  generator=torch.Generator().manual_seed(0), seen=lambda *now: seen.append(now))  # fmt: skip
    assert [time for time, _, _ in seen] == times_of(SCHEDULE, 5)
    assert torch.equal(seen[0][1], noise)
    torch.testing.assert_close(seen[-1][2], made, rtol=0, atol=1e-12)
    with pytest.raises(UsageError, match=r"ddim, ddpm, dpm-solver\+\+"):
        sample(smooth_net(), noise, SCHEDULE, method="euler", predicts="velocity")


def test_each_images_inversion_and_residual_are_its_own() -> None:
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images[2] = 5 * images[2]
    together = invert(smooth_net(), images, SCHEDULE, steps=20, refinements=2, predicts="velocity")
    for i in range(3):
        alone = invert(smooth_net(), images[i, None], SCHEDULE, steps=20, refinements=2, predicts="velocity")
        torch.testing.assert_close(alone.noise[0], together.noise[i])
        torch.testing.assert_close(alone.residual[0], together.residual[i])
        assert float(alone.residual) > 0


def test_an_image_that_has_settled_is_left_alone_whatever_its_batch() -> None:
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images[2] = 20 * images[2]  # takes longer

    def inverted(x: Tensor) -> Tensor:
        return invert(smooth_net(), x, SCHEDULE, steps=20, refinements=30, tolerance=1e-4, predicts="velocity").noise

    torch.testing.assert_close(inverted(images)[:1], inverted(images[:1]), rtol=0, atol=1e-12)


def test_parallel_noises_are_joined_by_a_line() -> None:
    first = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(first, 3 * first, 0.5), 2 * first)
    assert torch.equal(slerp(first, first, 0.3), first)
