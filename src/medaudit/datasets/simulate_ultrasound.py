"""A simulated cohort of fetal ultrasound: B-mode frames whose device, plane, patient and operator are separate factors.

Each factor acts on pixels by its own physics (:mod:`bmode`, :mod:`fetal_phantom`), so that a shift of the device leaves
the anatomy alone and an unseen plane comes from known devices. A patient is scanned once, with one device, by one
operator, in several planes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from medaudit.cohort import Cohort, Role
from medaudit.cohort.atomic import replace_file
from medaudit.datasets.bmode import Device, attenuation_db, compressed, envelope, grid, scan_converted
from medaudit.datasets.fetal_phantom import PLANES, Subject, anatomy
from medaudit.datasets.files import claim
from medaudit.errors import UsageError
from medaudit.workers import in_processes, shown

DEVICES = {
    "A": Device("A", 0.35, 0.8, 65.0, 70.0, 0.30, 3.5, tgc_db=0.0, smoothing=0.0, gain_db=0.0),
    "B": Device("B", 0.55, 1.3, 55.0, 62.0, 0.36, 3.2, tgc_db=4.0, smoothing=0.7, gain_db=2.0),
    "C": Device("C", 0.80, 2.0, 50.0, 76.0, 0.24, 2.8, tgc_db=-4.0, smoothing=0.0, gain_db=-2.0),
    "D": Device("D", 0.55, 2.0, 58.0, 68.0, 0.30, 3.2, tgc_db=0.0, smoothing=0.5, gain_db=0.0),
}
"""Four scanners, all numbers our choice. D lies between the others in every parameter, and is none of them."""

OPERATORS = {"1": (0.0, 0.0), "2": (2.5, 0.5), "3": (-2.5, -0.5), "4": (0.0, 1.0)}
"""What an operator prefers: gain (dB) and depth (cm) on top of what others choose."""

NOISE = 0.004  # receiver noise, as amplitude of a reflectivity of 1
TISSUE_DB = 0.5  # dB/cm/MHz that vendors expect


@dataclass(frozen=True)
class UltrasoundPlant:
    """What ties the factors together, or unties them."""

    title: str
    nested: bool = False
    """Operators 1 and 2 scan with A and B only, 3 with C, 4 with D; and the planes' shares differ by device."""
    sizes: bool = False
    """Each device writes frames of its own size: the size alone tells the device."""
    no_shift: bool = False
    """The frames of D come from A, B or C by lot: its name is all that differs."""


ULTRASOUND_PLANTS: Mapping[str, UltrasoundPlant] = {
    "crossed": UltrasoundPlant("device, plane, patient and operator are independent"),
    "nested": UltrasoundPlant(
        "operators belong to devices and planes' shares differ, as in FETAL_PLANES_DB", nested=True
    ),
    "sizes": UltrasoundPlant("each device writes frames of its own size", sizes=True),
    "none": UltrasoundPlant("device D is A, B or C under another name", no_shift=True),
}

_MADE_BY = 1  # to be raised when the same settings come to mean other pixels: old folders are then not continued
_PLANES_A_PATIENT = 3
_SIZES = {"A": (192, 256), "B": (210, 256), "C": (192, 300), "D": (240, 320)}
_NESTED_SHARES = {"A": (3, 1, 1, 1, 1), "B": (2, 1, 1, 2, 1), "C": (1, 1, 2, 1, 2), "D": (1, 3, 1, 1, 2)}


@dataclass(frozen=True)
class _Frame:
    """All that one frame's worker must know; its pixels follow from this and nothing else."""

    case_id: str
    patient: int
    plane: str
    device: str
    physics: str
    operator: str
    subject: Subject
    seed: tuple[int, int]
    size: tuple[int, int] | None


def simulate_ultrasound(
    root: str | Path, *, n: int, seed: int, plant: UltrasoundPlant = ULTRASOUND_PLANTS["crossed"],
    jobs: int = 1, progress: bool = False,
) -> Cohort:  # fmt: skip
    """Return a cohort of ``n`` frames written to ``root`` as PNG, three planes a patient, and their table.

    Columns: ``plane`` (five), ``device`` (A to D), ``operator`` (1 to 4), ``weeks`` (gestational age), ``trimester``,
    ``head`` (``head`` or ``rest``). Called again, it makes only the frames that are not there. ``truth`` holds the
    plant. Raises UsageError if ``root`` holds a simulation with other settings.
    """
    root = Path(root)
    if n < 1:
        raise UsageError(f"cannot simulate {n} frames; expected 1 or more")
    frames = _frames(n, seed, plant)
    settings = {"simulator": "ultrasound", "made_by": _MADE_BY, "n": n, "seed": seed, "plant": asdict(plant)}
    claim(root, settings, ("images",))
    left = [frame for frame in frames if not (root / "images" / f"{frame.case_id}.png").exists()]
    making = in_processes(partial(_write_frame, root), left, jobs if len(left) > 20 else 1, at_once=8)
    for _done in shown(making, "simulating frames", len(left), progress):
        pass
    weeks = [round(frame.subject.weeks, 1) for frame in frames]
    table = pl.DataFrame(
        {
            "case_id": [frame.case_id for frame in frames],
            "patient_id": [f"P{frame.patient:05d}" for frame in frames],
            "plane": [frame.plane for frame in frames],
            "device": [frame.device for frame in frames],
            "operator": [frame.operator for frame in frames],
            "weeks": weeks,
            "trimester": ["second" if week < 28 else "third" for week in weeks],
            "head": ["head" if frame.plane == "brain" else "rest" for frame in frames],
            "image_path": [f"images/{frame.case_id}.png" for frame in frames],
        }
    )
    replace_file(root / "cases.csv", table.write_csv().encode(), flush=False)
    return Cohort(
        "simulated fetal ultrasound",
        table,
        root.resolve(),
        {"image": Role("image_path")},
        notes=(f"Simulated: {plant.title}. It shows mechanisms, and says nothing of magnitudes in patients.",),
        truth={**settings, "devices": {name: asdict(device) for name, device in DEVICES.items()}},
    )


def frame(
    plane: str, device: Device, subject: Subject, rng: np.random.Generator, *, depth_cm: float, gain_db: float = 0.0
) -> np.ndarray:
    """Return one frame (ROWS, COLUMNS) uint8 of a subject's plane, as the device shows it."""
    from scipy.ndimage import gaussian_filter

    where = grid(device, depth_cm)
    seen = anatomy(plane, subject, where, rng)
    lost = attenuation_db(seen.attenuation, device, depth_cm)
    # The receiver's noise is not attenuated, so it is added to an echo that is: divided by what comes off later.
    noisy = envelope(seen.reflectivity, device, depth_cm, rng)
    floor = NOISE * 10 ** (lost / 20) * envelope(np.ones_like(lost), device, depth_cm, rng)
    echo = np.hypot(noisy, floor)
    shown = compressed(echo, lost, device, depth_cm, tissue=TISSUE_DB, gain_db=gain_db)
    if device.smoothing:
        shown = gaussian_filter(shown, device.smoothing)
    return scan_converted(shown, device)


def _frames(n: int, seed: int, plant: UltrasoundPlant) -> list[_Frame]:
    """Return what each frame is to be. A patient's draws do not depend on the plant: plants with one seed pair up."""
    planes, devices, operators = list(PLANES), list(DEVICES), list(OPERATORS)
    frames: list[_Frame] = []
    patient = 0
    while len(frames) < n:
        rng = np.random.default_rng((seed, patient, 1))
        device, operator = str(rng.choice(devices)), str(rng.choice(operators))
        if plant.nested:
            operator = {"A": str(rng.choice(["1", "2"])), "B": str(rng.choice(["1", "2"])), "C": "3", "D": "4"}[device]
        subject = Subject(
            weeks=float(rng.uniform(18, 36)),
            attenuation=float(rng.uniform(0.35, 0.7)),
            wall_cm=float(rng.uniform(1.0, 2.4)),
            echo=float(np.exp(rng.normal(0, 0.15))),
        )
        physics = str(rng.choice(["A", "B", "C"])) if plant.no_shift and device == "D" else device
        shares = np.asarray(_NESTED_SHARES[device] if plant.nested else (1,) * len(planes), dtype=float)
        some = rng.choice(planes, size=_PLANES_A_PATIENT, replace=False, p=shares / shares.sum())
        for plane in some[: n - len(frames)]:
            i = len(frames)
            size = _SIZES[device] if plant.sizes else None
            case_id = f"US_{i + 1:0{max(5, len(str(n)))}d}"
            frames.append(_Frame(case_id, patient, str(plane), device, physics, operator, subject, (seed, i), size))
        patient += 1
    return frames


def _write_frame(root: Path, planned: _Frame) -> None:
    rng = np.random.default_rng((*planned.seed, 2))
    gain, depth = OPERATORS[planned.operator]
    device = replace(DEVICES[planned.physics], gain_db=DEVICES[planned.physics].gain_db + float(rng.normal(0, 1.0)))
    depth_cm = 13.0 + 0.14 * (planned.subject.weeks - 18) + depth + float(rng.choice([-0.5, 0.0, 0.5]))
    picture = Image.fromarray(
        frame(planned.plane, device, planned.subject, rng, depth_cm=round(depth_cm, 1), gain_db=gain)
    )
    if planned.size is not None:
        picture = picture.resize((planned.size[1], planned.size[0]), Image.Resampling.BILINEAR)
    path = root / "images" / f"{planned.case_id}.png"
    part = path.with_name(f".{path.name}")
    picture.save(part, format="PNG", compress_level=1)
    part.replace(path)
