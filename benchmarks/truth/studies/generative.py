"""Worlds of the audit of generators (`medaudit vae`): errors of reconstruction that differ as planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.truth.world import Study, World
from medaudit.audits.generative.design import plan
from medaudit.audits.generative.findings import findings
from medaudit.audits.generative.settings import Settings
from medaudit.audits.generative.study import Measured, study
from medaudit.cohort import Cohort
from medaudit.report import Finding

SHARES, SEEDS = (0.0, 0.5, 1.0), 3
METRICS = ("normalised_error", "squared_error", "lpips")
GAP = "gap:tone:normalised_error"
DARK, LIGHT = (f"representation:tone:{name}:normalised_error" for name in ("dark", "light"))
EXPLAINED, DECIDES = "explained:tone:diagnosis:normalised_error", "metric_decides:tone"
SCORES = {"blind:slug": "absent", "blind:encoder_variance": "there", "brightness:slug": "absent",
          "brightness:encoder_variance": "absent"}  # fmt: skip

WORLDS = {
    "none": World(
        "errors are alike for both tones whatever was trained on; one score follows error, one is noise",
        {}, {GAP: "absent", DARK: "absent", LIGHT: "absent", EXPLAINED: "absent", DECIDES: "absent",
             "silent:tone:slug": "absent", "silent:tone:encoder_variance": "absent", **SCORES},
        kind="null", seeds=200,
    ),
    "gap": World(
        "dark skin has 1.35 times the error, whatever was trained on",
        {"gap": 0.3}, {GAP: "there", DARK: "absent", LIGHT: "absent", EXPLAINED: "absent", DECIDES: "absent"},
    ),
    "representation": World(
        "a tone's error falls with its own share in training; at a balanced one there is no gap",
        {"slope": 0.8}, {DARK: "there", LIGHT: "there", GAP: "absent", "silent:tone:slug": "absent",
                         "silent:tone:encoder_variance": "there"},
    ),
    "mix": World(
        "one diagnosis is harder, and commoner in dark skin; at one diagnosis tones are alike",
        {"hard": 0.6, "mix": 0.25}, {GAP: "there", EXPLAINED: "there", DARK: "absent"},
    ),
    "metrics contradict": World(
        "dark skin is worse by one metric and better by another",
        {"gap": 0.4, "other": -0.8}, {DECIDES: "there"},
    ),
    "small, none": World(
        "nothing, in 40 patients", {"patients": 40, "min_patients": 5},
        {GAP: "absent", DARK: "absent", LIGHT: "absent"}, kind="small",
    ),
    "small, gap": World(
        "dark skin has 1.1 times the error, in 40 patients", {"gap": 0.1, "patients": 40, "min_patients": 5},
        {GAP: "there"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on made-up errors of the test images of one cohort, two images a patient."""
    rng = np.random.default_rng((51, seed))
    settings = Settings(
        group="tone", minority="dark", shares=SHARES, seeds=SEEDS, standardise="diagnosis", rank=0, seed=seed,
        resamples=made.get("resamples", 300), min_patients=made.get("min_patients", 20),
    )  # fmt: skip
    design = plan(_cohort(made.get("patients", 300), made.get("mix", 0.0), rng), settings)
    dark, diagnosis = design.code[design.test] == 1, design.strata
    assert diagnosis is not None
    patient = np.unique(design.clusters[design.test], return_inverse=True)[1]
    base = 0.25 * rng.normal(size=patient.max() + 1)[patient] + 0.3 * rng.normal(size=len(dark))
    base = base + made.get("hard", 0.0) * (diagnosis[design.test] == diagnosis.max())
    own = np.where(dark, np.asarray(SHARES)[:, None], 1 - np.asarray(SHARES)[:, None])[:, None]
    shape = (len(SHARES), SEEDS, len(dark))
    # What another training would give: of all images, and of one tone more than of the other.
    training = 0.03 * rng.normal(size=(*shape[:2], 1)) + 0.03 * rng.normal(size=(*shape[:2], 2))[..., dark.astype(int)]
    log = base + made.get("gap", 0.0) * dark + made.get("slope", 0.0) * (0.5 - own) + training
    errors = {name: 0.01 * np.exp(log + 0.05 * rng.normal(size=shape)) for name in METRICS}
    errors["squared_error"] = errors["squared_error"] * np.exp(made.get("other", 0.0) * dark)
    scores = {"slug": errors["squared_error"] * np.exp(0.1 * rng.normal(size=shape)),
              "encoder_variance": rng.normal(size=shape)}  # fmt: skip
    return findings(study(design, Measured(design.test, errors, scores, rng.random(len(dark))), settings))


def _cohort(patients: int, mix: float, rng: np.random.Generator) -> Cohort:
    """Return two images a patient; ``mix`` is how much commoner than half the diagnosis b is in dark skin."""
    patient = np.repeat(np.arange(patients), 2)
    dark = rng.random(patients) < 0.45
    common = 0.5 + mix * np.where(dark, 1, -1)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i:05d}" for i in range(len(patient))],
            "patient_id": [f"p{k:05d}" for k in patient],
            "tone": np.where(dark, "dark", "light")[patient],
            "diagnosis": np.where(rng.random(patients) < common, "b", "a")[patient],
        }
    )
    return Cohort("made up", table, Path())


STUDY = Study(
    "generative",
    "Generators: `medaudit vae`",
    """The study from errors to findings, on made-up errors of 300 patients with two images each: three shares, three
    trainings, three metrics, two uncertainties, 300 resamples instead of 2,000. Errors correlate within patients, and
    trainings differ. No model is trained here; see *generators, trained*.""",
    WORLDS,
    run,
)
