"""Simulated patients: age, ethnicity, source and site, with the margins that MAMA-MIA's table has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtr

SOURCES = ("ISPY2", "DUKE", "ISPY1", "NACT")
ETHNICITIES = ("caucasian", "african american", "asian", "other")
AGE_GROUPS = ("<=40", "(40, 55]", ">55")
"""The names that the grouping ``age:40,55`` gives these groups."""
SITES_BY_SOURCE = (22, 0, 9, 1)
"""How many sites each source names; DUKE names none."""

# Patients by source (rows) and ethnicity (columns, the last: not known): counts of the public table
# (Garrucho et al. 2025), so that ethnicity is spread over the sources as unevenly as it is there.
_PATIENTS = np.asarray([[777, 116, 68, 16, 3], [177, 91, 7, 14, 2], [129, 31, 7, 2, 2], [45, 3, 4, 3, 9]])
_AGE_COUNTS = np.asarray([349, 754, 400, 3])  # the last: age not known
_AGE_BINS = ((21, 40), (41, 55), (56, 77))
_AGE_MEAN, _AGE_SD = 48.5, 10.4


@dataclass(frozen=True)
class Patients:
    """Who the patients are, (n,) arrays; codes index the tuples of this file, -1 where the table knows
    nothing.

    ``age`` is in whole years, NaN where unknown; ``true_age_group`` is known to the simulator for everybody.
    ``site`` indexes ``site_names``; ``site_share`` is each site's share of its source.
    """

    source: np.ndarray
    ethnicity: np.ndarray
    age: np.ndarray
    true_age: np.ndarray
    true_age_group: np.ndarray
    site: np.ndarray
    site_names: tuple[str, ...]

    @property
    def age_group(self) -> np.ndarray:
        """The age group that the table shows, -1 where age is unknown."""
        return np.where(np.isnan(self.age), -1, self.true_age_group)

    def columns(self, rows: np.ndarray) -> dict[str, pl.Series]:
        """Return the table's columns for cases that belong to the patients ``rows``."""
        age = pl.Series(self.age[rows].astype(np.float64), nan_to_null=True).cast(pl.Int64)
        return {
            "age": age,
            "ethnicity": named(self.ethnicity[rows], ETHNICITIES),
            "source": named(self.source[rows], SOURCES),
            "site": named(self.site[rows], self.site_names),
        }


def draw_patients(
    n: int,
    rng: np.random.Generator,
    *,
    age_by_source: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    ethnicity_follows_source: bool = True,
) -> Patients:
    """Return ``n`` patients whose margins are MAMA-MIA's: exactly at n = 1,506, in proportion otherwise.

    Ages are N(48.5, 10.4) cut to 21-77 within the bins 349/754/400, and 3 are unknown. ``age_by_source``
    moves the age *rank* of each source, in SDs: the margins stay, the association of age with source is
    planted. ``ethnicity_follows_source=False`` spreads ethnicity evenly over the sources instead of as
    published.
    """
    cells = shares_to_counts(_PATIENTS.ravel(), n)
    source, ethnicity = (np.repeat(codes.ravel(), cells) for codes in np.indices(_PATIENTS.shape))
    order = rng.permutation(n)
    source = source[order]
    ethnicity = ethnicity[order if ethnicity_follows_source else rng.permutation(n)]
    ethnicity = np.where(ethnicity == len(ETHNICITIES), -1, ethnicity)

    ages, groups, unknown = _draw_ages(n, rng)
    rank = np.argsort(np.asarray(age_by_source)[source] + rng.standard_normal(n), kind="stable")
    true_age, true_group, known = np.empty(n), np.empty(n, dtype=np.int64), np.ones(n, dtype=bool)
    true_age[rank], true_group[rank], known[rank] = ages, groups, ~unknown

    site, names = _draw_sites(source, rng)
    return Patients(source, ethnicity, np.where(known, true_age, np.nan), true_age, true_group, site, names)


def every_patient(
    *, age_by_source: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0), ethnicity_follows_source: bool = True
) -> tuple[Patients, np.ndarray]:
    """Return every kind of patient (source x ethnicity x year of age) and its probability, (n,), under
    these settings.

    It is the population that :func:`draw_patients` draws from, so that truths can be sums instead of
    simulations.
    """
    joint = _PATIENTS / _PATIENTS.sum()
    if not ethnicity_follows_source:
        joint = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    year, group, share = _age_distribution()
    # The rank that draws the ages is a mixture of normals, one a source; an age's place in it gives P(age |
    # source).
    shift, weight = np.asarray(age_by_source), joint.sum(axis=1)
    rank = np.linspace(-9, 9, 20_001) + shift.mean()
    below = ndtr(np.interp(np.cumsum(share), ndtr(rank[:, None] - shift) @ weight, rank)[:, None] - shift)
    below[-1] = 1.0
    age_given_source = np.diff(below, axis=0, prepend=0.0)
    source, ethnicity, at = (i.ravel() for i in np.indices((*joint.shape, len(year))))
    probability = joint[source, ethnicity] * age_given_source[at, source]
    ethnicity = np.where(ethnicity == len(ETHNICITIES), -1, ethnicity)
    age = year[at].astype(np.float64)
    return Patients(source, ethnicity, age, age, group[at], np.full(len(at), -1), ()), probability


def shares_to_counts(shares: np.ndarray, n: int) -> np.ndarray:
    """Return whole numbers in proportion to ``shares`` that sum to ``n`` (largest remainders)."""
    exact = shares / shares.sum() * n
    counts = np.floor(exact).astype(np.int64)
    rest = n - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    return counts


def named(codes: np.ndarray, names: tuple[str, ...]) -> pl.Series:
    """Return the names of ``codes`` as text, null for -1."""
    return pl.Series([*names, None], dtype=pl.String).gather(np.where(codes < 0, len(names), codes))


def _age_distribution() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each year of age, its group and its share: a cut normal inside each group, the groups as published."""
    years = [np.arange(low, high + 1) for low, high in _AGE_BINS]
    normal = [np.exp(-0.5 * ((year - _AGE_MEAN) / _AGE_SD) ** 2) for year in years]
    shares = _true_age_counts(_AGE_COUNTS) / _AGE_COUNTS.sum()
    share = [part * density / density.sum() for part, density in zip(shares, normal, strict=True)]
    group = np.repeat(np.arange(3), [len(year) for year in years])
    return np.concatenate(years), group, np.concatenate(share)


def _true_age_counts(counts: np.ndarray) -> np.ndarray:
    # Those of unknown age come from the middle group, so that the groups that are seen keep their counts.
    young, middle, older, unknown = counts
    return np.asarray([young, middle + unknown, older])


def _draw_ages(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ages in rising order, their groups, and who of them hides the age from the table."""
    counts = shares_to_counts(_AGE_COUNTS, n)
    sizes = _true_age_counts(counts)
    year, group, share = _age_distribution()
    ages = []
    for i, size in enumerate(sizes):
        here = group == i
        ages.append(np.sort(rng.choice(year[here], size=size, p=share[here] / share[here].sum())))
    hidden = np.zeros(n, dtype=bool)
    hidden[sizes[0] + rng.choice(sizes[1], size=counts[3], replace=False)] = True
    return np.concatenate(ages).astype(np.float64), np.repeat(np.arange(3), sizes), hidden


def _draw_sites(source: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return each patient's site, nested in the source: a few large ones and many small ones."""
    site = np.full(len(source), -1)
    names: list[str] = []
    for code, count in enumerate(SITES_BY_SOURCE):
        members = np.flatnonzero(source == code)
        if count:
            sizes = shares_to_counts(0.85 ** np.arange(count), len(members))
            site[rng.permutation(members)] = len(names) + np.repeat(np.arange(count), sizes)
        names += [f"{SOURCES[code]}-{i + 1:02d}" for i in range(count)]
    return site, tuple(names)
