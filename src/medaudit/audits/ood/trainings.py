"""From a design to scores: train each task's models from each seed, and let every method judge the test cases.

Trainings are independent and run in as many processes as there are cores, one thread each, so that numbers do not
depend on how many. A training that was killed goes on at its last checkpoint; what is finished is not done again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medaudit.audits.ood.design import Design, Task
from medaudit.audits.ood.scores import Scores
from medaudit.audits.ood.settings import MethodList, Settings
from medaudit.cohort import Cohort
from medaudit.errors import DataError
from medaudit.report.atomic import write_atomically
from medaudit.training.classification import CLASSIFIERS, ClassifierRecipe, image_batches
from medaudit.training.devices import one_thread
from medaudit.training.prepared import fingerprint, opened, prepare
from medaudit.uncertainty import kinds
from medaudit.uncertainty.methods import METHODS, Evidence
from medaudit.uncertainty.outputs import Outputs, collect, last_linear
from medaudit.workers import bar, in_processes

PREPARED, TRAININGS, SCORED = "prepared", "trainings", "scores"


@dataclass(frozen=True)
class Unit:
    """One training: a task's model of a kind, from a seed. ``member`` counts the models of an ensemble."""

    task: int
    seed: int
    kind: str
    member: int

    @property
    def name(self) -> str:
        """Its folder, under the task's."""
        return f"seed-{self.seed}/{self.kind}" + (f"-{self.member}" if self.member else "")


def score_cases(
    cohort: Cohort, design: Design, methods: MethodList, settings: Settings, out: Path, *, jobs: int, progress: bool
) -> tuple[Scores, dict[str, dict[str, Any]]]:
    """Return the scores of all methods, tasks and seeds, and what each method cost and remarked.

    ``passes`` and ``seconds`` a case, and ``notes``: what it says of itself, with the task, once for all its seeds.

    Raises DataError as reading, the training loop and the methods do.
    """
    recipe = replace(CLASSIFIERS[settings.preset], flip=settings.flip)
    _forget_other_inputs(out, cohort, design)
    shared: dict[str, Any] = {
        "design": design,
        "out": out,
        "recipe": recipe,
        "settings": settings,
        "case_ids": tuple(cohort.case_ids),
    }
    everything = units(design, methods, settings)
    left = [unit for unit in everything if not _marker(out, design, unit).exists()]
    pairs = [(t, s) for s in range(settings.seeds) for t in range(len(design.tasks))]
    wanted = [pair for pair in pairs if not _scores_file(out, design, *pair).exists()]
    if left or wanted:
        with bar("preparing images", progress) as show:
            prepare(
                cohort, (), (recipe.side, recipe.side), out / PREPARED, jobs=jobs,
                progress=partial(show, total=len(cohort)), framing="letterbox",
            )  # fmt: skip
    processes = 1 if settings.device != "cpu" else jobs
    with bar("training", progress) as show:
        work = in_processes(partial(_train, **shared), left, processes)
        for _ in show(work, total=len(everything), left=len(left)):
            pass
    with bar("scoring", progress) as show:
        scored = in_processes(partial(_score, methods=methods, **shared), wanted, processes)
        for _ in show(scored, total=len(pairs), left=len(wanted)):
            pass
    return _gathered(out, design, methods, settings)


def units(design: Design, methods: MethodList, settings: Settings) -> list[Unit]:
    """Return the trainings that the methods need, seed by seed."""
    needed = {need for name in methods.names for need in METHODS[name].needs} | {"classifier"}
    members = max([int(c.options.get("members", 5)) for c in methods.methods if c.name == "ensemble"] or [1])
    made = []
    for seed in range(settings.seeds):
        for t in range(len(design.tasks)):
            made += [Unit(t, seed, "classifier", member) for member in range(members if "ensemble" in needed else 1)]
            made += [Unit(t, seed, kind, 0) for kind in kinds.KINDS[1:] if kind in needed]
            made += [Unit(t, seed, "swag", 0)] if "swag" in needed else []
    return made


def tidy(out: Path) -> None:
    """Remove what only a run that is under way needs: the images on their grid, and checkpoints."""
    shutil.rmtree(out / PREPARED, ignore_errors=True)
    for folder in (out / TRAININGS).glob("*/seed-*/*"):
        for file in folder.glob("*.pt"):
            if file.name not in ("model.pt", "posterior.pt"):
                file.unlink()


def trainee(design: Design, settings: Settings, recipe: ClassifierRecipe, unit: Unit) -> kinds.Trainee:
    """Return what a unit trains; every kind and member of a task and seed starts from weights of its own."""
    kind = "classifier" if unit.kind == "swag" else unit.kind
    place = (settings.seed, unit.seed, kinds.KINDS.index(kind), unit.member)
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    return kinds.Trainee(kind, recipe.net, len(design.tasks[unit.task].classes), seed)


def _train(
    unit: Unit, *, design: Design, out: Path, recipe: ClassifierRecipe, settings: Settings, case_ids: tuple[str, ...]
) -> Unit:
    task = design.tasks[unit.task]
    images = opened(out / PREPARED, case_ids, ()).images
    rows = design.train[task.codes[design.train] >= 0].tolist()
    of, folder = trainee(design, settings, recipe, unit), _folder(out, design, unit)
    with one_thread(settings.device):
        if unit.kind == "swag":
            base = _folder(out, design, Unit(unit.task, unit.seed, "classifier", 0))
            # Its own unit may be under way, and two must not write one folder: only its marker says that it is whole.
            if not _marker(out, design, Unit(unit.task, unit.seed, "classifier", 0)).exists():
                base = folder / "base"
                kinds.fit(of, images, task.codes.tolist(), rows, recipe, base, device=settings.device)
            model = kinds.restored(of, base)
            posterior = kinds.fit_swag(
                model, of, images, task.codes.tolist(), rows, recipe, folder, device=settings.device
            )
            posterior.save(folder / "posterior.pt")
        else:
            kinds.fit(of, images, task.codes.tolist(), rows, recipe, folder, device=settings.device)
    write_atomically(_marker(out, design, unit), json.dumps(asdict(of)).encode())
    return unit


def _score(
    pair: tuple[int, int], *, design: Design, out: Path, recipe: ClassifierRecipe, settings: Settings,
    case_ids: tuple[str, ...], methods: MethodList,
) -> tuple[int, int]:  # fmt: skip
    """Let every method judge the cases by one task's models of one seed, and write what they say."""
    t, seed = pair
    with one_thread(settings.device):
        evidence = evidence_of(design, settings, recipe, out, case_ids, t, seed, methods)
        arrays: dict[str, Any] = {}
        costs: dict[str, dict[str, Any]] = {}
        for choice in methods.methods:
            start = time.perf_counter()
            said = METHODS[choice.name].score(evidence, **choice.options)
            seconds = time.perf_counter() - start
            costs[choice.name] = {
                "passes": said.passes,
                "seconds": seconds / len(evidence.test),
                "notes": said.notes,
            }
            arrays[f"{choice.name}/predicted"] = said.probabilities.argmax(axis=1)
            for name, values in said.scores.items():
                bad = np.flatnonzero(~np.isfinite(values))
                if bad.size:
                    case = case_ids[int(design.scored[bad[0]])]
                    raise DataError(
                        f"{choice.name} of task {design.tasks[t].name}, seed {seed}: {name} is not finite for "
                        f"{bad.size} cases, the first is {case}"
                    )
                arrays[f"{choice.name}/{name}"] = values
    file = _scores_file(out, design, t, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}")
    with part.open("wb") as stream:
        np.savez(stream, **arrays, costs=np.frombuffer(json.dumps(costs).encode(), dtype=np.uint8))
    part.replace(file)
    return pair


def evidence_of(
    design: Design, settings: Settings, recipe: ClassifierRecipe, out: Path, case_ids: tuple[str, ...], t: int,
    seed: int, methods: MethodList,
) -> Evidence:  # fmt: skip
    """Return all that the methods may look at of one task and seed: outputs, models and images."""
    task = design.tasks[t]
    images = opened(out / PREPARED, case_ids, ()).images
    rows = {part: _rows(design, task, part) for part in ("train", "validation", "test")}

    def batches(part: str) -> Iterable[Any]:
        return image_batches(images, rows[part])

    def model(kind: str, member: int = 0) -> Any:
        unit = Unit(t, seed, kind, member)
        return kinds.restored(trainee(design, settings, recipe, unit), _folder(out, design, unit))

    needed = {need for name in methods.names for need in METHODS[name].needs}
    models: dict[str, Any] = {"classifier": model("classifier")}
    if "ensemble" in needed:
        members = [unit for unit in units(design, methods, settings) if (unit.task, unit.seed) == (t, seed)]
        models["ensemble"] = [model("classifier", unit.member) for unit in members if unit.kind == "classifier"]
    if "swag" in needed:
        models["swag"] = kinds.Swag.load(_folder(out, design, Unit(t, seed, "swag", 0)) / "posterior.pt")
    models |= {kind: model(kind) for kind in kinds.KINDS[1:] if kind in needed}
    seen = {
        part: collect(models["classifier"], batches(part), labels=np.maximum(task.codes[rows[part]], -1))
        for part in rows
    }
    layer = last_linear(models["classifier"])
    return Evidence(
        seen["train"],
        seen["validation"],
        # The test cases' classes are none of a method's business.
        Outputs(seen["test"].logits, seen["test"].features),
        weight=layer.weight.detach().double().numpy(),
        bias=layer.bias.detach().double().numpy(),
        models=models,
        images=batches,
        seed=trainee(design, settings, recipe, Unit(t, seed, "classifier", 0)).seed,
    )


def _rows(design: Design, task: Task, part: str) -> list[int]:
    rows = {"train": design.train, "validation": design.validation, "test": design.scored}[part]
    return (rows if part == "test" else rows[task.codes[rows] >= 0]).tolist()


def _gathered(
    out: Path, design: Design, methods: MethodList, settings: Settings
) -> tuple[Scores, dict[str, dict[str, Any]]]:
    shape = (len(methods.methods), len(design.tasks), settings.seeds, len(design.scored))
    values, predicted = np.empty(shape), np.empty(shape, dtype=np.int64)
    others: dict[str, np.ndarray] = {}
    costs: dict[str, dict[str, Any]] = {}
    for t in range(shape[1]):
        for s in range(shape[2]):
            with np.load(_scores_file(out, design, t, s), allow_pickle=False) as found:
                spent = json.loads(found["costs"].tobytes())
                for m, choice in enumerate(methods.methods):
                    predicted[m, t, s] = found[f"{choice.name}/predicted"]
                    entry = costs.setdefault(
                        choice.name, {"passes": spent[choice.name]["passes"], "seconds": 0.0, "notes": []}
                    )
                    said = [f"{choice.name} of {design.tasks[t].name}: {note}" for note in spent[choice.name]["notes"]]
                    entry["notes"] += [note for note in said if note not in entry["notes"]]
                    entry["seconds"] += spent[choice.name]["seconds"] / (shape[1] * shape[2])
                    for key in found.files:
                        name, _, score = key.partition("/")
                        if name != choice.name or score == "predicted":
                            continue
                        if score == choice.score:
                            values[m, t, s] = found[key]
                        else:
                            blank = others.setdefault(f"{name}.{score}", np.empty(shape[1:]))
                            blank[t, s] = found[key]
    names = tuple(task.name for task in design.tasks)
    chosen = tuple(choice.score for choice in methods.methods)
    return Scores(design.scored, methods.names, names, settings.seeds, values, predicted, chosen, others), costs


def _forget_other_inputs(out: Path, cohort: Cohort, design: Design) -> None:
    """Remove what was made of other images or another deal of the patients than those of now."""
    dealt = (design.train.tolist(), design.scored.tolist(), [task.codes.tolist() for task in design.tasks])
    now = hashlib.sha256(f"{fingerprint(cohort, ())} {dealt}".encode()).hexdigest()
    record = out / "trained-on.txt"
    if record.exists() and record.read_text() == now:
        return
    for folder in (PREPARED, TRAININGS, SCORED):
        shutil.rmtree(out / folder, ignore_errors=True)
    write_atomically(record, now.encode())


def _folder(out: Path, design: Design, unit: Unit) -> Path:
    return out / TRAININGS / design.tasks[unit.task].slug / unit.name


def _marker(out: Path, design: Design, unit: Unit) -> Path:
    return _folder(out, design, unit) / "done.json"


def _scores_file(out: Path, design: Design, t: int, seed: int) -> Path:
    return out / SCORED / design.tasks[t].slug / f"seed-{seed}.npz"
