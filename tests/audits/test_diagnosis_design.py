"""The design: what differs between two trainings, and what must not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.audits.diagnosis.design import BALANCED, BASELINE, BIASED, GOLD, SILVER, make
from medaudit.audits.diagnosis.difficulty import difficulty_of, easy_labels
from medaudit.audits.diagnosis.trainings import file_names, tasks
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError, UsageError

LEVELS = ("easy", "hard")


def people(sizes=(40, 70, 50), images_each=1, **more):
    """A cohort of groups a, b, c, with several images of each patient."""
    group = np.repeat(list("abcdef"[: len(sizes)]), sizes)
    rows = np.repeat(np.arange(group.size), images_each)
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(rows.size)],
            "patient_id": [f"p{i}" for i in rows],
            "group": group[rows],
            **{name: np.asarray(values)[rows] for name, values in more.items()},
        }
    )
    return Cohort("people", table, Path())


def design_of(cohort, hard=None, n_folds=5, **more):
    n = len(cohort)
    asked = {
        "gold": np.ones(n, bool),
        "silver": np.ones(n, bool),
        "easy": np.ones(n, bool),
        "difficulty": np.full(n, -1) if hard is None else np.asarray(hard, dtype=np.int64),
        "levels": () if hard is None else LEVELS,
        "n_folds": n_folds,
        "min_patients": 20,
        "seed": 0,
    }
    return make(cohort, Grouping.parse("group").apply(cohort), **(asked | more))


def test_every_training_has_the_same_number_of_cases_of_each_group():
    cohort = people()
    hard = np.arange(len(cohort)) % 2
    design = design_of(cohort, hard)
    assert design.names == (BASELINE, "swap-a", "swap-b", "swap-c", BALANCED, BIASED)
    for training in design.trainings:
        assert np.bincount(design.groups.codes[training.rows]).tolist() == [design.per_group] * 3
        assert len(set(training.rows)) == len(training.rows)


def test_balanced_difficulty_has_the_same_number_of_easy_and_of_hard_cases_in_each_group():
    cohort = people()
    hard = np.concatenate([np.arange(40) < 30, np.arange(70) < 15, np.arange(50) < 25])
    design = design_of(cohort, hard)
    rows = design.training(BALANCED).rows
    # The fewest easy cases are a's 10, the fewest hard ones b's 15: 25 a group, in all trainings.
    counts = [np.bincount(hard[rows[design.groups.codes[rows] == g]].astype(int)).tolist() for g in range(3)]
    assert counts == [[10, 15]] * 3
    assert design.per_group == 25


def test_a_swap_exchanges_the_easy_labels_of_its_group_and_nothing_else():
    cohort = people()
    easy = np.arange(len(cohort)) % 3 == 0
    design = design_of(cohort, easy=easy)
    baseline, swap = design.training(BASELINE), design.training("swap-b")
    assert np.array_equal(baseline.rows, swap.rows)
    changed = np.flatnonzero(baseline.labels != swap.labels)
    assert np.array_equal(changed, swap.swapped)
    assert set(design.groups.codes[changed]) == {1}
    assert easy[changed].all()
    expected = [i for i in baseline.rows if easy[i] and design.groups.codes[i] == 1]
    assert changed.tolist() == expected


def test_the_silver_trained_model_sees_the_baselines_cases_with_automated_labels():
    design = design_of(people())
    biased = design.training(BIASED)
    assert np.array_equal(biased.rows, design.training(BASELINE).rows)
    assert set(biased.labels[biased.rows]) == {SILVER}
    assert set(design.training(BASELINE).labels) == {GOLD}


def test_no_patient_is_predicted_by_a_model_that_has_seen_a_case_of_theirs():
    cohort = people(images_each=3)
    design = design_of(cohort)
    patients = np.asarray(cohort.clusters.to_list())
    predicted = {}
    for task in tasks(design, seed=0):
        assert not set(patients[list(task.rows)]) & set(patients[list(task.held_out)])
        predicted.setdefault(task.training, []).extend(task.held_out)
    assert all(sorted(rows) == list(range(len(cohort))) for rows in predicted.values())


def test_all_trainings_of_a_fold_have_one_seed_and_the_folds_have_others():
    seeds = {(task.fold, task.seed) for task in tasks(design_of(people()), seed=3)}
    assert len(seeds) == 5
    assert len({seed for _, seed in seeds}) == 5


def test_each_fold_has_its_share_of_each_group():
    design = design_of(people())
    for g, n in enumerate((40, 70, 50)):
        counts = np.bincount(design.fold[design.groups.codes == g], minlength=5)
        assert counts.min() >= n // 5 - 1
        assert counts.max() <= n // 5 + 1


def test_what_is_missing_reduces_the_design_with_a_note():
    cohort = people()
    n = len(cohort)
    without = design_of(cohort, silver=np.zeros(n, bool))
    assert without.names == (BASELINE,)
    assert any("no automated masks" in note for note in without.notes)
    assert any("which cases are hard" in note for note in without.notes)
    unshared = design_of(cohort, hard=Grouping.parse("group").apply(cohort).codes > 0)
    assert BALANCED not in unshared.names
    assert any("share too few cases" in note for note in unshared.notes)
    none_easy = design_of(cohort, easy=np.arange(n) >= 40)
    assert "swap-a" not in none_easy.names
    assert "swap-b" in none_easy.names


def test_a_group_too_small_to_be_judged_is_predicted_and_not_trained_on():
    cohort = people((40, 40, 6))
    design = design_of(cohort)
    assert design.per_group == 40
    assert not set(np.flatnonzero(design.groups.codes == 2)) & set(design.training(BASELINE).rows)
    assert design.predicted.all()


def test_cases_of_unknown_group_are_predicted_and_never_trained_on():
    cohort = people((40, 40))
    unknown = np.arange(80) % 8 == 0
    groups = ["" if lost else group for group, lost in zip(cohort.table["group"], unknown, strict=True)]
    some = Cohort("some", cohort.table.with_columns(group=pl.Series(groups)), Path())
    design = design_of(some)
    assert design.per_group == 35
    for training in design.trainings:
        assert not unknown[training.rows].any()
    assert design.predicted.all()


def test_too_few_patients_are_one_line_that_says_who_is_lacking():
    with pytest.raises(DataError, match=r"needs two group groups of 20 patients .*a 40, b 5"):
        design_of(people((40, 5)))
    with pytest.raises(DataError, match="group '1' has 4 patients, fewer than the 5 folds"):
        design_of(people((40, 4)), min_patients=2)


def test_trainings_can_be_chosen_and_a_wrong_name_says_which_there_are():
    cohort = people()
    assert design_of(cohort, wanted=(BIASED,)).names == (BASELINE, BIASED)
    assert design_of(cohort, wanted=("swap",)).names == (BASELINE, "swap-a", "swap-b", "swap-c")
    with pytest.raises(UsageError, match="no training is called 'silver'; there are: baseline, swap-a"):
        design_of(cohort, wanted=("silver",))


def test_the_design_follows_from_the_seed():
    cohort = people()
    first, same, other = (design_of(cohort, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.fold, same.fold)
    assert np.array_equal(first.training(BASELINE).rows, same.training(BASELINE).rows)
    assert not np.array_equal(first.training(BASELINE).rows, other.training(BASELINE).rows)


def quality(dice, hd95, spacing_known=True):
    n = len(dice)
    return pl.DataFrame({"dice": dice, "hd95_mm": hd95, "spacing_known": [spacing_known] * n})


def test_difficulty_is_the_papers_tiers_where_two_people_rated_the_masks():
    rated = people(
        (5,),
        rating_1=["Good", "Good", "Good", "Poor", "Acceptable"],
        rating_2=["Good", "Good", "Poor", "Poor", "Acceptable"],
    )
    measured = quality([0.9, 0.7, 0.9, 0.9, 0.9], [2.0, 2.0, 2.0, 2.0, 2.0])
    codes, levels, source = difficulty_of(measured, rated, None)
    # Table 1 of arXiv 2511.00477: tiers 1 and 1.5 are easy, 2 and 3 hard.
    assert codes.tolist() == [0, 0, 1, 1, 1]
    assert levels == LEVELS
    assert "2511.00477" in source
    assert easy_labels(measured, rated).tolist() == [True, False, False, False, False]


def test_without_ratings_nothing_says_who_is_hard_and_a_swap_goes_by_metrics():
    cohort = people((4,))
    measured = quality([0.9, 0.9, 0.7, 0.9], [2.0, 12.0, 2.0, 2.0])
    assert difficulty_of(measured, cohort, None)[1] == ()
    assert easy_labels(measured, cohort).tolist() == [True, False, False, True]
    assert easy_labels(quality([0.9] * 4, [50.0] * 4, spacing_known=False), cohort).all()


def test_a_column_can_say_who_is_hard():
    cohort = people((4,), grade=[1, 2, 1, 2], size=[0.1, 5.0, 20.0, 30.0])
    assert difficulty_of(None, cohort, "grade")[0].tolist() == [0, 1, 0, 1]
    assert difficulty_of(None, cohort, "size:10")[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(UsageError, match="has 1 levels; expected 2 to 5"):
        difficulty_of(None, people((3,), grade=[1, 1, 1]), "grade")


def test_files_are_named_by_the_case_where_that_can_be_a_name():
    assert file_names(people((2,))) == ["c0", "c1"]
    odd = people((2,))
    for ids in (["a/b", "c"], ["A", "a"], ["..", "b"]):
        renamed = Cohort("odd", odd.table.with_columns(case_id=pl.Series(ids)), Path())
        assert file_names(renamed) == ["case000000", "case000001"]
