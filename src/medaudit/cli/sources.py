"""From the options that say where the cases are to a Cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from medaudit import datasets
from medaudit.audits.simulated import simulated_beside
from medaudit.cohort import Cohort, Known, Role, read_table
from medaudit.errors import DataError, UsageError


def cohort(
    *,
    dataset: str | None,
    data: Path | None,
    cases: Path | None,
    about: Sequence[str],
    simulate: str | None,
    plant: str,
    size: int,
    seed: int,
    out: Path,
    roles: Mapping[str, str | None],
    cluster: str | None,
    label: int | None,
    jobs: int,
    progress: bool,
) -> Cohort:
    """Return the cohort of ``--dataset``, ``--cases`` or ``--simulate`` with the roles that the options give."""
    if sum(given is not None for given in (dataset, cases, simulate)) != 1:
        raise UsageError("say where the cases are: one of --dataset NAME --data DIR, --cases TABLE, or --simulate NAME")
    if about and cases is None:
        raise UsageError("--about says which datasets the cases of a table are from; it needs --cases TABLE")
    if dataset is not None:
        if data is None:
            raise UsageError(f"--dataset {dataset} needs --data DIR, the dataset's folder")
        found = datasets.load(dataset, data)
        found = replace(found, known=known(REVIEWED_AS.get(dataset, (dataset,)))[0])
    elif cases is not None:
        if data is not None and not data.is_dir():
            raise DataError(f"{data}: no such folder; --data is the folder that the table's paths start from")
        found = Cohort.read(cases, patient_id=cluster, root=data)
        if about:
            told, unknown = known(about)
            if unknown:
                raise UsageError(f"--about {unknown[0]}: nobody knows it; look for it with `medaudit review search`")
            found = replace(found, known=told)
    else:
        found = simulated_beside(out, str(simulate), plant=plant, size=size, seed=seed, jobs=jobs, progress=progress)
    for role, where in roles.items():
        if where is not None:
            found = found.with_role(role, where)
    if label is not None:
        masks = {name: replace(role, label=label) for name, role in found.roles.items() if name != "image"}
        found = replace(found, roles={**found.roles, **masks})
    return found if cases is not None else _clustered(found, cluster)


REVIEWED_AS = {
    "isic": ("isic-2016", "isic-2017", "isic-2018", "isic-2019", "isic-2020"),
    "ph2-patches": ("ph2",),
}
"""Names of our datasets that the living review has under another."""


def known(names: Sequence[str]) -> tuple[tuple[Known, ...], list[str]]:
    """Return what the living review knows about datasets, each sentence once, and the names that it does not know.

    It asks the review that the environment names (MEDAUDIT_REVIEW), or else the seed that ships with medaudit.
    """
    from medaudit.review.asking import known as ask

    found, unknown, _ = ask(names)
    told: dict[str, Known] = {}
    for one in found:
        told.setdefault(one.text, Known(one.severity, one.text, ", ".join(source.title for source in one.sources)))
    return tuple(told.values()), unknown


_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy", ".dcm")


def folder(images: Path) -> Cohort:
    """Return the images of a folder, and of those in it, as a cohort without attributes; each is a patient of its own.

    Raises DataError where there is none.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; --images is a folder of images")
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    if not found:
        raise DataError(f"{images}: no image there; expected files that end in {', '.join(_PICTURES)}")
    names = [path.relative_to(images).as_posix() for path in found]
    table = pl.DataFrame({"case_id": names, "image_path": names})
    return Cohort(images.name, table, images.resolve(), {"image": Role("image_path")})


def scores(
    table: Path | None, *, simulate: str | None, plant: str, size: int, seed: int, cluster: str | None
) -> Cohort:
    """Return the cohort of a table of scores, or of simulated ones."""
    if (table is None) == (simulate is None):
        raise UsageError("give a TABLE of scores, or --simulate NAME")
    if table is not None:
        return Cohort.read(table, patient_id=cluster, number_cases=True)
    return _clustered(datasets.simulated_scores(str(simulate), plant=plant, size=size, seed=seed), cluster)


def _clustered(cohort: Cohort, cluster: str | None) -> Cohort:
    """Return the cohort with the patients that ``--cluster`` names."""
    if cluster is None:
        return cohort
    return replace(cohort, table=cohort.table.with_columns(patient_id=cohort.column(cluster)))


def against(cohort: Cohort, settings: Any, name: str, data: Path | None) -> tuple[Cohort, Any]:
    """Return the cohort with another dataset's cases, and the settings whose last expression is true of those."""
    from medaudit.audits.ood.images import merged

    if data is None:
        raise UsageError(f"--ood-dataset {name} needs --ood-data DIR, that dataset's folder")
    whole, expression = merged(cohort, datasets.load(name, data))
    return whole, replace(settings, ood=(*settings.ood[:-1], expression))


def shares(text: str) -> tuple[float, float, float]:
    """Return three shares from ``0.5,0.15,0.35``."""
    try:
        a, b, c = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--split {text}: expected three numbers, as 0.5,0.15,0.35") from None
    return a, b, c


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return numbers from ``0,0.25,0.5``; UsageError naming the option."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: expected numbers with commas, as 0,0.25,0.5") from None


def table(path: Path) -> pl.DataFrame:
    """Return a table of scores: CSV, TSV, XLSX or Parquet."""
    return read_table(path)
