"""Leaks: frames, or patients, that stand in two sets which must not share any, and one frame under two patients.

A copy that was compressed, brightened or cropped by a pixel has other bytes. Its difference hash is nearly the same,
but so are those of many pairs of dark images: of HC18's 498,273 pairs of images of different women, 68 are within four
bits. So a pair counts only if the images themselves correlate too; none of those women's pairs does (the highest
correlation is 0.91).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medaudit.errors import DataError, UsageError
from medaudit.training.frame_pixels import dhash, sha256_of
from medaudit.training.frames import Frames

CORRELATED = 0.98
"""The least normalised cross-correlation of two images, averaged to 32 x 32, that are near duplicates."""

_THUMB = 32  # finer grids lose copies that were cropped by a few pixels, coarser ones find more in common
_BLOCK = 2**22  # pairs that are compared at once
_CONFIRMED = 8192  # pairs of images that are correlated at once


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What tells whether two frames are the same: for each of n frames an id, a patient if known, and two hashes.

    ``sha256``: of the original pixels; ``dhash`` (n,) uint64; ``images`` (n, rows, columns) uint8 of any one size, may
    be memory-mapped; ``embeddings`` (n, d) float32. Hashes compare only between images of one framing.
    """

    ids: Sequence[str]
    patients: Sequence[str | None]
    sha256: Sequence[str]
    dhash: np.ndarray
    images: np.ndarray | None = None
    embeddings: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("patients", "sha256", "dhash", "images", "embeddings"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.ids):
                raise DataError(f"{len(self.ids)} frames have {len(value)} {name}; expected one each")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Leak:
    """Two frames that should not stand in two sets: ``identical``, ``near``, or of one ``patient``.

    ``distance``: 0 for identical frames and patients; for near ones 1 - correlation, or 1 - cosine of the embeddings,
    or, without images, the share of the hash's bits that differ.
    """

    kind: str
    first: str
    second: str
    distance: float


@dataclass(frozen=True)
class Transductive:
    """The test frames that were in pretraining: their ids, and their share of all ``of`` test frames."""

    ids: tuple[str, ...]
    of: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return len(self.ids) / self.of


def of_frames(frames: Frames, embeddings: np.ndarray | None = None) -> Fingerprints:
    """Return the fingerprints of shrunk frames, whose identity is that of the original pixels."""
    table = frames.table
    return Fingerprints(
        table["frame_id"].to_list(), table["patient_id"].to_list(), table["sha256"].to_list(),
        table["dhash"].to_numpy(), frames.images, embeddings,
    )  # fmt: skip


def of_images(
    images: np.ndarray, ids: Sequence[str] | None = None, patients: Sequence[str | None] | None = None,
    embeddings: np.ndarray | None = None,
) -> Fingerprints:  # fmt: skip
    """Return the fingerprints of ``images`` (n, rows, columns) uint8, called by their number where there are no ids.

    Raises DataError for another shape or type.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"the images are {images.dtype} of shape {images.shape}; expected uint8, (n, rows, columns)")
    n = len(images)
    return Fingerprints(
        list(ids) if ids is not None else [str(i) for i in range(n)],
        list(patients) if patients is not None else [None] * n,
        [sha256_of(image) for image in images],
        np.asarray([dhash(image) for image in images], dtype=np.uint64), images, embeddings,
    )  # fmt: skip


def leaks(first: Fingerprints, second: Fingerprints, *, hamming: int = 4, cosine: float | None = None) -> list[Leak]:
    """Return what two sets of frames have in common: identical frames, near duplicates, patients.

    Near: at most ``hamming`` of 64 bits differ and, where both sets have images, they correlate (``CORRELATED``); or
    the embeddings' cosine is at least ``cosine``, where it is given. Each frame of either side that has an identical
    one on the other is named at least once; near duplicates are all pairs; a patient on both sides is named once, by
    the first frame on each.

    Raises UsageError where a ``cosine`` is given and a set has no embeddings.
    """
    found = [Leak("identical", first.ids[i], second.ids[j], 0.0) for i, j in _identical(first, second)]
    near = _near(first, second, hamming, cosine)
    found += [Leak("near", first.ids[i], second.ids[j], away) for (i, j), away in sorted(near.items())]
    here, there = _firsts(first.patients), _firsts(second.patients)
    found += [
        Leak("patient", first.ids[i], second.ids[there[who]], 0.0)
        for who, i in here.items()
        if who is not None and who in there
    ]
    return found


def transductive(
    pretraining: Fingerprints, test: Fingerprints, *, hamming: int = 4, cosine: float | None = None
) -> Transductive:
    """Return which test frames were in pretraining, identical or near (see :func:`leaks`).

    Raises DataError where there is no test frame.
    """
    if not len(test):
        raise DataError("there are 0 test frames; expected at least one")
    known = set(pretraining.sha256)
    seen = {j for j, sha256 in enumerate(test.sha256) if sha256 in known}
    seen |= {j for _, j in _near(pretraining, test, hamming, cosine)}
    return Transductive(tuple(test.ids[j] for j in sorted(seen)), len(test))


def within(
    fingerprints: Fingerprints, *, hamming: int = 4, cosine: float | None = None
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the groups of identical or near frames that span several patients: their frames, and their patients.

    A group is what hangs together by pairs (see :func:`leaks`); unknown patients do not count as another one.
    """
    place = _firsts(fingerprints.sha256)
    pairs = [(place[sha256], i) for i, sha256 in enumerate(fingerprints.sha256)]
    pairs += _near(fingerprints, None, hamming, cosine)
    n = len(fingerprints)
    rows, columns = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    _, group = connected_components(coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(n, n)))
    members: dict[int, list[int]] = {}
    for i, its in enumerate(group):
        members.setdefault(int(its), []).append(i)
    found = []
    for frames in members.values():
        patients = sorted({who for i in frames if (who := fingerprints.patients[i]) is not None})
        if len(patients) > 1:
            found.append((tuple(fingerprints.ids[i] for i in frames), tuple(patients)))
    return found


def _identical(first: Fingerprints, second: Fingerprints) -> list[tuple[int, int]]:
    """Return pairs that name each identical frame of either side: all pairs of a thousand copies were a million."""
    here, there = _firsts(first.sha256), _firsts(second.sha256)
    pairs = {(i, there[sha256]) for i, sha256 in enumerate(first.sha256) if sha256 in there}
    pairs |= {(here[sha256], j) for j, sha256 in enumerate(second.sha256) if sha256 in here}
    return sorted(pairs)


def _near(
    first: Fingerprints, second: Fingerprints | None, hamming: int, cosine: float | None
) -> dict[tuple[int, int], float]:
    """Return the distance of each pair of near duplicates that are not identical.

    Without ``second``: of the pairs i < j in one set, where one frame stands for all that are identical to it.
    """
    other = first if second is None else second
    if cosine is not None and (first.embeddings is None or other.embeddings is None):
        raise UsageError(f"cosine is {cosine:g}, but the frames have no embeddings; leave it out, or embed the frames")
    inside = second is None
    these = np.asarray(list(_firsts(first.sha256).values())) if inside else np.arange(len(first))
    those = these if inside else np.arange(len(other))
    found: dict[tuple[int, int], float] = {}
    by_hash, by_cosine = (
        _by_hash(first, other, these, those, hamming, inside), _by_cosine(first, other, these, those, cosine, inside)
    )  # fmt: skip
    for rows, columns, away in chain(by_hash, by_cosine):
        for i, j, its in zip(rows.tolist(), columns.tolist(), away.tolist(), strict=True):
            if first.sha256[i] != other.sha256[j]:
                found.setdefault((i, j), max(its, 0.0))
    return found


_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def _by_hash(
    first: Fingerprints, second: Fingerprints, these: np.ndarray, those: np.ndarray, hamming: int, inside: bool
) -> Iterator[_Pairs]:
    """Yield the pairs of frames ``these`` of one set and ``those`` of the other whose hashes, and images, agree."""
    across = second.dhash[those]
    for block in _blocks(len(these), len(those)):
        bits = np.bitwise_count(first.dhash[these[block], None] ^ across[None])
        rows, columns = _where(bits <= hamming, block, inside)
        away = bits[rows, columns] / 64
        i, j = these[rows + block.start], those[columns]
        if first.images is None or second.images is None:
            yield i, j, away
            continue
        for start in range(0, len(i), _CONFIRMED):
            part = slice(start, start + _CONFIRMED)
            correlation = _correlation(first.images, i[part], second.images, j[part])
            kept = correlation >= CORRELATED
            yield i[part][kept], j[part][kept], 1 - correlation[kept]


def _by_cosine(
    first: Fingerprints, second: Fingerprints, these: np.ndarray, those: np.ndarray, cosine: float | None, inside: bool
) -> Iterator[_Pairs]:
    if cosine is None or first.embeddings is None or second.embeddings is None:
        return
    across = _unit(second.embeddings[those]).T
    for block in _blocks(len(these), len(those)):
        found = _unit(first.embeddings[these[block]]) @ across
        rows, columns = _where(found >= cosine, block, inside)
        yield these[rows + block.start], those[columns], 1 - found[rows, columns]


def _where(hit: np.ndarray, block: slice, inside: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(hit)
    if inside:
        once = rows + block.start < columns
        rows, columns = rows[once], columns[once]
    return rows, columns


def _correlation(first: np.ndarray, i: np.ndarray, second: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the normalised cross-correlation of images ``first[i]`` with ``second[j]``; 0 where one is flat."""
    these, at = np.unique(i, return_inverse=True)
    those, over = np.unique(j, return_inverse=True)
    return np.einsum("nd,nd->n", _thumbnails(first, these)[at], _thumbnails(second, those)[over])


def _thumbnails(images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return images averaged to 32 x 32, of mean 0 and length 1, (n, 1024) float32."""
    size, box = (_THUMB, _THUMB), Image.Resampling.BOX
    small = [np.asarray(Image.fromarray(images[k]).resize(size, box), dtype=np.float32).ravel() for k in which]
    centred = np.stack(small)
    return _unit(centred - centred.mean(axis=1, keepdims=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _blocks(n: int, m: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(m, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _firsts(values: Sequence[str | None]) -> dict[str | None, int]:
    """Return where each value stands first."""
    found: dict[str | None, int] = {}
    for i, value in enumerate(values):
        found.setdefault(value, i)
    return found
