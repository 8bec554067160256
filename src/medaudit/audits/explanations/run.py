"""From a cohort and a model to findings, maps, a report and a card of each explained image, in a run."""

from __future__ import annotations

import importlib.metadata
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from medaudit.audits.explanations.cards import read_card, replay, write_cards
from medaudit.audits.explanations.findings import findings, first
from medaudit.audits.explanations.opened import (
    KEPT,
    SEEDS,
    again,
    explained,
    keeps,
    kept_pictures,
    model_file,
    pictures,
)
from medaudit.audits.explanations.page import page
from medaudit.audits.explanations.settings import ExplainSettings
from medaudit.audits.explanations.study import Study, study
from medaudit.cohort import Cohort, fingerprint
from medaudit.errors import DataError
from medaudit.explanation.assumptions import registry
from medaudit.report import Finding, Run, hash_file
from medaudit.report.arrays import write_arrays
from medaudit.report.atomic import write_atomically
from medaudit.training.devices import one_thread
from medaudit.workers import bar

ASKED, MAPS = "asked.json", "maps.npz"
_TUPLES = ("classes", "pairs", "configurations")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an audit."""

    study: Study
    findings: list[Finding]

    @property
    def first(self) -> list[Finding]:
        """The findings of the first screen."""
        return first(self.findings)


def audit_explanations(
    cohort: Cohort, settings: ExplainSettings, *, out: Path, model: str | None = None, readers: tuple[str, ...] = (),
    marker: bool = False, jobs: int = 1, progress: bool = True,
) -> Outcome:  # fmt: skip
    """Return what explanations of a model's answers assume and are worth; the run stays in ``out``.

    ``model``: FILE.py:NAME, a function that returns a torch module of images (N, channels, side, side) as ``settings``
    say; or a classifier.pt of an earlier run; without it one is trained to tell ``settings.label``. ``readers``: roles
    of masks of the cohort, each of a reader; ``marker``: whether the role ``marker`` says where a marker lies that
    should not matter. Raises UsageError and DataError as its parts do.
    """
    inputs = {"cohort": fingerprint(cohort)}
    named = where = model
    if model is not None:
        file, function = model_file(model)
        if file.is_file():
            inputs["model"] = hash_file(file)
        # Where it lies is no setting; a card must find it from anywhere.
        named = f"{file.name}:{function}" if function else file.name
        where = f"{file.resolve()}:{function}" if function else str(file.resolve())
    asked = {**asdict(settings), "model": named, "readers": list(readers), "marker": marker,
             "registry": registry().hash,
             **{package: importlib.metadata.version(package) for package in ("torch", "scikit-image")}}  # fmt: skip
    asked["factors"] = {atom: list(levels) for atom, levels in settings.factors.items()}
    with one_thread(settings.device), Run.open(out, verb="explain audit", settings=asked, inputs=inputs) as run:
        start = time.perf_counter()
        shown = pictures(cohort, readers, settings, out, marker=marker, jobs=jobs, progress=progress)
        found = explained(shown, settings, out, model=model, progress=progress)
        total = len(settings.chosen_pairs()) + len(settings.chosen()) + 1
        with bar("explaining", progress) as show:
            done = iter(show(range(total), total=total))
            result = study(found, settings, tell=lambda _: next(done, None))
            for _ in done:
                pass
        answers = findings(result)
        run.write_measurements(frame(result))
        write_arrays(out / MAPS, {name: one.maps for name, one in result.tested.items() if one.maps is not None})
        name = next(name for name, one in result.tested.items() if one.maps is not None)
        write_cards(result, name, out)
        keep = {**keeps(shown, readers), "model": where, "settings": _plain(settings)}
        write_atomically(out / ASKED, json.dumps(keep, indent=1, sort_keys=True).encode())
        run.write_findings(answers)
        run.write_report(page(result, answers, run, time.perf_counter() - start, cohort.name, cohort.known))
        run.finish()
    return Outcome(result, answers)


def replay_card(card: Path, *, progress: bool = True) -> list[str]:
    """Return what differs when the maps of a card are made again, from what its run kept; nothing where none does.

    Raises DataError where the card or its run cannot be read.
    """
    told = read_card(card)
    out = card.resolve().parent.parent
    try:
        kept = json.loads((out / ASKED).read_text(encoding="utf-8"))
        plain, model = kept["settings"], kept["model"]
        settings = ExplainSettings(**{**plain, **{key: tuple(plain[key]) for key in _TUPLES}})
        shown = kept_pictures(out, kept, settings)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{card}: its run is not beside it; expected {out / ASKED} and what it names") from None
    others: tuple[Path, ...] = ()
    if model is None:
        model = str(out / KEPT)
        others = tuple(path for k in range(1, SEEDS) if (path := out / again(k)).is_file())
    with one_thread(settings.device):
        found = explained(shown, settings, out, model=model, progress=progress, others=others)
        return replay(told, found)


def frame(result: Study) -> pl.DataFrame:
    """Return a row an image and pair, and a row an image and configuration."""
    found = result.explained
    cases = [found.pictures.case_ids[row] for row in found.rows]
    patients = found.pictures.patients[found.rows].tolist()
    rows: list[dict[str, Any]] = []
    for name, one in result.pairs.items():
        if one.effect is None:
            continue
        for k, case in enumerate(cases):
            rows.append({"case_id": case, "patient_id": patients[k], "kind": "pair", "name": name,
                         "distance": float(one.effect.between[k]), "noise": float(one.effect.floor[k])})  # fmt: skip
    for name in result.tested:
        if name not in result.names:
            continue
        for k, case in enumerate(cases):
            other, alike = result.dissent(name, k)
            rows.append({"case_id": case, "patient_id": patients[k], "kind": "dissent", "name": name,
                         "distance": 1 - alike, "other": other})  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def _plain(settings: ExplainSettings) -> dict[str, Any]:
    plain = asdict(replace(settings))
    plain["factors"] = {atom: list(levels) for atom, levels in settings.factors.items()}
    return plain
