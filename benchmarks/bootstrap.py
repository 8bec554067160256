"""Time 10,000 clustered bootstraps and permutations of all disparities of 1,503 patients, beside fairlearn's bootstrap.

    python benchmarks/bootstrap.py [--fairlearn-resamples 100]

Ours: four scores and outcomes (Dice, HD95, Dice > 0.8, top quarter), three age groups of the published sizes;
group means and rates, gap, DPD, DIR and equity-scaled Dice with their intervals. fairlearn: one outcome, its
selection rate by group with the bootstrap of MetricFrame, which is timed on fewer resamples and scaled up (its
cost is linear in them).
"""

import argparse
import resource
import time

import numpy as np
from fairlearn.metrics import MetricFrame, selection_rate

from medaudit.statistics import (
    bootstrap_means,
    compare,
    equity_scaled,
    gap,
    gap_interval,
    permutation_test,
    ratio_interval,
    top_fraction,
)

RESAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fairlearn-resamples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    imported = peak_megabytes()
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [349, 754, 400])
    dice, hd95 = rng.beta(4, 1, groups.size), rng.gamma(2, 5, groups.size)
    measures = np.column_stack([dice, hd95, dice > 0.8, top_fraction(dice)])
    comparison = compare(groups, 3, clusters=np.arange(groups.size))

    def all_disparities() -> None:
        draws = bootstrap_means(measures, comparison, n_resamples=RESAMPLES, seed=0)
        gap_interval(draws)
        ratio_interval(draws)
        draws.interval(gap)
        draws.interval(lambda means: equity_scaled(means, draws.sizes))
        draws.interval(lambda means: means)

    bootstrap = best(all_disparities, options.repeats)
    permutation = best(lambda: permutation_test(measures, comparison, n_permutations=RESAMPLES), options.repeats)
    memory = peak_megabytes() - imported

    fairlearn = best(
        lambda: MetricFrame(
            metrics=selection_rate,
            y_true=measures[:, 2],
            y_pred=measures[:, 2],
            sensitive_features=groups,
            n_boot=options.fairlearn_resamples,
            ci_quantiles=[0.025, 0.975],
            random_state=0,
        ).difference_ci(),
        1,
    )
    scaled = fairlearn * RESAMPLES / options.fairlearn_resamples
    print(f"| {RESAMPLES} resamples of {groups.size} patients | seconds | times faster |")
    print("|---|---|---|")
    print(f"| medaudit: means, gap, DPD, DIR, ES of 4 measures, BCa | {bootstrap:.3f} | {scaled / bootstrap:.0f} |")
    print(f"| fairlearn: selection rate of 1 outcome (scaled from {options.fairlearn_resamples}) | {scaled:.0f} | 1 |")
    print(f"| medaudit: {RESAMPLES} permutations, gap, DPD, DIR, Welch t of 4 measures | {permutation:.3f} | |")
    print(f"peak memory of medaudit above its imports: {memory:.0f} MB")


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best(work, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
