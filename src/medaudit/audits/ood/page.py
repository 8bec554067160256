"""The page of the study: what to gate by first, then who notices what, what refusing saves, and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medaudit import __version__
from medaudit.audits.ood import images
from medaudit.audits.ood.findings import CUE_MARGIN, GATE_MARGIN, NOTICED
from medaudit.audits.ood.settings import MethodList
from medaudit.audits.ood.study import Gate, SetResult, Study
from medaudit.cohort import Cohort
from medaudit.metrics.selective import risk_coverage
from medaudit.report import Answer, Figure, Finding, Picture, Report, Run, Section, Table, figures, numerals, provenance
from medaudit.uncertainty.methods import METHODS

CITATION = (
    "Wong CK, Christensen AN, Bercea CI, Schnabel JA, Tolsgaard MG, Feragen A. Influence of Classification Task and "
    "Distribution Shift Type on OOD Detection in Fetal Ultrasound. MICCAI 2025. arXiv:2509.18326."
)
_FIRST = ("gate", "detector_is_not_gate", "misses", "trivial_cue", "task_over_method")


def page(
    study: Study, found: list[Finding], cohort: Cohort, methods: MethodList, costs: Mapping[str, Mapping[str, Any]],
    run: Run, seconds: Mapping[str, float],
) -> Report:  # fmt: skip
    """Return the report's content."""
    ordered = sorted(found, key=lambda finding: _FIRST.index(finding.id.split(":")[0]))
    source = cohort.source
    return Report(
        title="Which uncertainty notices which shift?",
        subtitle=f"{cohort.name}: tasks {', '.join(study.scores.tasks)}",
        headline=headline(found),
        answers=[Answer.of(finding) for finding in ordered],
        sections=list(sections(study, cohort, costs)),
        methods=methods_text(study, methods),
        citations=[CITATION, *(METHODS[name].source for name in study.scores.methods if name in METHODS)]
        + ([source.citation] if source else []),
        limits=limits(study, cohort, methods, costs),
        provenance=provenance.told(run, cohort.name, more={"method list": methods.title}, seconds=seconds),
        findings=found,
        known=cohort.known,
    )


def headline(found: list[Finding]) -> str:
    """Return the answer in a sentence or two: what to gate by, and who misses what."""
    gates = [finding for finding in found if finding.id.startswith("gate:")]
    said = [finding.lead for finding in gates if finding.verdict != "insufficient"][:1]
    missed = [finding.lead for finding in found if finding.id.startswith("misses:") and finding.verdict == "supported"]
    said += missed[:1]
    return " ".join(said) or "These data cannot tell which uncertainty should gate the prediction."


def sections(study: Study, cohort: Cohort, costs: Mapping[str, Mapping[str, Any]]) -> Iterator[Section]:
    """Yield the page's sections."""
    shown = [result for result in study.results if not result.part.paired]
    graded = [result for result in study.results if result.part.paired]
    last = {result.part.name.rsplit(" ", 1)[0]: result for result in graded}
    for result in [*shown, *last.values()]:
        yield detection(study, result)
        for gate in result.gates:
            yield abstention(study, result, gate)
        yield trivial(study, result)
    if graded:
        yield severity(study, graded)
    if "image" in cohort.roles:
        yield looks(study, cohort)
    yield every_number(study)
    if costs:
        yield cost(costs)


def detection(study: Study, result: SetResult) -> Section:
    """Who notices the shift: AUROC by method and task, and the other conventions beside it."""
    auroc, spread = result.mean("auroc"), result.seed_sd("auroc")
    scores = study.scores
    cells = [
        {"column": task, "line": method, "value": float(auroc[m, t])}
        for m, method in enumerate(scores.methods)
        for t, task in enumerate(scores.tasks)
    ]
    svg = figures.heatmap(
        cells,
        title=f"AUROC for {result.part.name}, by method and task",
        columns=scores.tasks,
        lines=scores.methods,
        low=0.5,
        high=1.0,
        note="Chance is 0.5. Below it the model is surer of the shifted cases than of its own; nothing is flipped.",
    )
    rows = []
    for m, method in enumerate(scores.methods):
        for t, task in enumerate(scores.tasks):
            low, high = np.nanquantile(result.draws["auroc"][:, m, t], [0.025, 0.975])
            rows.append(
                (
                    method,
                    task,
                    numerals.with_interval(float(auroc[m, t]), float(low), float(high)),
                    numerals.number(float(spread[m, t]), 3),
                    " ".join(numerals.number(float(one), 2) for one in result.point["auroc"][m, t]),
                    *(
                        numerals.number(float(result.mean(name)[m, t]), 2)
                        for name in ("fpr95_ood_pos", "fpr95_id_pos", "aupr_out", "aupr_in")
                    ),
                )
            )
    best = np.unravel_index(int(np.argmax(auroc)), auroc.shape)
    base = len(result.rows_out) / len(result.rows)
    return Section(
        f"Who notices {result.part.name}?",
        f"{len(result.rows_in)} test cases against {len(result.rows_out)} shifted ones ({result.part.shift} shift). "
        f"Best: {scores.methods[best[0]]} of the model trained on {scores.tasks[best[1]]}. {result.match}".rstrip(),
        figures=[Figure(svg, f"AUROC {result.part.name}", "Methods in rows, tasks in columns, AUROC in each cell.")],
        tables=[
            Table(
                f"Detection of {result.part.name}",

(
                    "Method", "Task", "AUROC (95 %)", "SD of seeds", "Each seed", "FPR95 (OOD pos.)",
                    "FPR95 (ID pos.)", "AUPR-out", "AUPR-in",
                ),
                rows,
                "llrrrrrrr",
                note="FPR95 (OOD pos.): share of test cases flagged when 95 % of shifted ones are. FPR95 (ID pos.): "
                f"share of shifted cases accepted when 95 % of test cases are. Chance of AUPR-out is {base:.2f}.",
            )
        ],
    )  # fmt: skip


def abstention(study: Study, result: SetResult, gate: Gate) -> Section:
    """What refusing saves: AUGRC by cell, detection against gating, and the accuracy-rejection curve."""
    scores = study.scores
    augrc, auroc = gate.point["augrc"].mean(axis=2), result.mean("auroc")
    cells = [
        {"x": float(auroc[m, t]), "y": float(1000 * augrc[m, t]), "group": task}
        for m in range(len(scores.methods))
        for t, task in enumerate(scores.tasks)
    ]
    both = figures.pairs(
        cells,
        title=f"Detection against gating the {gate.task} prediction",
        x="AUROC of detecting the shift",
        y="AUGRC [1e-3], lower is better",
        groups=scores.tasks,
        note="Each point is a method of a model trained on one task. Were detection gating, they would lie on a line.",
    )
    own = scores.tasks.index(gate.task)
    best = np.unravel_index(int(np.argmin(augrc)), augrc.shape)
    finder = np.unravel_index(int(np.argmax(auroc)), auroc.shape)
    places = scores.at(result.rows)
    names, curves = [], []
    for label, (m, t) in (("own first method", (0, own)), ("best gate", best), ("best detector", finder)):
        name = f"{label}: {scores.methods[m]} of {scores.tasks[t]}"
        known = np.isfinite(gate.loss[0])
        curve = risk_coverage(scores.values[m, t, 0, places][known], gate.loss[0][known])
        keep = np.unique(np.linspace(0, len(curve.coverage) - 1, 60).astype(int))
        names.append(name)
        curves += [
            {"x": float(100 * (1 - curve.coverage[k])), "y": float(100 * curve.risk[k]), "group": name}
            for k in keep[::-1]
            if curve.coverage[k] >= 0.1
        ]
    refusal = figures.lines(
        curves,
        title=f"What refusing saves: the {gate.task} prediction under {result.part.name}",
        x="refused [%]",
        y="loss on accepted cases [%]" if gate.novel else "errors among accepted cases [%]",
        groups=names,
        note="First seed. Up to 90 % refused; with fewer cases left the curve is noise.",
    )
    rows = [
        (
            method,
            task,
            *(
                numerals.number(1000 * float(gate.point[name].mean(axis=2)[m, t]), 1)
                for name in ("augrc", "aurc", "risk_at_80")
            ),
            numerals.number(float(np.nanmean(gate.point["failure_auroc"][m, t])), 2),
        )
        for m, method in enumerate(scores.methods)
        for t, task in enumerate(scores.tasks)
    ]
    rows.sort(key=lambda row: float(row[2].replace(",", "").replace("−", "-")))
    inside, outside = float(gate.accuracy_in.mean()), float(gate.accuracy_out.mean())
    reading = f"The {gate.task} model is right in {100 * inside:.1f} % of test cases"
    reading += (
        f"; the shifted cases have classes it does not know, so accepting one is a failure (cost "
        f"{study.settings.ood_cost:g})."
        if gate.novel
        else f" and {100 * outside:.1f} % of shifted ones. Every score gates that same model's predictions."
    )
    return Section(
        f"What should gate the {gate.task} prediction under {result.part.name}?",
        reading,
        figures=[
            Figure(both, f"Detection against gating {gate.task} {result.part.name}", "A point a method and task."),
            Figure(
                refusal, f"Refusal {gate.task} {result.part.name}", "Loss on accepted cases over the share refused."
            ),
        ],
        tables=[
            Table(
                f"Gating the {gate.task} prediction",
                ("Method", "Task", "AUGRC [1e-3]", "AURC [1e-3]", "Loss at 80 % [1e-3]", "AUROC of failures"),
                rows,
                "llrrrr",
                note="AURC by the harmonic estimator (the mean over tie orders). Sorted by AUGRC.",
            ),
            Table(
                f"Each method with its own {gate.task} predictions and its own score",
                ("Method", "Accuracy, test cases", "AUGRC [1e-3]"),
                [
                    (
                        method,
                        numerals.percent(float(gate.own_accuracy[m].mean())),
                        numerals.number(1000 * float(gate.own_augrc[m].mean()), 1),
                    )
                    for m, method in enumerate(scores.methods)
                ],
                note="Methods of several passes or trainings change the predictions: they differ in accuracy.",
            ),
        ],
    )


def trivial(study: Study, result: SetResult) -> Section:
    """What numbers without a model would have said."""
    if not result.cues:
        return Section("Trivial cues", "No images were given, so no trivial cue could be looked at.")
    best = float(result.mean("auroc").max())
    rows = []
    for c in np.argsort(-result.cue_point):
        low, high = np.nanquantile(result.cue_draws[:, c], [0.025, 0.975])
        value = float(result.cue_point[c])
        rows.append(
            (
                result.cues[c].replace("_", " "),
                numerals.with_interval(value, float(low), float(high)),
                "as well as the best score" if value >= best - CUE_MARGIN else "",
            )
        )
    return Section(
        f"Would a trivial cue have noticed {result.part.name}?",
        f"The best score has an AUROC of {best:.2f}. Where a cue comes close, the score may be no more than that cue.",
        tables=[Table("Cues, each in its better direction", ("Cue", "AUROC (95 %)", ""), rows, "lrl")],
    )


def severity(study: Study, graded: list[SetResult]) -> Section:
    """How detection and accuracy change as the shift grows."""
    scores = study.scores
    charts = []
    names = list(dict.fromkeys(result.part.name.rsplit(" ", 1)[0] for result in graded))
    for name in names:
        mine = [result for result in graded if result.part.name.rsplit(" ", 1)[0] == name]
        rows = [
            {"x": int(result.part.name.rsplit(" ", 1)[1]), "y": float(result.mean("auroc")[0, t]), "group": task}
            for result in mine
            for t, task in enumerate(scores.tasks)
        ]
        for result in mine:
            for gate in result.gates:
                rows.append(
                    {
                        "x": int(result.part.name.rsplit(" ", 1)[1]),
                        "y": float(gate.accuracy_out.mean()),
                        "group": f"accuracy of {gate.task}",
                    }
                )
        groups = list(dict.fromkeys(str(row["group"]) for row in rows))
        svg = figures.lines(
            rows, title=f"{name}: AUROC of {scores.methods[0]}, and accuracy", x="severity", y="AUROC, accuracy",
            groups=groups, level=0.5, points=True,
        )  # fmt: skip
        charts.append(Figure(svg, f"Severity of {name}", "AUROC by task and the accuracy, over five severities."))
    return Section(
        "As the shift grows",
        "The same test cases, acquired anew at each severity. A shift that costs no accuracy need not be noticed.",
        figures=charts,
    )


def looks(study: Study, cohort: Cohort) -> Section:
    """Images of each side, to look at."""
    first = study.results[0]
    pictures = [Picture(images.montage(cohort, first.rows_in), "Six test images", "Test cases, in distribution")]
    for result in study.results:
        if result.part.paired and not result.part.name.endswith(" 5") and len(study.results) > 4:
            continue
        png = images.montage(cohort, result.rows_out)
        pictures.append(Picture(png, f"Six images of {result.part.name}", f"{result.part.name}: {result.part.shift}"))
    return Section(
        "The images",
        "As they are in the files, before they are brought to one size.",
        pictures=pictures,
        shown_as="squares",
    )


def every_number(study: Study) -> Section:
    """All scores of all methods, those that do not stand for their method too."""
    rows = []
    for result in study.results:
        for name, values in result.others.items():
            for t, task in enumerate(study.scores.tasks):
                method, _, score = name.partition(".")
                kind = METHODS[method].scores.get(score, "") if method in METHODS else ""
                rows.append((result.part.name, name, kind, task, numerals.number(float(values[t].mean()), 2)))
    return Section(
        "The other scores",
        "Scores that their methods give beside the one that stands for them. TU, AU, EU: total, aleatoric, epistemic "
        "uncertainty; OOD: a distance, which is no uncertainty of the prediction.",
        tables=[Table("AUROC of every other score", ("Set", "Score", "Kind", "Task", "AUROC"), rows, "llllr")]
        if rows
        else [],
    )


def cost(costs: Mapping[str, Mapping[str, Any]]) -> Section:
    """What each method costs to ask."""
    rows = [
        (name, numerals.number(entry["passes"], 0), numerals.number(1000 * entry["seconds"], 2))
        for name, entry in costs.items()
    ]
    return Section(
        "What they cost",
        "Forward passes of the net for a case, and milliseconds a case on this machine, fitting included, averaged "
        "over tasks and seeds. Trainings are not in it.",
        tables=[Table("Cost of scoring", ("Method", "Passes", "ms a case"), rows, "lrr")],
    )


def methods_text(study: Study, methods: MethodList) -> str:
    """Return the paragraphs that can be pasted into a paper."""
    s, d = study.settings, study.design
    patients = len(np.unique(d.clusters[np.concatenate([d.train, d.validation, d.test])]))
    tasks = "; ".join(f"{task.name} ({', '.join(task.classes)})" for task in d.tasks)
    chosen = ", ".join(
        f"{name} ({score})" for name, score in zip(study.scores.methods, study.scores.chosen, strict=True)
    )
    note = f" ({methods.note})" if methods.note else ""
    first = (
        f"Cases in distribution ({patients} patients) were dealt by patient to training ({len(d.train)} cases), "
        f"validation ({len(d.validation)}) and test ({len(d.test)}). One classifier a task and seed was trained by "
        f"medaudit {__version__} (preset {s.preset}) by one recipe, so that only the label differs. Tasks: {tasks}. "
        f"{study.scores.seeds} seeds. Out of distribution: {'; '.join(part.name for part in d.sets)}; no patient among "
        "them was trained on."
    )
    second = (
        f"Methods{note}: {chosen}. Scores were computed in float64; nothing was tuned on shifted cases. Detection: "
        "AUROC by mid-ranks. Abstention: AUGRC of the first method's predictions, gated by each score of each task. "
        f"Intervals come from {s.resamples:,} bootstrap resamples of patients, and of seeds, that serve all cells. The "
        "best cell's interval and p are simultaneous over all cells (max-t)."
    )
    third = (
        f"Missed: AUROC below {NOTICED:g}. A trivial cue explains a shift if it comes within {CUE_MARGIN:g} of the "
        f"best AUROC. A gate is no better if no score saves {100 * GATE_MARGIN:.0f} % of the AUGRC. Seed {s.seed}."
    )
    return "\n\n".join([first, second, third])


def limits(study: Study, cohort: Cohort, methods: MethodList, costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the study cannot say, and what methods remarked on themselves."""
    said = [
        "What is said of a method holds for the nets of this preset, trained on these cases; other nets may differ.",
        "Conventions differ between papers: FPR95 is printed in both, AURC by one of three estimators.",
        *study.design.notes,
        *cohort.notes,
        *(f"{note[0].upper()}{note[1:]}." for entry in costs.values() for note in entry["notes"]),
    ]
    if methods.note:
        said.insert(0, f"Methods {methods.title}: {methods.note}.")
    if any(result.part.paired for result in study.results):
        said.append("Acquisition shifts are simulated on real images; a real scanner differs in more than one thing.")
    return said
