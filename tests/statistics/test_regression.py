"""Linear models against statsmodels and printed tables."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import f_oneway
from statsmodels.stats.anova import anova_lm

from medaudit.statistics import FTest, added_factor, anova, anova_from_summaries, interaction, slope

YOUNG_MIDDLE_OLDER = (349, 349, 349)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    n = 400
    table = pd.DataFrame({"a": rng.integers(0, 3, n), "s": rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])})
    table["c"] = rng.integers(0, 90, n)
    table["x"] = rng.normal(50, 10, n)
    table["y"] = 0.1 * table["a"] - 0.2 * table["s"] + 0.01 * table["x"] + rng.normal(0, 1 + table["a"], n)
    return table


@pytest.mark.parametrize(
    ("means", "sds", "printed"),
    [
        ((0.6941, 0.7104, 0.7500), (0.2489, 0.2399, 0.2056), 0.0049),
        ((0.7304, 0.7333, 0.7703), (0.2333, 0.2253, 0.1899), 0.0258),
        ((0.7320, 0.7379, 0.7739), (0.2381, 0.2193, 0.1922), 0.0227),
        ((0.6797, 0.7132, 0.7458), (0.2463, 0.2282, 0.1991), 0.0006),
    ],
)
def test_anova_of_the_published_table(means, sds, printed):
    assert round(anova_from_summaries(means, sds, YOUNG_MIDDLE_OLDER).p, 4) == printed


def test_anova_of_the_published_automated_masks():
    test = anova_from_summaries((0.8082, 0.8204, 0.8612), (0.2193, 0.2139, 0.1679), (349, 754, 400))
    assert test.p == pytest.approx(0.000598, abs=1e-6)


def test_published_nested_f_has_its_printed_p():
    assert FTest(11.76, 3, 1497, 1503).p == pytest.approx(1.29e-7, rel=0.01)


def test_published_r_squared_implies_another_p_than_is_printed():
    # R2 .0104 at n 1503 is F = 15.77 and p = 7.5e-5.
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=1503), rng.normal(size=1503)
    x -= x.mean()
    noise -= noise.mean() + x * (x @ noise) / (x @ x)
    y = x / np.linalg.norm(x) * np.sqrt(0.0104) + noise / np.linalg.norm(noise) * np.sqrt(1 - 0.0104)
    fit = slope(y, x)
    assert fit.extra["r_squared"] == pytest.approx(0.0104)
    assert fit.extra["f"] == pytest.approx(15.77, abs=0.01)
    assert fit.extra["p_classical"] == pytest.approx(7.5e-5, rel=0.01)


@pytest.mark.parametrize("clustered", [False, True])
def test_slope_and_its_robust_interval_agree_with_statsmodels(frame, clustered):
    options = {"cov_type": "HC3", "use_t": True}
    if clustered:
        options = {"cov_type": "cluster", "cov_kwds": {"groups": frame.c}, "use_t": True}
    peer = smf.ols("y ~ x", frame).fit(**options)
    ours = slope(frame.y, frame.x, clusters=frame.c if clustered else None)
    assert ours.value == pytest.approx(peer.params["x"])
    assert (ours.low, ours.high) == pytest.approx(tuple(peer.conf_int().loc["x"]), rel=1e-6)
    assert ours.p == pytest.approx(peer.pvalues["x"], rel=1e-6)
    assert ours.extra["intercept"] == pytest.approx(peer.params["Intercept"])


def test_missing_values_are_left_out_of_the_slope(frame):
    holes = frame.y.where(frame.index % 7 > 0)
    peer = smf.ols("y ~ x", frame.assign(y=holes)).fit()
    assert slope(holes, frame.x).value == pytest.approx(peer.params["x"])
    assert np.isnan(slope([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]).value)


def test_type_two_anova_agrees_with_statsmodels(frame):
    peer = anova_lm(smf.ols("y ~ C(a) + C(s)", frame).fit(), typ=2)
    ours = anova(frame.y, {"a": frame.a, "s": frame.s})
    for name in ("a", "s"):
        row = peer.loc[f"C({name})"]
        assert ours[name].f == pytest.approx(row["F"])
        assert ours[name].p == pytest.approx(row["PR(>F)"])
        assert ours[name].partial_eta2 == pytest.approx(
            row["sum_sq"] / (row["sum_sq"] + peer.loc["Residual", "sum_sq"])
        )


def test_one_way_anova_agrees_with_scipy(frame):
    peer = f_oneway(*(frame.y[frame.a == g] for g in range(3)))
    ours = anova(frame.y, {"a": frame.a})["a"]
    assert (ours.f, ours.p) == pytest.approx((peer.statistic, peer.pvalue))


@pytest.mark.parametrize("clustered", [False, True])
def test_robust_wald_of_an_added_factor_agrees_with_statsmodels(frame, clustered):
    options = {"cov_type": "cluster", "cov_kwds": {"groups": frame.c}} if clustered else {"cov_type": "HC3"}
    fit = smf.ols("y ~ C(s) + C(a)", frame).fit(use_t=True, **options)
    peer = fit.f_test("C(a)[T.1] = 0, C(a)[T.2] = 0")
    ours = added_factor(frame.y, frame.a, [frame.s], clusters=frame.c if clustered else None)
    assert ours.f_robust == pytest.approx(float(np.squeeze(peer.fvalue)))
    assert ours.p_robust == pytest.approx(float(peer.pvalue))


def test_interaction_agrees_with_statsmodels(frame):
    small, large = smf.ols("y ~ C(a) + C(s)", frame).fit(), smf.ols("y ~ C(a) * C(s)", frame).fit()
    peer = anova_lm(small, large).iloc[1]
    ours = interaction(frame.y, frame.a, frame.s, min_cases=1)
    assert (ours.f, ours.df1, ours.p) == pytest.approx((peer["F"], peer["df_diff"], peer["Pr(>F)"]))


def test_empty_cells_leave_fewer_interaction_contrasts_and_are_reported(frame):
    table = frame[~((frame.a == 2) & (frame.s >= 2))]
    ours = interaction(table.y, table.a, table.s, min_cases=5)
    assert ours.df1 == 4
    assert "4 of 6" in ours.reason
    alone = interaction(frame.y, frame.a, frame.a)
    assert np.isnan(alone.p)
    assert "no contrast" in alone.reason


def test_a_group_that_is_a_source_cannot_be_adjusted_for_it(frame):
    test = added_factor(frame.y, frame.a, [frame.a])
    assert np.isnan(test.p)
    assert np.isnan(test.p_robust)
    assert "no contrast" in test.reason


def test_unknown_codes_and_missing_scores_are_left_out(frame):
    known = np.where(frame.index % 5 == 0, -1, frame.a)
    holes = np.where(frame.index % 7 == 0, np.nan, frame.y)
    kept = (frame.index % 5 > 0) & (frame.index % 7 > 0)
    expected = anova(frame.y[kept], {"a": frame.a[kept]})["a"]
    ours = anova(holes, {"a": known})["a"]
    assert (ours.f, ours.n) == pytest.approx((expected.f, int(kept.sum())))


def test_a_score_without_spread_has_no_f():
    assert np.isnan(anova(np.repeat([0.0, 1.0], 10), {"a": np.repeat([0, 1], 10)})["a"].p)
