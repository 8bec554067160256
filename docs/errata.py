"""Re-derive what the printed numbers of arXiv 2511.00477 and 2510.27421 imply: `python docs/errata.py`.

From printed numbers only: means, SDs, R², success rates and group sizes. Each line begins with the erratum that it is
for. Needs NumPy and SciPy; a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

N = 349
"""Patients in each age group of the six models."""

MODELS = {  # mean and SD of Dice for young, middle, older; printed p, DPD, DIR (arXiv 2511.00477, Table 2)
    "observed": ((0.6941, 0.7104, 0.7500), (0.2489, 0.2399, 0.2056), 0.0049, 0.1060, 0.8150),
    "true": ((0.7304, 0.7333, 0.7703), (0.2333, 0.2253, 0.1899), 0.0260, 0.0802, 0.8710),
    "SWAP-YOUNG": ((0.7320, 0.7379, 0.7739), (0.2381, 0.2193, 0.1922), 0.0227, 0.0716, 0.8853),
    "SWAP-OLDER": ((0.7298, 0.7316, 0.7869), (0.2407, 0.2321, 0.1755), 0.0149, 0.0777, 0.8755),
    "DIFF-BAL": ((0.7317, 0.7308, 0.7678), (0.2314, 0.2220, 0.1999), 0.0481, 0.0762, 0.8761),
    "BIASED": ((0.6797, 0.7132, 0.7458), (0.2463, 0.2282, 0.1991), 0.0006, 0.1146, 0.7895),
}
ETHNICITY = np.array([1128, 241, 86, 51])
DRAWS = 200_000


def p_of_r2(r2: float, n: int) -> float:
    """Return the p-value of a regression on one variable from its R²."""
    return float(stats.f.sf(r2 / (1 - r2) * (n - 2), 1, n - 2))


def anova_p(means: tuple[float, ...], sds: tuple[float, ...]) -> float:
    """Return the p-value of a one-way ANOVA of groups of N from their means and SDs."""
    between = N * np.var(means, ddof=1)
    return float(stats.f.sf(between / np.mean(np.square(sds)), len(means) - 1, len(means) * (N - 1)))


def counts(dpd: float, dir_: float) -> list[tuple[int, int]]:
    """Return the numbers of successes out of N that round to a printed DPD and DIR."""
    pairs = ((low, high) for high in range(1, N + 1) for low in range(high))
    return [(a, b) for a, b in pairs if abs((b - a) / N - dpd) <= 5e-5 and abs(a / b - dir_) <= 5e-5]


def ratio_interval(model: str, correlation: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % sampling interval of gap(model) / gap(true) - 1, older minus young, for correlated scores."""
    (top, top_sd, *_), (base, base_sd, *_) = MODELS[model], MODELS["true"]
    first, other = rng.standard_normal((2, 2, DRAWS))
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    ends = [0, 2]
    above = np.array(top)[ends, None] + np.array(top_sd)[ends, None] / np.sqrt(N) * first
    below = np.array(base)[ends, None] + np.array(base_sd)[ends, None] / np.sqrt(N) * second
    low, high = np.quantile((above[1] - above[0]) / (below[1] - below[0]) - 1, [0.025, 0.975])
    return float(low), float(high)


def derived() -> Iterator[str]:
    """Yield a line a number."""
    rng = np.random.default_rng(0)
    yield f"E1  HD95, R² .0093: p = {p_of_r2(0.0093, 1503):.1e} with n = 1,503, {p_of_r2(0.0093, 1180):.4f} with 1,180"
    for name, (means, sds, printed, dpd, dir_) in MODELS.items():
        found = counts(dpd, dir_) or "no whole numbers of 349"
        yield f"E2  {name}: ANOVA p = {anova_p(means, sds):.5f}, printed {printed}; successes {found}"
    means = MODELS["DIFF-BAL"][0]
    yield f"E3  DIFF-BAL: max - min {max(means) - min(means):.4f}, older - young {means[2] - means[0]:.4f}"
    for name, (means, sds, *_) in MODELS.items():
        gap, half = means[2] - means[0], 1.96 * np.hypot(sds[0], sds[2]) / np.sqrt(N)
        yield f"E4  {name}: older - young {gap:.4f}, 95 % interval {gap - half:.3f} to {gap + half:.3f}"
    for name in ("BIASED", "observed"):
        for r in (0.0, 0.8, 0.95):
            low, high = ratio_interval(name, r, rng)
            yield f"E5  {name} / true - 1, scores correlated {r:g}: {low:+.0%} to {high:+.0%}"
    for what, sizes in (("three groups of 349", np.full(3, N)), ("ethnicity", ETHNICITY)):
        gaps = np.ptp(rng.standard_normal((DRAWS, sizes.size)) * 0.22 / np.sqrt(sizes), axis=1)
        high = np.quantile(gaps, 0.95)
        yield f"E6  {what}, no effect, SD .22: gap {gaps.mean():.3f} on average, 95th percentile {high:.3f}"
    for rate in (0.25, 0.75):
        draws = rng.multivariate_hypergeometric(ETHNICITY, round(rate * ETHNICITY.sum()), DRAWS) / ETHNICITY
        dirs = draws.min(axis=1) / draws.max(axis=1)
        below, low = np.mean(dirs < 0.8), np.quantile(dirs, 0.05)
        yield (
            f"E7  ethnicity, rate {rate:.0%}, fair: mean DIR {dirs.mean():.2f}, below 0.8 in {below:.0%}, "
            f"5th percentile {low:.2f}"
        )


if __name__ == "__main__":
    for line in derived():
        print(line)
