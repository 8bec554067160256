"""The findings: which score follows error, flags a neglected group, finds foreign content, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from medaudit.audits.generative import words
from medaudit.audits.generative.findings import NOTICED
from medaudit.audits.generative_uncertainty.study import Study
from medaudit.audits.judging.conclude import Draft, Judge, conclude, insufficient
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate

FOLLOWS = 0.3
"""A rank correlation with error below which a score is no help; our choice, printed with each finding."""
PRIMARY = ("slug", "encoder_variance")
"""The papers' question: does SLUG do what the encoder's variance does not?"""
ORACLES = ("squared_error_oracle", "negative_elbo", "negative_iwae", "negative_waic", "disagreement")
"""They look at the image: what they find is no merit of an uncertainty, and shows what could be found."""


CARDS = ("slug", "encoder_variance")


def cards(found: list[Finding]) -> list[Finding]:
    """Return the findings of the first screen: SLUG and the encoder's variance."""
    return [f for f in found if f.id == "encoder_is_enough" or f.id.split(":")[-1] in CARDS]


def findings(result: Study) -> list[Finding]:
    """Return the study's findings."""
    return conclude(list(drafts(result)))


def drafts(result: Study) -> Iterator[Draft]:
    """Yield the drafts: the papers' claims about SLUG and the encoder first, then every other score."""
    few = min(result.patients)
    if few < result.settings.min_patients or result.scored.errors.shape[1] < 2:
        why = (
            f"One group has {few} test patients, fewer than {result.settings.min_patients}"
            if few < result.settings.min_patients
            else "There is one training a share"
        )
        yield insufficient("follows:slug", "Does SLUG follow error?", f"{why}: these data cannot tell.", {}, few)
        return
    if "slug" in result.beats:
        yield _enough(result)
    ordered = [name for name in PRIMARY if name in result.judged]
    ordered += [name for name in result.judged if name not in (*PRIMARY, *ORACLES)]
    for name in ordered:
        yield _follows(result, name)
    for name in ordered:
        yield _silent(result, name)
    for name in ordered:
        yield from _unseen(result, name)
    for name in ordered:
        yield _brightness(result, name)


def _enough(result: Study) -> Draft:
    estimate = result.beats["slug"]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"difference of rank correlations {_said(estimate)}"
        if estimate.high < 0 and adjusted.p_adjusted < 0.05:
            return "supported", f"SLUG follows error less than the encoder's variance does: {said}."
        if estimate.low > 0 and adjusted.p_adjusted < 0.05:
            return "refuted", f"SLUG follows error more than the encoder's variance does: {said}."
        return "insufficient", f"These data cannot tell which follows error more: {said}."

    share = 100 * result.scored.shares[-1]
    return Draft(
        "encoder_is_enough", "Would the encoder's own variance have done as well as SLUG?", {}, estimate, judge,
        rests_on=(f"at {share:g} % of the minority, Spearman with the {words.metric(result.metric)}", *_rests(result)),
        primary=True,
    )  # fmt: skip


def _follows(result: Study, name: str) -> Draft:
    said_of = words.score(name)
    start = words.capital(said_of)
    estimate = result.judged[name].with_error[-1]
    return Draft(
        f"unrelated:{name}", f"Does {said_of} fail to follow the error of reconstruction?", {}, estimate,
        _below(
            estimate, FOLLOWS, f"{start} hardly follows error", f"{start} follows error",
            f"These data cannot tell whether {said_of} follows error", "rho",
        ),
        rests_on=(f"fails: the whole interval below a rank correlation of {FOLLOWS:g}", *_rests(result)),
        primary=name in PRIMARY,
    )  # fmt: skip


def _silent(result: Study, name: str) -> Draft:
    said_of = words.score(name)
    start = words.capital(said_of)
    estimate = result.judged[name].for_group[0]
    _, minority = result.design.groups
    share = 100 * result.scored.shares[0]
    there = result.worse.low > 0
    where = f"{minority} with {share:g} % of it in training"

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        if not there:
            return "insufficient", f"The model shows no evident loss on {where}: there is nothing to warn of."
        return _below(
            estimate, NOTICED, f"{start} does not flag {where}", f"{start} flags {where}",
            f"These data cannot tell whether {said_of} flags {where}", "AUROC",
        )(adjusted)  # fmt: skip

    return Draft(
        f"silent:{result.design.attribute}:{name}",
        f"Does {said_of} stay silent about a group that training neglected?", {}, estimate, judge,
        rests_on=(f"silent: the whole interval below an AUROC of {NOTICED:g}", *_rests(result)),
        primary=name in PRIMARY,
    )  # fmt: skip


def _unseen(result: Study, name: str) -> Iterator[Draft]:
    said_of = words.score(name)
    start = words.capital(said_of)
    found = result.found[name]
    for edit, estimate in found.edits.items():
        if edit == "control":
            yield Draft(
                f"false_alarm:{name}", f"Does {said_of} flag an edit that brings in nothing foreign?", {}, estimate,
                _above(estimate, NOTICED, f"{start} flags an edit of the image's own skin as well",
                       f"{start} leaves an edit of the image's own skin alone"),
                rests_on=_rests(result),
            )  # fmt: skip
            continue
        yield Draft(
            f"unseen:{edit}:{name}", f"Does {said_of} miss {edit} in an image?", {}, estimate,
            _below(estimate, NOTICED, f"{start} does not notice {edit}", f"{start} notices {edit}",
                   f"These data cannot tell whether {said_of} notices {edit}", "AUROC"),
            rests_on=("edited images against the same images unedited", *_rests(result)),
        )  # fmt: skip
    for edit, metrics in found.pixels.items():
        if edit == "control":
            continue
        estimate = metrics["auroc"]
        yield Draft(
            f"misplaced:{edit}:{name}", f"Does the map of {said_of} miss where {edit} is?", {}, estimate,
            _below(estimate, NOTICED, f"The map of {said_of} does not show where {edit} is",
                   f"The map of {said_of} shows where {edit} is",
                   f"These data cannot tell whether the map of {said_of} shows where {edit} is", "pixel AUROC"),
            rests_on=("mean over images of the pixel AUROC against the painted mask", *_rests(result)),
        )  # fmt: skip
    for column, estimate in found.artefacts.items():
        yield Draft(
            f"unseen:{column}:{name}", f"Does {said_of} miss images in which '{column}' is yes?", {}, estimate,
            _below(estimate, NOTICED, f"{start} does not notice {column}", f"{start} notices {column}",
                   f"These data cannot tell whether {said_of} notices {column}", "AUROC"),
            rests_on=("real test images, labelled in the table", *_rests(result)),
        )  # fmt: skip


def _brightness(result: Study, name: str) -> Draft:
    said_of = words.score(name)
    start = words.capital(said_of)
    estimate = result.judged[name].follows_brightness[-1]
    bright, error = result.judged[name].with_luminance[-1], result.judged[name].with_error[-1]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"rho {bright.value:.2f} with brightness, {error.value:.2f} with error"
        if estimate.low > 0 and adjusted.p_adjusted < 0.05:
            return "supported", f"{start} follows the image's brightness more than its error: {said}."
        if estimate.high < 0:
            return "refuted", f"{start} follows error more than brightness: {said}."
        return "insufficient", f"{start} follows brightness and error about alike: {said}."

    return Draft(
        f"brightness:{name}", f"Is {said_of} a measure of brightness rather than of error?", {}, estimate, judge,
        rests_on=("|Spearman with mean luminance| minus Spearman with error", *_rests(result)),
    )  # fmt: skip


def _below(estimate: Estimate, level: float, fails: str, does: str, open_: str, name: str) -> Judge:
    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"{name} {_said(estimate)}"
        if estimate.high < level:
            return "supported", f"{fails}: {said}."
        if estimate.low > level:
            return "refuted", f"{does}: {said}."
        return "insufficient", f"{open_}: {said}."

    return judge


def _above(estimate: Estimate, level: float, does: str, leaves: str) -> Callable[[Estimate], tuple[Verdict, str]]:
    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"AUROC {_said(estimate)}"
        if estimate.low > level:
            return "supported", f"{does}: {said}."
        if estimate.high < level:
            return "refuted", f"{leaves}: {said}."
        return "insufficient", f"These data cannot tell whether {does}: {said}."

    return judge


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _rests(result: Study) -> tuple[str, ...]:
    return (
        f"{result.scored.errors.shape[1]} trainings a share; patients ({sum(result.patients)}) and trainings both "
        "counted in the interval",
        f"{result.settings.probes} probes, the same for all images",
    )
