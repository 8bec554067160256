"""Inversion: the noise from which DDIM gives an image again, how far the usual short cuts miss it, and saying so."""

from __future__ import annotations

import math

import pytest
import torch
from closed_diffusion import SIGNAL, flowed, gaussian
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.diffusion.inversion import SETTLED, Inversion, invert, lerp, slerp
from medaudit.networks.diffusion.samplers import Denoise, sample, times_of
from medaudit.networks.diffusion.schedule import linear_schedule

SCHEDULE = linear_schedule()
IMAGE = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)  # one SD of the Gaussian data

# The reference notes' table (04-patronus, 6.2): root mean square errors of images painted again, by refinements.
# ``None`` is the net asked at the less noisy time, as the paper's released code does.
TABLE = {
    50: {None: 5.5e-2, 0: 2.7e-2, 1: 2.2e-3, 3: 1.5e-5, 10: 2e-12},
    100: {None: 2.8e-2, 0: 1.3e-2, 1: 5.5e-4, 3: 1.0e-6},
    1_000: {None: 2.8e-3, 0: 1.3e-3, 1: 5.5e-6, 3: 1.06e-10},
}


def asked_at_the_less_noisy_time(denoise: Denoise, image: Tensor, steps: int) -> Tensor:
    times = times_of(SCHEDULE, steps)[::-1]
    x, signal = image, 1.0
    for source, time in zip([0, *times], times, strict=False):
        made = denoise(x, torch.tensor([source]))
        clean = (x - math.sqrt(1 - signal) * made) / math.sqrt(signal)
        signal = SIGNAL[time]
        x = math.sqrt(signal) * clean + math.sqrt(1 - signal) * made
    return x


@pytest.mark.parametrize("steps", TABLE)
def test_gaussian_images_come_back_with_the_tables_errors(steps: int) -> None:
    for refinements, printed in TABLE[steps].items():
        if refinements is None:
            noise = asked_at_the_less_noisy_time(gaussian(), IMAGE, steps)
        else:
            noise = invert(gaussian(), IMAGE, SCHEDULE, steps=steps, refinements=refinements, predicts="noise").noise
        back = sample(gaussian(), noise, SCHEDULE, steps=steps, predicts="noise")
        assert abs((back - IMAGE).item()) == pytest.approx(printed, rel=0.03)


def test_ten_refinements_reach_the_last_bits_and_more_steps_the_exact_flow() -> None:
    for steps, missed in ((100, 0.035), (1_000, 0.0035)):
        found = invert(gaussian(), IMAGE, SCHEDULE, steps=steps, refinements=10, predicts="noise")
        back = sample(gaussian(), found.noise, SCHEDULE, steps=steps, predicts="noise")
        assert abs((back - IMAGE).item()) < 1e-14
        exact = flowed(IMAGE, 0.5, SIGNAL[-1], 1.0).item()
        assert abs(found.noise.item() - exact) < missed
        assert abs(found.noise.item() - exact) > missed / 10  # exact for the steps, not for the flow


class Small(nn.Module):
    """A random net of convolutions and tanh, whose answer depends on the time: smooth, and far from linear."""

    def __init__(self, steepness: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.steepness = steepness
        self.double()

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        warped = torch.tanh(self.first(self.steepness * noisy) + (times.double() / 300).sin().view(-1, 1, 1, 1))
        return self.last(warped)


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 2 - 1


def missed(net: nn.Module, found: Inversion, steps: int, predicts: str) -> float:
    back = sample(net, found.noise, SCHEDULE, steps=steps, predicts=predicts)
    return (back - images(len(back))).abs().max().item()


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
@pytest.mark.parametrize("steps", [10, 50])
def test_images_come_back_from_any_smooth_net(predicts: str, steps: int) -> None:
    net = Small(2.0)
    linear = (net(2 * images(), torch.full((4,), 400)) - 2 * net(images(), torch.full((4,), 400))).abs().max()
    assert linear > 0.05  # the closed forms above are linear in x: this one is not
    found = invert(net, images(), SCHEDULE, steps=steps, refinements=200, tolerance=1e-12, predicts=predicts)
    assert found.settled.all()
    assert found.finding is None
    assert missed(net, found, steps, predicts) < 1e-6
    plain = invert(net, images(), SCHEDULE, steps=steps, refinements=0, predicts=predicts)
    assert missed(net, plain, steps, predicts) > 1e-3
    assert plain.evaluations == steps


def test_the_residual_says_how_far_images_come_back() -> None:
    net = Small(2.0)
    found = [invert(net, images(), SCHEDULE, refinements=k, predicts="noise") for k in range(5)]
    residuals = [one.residual.max().item() for one in found]
    errors = [missed(net, one, 50, "noise") for one in found]
    assert sorted(residuals, reverse=True) == residuals
    assert sorted(errors, reverse=True) == errors
    assert [one.evaluations for one in found] == [50, 100, 150, 200, 250]


def test_the_residual_is_the_largest_last_change_of_all_times() -> None:
    small = Small(2.0)

    def net(noisy: Tensor, times: Tensor) -> Tensor:  # calm in the most noise, where the inversion ends
        return small(noisy, times).detach() * torch.where(times > 900, 0.1, 1.0).view(-1, 1, 1, 1)

    x, signal, changes = images(), 1.0, []
    for time in reversed(times_of(SCHEDULE, 5)):
        at, guess = torch.full((4,), time), x
        for _ in range(2):  # x_t = sqrt(signal_t) * the expected image + the noise that belongs to it, asked at x_t
            made = net(guess, at)
            clean = (x - math.sqrt(1 - signal) * made) / math.sqrt(signal)
            before, guess = guess, math.sqrt(SIGNAL[time]) * clean + math.sqrt(1 - SIGNAL[time]) * made
        changes.append((guess - before).square().mean((1, 2, 3)).sqrt())
        x, signal = guess, SIGNAL[time]
    found = invert(net, images(), SCHEDULE, steps=5, refinements=1, predicts="noise")
    torch.testing.assert_close(found.noise, x)
    torch.testing.assert_close(found.residual, torch.stack(changes).amax(0))
    assert (found.residual > changes[-1]).all()
    torch.testing.assert_close(found.spread, x.flatten(1).std(1, correction=0))


def test_a_tolerance_stops_early_and_leaves_each_image_to_itself() -> None:
    net = Small(2.0)
    mixed = images() * torch.tensor([0.02, 0.1, 1.0, 1.0]).view(-1, 1, 1, 1).double()
    found = invert(net, mixed, SCHEDULE, refinements=50, tolerance=1e-4, predicts="noise")
    assert found.evaluations < 50 * 51 / 5
    assert (found.residual <= 1e-4).all()
    alone = [invert(net, one[None], SCHEDULE, refinements=50, tolerance=1e-4, predicts="noise") for one in mixed]
    torch.testing.assert_close(torch.cat([one.noise for one in alone]), found.noise, rtol=0, atol=1e-12)
    assert len({one.evaluations for one in alone}) > 1  # they do not stop together, and still agree
    assert max(one.evaluations for one in alone) <= found.evaluations


def test_what_did_not_settle_is_said() -> None:
    found = invert(Small(60.0), images(), SCHEDULE, steps=10, refinements=20, tolerance=1e-6, predicts="noise")
    assert not found.settled.any()
    assert found.finding is not None
    assert "noise of 4 of 4 images did not settle" in found.finding
    assert "more than 1e-06" in found.finding
    assert missed(Small(60.0), found, 10, "noise") > 1e-3  # and it is true

    def broken(noisy: Tensor, times: Tensor) -> Tensor:
        made = gaussian()(noisy, times)
        made[1] = torch.nan
        return made

    found = invert(broken, IMAGE.repeat(3, 1, 1, 1), SCHEDULE, refinements=4, tolerance=1e-3, predicts="noise")
    assert found.settled.tolist() == [True, False, True]
    assert "1 of 3" in str(found.finding)
    assert invert(gaussian(), IMAGE, SCHEDULE, predicts="noise").tolerance == SETTLED


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_on_both_sides(half: torch.dtype) -> None:
    name = str(half).removeprefix("torch.")
    with pytest.raises(UsageError, match=f"images are {name}"):
        invert(gaussian(), IMAGE.to(half), SCHEDULE, predicts="noise")
    with pytest.raises(UsageError, match=f"the net answers in {name}"):
        invert(lambda x, t: gaussian()(x, t).to(half), IMAGE, SCHEDULE, predicts="noise")


def test_slerp_turns_evenly_and_keeps_the_length() -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        turned = slerp(a, b, share)
        angle = share * math.pi / 2
        torch.testing.assert_close(turned, torch.tensor([2 * math.cos(angle), 2 * math.sin(angle), 0.0]))
    torch.testing.assert_close(slerp(a, 3 * a, 0.25), 1.5 * a)  # parallel: the line
    assert slerp(a, a, 0.3).isfinite().all()


def test_slerp_takes_images_of_a_batch_one_by_one_and_ends_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 1, 8, 8, generator=generator) for _ in range(2))
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    made = slerp(a, b, 0.4)
    torch.testing.assert_close(torch.stack([slerp(x, y, 0.4) for x, y in zip(a, b, strict=True)]), made)
    # Noise stays noise: on the line between two its SD would fall to sqrt(1/2).
    big = [torch.randn(1, 1, 100, 100, generator=generator) for _ in range(2)]
    assert slerp(*big, 0.5).std().item() == pytest.approx(1.0, abs=0.03)
    assert lerp(*big, 0.5).std().item() == pytest.approx(math.sqrt(0.5), abs=0.03)


def test_a_path_between_two_images_begins_and_ends_with_them() -> None:
    net = Small(2.0)
    codes = torch.tensor([[0.3, 5.0], [9.2, 0.01]])
    assert torch.equal(lerp(codes[0], codes[1], 0.0), codes[0])
    assert torch.equal(lerp(codes[0], codes[1], 1.0), codes[1])
    found = invert(net, images(), SCHEDULE, steps=20, refinements=100, tolerance=1e-12, predicts="noise")
    for share, end in ((0.0, images()[:2]), (1.0, images()[2:])):
        noise = slerp(found.noise[:2], found.noise[2:], share)
        back = sample(net, noise, SCHEDULE, steps=20, predicts="noise")
        torch.testing.assert_close(back, end, rtol=0, atol=1e-6)
