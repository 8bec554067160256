"""Check that the statistics keep their promises: type-I error, coverage, and planted causes that must be named.

    python benchmarks/calibration.py [--cohorts 500]

Every row simulates whole cohorts with a known truth and counts. Scores are Dice-like (a mixture of missed, ordinary and
untouched masks, so bounded, skewed and with atoms) unless said otherwise; SDs differ by group as printed in arXiv
2511.00477. With 500 cohorts a true rate of 5 % shows up between 3.1 and 6.9 % (95 %), with 2,000 between 4.0 and 6.0 %;
so type-I errors get four times the cohorts.
"""

import argparse
import time

import numpy as np

from medaudit.statistics import (
    attenuation,
    bootstrap_means,
    compare,
    confounding_verdict,
    detectable_gap,
    gap,
    gap_change,
    gap_difference_interval,
    gap_equivalence,
    gap_interval,
    masking_by_source,
    pairwise_intervals,
    permutation_test,
    ratio_interval,
    three_way,
    top_fraction,
)

SMALL = (60, 120, 60)
AGE, AGE_SD = (349, 754, 400), (0.22, 0.21, 0.17)
ETHNICITY = (1128, 241, 86, 51)
SOURCES = (980, 291, 171, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=500)
    count = parser.parse_args().cohorts
    print(f"{count} cohorts a row, {4 * count} for type-I errors\n")
    for title, rows, repeats in (
        ("Type-I error at 5 % (target 4 to 6 %)", type_one_rows(), 4 * count),
        ("Coverage of 95 % intervals (target at least 93 %)", coverage_rows(), count),
        ("Planted causes", cause_rows(), count),
    ):
        print(f"| {title} | result | seconds |\n|---|---|---|")
        for k, (name, study) in enumerate(rows):
            start = time.perf_counter()
            shares = np.mean([study(np.random.default_rng([k, seed]), seed) for seed in range(repeats)], axis=0)
            text = " / ".join(f"{100 * share:.1f} %" for share in np.atleast_1d(shares))
            print(f"| {name} | {text} | {time.perf_counter() - start:.0f} |", flush=True)
        print()


def dice(rng, mean, sd):
    """Dice-like scores with the given means and SDs (n,): missed at 0, a Beta body, untouched masks at 1."""
    n = mean.size
    body = rng.beta(4.0, 1.5, n)
    kind = rng.random(n)
    raw = np.where(kind < 0.04, 0.0, np.where(kind > 0.85, 1.0, body))
    # Exact moments of the mixture: P(0) = .04, P(1) = .15, Beta(4, 1.5) else.
    first, second = 4 / 5.5, 4 * 5 / (5.5 * 6.5)
    centre = 0.81 * first + 0.15
    spread = np.sqrt(0.81 * second + 0.15 - centre**2)
    return mean + sd * (raw - centre) / spread


def groups_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def level(sizes, sds, statistic="default", outcome=False):
    groups = groups_of(sizes)
    comparison, sd = compare(groups), np.asarray(sds)[groups]

    def study(rng, seed):
        scores = dice(rng, np.full(groups.size, 0.8), sd)
        values = top_fraction(rng.permutation(scores)) if outcome else scores
        test = permutation_test(values, comparison, n_permutations=499, seed=seed)
        chosen = {"default": test.p, "raw": test.p_gap, "ratio": test.p_ratio}[statistic]
        return chosen[0] <= 0.05

    return study


def level_clustered(rng, seed):
    patients = rng.integers(0, 700, 999)
    groups = rng.integers(0, 3, 999)
    scores = dice(rng, np.full(999, 0.8), np.full(999, 0.1)) + rng.normal(0, 0.1, 700)[patients]
    spanning = permutation_test(scores, compare(groups, clusters=patients), n_permutations=499, seed=seed)
    nested_groups = (np.arange(700) % 3)[patients]
    nested = permutation_test(scores, compare(nested_groups, clusters=patients), n_permutations=499, seed=seed)
    naive = permutation_test(scores, compare(nested_groups), n_permutations=499, seed=seed)
    return spanning.p[0] <= 0.05, nested.p[0] <= 0.05, naive.p[0] <= 0.05


def confounded(rng, intrinsic, site, n=1503):
    """Age groups unevenly spread over four sources of unequal size; effects between groups and between sources."""
    sources = rng.choice(4, n, p=np.array(SOURCES) / sum(SOURCES))
    mix = np.array([[0.30, 0.50, 0.20], [0.10, 0.45, 0.45], [0.15, 0.50, 0.35], [0.2, 0.4, 0.4]])
    groups = (rng.random(n)[:, None] > mix[sources].cumsum(axis=1)).sum(axis=1).clip(0, 2)
    mean = 0.75 + intrinsic * groups / 2 + site * np.array([0.0, 1.0, 0.8, 0.9])[sources]
    return dice(rng, mean, np.asarray(AGE_SD)[groups]), groups, sources


def level_within_source(rng, seed):
    scores, groups, sources = confounded(rng, 0.0, 0.15)
    within = permutation_test(scores, compare(groups, strata=sources), n_permutations=499, seed=seed)
    naive = permutation_test(scores, compare(groups), n_permutations=499, seed=seed)
    return within.p[0] <= 0.05, naive.p[0] <= 0.05


def level_masking(site):
    def study(rng, seed):
        scores, groups, sources = confounded(rng, 0.06, site)
        test = masking_by_source(scores, compare(groups), sources, n_permutations=499, n_resamples=50, seed=seed)
        return test.p <= 0.05

    return study


def two_scores(rng, groups, sds, silver, means=0.8, change=0.0):
    """Gold scores with these SDs by group, and silver ones whose mean is ``change`` more: (silver, gold), each (n,).

    ``silver``: a "twin" of the model (SD .02), of "independent" errors, or with errors "shared" (80 % of variance).
    """
    sd, mean, zero = np.asarray(sds)[groups], means + np.zeros(groups.size), np.zeros(groups.size)
    if silver == "shared":
        both = mean + dice(rng, zero, np.sqrt(0.8) * sd)
        gold, other = (both + dice(rng, zero, np.sqrt(0.2) * sd) for _ in range(2))
        return other + change, gold
    gold = dice(rng, mean, sd)
    return dice(rng, mean + change, np.full(groups.size, 0.02) if silver == "twin" else sd), gold


def level_change(sizes, sds, silver, means=0.0):
    """How often an unchanged gap is called changed: by our test, and by the percentile interval of two gaps."""
    groups = groups_of(sizes)
    comparison, mean = compare(groups), 0.7 + np.linspace(0, means, len(sizes))[groups]

    def study(rng, seed):
        pair = two_scores(rng, groups, sds, silver, mean)
        p = gap_change(*pair, comparison, n_resamples=2, n_permutations=499, seed=seed).p
        draws = bootstrap_means(np.column_stack(pair), comparison, n_resamples=499, seed=seed)
        low, high = draws.interval(lambda m: gap(m[..., 0, :]) - gap(m[..., 1, :]), method="percentile")
        return p <= 0.05, low > 0 or high < 0

    return study


def type_one_rows():
    return [
        ("gap, 3 x 349", level((349,) * 3, (0.22,) * 3)),
        ("gap, age 349/754/400, SD .22/.21/.17", level(AGE, AGE_SD)),
        ("gap, ethnicity 1128/241/86/51, SD .17/.22/.25/.30", level(ETHNICITY, (0.17, 0.22, 0.25, 0.30))),
        ("the same, SD reversed", level(ETHNICITY, (0.30, 0.25, 0.22, 0.17))),
        ("raw gap instead of Welch t, SD .17/.22/.25/.30", level(ETHNICITY, (0.17, 0.22, 0.25, 0.30), "raw")),
        ("raw gap instead of Welch t, SD reversed", level(ETHNICITY, (0.30, 0.25, 0.22, 0.17), "raw")),
        ("DPD of the top quarter, ethnicity sizes", level(ETHNICITY, (0.2,) * 4, outcome=True)),
        ("DIR of the top quarter, ethnicity sizes", level(ETHNICITY, (0.2,) * 4, "ratio", outcome=True)),
        ("repeated patients: across groups / within groups / ignored", level_clustered),
        ("site confounds, no group effect: within sources / naive", level_within_source),
        ("masking, every source has the pooled gap", level_masking(0.0)),
        ("masking, the same gap everywhere and pooled more (a source effect)", level_masking(0.1)),
        ("change of a gap, twin, 60/120/60: ours / percentile of two gaps", level_change(SMALL, (0.22,) * 3, "twin")),
        ("the same, SD .30/.20/.10", level_change(SMALL, (0.3, 0.2, 0.1), "twin")),
        ("the same, 60/120/30, SD .10/.20/.30", level_change((60, 120, 30), (0.1, 0.2, 0.3), "twin")),
        ("change of a gap, twin, 3 x 349", level_change((349,) * 3, (0.22,) * 3, "twin")),
        ("change of a gap, twin, ethnicity", level_change(ETHNICITY, (0.17, 0.22, 0.25, 0.30), "twin")),
        (
            "change of a gap, independent, 60/120/60, SD .30/.20/.10",
            level_change(SMALL, (0.3, 0.2, 0.1), "independent"),
        ),
        ("change of a gap, shared errors, both .10, 3 x 349", level_change((349,) * 3, (0.22,) * 3, "shared", 0.10)),
    ]


def gap_coverage(means, sds=AGE_SD, sizes=(349,) * 3):
    groups = groups_of(sizes)
    comparison, mean, sd = compare(groups), np.asarray(means)[groups], np.asarray(sds)[groups]
    true = np.ptp(means)

    def study(rng, seed):
        draws = bootstrap_means(dice(rng, mean, sd), comparison, n_resamples=999, seed=seed)
        intervals = gap_interval(draws), draws.interval(gap, method="percentile"), draws.interval(gap)
        return [low[0] <= true <= high[0] for low, high in intervals]

    return study


def pair_coverage(rng, seed):
    groups = groups_of((349,) * 3)
    mean = np.array([0.73, 0.73, 0.77])[groups]
    draws = bootstrap_means(dice(rng, mean, np.asarray(AGE_SD)[groups]), compare(groups), n_resamples=999, seed=seed)
    results = []
    for method in ("bca", "percentile"):
        _, low, high = pairwise_intervals(draws, method=method)
        results.append(low[0, 1] <= -0.04 <= high[0, 1])
    return results


def rate_coverage(sizes, rates):
    groups = groups_of(sizes)
    comparison, rate = compare(groups), np.asarray(rates)[groups]

    def study(rng, seed):
        draws = bootstrap_means((rng.random(rate.size) < rate).astype(float), comparison, n_resamples=999, seed=seed)
        (dpd_low, dpd_high), (dir_low, dir_high) = gap_interval(draws), ratio_interval(draws)
        return (
            dpd_low[0] <= np.ptp(rates) <= dpd_high[0],
            dir_low[0] <= min(rates) / max(rates) <= dir_high[0],
        )

    return study


def difference_coverage(means_a, means_b, rho=0.8):
    groups = groups_of((349,) * 3)
    comparison = compare(groups)
    true = np.ptp(means_a) - np.ptp(means_b)

    def study(rng, seed):
        shared = dice(rng, np.zeros(groups.size), np.full(groups.size, np.sqrt(rho) * 0.22))
        pair = [
            np.asarray(means)[groups] + shared
            + dice(rng, np.zeros(groups.size), np.full(groups.size, np.sqrt(1 - rho) * 0.22))
            for means in (means_a, means_b)
        ]  # fmt: skip
        draws = bootstrap_means(np.column_stack(pair), comparison, n_resamples=999, seed=seed)
        _, low, high = gap_difference_interval(draws, 0, 1)
        p_low, p_high = draws.interval(lambda m: gap(m[..., 0, :]) - gap(m[..., 1, :]), method="percentile")
        return low <= true <= high, p_low <= true <= p_high

    return study


def change_coverage(sizes, silver, true_gold=0.0, change=0.0):
    groups = groups_of(sizes)
    comparison = compare(groups)
    mean, more = (0.7 + np.linspace(0, true_gold, 3)[groups], np.linspace(0, change, 3)[groups])

    def study(rng, seed):
        pair = np.column_stack(two_scores(rng, groups, (0.22,) * 3, silver, mean, more))
        draws = bootstrap_means(pair, comparison, n_resamples=999, seed=seed)
        _, low, high = gap_difference_interval(draws, 0, 1)
        p_low, p_high = draws.interval(lambda m: gap(m[..., 0, :]) - gap(m[..., 1, :]), method="percentile")
        return low <= change <= high, p_low <= change <= p_high

    return study


def coverage_rows():
    return [
        ("difference of two group means, 349 each: BCa / percentile", pair_coverage),
        ("gap, true 0: ours / percentile / BCa", gap_coverage((0.75, 0.75, 0.75))),
        ("gap, true .02", gap_coverage((0.75, 0.76, 0.77))),
        ("gap, true .05, two groups tie", gap_coverage((0.75, 0.75, 0.80))),
        ("gap, true .05, spread evenly", gap_coverage((0.75, 0.775, 0.80))),
        ("gap, true .10", gap_coverage((0.70, 0.75, 0.80))),
        ("gap, true .05, ethnicity sizes", gap_coverage((0.8, 0.8, 0.75, 0.8), (0.17, 0.22, 0.25, 0.3), ETHNICITY)),
        ("DPD / DIR, 349 each, rates .47 .50 .57", rate_coverage((349,) * 3, (0.47, 0.50, 0.57))),
        ("DPD / DIR, ethnicity sizes, all rates .25", rate_coverage(ETHNICITY, (0.25,) * 4)),
        ("DPD / DIR, ethnicity sizes, rates .95 .95 .95 .98", rate_coverage(ETHNICITY, (0.95, 0.95, 0.95, 0.98))),
        (
            "difference of gaps, .040 and .056: ours / percentile",
            difference_coverage((0, 0.003, 0.04), (0, 0.016, 0.056)),
        ),
        ("difference of gaps, 0 and 0", difference_coverage((0, 0, 0), (0, 0, 0))),
        ("difference of gaps, 0 and .04, two groups tie", difference_coverage((0, 0, 0), (0, 0, 0.04))),
        ("difference of gaps, .04 and .066, two groups near", difference_coverage((0, 0.003, 0.04), (0, 0.03, 0.066))),
        ("difference of gaps, twin, 0 and 0, 60/120/60", change_coverage(SMALL, "twin")),
        ("difference of gaps, twin, 0 and 0, 3 x 349", change_coverage((349,) * 3, "twin")),
        ("difference of gaps, twin, .05 and 0, 3 x 349", change_coverage((349,) * 3, "twin", 0.0, 0.05)),
        (
            "difference of gaps, independent, .15 and .10, 3 x 349",
            change_coverage((349,) * 3, "independent", 0.1, 0.05),
        ),
        ("difference of gaps, shared errors, .05 and 0, 3 x 349", change_coverage((349,) * 3, "shared", 0.0, 0.05)),
        ("difference of gaps, shared errors, .05 and .10, 3 x 349", change_coverage((349,) * 3, "shared", 0.1, -0.05)),
    ]


def verdicts_on_confounding(intrinsic, site):
    def study(rng, seed):
        scores, groups, sources = confounded(rng, intrinsic, site)
        pooled = permutation_test(scores, compare(groups), n_permutations=499, seed=seed)
        within = permutation_test(scores, compare(groups, strata=sources), n_permutations=499, seed=seed)
        result = attenuation(scores, compare(groups), sources, n_resamples=999, seed=seed)
        evident = "supported" if pooled.p[0] < 0.05 else "insufficient"
        verdict = confounding_verdict(evident, result, within.p[0], 0.03).verdict
        return verdict == "supported", verdict == "refuted", verdict == "insufficient"

    return study


def verdicts_on_gap(sizes, true):
    groups = groups_of(sizes)
    comparison = compare(groups)
    mean = 0.75 + true * (groups == len(sizes) - 1)

    def study(rng, seed):
        scores = dice(rng, mean, np.full(groups.size, 0.2))
        draws = bootstrap_means(scores, comparison, n_resamples=999, seed=seed)
        test = permutation_test(scores, comparison, n_permutations=499, seed=seed)
        verdict = three_way(
            test.p[0],
            gap_equivalence(draws, 0.05).high[0],
            0.05,
            smallest_group=min(sizes),
            detectable=detectable_gap(draws)[0],
        ).verdict
        return verdict == "supported", verdict == "refuted", verdict == "insufficient"

    return study


def verdicts_on_change(silver, true_gold, change):
    """How often the groups' differences are called changed, and the gap on silver larger, or smaller."""
    groups = groups_of((349,) * 3)
    comparison = compare(groups)
    mean, more = (0.7 + np.linspace(0, true_gold, 3)[groups], np.linspace(0, change, 3)[groups])

    def study(rng, seed):
        pair = two_scores(rng, groups, (0.22,) * 3, silver, mean, more)
        found = gap_change(*pair, comparison, n_resamples=999, n_permutations=499, seed=seed)
        changed = found.p < 0.05
        return changed, changed and found.low_90 > 0, changed and found.high_90 < 0

    return study


def cause_rows():
    return [
        ("site effect .15 only: explained by source / intrinsic / insufficient", verdicts_on_confounding(0.0, 0.15)),
        ("group effect .10 only", verdicts_on_confounding(0.10, 0.0)),
        ("both, .05 and .25: half is explained", verdicts_on_confounding(0.05, 0.25)),
        ("gap .10 in 349/754/400: supported / refuted / insufficient", verdicts_on_gap(AGE, 0.10)),
        ("gap 0 in 349/754/400, margin .05", verdicts_on_gap(AGE, 0.0)),
        ("gap 0 in 30/30/30, margin .05", verdicts_on_gap((30, 30, 30), 0.0)),
        ("gap .10 in 200/200/12", verdicts_on_gap((200, 200, 12), 0.10)),
        (
            "gap .09 on silver, .04 on gold, independent: changed / larger / smaller",
            verdicts_on_change("independent", 0.04, 0.05),
        ),
        ("gap .09 on silver, .04 on gold, shared errors", verdicts_on_change("shared", 0.04, 0.05)),
        ("gap .05 on silver, 0 on gold, shared errors", verdicts_on_change("shared", 0.0, 0.05)),
        ("gap .05 on silver, .10 on gold, shared errors", verdicts_on_change("shared", 0.10, -0.05)),
        ("gap .06 on both, in reversed order, shared errors", verdicts_on_change("shared", 0.06, -0.12)),
    ]


if __name__ == "__main__":
    main()
