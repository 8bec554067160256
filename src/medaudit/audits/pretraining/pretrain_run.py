"""From unlabelled images to a backbone in a run: shrink, pretrain, watch, report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaudit.audits.judging.conclude import Draft, conclude
from medaudit.audits.pretraining.bars import bar
from medaudit.audits.pretraining.overlaps import FRAMES
from medaudit.audits.pretraining.pretrain_page import page
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError
from medaudit.report import Finding, Run, Verdict
from medaudit.statistics import Estimate
from medaudit.training.dinov2.monitors import OnlineProbe
from medaudit.training.dinov2.recipe import Recipe
from medaudit.training.dinov2.run import Pretrained, pretrain
from medaudit.training.frame_files import files_of
from medaudit.training.frames import Frames, open_frames, shrink
from medaudit.training.leaks import Fingerprints, of_frames, within

_COMPARED = 100_000  # frames, all with all: more would take longer than a training
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # what launchers say before the processes have met
_PATIENCE = 3_600  # seconds that other processes wait for the first one's frames


@dataclass(frozen=True)
class Where:
    """Where a pretraining runs: nothing of it changes a number."""

    device: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a pretraining."""

    frames: Frames
    pretrained: Pretrained
    findings: list[Finding]


def pretrain_images(
    source: str | Path | Cohort, recipe: Recipe, *, out: Path, seed: int = 0, patient: str | None = None,
    knn: str | None = None, where: Where | None = None, jobs: int = 1, progress: bool = True,
) -> Outcome | None:  # fmt: skip
    """Return the pretraining of ``recipe`` on the images of ``source``; writes it to ``out``.

    ``knn``: an attribute of a cohort whose classes a kNN is asked for while it trains; the training does not see it.
    A run that was stopped goes on where it was. In processes that are not the first one nothing is written, and
    None comes back. Raises UsageError and DataError as its parts do.
    """
    chosen = where or Where()
    if any(int(os.environ.get(name, "0")) > 0 for name in _RANKS):
        _train(_awaited(source, out / FRAMES), recipe, out, seed, None, chosen, progress=False)
        return None
    settings: dict[str, Any] = {
        "recipe": recipe.record(), "seed": seed, "patient": patient, "knn": knn,
        "torch": importlib.metadata.version("torch"),
    }  # fmt: skip
    with Run.open(out, verb="pretrain", settings=settings, inputs={"images": _fingerprint(source, patient)}) as run:
        start = time.perf_counter()
        frames = shrink(source, out / FRAMES, side=recipe.side, patient=patient, jobs=jobs, progress=bar(progress))
        probe = _probe(source, frames, knn)
        done = _train(frames, recipe, out, seed, probe, chosen, progress=progress)
        answers = findings(frames, recipe, done)
        run.write_findings(answers)
        run.write_report(page(frames, recipe, done, answers, run, time.perf_counter() - start))
        run.finish()
    return Outcome(frames, done, answers)


def findings(frames: Frames, recipe: Recipe, done: Pretrained) -> list[Finding]:
    """Return what can be said before anything is probed: did it learn, is it spread out, does a frame come twice?"""
    last, first = done.history[-1], done.history[0]
    plateau, width = math.log(recipe.prototypes), recipe.shape.dim
    loss, rank = last["dino"], last["val_rankme"]
    said = f"its DINO loss is {loss:.2f} nats, that of guessing {plateau:.2f}"
    prints = of_frames(frames)
    few = len(frames.images) <= _COMPARED
    twice = within(prints) if few else []
    same = _under_several(prints)
    if same:
        names = ", ".join(same[0][:3])
        copies: tuple[Verdict, str] = "supported", f"{len(same)} images are under several patients, the first: {names}."
    elif not few:
        copies = "insufficient", f"Images that look alike are not looked for among over {_COMPARED:,} frames."
    elif twice:
        names = ", ".join(twice[0][0][:3])
        copies = (
            "insufficient",
            (f"{len(twice)} groups of images look alike over patients, the first: {names}; look if they are copies."),
        )
    elif frames.table["patient_id"].null_count() == frames.table.height:
        copies = "insufficient", "No patient is known: copies under several patients cannot be told."
    else:
        copies = "refuted", "No image is there under two patients."
    drafts = [
        _draft(
            "plateau:dino", "Did the training stay where guessing is?",
            Estimate("DINO loss", loss, n=done.samples, unit="nats", extra={"of guessing": plateau}),
            ("refuted", f"It learned: {said}.") if loss < 0.995 * plateau
            else ("supported", f"It learned nothing: {said}."),
        ),
        _draft(
            "collapse:rankme", "Have the features collapsed?",
            Estimate("RankMe of class tokens", rank, n=min(2_048, len(frames.images)), method="RankMe",
                     extra={"after the first part": first["val_rankme"]}),
            ("refuted", f"Features use {rank:.0f} of {width} dimensions (RankMe).") if rank > 0.05 * width
            else ("supported", f"Features use only {rank:.1f} of {width} dimensions (RankMe)."),
        ),
        _draft(
            "leak:corpus", "Are there copies of one image under several patients?",
            Estimate("groups of copies over patients", float(len(twice)), n=len(frames.images)), copies,
        ),
    ]  # fmt: skip
    return conclude(drafts)


def _under_several(prints: Fingerprints) -> list[list[str]]:
    """Return the groups of identical frames that stand under several known patients."""
    groups: dict[str, tuple[list[str], set[str]]] = {}
    for name, patient, sha256 in zip(prints.ids, prints.patients, prints.sha256, strict=True):
        ids, patients = groups.setdefault(sha256, ([], set()))
        ids.append(name)
        patients |= {patient} - {None}  # type: ignore[arg-type]
    return [ids for ids, patients in groups.values() if len(patients) > 1]


def _draft(name: str, question: str, estimate: Estimate, answer: tuple[Verdict, str]) -> Draft:
    return Draft(name, question, {}, estimate, lambda adjusted: answer)


def _train(
    frames: Frames, recipe: Recipe, out: Path, seed: int, probe: OnlineProbe | None, where: Where, *, progress: bool
) -> Pretrained:
    return pretrain(
        frames, recipe, out, seed=seed, device=where.device, devices=where.devices, nodes=where.nodes,
        strategy=where.strategy, workers=where.workers, probe=probe, progress=progress,
    )  # fmt: skip


def _probe(source: str | Path | Cohort, frames: Frames, knn: str | None) -> OnlineProbe | None:
    if knn is None or not isinstance(source, Cohort):
        return None
    groups = Grouping.parse(knn).apply(source)
    code = dict(zip(source.case_ids, groups.codes.tolist(), strict=True))
    patient = dict(zip(source.case_ids, source.clusters.cast(str).to_list(), strict=True))
    names = frames.table["frame_id"].to_list()
    rows = [i for i, name in enumerate(names) if code.get(name, -1) >= 0]
    rows = [rows[int(i)] for i in np.unique(np.linspace(0, len(rows) - 1, min(2_048, len(rows))).round())]
    if not rows:
        raise DataError(f"--knn {knn}: no frame has a class")
    return OnlineProbe(rows, [code[names[i]] for i in rows], [patient[names[i]] for i in rows])


def _awaited(source: str | Path | Cohort, folder: Path) -> Frames:
    if not isinstance(source, Cohort) and (Path(source) / "frames.json").is_file():
        return open_frames(Path(source))
    end = time.monotonic() + _PATIENCE
    while not (folder / "frames.json").is_file():
        if time.monotonic() > end:
            raise DataError(f"{folder}: the first process has not made its frames in {_PATIENCE} s")
        time.sleep(0.2)
    return open_frames(folder)


def _fingerprint(source: str | Path | Cohort, patient: str | None) -> str:
    """Return what tells one set of images from another: names, sizes and times; images are not read."""
    digest = hashlib.sha256()
    if not isinstance(source, Cohort) and (Path(source) / "frames.json").is_file():
        digest.update((Path(source) / "frames.json").read_bytes())
        return digest.hexdigest()
    for one in files_of(source, patient)[0]:
        path = Path(one.file) if one.file else None
        about = path.stat() if path is not None and path.is_file() else None
        digest.update(f"{one.name}|{one.patient}|{about and (about.st_size, about.st_mtime_ns)}\n".encode())
    return digest.hexdigest()
