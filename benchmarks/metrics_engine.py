"""Time and memory of one case's metrics against the tools in use, in one run on one machine, as one table.

    python benchmarks/metrics_engine.py            # everything; MedPy and seg-metrics take minutes on the volumes
    python benchmarks/metrics_engine.py --quick    # without those two on the volumes

Every tool gets the same two uint8 masks. Times are medians after a warm-up; ``n`` is the number of repetitions (as many
as fit in two seconds, 3 to 25; once for what takes longer than that). ``x`` is the time relative to medaudit's full
result. ``peak MB`` is what the process grows by during the call, beyond the masks; it is not taken for MedPy on the
volumes, where a second call costs a minute.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from scipy import ndimage

from medaudit.metrics import segmentation

Masks = tuple[np.ndarray, np.ndarray, tuple[float, ...]]


def tumour(far: bool) -> Masks:
    """A 24 mL irregular tumour on a 448 x 448 x 160 grid, and a prediction; ``far``: with a false positive far away."""
    spacing = (0.804, 0.804, 1.1)
    rng = np.random.default_rng(0)
    side = (96, 96, 72)
    rough = [ndimage.gaussian_filter(rng.normal(size=side), 4) for _ in range(2)]
    rough = [field / field.std() for field in rough]
    axes = np.meshgrid(*(s * (np.arange(n) - n / 2) for n, s in zip(side, spacing, strict=True)), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    fields = radius - 3.2 * rough[0], radius - 3.2 * rough[0] - 4 * rough[1]
    voxels = round(24_000 / math.prod(spacing))
    masks = []
    for field in fields:
        mask = np.zeros((448, 448, 160), dtype=np.uint8)
        mask[150:246, 130:226, 50:122] = field < np.partition(field, voxels, axis=None)[voxels]
        masks.append(mask)
    if far:
        corner = np.meshgrid(*(s * np.arange(-8, 9) for s in spacing), indexing="ij")
        masks[1][405:422, 385:402, 30:47] |= sum(axis**2 for axis in corner) < 36
    return masks[0], masks[1], spacing


def blobs(shape: tuple[int, ...], spacing: tuple[float, ...], smooth: float) -> Masks:
    """One rounded object and a prediction of it."""
    rng = np.random.default_rng(1)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    masks = []
    for _ in range(2):
        rough = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
        masks.append((radius - 0.12 * rough / rough.std() < 0.5).astype(np.uint8))
    return masks[0], masks[1], spacing


CASES: dict[str, Callable[[], Masks]] = {
    "448x448x160, compact": lambda: tumour(far=False),
    "448x448x160, far false positive": lambda: tumour(far=True),
    "2-D 800x540": lambda: blobs((540, 800), (0.2, 0.2), 12),
    "crop 40x40x20": lambda: blobs((40, 40, 20), (0.8, 0.8, 2.5), 3),
    "crop 64x64": lambda: blobs((64, 64), (0.5, 0.5), 4),
}


def medaudit_all(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return segmentation(a, b, spacing)["hd95_mm"]


def medaudit_lean(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return segmentation(a, b, spacing, lesions=False, shape=False)["hd95_mm"]


def medaudit_area(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return segmentation(a, b, spacing, surface="area", hd95="max", lesions=False, shape=False)["hd95_mm"]


def surface_distance_all(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    import surface_distance as sd

    sets = sd.compute_surface_distances(a.astype(bool), b.astype(bool), spacing)
    sd.compute_average_surface_distance(sets)
    for tolerance in (1.0, 2.0):
        sd.compute_surface_dice_at_tolerance(sets, tolerance)
    sd.compute_dice_coefficient(a.astype(bool), b.astype(bool))
    return float(sd.compute_robust_hausdorff(sets, 95))


def monai_hd95(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return _monai(a, b, spacing, all_numbers=False)


def monai_all(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return _monai(a, b, spacing, all_numbers=True)


def _monai(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...], *, all_numbers: bool) -> float:
    import torch
    from monai import metrics

    reference, prediction = (torch.from_numpy(mask[None, None]) for mask in (a, b))
    options = {"include_background": True, "spacing": list(spacing)}
    hd95 = metrics.compute_hausdorff_distance(prediction, reference, percentile=95, **options).item()
    if all_numbers:
        metrics.compute_dice(prediction, reference)
        metrics.compute_average_surface_distance(prediction, reference, symmetric=True, **options)
        for tolerance in (1.0, 2.0):
            metrics.compute_surface_dice(prediction, reference, [tolerance], **options)
    return float(hd95)


def seg_metrics_distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    from seg_metrics import seg_metrics

    # Without its Dice, which loops over all voxels in Python and takes ten minutes on a volume.
    result = seg_metrics.write_metrics([1], gdth_img=a, pred_img=b, spacing=spacing, metrics=["hd95", "msd"])
    return float((result[0] if isinstance(result, list) else result)["hd95"][0])


def medpy_hd95(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    from medpy.metric import binary

    return float(binary.hd95(b, a, voxelspacing=spacing))


def medpy_all(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    from medpy.metric import binary

    binary.dc(b, a)
    binary.assd(b, a, voxelspacing=spacing)
    return float(binary.hd95(b, a, voxelspacing=spacing))


TOOLS: dict[str, tuple[Callable[..., float], str, str]] = {
    "medaudit": (medaudit_all, "medaudit", "all its numbers, lesions and shape included"),
    "medaudit, no lesions, no shape": (medaudit_lean, "medaudit", "overlap, HD, HD95, ASSD, MASD, NSD at 1 and 2 mm"),
    "medaudit, area": (medaudit_area, "medaudit", "the same, area-weighted"),
    "surface-distance": (surface_distance_all, "surface-distance", "Dice, HD95, ASD, NSD at 1 and 2 mm, area-weighted"),
    "MONAI, HD95 alone": (monai_hd95, "monai", "HD95"),
    "MONAI": (monai_all, "monai", "Dice, HD95, ASSD, NSD at 1 and 2 mm"),
    "seg-metrics": (seg_metrics_distances, "seg-metrics", "HD95, MSD"),
    "MedPy, HD95 alone": (medpy_hd95, "MedPy", "HD95"),
    "MedPy": (medpy_all, "MedPy", "Dice, HD95, ASSD"),
}
SLOW = {"seg-metrics", "MedPy, HD95 alone", "MedPy"}


def timed(call: Callable[[], float], warm: bool) -> tuple[float, int, float]:
    """Return the median seconds, the number of repetitions, and the value of ``call``."""
    if warm:
        call()
    seconds: list[float] = []
    while True:
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
        spent = sum(seconds)
        if seconds[0] > 2 or len(seconds) >= 25 or (spent > 2 and len(seconds) >= 3):
            return statistics.median(seconds), len(seconds), value


def peak_mb(call: Callable[[], float]) -> float:
    """Return by how much the process grows during ``call``; NaN where the kernel does not tell."""

    def status(field: str) -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(field))

    try:
        # What earlier calls freed but the allocator kept would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        call()
        return (status("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        return math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave MedPy and seg-metrics out on the volumes")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    # surface-distance 0.1 asks NumPy 2 for a name that it dropped.
    if not hasattr(np, "Inf"):
        setattr(np, "Inf", np.inf)  # noqa: B010
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(", ".join(f"{name} {_version(name)}" for name in dict.fromkeys(t[1] for t in TOOLS.values())), "\n")
    print("| case | tool | computes | median ms | n | x | peak MB | HD95 mm |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for case, make in CASES.items():
        a, b, spacing = make()
        ours = math.nan
        for tool, (function, _, computes) in TOOLS.items():
            volume = case.startswith("448")
            if volume and tool in SLOW and quick:
                continue
            call = functools.partial(function, a, b, spacing)
            once = volume and tool in SLOW
            seconds, n, value = timed(call, warm=not once)
            memory = math.nan if once and tool.startswith("MedPy") else peak_mb(call)
            ours = seconds if tool == "medaudit" else ours
            print(
                f"| {case} | {tool} | {computes} | {1000 * seconds:.2f} | {n} | {seconds / ours:.1f} "
                f"| {memory:.0f} | {value:.3f} |",
                flush=True,
            )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
