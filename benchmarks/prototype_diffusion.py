"""A training step, painting and inversion against the released code of Patronus and an unconditional diffusers U-Net.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.prototype_diffusion [--rounds 5]

$MEDAUDIT_PEERS/patronus is a clone of github.com/nina-weng/patronus (ab9006c), $MEDAUDIT_PEERS/diffusers a
`pip install --target` of diffusers. All run in this Python, on one thread, on the CPU, where the released code's
automatic mixed precision (that of CUDA) does nothing. They take turns: a round is one call of every way, and what is
printed is the median of the rounds' ratios of processor time, with the lowest and the highest. First it is checked that
ours and the released code answer alike with the same weights. Peak memory is of a process for each way.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.datasets import simulated_images
from medaudit.explanation.prototypes.painter import Painter
from medaudit.networks.diffusion.samplers import sample
from medaudit.networks.diffusion.unet import UNetShape
from medaudit.networks.prototypes.encoder import EncoderShape
from medaudit.networks.prototypes.patronus_weights import read_patronus
from medaudit.training.devices import one_thread
from medaudit.training.loop import optimizer_of
from medaudit.training.prepared import prepare
from medaudit.training.prototypes.fit import denoising_loss, empty_model, fit_prototypes, linear_schedule
from medaudit.training.prototypes.recipe import PRESETS, PrototypeRecipe

PEERS = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere"))
BATCH, PAINTED = 64, 16
NETS = {
    "the paper's net, 32 px": PrototypeRecipe(
        EncoderShape(prototypes=30), UNetShape(channels=1, conditions=30), 32, 1, BATCH, recipe="paper"
    ),
    "the net of cpu-small, 32 px": PRESETS["cpu-small"].of(recipe="paper"),
}
WAYS = ("released code", "diffusers, unconditional", "ours", "ours, bf16-mixed")


@dataclass
class Way:
    """One way of doing the same."""

    step: Callable[[], Any]
    evaluate: Callable[[], Any]
    net: nn.Module


def released(recipe: PrototypeRecipe) -> nn.Module:
    """Return the released code's net of a recipe's shapes."""
    if "models.patronus_unet" not in sys.modules:
        stub = types.ModuleType("torchvision")  # imported there and not used
        stub.models = types.ModuleType("torchvision.models")  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": stub, "torchvision.models": stub.models}  # type: ignore[attr-defined]
        sys.path.append(str(PEERS / "patronus"))
    from models.patronus_unet import Patronus_Unet  # type: ignore[import-not-found]

    for name in ("torchvision", "torchvision.models"):
        sys.modules.pop(name, None)  # diffusers looks for it
    unet, encoder = recipe.unet, recipe.encoder
    return Patronus_Unet(
        input_channels=1, output_channels=1, num_res_blocks=unet.blocks, base_channels=unet.width,
        base_channels_multiples=unet.multipliers, apply_attention=(False,) * len(unet.multipliers),
        num_proto=encoder.prototypes, prototype_vector_shape=(1, encoder.features[-1]), img_size=(1, 32, 32),
    )  # fmt: skip


def unconditional(recipe: PrototypeRecipe) -> nn.Module:
    """Return diffusers' U-Net of the same widths, with attention in the middle alone too."""
    if str(PEERS / "diffusers") not in sys.path:
        sys.path.append(str(PEERS / "diffusers"))
    from diffusers import UNet2DModel  # type: ignore[import-not-found]

    widths = tuple(recipe.unet.width * k for k in recipe.unet.multipliers)
    return UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, layers_per_block=recipe.unet.blocks, block_out_channels=widths,
        down_block_types=("DownBlock2D",) * len(widths), up_block_types=("UpBlock2D",) * len(widths), norm_num_groups=8,
        dropout=recipe.unet.dropout,
    )  # fmt: skip


def way(name: str, recipe: PrototypeRecipe) -> Way:
    """Return a way of training and evaluating a net."""
    torch.manual_seed(0)
    size = (recipe.batch_size, 1, 32, 32)
    images, noise, times = torch.rand(size) * 2 - 1, torch.randn(size), torch.randint(1, 1_000, size[:1])
    noisy, at, codes = torch.randn(PAINTED, 1, 32, 32), torch.full((PAINTED,), 500), torch.rand(PAINTED, 32)
    codes = codes[:, : recipe.encoder.prototypes]
    schedule = linear_schedule(1_000)
    half = torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name)
    if name.startswith("ours"):
        net: Any = empty_model(recipe)
        optimizer = optimizer_of(net, recipe.settings(0))

        def loss() -> Tensor:
            return denoising_loss(net, schedule, images, noise, times, "noise")["loss"]

        def evaluate() -> Tensor:
            return net.denoise(noisy, at, codes)
    else:
        net = released(recipe) if name == "released code" else unconditional(recipe)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5)

        def loss() -> Tensor:
            given = {"given_cond_vector": net.get_proact(images)} if name == "released code" else {}
            made = net(schedule.noised(images, noise, times), times, **given)
            return ((made if given else made.sample) - noise).square().mean()

        def evaluate() -> Tensor:
            return net(noisy, at, given_cond_vector=codes) if name == "released code" else net(noisy, at).sample

    def step() -> None:
        net.train()
        with half:
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    def painted() -> None:
        net.eval()
        with torch.no_grad(), half:
            evaluate()

    return Way(step, painted, net)


def same(recipe: PrototypeRecipe) -> str:
    """Return by how much answers and gradients differ between the released code and ours with its weights."""
    torch.manual_seed(1)
    theirs = released(recipe).eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": theirs.state_dict()}, Path(folder) / "ckpt.tar")
        ours = read_patronus(Path(folder) / "ckpt.tar").model.requires_grad_(True)
    ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, noise, times = torch.rand(4, 1, 32, 32) * 2 - 1, torch.randn(4, 1, 32, 32), torch.tensor([3, 60, 500, 990])
    one, other = theirs(noise, times, given_cond_vector=theirs.get_proact(images)), ours(images, noise, times)
    one.square().mean().backward()
    other.square().mean().backward()
    grads = [(a.grad - b.grad).abs().max() / b.grad.abs().max() for a, b in (
        (ours.encoder.prototypes, theirs.proactBlock.prototype_vectors), (ours.unet.first.weight, theirs.first.weight),
        (ours.encoder.convolutions[0].weight, theirs.proactBlock.encoder.features[0].weight))]  # fmt: skip
    apart = float(((one - other).abs().max() / one.abs().max()).detach()), float(max(grads))
    if max(apart) > 1e-3:
        raise SystemExit(f"the two do not do the same work: answers {apart[0]:.1e}, gradients {apart[1]:.1e}")
    return f"answers within {apart[0]:.0e}, gradients within {apart[1]:.0e} of the largest"


def resident(what: str) -> float:
    """Return MiB of this process: VmRSS now, VmHWM at most so far (what getrusage says counts the parent's too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1_024


def timed(call: Callable[[], Any]) -> float:
    """Return processor seconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


def memory(name: str, net: str) -> str:
    """Return the peak of a process that makes three training steps, in MiB above what is there before."""
    call = [sys.executable, "-m", "benchmarks.prototype_diffusion", "--memory", name, "--net", net]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def speeds(rounds: int) -> None:
    """Print training steps and evaluations."""
    print("| what | " + " | ".join(f"{name}, s" for name in WAYS) + " | released over ours | released over ours, "
          "bf16 | diffusers over ours |")  # fmt: skip
    print("|---|" + "---:|" * (len(WAYS) + 3))
    for net, recipe in NETS.items():
        ways = {name: way(name, recipe) for name in WAYS}
        for what in ("step", "evaluate"):
            found: dict[str, list[float]] = {name: [] for name in ways}
            for k in range(rounds + 1):
                for name in list(ways)[:: 1 if k % 2 else -1]:
                    found[name].append(timed(getattr(ways[name], what)))
            t = {name: np.array(values[1:]) for name, values in found.items()}
            pairs = [(WAYS[0], "ours"), (WAYS[0], "ours, bf16-mixed"), (WAYS[1], "ours")]
            ratios = [t[a] / t[b] for a, b in pairs]
            label = f"training step, batch {recipe.batch_size}" if what == "step" else f"evaluation of {PAINTED} images"
            print(f"| {net}: {label} | " + " | ".join(f"{np.median(t[name]):.3f}" for name in WAYS) + " | "
                  + " | ".join(f"{np.median(r):.2f} x ({r.min():.2f} to {r.max():.2f})" for r in ratios) + " |",
                  flush=True)  # fmt: skip
        print(f"| {net}: peak of training, MiB | " + " | ".join(memory(name, net) for name in WAYS) + " | | | |",
              flush=True)  # fmt: skip


class _Noise(nn.Module):
    """A trained model of ours as the released sampler wants it: predicting the noise."""

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter, self.net = painter, painter.trained.model  # registered: the sampler asks for its parameters

    def forward(self, x: Tensor, t: Tensor, given_cond_vector: Tensor) -> Tensor:
        """Return the noise in x (N, C, H, W) at times (N,)."""
        done = self.painter.trained
        return done.schedule.split(done.model.denoise(x, t, given_cond_vector), x, t, done.recipe.predicts)[1]


def painting(rounds: int) -> None:
    """Print what painting and inversion cost, and how far they end from the released code's 1,000 steps."""
    with tempfile.TemporaryDirectory() as folder:
        cohort = simulated_images("lesions", Path(folder) / "images", plant="none", size=2_000, seed=3, jobs=1)
        recipe = PRESETS["cpu-tiny"].of(channels=3)
        images = prepare(cohort, (), (16, 16), Path(folder) / "prepared", jobs=1, framing="crop", channels=3).images
        done = fit_prototypes(np.asarray(images), list(range(1_900)), recipe, Path(folder) / "model")
        some = np.asarray(images[1_900:1_932], dtype=np.float32)
    painter = Painter(done)
    from models.diffusion import SimpleDiffusion  # type: ignore[import-not-found]

    sampler, noise_of = SimpleDiffusion(1_000, (3, 16, 16)), _Noise(painter)
    codes = torch.from_numpy(painter.activations(some))
    fresh = torch.from_numpy(painter.noise(len(some), 0))
    kwargs = {"given_cond_vector": codes}

    def theirs() -> Tensor:
        with open(os.devnull, "w") as nowhere:
            said, sys.stdout = sys.stdout, nowhere  # it prints
            try:
                return sampler.sample(noise_of, noise=fresh, model_kwargs=kwargs)
            finally:
                sys.stdout = said

    def there_and_back() -> Tensor:
        x = torch.from_numpy(some) * 2 - 1
        nonlocal fresh
        kept, fresh = fresh, sampler.reverse_sample_loop(noise_of, x, model_kwargs=kwargs)["sample"]
        try:
            return theirs()
        finally:
            fresh = kept

    def ours(steps: int, method: str) -> Tensor:
        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return done.model.denoise(x, t, codes)

        with torch.no_grad():
            return sample(denoise, fresh, done.schedule, steps=steps, method=method, predicts=done.recipe.predicts)

    def back(refinements: int, tolerance: float) -> Tensor:
        by = Painter(done, refinements=refinements, tolerance=tolerance)
        return torch.from_numpy(by.paint(by.invert(some, codes.numpy()).noise, codes.numpy())) * 2 - 1

    wanted, times_theirs = theirs(), [timed(theirs) for _ in range(rounds)]
    print("\n| painting 32 images of 16 px from fresh noise (cpu-tiny) | s | released code over it | root mean "
          "square from its 1,000 steps, grey levels of 256 |\n|---|---:|---|---:|")  # fmt: skip
    print(f"| released code, 1,000 steps of DDIM | {np.median(times_theirs):.1f} | | |")
    for method, steps in (("ddim", 50), ("ddim", 100), ("dpm-solver++", 25), ("dpm-solver++", 50)):
        t = [timed(lambda s=steps, m=method: ours(s, m)) for _ in range(rounds)]
        ratio = np.array(times_theirs) / np.array(t)
        off = float((ours(steps, method) - wanted).square().mean().sqrt()) * 127.5
        spread = f"{np.median(ratio):.1f} x ({ratio.min():.1f} to {ratio.max():.1f})"
        print(f"| ours, {steps} steps of {method} | {np.median(t):.2f} | {spread} | {off:.2f} |", flush=True)
    real = torch.from_numpy(some) * 2 - 1
    times_theirs = [timed(there_and_back) for _ in range(max(1, rounds // 2))]
    off = float((there_and_back() - real).square().mean().sqrt()) * 127.5
    print("\n| to noise and back | s | released code over it | root mean square from the image, grey levels |\n"
          "|---|---:|---|---:|")  # fmt: skip
    print(f"| released code, 1,000 steps each way | {np.median(times_theirs):.1f} | | {off:.2f} |")
    for label, refinements, tolerance in (("not refined", 0, 1e-3), ("as the verbs do", 20, 1e-3)):
        t = [timed(lambda r=refinements, x=tolerance: back(r, x)) for _ in times_theirs]
        ratio = np.array(times_theirs) / np.array(t)
        off = float((back(refinements, tolerance) - real).square().mean().sqrt()) * 127.5
        print(f"| ours, 50 steps, {label} | {np.median(t):.2f} | {np.median(ratio):.1f} x | {off:.3f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--net", choices=NETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not (PEERS / "patronus").is_dir() or not (PEERS / "diffusers").is_dir():
        print("The peers are not measured: $MEDAUDIT_PEERS/patronus or $MEDAUDIT_PEERS/diffusers is not there.")
        return
    with one_thread("cpu"):
        if asked.memory:
            one = way(asked.memory, NETS[asked.net])
            before = resident("VmRSS")
            for _ in range(3):
                one.step()
            print(f"{resident('VmHWM') - before:,.0f}")
            return
        checked = same(next(iter(NETS.values())))
        speeds(asked.rounds)
        painting(asked.rounds)
        print(f"\nThe same work: {checked}. PyTorch {torch.__version__}.")


if __name__ == "__main__":
    main()
