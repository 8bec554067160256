"""The audit names what was planted, does not find what was not, and says when it cannot tell."""

import numpy as np
import polars as pl
import pytest

from medaudit.audits.labels.run import audit_scores
from medaudit.audits.labels.study import Settings
from medaudit.datasets import simulated_scores

FAST = 999


def verdicts(plant, *, size=1506, seed=0, **settings):
    cohort = simulated_scores("mama-mia-scores", plant=plant, size=size, seed=seed)
    asked = Settings(
        **{"by": ("age:40,55",), "within": "source", "measures": ("dice",), "resamples": FAST, "seed": seed, **settings}
    )
    return {finding.id: finding for finding in audit_scores(cohort, asked, out=None).findings}


def test_an_intrinsic_gap_is_found_and_not_put_down_to_the_source():
    found = verdicts("intrinsic")
    assert found["gap:age:dice"].verdict == "supported"
    assert found["trend:age:dice"].verdict == "supported"
    assert found["confounding:age:dice"].verdict == "refuted"


@pytest.mark.parametrize("seed", range(5))
def test_a_gap_that_is_one_of_sources_is_never_called_intrinsic(seed):
    found = verdicts("confounded", seed=seed)
    assert found["gap:age:dice"].verdict == "supported"
    assert found["confounding:age:dice"].verdict != "refuted"


def test_a_gap_that_is_one_of_sources_is_put_down_to_them():
    named = [verdicts("confounded", seed=seed)["confounding:age:dice"].verdict for seed in range(5)]
    assert named.count("supported") >= 3


def test_a_gap_hidden_by_pooling_is_found():
    found = verdicts("masked", by=("ethnicity",))
    assert found["masking:ethnicity:dice"].verdict == "supported"
    assert "ISPY2" in found["masking:ethnicity:dice"].claim


def test_nothing_is_found_where_nothing_was_planted():
    problems = [
        finding.id
        for seed in range(6)
        for finding in verdicts("none", seed=seed, by=("age:40,55", "ethnicity")).values()
        if finding.verdict == "supported"
    ]
    # Six studies of two groupings at a family-wise 5 %: about 0.6 claims are expected by chance.
    assert len(problems) <= 3, problems


def test_a_small_cohort_is_told_that_it_cannot_know():
    found = verdicts("none", size=60, min_patients=5)
    assert found["gap:age:dice"].verdict == "insufficient"
    assert found["gap:age:dice"].estimate.extra["detectable"] > 0.1


def test_groups_below_the_minimum_are_shown_and_not_judged():
    found = verdicts("none", by=("ethnicity",), min_patients=50)
    groups = found["gap:ethnicity:dice"].groups
    assert groups["other"]["judged"] is False
    assert groups["other"]["n"] == 35
    assert found["gap:ethnicity:dice"].estimate.n == 1128 + 241 + 86


def test_equal_groups_of_a_large_cohort_are_called_equal():
    rng = np.random.default_rng(3)
    table = pl.DataFrame(
        {"case_id": [f"c{i}" for i in range(3000)], "sex": ["f", "m"] * 1500, "dice": rng.beta(9, 1, 3000)}
    )
    from pathlib import Path

    from medaudit.cohort import Cohort

    asked = Settings(by=("sex",), measures=("dice",), resamples=FAST)
    found = {f.id: f for f in audit_scores(Cohort("t", table, Path()), asked, out=None).findings}
    assert found["gap:sex:dice"].verdict == "refuted"
    assert found["dir:sex:dice>0.8"].verdict == "refuted"


def test_missed_lesions_make_their_group_look_worse_not_better():
    rng = np.random.default_rng(0)
    n = 600
    young = np.arange(n) < n // 2
    hd95 = rng.gamma(2, 3, n)
    hd95[young & (rng.random(n) < 0.1)] = np.inf  # one mask is empty
    from pathlib import Path

    from medaudit.cohort import Cohort

    table = pl.DataFrame(
        {"case_id": [str(i) for i in range(n)], "group": np.where(young, "young", "old"), "hd95_mm": hd95}
    )
    asked = Settings(by=("group",), measures=("hd95_mm",), resamples=FAST)
    found = {f.id: f for f in audit_scores(Cohort("t", table, Path()), asked, out=None).findings}
    gap = found["gap:group:hd95_mm"]
    assert gap.verdict == "supported"
    assert gap.groups["young"]["mean"] > gap.groups["old"]["mean"]


def test_every_finding_says_its_groups_numbers_and_what_it_rests_on():
    for finding in verdicts("mama-mia").values():
        plain = finding.as_dict()
        assert set(plain["groups"]) == {"<=40", "(40, 55]", ">55"}
        assert plain["claim"].endswith(".")
        assert plain["rests_on"]
        assert {"name", "value", "low", "high", "p", "p_adjusted", "n", "method", "unit"} <= set(plain["estimate"])
