"""Time the training loop beside a plain PyTorch and MONAI loop: the same net, batches, loss and optimiser.

    python -m benchmarks.training_loop [--rounds 9] [--steps 30]

Both train the `cpu-2d` U-Net on the same cases from memory, on one thread. A round is one run of each, in alternating
order. A step is timed from one call of the loss to the next, in processor time; a round's time is the median of its
steps, and what is printed is the median of the rounds' ratios, so that other work on the machine hits both. A step of
`medaudit, all on` has the moving average and clipping too, which the plain loop has not.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch.utils.data import DataLoader, Dataset

from medaudit.networks.segmentation import build
from medaudit.training import TrainingData, TrainingSettings, train

SIDE, BATCH, CASES = 64, 8, 64


class Pairs(Dataset):
    def __init__(self, images: torch.Tensor, masks: torch.Tensor) -> None:
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": self.images[index], "label": self.masks[index]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.normal(size=(CASES, 1, SIDE, SIDE)), dtype=torch.float32)
    masks = (images > 1).long()
    dice = DiceCELoss(to_onehot_y=True, softmax=True)
    called: list[float] = []

    def criterion(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        called.append(time.process_time())
        return dice(logits, label)

    def seconds(loop: Callable[[int], None], steps: int) -> float:
        called.clear()
        loop(steps)
        return statistics.median(np.diff(called[1:]).tolist())  # the first step also warms up

    def plain(steps: int) -> None:
        model = build("cpu-2d", 1, 2).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        loader = DataLoader(Pairs(images, masks), BATCH, shuffle=True)
        step = 0
        while step < steps:
            for batch in loader:
                loss = criterion(model(batch["image"]), batch["label"])
                loss.item()  # as every loop that shows its loss does
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                step += 1
                if step == steps:
                    break

    def ours(steps: int, **more: float) -> None:
        data = TrainingData(
            [str(i) for i in range(CASES)], lambda index, rng: {"image": images[index], "label": masks[index]}
        )
        settings = TrainingSettings(epochs=1, epoch_steps=steps, batch_size=BATCH, **more)
        with tempfile.TemporaryDirectory() as folder:
            model = build("cpu-2d", 1, 2)
            train(model, lambda m, b: criterion(m(b["image"]), b["label"]), data, settings, folder=folder)

    def all_on(steps: int) -> None:
        ours(steps, ema_decay=0.99, clip_norm=12.0)

    loops = {"plain PyTorch + MONAI": plain, "medaudit": ours, "medaudit, all on": all_on}
    for loop in loops.values():
        loop(3)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(options.rounds):
        for name in list(loops)[:: 1 if turn % 2 else -1]:
            times[name].append(seconds(loops[name], options.steps))
    print("| loop | images/s | a step's time / plain's, median | quartiles |")
    print("|---|---|---|---|")
    for name, taken in times.items():
        ratios = [own / base for own, base in zip(taken, times["plain PyTorch + MONAI"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        speed = BATCH / statistics.median(taken)
        print(f"| {name} | {speed:.1f} | {middle:.3f} | {low:.3f} to {high:.3f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{options.rounds} rounds of {options.steps} steps of {BATCH} images, {SIDE} x {SIDE}; processor time, ",
        end="",
    )
    print(f"one thread; peak memory of all together {peak:.0f} MB, most of it torch.")


if __name__ == "__main__":
    main()
