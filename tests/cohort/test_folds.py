"""Folds: a patient is in one fold, groups are even, and the same seed deals the same hands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from medaudit.cohort import folds
from medaudit.errors import DataError


def women(seed=0, n=300):
    """Return patients with one to three cases each and three groups of very unequal size."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), rng.integers(1, 4, n))
    groups = rng.choice(["few", "some", "many"], n, p=[0.06, 0.24, 0.7])[patients]
    return patients, groups


@given(seed=st.integers(0, 10_000), k=st.integers(2, 4))
def test_a_patient_is_never_in_two_folds(seed, k):
    patients, groups = women(seed, n=120)
    if min(np.unique(patients[groups == g]).size for g in np.unique(groups)) < k:
        return
    dealt = folds(patients, groups, k, seed)
    assert set(dealt) == set(range(k))
    assert all(np.unique(dealt[patients == p]).size == 1 for p in np.unique(patients))


def test_with_one_case_a_patient_every_group_is_even_to_one_case():
    groups = ["a"] * 53 + ["b"] * 11 + ["c"] * 7
    dealt = folds(range(71), groups, 5, seed=1)
    for group in "abc":
        counts = np.bincount(dealt[np.array(groups) == group], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(dealt)
    assert sizes.max() - sizes.min() <= 2


def test_groups_are_spread_no_worse_than_by_scikit_learn():
    patients, groups = women()

    def unevenness(dealt):
        table = np.array([[np.sum((dealt == f) & (groups == g)) for g in np.unique(groups)] for f in range(5)])
        return np.std(table / table.sum(axis=0), axis=0).max()

    theirs = np.empty(len(groups), int)
    for i, (_, test) in enumerate(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, groups, patients)
    ):
        theirs[test] = i
    assert unevenness(folds(patients, groups, 5, seed=0)) <= unevenness(theirs) + 0.005


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    patients, groups = women()
    dealt = folds(patients, groups, 5, seed=3)
    order = np.random.default_rng(9).permutation(len(patients))
    assert np.array_equal(folds(patients[order], groups[order], 5, seed=3), dealt[order])
    assert not np.array_equal(folds(patients, groups, 5, seed=4), dealt)


def test_a_group_with_fewer_patients_than_folds_is_named():
    with pytest.raises(DataError, match="group 'rare' has 2 patients, fewer than the 3 folds"):
        folds(["p", "p", "q", "r", "s", "t"], ["rare", "rare", "rare", "x", "x", "x"], 3, 0)


def test_patients_of_unknown_group_are_dealt_too_and_need_not_be_many():
    dealt = folds(range(9), ["a"] * 4 + ["b"] * 4 + [None], 4, 0)
    assert sorted(np.bincount(dealt)) == [2, 2, 2, 3]
