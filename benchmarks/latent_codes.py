"""Time the AUROC of every latent code for every attribute beside scikit-learn's double loop, and whole TAD.

    python -m benchmarks.latent_codes [--images 8000] [--codes 100] [--attributes 40] [--rounds 3]

scikit-learn's roc_auc_score is called once a pair of code and attribute, as the published code does; medaudit sorts
each code once and takes one matrix product. Processor time, of all threads together; rounds alternate, and what is
printed is the median of the rounds' ratios. Codes are continuous, and once rounded to a tenth, so that most are tied.
TAD's five training folds are those of five fourths as many images, so that each has as many as the matrix.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from medaudit.metrics.latent_codes import auroc_matrix, tad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--codes", type=int, default=100)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = f"{options.images:,} x {options.codes} x {options.attributes}"
    print("| images x codes x attributes | medaudit s | scikit-learn s | times faster | same number to |")
    print("|---|---|---|---|---|")
    codes, attributes = made(options.images, options.codes, options.attributes)
    for name, values in (("", codes), (", codes tied", np.round(codes, 1))):
        row(f"AUROC matrix, {size}{name}", lambda v=values: auroc_matrix(v, attributes).auroc,
            lambda v=values: double_loop(v, attributes), options.rounds)  # fmt: skip
    more = made(options.images * 5 // 4, options.codes, options.attributes)
    row(f"TAD, five folds of {size}", lambda: np.array(tad(*more, first=None).values), lambda: folds(*more), 1)


def double_loop(codes: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    return np.array([[roc_auc_score(wanted, code) for code in codes.T] for wanted in attributes.T])


def folds(codes: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Return TAD fold by fold from scikit-learn's loops; no two attributes tell of each other here."""
    values = []
    for rows, _ in KFold(5, shuffle=True, random_state=0).split(codes):
        area = double_loop(codes[rows], attributes[rows])
        area = np.sort(np.maximum(area, 1 - area), axis=1)
        values.append(np.where(area[:, -1] >= 0.75, area[:, -1] - area[:, -2], 0.0).sum())
    return np.array(values)


def made(n: int, m: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (n, m), and attributes (n, k) that each follow one code."""
    rng = np.random.default_rng((3, n))
    codes = rng.normal(size=(n, m))
    return codes, (codes[:, np.arange(k) % m] + rng.normal(size=(n, k)) > 0.8).astype(float)


def row(name: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray], rounds: int) -> None:
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    ways = {"ours": ours, "theirs": theirs}
    found = {"ours": ours()}
    for turn in range(rounds):
        for way in list(ways)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            found[way] = ways[way]()
            times[way].append(time.process_time() - start)
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    mine, peer = (statistics.median(times[way]) for way in ("ours", "theirs"))
    apart = float(np.abs(found["ours"] - found["theirs"]).max())
    print(f"| {name} | {mine:.3f} | {peer:.1f} | {ratio:.0f} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    main()
