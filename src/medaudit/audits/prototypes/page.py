"""The page of the audit: pictures first: what painting an attribute in brings along, where and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medaudit import __version__
from medaudit.audits.prototypes.codes import COMPONENTS, OWN, more
from medaudit.audits.prototypes.effects import DONORS
from medaudit.audits.prototypes.findings import cards
from medaudit.audits.prototypes.labels import Asked
from medaudit.audits.prototypes.study import KINDS, Study
from medaudit.audits.prototypes.train_page import PATRONUS, as_picture
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.pictures import leaks
from medaudit.explanation.prototypes.when import emergence
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
from medaudit.report.arrays import read_arrays

if TYPE_CHECKING:
    from medaudit.audits.prototypes.train_run import Opened

_TIMED = 16
_LEAKS_SHOWN = 12


def page(result: Study, found: list[Finding], trained: Opened, asked: Asked, run: Run, seconds: float) -> Report:
    """Return the report's content; the dataset, and what is known of it, as the page of the training has it."""
    shown = cards(found)
    before = Run.read(trained.folder).report() if (trained.folder / "report.json").exists() else None
    dataset = dict(before.provenance).get("dataset", "") if before else ""
    yes = [f.lead for f in shown if f.verdict == "supported"]
    names = result.material.attributes
    return Report(
        title="What does painting one thing bring along?",
        subtitle=f"{', '.join(names)}: {len(asked.case_ids):,} images that the model did not see",
        headline=" ".join(yes[:2]) or (shown[0].lead if shown else ""),
        answers=[Answer.of(f) for f in shown],
        sections=list(sections(result, trained, asked, run.path)),
        methods=methods(result, trained),
        citations=[PATRONUS],
        limits=limits(result),
        provenance=provenance.told(run, dataset, seconds={"all": seconds}),
        findings=found,
        known=before.known if before else (),
    )  # fmt: skip


def sections(result: Study, trained: Opened, asked: Asked, out: Path) -> Iterator[Section]:
    """Yield the page's sections."""
    if result.material.effects:
        yield _moved(result, asked)
        yield _changes(result)
        if result.settings.leaks:
            yield _leaks(result, trained, asked)
    yield _carriers(result, asked)
    if result.told:
        yield _told(result)
    if result.material.effects:
        yield _when(result, trained, asked)
    if len(result.material.drawn):
        yield _drawn(result, out)


def _moved(result: Study, asked: Asked) -> Section:
    m = result.material
    pictures = []
    start = [as_picture(np.asarray(asked.images[i], dtype=np.float32)) for i in m.start[:8]]
    for a, name in enumerate(m.attributes):
        rows = [[as_picture(x) for x in part] for e in m.effects if e.moved == a for part in
                (e.total.shown, e.code.shown)]  # fmt: skip
        rows += [start, *[[as_picture(x) for x in e.shown] for e in m.effects if e.moved == a]]
        carrier = result.carrier(a)
        note = "" if result.is_captured(a) else " (no prototype carries it: this is the best there is)"
        pictures.append(
            Picture(
                gallery.tiles(rows, pixels=72),
                f"{name} painted of donors, images without any attribute, and the same with its carrier moved",
                f"{name}: total, code; before, and prototype {carrier.prototype} alone{note}",
            )
        )  # fmt: skip
    return Section(
        "What does it look like?",
        "Fresh noise painted with the activations of training images that have an attribute, and of labelled images "
        "that have it and nothing else. Below, images that show none of the attributes, and the same from their own "
        "noise with its carrier alone moved.",
        pictures=pictures,
    )


def _changes(result: Study) -> Section:
    names = result.material.attributes
    rows, cells = [], []
    for a, moved in enumerate(names):
        for b, seen in enumerate(names):
            for mode in KINDS:
                if (a, b, mode) not in result.change:
                    continue  # too few donors with it or without
                e = result.change[a, b, mode]
                cells.append(
                    (moved, seen, mode, numerals.with_interval(e.value, e.low, e.high),
                     numerals.number(e.extra["random"]),
                     numerals.p_cell(e.p), str(e.n))
                )  # fmt: skip
                if mode == "total":
                    label = f"{moved} → {seen}"
                    rows.append({"group": label, "value": e.value, "low": e.low, "high": e.high, "n": e.n})
    margin = result.settings.margin
    svg = figures.forest(rows, title="Change of probability, total", measure="probability", null_band=(-margin, margin))
    return Section(
        "How much does it change?",
        "The change of a judge's probability of the second attribute when the first is painted in. Total: with the "
        "activations of training images that have it, less of those without. Code: of labelled images that have it and "
        "nothing else, less of those with nothing. Direct: by its carrier alone. An attribute with itself: whether it "
        "is painted at all. Band: smaller than the margin.",
        figures=[Figure(svg, "Changes", "A row a pair: the change of probability with its interval.")],
        tables=[
            Table("Changes of probability",
                  ("Moved", "Judged", "Move", "Change (95 %)", "Random", "p", "Patients"), cells,
                  "lllrrrr", note="Random: the mean change when random other prototypes are moved alone in the same "
                  "images. p: by permutation of donors with and without, before correction for the number of tests.")
        ],
    )  # fmt: skip


def _leaks(result: Study, trained: Opened, asked: Asked) -> Section:
    m = result.material
    painter = trained.painter
    some = m.start[: result.settings.leaks]
    images = np.asarray(asked.images[some], dtype=np.float32)
    codes = m.activations[some]
    ranges = Ranges.of(m.training)
    inverted = painter.invert(images, codes)
    chosen = list(range(codes.shape[1]))
    found = leaks(painter, inverted, codes, ranges, chosen)
    mean = found.mean(1)
    own = np.diag(mean).copy()
    np.fill_diagonal(mean, 0.0)
    order = np.argsort(-np.abs(mean).max(1), kind="stable")[:_LEAKS_SHOWN]
    rows, named = [], {c.prototype: m.attributes[c.attribute] for c in m.carried}
    for j in order:
        k = int(np.argmax(np.abs(mean[j])))
        values = found[j, :, k]
        error = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        rows.append(
            (_called(int(j), named), _called(k, named),
             numerals.with_interval(mean[j, k], mean[j, k] - error, mean[j, k] + error),
             numerals.number(float(own[j])))
        )  # fmt: skip
    return Section(
        "What leaks, without any label?",
        f"Each prototype is turned up alone in {len(some)} images; what is painted is encoded again. A change of "
        "another prototype is entangled with it in the painter. Those that leak most, in SDs of the training images.",
        tables=[Table("Leaks", ("Turned up", "Moves most", "By (95 %)", "Itself"), rows, "llrr")],
    )


def _carriers(result: Study, asked: Asked) -> Section:
    m = result.material
    cells = []
    for a, name in enumerate(m.attributes):
        c, e = result.carrier(a), result.captured[a]
        reached = [effect.reached for effect in m.effects if effect.moved == a]
        row = [name, str(c.prototype), numerals.number(c.chosen_auroc), numerals.number(e.value),
               numerals.number(c.other), numerals.number(float(m.judge_auroc[a])),
               numerals.number(float(np.nanmedian(reached[0]))) if reached else ""]  # fmt: skip
        if asked.masks is not None:
            at = result.located[a].extra if a in result.located else {}
            row += [f"{numerals.number(at[part])} ({numerals.number(at[f'{part} by chance'])})" if at else ""
                    for part in ("hit", "inside")]  # fmt: skip
        cells.append(tuple(row))
    columns = ["Attribute", "Prototype", "AUROC, where chosen", "AUROC", "Tells another", "Judge's AUROC",
               "Controllability"]  # fmt: skip
    columns += ["Box meets mask (any box)", "Mask in box (any box)"] if asked.masks is not None else []
    return Section(
        "Which prototypes carry them?",
        "Chosen on half of the images at equal values of the other attributes, as the one that tells its own most "
        "beyond any other, judged on the other half. A carrier with an AUROC below "
        f"{result.settings.captured:g} carries nothing, and its moves say nothing.",
        tables=[Table("Carriers", columns, cells, "l" + "r" * (len(columns) - 1))],
    )


def _told(result: Study) -> Section:
    names = result.material.attributes
    rows, cells = [], []
    for a, name in enumerate(names):
        row = [name]
        for code, found in result.told.items():
            at = found.readout
            value, low, high = float(at.by_attribute[a]), float(at.low[a]), float(at.high[a])
            row.append(numerals.with_interval(value, low, high))
            rows.append({"group": f"{name}: {code}", "value": value, "low": low, "high": high,
                         "n": len(result.material.labels)})  # fmt: skip
        difference, low, high = (
            float(part[a]) for part in more(*(result.told[code].readout for code in (OWN, COMPONENTS)))
        )
        row.append(numerals.with_interval(difference, low, high))
        decided = result.decided.get(a)
        row.append("" if decided is None else numerals.with_interval(decided.value, decided.low, decided.high))
        cells.append(tuple(row))
    svg = figures.forest(rows, title="What all numbers of a code tell", measure="AUROC")
    tads = "; ".join(
        f"{code}: {found.tad.mean:.2f}, {found.tad.attributes:.1f} attributes captured"
        for code, found in result.told.items()
    )
    return Section(
        "What does the whole code tell?",
        "A logistic regression on all activations together, in patients that it did not see, beside as many principal "
        "components of the images. Painted: images were painted from fresh noise with an image's activations, and the "
        "judge tells the image's attribute from the painting; where that fails, noise and not the code decides.",
        figures=[Figure(svg, "Readouts", "A row an attribute and code: the AUROC of a linear readout.")],
        tables=[
            Table("AUROC (95 %)",
                  ("Attribute", *result.told, "Difference", "Painted"), cells,
                  note=f"Total AUROC difference (TAD): {tads}.")
        ],
    )  # fmt: skip


def _when(result: Study, trained: Opened, asked: Asked) -> Section:
    m = result.material
    painter = trained.painter
    some = m.start[:_TIMED]
    codes = m.activations[some]
    ranges = Ranges.of(m.training)
    noise = painter.invert(np.asarray(asked.images[some], dtype=np.float32), codes).noise
    rows, cells, names = [], [], []
    for a, name in enumerate(m.attributes):
        if not result.is_captured(a):
            continue
        c = result.carrier(a)
        curve = emergence(painter, noise, codes, ranges.moved(codes, c.prototype, c.target), c.prototype)
        mean = curve.difference.mean(1) / (c.target - codes[:, c.prototype].mean() or 1.0)
        names.append(name)
        rows += [
            {"x": float(x), "y": float(y), "group": name}
            for x, y in sorted(zip(curve.times, mean, strict=True), key=lambda pair: pair[0])
        ]
        cells.append((name, numerals.number(curve.half), numerals.number(curve.half_log_snr)))
    if not rows:
        return Section("When does it appear?", "No attribute has a carrier whose appearance could be timed.")
    svg = figures.lines(
        rows, title="When it appears", x="time (right: noise)", y="share of what was asked", groups=names
    )
    return Section(
        "When does it appear?",
        "The carrier's activation in the image that the model expects, moved run less own run, over denoising: from "
        "right (noise) to left (image).",
        figures=[Figure(svg, "Emergence", "A line an attribute over the times of denoising.")],
        tables=[Table("Half of it is there at", ("Attribute", "Time", "log SNR"), cells)],
        note="Times depend on the schedule; log signal-to-noise ratios do not.",
    )


def _drawn(result: Study, out: Path) -> Section:
    m = result.material
    images = read_arrays(out / "drawn.npz")["images"].astype(np.float32)
    cells = [
        (f"{m.attributes[a]}, {m.attributes[b]}", numerals.number(e.extra["training"]),
         numerals.number(e.extra["painted"]),
         numerals.with_interval(e.value, e.low, e.high))
        for (a, b), e in result.amplified.items()
    ]  # fmt: skip
    apart = [
        (what, numerals.with_interval(one.value, one.low, one.high), numerals.count(one.n_generated))
        for what, one in m.distances.items()
    ]
    tables = [Table("Kernel distance from the images asked", ("Images", "Distance (95 %)", "Number"), apart, "lrr",
                    note=f"MMD², degree 3, in features of {m.distances['drawn'].extractor}: no FID, and to be compared "
                    "with nothing but the other row, which is what a generator that is right would have.")
              ] if apart else []  # fmt: skip
    return Section(
        "Does it make more of it than the data?",
        f"{len(m.drawn)} images painted from activations that were drawn, not encoded; the same judge looked at them "
        "and at training images.",
        pictures=[Picture(gallery.tiles([[as_picture(x) for x in images[k : k + 8]] for k in (0, 8)], pixels=72),
                          "Sixteen images painted from drawn activations")],
        tables=[Table("Correlation (phi) of judged attributes",
                      ("Pair", "Training", "Painted", "Difference (95 %)"), cells), *tables],
    )  # fmt: skip


def methods(result: Study, trained: Opened) -> str:
    """Return how the audit was made, for a paper."""
    s, m = result.settings, result.material
    return (
        f"The shortcut diagnosis of Patronus (arXiv 2503.22782, 4.4) as a test (medaudit {__version__}). For each "
        f"attribute, up to {DONORS} fresh noises were painted with the activations of training images that have it, "
        "less the same noises with activations of such that have it not, one image a patient (total, ours); of "
        "labelled images that have it and no other, less such that have none (code, ours). Beside these, "
        f"{len(m.start)} images that show none of the attributes were painted again from their own noise with its "
        "carrier alone set to the 95th percentile of training images (direct; the 5th where the attribute lowers it), "
        "less unmoved. The carrier is the prototype that tells the attribute best beyond any other (AUROC at equal "
        "values of the others), chosen on half of the patients; the changed images are of the other half. Judged is "
        f"total. Images were painted by {s.steps} steps of DDIM, and attributes told by another net, trained on images "
        "weighted so that no attribute predicts another. Intervals: donors, of different patients, drawn anew; p: "
        "permutation of which donors have the attribute. Shortcut: adjusted p < 0.05, an interval above 0, "
        f"and at least {100 * s.margin:g} points."
    )


def limits(result: Study) -> Sequence[str]:
    """Return what the audit cannot say."""
    return [
        "One training of the model: another seed may carry an attribute that this one does not.",
        "A judge that is wrong on painted images, or that learned a cue of its own, would be believed.",
        "An effect is of the model, not of the disease: it says what the model has learned to paint together.",
        "With a donor's activations all that they hold is painted; only differences between donors with and without "
        "count.",
        *(["The judge learned from few images; see its AUROC."] if (result.material.judge_auroc < 0.95).any() else []),
    ]


def _called(prototype: int, named: dict[int, str]) -> str:
    return f"{prototype} ({named[prototype]})" if prototype in named else str(prototype)
