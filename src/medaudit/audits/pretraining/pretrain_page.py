"""The page of a pretraining: did it learn, what did it see, what do its patches tell apart?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from medaudit import __version__
from medaudit.audits.pretraining.page import CITATION, in_colours
from medaudit.networks.backbones import open_backbone
from medaudit.report import Answer, Figure, Finding, Picture, Report, Run, Section, Table, figures, gallery, provenance
from medaudit.training.dinov2.crops import draw, views
from medaudit.training.dinov2.recipe import Recipe
from medaudit.training.dinov2.run import Pretrained
from medaudit.training.frames import Frames, described

DINOV2 = (
    "Oquab M, Darcet T, Moutakanni T, et al. DINOv2: learning robust visual features without supervision. "
    "arXiv:2304.07193."
)
_SHOWN = 8


def page(
    frames: Frames, recipe: Recipe, done: Pretrained, found: Sequence[Finding], run: Run, seconds: float
) -> Report:
    """Return the report's content."""
    last = done.history[-1]
    return Report(
        title="Pretraining on unlabelled images",
        subtitle=f"{done.frames:,} frames, {done.samples:,} samples seen",
        headline=" ".join(f.claim for f in found[:2]),
        answers=[Answer.of(f) for f in found],
        sections=[_course(recipe, done), _seen(frames, recipe), _patches(frames, done), _corpus(frames)],
        methods=_methods(frames, recipe, done),
        citations=[DINOV2, CITATION],
        limits=[
            "Nothing here says that the features are good for a task: `medaudit probe` does, against opponents.",
            "A loss that falls is no proof of learning, and RankMe none of use: they rule out a collapse.",
            *(["Patients are not known: copies under several patients could not be looked for."]
              if frames.table["patient_id"].null_count() == frames.table.height else []),
        ],
        provenance=provenance.told(
            run,
            more={
                **{f"recipe: {name}": value for name, value in recipe.record().items()},
                **{f"last: {name}": f"{value:.6g}" for name, value in last.items()},
            },
            seconds={"training": seconds},
        ),
        findings=found,
    )  # fmt: skip


def _course(recipe: Recipe, done: Pretrained) -> Section:
    names = {"dino": "DINO", "ibot": "iBOT", "teacher_entropy": "teacher's entropy"}
    rows = [
        {"x": float(row["step"]), "y": float(row[key]), "group": name}
        for key, name in names.items()
        for row in done.history
    ]
    plateau = math.log(recipe.prototypes)
    losses = figures.lines(
        rows, title="Losses", x="step", y="nats", groups=list(names.values()), level=plateau, points=True,
        note=f"Horizontal: ln {recipe.prototypes:,}, the DINO loss of guessing.",
    )  # fmt: skip
    kinds = {"val_rankme": "class token", "val_rankme_patch": "mean patch"}
    ranks = figures.lines(
        [{"x": float(row["step"]), "y": float(row[key]), "group": name} for key, name in kinds.items()
         for row in done.history],
        title="RankMe of the teacher's features", x="step", y="RankMe", groups=list(kinds.values()), points=True,
    )  # fmt: skip
    drawn = [
        Figure(losses, "Losses", "Lines over steps: DINO, iBOT and the teacher's entropy."),
        Figure(ranks, "RankMe", "Lines over steps: the effective rank of class tokens and mean patches."),
    ]
    if "val_knn" in done.history[0]:
        points = [{"x": float(row["step"]), "y": float(row["val_knn"]), "group": "kNN"} for row in done.history]
        svg = figures.lines(points, title="Online kNN", x="step", y="share named rightly", groups=["kNN"], points=True)
        drawn.append(Figure(svg, "Online kNN", "Accuracy of neighbours of other patients, over steps."))
    return Section("Did it learn?", "Means over each part of the run; features are the teacher's.", figures=drawn)


def _seen(frames: Frames, recipe: Recipe) -> Section:
    rng = np.random.default_rng(0)
    at = np.linspace(0, len(frames.images) - 1, min(_SHOWN, len(frames.images))).astype(int)
    images = torch.from_numpy(np.asarray(frames.images[at]))
    drawn = torch.from_numpy(np.stack([draw(recipe.crops, rng) for _ in at]))
    wide, narrow = views(images, drawn, recipe.crops, 0.0, 1.0)
    n = len(at)
    rows = [
        [image.numpy() / 255 for image in images],
        *[[x[0].numpy() for x in wide[k * n : (k + 1) * n]] for k in (0, 1)],
    ]
    rows += [[x[0].numpy() for x in narrow[k * n : (k + 1) * n]] for k in range(min(2, recipe.crops.locals))]
    return Section(
        "What did it see?",
        "Frames, their two global crops, and local crops, drawn as in training.",
        pictures=[Picture(gallery.tiles(rows, pixels=96), "Frames above, their crops below", "A column a frame")],
    )


def _patches(frames: Frames, done: Pretrained) -> Section:
    at = np.linspace(0, len(frames.images) - 1, min(_SHOWN, len(frames.images))).astype(int)
    images = np.asarray(frames.images[at])
    png = in_colours(open_backbone(done.folder), images)
    return Section(
        "What do its patches tell apart?",
        "Frames above; below, patches by their first three principal components, jointly over the frames.",
        pictures=[Picture(png, "Frames above, patches as colours below")] if png else [],
    )


def _corpus(frames: Frames) -> Section:
    about = described(frames)
    rows = [(name.replace("_", " "), str(value)) for name, value in about.items() if not isinstance(value, list | dict)]
    skipped = [(one.path, one.reason) for one in frames.skipped[:50]]
    tables = [Table("Frames", ("", ""), rows, "lr")]
    if skipped:
        tables.append(Table(f"Skipped: {len(frames.skipped):,}", ("File", "Why"), skipped, "ll",
                            note="The first 50." if len(frames.skipped) > 50 else ""))  # fmt: skip
    return Section("What was it trained on?", "Counted after what could not be read was left out.", tables=tables)


def _methods(frames: Frames, recipe: Recipe, done: Pretrained) -> str:
    r, c, s = recipe, recipe.crops, recipe.shape
    first = (
        f"DINOv2 (medaudit {__version__}, fidelity {r.fidelity}): a vision transformer of width {s.dim}, {s.depth} "
        f"blocks, patches of {s.patch} and {s.registers} registers was trained for {r.steps:,} steps of "
        f"{r.batch_size} on {done.frames:,} frames of {frames.side} x {frames.side} pixels. Two global crops of "
        f"{c.global_side} and {c.locals} local ones of {c.local_side} pixels; {r.prototypes:,} prototypes; "
        f"{'Sinkhorn-Knopp' if r.centring == 'sinkhorn' else 'centring'}; teacher's temperature "
        f"{r.teacher_temperature[0]:g} to {r.teacher_temperature[1]:g}, momentum {r.momentum:g} to 1; AdamW, rate "
        f"{r.rate:.2g} after {r.warmup:.0%} warm-up, cosine; weight decay {r.weight_decay[0]:g} to "
        f"{r.weight_decay[1]:g}; layer decay {r.layer_decay:g}; gradients cut to {r.clip:g} by part."
    )
    return first + "\n\nThe teacher's backbone is kept. No label was used."
