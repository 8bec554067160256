"""From drafts to findings: correct all tests of a study for their number, then let each draft be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate, benjamini_hochberg, holm

Judge = Callable[[Estimate], tuple[Verdict, str]]
"""Given the estimate with its adjusted p-value, returns the verdict and the claim, a sentence a clinician reads."""


@dataclass(frozen=True)
class Draft:
    """A finding before its p-value is corrected: all but the verdict and the claim, which ``judge`` gives.

    ``primary`` drafts are the questions that the study was made for; the others explore. ``presupposes`` is the id of
    an earlier draft without which this question has no object (is the gap explained? by a gap that is there): unless
    that one is supported, the verdict is ``insufficient``, and the claim is ``otherwise``.
    """

    id: str
    question: str
    groups: Mapping[str, Mapping[str, Any]]
    estimate: Estimate
    judge: Judge
    rests_on: tuple[str, ...] = ()
    primary: bool = False
    presupposes: str = ""
    otherwise: str = ""


def conclude(drafts: Sequence[Draft]) -> list[Finding]:
    """Return the findings: p-values corrected by Holm within the primary family, by Benjamini-Hochberg in the rest.

    Holm bounds the chance of even one false claim among the questions that the study was made for; the false-discovery
    rate suits what was looked at beside them. Each finding says how large its family is.
    """
    adjusted: dict[str, tuple[float, str]] = {}
    for primary, correct, correction in ((True, holm, "Holm"), (False, benjamini_hochberg, "Benjamini-Hochberg")):
        family = [draft for draft in drafts if draft.primary == primary]
        tested = int(np.isfinite([draft.estimate.p for draft in family]).sum())
        for draft, p in zip(family, correct(np.array([draft.estimate.p for draft in family])), strict=True):
            kind = "primary" if primary else "exploratory"
            adjusted[draft.id] = (
                float(p),
                f"p adjusted by {correction} over {tested} {kind} test{'s' * (tested != 1)}",
            )
    findings: list[Finding] = []
    verdicts: dict[str, Verdict] = {"": "supported"}
    for draft in drafts:
        p, corrected = adjusted[draft.id]
        estimate = draft.estimate.adjusted(p)
        there = verdicts[draft.presupposes] == "supported"
        verdict, claim = draft.judge(estimate) if there else ("insufficient", draft.otherwise)
        verdicts[draft.id] = verdict
        note = (corrected,) if np.isfinite(p) else ()
        findings.append(
            Finding(draft.id, draft.question, claim, verdict, draft.groups, estimate, (*draft.rests_on, *note))
        )
    return findings


def insufficient(draft_id: str, question: str, why: str, groups: Mapping[str, Mapping[str, Any]], n: int) -> Draft:
    """Return the draft of a question that these data cannot even ask, with the reason as its claim."""
    return Draft(
        id=draft_id,
        question=question,
        groups=groups,
        estimate=Estimate(name="not estimable", value=float("nan"), n=n),
        judge=lambda estimate: ("insufficient", why),
    )
