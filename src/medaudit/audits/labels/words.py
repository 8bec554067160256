"""The words of the label audit's page: methods ready to paste, limits, provenance, references."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np

from medaudit import __version__
from medaudit.audits.judging.outcomes import rate_margin
from medaudit.audits.labels.study import ALPHA, Audit, Settings
from medaudit.report import Run, numerals
from medaudit.report.provenance import told

CITATIONS = (
    "Parikh A, Das S, Feragen A. Who Does Your Algorithm Fail? Investigating Age and Ethnic Bias in the MAMA-MIA "
    "Dataset. 2025. arXiv:2510.27421.",
    "Phipson B, Smyth GK. Permutation P-values should never be zero. Stat Appl Genet Mol Biol 2010;9:39.",
    "Chung E, Romano JP. Exact and asymptotically robust permutation tests. Ann Stat 2013;41:484-507.",
    "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6:65-70.",
    "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995;57:289-300.",
)

_HD95 = {"pooled": "both directions pooled", "max": "the larger of the two directions"}
_SURFACE = {"voxel": "voxel centres (a mask voxel with a face neighbour outside the mask)", "area": "surface area"}
_EMPTY = {
    "penalise": "If exactly one mask was empty, Dice and NSD were 0 and distances the image's diagonal; if both were, "
    "the case counted as full agreement.",
    "nan": "If exactly one mask was empty, Dice and NSD were 0 and distances counted as the image's diagonal; cases "
    "with both masks empty were left out.",
    "ignore": "Cases with an empty mask were left out.",
}


def methods(result: Audit) -> str:
    """Return the paragraphs that can be pasted into a paper: what was measured, compared, tested and concluded."""
    parts = [_measured(result), _compared(result), _tested(result.settings), _concluded(result)]
    return "\n\n".join(part for part in parts if part)


def _measured(result: Audit) -> str:
    settings = result.settings
    if "reference" not in result.cohort.roles:
        return f"Scores ({', '.join(settings.measures)}) were taken as given and compared by medaudit {__version__}."
    tolerances = " and ".join(f"{t:g}" for t in settings.tolerances_mm)
    return (
        f"Automated masks were compared with expert masks by medaudit {__version__}: Dice, the 95th percentile of "
        f"surface distances (HD95, {_HD95[settings.hd95]}, linear interpolation) and the normalised surface Dice at "
        f"{tolerances} mm, surfaces by {_SURFACE[settings.surface]}. {_EMPTY[settings.empty]}"
    )


def _compared(result: Audit) -> str:
    rules = []
    for groups in result.comparisons:
        sizes = ", ".join(f"{label} n = {n:,}" for label, n in groups.groups.counts.items())
        unknown = f", {groups.groups.unknown} unknown kept apart" if groups.groups.unknown else ""
        rules.append(f"{groups.groups.rule} ({sizes}{unknown})")
    smallest = result.settings.min_patients
    return f"Groups: {'; '.join(rules)}. Groups of fewer than {smallest} patients were shown and not judged."


def _tested(settings: Settings) -> str:
    text = (
        "Gaps are the largest minus the smallest group mean or success rate. P-values come from "
        f"{settings.resamples:,} permutations of patients between groups (largest Welch t over pairs for scores, the "
        "raw difference for success rates); intervals from as many bootstrap resamples of patients, the lower limit "
        "simultaneous over pairs of groups."
    )
    if settings.within:
        text += (
            f" Confounding by {settings.within} was examined by permuting patients within each {settings.within}, by "
            "the share of the extreme groups' contrast that goes away in the model score ~ group + source, by the "
            "largest excess of a within-source gap over the pooled one (residuals permuted, corrected for all "
            "sources), and by the group x source interaction."
        )
    return text


def _concluded(result: Audit) -> str:
    first, settings = result.comparisons[0], result.settings
    tests = sum(np.isfinite(f.estimate.p) for f in result.findings)
    margins = "; ".join(f"{m.words} {m.margin:.3g} {m.unit}".strip() for m in first.measures)
    return (
        f"P-values of the primary questions (gap of {first.measures[0].words}) were corrected by Holm, all others by "
        f"Benjamini-Hochberg ({tests} tests in all). A problem is called supported if its adjusted p is below "
        f"{ALPHA:g}; refuted if its 90 % interval lies within the margin ({margins}; rates "
        f"{rate_margin(settings.margins):g}); otherwise the data were called insufficient. Seed {settings.seed}."
    )


def limits(result: Audit) -> list[str]:
    """Return what the study cannot say."""
    said = [
        "A gap is a difference in agreement with the reference masks. Where these were made by correcting the "
        "automated ones, agreement is overstated, and most where the least was corrected.",
        "Groups can differ in what is hard (size, contrast, scanner): the gap is the total effect. Adjusting for a "
        "consequence of group membership, such as lesion size, would answer another question.",
        "Not significant is not equal: only 'ruled out' says that a gap lies below the margin.",
    ]
    for groups in result.comparisons:
        if groups.comparable:
            primary = groups.measures[0]
            seen = numerals.about(float(groups.detectable[0]), primary.unit)
            said.append(
                f"By {groups.name}, a gap of {primary.words} below {seen} would be missed in more than one of five "
                "cohorts like this."
            )
        if groups.small:
            said.append(f"Too few patients to judge ({groups.name}): {', '.join(groups.small)}.")
    if result.settings.within is None:
        said.append("No data source was named (--within), so a gap may be one between hospitals or devices.")
    return said


def provenance(result: Audit, run: Run) -> list[tuple[str, str]]:
    """Return what is needed to make the page again, with the source of the dataset and one hash of all masks."""
    source = asdict(result.cohort.source) if result.cohort.source else {}
    more = {f"source: {name}": value for name, value in source.items()}
    if "files_sha256" in result.scores.columns:
        together = "".join(result.scores["files_sha256"].to_list())
        more["input: all masks, SHA-256"] = hashlib.sha256(together.encode()).hexdigest()
    return told(run, result.cohort.name, more=more)
