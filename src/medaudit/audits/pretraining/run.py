"""From a cohort and backbones to a finished run: squares, features, probes, comparison, report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from medaudit.audits.pretraining.bars import bar
from medaudit.audits.pretraining.contenders import Contender, contenders, identity
from medaudit.audits.pretraining.design import Plan, complete, plan
from medaudit.audits.pretraining.findings import findings
from medaudit.audits.pretraining.overlaps import overlaps_of
from medaudit.audits.pretraining.page import page
from medaudit.audits.pretraining.scratch import from_scratch, shape_of
from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.audits.pretraining.study import Judged, Study, classified, segmented, study_of
from medaudit.cohort import EMPTY, Cohort, fingerprint, read_mask
from medaudit.errors import DataError, UsageError
from medaudit.report import Finding, Run
from medaudit.training.checkpoint import replace as write_file
from medaudit.training.frames import Frames, shrink
from medaudit.training.prepared import FRAMINGS

KEPT, SCORES = "features", "scores.csv"
"""``scores.csv``: a row a test case with its attributes, for ``medaudit scores --by``: do some groups gain less?"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a probe: the comparison and its findings."""

    study: Study
    findings: list[Finding]


def probe_cohort(
    cohort: Cohort, settings: ProbeSettings, *, out: Path, jobs: int = 1, progress: bool = True,
    extra: Sequence[Contender] = (),
) -> Outcome:  # fmt: skip
    """Return what the backbones' frozen features say of a cohort, against their opponents; writes it to ``out``.

    ``extra``: opponents that no name stands for, as one pretrained from several seeds. A run that was stopped goes on
    where it was: features and heads are kept. Raises UsageError and DataError as its
    parts do.
    """
    design = plan(cohort, settings)
    several = [*contenders(settings), *extra]
    _asked(settings, several)
    inputs = {"cases": fingerprint(cohort)}
    for one in several:
        if any(backbone.net is not None for backbone in one.backbones):
            told = "|".join(identity(backbone) for backbone in one.backbones)
            inputs[f"backbone {one.name}"] = hashlib.sha256(told.encode()).hexdigest()
    kept = {**asdict(settings), "torch": importlib.metadata.version("torch")}
    with Run.open(out, verb="probe", settings=kept, inputs=inputs) as run:
        frames = shrink(cohort, out / "squares", side=settings.side, jobs=jobs, progress=bar(progress))
        design, at = _known(design, cohort, frames)
        whole = np.array_equal(at, np.arange(len(frames.images)))
        images = frames.images if whole else frames.images[at]  # mapped from disk, unless some could not be read
        result = compare(design, settings, several, images, out, cohort=cohort, progress=progress)
        seen = overlaps_of(settings.own, frames, design, at)
        answers = findings(result, seen)
        run.write_measurements(_frame(result, cohort))
        write_file(out / SCORES, _scores(result, cohort).write_csv().encode())
        run.write_findings(answers)
        run.write_report(page(result, answers, seen, cohort, images, run))
        run.finish()
    return Outcome(result, answers)


def compare(
    design: Plan, settings: ProbeSettings, several: list[Contender], images: np.ndarray, out: Path, *,
    cohort: Cohort | None = None, progress: bool = True,
) -> Study:  # fmt: skip
    """Return the comparison of contenders on squares ``images`` (n, S, S) uint8; features and heads stay in ``out``."""
    masks = _masks(design, settings, cohort, images) if settings.segments and cohort is not None else None
    mark = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
    judged: list[Judged] = []
    with _shown(progress, len(several) + bool(settings.scratch)) as step:
        for one in several:
            folder = out / KEPT
            if masks is None:
                judged.append(classified(one, design, settings, images, folder, mark))
            else:
                made = segmented(one, design, settings, images, masks, folder, mark)
                if made is not None:
                    judged.append(made)
                elif one.own:
                    raise UsageError(f"{one.title} has no patches that could be segmented by; give another --backbone")
                else:
                    note = f"{one.title} has no patches, so it is no opponent here."
                    design = replace(design, notes=(*design.notes, note))
            step()
        shape = shape_of(settings.own) if settings.scratch else None
        if shape is not None and masks is None:
            told = hashlib.sha256(mark.encode() + design.codes.tobytes()).hexdigest()[:16]
            judged.append(from_scratch(shape, design, settings, images, out / "scratch" / told))
            step()
    if all(one.contender.own for one in judged):
        raise UsageError("no opponent has patches; give --against lite0, random or another backbone")
    return study_of(design, settings, judged)


def _asked(settings: ProbeSettings, several: list[Contender]) -> None:
    """Raise UsageError for a comparison with nobody, and for nets from scratch that cannot be made."""
    if settings.scratch and settings.segments:
        raise UsageError("--scratch is of classes; leave it out where masks are predicted")
    if settings.scratch and shape_of(settings.own) is None:
        raise UsageError("--scratch needs a --backbone that `medaudit pretrain` made: its record says the net's shape")
    if not settings.scratch and all(one.own for one in several):
        raise UsageError("there is nobody to compare with; give --against at least once")


def _known(design: Plan, cohort: Cohort, frames: Frames) -> tuple[Plan, np.ndarray]:
    """Return the plan without cases whose image could not be read, and each case's place among the frames."""
    place = {name: i for i, name in enumerate(frames.table["frame_id"].to_list())}
    at = np.array([place.get(name, -1) for name in cohort.case_ids])
    lost = at < 0
    if lost.any():
        why = frames.skipped[0].reason if frames.skipped else "it has several frames"
        note = (
            f"{int(lost.sum()):,} images could not be used, the first: {cohort.case_ids[int(lost.argmax())]} ({why})."
        )
        design = replace(design, codes=np.where(lost, -1, design.codes), notes=(*design.notes, note))
        if not len(design.rows(2)):
            raise DataError(f"no test image is left; {note}")
        complete(design)
    return design, np.maximum(at, 0)


def _masks(design: Plan, settings: ProbeSettings, cohort: Cohort, images: np.ndarray) -> np.ndarray:
    """Return the masks (n, S, S) uint8, 0 and 1, brought to the squares as the images were."""
    side = images.shape[1]
    made = np.zeros(images.shape, dtype=np.uint8)
    role = cohort.roles[settings.role]
    for i, case in enumerate(cohort.cases(settings.role)):
        path = case.files[settings.role]
        if design.codes[i] < 0 or path is None or str(path) == EMPTY:
            continue
        mask = read_mask(path, label=role.label, fill=role.fill, spacing_mm=case.spacing_mm).array
        if mask.ndim != 2:
            raise DataError(f"case {case.case_id}: the mask has {mask.ndim} dimensions; expected a picture's two")
        square = FRAMINGS["letterbox"](mask.astype(np.float32), (side, side), (0.0, 1.0))
        made[i] = square >= 0.5
    return made


def _scores(result: Study, cohort: Cohort) -> pl.DataFrame:
    """Return a row a test case: its attributes, and by contender how often it was right (or its Dice), mean of seeds.

    Of classes also ``confidence_...``, the mean probability of the class that was named.
    """
    files = {role.column for role in cohort.roles.values()}
    flat = [name for name, kind in cohort.table.schema.items() if name not in files and not kind.is_nested()]
    rows = cohort.table[result.test.tolist()].select(flat)
    columns = {}
    for one in result.judged:
        name = re.sub(r"[^a-z0-9]+", "_", one.contender.name.lower()).strip("_")
        columns[name] = one.case.mean(0)
        if one.probabilities is not None:
            columns[f"confidence_{name}"] = one.probabilities.max(-1).mean(0)
    return rows.with_columns([pl.Series(name, values) for name, values in columns.items()])


@contextmanager
def _shown(progress: bool, total: int) -> Iterator[Any]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("probing", total=total)
        yield lambda: bar.advance(task)


def _frame(result: Study, cohort: Cohort) -> pl.DataFrame:
    """Return a row a test case, contender and seed."""
    ids = [cohort.case_ids[i] for i in result.test]
    name = "dice" if result.settings.segments else "correct"
    return pl.concat(
        pl.DataFrame(
            {"case_id": ids, "patient_id": result.plan.patients[result.test], "contender": one.contender.title,
             "seed": seed, name: values}
        )
        for one in result.judged
        for seed, values in enumerate(one.case)
    )  # fmt: skip
