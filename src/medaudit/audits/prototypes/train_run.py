"""From a cohort to a trained model of prototypes in a run: prepare, train, look, report."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medaudit.audits.prototypes.settings import TrainSettings
from medaudit.cohort import Cohort, colour_image, fingerprint, split
from medaudit.errors import UsageError
from medaudit.explanation.prototypes.painter import Painter
from medaudit.networks.prototypes.patronus_weights import PublishedPatronus, read_patronus
from medaudit.report import Finding, Run
from medaudit.training.devices import one_thread
from medaudit.training.prepared import opened, prepare
from medaudit.training.prototypes.fit import adopt, fit_prototypes, restored
from medaudit.training.prototypes.recipe import PRESETS, PrototypeRecipe
from medaudit.workers import bar

CASES, PREPARED, MODEL, CODES = "cases", "prepared", "model", "activations.npy"
SEEN, HELD_OUT = "train", "test"
_ASKED_FOR_COLOUR = 50


@dataclass(frozen=True, eq=False)
class Opened:
    """A run of ``medaudit prototypes train``: the model, its images and who they are."""

    folder: Path
    painter: Painter
    images: np.ndarray
    """(n, C, H, W), 0 to 1, on disk."""
    table: pl.DataFrame
    """The cohort's table, with ``part``: ``train`` or ``test``."""
    patients: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of a part."""
        return np.flatnonzero((self.table["part"] == part).to_numpy())

    def activations(self) -> np.ndarray:
        """Return the activations of all images (n, m), made once."""
        path = self.folder / CODES
        if path.is_file():
            found = np.load(path)
            if len(found) == len(self.images):
                return found
        found = self.painter.activations(self.images)
        np.save(path, found)
        return found


def open_trained(folder: Path, *, steps: int = 50) -> Opened:
    """Return the run of a training; UsageError where ``folder`` is none, DataError where it is not finished."""
    run = Run.read(folder)
    if run.verb != "prototypes train":
        raise UsageError(f"{folder} is a run of `medaudit {run.verb}`; expected one of `medaudit prototypes train`")
    table = run.measurements(CASES)
    images = opened(folder / PREPARED, table["case_id"].to_list(), ()).images
    patients = table["patient_id"].to_numpy() if "patient_id" in table.columns else table["case_id"].to_numpy()
    return Opened(folder, Painter(restored(folder / MODEL), steps=steps), images, table, patients)


def recipe_of(cohort: Cohort, settings: TrainSettings) -> PrototypeRecipe:
    """Return the recipe of these settings: in colour where an image has colours."""
    return recipe_for(channels_of(cohort), settings)


def recipe_for(channels: int, settings: TrainSettings) -> PrototypeRecipe:
    """Return the recipe for images of so many channels; UsageError for a size that its nets cannot take."""
    changes: dict[str, Any] = {
        name: value for name, value in (
            ("side", settings.side), ("steps", settings.steps), ("recipe", settings.recipe),
            ("precision", settings.precision),
        )
        if value is not None
    }  # fmt: skip
    recipe = PRESETS[settings.preset].of(
        channels=channels, prototypes=settings.prototypes, flip=settings.flip, **changes
    )
    _check_side(recipe, f"'{settings.preset}'")
    return recipe


def recipe_of_published(published: PublishedPatronus, settings: TrainSettings) -> PrototypeRecipe:
    """Return the recipe that says what a published model is, of no steps of ours; UsageError for a side it cannot
    take.
    """
    recipe = PrototypeRecipe(
        published.encoder, published.unet, int(settings.side or 0), steps=0, recipe="paper",
        noise_steps=published.noise_steps,
    )  # fmt: skip
    _check_side(recipe, "the published model")
    return recipe


def _check_side(recipe: PrototypeRecipe, whose: str) -> None:
    halvings = len(recipe.unet.multipliers) - 1
    stride = 2**halvings
    if recipe.side % stride:
        lower, upper = recipe.side // stride * stride, -(-recipe.side // stride) * stride
        raise UsageError(
            f"--side {recipe.side}: the net of {whose} halves it {halvings} times; "
            f"expected a multiple of {stride}, as {lower or upper} or {upper}"
        )
    if recipe.side < recipe.encoder.least_side:
        raise UsageError(f"--side {recipe.side}: the encoder of {whose} needs {recipe.encoder.least_side}")


def channels_of(cohort: Cohort) -> int:
    """Return 3 where one of the first 50 images has colours, else 1."""
    some = list(cohort.cases("image"))[:_ASKED_FOR_COLOUR]
    return 3 if any(np.ptp(colour_image(case), axis=-1).max() > 0 for case in some) else 1


def train_prototypes(
    cohort: Cohort, settings: TrainSettings, *, out: Path, jobs: int = 1, progress: bool = True
) -> list[Finding]:  # fmt: skip
    """Return what can be said of a model of prototypes trained on a cohort's ``image``; the run stays in ``out``.

    A share of patients is held out: the audit asks them. Raises UsageError and DataError as its parts do.
    """
    if "image" not in cohort.roles:
        raise UsageError(
            f"{cohort.name}: there are no images; put them into the dataset's folder, or say where they are with "
            "--image COLUMN or TEMPLATE"
        )
    published = read_patronus(settings.weights) if settings.weights is not None else None
    recipe = recipe_of(cohort, settings) if published is None else recipe_of_published(published, settings)
    kept = {**asdict(settings), "recipe": recipe.record(), "torch": importlib.metadata.version("torch")}
    kept["weights"] = published.sha256 if published is not None else None
    with (
        one_thread(settings.device),
        Run.open(out, verb="prototypes train", settings=kept, inputs={"cases": fingerprint(cohort)}) as run,
    ):
        from medaudit.audits.prototypes.train_page import Health, page
        from medaudit.audits.prototypes.train_page import findings as found_in

        start = time.perf_counter()
        images = prepared(cohort, recipe, out / PREPARED, jobs=jobs, progress=progress)
        parts = deal(cohort, settings)
        rows = np.flatnonzero(parts == SEEN).tolist()
        if published is not None:
            done = adopt(published.model, recipe, out / MODEL)
        else:
            done = fit_prototypes(
                images, rows, recipe, out / MODEL, seed=settings.seed, device=settings.device, names=cohort.case_ids,
                progress=progress,
            )  # fmt: skip
        table = cohort.table.with_columns(part=pl.Series(parts))
        if "case_id" not in table.columns:
            table = table.with_columns(case_id=pl.Series(cohort.case_ids))
        run.write_measurements(table, CASES)
        trained = open_trained(out)
        health = Health(trained)
        answers = found_in(health)
        run.write_findings(answers)
        run.write_report(page(trained, health, done, cohort, answers, run, time.perf_counter() - start))
        run.finish()
    return answers


def prepared(cohort: Cohort, recipe: PrototypeRecipe, folder: Path, *, jobs: int, progress: bool) -> np.ndarray:
    """Return all images cropped to squares of the recipe's side, (n, C, H, W) float16 from 0 to 1, on disk."""
    with bar("preparing images", progress) as show:
        return prepare(
            cohort, (), (recipe.side, recipe.side), folder, jobs=jobs, progress=partial(show, total=len(cohort)),
            framing="crop", channels=recipe.encoder.channels,
        ).images  # fmt: skip


def deal(cohort: Cohort, settings: TrainSettings) -> np.ndarray:
    """Return each case's part: the dataset's own ``split`` where it has one with a test part, else dealt by patient."""
    if "split" in cohort.table.columns:
        own = cohort.table["split"].cast(str).str.to_lowercase().to_numpy()
        if (own == "test").any() and (own != "test").any():
            return np.where(own == "test", HELD_OUT, SEEN)
    share = settings.test_share
    if share == 0:
        return np.full(len(cohort), SEEN)
    codes = split(cohort.clusters.to_list(), ["all"] * len(cohort), (1 - share, share), settings.seed)
    return np.where(codes == 1, HELD_OUT, SEEN)
