"""The audit of generators on made-up measurements: what was planted is found, and nothing where nothing was."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from medaudit.audits.generative.design import Design, plan
from medaudit.audits.generative.findings import findings
from medaudit.audits.generative.settings import Settings
from medaudit.audits.generative.study import Measured, Study, study
from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError
from medaudit.report import Finding

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def settings(**options: object) -> Settings:
    chosen = {"group": "tone", "minority": "dark", "shares": SHARES, "seeds": 3, "resamples": 400, "rank": 0, **options}
    return Settings(**chosen)  # type: ignore[arg-type]


def cohort(n: int = 400, seed: int = 0, patients: int | None = None) -> Cohort:
    rng = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i:04d}" for i in range(n)],
            "patient_id": [f"p{i % (patients or n):04d}" for i in range(n)],
            "tone": rng.choice(["light", "dark"], n, p=[0.6, 0.4]),
            "diagnosis": rng.choice(["a", "b"], n),
        }
    )
    return Cohort("made up", table, None, {})  # type: ignore[arg-type]


def planned(n: int = 400, **options: object) -> Design:
    return plan(cohort(n), settings(**options))


def measured(design: Design, rng: np.random.Generator, gap: float = 0.0, slope: float = 0.0) -> Measured:
    """Return errors with a planted log ratio at balance and a planted effect of a group's own share."""
    dark = design.code[design.test] == 1
    base = rng.normal(0, 0.4, len(dark))
    shares = np.asarray(SHARES)[:, None, None]
    own = np.where(dark, shares, 1 - shares)
    training = rng.normal(0, 0.03, (len(SHARES), 3, 1))
    log = base + gap * dark + slope * (0.5 - own) + training + rng.normal(0, 0.05, (len(SHARES), 3, len(dark)))
    error = 0.01 * np.exp(log)
    noise = rng.normal(size=error.shape)
    scores = {"slug": error * np.exp(0.1 * noise), "encoder_variance": rng.normal(size=error.shape)}
    return Measured(design.test, {"normalised_error": error, "squared_error": error}, scores, rng.random(len(dark)))


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {finding.id: finding.verdict for finding in found}


def test_every_training_has_one_size_and_its_share_and_sets_are_nested() -> None:
    design = planned()
    for seed in range(2):
        before: set[int] = set()
        for share in SHARES:
            rows = design.training_rows(share, seed)
            assert len(rows) == len(set(rows.tolist())) == design.train_size  # nobody is drawn twice
            dark = {int(row) for row in rows if design.code[row] == 1}
            assert len(dark) == round(share * design.train_size)
            assert before <= dark
            before = dark
    assert set(design.training_rows(0.5, 0)) != set(design.training_rows(0.5, 1))


def test_a_patient_is_trained_on_or_tested_and_never_both() -> None:
    design = plan(cohort(400, patients=90), settings())
    pool = np.concatenate(design.pools)
    assert not set(design.clusters[pool]) & set(design.clusters[design.test])
    assert sorted([*pool, *design.test]) == list(range(400))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"group": "case_id"}, UsageError, "more than the 40"),
        ({"group": "diagnosis*tone", "minority": None}, UsageError, "expected two"),
        ({"minority": "green"}, UsageError, "there are: dark, light|there are: light, dark"),
        ({"train": 10_000}, UsageError, "at most"),
        ({"test_share": 0.999}, DataError, "too few|can be had"),
    ],
)
def test_groups_that_cannot_be_swept_are_refused(options: dict, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        planned(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": (0.5, 0.2)}, "must rise"),
        ({"shares": (0.5, 1.2)}, "from 0 to 1"),
        ({"preset": "huge"}, "no preset"),
        ({"train": 3}, "8 or more"),
        ({"margin": 0.0}, "more than 0"),
        ({"beta": -1.0}, "0 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings(**options)


def test_the_smaller_group_is_the_minority_and_unknown_cases_are_left_out() -> None:
    table = cohort().table.with_columns(tone=pl.when(pl.int_range(pl.len()) < 10).then(None).otherwise(pl.col("tone")))
    design = plan(Cohort("x", table, None, {}), settings(minority=None))  # type: ignore[arg-type]
    assert design.groups == ("light", "dark")
    assert design.notes == ("10 cases are left out: tone is not known of them.",)


def test_a_planted_gap_and_planted_representation_are_recovered() -> None:
    design = planned(800)
    result = study(design, measured(design, np.random.default_rng(0), gap=0.5, slope=0.8), settings())
    ratio = result.ratios["normalised_error"][2].estimate
    assert ratio.low < 0.5 < ratio.high
    for g in (0, 1):
        estimate = result.representation["normalised_error"][g]
        assert estimate.low < 0.8 < estimate.high
    # log ratio = gap + slope (0.5 - share) - slope (share - 0.5) is 0 where share = 0.5 + 0.5 / 1.6
    cross = result.crossing["normalised_error"]
    assert cross.low < 0.5 + 0.5 / 1.6 < cross.high
    found = verdicts(findings(result))
    assert found["gap:tone:normalised_error"] == "supported"
    assert found["representation:tone:dark:normalised_error"] == "supported"
    assert found["representation:tone:light:normalised_error"] == "supported"


def test_where_nothing_was_planted_nothing_is_found() -> None:
    design = planned(800)
    found = verdicts(findings(study(design, measured(design, np.random.default_rng(3)), settings())))
    assert found["gap:tone:normalised_error"] in ("refuted", "insufficient")
    assert found["representation:tone:dark:normalised_error"] in ("refuted", "insufficient")
    assert found["metric_decides:tone"] != "supported"


def test_the_interval_of_the_gap_covers_0_for_groups_by_lot() -> None:
    """The null test: 200 times groups by lot, over images and trainings that both vary; 0 in 93 % or more."""
    design = planned()
    chosen = settings(resamples=200)
    inside = 0
    for run in range(200):
        rng = np.random.default_rng((7, run))
        by_lot = Design(**{**design.__dict__, "code": rng.permutation(design.code)})
        made = measured(by_lot, rng)
        made = Measured(made.rows, {"normalised_error": made.errors["normalised_error"],
                                    "squared_error": made.errors["squared_error"]}, {}, made.luminance)  # fmt: skip
        estimate = study(by_lot, made, chosen).ratios["normalised_error"][2].estimate
        inside += estimate.low <= 0 <= estimate.high
    assert inside / 200 >= 0.93


def confounded(explained: bool) -> Study:
    """Return a study in which the gap is one of diagnoses, or of tones."""
    rng = np.random.default_rng(1)
    n = 1_200
    dark = rng.random(n) < 0.5
    hard = rng.random(n) < np.where(dark, 0.75, 0.25)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i:04d}" for i in range(n)],
            "tone": np.where(dark, "dark", "light"),
            "diagnosis": np.where(hard, "b", "a"),
        }
    )
    chosen = settings(standardise="diagnosis")
    design = plan(Cohort("x", table, None, {}), chosen)  # type: ignore[arg-type]
    cause = (hard if explained else dark)[design.test]
    error = 0.01 * np.exp(0.6 * cause + rng.normal(0, 0.2, len(cause)) + rng.normal(0, 0.02, (len(SHARES), 3, 1)))
    return study(design, Measured(design.test, {"normalised_error": error, "squared_error": error}, {},
                                  rng.random(len(cause))), chosen)  # fmt: skip


def test_a_gap_that_is_a_mix_of_diagnoses_is_explained_and_one_of_tone_is_not() -> None:
    key = "explained:tone:diagnosis:normalised_error"
    assert verdicts(findings(confounded(True)))[key] == "supported"
    assert verdicts(findings(confounded(False)))[key] == "refuted"


def test_metrics_that_contradict_each_other_are_a_finding() -> None:
    design = planned(800)
    made = measured(design, np.random.default_rng(0), gap=0.5)
    dark = design.code[design.test] == 1
    other = made.errors["normalised_error"] * np.exp(-1.0 * dark)
    both = Measured(made.rows, {**made.errors, "squared_error": other}, {}, made.luminance)
    found = {finding.id: finding for finding in findings(study(design, both, settings()))}
    assert found["metric_decides:tone"].verdict == "supported"
    assert "dark by error over the image's own variance" in found["metric_decides:tone"].claim


def test_scores_are_judged_by_what_they_follow() -> None:
    design = planned(2_400)
    rng = np.random.default_rng(2)
    made = measured(design, rng, gap=1.0, slope=1.0)
    error = made.errors["squared_error"]
    light = rng.random(error.shape[-1])
    scores = {
        "follows": error * np.exp(0.1 * rng.normal(size=error.shape)),
        "noise": rng.normal(size=error.shape),
        "bright": np.broadcast_to(light, error.shape) + 0.01 * rng.normal(size=error.shape),
        "encoder_variance": rng.normal(size=error.shape),
    }
    result = study(design, Measured(made.rows, made.errors, scores, light), settings())
    found = verdicts(findings(result))
    assert found["silent:tone:follows"] == "refuted"
    assert found["silent:tone:noise"] == "supported"
    assert found["blind:follows"] == "refuted"
    assert found["blind:noise"] == "supported"
    assert found["brightness:bright"] == "supported"
    assert found["brightness:follows"] == "refuted"
    assert result.beats["follows"].low > 0.5
    assert result.judged["bright"].with_luminance[0].value > 0.95


def test_one_training_or_few_patients_cannot_tell() -> None:
    design = planned()
    made = measured(design, np.random.default_rng(0), gap=1.0)
    few = findings(study(design, made, settings(min_patients=1_000)))
    assert [finding.verdict for finding in few] == ["insufficient"]
    one = Measured(made.rows, {k: v[:, :1] for k, v in made.errors.items()}, {}, made.luminance)
    alone = findings(study(design, one, settings(seeds=1)))
    assert [finding.verdict for finding in alone] == ["insufficient"]
    assert "another would give" in alone[0].claim
