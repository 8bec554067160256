"""`medaudit data`: which datasets are known, what one holds, whether its folder is complete; images made small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options

app = typer.Typer(
    help="List the known datasets, describe one, check its folder, shrink images for pretraining.",
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


@app.command()
def shrink(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder of images, a list of paths, or a table of them.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    side: Annotated[int, typer.Option("--side", min=16, help="Pixels along each side of a frame.")] = 256,
    framing: Annotated[
        str, typer.Option("--framing", help="'letterbox' pads, 'crop' takes the middle, 'stretch' does neither.")
    ] = "letterbox",
    patient: Annotated[
        str | None,
        typer.Option("--patient", metavar="REGEX", help="Finds the patient in a path; one group: '^([0-9]+)_'."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="SOURCE is the folder of this dataset.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = 1,
    json: Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Shrink unlabelled images, once, into the frames that a pretraining reads: grey bytes, one size, one file.

    What cannot be used is skipped and named. A call that was stopped goes on where it was.

    Example: medaudit data shrink archive frames --side 256 --patient '^([0-9]+)_' --jobs 4
    """
    from medaudit import datasets
    from medaudit.cli import show
    from medaudit.training import frames
    from medaudit.workers import bar

    cohort = datasets.load(dataset, source) if dataset is not None else source
    with bar("shrinking images", not (quiet or json)) as shown:
        found = frames.shrink(
            cohort, out, side=side, framing=framing, patient=patient, jobs=jobs,
            progress=lambda stream: shown(stream, total=len(stream)),
        )  # fmt: skip
    if json:
        show.json_of(frames.described(found))
    elif not quiet:
        show.text(frames.told(found))
