"""Time mask banks and gradient banks beside captum, and weigh what both say against many permutations.

    python -m benchmarks.attributions [--images 4] [--size 128] [--samples 300] [--permutations 100] [--rounds 3]

A ResNet with basic blocks, random weights, on tissue (scikit-image's). KernelSHAP and LIME with the same number of
coalitions of 64 superpixels: captum as it comes (``perturbations_per_eval`` 1), with 64, and with more coalitions, to
have no more error; medaudit's one bank for both. What is right: Shapley values by antithetic permutations, LIME's from
a sample twenty times as large. The limit is the forward passes alone, at the best of four batch sizes. Gradients:
SmoothGrad, its square and VarGrad from one bank, against captum's three passes. One thread, processor time, medians of
rounds that alternate.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from captum._utils.models.linear_model import SkLearnLinearRegression
from captum.attr import KernelShap, Lime, NoiseTunnel, Saliency
from captum.attr._core.lime import get_exp_kernel_similarity_function
from skimage.data import immunohistochemistry
from torch import Tensor, nn

from medaudit.explanation.attributions import absence, coalitions, masks, units
from medaudit.explanation.attributions.explananda import Bound, Explanandum
from medaudit.explanation.attributions.gradients import gradient_bank
from medaudit.explanation.attributions.intensity import Intensity

WIDTH = 1.0
"""Of LIME's kernel: captum's."""
MORE = 6
"""So many times as many coalitions captum is given as well: at as many its KernelSHAP has 2.5 times our error."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--permutations", type=int, default=100)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = Case(options)
    print(f"{options.images} images of {options.size} x {options.size}, {case.units.count} superpixels, "
          f"{options.samples} coalitions, {case.device}")  # fmt: skip
    perturbing(case, options.rounds)
    smoothing(case, options.rounds)


class Case:
    """A net, images and their superpixels."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        torch.manual_seed(0)
        self.net = resnet(options.width).eval().to(self.device)
        tissue = torch.from_numpy(immunohistochemistry()).permute(2, 0, 1).float() / 255
        size = options.size
        corners = [(i, j) for i in range(0, 513 - size, size) for j in range(0, 513 - size, size)]
        step = max(1, len(corners) // options.images)
        picked = corners[::step][: options.images]
        self.x = torch.stack([tissue[:, i : i + size, j : j + size] for i, j in picked]).to(self.device)
        self.units = units.superpixels(self.x, 64, intensity=Intensity())
        self.black = absence.constant("black", Intensity())
        self.f: Bound = Explanandum("logit").of(self.net, self.x)
        self.samples, self.permutations = options.samples, options.permutations

    def bank(self, seed: int, samples: int | None = None, law: str = "shapley") -> masks.MaskBank:
        drawn = coalitions.draw(self.units.count, samples or self.samples, seed=seed, law=law)
        return masks.mask_bank(self.f, self.x, drawn, self.units, self.black)

    def captum(self, kind: str, at_once: int, seed: int, times: int = 1) -> Tensor:
        """Return (N, M), of ``times`` as many coalitions."""
        torch.manual_seed(seed)
        if kind == "KernelSHAP":
            method = KernelShap(self.net)
        else:
            similar = get_exp_kernel_similarity_function("cosine", WIDTH)
            method = Lime(self.net, SkLearnLinearRegression(), similarity_func=_on_units(similar))
        found = []
        for n in range(len(self.x)):
            own = self.units.labels[n, None, None].expand(1, *self.x.shape[1:])
            found.append(
                method.attribute(
                    self.x[n : n + 1], target=int(self.f.target[n]), feature_mask=own, n_samples=times * self.samples,
                    perturbations_per_eval=at_once, return_input_shape=False,
                )
            )  # fmt: skip
        return torch.cat(found).double().cpu()

    def limit(self) -> tuple[float, int]:
        """Return the least processor time of as many forward passes, and the batch size."""
        total, best = len(self.x) * self.samples, (float("inf"), 0)
        with torch.inference_mode():
            for size in (16, 32, 64, 128):
                batch = self.x[:1].expand(size, *self.x.shape[1:]).contiguous()
                self.net(batch)
                start = now(self.device)
                for _ in range(max(1, total // size)):
                    self.net(batch)
                best = min(best, ((now(self.device) - start) * total / (max(1, total // size) * size), size))
        return best

    def truth(self) -> Tensor:
        """Return (N, M) Shapley values by antithetic permutations."""
        m = self.units.count
        torch.manual_seed(1)
        total = torch.zeros(len(self.x), m, dtype=torch.float64)
        for _ in range(self.permutations):
            order = torch.randperm(m)
            for one in (order, order.flip(0)):
                rank = torch.empty(m, dtype=torch.int64)
                rank[one] = torch.arange(m)
                chain = rank[None] < torch.arange(m + 1)[:, None]
                told = masks.evaluate(self.f, self.x, chain, self.units, self.black, at_once=64)
                total[:, one] += told.diff(dim=0).T
        return total / (2 * self.permutations)


def perturbing(case: Case, rounds: int) -> None:
    truth = {
        "KernelSHAP": case.truth(),
        "LIME": masks.lime(case.bank(99, 20 * case.samples, "bernoulli"), WIDTH).values,
    }
    ways: dict[str, Callable[[int], dict[str, Tensor]]] = {
        "medaudit, both from one bank": lambda seed: both(case.bank(seed, law="mixed")),
        "medaudit, KernelSHAP alone": lambda seed: {"KernelSHAP": masks.shapley(case.bank(seed)).values},
        "medaudit, LIME alone": lambda seed: {"LIME": masks.lime(case.bank(seed, law="bernoulli"), WIDTH).values},
        "captum KernelSHAP": lambda seed: {"KernelSHAP": case.captum("KernelSHAP", 1, seed)},
        "captum KernelSHAP, 64 at once": lambda seed: {"KernelSHAP": case.captum("KernelSHAP", 64, seed)},
        f"captum KernelSHAP, {MORE} x as many": lambda seed: {"KernelSHAP": case.captum("KernelSHAP", 1, seed, MORE)},
        "captum LIME": lambda seed: {"LIME": case.captum("LIME", 1, seed)},
        "captum LIME, 64 at once": lambda seed: {"LIME": case.captum("LIME", 64, seed)},
    }
    spent: dict[str, list[float]] = {name: [] for name in (*ways, "limit")}
    error: dict[tuple[str, str], list[float]] = {}
    for seed in range(rounds):
        for name in list(ways)[:: 1 if seed % 2 else -1]:
            start = now(case.device)
            found = ways[name](seed)
            spent[name].append(now(case.device) - start)
            for kind, values in found.items():
                error.setdefault((name, kind), []).append(float((values - truth[kind]).pow(2).mean().sqrt()))
        least, batch = case.limit()
        spent["limit"].append(least)
    own = next(iter(ways))
    limit = statistics.median(spent["limit"])
    print(f"\nthe forward passes alone: {limit:.1f} s, {batch} at once")
    print("| | s | times medaudit's | share of the limit | error, KernelSHAP | error, LIME |")
    print("|---|---|---|---|---|---|")
    for name in ways:
        ratio = statistics.median(b / a for a, b in zip(spent[own], spent[name], strict=True))
        share = statistics.median(a / b for a, b in zip(spent["limit"], spent[name], strict=True))
        errors = [f"{statistics.median(error[name, kind]):.2e}" if (name, kind) in error else "" for kind in truth]
        print(f"| {name} | {statistics.median(spent[name]):.1f} | {ratio:.1f} | {share:.2f} | {' | '.join(errors)} |")
    spread = {kind: float(values.std()) for kind, values in truth.items()}
    print(
        "what is right has a standard deviation of "
        + ", ".join(f"{value:.2e} ({kind})" for kind, value in spread.items())
    )


def both(bank: masks.MaskBank) -> dict[str, Tensor]:
    return {"KernelSHAP": masks.shapley(bank).values, "LIME": masks.lime(bank, WIDTH).values}


def smoothing(case: Case, rounds: int) -> None:
    tunnel = NoiseTunnel(Saliency(case.net))

    def theirs() -> None:
        for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
            tunnel.attribute(case.x, nt_type=kind, nt_samples=25, stdevs=0.1, target=case.f.target, abs=False)

    spent: dict[str, list[float]] = {"medaudit": [], "captum": []}
    for turn in range(2 * rounds):
        for name in list(spent)[:: 1 if turn % 2 else -1]:
            start = now(case.device)
            _ = gradient_bank(case.f, case.x, 0.1, 25) if name == "medaudit" else theirs()
            spent[name].append(now(case.device) - start)
    ratio = statistics.median(b / a for a, b in zip(spent["medaudit"], spent["captum"], strict=True))
    a, b = (statistics.median(spent[name]) for name in spent)
    print("\n| 25 draws: SmoothGrad, its square, VarGrad | one bank s | captum's three passes s | times faster |")
    print(f"|---|---|---|---|\n| {len(case.x)} images | {a:.2f} | {b:.2f} | {ratio:.1f} |")


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _on_units(similar: Callable[..., float]) -> Callable[..., float]:
    """Return the similarity of coalitions, as the LIME of images has it, not of the masked pictures."""
    return lambda original, perturbed, units, **more: similar(torch.ones_like(units), units, units, **more)


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        same = stride == 1 and into == out
        self.skip = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )
        self.end = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x) + self.skip(x))


def resnet(width: int) -> nn.Sequential:
    """Return a ResNet-18 of this width (64 is the published one)."""
    blocks = []
    into = width
    for k in range(4):
        for n in range(2):
            blocks.append(Block(into, width * 2**k, 2 if k and not n else 1))
            into = width * 2**k
    return nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, 4),
    )  # fmt: skip


if __name__ == "__main__":
    main()
