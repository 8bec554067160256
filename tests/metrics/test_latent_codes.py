"""Latent codes against scikit-learn's own loops, planted codes, and normal distributions whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medaudit.errors import DataError, UsageError
from medaudit.metrics.code_structure import code_health, effective_rank, joint_move, match_codes
from medaudit.metrics.latent_codes import auroc_matrix, latent_auroc, shared_information, tad


def told(n=600, m=5, k=3, seed=0, decimals=8):
    """Codes and attributes that depend on them, more or less."""
    rng = np.random.default_rng(seed)
    codes = np.round(rng.normal(size=(n, m)), decimals)
    attributes = (codes[:, :k] + rng.normal(size=(n, k)) > 0.4).astype(float)
    return codes, attributes


@given(st.integers(0, 10_000), st.integers(3, 60), st.sampled_from([0, 1, 8]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_matrix_is_sklearns_double_loop(seed, n, decimals, unknown):
    rng = np.random.default_rng(seed)
    codes, attributes = told(n, 4, 3, seed, decimals)
    if unknown:
        attributes[rng.random(attributes.shape) < 0.3] = np.nan
    found = auroc_matrix(codes, attributes)
    one_class = 0
    for k in range(3):
        known = np.isfinite(attributes[:, k])
        if len(np.unique(attributes[known, k])) < 2:
            one_class += 1
            assert np.isnan(found.auroc[k]).all()
            continue
        for j in range(4):
            theirs = roc_auc_score(attributes[known, k], codes[known, j])
            assert found.auroc[k, j] == pytest.approx(theirs, abs=1e-12)
    assert found.one_class == one_class


def test_single_precision_codes_give_the_same_matrix():
    codes, attributes = told(decimals=1)
    assert np.array_equal(
        auroc_matrix(codes.astype(np.float32), attributes).auroc, auroc_matrix(codes, attributes).auroc
    )


def test_tad_of_two_codes_that_are_attributes():
    rng = np.random.default_rng(1)
    attributes = (np.arange(4_000)[:, None] // [1, 2] % 2).astype(float)  # independent, balanced
    codes = np.column_stack([attributes, rng.normal(size=(4_000, 20))])
    found = tad(codes, attributes)
    assert found.attributes == 2
    # 1 less the best of 20 codes of chance: 0.5 + a normal score's largest of 40 ways, of SD sqrt(1 / (3 n)).
    chance = 0.5 + norm.ppf(1 - 0.5 / 40) / np.sqrt(3 * 3_200)
    assert found.mean == pytest.approx(2 * (1 - chance), abs=0.02)
    doubled = tad(np.column_stack([codes, attributes[:, 0]]), attributes)
    assert doubled.gaps[:, 0] == pytest.approx(0)
    assert doubled.mean == pytest.approx(found.mean / 2, abs=0.01)
    flipped = tad(-codes, attributes)
    assert flipped.mean == pytest.approx(found.mean)


def test_attributes_that_tell_each_other_are_not_captured_and_one_class_is_no_nan():
    codes, attributes = told(500, 4, 2)
    twins = np.column_stack([attributes[:, 0], attributes[:, 0], np.zeros(500), attributes[:, 1]])
    found = tad(codes, twins)
    assert found.captured.tolist() == [[False, False, False, True]] * 5
    assert np.isfinite(found.mean)
    assert np.isnan(found.gaps[:, 2]).all()


def test_tad_is_what_its_definition_says_loop_by_loop():
    codes, attributes = told(400, 6, 4, seed=2)
    attributes[:, 3] = np.where(np.random.default_rng(0).random(400) < 0.8, attributes[:, 0], 1 - attributes[:, 0])
    found, counts = [], []
    for rows, _ in KFold(5, shuffle=True, random_state=0).split(codes):
        x, y = codes[rows], attributes[rows]
        total = count = 0
        for k in range(4):
            areas = sorted(max(a, 1 - a) for a in (roc_auc_score(y[:, k], x[:, j]) for j in range(6)))
            own = entropy(np.bincount(y[:, k].astype(int)))
            shared = max(mutual_info_score(y[:, k], y[:, other]) / own for other in range(4) if other != k)
            if areas[-1] >= 0.75 and shared <= 0.2:
                total, count = total + areas[-1] - areas[-2], count + 1
        found.append(total)
        counts.append(count)
    ours = tad(codes, attributes)
    assert ours.values == pytest.approx(found)
    assert ours.captured.sum(axis=1).tolist() == counts
    assert 0 < max(counts) < 4
    assert (ours.mean, ours.sd) == pytest.approx((np.mean(found), np.std(found)))


def test_shared_information_of_noisy_copies_is_that_of_a_binary_channel():
    n, flips = 10_000, 0.1
    truth = np.arange(n) % 2
    copy = np.where(np.arange(n) // 2 % 10 == 0, 1 - truth, truth)  # one in ten is flipped, of each kind
    alone = np.arange(n) // 20 % 2
    y = np.column_stack([truth, copy, alone, np.ones(n)]).astype(float)
    channel = 1 - entropy([flips, 1 - flips], base=2)
    assert shared_information(y)[:3] == pytest.approx([channel, channel, 0], abs=1e-9)
    assert np.isnan(shared_information(y)[3])
    assert shared_information(y[:, :1]) == pytest.approx([0])
    y[::3, 1] = np.nan
    assert shared_information(y)[0] == pytest.approx(
        mutual_info_score(*y[np.isfinite(y[:, 1]), :2].T) / np.log(2), abs=1e-4
    )


def test_published_probe_is_sklearns_pipeline():
    codes, attributes = told(300, 4, 2, seed=3)
    ours = latent_auroc(np.vstack([codes, codes + 9]), np.vstack([attributes, 1 - attributes]), first=300)
    for f, (train, held_out) in enumerate(KFold(5, shuffle=True, random_state=0).split(codes)):
        for k in range(2):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(
                codes[train], attributes[train, k]
            )
            theirs = roc_auc_score(attributes[held_out, k], model.decision_function(codes[held_out]))
            assert ours.folds[f, k] == pytest.approx(theirs, abs=1e-12)
    assert np.isnan(ours.low).all()
    assert ours.mean == pytest.approx(ours.folds.mean())


def test_patients_in_two_folds_tell_what_codes_do_not_know():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(60), 20)
    codes = 5 * rng.normal(size=(60, 40))[patients] + rng.normal(size=(1_200, 40))
    attributes = (rng.random(60) < 0.5).astype(float)[patients, None]  # the patient's, and in no code
    naive = latent_auroc(codes, attributes)
    honest = latent_auroc(codes, attributes, patients=patients, resamples=300)
    assert naive.mean > 0.95
    assert honest.low[0] < 0.5 < honest.high[0]


def test_interval_of_the_probe_holds_the_auroc_of_the_truth():
    separation, hits = 1.2, 0
    truth = norm.cdf(separation / 2**0.5)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = (rng.random(300) < 0.5).astype(float)
        codes = np.column_stack([separation * y + rng.normal(size=300), rng.normal(size=300)])
        patients = np.arange(300)
        found = latent_auroc(codes, y[:, None], patients=patients, resamples=200, seed=seed)
        hits += found.low[0] <= truth <= found.high[0]
        assert found.mean_low == pytest.approx(found.low[0])
    assert hits >= 40 * (0.93 - 3 * (0.95 * 0.05 / 40) ** 0.5)


def test_what_no_fold_can_tell_is_nan_and_left_out_of_the_mean():
    codes, attributes = told(100, 3, 2)
    attributes = np.column_stack([attributes, np.zeros(100)])
    found = latent_auroc(codes, attributes, patients=np.arange(100), resamples=50)
    assert np.isnan(found.by_attribute[2])
    assert np.isnan(found.low[2])
    assert found.mean == pytest.approx(found.by_attribute[:2].mean())


def test_effective_rank_of_equal_and_of_unequal_directions():
    basis = np.linalg.qr(np.random.default_rng(5).normal(size=(200, 6)) - 0.0)[0]
    basis = np.linalg.qr(basis - basis.mean(axis=0))[0]  # orthonormal, and of mean 0
    assert effective_rank(basis) == pytest.approx(6)
    assert effective_rank(basis[:, :2] @ np.ones((2, 8))) == pytest.approx(1)
    sizes = np.array([4, 2, 1, 1.0])
    assert effective_rank(basis[:, :4] * sizes) == pytest.approx(np.exp(entropy(sizes)))
    assert effective_rank(np.ones((10, 3))) == 1


def test_dead_codes_and_twins_are_named():
    x = np.random.default_rng(6).normal(size=(500, 6))
    x[:, 2] = 7
    x[:, 4] = -3 * x[:, 1] + 1 + 0.01 * x[:, 5]
    found = code_health(x)
    assert found.dead == (2,)
    assert [(i, j) for i, j, _ in found.twins] == [(1, 4)]
    assert found.twins[0][2] == pytest.approx(-1, abs=1e-3)


def test_matching_finds_the_permutation_through_signs_and_noise():
    rng = np.random.default_rng(7)
    x, order = rng.normal(size=(400, 8)), rng.permutation(8)
    y = x[:, order] * rng.choice([-2.0, 3.0], 8) + 0.5 * rng.normal(size=(400, 8))
    found = match_codes(x, y)
    assert found.first.tolist() == list(range(8))
    assert order[found.second].tolist() == list(range(8))
    assert 0.9 < found.mean <= 1
    apart = match_codes(x, rng.normal(size=(400, 5)))
    assert len(apart.first) == 5
    assert apart.mean == pytest.approx(apart.chance, abs=0.03)
    still = match_codes(np.column_stack([x, np.ones(400)]), np.column_stack([x, np.ones(400)]))
    assert np.isfinite(still.correlation).all()


def test_joint_move_is_the_conditional_expectation_of_a_normal_distribution():
    rng = np.random.default_rng(8)
    codes = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + [1, 2, 3, 4]
    mean, covariance = codes.mean(axis=0), np.cov(codes, rowvar=False)
    target = mean[1] + 0.5
    moved = joint_move(mean[None], 1, target, training=codes)
    others = [0, 2, 3]
    expected = mean[others] + covariance[others, 1] / covariance[1, 1] * (target - mean[1])
    assert moved.codes[0, others] == pytest.approx(expected, abs=1e-12)
    assert moved.codes[0, 1] == target
    assert not moved.held.any()
    # What a code has beyond its expectation it keeps, wherever nothing is held.
    some = joint_move(codes, 1, target)
    slope = covariance[0, 1] / covariance[1, 1]
    kept = ~some.held[:, 0]
    assert kept.mean() > 0.5
    assert (some.codes[:, 0] - slope * some.codes[:, 1])[kept] == pytest.approx(
        (codes[:, 0] - slope * codes[:, 1])[kept]
    )


def test_shrinkage_draws_a_joint_move_to_one_of_the_code_alone():
    codes = np.random.default_rng(9).normal(size=(300, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]]
    whole, half, none = (joint_move(codes[:5], 0, 0.3, training=codes, shrinkage=s).codes for s in (0, 0.5, 1))
    assert half == pytest.approx((whole + none) / 2)
    assert np.array_equal(none[:, 1:], codes[:5, 1:])
    assert (none[:, 0] == 0.3).all()


def test_a_joint_move_stays_within_the_training_images_and_says_where_it_was_held():
    training = np.column_stack([np.linspace(0, 1, 11), np.linspace(0, 2, 11)])
    moved = joint_move([[0.5, 1.0], [0.5, 1.9], [0.5, -1.0]], 0, 0.9, training=training)
    assert moved.codes == pytest.approx(np.array([[0.9, 1.8], [0.9, 2.0], [0.9, -0.2]]))
    assert moved.held.tolist() == [[False, False], [False, True], [False, False]]
    assert not moved.asked_beyond
    beyond = joint_move([[0.5, 1.0]], 0, 3.0, training=training)
    assert beyond.codes == pytest.approx(np.array([[3.0, 2.0]]))
    assert beyond.asked_beyond


def test_what_cannot_be_measured_is_refused():
    codes, attributes = told(50)
    with pytest.raises(DataError, match=r"attribute 1 is -1 in row 3"):
        auroc_matrix(codes, np.where((np.arange(50) == 3)[:, None] & (np.arange(3) == 1), -1, attributes))
    with pytest.raises(DataError, match=r"expected \(n, m\) and \(n, K\)"):
        auroc_matrix(codes, attributes[:40])
    with pytest.raises(DataError, match="not finite, the first in row 0"):
        effective_rank(np.full((2, 2), np.inf))
    with pytest.raises(DataError, match="there is 1 code"):
        tad(codes[:, :1], attributes)
    with pytest.raises(UsageError, match="5 folds of 3"):
        tad(codes[:3], attributes[:3])
    with pytest.raises(DataError, match="the same images"):
        match_codes(codes, codes[:40])
    with pytest.raises(UsageError, match="no code 5"):
        joint_move(codes, 5, 1.0)
    with pytest.raises(UsageError, match="shrinkage is 2"):
        joint_move(codes, 0, 1.0, shrinkage=2)
    with pytest.raises(DataError, match="one value"):
        joint_move(codes, 0, 1.0, training=np.ones((9, 5)))
