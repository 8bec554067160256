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
    patients, patient = np.unique([str(c) for c in clusters], return_inverse=True)
    names = [None if g is None or g == -1 else str(g) for g in groups]
    labels, group = np.unique(["" if n is None else f"={n}" for n in names], return_inverse=True)
    # (patients, groups): how many cases a patient has in each group.
    cases = np.zeros((len(patients), len(labels)), dtype=np.int64)
    np.add.at(cases, (patient, group), 1)
    for label, n in zip(labels, np.count_nonzero(cases, axis=0), strict=True):
        if label and n < k:
            raise DataError(f"group '{label[1:]}' has {n} patients, fewer than the {k} folds; use fewer folds")
    shuffled = np.random.default_rng(seed).permutation(len(patients))
    order = shuffled[np.argsort(-cases[shuffled].sum(axis=1), kind="stable")]
    share = cases / cases.sum(axis=0)
    held, size = np.zeros((k, len(labels))), np.zeros(k)
    dealt = np.empty(len(patients), dtype=np.int64)
    for i in order:
        fold = int(np.lexsort((size, held @ share[i]))[0])
        dealt[i] = fold
        held[fold] += share[i]
        size[fold] += cases[i].sum()
    return dealt[patient]
