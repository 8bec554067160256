"""Time SLUG against the forward pass, the exact trace and peers: products, scores, growth, memory.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.slug

Everything on one thread, best of ``--repeats``, a product and its forward pass in turns. A VAE of the ``cpu`` preset's
widths with 160 latent numbers at 64 pixels (1.0 M parameters) unless a row says otherwise; weights as drawn, since time
does not depend on them. The exact trace takes one backward pass an output: 64 are timed and multiplied, and the row
says so. A peer's times are taken in its own process, in the Python of $MEDAUDIT_PEERS/slug/bin/python.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed

from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.training.vae import VAES
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug.ggn import Gaussian, ggn_products
from medaudit.uncertainty.slug.model import reconstruction

SHAPE = replace(VAES["cpu"].shape, latent=160)
SHAPES = {
    32: replace(SHAPE, side=32, widths=(16, 32, 64)),
    64: SHAPE,
    128: replace(SHAPE, side=128, widths=(16, 32, 64, 128, 128)),
}
PROBES = 32

_PEER = """
import json, sys, time, torch
from torch import nn
sys.path.insert(0, sys.argv[4])
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
torch.set_num_threads(1)
kept = torch.load(sys.argv[1], weights_only=True)
model = Vae(VaeShape(**{**kept["shape"], "widths": tuple(kept["shape"]["widths"])}))
model.load_state_dict(kept["model"])
net = nn.Sequential(MeanEncoder(model.encoder), model.decoder).eval()
x = kept["x"]

def best(work, repeats=int(sys.argv[2])):
    times = []
    for _ in range(repeats):
        start = time.perf_counter(); work(); times.append(time.perf_counter() - start)
    return min(times)
"""
_CURVLINOPS = """
from curvlinops import GGNLinearOperator
params = [p for name, p in net.named_parameters() if "log_variance" not in name]
for p in net.parameters():
    p.requires_grad_(True)
out = [p for name, p in net.named_parameters() if "log_variance" in name]
for p in out:
    p.requires_grad_(False)
operator = GGNLinearOperator(net, nn.MSELoss(reduction="sum"), params, [(x, x)], check_deterministic=False)
v = torch.randn(operator.shape[1], generator=torch.Generator().manual_seed(1))
operator @ v
with torch.no_grad():
    forward = best(lambda: net(x))
print(json.dumps({"forward": forward, "product": best(lambda: operator @ v)}))
"""
_LAPLACE = """
from laplace import Laplace
from torch.utils.data import DataLoader, TensorDataset
flat = nn.Sequential(net, nn.Flatten())
start = time.perf_counter()
la = Laplace(flat, "regression", subset_of_weights="all", hessian_structure="diag")
la.fit(DataLoader(TensorDataset(x[:8], x[:8].flatten(1)), batch_size=4))
fit = time.perf_counter() - start
start = time.perf_counter()
la.functional_variance(la.backend.jacobians(x[:1])[0])
print(json.dumps({"fit_8": fit, "image": time.perf_counter() - start}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table("What is timed", "medaudit", "peer or floor", "ratio")
    products(arguments.repeats)
    scores(arguments.repeats)
    growth(arguments.repeats)
    thousand(arguments.images)


def products(repeats: int) -> None:
    """JVP and GGN products in multiples of a forward pass, and curvlinops' on the same net and images."""
    for side, count in ((32, 64), (64, 32)):
        model, x = built(SHAPES[side]), torch.rand(count, 3, side, side)
        f = of(model, x)
        rows = torch.randn(4, f.size)
        forward, push = in_turns(
            repeats, lambda f=f, x=x: f.reconstruct(x), lambda f=f, x=x, rows=rows: f.push(x, rows)
        )
        row(f"JVP, {side} px, x forward", push / 4 / forward, "target 3", "")
        forward, product = in_turns(
            repeats, lambda f=f, x=x: f.reconstruct(x),
            lambda f=f, x=x, rows=rows: ggn_products(f, x, rows, likelihood=Gaussian(), variance=1.0),
        )  # fmt: skip
        peer = peer_times(model, x, _CURVLINOPS, repeats)
        theirs = peer["product"] / peer["forward"] if "product" in peer else None
        row(f"GGN product, {side} px, x forward", product / 4 / forward, said(theirs, "curvlinops", peer),
            ratio(theirs, product / 4 / forward))  # fmt: skip


def scores(repeats: int) -> None:
    """Seconds an image: SLUG with 32 probes, the exact trace, and laplace-torch where it runs."""
    for side in SHAPES:
        model, x = built(SHAPES[side]), torch.rand(16, 3, side, side)
        state = slug.fit(MeanEncoder(model.encoder), model.decoder, x, rank=8, trace_probes=2)
        options = {"relative_error": None, "max_probes": PROBES, "min_probes": 2, "rho": False}
        slug.score(state, x[:1], **options)
        ours, backward = in_turns(
            repeats, lambda s=state, x=x, o=options: slug.score(s, x, **o), lambda s=state, x=x: some_backwards(s, x)
        )
        outputs = 3 * side * side
        exact = backward / 64 * outputs
        row(f"score of an image, {side} px, ms", 1e3 * ours / 16,
            f"{exact:.1f} s exact ({outputs:,} backwards; 64 timed)", f"x {exact / (ours / 16):,.0f}")  # fmt: skip
        need = outputs * state.model.size * 4 / 2**30
        if need < 6:
            peer = peer_times(model, x, _LAPLACE, repeats)
            row(f"the same, laplace-torch, {side} px", "",
                f"{peer['image']:.1f} s, diagonal" if "image" in peer else peer.get("error", "not measured"),
                f"x {peer['image'] / (ours / 16):,.0f}" if "image" in peer else "")  # fmt: skip
        else:
            row(f"the same, laplace-torch, {side} px", "", f"fails: one Jacobian is {need:.0f} GiB", "")


def growth(repeats: int) -> None:
    """How the score's time and memory grow with pixels, parameters and probes."""
    base = None
    for words, shape, probes in (
        ("64 px, 1.0 M parameters, 32 probes", SHAPE, 32),
        ("128 px, 32 probes (4 x pixels)", SHAPES[128], 32),
        ("64 px, latent 512 (x parameters below)", replace(SHAPE, latent=512), 32),
        ("64 px, 64 probes", SHAPE, 64),
    ):
        model, x = built(shape), torch.rand(16, 3, shape.side, shape.side)
        state = slug.fit(MeanEncoder(model.encoder), model.decoder, x, rank=4, trace_probes=2)
        options = {"relative_error": None, "max_probes": probes, "min_probes": 2, "rho": False}
        slug.score(state, x, **options)
        seconds, _ = in_turns(repeats, lambda s=state, x=x, o=options: slug.score(s, x, **o), lambda: None)
        base = base or seconds
        row(f"{words}: P = {state.model.size:,}, ms an image", 1e3 * seconds / 16, "", f"x {seconds / base:.2f}")


def thousand(count: int) -> None:
    """1,000 images at 64 pixels with 1 M parameters and 32 probes, in two processes of one thread, and the fit."""
    start = time.perf_counter()
    parts = Parallel(n_jobs=2)(delayed(_half)(count // 2, seed) for seed in range(2))
    wall = time.perf_counter() - start
    row(f"{count:,} images, 64 px, {parts[0][2]:,} parameters, {PROBES} probes, 2 processes, s", wall,
        "target 180 s", f"x {180 / wall:.1f}")  # fmt: skip
    row("  of which a process's fit (rank 20, 100 images), s", max(part[0] for part in parts), "", "")
    row("  peak memory of a process, GiB (torch itself about 0.4)", max(part[1] for part in parts), "", "")


def _half(count: int, seed: int) -> tuple[float, float, int]:
    torch.set_num_threads(1)
    model = built(SHAPE)
    x = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    start = time.perf_counter()
    state = slug.fit(MeanEncoder(model.encoder), model.decoder, x[:100], rank=20)
    fit = time.perf_counter() - start
    slug.score(state, x, relative_error=None, max_probes=PROBES, rho=False)
    return fit, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, state.model.size


def some_backwards(state: slug.SlugState, x: torch.Tensor) -> None:
    """Take 64 of the exact trace's backward passes."""
    rows = torch.zeros(64, 1, *state.model.image_shape)
    rows.view(64, -1)[torch.arange(64), torch.arange(64)] = 1
    state.model.pull(x[:1], rows)


def built(shape: VaeShape) -> Vae:
    """Return a VAE in evaluation mode."""
    return Vae(shape).eval()


def of(model: Vae, x: torch.Tensor):
    """Return f over all parameters."""
    return reconstruction(MeanEncoder(model.encoder), model.decoder, x)


def in_turns(repeats: int, first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the best time of each, taken in turns, so that what else the machine does meets both."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats + 1):
        for i, work in enumerate((first, second)):
            start = time.perf_counter()
            work()
            if _:
                best[i] = min(best[i], time.perf_counter() - start)
    return best[0], best[1]


def peer_times(model: Vae, x: torch.Tensor, script: str, repeats: int) -> dict:
    """Return what a peer's process printed, or why it did not."""
    python = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere")) / "slug" / "bin" / "python"
    if not python.exists():
        return {"error": "not measured"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.pt"
        torch.save({"model": model.state_dict(), "shape": model.shape.as_dict(), "x": x}, file)
        source = Path(__file__).parent.parent / "src"
        call = [str(python), "-c", _PEER + script, str(file), str(repeats), "", str(source)]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            return {"error": "over ten minutes"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1][:80]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def said(value: float | None, name: str, peer: dict) -> str:
    """Return a peer's number with its name."""
    return f"{value:.2f} {name}" if value is not None else f"{name}: {peer.get('error', 'not measured')}"


def ratio(theirs: float | None, ours: float) -> str:
    """Return how many times ours is faster."""
    return f"x {theirs / ours:.2f}" if theirs is not None else ""


def table(*names: str) -> None:
    """Print the head of the table."""
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names), flush=True)


def row(words: str, ours: float | str, other: str, times: str) -> None:
    """Print a row."""
    shown = ours if isinstance(ours, str) else f"{ours:.3g}"
    print(f"| {words} | {shown} | {other} | {times} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
