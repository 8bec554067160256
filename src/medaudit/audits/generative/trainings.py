"""From a design to measurements: train a VAE at each share from each seed, and judge the fixed test cases.

Trainings are independent and run in as many processes as there are cores, one thread each, so that numbers do not
depend on how many. A training that was killed goes on at its last checkpoint; what is finished is not done again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medaudit.audits.generative.design import Design
from medaudit.audits.generative.judge import errors_of, fitted, perceptual_of, residual_variance, uncertainties_of
from medaudit.audits.generative.settings import Settings
from medaudit.audits.generative.study import Measured
from medaudit.cohort import Cohort, colour_image
from medaudit.errors import UsageError
from medaudit.networks.vae import Vae, VaeShape
from medaudit.report.arrays import read_arrays, write_arrays
from medaudit.report.atomic import write_atomically
from medaudit.training import checkpoint
from medaudit.training.devices import one_thread
from medaudit.training.prepared import fingerprint, opened, prepare
from medaudit.training.vae import VAES, VaeRecipe, fit_vae
from medaudit.uncertainty import slug
from medaudit.workers import bar, in_processes

PREPARED, TRAININGS, MEASURED = "prepared", "trainings", "measured"
_ASKED_FOR_COLOUR = 50


@dataclass(frozen=True)
class Unit:
    """One training: the place of its share in the settings, and its seed."""

    share: int
    seed: int

    def folder(self, out: Path, shares: tuple[float, ...]) -> Path:
        """Return where it is kept."""
        return out / TRAININGS / f"share-{shares[self.share]:g}" / f"seed-{self.seed}"


def measure(
    cohort: Cohort, design: Design, settings: Settings, out: Path, *, jobs: int, progress: bool
) -> tuple[Measured, VaeRecipe]:
    """Return errors and uncertainties of all test cases under all trainings, and the recipe that made them.

    Raises DataError as reading, the training loop and the scores do.
    """
    recipe = recipe_of(cohort, settings)
    if settings.metric == "delta_e" and recipe.shape.channels == 1:
        raise UsageError("--metric delta_e: these images are grey; choose another metric")
    perceptual_of(settings)
    _forget_other_inputs(out, cohort, design)
    everything = [Unit(k, s) for s in range(settings.seeds) for k in range(len(settings.shares))]
    left = [unit for unit in everything if not (_file(out, unit).exists() and _kept(out, unit, settings).exists())]
    ids = tuple(cohort.case_ids)
    if left or not (out / PREPARED / "images.npy").exists():
        prepare_images(cohort, recipe.shape, out, jobs=jobs, progress=progress)
    shared: dict[str, Any] = {"design": design, "settings": settings, "recipe": recipe, "out": out, "case_ids": ids}
    with bar("training and scoring", progress) as show:
        work = in_processes(partial(_unit, **shared), left, 1 if settings.device != "cpu" else jobs)
        for _ in show(work, total=len(everything), left=len(left)):
            pass
    return gathered(out, design, settings), recipe


def recipe_of(cohort: Cohort, settings: Settings) -> VaeRecipe:
    """Return how the VAEs of these settings are trained: in colour where an image has colours."""
    preset = VAES[settings.preset]
    shape = replace(preset.shape, channels=channels_of(cohort))
    return replace(preset, shape=shape, beta=settings.beta, perceptual=settings.perceptual, flip=settings.flip)


def channels_of(cohort: Cohort) -> int:
    """Return 3 where one of the first 50 images has colours, else 1."""
    some = list(cohort.cases("image"))[:_ASKED_FOR_COLOUR]
    return 3 if any(np.ptp(colour_image(case), axis=-1).max() > 0 for case in some) else 1


def prepare_images(cohort: Cohort, shape: VaeShape, out: Path, *, jobs: int, progress: bool) -> None:
    """Write all images, cropped to squares and scaled, to where the workers read them."""
    with bar("preparing images", progress) as show:
        prepare(
            cohort, (), (shape.side, shape.side), out / PREPARED, jobs=jobs,
            progress=partial(show, total=len(cohort)), framing="crop", channels=shape.channels,
        )  # fmt: skip


def restored(folder: Path) -> Vae:
    """Return the VAE that a training left in ``folder``, in evaluation mode; DataError where it is damaged."""
    kept = checkpoint.read(folder / "model.pt")
    fields = {**kept["shape"], "widths": tuple(kept["shape"]["widths"])}
    model = Vae(VaeShape(**fields))
    checkpoint.load_weights(model, folder / "model.pt")
    return model.eval()


def training_seed(settings: Settings, unit: Unit) -> int:
    """Return the seed of a unit: its own first weights and order of images, the same for all shares of a seed."""
    return int(np.random.SeedSequence((settings.seed, unit.seed, 31)).generate_state(1)[0])


def trained(unit: Unit, design: Design, settings: Settings, recipe: VaeRecipe, out: Path, images: np.ndarray) -> Vae:
    """Return the VAE of a unit, trained now or before."""
    folder = unit.folder(out, settings.shares)
    if not (folder / "model.pt").exists():
        seed = training_seed(settings, unit)
        model = Vae(recipe.shape, seed=seed)
        rows = design.training_rows(settings.shares[unit.share], unit.seed).tolist()
        distance = perceptual_of(settings) if settings.perceptual else None
        fit_vae(model, images, rows, recipe, folder, seed=seed, device=settings.device, distance=distance)
        checkpoint.write(folder / "model.pt", {"model": model.cpu().state_dict(), "shape": recipe.shape.as_dict()})
        for file in folder.glob("*.pt"):
            if file.name != "model.pt":
                file.unlink()
    return restored(folder)


def _unit(
    unit: Unit, *, design: Design, settings: Settings, recipe: VaeRecipe, out: Path, case_ids: tuple[str, ...]
) -> Unit:
    images = opened(out / PREPARED, case_ids, ()).images
    with one_thread(settings.device):
        model = trained(unit, design, settings, recipe, out, images)
        rows = design.training_rows(settings.shares[unit.share], unit.seed)
        seed, folder = training_seed(settings, unit), unit.folder(out, settings.shares)
        state = fitted(model, images, rows, settings, seed=seed, folder=folder) if settings.rank else None
        variance, distance = residual_variance(model, images, rows), perceptual_of(settings)
        parts: list[dict[str, np.ndarray]] = []
        for test in chunks(images, design.test):
            here = {f"error/{name}": values for name, values in errors_of(model, test, distance).items()}
            scores = uncertainties_of(model, state, variance, test, settings, seed=seed)
            here |= {f"score/{name}": values for name, values in scores.items()}
            parts.append({**here, "luminance": test.mean(axis=(1, 2, 3))})
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        notes = []
        if state is not None:
            error = float(np.median(found.pop("score/slug_error") / found["score/slug"]))
            notes.append(
                f"SLUG's standard error over {settings.probes} probes is {100 * error:.0f} % of the score (median "
                f"image); {slug.describe(state)}"
            )
            (folder / "krylov-all.pt").unlink(missing_ok=True)
    words = np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8)
    write_arrays(_file(out, unit), {**found, "notes": words})
    return unit


def chunks(images: np.ndarray, rows: np.ndarray, size: int = 512) -> Iterator[np.ndarray]:
    """Yield the images of ``rows`` as float32, some at a time: a cohort's need not fit into memory."""
    for start in range(0, len(rows), size):
        yield np.asarray(images[rows[start : start + size]], dtype=np.float32)


def gathered(out: Path, design: Design, settings: Settings) -> Measured:
    """Return what all units measured, by name, (K, S, n)."""
    errors: dict[str, np.ndarray] = {}
    scores: dict[str, np.ndarray] = {}
    luminance = np.empty(0)
    shape = (len(settings.shares), settings.seeds, len(design.test))
    for unit in (Unit(k, s) for k in range(shape[0]) for s in range(shape[1])):
        found = read_arrays(_file(out, unit))
        luminance = found["luminance"]
        for key, values in found.items():
            kind, _, name = key.partition("/")
            if name:
                into = errors if kind == "error" else scores
                into.setdefault(name, np.empty(shape))[unit.share, unit.seed] = values
    return Measured(design.test, errors, scores, luminance)


def notes_of(out: Path, settings: Settings) -> list[str]:
    """Return what the scores said of themselves, once each."""
    said: dict[str, None] = {}
    for unit in (Unit(k, s) for k in range(len(settings.shares)) for s in range(settings.seeds)):
        said |= dict.fromkeys(json.loads(read_arrays(_file(out, unit))["notes"].tobytes()))
    return list(said)


def _kept(out: Path, unit: Unit, settings: Settings) -> Path:
    return unit.folder(out, settings.shares) / "model.pt"


def _file(out: Path, unit: Unit) -> Path:
    return out / MEASURED / f"share-{unit.share}-seed-{unit.seed}.npz"


def _forget_other_inputs(out: Path, cohort: Cohort, design: Design) -> None:
    """Remove what was made of other images or another deal of the patients than those of now."""
    dealt = ([pool.tolist() for pool in design.pools], design.test.tolist(), design.train_size)
    now = hashlib.sha256(f"{fingerprint(cohort, ())} {dealt}".encode()).hexdigest()
    record = out / "trained-on.txt"
    if record.exists() and record.read_text() == now:
        return
    for folder in (PREPARED, TRAININGS, MEASURED):
        shutil.rmtree(out / folder, ignore_errors=True)
    write_atomically(record, now.encode())
