"""The study: from the scores of the design's models to one finding a cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from medaudit.audits.diagnosis.causes import CAUSES
from medaudit.audits.diagnosis.design import Design
from medaudit.audits.diagnosis.evidence import Evidence
from medaudit.audits.diagnosis.images import Latent, Shape
from medaudit.audits.diagnosis.settings import Settings
from medaudit.audits.judging.conclude import conclude
from medaudit.cohort import Cohort
from medaudit.report import Finding


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All that the study found: a finding a cause, and what its report draws."""

    evidence: Evidence
    findings: tuple[Finding, ...]
    latent: Latent | None = None
    shapes: tuple[Shape, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def diagnose(cohort: Cohort, design: Design, scores: pl.DataFrame, settings: Settings) -> Diagnosis:
    """Return the findings of a design's ``scores`` (see :class:`Evidence`): one a cause, corrected over all of them."""
    evidence = Evidence(cohort, design, scores, settings)
    return Diagnosis(evidence, tuple(conclude([ask(evidence) for ask in CAUSES.values()])))
