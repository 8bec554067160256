"""Reading: an image or a mask from any of the formats in use, as a Volume, or one line that says what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medaudit.cohort.bounds import check_promise
from medaudit.cohort.cohort import Case
from medaudit.cohort.volume import Volume, by
from medaudit.errors import DataError


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


def grey_image(case: Case) -> np.ndarray:
    """Return a case's ``image`` as float32 without the axis of colour; DataError naming the case."""
    path = case.files["image"]
    if path is None:
        raise DataError(f"case {case.case_id}: the table gives no file for its image; drop the case")
    try:
        image = read_image(path, spacing_mm=case.spacing_mm)
    except DataError as error:
        raise DataError(f"case {case.case_id}: {error}") from None
    array = np.asarray(image.array, dtype=np.float32)
    return array[..., :3].mean(axis=-1) if image.colour else array


def colour_image(case: Case) -> np.ndarray:
    """Return a case's ``image`` as float32 (row, column, 3), a grey one three times; DataError naming the case.

    Raises DataError for a volume too.
    """
    path = case.files["image"]
    if path is None:
        raise DataError(f"case {case.case_id}: the table gives no file for its image; drop the case")
    try:
        image = read_image(path, spacing_mm=case.spacing_mm)
    except DataError as error:
        raise DataError(f"case {case.case_id}: {error}") from None
    array = np.asarray(image.array, dtype=np.float32)
    if array.ndim != (3 if image.colour else 2):
        raise DataError(f"case {case.case_id}: the image is {array.shape}; expected a picture, not a volume")
    return array[..., :3] if image.colour else np.repeat(array[..., None], 3, axis=-1)


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


def _read(path: Path, spacing_mm: tuple[float, ...] | None, *, mask: bool, label: int | None = None) -> Volume:
    stem, _, key = str(path).partition(".npz#")
    file = Path(f"{stem}.npz") if key else path
    if not file.exists():
        raise DataError(f"{path}: no such file")
    if not (file.is_file() or file.is_dir()):
        raise DataError(f"{path}: is a device or a pipe; expected an image file")
    if file.is_file():
        check_promise(path, file.stat().st_size)
    read = _reader(file, mask=mask, label=label, key=key)
    try:
        with warnings.catch_warnings():
            # They remark on tags that are no matter here; what is wrong with the pixels is an exception.
            warnings.simplefilter("ignore")
            volume = read(file)
    except DataError:
        raise
    except Exception as error:  # The decoders are other people's, on bytes of any origin: each may raise anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read; is it broken, or of another kind? ({reason})") from None
    volume = replace(volume, path=path)
    if len(volume.shape) not in (2, 3):
        raise DataError(f"{path}: has {len(volume.shape)} dimensions ({by(volume.shape)}); expected 2 or 3")
    if 0 in volume.array.shape:
        raise DataError(f"{path}: holds no pixels (shape {by(volume.array.shape)})")
    if volume.affine is not None and not (
        np.isfinite(volume.affine).all() and np.linalg.matrix_rank(volume.affine) == 4
    ):
        raise DataError(f"{path}: the header's affine is not finite or not invertible; save it with its image's affine")
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


def _with_spacing(volume: Volume, spacing_mm: tuple[float, ...]) -> Volume:
    axes = len(volume.shape)
    wanted = spacing_mm * axes if len(spacing_mm) == 1 else tuple(spacing_mm)
    if len(wanted) != axes or not all(np.isfinite(s) and s > 0 for s in wanted):
        raise DataError(
            f"{volume.path}: spacing {by(spacing_mm)} mm does not fit an image of {axes} axes, {by(volume.shape)}"
        )
    if volume.spacing_mm is not None and not np.allclose(volume.spacing_mm, wanted, rtol=1e-3, atol=1e-4):
        raise DataError(
            f"{volume.path}: the file's spacing is {by(volume.spacing_mm)} mm, the table says {by(wanted)} mm; "
            "take spacing_mm out of the table, or mend the file's header"
        )
    return replace(volume, spacing_mm=volume.spacing_mm or wanted)


def _binary(array: np.ndarray, path: Path, label: int | None) -> np.ndarray:
    """Return ``array`` as uint8, 0 and 1, without a copy where it is that already."""
    if array.dtype == bool:
        array = array.view(np.uint8)
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
