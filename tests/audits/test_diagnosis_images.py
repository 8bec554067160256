"""What the images say: a latent space that knows a group, one that does not, and shapes that differ."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import kruskal

from medaudit.audits.diagnosis.images import latent, shapes
from medaudit.audits.judging.compared import compared
from medaudit.audits.judging.outcomes import measure, parse
from medaudit.cohort import Cohort, Grouping


def groups_of(n=60, patients=None):
    """Two groups a and b, compared on some score."""
    table = pl.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(2 * n)],
            "patient_id": [f"p{p}" for p in (range(2 * n) if patients is None else patients)],
            "group": ["a"] * n + ["b"] * n,
        }
    )
    scores = np.random.default_rng(0).uniform(0.5, 1, 2 * n)
    dice = measure("dice", scores)
    return compared(
        Cohort("t", table, Path()), Grouping.parse("group"), (dice,), (parse("dice>0.8", [dice]),), {"dice": scores},
        within=None, min_patients=5, resamples=199, seed=0,
    )  # fmt: skip


def features(known, seed=0, n=60, d=16):
    """Features of two folds' models, each with an offset and a scale of its own; ``known``: how far b lies from a."""
    rng = np.random.default_rng(seed)
    fold = rng.integers(0, 2, 2 * n)
    values = rng.standard_normal((2 * n, d))
    values[n:, 0] += known
    return (values * np.where(fold == 0, 1.0, 30.0)[:, None] + np.where(fold == 0, 0.0, 500.0)[:, None]), fold


def test_a_latent_space_that_knows_the_group_is_found_and_one_that_does_not_is_not():
    groups = groups_of()
    told = latent(*features(3.0), groups, permutations=199, seed=0)
    assert told.probe.auroc > 0.9
    assert told.probe.p == pytest.approx(1 / 200)
    blind = latent(*features(0.0), groups, permutations=199, seed=0)
    assert blind.probe.p > 0.05
    assert abs(blind.over_folds("ari")[0]) < 0.1
    assert told.over_folds("silhouette")[0] > blind.over_folds("silhouette")[0]


def test_agreements_are_of_each_fold_and_cases_that_were_not_predicted_are_left_out():
    values, fold = features(3.0)
    values[:10] = np.nan
    seen = latent(values, fold, groups_of(), permutations=99, seed=0)
    assert len(seen.agreements) == 2
    assert seen.probe.n == 110
    mean, sd = seen.over_folds("purity")
    assert mean == pytest.approx(np.mean([a.purity for a in seen.agreements]))
    assert sd == pytest.approx(np.std([a.purity for a in seen.agreements], ddof=1))


def measured(volume):
    return pl.DataFrame(
        {
            "reference_volume_ml": volume,
            "reference_voxels": np.where(np.isnan(volume), 0, 100),
            "reference_sphericity": 0.5,
        }
    )


def test_shapes_are_means_and_sds_by_group_with_a_test_of_ranks():
    rng = np.random.default_rng(1)
    volume = np.concatenate([rng.lognormal(3.0, 0.7, 60), rng.lognormal(2.7, 0.7, 60)])
    volume[3] = np.nan  # an empty mask has no shape
    by_name = {shape.name: shape for shape in shapes(measured(volume), groups_of(), permutations=4_999, seed=0)}
    mean, sd, n = by_name["reference_volume_ml"].by_group["a"]
    assert (mean, sd, n) == pytest.approx((np.nanmean(volume[:60]), np.nanstd(volume[:60], ddof=1), 59))
    theirs = kruskal(volume[:60][~np.isnan(volume[:60])], volume[60:]).pvalue
    assert by_name["reference_volume_ml"].p == pytest.approx(theirs, rel=0.3, abs=0.01)
    assert by_name["reference_sphericity"].p == 1.0


def test_a_patient_with_many_images_is_one_patient():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(12), 10)
    own = rng.lognormal(3, 0.7, 12)[patients]
    alone, together = (
        shapes(measured(own * 1.0), groups_of(patients=who), permutations=999, seed=0)[0].p for who in (None, patients)
    )
    assert together > alone
