"""The findings: was it worth it, against whom not, and did a test see what the pretraining had seen?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medaudit.audits.judging.conclude import Draft, Judge, conclude, insufficient
from medaudit.audits.pretraining import words
from medaudit.audits.pretraining.overlaps import Overlaps
from medaudit.audits.pretraining.study import Judged, Study
from medaudit.report import Finding, Verdict
from medaudit.statistics import Estimate

WORTH = "not_worth_it"


def findings(result: Study, overlaps: Overlaps) -> list[Finding]:
    """Return the study's findings, the answer first; an answer's ``refuted`` says that it was worth it."""
    return conclude(list(_drafts(result, overlaps)))


def _drafts(result: Study, overlaps: Overlaps) -> Iterator[Draft]:
    measure = result.settings.measure
    for own in result.own:
        yield _answer(result, own, measure)
    for own in result.own:
        for other in result.others:
            yield _against(result, own, other, measure)
    yield from _leaks(overlaps)


def _answer(result: Study, own: Judged, measure: str) -> Draft:
    """Was it worth it: better than every opponent, or not better than some."""
    s = result.settings
    question = (
        f"Was pretraining {own.contender.title} not worth it for {words.task(result)} ({words.measure(measure)})?"
    )
    if result.patients < s.min_patients:
        return insufficient(
            f"{WORTH}:{slug(own.contender.name)}:{result.plan.task}", question, _few(result), _groups(result, [own]),
            len(result.test),
        )  # fmt: skip
    gains = {other.contender.title: result.gain(own, other, measure) for other in result.others}
    title, hardest = min(gains.items(), key=lambda pair: pair[1].value)
    verdict, claim = verdict_of(own.contender.title, gains, s.margin, measure)
    # Better than every one is shown at the level of each test; no worse than the margin against some one is not.
    one = "one training: its interval is of patients alone" if len(own.case) == 1 else f"{len(own.case)} trainings"
    return Draft(
        f"{WORTH}:{slug(own.contender.name)}:{result.plan.task}", question, _groups(result, [own, *result.others]),
        hardest,
        lambda adjusted: (verdict, claim),
        rests_on=(
            f"the hardest opponent is {title}; estimate: own minus that one",
            f"worth it: better than each of {len(gains)} opponents; not worth it: against one of them the interval "
            f"ends below the margin of {s.margin:g}",
            one, *words.rests(result),
        ),
        primary=True,
    )  # fmt: skip


def verdict_of(own: str, gains: Mapping[str, Estimate], margin: float, measure: str) -> tuple[Verdict, str]:
    """Return the answer: ``refuted`` (it was worth it), ``supported`` (it was not), ``insufficient``; and the claim."""
    said = words.measure(measure)
    worst = [(name, gain) for name, gain in gains.items() if gain.high < margin]
    if worst:
        name, gain = min(worst, key=lambda pair: pair[1].high)
        more = "worse than" if gain.high < 0 else f"not better by {margin:g} than"
        return "supported", (
            f"Not worth it: {own} is {more} {name} in {said} ({gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f})."
        )
    name, gain = min(gains.items(), key=lambda pair: pair[1].low)
    if gain.low > 0:
        return "refuted", (
            f"Worth it: {own} is better than all {len(gains)} opponents in {said}, than the hardest, {name}, by "
            f"{gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})."
        )
    return "insufficient", (
        f"These data cannot tell whether {own} is better than {name} in {said} "
        f"({gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f})."
    )


def _against(result: Study, own: Judged, other: Judged, measure: str) -> Draft:
    gain = result.gain(own, other, measure)
    margin, a, b = result.settings.margin, own.contender.title, other.contender.title
    name, question = f"no_gain:{slug(own.contender.name)}:{slug(other.contender.name)}:{result.plan.task}", (
        f"Is {a} no better than {b} for {words.task(result)}?"
    )  # fmt: skip
    if result.patients < result.settings.min_patients:
        return insufficient(name, question, _few(result), _groups(result, [own, other]), len(result.test))

    def judge(adjusted: Estimate) -> tuple[Verdict, str]:
        numbers = f"{gain.value:+.3f} {words.measure(measure)} ({gain.low:+.3f} to {gain.high:+.3f})"
        if adjusted.p_adjusted < 0.05 and gain.low > 0:
            return "refuted", f"{a} is better than {b}: {numbers}."
        if gain.high < margin:
            more = "worse than" if gain.high < 0 else "no better than"
            return "supported", f"{a} is {more} {b}: {numbers}."
        return "insufficient", f"These data cannot tell whether {a} is better than {b}: {numbers}."

    return Draft(name, question, _groups(result, [own, other]), gain, judge, rests_on=words.rests(result))


def _few(result: Study) -> str:
    least = result.settings.min_patients
    return f"There are {result.patients} test patients, fewer than {least}: these data cannot tell."


def _leaks(overlaps: Overlaps) -> Iterator[Draft]:
    for kind, found in overlaps.found.items():
        verdict: Verdict
        estimate = Estimate(
            "share of the test images", found.share, n=overlaps.test, method="hash, and correlation of near ones"
        )
        same, alike, of = len(found.identical), len(found.alike), overlaps.test
        some = f", as {(found.identical or found.alike)[0]}" if same + alike else ""
        near = f", and {alike} look like one" if same and alike else ""
        if kind == "pretraining":
            question = "Has the pretraining seen test images?"
            none, one = "No test image was in the pretraining.", "an image of the pretraining"
            there = (
                f"{same} of {of} test images were in the pretraining{some}{near}: what is said of them is transductive."
            )
        else:
            question = "Are test images copies of training images?"
            none, one = (
                "No test image is a copy of another patient's training image.",
                "another patient's training image",
            )
            there = f"{same} of {of} test images are copies of another patient's training images{some}{near}."
        if same:
            verdict, claim = "supported", there
        elif alike:
            verdict, claim = (
                "insufficient",
                f"{alike} of {of} test images look like {one}{some}: look if they are copies.",
            )
        else:
            verdict, claim = "refuted", none
        yield Draft(
            f"leak:{kind}", question, {}, estimate, _always(verdict, claim),
            rests_on=("identical pixels, or 64-bit hashes within 4 bits and a correlation of 0.98",),
        )  # fmt: skip


def slug(name: str) -> str:
    """Return a name as part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _always(verdict: Verdict, claim: str) -> Judge:
    return lambda adjusted: (verdict, claim)


def _groups(result: Study, several: list[Judged]) -> dict[str, dict[str, Any]]:
    measure = result.settings.measure
    return {
        one.contender.title: {
            "n": len(result.test),
            "patients": result.patients,
            "mean": float(one.values[measure].mean()),
            "trainings": len(one.values[measure]),
        }
        for one in several
    }
