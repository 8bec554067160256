"""From a cohort and a question to a design: two groups, fixed test cases, and who trains at which share.

Patients (or duplicates, which a cohort's clusters hold together) are dealt once, to training or to test. Every model
has the same number of training images: a balance made by drawing dark images twice would teach their duplicates (toy
trap 15 of the specification), and a larger set would make everybody's reconstruction better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaudit.audits.generative.settings import Settings
from medaudit.cohort import Cohort, Grouping, split
from medaudit.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Design:
    """The study's plan; rows index the cohort's table.

    ``groups`` names the majority, then the minority: the group whose share is swept. ``code`` (n,) is 0 or 1, -1 where
    unknown. ``pools`` are the training rows of either. ``strata`` (n,) are codes of what is standardised, -1 unknown.
    """

    attribute: str
    groups: tuple[str, str]
    code: np.ndarray
    pools: tuple[np.ndarray, np.ndarray]
    test: np.ndarray
    train_size: int
    shares: tuple[float, ...]
    clusters: np.ndarray
    strata: np.ndarray | None
    strata_labels: tuple[str, ...]
    notes: tuple[str, ...]

    def training_rows(self, share: float, seed: int) -> np.ndarray:
        """Return the rows of one training; the sets of one seed are nested in each group, so that shares pair up."""
        wanted = round(share * self.train_size)
        rows = []
        for g, count in ((0, self.train_size - wanted), (1, wanted)):
            rng = np.random.default_rng((seed, 21, g))
            rows.append(rng.permutation(self.pools[g])[:count])
        return np.concatenate(rows)


def plan(cohort: Cohort, settings: Settings) -> Design:
    """Return the design; UsageError or DataError for a group that is not two groups, or too small to be swept."""
    found = Grouping.parse(settings.group).apply(cohort)
    present = [g for g in range(len(found.labels)) if (found.codes == g).any()]
    if len(present) != 2:
        there = ", ".join(found.labels[g] for g in present)
        raise UsageError(
            f"--group {settings.group} makes {len(present)} groups ({there}); expected two: cut a number at an edge, "
            "as fitzpatrick_scale:3"
        )
    names = [found.labels[g] for g in present]
    minority = settings.minority or _smaller(found.codes, present, names)
    if minority not in names:
        raise UsageError(f"--minority {minority}: not a group of {settings.group}; there are: {', '.join(names)}")
    order = [g for g in present if found.labels[g] != minority] + [g for g in present if found.labels[g] == minority]
    code = np.full(len(cohort), -1)
    for new, old in enumerate(order):
        code[found.codes == old] = new
    strata: np.ndarray | None = None
    labels: tuple[str, ...] = ()
    notes: list[str] = []
    if settings.standardise is not None:
        mix = Grouping.parse(settings.standardise).apply(cohort)
        strata, labels = mix.codes, mix.labels
    if int((code < 0).sum()):
        notes.append(f"{int((code < 0).sum())} cases are left out: {settings.group} is not known of them.")
    usable = np.flatnonzero(code >= 0)
    clusters = np.unique([str(patient) for patient in cohort.clusters], return_inverse=True)[1]
    kinds = [f"{code[i]}/{-1 if strata is None else strata[i]}" for i in usable]
    part = split(clusters[usable].tolist(), kinds, (1 - settings.test_share, settings.test_share), settings.seed)
    pool, test = usable[part == 0], usable[part == 1]
    pools = (pool[code[pool] == 0], pool[code[pool] == 1])
    for g in (0, 1):
        name = found.labels[order[g]]
        if not (code[test] == g).any() or not len(pools[g]):
            raise DataError(f"{settings.group}: '{name}' has too few patients to train on some and test on others")
    largest = _largest(pools, settings.shares)
    size = settings.train or largest
    if size > largest:
        raise UsageError(
            f"--train {size}: some share would need more images than there are; at most {largest} with the shares "
            f"{', '.join(f'{share:g}' for share in settings.shares)}"
        )
    if size < 8:
        raise DataError(f"only {size} training images can be had at every share; expected 8 or more")
    groups = (found.labels[order[0]], found.labels[order[1]])
    return Design(found.name, groups, code, pools, test, size, settings.shares, clusters, strata, labels, tuple(notes))


def _largest(pools: tuple[np.ndarray, np.ndarray], shares: tuple[float, ...]) -> int:
    bounds = [len(pools[1]) / max(shares) if max(shares) > 0 else np.inf,
              len(pools[0]) / (1 - min(shares)) if min(shares) < 1 else np.inf]  # fmt: skip
    size = int(min(bounds))
    # Rounding may ask for one more than there is.
    while size and any(
        round(share * size) > len(pools[1]) or size - round(share * size) > len(pools[0]) for share in shares
    ):
        size -= 1
    return size


def _smaller(codes: np.ndarray, present: list[int], names: list[str]) -> str:
    counts = [int((codes == g).sum()) for g in present]
    # A tie goes to the last: of numbers, the larger.
    return names[0] if counts[0] < counts[1] else names[1]
