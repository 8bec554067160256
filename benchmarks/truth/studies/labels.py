"""Worlds of the label audit (`medaudit scores`): simulated Dice of 1,506 patients, six kinds of cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.truth.world import Study, World
from medaudit.audits.labels.run import audit_scores
from medaudit.audits.labels.study import Settings
from medaudit.datasets.simulate_scores import SCORE_PLANTS, ScorePlant, simulate_scores
from medaudit.report import Finding

AGE, ETHNICITY = "gap:age:dice", "gap:ethnicity:dice"
LABELS_WORSE_FOR_THE_YOUNG = ScorePlant(age_label_bias=(-0.09, 0.0, 0.0))
FEW = {"size": 60, "min_patients": 5}
"""Asked of 60 patients although there are too few: `--min-patients 20` would refuse most of the questions at once."""

WORLDS = {
    "none": World(
        "nothing: ages, ethnicities and sources are alike",
        {"plant": SCORE_PLANTS["none"]},
        {AGE: "absent", ETHNICITY: "absent", "trend:age:dice": "absent", "confounding:age:dice": "absent",
         "masking:age:dice": "absent", "masking:ethnicity:dice": "absent", "interaction:age:dice": "absent"},
        kind="null", seeds=300,
    ),
    "none, sources differ": World(
        "one source scores 0.12 lower; age and ethnicity are spread evenly over the sources",
        {"plant": ScorePlant(source_effect=(0.035, -0.12, 0.0, 0.0), ethnicity_follows_source=False)},
        {AGE: "absent", ETHNICITY: "absent", "confounding:age:dice": "absent", "masking:age:dice": "absent"},
        kind="null", seeds=200,
    ),
    "intrinsic": World(
        "Dice rises with age by 0.09 between the outer groups, in every source",
        {"plant": SCORE_PLANTS["intrinsic"]},
        {AGE: "there", "trend:age:dice": "there", "confounding:age:dice": "absent", "masking:age:dice": "absent",
         ETHNICITY: "absent"},
    ),
    "label": World(
        "automated masks of the young are 0.09 worse, in every source",
        {"plant": LABELS_WORSE_FOR_THE_YOUNG},
        {AGE: "there", "confounding:age:dice": "absent", ETHNICITY: "absent"},
    ),
    "confounded": World(
        "one source scores 0.12 lower and has the young; inside a source ages are alike",
        {"plant": SCORE_PLANTS["confounded"]},
        {AGE: "there", "confounding:age:dice": "there", "masking:age:dice": "absent", ETHNICITY: "absent"},
    ),
    "masked": World(
        "one ethnicity scores 0.10 lower in one source and 0.11 higher in two: pooled, it cancels",
        {"plant": SCORE_PLANTS["masked"]},
        {"masking:ethnicity:dice": "there", "interaction:ethnicity:dice": "there", AGE: "absent",
         "masking:age:dice": "absent"},
    ),
    "small, none": World(
        "nothing, in 60 patients", {"plant": SCORE_PLANTS["none"], **FEW},
        {AGE: "absent", ETHNICITY: "absent", "confounding:age:dice": "absent", "masking:age:dice": "absent"},
        kind="small",
    ),
    "small, intrinsic": World(
        "Dice rises with age by 0.09, in 60 patients", {"plant": SCORE_PLANTS["intrinsic"], **FEW},
        {AGE: "there", "trend:age:dice": "there"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings of `medaudit scores` on one simulated cohort."""
    cohort = simulate_scores(n=made.get("size", 1506), seed=10_000 + seed, plant=made["plant"])
    settings = Settings(
        by=("age:40,55", "ethnicity"),
        within="source",
        measures=("dice",),
        min_patients=made.get("min_patients", 20),
        resamples=made.get("resamples", 999),
        seed=seed,
    )
    return audit_scores(cohort, settings, out=None, progress=False).findings


STUDY = Study(
    "labels",
    "Labels: `medaudit labels`, `medaudit scores`",
    """Whole studies on simulated scores: `--by age:40,55 --by ethnicity --within source --score dice`, 999 resamples
    and permutations instead of 10,000. Dice has the spread, the missed and the untouched masks of a real cohort; a
    gap is of 0.09 or none.""",
    WORLDS,
    run,
)
