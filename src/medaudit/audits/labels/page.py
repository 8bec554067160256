"""The page of the label audit: the answer first, then what shows it, then how it was done and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit.audits import worst_cases
from medaudit.audits.judging.compared import Compared
from medaudit.audits.judging.outcomes import Measure, Outcome
from medaudit.audits.labels import quality
from medaudit.audits.labels.study import Audit, Settings
from medaudit.audits.labels.words import CITATIONS, limits, methods, provenance
from medaudit.report import Answer, Figure, Finding, Report, Run, Section, Table, figures, numerals
from medaudit.statistics import (
    added_factor,
    best_and_worst,
    dunn,
    equity_scaled,
    fractional_logit,
    kruskal_wallis,
    mixed_model,
    spline_trend,
    threshold_sweep,
)


def write(result: Audit, run: Run) -> None:
    """Write findings, figures and the page of an audit into its run."""
    run.write_findings(result.findings)
    run.write_report(page(result, run))


def page(result: Audit, run: Run) -> Report:
    """Return the report's content."""
    by = ", ".join(groups.name for groups in result.comparisons)
    return Report(
        title="Are the automated labels equally good for everybody?"
        if run.verb == "labels"
        else "Are the scores equal?",
        subtitle=f"{result.cohort.name}, by {by}",
        headline=headline(result),
        answers=[Answer.of(finding) for finding in foremost(result)],
        sections=list(sections(result)),
        methods=methods(result),
        citations=list(CITATIONS) + ([result.cohort.source.citation] if result.cohort.source else []),
        limits=limits(result),
        provenance=provenance(result, run),
        findings=result.findings,
        known=result.cohort.known,
    )


def headline(result: Audit) -> str:
    """Return the answer of the whole study in a sentence or two: the problems found, or else what could be told."""
    primary = result.comparisons[0].measures[0].name
    claims: dict[str, list[str]] = {"supported": [], "insufficient": [], "refuted": []}
    for kind in ("gap", "masking", "confounding"):
        for groups in result.comparisons:
            finding = next((f for f in result.findings if f.id == f"{kind}:{groups.name}:{primary}"), None)
            if finding is not None and (kind == "gap" or finding.verdict == "supported"):
                claims[finding.verdict].append(finding.claim)
    return " ".join(claims["supported"][:2] or (claims["insufficient"] or claims["refuted"])[:1])


def foremost(result: Audit) -> list[Finding]:
    """Return the findings of the first screen: each primary gap and, where there is one, what else concerns it."""
    found = {finding.id: finding for finding in result.findings}
    shown = []
    for groups in result.comparisons:
        primary, outcome = groups.measures[0].name, groups.outcomes[0].text
        gap = found[f"gap:{groups.name}:{primary}"]
        more = [f"{kind}:{groups.name}:{primary}" for kind in ("trend", "confounding", "masking")]
        more.append(f"dpd:{groups.name}:{outcome}")
        evident = gap.verdict == "supported"
        shown += [gap, *(found[k] for k in more if k in found and (evident or found[k].verdict == "supported"))]
    return shown[:9]


def sections(result: Audit) -> Iterator[Section]:
    """Yield the page's sections: each grouping's, then the cases to look at, the challenge score, who was compared."""
    found = {finding.id: finding for finding in result.findings}
    for groups in result.comparisons:
        yield means(groups, found)
        yield success_rates(groups, found, result.settings)
        if groups.groups.values is not None and groups.everyone.n_clusters >= groups.min_patients:
            yield continuous(groups, found)
        if groups.source is not None and groups.comparable:
            yield sources(groups, found)
        if f"rating:{groups.name}" in found:
            yield rated(groups, found)
        if groups.comparable:
            yield other_tests(groups, result)
    pictures = worst_cases.pictures(result.cohort, result.scores, result.comparisons[0])
    if pictures:
        yield Section(
            "Cases to look at",
            "The lowest scores, each with the expert's outline and the automated one. Numbers find a problem; only "
            "looking tells what it is.",
            pictures=pictures,
            shown_as="outlines",
        )
    if result.settings.challenge or result.settings.challenge_compat:
        yield challenge(result)
    yield who(result)


def means(groups: Compared, found: dict[str, Finding]) -> Section:
    """The groups' mean scores with intervals, against where they would lie if nothing differed."""
    charts, rows = [], []
    for measure in groups.measures:
        column = groups.column(measure)
        numbers = groups.numbers(column)
        worst = _worst(groups, measure)
        null_band = None
        if groups.comparable:
            centre = float(np.nanmean(groups.values[groups.judged.known, column]))
            half = float(groups.chance.null_gap_95[column]) / 2
            null_band = (centre - half, centre + half)
        charts.append(
            Figure(
                figures.forest(
                    [
                        {"group": label, "value": n["mean"], "low": n["low"], "high": n["high"], "n": n["n"]}
                        for label, n in numbers.items()
                    ],
                    title=f"Mean {measure.words} by {groups.name}",
                    measure=measure.words,
                    unit=measure.unit,
                    null_band=null_band,
                    worst=worst if found[f"gap:{groups.name}:{measure.name}"].verdict == "supported" else None,
                ),
                f"mean-{measure.name}-by-{groups.name}",
                f"Group means of {measure.words} with 95 % intervals.",
                found[f"gap:{groups.name}:{measure.name}"].claim,
            )
        )
        for label, n in numbers.items():
            rows.append(
                (
                    f"{measure.words}{f' [{measure.unit}]' if measure.unit else ''}",
                    label,
                    numerals.count(n["n"]),
                    numerals.count(n["patients"]),
                    numerals.with_interval(n["mean"], n["low"], n["high"]),
                    numerals.number(n["sd"]),
                    "" if n["judged"] else "too few to judge",
                )
            )
    primary = groups.measures[0]
    cases = {
        label: groups.values[groups.everyone.groups == g, 0]
        for g, label in enumerate(groups.labels)
        if np.any(groups.everyone.groups == g)
    }
    charts.insert(
        1,
        Figure(
            figures.distribution(
                cases, title=f"{primary.words} of every case", measure=primary.words, unit=primary.unit
            ),
            f"distribution-{primary.name}-by-{groups.name}",
            f"Histograms of {primary.words} by group; values that many cases share are drawn apart.",
            "A mean hides whether many cases are a little worse or a few are lost altogether.",
        ),
    )
    table = Table(
        f"Scores by {groups.name}",
        ("Measure", "Group", "Cases", "Patients", "Mean (95 % interval)", "SD", ""),
        rows,
        "llrrrrl",
    )
    return Section(
        f"Scores by {groups.name}",
        found[f"gap:{groups.name}:{primary.name}"].claim,
        figures=charts,
        tables=[table],
    )


def success_rates(groups: Compared, found: dict[str, Finding], settings: Settings) -> Section:
    """Success rates: DPD and DIR for each rule, and for every threshold of the primary measure."""
    rows = []
    for outcome in groups.outcomes:
        difference, quotient = (found[f"{kind}:{groups.name}:{outcome.text}"] for kind in ("dpd", "dir"))
        d, q = difference.estimate, quotient.estimate
        rates = "; ".join(
            f"{label} {numerals.percent(n['mean'])}" for label, n in difference.groups.items() if np.isfinite(n["mean"])
        )
        rows.append(
            (
                outcome.text,
                rates,
                numerals.with_interval(d.value, d.low, d.high),
                numerals.p_cell(d.p_adjusted),
                difference.verdict,
                numerals.with_interval(q.value, q.low, q.high),
                quotient.verdict,
            )
        )
    table = Table(
        "Success rates: difference (DPD) and ratio (DIR) of the extreme groups",
        ("Success", "Rates", "DPD (95 % interval)", "p, adjusted", "Verdict", "DIR (95 % interval)", "Verdict"),
        rows,
        "llrrlrl",
        "Four-fifths rule: a ratio below 0.8 is flagged only if chance alone does not explain it.",
    )
    charts = []
    if groups.comparable:
        charts.append(
            Figure(
                figures.gaps(
                    [
                        {
                            "label": outcome.text,
                            "value": f.estimate.value,
                            "low": f.estimate.low,
                            "high": f.estimate.high,
                            "verdict": f.verdict,
                            "null_low": 0.0,
                            "null_high": f.estimate.extra.get("null_95", float("nan")),
                        }
                        for outcome in groups.outcomes
                        for f in [found[f"dpd:{groups.name}:{outcome.text}"]]
                    ],
                    title="Difference of success rates, and what chance shows",
                    measure="DPD",
                ),
                f"dpd-by-{groups.name}",
                "Differences of success rates with 95 % intervals over the range that chance gives.",
            )
        )
        charts.append(_sweep(groups, settings))
    return Section(
        f"Success by {groups.name}",
        found[f"dpd:{groups.name}:{groups.outcomes[0].text}"].claim,
        figures=charts,
        tables=[table],
    )


def continuous(groups: Compared, found: dict[str, Finding]) -> Section:
    """The attribute uncut: a restricted cubic spline with its band beside the groups' means."""
    primary = groups.measures[0]
    values = groups.groups.values
    assert values is not None
    attribute = np.where(groups.everyone.known, values, np.nan)
    repeats = groups.everyone.n_clusters < groups.everyone.n_cases
    fit = spline_trend(groups.values[:, 0], attribute, clusters=groups.everyone.clusters if repeats else None)
    numbers = groups.numbers(0)
    bins = []
    for g, label in enumerate(groups.labels):
        inside = attribute[groups.everyone.groups == g]
        if inside.size:
            bins.append(
                {
                    "x": float(np.mean(inside)),
                    "x_low": float(np.min(inside)),
                    "x_high": float(np.max(inside)),
                    "label": label,
                    "n": numbers[label]["n"],
                    "value": numbers[label]["mean"],
                    "low": numbers[label]["low"],
                    "high": numbers[label]["high"],
                }
            )
    line = [
        {"x": float(x), "value": float(v), "low": float(a), "high": float(b)}
        for x, v, a, b in zip(fit.grid, fit.curve, fit.low, fit.high, strict=True)
        if np.isfinite(v)
    ]
    bend = f"Departure from a straight line: {numerals.p_value(fit.p_nonlinear)}." if not fit.reason else fit.reason
    chart = Figure(
        figures.curve(line, bins, title=f"{primary.words} over {groups.name}", x=groups.name, y=primary.words),
        f"{primary.name}-over-{groups.name}",
        f"Spline of {primary.words} over {groups.name} with its 95 % band, and the groups' means.",
        f"{bend} Bins hide what happens inside them; the curve uses every case's own {groups.name}.",
    )
    return Section(
        f"{primary.words} over {groups.name}, without groups",
        found[f"trend:{groups.name}:{primary.name}"].claim,
        figures=[chart],
    )


def sources(groups: Compared, found: dict[str, Finding]) -> Section:
    """The gap pooled and within each source; how much of it goes away when the source is adjusted for."""
    assert groups.source is not None
    primary, source = groups.measures[0], groups.source.name
    pooled, inside = groups.contrasts()
    rows = [{"source": "all sources", **pooled}, *({"source": name, **row} for name, row in inside.items())]
    best, worst = (groups.labels[i] for i in (groups.attenuations[0].best, groups.attenuations[0].worst))
    chart = Figure(
        figures.pooled_against_within(
            rows, title=f"{primary.words}: {best} minus {worst}", measure=primary.words, unit=primary.unit
        ),
        f"{primary.name}-by-{groups.name}-within-{source}",
        f"Difference of mean {primary.words} between {best} and {worst}, pooled and within each {source}.",
        found[f"masking:{groups.name}:{primary.name}"].claim,
    )
    table = Table(
        f"How much of the gap goes away within {source}s",
        (
            "Measure",
            "Gap",
            "Adjusted gap",
            "Goes away (95 % interval)",
            "η² lost",
            "p within",
            "p of source",
            "Verdict",
        ),
        [
            (
                measure.words,
                numerals.number(result.raw.value),
                numerals.number(result.adjusted.value),
                numerals.with_interval(
                    100 * result.attenuation.value, 100 * result.attenuation.low, 100 * result.attenuation.high, "%"
                ),
                numerals.percent(result.eta2_attenuation, 0),
                numerals.p_cell(float(groups.p_within[k])),
                numerals.p_cell(result.source_test.p_robust),
                found[f"confounding:{groups.name}:{measure.name}"].verdict,
            )
            for k, (measure, result) in enumerate(zip(groups.measures, groups.attenuations, strict=True))
        ],
        "lrrrrrrl",
        "η² lost: type II partial η² of the groups with the source in the model, against η² without it. The paper does "
        "not define its effect size, so the contrast and η² are both given.",
    )
    rates = Table(
        f"Largest gap within a {source}",
        (source, "Cases", f"Gap of {primary.words} (95 % interval)", "By chance", "p", "p, Holm", "Detectable"),
        [
            (
                groups.source.labels[row.source],
                numerals.count(row.n),
                numerals.with_interval(row.gap, row.low, row.high),
                numerals.number(row.expected),
                numerals.p_cell(row.p),
                numerals.p_cell(row.p_holm),
                numerals.number(row.detectable),
            )
            for row in groups.within_sources[0].sources
        ],
        "lrrrrrr",
        f"By chance: the gap that this {source} would show if the pooled differences held in it.",
    )
    return Section(
        f"{groups.name} within {source}s",
        found[f"confounding:{groups.name}:{primary.name}"].claim,
        figures=[chart],
        tables=[table, rates],
        note=found[f"interaction:{groups.name}:{primary.name}"].claim,
    )


def rated(groups: Compared, found: dict[str, Finding]) -> Section:
    """How people rated the masks, and the quality tiers, by group."""
    charts = []
    for kind, order in (("rating", quality.RATINGS), ("tier", quality.TIERS)):
        finding = found.get(f"{kind}:{groups.name}")
        if finding is None:
            continue
        rows = [
            {"group": label, "category": name, "n": round(numbers["n"] * numbers[name])}
            for label, numbers in finding.groups.items()
            if numbers["n"]
            for name in order
        ]
        charts.append(
            Figure(
                figures.bars(rows, title=f"{kind.capitalize()}s by {groups.name}", categories=order),
                f"{kind}-by-{groups.name}",
                f"Shares of each {kind} by group.",
                finding.claim,
            )
        )
    return Section(f"Ratings by {groups.name}", found[f"rating:{groups.name}"].claim, figures=charts)


def other_tests(groups: Compared, result: Audit) -> Section:
    """The same question by other tests, for a reviewer who prefers one of them."""
    rows = []
    repeats = groups.judged.n_clusters < groups.judged.n_cases
    clusters = groups.judged.clusters if repeats else None
    site = result.cohort.table.get_column("site", default=None)
    place, places = ("site", None if site is None else np.array([str(name) for name in site]))
    if site is None and groups.source is not None:
        place, places = groups.source.name, groups.source.codes
    for k, measure in enumerate(groups.measures):
        values = groups.values[:, k]
        classic = added_factor(values, groups.judged.groups, clusters=clusters)
        ranks = kruskal_wallis(values, groups.judged)
        pairs = dunn(values, groups.judged)
        names = [
            f"{groups.labels[i]} - {groups.labels[j]}"
            for i, j, p in zip(pairs.i, pairs.j, pairs.p_holm, strict=True)
            if p < 0.05
        ]
        rows += [
            (measure.words, name, statistic, numerals.p_cell(p))
            for name, statistic, p in (
                ("permutation of patients, Welch t (used here)", "", float(groups.chance.p[k])),
                ("one-way ANOVA", f"F = {classic.f:.2f}, η² = {classic.partial_eta2:.4f}", classic.p),
                (f"Wald F, {'clustered' if repeats else 'HC3'}", f"F = {classic.f_robust:.2f}", classic.p_robust),
                ("Kruskal-Wallis", f"H = {ranks.statistic:.2f}, ε² = {ranks.effect:.4f}", ranks.p),
            )
        ]
        rows.append((measure.words, "Dunn, Holm: pairs that differ", "; ".join(names) or "none", ""))
        if measure.bounds == (0.0, 1.0) and np.nanmin(values) >= 0 and np.nanmax(values) <= 1:
            logit = fractional_logit(values, groups.judged, clusters=clusters)
            rows.append((measure.words, "fractional logit", logit.reason, numerals.p_cell(logit.p)))
            draws = groups.draws
            fairseg = float(equity_scaled(draws.observed[k], draws.sizes[k], "fairseg"))
            fairmedfm = float(equity_scaled(draws.observed[k], draws.sizes[k], "fairmedfm"))
            rows.append(
                (measure.words, "equity-scaled mean, FairSeg / FairMedFM", f"{fairseg:.3f} / {fairmedfm:.3f}", "")
            )
        if places is not None:
            mixed = mixed_model(values, groups.judged, places)
            icc = "" if np.isnan(mixed.icc) else f"ICC {mixed.icc:.3f} {mixed.reason}"
            rows.append((measure.words, f"mixed model, (1 | {place})", icc or mixed.reason, numerals.p_cell(mixed.p)))
    return Section(
        f"The same question by other tests: {groups.name}",
        "Where these disagree with the verdict, the choice of the test decides; say which was used.",
        tables=[Table("Tests that all groups score alike", ("Measure", "Test", "Statistic", "p"), rows, "lllr")],
    )


def challenge(result: Audit) -> Section:
    """The MAMA-MIA challenge's score, as it is meant, and as the released script computes it."""
    rows = []
    for compat, name in ((False, "as meant"), (True, "as the released script computes it")):
        if compat and not result.settings.challenge_compat:
            continue
        score = quality.challenge(result.cohort, result.scores, compat=compat)
        by = "; ".join(f"{variable} {numerals.number(value)}" for variable, value in score.fairness_by.items())
        parts = (score.performance, score.fairness, score.ranking)
        rows.append((name, *(numerals.number(value) for value in parts), by))
    return Section(
        "MAMA-MIA challenge score",
        "Half performance, half fairness over age, menopausal status and breast density.",
        tables=[Table("Score", ("", "Performance", "Fairness", "Ranking", "Fairness by"), rows, "lrrrl")],
        note="The released script writes its scores beside the groups' rows, so its fairness is not a number.",
    )


def who(result: Audit) -> Section:
    """Who was compared: group sizes, unknown ones, how the groups spread over the sources, and what was left out."""
    tables = []
    for groups in result.comparisons:
        places = groups.source.labels if groups.source is not None else ()
        home = groups.source.codes if groups.source is not None else groups.groups.codes
        rows = []
        for g, label in enumerate(groups.labels):
            inside = groups.groups.codes == g
            counts = (int(inside.sum()), int(groups.everyone.clusters_per_group[g]))
            spread = (int(np.sum(inside & (home == s))) for s in range(len(places)))
            rows.append((label, *(numerals.count(n) for n in (*counts, *spread))))
        if groups.groups.unknown:
            rows.append(("unknown, kept apart", numerals.count(groups.groups.unknown), "", *("" for _ in places)))
        header = (groups.name, "Cases", "Patients", *places)
        tables.append(Table(f"Who was compared by {groups.name}", header, rows))
    if result.excluded:
        bad = [(case, why) for case, why in result.excluded.items()]
        tables.append(Table("Cases left out", ("Case", "Why"), bad, "ll"))
    return Section(
        "Who was compared",
        f"{numerals.count(len(result.cohort))} cases of {numerals.count(result.cohort.clusters.n_unique())} patients.",
        tables=tables,
        note=" ".join(result.notes),
    )


def _worst(groups: Compared, measure: Measure) -> str | None:
    means = groups.shown.observed[groups.column(measure)]
    worst = int(best_and_worst(means, higher_is_better=measure.higher_is_better)[1])
    return groups.labels[worst] if worst >= 0 else None


def _sweep(groups: Compared, settings: Settings) -> Figure:
    primary = groups.measures[0]
    values = groups.values[groups.judged.known, 0]
    finite = values[np.isfinite(values)]
    low, high = (0.3, 0.98) if primary.bounds == (0.0, 1.0) else tuple(np.quantile(finite, [0.02, 0.98]))
    sweep = threshold_sweep(
        groups.values[:, 0],
        groups.judged,
        np.linspace(low, high, 41),
        better="higher" if primary.higher_is_better else "lower",
        n_resamples=min(2_000, settings.resamples),
        seed=settings.seed,
    )
    chosen = next(
        (o.threshold for o in groups.outcomes if isinstance(o, Outcome) and o.compare and o.measure == primary.name),
        None,
    )
    rates = [
        {"group": label, "threshold": float(t), "rate": float(sweep.rates[i, g])}
        for g, label in enumerate(groups.labels)
        if groups.large[g]
        for i, t in enumerate(sweep.thresholds)
    ]
    ratios = [
        {"threshold": float(t), "value": float(v), "low": float(a), "high": float(b)}
        for t, v, a, b in zip(sweep.thresholds, sweep.dir, sweep.dir_low, sweep.dir_high, strict=True)
        if np.isfinite(v)
    ]
    return Figure(
        figures.threshold_sweep(
            rates,
            ratios,
            title="Success at every threshold",
            threshold=f"{primary.words} {'above' if primary.higher_is_better else 'below'}",
            chosen=chosen,
        ),
        f"sweep-{primary.name}-by-{groups.name}",
        f"Success rates by group and their ratio over all thresholds of {primary.words}.",
        "One threshold can hide or make a disparity: where the ratio crosses 0.8 only somewhere, say where.",
    )
