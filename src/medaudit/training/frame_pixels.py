"""Frame pixels: the grey levels of each frame of a file, brought to one size, and their fingerprints."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from medaudit.cohort import read_image
from medaudit.errors import DataError
from medaudit.training.frame_files import is_dicom
from medaudit.training.prepared import middle

_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def grey_frames(file: str | None, n: int) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield the grey pixels (row, column) of each of the ``n`` frames of ``file``, and its DICOM patient.

    uint8 where the file has 8 bits, with its levels as they are, else float32. Colours become their mean, as
    :func:`medaudit.cohort.grey_image` makes it, and 8-bit ones are rounded. One DICOM frame is decoded at a time; its
    modality's rescale is applied, and MONOCHROME1 is left as it is stored, as the cohort's reader of flat images does.

    Raises DataError where the file is missing, broken, a volume or without pixels; for a clip that breaks off, after
    its good frames.
    """
    if file is None:
        raise DataError("the table gives no file for its image")
    path = Path(file)
    if is_dicom(path) and path.exists():
        yield from _dicom_frames(path, n)
        return
    image = read_image(path)
    if len(image.shape) != 2:
        raise DataError(f"{path}: is a volume ({' x '.join(map(str, image.shape))}); expected a picture")
    yield _grey(image.array, image.colour), None


def dhash(image: np.ndarray) -> int:
    """Return the difference hash of a (row, column) uint8 image, 64 bits: which of two neighbours is the brighter.

    The image is averaged to 8 x 9 and rounded, so that the noise that JPEG leaves on black sets no bit; the first bit
    is the highest.
    """
    small = np.asarray(Image.fromarray(image).resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def framed(grey: np.ndarray, side: int, framing: str) -> np.ndarray:
    """Return a (row, column) image as (side, side) uint8: uint8 keeps its levels, others their own range."""
    if grey.dtype != np.uint8:
        low, high = float(grey.min()), float(grey.max())
        grey = ((grey.astype(np.float64) - low) * (255 / (high - low))).astype(np.float32)
    if framing == "crop":
        grey = middle(grey, (side, side))
    rows, columns = grey.shape
    scale = side / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale))) if framing == "letterbox" else (side, side)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BICUBIC))
    if small.dtype != np.uint8:
        small = np.rint(small).clip(0, 255).astype(np.uint8)
    if small.shape == (side, side):
        return small
    # The lowest value of the image, as in prepared: a border is then no darker than its background.
    frame = np.full((side, side), np.rint(grey.min()), dtype=np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame


def sha256_of(grey: np.ndarray) -> str:
    """Return the hash of the pixels and their shape; uint8 and float32 of equal values differ."""
    digest = hashlib.sha256(f"{grey.dtype.str} {grey.shape}".encode())
    digest.update(np.ascontiguousarray(grey).data)
    return digest.hexdigest()


def _dicom_frames(path: Path, n: int) -> Iterator[tuple[np.ndarray, str | None]]:
    import pydicom
    from pydicom.pixels import iter_pixels

    done = 0
    try:
        with warnings.catch_warnings():
            # They remark on tags that are no matter here; what is wrong with the pixels is an exception.
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
            _refuse_what_is_no_picture(path, header)
            who = str(header.get("PatientID") or "").strip() or None
            for array in iter_pixels(path, indices=range(n)):
                yield _grey(*_displayed(array, header)), who
                done += 1
    except DataError:
        raise
    except Exception as error:  # As in cohort.reading: the decoders may raise anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        rest = f" from frame {done} of {n} on" if n > 1 else ""
        raise DataError(f"{path}: cannot be read{rest}; is it broken? ({reason})") from None
    if done < n:
        raise DataError(f"{path}: ends after {done} of {n} frames")


def _refuse_what_is_no_picture(path: Path, header: object) -> None:
    get = header.get  # type: ignore[attr-defined]
    if str(get("SOPClassUID", "")) in _SEGMENTATIONS:
        raise DataError(f"{path}: is a segmentation; expected an image")
    if not get("Rows") or not get("Columns"):
        raise DataError(f"{path}: DICOM without pixels ({get('Modality') or 'no modality'}); expected an image")
    n = int(get("NumberOfFrames") or 1)
    # Frames with a place in the patient are the slices of a volume, not a clip.
    if n > 1 and ("PerFrameFunctionalGroupsSequence" in header or "ImagePositionPatient" in header):  # type: ignore[operator]
        raise DataError(f"{path}: is a volume of {n} slices; expected a picture or a clip")
    if n > path.stat().st_size:
        raise DataError(f"{path}: the header promises {n} frames, more than the file has bytes")


def _displayed(array: np.ndarray, header: object) -> tuple[np.ndarray, bool]:
    """Return a frame after its palette or its modality's rescale, and whether it is in colour."""
    from pydicom.pixels import apply_color_lut, apply_rescale

    if header.get("PhotometricInterpretation") == "PALETTE COLOR":  # type: ignore[attr-defined]
        colours = apply_color_lut(array, header)  # type: ignore[arg-type]
        # A palette of 16 bits is a display's whole range.
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours, True
    if array.ndim == 3:
        return array, True
    rescaled = apply_rescale(array, header)  # type: ignore[arg-type]
    return (array if np.array_equal(rescaled, array) else rescaled), False


def _grey(array: np.ndarray, colour: bool) -> np.ndarray:
    if 0 in array.shape:
        raise DataError("holds no pixels")
    if array.dtype == np.uint8:
        # The house's own float32 mean, rounded: thirds of whole numbers are never at a half.
        return np.rint(array[..., :3].astype(np.float32).mean(axis=-1)).astype(np.uint8) if colour else array
    grey = array.astype(np.float32)
    grey = grey[..., :3].mean(axis=-1) if colour else grey
    if not np.isfinite(grey).all():
        raise DataError("holds values that are NaN or infinite; expected finite intensities")
    return grey
