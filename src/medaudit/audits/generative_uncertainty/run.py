"""From a run of `medaudit vae` to a run of its own: fit the posteriors, score, compare, write; it goes on if killed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medaudit.audits.generative.design import Design, plan
from medaudit.audits.generative.run import CASES
from medaudit.audits.generative.settings import METRICS
from medaudit.audits.generative.settings import Settings as VaeSettings
from medaudit.audits.generative.study import FORETOLD
from medaudit.audits.generative_uncertainty.findings import findings
from medaudit.audits.generative_uncertainty.settings import Settings
from medaudit.audits.generative_uncertainty.study import Study, study
from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError
from medaudit.report import Finding, Run, hash_file

_YES, _NO = ("yes", "1", "true"), ("no", "0", "false", "none")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a study: its evidence and its findings."""

    study: Study
    findings: list[Finding]


def uncertainty_of_run(
    folder: Path, settings: Settings, *, out: Path, jobs: int = -1, progress: bool = True
) -> Outcome:
    """Return the study of what the uncertainties of an earlier run's VAEs say; writes it to ``out``.

    ``folder`` is a finished run of ``medaudit vae``. Raises UsageError where it is no such run, DataError where a model
    or an image is missing.
    """
    earlier, vae, cohort = read(folder)
    design = plan(cohort, vae)
    shares = _shares(vae, settings)
    metric = settings.metric or FORETOLD
    judged_by = [name for name in METRICS if name in earlier.measurements().columns]
    if metric not in judged_by:
        raise UsageError(f"--metric {metric}: the run has no such error; it has: {', '.join(judged_by)}")
    artefacts = {column: _yes_no(cohort, design, column) for column in settings.artefacts}
    kept = {**asdict(settings), "shares": list(shares), "metric": metric, "torch": importlib.metadata.version("torch")}
    with Run.open(out, verb="slug", settings=kept, inputs=_inputs(folder, earlier, vae, shares)) as run:
        from medaudit.audits.generative_uncertainty import scoring
        from medaudit.audits.generative_uncertainty.page import page

        start = time.perf_counter()
        scored = scoring.score_cases(
            design, vae, settings, folder, tuple(cohort.case_ids), out, shares=shares, metric=metric, jobs=jobs,
            progress=progress,
        )  # fmt: skip
        seconds = {"scoring": time.perf_counter() - start}
        start = time.perf_counter()
        result = study(design, scored, settings, metric, artefacts)
        answers = findings(result)
        seconds["statistics"] = time.perf_counter() - start
        run.write_measurements(frame(result, cohort))
        run.write_findings(answers)
        first = vae.shares.index(shares[0])
        known = earlier.report().known if (folder / "report.json").exists() else ()
        run.write_report(page(result, answers, cohort.name, run, out, first, seconds, known))
        run.finish()
    return Outcome(result, answers)


def read(folder: Path) -> tuple[Run, VaeSettings, Cohort]:
    """Return an earlier run of ``medaudit vae``, its settings and its cases; UsageError or DataError if it is none."""
    earlier = Run.read(folder)
    if earlier.verb != "vae":
        raise UsageError(f"{folder} is a run of 'medaudit {earlier.verb}'; expected one of 'medaudit vae'")
    if earlier.finished is None:
        raise DataError(f"{folder} was not finished; run the same 'medaudit vae' again first")
    names = {field.name for field in fields(VaeSettings)}
    kept: dict[str, Any] = {name: value for name, value in earlier.settings.items() if name in names}
    vae = VaeSettings(**{**kept, "shares": tuple(kept["shares"])})
    told = dict(earlier.report().provenance) if (folder / "report.json").exists() else {}
    cohort = Cohort(
        told.get("dataset") or f"the cases of {folder.name}", earlier.measurements(CASES), folder.resolve(), {}
    )
    return earlier, vae, cohort


def frame(result: Study, cohort: Cohort) -> pl.DataFrame:
    """Return a row a test image and training, and a row an edited image, with every score."""
    scored = result.scored
    ids = np.asarray([cohort.case_ids[i] for i in scored.rows])
    groups = np.asarray([result.design.groups[code] for code in result.design.code[scored.rows]])
    parts = []
    for k, share in enumerate(scored.shares):
        for s in range(scored.errors.shape[1]):
            base = {"case_id": ids, "group": groups, "share": share, "seed": s, "edit": "none",
                    result.metric: scored.errors[k, s], "luminance": scored.luminance}  # fmt: skip
            parts.append(pl.DataFrame(base | {name: values[k, s] for name, values in scored.clean.items()}))
            for e, edit in enumerate(scored.edits):
                edited = {"case_id": ids[scored.sources], "group": groups[scored.sources], "share": share, "seed": s,
                          "edit": edit}  # fmt: skip
                parts.append(pl.DataFrame(edited | {name: values[k, s, e] for name, values in scored.edited.items()}))
    return pl.concat(parts, how="diagonal")


def _shares(vae: VaeSettings, settings: Settings) -> tuple[float, ...]:
    """Return the shares whose models are asked: first the one that neglects the minority most."""
    if settings.shares is None:
        return tuple(dict.fromkeys((vae.shares[0], vae.shares[vae.balanced])))
    unknown = [share for share in settings.shares if share not in vae.shares]
    if unknown:
        there = ", ".join(f"{share:g}" for share in vae.shares)
        raise UsageError(f"--shares {unknown[0]:g}: the run has no such models; it has: {there}")
    return settings.shares


def _inputs(folder: Path, earlier: Run, vae: VaeSettings, shares: tuple[float, ...]) -> Mapping[str, str]:
    from medaudit.audits.generative.trainings import PREPARED, Unit

    digest = hashlib.sha256()
    for share in shares:
        for seed in range(vae.seeds):
            file = Unit(vae.shares.index(share), seed).folder(folder, vae.shares) / "model.pt"
            if not file.exists():
                raise DataError(f"{file} is not there; run the same 'medaudit vae' again, it trains what is missing")
            digest.update(hash_file(file).encode())
    if not (folder / PREPARED / "images.npy").exists():
        raise DataError(f"{folder / PREPARED} is not there; run the same 'medaudit vae' in a new folder")
    return {"models": digest.hexdigest(), **earlier.inputs}


def _yes_no(cohort: Cohort, design: Design, column: str) -> np.ndarray:
    """Return 1, 0 or -1 (unknown) of a column's yes and no on the test images."""
    values = [None if value is None else str(value).strip().lower() for value in cohort.column(column)]
    known = {value for value in values if value not in (None, "")}
    strange = sorted(known - {*_YES, *_NO})
    if strange:
        raise UsageError(f"--artefact {column}: holds '{strange[0]}'; expected a column of yes and no")
    coded = np.asarray([1 if value in _YES else 0 if value in _NO else -1 for value in values])[design.test]
    if not ((coded == 1).any() and (coded == 0).any()):
        word = "yes" if not (coded == 1).any() else "no"
        raise DataError(f"--artefact {column}: no test image has '{word}'; there is nothing to tell apart")
    return coded
