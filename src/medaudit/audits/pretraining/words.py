"""Names as a reader wants them."""

from __future__ import annotations

from medaudit.audits.pretraining.study import Study

_MEASURES = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "macro_auroc": "macro AUROC",
    "dice": "mean Dice of images",
}


def measure(name: str) -> str:
    """Return a measure's name."""
    return _MEASURES[name]


def task(result: Study) -> str:
    """Return what is predicted."""
    return f"the masks '{result.settings.role}'" if result.settings.segments else result.plan.task


def rests(result: Study) -> tuple[str, ...]:
    """Return what every comparison rests on."""
    s = result.settings
    probe = (
        f"a {s.head} head on frozen patches, {s.head_steps} steps" if s.segments
        else "logistic regression on frozen features, C chosen on validation patients"
    )  # fmt: skip
    return (
        probe,
        f"{len(result.plan.rows(0))} training and {len(result.plan.rows(1))} validation images, "
        f"{len(result.test)} test images of {result.patients} patients",
        f"{s.resamples} resamples of patients, the same for all",
    )
