"""Time linear equivariant 2 -> 2 layers on graphs, and count what they keep, beside every map by itself.

    python -m benchmarks.graph_layers [--graphs 64] [--channels 20] [--sizes 30 50] [--rounds 9]

The slow way makes all 15 maps of Maron et al. (arXiv 1812.09902) as tensors and takes one product of channels over
them, as the released code of arXiv 2501.08850 does; medaudit has two products and adds pooled vectors. One thread,
processor time of forward and backward; rounds alternate, and what is printed is the median of the rounds' ratios.

Memory twice: kept for backward (bytes of distinct storages that autograd saves, inputs among them, by
torch.autograd.graph.saved_tensors_hooks) and the peak (VmHWM of /proc/self/status in a process of its own, less that
of a process that only makes the inputs; all three take a tiny step before).
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch

from medaudit.networks.graphs.equivariant import PairToPair

WAYS = ("fast", "slow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=64)
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 50])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        for way in WAYS:  # torch's own libraries come in at the first step
            Case(1, 2, 3, "masked").step(way)
        case = Case(options.graphs, options.channels, options.sizes[0], "masked")
        if options.peak in WAYS:
            case.step(options.peak)
        print(highest())
        return
    print(
        "| graphs x channels x slots | mode | medaudit ms | every map ms | times faster | kept MB | every map | less |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n in options.sizes:
        for mode in ("masked", "paper"):
            row(Case(options.graphs, options.channels, n, mode), options.rounds)
    print("\n| graphs x channels x slots | peak above the inputs MB | every map | times less |")
    print("|---|---|---|---|")
    for n in options.sizes:
        none, fast, slow = (peak(options.graphs, options.channels, n, way) for way in ("none", *WAYS))
        name = f"{options.graphs} x {options.channels} x {n}"
        print(f"| {name} | {fast - none:.0f} | {slow - none:.0f} | {(slow - none) / (fast - none):.1f} |", flush=True)


class Case:
    """A layer, a batch and a gradient; no slot is empty, so that both modes do the same work."""

    def __init__(self, graphs: int, channels: int, n: int, mode: str) -> None:
        torch.manual_seed(0)
        self.name, self.mode = f"{graphs} x {channels} x {n}", mode
        self.layer = PairToPair(channels, channels, mode)
        self.x = torch.randn(graphs, channels, n, n).requires_grad_()
        self.exists, self.gradient = torch.ones(graphs, 1, n), torch.randn(graphs, channels, n, n)

    def forward(self, way: str) -> torch.Tensor:
        return (self.layer if way == "fast" else self.layer.naive)(self.x, self.exists)

    def step(self, way: str) -> torch.Tensor:
        self.x.grad = self.layer.weight.grad = None
        out = self.forward(way)
        out.backward(self.gradient)
        return out.detach()

    def kept(self, way: str) -> float:
        """Return MB of what is kept for backward."""
        storages: dict[int, int] = {}

        def seen(values: torch.Tensor) -> torch.Tensor:
            storages[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
            return values

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda values: values):
            out = self.forward(way)
        del out
        return sum(storages.values()) / 2**20


def row(case: Case, rounds: int) -> None:
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    apart = float((case.step("fast") - case.step("slow")).abs().max())
    if apart > 1e-5:
        raise SystemExit(f"{case.name}: both ways differ by {apart:.1e}")
    for turn in range(rounds):
        for way in WAYS[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            case.step(way)
            times[way].append(1000 * (time.process_time() - start))
    ratio = statistics.median(b / a for a, b in zip(times["fast"], times["slow"], strict=True))
    fast, slow = (statistics.median(times[way]) for way in WAYS)
    kept, most = case.kept("fast"), case.kept("slow")
    print(
        f"| {case.name} | {case.mode} | {fast:.1f} | {slow:.1f} | {ratio:.1f} | {kept:.1f} | {most:.1f} | "
        f"{most / kept:.1f} |",
        flush=True,
    )


def peak(graphs: int, channels: int, n: int, way: str) -> float:
    """Return the most memory, in MB, of a process that takes one step in this way."""
    asked = ["--graphs", str(graphs), "--channels", str(channels), "--sizes", str(n), "--peak", way]
    command = [sys.executable, "-m", "benchmarks.graph_layers", *asked]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def highest() -> float:
    """Return VmHWM of this process in MB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
