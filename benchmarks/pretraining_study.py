"""Run the experiment of docs/studies/pretraining.md: is it worth pretraining one's own model on two cores?

    python -m benchmarks.pretraining_study train --data ../shared/data --work FOLDER [--corpora clinical xray]
    python -m benchmarks.pretraining_study probe --data ../shared/data --work FOLDER

Follows the protocol of that page to the letter; what is finished in ``--work`` is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from sklearn.datasets import load_sample_images

from medaudit import datasets
from medaudit.audits.pretraining.contenders import Contender
from medaudit.audits.pretraining.run import probe_cohort
from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.cohort import Cohort, Role, split
from medaudit.datasets import medmnist
from medaudit.networks.backbones import open_backbone
from medaudit.training.dinov2.recipe import PRESETS
from medaudit.training.dinov2.run import pretrain
from medaudit.training.frames import Frames, shrink

SEEDS, SIDE, STEPS = (0, 1, 2), 64, 1_000
RECIPE = replace(PRESETS["cpu-tiny"], steps=STEPS, epochs=10)
SHARES, DEAL = (0.6, 0.15, 0.25), 20_261_126
"""Training, validation and test patients; frames of test patients are in no corpus."""
CURVE = {"simulated-quarter": 4, "simulated-sixteenth": 16}
"""Corpora of the learning curve: every fourth and every sixteenth of the patients that a pretraining may see."""
CORPORA = ("clinical", "natural", "xray", "simulated", *CURVE)


def simulated(data: Path, work: Path) -> Cohort:
    """The simulator's frames: three planes a patient."""
    return datasets.simulated_images(
        "fetal-ultrasound", work / "data" / "simulated", plant="crossed", size=4_500, seed=11, jobs=1
    )


def hc18(data: Path, work: Path) -> Cohort:
    """HC18, by woman."""
    return datasets.load("hc18", data / "hc18")


def breast(data: Path, work: Path) -> Cohort:
    """BrEaST, by patient."""
    return datasets.load("breast-lesions-usg", data / "breast_lesions_usg")


def xray(data: Path, work: Path) -> Cohort:
    """PneumoniaMNIST, 28 pixels; its own split, so only training and validation images are pretrained on."""
    folder = work / "data" / "xray"
    if not (folder / "cases.csv").exists():
        medmnist.extract(data / "medmnist" / "pneumoniamnist.npz", folder)
    return datasets.load("medmnist", folder)


def natural(data: Path, work: Path) -> Cohort:
    """Squares cut from scikit-learn's two photographs: as many as there are clinical frames to pretrain on."""
    folder = work / "data" / "natural"
    n = sum(len(seen(source(data, work))) for source in (hc18, breast))
    if not (folder / "cases.csv").exists():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(DEAL)
        photographs = [Image.fromarray(photograph).convert("L") for photograph in load_sample_images().images]
        for i in range(n):
            photograph = photographs[i % len(photographs)]
            side = int(rng.integers(96, min(photograph.size) + 1))
            left, top = (int(rng.integers(0, whole - side + 1)) for whole in photograph.size)
            photograph.crop((left, top, left + side, top + side)).save(folder / "images" / f"{i:04d}.png")
        names = [f"{i:04d}" for i in range(n)]
        table = pl.DataFrame({"case_id": names, "image_path": [f"images/{name}.png" for name in names]})
        table.write_csv(folder / "cases.csv")
    found = Cohort.read(folder / "cases.csv", patient_id=None, root=folder)
    return replace(found, roles={"image": Role("image_path")})


def parts(cohort: Cohort) -> np.ndarray:
    """Return each case's part: 0 training, 1 validation, 2 test."""
    if "split" in cohort.table.columns:
        return np.array([{"train": 0, "val": 1, "test": 2}[name] for name in cohort.table["split"]])
    return split(cohort.clusters.to_list(), ["all"] * len(cohort), SHARES, DEAL)


def seen(cohort: Cohort) -> np.ndarray:
    """Return the rows that a pretraining may see: not those of test patients."""
    return np.flatnonzero(parts(cohort) < 2)


SOURCES: dict[str, Callable[[Path, Path], Cohort]] = {
    "simulated": simulated, "hc18": hc18, "breast": breast, "xray": xray, "natural": natural,
}  # fmt: skip


def frames_of(name: str, data: Path, work: Path) -> tuple[Cohort, Frames]:
    """Return a dataset and its frames at :data:`SIDE`."""
    cohort = SOURCES[name](data, work)
    return cohort, shrink(cohort, work / "frames" / name, side=SIDE)


def corpus(name: str, data: Path, work: Path) -> Frames:
    """Return what a pretraining sees, as one folder of frames."""
    folder = work / "corpora" / name
    tables = []
    for source in ("hc18", "breast") if name == "clinical" else (name.split("-")[0],):
        cohort = SOURCES[source](data, work)
        rows = np.arange(len(cohort)) if name == "natural" else seen(cohort)
        if name in CURVE:
            clusters = cohort.clusters.to_numpy()
            few = np.unique(clusters[rows])[:: CURVE[name]]
            rows = rows[np.isin(clusters[rows], few)]
        paths = [str(path) for path in (case.files["image"] for case in cohort.cases("image"))]
        tables.append(
            pl.DataFrame(
                {
                    "path": [paths[i] for i in rows],
                    "patient_id": [f"{source}:{cohort.clusters[int(i)]}" for i in rows],
                }
            )
        )
    work.joinpath("corpora").mkdir(parents=True, exist_ok=True)
    listed = work / "corpora" / f"{name}.csv"
    pl.concat(tables).write_csv(listed)
    return shrink(listed, folder, side=SIDE)


def train(names: list[str], data: Path, work: Path, seeds: list[int]) -> None:
    """Pretrain every corpus from every seed."""
    for seed in seeds:
        for name in names:
            pretrain(corpus(name, data, work), RECIPE, work / "runs" / f"{name}-{seed}", seed=seed)


TASKS: dict[str, tuple[str, str, str, str | None]] = {
    "HC18, trimester": ("hc18", "trimester", "clinical", None),
    "HC18, head's mask": ("hc18", "segmentation", "clinical", None),
    "BrEaST, malignant": ("breast", "malignant", "clinical", None),
    "BrEaST, tumour's mask": ("breast", "segmentation", "clinical", None),
    "PneumoniaMNIST, pneumonia": ("xray", "label", "xray", "split"),
    "simulated, plane": ("simulated", "plane", "simulated", None),
    "simulated, device": ("simulated", "device", "simulated", None),
}
"""Data, what is predicted, the corpus of the own model, and the column of the dataset's own split."""


CURVED = ("simulated, plane", "simulated, device")
"""The tasks that are also asked of the models that saw fewer frames, where these were trained."""


def probe(data: Path, work: Path, tasks: list[str]) -> None:
    """Ask every task of every contender; print a table a task, and the answers."""
    for title in tasks:
        source, task, name, column = TASKS[title]
        cohort = SOURCES[source](data, work)
        if source == "breast":
            malignant = pl.when(pl.col("diagnosis_class") == "malignant").then(pl.lit("yes")).otherwise(pl.lit("no"))
            cohort = replace(cohort, table=cohort.table.with_columns(malignant=malignant))
        if column is None:  # the deal that the corpora were made by, so that no test frame was pretrained on
            dealt = pl.Series("dealt", [("train", "val", "test")[part] for part in parts(cohort)])
            cohort, column = replace(cohort, table=cohort.table.with_columns(dealt)), "dealt"
        fewer = [less for less in CURVE if title in CURVED and (work / "runs" / f"{less}-{SEEDS[-1]}").exists()]
        settings = ProbeSettings(
            own=tuple(str(work / "runs" / f"{each}-{seed}") for each in [name, *fewer] for seed in SEEDS), task=task,
            against=("lite0", "hog", "pixels", "random:tiny"), scratch=0 if task == "segmentation" else 30,
            split_column=column, side=144,
        )  # fmt: skip
        folder = work / "probes" / title.replace(",", "").replace("'", "").replace(" ", "-")
        outcome = probe_cohort(cohort, settings, out=folder, extra=[natural_contender(work)])
        measure = settings.measure
        print(f"\n## {title}: {len(outcome.study.test)} test images of {outcome.study.patients} patients")
        print(f"| contender | {measure} (95 %) | kNN | 5 a class | 20 a class |\n|---|---|---|---|---|")
        for one in outcome.study.judged:
            level = outcome.study.level(one, measure)
            few = [f"{one.shots[s].mean():.3f}" if s in one.shots else "" for s in (5, 20)]
            near = f"{one.knn.mean():.3f}" if np.isfinite(one.knn).all() else ""
            print(f"| {one.contender.title} | {level.value:.3f} ({level.low:.3f} to {level.high:.3f}) | {near} | "
                  f"{few[0]} | {few[1]} |")  # fmt: skip
        for finding in outcome.findings:
            print(f"- {finding.verdict}: {finding.claim}")


def natural_contender(work: Path) -> Contender:
    """The same net pretrained on photographs, from the same three seeds."""
    several = tuple(open_backbone(work / "runs" / f"natural-{seed}") for seed in SEEDS)
    return Contender("natural", "the same on photographs", several[0].trained_on, several, False)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "probe"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    asked = parser.parse_args()
    data, work = asked.data.resolve(), asked.work.resolve()
    if asked.part == "train":
        train(asked.corpora, data, work, asked.seeds)
    else:
        probe(data, work, asked.tasks)


if __name__ == "__main__":
    main()
