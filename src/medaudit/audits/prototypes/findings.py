"""The findings: is a shortcut painted along with a sign, was it in the data, does the model make more of it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit.audits.judging.conclude import Draft, conclude, insufficient
from medaudit.audits.prototypes.study import KINDS, PAINTED, Study
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate

_JUDGE = 0.9
"""AUROC below which a judge's word is not taken; ours."""


def cards(found: list[Finding]) -> list[Finding]:
    """Return the findings of the first screen: the shortcuts, supported ones first."""
    main = [f for f in found if f.id.startswith("shortcut:")]
    return sorted(main, key=lambda f: ("supported", "insufficient", "refuted").index(f.verdict))


def findings(result: Study) -> list[Finding]:
    """Return the study's findings."""
    return conclude(list(drafts(result)))


def drafts(result: Study) -> Iterator[Draft]:
    """Yield the drafts: each ordered pair of attributes, then what is captured, screened and amplified."""
    names = result.material.attributes
    for a in range(len(names)):
        for b in range(len(names)):
            if a != b:
                yield _shortcut(result, a, b)
    for a in range(len(names)):
        for b in range(len(names)):
            if a != b:
                yield from _absorbed(result, a, b)
    yield from (_captured(result, a) for a in range(len(names)))
    yield from (_decided(result, a) for a in result.decided)
    yield from (_located(result, a) for a in result.located)
    yield from (_screened(result, *pair) for pair in result.screen)
    yield from (_amplified(result, *pair) for pair in result.amplified)


def _why_not(result: Study, a: int, b: int) -> str:
    """Return why a pair cannot be judged, or nothing."""
    m, s = result.material, result.settings
    names = m.attributes
    for k in (a, b):
        if np.isnan(m.judge_auroc[k]):
            return f"{names[k]} has one value among the images that the judge is tried on."
        if m.judge_auroc[k] < _JUDGE:
            return f"The judge tells {names[k]} with an AUROC of {m.judge_auroc[k]:.2f} only; its word is not taken."
    if (a, a, "total") not in result.change:
        return f"{names[a]}: too few training images have it or not, or too few labelled ones show nothing else."
    donors = min(len(side) for e in m.effects if e.moved == a for side in e.total.donors)
    if donors < s.min_patients:
        return (
            f"Only {donors} patients have training images with {names[a]}, or without it; {s.min_patients} are needed."
        )
    if not result.is_painted(a):
        own = result.change[a, a, "total"].value
        return (
            f"The code of {names[a]} does not paint it often enough ({100 * own:+.0f} points of its own, "
            f"{100 * PAINTED:.0f} needed): it can bring nothing along. Train longer."
        )
    return ""


def _shortcut(result: Study, a: int, b: int) -> Draft:
    names, s = result.material.attributes, result.settings
    question = f"Does the model paint {names[b]} along with {names[a]}?"
    name = f"shortcut:{names[a]}->{names[b]}"
    why = _why_not(result, a, b)
    if why:
        donors = [len(side) for e in result.material.effects if e.moved == a for side in e.total.donors]
        return insufficient(name, question, why, {}, sum(donors))
    estimate = result.change[a, b, "total"]
    code = result.change[a, b, "code"]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"{100 * estimate.value:+.0f} points ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
        if adjusted.p_adjusted < 0.05 and estimate.low > 0 and estimate.value >= s.margin:
            alone = (
                f"and so does its code alone ({100 * code.value:+.0f} points): the model has taken one for the other"
                if code.low > 0 and code.value >= s.margin
                else "as it went along in the training images"
            )
            return "supported", f"Painting {names[a]} brings {names[b]} along: {said}, {alone}."
        if estimate.extra["high_90"] < s.margin:
            return "refuted", f"Painting {names[a]} does not bring {names[b]} along: {said}."
        return "insufficient", f"Whether painting {names[a]} brings {names[b]} along cannot be told: {said}."

    return Draft(name, question, _groups(result, a, b), estimate, judge, primary=True)


def _absorbed(result: Study, a: int, b: int) -> Iterator[Draft]:
    if _why_not(result, a, b):
        return
    names, s = result.material.attributes, result.settings
    estimate = result.change[a, b, "code"]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"{100 * estimate.value:+.0f} points ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
        if adjusted.p_adjusted < 0.05 and estimate.low > 0 and estimate.value >= s.margin:
            return "supported", f"The code of {names[a]} alone is painted with {names[b]}: {said}."
        if estimate.extra["high_90"] < s.margin:
            return "refuted", f"The code of {names[a]} alone is not painted with {names[b]}: {said}."
        return (
            "insufficient",
            f"Whether the code of {names[a]} alone is painted with {names[b]} cannot be told: {said}.",
        )

    yield Draft(
        f"absorbed:{names[a]}->{names[b]}", f"Is the code of {names[a]} alone painted with {names[b]}?",
        _groups(result, a, b), estimate, judge,
    )  # fmt: skip


def _captured(result: Study, a: int) -> Draft:
    name = result.material.attributes[a]
    estimate, carrier = result.captured[a], result.carrier(a)
    least = result.settings.captured
    if np.isnan(estimate.value):
        answer: tuple[Verdict, str] = (
            "insufficient", f"Which prototype carries {name} cannot be told: it never parts from the other attributes."
        )  # fmt: skip
    elif estimate.value >= least:
        answer = "supported", f"Prototype {carrier.prototype} carries {name} (AUROC {estimate.value:.2f})."
    else:
        answer = "refuted", f"No prototype carries {name} (best AUROC {estimate.value:.2f}, below {least:g})."

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        return answer

    return Draft(f"captured:{name}", f"Does a prototype carry {name}?", {}, estimate, judge)


def _decided(result: Study, a: int) -> Draft:
    name, estimate, least = result.material.attributes[a], result.decided[a], result.settings.captured
    said = f"AUROC {estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
    judge_auroc = result.material.judge_auroc[a]
    if np.isnan(estimate.value):
        answer: tuple[Verdict, str] = "insufficient", f"{name} has one value among the images painted again."
    elif not judge_auroc >= _JUDGE:
        answer = "insufficient", f"The judge tells {name} with an AUROC of {judge_auroc:.2f} only."
    elif estimate.low >= least:
        answer = "supported", f"Activations decide whether {name} is painted: {said} from fresh noise."
    elif estimate.high < least:
        answer = "refuted", f"Activations do not decide whether {name} is painted: {said} from fresh noise."
    else:
        answer = "insufficient", f"Whether activations decide that {name} is painted cannot be told: {said}."
    return Draft(f"decided:{name}", f"Do activations decide whether {name} is painted?", {}, estimate,
                 lambda adjusted: answer)  # fmt: skip


def _located(result: Study, a: int) -> Draft:
    name, estimate = result.material.attributes[a], result.located[a]
    said = (
        f"its box holds {100 * estimate.extra['inside']:.0f} % of the mask, any box "
        f"{100 * estimate.extra['inside by chance']:.0f} %"
    )
    if not result.is_captured(a):
        answer: tuple[Verdict, str] = "insufficient", f"{name} has no carrier that could lie anywhere."
    elif estimate.low > 0:
        answer = "supported", f"The carrier of {name} lies where {name} is: {said}."
    elif estimate.high <= 0:
        answer = "refuted", f"The carrier of {name} does not lie where {name} is: {said}."
    else:
        answer = "insufficient", f"Whether the carrier of {name} lies where {name} is cannot be told: {said}."
    return Draft(f"located:{name}", f"Does the carrier of {name} lie where {name} is?", {}, estimate,
                 lambda adjusted: answer)  # fmt: skip


def _screened(result: Study, a: int, b: int) -> Draft:
    names = result.material.attributes
    estimate = result.screen[a, b]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"{estimate.extra['training']:.2f} in training, {estimate.extra['test']:.2f} in the images asked"
        if not (result.is_captured(a) and result.is_captured(b)):
            return "insufficient", f"{names[a]} and {names[b]} do not both have a carrier to be compared."
        if estimate.low > 0.1 or estimate.high < -0.1:
            return "supported", f"{names[a]} and {names[b]} go together otherwise where the model was trained: {said}."
        if estimate.low > -0.1 and estimate.high < 0.1:
            return (
                "refuted",
                f"{names[a]} and {names[b]} go together alike in training and in the images asked: {said}.",
            )
        return (
            "insufficient",
            f"Whether {names[a]} and {names[b]} go together otherwise in training cannot be told: {said}.",
        )

    return Draft(
        f"screen:{names[a]}*{names[b]}", f"Do {names[a]} and {names[b]} go together otherwise in the training images?",
        {}, estimate, judge,
    )  # fmt: skip


def _amplified(result: Study, a: int, b: int) -> Draft:
    names = result.material.attributes
    estimate = result.amplified[a, b]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        if np.isnan(estimate.value):
            return "insufficient", f"{names[a]} or {names[b]} is painted always or never: nothing to correlate."
        said = f"{estimate.extra['painted']:.2f} in painted images, {estimate.extra['training']:.2f} in training images"
        further = abs(estimate.extra["painted"]) > abs(estimate.extra["training"])
        if (estimate.low > 0.05 or estimate.high < -0.05) and further:
            return "supported", f"The model makes more of {names[a]} going with {names[b]} than the data: {said}."
        if (estimate.low > -0.2 and estimate.high < 0.2) or not further:
            return "refuted", f"The model does not make more of {names[a]} going with {names[b]}: {said}."
        return (
            "insufficient",
            f"Whether the model makes more of {names[a]} going with {names[b]} cannot be told: {said}.",
        )

    return Draft(
        f"amplified:{names[a]}*{names[b]}",
        f"Does the model make more of {names[a]} going with {names[b]} than the data?", {}, estimate, judge,
    )  # fmt: skip


def _groups(result: Study, a: int, b: int) -> dict[str, dict[str, float]]:
    return {
        kind: {"change": e.value, "low": e.low, "high": e.high, "random prototypes": e.extra["random"]}
        for kind in KINDS
        if (e := result.change[a, b, kind])
    }
