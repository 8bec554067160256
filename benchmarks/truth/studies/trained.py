"""Worlds in which models are trained: pictures are simulated, the whole verb runs, and a seed takes minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.planted_causes import PLANTS
from benchmarks.truth.world import Study, Truth, World
from medaudit.report import Finding

CAUSES = ("label_bias", "representation", "difficulty_imbalance")
TITLES = {
    "none": "nothing", "label": "automated labels of the young are eroded by 1.8 mm",
    "representation": "images of the young have a quarter of the contrast",
    "imbalance": "75 % of the young are hard cases, 25 % of the others", "both": "`label` and `representation`",
}  # fmt: skip
DIAGNOSIS = {
    plant: World(
        TITLES[plant],
        {"plant": plant},
        {cause: "there" if cause in PLANTS[plant] else "absent" for cause in CAUSES},
        kind="null" if plant == "none" else "planted",
        seeds=5,
    )
    for plant in ("none", "label", "representation", "imbalance", "both")
} | {
    "small, label": World(
        "that of `label`, 60 patients", {"plant": "label", "size": 60}, {"label_bias": "there"}, kind="small", seeds=5
    )
}


def diagnosis(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the causes that `medaudit diagnose` names on simulated breast MRI, models trained with preset `fast`."""
    from medaudit.audits.diagnosis.run import diagnose_cohort
    from medaudit.audits.diagnosis.settings import Settings
    from medaudit.audits.simulated import simulated_beside

    out = folder / "run"
    cohort = simulated_beside(
        out, "breast-mri", plant=made["plant"], size=made.get("size", 270), seed=3_000 + seed, jobs=1
    )
    settings = Settings(
        by="age:40,55", within="source", preset="fast", folds=2, seed=seed, resamples=2_000, min_patients=10,
        trainings=("difficulty-balanced", "silver-trained"),
    )  # fmt: skip
    return diagnose_cohort(cohort, settings, out=out, jobs=1, progress=False).findings


SHIFTED = {
    "new device": World(
        "device D is another scanner, and planes are spread alike over devices", {"plant": "crossed"},
        {"misses:device-d:plane": "there", "misses:device-d:device": "absent", "task_over_method:device-d": "there",
         "detector_is_not_gate:plane:device-d": "there", "trivial_cue:device-d": "absent"}, seeds=3,
    ),
    "no new device": World(
        "device D is A, B or C under another name: there is no shift, and a cue notices as little as any score",
        {"plant": "none", "not_asked": ("detector_is_not_gate:plane:device-d",)},
        {"misses:device-d:plane": "there", "misses:device-d:device": "there", "trivial_cue:device-d": "there",
         "gate:plane:device-d": "absent"}, kind="null", seeds=5,
    ),
    "small": World(
        "that of `new device`, 120 frames of 40 patients", {"plant": "crossed", "size": 120},
        {"misses:device-d:plane": "there", "detector_is_not_gate:plane:device-d": "there"}, kind="small", seeds=3,
    ),
}  # fmt: skip


def ood(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings of `medaudit ood` on simulated ultrasound, one training a task, methods of one net."""
    from medaudit.audits.ood.run import ood_cohort
    from medaudit.audits.ood.settings import Settings
    from medaudit.audits.simulated import simulated_beside

    out = folder / "run"
    cohort = simulated_beside(
        out, "fetal-ultrasound", plant=made["plant"], size=made.get("size", 900), seed=3_000 + seed, jobs=1
    )
    settings = Settings(
        tasks=("plane", "device"), ood=('device == "D"',), shifts=("image",), seeds=1, seed=seed, preset="fast",
        methods="softmax.entropy,mahalanobis", resamples=1_000,
    )  # fmt: skip
    found = ood_cohort(cohort, settings, out=out, jobs=1, progress=False).findings
    # Where nothing detects, which score detects best is a lot, and whether that one gates is nothing that was planted.
    return [finding for finding in found if finding.id not in made.get("not_asked", ())]


GAP = "gap:tone:normalised_error"
TONES: dict[str, World] = {
    "none": World(
        "tone is a column that the pixels know nothing of", {"plant": "none"},
        {GAP: "absent", "representation:tone:dark:normalised_error": "absent",
         "representation:tone:light:normalised_error": "absent", "metric_decides:tone": "absent"},
        kind="null", seeds=5,
    ),
    "pairs": World(
        "every geometry in light and in dark skin: a share of a tone is all that changes", {"plant": "pairs"},
        {"representation:tone:dark:normalised_error": "there", "representation:tone:light:normalised_error": "there",
         "metric_decides:tone": "there"}, seeds=3,
    ),
    "small": World("that of `none`, 60 images", {"plant": "none", "size": 60}, {GAP: "absent"}, kind="small", seeds=3),
}  # fmt: skip


def vae(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings of `medaudit vae` on simulated skin, without its uncertainties."""
    from medaudit.audits.generative.run import generative_cohort
    from medaudit.audits.generative.settings import Settings
    from medaudit.audits.simulated import simulated_beside

    out = folder / "run"
    cohort = simulated_beside(out, "skin", plant=made["plant"], size=made.get("size", 400), seed=3_000 + seed, jobs=1)
    settings = Settings(
        group="tone", minority="dark", shares=(0.0, 0.5, 1.0), seeds=2, preset="fast", rank=0, seed=seed,
        resamples=1_000,
    )  # fmt: skip
    found = generative_cohort(cohort, settings, out=out, jobs=1, progress=False).findings
    # Whether an uncertainty finds the worst images, or follows brightness, is nothing that was planted.
    return [finding for finding in found if not finding.id.startswith(("blind:", "brightness:"))]


def shortcuts(there: bool) -> dict[str, Truth]:
    """Return the truth of shortcuts between the sign, the ruler and the control, ink."""
    pairs = [(a, b) for a in ("disease", "ruler", "ink") for b in ("disease", "ruler", "ink") if a != b]
    return {f"shortcut:{a}->{b}": "there" if there and "ink" not in (a, b) else "absent" for a, b in pairs}


PAINTED = {
    "none": World("the ruler goes with nothing", {"strength": 0.0}, shortcuts(False), kind="null", seeds=2),
    "strong": World("the ruler goes with the sign of disease by 0.9", {"strength": 0.9}, shortcuts(True), seeds=2),
}


def prototypes(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the shortcuts that `medaudit prototypes` finds: 6,000 pictures, preset `cpu-tiny`."""
    from medaudit.audits.prototypes.run import audit_simulated
    from medaudit.audits.prototypes.settings import AuditSettings, TrainSettings

    done = audit_simulated(
        "lesions", f"ruler:{made['strength']:g}", 6_000,
        TrainSettings(preset="cpu-tiny", test_share=0.0, seed=3_000 + seed),
        AuditSettings(seed=seed, drawn=0, leaks=0), out=folder / "run", progress=False,
    )  # fmt: skip
    return [finding for finding in done.findings if finding.id.startswith(("shortcut:", "absorbed:"))]


MAP = "occlusion-mean-colour"
TAGGED: dict[str, World] = {
    "tag": World(
        "a ruler in the picture is the label",
        {"label": "ruler", "asked": ("model", "mask-auroc", "deletion", "repeatability")},
        {"model": "absent", f"fails:mask-auroc:{MAP}": "absent", f"fails:deletion:{MAP}": "absent",
         f"fails:repeatability:{MAP}": "absent"}, seeds=5,
    ),
    "label by lot": World(
        "the label is drawn by lot: no model can know it, and two trainings have nothing in common",
        {"label": "lot", "asked": ("model", "repeatability")},
        {"model": "there", f"fails:repeatability:{MAP}": "there"}, kind="null", seeds=5,
    ),
}  # fmt: skip


def explanations(made: Mapping[str, Any], seed: int, folder: Path) -> Sequence[Finding]:
    """Return the findings of `medaudit explain audit` on a net that is trained on simulated lesions."""
    import numpy as np
    import polars as pl

    from medaudit.audits.explanations.run import audit_explanations
    from medaudit.audits.explanations.settings import ExplainSettings
    from medaudit.audits.simulated import simulated_beside

    out = folder / "run"
    cohort = simulated_beside(out, "lesions", plant="none", size=600, seed=3_000 + seed, jobs=1)
    lot = np.random.default_rng((97, seed)).choice(["no", "yes"], len(cohort)).tolist()
    cohort = replace(cohort, table=cohort.table.with_columns(lot=pl.Series(lot))).with_role("reader-1", "ruler_path")
    settings = ExplainSettings(
        label=made["label"], classes=("no", "yes"), pairs=("P1-white",), configurations=(MAP,),
        factors={"absence": ("black", "white"), "shown": ("signed", "absolute")}, target="yes", side=32, colours=3,
        explained=24, steps=300, seed=seed, resamples=1_000,
    )  # fmt: skip
    found = audit_explanations(cohort, settings, out=out, readers=("reader-1",), progress=False).findings
    asked = {"model" if name == "model" else f"fails:{name}:{MAP}" for name in made["asked"]}
    return [finding for finding in found if finding.id in asked]


STUDIES = (
    Study(
        "diagnosis-trained", "Diagnosis, trained",
        """`medaudit diagnose --simulate breast-mri`, 270 patients, preset `fast`, two folds, six trainings: images are
        made, models trained and causes named. [Benchmarks](benchmarks.md#planted-causes) has 100 such worlds.""",
        DIAGNOSIS, diagnosis, trained=True,
    ),
    Study(
        "ood-trained", "Uncertainty under shift, trained",
        """`medaudit ood --simulate fetal-ultrasound`, 900 frames, preset `fast`, one training a task, `--methods
        softmax.entropy,mahalanobis`.""",
        SHIFTED, ood, trained=True,
    ),
    Study(
        "generative-trained", "Generators, trained",
        """`medaudit vae --simulate skin`, 400 images, preset `fast`, shares 0, 0.5 and 1, two trainings each.""",
        TONES, vae, trained=True,
    ),
    Study(
        "prototypes-trained", "Prototypes, trained",
        """`medaudit prototypes` on 6,000 simulated pictures, preset `cpu-tiny`, 32 prototypes; asked on 2,000 others.
        [Prototypes](studies/prototypes.md) has 17 such worlds.""",
        PAINTED, prototypes, trained=True,
    ),
    Study(
        "explanations-trained", "Explanations, trained",
        """`medaudit explain audit` on 600 simulated lesions of 32 pixels; a small net is trained for 300 steps, 24
        images are explained.""",
        TAGGED, explanations, trained=True,
    ),
)  # fmt: skip
