"""Time the 13 learning rates of a linear probe as one product beside 13 heads trained one after the other.

    python -m benchmarks.probe_sweep [--cases 5000] [--rounds 5]

Both do the same steps on the same batches (tests prove the same weights): SGD with momentum on cached features,
d = 768, 6 classes, batches of 128, one thread. Separate heads are torch's nn.Linear, cross-entropy, autograd and SGD;
they share each batch's gather. Processor time of one epoch; rounds alternate, and what is printed is the median of the
rounds' ratios. Then an epoch of the whole grid of 52 heads, and the path of logistic regression over 45 C.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from medaudit.training.probes.linear import LINEAR, RATES, linear_probe, sgd_heads
from medaudit.training.probes.logistic import logistic_probe
from medaudit.training.sampling import places

DIM, CLASSES = 768, 6
ONE_EPOCH = replace(LINEAR["paper"], epochs=1, warmup_epochs=0)


@dataclass(frozen=True)
class Cached:
    layers: np.ndarray
    mean_patch: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, codes = made(options.cases, 0)
    validation, wanted = made(options.cases // 4, 1)
    features, labels = torch.from_numpy(train.layers[:, -1].copy()), torch.from_numpy(codes)

    ways: dict[str, Callable[[], object]] = {
        "13 heads, one product": lambda: sgd_heads(features, labels, CLASSES, ONE_EPOCH),
        "13 heads, separate": lambda: separate(features, labels),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for turn in range(options.rounds):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            times[name].append(seconds(ways[name]))
    print(f"| {options.cases} cases, d = {DIM}, {CLASSES} classes | processor seconds an epoch | times faster |")
    print("|---|---|---|")
    base = times["13 heads, separate"]
    for name, taken in times.items():
        ratio = statistics.median(b / own for b, own in zip(base, taken, strict=True))
        print(f"| {name} | {statistics.median(taken):.3f} | {ratio:.1f} |")
    for name, settings in LINEAR.items():
        grid = seconds(lambda settings=settings: linear_probe(train, codes, validation, wanted, CLASSES, settings))
        print(f"| whole grid of 52 heads, '{name}', {settings.epochs} epochs | {grid / settings.epochs:.3f} | |")
    last = train.layers[:, -1], validation.layers[:, -1]
    path = seconds(lambda: logistic_probe(last[0], codes, last[1], wanted, CLASSES))
    print(f"\nLogistic regression, 45 values of C, the best one fitted to 1e-8: {path:.1f} processor seconds.")


def separate(features: torch.Tensor, labels: torch.Tensor) -> None:
    heads = [nn.Linear(DIM, CLASSES) for _ in RATES]
    optimizers = [
        torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9) for head, rate in zip(heads, RATES, strict=True)
    ]
    batch, steps = ONE_EPOCH.batch_size, len(features) // ONE_EPOCH.batch_size
    for some in places(len(features), batch, 0, range(steps), 0, 1):
        rows = torch.tensor([index for index, _ in some])
        x, y = features[rows], labels[rows]
        for head, optimizer in zip(heads, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x), y).backward()
            optimizer.step()


def made(n: int, seed: int) -> tuple[Cached, np.ndarray]:
    """Return features of four blocks with a decaying spectrum, classes that overlap, a tenth of them wrong."""
    rng = np.random.default_rng((7, seed))
    codes = rng.integers(0, CLASSES, n)
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(DIM, DIM)))[0]
    means = 0.006 * np.random.default_rng(8).normal(size=(CLASSES, DIM))
    layers = (rng.normal(size=(n, 4, DIM)) * np.exp(-5 * np.arange(DIM) / DIM)) @ turn + means[codes][:, None]
    said = np.where(rng.random(n) < 0.1, rng.integers(0, CLASSES, n), codes)
    mean_patch = layers.mean(axis=1)
    return Cached(layers.astype(np.float32), mean_patch.astype(np.float32)), said


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
