"""Diffusion on Gaussian data, where the best net and what each sampler makes with it have closed forms.

Of x ~ N(0, sd²) noised to x_t the best guess of the noise is sqrt(1 - a) x_t / (a sd² + 1 - a), a the signal at t.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.diffusion.inversion import invert, slerp
from medaudit.networks.diffusion.samplers import METHODS, Denoise, sample, times_of
from medaudit.networks.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule

SCHEDULE = linear_schedule()
SD = 0.5
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)
EXACT = SD / math.sqrt(SCHEDULE.signal[-1] * SD**2 + 1 - SCHEDULE.signal[-1])
"""What the probability flow makes of noise 1."""


def best_net(predicts: str = "noise", schedule: NoiseSchedule = SCHEDULE) -> Denoise:
    def denoise(x: Tensor, times: Tensor) -> Tensor:
        a = torch.from_numpy(schedule.signal)[times].view(-1, 1, 1, 1).to(x.dtype)
        total = a * SD**2 + 1 - a
        noise, image = (1 - a).sqrt() * x / total, a.sqrt() * SD**2 * x / total
        return noise if predicts == "noise" else a.sqrt() * noise - (1 - a).sqrt() * image

    return denoise


def smooth_net(channels: int = 2) -> Denoise:
    """Return a small random net that is smooth in its images, as float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        net = nn.Sequential(first, nn.Tanh(), last).double()

    def denoise(x: Tensor, times: Tensor) -> Tensor:
        return net(x * (1 + 0.1 * torch.cos(times.double() / 100)).view(-1, 1, 1, 1))

    return denoise


def rmse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


# --------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("steps", [1_000, 250, 100])
def test_the_linear_schedule_is_the_product_of_its_betas(steps: int) -> None:
    schedule, product = linear_schedule(steps), 1.0
    for t in range(steps):
        product *= 1 - (1_000 / steps) * (1e-4 + (0.02 - 1e-4) * t / (steps - 1))
        assert schedule.signal_at(t) == pytest.approx(product, rel=1e-10)
    assert schedule.signal_at(-1) == 1
    assert schedule.steps == steps


def test_the_linear_schedule_ends_where_ddpms_does() -> None:
    # Log of the product to third order, by power sums of beta.
    beta = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1_000)]
    log = -sum(sum(b**k for b in beta) / k for k in range(1, 12))
    assert SCHEDULE.signal[-1] == pytest.approx(math.exp(log), rel=1e-9)
    assert SCHEDULE.signal[-1] == pytest.approx(4.036e-5, rel=1e-3)


def test_the_cosine_schedule_is_a_squared_cosine_until_its_bound() -> None:
    schedule = cosine_schedule()

    def curve(t: int) -> float:
        return math.cos((t / 1_000 + 0.008) / 1.008 * math.pi / 2) ** 2

    wanted = np.array([curve(t + 1) / curve(0) for t in range(999)])
    np.testing.assert_allclose(schedule.signal[:-1], wanted, rtol=1e-9)
    assert schedule.signal[-1] == pytest.approx(schedule.signal[-2] * 1e-3)


def test_signal_to_noise_falls_and_is_the_ratio_of_variances() -> None:
    times = np.arange(1_000)
    log_snr = SCHEDULE.log_snr(times)
    np.testing.assert_allclose(np.exp(log_snr), SCHEDULE.signal / (1 - SCHEDULE.signal), rtol=1e-10)
    assert (np.diff(log_snr) < 0).all()


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_a_right_prediction_gives_image_and_noise_back(predicts: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 1_000, 1, 2, 2, dtype=torch.float64, generator=generator)
    times = torch.arange(1_000)
    noisy = SCHEDULE.noised(images, noise, times)
    prediction = noise if predicts == "noise" else SCHEDULE.velocity(images, noise, times)
    image, made = SCHEDULE.split(prediction, noisy, times, predicts)
    torch.testing.assert_close(image, images, rtol=0, atol=1e-11)
    torch.testing.assert_close(made, noise, rtol=0, atol=1e-12)


def test_noised_images_and_velocities_turn_by_one_angle() -> None:
    image, noise = torch.full((1, 1, 1, 1), 0.7), torch.full((1, 1, 1, 1), -0.4)
    a = SCHEDULE.signal_at(300)
    at = torch.tensor([300])
    assert float(SCHEDULE.noised(image, noise, at)) == pytest.approx(math.sqrt(a) * 0.7 - math.sqrt(1 - a) * 0.4)
    assert float(SCHEDULE.velocity(image, noise, at)) == pytest.approx(-math.sqrt(a) * 0.4 - math.sqrt(1 - a) * 0.7)
    with pytest.raises(ValueError, match="noise, velocity"):
        SCHEDULE.split(image, noise, at, "image")


def test_at_time_minus_1_there_is_the_image_itself() -> None:
    image, noise = torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2)
    assert torch.equal(SCHEDULE.noised(image, noise, torch.tensor([-1, -1])), image)
    with pytest.raises(ValueError, match="time -2; expected -1"):
        SCHEDULE.noised(image, noise, torch.tensor([0, -2]))


def test_schedules_that_no_net_can_learn_are_refused() -> None:
    assert linear_schedule(21).signal[-1] > 0
    for signal in ([], [[0.5]], [1.0, 0.5], [0.5, 0.5], [0.5, math.nan]):
        with pytest.raises(UsageError, match="does not fall from 1"):
            NoiseSchedule(np.array(signal))
    with pytest.raises(UsageError, match="last signal of a noise schedule is 0; expected more than 0"):
        NoiseSchedule(np.array([0.5, 0.0]))
    with pytest.raises(UsageError, match="linear noise schedule of 20 steps; expected 21 or more"):
        linear_schedule(20)


# ---------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 333, 999, 1_000])
def test_times_go_from_the_noisiest_down_evenly(steps: int) -> None:
    times = times_of(SCHEDULE, steps)
    assert len(times) == steps
    assert times[0] == 999
    gaps = -np.diff([*times, -1])
    assert set(gaps.tolist()) <= {math.floor(1_000 / steps), math.ceil(1_000 / steps)}


@pytest.mark.parametrize("steps", [0, 1_001])
def test_more_steps_than_there_are_times_or_none_are_refused(steps: int) -> None:
    with pytest.raises(UsageError, match=f"{steps} steps; expected from 1 to the schedule's 1000"):
        sample(best_net(), ONE, SCHEDULE, steps=steps, predicts="noise")


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
@pytest.mark.parametrize(("steps", "sd"), [(50, 0.4714), (100, 0.4854), (1_000, 0.4985)])
def test_ddim_is_the_product_of_its_linear_steps(steps: int, sd: float, predicts: str) -> None:
    # Other spacings of the times give other SDs: with the noisiest time left out it is 0.4686 at 50 steps.
    factor, times = 1.0, [*times_of(SCHEDULE, steps), -1]
    for now, after in itertools.pairwise(times):
        a, b = SCHEDULE.signal_at(now), SCHEDULE.signal_at(after)
        noise = math.sqrt(1 - a) / (a * SD**2 + 1 - a)
        factor *= math.sqrt(b) * (1 - math.sqrt(1 - a) * noise) / math.sqrt(a) + math.sqrt(1 - b) * noise
    found = float(sample(best_net(predicts), ONE, SCHEDULE, steps=steps, predicts=predicts))
    assert found == pytest.approx(factor, rel=1e-9)
    assert found == pytest.approx(sd, abs=5e-5)


def test_ddim_nears_the_exact_flow_and_the_second_order_solver_sooner() -> None:
    def error(method: str, steps: int) -> float:
        return abs(float(sample(best_net(), ONE, SCHEDULE, steps=steps, method=method, predicts="noise")) - EXACT)

    ddim = [error("ddim", steps) for steps in (10, 20, 50, 100, 1_000)]
    assert ddim == sorted(ddim, reverse=True)
    assert ddim[-2] / ddim[-1] == pytest.approx(10, rel=0.1)  # of first order
    assert error("dpm-solver++", 10) < 0.75 * ddim[0]
    assert error("dpm-solver++", 20) < 0.4 * ddim[1]
    assert error("dpm-solver++", 50) < 0.05 * ddim[2]


def test_the_second_order_solver_is_of_second_order() -> None:
    """On a schedule without a last leap: the flow between two times, whose exact solution is known, by halved steps."""

    errors = []
    for steps in (200, 400, 800):
        # log SNR falls evenly; the least noisy time is so clean that the last step, of first order, adds nothing.
        log_snr = np.linspace(24, -6, steps)
        schedule = NoiseSchedule(1 / (1 + np.exp(-log_snr)))
        a = schedule.signal[-1]
        exact = SD / math.sqrt(a * SD**2 + 1 - a)
        net = best_net(schedule=schedule)
        errors.append(
            abs(float(sample(net, ONE, schedule, steps=steps, method="dpm-solver++", predicts="noise")) - exact)
        )
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(("method", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("ddim", 0.6)])
def test_ancestral_sampling_has_the_variance_of_its_recursion(method: str, eta: float) -> None:
    steps, n = 50, 40_000
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 1, 1, 1, dtype=torch.float64, generator=generator)
    found = sample(
        best_net(), noise, SCHEDULE, steps=steps, method=method, eta=eta, predicts="noise", generator=generator
    )
    strength, variance, times = 1.0 if method == "ddpm" else eta, 1.0, [*times_of(SCHEDULE, steps), -1]
    for now, after in itertools.pairwise(times):
        a, b = SCHEDULE.signal_at(now), SCHEDULE.signal_at(after)
        total = a * SD**2 + 1 - a
        fresh = strength**2 * (1 - b) / (1 - a) * (1 - a / b)
        factor = math.sqrt(b * a) * SD**2 / total + math.sqrt(1 - b - fresh) * math.sqrt(1 - a) / total
        variance = factor**2 * variance + fresh
    # The standard error of a variance of n normal numbers is sqrt(2 / n) of it; four of them.
    assert float(found.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / n))
    assert float(found.mean()) == pytest.approx(0, abs=4 * SD / math.sqrt(n))


def test_ddpm_of_all_times_gives_the_datas_variance() -> None:
    n = 20_000
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(n, 1, 1, 1, generator=generator)
    found = sample(
        best_net(), noise, SCHEDULE, steps=1_000, method="ddpm", predicts="noise", generator=generator
    )  # fmt: skip
    assert float(found.std()) == pytest.approx(SD, rel=4 / math.sqrt(2 * n) + 0.005)


@pytest.mark.parametrize("method", ["ddim", "dpm-solver++"])
def test_without_fresh_noise_sampling_gives_the_same_bits(method: str) -> None:
    noise = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = (
        sample(smooth_net(), noise, SCHEDULE, steps=10, method=method, predicts="velocity", generator=generator)
        for generator in (None, torch.Generator().manual_seed(7))
    )
    assert torch.equal(first, second)
    fresh = [
        sample(smooth_net(), noise, SCHEDULE, steps=10, method="ddpm", predicts="velocity",
               generator=torch.Generator().manual_seed(k)) for k in (7, 7, 8)
    ]  # fmt: skip
    assert torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], fresh[2])


def test_a_generator_for_each_image_makes_its_draws_independent_of_the_batch() -> None:
    noise = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def painted(x: Tensor, seeds: list[int]) -> Tensor:
        return sample(smooth_net(), x, SCHEDULE, steps=10, method="ddpm", predicts="velocity",
                      generator=[torch.Generator().manual_seed(seed) for seed in seeds])  # fmt: skip

    together = painted(noise, [4, 5, 6])
    torch.testing.assert_close(painted(noise[1:2], [5])[0], together[1])
    assert not torch.allclose(painted(noise[1:2], [6])[0], together[1])
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        painted(noise, [4, 5])
    with pytest.raises(ValueError, match="expected a generator"):
        sample(smooth_net(), noise, SCHEDULE, steps=10, method="ddpm", predicts="velocity")


@pytest.mark.parametrize(("method", "eta"), [("ddim", -0.1), ("ddim", 1.5), ("dpm-solver++", 0.5)])
def test_an_eta_that_means_nothing_is_refused(method: str, eta: float) -> None:
    with pytest.raises(UsageError, match=f"eta is {eta}"):
        sample(best_net(), ONE, SCHEDULE, method=method, eta=eta, predicts="noise")


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


# --------------------------------------------------------------------------------------------------------- inversion


@pytest.mark.parametrize(
    ("steps", "refinements", "wanted"),
    [
        (50, 0, 2.7e-2), (50, 1, 2.2e-3), (50, 3, 1.5e-5), (50, 10, 2e-12),
        (100, 0, 1.3e-2), (100, 1, 5.5e-4), (100, 3, 1.0e-6),
        (1_000, 0, 1.3e-3), (1_000, 1, 5.5e-6),
    ],
)  # fmt: skip
def test_an_inversions_error_falls_with_its_refinements(steps: int, refinements: int, wanted: float) -> None:
    images = SD * torch.randn(4, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = invert(best_net(), images, SCHEDULE, steps=steps, refinements=refinements, predicts="noise")
    back = sample(best_net(), found.noise, SCHEDULE, steps=steps, predicts="noise")
    assert rmse(back, images) == pytest.approx(wanted, rel=0.05)
    assert found.evaluations == steps * (refinements + 1)


def test_an_inversion_finds_the_noise_of_the_exact_flow() -> None:
    images = SD * torch.randn(2, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = invert(best_net(), images, SCHEDULE, steps=1_000, refinements=5, predicts="noise")
    torch.testing.assert_close(found.noise, images / EXACT, rtol=4e-3, atol=0)
    torch.testing.assert_close(found.spread, found.noise.flatten(1).std(1, correction=0))
    assert found.spread.tolist() == pytest.approx([1, 1], abs=0.05)


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_a_converged_inversion_is_painted_back_to_a_millionth(predicts: str) -> None:
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    net = smooth_net()
    found = invert(net, images, SCHEDULE, steps=50, refinements=100, tolerance=1e-13, predicts=predicts)
    back = sample(net, found.noise, SCHEDULE, steps=50, predicts=predicts)
    torch.testing.assert_close(back, images, rtol=0, atol=1e-6)
    assert float(found.residual.max()) <= 1e-13
    assert found.evaluations < 50 * 101
    plain = invert(net, images, SCHEDULE, steps=50, refinements=0, predicts=predicts)
    assert rmse(sample(net, plain.noise, SCHEDULE, steps=50, predicts=predicts), images) > 1e-3


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


def test_noise_that_did_not_settle_is_said_so_and_diverged_noise_too() -> None:
    images = SD * torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def wild(x: Tensor, times: Tensor) -> Tensor:
        return torch.where(x.abs().flatten(1).amax(1).view(-1, 1, 1, 1) > 5, math.nan, 1e4 * torch.sin(1e4 * x))

    good = invert(best_net(), images, SCHEDULE, steps=50, refinements=20, tolerance=1e-6, predicts="noise")
    assert good.settled.tolist() == [True, True]
    assert good.finding is None
    short = invert(best_net(), images, SCHEDULE, steps=50, refinements=1, tolerance=1e-6, predicts="noise")
    assert short.settled.tolist() == [False, False]
    assert "2 of 2 images did not settle" in (short.finding or "")
    lost = invert(wild, images, SCHEDULE, steps=50, refinements=3, predicts="noise")
    assert lost.settled.tolist() == [False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_inverted(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(UsageError, match=f"images are {name}; an inversion needs float32 or float64"):
        invert(best_net(), torch.zeros(1, 1, 2, 2, dtype=dtype), SCHEDULE, predicts="noise")
    with pytest.raises(UsageError, match=f"the net answers in {name}"):
        invert(lambda x, _: x.to(dtype), torch.zeros(1, 1, 2, 2), SCHEDULE, predicts="noise")


# ------------------------------------------------------------------------------------------------------------- slerp


def noises(*shape: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(*shape, generator=generator)


def test_between_two_noises_the_ends_are_exact_and_the_angle_grows_evenly() -> None:
    drawn = noises(1, 2, 8, 8)
    first, last = drawn(), drawn()
    assert torch.equal(slerp(first, last, 0), first)
    assert torch.equal(slerp(first, last, 1), last)
    assert torch.equal(slerp(first, last, 0.0), first)

    def angle(a: Tensor, b: Tensor) -> float:
        a, b = a.flatten().double(), b.flatten().double()
        return math.acos(float(a @ b / (a.norm() * b.norm())))

    unit = [x / x.norm() for x in (first, last)]
    whole = angle(*unit)
    for share in (0.1, 0.25, 0.5, 0.9):
        between = slerp(unit[0], unit[1], share)
        assert float(between.norm()) == pytest.approx(1, abs=1e-6)
        assert angle(unit[0], between) == pytest.approx(share * whole, abs=1e-5)
        assert angle(between, unit[1]) == pytest.approx((1 - share) * whole, abs=1e-5)


def test_halfway_between_two_noises_is_as_loud_as_they_are() -> None:
    drawn = noises(1, 3, 32, 32)
    first, last = drawn(), drawn()
    assert float(slerp(first, last, 0.5).std()) == pytest.approx(1, abs=0.05)
    assert float(torch.lerp(first, last, 0.5).std()) < 0.75


def test_a_batch_of_noises_turns_image_by_image() -> None:
    drawn = noises(3, 2, 4, 4)
    first, last = drawn(), drawn()
    together = slerp(first, last, 0.3)
    for i in range(3):
        torch.testing.assert_close(together[i], slerp(first[i], last[i], 0.3))


def test_parallel_noises_are_joined_by_a_line() -> None:
    first = noises(1, 1, 4, 4)()
    torch.testing.assert_close(slerp(first, 3 * first, 0.5), 2 * first)
    assert torch.equal(slerp(first, first, 0.3), first)
