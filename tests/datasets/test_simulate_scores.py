"""The simulated scores show what was planted, nothing where nothing was, and say so truthfully."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from medaudit.cohort import Grouping
from medaudit.datasets.simulate_scores import SCORE_PLANTS, ModelPlant, ScorePlant, population_truth, simulate_scores
from medaudit.errors import UsageError

AGE = Grouping.parse("age:40,55")
AGE_GROUPS = ("<=40", "(40, 55]", ">55")


def tables(plant: ScorePlant, seeds: range, n: int = 1506) -> pl.DataFrame:
    """The cohorts of many seeds below one another, with age_group and seed."""
    parts = []
    for seed in seeds:
        cohort = simulate_scores(n=n, seed=seed, plant=plant)
        codes = AGE.apply(cohort).codes
        names = [AGE_GROUPS[code] if code >= 0 else None for code in codes]
        parts.append(cohort.table.with_columns(seed=pl.lit(seed), age_group=pl.Series(names, dtype=pl.String)))
    return pl.concat(parts)


def test_margins_are_those_of_the_mama_mia_table():
    cohort = simulate_scores(seed=3)
    assert AGE.apply(cohort).counts == {"<=40": 349, "(40, 55]": 754, ">55": 400}
    assert AGE.apply(cohort).unknown == 3
    assert Grouping.parse("ethnicity").apply(cohort).counts == {
        "african american": 241,
        "asian": 86,
        "caucasian": 1128,
        "other": 35,
    }
    assert cohort.table["ethnicity"].null_count() == 16
    assert Grouping.parse("source").apply(cohort).counts == {"DUKE": 291, "ISPY1": 171, "ISPY2": 980, "NACT": 64}
    ages = cohort.table["age"].drop_nulls()
    assert ages.mean() == pytest.approx(48.5, abs=0.6)
    assert ages.std() == pytest.approx(10.4, abs=0.5)


def test_margins_stay_in_proportion_at_another_size():
    cohort = simulate_scores(n=302, seed=0)
    counts = AGE.apply(cohort).counts
    assert len(cohort) == 302
    for group, share in zip(AGE_GROUPS, (349, 754, 400), strict=True):
        assert abs(counts[group] - 302 * share / 1506) < 1


def test_each_of_the_32_sites_lies_in_one_source_and_duke_names_none():
    table = simulate_scores(seed=0).table
    named = table.filter(pl.col("site").is_not_null())
    assert named["site"].n_unique() == 32
    assert named.group_by("site").agg(pl.col("source").n_unique())["source"].to_list() == [1] * 32
    assert table.filter(pl.col("site").is_null())["source"].unique().to_list() == ["DUKE"]


def test_default_cohort_has_the_printed_means_and_sds():
    # arXiv 2510.27421, automated labels by age group.
    printed = {"<=40": (0.8082, 0.2193), "(40, 55]": (0.8204, 0.2139), ">55": (0.8612, 0.1679)}
    pooled = tables(SCORE_PLANTS["mama-mia"], range(60))
    for group, (mean, sd) in printed.items():
        dice = pooled.filter(pl.col("age_group") == group)["dice"]
        assert dice.mean() == pytest.approx(mean, abs=0.001 + 4 * sd / np.sqrt(len(dice)))
        assert dice.std() == pytest.approx(sd, abs=0.006)


@pytest.mark.parametrize("name", sorted(SCORE_PLANTS))
def test_truth_is_what_many_cohorts_show(name):
    truth = population_truth(SCORE_PLANTS[name])
    pooled = tables(SCORE_PLANTS[name], range(40))
    for by, column in {"age": "age_group", "ethnicity": "ethnicity", "source": "source"}.items():
        for group, expected in truth["groups"][by].items():
            dice = pooled.filter(pl.col(column) == group)["dice"]
            error = 4 * expected["dice_sd"] / np.sqrt(len(dice))
            assert dice.mean() == pytest.approx(expected["dice_mean"], abs=error)
            assert dice.std() == pytest.approx(expected["dice_sd"], abs=4 * 0.35 / np.sqrt(len(dice)))
            assert (dice > 0.8).mean() == pytest.approx(expected["rate"], abs=4 * 0.5 / np.sqrt(len(dice)))


def test_without_a_cause_p_values_are_uniform():
    plant = SCORE_PLANTS["none"]
    by_age, by_ethnicity, hd95_by_age = [], [], []
    for seed in range(300):
        cohort = simulate_scores(n=600, seed=seed, plant=plant)
        dice, hd95 = cohort.table["dice"].to_numpy(), cohort.table["hd95_mm"].to_numpy()
        for grouping, found, score, test in (
            (AGE, by_age, dice, stats.f_oneway),
            (Grouping.parse("ethnicity"), by_ethnicity, dice, stats.kruskal),
            (AGE, hd95_by_age, hd95, stats.kruskal),
        ):
            codes = grouping.apply(cohort).codes
            found.append(test(*[score[codes == i] for i in range(codes.max() + 1)]).pvalue)
    for found in (by_age, by_ethnicity, hd95_by_age):
        assert stats.kstest(found, "uniform").pvalue > 0.01
    assert population_truth(plant)["gap"] == {"age": 0.0, "ethnicity": 0.0, "source": 0.0}
    assert set(population_truth(plant)["causes"].values()) == {"none"}


def test_confounded_age_gap_vanishes_when_source_is_adjusted_for():
    pooled_p, adjusted = [], []
    for seed in range(40):
        data = tables(SCORE_PLANTS["confounded"], range(seed, seed + 1)).drop_nulls("age_group")
        frame = pd.DataFrame({name: data[name].to_list() for name in ("dice", "age_group", "source")})
        formula = "dice ~ C(age_group, Treatment('<=40'))"
        pooled_p.append(smf.ols(formula, frame).fit().f_pvalue)
        adjusted.append(smf.ols(formula + " + C(source)", frame).fit().params.iloc[2])
    assert np.median(pooled_p) < 1e-4
    assert abs(np.mean(adjusted)) < 4 * np.std(adjusted) / np.sqrt(40)
    truth = population_truth(SCORE_PLANTS["confounded"])
    assert truth["causes"] == {"age": "confounded", "ethnicity": "none", "source": "intrinsic"}
    assert truth["gap"]["age"] > 0.05
    assert truth["gap_adjusted"]["age"] == 0
    assert set(truth["gap_in_source"]["age"].values()) == {0.0}


def test_masked_ethnic_gap_is_small_when_pooled_and_large_inside_ispy2():
    pooled = tables(SCORE_PLANTS["masked"], range(30)).filter(
        pl.col("ethnicity").is_in(["caucasian", "african american"])
    )

    def rates(table: pl.DataFrame) -> float:
        rate = table.group_by("ethnicity").agg((pl.col("dice") > 0.8).mean())["dice"]
        return rate.max() - rate.min()

    assert rates(pooled) < 0.05
    assert rates(pooled.filter(pl.col("source") == "ISPY2")) > 0.2
    truth = population_truth(SCORE_PLANTS["masked"])
    assert truth["causes"]["ethnicity"] == "masked"
    assert truth["dpd"]["ethnicity"] < 0.05 < 0.2 < truth["dpd_in_source"]["ethnicity"]["ISPY2"]


def test_ethnicity_confounds_only_where_it_follows_the_source():
    plant = ScorePlant(source_effect=(0.0, -0.15, 0.0, 0.0))
    assert population_truth(plant)["gap"]["ethnicity"] > 0.02
    assert population_truth(plant)["causes"]["ethnicity"] == "confounded"
    even = replace(plant, ethnicity_follows_source=False)
    assert population_truth(even)["gap"]["ethnicity"] == 0
    assert population_truth(even)["causes"]["ethnicity"] == "none"


def test_slope_a_year_is_recovered():
    slopes = []
    for seed in range(30):
        table = simulate_scores(seed=seed, plant=ScorePlant(age_slope=0.002)).table.drop_nulls("age")
        slopes.append(stats.linregress(table["age"].to_numpy(), table["dice"].to_numpy()).slope)
    assert np.mean(slopes) == pytest.approx(0.002, abs=4 * np.std(slopes) / np.sqrt(30))


def test_sd_by_age_group_is_planted_without_moving_the_means():
    plant = ScorePlant(dice_sd=(0.25, 0.205, 0.18))
    groups = population_truth(plant)["groups"]["age"]
    assert [groups[g]["dice_mean"] for g in AGE_GROUPS] == pytest.approx([0.825] * 3)
    assert [groups[g]["dice_sd"] for g in AGE_GROUPS] == pytest.approx([0.25, 0.205, 0.18])


def test_missed_masks_by_age_group_cost_surface_distance_but_no_mean_dice():
    plant = ScorePlant(missed=(0.10, 0.02, 0.02), dice_sd=(0.27, 0.205, 0.205))
    pooled = tables(plant, range(20)).drop_nulls("age_group")
    missed = dict(pooled.group_by("age_group").agg(pl.col("hd95_mm").is_infinite().mean()).iter_rows())
    assert missed["<=40"] == pytest.approx(0.10, abs=0.015)
    assert missed[">55"] == pytest.approx(0.02, abs=0.01)
    assert population_truth(plant)["gap"]["age"] == 0


def test_cases_of_one_patient_are_alike_and_unequal_in_number():
    table = simulate_scores(n=3000, seed=0, plant=ScorePlant(cases_per_patient=3, patient_correlation=0.6)).table
    sizes = table.group_by("patient_id").len()["len"]
    assert len(sizes) == 1000
    assert sizes.std() > 0.5
    for attribute in ("age", "ethnicity", "source", "site"):
        assert table.group_by("patient_id").agg(pl.col(attribute).n_unique())[attribute].max() == 1

    def likeness(table: pl.DataFrame) -> float:
        pairs = table.with_columns(rank=pl.col("dice").rank()).group_by("patient_id", maintain_order=True).head(2)
        pairs = pairs.filter(pl.len().over("patient_id") == 2)["rank"].to_numpy().reshape(-1, 2)
        return float(np.corrcoef(pairs.T)[0, 1])

    assert likeness(table) == pytest.approx(0.6, abs=0.1)
    assert abs(likeness(table.with_columns(pl.col("dice").shuffle(seed=0)))) < 0.1


def test_cases_of_one_patient_do_not_change_the_population():
    plant = SCORE_PLANTS["intrinsic"]
    pooled = tables(replace(plant, cases_per_patient=2.5), range(40)).drop_nulls("age_group")
    found = dict(pooled.group_by("age_group").agg(pl.col("dice").mean()).iter_rows())
    for group in AGE_GROUPS:
        assert found[group] == pytest.approx(population_truth(plant)["groups"]["age"][group]["dice_mean"], abs=0.008)


def test_surface_scores_go_with_dice():
    table = simulate_scores(n=5000, seed=0).table
    assert (table["hd95_mm"].is_infinite() == (table["dice"] == 0)).all()
    assert ((table["hd95_mm"] == 0) == (table["dice"] == 1)).all()
    assert stats.spearmanr(table["dice"], table["hd95_mm"]).statistic < -0.8
    finite = table.filter(pl.col("hd95_mm").is_finite())["hd95_mm"]
    assert stats.skew(finite) > 1.5
    assert table["nsd_2mm"].is_between(0, 1).all()
    assert table["dice"].is_between(0, 1).all()


def test_ratings_follow_dice_and_raters_disagree_sometimes():
    table = simulate_scores(n=5000, seed=0).table
    mean = dict(table.group_by("rating_1").agg(pl.col("dice").mean()).iter_rows())
    assert mean["Good"] > mean["Acceptable"] > mean["Poor"] > mean["Missed"] == 0
    assert 0.05 < (table["rating_1"] != table["rating_2"]).mean() < 0.3


def test_volumes_by_age_have_the_published_means():
    pooled = tables(SCORE_PLANTS["mama-mia"], range(60)).drop_nulls("age_group")
    mean = dict(pooled.group_by("age_group").agg(pl.col("volume_ml").mean()).iter_rows())
    assert mean == pytest.approx({"<=40": 29, "(40, 55]": 22, ">55": 17.5}, rel=0.06)
    inside = [stats.spearmanr(part["volume_ml"], part["dice"]).statistic for _, part in pooled.group_by("age_group")]
    assert min(inside) > 0.2


def test_label_bias_harms_the_labels_and_not_the_model():
    plant = ScorePlant(age_label_bias=(-0.08, 0.0, 0.0), model=ModelPlant())
    pooled = tables(plant, range(30)).drop_nulls("age_group")
    scores = pooled.group_by("age_group").agg(pl.col("dice", "dice_model_gold", "dice_model_silver").mean())
    young, older = (scores.filter(pl.col("age_group") == g).row(0, named=True) for g in ("<=40", ">55"))
    assert older["dice"] - young["dice"] == pytest.approx(0.08, abs=0.012)
    assert abs(older["dice_model_gold"] - young["dice_model_gold"]) < 0.012
    # The ruler lies: the same predictions look worse for the young against their worse labels.
    assert older["dice_model_silver"] - young["dice_model_silver"] > 0.04
    assert population_truth(plant)["causes"]["age"] == "label"


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.6, 0.98])
def test_the_two_rulers_obey_the_triangle_inequality(correlation):
    plant = replace(SCORE_PLANTS["mama-mia"], model=ModelPlant(error_correlation=correlation))
    table = simulate_scores(seed=0, plant=plant).table
    to_gold, to_silver, apart = (
        1 - table[c].to_numpy() / (2 - table[c].to_numpy()) for c in ("dice_model_gold", "dice_model_silver", "dice")
    )
    assert np.all(to_silver <= to_gold + apart + 1e-9)
    assert np.all(to_silver >= np.abs(to_gold - apart) - 1e-9)


def test_a_twin_of_the_labels_looks_better_and_more_alike_than_it_is():
    model = ModelPlant(dice_mean=0.825, dice_sd=0.2, error_correlation=0.98)
    twin = ScorePlant(missed=(0.0, 0.0, 0.0), model=model)
    table = simulate_scores(n=5000, seed=0, plant=twin).table
    assert table["dice_model_silver"].mean() > table["dice_model_gold"].mean() + 0.05
    assert table["dice_model_silver"].std() < 0.5 * table["dice_model_gold"].std()


def test_same_seed_same_cohort_other_seed_other_cohort():
    one, again, other = (simulate_scores(n=200, seed=seed) for seed in (5, 5, 6))
    assert one.table.equals(again.table)
    assert one.truth == again.truth
    assert not one.table["dice"].equals(other.table["dice"])


def test_truth_of_one_cohort_cannot_be_changed_by_another():
    first = simulate_scores(n=50, seed=0)
    first.truth["gap"]["age"] = -1
    assert simulate_scores(n=50, seed=0).truth["gap"]["age"] > 0


def test_impossible_plants_are_refused():
    with pytest.raises(UsageError, match="'purple' in 'ISPY2'"):
        ScorePlant(ethnicity_in_source=(("ISPY2", "purple", 0.1),))
    with pytest.raises(UsageError, match="shares"):
        ScorePlant(missed=(0.5, 0.1, 0.1), untouched=0.6)
    with pytest.raises(UsageError, match="cases_per_patient is 0"):
        ScorePlant(cases_per_patient=0)
    with pytest.raises(UsageError, match="0 cases"):
        simulate_scores(n=0, seed=0)
