"""Data whose best denoiser is known, and what diffusers makes of it.

Everything here is written from the equations and knows nothing of medaudit. Run with diffusers it prints the numbers
that the tests have frozen:

    python -m venv peer && peer/bin/pip install diffusers==0.42.1 torch==2.13.0
    peer/bin/python tests/networks/closed_diffusion.py
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

BETA = np.linspace(1e-4, 0.02, 1_000)
SIGNAL = np.array([np.prod(1 - BETA[: t + 1]) for t in range(1_000)])
NOISE = torch.tensor([-1.5, -0.4, 0.1, 0.8, 2.0], dtype=torch.float64).view(5, 1, 1, 1)


def gaussian(sd: float = 0.5, signal: np.ndarray = SIGNAL) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the best noise predictor for images of independent pixels N(0, sd²)."""
    levels = torch.from_numpy(signal)

    def denoise(noisy: Tensor, times: Tensor) -> Tensor:
        kept = levels[times].view(-1, 1, 1, 1)
        return ((1 - kept).sqrt() * noisy.double() / (kept * sd**2 + 1 - kept)).to(noisy.dtype)

    return denoise


def two_values(at: float = 0.6, sd: float = 0.2) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the best noise predictor for pixels that are N(-at, sd²) or N(at, sd²), either with one half."""
    levels = torch.from_numpy(SIGNAL)

    def denoise(noisy: Tensor, times: Tensor) -> Tensor:
        a, b = (x.view(-1, 1, 1, 1) for x in (levels[times].sqrt(), (1 - levels[times]).sqrt()))
        variance = a**2 * sd**2 + b**2
        # Each half's expected image, weighed by how well it explains the pixel.
        low, high = (m + a * sd**2 / variance * (noisy - a * m) for m in (-at, at))
        share = torch.sigmoid(2 * a * at * noisy / variance)
        return (noisy - a * (share * high + (1 - share) * low)) / b

    return denoise


def flowed(noise: Tensor, sd: float, signal: float, start: float) -> Tensor:
    """Return where the exact flow has ``noise`` at a signal, of images N(0, sd²); it began at the signal ``start``.

    The flow keeps every quantile where it is, so that it scales by the SDs of what is noised.
    """
    return noise * np.sqrt((signal * sd**2 + 1 - signal) / (start * sd**2 + 1 - start))


# What _print_peer printed: method, steps and eta to where NOISE ends, with the denoiser two_values().
PEER = {
    ("ddim", 10, 0.0): [-0.691986248, -0.444398671, 0.148692972, 0.582085902, 0.753133527],
    ("ddim", 50, 0.0): [-0.788538963, -0.498965012, 0.314024354, 0.625364885, 0.890546631],
    ("ddim", 20, 0.5): [-0.821968871, -0.678732626, 0.661004325, 0.632207994, 0.476836876],
    ("ddpm", 20, 0.0): [-0.651960104, -0.375734859, 0.59046783, 0.380553987, -0.57978055],
    ("ddpm", 50, 0.0): [-0.69900048, -0.286355041, -0.779173053, 0.821975635, 0.426432053],
    ("dpm-solver++", 10, 0.0): [-0.71689324, -0.485567718, 0.17692472, 0.610376391, 0.775625809],
    ("dpm-solver++", 25, 0.0): [-0.783248535, -0.54145079, 0.366990536, 0.640991289, 0.876028596],
}
# And its times. At 111 of the 1,000 numbers of steps (48, 61, ...) diffusers adds up floats and rounds a half the other
# way, or gives a time of -1 too many; these three are not among them.
PEER_TIMES = {
    7: [999, 856, 713, 570, 428, 285, 142],
    30: [
        999, 966, 932, 899, 866, 832, 799, 766, 732, 699, 666, 632, 599, 566, 532, 499, 466, 432, 399, 366, 332, 299,
        266, 232, 199, 166, 132, 99, 66, 32,
    ],
    80: [
        999, 987, 974, 961, 949, 937, 924, 911, 899, 887, 874, 861, 849, 837, 824, 811, 799, 787, 774, 761, 749, 737,
        724, 711, 699, 687, 674, 661, 649, 637, 624, 611, 599, 587, 574, 561, 549, 537, 524, 511, 499, 487, 474, 461,
        449, 437, 424, 411, 399, 387, 374, 361, 349, 337, 324, 311, 299, 287, 274, 261, 249, 237, 224, 211, 199, 187,
        174, 161, 149, 137, 124, 111, 99, 87, 74, 61, 49, 37, 24, 11,
    ],
}  # fmt: skip


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + i) for i in range(len(NOISE))]


def _print_peer() -> None:
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    shared = {"num_train_timesteps": 1_000, "beta_schedule": "linear", "timestep_spacing": "trailing"}
    unclipped = {"clip_sample": False, "thresholding": False}
    schedulers = {
        "ddim": DDIMScheduler(**shared, **unclipped, set_alpha_to_one=True),
        "ddpm": DDPMScheduler(**shared, **unclipped, variance_type="fixed_small"),
        "dpm-solver++": DPMSolverMultistepScheduler(
            **shared, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", final_sigmas_type="zero"
        ),
    }
    for method, steps, eta in (
        ("ddim", 10, 0.0), ("ddim", 50, 0.0), ("ddim", 20, 0.5), ("ddpm", 20, 0.0), ("ddpm", 50, 0.0),
        ("dpm-solver++", 10, 0.0), ("dpm-solver++", 25, 0.0),
    ):  # fmt: skip
        scheduler = schedulers[method]
        # diffusers keeps its signal in float32; with ours in float64 the comparison sees the formula only.
        scheduler.alphas_cumprod = torch.from_numpy(SIGNAL)
        scheduler.set_timesteps(steps)
        x, drawing = NOISE.clone(), generators()
        denoise = two_values()
        for time in scheduler.timesteps:
            made = denoise(x, torch.full((len(x),), int(time)))
            options = {"eta": eta} if method == "ddim" else {}
            x = scheduler.step(made, int(time), x, generator=drawing, **options).prev_sample
        print(f'    ("{method}", {steps}, {eta}): {[round(v, 9) for v in x.flatten().tolist()]},')
    odd = DDIMScheduler(**shared)
    for steps in (7, 30, 80):
        odd.set_timesteps(steps)
        print(f"    {steps}: {odd.timesteps.tolist()},")


if __name__ == "__main__":
    _print_peer()
