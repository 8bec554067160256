"""From a trained model and labelled images to findings: judge, choose carriers, move, screen, draw, write."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.prototypes.codes import COMPONENTS, OWN, components, distances
from medaudit.audits.prototypes.effects import Donors, Judge, carriers, effects
from medaudit.audits.prototypes.findings import cards, findings
from medaudit.audits.prototypes.labels import Asked, attributes_of, two_valued
from medaudit.audits.prototypes.page import page
from medaudit.audits.prototypes.settings import AuditSettings, TrainSettings
from medaudit.audits.prototypes.study import Material, Study, study
from medaudit.audits.prototypes.train_run import PREPARED, Opened, open_trained, prepared, train_prototypes
from medaudit.audits.prototypes.where import masks_of, pointed
from medaudit.cohort import Cohort, fingerprint, split
from medaudit.datasets import simulated_images
from medaudit.datasets.shortcut_scenes import SCENES
from medaudit.errors import DataError, UsageError
from medaudit.explanation.prototypes.moves import Ranges
from medaudit.metrics.ranking import auroc
from medaudit.report import Finding, Run, refuse_what_is_no_run
from medaudit.report.arrays import write_arrays
from medaudit.training.attributes import features, fit_judge, judged
from medaudit.training.devices import one_thread
from medaudit.training.latent_prior import draw, fit_prior

_KINDS = ("sign", "shortcut", "control")
_PROBE = 2_000  # simulated images that are asked
_REPAINTED = 256  # labelled images that are painted from fresh noise
_POINTED = 256  # images of an attribute in which its carrier is looked for
_JUDGED = 2_000  # training images that are judged, for what the data themselves hold


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an audit."""

    study: Study
    findings: list[Finding]

    @property
    def first(self) -> list[Finding]:
        """The findings of the first screen."""
        return cards(self.findings)


def audit_prototypes(
    model: Path, settings: AuditSettings, *, out: Path, table: pl.DataFrame | None = None, probe: Cohort | None = None,
    jobs: int = 1, progress: bool = True,
) -> Outcome:  # fmt: skip
    """Return the audit of the model in ``model``, a run of ``medaudit prototypes train``; writes it to ``out``.

    ``table``: attributes by ``case_id`` for that run's cases; without it, columns of its own cohort. ``probe``: a
    cohort of other images that is asked instead of the held-out patients, best one in which attributes do not go
    together. Raises UsageError and DataError as its parts do.
    """
    trained = open_trained(model, steps=settings.steps)
    known = _with_attributes(trained, table)
    names = settings.attributes or tuple(two_valued(probe.table if probe is not None else known))
    if len(names) < 2:
        raise UsageError(
            f"{len(names)} attributes of yes and no; an audit needs two or more: give --attributes TABLE or --attribute"
        )
    inputs = {"model": model_hash(model), "attributes": _labels_hash(known, probe, names)}
    kept = {**asdict(settings), "names": names, "torch": importlib.metadata.version("torch")}
    with one_thread(settings.device), Run.open(out, verb="prototypes audit", settings=kept, inputs=inputs) as run:
        start = time.perf_counter()
        asked = _asked(trained, known, probe, names, out, jobs=jobs, progress=progress)
        material = gather(trained, known, asked, names, settings, out)
        result = study(material, settings)
        answers = findings(result)
        run.write_measurements(frame(result, trained, asked))
        run.write_findings(answers)
        run.write_report(page(result, answers, trained, asked, run, time.perf_counter() - start))
        run.finish()
    return Outcome(result, answers)


def audit_simulated(
    name: str, plant: str, size: int, trained: TrainSettings, settings: AuditSettings, *, out: Path, jobs: int = 1,
    progress: bool = True,
) -> Outcome:  # fmt: skip
    """Return the audit of a model trained on ``size`` simulated images with a planted shortcut, in ``out``-model.

    It is asked on other simulated images, in which nothing is planted. Raises UsageError for a simulator without
    shortcuts.
    """
    if name not in SCENES:
        raise UsageError(f"--simulate {name}: no shortcut can be planted there; expected one of {', '.join(SCENES)}")
    refuse_what_is_no_run(out)
    where = out.resolve()
    beside = [where.with_name(f"{where.name}-{what}") for what in ("images", "probe", "model")]
    seed = settings.seed
    cohort = simulated_images(name, beside[0], plant=plant, size=size, seed=seed, jobs=jobs, progress=progress)
    fair = f"{plant.partition(':')[0]}:0" if plant.partition(":")[0] != "none" else "none"
    probe = simulated_images(
        name, beside[1], plant=fair, size=_PROBE, seed=seed + 1_000_003, jobs=jobs, progress=progress
    )
    train_prototypes(cohort, trained, out=beside[2], jobs=jobs, progress=progress)
    truth = cohort.truth or {}
    settings = replace(settings, attributes=settings.attributes or tuple(truth[k] for k in _KINDS))
    return audit_prototypes(beside[2], settings, out=out, probe=probe, jobs=jobs, progress=progress)


def gather(
    trained: Opened, known: pl.DataFrame, asked: Asked, names: tuple[str, ...], settings: AuditSettings, out: Path
) -> Material:
    """Return what the study is made of; what was painted before is read again."""
    painter = trained.painter
    labels = asked.labels
    half = split(asked.patients.tolist(), ["all"] * len(labels), (1.0, 1.0), settings.seed)
    choosing, judging = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    rows = trained.rows("train")
    judge = _judge(trained, known, asked, names, choosing, settings, out)

    def judge_of(images: np.ndarray) -> np.ndarray:
        return judged(judge, images)

    told = judge_of(np.asarray(asked.images[judging], dtype=np.float32))
    judge_auroc = np.array([_auroc(told[:, k], labels[judging, k]) for k in range(len(names))])
    training = trained.activations()[rows]
    codes = painter.activations(asked.images)
    carried = carriers(codes, labels, (choosing, judging), Ranges.of(training))
    bare = judging[(labels[judging] == 0).all(axis=1)]
    start = bare[: settings.images]
    found, drawn, apart = [], np.zeros((0, len(names))), {}
    if len(start) >= 2:
        images = np.asarray(asked.images[start], dtype=np.float32)
        inverted = painter.invert(images, codes[start])
        seen = Donors(training, _training_labels(trained, known, names, rows, judge_of), trained.patients[rows])
        labelled = Donors(codes[choosing], labels[choosing], asked.patients[choosing])
        found = effects(painter, judge_of, inverted, codes[start], seen, labelled, carried, seed=settings.seed)
    if settings.drawn:
        prior = fit_prior(training, out / "prior", seed=settings.seed)
        activations = draw(prior, settings.drawn, seed=settings.seed)
        painted = painter.paint(painter.noise(settings.drawn, settings.seed + 1), activations)
        write_arrays(out / "drawn.npz", {"images": painted[:16].astype(np.float16), "activations": activations})
        drawn = judge_of(painted)
    real = _some(rows, _JUDGED)
    seen_images = np.asarray(trained.images[real], dtype=np.float32)
    if settings.drawn:
        apart = distances(
            features(judge, asked.images), features(judge, seen_images), features(judge, painted),
            (asked.patients, trained.patients[real]), f"the judge of {', '.join(names)}", settings.seed,
        )  # fmt: skip
    again = _some(judging, _REPAINTED)
    repainted = painter.paint(painter.noise(len(again), settings.seed + 2), codes[again])
    where = {}
    for a, carrier in enumerate(carried if asked.masks is not None else []):
        assert asked.masks is not None
        shown = judging[asked.masks[judging, a].any((1, 2))][:_POINTED]
        if carrier.up and len(shown):
            images = np.asarray(asked.images[shown], dtype=np.float32)
            where[a] = pointed(painter, images, asked.masks[shown, a], carrier.prototype, asked.patients[shown])
    return Material(
        names, labels, asked.patients, codes, training, trained.patients[rows], start, choosing, carried, found, drawn,
        judge_of(seen_images), judge_auroc, again, judge_of(repainted), where,
        {OWN: codes, COMPONENTS: components(seen_images, asked.images, codes.shape[1])}, apart,
    )  # fmt: skip


def frame(result: Study, trained: Opened, asked: Asked) -> pl.DataFrame:
    """Return a row a painting of a donor with or without an attribute, and a row an image whose carrier was moved.

    ``move``: total, code or direct; ``case_id``: the donor's, or the image's; ``painted_NAME``: the judge's probability
    of the painting, of a direct move its change; ``random_NAME``: the change by random other prototypes.
    """
    material = result.material
    names = material.attributes
    training = trained.table["case_id"].cast(pl.String).to_list()
    of = {"total": [training[i] for i in trained.rows("train")], "code": [asked.case_ids[i] for i in material.choosing]}
    parts = []
    for effect in material.effects:
        moved = names[effect.moved]
        for move, ids in of.items():
            exchange = getattr(effect, move)
            for has, rows, told in zip((True, False), exchange.donors, exchange.judged, strict=True):
                parts.append(
                    pl.DataFrame(
                        {"case_id": [ids[i] for i in rows], "move": move, "moved": moved, "has": has}
                        | {f"painted_{name}": told[:, k] for k, name in enumerate(names)}
                    )
                )
        parts.append(
            pl.DataFrame(
                {"case_id": [asked.case_ids[i] for i in material.start], "move": "direct", "moved": moved, "has": True,
                 "prototype": result.carrier(effect.moved).prototype, "reached": effect.reached}
                | {f"painted_{name}": effect.direct[:, k] for k, name in enumerate(names)}
                | {f"random_{name}": effect.null[:, k] for k, name in enumerate(names)}
            )
        )  # fmt: skip
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame({"case_id": []})


def _judge(trained, known, asked, names, choosing, settings, out):  # type: ignore[no-untyped-def]
    """Return a judge that learned from the choosing half and from training images whose attributes are known."""
    rows = trained.rows("train")
    own = attributes_of(known, names)[rows] if all(name in known.columns for name in names) else None
    images = np.asarray(asked.images[choosing], dtype=np.float32)
    labels = asked.labels[choosing]
    if own is not None and np.isfinite(own).any():
        some = np.linspace(0, len(rows) - 1, min(_JUDGED, len(rows))).astype(int)
        images = np.concatenate([images, np.asarray(trained.images[rows[some]], dtype=np.float32)])
        labels = np.concatenate([labels, own[some]])
    return fit_judge(
        images, labels, list(range(len(images))), out / "judge", seed=settings.seed, device=settings.device
    )


def _training_labels(
    trained: Opened, known: pl.DataFrame, names: tuple[str, ...], rows: np.ndarray, judge: Judge
) -> np.ndarray:  # fmt: skip
    """Return the attributes of the training images (N, K): as they are known, and as the judge says where not."""
    found = np.full((len(rows), len(names)), np.nan)
    if all(name in known.columns for name in names):
        found = attributes_of(known, names)[rows]
    for start in range(0, len(rows), 1_024):
        part = slice(start, start + 1_024)
        if np.isnan(found[part]).any():
            said = (judge(np.asarray(trained.images[rows[part]], dtype=np.float32)) > 0.5).astype(float)
            found[part] = np.where(np.isnan(found[part]), said, found[part])
    return found


def _asked(
    trained: Opened, known: pl.DataFrame, probe: Cohort | None, names: tuple[str, ...], out: Path, *, jobs: int,
    progress: bool,
) -> Asked:  # fmt: skip
    if probe is None:
        rows = trained.rows("test")
        if not len(rows):
            raise DataError(
                f"{trained.folder} held no patients out; train with --test-share, or give other images to ask"
            )
        labels = attributes_of(known, names)[rows]
        ids = [trained.table["case_id"][int(i)] for i in rows]
        return Asked(trained.images[rows], labels, trained.patients[rows], None, ids)
    recipe = trained.painter.trained.recipe
    images = prepared(probe, recipe, out / PREPARED, jobs=jobs, progress=progress)
    labels = attributes_of(probe.table, names)
    masks = None
    if all(name in probe.roles for name in names):
        masks = masks_of(probe, names, recipe.side)
    return Asked(images, labels, probe.clusters.to_numpy(), masks, list(probe.case_ids))


def _with_attributes(trained: Opened, table: pl.DataFrame | None) -> pl.DataFrame:
    if table is None:
        return trained.table
    if "case_id" not in table.columns:
        raise DataError(
            "the table of attributes has no column case_id; expected one, as in the cases of the model's run"
        )
    table = table.with_columns(pl.col("case_id").cast(pl.String))
    if table["case_id"].is_duplicated().any():
        case = table.filter(table["case_id"].is_duplicated())["case_id"][0]
        raise DataError(f"the table of attributes has case {case} twice; leave one")
    both = trained.table.select(["case_id", "part", *(["patient_id"] if "patient_id" in trained.table.columns else [])])
    joined = both.with_columns(pl.col("case_id").cast(pl.String)).join(
        table, on="case_id", how="left", maintain_order="left"
    )
    shared = set(table["case_id"]) & set(both["case_id"].cast(pl.String))
    if not shared:
        raise DataError("no case of the table of attributes is one of the model's run; are they of another dataset?")
    return joined


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """Return up to ``most`` of the rows, evenly over them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]


def _auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    yes, no = scores[labels == 1], scores[labels == 0]
    return auroc(no, yes) if len(yes) and len(no) else float("nan")


def model_hash(model: Path) -> str:
    """Return what tells one trained model from another."""
    return hashlib.sha256((model / "model" / "prototypes.pt").read_bytes()).hexdigest()


def _labels_hash(known: pl.DataFrame, probe: Cohort | None, names: tuple[str, ...]) -> str:
    if probe is not None:
        return fingerprint(probe)
    return hashlib.sha256(
        known.select(["case_id", *[n for n in names if n in known.columns]]).write_csv().encode()
    ).hexdigest()
