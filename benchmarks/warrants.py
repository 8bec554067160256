"""Tests of explanations against Quantus 0.6.0, with equal numbers; ranks of pairs of pixels against a loop over pairs.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.warrants [--images 64] [--rounds 5]

$MEDAUDIT_PEERS/quantus is a `pip install --target` of quantus 0.6.0, opencv-python-headless and cachetools, all with
--no-deps. Everything runs in this Python, on one thread, on the CPU, on a small convolutional net and images of 32 x
32. They take turns: a round is one call of either, and what is printed is the median of the rounds' ratios of processor
time, with the lowest and the highest. Quantus has no insertion: it is pixel flipping of the negated map, read
backwards. Its largest sensitivity draws its own noise, so that only times compare. `of the limit` is the time that the
model alone takes for as many rows, over ours.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.explanation.warrants.comparison import kendall, pairwise_agreement
from medaudit.explanation.warrants.curves import curves, pixel_flipping
from medaudit.explanation.warrants.perturbation import stability
from medaudit.explanation.warrants.randomisation import parameter_randomisation
from medaudit.training.devices import one_thread

PEERS = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere"))
EACH = 16
"""Pixels that go at each step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with one_thread("cpu"):
        if (PEERS / "quantus").is_dir():
            sys.path.append(str(PEERS / "quantus"))
            suite(options.images, options.rounds)
        else:
            print("Quantus is not measured: $MEDAUDIT_PEERS/quantus is not there.")
        pairs(options.rounds)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    ).eval()  # fmt: skip


def gradient(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """Return gradients (N, 32, 32): the method that is tested."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)[0][:, 0]


def for_quantus(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
    x = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).reshape(-1, 1, 32, 32)
    return gradient(model, x, torch.as_tensor(np.asarray(targets))).numpy()[:, None]


def same_start(module: nn.Module) -> None:
    """Re-initialise as Quantus does: every layer from the same seed."""
    torch.manual_seed(43)
    module.reset_parameters()  # type: ignore[operator]


def suite(images: int, rounds: int) -> None:
    import quantus  # type: ignore[import-not-found]

    model = net()
    torch.manual_seed(1)
    x = nn.functional.interpolate(torch.rand(images, 1, 8, 8), size=32, mode="bilinear") + 0.1 * torch.rand(
        images, 1, 32, 32
    )
    with torch.no_grad():
        y = model(x).argmax(1)
    maps = gradient(model, x, y)
    given: dict[str, Any] = {"model": model, "x_batch": x.numpy(), "y_batch": y.numpy(), "softmax": False}
    quiet: dict[str, Any] = {"disable_warnings": True, "normalise": False, "abs": False}

    def f(rows_of: Tensor, rows: Tensor) -> Tensor:
        return model(rows_of).gather(1, y[rows][:, None])[:, 0]

    def right(rows_of: Tensor, rows: Tensor) -> Tensor:
        return (model(rows_of).argmax(1) == y[rows]).float()

    def their_flipping(sign: int) -> np.ndarray:
        metric = quantus.PixelFlipping(features_in_step=EACH, perturb_baseline=0.0, **quiet)
        return np.array(metric(a_batch=sign * maps.numpy()[:, None], **given))

    def our_flipping() -> np.ndarray:
        return pixel_flipping(f, x, maps, absent=0.0, each=EACH, at_once=images)

    def their_insertion() -> np.ndarray:
        return their_flipping(-1)[:, :-1][:, ::-1]

    def our_insertion() -> np.ndarray:
        shares = list(np.arange(0, 1025, EACH) / 1024)
        found = curves(f, x, maps, absent=0.0, way="insertion", shares=shares, controls=(), at_once=images)
        return found.scores[:, 1:-1]

    def their_road() -> np.ndarray:
        metric = quantus.ROAD(percentages=[12.5 * k for k in range(1, 8)], noise=0.0, **quiet)
        found = metric(a_batch=maps.numpy()[:, None], **given)
        return np.array([found[12.5 * k] for k in range(1, 8)])

    def our_road() -> np.ndarray:
        found = curves(
            right, x, maps, absent=None, way="road", shares=[k / 8 for k in range(8)], controls=(), noise=0.0
        )
        return found.scores[:, 1:].mean(0)

    def their_mprt() -> np.ndarray:
        metric = quantus.MPRT(similarity_func=quantus.similarity_func.correlation_spearman, **quiet)
        found = metric(explain_func=for_quantus, **given)
        return np.array([scores for name, scores in found.items() if name != "original"])

    def our_mprt() -> np.ndarray:
        found = parameter_randomisation(
            gradient, model, x, y, seeds=1, initialise=same_start, similarity="spearman", at_once=images
        )
        return found.similarity[:, 0]

    def their_stability() -> None:
        metric = quantus.MaxSensitivity(nr_samples=10, lower_bound=0.02, **quiet)
        metric(a_batch=maps.numpy()[:, None], explain_func=for_quantus, **given)

    def our_stability() -> None:
        stability(gradient, model, x, y, radius=0.02, draws=10)

    def limit(steps: int) -> Callable[[], None]:
        def forward() -> None:
            with torch.no_grad():
                for _ in range(steps):
                    model(x)

        return forward

    steps = 1024 // EACH
    print(f"| test, {images} images | Quantus s | medaudit s | times faster | numbers differ by | of the limit |")
    print("|---|---:|---:|---|---:|---:|")
    total = [0.0, 0.0]
    for name, theirs, ours, least in (
        (f"deletion, {steps} steps", lambda: their_flipping(1), our_flipping, limit(steps)),
        (f"insertion, {steps} steps", their_insertion, our_insertion, limit(steps)),
        ("ROAD, 7 steps", their_road, our_road, limit(8)),
        ("parameter randomisation, 4 layers", their_mprt, our_mprt, None),
        ("largest sensitivity, 10 draws", their_stability, our_stability, None),
    ):  # fmt: skip
        times = turns((theirs, ours), rounds)
        one, other = hushed(theirs), ours()
        apart = "" if one is None or other is None else f"{np.abs(one - other).max():.1e}"
        bound = "" if least is None else f"{statistics.median(timed(least) for _ in range(rounds)) / times[1][0]:.2f}"
        total = [total[k] + times[k][0] for k in range(2)]
        print(f"| {name} | {times[0][0]:.2f} | {times[1][0]:.3f} | {times[2]} | {apart} | {bound} |", flush=True)
    print(f"| all of them | {total[0]:.2f} | {total[1]:.3f} | {total[0] / total[1]:.1f} | | |")
    score = quantus.MPRT(
        return_average_correlation=True, similarity_func=quantus.similarity_func.correlation_spearman, **quiet
    )
    inflated = float(np.mean(hushed(lambda: score(explain_func=for_quantus, **given))))
    print(f"\nMean over layers: Quantus says {inflated:.3f}, the unrandomised model among them; without it "
          f"{our_mprt().mean():.3f}.\n")  # fmt: skip


def pairs(rounds: int) -> None:
    """Print what the share of pairs ordered alike costs."""
    print("| units of a map | every pair by itself s | pairwise agreement ms | Kendall's tau-b ms | times faster |")
    print("|---|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    each = 0.0
    for size in (1_024, 50_176):
        a, b = np.abs(rng.standard_normal((2, 1, size)))
        slow = each * size * (size - 1) / 2
        said = f"{slow:.0f} (from the time of a pair above)"
        if size == 1_024:
            slow = statistics.median(timed(lambda a=a, b=b: loop(a, b)) for _ in range(rounds))
            each, said = slow / (size * (size - 1) / 2), f"{slow:.2f}"
            if abs(loop(a, b) - pairwise_agreement(a, b)[0]) > 1e-12:
                raise SystemExit("the loop and the sort do not agree")
        fast = statistics.median(timed(lambda a=a, b=b: pairwise_agreement(a, b)) for _ in range(rounds))
        tau = statistics.median(timed(lambda a=a, b=b: kendall(a, b)) for _ in range(rounds))
        print(f"| {size:,} | {said} | {1000 * fast:.1f} | {1000 * tau:.1f} | {slow / fast:,.0f} |", flush=True)


def loop(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of pairs ordered alike, as OpenXAI goes about it: one pair after the other."""
    alike = np.zeros(len(a))
    for i, j in itertools.combinations(range(a.shape[1]), 2):
        alike += (a[:, i] < a[:, j]) == (b[:, i] < b[:, j])
    return float(alike[0] / math.comb(a.shape[1], 2))


def turns(ways: tuple[Callable[[], Any], Callable[[], Any]], rounds: int) -> tuple[list[float], list[float], str]:
    """Return the medians of both (each in a list) and the ratios of the rounds."""
    found: list[list[float]] = [[], []]
    for turn in range(rounds + 1):  # the first is not counted
        for k in (0, 1) if turn % 2 else (1, 0):
            found[k].append(timed(lambda k=k: hushed(ways[k])))
    ratios = [a / b for a, b in zip(found[0][1:], found[1][1:], strict=True)]
    words = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    return [statistics.median(found[0][1:])], [statistics.median(found[1][1:])], words


def hushed(call: Callable[[], Any]) -> Any:
    """Return what a call returns, and print nothing of what it prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return call()


def timed(call: Callable[[], Any]) -> float:
    """Return processor seconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
