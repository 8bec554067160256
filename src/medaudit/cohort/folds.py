"""Folds: patients dealt into k parts, each group spread evenly over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medaudit.errors import DataError


def folds(clusters: Sequence[Any], groups: Sequence[Any], k: int, seed: int) -> np.ndarray:
    """Return the fold of each case, (n,) int64 in 0 ... k-1; a patient is in one fold, groups are spread evenly.

    ``clusters``: the patient of each case; ``groups``: its group, ``None`` or -1 where unknown. Patients with most
    cases are dealt first, each to the fold that has least of the patient's groups (greedy; our choice). The same
    patients and ``seed`` give the same folds, whatever the order of the rows.

    Raises DataError if a group has fewer patients than there are folds.
    """
    if k < 2:
        raise DataError(f"{k} folds; expected 2 or more")
    names = [None if g is None or g == -1 else str(g) for g in groups]
    for label in sorted({name for name in names if name is not None}):
        n = len({str(c) for c, name in zip(clusters, names, strict=True) if name == label})
        if n < k:
            raise DataError(f"group '{label}' has {n} patients, fewer than the {k} folds; use fewer folds")
    return split(clusters, groups, (1.0,) * k, seed)


def split(clusters: Sequence[Any], groups: Sequence[Any], shares: Sequence[float], seed: int) -> np.ndarray:
    """Return the part of each case, (n,) int64 in 0 ... len(shares) - 1; a patient is in one part.

    Each part gets about its share of every group's cases (``shares`` need not sum to 1), by the rule of :func:`folds`.
    A group of fewer patients than parts is missing from some of them: who needs it there must look.
    """
    patients, patient = np.unique([str(c) for c in clusters], return_inverse=True)
    names = [None if g is None or g == -1 else str(g) for g in groups]
    labels, group = np.unique(["" if n is None else f"={n}" for n in names], return_inverse=True)
    # (patients, groups): how many cases a patient has in each group.
    cases = np.zeros((len(patients), len(labels)), dtype=np.int64)
    np.add.at(cases, (patient, group), 1)
    wanted = np.asarray(shares, dtype=np.float64)
    shuffled = np.random.default_rng(seed).permutation(len(patients))
    order = shuffled[np.argsort(-cases[shuffled].sum(axis=1), kind="stable")]
    share = cases / cases.sum(axis=0)
    held, size = np.zeros((len(wanted), len(labels))), np.zeros(len(wanted))
    dealt = np.empty(len(patients), dtype=np.int64)
    for i in order:
        part = int(np.lexsort((size / wanted, (held @ share[i]) / wanted))[0])
        dealt[i] = part
        held[part] += share[i]
        size[part] += cases[i].sum()
    return dealt[patient]
