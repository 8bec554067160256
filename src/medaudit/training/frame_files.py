"""Frame files: which files hold the unlabelled images of a source, whose they are, and how many frames each has."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medaudit.cohort import EMPTY, Cohort, read_table
from medaudit.cohort.table import PARQUET, texts
from medaudit.errors import DataError, UsageError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Skipped:
    """A file or frame that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FrameFile:
    """One file of a source: ``name`` begins its frames' ids, ``path`` is relative to the source's folder.

    ``file`` is where it lies, ``None`` where the source names none. ``patient``: as the source says, ``None`` where it
    does not.
    """

    name: str
    path: str
    file: str | None
    patient: str | None


def files_of(source: str | Path | Cohort, patient: str | None = None) -> tuple[list[FrameFile], list[Skipped]]:
    """Return the files of a source in its order (a folder's: sorted), and what is left out without being read.

    ``source``: a folder, searched to its depth for PNG, JPEG, BMP, TIFF and DICOM (with or without suffix; hidden
    files are no images); a list, one path a line, with blank lines and ``#`` comments; a CSV, TSV or Parquet table
    with a column ``path`` and perhaps ``patient_id``; or a cohort with the role ``image``. Paths in a list are relative
    to its folder. ``patient``: a regular expression with one group that finds the patient in the path, where the source
    does not say who it is.

    Raises DataError where there is no such source or nothing in it, and UsageError for an expression that has not one
    group, or that fits no path.
    """
    expression = _expression(patient)
    skipped: list[Skipped] = []
    if isinstance(source, Cohort):
        found = list(_of_cohort(source))
    elif not (at := Path(source)).exists():
        raise DataError(f"{at}: no such folder or file; expected a folder of images, or a list of their paths")
    elif at.is_dir():
        found = list(_of_folder(at, skipped))
    else:
        found = list(_of_list(at))
    if not found and not skipped:
        raise DataError(f"{_name(source)}: holds no image; expected PNG, JPEG, BMP, TIFF or DICOM files")
    files, seen = [], set()
    for one in found:
        if one.name in seen:
            skipped.append(Skipped(one.path, "is named twice; the first is kept"))
        elif not _is_text(one.name + one.path):
            shown = one.path.encode("utf-8", "backslashreplace").decode()
            skipped.append(Skipped(shown, "its name is not UTF-8; rename the file"))
        else:
            seen.add(one.name)
            files.append(one)
    if expression is None:
        return files, skipped
    named = [_with_patient(one, expression) for one in files]
    if files and all(one.patient is None for one in named):
        raise UsageError(
            f"the expression '{patient}' finds a patient in none of {len(files)} paths; the first is '{files[0].path}'"
        )
    return named, skipped


def is_dicom(path: Path) -> bool:
    """Return whether ``path`` is a DICOM file, by its suffix or by the mark inside where a suffix tells nothing."""
    suffix = path.suffix.lower()
    if suffix in DICOM:
        return True
    # Files from an archive are often called by their UID, whose last part looks like a suffix.
    if suffix and not suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def frames_in(file: str | None) -> int:
    """Return how many frames the header of ``file`` promises, without reading pixels; 1 where it is no DICOM.

    A header that cannot be read, or promises more frames than the file has bytes, counts as 1: reading says why.
    """
    if file is None or not is_dicom(path := Path(file)):
        return 1
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
            n = int(header.get("NumberOfFrames") or 1)
        return n if 1 <= n <= path.stat().st_size else 1
    except Exception:  # The parser is other people's, on bytes of any origin.
        return 1


def _of_folder(folder: Path, skipped: list[Skipped]) -> Iterator[FrameFile]:
    def unreadable(error: OSError) -> None:
        where = os.path.relpath(error.filename, folder)
        skipped.append(Skipped(where, f"the folder cannot be read ({error.strerror})"))

    found = []
    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            at = Path(here, name)
            if name.startswith(".") or name == "DICOMDIR":
                continue
            if at.suffix.lower() in PICTURES or is_dicom(at):
                found.append(at.relative_to(folder).as_posix())
    for path in sorted(found):
        yield FrameFile(path, path, str(folder / path), None)


def _of_list(file: Path) -> Iterator[FrameFile]:
    try:
        lines = [] if file.suffix.lower() in PARQUET else file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a list of paths; expected text, a path a line, or a folder of images") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    patients: Sequence[str | None]
    if file.suffix.lower() in PARQUET or (told and "path" in [c.strip(' "') for c in re.split(r"[,;\t|]", told[0])]):
        table = read_table(file)
        if "path" not in table.columns:
            raise DataError(f"{file}: has no column 'path'; it has: {', '.join(table.columns)}")
        paths = texts(table["path"], file.name).to_list()
        known = "patient_id" in table.columns
        patients = texts(table["patient_id"], file.name).to_list() if known else [None] * len(paths)
    else:
        paths, patients = told, [None] * len(told)
    for row, (path, who) in enumerate(zip(paths, patients, strict=True), start=1):
        if path:
            # "a//b" and "./b" are the same file as "a/b" and "b".
            tidy = str(PurePosixPath(path.replace(os.sep, "/")))
            yield FrameFile(tidy, tidy, str(file.parent / tidy), who or None)
        else:
            yield FrameFile(f"row {row}", f"row {row}", None, who or None)


def _of_cohort(cohort: Cohort) -> Iterator[FrameFile]:
    if "image" not in cohort.roles:
        raise DataError(f"{cohort.name}: the cohort has no images; say where they lie with the role 'image'")
    known = "patient_id" in cohort.table.columns
    patients = cohort.clusters.to_list() if known else [None] * len(cohort)
    for case, who in zip(cohort.cases("image"), patients, strict=True):
        path = case.files["image"]
        if path is None or str(path) == EMPTY:
            yield FrameFile(case.case_id, case.case_id, None, who)
            continue
        inside = path.is_relative_to(cohort.root)
        shown = path.relative_to(cohort.root).as_posix() if inside else path.as_posix()
        yield FrameFile(case.case_id, shown, str(path), who)


def _expression(patient: str | None) -> re.Pattern[str] | None:
    if patient is None:
        return None
    try:
        found = re.compile(patient)
    except re.error as error:
        raise UsageError(f"'{patient}' is not a regular expression ({error}); expected one as '^([0-9]+)_'") from None
    if found.groups != 1:
        raise UsageError(f"'{patient}' has {found.groups} groups; expected one, around the patient: '^([0-9]+)_'")
    return found


def _with_patient(one: FrameFile, expression: re.Pattern[str]) -> FrameFile:
    if one.patient is not None:
        return one
    match = expression.search(one.path)
    return FrameFile(one.name, one.path, one.file, (match.group(1) or None) if match else None)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _name(source: str | Path | Cohort) -> str:
    return source.name if isinstance(source, Cohort) else str(source)
