"""A simulated cohort of DCE breast MRI: NIfTI images, expert masks and automated masks with planted errors.

Two kinds of cause can be planted by group: the patients' tumours are harder (representation), or their labels are worse
(label). Both act on pixels, never on scores. What was planted and what came of it is in ``Cohort.truth``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track
from zlib_ng import zlib_ng

from medaudit.cohort import Cohort, Role
from medaudit.datasets.dce_phantom import MORPHOLOGIES, Look, Tumour, affine, phantom_masks, phantom_phases
from medaudit.datasets.label_errors import LabelError
from medaudit.datasets.simulated_patients import AGE_GROUPS, ETHNICITIES, SOURCES, Patients, draw_patients
from medaudit.errors import UsageError

LOOKS: dict[str, Look] = {
    "ISPY2": Look("axial", thickness=1.6, gain=1.0, noise=0.06),
    "DUKE": Look("axial", thickness=1.2, gain=1.7, noise=0.05),
    "ISPY1": Look("sagittal", thickness=2.0, gain=0.8, noise=0.08),
    "NACT": Look("sagittal", thickness=2.2, gain=0.7, noise=0.09),
}
"""How each source images; planes as in MAMA-MIA, the numbers are our choice."""

_MADE_BY = 1  # to be raised when the same settings come to mean other pixels: old folders are then not continued
GROUPS = {"age": AGE_GROUPS, "ethnicity": ETHNICITIES, "source": SOURCES}


USUAL_ERROR = LabelError(shift_mm=2.1, missed=0.02, missed_satellites=0.3, false_positive=0.06, untouched=0.08)
"""What every automated mask suffers: a mean Dice of about 0.8 at 64 x 64 x 64 voxels."""


@dataclass(frozen=True)
class Difficulty:
    """How tumours of a group differ, as factors of the rest: less ``contrast`` or more ``irregularity`` is harder."""

    contrast: float = 1.0
    irregularity: float = 1.0
    volume: float = 1.0
    volume_sd: float = 1.0


@dataclass(frozen=True)
class ImagePlant:
    """What is planted. ``difficulty`` and ``label_bias`` are (attribute, group, what): ``("age", "<=40", ...)``.

    Every automated mask errs by ``error``. ``label_bias`` adds to it for a group, ``difficulty`` multiplies what a
    tumour is; a case in two such groups suffers both. Planted by source together with ``age_by_source`` (SDs of age
    rank) they confound age. ``morphology`` gives the shares of ``MORPHOLOGIES``.
    """

    error: LabelError = USUAL_ERROR
    difficulty: tuple[tuple[str, str, Difficulty], ...] = ()
    label_bias: tuple[tuple[str, str, LabelError], ...] = ()
    volume_ml: tuple[float, float] = (18.0, 16.0)
    """Mean and SD, lognormal."""
    contrast: float = 0.9
    irregularity: float = 0.15
    morphology: tuple[float, float, float] = (0.5, 0.3, 0.2)
    satellite: float = 0.25
    """The probability of a satellite lesion."""
    vessels: int = 3
    age_by_source: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ethnicity_follows_source: bool = True

    def __post_init__(self) -> None:
        for attribute, group, _ in (*self.difficulty, *self.label_bias):
            if group not in GROUPS.get(attribute, ()):
                known = "; ".join(f"{name}: {', '.join(groups)}" for name, groups in GROUPS.items())
                raise UsageError(f"cannot plant anything for {attribute} '{group}'; there are {known}")


_HARD = (("age", "<=40", Difficulty(contrast=0.45, irregularity=1.8)),)
_BIASED = (("age", "<=40", LabelError(erode_mm=1.8)),)

IMAGE_PLANTS: dict[str, ImagePlant] = {
    "none": ImagePlant(),
    "label": ImagePlant(label_bias=_BIASED),
    "representation": ImagePlant(difficulty=_HARD),
    "both": ImagePlant(label_bias=_BIASED, difficulty=_HARD),
    "confounded": ImagePlant(
        label_bias=(("source", "DUKE", LabelError(erode_mm=1.8)),), age_by_source=(0.35, -1.3, 0.3, 0.0)
    ),
    # Volumes by age as printed for MAMA-MIA (29 and 59, 22 and 32, 17.5 and 35 mL; arXiv 2511.00477); their labels are
    # worse for the young, although larger tumours are the easier ones. How much worse is our choice.
    "mama-mia": ImagePlant(
        error=replace(USUAL_ERROR, shift_mm=1.8),
        volume_ml=(22.0, 32.0),
        difficulty=(
            ("age", "<=40", Difficulty(volume=29 / 22, volume_sd=59 / 32)),
            ("age", ">55", Difficulty(volume=17.5 / 22, volume_sd=35 / 32)),
        ),
        label_bias=(
            ("age", "<=40", LabelError(erode_mm=0.9, missed=0.01)),
            ("age", "(40, 55]", LabelError(erode_mm=0.4)),
            ("age", ">55", LabelError(shift_mm=-0.5)),
        ),
    ),
}
"""Named plants: the 2 x 2 of label bias and difficulty of the young, a bias of one source that has many young, and the
look of the real cohort.
"""


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

    Roles: ``image`` (first phase after contrast), ``image_pre``, ``reference`` (expert) and ``labels`` (automated).
    ``phases`` is how many images each case has; 0 writes masks only. ``truth`` holds the plant, ``causes`` by
    attribute, ``planted`` by case, and the realised ``dice`` by case and its mean by group.

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
    _claim(root, settings)
    making = Parallel(n_jobs=jobs, return_as="generator")(delayed(_make_case)(root, plan) for plan in plans)
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    made = list(track(making, "simulating cases", total=n, console=console, transient=True, disable=not shown))

    columns: dict[str, Any] = {
        "case_id": [p.case_id for p in plans],
        "patient_id": [f"P{p.case_id[4:]}" for p in plans],
    }
    columns |= patients.columns(np.arange(n))
    columns |= {name: [case[name] for case in made] for name in ("volume_ml", "morphology", "satellites")}
    roles = {"reference": "reference/{}.nii.gz", "labels": "labels/{}.nii.gz"}
    roles |= {name: f"images/{{}}_000{i}.nii.gz" for i, name in ((0, "image_pre"), (1, "image")) if i < phases}
    columns |= {f"{role}_path": [path.format(p.case_id) for p in plans] for role, path in roles.items()}
    table = pl.DataFrame(columns)
    _replace(root / "cases.csv", table.write_csv().encode())
    dice = {case["case_id"]: case["dice"] for case in made}
    groups = _by_group(patients, np.asarray(list(dice.values())))
    truth: dict[str, Any] = {**settings, "causes": planted_causes(plant), "dice": dice, "groups": groups}
    truth["planted"] = {p.case_id: {"tumour": asdict(p.tumour), "error": asdict(p.error)} for p in plans}
    files = {role: Role(f"{role}_path") for role in roles}
    return Cohort("simulated DCE-MRI", table, root.resolve(), files, truth=truth)


def planted_causes(plant: ImagePlant) -> dict[str, str]:
    """Return what makes the attribute's groups differ: none, label, representation, confounded, joined by ``+``."""
    by_label, by_difficulty = ({by for by, _, _ in planted} for planted in (plant.label_bias, plant.difficulty))
    through_source = "source" in by_label | by_difficulty
    associated = {
        "age": max(plant.age_by_source) > min(plant.age_by_source),
        "ethnicity": plant.ethnicity_follows_source,
        "source": False,
    }
    causes = {}
    for by in GROUPS:
        found = {
            "label": by in by_label,
            "representation": by in by_difficulty,
            "confounded": through_source and associated[by],
        }
        causes[by] = "+".join(cause for cause, planted in found.items() if planted) or "none"
    return causes


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
    error = sum((bias for by, group, bias in plant.label_bias if of[by] == group), start=plant.error)
    harder = [difficulty for by, group, difficulty in plant.difficulty if of[by] == group]
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
    return _CasePlan(case_id, (seed, i), shape, phases, plant.vessels, LOOKS[str(of["source"])], tumour, error)


def _make_case(root: Path, plan: _CasePlan) -> dict[str, Any]:
    """Return the facts of one case, made and written first unless it is there already.

    The facts are written last, so that their file says that the case is complete.
    """
    facts_file = root / "facts" / f"{plan.case_id}.json"
    if facts_file.exists():
        facts: dict[str, Any] = json.loads(facts_file.read_text())
        return facts
    spacing = plan.look.spacing_mm(plan.shape)
    masks = phantom_masks(plan.shape, spacing, plan.tumour, plan.error, plan.seed)
    place = affine(plan.shape, spacing)
    _write_nifti(root / "reference" / f"{plan.case_id}.nii.gz", masks.reference, place)
    _write_nifti(root / "labels" / f"{plan.case_id}.nii.gz", masks.labels, place)
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
    _replace(facts_file, json.dumps(facts).encode())
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


def _claim(root: Path, settings: dict[str, Any]) -> None:
    """Make ``root`` the folder of this simulation, or say that it is another's."""
    text = json.dumps(settings, indent=1)
    file = root / "simulation.json"
    if file.exists() and file.read_text() != text:
        raise UsageError(f"{root} holds a simulation with other settings (simulation.json); give a new folder")
    for folder in ("images", "reference", "labels", "facts"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _replace(file, text.encode())


def _write_nifti(path: Path, array: np.ndarray, place: np.ndarray) -> None:
    image = nib.Nifti1Image(array, place)
    image.header.set_xyzt_units("mm")
    # wbits=31 is gzip without name and time: with one version of zlib-ng the same voxels give the same bytes.
    _replace(path, zlib_ng.compress(image.to_bytes(), level=1, wbits=31))


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def _product(harder: list[Difficulty], factor: str) -> float:
    return float(np.prod([getattr(difficulty, factor) for difficulty in harder]))
