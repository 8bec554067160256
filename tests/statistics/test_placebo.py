"""The placebo test: exact where cases can be counted, its level over null worlds, its power where one is planted."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.statistics import benjamini_yekutieli, placebo_test


def effects(seed, chosen, placebos, n=20, q=4, spread=0.05):
    """Effects on n images of prototypes each of which does something of its own, as all prototypes do."""
    rng = np.random.default_rng(seed)
    own = spread * rng.standard_t(3, size=(chosen + placebos, 1, q))
    all_ = own + 0.2 * rng.normal(size=(chosen + placebos, n, q))
    return all_[:chosen], all_[chosen:]


def test_p_counts_placebos_and_the_largest_cell():
    placebo = np.array([[0.1, -0.9], [0.2, 0.1], [-0.3, 0.2], [0.4, 0.3]])[:, None]
    found = placebo_test(np.array([[[-0.3, 1.0]]]), placebo, resamples=10)
    assert found.p == pytest.approx(np.array([[3 / 5, 1 / 5]]))  # |0.3| ties with -0.3, and 0.4 is larger
    scale = np.sqrt(np.square(np.concatenate([[[-0.3, 1.0]], placebo[:, 0]])).mean(axis=0))
    largest = (np.abs(np.concatenate([[[-0.3, 1.0]], placebo[:, 0]])) / scale).max(axis=1)
    counted = [(largest >= value - 1e-12).mean() for value in np.array([0.3, 1.0]) / scale]
    assert found.p_max[0] == pytest.approx(counted)
    assert found.least_p == 1 / 5


@pytest.mark.parametrize(("chosen", "placebos", "exact"), [(1, 39, 2 / 40), (2, 60, 2 / 62)])
def test_level_is_held_over_null_worlds(chosen, placebos, exact):
    worlds = 400
    found = [placebo_test(*effects(seed, chosen, placebos), resamples=2, seed=seed) for seed in range(worlds)]
    any_ = np.mean([np.nanmin(f.p_max) <= 0.05 for f in found])
    one = np.mean([f.p[0, 0] <= 0.05 for f in found])
    assert any_ == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / worlds))
    cell = np.floor(0.05 * (placebos + 1)) / (placebos + 1)
    assert one == pytest.approx(cell, abs=3 * np.sqrt(cell * (1 - cell) / worlds))


def test_a_planted_effect_is_found_and_named():
    hits = []
    for seed in range(60):
        chosen, placebo = effects(seed, 2, 60)
        chosen[1, :, 2] -= 1.0
        found = placebo_test(chosen, placebo, resamples=50, seed=seed)
        hits.append(found.p_max[1, 2] <= 0.05)
        assert found.low[1, 2] < found.effect[1, 2] < found.high[1, 2] < -0.3
    assert np.mean(hits) > 0.8


def test_many_images_do_not_make_an_ordinary_prototype_extraordinary():
    # Each image's effect is known without error, and differs from the placebos' mean: a test over images would reject.
    chosen, placebo = effects(3, 1, 40, n=2_000)
    found = placebo_test(chosen, placebo, resamples=50)
    apart = np.abs(found.effect[0] - found.placebo.mean(axis=0)) / (0.2 / 2_000**0.5)
    assert (apart > 4).any()
    assert found.p_max.min() > 0.05


def test_cells_left_out_are_no_tests_and_correct_nothing():
    chosen, placebo = effects(4, 2, 30)
    chosen[0, :, 0] += 50
    without = placebo_test(chosen, placebo, tested=np.array([[0, 1, 1, 1], [1, 1, 1, 1]]), resamples=20)
    assert np.isnan(without.p[0, 0])
    assert np.isnan(without.effect[0, 0])
    assert np.isfinite(without.p_bh).sum() == 7
    alone = placebo_test(chosen[:1], placebo, tested=np.array([[0, 1, 0, 0]]), resamples=20)
    assert alone.p_max[0, 1] == pytest.approx(alone.p[0, 1])


def test_intervals_are_by_patient():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 5)
    chosen = rng.normal(size=(1, 40, 1))[:, patients]
    placebo = rng.normal(size=(30, 200, 1))
    clustered, alone = (placebo_test(chosen, placebo, patients=p) for p in (patients, None))
    width = lambda f: float((f.high - f.low)[0, 0])
    assert width(clustered) == pytest.approx(2 * 1.96 * chosen[0, ::5, 0].std() / 40**0.5, rel=0.1)
    assert width(clustered) / width(alone) == pytest.approx(5**0.5, rel=0.1)
    assert clustered.n == 40


def test_benjamini_yekutieli_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(6).random(30) ** 3
    assert benjamini_yekutieli(p) == pytest.approx(multipletests(p, method="fdr_by")[1])
    assert np.isnan(benjamini_yekutieli([0.01, np.nan])[1])
    assert benjamini_yekutieli([0.01, np.nan])[0] == pytest.approx(0.01)


def test_shapes_that_do_not_fit_are_refused():
    chosen, placebo = effects(0, 1, 5)
    with pytest.raises(DataError, match=r"expected \(A, n, q\) and \(R, n, q\)"):
        placebo_test(chosen[:, :4], placebo)
    with pytest.raises(DataError, match="not finite"):
        placebo_test(chosen * np.nan, placebo)
    with pytest.raises(DataError, match="tested has shape"):
        placebo_test(chosen, placebo, tested=np.ones(4))
    with pytest.raises(DataError, match="one for each"):
        placebo_test(chosen, placebo, patients=np.arange(7))
