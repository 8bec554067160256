"""The page of a trained model of prototypes: is its code a code, what does each prototype show, how well does it
paint?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medaudit import __version__
from medaudit.audits.judging.conclude import Draft, conclude
from medaudit.cohort import Cohort
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.pictures import Box, nearest_patches, portraits
from medaudit.networks.diffusion.inversion import SETTLED
from medaudit.report import (
    Answer,
    Figure,
    Finding,
    Picture,
    Report,
    Run,
    Section,
    Table,
    Verdict,
    figures,
    gallery,
    numerals,
    provenance,
)
from medaudit.statistics import Estimate
from medaudit.training.prototypes.fit import TrainedPrototypes, effective_rank

PATRONUS = "Weng N, Feragen A, Bigdeli S. Interpretable diffusion models with prototypes. ICLR 2026. arXiv:2503.22782."
COLLAPSED = 2.0
"""Effective rank below which a code is called collapsed: one number, whatever the number of prototypes. Ours."""
_ALIKE, _DEAD = 0.98, 0.02
_LOOKED_AT, _PAINTED, _SHOWN = 1_024, 16, 24


class Health:
    """What the activations of a model are worth as a code, measured on images that it was not trained on."""

    def __init__(self, trained: Any) -> None:
        rows = trained.rows("test")
        self.held_out = len(rows) > 0
        rows = rows if self.held_out else trained.rows("train")
        self.rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_LOOKED_AT, len(rows))).astype(int))]
        self.activations = trained.activations()[self.rows]
        spread = self.activations.std(0)
        self.rank = effective_rank(self.activations)
        self.dead = np.flatnonzero(spread < _DEAD * max(float(np.median(spread)), 1e-9))
        correlation = np.nan_to_num(np.corrcoef(self.activations, rowvar=False))
        self.twins = [(i, j) for i in range(len(spread)) for j in range(i) if abs(correlation[i, j]) > _ALIKE]
        # Painted from other noise: what activations alone say of an image. From its own, noise alone would do.
        painter = trained.painter
        some = self.rows[:: max(1, len(self.rows) // 64)][:64]
        images = np.asarray(trained.images[some], dtype=np.float32)
        codes = painter.activations(images)
        noise = painter.noise(len(images), 17)
        told = painter.paint(noise, codes)
        mixed = painter.paint(noise, np.roll(codes, len(codes) // 2 or 1, axis=0))
        error, wrong = (((made - images) ** 2).mean((1, 2, 3)) for made in (told, mixed))
        self.error, self.wrong = error, wrong
        self.inverted = painter.invert(images[:_PAINTED], codes[:_PAINTED])
        self.own = painter.paint(self.inverted.noise, codes[:_PAINTED])
        self.images, self.codes, self.told = images[:_PAINTED], codes[:_PAINTED], told[:_PAINTED]


def findings(h: Health) -> list[Finding]:
    """Return the findings: is the code collapsed, are prototypes dead or twins, does the painter obey it?"""
    m = h.activations.shape[1]
    gain = 1 - float(h.error.mean() / h.wrong.mean())
    draws = np.random.default_rng(0).integers(0, len(h.error), (1_000, len(h.error)))
    low, high = np.quantile(1 - h.error[draws].mean(1) / h.wrong[draws].mean(1), (0.025, 0.975))
    where = "held-out" if h.held_out else "training"
    rank = Estimate("effective rank of activations", h.rank, n=len(h.activations), extra={"of": float(m)})
    obeys: tuple[Verdict, str] = (
        ("supported", f"Activations decide what is painted: they explain {100 * gain:.0f} % of the error of wrong "
        "ones.")
        if low > 0.05 else
        ("refuted", f"Activations hardly matter to what is painted ({100 * gain:z.0f} % of the error of wrong ones).")
        if high < 0.05 else
        ("insufficient", f"These {len(h.error)} images cannot tell whether activations decide what is painted.")
    )  # fmt: skip
    drafts = [
        _draft(
            "collapsed", "Is the code collapsed to one number?", rank,
            ("supported", f"The code is collapsed: {m} prototypes say as much as {h.rank:.1f} independent numbers.")
            if h.rank < COLLAPSED
            else ("refuted", f"{m} prototypes say as much as {h.rank:.1f} independent numbers, on {where} images."),
        ),
        _draft(
            "dead", "Are there prototypes that never change, or that say the same?",
            Estimate("dead prototypes and twins", float(len(h.dead) + len(h.twins)), n=m),
            ("refuted", "No prototype is dead, and no two say the same.") if not len(h.dead) + len(h.twins)
            else ("supported", f"{_named(h.dead.tolist())} {'are' if len(h.dead) > 1 else 'is'} dead, "
                  f"{len(h.twins)} pair{'s say' if len(h.twins) != 1 else ' says'} the same."),
        ),
        _draft(
            "obeys", "Do activations decide what is painted?",
            Estimate("share of error explained", gain, float(low), float(high), n=len(h.error),
                     method="images drawn anew; against activations of other images, from the same fresh noise"),
            obeys,
        ),
    ]  # fmt: skip
    return conclude(drafts)


def page(
    trained: Any, h: Health, done: TrainedPrototypes, cohort: Cohort, found: list[Finding], run: Run, seconds: float
) -> Report:
    """Return the report's content."""
    recipe = done.recipe
    return Report(
        title="A diffusion model of prototypes",
        subtitle=f"{cohort.name}: {len(trained.rows('train')):,} images, {recipe.encoder.prototypes} prototypes",
        headline=" ".join(f.claim for f in found[:1] + found[2:3]),
        answers=[Answer.of(f) for f in found],
        sections=[_prototypes(trained, h), _paints(h), *([_course(done)] if done.history else [])],
        methods=methods(done),
        citations=[PATRONUS, *([cohort.source.citation] if cohort.source else [])],
        limits=[
            "What a prototype stands for is for a reader to name; the audit tests names, and needs labels for it.",
            "One training: another seed finds other prototypes, and may miss what this one has.",
            "Prototypes are of patches: what is of the whole image (age, sex, contrast) need not be among them.",
        ],
        provenance=provenance.told(run, cohort.name, seconds={"all": seconds}),
        findings=found,
        known=cohort.known,
    )  # fmt: skip


def methods(done: TrainedPrototypes) -> str:
    """Return how the model was made, for a paper."""
    r = done.recipe
    painted = (
        f"The activation of a prototype is {r.encoder.similarity} of the squared distance to the nearest cell. Images "
        "are painted by DDIM from their own noise, found by 50 steps backwards, each refined until it is settled, so "
        "that nothing but what is changed changes."
    )
    if not done.history:
        return (
            f"A published model of Patronus (arXiv 2503.22782), {r.encoder.prototypes} prototypes, whose cells see "
            f"{done.model.encoder.field.size} x {done.model.encoder.field.size} pixels, was looked at (medaudit "
            f"{__version__}) on images of {r.side} pixels; nothing was trained. {painted}"
        )
    said = {
        "fast": "the loss of the velocity, activations brought to mean 0 and SD 1 before the U-Net, prototypes started "
        "from patches of the images (k-means++), and averaged weights (decay 0.995)",
        "paper": "the loss of the noise and the published start of weights, as in the released code",
    }
    return (
        f"An encoder of {len(r.encoder.features)} convolutions, whose cells see {done.model.encoder.field.size} x "
        f"{done.model.encoder.field.size} pixels, was trained together with {r.encoder.prototypes} prototypes and a "
        f"conditional U-Net (medaudit {__version__}; Patronus, arXiv 2503.22782) on images of {r.side} pixels: "
        f"{r.steps:,} steps of {r.batch_size} images, recipe '{r.recipe}': {said[r.recipe]}. {painted}"
    )


def marked(image: np.ndarray, box: Box) -> np.ndarray:
    """Return an image (C, H, W) as (H, W, 3) uint8 with a red frame around a box."""
    shown = np.rint(255 * np.clip(as_picture(image), 0, 1)).astype(np.uint8)
    shown = np.repeat(shown[..., None], 3, axis=-1) if shown.ndim == 2 else shown.copy()
    top, left, bottom, right = box
    scale = 4 if shown.shape[0] <= 64 else 2
    shown = shown.repeat(scale, 0).repeat(scale, 1)
    wide = -(-shown.shape[0] // 64)  # a thinner frame would be lost where the picture is shown smaller
    rows, columns = slice(top * scale, bottom * scale), slice(left * scale, right * scale)
    inside = shown[rows, columns]
    kept = inside[wide:-wide, wide:-wide].copy()
    inside[:] = (230, 30, 30)
    inside[wide:-wide, wide:-wide] = kept
    return shown


def as_picture(image: np.ndarray) -> np.ndarray:
    """Return (C, H, W) as (H, W), or (H, W, 3) in colour."""
    return image[0] if len(image) == 1 else np.moveaxis(np.asarray(image, dtype=np.float32), 0, -1)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of an image in a box."""
    top, left, bottom, right = box
    return as_picture(np.asarray(image, dtype=np.float32)[:, top:bottom, left:right])


def portrait_rows(trained: Any, health: Health, chosen: Sequence[int]) -> tuple[list[list[np.ndarray]], list[Any]]:
    """Return for each prototype a row of pictures: before, after with box, the patch, difference, nearest patches."""
    pool = np.asarray(trained.images[health.rows[:512]], dtype=np.float32)
    near = nearest_patches(trained.painter, pool, chosen, most=4)
    ranges = Ranges.of(trained.activations()[trained.rows("train")])
    made = portraits(trained.painter, health.images, health.inverted, health.codes, ranges, chosen, near)
    rows = []
    for one in made:
        change = np.abs(one.after - one.before).mean(0)
        rows.append(
            [
                as_picture(one.before), marked(one.after, one.box), cut(one.after, one.box),
                gallery.heat(change, 0.0, max(0.05, float(change.max()))),
                *[cut(pool[i], box) for i, box in one.nearest],
            ]
        )  # fmt: skip
    return rows, made


def _prototypes(trained: Any, health: Health) -> Section:
    spread = health.activations.std(0)
    chosen = np.argsort(-spread, kind="stable")[: min(_SHOWN, len(spread))].tolist()
    rows, made = portrait_rows(trained, health, chosen)
    png = gallery.tiles(rows, columns=["before", "turned up", "patch", "change", "nearest", "", "", ""], pixels=72)
    cells = [
        (str(one.prototype), numerals.number(float(spread[one.prototype])), numerals.number(one.was),
         numerals.number(one.asked), numerals.number(one.reached),
         numerals.number((one.reached - one.was) / (one.asked - one.was)) if abs(one.asked - one.was) > 1e-6 else "")
        for one in made
    ]  # fmt: skip
    return Section(
        "What has it learned?",
        "A row a prototype, those that vary most first: a real image; the same noise painted with the prototype turned "
        "up to its 95th percentile, and where it lies; that patch; what changed; and the real patches nearest to it.",
        pictures=[Picture(png, "A row a prototype: before, after, patch, change, and the nearest real patches")],
        tables=[
            Table(
                "Prototypes", ("Prototype", "SD", "Before", "Asked for", "Reached", "Controllability"), cells,
                note="Controllability: how much of the change asked for the encoder finds in the painted image.",
            )
        ],
    )  # fmt: skip


def _paints(health: Health) -> Section:
    rows = [[as_picture(x) for x in part[:8]] for part in (health.images, health.own, health.told)]
    residual, spread = float(health.inverted.residual.max()), float(health.inverted.spread.mean())
    own = float(((health.own - health.images) ** 2).mean())
    unsettled = int((health.inverted.residual > SETTLED).sum())
    warning = (
        f" The noise of {unsettled} of {len(health.images)} images did not settle within half a grey level: paintings "
        "from it change more than what was changed." if unsettled else ""
    )  # fmt: skip
    cells = [
        ("from its own noise", numerals.number(own)),
        ("from fresh noise, its activations", numerals.number(float(health.error.mean()))),
        ("from fresh noise, another image's activations", numerals.number(float(health.wrong.mean()))),
    ]
    return Section(
        "How well does it paint?",
        "Images; painted from their own noise and activations; painted from fresh noise with their activations. The "
        "second row says little of the code: noise alone nearly holds the image.",
        pictures=[Picture(gallery.tiles(rows, pixels=72), "Images, and two rows of what is painted of them")],
        tables=[Table("Mean squared error, values from 0 to 1", ("Painted", "Error"), cells, "lr",
                      note=f"Inversion: the last refinement moved no image by more than {residual:.2g} (root mean "
                      f"square); the noise has SD {spread:.2f}.{warning}")],
    )  # fmt: skip


def _course(done: TrainedPrototypes) -> Section:
    rows = [{"x": float(row["step"]), "y": float(row["loss"]), "group": "loss"} for row in done.history]
    ranks = [
        {"x": float(row["step"]), "y": float(row["val_effective_rank"]), "group": "effective rank"}
        for row in done.history
    ]
    drawn = [
        Figure(
            figures.lines(rows, title="Loss", x="step", y="mean squared error", groups=["loss"], points=True),
            "Loss", "A line over steps.",
        ),
        Figure(
            figures.lines(
                ranks, title="Effective rank", x="step", y="independent numbers", groups=["effective rank"], points=True
            ),
            "Effective rank", "A line over steps: how many independent numbers the activations are worth.",
        ),
    ]  # fmt: skip
    return Section("How did it learn?", "Means over each part of the training.", figures=drawn)


def _named(which: Sequence[int]) -> str:
    if not which:
        return "No prototype"
    return f"Prototype{'s' * (len(which) > 1)} {', '.join(map(str, which[:5]))}" + (" and more" if which[5:] else "")


def _draft(name: str, question: str, estimate: Estimate, answer: tuple[Verdict, str]) -> Draft:
    return Draft(name, question, {}, estimate, lambda adjusted: answer)
