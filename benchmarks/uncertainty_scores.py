"""Time post-hoc scores from cached features against the matrix products that they cannot do without, and against peers.

    MEDAUDIT_PEERS=/tmp/peers python benchmarks/uncertainty_scores.py

The cases of FETAL_PLANES_DB with the features of a ResNet-50: 12,400 x 2,048, 6 classes. ``floor`` is the time of one
float64 NumPy product of the same shapes and threads in the same run: for a covariance features^T features, for
distances features x (D x D), for neighbours 5,000 x 2,048 x 7,000; and where a method needs eigenvectors, NumPy's eigh
of one D x D matrix. A peer's times are taken inside its own process, in the Python of $MEDAUDIT_PEERS/NAME/bin/python,
in float32 as it comes and with as many threads; 'not measured' where it is not there or takes over ten minutes. Every
time is the best of ``--repeats``, or of fewer once half a minute is spent; a method and its floor take turns, so that
what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medaudit.uncertainty.density import GaussianDensity
from medaudit.uncertainty.distances import KNN, Mahalanobis, RelativeMahalanobis, ViM
from medaudit.uncertainty.laplace import LastLayerLaplace

CASES, SIZE, CLASSES = 12_400, 2_048, 6
TRAIN, TEST, NEIGHBOURS = 7_000, 5_000, 50
_PATIENCE = 600
"""Seconds for all that is asked of one peer."""

_TIMING = """
import json, sys, time
import numpy as np
import torch
torch.set_num_threads(int(sys.argv[3]))
cached = np.load(sys.argv[1])
x, y, w, b = (torch.from_numpy(cached[name]) for name in ("x", "y", "w", "b"))
x, w, b = x.float(), w.float(), b.float()

def measure(name, work):
    times = []
    while len(times) < int(sys.argv[2]) and sum(times) < 30:
        start = time.perf_counter()
        try:
            work()
        except Exception as error:
            print(json.dumps({name: f"{type(error).__name__}: {str(error).splitlines()[0]}"}), flush=True)
            return
        times.append(time.perf_counter() - start)
    print(json.dumps({name: min(times)}), flush=True)
"""

PEERS = {
    "pytorch_ood": """
from pytorch_ood.detector import GMM, KNN, RMD, Mahalanobis, ViM
train, test = x[:7000], x[7000:12000]
work = {
    "Mahalanobis": lambda: Mahalanobis(None).fit_features(x, y).predict_features(x),
    "relative Mahalanobis": lambda: RMD(None).fit_features(x, y).predict_features(x),
    "feature density": lambda: GMM(None).fit_features(x, y).predict_features(x),
    "ViM": lambda: ViM(None, d=1000, w=w, b=b).fit_features(x, y).predict_features(x),
    "50 nearest neighbours": lambda: KNN(None, k=50).fit_features(train, y[:7000]).predict_features(test),
}
for name, call in work.items():
    measure(name, call)
""",
    "laplace": """
from laplace import KronLLLaplace
from torch.utils.data import DataLoader, TensorDataset
head = torch.nn.Linear(*w.shape[::-1])
head.weight.data, head.bias.data = w, b
net = torch.nn.Sequential(torch.nn.Identity(), head)
loader = DataLoader(TensorDataset(x, y), batch_size=1000)
made = []

def fit():
    made[:] = [KronLLLaplace(net, "classification")]
    made[0].fit(loader)
    made[0].optimize_prior_precision(method="marglik")

measure("last-layer Laplace: fit", fit)

def predict():
    with torch.no_grad():
        for start in range(0, 1000, 100):
            made[0](x[start:start + 100], link_approx="probit")

measure("last-layer Laplace: probit, 1,000 cases", predict)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the peers; ours: OMP_NUM_THREADS")
    options = parser.parse_args()
    x, y, weight, bias = cached()
    logits = x @ weight.T + bias
    train, test = x[:TRAIN], x[TRAIN : TRAIN + TEST]

    other, square = x.copy(), x.T @ x
    products = {
        "covariance": lambda: x.T @ other,
        "distances": lambda: x @ square,
        "neighbours": lambda: test @ train.T,
        "eigh": lambda: np.linalg.eigh(square),
    }
    fitted = LastLayerLaplace.fit(x, weight, bias)
    rows: dict[str, tuple[Callable[[], object], dict[str, float]]] = {
        "Mahalanobis": (lambda: Mahalanobis.fit(x, y).score(x), {"covariance": 1, "distances": 1}),
        "relative Mahalanobis": (lambda: RelativeMahalanobis.fit(x, y).score(x), {"covariance": 1, "distances": 1}),
        "feature density": (
            lambda: GaussianDensity.fit(x, y).score(x), {"covariance": 1, "distances": CLASSES}
        ),
        "ViM": (
            lambda: ViM.fit(x, logits, weight, bias, 1000).score(x, logits),
            {"covariance": 1, "distances": 2 * (SIZE - 1000) / SIZE, "eigh": 1},
        ),
        "50 nearest neighbours": (lambda: KNN.fit(train, NEIGHBOURS).score(test), {"neighbours": 1}),
        "last-layer Laplace: fit": (
            lambda: LastLayerLaplace.fit(x, weight, bias), {"covariance": 1, "eigh": 1}
        ),
        "last-layer Laplace: probit, 1,000 cases": (
            lambda: fitted.predict(x[:1000]), {"distances": 1000 / CASES}
        ),
    }  # fmt: skip
    peers = measured(x, y, weight, bias, options.repeats, options.threads)
    print(f"| {CASES:,} x {SIZE:,}, {CLASSES} classes | seconds | x floor | floor | peer | seconds | times faster |")
    print("|---|---:|---:|---|---|---:|---:|", flush=True)
    floors: dict[str, float] = {}
    for name, (method, parts) in rows.items():
        found = in_turn({name: method, **{part: products[part] for part in parts}}, options.repeats)
        floors |= {part: min(found[part], floors.get(part, found[part])) for part in parts}
        seconds, peer = found[name], "laplace-torch" if "Laplace" in name else "pytorch-ood"
        floor = sum(share * found[part] for part, share in parts.items())
        which = " + ".join(part if share == 1 else f"{share:.2g} {part}" for part, share in parts.items())
        theirs = peers.get(name, "not measured")
        compared = f"{theirs:.2f} | {theirs / seconds:.1f}" if isinstance(theirs, float) else f"{theirs} | "
        print(f"| {name} | {seconds:.3f} | {seconds / floor:.2f} | {which} | {peer} | {compared} |", flush=True)
    work = {"covariance": CASES * SIZE**2, "distances": CASES * SIZE**2, "neighbours": TRAIN * TEST * SIZE}
    print("\n| float64 floor | seconds | GFLOP/s |")
    print("|---|---:|---:|")
    for name, seconds in floors.items():
        print(f"| {name} | {seconds:.2f} | {f'{2 * work[name] / seconds / 1e9:.0f}' if name in work else ''} |")
    print(f"\n{options.threads} threads for the peers (float32); NumPy's BLAS: OMP_NUM_THREADS="
          f"{os.environ.get('OMP_NUM_THREADS', f'unset, {os.cpu_count()} cores')} (float64).")  # fmt: skip


def cached() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, D) as of a ReLU layer, of low rank and noise, labels (N,) and a last layer (C, D), (C,)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, CASES)
    latent = rng.normal(size=(CASES, 200)) + 2 * rng.normal(size=(CLASSES, 200))[y]
    x = latent @ rng.normal(size=(200, SIZE)) / 14 + rng.normal(size=(CASES, SIZE)) / 4
    x = np.maximum(x, 0)
    means = np.stack([x[y == c].mean(axis=0) for c in range(CLASSES)])
    weight = (means - means.mean(axis=0)) / 50 + rng.normal(size=(CLASSES, SIZE)) / 1000
    return x, y, weight, 0.1 * rng.normal(size=CLASSES) + 2


def measured(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, repeats: int, threads: int
) -> dict[str, float | str]:
    """Return the peers' times by name; those of a peer that is not there are missing."""
    found: dict[str, float | str] = {}
    home = os.environ.get("MEDAUDIT_PEERS")
    if home is None:
        return found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cached.npz"
        np.savez(path, x=x.astype(np.float32), y=y, w=weight, b=bias)
        for name, program in PEERS.items():
            python = Path(home) / name / "bin" / "python"
            if python.exists():
                # -P: not from this folder, whose modules a peer must not see.
                call = [
                    str(python),
                    "-P",
                    "-W",
                    "ignore",
                    "-c",
                    _TIMING + program,
                    str(path),
                    str(repeats),
                    str(threads),
                ]
                with subprocess.Popen(
                    call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder
                ) as process:
                    stop = threading.Timer(_PATIENCE, process.kill)
                    stop.start()
                    for line in process.stdout or ():
                        if line.startswith("{"):
                            found.update(json.loads(line))
                    stop.cancel()
    return found


def in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest time of each call, all of them made in turn."""
    shortest = dict.fromkeys(calls, float("inf"))
    started = time.perf_counter()
    for turn in range(repeats):
        if turn and time.perf_counter() - started > 30:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            shortest[name] = min(shortest[name], time.perf_counter() - start)
    return shortest


if __name__ == "__main__":
    main()
