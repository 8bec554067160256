"""Noise schedules: what is left of an image at each time, and that both ways of saying it are one another's inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from closed_diffusion import BETA, SIGNAL

from medaudit.errors import UsageError
from medaudit.networks.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule

KINDS = [linear_schedule(), linear_schedule(100), cosine_schedule(), cosine_schedule(50)]


def betas(schedule: NoiseSchedule) -> np.ndarray:
    return 1 - schedule.signal / np.concatenate([[1.0], schedule.signal[:-1]])


def test_the_linear_schedule_is_ddpms_and_others_are_scaled_to_it() -> None:
    np.testing.assert_allclose(linear_schedule().signal, SIGNAL, rtol=1e-12)
    assert linear_schedule().signal[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    hundred = betas(linear_schedule(100))
    assert hundred[[0, -1]] == pytest.approx([1e-3, 0.2])
    np.testing.assert_allclose(np.diff(hundred), hundred[1] - hundred[0])  # evenly between


def test_the_cosine_schedule_falls_as_a_squared_cosine() -> None:
    wanted = [math.cos(((t + 1) / 1_000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1_000)]
    wanted = np.array(wanted) / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(cosine_schedule().signal[:-1], wanted[:-1], rtol=1e-9)
    assert betas(cosine_schedule())[-1] == pytest.approx(0.999)  # where the cosine itself would leave nothing


def test_noise_put_on_at_once_is_noise_put_on_step_by_step() -> None:
    image, noise = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(BETA):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        if t in (0, 1, 400, 999):
            at = torch.tensor([t])
            assert linear_schedule().noised(image, noise, at).item() == pytest.approx(mean)
            assert linear_schedule().noised(0 * image, noise + 1, at).item() == pytest.approx(math.sqrt(variance))


def test_time_0_is_a_noisy_one_and_minus_1_is_the_image() -> None:
    image, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    schedule = linear_schedule()
    made = schedule.noised(image, noise, torch.tensor([0, -1]))
    torch.testing.assert_close(made[0], math.sqrt(1 - 1e-4) * image[0] + 0.01 * noise[0])
    assert torch.equal(made[1], image[1])
    assert schedule.signal_at(-1) == 1.0
    with pytest.raises(ValueError, match="time -2; expected -1"):
        schedule.noised(image, noise, torch.tensor([0, -2]))


@pytest.mark.parametrize("schedule", KINDS)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_velocity_and_noise_say_the_same(schedule: NoiseSchedule, dtype: torch.dtype, near: float) -> None:
    times = torch.arange(schedule.steps)
    generator = torch.Generator().manual_seed(0)
    image, noise = (torch.randn(len(times), 2, 3, dtype=dtype, generator=generator) for _ in range(2))
    noisy = schedule.noised(image, noise, times)
    of_velocity = schedule.split(schedule.velocity(image, noise, times), noisy, times, "velocity")
    for found, wanted in zip(of_velocity, (image, noise), strict=True):
        torch.testing.assert_close(found, wanted, rtol=near, atol=near)
    found, same = schedule.split(noise, noisy, times, "noise")
    assert same is noise
    # What is left of the image is divided by: rounding grows by as much.
    left = torch.from_numpy(schedule.signal).sqrt().view(-1, 1, 1)
    torch.testing.assert_close((found - image) * left, torch.zeros(image.shape).double(), rtol=0, atol=near)
    # And from a net's point of view: a velocity made of what the noise means is the velocity of the truth.
    again = schedule.velocity(*schedule.split(schedule.velocity(image, noise, times), noisy, times, "velocity"), times)
    torch.testing.assert_close(again, schedule.velocity(image, noise, times), rtol=near, atol=near)


def test_log_snr_is_log_of_signal_over_noise_and_falls() -> None:
    for schedule in KINDS:
        found = schedule.log_snr(np.arange(schedule.steps))
        np.testing.assert_allclose(np.exp(found), schedule.signal / (1 - schedule.signal), rtol=1e-9)
        assert (np.diff(found) < 0).all()


def test_schedules_that_cannot_be_are_refused() -> None:
    for steps in (20, 1):
        with pytest.raises(UsageError, match="expected 21 or more"):
            linear_schedule(steps)
    assert linear_schedule(21).signal[-1] > 0
    for signal in ([0.9, 0.9], [1.0, 0.5], [], [0.5, 0.6], [0.5, float("nan")]):
        with pytest.raises(UsageError, match="does not fall"):
            NoiseSchedule(np.array(signal))
    with pytest.raises(UsageError, match="more than 0"):
        NoiseSchedule(np.array([0.5, 0.0]))
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="'image'; expected one of noise, velocity"):
        linear_schedule().split(x, x, torch.tensor([3]), "image")
