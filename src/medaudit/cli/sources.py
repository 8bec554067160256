"""From the options that say where the cases are to a Cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medaudit import datasets
from medaudit.audits.simulated import simulated_beside
from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError


def cohort(
    *,
    dataset: str | None,
    data: Path | None,
    cases: Path | None,
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
    if dataset is not None:
        if data is None:
            raise UsageError(f"--dataset {dataset} needs --data DIR, the dataset's folder")
        found = datasets.load(dataset, data)
    elif cases is not None:
        if data is not None and not data.is_dir():
            raise DataError(f"{data}: no such folder; --data is the folder that the table's paths start from")
        found = Cohort.read(cases, patient_id=cluster, root=data)
    else:
        found = simulated_beside(out, str(simulate), plant=plant, size=size, seed=seed, jobs=jobs, progress=progress)
    for role, where in roles.items():
        if where is not None:
            found = found.with_role(role, where)
    if label is not None:
        masks = {name: replace(role, label=label) for name, role in found.roles.items() if name != "image"}
        found = replace(found, roles={**found.roles, **masks})
    return found if cases is not None else _clustered(found, cluster)


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
