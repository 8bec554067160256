"""The page of the study: who is reconstructed worse, by which metric, what representation does, what is flagged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from medaudit import __version__
from medaudit.audits.generative import trainings, words
from medaudit.audits.generative.findings import NOTICED, cards
from medaudit.audits.generative.judge import reconstructed
from medaudit.audits.generative.study import FORETOLD, WORST, Study, as_ratio
from medaudit.cohort import Cohort
from medaudit.metrics.selective import risk_coverage
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
from medaudit.training.prepared import opened
from medaudit.training.vae import VaeRecipe

CITATIONS = (
    "López-Pérez M, Hauberg S, Feragen A. Are generative models fair? A study of racial bias in dermatological image "
    "generation. arXiv:2501.11752.",
    "López-Pérez M, Miani M, Naranjo V, Hauberg S, Feragen A. Bayesian generative models can flag performance loss, "
    "bias, and out-of-distribution image content. arXiv:2503.17477.",
)
_SHOWN = 4


def page(
    result: Study, found: list[Finding], cohort: Cohort, recipe: VaeRecipe, run: Run, out: Path,
    seconds: Mapping[str, float],
) -> Report:  # fmt: skip
    """Return the report's content."""
    majority, minority = result.design.groups
    source = cohort.source
    shown = cards(found, result.settings.metric)
    rest = words.further(found, shown)
    return Report(
        title="Does the generator draw everybody equally well?",
        subtitle=f"{cohort.name}: {minority} against {majority}",
        headline=headline(found),
        answers=[Answer.of(finding) for finding in shown],
        sections=[*sections(result, cohort, out), *([rest] if rest else [])],
        methods=methods_text(result, recipe),
        citations=[*CITATIONS, *([source.citation] if source else [])],
        limits=limits(result, cohort, out),
        provenance=provenance.told(
            run, cohort.name, more={"training images": result.design.train_size}, seconds=seconds
        ),
        findings=found,
        known=cohort.known,
    )


def headline(found: list[Finding]) -> str:
    """Return the answer in a sentence or two: the gap first, then what stays silent about it."""
    said = [finding.lead for finding in found if finding.id.startswith("gap:")][:1]
    decides = [f.lead for f in found if f.id.startswith("metric_decides:") and f.verdict == "supported"]
    silent = [f.lead for f in found if f.id.startswith("silent:") and f.verdict == "supported"]
    return " ".join([*said, *(decides or silent)[:1]])


def sections(result: Study, cohort: Cohort, out: Path) -> Iterator[Section]:
    """Yield the page's sections."""
    yield looks(result, cohort, out)
    yield by_metric(result)
    if len(result.settings.shares) > 1:
        yield by_share(result)
    if result.mix:
        yield by_mix(result)
    if result.judged:
        yield flagged(result)
        yield abstention(result)
        yield checks(result)


def looks(result: Study, cohort: Cohort, out: Path) -> Section:
    """Images and reconstructions of both groups, by the first training at the balanced share."""
    at = result.settings.balanced
    folder = trainings.Unit(at, 0).folder(out, result.settings.shares)
    images = opened(out / trainings.PREPARED, cohort.case_ids, ()).images
    model = trainings.restored(folder)
    error = result.measured.errors[result.settings.metric][at, 0]
    pictures = []
    for g, name in enumerate(result.design.groups):
        inside = np.flatnonzero(result.minority == bool(g))
        order = inside[np.argsort(error[inside], kind="stable")]
        # A median one and the worst: neither the best nor a choice of ours.
        middle = order[len(order) // 2 : len(order) // 2 + _SHOWN]
        chosen = np.concatenate([middle, order[-_SHOWN:]])
        originals = np.asarray(images[result.measured.rows[chosen]], dtype=np.float32)
        made = reconstructed(model, originals)
        top, bottom = (_pictures(array) for array in (originals, made))
        png = gallery.tiles([top, bottom], pixels=72)
        alt = f"{name}: images above, their reconstructions below; four of middling error, then the four worst"
        pictures.append(Picture(png, alt, f"{name}: middling error on the left, the worst on the right"))
    return Section(
        "What it draws",
        f"The first training with {100 * result.settings.shares[at]:.0f} % {result.design.groups[1]}: images above, "
        "reconstructions below.",
        pictures=pictures,
    )


def by_metric(result: Study) -> Section:
    """The gap at the balanced share by every metric: some of them may disagree."""
    at = result.settings.balanced
    majority, minority = result.design.groups
    rows, cells = [], []
    for name, entries in result.ratios.items():
        ratio = entries[at]
        shown = as_ratio(ratio.estimate, "")
        rows.append(
            {"group": words.metric(name), "value": shown.value, "low": shown.low, "high": shown.high,
             "n": shown.n}
        )  # fmt: skip
        cells.append(
            (
                words.metric(name),
                *(numerals.number(mean) for mean in ratio.means),
                numerals.with_interval(shown.value, shown.low, shown.high),
                numerals.interval(shown.extra["image_low"], shown.extra["image_high"]),
                numerals.interval(shown.extra["seed_low"], shown.extra["seed_high"]),
                " ".join(numerals.number(float(one), 2) for one in ratio.seeds),
            )
        )
    svg = figures.forest(
        rows, title=f"Error of {minority} over that of {majority}", measure="ratio", null_band=(1.0, 1.0)
    )
    return Section(
        f"By which metric is {minority} reconstructed worse?",
        "Above 1 the second group is worse off. Squared error in sRGB favours dark images, whose values lie closer "
        "together; dividing by each image's own variance, or measuring colour differences as eyes see them, takes that "
        "away. If metrics disagree, the metric is part of the answer.",
        figures=[Figure(svg, "Ratio of errors by metric", "A row a metric: the ratio of the groups' mean errors.")],
        tables=[
            Table(
                f"At {100 * result.settings.shares[at]:.0f} % {minority}",
                ("Metric", f"Mean, {majority}", f"Mean, {minority}", "Ratio (95 %)", "Images alone", "Seeds alone",
                 "Each seed"),
                cells,
                "lrrrrrr",
                note="Images alone: patients resampled, trainings as they are. Seeds alone: Student's t over "
                "trainings. The ratio's interval holds for both.",
            )
        ],
    )  # fmt: skip


def by_share(result: Study) -> Section:
    """Both groups' errors over the minority's share, and where they meet."""
    main, shares = result.settings.metric, result.settings.shares
    majority, minority = result.design.groups
    curves = [
        {"x": 100 * shares[k], "y": entry.means[g], "group": name}
        for g, name in enumerate(result.design.groups)
        for k, entry in enumerate(result.ratios[main])
    ]
    drawn = figures.lines(
        curves, title=f"{words.metric(main).capitalize()} by share of {minority}",
        x=f"{minority} among the training images [%]", y="mean error", groups=result.design.groups, points=True,
        note="Means over test images and trainings. The number of training images is the same at every share.",
    )  # fmt: skip
    rows = []
    for name, entries in result.ratios.items():
        for k, entry in enumerate(entries):
            shown = as_ratio(entry.estimate, "")
            rows.append(
                (
                    words.metric(name),
                    f"{100 * shares[k]:.0f} %",
                    *(numerals.number(mean) for mean in entry.means),
                    numerals.with_interval(shown.value, shown.low, shown.high),
                )
            )
    cross = result.crossing[main]
    if np.isfinite(cross.value):
        said = (
            f"Both have one error at {100 * cross.value:.0f} % {minority} "
            f"({100 * cross.low:.0f} to {100 * cross.high:.0f} %)."
        )
    else:
        said = "The curves do not cross between the shares that were tried."
    return Section(
        "What does representation change?",
        said,
        figures=[Figure(drawn, "Error by share", "Two lines, one a group: mean error over the minority's share.")],
        tables=[
            Table(
                "Every metric at every share",
                ("Metric", "Share", f"Mean, {majority}", f"Mean, {minority}", "Ratio (95 %)"),
                rows,
                "lrrrr",
            )
        ],
    )


def by_mix(result: Study) -> Section:
    """The gap raw, and at one mix of the strata."""
    rows = [
        (words.metric(name), _cell(found.raw), _cell(found.adjusted), _cell(found.change))
        for name, found in result.mix.items()
        if not found.reason
    ]
    share = 100 * result.settings.shares[result.settings.balanced]
    return Section(
        f"Is it the mix of {result.settings.standardise}?",
        f"Groups differ in {result.settings.standardise}. At {share:.0f} % the gap as it is, and as it would be if "
        "both had the mix of all test cases.",
        tables=[Table("Gap, raw and standardised", ("Metric", "Raw", "At one mix", "Change"), rows, "lrrr")],
    )


def flagged(result: Study) -> Section:
    """Which uncertainty flags the group, by share."""
    shares = [f"{100 * share:.0f} %" for share in result.settings.shares]
    names = list(result.judged)
    cells = [
        {"column": shares[k], "line": words.score(name), "value": judged.for_group[k].value}
        for name, judged in result.judged.items()
        for k in range(len(shares))
    ]
    svg = figures.heatmap(
        cells, title=f"AUROC for {result.design.groups[1]}, by its share of the training images", columns=shares,
        lines=names, low=0.0, high=1.0,
        note="0.5 is chance. A score that warns is high where the share is low, and falls as the share rises.",
    )  # fmt: skip
    at = result.settings.balanced
    rows = [
        (
            words.score(name),
            _cell(judged.for_group[0]),
            _cell(judged.for_worst[at]),
            _cell(judged.with_error[at]),
            *(_cell(one) for one in judged.within[at]),
            _cell(result.beats[name]) if name in result.beats else numerals.MISSING,
        )
        for name, judged in result.judged.items()
    ]
    majority, minority = result.design.groups
    return Section(
        "Which uncertainty says so?",
        f"For the group: at {shares[0]} {minority}. For the worst {100 * WORST:.0f} % of reconstructions, and the rank "
        f"correlations with error ({words.metric(FORETOLD)}): at {shares[at]}.",
        figures=[Figure(svg, "AUROC for the group", "A row an uncertainty, a column a share.")],
        tables=[
            Table(
                "What each uncertainty says",
                ("Score", f"AUROC {minority}", "AUROC worst", "rho, all", f"rho, {majority}", f"rho, {minority}",
                 "rho minus encoder's"),
                rows,
                "lrrrrrr",
                note="The oracle needs the image: it is the error itself, and shows what could be reached.",
            )
        ],
    )  # fmt: skip


def abstention(result: Study) -> Section:
    """What refusing would save in each group: the error that is left over the share that is refused."""
    at = result.settings.balanced
    error = result.measured.errors[FORETOLD][at, 0]
    scaled = error / error.max()
    chosen = [name for name in ("slug", "rho", "encoder_variance") if name in result.measured.scores][:2]
    chosen = chosen or list(result.measured.scores)[:2]
    rows, names = [], []
    for name in chosen:
        for g, group in enumerate(result.design.groups):
            inside = result.minority == bool(g)
            curve = risk_coverage(result.measured.scores[name][at, 0, inside], scaled[inside])
            label = f"{words.score(name)}: {group}"
            names.append(label)
            keep = np.unique(np.linspace(0, len(curve.coverage) - 1, 50).astype(int))
            rows += [
                {"x": float(100 * (1 - curve.coverage[k])), "y": float(curve.risk[k] * error.max()), "group": label}
                for k in keep[::-1]
                if curve.coverage[k] >= 0.1
            ]
    svg = figures.lines(
        rows, title="What refusing saves, by group", x="refused [%]", y="mean error of what is kept", groups=names,
        note="First training at the balanced share. A line that does not fall: refusing by that score saves nothing.",
    )  # fmt: skip
    return Section(
        "Would refusing the uncertain ones help?",
        "The mean error of what is kept, as more of the uncertain images are refused.",
        figures=[Figure(svg, "Risk and coverage by group", "Mean error over the share of images refused.")],
    )


def checks(result: Study) -> Section:
    """Is a score a measure of brightness?"""
    at = result.settings.balanced
    rows = [
        (
            words.score(name),
            _cell(judged.with_luminance[at]),
            _cell(judged.with_error[at]),
            _cell(judged.follows_brightness[at]),
        )
        for name, judged in result.judged.items()
    ]
    return Section(
        "Self-check: brightness or error?",
        "A score made from a Jacobian can follow how bright an image is instead of how well it is known: with raw "
        "inputs and a sigmoid output it does. Where the last column is above 0 the score says more of brightness.",
        tables=[
            Table(
                "Rank correlations at the balanced share",
                ("Score", "With brightness", "With error", "|brightness| - error"),
                rows,
                "lrrr",
            )
        ],
    )


def methods_text(result: Study, recipe: VaeRecipe) -> str:
    """Return the paragraphs that can be pasted into a paper."""
    s, d, shape = result.settings, result.design, recipe.shape
    shares = ", ".join(f"{100 * share:g} %" for share in s.shares)
    widths = ", ".join(map(str, shape.widths))
    first = (
        f"Patients were dealt to training and test; {len(d.test)} test images of {sum(result.patients)} patients are "
        f"the same for all models. Convolutional VAEs ({shape.side} pixels, widths {widths}, "
        f"{shape.latent} latent numbers, GroupNorm, centred inputs, linear output) were trained by medaudit "
        f"{__version__} on {d.train_size} images each, of which {shares} were {d.groups[1]}; {s.seeds} trainings a "
        f"share, {recipe.steps} steps of {recipe.batch_size}, β = {recipe.beta:g}, perceptual weight "
        f"{recipe.perceptual:g}."
    )
    second = (
        "Errors are those of the mean reconstruction. Ratios of mean errors have intervals from "
        f"{s.resamples:,} bootstrap resamples of patients within groups, and the variance between trainings, with "
        "Satterthwaite's t. Test sets are fixed, so the part of chance that other test patients would bring is in the "
        "bootstrap, and what another training would bring is in the variance between seeds."
    )
    third = (
        f"SLUG: rank {s.rank}, up to {s.slug_images} training images, {s.probes} probes, all parameters. "
        if s.rank
        else ""
    ) + f"Flagged: AUROC with its whole interval above {NOTICED:g}; silent: below. Margin {s.margin:g}. Seed {s.seed}."
    return "\n\n".join([first, second, third])


def limits(result: Study, cohort: Cohort, out: Path) -> list[str]:
    """Return what the study cannot say."""
    said = [
        "What is said holds for this network trained on these images; another generator may differ.",
        "A gap at equal shares may come from the images (contrast, disease, camera) and not from learning; "
        "standardising takes away what was measured, and nothing else.",
        *result.design.notes,
        *cohort.notes,
        *trainings.notes_of(out, result.settings),
    ]
    if result.settings.standardise is None:
        said.insert(1, "Nothing was standardised: give --standardise the diagnosis, or the source of the images.")
    return said


def _cell(estimate: Estimate) -> str:
    return numerals.with_interval(estimate.value, estimate.low, estimate.high)


def _pictures(images: np.ndarray) -> list[np.ndarray]:
    return [image[0] if len(image) == 1 else np.moveaxis(image, 0, -1) for image in images]
