"""Worlds of the study of uncertainty under shift (`medaudit ood --scores`): scores that see and gate as planted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtri

from benchmarks.truth.world import Study, World
from medaudit.audits.ood.design import Design, plan
from medaudit.audits.ood.findings import CUE_MARGIN, NOTICED, findings
from medaudit.audits.ood.scores import Scores
from medaudit.audits.ood.settings import Settings
from medaudit.audits.ood.study import study
from medaudit.cohort import Cohort
from medaudit.report import Finding

METHODS, TASKS, SEEDS = ("softmax", "ensemble", "laplace"), ("plane", "device"), 3
OF_A_PATIENT, OF_A_CASE = 0.3, 0.5
"""Shares of a score's variance that all scores of a patient, and all scores of a case, have in common."""
ERRORS = 0.15


def sds_apart(auroc: float) -> float:
    """Return how many SDs two normals are apart whose AUROC this is."""
    return math.sqrt(2) * float(ndtri(auroc))


PLANE, DEVICE = "misses:device-d:plane", "misses:device-d:device"
TASK, CUE = "task_over_method:device-d", "trivial_cue:device-d"
GATE, DETECTOR = "gate:plane:device-d", "detector_is_not_gate:plane:device-d"
ALL_ALIKE = {PLANE: "absent", DEVICE: "absent", TASK: "absent", CUE: "absent", GATE: "absent", DETECTOR: "absent"}

WORLDS = {
    "none": World(
        "all six scores notice the shift alike (AUROC 0.76) and gate alike; cues say nothing",
        {"seen": (1.0, 1.0), "gates": (1.0, 1.0)}, ALL_ALIKE, kind="null", seeds=200,
    ),
    "none, at the edge": World(
        "all scores have an AUROC of 0.70, the least that is called noticing; a cue is 0.05 below them",
        {"seen": (sds_apart(NOTICED),) * 2, "gates": (1.0, 1.0), "cue": sds_apart(NOTICED - CUE_MARGIN)},
        ALL_ALIKE, kind="null", seeds=200,
    ),
    "none, at the edge, trainings differ": World(
        "the same, and each training's scores are 0.15 SDs (an SD) nearer or farther apart",
        {"seen": (sds_apart(NOTICED),) * 2, "gates": (1.0, 1.0), "cue": sds_apart(NOTICED - CUE_MARGIN),
         "training": 0.15},
        ALL_ALIKE, kind="null", seeds=200,
    ),
    "one task misses": World(
        "the plane's models do not see the shift and gate well; the device's see it and do not gate",
        {"seen": (0.0, 3.0), "gates": (2.5, 0.0)},
        {PLANE: "there", DEVICE: "absent", TASK: "there", DETECTOR: "there", GATE: "absent", CUE: "absent"},
    ),
    "a better gate, a cue": World(
        "the device's scores gate the plane's prediction, its own do not; mean grey sees the shift",
        {"seen": (1.0, 1.0), "gates": (0.0, 2.5), "cue": 3.0},
        {GATE: "there", CUE: "there", PLANE: "absent", DEVICE: "absent"},
    ),
    "small, none": World(
        "that of `none`, with 36 patients instead of 300",
        {"seen": (1.0, 1.0), "gates": (1.0, 1.0), "patients": 36, "min_patients": 5}, ALL_ALIKE, kind="small",
    ),
    "small, one task misses": World(
        "that of `one task misses`, with 36 patients",
        {"seen": (0.0, 3.0), "gates": (2.5, 0.0), "patients": 36, "min_patients": 5},
        {PLANE: "there", GATE: "absent"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on the scores of one made-up cohort of three cases a patient."""
    rng = np.random.default_rng((41, seed))
    asked = Settings(
        tasks=TASKS, ood=('device == "D"',), shifts=("image",), seeds=SEEDS, seed=seed,
        resamples=made.get("resamples", 1_000), min_patients=made.get("min_patients", 20),
    )  # fmt: skip
    people = _cohort(made.get("patients", 300), rng)
    design = plan(people, asked)
    scores = _scores(design, made, rng)
    shifted = np.isin(scores.rows, design.sets[0].rows)
    cues = rng.normal(size=(len(scores.rows), 2))
    cues[:, 1] -= made.get("cue", 0.0) * shifted
    return findings(study(design, scores, (("height", "mean_grey"), cues), asked, ("plane",)))


def _cohort(patients: int, rng: np.random.Generator) -> Cohort:
    patient = np.repeat(np.arange(patients), 3)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(len(patient))],
            "patient_id": [f"p{k}" for k in patient],
            "plane": rng.choice(["brain", "femur", "thorax"], len(patient)),
            "device": np.array(["A", "B", "D"])[patient % 3],
        }
    )
    return Cohort("made up", table, Path())


def _scores(design: Design, made: Mapping[str, Any], rng: np.random.Generator) -> Scores:
    """Return standard normal scores that correlate within patients and cases, moved by what is planted."""
    rows = design.scored
    shifted = np.isin(rows, design.sets[0].rows)
    patient = np.unique(design.clusters[rows], return_inverse=True)[1]
    shape = (len(METHODS), len(TASKS), SEEDS, len(rows))
    shared = math.sqrt(OF_A_PATIENT) * rng.normal(size=patient.max() + 1)[patient]
    shared = shared + math.sqrt(OF_A_CASE) * rng.normal(size=len(rows))
    values = shared + math.sqrt(1 - OF_A_PATIENT - OF_A_CASE) * rng.normal(size=shape)
    predicted = np.zeros(shape, dtype=np.int64)
    codes = design.task("plane").codes[rows]
    wrong = rng.random((SEEDS, len(rows))) < ERRORS
    apart = np.asarray(made["seen"])[None, :, None] + made.get("training", 0.0) * rng.normal(size=shape[:3])
    for s in range(SEEDS):
        predicted[:, 0, s] = np.where(wrong[s], (codes + 1) % 3, codes)
        for t in range(len(TASKS)):
            values[:, t, s] += apart[:, t, s, None] * shifted + made["gates"][t] * wrong[s]
    return Scores(rows, METHODS, TASKS, SEEDS, values, predicted, ("total",) * len(METHODS), {})


STUDY = Study(
    "ood",
    "Uncertainty under shift: `medaudit ood`",
    """The study from scores to findings, on made-up scores of 300 patients with three cases each: three methods, two
    tasks, three trainings, a new device, 1,000 resamples instead of 2,000. Scores correlate within cases and
    patients. No model is trained here; see *uncertainty under shift,
    trained*.""",
    WORLDS,
    run,
)
