"""Time the metrics of detection and abstention: over resampled patients, and beside fd-shifts and scikit-learn.

    MEDAUDIT_PEERS=FOLDER python -m benchmarks.ood_metrics

FOLDER/fd-shifts is a clone of IML-DKFZ/fd-shifts, which is not on PyPI. The NumPy names that it still asks for are
given to it here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from medaudit.metrics.ranking import auroc
from medaudit.metrics.ranking_draws import ranking_draws
from medaudit.metrics.selective import augrc, aurc
from medaudit.statistics.patients import patient_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    block(rng)
    peer = fd_shifts()
    print()
    print("| n | measure | medaudit ms | peer ms | times faster | same number to |")
    print("|---|---|---|---|---|---|")
    for n in (5_000, 50_000, 500_000):
        rows(n, rng, peer, options.repeats)
    if peer is None:
        print("| | fd-shifts | | not measured: $MEDAUDIT_PEERS/fd-shifts is not there | | |")


def rows(n: int, rng: np.random.Generator, peer: Any, repeats: int) -> None:
    """One size: AUROC beside scikit-learn, AUGRC and AURC beside fd-shifts."""
    scores, loss = rng.normal(size=n), (rng.random(n) < 0.1).astype(float)
    ours: Any = lambda: auroc(scores[loss == 0], scores[loss == 1])
    row(n, "AUROC, scikit-learn", ours, lambda: roc_auc_score(loss, scores), repeats)
    if peer is not None:
        theirs = lambda name: getattr(peer(confids=-scores, residuals=loss), name)
        row(n, "AUGRC, fd-shifts", lambda: augrc(scores, loss), lambda: theirs("augrc"), repeats)
        row(n, "AURC (trapz), fd-shifts", lambda: aurc(scores, loss, "trapz"), lambda: theirs("aurc"), repeats)


def block(rng: np.random.Generator) -> None:
    """32 cells x 3 sets x 2,000 resamples of patients at n = 5,000: nine metrics each."""
    n, cells = 5_000, 32
    who = rng.integers(0, 1_800, n)
    seconds = 0.0
    for _ in range(3):
        outside = rng.random(n) < 0.4
        scores = rng.normal(size=(cells, n)) + outside
        loss = (rng.random((cells, n)) < 0.15).astype(float)
        codes, weights = patient_weights(who, 2_000, 0)
        ranking_draws(scores[:1, :50], outside[:50], loss[:1, :50], codes[:50], weights[:2])  # compiled
        start = time.perf_counter()
        ranking_draws(scores, outside, loss, codes, weights)
        seconds += time.perf_counter() - start
    print("| 32 cells x 3 sets x 2,000 resamples, n = 5,000 | seconds |")
    print("|---|---|")
    print(f"| nine metrics of each, {os.cpu_count()} cores | {seconds:.1f} |")


def row(n: int, name: str, ours: Any, theirs: Any, repeats: int) -> None:
    a, b, mine, peers = [], [], 0.0, 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        mine = float(ours())
        a.append(time.perf_counter() - start)
        start = time.perf_counter()
        peers = float(theirs())
        b.append(time.perf_counter() - start)
    x, y = 1e3 * float(np.median(a)), 1e3 * float(np.median(b))
    apart = min(abs(mine - peers), abs(1000 * mine - peers))
    print(f"| {n:,} | {name} | {x:.2f} | {y:.2f} | {y / x:.1f} | {apart:.0e} |", flush=True)


def fd_shifts() -> Any:
    """Return fd-shifts' class of risk-coverage statistics, or None where it is not there."""
    folder = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere")) / "fd-shifts"
    if not folder.is_dir():
        return None
    for name, value in (("trapz", np.trapezoid), ("infty", np.inf)):
        if not hasattr(np, name):
            setattr(np, name, value)
    analysis = folder / "fd_shifts" / "analysis"
    for name in ("fd_shifts", "fd_shifts.analysis"):
        package = types.ModuleType(name)
        package.__path__ = [str(analysis if "." in name else analysis.parent)]  # its own __init__ imports far more
        sys.modules[name] = package
    found: Any = None
    for name in ("rc_stats_utils", "rc_stats"):
        spec = importlib.util.spec_from_file_location(f"fd_shifts.analysis.{name}", analysis / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
    return found.RiskCoverageStats


if __name__ == "__main__":
    main()
