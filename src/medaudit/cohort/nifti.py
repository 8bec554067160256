"""NIfTI: the header by nibabel, the voxels straight from the gunzipped bytes, in the type they are stored in."""

from __future__ import annotations

import io
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from zlib_ng import zlib_ng

from medaudit.cohort.bounds import check_promise
from medaudit.cohort.volume import Volume
from medaudit.errors import DataError

MOST_DEFLATE = 1032
"""Deflate cannot make more bytes of one than this; a header that promises more is not this file's header."""

_TO_MM = {"meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> Volume:
    """Return the volume in a NIfTI-1 or NIfTI-2 file, gzipped or not, as stored or, if the header scales, as float32.

    nibabel's ``get_fdata`` would hold a mask of 32 MB as 256 MB of float64. A 2-D image comes as (row, column).
    Raises DataError where bytes are missing, or where there are more than three dimensions of more than one step.
    """
    raw = path.read_bytes()
    zipped = raw[:2] == b"\x1f\x8b"
    if not zipped and path.name.lower().endswith(".gz"):
        raise DataError(f"{path}: is not gzipped, although its name says so; is the download complete?")
    header = _header(_gunzip(raw, 540, path) if zipped else raw[:540], path)
    shape = tuple(int(n) for n in header.get_data_shape())
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {dtype.kind!r} ({dtype}); expected one real number a voxel")
    if not shape or min(shape) < 1:
        raise DataError(f"{path}: the header gives the shape {shape}; expected 2 or 3 dimensions")
    start, count = int(header.get_data_offset()), math.prod(shape)
    end = start + count * dtype.itemsize
    most = len(raw) * MOST_DEFLATE if zipped else len(raw)
    if start < 0 or end > most:
        raise DataError(
            f"{path}: the header promises {end:,} bytes, the file can hold {most:,}; it is truncated, or no NIfTI file"
        )
    check_promise(path, end)
    data = _gunzip(raw, end, path) if zipped else raw
    if len(data) < end:
        raise DataError(f"{path}: truncated, {len(data):,} of {end:,} bytes; copy or download it again")
    array = np.frombuffer(data, dtype, count, start).reshape(shape, order="F")
    array = _scaled(array, *header.get_slope_inter())
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 3:
        raise DataError(f"{path}: has {array.ndim} dimensions, {array.shape}; expected one volume a file: split it")
    affine = _affine(header)
    if array.ndim == 2:
        array, affine = array.T, affine[:, [1, 0, 2, 3]]
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, : array.ndim], axis=0))
    if array.dtype.byteorder not in ("=", "|"):
        array = array.astype(array.dtype.newbyteorder("="))
    return Volume(array, spacing, affine, path)


def _header(head: bytes, path: Path) -> nib.Nifti1Header:
    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if len(head) >= size and head[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            return kind.from_fileobj(io.BytesIO(head[:size]), check=False)
    raise DataError(f"{path}: not a NIfTI file, or its header is broken")


def _gunzip(raw: bytes, end: int, path: Path) -> bytes:
    """Return the first ``end`` bytes (fewer where the stream ends before), checking the sums of what it passes."""
    parts: list[bytes] = []
    rest, got = raw, 0
    try:
        while rest and got < end:
            member = zlib_ng.decompressobj(31)
            # One byte more than wanted makes the stream reach its end, where its checksum is compared.
            parts.append(member.decompress(rest, end - got + 1))
            got += len(parts[-1])
            rest = member.unused_data
            if not member.eof:
                break
    except zlib_ng.error as error:  # type: ignore[misc]
        raise DataError(f"{path}: the gzip stream is broken ({error}); copy or download it again") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _scaled(array: np.ndarray, slope: float | None, inter: float | None) -> np.ndarray:
    if slope is None or not np.isfinite(slope) or slope == 0:
        return array
    shift = inter if inter is not None and np.isfinite(inter) else 0.0
    if slope == 1 and shift == 0:
        return array
    scaled = array.astype(np.float32) * np.float32(slope) + np.float32(shift)
    # 255 stored with slope 1/255 comes back as 1.00000006, which would be no mask any more.
    whole = np.rint(scaled)
    return np.where(np.abs(scaled - whole) <= 1e-6 * np.maximum(1, np.abs(whole)), whole, scaled)


def _affine(header: nib.Nifti1Header) -> np.ndarray:
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    return affine
