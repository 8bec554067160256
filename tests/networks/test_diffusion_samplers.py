"""Samplers: diffusers' numbers, the exact flow of Gaussian data, and errors that fall as fast as they must."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from closed_diffusion import NOISE, PEER, PEER_TIMES, SIGNAL, flowed, gaussian, generators, two_values
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.diffusion.samplers import METHODS, sample, times_of
from medaudit.networks.diffusion.schedule import cosine_schedule, linear_schedule

SCHEDULE = linear_schedule()
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)


@pytest.mark.parametrize("run", PEER)
def test_every_sampler_gives_diffusers_numbers(run: tuple[str, int, float]) -> None:
    method, steps, eta = run
    made = sample(
        two_values(), NOISE, SCHEDULE, steps=steps, method=method, eta=eta, predicts="noise", generator=generators()
    )
    near = 1e-5 if method == "dpm-solver++" else 2e-9  # diffusers' solver keeps its noise levels in float32
    torch.testing.assert_close(made.flatten(), torch.tensor(PEER[run], dtype=torch.float64), rtol=0, atol=near)


@pytest.mark.parametrize("steps", PEER_TIMES)
def test_times_are_those_that_diffusers_calls_trailing(steps: int) -> None:
    assert times_of(SCHEDULE, steps) == PEER_TIMES[steps]


def test_times_begin_in_the_most_noise_and_are_even_for_any_number_of_steps() -> None:
    for steps in range(1, 1_001):
        times = times_of(SCHEDULE, steps)
        assert len(times) == steps
        assert times[0] == 999
        gaps = [a - b for a, b in zip(times, [*times[1:], -1], strict=True)]
        assert min(gaps) >= 1
        assert abs(max(gaps) - Fraction(1_000, steps)) <= 1
        assert abs(min(gaps) - Fraction(1_000, steps)) <= 1
    assert times_of(SCHEDULE, 1_000) == list(range(999, -1, -1))  # time 0 is a real one
    for wrong in (0, 1_001):
        with pytest.raises(UsageError, match="expected from 1 to the schedule's 1000"):
            times_of(SCHEDULE, wrong)


# The last column: the reference notes' table (04-patronus, 6.2), the SD of a sample, whence its last digits are chance.
@pytest.mark.parametrize(("steps", "printed"), [(50, 0.4686), (100, 0.4886), (1_000, 0.4969)])
def test_ddim_of_gaussian_data_scales_by_a_known_number(steps: int, printed: float) -> None:
    made = sample(gaussian(), ONE, SCHEDULE, steps=steps, predicts="noise").item()
    signals = [SIGNAL[t] for t in times_of(SCHEDULE, steps)] + [1.0]
    wanted = 1.0
    for now, after in pairwise(signals):
        # Data and noise keep their share of the whole: an inner product of (SD a, b) before and after.
        whole = now * 0.25 + 1 - now
        wanted *= (math.sqrt(after * now) * 0.25 + math.sqrt((1 - after) * (1 - now))) / whole
    assert made == pytest.approx(wanted, rel=1e-10)
    assert made == pytest.approx(printed, rel=0.01)


def relative_error(method: str, steps: int, until: int = -1) -> float:
    """Return by how much a sampler misses the exact flow of Gaussian data when it comes to the time ``until``."""
    at: dict[int, float] = {}
    made = sample(
        gaussian(), ONE, SCHEDULE, steps=steps, method=method, predicts="noise",
        seen=lambda time, noisy, image: at.update({time: noisy.item()}),
    )  # fmt: skip
    at[-1] = made.item()
    exact = flowed(ONE, 0.5, SCHEDULE.signal_at(until), SIGNAL[-1]).item()
    return abs(at[until] / exact - 1)


def test_the_solvers_error_falls_with_the_square_of_the_steps_and_ddims_with_the_steps() -> None:
    for method, order in (("ddim", 1.0), ("dpm-solver++", 2.0)):
        errors = [relative_error(method, steps, until=199) for steps in (50, 100, 200)]
        for coarse, fine in pairwise(errors):
            assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_the_solver_comes_as_near_in_50_steps_as_ddim_in_1000() -> None:
    ddim = {steps: relative_error("ddim", steps) for steps in (20, 50, 100, 1_000)}
    fast = {steps: relative_error("dpm-solver++", steps) for steps in (20, 50, 100)}
    assert ddim[20] == pytest.approx(0.14, abs=0.005)
    assert ddim[50] == pytest.approx(0.057, abs=0.0005)
    assert ddim[1_000] == pytest.approx(0.0030, abs=0.00005)
    assert fast[20] < ddim[50]
    assert fast[50] < ddim[1_000]
    assert all(fast[steps] < ddim[steps] / 3 for steps in fast)


@pytest.mark.parametrize("steps", [50, 1_000])
def test_ancestral_samples_of_gaussian_data_have_the_variance_of_its_equations(steps: int) -> None:
    noise = torch.randn(4, 1, 50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = sample(
        gaussian(), noise, SCHEDULE, steps=steps, method="ddpm", predicts="noise",
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    signals = [SIGNAL[t] for t in times_of(SCHEDULE, steps)] + [1.0]
    variance = 1.0
    for now, after in pairwise(signals):  # DDPM, arXiv 2006.11239, eq. 7
        beta = 1 - now / after
        image = math.sqrt(now) * 0.25 / (now * 0.25 + 1 - now)
        gain = math.sqrt(after) * beta / (1 - now) * image + math.sqrt(1 - beta) * (1 - after) / (1 - now)
        variance = gain**2 * variance + (1 - after) / (1 - now) * beta
    assert made.std().item() == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * made.numel()))
    if steps == 1_000:
        assert math.sqrt(variance) == pytest.approx(0.5, rel=0.02)


def test_ancestral_sampling_is_ddim_of_eta_1() -> None:
    kinds = ({"method": "ddpm"}, {"method": "ddim", "eta": 1.0})
    first, last = (
        sample(two_values(), NOISE, SCHEDULE, steps=20, predicts="noise", generator=generators(), **kind)  # type: ignore[arg-type]
        for kind in kinds
    )
    assert torch.equal(first, last)


def test_an_images_draws_do_not_depend_on_its_batch() -> None:
    whole = sample(two_values(), NOISE, SCHEDULE, method="ddpm", predicts="noise", generator=generators())
    for i in (0, 3):
        alone = sample(
            two_values(), NOISE[i : i + 1], SCHEDULE, method="ddpm", predicts="noise", generator=[generators()[i]]
        )
        torch.testing.assert_close(alone[0], whole[i], rtol=0, atol=1e-12)


def as_velocity(denoise: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def velocity(noisy: Tensor, times: Tensor) -> Tensor:
        kept = torch.from_numpy(SIGNAL)[times].view(-1, 1, 1, 1)
        noise = denoise(noisy, times)
        image = (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * image

    return velocity


@pytest.mark.parametrize("method", METHODS)
def test_what_the_net_predicts_changes_nothing(method: str) -> None:
    made = [
        sample(net, NOISE, SCHEDULE, steps=30, method=method, predicts=predicts, generator=generators())
        for net, predicts in ((two_values(), "noise"), (as_velocity(two_values()), "velocity"))
    ]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_last_step_leads_to_the_expected_image_itself(method: str) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []
    made = sample(
        two_values(), NOISE, SCHEDULE, steps=12, method=method, predicts="noise", generator=generators(),
        seen=lambda *what: seen.append(what),
    )  # fmt: skip
    assert [time for time, _, _ in seen] == times_of(SCHEDULE, 12)
    assert torch.equal(seen[0][1], NOISE)
    torch.testing.assert_close(made, seen[-1][2], rtol=0, atol=1e-12)
    one = sample(two_values(), NOISE, SCHEDULE, steps=1, method=method, predicts="noise", generator=generators())
    torch.testing.assert_close(one, seen[0][2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["ddim", "dpm-solver++"])
def test_without_fresh_noise_nothing_is_left_to_chance(method: str) -> None:
    made = [sample(two_values(), NOISE, SCHEDULE, method=method, predicts="noise") for _ in range(2)]
    assert torch.equal(*made)
    with pytest.raises(ValueError, match="expected a generator"):
        sample(two_values(), NOISE, SCHEDULE, method="ddpm", predicts="noise")


def test_a_schedule_of_another_kind_and_length_is_sampled_too() -> None:
    schedule = cosine_schedule(200)
    made = sample(gaussian(0.5, schedule.signal), ONE, schedule, steps=200, method="dpm-solver++", predicts="noise")
    assert made.item() == pytest.approx(flowed(ONE, 0.5, 1.0, schedule.signal[-1]).item(), rel=2e-3)


def test_what_means_nothing_is_refused() -> None:
    for options, said in (
        ({"method": "euler"}, "no sampler 'euler'; expected one of ddim"),
        ({"eta": 1.5}, "expected 0 to 1"),
        ({"eta": 0.5, "method": "dpm-solver++"}, "0 for dpm-solver"),
    ):
        with pytest.raises(UsageError, match=said):
            sample(two_values(), NOISE, SCHEDULE, predicts="noise", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 generators for 5 images"):
        sample(two_values(), NOISE, SCHEDULE, method="ddpm", predicts="noise", generator=generators()[:2])
