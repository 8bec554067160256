"""Look closer at a trained model: every prototype, where it is, when it appears, what lies between and beyond
images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.prototypes.run import model_hash
from medaudit.audits.prototypes.train_page import PATRONUS, Health, as_picture, findings, methods, portrait_rows
from medaudit.audits.prototypes.train_run import Opened, open_trained
from medaudit.errors import UsageError
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.explanation.prototypes.pictures import activation_map, extrapolated, interpolated
from medaudit.explanation.prototypes.when import emergence, order
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
from medaudit.training.devices import one_thread

_MAPPED, _BEYOND, _TIMED, _SHOWN = 6, 7, 8, 5


def show_prototypes(
    model: Path, *, out: Path, prototypes: Sequence[int] = (), images: int = 6, seed: int = 0
) -> list[Finding]:
    """Return the findings of a trained model's health, and write its pictures to ``out``.

    ``prototypes``: those that are shown in full, by default the five that vary most. Raises UsageError for one that is
    not there.
    """
    trained = open_trained(model)
    m = trained.painter.trained.recipe.encoder.prototypes
    wrong = [j for j in prototypes if not 0 <= j < m]
    if wrong:
        raise UsageError(f"there is no prototype {wrong[0]}; there are {m}, counted from 0")
    health = Health(trained)
    chosen = list(prototypes) or np.argsort(-health.activations.std(0), kind="stable")[:_SHOWN].tolist()
    settings = {"prototypes": list(prototypes), "images": images, "seed": seed}
    inputs = {"model": model_hash(model)}
    with one_thread("cpu"), Run.open(out, verb="prototypes show", settings=settings, inputs=inputs) as run:
        start = time.perf_counter()
        done = trained.painter.trained
        found = findings(health)
        some = np.asarray(trained.images[health.rows[:images]], dtype=np.float32)
        sections = [
            _portraits(trained, health), _where(trained, some, chosen), _when(trained, health, chosen),
            _beyond(trained, some, chosen), _between(trained, some),
        ]  # fmt: skip
        activations = pl.DataFrame(
            {"case_id": trained.table["case_id"], "part": trained.table["part"]}
            | {f"prototype_{j}": trained.activations()[:, j] for j in range(m)}
        )
        run.write_measurements(activations)
        run.write_findings(found)
        run.write_report(
            Report(
                title="What each prototype stands for",
                subtitle=f"{m} prototypes",
                headline=found[0].claim,
                answers=[Answer.of(f) for f in found],
                sections=sections,
                methods=methods(done),
                citations=[PATRONUS],
                limits=["Names are for a reader to give; `medaudit prototypes audit` tests them against labels."],
                provenance=provenance.told(run, seconds={"all": time.perf_counter() - start}),
                findings=found,
            )
        )  # fmt: skip
        run.finish()
    return found


def edit_image(model: Path, case_id: str, changes: Mapping[int, tuple[bool, float]], *, out: Path) -> dict[str, float]:
    """Write the picture of a case before and after a change of activations to ``out``, a PNG; return what was reached.

    ``changes``: by prototype, to a value, or by so many SDs where the flag is true. Raises UsageError for a case or a
    prototype that is not there.
    """
    trained = open_trained(model)
    ids = trained.table["case_id"].cast(pl.String).to_list()
    if case_id not in ids:
        raise UsageError(f"there is no case '{case_id}' in {model}; the first is '{ids[0]}'")
    painter = trained.painter
    image = np.asarray(trained.images[ids.index(case_id)], dtype=np.float32)[None]
    ranges = Ranges.of(trained.activations()[trained.rows("train")])
    before = painter.activations(image)
    after = ranges.edited(before, changes)
    painted = painter.paint(painter.invert(image, before).noise, after)
    reached = painter.activations(painted)[0]
    difference = np.abs(painted - image)[0].mean(0)
    row = [
        as_picture(image[0]),
        as_picture(painted[0]),
        gallery.heat(difference, 0.0, max(0.05, float(difference.max()))),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(gallery.tiles([row], columns=["before", "after", "change"], pixels=256))
    told: dict[str, float] = {}
    for j in changes:
        told |= {f"prototype {j} before": float(before[0, j]), f"prototype {j} asked for": float(after[0, j]),
                 f"prototype {j} reached": float(reached[j])}  # fmt: skip
        if not ranges.least[j] <= after[0, j] <= ranges.most[j]:
            told[f"prototype {j}: largest in training"] = float(ranges.most[j])
    return told


def _portraits(trained: Opened, health: Health) -> Section:
    everyone = np.argsort(-health.activations.std(0), kind="stable").tolist()
    rows, _ = portrait_rows(trained, health, everyone)
    titles = ["before", "turned up", "patch", "change", "nearest"]
    return Section(
        "Every prototype",
        f"In the order of how much they vary: {', '.join(map(str, everyone))}.",
        pictures=[
            Picture(gallery.tiles(rows, columns=titles, pixels=64), "A row a prototype, as in the training's report")
        ],
    )


def _where(trained: Opened, images: np.ndarray, chosen: Sequence[int]) -> Section:
    rows = [[as_picture(image) for image in images]]
    for j in chosen:
        maps = np.stack([activation_map(trained.painter, image, j) for image in images])
        low, high = gallery.shared_range(maps)
        rows.append([gallery.heat(np.nan_to_num(one, nan=low), low, high) for one in maps])
    return Section(
        "Where are they?",
        f"Images, and below where prototypes {', '.join(map(str, chosen))} are found in them: each pixel has the "
        "largest "
        "activation of the cells that see it. One scale a row.",
        pictures=[Picture(gallery.tiles(rows, pixels=96), "Images above, a row of maps for each prototype")],
    )


def _when(trained: Opened, health: Health, chosen: Sequence[int]) -> Section:
    ranges = Ranges.of(trained.activations()[trained.rows("train")])
    noise, codes = health.inverted.noise[:_TIMED], health.codes[:_TIMED]
    curves = [
        emergence(trained.painter, noise, codes, ranges.moved(codes, j, float(ranges.high[j])), j) for j in chosen
    ]
    rows = [
        {"x": float(x), "y": float(y), "group": f"prototype {j}"}
        for j, curve in zip(chosen, curves, strict=True)
        for x, y in sorted(zip(curve.times, curve.difference.mean(1), strict=True))
    ]
    cells = [
        (str(chosen[i]), numerals.number(curves[i].half), numerals.number(curves[i].half_log_snr))
        for i in order(curves)
    ]
    svg = figures.lines(
        rows, title="When they appear", x="time (right: noise)", y="activation, turned up less own",
        groups=[f"prototype {j}" for j in chosen],
    )  # fmt: skip
    return Section(
        "When do they appear?",
        "The activation in the image that the model expects, turned up less own, over denoising, from right to left.",
        figures=[Figure(svg, "Emergence", "A line a prototype over the times of denoising.")],
        tables=[Table("Half of it is there at, first ones first", ("Prototype", "Time", "log SNR"), cells)],
        note="Times depend on the schedule; log signal-to-noise ratios do not.",
    )


def _beyond(trained: Opened, images: np.ndarray, chosen: Sequence[int]) -> Section:
    ranges = Ranges.of(trained.activations()[trained.rows("train")])
    rows, cells = [], []
    for j in chosen:
        values = np.linspace(float(ranges.low[j]), float(ranges.high[j] + (ranges.high[j] - ranges.low[j])), _BEYOND)
        made, reached = extrapolated(trained.painter, images[0], j, values.tolist())
        rows.append([as_picture(images[0]), *[as_picture(one) for one in made]])
        cells.append(
            (
                str(j),
                *[f"{numerals.number(v)} → {numerals.number(float(r))}" for v, r in zip(values, reached, strict=True)],
            )
        )
    return Section(
        "Within the data and beyond",
        "An image, and the same painted with one prototype from its 5th percentile on, evenly, to as far beyond the "
        "95th again: the last three are beyond what training images have.",
        pictures=[Picture(gallery.tiles(rows, pixels=96), "A row a prototype: the image, then rising activations")],
        tables=[Table("Asked for → reached", ("Prototype", *["" for _ in range(_BEYOND)]), cells)],
    )


def _between(trained: Opened, images: np.ndarray) -> Section:
    if len(images) < 2:
        return Section("Between two images", "There is one image only.")
    made = interpolated(trained.painter, images[:2])
    row = [as_picture(images[0]), *[as_picture(one) for one in made], as_picture(images[1])]
    return Section(
        "Between two images",
        "Activations along a line, noise along the sphere. The outer two are the images themselves.",
        pictures=[Picture(gallery.tiles([row], pixels=96), "From one image to another in eight steps")],
    )
