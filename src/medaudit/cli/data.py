"""`medaudit data`: which datasets are known, what one holds, and whether its folder is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List the known datasets, describe one, check its folder.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The dataset's folder.")]
Name = Annotated[str, typer.Argument(metavar="DATASET", help="A name from `medaudit data list`.")]


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(json: Json = False) -> None:
    """List the datasets and simulators that `--dataset` and `--simulate` know.

    Example: medaudit data list
    """
    from medaudit import datasets
    from medaudit.cli import show

    show.datasets(datasets.DATASETS, datasets.SIMULATORS, json=json)


@app.command()
def describe(name: Name, data: Data = None, json: Json = False) -> None:
    """Say where a dataset is from, what it asks of its users, its layout; with --data also what the folder holds.

    Example: medaudit data describe hc18 --data hc18
    """
    from medaudit import datasets
    from medaudit.cli import show

    show.description(datasets.find(name), datasets.load(name, data) if data else None, json=json)


@app.command()
def check(
    name: Name,
    data: Data = None,
    json: Json = False,
) -> None:
    """Say what is known about a dataset, and check its folder; exit code 1 if a file is missing.

    A DATASET that medaudit cannot read is looked up too: leave --data out.

    Example: medaudit data check hc18 --data hc18
    """
    from medaudit import datasets
    from medaudit.cli import show, sources
    from medaudit.errors import UsageError

    told, _ = sources.known(sources.REVIEWED_AS.get(name, (name,)))
    if data is None:
        if not told and name not in datasets.DATASETS:
            raise UsageError(f"nobody knows a dataset '{name}'; look for it with `medaudit review search {name}`")
        show.known(name, told, json=json)
        return
    cohort = datasets.load(name, data)
    raise typer.Exit(show.problems(cohort, datasets.check(cohort), told, json=json))
