"""The page of the study: does the generator know when it does not know, and where in an image?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from medaudit import __version__
from medaudit.audits.generative import words
from medaudit.audits.generative.findings import NOTICED
from medaudit.audits.generative.page import CITATIONS
from medaudit.audits.generative_uncertainty import scoring
from medaudit.audits.generative_uncertainty.findings import FOLLOWS, ORACLES, cards
from medaudit.audits.generative_uncertainty.methods import SCORES
from medaudit.audits.generative_uncertainty.study import Study
from medaudit.cohort import Known
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
from medaudit.statistics import Estimate

_MAPS = {"slug": "SLUG", "latent_monte_carlo": "latent MC", "squared_error_oracle": "error (oracle)"}


def page(
    result: Study, found: list[Finding], name: str, run: Run, out: Path, first: int, seconds: Mapping[str, float],
    known: Sequence[Known] = (),
) -> Report:  # fmt: skip
    """Return the report's content; ``first`` is the place of the first share among the earlier run's."""
    shown = cards(found)
    rest = words.further(found, shown)
    return Report(
        title="Does the generator know when it does not know?",
        subtitle=f"{name}: {result.design.groups[1]} neglected, foreign content unseen",
        headline=headline(found),
        answers=[Answer.of(finding) for finding in shown],
        sections=[*sections(result, out, first), *([rest] if rest else [])],
        methods=methods_text(result),
        citations=list(CITATIONS),
        limits=limits(result),
        provenance=provenance.told(
            run, name, more={"shares": [f"{share:g}" for share in result.scored.shares]}, seconds=seconds
        ),
        findings=found,
        known=known,
    )


def headline(found: list[Finding]) -> str:
    """Return the answer in a sentence or two: SLUG against the encoder, then what each flags."""
    wanted = ("encoder_is_enough", "unrelated:encoder_variance")
    said = [finding.lead for key in wanted for finding in found if finding.id == key]
    said += [f.lead for f in found if f.id.startswith("silent:") and f.id.endswith(":slug")]
    return " ".join(said[:2]) or found[0].lead


def sections(result: Study, out: Path, first: int) -> Iterator[Section]:
    """Yield the page's sections."""
    if result.scored.edits:
        yield where(result, out, first)
    yield follows(result)
    yield groups(result)
    if result.scored.edits or result.settings.artefacts:
        yield foreign(result)
    yield checks(result)
    yield Section(
        "The posteriors",
        "What each posterior was made of. Pairs whose residual is large are directions, not eigenvectors: the score is "
        "then a little too high, never negative.",
        tables=[Table("Fits", ("Fit",), [(said,) for said in result.scored.fits], "l")],
    )


def where(result: Study, out: Path, first: int) -> Section:
    """Heat-maps of edited images, one scale a map and page."""
    pictures = []
    for edit in result.scored.edits:
        kept = scoring.shown(out, first, edit)
        names = [name for name in _MAPS if f"map/{name}" in kept]
        ranges = {name: gallery.shared_range(kept[f"map/{name}"]) for name in names}
        rows = [
            [
                _picture(kept["painted"][i]),
                _picture(kept["made"][i]),
                kept["mask"][i],
                *(gallery.heat(kept[f"map/{name}"][i], *ranges[name]) for name in names),
            ]
            for i in range(min(4, len(kept["mask"])))
        ]
        titles = ("image", "drawn", "painted", *(_MAPS[name] for name in names))
        png = gallery.tiles(rows, columns=titles, pixels=96)
        alt = f"Rows of images with {edit}: the image, its reconstruction, what was painted, and heat-maps"
        pictures.append(Picture(png, alt, edit))
    return Section(
        "Where does it see what it never learned?",
        "First training at the first share. Each kind of map has one scale for its whole sheet (1st to 99th "
        "percentile): a picture without anything odd stays dark.",
        pictures=pictures,
    )


def follows(result: Study) -> Section:
    """Rank correlations with error, by score, all images and within groups."""
    k = len(result.scored.shares) - 1
    names = [name for name in result.judged if name not in ORACLES]
    rows = [
        {"group": words.score(name), "value": e.value, "low": e.low, "high": e.high, "n": e.n}
        for name in names
        for e in [result.judged[name].with_error[k]]
    ]
    svg = figures.forest(rows, title="Rank correlation with the error", measure="Spearman's rho", null_band=(0.0, 0.0))
    majority, minority = result.design.groups
    table = [
        (
            words.score(name),
            SCORES.get(name, ""),
            *(_cell(judged.with_error[j]) for j in range(len(result.scored.shares))),
            *(_cell(one) for one in judged.within[k]),
            _cell(judged.for_worst[k]),
            _cell(result.beats[name]) if name in result.beats else numerals.MISSING,
        )
        for name, judged in result.judged.items()
    ]
    heads = [f"rho at {100 * share:g} %" for share in result.scored.shares]
    return Section(
        "Which score follows the error?",
        f"Error: {result.metric.replace('_', ' ')} of the mean reconstruction. Trained with "
        f"{100 * result.scored.shares[k]:g} % {minority} in the figure.",
        figures=[Figure(svg, "Correlation with error", "A row a score: Spearman's correlation with the error.")],
        tables=[
            Table(
                "Correlation with error, and finding the worst tenth",
                ("Score", "What it is", *heads, f"rho, {majority}", f"rho, {minority}", "AUROC worst",
                 "rho minus encoder's"),
                table,
                "ll" + "r" * (len(heads) + 4),
            )
        ],
    )  # fmt: skip


def groups(result: Study) -> Section:
    """AUROC of each score for the minority, by share."""
    shares = [f"{100 * share:g} %" for share in result.scored.shares]
    names = list(result.judged)
    cells = [
        {"column": shares[k], "line": words.score(name), "value": result.judged[name].for_group[k].value}
        for name in names
        for k in range(len(shares))
    ]
    minority = result.design.groups[1]
    svg = figures.heatmap(
        cells, title=f"AUROC for {minority}, by its share of the training images", columns=shares,
        lines=[words.score(name) for name in names],
        low=0.0, high=1.0, note="0.5 is chance; below it the score is surer of the neglected group.",
    )  # fmt: skip
    worse = np.exp([result.worse.value, result.worse.low, result.worse.high])
    return Section(
        f"Which score flags {minority}?",
        f"At {shares[0]} {minority} has {worse[0]:.2f} times ({worse[1]:.2f} to {worse[2]:.2f}) the error of "
        f"{result.design.groups[0]}.",
        figures=[Figure(svg, "AUROC for the group", "A row a score, a column a share.")],
    )


def foreign(result: Study) -> Section:
    """AUROC for images with foreign content, and of maps for its pixels."""
    edits = result.scored.edits
    names = list(result.found)
    figures_ = []
    if edits:
        cells = [
            {"column": edit, "line": words.score(name), "value": result.found[name].edits[edit].value}
            for name in names
            for edit in edits
        ]
        svg = figures.heatmap(
            cells, title="AUROC for images with foreign content", columns=edits,
            lines=[words.score(name) for name in names], low=0.0, high=1.0,
            note="Edited images against the same images unedited. The control brings in nothing foreign.",
        )  # fmt: skip
        figures_.append(Figure(svg, "AUROC for foreign content", "A row a score, a column an edit."))
    mapped = [name for name in names if result.found[name].pixels]
    rows = [
        (
            words.score(name),
            edit,
            _cell(result.found[name].edits[edit]),
            *(_cell(result.found[name].pixels[edit][metric]) for metric in ("auroc", "average_precision", "best_iou")),
        )
        for name in mapped
        for edit in edits
        if edit in result.found[name].pixels
    ]
    tables = []
    if rows:
        tables.append(
            Table(
                "Images and pixels",
                ("Score", "Edit", "AUROC, images", "AUROC, pixels", "AP, pixels", "Best IoU"),
                rows,
                "llrrrr",
                note="Pixels: means over images. Best IoU is at the threshold that suits each mask: more than could be "
                "had without knowing it.",
            )
        )
    real = [
        (words.score(name), column, _cell(e)) for name in names for column, e in result.found[name].artefacts.items()
    ]
    if real:
        tables.append(Table("Artefacts that the table names", ("Score", "Column", "AUROC"), real, "llr"))
    return Section(
        "Which score finds what does not belong?",
        "Foreign content was painted on test images of the majority; training images have none of it.",
        figures=figures_,
        tables=tables,
    )


def checks(result: Study) -> Section:
    """Brightness, the Jacobian, and signs: what a score must not be."""
    k = len(result.scored.shares) - 1
    rows = [
        (
            words.score(name),
            _cell(judged.with_luminance[k]),
            _cell(judged.with_error[k]),
            _cell(judged.follows_brightness[k]),
        )
        for name, judged in result.judged.items()
    ]
    negative = sum(int((values < 0).sum()) for name, values in result.scored.clean.items() if name.startswith("slug"))
    rho = result.scored.clean.get("rho")
    said = f"Negative SLUG scores: {negative} (must be 0). "
    if rho is not None:
        said += f"ρ on test images: {float(rho.min()):.3f} to {float(rho.max()):.3f}. "
    return Section(
        "Self-checks",
        said + "A score made from a Jacobian can follow how bright an image is instead of how well it is known: where "
        "the last column is above 0 it says more of brightness than of error.",
        tables=[
            Table("Rank correlations", ("Score", "With brightness", "With error", "|brightness| - error"), rows, "lrrr")
        ],
    )


def methods_text(result: Study) -> str:
    """Return the paragraphs that can be pasted into a paper."""
    s = result.settings
    return "\n\n".join(
        [
            f"SLUG (arXiv 2503.17477) was computed by medaudit {__version__}: the {s.rank} largest eigenpairs of the "
            f"GGN of up to {s.images} training images by block Lanczos with full reorthogonalisation, over "
            f"{' and '.join(s.params)} parameters, {s.weights} weights, noise variance and prior precision by maximum "
            f"(marginal) likelihood; {s.probes} probes of the posterior, the same for all images, pushed through the "
            "Jacobian. Score: mean squared norm. Map: mean of squares a pixel.",
            f"Foreign content was painted on {s.edited_images} test images at most of the majority (seed {s.seed}), "
            "and a control edit of like size. Image level: AUROC of edited against unedited. Pixel level: mean over "
            "images.",
            f"Intervals: {s.resamples:,} bootstrap resamples of patients and the variance between trainings, "
            f"Satterthwaite's t. Follows error: rank correlation above {FOLLOWS:g} with its whole interval. Flags: "
            f"AUROC above {NOTICED:g} with its whole interval.",
        ]
    )


def limits(result: Study) -> list[str]:
    """Return what the study cannot say."""
    return [
        "The paper's own settings (parameters, rank, prior, data) could not be read; these are ours, and each is an "
        "option.",
        "The score depends on how the network is built: with raw inputs, no norm and a sigmoid output it can turn "
        "around. The self-check shows it.",
        "Painted content is not real content; columns of real artefacts can be given with --artefact.",
        "An ensemble's members are the run's own trainings: its score is the same for all seeds.",
        *result.design.notes,
    ]


def _cell(estimate: Estimate) -> str:
    return numerals.with_interval(estimate.value, estimate.low, estimate.high)


def _picture(image: np.ndarray) -> np.ndarray:
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
