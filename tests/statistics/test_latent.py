"""Latent spaces that know the groups and that do not, against scikit-learn and against designs that mislead."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    roc_auc_score,
    silhouette_score,
)
from sklearn.preprocessing import StandardScaler

from medaudit.errors import DataError, UsageError
from medaudit.statistics import cluster_agreement, compare, linear_probe
from medaudit.statistics import latent as room


def blobs(rng, distance, sizes=(60, 50, 40), d=6):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return distance * np.eye(d)[groups] + rng.normal(size=(groups.size, d)), groups


@pytest.fixture
def fold_plans(monkeypatch):
    """The blocks of every probe made in the test: members, and (train, held out, matrix) of each fold."""
    plans, original = [], room._blocks
    monkeypatch.setattr(room, "_blocks", lambda *given: plans.append(original(*given)) or plans[-1])
    return plans


def sklearn_auroc(features, groups, block):
    """Macro AUROC of scikit-learn's ridge on the block's folds; penalty d, its intercept taken off."""
    x, labels = features[block.members], groups[block.members]
    truth = (labels[:, None] == np.unique(labels)).astype(float)
    scores = np.empty_like(truth)
    for train, held_out, _ in block.readouts:
        scaler = StandardScaler().fit(x[train])
        model = Ridge(alpha=x.shape[1]).fit(scaler.transform(x[train]), truth[train])
        scores[held_out] = model.predict(scaler.transform(x[held_out])) - model.intercept_
    return np.mean([roc_auc_score(truth[:, g], np.round(scores[:, g], 10)) for g in range(truth.shape[1])])


def test_separated_groups_are_their_clusters():
    features, groups = blobs(np.random.default_rng(0), 40.0, d=3)
    found = cluster_agreement(features, groups, seed=0)
    assert (found.purity, found.ari, found.nmi) == pytest.approx((1.0, 1.0, 1.0))
    assert found.silhouette > 0.5
    assert found.chance_purity == pytest.approx(60 / 150)


def test_groups_unknown_to_the_features_are_at_chance():
    # The numbers arXiv 2511.00477 prints for three equal groups: silhouette -.0312, purity .3943, ARI .0033, NMI .0126.
    rng = np.random.default_rng(1)
    found = cluster_agreement(rng.normal(size=(1047, 20)), np.repeat([0, 1, 2], 349), seed=0)
    assert found.ari == pytest.approx(0.0, abs=0.005)
    assert found.nmi == pytest.approx(0.0, abs=0.01)
    assert found.silhouette == pytest.approx(0.0, abs=0.01)
    assert found.chance_purity == pytest.approx(1 / 3)
    assert found.chance_purity < found.purity < 0.40


@pytest.mark.parametrize("distance", [0.0, 2.0, 4.0])
def test_agreement_is_that_of_scikit_learn(distance, monkeypatch):
    features, groups = blobs(np.random.default_rng(2), distance)
    clusters, original = [], room._k_means
    monkeypatch.setattr(room, "_k_means", lambda *given: clusters.append(original(*given)) or clusters[-1])
    monkeypatch.setattr(room, "_CHUNK_CELLS", 1000)
    found = cluster_agreement(features, groups, seed=0)
    x = StandardScaler().fit_transform(features)
    assert found.silhouette == pytest.approx(silhouette_score(x, groups), abs=1e-10)
    assert found.ari == pytest.approx(adjusted_rand_score(groups, clusters[0]), abs=1e-10)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(groups, clusters[0]), abs=1e-10)
    shared = [np.bincount(groups[clusters[0] == c]).max() for c in range(3)]
    assert found.purity == pytest.approx(sum(shared) / 150)


def test_clusters_are_as_tight_as_those_of_scikit_learn():
    x = StandardScaler().fit_transform(blobs(np.random.default_rng(3), 3.0)[0])
    ours = room._k_means(x, 3, np.random.default_rng(0))
    squares = sum(((x[ours == c] - x[ours == c].mean(axis=0)) ** 2).sum() for c in range(3))
    assert squares <= KMeans(3, n_init=10, random_state=0).fit(x).inertia_ * 1.005


def test_scale_constant_columns_and_unknown_groups_do_not_matter_to_clusters():
    rng = np.random.default_rng(4)
    features, groups = blobs(rng, 3.0)
    plain = cluster_agreement(features, groups, seed=0)
    dead = np.float32(0.3) + 1e-8 * rng.normal(size=(150, 2))
    wide = np.vstack([np.column_stack([features * [1, 10, 100, 1, 1, 1e-3] + 5, dead]), np.full((3, 8), np.nan)])
    same = cluster_agreement(wide, [*groups, -1, -1, -1], seed=0)
    assert same.silhouette == pytest.approx(plain.silhouette)
    assert (same.purity, same.ari, same.nmi) == pytest.approx((plain.purity, plain.ari, plain.nmi))


def test_a_group_of_one_case_counts_zero_in_the_silhouette():
    features, groups = blobs(np.random.default_rng(5), 3.0, (30, 20, 1))
    expected = silhouette_score(StandardScaler().fit_transform(features), groups)
    assert cluster_agreement(features, groups, seed=0).silhouette == pytest.approx(expected)


@pytest.mark.parametrize(
    ("features", "groups"),
    [
        (np.random.default_rng(6).normal(size=(9, 2)), np.zeros(9, int)),
        (np.random.default_rng(6).normal(size=(9, 2)), np.full(9, -1)),
        (np.random.default_rng(6).normal(size=(3, 2)), [0, 1, 2]),
        (np.ones((9, 2)), np.arange(9) % 2),
        (np.empty((9, 0)), np.arange(9) % 2),
    ],
)
def test_nothing_to_cluster_gives_nan(features, groups):
    found = cluster_agreement(features, groups, seed=0)
    assert np.isnan([found.silhouette, found.purity, found.ari, found.nmi, found.chance_purity]).all()


@pytest.mark.parametrize("d", [5, 200])
@pytest.mark.parametrize("n_groups", [2, 3])
def test_probe_is_scikit_learns_ridge_on_the_same_folds(d, n_groups, fold_plans):
    rng = np.random.default_rng(7)
    groups = rng.choice(n_groups, 120, p=[0.5, 0.2, 0.3] if n_groups == 3 else [0.7, 0.3])
    features = rng.normal(size=(120, d)) * rng.uniform(0.1, 10, d) + rng.normal(size=d)
    features[:, 0] += groups
    probe = linear_probe(features, compare(groups), n_permutations=9, seed=0)
    assert probe.auroc == pytest.approx(sklearn_auroc(features, groups, fold_plans[0][0]), abs=1e-8)
    assert probe.n == 120


def test_blocks_are_averaged_by_their_cases(fold_plans):
    rng = np.random.default_rng(8)
    groups, blocks = rng.integers(0, 3, 150), np.repeat([4, 0, 2], [80, 50, 20])
    features = rng.normal(size=(150, 8)) + groups[:, None] * (blocks[:, None] == 4)
    probe = linear_probe(features, compare(groups), blocks=blocks, n_permutations=9, seed=0)
    parts = fold_plans[0]
    expected = sum(part.members.size / 150 * sklearn_auroc(features, groups, part) for part in parts)
    assert [len(part.members) for part in parts] == [50, 20, 80]
    assert probe.auroc == pytest.approx(expected, abs=1e-8)


def test_patients_stay_in_one_fold_and_folds_do_not_look_at_groups(fold_plans):
    rng = np.random.default_rng(9)
    patients = rng.integers(0, 30, 100)
    for groups in (patients % 2, patients % 3):
        linear_probe(rng.normal(size=(100, 4)), compare(groups, clusters=patients), n_permutations=9, seed=0)
    first, second = (plan[0].readouts for plan in fold_plans)
    assert len(first) == 5
    for (train, held_out, _), (_, same, _) in zip(first, second, strict=True):
        assert not set(patients[train]) & set(patients[held_out])
        assert np.array_equal(held_out, same)


def test_a_planted_direction_is_found():
    rng = np.random.default_rng(10)
    groups = np.repeat([0, 1, 2], 100)
    features = rng.normal(size=(300, 40))
    assert linear_probe(features, compare(groups), seed=0).p > 0.05
    features[:, :10] += 0.5 * np.eye(3)[groups] @ rng.normal(size=(3, 10))
    probe = linear_probe(features, compare(groups), seed=0)
    assert probe.p < 0.01
    assert probe.auroc > probe.null_95 > probe.null_mean
    assert probe.null_mean == pytest.approx(0.5, abs=0.02)


def test_the_probe_finds_a_group_where_clusters_show_something_louder():
    rng = np.random.default_rng(22)
    groups, scanner = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    features = rng.normal(size=(300, 12)) + 4.0 * scanner[:, None]
    features[:, 0] += groups
    assert cluster_agreement(features, groups, seed=0).ari == pytest.approx(0.0, abs=0.02)
    assert linear_probe(features, compare(groups), n_permutations=199, seed=0).p < 0.01


def test_macro_auroc_of_one_known_and_two_alike_groups():
    # Group 0 is told apart without error (1); 1 and 2 are told from 0, not from each other: (100 + 50 / 2) / 150.
    rng = np.random.default_rng(11)
    groups = np.repeat([0, 1, 2], [1000, 500, 500])
    features = 50.0 * (groups == 0)[:, None] + rng.normal(size=(2000, 1))
    alike = (1000 + 500 / 2) / 1500
    probe = linear_probe(features, compare(groups), n_permutations=9, seed=0)
    assert probe.auroc == pytest.approx((1 + 2 * alike) / 3, abs=0.02)


def test_level_holds_with_unequal_groups_and_more_features_than_cases():
    rng = np.random.default_rng(12)
    groups = np.repeat([0, 1, 2], [30, 12, 6])
    design = compare(groups)
    p = [linear_probe(rng.normal(size=(48, 60)), design, n_permutations=99, seed=k).p for k in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_two_nearly_equal_rows_of_a_patient_are_no_evidence():
    rng = np.random.default_rng(13)
    patients = np.repeat(np.arange(40), 2)
    groups = np.repeat(np.arange(40) % 2, 2)
    honest, naive = [], []
    for k in range(100):
        features = np.repeat(rng.normal(size=(40, 10)), 2, axis=0) + 0.01 * rng.normal(size=(80, 10))
        honest.append(linear_probe(features, compare(groups, clusters=patients), n_permutations=99, seed=k).p)
        naive.append(linear_probe(features, compare(groups), n_permutations=99, seed=k).p)
    assert 0.01 <= np.mean(np.array(honest) <= 0.05) <= 0.10
    assert np.mean(np.array(naive) <= 0.05) > 0.3


def test_patients_measured_in_several_groups_keep_the_level():
    rng = np.random.default_rng(14)
    patients, groups = np.repeat(np.arange(30), 3), np.tile([0, 1, 2], 30)
    design = compare(groups, clusters=patients)
    p = [
        linear_probe(
            np.repeat(rng.normal(size=(30, 5)), 3, axis=0) + rng.normal(size=(90, 5)), design, n_permutations=99, seed=k
        ).p
        for k in range(100)
    ]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10


def test_another_model_a_block_makes_no_signal():
    # Block 0 holds mostly group 0, so that the block is a clue to the group, and the block is plain to see.
    blocks = np.repeat([0, 1], 100)
    within = []
    for k in range(100):
        rng = np.random.default_rng(k)
        groups = np.where(rng.random(200) < np.where(blocks == 0, 0.8, 0.2), 0, 1)
        features = rng.normal(size=(200, 8)) + 5.0 * blocks[:, None]
        if k < 5:
            assert linear_probe(features, compare(groups), n_permutations=199, seed=0).p < 0.01
        within.append(linear_probe(features, compare(groups), blocks=blocks, n_permutations=99, seed=0))
    assert 0.01 <= np.mean([probe.p <= 0.05 for probe in within]) <= 0.10
    assert np.mean([probe.auroc for probe in within]) == pytest.approx(0.5, abs=0.02)


def test_another_model_a_block_hides_no_signal():
    rng = np.random.default_rng(16)
    blocks, groups = np.arange(200) % 4, rng.integers(0, 2, 200)
    features = rng.normal(size=(200, 8)) + 0.8 * groups[:, None]
    plain = linear_probe(features, compare(groups), blocks=blocks, n_permutations=199, seed=0)
    moved = features * rng.choice([-10, 0.1, 1], (4, 8))[blocks] + 100 * rng.normal(size=(4, 8))[blocks]
    other = linear_probe(moved, compare(groups), blocks=blocks, n_permutations=199, seed=0)
    assert other.auroc == pytest.approx(plain.auroc)
    assert other.p == plain.p < 0.01


def test_what_a_source_shows_is_not_held_for_the_group_within_sources():
    rng = np.random.default_rng(17)
    source, blocks = np.repeat([0, 1], 100), np.arange(200) % 2
    groups = np.where(rng.random(200) < np.where(source == 0, 0.8, 0.2), 0, 1)
    features = rng.normal(size=(200, 8)) + 2.0 * source[:, None]
    assert linear_probe(features, compare(groups), blocks=blocks, n_permutations=199).p < 0.01
    within = linear_probe(features, compare(groups, strata=source), blocks=blocks, n_permutations=199)
    assert within.p > 0.05
    assert within.null_mean > 0.7


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(18)
    features, groups = rng.normal(size=(50, 4)), rng.integers(0, 2, 50)
    whole = linear_probe(features, compare(groups), n_permutations=99, seed=0)
    monkeypatch.setattr(room, "_CHUNK_CELLS", 350)
    assert linear_probe(features, compare(groups), n_permutations=99, seed=0) == whole


def test_features_without_content_tell_nothing():
    probe = linear_probe(np.ones((40, 3)), compare(np.arange(40) % 2), n_permutations=99)
    assert (probe.auroc, probe.p, probe.null_mean) == (0.5, 1.0, 0.5)


def test_cases_alike_are_tied(fold_plans):
    rng = np.random.default_rng(23)
    groups = np.repeat([0, 1], 100)
    features = np.repeat((groups ^ (rng.random(200) < 0.4))[:, None], 3, axis=1).astype(float)
    probe = linear_probe(features, compare(groups), n_permutations=9, seed=0)
    assert probe.auroc == pytest.approx(sklearn_auroc(features, groups, fold_plans[0][0]), abs=1e-8)


def test_a_block_of_one_group_or_one_patient_is_not_scored():
    rng = np.random.default_rng(19)
    groups = np.array([0] * 10 + [0, 1] * 10 + [0, 1])
    patients = [*range(30), 30, 30]
    blocks = np.repeat([0, 1, 2], [10, 20, 2])
    probe = linear_probe(
        rng.normal(size=(32, 3)), compare(groups, clusters=patients), blocks=blocks, n_permutations=9, seed=0
    )
    assert probe.n == 20
    assert np.isfinite(probe.auroc)


@pytest.mark.parametrize("groups", [np.zeros(6, int), np.full(6, -1)])
def test_nothing_to_tell_gives_nan(groups):
    probe = linear_probe(np.random.default_rng(20).normal(size=(6, 2)), compare(groups, 2), n_permutations=9)
    assert probe.n == 0
    assert np.isnan([probe.auroc, probe.p, probe.null_mean, probe.null_95]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_named_by_row(bad):
    features, groups = np.random.default_rng(21).normal(size=(20, 3)), np.arange(20) % 2
    features[7, 1] = bad
    with pytest.raises(DataError, match="row 7"):
        linear_probe(features, compare(groups))
    with pytest.raises(DataError, match="row 7"):
        cluster_agreement(features, groups)
    left_out = np.where(np.arange(20) == 7, -1, groups)
    assert linear_probe(features, compare(left_out), n_permutations=9).n == 19
    assert linear_probe(features, compare(groups), blocks=np.minimum(left_out, 0), n_permutations=9).n == 19


def test_wrong_lengths_and_a_single_fold_are_refused():
    features, groups = np.ones((4, 2)), [0, 1, 0, 1]
    with pytest.raises(UsageError, match="one row a case"):
        linear_probe(features[:3], compare(groups))
    with pytest.raises(UsageError, match="one row a case"):
        cluster_agreement(features[:, 0], groups)
    with pytest.raises(UsageError, match="blocks"):
        linear_probe(features, compare(groups), blocks=[0, 0])
    with pytest.raises(UsageError, match="2 folds"):
        linear_probe(features, compare(groups), folds=1)
