"""Worlds of the diagnosis (`medaudit diagnose`): scores that stand in for trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.truth.world import Study, World
from medaudit.audits.diagnosis.design import BIASED, make
from medaudit.audits.diagnosis.settings import Settings
from medaudit.audits.diagnosis.study import diagnose
from medaudit.cohort import Cohort, Grouping
from medaudit.report import Finding

CAUSES = ("label_bias", "representation", "difficulty_imbalance", "ruler", "amplification", "source_confounding")


def only(*there: str) -> dict[str, Any]:
    """Return that these causes are there and all others are absent."""
    return {cause: "there" if cause in there else "absent" for cause in CAUSES}


WORLDS = {
    "none": World("nothing: groups, labels and sites are alike", {}, only(), kind="null", seeds=200),
    "label": World("automated labels of one group are 0.10 worse", {"worse_labels": 0.10}, only("label_bias")),
    "representation": World("one group's images are 0.10 harder", {"harder": 0.10}, only("representation")),
    "imbalance": World(
        "hard cases (0.2 lower) are 70 % of one group and 20 % of the others", {"hard_share": (0.7, 0.2, 0.2)},
        only("difficulty_imbalance"),
    ),
    "both": World(
        "one group's images are 0.10 harder, and its labels 0.10 worse", {"harder": 0.10, "worse_labels": 0.10},
        only("label_bias", "representation"),
    ),
    "amplification": World(
        "one group's images are 0.08 harder; trained on automated labels it loses 0.06 more",
        {"harder": 0.08, "widened": 0.06}, only("representation", "amplification"),
    ),
    "ruler": World(
        "one group's images are 0.10 harder; automated masks show it 0.08 worse than that",
        {"harder": 0.10, "observed": 0.08}, only("representation", "ruler"),
    ),
    "hospitals": World(
        "one site scores 0.12 lower and has most of one group", {"site": 0.12},
        {"source_confounding": "there", "label_bias": "absent", "difficulty_imbalance": "absent"},
    ),
    "small, none": World(
        "nothing, 12 patients a group", {"sizes": (12, 12, 12), "min_patients": 5},
        dict.fromkeys(CAUSES[:5], "absent"), kind="small",
    ),
    "small, label": World(
        "that of `label`, 12 patients a group", {"worse_labels": 0.10, "sizes": (12, 12, 12), "min_patients": 5},
        {"label_bias": "there", "representation": "absent"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on one made-up cohort of groups a, b, c; what is planted concerns group a."""
    rng = np.random.default_rng((61, seed))
    sizes, few = made.get("sizes", (90, 90, 90)), made.get("min_patients", 20)
    group = np.repeat(np.arange(3), sizes)
    n, first = group.size, group == 0
    site_b = rng.random(n) < np.where(first, 0.85, 0.3) if "site" in made else rng.random(n) < 0.5
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "group": np.array(list("abc"))[group],
            "site": np.where(site_b, "B", "A"),
        }
    )
    cohort = Cohort("made up", table, Path())
    hard = (rng.random(n) < np.asarray(made.get("hard_share", (0.3, 0.3, 0.3)))[group]).astype(int)
    everyone = np.ones(n, dtype=bool)
    design = make(
        cohort, Grouping.parse("group").apply(cohort), gold=everyone, silver=everyone, easy=everyone, difficulty=hard,
        levels=("easy", "hard"), n_folds=5, min_patients=few, seed=seed,
    )  # fmt: skip
    case = 0.8 - 0.2 * hard - made.get("harder", 0.0) * first - made.get("site", 0.0) * site_b
    case = case + 0.10 * rng.standard_normal(n)

    def noise(sd: float = 0.02) -> np.ndarray:
        return sd * rng.standard_normal(n)

    scores = {name: case + noise() for name in design.names}
    scores[BIASED] = case - 0.03 - made.get("widened", 0.0) * first + noise()
    scores["quality"] = 0.82 - made.get("worse_labels", 0.0) * first + noise(0.12)
    scores["observed"] = case - 0.05 - made.get("observed", 0.0) * first + noise(0.04)
    frame = pl.DataFrame({"case_id": cohort.case_ids, **{name: np.clip(v, 0, 1) for name, v in scores.items()}})
    settings = Settings(by="group", within="site", seed=seed, resamples=made.get("resamples", 999), min_patients=few)
    return diagnose(cohort, design, frame, settings).findings


STUDY = Study(
    "diagnosis",
    "Diagnosis: `medaudit diagnose`",
    """The study from scores to causes, on made-up scores that stand in for trained models: three groups of 90, six
    trainings, automated labels and two sites, 999 resamples. A score has an SD of 0.10 between equally hard cases.
    No model is trained here; see *diagnosis, trained*.""",
    WORLDS,
    run,
)
