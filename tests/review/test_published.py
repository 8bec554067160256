"""A run's findings as an artifact: its kind by the verb, what is kept of a number, what is said where none is found."""

import math
import re
from pathlib import Path

import pytest

import medaudit
from medaudit.errors import UsageError
from medaudit.report import Finding, Verdict
from medaudit.review import published, vocabulary
from medaudit.statistics import Estimate

VERBS = {
    verb
    for path in (Path(medaudit.__file__).parent / "audits").rglob("*.py")
    for verb in re.findall(r'Run\.open\([^)]*?verb="([^"]+)"', path.read_text())
}


def finding(name: str, verdict: Verdict = "supported", value: float = 0.25, low: float = 0.125) -> Finding:
    estimate = Estimate(name, value, low, 0.5, n=30, method="bootstrap of patients")
    return Finding(name, f"Is {name} so?", f"{name} is so", verdict, {}, estimate)


def run_of(verb: str) -> dict:
    return {
        "verb": verb, "settings": {"seed": 0}, "inputs": {"cases": "a" * 64}, "versions": {"medaudit": "0.1.0"},
        "started": "2026-11-27T10:00:00",
    }  # fmt: skip


def test_there_are_as_many_verbs_that_leave_a_run_as_the_program_has() -> None:
    assert {"labels", "explain audit", "prototypes train", "probe", "diagnose"} <= VERBS
    assert len(VERBS) >= 14


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_findings_of_each_verb_have_a_kind_of_their_own(verb: str) -> None:
    made = published.artifact("ddi", [finding("gap:age:dice")], run_of(verb))
    assert made.finding in vocabulary.ARTIFACTS["computed_audit"]
    assert made.finding not in ("recomputed", "other")  # the first is what a recipe computes again
    assert made.slug.startswith(f"ddi-{verb.replace(' ', '-')}-")


def test_a_verb_that_nobody_knows_is_other_and_no_recomputation() -> None:
    assert published.artifact("ddi", [finding("x")], run_of("divine")).finding == "other"


def test_what_was_found_comes_first_and_an_answer_of_cannot_tell_is_kept() -> None:
    some = [finding("a", "insufficient", math.nan), finding("b", "refuted"), finding("c", "supported", 1 / 3)]
    made = published.artifact("ddi", some, run_of("labels"))
    assert (made.title, made.severity) == ("c is so", "major")
    assert "1 supported, 1 refuted, 1 insufficient" in made.summary
    assert made.summary.index("(c)") < made.summary.index("(b)") < made.summary.index("(a)")
    assert [fact.field for fact in made.facts] == ["c", "b"]  # of a there is no number
    assert [fact.value for fact in made.facts] == [0.333333, 0.25]
    assert [one["verdict"] for one in made.run["findings"]] == ["insufficient", "refuted", "supported"]
    nothing = published.artifact("ddi", some[:2], run_of("labels"))
    assert (nothing.title, nothing.severity) == ("b is so", "info")


def test_an_interval_that_could_not_be_had_is_left_out_and_the_number_stays() -> None:
    (fact,) = published.artifact("ddi", [finding("a", low=math.nan)], run_of("ood")).facts
    assert (fact.value, fact.low, fact.high, fact.n) == (0.25, None, None, 30)


def test_the_same_run_is_the_same_artifact_and_other_settings_are_another() -> None:
    one, again = (published.artifact("ddi", [finding("a")], run_of("labels")) for _ in range(2))
    other = published.artifact("ddi", [finding("a")], run_of("labels") | {"settings": {"seed": 1}})
    assert one == again
    assert one.slug != other.slug


def test_nothing_is_not_published() -> None:
    with pytest.raises(UsageError, match="no finding to publish"):
        published.artifact("ddi", [], run_of("labels"))
