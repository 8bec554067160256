"""The page: was it worth it, what labels and unlabelled images buy, and what the features see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit import __version__
from medaudit.audits.pretraining import words
from medaudit.audits.pretraining.findings import WORTH
from medaudit.audits.pretraining.overlaps import Overlaps
from medaudit.audits.pretraining.study import Judged, Study
from medaudit.cohort import Cohort
from medaudit.metrics.calibration import expected_calibration_error
from medaudit.networks.backbones import Backbone
from medaudit.networks.patch_pca import patch_colours
from medaudit.report import (
    Answer,
    Figure,
    Finding,
    Picture,
    Report,
    Run,
    Section,
    Table,
    figures,
    gallery,
    numerals,
    provenance,
)

CITATION = (
    "Ambsdorf J, Munk A, Llambias S, et al. General methods make great domain-specific foundation models: a case-study "
    "on fetal ultrasound. MICCAI 2025, arXiv:2506.19552."
)
_SHOWN, _TILE = 8, 96


def page(
    result: Study, found: list[Finding], overlaps: Overlaps, cohort: Cohort, images: np.ndarray, run: Run
) -> Report:
    """Return the report's content; ``images`` (n, S, S) uint8 are all cases' squares."""
    answers = [f for f in found if f.id.startswith((WORTH, "leak:"))]
    return Report(
        title="Was it worth pretraining our own?",
        subtitle=f"{cohort.name}: {words.task(result)}, {len(result.test)} test images of {result.patients} patients",
        headline=" ".join(f.claim for f in found if f.id.startswith(WORTH)),
        answers=[Answer.of(f) for f in answers],
        sections=list(_sections(result, images)),
        methods=_methods(result),
        citations=[CITATION, *([cohort.source.citation] if cohort.source else [])],
        limits=_limits(result, overlaps, cohort),
        provenance=provenance.told(run, cohort.name),
        findings=found,
        known=cohort.known,
    )


def _sections(result: Study, images: np.ndarray) -> Iterator[Section]:
    yield _comparison(result)
    if not result.settings.segments and result.settings.shots:
        yield _labels(result)
    if len(result.own) > 1 and all(one.contender.frames for one in result.own):
        yield _unlabelled(result)
    pictures = list(_pictures(result, images))
    if pictures:
        yield Section(
            "What do the features see?",
            "Patches of test images by their first three principal components, jointly over the images, in red, green "
            "and blue; grey is what the first component calls background.",
            pictures=pictures,
        )


def _comparison(result: Study) -> Section:
    measure = result.settings.measure
    said = words.measure(measure)
    rows, cells = [], []
    for one in result.judged:
        level = result.level(one, measure)
        rows.append(
            {"group": one.contender.title, "value": level.value, "low": level.low, "high": level.high, "n": level.n}
        )
        more = [f"{one.values[m].mean():.3f}" for m in ("accuracy", "macro_auroc") if m in one.values]
        cells.append(
            (
                one.contender.title, one.contender.trained_on, str(len(one.values[measure])),
                numerals.with_interval(level.value, level.low, level.high), *more,
                *([] if one.summed is None else [f"{one.summed.mean():.3f}"]),
                *([] if one.probabilities is None else [_calibration(one, result)]),
                *([numerals.number(float(one.knn.mean()), 3)] if np.isfinite(one.knn).all() else
                  [] if result.settings.segments else [numerals.MISSING]),
            )
        )  # fmt: skip
    gains = []
    for own in result.own:
        for other in result.others:
            gain = result.gain(own, other, measure)
            gains.append(
                (
                    own.contender.title, other.contender.title, numerals.with_interval(gain.value, gain.low, gain.high),
                    numerals.interval(gain.extra["image_low"], gain.extra["image_high"]),
                    numerals.p_cell(gain.p),
                )
            )  # fmt: skip
    heads: tuple[str, ...] = ("Contender", "Trained on", "Seeds", f"{said} (95 %)")
    heads += (
        ("Dice of summed areas",) if result.settings.segments else ("Accuracy", "Macro AUROC", "ECE", "kNN macro-F1")
    )
    return Section(
        "Whose features say most?",
        f"Test {said} of the same probe on each; whiskers hold for other patients and other seeds.",
        figures=[
            Figure(
                figures.forest(rows, title=f"{said[0].upper()}{said[1:]} by contender", measure=said),
                f"{said} by contender", "A row a contender, with its interval.",
            )
        ],
        tables=[
            Table("The contenders", heads, cells, "llr" + "r" * (len(heads) - 3)),
            Table("Own minus each opponent", ("Own", "Opponent", f"Gain in {said} (95 %)", "Patients alone", "p"),
                  gains, "llrrr", note="The same resampled patients for both; p is not corrected here."),
        ],
    )  # fmt: skip


def _calibration(one: Judged, result: Study) -> str:
    """Return the mean ECE of a contender's seeds (15 bins of equal width)."""
    wanted = result.plan.codes[result.test]
    assert one.probabilities is not None
    return f"{np.mean([expected_calibration_error(p, wanted) for p in one.probabilities]):.3f}"


def _labels(result: Study) -> Section:
    rows, cells = [], []
    for one in result.judged:
        for shots, values in one.shots.items():
            rows.append({"x": float(shots), "y": float(values.mean()), "group": one.contender.title})
            cells.append(
                (one.contender.title, shots, f"{values.mean():.3f}",
                 f"{values.mean(0).std(ddof=1):.3f}" if values.shape[1] > 1 else numerals.MISSING)
            )  # fmt: skip
    names = [one.contender.title for one in result.judged if one.shots]
    svg = figures.lines(
        rows, title="What labels buy", x="labelled cases a class", y="test macro-F1", groups=names, points=True
    )
    return Section(
        "How many labels does each need?",
        f"Logistic regression on few labelled cases, {result.settings.draws} draws of other patients.",
        figures=[Figure(svg, "Few-shot curves", "A line a contender: macro-F1 over labelled cases a class.")],
        tables=[
            Table("Few-shot", ("Contender", "Cases a class", "Macro-F1", "SD of draws"), cells, "lrrr")
        ],
    )  # fmt: skip


def _unlabelled(result: Study) -> Section:
    measure = result.settings.measure
    rows = [
        {"x": float(one.contender.frames or 0), "y": float(one.values[measure].mean()), "group": "own"}
        for one in result.own
    ]
    best = max(result.others, key=lambda one: float(one.values[measure].mean()))
    svg = figures.lines(
        rows, title="What unlabelled images buy", x="unlabelled images", y=words.measure(measure), groups=["own"],
        points=True, level=float(best.values[measure].mean()), note=f"Horizontal: {best.contender.title}.",
    )  # fmt: skip
    return Section(
        "Would more unlabelled images help?",
        "Own models by how many images they were pretrained on.",
        figures=[Figure(svg, "Learning curve", "Measure over the number of unlabelled images.")],
    )


def _pictures(result: Study, images: np.ndarray) -> Iterator[Picture]:
    chosen = result.test[np.linspace(0, len(result.test) - 1, min(_SHOWN, len(result.test))).astype(int)]
    best = max(result.others, key=lambda one: float(one.values[result.settings.measure].mean()), default=None)
    for one in [*result.own[-1:], *([best] if best and best.contender.backbones else [])]:
        png = in_colours(one.contender.backbones[0], images[chosen])
        if png is not None:
            title = one.contender.title
            yield Picture(png, f"Test images above, {title}'s patches as colours below", title)


def in_colours(backbone: Backbone, images: np.ndarray) -> bytes | None:
    """Return squares (n, S, S) uint8 above their patches as colours, as PNG; None for what has no patches."""
    patches = backbone.patches(images)
    if patches is None or patches.shape[1] < 3:
        return None
    size = -(-_TILE // patches.shape[1])
    coloured = [np.kron(c, np.ones((size, size, 1)))[:_TILE, :_TILE] for c in patch_colours(patches)]
    return gallery.tiles([[image.astype(np.float32) / 255 for image in images], coloured], pixels=_TILE)


def _methods(result: Study) -> str:
    s = result.settings
    dealt = ", ".join(f"{x:g}" for x in s.shares) if s.split_column is None else f"by the column {s.split_column}"
    names = "; ".join(f"{one.contender.title} ({one.contender.trained_on})" for one in result.judged)
    return (
        f"Patients were dealt to training, validation and test ({dealt}); "
        f"{'; '.join(words.rests(result))}. Contenders: {names}. medaudit {__version__}. Intervals: variance of the "
        "mean under resampled patients plus variance between trainings, Student's t with Satterthwaite's degrees of "
        "freedom. "
        f"Margin {s.margin:g}. Seed {s.seed}."
    )


def _limits(result: Study, overlaps: Overlaps, cohort: Cohort) -> list[str]:
    said = [
        "An answer for these data, this budget and this probe: more steps, a larger net or another task may answer "
        "otherwise.",
        "Frozen probes are trained without augmentation, on features that were computed once.",
        *result.plan.notes,
        *cohort.notes,
    ]
    if "pretraining" not in overlaps.found:
        said.append("What the own models were pretrained on is not in their folders: that test images were among it "
                    "was not looked for.")  # fmt: skip
    notes: dict[str, list[str]] = {}
    for one in result.judged:
        for note in one.notes:
            notes.setdefault(note, []).append(one.contender.title)
    said += [note if len(titles) > 1 else f"{titles[0]}: {note}" for note, titles in notes.items()]
    if any(len(one.case) == 1 for one in result.own):
        said.append("There is one pretraining: another seed may give another answer, and no interval here holds that.")
    return said
