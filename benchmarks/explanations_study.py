"""Run the study of docs/studies/explanations.md: one assumption changed at a time, on real images.

    python -m benchmarks.explanations_study --data ../shared/data --work FOLDER [--sets chest hc18 breast tags]

What is finished in ``--work`` is not done again. Prints the tables of the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medaudit import datasets
from medaudit.audits.explanations.advice import configuration_of
from medaudit.audits.explanations.run import audit_explanations
from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.cohort import Cohort
from medaudit.datasets import medmnist
from medaudit.explanation.attributions.explananda import Explanandum
from medaudit.explanation.attributions.run import Banks, Subject, attribute
from medaudit.explanation.warrants.comparison import mass_share
from medaudit.explanation.warrants.intervention import intervention
from medaudit.explanation.warrants.maps import mean_estimate
from medaudit.networks.classification import build_classifier
from medaudit.training.classification import ClassifierRecipe, fit_classifier

SEEDS, PATCH, STRIDE, TAG = (0, 1, 2), 32, 8, 4
TAGS = {"white": 1.0, "black": 0.0, "grey": 0.5}
EXPLAINERS = (
    "ig-black", "ig-white", "ig-grey", "ig-mean-colour", "ig-mean-image", "ig-matched", "ig-blur", "expected-gradients",
    "gradient", "gradient-absolute", "smoothgrad", "input-times-gradient", "guided-backprop", "grad-cam",
    "occlusion(absence=black)", "occlusion(absence=mean-colour)", "kernel-shap-mean-colour", "lrp-epsilon",
)  # fmt: skip


@dataclass(frozen=True)
class Set:
    """One of part A."""

    load: Callable[[Path, Path], Cohort]
    settings: ExplainSettings
    readers: tuple[str, ...] = ()


SETS = {
    "chest": Set(lambda data, work: medmnist.extract(data / "medmnist" / "pneumoniamnist.npz", work / "pneumonia"),
                 ExplainSettings(label="label", side=28)),
    "hc18": Set(lambda data, work: datasets.load("hc18", data / "hc18"), ExplainSettings(label="trimester")),
    "breast": Set(lambda data, work: datasets.load("breast-lesions-usg", data / "breast_lesions_usg"),
                  ExplainSettings(label="diagnosis_class", classes=("benign", "malignant")), ("reference",)),
}  # fmt: skip


def audited(data: Path, work: Path, name: str) -> None:
    """Audit a set, unless it is there, and print what it shows."""
    out = work / name
    if not (out / "findings.json").exists():
        one = SETS[name]
        audit_explanations(one.load(data, work), one.settings, out=out, readers=one.readers, progress=False)
    for entry in json.loads((out / "findings.json").read_text()):
        if entry["id"] == "model" or entry["id"] == "moves-most" or entry["id"].startswith("pair:"):
            print(f"| {name} | {entry['id']} | {entry['verdict']} | {entry['claim']} |", flush=True)
    if SETS[name].readers:
        for entry in json.loads((out / "findings.json").read_text()):
            if "mask" in entry["id"] or "road" in entry["id"] or "randomisation" in entry["id"]:
                print(f"| {name} | {entry['id']} | {entry['verdict']} | {entry['claim']} |", flush=True)
        card = json.loads(next(iter(sorted((out / "cards").glob("*.json")))).read_text())
        for claim in card["claims"]:
            print(
                f"| {name} | {card['configuration']['name']} | {claim['claim']}: {claim['verdict']} | {claim['why']} |"
            )


def patches() -> tuple[np.ndarray, np.ndarray]:
    """Return tissue patches (n, 3, 32, 32) from 0 to 1, and the row of the picture that each starts at."""
    from skimage import data as pictures

    image = pictures.immunohistochemistry().astype(np.float32).transpose(2, 0, 1) / 255
    tall, wide = image.shape[1:]
    starts = [(i, j) for i in range(0, tall - PATCH + 1, STRIDE) for j in range(0, wide - PATCH + 1, STRIDE)]
    return np.stack([image[:, i : i + PATCH, j : j + PATCH] for i, j in starts]), np.array([i for i, _ in starts])


def tagged(images: torch.Tensor, level: float, at: np.ndarray) -> torch.Tensor:
    """Return images with a square of ``level`` whose corner is at ``at`` (n, 2)."""
    made = images.clone()
    for k, (i, j) in enumerate(at):
        made[k, :, i : i + TAG, j : j + TAG] = level
    return made


def tags(work: Path, tag: str, seed: int) -> None:
    """Train a model that can only tell the tag, ask whether it does, and where explanations lie."""
    kept = work / f"tag-{tag}-{seed}.json"
    if not kept.exists():
        kept.write_text(json.dumps(_tags(work, tag, seed), indent=1))
    told = json.loads(kept.read_text())
    low, high = told["effect"][1:]
    print(f"| {tag}, {seed} | intervention | {told['effect'][0]:.1f} ({low:.1f} to {high:.1f}) "
          f"| {told['verdict']}, accuracy {told['accuracy']:.3f} |", flush=True)  # fmt: skip
    for name, (value, low, high) in told["shares"].items():
        found = "found" if low > 4 * told["area"] else "missed" if high < 4 * told["area"] else "cannot tell"
        print(f"| {tag}, {seed} | {name} | {value:.3g} ({low:.3g} to {high:.3g}) | {found} |", flush=True)


def _tags(work: Path, tag: str, seed: int) -> dict:
    images, rows = patches()
    rng = np.random.default_rng(seed)
    test = np.flatnonzero(rows >= 336)  # the lower third of the picture: no row of pixels is in both
    train = np.flatnonzero(rows < 336 - PATCH)
    y = rng.integers(0, 2, len(images))
    at = rng.integers(0, PATCH - TAG + 1, (len(images), 2))
    plain = torch.from_numpy(images)
    with_tag = tagged(plain, TAGS[tag], at)
    seen = torch.where(torch.from_numpy(y > 0)[:, None, None, None], with_tag, plain).numpy()
    recipe = ClassifierRecipe("cpu", side=PATCH, steps=1_200, batch_size=64, epochs=4)
    net = build_classifier("cpu", 2, seed=seed, dropout=0.0, stage_dropout=0.0, colours=3)
    fit_classifier(net, seen, y.tolist(), train.tolist(), recipe, work / f"training-{tag}-{seed}", seed=seed)
    net = net.eval()
    with torch.no_grad():
        told = net(torch.from_numpy(seen[test])).argmax(1).numpy()
    chosen = rng.choice(test, 48, replace=False)
    f = Explanandum("logit", 1).of(net, plain[chosen])
    effect = intervention(f, plain[chosen], with_tag[chosen], patients=[str(k) for k in chosen], seed=seed)
    pool = torch.from_numpy(seen[train[:: max(1, len(train) // 256)]])
    healthy = plain[train[:: max(1, len(train) // 256)]]
    subject = Subject(net, with_tag[chosen], pool=pool, matched=healthy, target=1)
    banks, area = Banks(subject), torch.zeros(len(chosen), PATCH, PATCH, dtype=torch.bool)
    for k, (i, j) in enumerate(at[chosen]):
        area[k, i : i + TAG, j : j + TAG] = True
    shares = {}
    for name in EXPLAINERS:
        maps = attribute(configuration_of(name)[1], subject, seed=seed, banks=banks).maps
        e = mean_estimate(mass_share(maps, area), [str(k) for k in chosen], resamples=2_000, seed=seed)
        shares[name] = (e.value, e.low, e.high)
    return {"effect": (effect.estimate.value, effect.estimate.low, effect.estimate.high), "verdict": effect.verdict,
            "accuracy": float((told == y[test]).mean()), "area": TAG**2 / PATCH**2, "shares": shares}  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=[*SETS, "tags"], choices=[*SETS, "tags"])
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    for name in asked.sets:
        if name in SETS:
            audited(asked.data, asked.work, name)
    if "tags" in asked.sets:
        for tag in TAGS:
            for seed in SEEDS:
                tags(asked.work, tag, seed)


if __name__ == "__main__":
    main()
