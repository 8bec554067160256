"""Who trains at which share: the number asked for, nobody twice, nobody on both sides, and what cannot be dealt."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from medaudit.audits.generative.design import Design, plan
from medaudit.audits.generative.settings import Settings
from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError


def cohort(light: int, dark: int, *, unknown: int = 0, per_patient: int = 1, **columns: list) -> Cohort:
    tone = ["light"] * light + ["dark"] * dark + [None] * unknown
    order = np.random.default_rng(0).permutation(len(tone))
    table = pl.DataFrame(
        {
            "case_id": [f"c{i:04d}" for i in range(len(tone))],
            "patient_id": [f"p{i // per_patient:04d}" for i in range(len(tone))],
            "tone": [tone[i] for i in order],
            **columns,
        }
    )
    return Cohort("made up", table, None, {})  # type: ignore[arg-type]


def settings(*shares: float, **options: object) -> Settings:
    return Settings(**{"group": "tone", "shares": shares or (0.0, 0.25, 0.5, 0.75, 1.0), **options})  # type: ignore


def dark_of(design: Design, share: float, seed: int = 0) -> set[int]:
    return {int(row) for row in design.training_rows(share, seed) if design.code[row] == 1}


@pytest.mark.parametrize("shares", [(0.0, 0.5, 1.0), (0.1, 0.37, 0.93), (0.5,), (0.0,), (1.0,), (1 / 3, 2 / 3)])
@pytest.mark.parametrize(("light", "dark"), [(400, 100), (150, 149), (60, 300)])
def test_every_share_has_its_number_and_one_more_image_could_not_be_had(
    shares: tuple[float, ...], light: int, dark: int
) -> None:
    design = plan(cohort(light, dark), settings(*shares, minority="dark"))
    size = design.train_size
    for share in shares:
        rows = design.training_rows(share, 0)
        assert len(np.unique(rows)) == len(rows) == size
        assert len(dark_of(design, share)) == round(share * size)
        assert not set(rows.tolist()) & set(design.test.tolist())

    def can_be_had(n: int) -> bool:
        return all(
            round(share * n) <= len(design.pools[1]) and n - round(share * n) <= len(design.pools[0])
            for share in shares
        )

    assert can_be_had(size)
    assert not any(can_be_had(n) for n in range(size + 2, size + 10))


def test_sets_are_nested_across_shares_within_a_seed_and_differ_between_seeds() -> None:
    shares = (0.0, 0.2, 0.5, 1.0)
    design = plan(cohort(300, 200), settings(*shares))
    for seed in range(3):
        for g in (0, 1):
            sets = [
                {int(row) for row in design.training_rows(share, seed) if design.code[row] == g} for share in shares
            ]
            rising = sets if g else sets[::-1]
            assert all(a <= b for a, b in pairwise(rising))
    assert dark_of(design, 0.5, 0) != dark_of(design, 0.5, 1)
    np.testing.assert_array_equal(design.training_rows(0.5, 0), design.training_rows(0.5, 0))


def test_a_patients_images_are_all_on_one_side_and_the_test_sets_share_is_near_what_was_asked() -> None:
    design = plan(cohort(350, 250, per_patient=3), settings(test_share=0.4))
    trained = np.concatenate(design.pools)
    assert not set(design.clusters[trained]) & set(design.clusters[design.test])
    assert len(trained) + len(design.test) == 600
    for g in (0, 1):
        share = (design.code[design.test] == g).sum() / (design.code == g).sum()
        assert share == pytest.approx(0.4, abs=0.04)


def test_kinds_to_be_standardised_are_dealt_alike() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.choice(["a", "b", "c"], 900, p=[0.6, 0.3, 0.1]).tolist()
    design = plan(cohort(500, 400, diagnosis=kinds), settings(standardise="diagnosis"))
    assert design.strata is not None
    assert set(design.strata_labels) == {"a", "b", "c"}
    for g in (0, 1):
        for k in range(3):
            inside = (design.code == g) & (design.strata == k)
            assert inside[design.test].sum() / inside.sum() == pytest.approx(0.3, abs=0.05)


def test_the_minority_is_the_smaller_group_unless_it_is_named() -> None:
    assert plan(cohort(100, 60), settings()).groups == ("light", "dark")
    assert plan(cohort(60, 100), settings()).groups == ("dark", "light")
    named = plan(cohort(100, 60), settings(minority="light"))
    assert named.groups == ("dark", "light")
    assert len(named.pools[1]) > len(named.pools[0])


def test_a_number_is_cut_at_its_edge() -> None:
    scale = np.random.default_rng(2).integers(1, 7, 300).tolist()
    design = plan(cohort(200, 100, scale=scale), settings(group="scale:3"))
    high = np.asarray(scale) > 3  # Fitzpatrick I to III against IV to VI
    assert len(set(design.code[high])) == len(set(design.code[~high])) == 1
    assert set(design.code[high]) != set(design.code[~high])


def test_who_is_of_no_known_group_is_neither_trained_on_nor_tested_and_is_counted() -> None:
    cases = cohort(120, 90, unknown=17)
    design = plan(cases, settings())
    missing = set(np.flatnonzero(cases.table["tone"].is_null().to_numpy()))
    assert len(missing) == 17
    assert not missing & {*design.test.tolist(), *np.concatenate(design.pools).tolist()}
    assert design.notes == ("17 cases are left out: tone is not known of them.",)


def test_the_deal_follows_from_the_seed() -> None:
    cases = cohort(200, 100)
    first, again, other = (plan(cases, settings(seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.test, again.test)
    assert set(first.test) != set(other.test)


@pytest.mark.parametrize(
    ("light", "dark", "options", "kind", "said"),
    [
        (100, 0, {}, UsageError, "makes 1 groups"),
        (100, 60, {"minority": "green"}, UsageError, "--minority green: not a group of tone"),
        (100, 60, {"group": "nothing"}, UsageError, "no column 'nothing'"),
        (100, 60, {"group": "tone:3"}, DataError, "case c0000 .*expected a number"),
        (100, 60, {"train": 61}, UsageError, "at most 42"),
        (100, 1, {}, DataError, "'dark' has too few patients"),
        (100, 6, {}, DataError, "expected 8 or more"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    light: int, dark: int, options: dict, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        plan(cohort(light, dark), settings(**options))


def test_three_groups_are_refused_with_how_to_make_two() -> None:
    three = cohort(60, 60, skin=(["a", "b", "c"] * 40))
    with pytest.raises(UsageError, match=r"makes 3 groups .*cut a number at an edge"):
        plan(three, settings(group="skin"))


def test_the_largest_train_that_is_named_can_be_asked_for() -> None:
    cases = cohort(100, 60)
    most = plan(cases, settings()).train_size
    assert plan(cases, settings(train=most)).train_size == most
    with pytest.raises(UsageError, match=f"at most {most}"):
        plan(cases, settings(train=most + 1))
