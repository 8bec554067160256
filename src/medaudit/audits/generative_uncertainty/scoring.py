"""Every score of every test image and edited image, under the trained VAEs of an earlier run."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from medaudit.audits.generative import trainings
from medaudit.audits.generative.design import Design
from medaudit.audits.generative.judge import errors_of, perceptual_of
from medaudit.audits.generative.settings import Settings as VaeSettings
from medaudit.audits.generative_uncertainty.methods import Everything, scores_of
from medaudit.audits.generative_uncertainty.settings import Settings
from medaudit.audits.generative_uncertainty.study import PIXEL, Scored
from medaudit.datasets.artefacts import with_artefact
from medaudit.metrics.uncertainty_error import pixel_detection
from medaudit.report.arrays import read_arrays, write_arrays
from medaudit.training.devices import one_thread
from medaudit.training.prepared import opened
from medaudit.workers import bar, in_processes

SCORED, MAPS = "scored", "maps"
KEPT = 6  # edited images a training that are kept to be shown


def sources(design: Design, settings: Settings) -> np.ndarray:
    """Return the places among the test images that are edited: the majority's, by lot, each patient's first."""
    majority = np.flatnonzero(design.code[design.test] == 0)
    order = np.random.default_rng((settings.seed, 51)).permutation(majority)
    people = design.clusters[design.test[order]]
    first = np.sort(np.unique(people, return_index=True)[1])
    rest = np.setdiff1d(np.arange(len(order)), first)
    return np.sort(order[np.concatenate([first, rest])][: settings.edited_images])


def edited(image: np.ndarray, edit: str, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (C, H, W) from 0 to 1 with an edit, and the mask (H, W) of what was painted."""
    rng = np.random.default_rng(np.random.SeedSequence(tuple(seed)))
    picture = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    shown = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
    painted, mask = with_artefact(np.ascontiguousarray(shown), edit, rng)
    back = painted[None] if len(picture) == 1 else np.moveaxis(painted, -1, 0)
    return (back.astype(np.float32) / 255), np.asarray(mask, dtype=bool)


def score_cases(
    design: Design, vae: VaeSettings, settings: Settings, folder: Path, case_ids: tuple[str, ...], out: Path, *,
    shares: tuple[float, ...], metric: str, jobs: int, progress: bool,
) -> Scored:  # fmt: skip
    """Return all scores; ``folder`` is the earlier run's, with the images as its models saw them.

    One training at a time and process; what is finished is not done again.
    """
    units = [trainings.Unit(vae.shares.index(share), seed) for share in shares for seed in range(vae.seeds)]
    left = [unit for unit in units if not _file(out, unit).exists()]
    shared: dict[str, Any] = {"design": design, "vae": vae, "settings": settings, "folder": folder, "out": out,
                              "case_ids": case_ids, "metric": metric}  # fmt: skip
    with bar("scoring", progress) as show:
        work = in_processes(partial(_unit, **shared), left, 1 if settings.device != "cpu" else jobs)
        for _ in show(work, total=len(units), left=len(left)):
            pass
    return gathered(out, design, settings, shares, vae.seeds, vae.shares)


def _unit(
    unit: trainings.Unit, *, design: Design, vae: VaeSettings, settings: Settings, folder: Path, out: Path,
    case_ids: tuple[str, ...], metric: str,
) -> trainings.Unit:  # fmt: skip
    images = opened(folder / trainings.PREPARED, case_ids, ()).images
    with one_thread(settings.device):
        model = trainings.restored(unit.folder(folder, vae.shares))
        others = [
            trainings.restored(trainings.Unit(unit.share, seed).folder(folder, vae.shares)) for seed in range(vae.seeds)
        ]
        rows = design.training_rows(vae.shares[unit.share], unit.seed)
        places = sources(design, settings)
        everything = Everything.of(
            model, others, images, rows, settings, trainings.training_seed(vae, unit), out / SCORED / _name(unit), vae
        )
        distance = perceptual_of(vae) if metric == "perceptual" else None
        parts: list[dict[str, np.ndarray]] = []
        at = 0
        for test in trainings.chunks(images, design.test):
            clean, maps = scores_of(everything, test, settings)
            part = {f"clean/{name}": values for name, values in clean.items()}
            part["error"] = errors_of(model, test, distance)[metric]
            parts.append({**part, "luminance": test.mean(axis=(1, 2, 3))})
            if settings.pixel_maps:
                _keep_maps(out / MAPS / _name(unit), maps, at, len(design.test))
            at += len(test)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        shown = np.asarray(images[design.test[places]], dtype=np.float32)
        kept: dict[str, np.ndarray] = {}
        for edit in settings.edits:
            pairs = [
                edited(shown[j], edit, (settings.seed, zlib.crc32(case_ids[int(design.test[i])].encode()),
                                       zlib.crc32(edit.encode())))
                for j, i in enumerate(places)
            ]  # fmt: skip
            painted, masks = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
            scores, maps = scores_of(everything, painted, settings)
            for name, values in scores.items():
                found[f"edited/{edit}/{name}"] = values
            for name, values in maps.items():
                detected = pixel_detection(values.sum(axis=1), masks)
                found[f"pixels/{edit}/{name}"] = np.stack([detected[key] for key in PIXEL], axis=-1)
            kept |= {
                f"image/{edit}": shown[:KEPT],
                f"painted/{edit}": painted[:KEPT],
                f"mask/{edit}": masks[:KEPT],
            }
            with torch.no_grad():
                kept[f"made/{edit}"] = model.reconstruct(torch.from_numpy(painted[:KEPT])).clamp(0, 1).numpy()
            kept |= {f"map/{edit}/{name}": values[:KEPT].sum(axis=1) for name, values in maps.items()}
    found |= {f"kept/{name}": values.astype(np.float32) for name, values in kept.items()}
    words = np.frombuffer(json.dumps(everything.fits).encode(), dtype=np.uint8)
    write_arrays(_file(out, unit), {**found, "fits": words})
    return unit


def _keep_maps(folder: Path, maps: dict[str, np.ndarray], at: int, total: int) -> None:
    """Write SLUG's maps of some test images into files of all, (n, C, H, W) float32, that are read piece by piece."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in maps.items():
        if name.startswith("slug"):
            file = folder / f"{name}.npy"
            shape = (total, *values.shape[1:])
            mode = "w+" if at == 0 else "r+"
            array = open_memmap(file, mode=mode, dtype=np.float32, shape=shape if at == 0 else None)
            array[at : at + len(values)] = values
            array.flush()


def gathered(
    out: Path, design: Design, settings: Settings, shares: tuple[float, ...], seeds: int, every: tuple[float, ...]
) -> Scored:
    """Return what all units scored, by name, (K, S, ...)."""
    places = sources(design, settings)
    sizes = (len(shares), seeds)
    clean: dict[str, np.ndarray] = {}
    painted: dict[str, np.ndarray] = {}
    pixels: dict[str, np.ndarray] = {}
    errors = np.empty((*sizes, len(design.test)))
    luminance, fits = np.empty(0), []
    for k, share in enumerate(shares):
        for s in range(seeds):
            found = read_arrays(_file(out, trainings.Unit(every.index(share), s)))
            errors[k, s], luminance = found["error"], found["luminance"]
            fits += [f"{100 * share:g} %, seed {s}: {said}" for said in json.loads(found["fits"].tobytes())]
            for key, values in found.items():
                kind, _, rest = key.partition("/")
                if kind == "clean":
                    clean.setdefault(rest, np.empty((*sizes, len(design.test))))[k, s] = values
                elif kind in ("edited", "pixels"):
                    edit, _, name = rest.partition("/")
                    e = settings.edits.index(edit)
                    shape = (*sizes, len(settings.edits), len(places))
                    if kind == "edited":
                        painted.setdefault(name, np.empty(shape))[k, s, e] = values
                    else:
                        pixels.setdefault(name, np.empty((*shape, len(PIXEL))))[k, s, e] = values
    return Scored(design.test, shares, settings.edits, places, clean, painted, pixels, errors, luminance, tuple(fits))


def shown(out: Path, share: int, edit: str) -> dict[str, np.ndarray]:
    """Return a few edited images of the first training: ``image``, ``painted``, ``mask``, ``made``, ``map/...``."""
    found = read_arrays(_file(out, trainings.Unit(share, 0)))
    kept = {name: found[f"kept/{name}/{edit}"] for name in ("image", "painted", "mask", "made")}
    start = f"kept/map/{edit}/"
    return kept | {f"map/{key.removeprefix(start)}": values for key, values in found.items() if key.startswith(start)}


def _name(unit: trainings.Unit) -> str:
    return f"share-{unit.share}-seed-{unit.seed}"


def _file(out: Path, unit: trainings.Unit) -> Path:
    return out / SCORED / f"{_name(unit)}.npz"
