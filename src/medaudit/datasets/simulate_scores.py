"""A simulated cohort of per-case scores: who the patients are, how good their automated masks are, and why.

Causes are planted in the *mean* Dice of each case; the shape of the scores (missed masks, untouched masks,
a skewed body) is the same for all and keeps that mean and SD exactly. What was planted is in
``Cohort.truth``.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import betainc, betaincinv, erf, ndtr

from medaudit.cohort import Cohort
from medaudit.datasets.simulated_patients import (
    AGE_GROUPS,
    ETHNICITIES,
    SITES_BY_SOURCE,
    SOURCES,
    Patients,
    draw_patients,
    every_patient,
    named,
)
from medaudit.datasets.simulated_ratings import RATINGS
from medaudit.errors import UsageError


@dataclass(frozen=True)
class ModelPlant:
    """A model beside the automated labels: its Dice against the expert, and how it shares the labels' errors.

    ``error_correlation`` is -1 to 1: 0, the labels err independently of the model; near 1, they are its twin.
    """

    dice_mean: float = 0.745
    dice_sd: float = 0.22
    error_correlation: float = 0.0


@dataclass(frozen=True)
class ScorePlant:
    """What is planted. Tuples run in the order of ``AGE_GROUPS``, ``ETHNICITIES`` and ``SOURCES``; Dice is
    in [0, 1].

    ``age_effect``, ``age_slope`` (a year, from 48.5) and ``ethnicity_effect`` are intrinsic: these patients
    are harder, for the automated labels and for a model alike. ``age_label_bias`` and
    ``ethnicity_label_bias`` lower the automated labels only. ``source_effect`` with ``age_by_source`` (SDs
    of age rank) or ``ethnicity_follows_source`` confounds: a pooled gap with no gap inside a source.
    ``ethnicity_in_source`` (source, ethnicity, effect) masks: effects that cancel when the sources are
    pooled. ``dice_sd`` by age group is the SD given all else (heteroscedasticity). ``missed`` by age group
    and ``untouched`` are the shares of empty masks (Dice 0) and of masks that the expert left as they were
    (Dice 1). ``cases_per_patient`` > 1 repeats patients, whose cases correlate by ``patient_correlation``.
    """

    dice_mean: float = 0.825
    dice_sd: tuple[float, float, float] = (0.205, 0.205, 0.205)
    missed: tuple[float, float, float] = (0.025, 0.025, 0.025)
    untouched: float = 0.10
    age_effect: tuple[float, float, float] = (0.0, 0.0, 0.0)
    age_slope: float = 0.0
    age_label_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ethnicity_effect: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ethnicity_label_bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    source_effect: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    site_sd: float = 0.0
    age_by_source: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ethnicity_follows_source: bool = True
    ethnicity_in_source: tuple[tuple[str, str, float], ...] = ()
    volume_ml: tuple[tuple[float, float], ...] = ((22.0, 40.0), (22.0, 40.0), (22.0, 40.0))
    """Mean and SD of the tumour's volume by age group."""
    volume_dice_correlation: float = 0.3
    """Rank correlation of volume and Dice inside an age group: larger tumours are outlined better."""
    cases_per_patient: float = 1.0
    patient_correlation: float = 0.5
    model: ModelPlant | None = None

    def __post_init__(self) -> None:
        for source, ethnicity, _ in self.ethnicity_in_source:
            if source not in SOURCES or ethnicity not in ETHNICITIES:
                raise UsageError(
                    f"cannot plant an effect for '{ethnicity}' in '{source}'; expected one of "
                    f"{', '.join(ETHNICITIES)} in one of {', '.join(SOURCES)}"
                )
        if not all(0 <= missed < 1 - self.untouched <= 1 for missed in self.missed):
            raise UsageError(
                f"missed {self.missed} and untouched {self.untouched} are shares; their sum must be below 1"
            )
        if self.cases_per_patient < 1:
            raise UsageError(f"cases_per_patient is {self.cases_per_patient:g}; expected 1 or more")


SCORE_PLANTS: dict[str, ScorePlant] = {
    "none": ScorePlant(),
    "intrinsic": ScorePlant(age_effect=(-0.045, 0.0, 0.045)),
    "confounded": ScorePlant(
        source_effect=(0.035, -0.12, 0.0, 0.0),
        age_by_source=(0.35, -1.3, 0.3, 0.0),
        ethnicity_follows_source=False,
    ),
    "masked": ScorePlant(
        ethnicity_in_source=(
            ("ISPY2", "african american", -0.10),
            ("DUKE", "african american", 0.11),
            ("ISPY1", "african american", 0.11),
        ),
    ),
    # Means and SDs of the automated labels by age, and volumes by age, as printed for MAMA-MIA (arXiv
    # 2510.27421 and 2511.00477); the size of the source effects follows from the printed nested F; the rest
    # is our choice.
    "mama-mia": ScorePlant(
        dice_mean=0.8204,
        dice_sd=(0.216, 0.211, 0.163),
        missed=(0.03, 0.028, 0.012),
        age_effect=(-0.0122, 0.0, 0.0408),
        source_effect=(0.0165, -0.047, -0.012, -0.006),
        site_sd=0.02,
        ethnicity_in_source=(
            ("ISPY2", "african american", -0.045),
            ("DUKE", "african american", 0.05),
            ("ISPY1", "african american", 0.05),
        ),
        volume_ml=((29.0, 59.0), (22.0, 32.0), (17.5, 35.0)),
    ),
}
"""Named plants: a cause by itself each, none at all, and the look of the real cohort."""


def simulate_scores(*, n: int = 1506, seed: int, plant: ScorePlant = SCORE_PLANTS["mama-mia"]) -> Cohort:
    """Return a cohort of ``n`` cases with per-case scores of automated masks; its ``truth`` is what was planted.

    Columns: case_id, patient_id, age (years), ethnicity, source, site, volume_ml, dice, hd95_mm, nsd_2mm,
    rating_1, rating_2, and dice_model_gold, dice_model_silver where the plant has a model. A missed mask
    has Dice 0 and an infinite HD95. ``truth`` holds the plant, ``causes`` by attribute, and the
    population's means, SDs, success rates (Dice > 0.8), gaps and DPDs, pooled, inside each source and
    adjusted for source.

    Raises UsageError if ``n`` is below 1.
    """
    if n < 1:
        raise UsageError(f"cannot simulate {n} cases; expected 1 or more")
    rng = np.random.default_rng(seed)
    n_patients = max(1, round(n / plant.cases_per_patient))
    patients = draw_patients(n_patients, rng, **_association(plant))
    # Every patient has one case; the others fall at random, so that clusters differ in size as real ones do.
    rows = np.sort(np.concatenate([np.arange(n_patients), rng.integers(n_patients, size=n - n_patients)]))

    quality, size, model_quality = (_latent(plant, rows, rng) for _ in range(3))
    rho = plant.volume_dice_correlation
    quality = rho * size + np.sqrt(1 - rho**2) * quality
    mean = _mean_dice(plant, patients) + _site_effect(plant, patients, rng)
    age_group = patients.true_age_group[rows]
    dice = _dice_scores(_mixture(plant, mean[rows], age_group), ndtr(quality))
    volume = _volume_ml(plant, age_group, size)
    hd95, nsd = _surface_scores(dice, volume, rng)

    width = len(str(n))
    columns: dict[str, Any] = {
        "case_id": [f"SIM_{i:0{width}d}" for i in range(1, n + 1)],
        "patient_id": [f"P{i + 1:0{width}d}" for i in rows.tolist()],
        **patients.columns(rows),
        "volume_ml": volume,
        "dice": dice,
        "hd95_mm": hd95,
        "nsd_2mm": nsd,
        **_ratings(dice, rng),
    }
    if plant.model is not None:
        hardness = _mean_dice(plant, patients, labels=False)[rows] - plant.dice_mean
        columns |= _model_scores(plant, plant.model, hardness, dice, quality, model_quality)
    truth = {"simulator": "scores", "seed": seed, "plant": asdict(plant)}
    truth |= copy.deepcopy(population_truth(plant))
    return Cohort("simulated scores", pl.DataFrame(columns), Path(), truth=truth)


def planted_causes(plant: ScorePlant) -> dict[str, str]:
    """Return what makes the attribute's groups differ: none, intrinsic, label, confounded, masked, joined by ``+``."""
    sources_differ = _varies(plant.source_effect)
    cancels = any(effect for _, _, effect in plant.ethnicity_in_source)
    causes = {
        "age": {
            "intrinsic": _varies(plant.age_effect) or plant.age_slope != 0,
            "label": _varies(plant.age_label_bias),
            "confounded": sources_differ and _varies(plant.age_by_source),
        },
        "ethnicity": {
            "intrinsic": _varies(plant.ethnicity_effect),
            "label": _varies(plant.ethnicity_label_bias),
            "confounded": sources_differ and plant.ethnicity_follows_source,
            "masked": cancels,
        },
        "source": {"intrinsic": sources_differ or cancels},
    }
    return {by: "+".join(c for c, planted in found.items() if planted) or "none" for by, found in causes.items()}


@lru_cache(maxsize=64)
def population_truth(plant: ScorePlant) -> dict[str, Any]:
    """Return what an endless cohort of this plant would show: ``causes``, ``groups`` and the gaps between them.

    Everything is a sum over the population by the generator's own formulas, without simulation. ``gap`` is
    the largest difference of group means, ``gap_in_source`` the same inside each source, ``gap_adjusted``
    that of the group means standardised to the pooled mix of sources; ``dpd`` is the largest difference of
    success rates (Dice > 0.8).
    """
    patients, weight = every_patient(**_association(plant))
    # Sites are drawn from a normal: seven Gauss-Hermite nodes stand for it.
    node, node_weight = np.polynomial.hermite_e.hermegauss(7)
    rows = np.repeat(np.arange(len(weight)), len(node))
    weight = np.outer(weight, node_weight / node_weight.sum()).ravel()
    source = patients.source[rows]
    site_effect = plant.site_sd * (np.asarray(SITES_BY_SOURCE) > 1)[source] * np.tile(node, len(patients.source))
    group = patients.true_age_group[rows]
    mean, sd, rate = _moments(_mixture(plant, _mean_dice(plant, patients)[rows] + site_effect, group))

    def average(values: np.ndarray, members: np.ndarray) -> float:
        total = weight[members].sum()
        return float(weight[members] @ values[members] / total) if total else float("nan")

    truth: dict[str, Any] = {"causes": planted_causes(plant), "groups": {}}
    truth |= {key: {} for key in ("gap", "gap_adjusted", "gap_in_source", "dpd", "dpd_in_source")}
    mix = np.bincount(source, weight)
    codes = {"age": group, "ethnicity": patients.ethnicity[rows], "source": source}
    for by, labels in {"age": AGE_GROUPS, "ethnicity": ETHNICITIES, "source": SOURCES}.items():
        groups = [codes[by] == i for i in range(len(labels))]
        truth["groups"][by] = {
            label: {
                "share": float(weight[members].sum()),
                "dice_mean": (centre := average(mean, members)),
                "dice_sd": float(np.sqrt(average(sd**2 + mean**2, members) - centre**2)),
                "rate": average(rate, members),
            }
            for label, members in zip(labels, groups, strict=True)
        }
        truth["gap"][by] = _range([average(mean, members) for members in groups])
        truth["dpd"][by] = _range([average(rate, members) for members in groups])
        if by == "source":
            continue
        inside = [[members & (source == s) for s in range(len(SOURCES))] for members in groups]
        means = np.asarray([[average(mean, cell) for cell in row] for row in inside])
        rates = np.asarray([[average(rate, cell) for cell in row] for row in inside])
        truth["gap_in_source"][by] = {name: _range(means[:, s]) for s, name in enumerate(SOURCES)}
        truth["dpd_in_source"][by] = {name: _range(rates[:, s]) for s, name in enumerate(SOURCES)}
        truth["gap_adjusted"][by] = _range(means @ mix)
    return truth


def _association(plant: ScorePlant) -> dict[str, Any]:
    return {"age_by_source": plant.age_by_source, "ethnicity_follows_source": plant.ethnicity_follows_source}


def _mean_dice(plant: ScorePlant, patients: Patients, *, labels: bool = True) -> np.ndarray:
    """Return each patient's expected Dice, (n,); ``labels=False``: without what only the automated labels suffer."""
    # Those of unknown ethnicity are the average patient: no effect is planted for them.
    ethnicity = np.asarray([*plant.ethnicity_effect, 0.0])
    age = np.asarray(plant.age_effect)
    mean = plant.dice_mean + plant.age_slope * (patients.true_age - 48.5)
    if labels:
        ethnicity = ethnicity + np.asarray([*plant.ethnicity_label_bias, 0.0])
        age = age + np.asarray(plant.age_label_bias)
    mean = mean + age[patients.true_age_group] + ethnicity[patients.ethnicity]
    mean = mean + np.asarray(plant.source_effect)[patients.source]
    for source, group, effect in plant.ethnicity_in_source:
        at = (patients.source == SOURCES.index(source)) & (patients.ethnicity == ETHNICITIES.index(group))
        mean = mean + effect * at
    return mean


def _site_effect(plant: ScorePlant, patients: Patients, rng: np.random.Generator) -> np.ndarray:
    """Return each patient's site effect, centred in its source: the planted source effects stay what they are."""
    effect = plant.site_sd * rng.standard_normal(len(patients.site_names) + 1)
    effect[-1] = 0.0
    effect = effect[patients.site]
    count = np.bincount(patients.source, minlength=len(SOURCES))
    centre = np.bincount(patients.source, effect, minlength=len(SOURCES)) / np.maximum(count, 1)
    return effect - centre[patients.source]


def _mixture(plant: ScorePlant, mean: np.ndarray, age_group: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the weights at 0 and 1 and the two parameters of the Beta body, (n,) each, that give this mean.

    With weights p0 and p1 the body's mean is (mean - p1) / (1 - p0 - p1), and its variance follows from the
    wanted SD likewise; where no Beta has that variance, the nearest is taken.
    """
    p0 = np.asarray(plant.missed)[age_group]
    p1 = np.full(len(mean), plant.untouched)
    body = 1 - p0 - p1
    centre = np.clip((mean - p1) / body, 0.02, 0.98)
    second = (np.asarray(plant.dice_sd)[age_group] ** 2 + mean**2 - p1) / body
    variance = np.maximum(second - centre**2, 1e-9)
    concentration = np.clip(centre * (1 - centre) / variance - 1, 0.5, 200.0)
    return p0, p1, centre * concentration, (1 - centre) * concentration


def _moments(mixture: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean and SD of Dice and the rate of Dice > 0.8 under each mixture, (n,)."""
    p0, p1, a, b = mixture
    body, centre = 1 - p0 - p1, a / (a + b)
    mean = p1 + body * centre
    second = p1 + body * (centre**2 + centre * (1 - centre) / (a + b + 1))
    return mean, np.sqrt(second - mean**2), p1 + body * (1 - betainc(a, b, 0.8))


def _dice_scores(mixture: tuple[np.ndarray, ...], quantile: np.ndarray) -> np.ndarray:
    p0, p1, a, b = mixture
    body = betaincinv(a, b, np.clip((quantile - p0) / (1 - p0 - p1), 0.0, 1.0))
    return np.where(quantile < p0, 0.0, np.where(quantile > 1 - p1, 1.0, body))


def _latent(plant: ScorePlant, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return standard normal values, one a case, that correlate within a patient."""
    own, shared = rng.standard_normal(len(rows)), rng.standard_normal(rows[-1] + 1)
    r = plant.patient_correlation
    return np.sqrt(1 - r) * own + np.sqrt(r) * shared[rows]


def _volume_ml(plant: ScorePlant, age_group: np.ndarray, size: np.ndarray) -> np.ndarray:
    mean, sd = np.asarray(plant.volume_ml).T
    log_variance = np.log1p((sd / mean) ** 2)
    log_mean = np.log(mean) - log_variance / 2
    return np.exp(log_mean[age_group] + np.sqrt(log_variance)[age_group] * size)


def _surface_scores(dice: np.ndarray, volume_ml: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return HD95 in mm and NSD at 2 mm that go with a Dice (our choice of model).

    A thin layer of error, on average t thick, all round a ball of radius r costs 1 - Dice = 1.5 t / r.
    Distances are half-normal: their mean is 0.80 and their 95 % point 1.96 scales. Lognormal noise makes
    the skew.
    """
    radius_mm = (3000 * volume_ml / (4 * np.pi)) ** (1 / 3)
    scale = (1 - dice) * radius_mm / 1.5 / 0.80 * np.exp(0.5 * rng.standard_normal(len(dice)))
    scale = np.where(dice == 0, np.inf, scale)
    with np.errstate(divide="ignore"):
        return [1.96 * scale, erf(2.0 / (scale * np.sqrt(2)))]


def _ratings(dice: np.ndarray, rng: np.random.Generator) -> dict[str, pl.Series]:
    """Return two raters' words for a mask: from its Dice, with an opinion that both share and one of their own."""
    shared = 0.06 * rng.standard_normal(len(dice))
    ratings = {}
    for rater, severity in (("rating_1", 0.0), ("rating_2", 0.02)):
        seen = dice + shared - severity + 0.06 * rng.standard_normal(len(dice))
        code = np.where(seen >= 0.75, 0, np.where(seen >= 0.55, 1, 2))
        ratings[rater] = named(np.where(dice == 0, 3, code), RATINGS)
    return ratings


def _model_scores(
    plant: ScorePlant,
    model: ModelPlant,
    hardness: np.ndarray,
    dice: np.ndarray,
    quality: np.ndarray,
    model_quality: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return a model's Dice against the expert (gold) and against the automated labels (silver).

    Errors are vectors whose lengths are Jaccard distances to the expert and whose cosine is the error
    correlation, so the distance between model and labels obeys the triangle inequality in every case, as
    real masks do (our choice).
    """
    rho = model.error_correlation
    # What is hard for the labels is hard for a model too, even where their errors point in different ways.
    together = np.clip(0.3 + 0.7 * rho, 0.0, 1.0)
    latent = together * quality + np.sqrt(1 - together**2) * model_quality
    centre = np.clip(model.dice_mean + hardness, 0.05, 0.98)
    concentration = np.maximum(centre * (1 - centre) / model.dice_sd**2 - 1, 0.5)
    gold = betaincinv(centre * concentration, (1 - centre) * concentration, ndtr(latent))
    to_gold, labels_to_gold = _jaccard_distance(gold), _jaccard_distance(dice)
    squared = to_gold**2 + labels_to_gold**2 - 2 * rho * to_gold * labels_to_gold
    distance = np.clip(np.sqrt(np.maximum(squared, 0.0)), 0.0, 1.0)
    silver = 2 * (1 - distance) / (2 - distance)
    return {"dice_model_gold": gold, "dice_model_silver": np.where(dice == 0, 0.0, silver)}


def _jaccard_distance(dice: np.ndarray) -> np.ndarray:
    return 1 - dice / (2 - dice)


def _varies(values: tuple[float, ...]) -> bool:
    return max(values) > min(values)


def _range(values: Any) -> float:
    return round(float(np.nanmax(values) - np.nanmin(values)), 12)  # equal means differ in their last bit
