"""Few shots: what a draw holds, whom it never holds, and what is said where the data do not allow it."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.training.probes.episodes import episodes, few_shot, image_episodes
from medaudit.training.probes.logistic import fit_logistic, logistic_probabilities
from medaudit.training.probes.measures import measures


def pool(patients=60, each=4, classes=3):
    names = np.repeat([f"p{i:02d}" for i in range(patients)], each)
    return np.arange(patients * each) % classes, names


def test_every_draw_has_its_shots_of_each_class_and_draws_share_no_patient():
    codes, names = pool()
    drawn = episodes(codes, names, shots=5, draws=5, seed=1)
    assert not drawn.notes
    for rows in drawn.rows:
        assert np.bincount(codes[rows]).tolist() == [5, 5, 5]
        assert len(set(rows.tolist())) == 15
    seen = [set(names[rows]) for rows in drawn.rows]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_as_many_patients_as_shots_where_there_are_as_many():
    codes, names = pool(patients=100)
    for rows in episodes(codes, names, shots=10, draws=2, seed=0).rows:
        for c in range(3):
            assert len(set(names[rows[codes[rows] == c]])) == 10


def test_no_case_of_a_test_patient_is_drawn():
    codes, names = pool()
    kept = {f"p{i:02d}" for i in range(30)}
    drawn = episodes(codes, names, 5, seed=0, test_patients=sorted(kept))
    assert not kept & set(names[np.concatenate(drawn.rows)])
    assert drawn.notes[0] == "120 of 240 cases are of test patients, and are not drawn"
    with pytest.raises(DataError, match="all of test patients"):
        episodes(codes, names, 5, test_patients=np.unique(names).tolist())


def test_the_same_seed_draws_the_same_and_another_draws_others():
    codes, names = pool()
    a, b, c = (episodes(codes, names, 4, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(x, y) for x, y in zip(a.rows, b.rows, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(a.rows, c.rows, strict=True))


def test_draws_that_must_share_patients_and_classes_that_are_too_small_are_said():
    codes, names = pool(patients=4, each=6)
    codes = np.where(np.arange(24) == 0, 3, codes)
    drawn = episodes(codes, names, shots=2, draws=6, seed=0)
    assert "class 3 has 1 cases to draw, fewer than 2: every draw has them all" in drawn.notes
    assert any("are of other draws' patients" in note for note in drawn.notes)
    assert all(np.bincount(codes[rows]).tolist() == [2, 2, 2, 1] for rows in drawn.rows)


def test_images_are_drawn_whatever_they_show():
    _, names = pool()
    drawn = image_episodes(names, 10, draws=3, seed=0)
    assert [len(rows) for rows in drawn.rows] == [10, 10, 10]
    assert [len(set(names[rows])) for rows in drawn.rows] == [10, 10, 10]


def test_a_probe_on_each_draw_is_a_regression_on_centred_unit_features():
    codes, names = pool()
    rng = np.random.default_rng(0)
    train = 20 + rng.normal(size=(240, 10)) + 2 * np.eye(3, 10)[codes]
    test_codes = np.arange(90) % 3
    test = 20 + rng.normal(size=(90, 10)) + 2 * np.eye(3, 10)[test_codes]
    drawn = episodes(codes, names, 5, draws=3, seed=0)
    found = few_shot(train, codes, test, test_codes, 3, 5, drawn)
    assert found.probabilities.shape == (3, 90, 3)
    x, unseen = (one - train.mean(axis=0) for one in (train, test))
    x, unseen = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, unseen))
    rows = drawn.rows[1]
    p = logistic_probabilities(fit_logistic(x[rows], codes[rows], 3, 1.0, standardise=False), unseen)
    np.testing.assert_allclose(found.probabilities[1], p)
    values = [float(measures(one, test_codes)["macro_f1"]) for one in found.probabilities]
    assert found.mean["macro_f1"] == pytest.approx(np.mean(values))
    assert found.sd["macro_f1"] == pytest.approx(np.std(values, ddof=1))
    assert found.mean["accuracy"] > 0.6
