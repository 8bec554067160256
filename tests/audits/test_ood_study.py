"""Planted scores: the study names the task that misses a shift, the gate that is better, the cue that explains it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from medaudit.audits.ood.design import Design, plan
from medaudit.audits.ood.findings import findings
from medaudit.audits.ood.scores import Scores, scores_of
from medaudit.audits.ood.settings import Settings
from medaudit.audits.ood.study import Study, _over_seeds, study
from medaudit.cohort import Cohort
from medaudit.errors import DataError
from medaudit.metrics.selective import augrc

METHODS = ("softmax", "ensemble", "laplace")
TASKS = ("plane", "device")


def cohort(patients: int = 300, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    n = 3 * patients
    patient = np.repeat(np.arange(patients), 3)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "patient_id": [f"p{k}" for k in patient],
            "plane": rng.choice(["brain", "femur", "thorax"], n),
            "device": np.array(["A", "B", "D"])[patient % 3],
        }
    )
    return Cohort("made up", table, Path("."))


def settings(**changed: object) -> Settings:
    return Settings(tasks=TASKS, ood=('device == "D"',), shifts=("image",), seeds=2, resamples=400, **changed)  # type: ignore[arg-type]


def planted(
    design: Design, *, seen: dict[str, float], gates: dict[str, float], error: float = 0.15, seed: int = 0
) -> Scores:
    """Scores that differ by ``seen[task]`` SDs between test and shifted cases, by ``gates`` between right and wrong."""
    rng = np.random.default_rng(seed)
    rows = design.scored
    shifted = np.isin(rows, design.sets[0].rows)
    codes = design.task("plane").codes[rows]
    shape = (len(METHODS), len(TASKS), 2, len(rows))
    values, predicted = rng.normal(size=shape), np.zeros(shape, dtype=np.int64)
    wrong = rng.random((2, len(rows))) < error
    for s in range(2):
        predicted[:, 0, s] = np.where(wrong[s], (codes + 1) % 3, codes)
        for t, task in enumerate(TASKS):
            values[:, t, s] += seen[task] * shifted + gates[task] * wrong[s]
    return Scores(rows, METHODS, TASKS, 2, values, predicted, ("total",) * 3, {})


def studied(scores_of: dict, cue: float = 0.0, patients: int = 300, **changed: object) -> Study:
    asked = settings(**changed)
    design = plan(cohort(patients), asked)
    scores = planted(design, **scores_of)
    shifted = np.isin(scores.rows, design.sets[0].rows)
    table = np.random.default_rng(5).normal(size=(len(scores.rows), 2))
    table[:, 1] -= cue * shifted
    return study(design, scores, (("height", "mean_grey"), table), asked, ("plane",))


def by_id(result: Study) -> dict[str, object]:
    return {finding.id: finding for finding in findings(result)}


def test_numbers_are_sklearn_s_and_scipy_s() -> None:
    result = studied({"seen": {"plane": 0.3, "device": 2.0}, "gates": {"plane": 2.0, "device": 0.0}}, match="none")
    part = result.results[0]
    places = result.scores.at(part.rows)
    outside = np.repeat([0, 1], [len(part.rows_in), len(part.rows_out)])
    for m, t, s in np.ndindex(3, 2, 2):
        wanted = roc_auc_score(outside, result.scores.values[m, t, s, places])
        assert part.point["auroc"][m, t, s] == pytest.approx(wanted, abs=1e-12)
    gate = part.gates[0]
    wrong = (
        result.scores.predicted[0, 0, 1, places] != result.design.task("plane").codes[result.scores.rows[places]]
    ).astype(float)
    for m, t in np.ndindex(3, 2):
        wanted = augrc(result.scores.values[m, t, 1, places], wrong)
        assert gate.point["augrc"][m, t, 1] == pytest.approx(wanted, abs=1e-12)
    tau = by_id(result)["detector_is_not_gate:plane:device-d"].estimate.value
    wanted = kendalltau(part.mean("auroc").ravel(), -gate.point["augrc"].mean(2).ravel()).statistic
    assert tau == pytest.approx(wanted)


def test_names_what_was_planted() -> None:
    found = by_id(studied({"seen": {"plane": 0.0, "device": 3.0}, "gates": {"plane": 2.5, "device": 0.0}}))
    assert found["misses:device-d:plane"].verdict == "supported"
    assert found["misses:device-d:device"].verdict == "refuted"
    assert found["detector_is_not_gate:plane:device-d"].verdict == "supported"
    assert found["task_over_method:device-d"].verdict == "supported"
    assert found["trivial_cue:device-d"].verdict == "refuted"
    assert found["gate:plane:device-d"].verdict != "supported"  # its own score gates as well as any
    assert "device" in found["detector_is_not_gate:plane:device-d"].claim


def test_a_better_gate_is_recommended_and_a_cue_flagged() -> None:
    found = by_id(studied({"seen": {"plane": 1.0, "device": 1.0}, "gates": {"plane": 0.0, "device": 2.5}}, cue=3.0))
    gate = found["gate:plane:device-d"]
    assert gate.verdict == "supported"
    assert "of device, not by its own softmax" in gate.claim
    assert gate.estimate.high < 0
    cue = found["trivial_cue:device-d"]
    assert cue.verdict == "supported"
    assert "mean grey alone" in cue.claim


def test_nothing_planted_is_found_rarely() -> None:
    """Of 20 worlds in which every score is noise for the gate, few recommend another gate (Holm, max-t at 5 %)."""
    called = 0
    for seed in range(20):
        asked = settings(match="none")
        design = plan(cohort(seed=seed), asked)
        scores = planted(design, seen={"plane": 1.0, "device": 1.0}, gates={"plane": 1.0, "device": 1.0}, seed=seed)
        result = study(design, scores, ((), np.empty((len(scores.rows), 0))), asked, ("plane",))
        called += by_id(result)["gate:plane:device-d"].verdict == "supported"
    assert called <= 3


def test_few_patients_are_insufficient() -> None:
    found = by_id(studied({"seen": {"plane": 0.0, "device": 3.0}, "gates": {"plane": 2.0, "device": 0.0}}, patients=36))
    assert [finding.verdict for finding in found.values()] == ["insufficient"]


def test_novel_classes_are_judged_by_scod() -> None:
    asked = settings()
    design = plan(cohort(), asked)
    scores = planted(design, seen={"plane": 0.0, "device": 3.0}, gates={"plane": 2.0, "device": 0.0})
    result = study(design, scores, ((), np.empty((len(scores.rows), 0))), asked, ("device",))
    gate = result.results[0].gates[0]
    assert gate.novel
    outside = np.repeat([False, True], [len(result.results[0].rows_in), len(result.results[0].rows_out)])
    assert (gate.loss[:, outside] == 0.5).all()
    assert set(np.unique(gate.loss[:, ~outside])) <= {0.0, 0.5}
    assert np.isnan(gate.accuracy_out).all()


def test_a_table_of_scores_comes_back_and_says_what_is_missing() -> None:
    people = cohort()
    design = plan(people, settings())
    scores = planted(design, seen={"plane": 0.0, "device": 3.0}, gates={"plane": 2.0, "device": 0.0})
    frame = scores.frame(people.case_ids, {task.name: task.classes for task in design.tasks})
    again = scores_of(frame.sample(fraction=1.0, shuffle=True, seed=1).sort("method", descending=True), design,
                      people.case_ids, "x")  # fmt: skip
    place = [again.methods.index(method) for method in scores.methods]
    np.testing.assert_array_equal(again.values[place], scores.values)
    np.testing.assert_array_equal(again.predicted[place], scores.predicted)
    for broken, says in (
        (frame.drop("method"), "no column 'method'"),
        (frame.filter(pl.col("task") != "device"), "no score of the task device"),
        (frame.filter(pl.col("case_id") != people.case_ids[design.test[0]]), "has no finite"),
        (frame.with_columns(prediction=pl.lit("Z")), "predicts 'Z'"),
        (pl.concat([frame, frame.filter(pl.col("case_id") == people.case_ids[design.test[0]])]), "has several"),
        (frame.filter((pl.col("method") != "laplace") | (pl.col("seed") != 1)), "no score of method laplace"),
    ):
        with pytest.raises(DataError, match=says):
            scores_of(broken, design, people.case_ids, "x")


def test_constant_scores_are_chance() -> None:
    asked = settings()
    design = plan(cohort(), asked)
    scores = planted(design, seen={"plane": 1.0, "device": 1.0}, gates={"plane": 1.0, "device": 1.0})
    scores.values[:] = 1.0
    result = study(design, scores, ((), np.empty((len(scores.rows), 0))), asked, ("plane",))
    assert (result.results[0].point["auroc"] == 0.5).all()
    found = by_id(result)
    assert found["misses:device-d:plane"].verdict == "supported"
    assert found["gate:plane:device-d"].verdict != "supported"


def test_a_question_without_an_answer_is_scod_too() -> None:
    """The plane of an anatomy that has none: unknown throughout. Of an image shift unknown stays unknown."""
    people = cohort()
    outside = pl.col("device") == "D"
    blank = people.table.with_columns(plane=pl.when(outside).then(None).otherwise(pl.col("plane")))
    for shift, gates in (("anatomy", 1), ("image", 0)):
        asked = Settings(tasks=TASKS, ood=('device == "D"',), shifts=(shift,), seeds=2, resamples=200)
        design = plan(Cohort("blank", blank, Path(".")), asked)
        scores = planted(design, seen={"plane": 1.0, "device": 3.0}, gates={"plane": 2.0, "device": 0.0})
        result = study(design, scores, ((), np.empty((len(scores.rows), 0))), asked, ("plane",))
        assert len(result.results[0].gates) == gates
        if gates:
            assert result.results[0].gates[0].novel
            assert np.isfinite(result.results[0].gates[0].loss).all()


def test_each_method_with_its_own_predictions() -> None:
    """By hand: accuracy on test cases, and AUGRC of the method's own errors under its own score."""
    asked = settings(match="none")
    design = plan(cohort(), asked)
    scores = planted(design, seen={"plane": 1.0, "device": 1.0}, gates={"plane": 2.0, "device": 0.0})
    codes = design.task("plane").codes[scores.rows]
    scores.predicted[1, 0] = codes  # the second method never errs
    result = study(design, scores, ((), np.empty((len(scores.rows), 0))), asked, ("plane",)).results[0]
    gate, places = result.gates[0], scores.at(result.rows)
    assert (gate.own_accuracy[1] == 1).all()
    assert (gate.own_augrc[1] == 0).all()
    wrong = (scores.predicted[2, 0, 1, places] != codes[places]).astype(float)
    assert gate.own_augrc[2, 1] == pytest.approx(augrc(scores.values[2, 0, 1, places], wrong), abs=1e-12)
    inside = wrong[: len(result.rows_in)]
    assert gate.own_accuracy[2, 1] == pytest.approx(1 - inside.mean())
    np.testing.assert_allclose(gate.own_augrc[0], gate.point["augrc"][0, 0])  # the first gates itself


@pytest.mark.parametrize("n", [2, 3, 10])
def test_what_trainings_add_to_an_interval_is_the_standard_error_of_their_mean(n: int) -> None:
    """Cases that say the same in every resample leave only the trainings, of which the textbook has the error."""
    rng = np.random.default_rng(n)
    each = 0.5 + 0.02 * rng.normal(size=(4, 1, n))
    seeds = rng.integers(0, n, (40_000, n))
    drawn = _over_seeds(np.broadcast_to(each, (len(seeds), 4, 1, n)), seeds)
    expected = each.std(axis=2, ddof=1) / np.sqrt(n)
    np.testing.assert_allclose(drawn.std(axis=0), expected, rtol=0.02)
    np.testing.assert_allclose(drawn.mean(axis=0), each.mean(axis=2), atol=4e-4)


def test_one_training_adds_nothing() -> None:
    drawn = np.random.default_rng(0).random((50, 2, 3, 1))
    np.testing.assert_array_equal(_over_seeds(drawn, np.zeros((50, 1), dtype=int)), drawn[..., 0])
