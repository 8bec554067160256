"""A simulated cohort for a run: its images lie beside the run's folder, and are there for the next run."""

from __future__ import annotations

from pathlib import Path

from medaudit.cohort import Cohort
from medaudit.datasets import simulated_images
from medaudit.report import refuse_what_is_no_run


def simulated_beside(
    out: Path, name: str, *, plant: str, size: int, seed: int, jobs: int = 1, progress: bool = False
) -> Cohort:
    """Return a simulated cohort of ``size`` cases, its images in the folder ``{out}-images``.

    Raises UsageError for a name or plant that is not known, and where no run can go to ``out``: before the images are
    made, which takes a while.
    """
    refuse_what_is_no_run(out)
    out = out.resolve()
    images = out.with_name(f"{out.name}-images")
    return simulated_images(name, images, plant=plant, size=size, seed=seed, jobs=jobs, progress=progress)
