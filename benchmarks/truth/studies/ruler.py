"""Worlds of the ruler study (`medaudit ruler`): a model scored against expert and against automated masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.truth.world import Study, World
from medaudit.audits.ruler.run import audit_ruler_scores
from medaudit.audits.ruler.study import Settings
from medaudit.datasets.simulate_scores import ModelPlant, ScorePlant, simulate_scores
from medaudit.report import Finding

LIE, MAGNITUDE, CONFIDENCE, MASKING, TRUE_GAP = (
    "ruler", "ruler:age:false-magnitude", "ruler:age:false-confidence", "ruler:age:masking", "ruler:age:true-gap",
)  # fmt: skip
MODEL = ModelPlant(error_correlation=0.0)
INDEPENDENT = ScorePlant(age_effect=(-0.03, 0.0, 0.03), age_label_bias=(-0.10, 0.0, 0.0), model=MODEL)
TWIN = ScorePlant(dice_mean=0.8, missed=(0.0, 0.0, 0.0), untouched=0.02,
                  model=ModelPlant(dice_mean=0.8, dice_sd=0.2, error_correlation=0.98))  # fmt: skip
KIN = ScorePlant(age_effect=(-0.06, 0.0, 0.06), model=ModelPlant(error_correlation=0.9))

WORLDS = {
    "none": World(
        "no gap; automated masks err independently of the model, and as much for everybody",
        {"plant": ScorePlant(model=MODEL)},
        {LIE: "absent", MAGNITUDE: "absent", CONFIDENCE: "absent", MASKING: "absent", TRUE_GAP: "absent"},
        kind="null", seeds=300,
    ),
    "none, same gap": World(
        "a gap of 0.12; automated masks are the expert's up to noise",
        {"plant": KIN, "silver": "gold and noise, uncut"},
        {LIE: "absent", MAGNITUDE: "absent", CONFIDENCE: "absent", MASKING: "absent", TRUE_GAP: "there"},
        kind="null", seeds=200,
    ),
    "false magnitude": World(
        "a gap of 0.06; automated masks of the young are worse by 0.10, independently of the model",
        {"plant": INDEPENDENT},
        {LIE: "there", MAGNITUDE: "there", CONFIDENCE: "absent", MASKING: "absent", TRUE_GAP: "there"},
    ),
    "false confidence": World(
        "no gap; automated masks are a twin's of the model",
        {"plant": TWIN},
        {LIE: "absent", CONFIDENCE: "there", MAGNITUDE: "absent", MASKING: "absent", TRUE_GAP: "absent"},
        seeds=200,
    ),
    "masking": World(
        "a gap of 0.12; automated masks share the model's errors",
        {"plant": KIN},
        {LIE: "there", MASKING: "there", MAGNITUDE: "absent", CONFIDENCE: "absent", TRUE_GAP: "there"},
    ),
    "small, none": World(
        "no gap and no lie, in 60 patients", {"plant": ScorePlant(model=MODEL), "size": 60, "min_patients": 5},
        {LIE: "absent", MAGNITUDE: "absent", MASKING: "absent", TRUE_GAP: "absent"}, kind="small",
    ),
    "small, false magnitude": World(
        "that of `false magnitude`, in 60 patients", {"plant": INDEPENDENT, "size": 60, "min_patients": 5},
        {LIE: "there", MAGNITUDE: "there", MASKING: "absent", TRUE_GAP: "there"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings of `medaudit ruler` on the scores of one simulated cohort."""
    cohort = simulate_scores(n=made.get("size", 1506), seed=10_000 + seed, plant=made["plant"])
    table = cohort.table
    if made.get("silver") == "gold and noise, uncut":
        gold = table["dice_model_gold"].to_numpy()
        # As wide as fits on both sides: cut at 1 it would be less for those who score high, and that is a difference.
        width = np.minimum(0.04, np.minimum(gold, 1 - gold))
        noise = width * np.random.default_rng((seed, 77)).uniform(-1, 1, table.height)
        table = table.with_columns(dice_model_silver=pl.Series(gold + noise))
    settings = Settings(
        by=("age:40,55",), min_patients=made.get("min_patients", 20), resamples=made.get("resamples", 999), seed=seed
    )
    audited = audit_ruler_scores(
        type(cohort)(cohort.name, table, cohort.root), settings,
        silver="dice_model_silver", gold="dice_model_gold", quality="dice",
    )  # fmt: skip
    return audited.findings


STUDY = Study(
    "ruler",
    "Ruler: `medaudit ruler`",
    """Whole studies on simulated scores of a model against expert masks, against automated masks, and of these against
    each other: `--by age:40,55`, 999 resamples and permutations instead of 10,000.""",
    WORLDS,
    run,
)
