"""What the verbs print: a table for people, JSON for scripts."""

from __future__ import annotations

import json as json_
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medaudit.cohort import Cohort, Known
from medaudit.datasets import Dataset
from medaudit.report import Finding

MARK = {
    "supported": "[bold red]● supported[/]",
    "refuted": "[green]○ refuted[/]",
    "insufficient": "[yellow]? insufficient[/]",
}


class Terminal(Console):
    """Standard output in tables and colours; a closed pipe is the caller's to judge."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would turn into exit code 1."""
        raise BrokenPipeError


def findings(
    found: Iterable[Finding], *, out: Path | None, json: bool, quiet: bool, first: Iterable[Finding] | None = None
) -> None:
    """Print the findings as a table, or all of them as JSON; nothing where ``quiet``.

    ``first``: those of the report's first screen, where it has not all; default: problems found, and main questions.
    """
    found = list(found)
    if json:
        print(json_.dumps([finding.as_dict() for finding in found], indent=1, allow_nan=False))
        return
    if quiet:
        return
    main = [f for f in found if f.verdict == "supported" or f.id.split(":")[0] in ("gap", "ruler", "gate")]
    shown = main if first is None else list(first)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("finding", style="bold", overflow="fold", max_width=34)
    table.add_column("")
    for finding in shown:
        table.add_row(MARK[finding.verdict], escape(finding.id), escape(finding.claim))
    console = Terminal()
    console.print(table)
    others = Counter(finding.verdict for finding in found if finding not in shown)
    if others:
        console.print("\nbeside these: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(others.items())))
    if out is not None:
        console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def numbers(measured: Mapping[str, Any], *, json: bool) -> None:
    """Print the numbers of one case, or of each label of one case."""
    if json:
        print(json_.dumps(_strict(measured), indent=1, allow_nan=False))
        return
    for key, value in measured.items():
        if isinstance(value, Mapping):
            print(key)
            numbers(value, json=False)
        else:
            print(f"{key:<28} {value:.6g}" if isinstance(value, float) else f"{key:<28} {value}")


def datasets(known: Mapping[str, Dataset], simulators: Mapping[str, Any], *, json: bool) -> None:
    """Print the known datasets and simulators."""
    if json:
        rows = [
            {"name": d.name, "kind": "dataset", "title": d.title, "licence": d.licence, "url": d.url}
            for d in known.values()
        ]
        rows += [
            {"name": n, "kind": "simulator", "title": s.title, "licence": "", "url": ""} for n, s in simulators.items()
        ]
        print(json_.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "what", "licence"):
        table.add_column(heading)
    for dataset in known.values():
        table.add_row(dataset.name, escape(dataset.title), escape(dataset.licence))
    for name, simulator in simulators.items():
        table.add_row(name, escape(simulator.title), "simulated")
    Terminal().print(table)


def description(dataset: Dataset, cohort: Cohort | None, *, json: bool) -> None:
    """Print where a dataset is from and what its users owe; with a cohort also what it holds."""
    plain: dict[str, Any] = {
        key: getattr(dataset, key) for key in ("name", "title", "licence", "citation", "url", "layout")
    }
    if cohort is not None:
        plain |= {
            "cases": len(cohort),
            "patients": int(cohort.clusters.n_unique()),
            "roles": sorted(cohort.roles),
            "columns": {
                name: {"type": str(kind), "unknown": cohort.table[name].null_count()}
                for name, kind in cohort.table.schema.items()
            },
            "notes": list(cohort.notes),
        }
    if json:
        print(json_.dumps(plain, indent=1))
        return
    for key, value in plain.items():
        if key == "columns":
            print("columns")
            for name, about in value.items():
                print(f"  {name:<28} {about['type']:<16} {about['unknown']} unknown")
        elif isinstance(value, list) and key == "notes":
            print("notes")
            for note in value:
                print(f"  - {note}")
        elif isinstance(value, str) and "\n" in value:
            print(key)
            print("\n".join(f"  {line}" for line in value.strip("\n").splitlines()))
        else:
            print(f"{key:<10} {', '.join(value) if isinstance(value, list) else value}")


def known(name: str, told: Sequence[Known], *, json: bool) -> None:
    """Print what the living review knows about a dataset."""
    if json:
        print(json_.dumps({"dataset": name, "known": [vars(one) for one in told]}, indent=1))
        return
    for one in told:
        print(f"{one.severity}: {one.text}{f' [{one.source}]' if one.source else ''}")
    if not told:
        print(f"{name}: the review warns of nothing; that is not to say that there is nothing")


def problems(cohort: Cohort, found: list[str], told: Sequence[Known], *, json: bool) -> int:
    """Print what is known of a dataset, and what its folder lacks; return the exit code, 1 if it lacks something."""
    about = {
        "dataset": cohort.name,
        "cases": len(cohort),
        "patients": int(cohort.clusters.n_unique()),
        "roles": sorted(cohort.roles),
        "problems": found,
        "known": [vars(one) for one in told],
    }
    if json:
        print(json_.dumps(about, indent=1))
        return 1 if found else 0
    if told:
        known(cohort.name, told, json=False)
    if found:
        text(found)
    else:
        print(
            f"{cohort.name}: complete ({about['cases']:,} cases, {about['patients']:,} patients, "
            f"{', '.join(cohort.roles)})"
        )
    return 1 if found else 0


def json_of(value: Any) -> None:
    """Print plain values as JSON."""
    print(json_.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of texts under their headings."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    Terminal().print(shown)


def warnings(found: Iterable[Any]) -> None:
    """Print what a review knows about datasets, a line each, with its source."""
    for one in found:
        source = f" [{', '.join(source.slug for source in one.sources)}]" if one.sources else ""
        print(f"{one.severity}: {one.dataset}: {one.text}{source}")


def text(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)


def _strict(value: Any) -> Any:
    """Return the value as strict JSON has it: what is not defined is ``null``, an infinite distance ``"inf"``."""
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value
