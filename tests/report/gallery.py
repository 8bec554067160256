"""A report with everything in it, of an invented cohort: what the tests read, and what a designer looks at.

``python tests/report/gallery.py PAGE.html`` writes it.
"""

import math
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medaudit.report import Answer, Figure, Finding, Picture, Report, Section, Table, figures, numerals, render
from medaudit.report.overlay import overlay_png
from medaudit.statistics import Estimate

AGES = ("<=40", "(40, 55]", ">55")
SOURCES = ("Site A", "Site B", "Site C", "Site D")

METHODS = """
We audited the automated segmentation labels of 1,503 cases of 1,503 patients against expert masks with medaudit 0.1.0.
Agreement was measured by the Dice coefficient and the 95th percentile of both directed surface distances together
(HD95, mm; surface voxels have a face neighbour outside the mask); a missed lesion counts as Dice 0 and an infinite
distance.

Age was grouped as up to 40, above 40 to 55, and above 55 years (349, 754 and 400 patients). Gaps between group means
were tested by permutation within data source (10,000 permutations); intervals are bias-corrected and accelerated
bootstraps over patients. P-values were adjusted by Holm's method over 7 primary tests. Seed 0.
"""
CITATIONS = [
    "Parikh A, Das S, Feragen A. Who Does Your Algorithm Fail? Investigating Age and Ethnic Bias in the MAMA-MIA "
    "Dataset. arXiv 2510.27421.",
    "Efron B. Better bootstrap confidence intervals. Journal of the American Statistical Association 1987;82:171–185.",
]
LIMITS = [
    "The cohort is invented: these numbers say nothing about any dataset.",
    "The expert masks were made by correcting the automated ones, so agreement is over-stated for all groups.",
    "With 51 and 86 patients in the two smallest ethnic groups, a gap in Dice below 0.09 would not have been seen.",
    "Age goes with tumour volume, and volume with Dice: the gap is the total effect, not that of age alone.",
]
PROVENANCE = [
    ("Metric", "Dice; HD95 pooled over both directions, linear interpolation, voxel surfaces, mm"),
    ("Empty masks", "both empty: not a number; one empty: Dice 0, HD95 infinite"),
    ("Outcome", "Dice > 0.8; sweep 0.50 to 0.95"),
    ("Groups", "age: (−∞, 40], (40, 55], (55, ∞); ethnicity as recorded"),
    ("n", "1,503 cases of 1,503 patients"),
    ("Seed", "0"),
    ("Resamples", "10,000 bootstraps, 10,000 permutations within source"),
    ("Family", "7 primary tests, Holm"),
    ("Versions", "medaudit 0.1.0, python 3.11.2, numpy 2.4.1, scipy 1.17.0, polars 2.1.0"),
    ("Input cases.csv", "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
]


def cohort() -> dict[str, np.ndarray]:
    """Return 1,503 invented cases whose Dice rises with age, with cases missed, and cases nobody corrected."""
    rng = np.random.default_rng(0)
    share = (rng.permutation(1503) + 0.5) / 1503
    age = np.interp(share, [0, 349 / 1503, 1103 / 1503, 1], [22, 40, 55, 82])  # 349, 754 and 400 by group
    body = rng.beta(8.2, 2.3, 1503) * 0.94 + 0.0016 * (age - 49)
    dice = np.clip(body, 0.02, 0.985)
    dice[rng.random(1503) < 0.055 - 0.001 * (age - 49)] = 0.0
    dice[rng.random(1503) < 0.16 + 0.004 * (age - 49)] = 1.0
    return {
        "age": age,
        "group": np.searchsorted([40, 55], age),
        "dice": dice,
        "source": rng.choice(4, 1503, p=[0.19, 0.11, 0.65, 0.05]),
    }


def mean_of(values: np.ndarray) -> dict[str, float]:
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    return {"value": values.mean(), "low": values.mean() - half, "high": values.mean() + half, "n": values.size}


def gap_of(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    half = 1.96 * math.hypot(a.std(ddof=1) / math.sqrt(a.size), b.std(ddof=1) / math.sqrt(b.size))
    gap = b.mean() - a.mean()
    return {"value": gap, "low": gap - half, "high": gap + half, "n": a.size + b.size}


def findings() -> list[Finding]:
    c = cohort()
    by_age = [c["dice"][c["group"] == g] for g in range(3)]
    gap = gap_of(by_age[0], by_age[2])
    groups = {name: {"n": v.size, "mean": float(v.mean())} for name, v in zip(AGES, by_age, strict=True)}
    rests = ("Dice of the automated mask against the expert's", "a missed lesion counts as Dice 0")

    def finding(key: str, question: str, claim: str, verdict: str, *numbers: float, **more: object) -> Finding:
        value, low, high, p, adjusted = numbers
        estimate = Estimate(
            str(more.get("name", "gap in Dice")), value, low, high, p, adjusted, n=1503, unit=str(more.get("unit", ""))
        )
        return Finding(key, question, claim, verdict, groups, estimate, rests)  # type: ignore[arg-type]

    return [
        finding(
            "gap:age:dice", "Are the labels equally good at every age?",
            "Automated labels of the youngest patients are worse than those of the oldest.",
            "supported", gap["value"], gap["low"], gap["high"], 0.0002, 0.0008,
        ),
        finding(
            "confounding:age:dice", "Is that explained by where the images come from?",
            "No: within the sources the gap between the ages is as large as over all of them.",
            "refuted", 0.062, -0.041, 0.143, 0.31, 0.41, name="share explained",
        ),
        finding(
            "dir:ethnicity:dice>0.8", "Do all ethnicities get usable labels equally often?",
            "These data cannot tell: a fair labeller would show a ratio this low in 3 of 10 cohorts of this size.",
            "insufficient", 0.84, 0.69, 1.02, 0.29, 0.41, name="disparate impact ratio",
        ),
        finding(
            "trend:age:dice", "Does the quality change steadily with age?", "Dice rises by 0.024 in ten years of age.",
            "supported", 0.0024, 0.0011, 0.0037, 0.0004, 0.0012, name="slope", unit="per year",
        ),
        finding(
            "gap:age:hd95_mm", "Are the surfaces equally near at every age?",
            "The 95th percentile distance differs between the ages.",
            "supported", 9.4, 3.1, 15.8, 0.004, 0.008, name="gap in HD95", unit="mm",
        ),
        finding(
            "masking:ethnicity:dice", "Does pooling the sources hide a gap?",
            "At site C the gap between the ethnicities may be larger than over all sources; the sample is too small.",
            "insufficient", 0.048, -0.021, 0.117, 0.17, 0.26,
        ),
        finding(
            "gap:scanner:dice", "Are the labels equally good on every scanner?",
            "Scanners differ by less than the margin of 0.03.", "refuted", 0.006, 0.001, 0.015, 0.74, 0.81,
        ),
    ]  # fmt: skip


def pictures() -> list[Picture]:
    rng = np.random.default_rng(4)
    shown = []
    rows, columns = np.mgrid[:96, :128]
    for i in range(6):
        radius, shift = 9 + 3 * rng.random(), rng.normal(0, 5, 2)
        reference = np.hypot(rows - 48, (columns - 64) * 0.9) < radius * (
            1 + 0.2 * np.sin(3 * np.arctan2(rows - 48, columns - 64))
        )
        labels = np.hypot(rows - 48 - shift[0], columns - 64 - shift[1]) < 0.7 * radius
        tissue = gaussian_filter(rng.normal(0, 1, (96, 128)), 2) * 4 + 2.5 * gaussian_filter(
            reference.astype(float), 1.2
        )
        dice = 2 * np.sum(reference & labels) / (reference.sum() + labels.sum())
        png = overlay_png(tissue if i else None, reference, labels, spacing=(0.8, 0.8))
        shown.append(Picture(png, f"case C-{1000 + i}", f"C-{1000 + i} · <=40 · Dice {dice:.2f}"))
    return shown


def report(young: str = "<=40") -> Report:
    """Return the report; ``young`` renames the youngest group, so that a test can put anything in its place."""
    c = cohort()
    names = (young, *AGES[1:])
    by_age = [c["dice"][c["group"] == g] for g in range(3)]
    forest = [{"group": name, **mean_of(v)} for name, v in zip(names, by_age, strict=True)]
    found = findings()
    sweep = np.linspace(0.5, 0.95, 46)
    rates = np.array([[np.mean(v > t) for t in sweep] for v in by_age])
    ratio = rates.min(0) / rates.max(0)
    error = 1.96 * np.sqrt(((1 - rates) / (rates * np.array([[v.size] for v in by_age]))).sum(0) / 1.5)
    grid = np.linspace(24, 80, 57)
    slope, level = np.polyfit(c["age"], c["dice"], 1)
    spread = 1.96 * 0.22 * np.sqrt(1 / 1503 + (grid - 49) ** 2 / (1503 * c["age"].var()))
    line = [
        {"x": x, "value": level + slope * x, "low": level + slope * x - s, "high": level + slope * x + s}
        for x, s in zip(grid, spread, strict=True)
    ]
    reach = ((24, 40), (40, 55), (55, 80))
    bins = [
        {
            "label": row["group"],
            **row,
            "x": c["age"][c["group"] == g].mean(),
            "x_low": reach[g][0],
            "x_high": reach[g][1],
        }
        for g, row in enumerate(forest)
    ]
    within = [{"source": "all sources", **gap_of(by_age[0], by_age[2])}]
    for i, source in enumerate(SOURCES):
        inside = c["source"] == i
        within.append(
            {"source": source, **gap_of(c["dice"][inside & (c["group"] == 0)], c["dice"][inside & (c["group"] == 2)])}
        )
    cases = dict(zip(names, by_age, strict=True))
    ratings = ("Good", "Acceptable", "Poor", "Missed")
    counts = ((195, 92, 46, 16), (470, 180, 80, 24), (290, 70, 33, 7))
    gap_rows = [
        {
            "label": f.id.split(":")[1], "value": f.estimate.value, "low": f.estimate.low, "high": f.estimate.high,
            "verdict": f.verdict, "null_low": 0.004, "null_high": null,
        }
        for f, null in zip([found[0], found[5], found[6]], [0.039, 0.081, 0.028], strict=True)
    ]  # fmt: skip
    table = Table(
        "Dice by age group",
        ("Age [years]", "n", "mean (95 % interval)", "Dice > 0.8", "missed"),
        [
            (r["group"], numerals.count(r["n"]), numerals.with_interval(r["value"], r["low"], r["high"]),
             numerals.percent(np.mean(v > 0.8)), numerals.percent(np.mean(v == 0)))
            for r, v in zip(forest, by_age, strict=True)
        ],
        note="Missed: the automated mask is empty.",
    )  # fmt: skip
    return Report(
        title="Segmentation labels",
        subtitle="an invented cohort · 1,503 cases of 1,503 patients · by age and ethnicity",
        headline="The automated labels are worse for younger patients: "
        f"mean Dice {forest[0]['value']:.2f} up to 40 years, {forest[2]['value']:.2f} above 55, "
        "and where the images come from does not explain it.",
        answers=[Answer.of(f) for f in found[:3]],
        sections=[
            Section(
                "Age",
                "Labels of patients up to 40 years agree least with the experts. Two of the groups' means lie outside "
                "the band in which chance alone would put them, and the curve rises without a step.",
                figures=[
                    Figure(
                        figures.forest(
                            forest,
                            title="Dice by age group",
                            measure="mean Dice",
                            null_band=(0.795, 0.823),
                            worst=young,
                        ),
                        "Dice by age group",
                        "The youngest group has the lowest mean Dice.",
                        "Mean and 95 % interval (bootstrap over patients, 10,000 resamples).",
                    ),
                    Figure(
                        figures.curve(line, bins, title="Dice over age", x="age [years]", y="Dice"),
                        "Dice over age",
                        "Dice rises with age.",
                        "Band: 95 % of the curve, robust errors.",
                    ),
                    Figure(
                        figures.distribution(cases, title="Every case", measure="Dice", worst=young),
                        "Dice of every case by age group",
                        "Histograms with bars at exactly 0 and 1.",
                    ),
                    Figure(
                        figures.threshold_sweep(
                            [
                                {"group": n, "threshold": t, "rate": r}
                                for n, row in zip(names, rates, strict=True)
                                for t, r in zip(sweep, row, strict=True)
                            ],
                            [
                                {"threshold": t, "value": v, "low": v * math.exp(-e), "high": min(1.0, v * math.exp(e))}
                                for t, v, e in zip(sweep, ratio, error, strict=True)
                            ],
                            title="Success at every threshold",
                            threshold="success is a Dice above",
                            chosen=0.8,
                        ),
                        "Success rates over all thresholds",
                        "Rates by age group above the disparate-impact ratio.",
                        "The verdict does not hang on the threshold of 0.8.",
                    ),
                ],
                tables=[table],
            ),
            Section(
                "Source",
                "The gap between the ages is there within each of the larger sources, "
                "so it is not the mixture of sources that makes it.",
                figures=[
                    Figure(
                        figures.pooled_against_within(
                            within, title="Above 55 minus up to 40 years", measure="gap in mean Dice"
                        ),
                        "Gap pooled and within sources",
                        "The gap is positive over all sources and in each of the larger ones.",
                    ),
                    Figure(
                        figures.gaps(gap_rows, title="Gaps by attribute", measure="largest minus smallest mean Dice"),
                        "Gaps by attribute",
                        "Only the gap by age is beyond what chance shows.",
                    ),
                ],
            ),
            Section(
                "Ratings",
                "Radiologists, who saw the labels without knowing the Dice, rated those of younger patients lower too.",
                figures=[
                    Figure(
                        figures.bars(
                            [
                                {"group": n, "category": k, "n": m}
                                for n, row in zip(names, counts, strict=True)
                                for k, m in zip(ratings, row, strict=True)
                            ],
                            title="First radiologist's rating",
                            categories=ratings,
                        ),
                        "Rating by age group",
                        "57 % Good up to 40 years, 72 % above 55.",
                    )
                ],
            ),
            Section(
                "Worst cases to look at",
                "Six cases of the youngest group with a low Dice, at the slice where the two masks disagree most.",
                pictures=pictures(),
            ),
        ],
        methods=METHODS,
        citations=CITATIONS,
        limits=LIMITS,
        provenance=PROVENANCE,
        findings=found,
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(report()), encoding="utf-8")
