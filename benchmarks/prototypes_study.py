"""Train models of prototypes on real images and ask what their activations know, beside codes of equal size.

    python -m benchmarks.prototypes_study train --data ../shared/data --work FOLDER [--sets fashion chest heads]
    python -m benchmarks.prototypes_study probe --data ../shared/data --work FOLDER [--sets fashion chest heads]

The protocol is in docs/studies/prototypes.md. ``train`` makes runs of `medaudit prototypes train`, ``probe`` prints the
tables; what is finished in ``--work`` is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from medaudit.audits.prototypes.codes import COMPONENTS, OWN, Told, components, more, told
from medaudit.audits.prototypes.settings import TrainSettings
from medaudit.audits.prototypes.train_run import Opened, open_trained, train_prototypes
from medaudit.cohort import Cohort
from medaudit.datasets import fashion_mnist, hc18, medmnist
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.metrics.latent_codes import latent_auroc
from medaudit.networks.vae import Vae, VaeShape
from medaudit.training.devices import one_thread
from medaudit.training.vae import VaeRecipe, fit_vae

VAE = "a VAE"
_MOVED = 8  # images in which each prototype is turned up


@dataclass(frozen=True)
class Set:
    """Real images, the preset they are trained by, and attributes of their tables."""

    cohort: Callable[[Path, Path], Cohort]
    preset: str
    prototypes: int
    attributes: Callable[[pl.DataFrame], dict[str, np.ndarray]]


def _kinds(table: pl.DataFrame) -> dict[str, np.ndarray]:
    return {kind: (table["kind"] == kind).to_numpy().astype(float) for kind in fashion_mnist.CLASSES}


def _pneumonia(table: pl.DataFrame) -> dict[str, np.ndarray]:
    return {"pneumonia": table["label"].to_numpy().astype(float)}


def _heads(table: pl.DataFrame) -> dict[str, np.ndarray]:
    size = table["head_circumference_mm"].to_numpy()
    return {"below 150 mm": (size < 150).astype(float), "above 250 mm": (size > 250).astype(float)}


SETS = {
    "fashion": Set(lambda data, work: fashion_mnist.extract(fashion_mnist.DEBIAN, work / "fashion-mnist"),
                   "cpu-small", 30, _kinds),
    "chest": Set(lambda data, work: medmnist.extract(data / "medmnist" / "pneumoniamnist.npz", work / "pneumonia"),
                 "cpu-small", 32, _pneumonia),
    "heads": Set(lambda data, work: hc18.DATASET.load(data / "hc18"), "cpu", 32, _heads),
}  # fmt: skip


def train(data: Path, work: Path, name: str, seed: int) -> None:
    """Train one model and note its seconds."""
    out = work / f"{name}-{seed}"
    noted = work / f"{name}-{seed}.seconds"
    if noted.exists():
        return
    one = SETS[name]
    cohort = one.cohort(data, work)
    start = time.perf_counter()
    train_prototypes(cohort, TrainSettings(preset=one.preset, prototypes=one.prototypes, seed=seed), out=out)
    noted.write_text(f"{time.perf_counter() - start:.0f}")
    print(f"{name}-{seed}: {noted.read_text()} s", flush=True)


def vae_codes(run: Opened, rows: np.ndarray, folder: Path, seed: int) -> np.ndarray:
    """Return the posterior means (n, m) of a VAE that saw as many of the same images."""
    recipe, images = run.painter.trained.recipe, run.images
    widths = (16, 32, 64) if recipe.side == 32 else (16, 32, 64, 128)
    shape = VaeShape(channels=recipe.encoder.channels, side=recipe.side, widths=widths,
                     latent=recipe.encoder.prototypes)  # fmt: skip
    how = VaeRecipe(shape, steps=recipe.steps, batch_size=recipe.batch_size, flip=False)
    torch.manual_seed(seed)
    net = fit_vae(Vae(shape), images, run.rows("train").tolist(), how, folder, seed=seed).eval()
    with torch.no_grad():
        parts = (images[rows[k : k + 512]] for k in range(0, len(rows), 512))
        return np.concatenate(
            [net.encode_mean(torch.from_numpy(np.asarray(x, dtype=np.float32))).numpy() for x in parts]
        )


def controllability(run: Opened, seed: int) -> np.ndarray:
    """Return for each prototype how much of the change asked for the encoder finds in paintings, the mean of images."""
    rows = run.rows("test")[:: max(1, len(run.rows("test")) // _MOVED)][:_MOVED]
    images = np.asarray(run.images[rows], dtype=np.float32)
    codes = run.painter.activations(images)
    ranges = Ranges.of(run.activations()[run.rows("train")])
    noise = run.painter.invert(images, codes).noise
    found = np.full(codes.shape[1], np.nan)
    for j in range(codes.shape[1]):
        target = float(ranges.high[j])
        after = run.painter.activations(run.painter.paint(noise, ranges.moved(codes, j, target)))
        asked = (target - codes[:, j]).sum()
        if abs(asked) > 1e-6:
            found[j] = (after[:, j] - codes[:, j]).sum() / asked
    return found


def probe(data: Path, work: Path, name: str, seed: int) -> dict[str, Told]:
    """Print what one model's codes know, and return it."""
    run = open_trained(work / f"{name}-{seed}")
    rows, m = run.rows("test"), run.painter.trained.recipe.encoder.prototypes
    labels = np.stack(list(SETS[name].attributes(run.table).values()), axis=1)
    codes = {
        OWN: run.activations()[rows],
        COMPONENTS: components(run.images[run.rows("train")], run.images[rows], m),
        VAE: vae_codes(run, rows, work / f"{name}-{seed}-vae", seed),
    }
    return told(codes, labels[rows], run.patients[rows], resamples=1_000, seed=0)


def published(run: Opened) -> dict[str, float]:
    """Return the paper's protocol on Fashion-MNIST, by both readings, for activations and principal components."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    first = run.rows("train")[:10_000]
    kinds = run.table["label"].to_numpy()[first]
    labels = np.stack(list(_kinds(run.table).values()), axis=1)[first]
    found = {}
    m = run.painter.trained.recipe.encoder.prototypes
    for code, values in ((OWN, run.activations()[first]),
                         (COMPONENTS, components(run.images[run.rows("train")], run.images[first], m))):  # fmt: skip
        right = []
        for fitted, asked in KFold(5, shuffle=True, random_state=0).split(values):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
            right.append(model.fit(values[fitted], kinds[fitted]).score(values[asked], kinds[asked]))
        found[f"{code}: accuracy"] = float(np.mean(right))
        found[f"{code}: AUROC"] = latent_auroc(values, labels).mean
    return found


def tables(data: Path, work: Path, names: list[str], seeds: list[int]) -> None:
    """Print everything."""
    print("| images, seed | seconds | effective rank | dead, twins | own noise, MSE | error explained by activations | "
          "reached, median (least) |\n|---|---:|---:|---:|---:|---|---|")  # fmt: skip
    for name in names:
        for seed in seeds:
            folder = work / f"{name}-{seed}"
            run = open_trained(folder)
            found = {one["id"]: one["estimate"] for one in json.loads((folder / "findings.json").read_text())}
            some = np.asarray(run.images[run.rows("test")[:16]], dtype=np.float32)
            codes = run.painter.activations(some)
            own = run.painter.paint(run.painter.invert(some, codes).noise, codes)
            reached = controllability(run, seed)
            obeys = found["obeys"]
            print(f"| {name}, {seed} | {(work / f'{name}-{seed}.seconds').read_text()} | "
                  f"{found['collapsed']['value']:.1f} of {codes.shape[1]} | {found['dead']['value']:.0f} | "
                  f"{((own - some) ** 2).mean():.1e} | {100 * obeys['value']:.0f} % ({100 * obeys['low']:.0f} to "
                  f"{100 * obeys['high']:.0f}) | {np.nanmedian(reached):.2f} ({np.nanmin(reached):.2f}) |",
                  flush=True)  # fmt: skip
    print(f"\n| images, seed | attribute | {OWN} | {COMPONENTS} | {VAE} | less components | less VAE |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    for name in names:
        for seed in seeds:
            known = probe(data, work, name, seed)
            attributes = list(SETS[name].attributes(open_trained(work / f"{name}-{seed}").table))
            for k, attribute in enumerate(attributes):
                cells = [_interval(t.readout.by_attribute[k], t.readout.low[k], t.readout.high[k])
                         for t in known.values()]  # fmt: skip
                cells += [_interval(*(part[k] for part in more(known[OWN].readout, known[other].readout)))
                          for other in (COMPONENTS, VAE)]  # fmt: skip
                print(f"| {name}, {seed} | {attribute} | {' | '.join(cells)} |", flush=True)
            tads = [f"{one.tad.mean:.2f}, {one.tad.attributes:.1f}" for one in known.values()]
            print(f"| {name}, {seed} | TAD, captured | {' | '.join(tads)} | | |", flush=True)
    if "fashion" in names:
        for seed in seeds:
            numbers = published(open_trained(work / f"fashion-{seed}"))
            print(f"fashion, {seed}, the paper's protocol: " + ", ".join(f"{k} {v:.3f}" for k, v in numbers.items()))


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "probe"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    with one_thread("cpu"):
        if asked.what == "train":
            for seed in asked.seeds:
                for name in asked.sets:
                    train(asked.data, asked.work, name, seed)
        else:
            tables(asked.data, asked.work, asked.sets, asked.seeds)


if __name__ == "__main__":
    main()
