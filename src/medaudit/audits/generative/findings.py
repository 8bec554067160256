"""The findings: who is reconstructed worse, what representation changes, and which uncertainty stays silent."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from medaudit.audits.generative import words
from medaudit.audits.generative.study import WORST, Ratio, Study, as_ratio
from medaudit.audits.judging.conclude import Draft, Judge, conclude, insufficient
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate

NOTICED = 0.7
"""An AUROC below which nobody would be warned; our choice, printed with each finding."""

ORACLE = "squared_error_oracle"
"""The error itself: shown beside the scores, and no finding."""
MAIN = ("gap", "explained", "representation", "metric_decides")


def cards(found: list[Finding], metric: str) -> list[Finding]:
    """Return the findings of the first screen: the gap and its causes, and what SLUG and the encoder say of it."""
    main = [f for f in found if f.id.split(":")[0] in MAIN and (not f.id.startswith("gap:") or f.id.endswith(metric))]
    scores = [
        f for f in found if f.id.startswith(("silent:", "blind:")) and f.id.endswith((":slug", ":encoder_variance"))
    ]
    return [*main, *scores]


def findings(result: Study) -> list[Finding]:
    """Return the study's findings."""
    return conclude(list(drafts(result)))


def drafts(result: Study) -> Iterator[Draft]:
    """Yield the drafts: the gap of the main metric first, then its causes, then the other metrics and uncertainties."""
    settings = result.settings
    main = settings.metric
    if sum(n >= settings.min_patients for n in result.patients) < 2:
        few = min(result.patients)
        yield insufficient(
            f"gap:{result.design.attribute}:{main}", _gap_question(result, main),
            f"One group has {few} test patients, fewer than {settings.min_patients}: these data cannot tell.",
            _groups(result, result.ratios[main][settings.balanced]), len(result.minority),
        )  # fmt: skip
        return
    if settings.seeds < 2:
        yield insufficient(
            f"gap:{result.design.attribute}:{main}", _gap_question(result, main),
            "There is one training: what another would give is not known; ask for --seeds 2 or more.",
            _groups(result, result.ratios[main][settings.balanced]), len(result.minority),
        )  # fmt: skip
        return
    yield _gap(result, main, primary=True)
    if main in result.mix:
        yield _explained(result, main)
    if len(settings.shares) > 1:
        yield from _representation(result, main)
    yield _disagreement(result)
    for name in result.ratios:
        if name != main:
            yield _gap(result, name, primary=False)
    for name in result.judged:
        if name != ORACLE:
            yield _silent(result, name)
    for name in result.judged:
        if name != ORACLE:
            yield _blind(result, name)
            yield _brightness(result, name)


def _gap_question(result: Study, metric: str) -> str:
    majority, minority = result.design.groups
    share = result.settings.shares[result.settings.balanced]
    return (
        f"With {100 * share:.0f} % {minority} among the training images, is {minority} reconstructed worse than "
        f"{majority} ({words.metric(metric)})?"
    )


def _gap(result: Study, metric: str, *, primary: bool) -> Draft:
    ratio = result.ratios[metric][result.settings.balanced]
    majority, minority = result.design.groups
    margin = math.log(1 + result.settings.margin)
    logs = ratio.estimate
    estimate = as_ratio(logs, f"{minority} / {majority}")

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        times = f"{estimate.value:.2f} times ({estimate.low:.2f} to {estimate.high:.2f})"
        said = words.metric(metric)
        if adjusted.p_adjusted < 0.05 and logs.low > 0:
            return "supported", f"{minority} is reconstructed worse than {majority}: {times} the {said}."
        if adjusted.p_adjusted < 0.05 and logs.high < 0:
            return "refuted", f"{minority} is not reconstructed worse: it has {times} the {said} of {majority}."
        if -margin < logs.extra["low_90"] and logs.extra["high_90"] < margin:
            return "refuted", (
                f"{minority} and {majority} are reconstructed alike: {times} the {said}, inside the margin of "
                f"{100 * result.settings.margin:.0f} %."
            )
        return "insufficient", f"These data cannot tell whether {minority} is reconstructed worse: {times} the {said}."

    return Draft(
        f"gap:{result.design.attribute}:{metric}", _gap_question(result, metric), _groups(result, ratio), estimate,
        judge, rests_on=_rests(result), primary=primary,
    )  # fmt: skip


def _explained(result: Study, metric: str) -> Draft:
    majority, minority = result.design.groups
    found = result.mix[metric]
    strata = result.settings.standardise

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        raw, left = found.raw, found.adjusted
        share = 1 - left.value / raw.value if raw.value else float("nan")
        said = f"{raw.value:.3g} raw, {left.value:.3g} ({left.low:.3g} to {left.high:.3g}) at one mix of {strata}"
        if found.reason:
            return "insufficient", f"The mix of {strata} cannot be made alike: {found.reason}."
        if adjusted.p_adjusted < 0.05 and share > 0.5:
            return "supported", f"Most of the gap is the mix of {strata}: {said}."
        if left.low > 0 or left.high < 0:
            return "refuted", f"The gap is not the mix of {strata}: {said}."
        return "insufficient", f"These data cannot tell how much of the gap is the mix of {strata}: {said}."

    return Draft(
        f"explained:{result.design.attribute}:{strata}:{metric}",
        f"Is the gap between {majority} and {minority} a gap between kinds of cases ({strata})?",
        {}, found.change, judge, rests_on=("direct standardisation of the test cases, all trainings' mean error",),
        presupposes=f"gap:{result.design.attribute}:{metric}",
        otherwise="There is no evident gap to be explained.",
    )  # fmt: skip


def _representation(result: Study, metric: str) -> Iterator[Draft]:
    shares = result.settings.shares
    for g, name in enumerate(result.design.groups):
        logs = result.representation[metric][g]
        least, most = (1 - shares[-1], 1 - shares[0]) if g == 0 else (shares[0], shares[-1])
        estimate = as_ratio(logs, f"error at {100 * least:.0f} % / at {100 * most:.0f} %")
        yield Draft(
            f"representation:{result.design.attribute}:{name}:{metric}",
            f"Is {name} reconstructed worse where fewer training images show it?",
            {name: {"least_share": least, "most_share": most}},
            estimate,
            _represented(name, least, most, logs, estimate),
            rests_on=_rests(result),
        )


def _represented(name: str, least: float, most: float, logs: Estimate, estimate: Estimate) -> Judge:
    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        times = f"{estimate.value:.2f} times ({estimate.low:.2f} to {estimate.high:.2f})"
        said = f"with {100 * least:.0f} % of the training images instead of {100 * most:.0f} %"
        if adjusted.p_adjusted < 0.05 and logs.low > 0:
            return "supported", f"{name} pays for being under-represented: {times} the error {said}."
        if adjusted.p_adjusted < 0.05 and logs.high < 0:
            return "refuted", f"{name} has less error {said}: {times}."
        if logs.extra["high_90"] < math.log(1.1):
            return "refuted", f"What share {name} has hardly matters to it: {times} the error {said}."
        return "insufficient", f"These data cannot tell what its share does to {name}: {times} the error {said}."

    return judge


def _disagreement(result: Study) -> Draft:
    """Do metrics disagree about who is worse off? Then the metric is the finding."""
    at = result.settings.balanced
    majority, minority = result.design.groups
    worse = [name for name, entries in result.ratios.items() if entries[at].estimate.low > 0]
    better = [name for name, entries in result.ratios.items() if entries[at].estimate.high < 0]
    logs = [entries[at].estimate.value for entries in result.ratios.values()]
    estimate = Estimate(
        "largest over smallest ratio", float(np.exp(max(logs) - min(logs))), n=len(result.minority),
        method="across metrics, at the balanced share",
    )  # fmt: skip
    groups = {name: {"ratio": float(np.exp(entries[at].estimate.value))} for name, entries in result.ratios.items()}

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        if worse and better:
            return "supported", (
                f"The metric decides who is worse off: {minority} by {_by(worse)}, {majority} by {_by(better)}."
            )
        if len(worse) == len(result.ratios) or len(better) == len(result.ratios):
            return "refuted", f"All {len(result.ratios)} metrics agree on who is worse off."
        return "insufficient", "No two metrics contradict each other for certain; not all of them see a gap."

    return Draft(
        f"metric_decides:{result.design.attribute}", "Does the answer depend on the metric of reconstruction?", groups,
        estimate, judge,
        rests_on=(
            "each metric's interval at 95 %, not corrected for their number",
            "squared error in sRGB is not fair between tones: dark skin has a smaller range of values",
        ),
    )  # fmt: skip


def _silent(result: Study, score: str) -> Draft:
    k = 0
    share = result.settings.shares[k]
    name = words.score(score)
    estimate = result.judged[score].for_group[k]
    _, minority = result.design.groups
    gap = result.ratios[result.settings.metric][k].estimate

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"AUROC {estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
        trained = f"{minority} with {100 * share:.0f} % of it in training"
        if gap.low <= 0:
            return (
                "insufficient",
                f"The model shows no evident loss on {trained}: there is nothing to warn of ({said}).",
            )
        if estimate.high < NOTICED:
            return "supported", f"{words.capital(name)} does not flag {trained}: {said}."
        if estimate.low > NOTICED:
            return "refuted", f"{words.capital(name)} flags {trained}: {said}."
        return "insufficient", f"These data cannot tell whether {name} flags {trained}: {said}."

    return Draft(
        f"silent:{result.design.attribute}:{score}", f"Does {name} stay silent about a group that training neglected?",
        {}, estimate, judge, rests_on=(f"silent: the whole interval below an AUROC of {NOTICED:g}", *_rests(result)),
    )  # fmt: skip


def _blind(result: Study, score: str) -> Draft:
    at = result.settings.balanced
    name = words.score(score)
    estimate = result.judged[score].for_worst[at]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"AUROC {estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
        what = f"the worst {100 * WORST:.0f} % of reconstructions"
        if estimate.high < NOTICED:
            return "supported", f"{words.capital(name)} does not find {what}: {said}."
        if estimate.low > NOTICED:
            return "refuted", f"{words.capital(name)} finds {what}: {said}."
        return "insufficient", f"These data cannot tell whether {name} finds {what}: {said}."

    return Draft(
        f"blind:{score}", f"Does {name} miss the worst reconstructions?", {}, estimate, judge,
        rests_on=(f"blind: the whole interval below an AUROC of {NOTICED:g}", *_rests(result)),
    )  # fmt: skip


def _brightness(result: Study, score: str) -> Draft:
    name = words.score(score)
    estimate = result.judged[score].follows_brightness[result.settings.balanced]
    bright = result.judged[score].with_luminance[result.settings.balanced]
    error = result.judged[score].with_error[result.settings.balanced]

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        said = f"rho {bright.value:.2f} with brightness, {error.value:.2f} with error"
        if estimate.low > 0 and adjusted.p_adjusted < 0.05:
            return "supported", f"{words.capital(name)} follows the image's brightness more than its error: {said}."
        if estimate.high < 0:
            return "refuted", f"{words.capital(name)} follows error more than brightness: {said}."
        return "insufficient", f"{words.capital(name)} follows brightness and error about alike: {said}."

    return Draft(
        f"brightness:{score}", f"Is {name} a measure of brightness rather than of error?", {}, estimate, judge,
        rests_on=("|Spearman with mean luminance| minus Spearman with error, at the balanced share", *_rests(result)),
    )  # fmt: skip


def _groups(result: Study, ratio: Ratio) -> dict[str, dict[str, float]]:
    minority = result.minority
    counts = (int((~minority).sum()), int(minority.sum()))
    return {
        name: {"n": counts[g], "patients": result.patients[g], "mean": ratio.means[g]}
        for g, name in enumerate(result.design.groups)
    }


def _rests(result: Study) -> tuple[str, ...]:
    settings = result.settings
    return (
        f"{result.design.train_size} training images at every share, {settings.seeds} trainings each",
        f"patients ({sum(result.patients)}) and trainings both resampled or counted in the interval",
    )


def _by(names: list[str]) -> str:
    return words.listed([words.metric(name) for name in names])
