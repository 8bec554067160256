"""The steps of the demonstration: what each asks of the cohort, and what was planted for it to find or to rule out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medaudit.cohort import Cohort
from medaudit.datasets.simulate_dce import LOOKS
from medaudit.report import Finding, Verdict

BY = ("age:40,55", "ethnicity")
HELD_OUT = "DUKE"
"""The hospital that no classifier is trained on: its stacks are axial as most others are, its scanner has more gain."""
_CAUSES = {
    "label": "worse automated labels", "representation": "fainter tumours", "imbalance": "more of the faint tumours",
    "confounded": "a difference between hospitals",
}  # fmt: skip
_NAMED = {
    "label_bias": "label", "representation": "representation", "difficulty_imbalance": "imbalance",
    "source_confounding": "confounded",
}  # fmt: skip
"""Findings of a diagnosis, and the plant that each of them names."""
RESAMPLES, FEWER = 10_000, 1_000
"""Of the audits of masks, and of those of pictures."""
CLASSIFIER_STEPS = 250
MIN_PATIENTS = 20
"""Of an age group that models are trained on and judged by."""
EXPLAINED = ("ig-black", "grad-cam", "occlusion-mean-colour")


@dataclass(frozen=True)
class Check:
    """What was planted, the verdict of ``finding`` that it should bring about, and the verdict that there was."""

    planted: str
    finding: str
    expected: Verdict
    found: Verdict

    @property
    def said(self) -> str:
        """The comparison in words."""
        if self.found == self.expected:
            return "as planted"
        return "cannot tell" if self.found == "insufficient" else "not as planted"


Ask = Callable[[Cohort, Path, int, int, bool], Sequence[Finding]]
"""(cohort, folder of the run, seed, jobs, progress) to findings."""


@dataclass(frozen=True)
class Step:
    """One step: its folder's name, what it asks in words, who asks, and what was planted for it (cohort, verdicts)."""

    name: str
    title: str
    asks: str
    ask: Ask
    checks: Callable[[Cohort, dict[str, Verdict]], Iterator[Check]]
    pictures: bool = False
    """It is of slices, not of volumes."""


def _labels(cohort: Cohort, out: Path, seed: int, jobs: int, progress: bool) -> Sequence[Finding]:
    from medaudit.audits.labels.run import audit_masks
    from medaudit.audits.labels.study import Settings

    settings = Settings(by=BY, within="source", resamples=RESAMPLES, seed=seed)
    return audit_masks(cohort, settings, out=out, jobs=jobs, progress=progress).findings


def _labels_planted(cohort: Cohort, found: dict[str, Verdict]) -> Iterator[Check]:
    for text in BY:
        by = text.partition(":")[0]
        causes = _planted(cohort, by)
        words = (
            f"by {by}: {' and '.join(_CAUSES[cause] for cause in causes)}" if causes else f"not planted by {by}: a gap"
        )
        yield _check(words, f"gap:{by}:dice", bool(causes), found)


def _diagnosis(cohort: Cohort, out: Path, seed: int, jobs: int, progress: bool) -> Sequence[Finding]:
    from medaudit.audits.diagnosis.run import diagnose_cohort
    from medaudit.audits.diagnosis.settings import Settings

    # Of the six trainings the two that every cause but one needs: the baseline, and the one on automated labels.
    settings = Settings(
        by=BY[0], within="source", preset="fast", folds=2, trainings=("silver-trained",), seed=seed,
        resamples=RESAMPLES, min_patients=MIN_PATIENTS,
    )  # fmt: skip
    return diagnose_cohort(cohort, settings, out=out, jobs=jobs, progress=progress).findings


def _diagnosis_planted(cohort: Cohort, found: dict[str, Verdict]) -> Iterator[Check]:
    by = BY[0].partition(":")[0]
    causes = _planted(cohort, by)
    for finding, cause in _NAMED.items():
        planted = cause in causes
        words = f"by {by}: {_CAUSES[cause]}" if planted else f"not planted by {by}: {_CAUSES[cause]}"
        yield _check(words, finding, planted, found)


def _uncertainty(cohort: Cohort, out: Path, seed: int, jobs: int, progress: bool) -> Sequence[Finding]:
    from medaudit.audits.ood.run import ood_cohort
    from medaudit.audits.ood.settings import Settings

    settings = Settings(
        tasks=("finding", "plane"), ood=(f'source == "{HELD_OUT}"',), shifts=("image",),
        methods="softmax,mc_dropout,knn", preset="fast", seeds=2, seed=seed, resamples=FEWER,
    )  # fmt: skip
    return ood_cohort(cohort, settings, out=out, jobs=jobs, progress=progress).findings


def _uncertainty_planted(cohort: Cohort, found: dict[str, Verdict]) -> Iterator[Check]:
    usual, other = max(sorted(set(cohort.table["source"])), key=cohort.table["source"].to_list().count), HELD_OUT
    gains = LOOKS[other].gain, LOOKS[usual].gain
    words = f"a scanner of {other} with a gain of {gains[0]:g}, where {usual} has {gains[1]:g}: a grey level tells it"
    yield _check(words, f"trivial_cue:source-{other.lower()}", gains[0] != gains[1], found)


def _explanation(cohort: Cohort, out: Path, seed: int, jobs: int, progress: bool) -> Sequence[Finding]:
    from medaudit.audits.explanations.run import audit_explanations
    from medaudit.audits.explanations.settings import ExplainSettings

    settings = ExplainSettings(
        label="finding", classes=("healthy", "tumour"), target="tumour", explained=16, side=48, runs=2,
        steps=CLASSIFIER_STEPS, pairs=("P1-white", "P1-mean-colour", "P6"), configurations=EXPLAINED, seed=seed,
        resamples=FEWER,
    )  # fmt: skip
    return audit_explanations(
        cohort, settings, out=out, readers=("reader",), jobs=jobs, progress=progress
    ).findings  # fmt: skip


def _explanation_planted(cohort: Cohort, found: dict[str, Verdict]) -> Iterator[Check]:
    yield _check("a tumour that can be seen: a classifier can tell it", "model", False, found)
    for name in EXPLAINED:
        # "Supported" would be: the map lies elsewhere. The slices differ in the tumour, which the expert outlined.
        yield _check("what tells the slices apart lies in the expert's outline", f"fails:mass-in-mask:{name}", False,
                     found)  # fmt: skip


STEPS: dict[str, Step] = {
    "labels": Step("labels", "Are the labels equally good for everybody?",
                   "Automated masks against the expert's: by age, by ethnicity, and within hospitals.",
                   _labels, _labels_planted),
    "diagnosis": Step("diagnosis", "Where does a model's gap come from?",
                      "Small networks are trained on expert and on automated masks: worse labels, harder images, a "
                      "lying ruler, or a difference between hospitals?", _diagnosis, _diagnosis_planted),
    "uncertainty": Step("uncertainty", "Would uncertainty have noticed another hospital?",
                        "Classifiers learn to tell slices with a tumour, and planes, at all hospitals but one. Does "
                        "their uncertainty notice the one that is left?", _uncertainty, _uncertainty_planted,
                        pictures=True),
    "explanation": Step("explanation", "What does an explanation of the classifier assume?",
                        "A classifier of slices is explained. One assumption is changed at a time; each map is laid "
                        "beside the expert's outline.", _explanation, _explanation_planted, pictures=True),
}  # fmt: skip
"""In the order of the walk."""


def least(name: str) -> int:
    """Return how many patients a step needs: of five, one or more are up to 40, and one or more above 55."""
    return 5 * MIN_PATIENTS if name == "diagnosis" else 1


def looks() -> dict[str, str]:
    """Return how each source of the simulated cohort images, in words: what its maker knows of it."""
    return {name: f"{one.plane} stacks, gain {one.gain:g}, noise {one.noise:g}" for name, one in LOOKS.items()}


def _planted(cohort: Cohort, by: str) -> list[str]:
    cause = (cohort.truth or {}).get("causes", {}).get(by, "none")
    return [] if cause == "none" else cause.split("+")


def _check(words: str, finding: str, planted: bool, found: dict[str, Verdict]) -> Check:
    return Check(words, finding, "supported" if planted else "refuted", found.get(finding, "insufficient"))
