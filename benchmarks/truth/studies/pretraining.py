"""Worlds of the question whether pretraining was worth it (`medaudit probe`): features as good as planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.truth.world import Study, World
from medaudit.cohort import Cohort, Role
from medaudit.report import Finding

SIDE, TRAININGS = 16, 3
ANSWER, GENERAL = "not_worth_it:own:finding", "no_gain:own:generalist:finding"

WORLDS = {
    "none": World(
        "own features and the generalist's are equally good (1.2 SDs between classes)",
        {"own": 1.2, "generalist": 1.2}, {ANSWER: "there", GENERAL: "there"}, kind="null", seeds=200,
    ),
    "none, perfect": World(
        "both are perfect", {"own": 12.0, "generalist": 12.0}, {ANSWER: "there", GENERAL: "there"}, kind="null",
        seeds=100,
    ),
    "worth it": World(
        "own features are far better than the generalist's and noise",
        {"own": 4.0, "generalist": 1.0, "noise": 0.0},
        {ANSWER: "absent", GENERAL: "absent", "no_gain:own:noise:finding": "absent"},
    ),
    "worse": World("own features are worse", {"own": 0.3, "generalist": 4.0}, {ANSWER: "there", GENERAL: "there"}),
    "one is better": World(
        "own features are better than noise and worse than a generalist",
        {"own": 1.5, "generalist": 5.0, "noise": 0.0},
        {ANSWER: "there", GENERAL: "there", "no_gain:own:noise:finding": "absent"},
    ),
    "small, none": World(
        "that of `none`, with 40 patients", {"own": 1.2, "generalist": 1.2, "patients": 40},
        {ANSWER: "there", GENERAL: "there"}, kind="small",
    ),
    "small, worth it": World(
        "own features are better by 1.2 against 0.6 SDs, with 40 patients",
        {"own": 1.2, "generalist": 0.6, "patients": 40}, {ANSWER: "absent", GENERAL: "absent"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on made-up features of one cohort, probed as the verb probes them."""
    import torch

    from medaudit.audits.pretraining.contenders import Contender
    from medaudit.audits.pretraining.design import plan
    from medaudit.audits.pretraining.findings import findings
    from medaudit.audits.pretraining.overlaps import Overlaps
    from medaudit.audits.pretraining.run import compare
    from medaudit.audits.pretraining.settings import ProbeSettings

    torch.set_num_threads(1)
    patients = made.get("patients", 240)
    settings = ProbeSettings(
        own=("own",), task="finding", shots=(), resamples=made.get("resamples", 500), seeds=1, side=SIDE, seed=seed,
        min_patients=5,
    )  # fmt: skip
    labels = np.random.default_rng((71, seed)).choice(["benign", "malignant"], patients)
    table = {
        "case_id": [f"c{i:04d}" for i in range(patients)],
        "finding": labels,
        "image_path": [f"{i}.png" for i in range(patients)],
    }
    design = plan(
        Cohort("made up", pl.DataFrame(table), Path("nowhere"), roles={"image": Role("image_path")}), settings
    )
    rivals = [name for name in ("own", "generalist", "noise") if name in made]
    contenders = [
        Contender(name, name, "made up", tuple(_backbone(f"{name}-{t}", _features(design.codes, made[name],
                  (73, seed, k, t))) for t in range(TRAININGS)), name == "own", None)
        for k, name in enumerate(rivals)
    ]  # fmt: skip
    pictures = np.zeros((patients, SIDE, SIDE), dtype=np.uint8)
    pictures[:, 0, 0], pictures[:, 0, 1] = np.arange(patients) % 256, np.arange(patients) // 256
    result = compare(design, settings, contenders, pictures, folder, progress=False)
    return findings(result, Overlaps({}, 10))


def _features(codes: np.ndarray, strength: float, seed: tuple[int, ...]) -> np.ndarray:
    """Return features (n, 4), of which the first is moved by ``strength`` SDs between the classes."""
    x = np.random.default_rng(seed).normal(size=(len(codes), 4))
    x[:, 0] += strength * (codes > 0)
    return x.astype(np.float32)


def _backbone(name: str, features: np.ndarray) -> Any:
    """Return a backbone that knows the features of pictures, which carry their row's number in two pixels."""
    import torch

    from medaudit.networks.backbones import Backbone, Preprocessing, Seen

    def look(net: object, x: torch.Tensor) -> Seen:
        low, high = ((x[:, 0, 0, k] * 255).round().long().numpy() for k in (0, 1))
        vector = torch.from_numpy(features[low + 256 * high])
        return Seen(vector[:, None], vector, None)

    return Backbone(name, name, Preprocessing(SIDE, 1, (0.0,), (1.0,)), None, "made up", look)


STUDY = Study(
    "pretraining",
    "Pretraining: `medaudit probe`",
    """The study from features to the answer, on made-up features of 240 patients: linear probes are trained, three
    trainings a contender, 500 resamples, a margin of 0.02 macro-F1, `--min-patients 5`. `not_worth_it` names the
    problem: where own and opponent are equal it is there, and a false finding is one that says that pretraining was
    worth it.""",
    WORLDS,
    run,
    level=0.025,
    claims="""an interval of 95 % lies above 0 in at most 2.5 % of studies in which own and opponent are equal""",
)
