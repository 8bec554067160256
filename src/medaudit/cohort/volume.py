"""Volume: the pixels of one image or mask and where they lie in space, from any of the formats in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medaudit.errors import DataError


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or mask, and its place in the patient.

    ``array``: 3-D with axes (i, j, k) as the columns of ``affine``, or 2-D with axes (row, column); with ``colour``
    a last axis of three channels follows. ``spacing_mm``: millimetres a step along each axis of space, ``None`` where
    neither file nor table says. ``affine``: (4, 4), from array index to millimetres in RAS+ (NIfTI's convention,
    whatever the format), ``None`` where the format knows no place. ``cropped``: the file may store only the part of
    the image that has something on it (DICOM SEG, a Slicer segmentation); see :func:`on_common_grid`.
    """

    array: np.ndarray
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    path: Path
    colour: bool = False
    cropped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps along each axis of space, without the colour axis."""
        return self.array.shape[:-1] if self.colour else self.array.shape


def read_image(path: str | Path, *, spacing_mm: tuple[float, ...] | None = None, allow_nan: bool = False) -> Volume:
    """Return the image at ``path``.

    Formats: NIfTI, NRRD, MHA and MHD, DICOM (a file, or a series' folder), PNG, JPEG, TIFF, BMP, npy and npz.
    ``array.npz#key`` names one array of an npz file. ``spacing_mm``, in array axis order, serves formats that carry
    none; it must agree with those that do.

    Raises DataError where the file is missing, broken, not an image, or holds values that are not finite (unless
    ``allow_nan``).
    """
    volume = _read(Path(path), spacing_mm, mask=False)
    if not allow_nan and volume.array.dtype.kind == "f":
        bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
        if bad:
            raise DataError(
                f"{path}: {bad} of {volume.array.size} values are NaN or infinite; expected finite intensities"
            )
    return volume


def read_mask(
    path: str | Path,
    *,
    label: int | None = None,
    fill: bool = False,
    spacing_mm: tuple[float, ...] | None = None,
) -> Volume:
    """Return the binary mask at ``path`` as uint8, 0 and 1, read-only; formats as in :func:`read_image`.

    A binary mask is 0 with 1, 255 or 65535. ``label`` picks that value of a label map, or that segment of a DICOM
    SEG. ``fill`` fills a closed outline and leaves a filled mask as it is (:func:`medaudit.cohort.outline.fill`).

    Raises DataError where the file is missing, broken or not such a mask.
    """
    path = Path(path)
    volume = _read(path, spacing_mm, mask=True, label=label)
    if volume.colour:
        raise DataError(f"{path}: is a colour image; expected a mask, 0 and one other value")
    # Of a SEG, the reader has picked the segment already, and gives it as bool.
    mask = _binary(volume.array, path, label if volume.array.dtype != bool else None)
    if fill:
        from medaudit.cohort.outline import fill as fill_outline

        mask = fill_outline(mask, path)
    mask.flags.writeable = False
    return replace(volume, array=mask)


def on_common_grid(first: Volume, second: Volume) -> tuple[Volume, Volume]:
    """Return both on the smallest grid that holds both, where what lies outside a cropped file is background.

    Acts only on files that are stored cropped and whose voxels coincide; else both come back as they are, and
    :func:`check_geometry` says what differs.
    """
    if not (first.cropped or second.cropped) or first.affine is None or second.affine is None:
        return first, second
    try:
        step = np.linalg.inv(first.affine) @ second.affine
    except np.linalg.LinAlgError:
        return first, second
    start = np.rint(step[:3, 3]).astype(int)
    if not (np.allclose(step[:3, :3], np.eye(3), atol=1e-3) and np.allclose(step[:3, 3], start, atol=0.02)):
        return first, second
    low = np.minimum(0, start)
    high = np.maximum(first.shape, start + second.shape)
    return _padded(first, -low, high), _padded(second, start - low, high - start)


def check_geometry(case_id: str, first: Volume, second: Volume, *, names: tuple[str, str] = ("image", "mask")) -> None:
    """Raise DataError, naming case and files, unless both volumes have the same shape and lie at the same place.

    Places may differ by 1 micrometre and 1 % of a voxel at the farthest corner, as much as writing an affine in
    another format may cost (our choice). What a file does not say (PNG has no place) is not compared.
    """
    told = f"case {case_id}: {names[1]} {second.path} does not lie on {names[0]} {first.path}"
    if first.shape != second.shape:
        raise DataError(f"{told}: shape {_by(second.shape)} against {_by(first.shape)}; {_shape_cure(first, second)}")
    if first.spacing_mm is not None and second.spacing_mm is not None:
        a, b = np.asarray(first.spacing_mm), np.asarray(second.spacing_mm)
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4):
            raise DataError(
                f"{told}: spacing {_by(second.spacing_mm)} mm against {_by(first.spacing_mm)} mm; "
                "save it with the other's header, or mend spacing_mm in the table"
            )
    if first.affine is not None and second.affine is not None:
        away = _farthest(first.affine, second.affine, first.shape)
        limit = 1e-3 + 0.01 * float(np.min(np.linalg.norm(first.affine[:3, :3], axis=0)))
        if not away <= limit:
            raise DataError(f"{told}: other affine, up to {away:.4g} mm apart; {_affine_cure(first, second)}")


def _read(path: Path, spacing_mm: tuple[float, ...] | None, *, mask: bool, label: int | None = None) -> Volume:
    stem, _, key = str(path).partition(".npz#")
    file = Path(f"{stem}.npz") if key else path
    if not file.exists():
        raise DataError(f"{path}: no such file")
    read = _reader(file, mask=mask, label=label, key=key)
    try:
        volume = read(file)
    except DataError:
        raise
    except Exception as error:  # The decoders are other people's, on bytes of any origin: each may raise anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read; is it broken, or of another kind? ({reason})") from None
    volume = replace(volume, path=path)
    if len(volume.shape) not in (2, 3):
        raise DataError(f"{path}: has {len(volume.shape)} dimensions ({_by(volume.shape)}); expected 2 or 3")
    if 0 in volume.array.shape:
        raise DataError(f"{path}: holds no pixels (shape {_by(volume.array.shape)})")
    return volume if spacing_mm is None else _with_spacing(volume, spacing_mm)


def _reader(path: Path, *, mask: bool, label: int | None, key: str) -> Callable[[Path], Volume]:
    # Each reader brings a large library; a cohort of PNG files should not wait for SimpleITK and highdicom.
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from medaudit.cohort.nifti import read_nifti

        return read_nifti
    if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        from medaudit.cohort.itk import read_itk

        return read_itk
    if name.endswith((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")):
        from medaudit.cohort.picture import read_picture

        return partial(read_picture, mask=mask)
    if name.endswith((".npy", ".npz")):
        from medaudit.cohort.npy import read_npy

        return partial(read_npy, key=key, usual="mask" if mask else "image")
    if path.is_dir() or name.endswith((".dcm", ".dicom", ".ima")) or _has_dicom_mark(path):
        from medaudit.cohort.dicom import read_dicom

        return partial(read_dicom, segment=label)
    raise DataError(
        f"{path}: cannot tell what kind of file it is; "
        "expected NIfTI, NRRD, MHA, DICOM, PNG, JPEG, TIFF, BMP, npy or npz"
    )


def _has_dicom_mark(path: Path) -> bool:
    """Return whether the file says that it is DICOM; files from an archive often have no suffix."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _padded(volume: Volume, before: np.ndarray, end: np.ndarray) -> Volume:
    """Return a cropped volume with ``before`` steps of background ahead of it and up to ``end``, in its own steps."""
    after = end - volume.shape
    if not volume.cropped or not (before.any() or after.any()):
        return volume
    assert volume.affine is not None
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    array = np.pad(volume.array, list(zip(before, after, strict=True)))
    return replace(volume, array=array, affine=affine)


def _with_spacing(volume: Volume, spacing_mm: tuple[float, ...]) -> Volume:
    axes = len(volume.shape)
    wanted = spacing_mm * axes if len(spacing_mm) == 1 else tuple(spacing_mm)
    if len(wanted) != axes or not all(np.isfinite(s) and s > 0 for s in wanted):
        raise DataError(
            f"{volume.path}: spacing {_by(spacing_mm)} mm does not fit an image of {axes} axes, {_by(volume.shape)}"
        )
    if volume.spacing_mm is not None and not np.allclose(volume.spacing_mm, wanted, rtol=1e-3, atol=1e-4):
        raise DataError(
            f"{volume.path}: the file's spacing is {_by(volume.spacing_mm)} mm, the table says {_by(wanted)} mm; "
            "take spacing_mm out of the table, or mend the file's header"
        )
    return replace(volume, spacing_mm=volume.spacing_mm or wanted)


def _binary(array: np.ndarray, path: Path, label: int | None) -> np.ndarray:
    """Return ``array`` as uint8, 0 and 1, without a copy where it is that already."""
    if array.dtype == bool:
        return array.view(np.uint8)
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise DataError(f"{path}: {bad} of {array.size} values are NaN or infinite; expected a mask, 0 and 1")
    elif array.dtype.kind not in "iu":
        raise DataError(f"{path}: holds {array.dtype}, not numbers; expected a mask, 0 and 1")
    highest = array.max()
    if label is not None:
        if label == 1 and highest == 255 and not np.any((array != 0) & (array != 255)):
            raise DataError(f"{path}: is a binary mask (0 and 255), not a label map; leave --label away")
        if array.dtype.kind == "f" and np.any(array != np.rint(array)):
            raise DataError(
                f"{path}: {_values(array)}; a label map has whole numbers (was it resampled with interpolation?)"
            )
        return (array == label).astype(np.uint8)
    if highest in (0, 1) and array.dtype == np.uint8:
        return array
    if highest in (0, 1, 255, 65535) and not np.any((array != 0) & (array != highest)):
        return (array != 0).astype(np.uint8)
    raise DataError(f"{path}: {_values(array)}; expected a binary mask, 0 with 1 or 255; {_values_cure(array, path)}")


def _values(array: np.ndarray) -> str:
    found = np.unique(array)
    some = ", ".join(f"{v:g}" for v in found[:6])
    return f"the values are {some}" + (f" ... {found[-1]:g} ({found.size} different ones)" if found.size > 6 else "")


def _values_cure(array: np.ndarray, path: Path) -> str:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return "JPEG blurs a mask's edge: export it as PNG"
    if array.dtype.kind == "f" and np.any(array != np.rint(array)):
        return "threshold probabilities before the audit"
    return "pick one value of a label map with --label"


def _farthest(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far apart, in mm, the two affines put a corner of the volume, at most."""
    ends = [(0, n - 1) for n in (*shape, 1)[:3]]
    corners = np.stack([c.ravel() for c in np.meshgrid(*ends, indexing="ij")] + [np.ones(8)])
    return float(np.max(np.linalg.norm(((first - second) @ corners)[:3], axis=0)))


def _shape_cure(first: Volume, second: Volume) -> str:
    if sorted(first.shape) == sorted(second.shape):
        return "the axes seem to be in another order (an array saved as z, y, x?); save it with the other's header"
    if len(first.shape) != len(second.shape):
        return "one is a picture, the other a volume"
    return "was it resampled or cropped? Resample it onto the other's grid, nearest neighbour for masks"


def _affine_cure(first: Volume, second: Volume) -> str:
    a, b = first.affine, second.affine
    assert a is not None
    assert b is not None
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    if _farthest(a, flip @ b, first.shape) < 0.1:
        return "x and y have the opposite sign: it was written as LPS and read as RAS, or the other way round"
    if np.allclose(np.abs(b), np.eye(4)) or np.allclose(np.abs(a), np.eye(4)):
        return (
            "one has no place of its own (identity): it was saved without the other's header; save it with that affine"
        )
    if np.allclose(np.linalg.norm(a[:3, :3], axis=0), np.linalg.norm(b[:3, :3], axis=0), rtol=1e-3):
        if np.allclose(a[:3, :3], b[:3, :3], rtol=1e-3, atol=1e-4):
            return "the origin was shifted; resample it onto the other's grid or save it with the other's affine"
        return "the axes point elsewhere (flipped or rotated); resample it onto the other's grid"
    return "the spacing differs; resample it onto the other's grid"


def _by(numbers: tuple[float, ...] | tuple[int, ...]) -> str:
    return " x ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in numbers)
