"""Worlds of the audit of explanations (`medaudit explain audit`): maps that differ, or only look as if they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.truth.world import Study, Truth, World
from medaudit.report import Finding

PAIRS = ("P1-noise", "P8", "P4-smooth", "P4-squared", "P4-variance")
"""Names of pairs whose maps are drawn anew in each run; what the maps are is made up here."""
IDS = tuple(f"pair:{name}" for name in PAIRS)
SIDE, RUNS, NOISE = 12, 3, 0.7
AUROC, LOT = "fails:mask-auroc:map", "fails:deletion:map"


def told(*pairs: str, most: Truth = "absent", map_: Truth = "there", model: Truth = "absent") -> dict[str, Truth]:
    """Return the truth of every finding; ``map_``: that the map is no better than lot."""
    truth: dict[str, Truth] = {"moves-most": most}
    truth |= {name: "there" if name in pairs else "absent" for name in IDS}
    return {**truth, AUROC: map_, LOT: map_, "model": model}


WORLDS = {
    "none": World(
        "both sides of five pairs draw maps alike, two assumptions move as much; the map and the model are lot's",
        {}, told(model="there"), kind="null", seeds=200,
    ),
    "one pair differs": World(
        "one pair's maps agree by half, one assumption moves more, the map lies on the masks, the model is right",
        {"turn": (0.5, 1.0, 1.0, 1.0, 1.0), "lead": 2.0, "above": 0.15, "right": 0.85},
        told(IDS[0], most="there", map_="absent"),
    ),
    "one pair turns": World(
        "one pair's maps are turned around", {"turn": (-0.8, 1.0, 1.0, 1.0, 1.0), "right": 0.85},
        told(IDS[0], model="absent"),
    ),
    "none, ten images": World(
        "that of `none`, on 10 images, the fewest that are judged", {"images": 10}, told(model="there"), kind="null",
        seeds=200,
    ),
    "small, none": World(
        "that of `none`, on 8 images", {"images": 8}, {**dict.fromkeys(IDS, "absent"), AUROC: "there", LOT: "there"},
        kind="small",
    ),
    "small, one pair differs": World(
        "that of `one pair differs`, on 8 images",
        {"images": 8, "turn": (0.5, 1.0, 1.0, 1.0, 1.0), "lead": 2.0, "above": 0.15},
        {IDS[0]: "there", "moves-most": "there", AUROC: "absent"}, kind="small",
    ),
}  # fmt: skip


def run(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings on made-up maps of images of one patient each."""
    from medaudit.audits.explanations.findings import findings
    from medaudit.audits.explanations.opened import Explained
    from medaudit.audits.explanations.settings import ExplainSettings
    from medaudit.audits.explanations.study import PairResult, Tested
    from medaudit.audits.explanations.study import Study as Evidence
    from medaudit.explanation.warrants.anova import sensitivity_profile
    from medaudit.explanation.warrants.comparison import effect
    from medaudit.explanation.warrants.maps import mean_estimate
    from medaudit.explanation.warrants.warrant import judged

    rng = np.random.default_rng((91, seed))
    images, draws = made.get("images", 32), made.get("resamples", 1_000)
    settings = ExplainSettings(pairs=PAIRS, resamples=draws, seed=seed)
    turns = made.get("turn", (1.0,) * len(PAIRS))
    pairs = {}
    for (name, (a, b)), turn in zip(settings.chosen_pairs().items(), turns, strict=True):
        own = rng.normal(size=(images, SIDE, SIDE))
        other = turn * own + np.sqrt(1 - turn**2) * rng.normal(size=own.shape)
        a_runs, b_runs = ([side + NOISE * rng.normal(size=own.shape) for _ in range(RUNS)] for side in (own, other))
        pairs[name] = PairResult(a, b, effect(a_runs, b_runs, resamples=draws, seed=seed, fewest=settings.min_patients))
    more: dict[str, Any] = {"fewest": settings.min_patients, "seed": seed}
    above = made.get("above", 0.0)
    warrants = (
        judged("mask-auroc", np.clip(0.5 + above + 0.15 * rng.normal(size=images), 0, 1), **more),
        judged("deletion", above + 0.2 * rng.normal(size=images), **more),
    )
    right = rng.random(80) < made.get("right", 0.5)
    accuracy = mean_estimate(right, name="share that is right", share=True, resamples=draws, seed=seed)
    config = next(iter(settings.chosen_pairs().values()))[0]
    evidence = Evidence(
        settings=settings,
        explained=cast(Explained, _Trained()),
        accuracy=accuracy,
        balanced=accuracy,
        present=2,
        pairs=pairs,
        profile=sensitivity_profile(
            _combined(rng, images, made.get("lead", 1.0)), ("absence", "explanandum"), resamples=draws, seed=seed
        ),
        levels={"absence": ("a", "b", "c"), "explanandum": ("a", "b", "c")},
        no_profile="",
        tested={"map": Tested(config, warrants=warrants)},
        agreement=np.zeros((0, 0, images)),
        names=(),
        beside={},
        asked=0,
        reused=0,
    )
    return findings(evidence)


class _Trained:
    """What the findings ask of the model: whether its images were held out."""

    trained = True


def _combined(rng: np.random.Generator, images: int, lead: float) -> np.ndarray:
    """Return maps (3, 3, images, side, side) of two assumptions whose levels move a map; the first ``lead`` times."""
    shape = (images, SIDE, SIDE)
    first, second = lead * rng.normal(size=(3, 1, *shape)), rng.normal(size=(1, 3, *shape))
    return 2.0 * rng.normal(size=(1, 1, *shape)) + first + second + 0.3 * rng.normal(size=(3, 3, *shape))


STUDY = Study(
    "explanations",
    "Explanations: `medaudit explain audit`",
    """The study from maps to findings, on made-up maps of 32 images, three runs each side: five pairs of assumptions,
    a profile of two assumptions, two tests of a map, a model's accuracy on 80 images, 1,000 resamples instead of 2,000.
    No model is trained or explained here; see *explanations, trained*. The problem of a test (`fails`) is a map that is
    no better than lot: a map by lot has it, and to call it better is the false finding.""",
    WORLDS,
    run,
)
