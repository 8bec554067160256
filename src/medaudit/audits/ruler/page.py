"""The page of the ruler study: does the ruler lie, what shows it, how it was done and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit import __version__
from medaudit.audits.ruler.modes import ALPHA, COLLAPSE, SATURATED
from medaudit.audits.ruler.rulers import GOLD, Limits, Rulers
from medaudit.audits.ruler.study import RulerAudit
from medaudit.report import Answer, Figure, Finding, Report, Run, Section, Table, figures, numerals, provenance

CITATIONS = (
    "Parikh A, Das S, Feragen A. Investigating Label Bias and Representational Sources of Age-Related Disparities in "
    "Medical Segmentation. 2025. arXiv:2511.00477.",
    "Angelopoulos AN, Bates S, Fannjiang C, Jordan MI, Zrnic T. Prediction-powered inference. Science "
    "2023;382:669-674. arXiv:2301.09633.",
    "Levandowsky M, Winter D. Distance between sets. Nature 1971;234:34-35.",
)


def write(result: RulerAudit, run: Run) -> None:
    """Write findings, figures and the page of the study into its run."""
    run.write_findings(result.findings)
    run.write_report(page(result, run))


def page(result: RulerAudit, run: Run) -> Report:
    """Return the report's content."""
    return Report(
        title="Is the gap the model's, or the ruler's?",
        subtitle=f"{result.cohort.name}, by {', '.join(rulers.name for rulers in result.rulers)}",
        headline=headline(result),
        answers=[Answer.of(finding) for finding in foremost(result)],
        sections=list(sections(result)),
        methods=methods(result),
        citations=list(CITATIONS) + ([result.cohort.source.citation] if result.cohort.source else []),
        limits=limits(result),
        provenance=provenance.told(run, result.cohort.name),
        findings=result.findings,
        known=result.cohort.known,
    )


def headline(result: RulerAudit) -> str:
    """Return the answer: what the ruler does to the first grouping's gap, and the modes that were found."""
    modes = [f.claim for f in result.findings if f.verdict == "supported" and f.id.endswith(":false-confidence")]
    return " ".join([result.findings[0].claim, *modes])


def foremost(result: RulerAudit) -> list[Finding]:
    """Return the findings of the first screen: all of the first grouping's, of others the main one and what was found.

    Without gold only the bounded gap has something to say, and comes first.
    """
    first = [f for f in result.findings if f.id == "ruler" or f.id.startswith(f"ruler:{result.rulers[0].name}:")]
    others = [f for f in result.findings if f not in first and (f.id.count(":") == 1 or f.verdict == "supported")]
    if result.rulers[0].both is None:
        first = [f for f in first if f.id.endswith(":true-gap") or f.id == "ruler"][::-1]
    return (first + others)[:9]


def sections(result: RulerAudit) -> Iterator[Section]:
    """Yield each grouping's sections, then who was left out."""
    found = {finding.id: finding for finding in result.findings}
    for rulers in result.rulers:
        if rulers.both is not None:
            yield triangle(rulers, found)
        if rulers.comparable:
            yield gaps(rulers, found)
        if rulers.powered is not None:
            yield powered(rulers, found)
        if rulers.bounds is not None:
            yield bounded(rulers, found)
    if result.excluded:
        rows = [(case, why) for case, why in result.excluded.items()]
        yield Section(
            "Who was left out", "", tables=[Table("Cases that could not be measured", ("Case", "Why"), rows, "ll")]
        )


def triangle(rulers: Rulers, found: dict[str, Finding]) -> Section:
    """The agreement of the three masks by group, and the level shift."""
    words, unit = rulers.measure.words, rulers.measure.unit
    rows = [
        (
            label if n["judged"] else f"{label} (too few to judge)",
            numerals.count(n["n"]),
            numerals.count(n["patients"]),
            *(numerals.number(n[key], 3) for key in ("gold", "silver", "silver_vs_gold")),
            numerals.with_interval(n["shift"], n["shift_low"], n["shift_high"]),
            _limits(n, "sd_ratio"),
            *(_percent(n[key]) for key in ("rate_gold", "rate_silver")),
        )
        for label, n in rulers.numbers.items()
    ]
    shifts = [
        {"group": label, "value": n["shift"], "low": n["shift_low"], "high": n["shift_high"], "n": n["n"]}
        for label, n in rulers.numbers.items()
    ]
    flattering = found[f"ruler:{rulers.name}:false-confidence"]
    return Section(
        f"The three masks by {rulers.name}",
        f"How well the prediction (P), the silver (S) and the gold masks (G) agree in {words}, and by how much silver "
        f"flatters the prediction. {flattering.claim}",
        figures=[
            Figure(
                figures.forest(
                    shifts,
                    title=f"How much silver flatters, by {rulers.name}",
                    measure=f"{words} on silver - on gold",
                    unit=unit,
                ),
                f"shift-by-{rulers.name}",
                "Mean of silver - gold by group with 95 % intervals, positive where silver flatters.",
                "Groups that are flattered by different amounts have another gap on silver than on gold.",
            )
        ],
        tables=[
            Table(
                f"Agreement by {rulers.name}",
                ("Group", "Cases", "Patients", "P-G", "P-S", "S-G", "Shift (95 %)", "SD ratio (95 %)", "G ok", "S ok"),
                rows,
                "lrrrrrrrrr",
                "SD ratio: SD on silver over SD on gold inside the group. 'ok': share of cases that succeed.",
            )
        ],
    )


def gaps(rulers: Rulers, found: dict[str, Finding]) -> Section:
    """Both gaps, their difference and ratio, and the success rates."""
    assert rulers.both is not None
    main = next(f for name, f in found.items() if name in ("ruler", f"ruler:{rulers.name}"))
    e, unit = main.estimate, rulers.measure.unit
    low, high = rulers.both.gap_limits
    of_means = [
        numerals.with_interval(e.extra[key], float(low[k]), float(high[k]), unit)
        for k, key in ((GOLD, "gap_gold"), (GOLD + 1, "gap_silver"))
    ]
    rate = {
        kind: [numerals.with_interval(*rulers.rates[r][kind]) for r in ("gold", "silver")] for kind in ("dpd", "dir")
    }
    rows = [
        ("Gap of means", *of_means, numerals.with_interval(e.value, e.low, e.high, unit)),
        ("DPD", *rate["dpd"], ""),
        ("DIR", *rate["dir"], ""),
    ]
    if rulers.inflation is not None:
        value, below, above = (100 * v for v in rulers.inflation)
        size = numerals.with_unit(abs(value), "%", 0)
        ratio = (
            f"The gap on silver is {size} {'larger' if value > 0 else 'smaller'} "
            f"(95 % interval of the change {numerals.interval(below, above, '%')})."
        )
    else:
        ratio = (
            "The interval of the true gap reaches 0, so a ratio of the gaps would mean nothing: read the difference."
        )
    best, worst = (rulers.both.labels[g] for g in rulers.extremes)
    order = (
        f"In {numerals.percent(rulers.reversal)} of the resamples {best}, the best group on gold, is worse on silver "
        f"than {worst}, the worst."
    )
    flat = (
        f" On silver at least {100 * SATURATED:.0f} % of every group succeed, and not so on gold: success rates on "
        "silver cannot show a disparity."
        if rulers.saturated
        else ""
    )
    return Section(
        f"The {rulers.name} gap on both rulers",
        f"{main.claim} {ratio}",
        tables=[
            Table(
                f"Disparity by {rulers.name}",
                ("", "On gold (95 %)", "On silver (95 %)", "Silver - gold (95 %, paired)"),
                rows,
                "lrrr",
                f"Success: {rulers.both.outcomes[0].text.removesuffix(' against gold')}.",
            )
        ],
        note=order + flat,
    )


def powered(rulers: Rulers, found: dict[str, Finding]) -> Section:
    """The true group means from few gold and many silver masks."""
    assert rulers.powered is not None
    p = rulers.powered
    low, high = p.interval()
    rows = [
        (
            label,
            numerals.count(int(p.sizes[g])),
            numerals.count(int(p.gold_sizes[g])),
            numerals.with_interval(p.means[g], low[g], high[g]),
            numerals.with_interval(
                p.gold_means[g], p.gold_means[g] - 1.96 * p.gold_errors[g], p.gold_means[g] + 1.96 * p.gold_errors[g]
            ),
        )
        for g, label in enumerate(rulers.all_silver.labels)
        if np.isfinite(p.means[g])
    ]
    return Section(
        f"The true means by {rulers.name}, from a sample of gold masks",
        found[f"ruler:{rulers.name}:true-gap"].claim,
        tables=[
            Table(
                f"Prediction-powered means of {rulers.measure.words} by {rulers.name}",
                ("Group", "Cases", "with gold", "Powered mean (95 %)", "Gold alone (95 %)"),
                rows,
                "lrrrr",
                "Unbiased if the cases with gold are a random sample of their group.",
            )
        ],
    )


def bounded(rulers: Rulers, found: dict[str, Finding]) -> Section:
    """What the triangle inequality leaves of the true group means."""
    assert rulers.bounds is not None
    rows = [
        (label, numerals.count(int(n)), f"{numerals.number(low, 3)} to {numerals.number(high, 3)}")
        for label, (low, high, n) in rulers.bounds[2].items()
        if n
    ]
    return Section(
        f"What can be known of the {rulers.name} gap without gold",
        found[f"ruler:{rulers.name}:true-gap"].claim,
        tables=[Table(f"Mean IoU against gold by {rulers.name}, bounds", ("Group", "Cases", "Lies in"), rows, "lrr")],
        note="Bounds, not an interval: the truth lies anywhere in them, if the estimate of silver's IoU is right.",
    )


def methods(result: RulerAudit) -> str:
    """Return the paragraphs that can be pasted into a paper."""
    s, rulers = result.settings, result.rulers[0]
    words, margin = rulers.measure.words, numerals.about(rulers.margin, rulers.measure.unit)
    first = (
        f"Predictions were scored in {words} by medaudit {__version__}"
        + (" against silver (automated) and gold (expert) masks" if rulers.both else " against silver masks")
        + f". Groups: {'; '.join(r.all_silver.groups.rule for r in result.rulers)}. Groups of fewer than "
        f"{s.min_patients} patients were shown and not judged."
    )
    if rulers.both is None:
        return (
            f"{first}\n\nNo expert masks were used. The mean IoU against gold was bounded by the triangle inequality "
            f"of the Jaccard distance, with the estimate of silver's IoU in column {s.silver_iou}; outer limits come "
            f"from {s.resamples:,} bootstrap resamples of patients. Seed {s.seed}."
        )
    second = (
        "Gaps are the largest minus the smallest group mean. The gap on silver was compared with the gap on gold on "
        f"the cases that have both, in {s.resamples:,} bootstrap resamples of patients that serve both rulers; the "
        "interval of the difference allows for the upward bias of either gap. P-values were corrected by Holm over "
        "the main questions and by Benjamini-Hochberg over the rest."
    )
    third = (
        f"Rules: the ruler lies if silver - gold, case by case, differs between groups (permutation of patients, "
        f"corrected p < {ALPHA:g}), and is cleared if the 90 % interval of the difference of gaps lies within "
        f"{margin}. False magnitude: it lies, and that interval is above 0. False confidence: the SD on silver is "
        f"below {COLLAPSE:g} of that on gold with its whole 95 % interval, and the level is raised. Masking: a gap on "
        f"gold is evident, the ruler lies, and the interval is below 0 or the order reversed. Seed {s.seed}."
    )
    return "\n\n".join([first, second, third])


def limits(result: RulerAudit) -> list[str]:
    """Return what the study cannot say."""
    origin = result.settings.silver_from
    said = [
        f"Silver masks: {origin}." if origin else "Where the silver masks come from was not said (--silver-from).",
        "A silver ruler made by a model of the same data or architecture as the predicting one shares its errors, and "
        "flatters it. Scores cannot prove such kinship; the origin must be known.",
    ]
    if result.rulers[0].both is not None:
        said.append(
            "Gold is taken as the truth. Where gold masks were made by correcting silver ones, the two rulers agree "
            "more than they should."
        )
    if any(rulers.sampled for rulers in result.rulers):
        said.append("Gold is known of some cases only: the estimates hold if these are a random sample of their group.")
    small = {f"{r.name} {label}" for r in result.rulers for label in r.all_silver.small}
    if small:
        said.append(f"Too few patients to judge: {', '.join(sorted(small))}.")
    return said


def _limits(numbers: dict[str, float], name: str) -> str:
    if name not in numbers:
        return numerals.MISSING
    limits: Limits = (numbers[name], numbers[f"{name}_low"], numbers[f"{name}_high"])
    return numerals.with_interval(*limits)


def _percent(share: float) -> str:
    return numerals.percent(share) if np.isfinite(share) else numerals.MISSING
