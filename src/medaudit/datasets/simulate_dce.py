"""A simulated cohort of DCE breast MRI: NIfTI images, expert masks and automated masks with planted errors.

Causes are planted by group (:mod:`image_plants`): the patients' tumours are harder (representation), more of them are
hard (imbalance), or their labels are worse (label). All act on pixels, never on scores. A plant with a model adds its
predicted masks. What was planted and what came of it is in ``Cohort.truth``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
from zlib_ng import zlib_ng

from medaudit.cohort import Cohort, Role
from medaudit.cohort.atomic import replace_file
from medaudit.datasets.dce_phantom import MORPHOLOGIES, Look, Tumour, affine, overlap, phantom_masks, phantom_phases
from medaudit.datasets.files import claim
from medaudit.datasets.image_plants import GROUPS, IMAGE_PLANTS, Difficulty, ImagePlant, planted_causes
from medaudit.datasets.label_errors import LabelError
from medaudit.datasets.simulated_patients import AGE_GROUPS, ETHNICITIES, SOURCES, Patients, draw_patients
from medaudit.datasets.simulated_ratings import rate
from medaudit.errors import UsageError
from medaudit.workers import in_processes, shown

LOOKS: dict[str, Look] = {
    "ISPY2": Look("axial", thickness=1.6, gain=1.0, noise=0.06),
    "DUKE": Look("axial", thickness=1.2, gain=1.7, noise=0.05),
    "ISPY1": Look("sagittal", thickness=2.0, gain=0.8, noise=0.08),
    "NACT": Look("sagittal", thickness=2.2, gain=0.7, noise=0.09),
}
"""How each source images; planes as in MAMA-MIA, the numbers are our choice."""

_MADE_BY = 2  # to be raised when the same settings come to mean other pixels: old folders are then not continued


@dataclass(frozen=True)
class _CasePlan:
    """All that one case's worker must know; the case's pixels follow from this and nothing else."""

    case_id: str
    seed: tuple[int, int]
    shape: tuple[int, int, int]
    phases: int
    vessels: int
    look: Look
    tumour: Tumour
    error: LabelError
    hard: bool
    prediction: LabelError | None
    twin: bool


def simulate_dce(
    root: str | Path,
    *,
    n: int,
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 64),
    plant: ImagePlant = IMAGE_PLANTS["none"],
    phases: int = 2,
    jobs: int = 1,
    progress: bool = False,
) -> Cohort:
    """Return a cohort of ``n`` phantoms, written to ``root``: images, expert masks, automated masks, ``cases.csv``.

    Roles: ``image`` (first phase after contrast), ``image_pre``, ``reference`` (expert), ``labels`` (automated), and
    ``prediction`` where the plant has a model. ``phases`` is how many images each case has; 0 writes masks only.
    ``rating_1`` and ``rating_2`` are what two invented readers say of the automated mask. ``truth`` holds the plant,
    ``causes`` by attribute, ``planted`` by case (its tumour, errors, and whether it is hard), and the realised ``dice``
    of the automated masks by case and its mean by group; of a model also ``dice_prediction``, by case (against
    ``reference`` and ``labels``).

    Each case has its own seed: files are the same byte for byte in any order and for any ``jobs``. Called again, it
    makes only the cases that are not complete. Raises UsageError if ``root`` holds a simulation with other settings.
    """
    root = Path(root)
    if n < 1 or len(shape) != 3 or min(shape) < 16:
        raise UsageError(f"cannot simulate {n} cases of shape {shape}; expected 1 or more, 16 voxels or more a side")
    rng = np.random.default_rng(seed)
    patients = draw_patients(
        n, rng, age_by_source=plant.age_by_source, ethnicity_follows_source=plant.ethnicity_follows_source
    )
    plans = [_plan(i, n, seed, shape, phases, plant, patients) for i in range(n)]
    settings = {
        "simulator": "dce",
        "made_by": _MADE_BY,
        "n": n,
        "seed": seed,
        "shape": shape,
        "phases": phases,
        "plant": asdict(plant),
    }
    folders = ("images", "reference", "labels", "facts", *(("prediction",) if plant.model else ()))
    claim(root, settings, folders)
    making = in_processes(partial(_make_case, root), plans, jobs, ordered=True)
    made = list(shown(making, "simulating cases", n, progress))

    columns: dict[str, Any] = {
        "case_id": [p.case_id for p in plans],
        "patient_id": [f"P{p.case_id[4:]}" for p in plans],
    }
    columns |= patients.columns(np.arange(n))
    columns |= {name: [case[name] for case in made] for name in ("volume_ml", "morphology", "satellites")}
    columns |= _ratings(plans, [case["dice"] for case in made])
    masks = ("reference", "labels", "prediction") if plant.model else ("reference", "labels")
    roles = {name: f"{name}/{{}}.nii.gz" for name in masks}
    roles |= {name: f"images/{{}}_000{i}.nii.gz" for i, name in ((0, "image_pre"), (1, "image")) if i < phases}
    columns |= {f"{role}_path": [path.format(p.case_id) for p in plans] for role, path in roles.items()}
    table = pl.DataFrame(columns)
    replace_file(root / "cases.csv", table.write_csv().encode(), flush=False)
    dice = {case["case_id"]: case["dice"] for case in made}
    groups = _by_group(patients, np.asarray(list(dice.values())))
    truth: dict[str, Any] = {**settings, "causes": planted_causes(plant), "dice": dice, "groups": groups}
    truth["planted"] = {p.case_id: _planted(p) for p in plans}
    if plant.model:
        truth["dice_prediction"] = {case["case_id"]: case["dice_prediction"] for case in made}
    files = {role: Role(f"{role}_path") for role in roles}
    return Cohort("simulated DCE-MRI", table, root.resolve(), files, truth=truth)


def _plan(
    i: int, n: int, seed: int, shape: tuple[int, int, int], phases: int, plant: ImagePlant, patients: Patients
) -> _CasePlan:
    """Return what case ``i`` is to be. Its draws do not depend on the plant: plants with one seed can be paired."""
    rng = np.random.default_rng((seed, i, 0))
    size, kind, satellite = rng.standard_normal(), rng.random(), rng.random()
    of = {
        "age": AGE_GROUPS[patients.true_age_group[i]],
        "ethnicity": ETHNICITIES[patients.ethnicity[i]] if patients.ethnicity[i] >= 0 else None,
        "source": SOURCES[patients.source[i]],
    }
    error = _with_bias(plant.error, plant.label_bias, of)
    harder = [difficulty for by, group, difficulty in plant.difficulty if of[by] == group]
    shares = [share for by, group, share in plant.hard_share_of if of[by] == group]
    hard = bool(rng.random() < (shares[-1] if shares else plant.hard_share))
    harder += [plant.hard] if hard else []
    mean, sd = plant.volume_ml
    mean, sd = mean * _product(harder, "volume"), sd * _product(harder, "volume_sd")
    log_variance = np.log1p((sd / mean) ** 2)
    tumour = Tumour(
        volume_ml=float(np.exp(np.log(mean) - log_variance / 2 + np.sqrt(log_variance) * size)),
        morphology=MORPHOLOGIES[min(int(np.searchsorted(np.cumsum(plant.morphology), kind)), len(MORPHOLOGIES) - 1)],
        contrast=plant.contrast * _product(harder, "contrast"),
        irregularity=plant.irregularity * _product(harder, "irregularity"),
        satellites=int(satellite < plant.satellite),
    )
    case_id = f"DCE_{i + 1:0{max(4, len(str(n)))}d}"
    return _CasePlan(
        case_id,
        (seed, i),
        shape,
        phases,
        plant.vessels,
        LOOKS[str(of["source"])],
        tumour,
        error,
        hard,
        _with_bias(plant.model.error, plant.model.bias, of) if plant.model else None,
        plant.model is not None and plant.model.twin,
    )


def _with_bias(
    error: LabelError, biases: tuple[tuple[str, str, LabelError], ...], of: dict[str, str | None]
) -> LabelError:
    """Return the error of a case whose groups are ``of``."""
    return sum((bias for by, group, bias in biases if of[by] == group), start=error)


def _planted(plan: _CasePlan) -> dict[str, Any]:
    """Return what was planted in a case, as plain data."""
    planted = {"tumour": asdict(plan.tumour), "error": asdict(plan.error), "hard": plan.hard}
    return planted | ({"prediction": asdict(plan.prediction)} if plan.prediction else {})


def _ratings(plans: list[_CasePlan], dice: list[float]) -> dict[str, list[str]]:
    """Return the two readers' words for every automated mask, by column."""
    # Drawn apart from the pixels: a cohort's images and masks are what they were before anybody rated them.
    words = [rate(d, plan.hard, np.random.default_rng((*plan.seed, 7))) for plan, d in zip(plans, dice, strict=True)]
    return {f"rating_{k + 1}": [pair[k] for pair in words] for k in range(2)}


def _make_case(root: Path, plan: _CasePlan) -> dict[str, Any]:
    """Return the facts of one case, made and written first unless it is there already.

    The facts are written last, so that their file says that the case is complete.
    """
    facts_file = root / "facts" / f"{plan.case_id}.json"
    if facts_file.exists():
        facts: dict[str, Any] = json.loads(facts_file.read_text())
        return facts
    spacing = plan.look.spacing_mm(plan.shape)
    masks = phantom_masks(
        plan.shape, spacing, plan.tumour, plan.error, plan.seed, prediction=plan.prediction, twin=plan.twin
    )
    place = affine(plan.shape, spacing)
    _write_nifti(root / "reference" / f"{plan.case_id}.nii.gz", masks.reference, place)
    _write_nifti(root / "labels" / f"{plan.case_id}.nii.gz", masks.labels, place)
    if masks.prediction is not None:
        _write_nifti(root / "prediction" / f"{plan.case_id}.nii.gz", masks.prediction, place)
    if plan.phases:
        images = phantom_phases(masks, plan.tumour, plan.look, plan.seed, phases=plan.phases, vessels=plan.vessels)
        for phase, image in enumerate(images):
            _write_nifti(root / "images" / f"{plan.case_id}_{phase:04d}.nii.gz", image, place)
    facts = {
        "case_id": plan.case_id,
        "dice": masks.dice,
        "volume_ml": round(masks.volume_ml, 4),
        "morphology": plan.tumour.morphology,
        "satellites": plan.tumour.satellites,
    }
    if masks.prediction is not None:
        others = {"reference": masks.reference, "labels": masks.labels}
        facts["dice_prediction"] = {role: overlap(masks.prediction, mask) for role, mask in others.items()}
    replace_file(facts_file, json.dumps(facts).encode(), flush=False)
    return facts


def _by_group(patients: Patients, dice: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """Return n and the realised mean Dice of each group that the table shows."""
    codes = {"age": patients.age_group, "ethnicity": patients.ethnicity, "source": patients.source}
    found = {}
    for by, labels in GROUPS.items():
        members = {label: codes[by] == i for i, label in enumerate(labels)}
        found[by] = {
            label: {"n": int(at.sum()), "dice_mean": float(dice[at].mean())}
            for label, at in members.items()
            if at.any()
        }
    return found


def _write_nifti(path: Path, array: np.ndarray, place: np.ndarray) -> None:
    image = nib.Nifti1Image(array, place)
    image.header.set_xyzt_units("mm")
    # wbits=31 is gzip without name and time: with one version of zlib-ng the same voxels give the same bytes.
    replace_file(path, zlib_ng.compress(image.to_bytes(), level=1, wbits=31), flush=False)


def _product(harder: list[Difficulty], factor: str) -> float:
    return float(np.prod([getattr(difficulty, factor) for difficulty in harder]))
