"""A simulated cohort of skin pictures: tone, diagnosis and camera as factors of their own, rendered from optics.

Tone is melanin and nothing else (:mod:`skin_optics`), geometry knows no tone (:mod:`skin_phantom`). So with the plant
``pairs`` every patient is seen twice, once in light and once in dark skin, and a difference between the two is optics
or learning, never anatomy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role
from medaudit.cohort.atomic import replace_file
from medaudit.datasets.artefacts import with_artefact
from medaudit.datasets.colour import ita
from medaudit.datasets.files import claim
from medaudit.datasets.skin_phantom import DIAGNOSES, draw_skin, healthy, render
from medaudit.errors import UsageError
from medaudit.workers import in_processes, shown

MELANIN_OF_TYPE: Mapping[int, tuple[float, float]] = {
    1: (0.006, 0.014), 2: (0.016, 0.030), 3: (0.034, 0.055), 4: (0.065, 0.10), 5: (0.12, 0.20), 6: (0.24, 0.38),
}  # fmt: skip
"""Melanin volume fractions that stand for Fitzpatrick types: our choice, by the ITA that they give."""

SHARES_OF_DARK = {"nevus": 0.30, "melanoma": 0.05, "vascular": 0.175, "inflammation": 0.475}
"""Diagnoses of dark skin under ``confounded``; light skin has a quarter of each. Their total variation is 0.275,
as between I to III and IV to VI in Fitzpatrick17k."""

ARTEFACT_KINDS = ("ink", "ruler", "patch")


@dataclass(frozen=True)
class SkinPlant:
    """What ties tone to something else, or unties it."""

    title: str
    pairs: bool = False
    """Each geometry is rendered once light and once dark."""
    confounded: bool = False
    """Diagnoses are spread otherwise in dark skin, and so are sites."""
    harder: bool = False
    """Pictures of dark skin have twice the texture and three times the hair: harder to draw, for a planted reason."""
    no_tone: bool = False
    """The column ``tone`` is drawn by lot, whatever the pixels show."""
    artefacts: bool = False
    """A third of the pictures carry ink, a ruler or a patch; their masks are a role."""


SKIN_PLANTS: Mapping[str, SkinPlant] = {
    "fair": SkinPlant("tone is independent of diagnosis, texture and camera"),
    "pairs": SkinPlant("every geometry is rendered in light and in dark skin: counterfactual pairs", pairs=True),
    "confounded": SkinPlant("dark skin has another mix of diagnoses and sites", confounded=True),
    "harder": SkinPlant("pictures of dark skin hold more texture and hair", harder=True),
    "none": SkinPlant("tone is a column that the pixels know nothing of", no_tone=True),
    "artefacts": SkinPlant("a third of the pictures carry ink, a ruler or a patch", artefacts=True),
}

_MADE_BY = 1  # to be raised when the same settings come to mean other pixels: old folders are then not continued


@dataclass(frozen=True)
class _Picture:
    """All that one picture's worker must know; its pixels follow from this and nothing else."""

    case_id: str
    patient: int
    type: int
    melanin: float
    blood: float
    diagnosis: str
    site: str
    tone: str
    artefact: str
    seed: int
    hairs: float
    texture: float


def simulate_skin(
    root: str | Path, *, n: int, seed: int, plant: SkinPlant = SKIN_PLANTS["fair"], jobs: int = 1,
    progress: bool = False, size: int = 64,
) -> Cohort:  # fmt: skip
    """Return a cohort of ``n`` pictures of ``size`` pixels written to ``root`` as PNG, with their table.

    Columns: ``tone`` (``light``: types I to III, ``dark``: IV to VI), ``fitzpatrick`` (1 to 6), ``melanin``, ``ita``
    (degrees, measured on the picture's plain skin), ``diagnosis`` (four), ``site`` (two), ``artefact``. Roles:
    ``image``, ``lesion`` and, under ``artefacts``, ``artefact`` (an empty mask where there is none). Called again, it
    makes only the pictures that are not there. ``truth`` holds the plant. Raises UsageError for a size below 32, an odd
    ``n`` with ``pairs``, and if ``root`` holds a simulation with other settings.
    """
    root = Path(root)
    if n < 1:
        raise UsageError(f"cannot simulate {n} pictures; expected 1 or more")
    if plant.pairs and n % 2:
        raise UsageError(f"cannot simulate {n} pictures in pairs; expected an even number")
    if size < 32:
        raise UsageError(f"cannot simulate pictures of {size} pixels; expected 32 or more")
    pictures = _pictures(n, seed, plant)
    settings = {"simulator": "skin", "made_by": _MADE_BY, "n": n, "seed": seed, "size": size, "plant": asdict(plant)}
    folders = ("images", "lesions", "ita", *(("artefacts",) if plant.artefacts else ()))
    claim(root, settings, folders)
    endings = {folder: ".txt" if folder == "ita" else ".png" for folder in folders}
    left = [
        one
        for one in pictures
        if not all((root / folder / f"{one.case_id}{end}").exists() for folder, end in endings.items())
    ]
    making = in_processes(
        partial(_write, root=root, seed=seed, size=size), left, jobs if len(left) > 50 else 1, at_once=16
    )
    for _done in shown(making, "simulating skin", len(left), progress):
        pass
    table = pl.DataFrame(
        {
            "case_id": [one.case_id for one in pictures],
            "patient_id": [f"P{one.patient:05d}" for one in pictures],
            "tone": [one.tone for one in pictures],
            "fitzpatrick": [one.type for one in pictures],
            "melanin": [round(one.melanin, 5) for one in pictures],
            "ita": [float((root / "ita" / f"{one.case_id}.txt").read_text()) for one in pictures],
            "diagnosis": [one.diagnosis for one in pictures],
            "site": [one.site for one in pictures],
            "artefact": [one.artefact or "none" for one in pictures],
            "image_path": [f"images/{one.case_id}.png" for one in pictures],
            "lesion_path": [f"lesions/{one.case_id}.png" for one in pictures],
            **({"artefact_path": [f"artefacts/{one.case_id}.png" for one in pictures]} if plant.artefacts else {}),
        }
    )
    replace_file(root / "cases.csv", table.write_csv().encode(), flush=False)
    roles = {"image": Role("image_path"), "lesion": Role("lesion_path")}
    if plant.artefacts:
        roles["artefact"] = Role("artefact_path")
    return Cohort(
        "simulated skin",
        table,
        root.resolve(),
        roles,
        notes=(f"Simulated: {plant.title}. It shows mechanisms, and says nothing of magnitudes in patients.",),
        truth={**settings, "melanin_of_type": {str(k): list(v) for k, v in MELANIN_OF_TYPE.items()}},
    )


def _pictures(n: int, seed: int, plant: SkinPlant) -> list[_Picture]:
    """Return what each picture is to be. A patient's draws do not depend on the plant: plants with one seed pair up."""
    found: list[_Picture] = []
    patient = 0
    while len(found) < n:
        rng = np.random.default_rng((seed, patient, 1))
        dark = bool(rng.random() < 0.5)
        light_type, dark_type = int(rng.integers(1, 4)), int(rng.integers(4, 7))
        place, lot, site_lot, blood = rng.random(), rng.random(), rng.random(), float(rng.uniform(0.012, 0.03))
        named = bool(rng.random() < 0.5)
        artefact = str(rng.choice(ARTEFACT_KINDS)) if rng.random() < 1 / 3 else ""
        for in_dark in (False, True) if plant.pairs else (dark,):
            kind = dark_type if in_dark else light_type
            low, high = MELANIN_OF_TYPE[kind]
            shares = (
                list(SHARES_OF_DARK.values()) if plant.confounded and in_dark else [1 / len(DIAGNOSES)] * len(DIAGNOSES)
            )
            diagnosis = DIAGNOSES[min(int(np.searchsorted(np.cumsum(shares), lot)), len(DIAGNOSES) - 1)]
            first = 0.25 if plant.confounded and in_dark else 0.75 if plant.confounded else 0.5
            case_id = f"SK_{len(found) + 1:0{max(5, len(str(n)))}d}"
            shown = named if plant.no_tone else in_dark
            hard = plant.harder and in_dark
            found.append(
                _Picture(
                    case_id, patient, kind, low * (high / low) ** place, blood, diagnosis,
                    "A" if site_lot < first else "B", "dark" if shown else "light", artefact if plant.artefacts else "",
                    patient, 3.0 if hard else 1.0, 2.0 if hard else 1.0,
                )
            )  # fmt: skip
        patient += 1
    return found[:n]


def _write(one: _Picture, root: Path, seed: int, size: int) -> None:
    skin = draw_skin(
        size, one.diagnosis, np.random.default_rng((seed, one.seed, 2)), hairs=one.hairs, texture=one.texture
    )
    picture = render(skin, one.melanin, one.blood)
    angle = ita(picture / 255, healthy(skin))
    masks = {"lesions": skin.lesion}
    if one.artefact:
        picture, masks["artefacts"] = with_artefact(picture, one.artefact, np.random.default_rng((seed, one.seed, 3)))
    elif (root / "artefacts").is_dir():
        masks["artefacts"] = np.zeros(picture.shape[:2], dtype=bool)
    replace_file(root / "ita" / f"{one.case_id}.txt", f"{angle:.2f}".encode(), flush=False)
    # The picture comes last: where it is, all that belongs to it is.
    for folder, array in [*masks.items(), ("images", picture)]:
        path = root / folder / f"{one.case_id}.png"
        part = path.with_name(f".{path.name}")
        Image.fromarray(array if array.dtype == np.uint8 else array.astype(np.uint8) * 255).save(
            part, format="PNG", compress_level=1
        )
        part.replace(path)
