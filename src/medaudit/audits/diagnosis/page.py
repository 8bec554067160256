"""The page of the diagnosis: the causes first, then what each rests on, how it was done, and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from medaudit import __version__
from medaudit.audits import worst_cases
from medaudit.audits.diagnosis.causes import ALPHA, CAUSES, named
from medaudit.audits.diagnosis.design import BALANCED, BASELINE, BIASED, GOLD, SILVER, Training
from medaudit.audits.diagnosis.evidence import QUALITY, Evidence
from medaudit.audits.diagnosis.images import Latent, Shape
from medaudit.audits.diagnosis.study import Diagnosis
from medaudit.audits.judging.conclude import conclude
from medaudit.audits.ruler import page as ruler_report
from medaudit.audits.ruler.study import true_gap, two_rulers
from medaudit.report import Answer, Figure, Report, Run, Section, Table, figures, numerals, provenance
from medaudit.report.html import WORDS
from medaudit.statistics import Estimate, gap

CITATIONS = (
    "Parikh A, Das S, Feragen A. Investigating Label Bias and Representational Sources of Age-Related Disparities in "
    "Medical Segmentation. 2025. arXiv:2511.00477.",
    "Parikh A, Das S, Feragen A. Who Does Your Algorithm Fail? Investigating Age and Ethnic Bias in the MAMA-MIA "
    "Dataset. 2025. arXiv:2510.27421.",
)

TITLES = {
    "label_bias": "Label bias",
    "representation": "Harder images",
    "difficulty_imbalance": "More hard cases",
    "ruler": "Biased ruler",
    "amplification": "Amplification",
    "source_confounding": "Data source",
}
"""What a cause is called in a table."""

LEARNED = 0.5
"""A baseline below this mean overlap has hardly learned, and its errors say little about the groups (our choice)."""


def write(result: Diagnosis, run: Run, difficulty_from: str) -> None:
    """Write findings, figures and the page of the study into its run."""
    run.write_findings(result.findings)
    run.write_report(page(result, run, difficulty_from))


def page(result: Diagnosis, run: Run, difficulty_from: str) -> Report:
    """Return the report's content."""
    e = result.evidence
    source = e.cohort.source
    return Report(
        title="Where does the bias come from?",
        subtitle=f"{e.cohort.name}, by {e.by}",
        headline=headline(result),
        answers=[Answer.of(finding) for finding in result.findings],
        sections=list(sections(result, run)),
        methods=methods(result, difficulty_from),
        citations=list(CITATIONS) + ([source.citation] if source else []),
        limits=limits(result),
        provenance=provenance.told(run, result.evidence.cohort.name, seconds=result.seconds),
        findings=result.findings,
        known=e.cohort.known,
    )


def headline(result: Diagnosis) -> str:
    """Return the answer in a sentence or two: the causes that were found, or what these data can and cannot tell."""
    found = {finding.id: finding for finding in result.findings}
    causes = named(result.findings)
    if causes:
        return " ".join(_first_sentence(found[cause].claim) for cause in causes[:3])
    ruled_out = [TITLES[cause].lower() for cause in CAUSES if found[cause].verdict == "refuted"]
    if not ruled_out:
        return f"No cause of a gap by {result.evidence.by} was found, and none can be ruled out with these data."
    open_ones = [TITLES[cause].lower() for cause in CAUSES if found[cause].verdict == "insufficient"]
    rest = f" These data cannot tell about: {', '.join(open_ones)}." if open_ones else ""
    return f"No cause of a gap by {result.evidence.by} was found. Ruled out: {', '.join(ruled_out)}.{rest}"


def sections(result: Diagnosis, run: Run) -> Iterator[Section]:
    """Yield the page's sections: the causes, the models, each cause's evidence, the cases, who was left out."""
    e = result.evidence
    yield verdicts(result)
    yield models(result)
    if e.labels is not None:
        yield labels(result)
    if e.rulers is not None and e.rulers.comparable:
        found = {f.id: f for f in conclude([*two_rulers(e.rulers, "ruler"), true_gap(e.rulers)])}
        found["ruler"] = next(f for f in result.findings if f.id == "ruler")
        yield ruler_report.triangle(e.rulers, found)
        yield ruler_report.gaps(e.rulers, found)
    if e.hardness is not None and not e.hardness.reason:
        yield difficulty(result)
    if result.latent is not None:
        yield latent(result.latent, e)
    if result.shapes:
        yield morphometry(result.shapes, e)
    pictures = worst(result, run)
    if pictures:
        yield pictures
    if result.excluded:
        rows = [(case, why) for case, why in result.excluded.items()]
        yield Section(
            "Who was left out", "", tables=[Table("Cases that could not be measured", ("Case", "Why"), rows, "ll")]
        )


def verdicts(result: Diagnosis) -> Section:
    """The table cause x evidence."""
    rows = []
    for finding in result.findings:
        n = finding.estimate
        rows.append(
            (
                TITLES[finding.id],
                WORDS[finding.verdict],
                n.name if np.isfinite(n.value) else numerals.MISSING,
                numerals.with_interval(n.value, n.low, n.high, n.unit),
                numerals.p_cell(n.p_adjusted),
                "; ".join(evidence_of(finding.id, result)),
            )
        )
    return Section(
        "Causes and evidence",
        "Each cause has a question of its own, and several can be there together. A cause that was not found is not "
        "one that is not there: only 'ruled out' says so.",
        tables=[
            Table(
                f"Where a gap by {result.evidence.by} may come from",
                ("Cause", "Verdict", "What was measured", "Value (95 %)", "p, adjusted", "Beside it"),
                rows,
                "lllrrl",
            )
        ],
    )


def evidence_of(cause: str, result: Diagnosis) -> list[str]:
    """Return what else speaks for or against a cause, in short phrases."""
    e = result.evidence
    said: list[str] = []
    if not e.models.comparable:
        return said
    if cause == "label_bias":
        for training in e.design.trainings:
            if training.name.startswith("swap-"):
                said.append(f"{training.name}: {_changed(training.name, e)}")
    if cause == "representation" and result.latent is not None:
        probe = result.latent.probe
        said.append(
            f"latent space knows the group: AUROC {numerals.number(probe.auroc, 2)}, {numerals.p_value(probe.p)}"
        )
    if cause in ("representation", "difficulty_imbalance") and BALANCED in e.columns:
        said.append(f"{BALANCED}, on all cases: {_changed(BALANCED, e)}")
    if cause == "amplification" and e.biased:
        column = e.design.names.index(BIASED)
        rates = e.models.draws.observed[len(e.models.measures) + column]
        known = rates[np.isfinite(rates)]
        if known.size and known.max() >= 0.05:  # a ratio of rates near 0 says nothing
            said.append(f"DIR of the model on automated labels {numerals.number(float(known.min() / known.max()), 2)}")
    return said


def models(result: Diagnosis) -> Section:
    """Every model's gap on expert masks, and how it changes from the baseline's."""
    e = result.evidence
    groups, unit = e.models, e.measure.unit
    rows, charts = [], []
    names = e.design.names
    gaps = gap(groups.draws.observed) if groups.comparable else np.full(len(names), np.nan)
    for column, training in enumerate(e.design.trainings):
        means = [
            numerals.number(float(groups.shown.observed[column, g]), 3 if not unit else None)
            for g in range(len(groups.labels))
        ]
        low = high = p = float("nan")
        changed = numerals.MISSING
        if groups.comparable:
            low, high = (float(limits[column]) for limits in groups.gap_limits)
            p = float(groups.chance.p[column])
            null = groups.chance.null_gap[:, column]
            charts.append(
                {
                    "label": training.name,
                    "value": float(gaps[column]),
                    "low": low,
                    "high": high,
                    "verdict": "supported" if p < ALPHA else "insufficient",
                    "null_low": float(np.quantile(null, 0.025)),
                    "null_high": float(np.quantile(null, 0.975)),
                }
            )
            if column:
                change = e.change(training.name)
                changed = numerals.with_interval(change.value, change.low, change.high, unit)
        rows.append(
            (
                training.name,
                numerals.count(len(training.rows)),
                *means,
                numerals.with_interval(float(gaps[column]), low, high, unit),
                numerals.p_cell(p),
                changed,
            )
        )
    shown = []
    if charts:
        shown.append(
            Figure(
                figures.gaps(
                    charts, title=f"Gap by {e.by} of each model", measure=f"gap of {e.measure.words}", unit=unit
                ),
                f"gaps-by-{e.by}",
                "The gap of each model on expert masks with its 95 % interval, against what chance alone shows.",
                "Diamond: p below 0.05, not corrected. The verdicts rest on the changes between models, not on these.",
            )
        )
    return Section(
        "The models",
        "All were trained on the same folds, with the same number of cases of each group, first weights and order; "
        "they differ in one thing each. All are scored on expert masks, each case by a model that has not seen the "
        "patient.",
        figures=shown,
        tables=[
            Table(
                f"Mean {e.measure.words} on expert masks",
                ("Model", "Trained on", *groups.labels, "Gap (95 %)", "p", "Change from baseline (95 %)"),
                rows,
                "lr" + "r" * len(groups.labels) + "rrr",
                "p: permutation of patients, not corrected. Change: gap less the baseline's, paired by patient.",
            )
        ],
        note=" ".join(e.design.notes),
    )


def labels(result: Diagnosis) -> Section:
    """How good the automated labels are by group, and how much a swap really changed."""
    e = result.evidence
    assert e.labels is not None
    finding = next(f for f in result.findings if f.id == "label_bias")
    numbers = e.labels.numbers(0)
    rows = [
        {"group": label, **{key: n[key] for key in ("low", "high", "n")}, "value": n["mean"]}
        for label, n in numbers.items()
    ]
    swaps = [
        (t.name, numerals.count(len(t.swapped)), numerals.percent(len(t.swapped) / len(t.rows)), *_realised(t, e))
        for t in e.design.trainings
        if len(t.swapped)
    ]
    tables = []
    if swaps:
        tables.append(
            Table(
                "What the swapped labels changed",
                (
                    "Model",
                    "Labels swapped",
                    "of all it saw",
                    f"Mean {e.measure.words}, automated against expert",
                    "Lowest",
                ),
                swaps,
                "lrrrr",
                "A swap of labels that agree already is a weak intervention: a model that does not change then shows "
                "little.",
            )
        )
    return Section(
        "The automated labels",
        finding.claim,
        figures=[
            Figure(
                figures.forest(rows, title=f"Automated labels by {e.by}", measure=e.measure.words, unit=e.measure.unit),
                f"labels-by-{e.by}",
                f"Mean {e.measure.words} of the automated labels against the experts', by group, with 95 % intervals.",
            )
        ],
        tables=tables,
    )


def difficulty(result: Diagnosis) -> Section:
    """How the groups divide into easy and hard cases, and the gap at one mix."""
    e = result.evidence
    assert e.hardness is not None
    assert e.mix is not None
    h, mix = e.hardness, e.mix
    finding = next(f for f in result.findings if f.id == "difficulty_imbalance")
    groups, unit = e.models, e.measure.unit
    there = [g for g in range(len(groups.labels)) if np.isfinite(h.raw_means[g])]
    counts = [
        {
            "group": groups.labels[g],
            "category": level,
            "n": int(np.sum((groups.judged.groups == g) & (e.design.difficulty == k))),
        }
        for g in there
        for k, level in enumerate(e.design.levels)
    ]
    rows = [
        (
            groups.labels[g],
            *(numerals.percent(float(h.mix[g, k]), 0) for k in range(len(e.design.levels))),
            *(numerals.number(float(means[g]), 3) for means in (mix.raw_means, mix.means, h.means)),
        )
        for g in there
    ]
    return Section(
        "Easy and hard cases",
        finding.claim,
        figures=[
            Figure(
                figures.bars(counts, title=f"Difficulty by {e.by}", categories=e.design.levels),
                f"difficulty-by-{e.by}",
                "The shares of easy and hard cases in each group.",
            )
        ],
        tables=[
            Table(
                f"Mean {e.measure.words}, and at one mix of difficulty",
                ("Group", *e.design.levels, "Baseline", "At one mix", f"At one mix, {e.balanced}"),
                rows,
                "l" + "r" * (len(e.design.levels) + 3),
                f"Difference of the extreme groups: {_limits(mix.raw, unit)}, at one mix "
                f"{_limits(mix.adjusted, unit)}, with the model {e.balanced} {_limits(h.adjusted, unit)}.",
            )
        ],
    )


def latent(known: Latent, e: Evidence) -> Section:
    """What the baseline's latent space knows of the groups."""
    rows = []
    for name, words in (
        ("silhouette", "Silhouette of the groups"),
        ("purity", "Purity of k-means clusters"),
        ("ari", "Adjusted Rand index"),
        ("nmi", "Normalised mutual information"),
    ):
        mean, sd = known.over_folds(name)
        chance = numerals.number(known.over_folds("chance_purity")[0], 3) if name == "purity" else "0"
        rows.append((words, f"{numerals.number(mean, 3)} ± {numerals.number(sd, 3)}", chance, ""))
    probe = known.probe
    rows.append(
        (
            "Linear probe, AUROC",
            numerals.number(probe.auroc, 3),
            f"{numerals.number(probe.null_mean, 3)} (95 % below {numerals.number(probe.null_95, 3)})",
            numerals.p_cell(probe.p),
        )
    )
    shown = []
    points = _map(known, e)
    if points:
        shown.append(
            Figure(
                figures.scatter(points, title="Latent space of one fold's baseline, t-SNE", groups=e.models.labels),
                f"latent-by-{e.by}",
                "Each point is a case of the first fold, placed by t-SNE of the baseline's bottleneck features.",
                "A picture, not evidence: t-SNE makes and hides clusters. The numbers are in the table.",
            )
        )
    can = probe.p < ALPHA
    return Section(
        "What the model's latent space knows",
        (
            f"A linear probe can {'tell' if can else 'not be shown to tell'} the {e.by} group from the baseline's "
            f"bottleneck (AUROC {numerals.number(probe.auroc, 2)}, {numerals.p_value(probe.p)}). To encode a group is "
            "not to treat it worse."
        ),
        figures=shown,
        tables=[
            Table(
                "Latent space and groups",
                ("Measure", "Value (mean ± SD over folds)", "By chance", "p"),
                rows,
                "lrrr",
                "Bottleneck features, averaged over space, of cases that the model has not seen. Probe: ridge, "
                "patients kept together; null by permutation of patients.",
            )
        ],
    )


def morphometry(shapes: tuple[Shape, ...], e: Evidence) -> Section:
    """The expert masks' shapes by group."""
    labels = [label for label in e.models.labels if any(label in shape.by_group for shape in shapes)]
    rows = [
        (
            f"{shape.words}{f' [{shape.unit}]' if shape.unit else ''}",
            *(
                f"{numerals.number(shape.by_group[label][0])} ± {numerals.number(shape.by_group[label][1])}"
                if label in shape.by_group
                else numerals.MISSING
                for label in labels
            ),
            numerals.p_cell(shape.p),
        )
        for shape in shapes
    ]
    return Section(
        f"The expert masks' shapes by {e.by}",
        "Groups can differ in what is segmented: size and shape are a way in which a group can be harder, and not a "
        "cause beside it. Differences here do not adjust any number above.",
        tables=[
            Table(
                "Mean ± SD of the expert masks",
                ("Measurement", *labels, "p"),
                rows,
                "l" + "r" * (len(labels) + 1),
                "p: ranks, permutation of patients, not corrected. Both conventions of sphericity and elongation.",
            )
        ],
    )


def worst(result: Diagnosis, run: Run) -> Section | None:
    """The baseline's worst cases, to look at."""
    e = result.evidence
    frame = run.measurements("measurements").filter(pl.col("ruler") == f"{BASELINE}-vs-{GOLD}")
    rows = pl.DataFrame({"case_id": e.cohort.case_ids}).join(frame, on="case_id", how="left", maintain_order="left")
    cohort = replace(e.cohort, roles={**e.cohort.roles, SILVER: e.cohort.roles[BASELINE]})
    known = rows.with_columns(pl.col("prediction_voxels", "reference_voxels").fill_null(-1))
    pictures = worst_cases.pictures(cohort, known, e.models)
    if not pictures:
        return None
    return Section(
        "Cases to look at",
        "Where the baseline did worst, with the expert's outline and the model's. Numbers find a problem; only looking "
        "tells what it is.",
        pictures=pictures,
        shown_as="outlines",
    )


def methods(result: Diagnosis, difficulty_from: str) -> str:
    """Return the paragraphs that can be pasted into a paper."""
    e = result.evidence
    s, d = e.settings, e.design
    trained = (
        "Models were trained elsewhere on the exported design"
        if result.latent is None
        else f"Segmentation networks (preset {s.preset}) were trained by medaudit {__version__}"
    )
    first = (
        f"{trained}: {', '.join(d.names)}. Groups: {d.groups.rule}. Each was trained on {d.per_group} cases of each "
        f"group, in {int(d.fold.max()) + 1} folds that keep patients together and spread the groups evenly, the same "
        "for all; every case with an expert mask was predicted by the models that had not seen its patient."
    )
    if d.levels:
        first += f" Difficulty: {difficulty_from}."
    second = (
        f"Predictions were scored in {e.measure.words} against expert masks. Gaps are the largest minus the smallest "
        f"group mean; intervals come from {s.resamples:,} bootstrap resamples of patients that serve all models, "
        "p-values from as many permutations of patients. Two gaps were compared by permuting the case-wise differences "
        "of the two scores between groups. The gap at one mix of difficulty was standardised directly to the shares of "
        "all compared cases, and tested by permutation within difficulty. P-values were corrected by Holm over causes."
    )
    third = (
        f"A cause is supported if its corrected p is below {ALPHA:g} (amplification and imbalance also need the sign); "
        f"refuted if a 90 % interval lies within {numerals.about(e.measure.margin, e.measure.unit)} for a gap, "
        f"{numerals.about(e.half_margin, e.measure.unit)} for a change of a gap; else insufficient. Seed {s.seed}."
    )
    return "\n\n".join([first, second, third])


def limits(result: Diagnosis) -> list[str]:
    """Return what the study cannot say."""
    e = result.evidence
    said = [
        "Expert masks are taken as the truth. Where they were made by correcting automated ones, label bias is "
        "understated.",
        "One training a model and fold: the interval holds for patients like these and these trained models, not for "
        "other seeds or networks.",
        *e.design.notes,
    ]
    overall = float(np.nanmean(e.columns[BASELINE]))
    if e.measure.bounds == (0.0, 1.0) and overall < LEARNED:
        said.insert(
            0,
            f"The baseline reaches a mean {e.measure.words} of only {overall:.2f}: models that have hardly learned say "
            "little about the groups. Train longer, or a larger network.",
        )
    if QUALITY in e.columns and any(t.name.startswith("swap-") for t in e.design.trainings):
        said.append("A swap exchanges labels that agree already (tier 1): that nothing changes then proves little.")
    if e.models.small:
        said.append(f"Too few patients to judge: {', '.join(e.models.small)}.")
    if e.settings.within is None:
        said.append("No data source was named (--within), so a gap may be one between hospitals or devices.")
    return said


def _first_sentence(claim: str) -> str:
    return claim.split(". ")[0].removesuffix(".") + "."


def _changed(training: str, e: Evidence) -> str:
    change = e.change(training)
    return f"gap changes by {numerals.with_interval(change.value, change.low, change.high, e.measure.unit)}"


def _limits(estimate: Estimate, unit: str) -> str:
    return numerals.with_interval(estimate.value, estimate.low, estimate.high, unit)


def _realised(training: Training, e: Evidence) -> tuple[str, str]:
    """Return mean and lowest agreement of the swapped labels with those that they replaced."""
    values = e.columns[QUALITY][training.swapped] if QUALITY in e.columns else np.empty(0)
    known = values[np.isfinite(values)]
    if not known.size:
        return numerals.MISSING, numerals.MISSING
    extreme = known.min() if e.measure.higher_is_better else known.max()
    return numerals.number(float(known.mean()), 3), numerals.number(float(extreme), 3)


def _map(known: Latent, e: Evidence) -> list[dict[str, object]]:
    """Return the first fold's cases in the plane of a t-SNE, the paper's settings (perplexity n / 10, in 5 to 50)."""
    groups = e.models.judged.groups
    here = np.flatnonzero((known.fold == 0) & (groups >= 0) & np.isfinite(known.features).all(axis=1))
    if here.size < 20:
        return []
    from sklearn.manifold import TSNE

    perplexity = float(np.clip(here.size / 10, 5, 50))
    features = known.features[here]
    # The paper's learning rate of 200 was for 1,047 cases; with fewer it throws points far out. "auto" goes by n.
    plane = TSNE(perplexity=perplexity, learning_rate="auto", max_iter=1500, init="pca", random_state=e.settings.seed)
    places = plane.fit_transform((features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9))
    labels = e.models.labels
    return [
        {"x": round(float(x), 3), "y": round(float(y), 3), "group": labels[groups[row]]}
        for row, (x, y) in zip(here, places, strict=True)
    ]
