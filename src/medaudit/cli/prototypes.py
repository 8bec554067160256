"""`medaudit prototypes`: what has a diffusion model learned, where and when, and is it a shortcut?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medaudit.cli import options
from medaudit.errors import UsageError

app = typer.Typer(
    help="Train a diffusion model of prototypes, look at what it learned, edit an image, audit it for shortcuts.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Model = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `medaudit prototypes train` wrote.")]
Preset = Annotated[
    str, typer.Option("--preset", help="cpu-tiny, cpu-small, cpu, gpu, paper-32, paper-64 or paper-224.")
]
Prototypes = Annotated[int, typer.Option("--prototypes", min=2, help="How many prototypes.")]
Steps = Annotated[int | None, typer.Option("--steps", min=10, help="Steps of the training; default: the preset's.")]
Side = Annotated[int | None, typer.Option("--side", min=8, help="Pixels of the square; default: the preset's.")]
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="'fast', ours, or 'paper', the released code's; default: the preset's.")
]


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def train(
    out: options.RunFolder,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="A folder of images.")] = None,
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: lesions, chest.")
    ] = None,
    plant: Annotated[str, typer.Option(metavar="CAUSE", help="With --simulate: ruler:0.9, marker:0.5, none.")] = "none",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 6_000,
    image: options.ModelImage = None,
    cluster: options.Cluster = None,
    preset: Preset = "cpu-small",
    prototypes: Prototypes = 32,
    side: Side = None,
    steps: Steps = None,
    recipe: Recipe = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="'32-true', or 'bf16-mixed': faster for wide nets where the processor multiplies "
            "bfloat16; default: the preset's.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Train nothing: look at a model as its authors publish it, ckpt.tar; with --side.",
        ),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror images by chance in training.")] = False,
    test_share: Annotated[
        float,
        typer.Option("--test-share", help="Share of patients held out, for the audit; a dataset's own split counts."),
    ] = 0.2,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = 1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a diffusion model that is conditioned on patch prototypes, without labels.

    The report shows what each prototype stands for, and says whether the code is one. A run that was stopped goes on
    where it was.

    Example: medaudit prototypes train --simulate lesions --plant ruler:0.9 --preset cpu-tiny --out runs/model
    """
    from medaudit.audits.prototypes.settings import TrainSettings
    from medaudit.audits.prototypes.train_run import recipe_for, train_prototypes
    from medaudit.cli import show, sources

    settings = TrainSettings(
        preset=preset, prototypes=prototypes, side=side, steps=steps, recipe=recipe, flip=flip, precision=precision,
        test_share=test_share,
        weights=str(weights) if weights is not None else None, device=device, seed=seed,
    )  # fmt: skip
    if weights is None:
        recipe_for(1, settings)  # what is refused is refused before images are made
    if images is not None:
        if any(given is not None for given in (dataset, cases, simulate)):
            raise UsageError("--images says where the images are; leave --dataset, --cases and --simulate out")
        cohort = sources.folder(images)
    else:
        cohort = sources.cohort(
            dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
            out=out, roles={"image": image}, cluster=cluster, label=None, jobs=jobs, progress=not quiet,
        )  # fmt: skip
    found = train_prototypes(cohort, settings, out=out, jobs=jobs, progress=not quiet)
    show.findings(found, out=out, json=json, quiet=quiet, first=found)


@app.command("show")
def show_(
    model: Model,
    out: options.RunFolder,
    prototype: Annotated[
        list[int],
        typer.Option("--prototype", metavar="J", help="Shown in full; repeat. Default: the five that vary most."),
    ] = [],
    images: Annotated[int, typer.Option("--images", min=2, help="Images that maps are drawn of.")] = 6,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show every prototype, where it is, when it appears in denoising, and what lies between and beyond images.

    Example: medaudit prototypes show runs/model --prototype 5 --out runs/shown
    """
    from medaudit.audits.prototypes.show_run import show_prototypes
    from medaudit.cli import show

    found = show_prototypes(model, out=out, prototypes=prototype, images=images)
    show.findings(found, out=out, json=json, quiet=quiet, first=found)


@app.command()
def edit(
    model: Model,
    case: Annotated[str, typer.Option("--case", metavar="ID", help="The case that is painted again.")],
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="J=VALUE", help="5=0.8 sets prototype 5; 5=+2 and 5=-1 move it by SDs. Repeat."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture, a PNG: before, after, change.")],
    json: options.Json = False,
) -> None:
    """Paint one image again with other activations, from its own noise.

    Example: medaudit prototypes edit runs/model --case SC_00001 --set 5=+2 --out edited.png
    """
    from medaudit.audits.prototypes.show_run import edit_image
    from medaudit.cli import show

    told = edit_image(model, case, dict(_change(one) for one in set_), out=out)
    show.numbers(told, json=json)


@app.command()
def audit(
    out: options.RunFolder,
    model: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="The folder that `medaudit prototypes train` wrote.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option("--attributes", metavar="TABLE", help="Attributes of that run's cases, by case_id.")
    ] = None,
    attribute: Annotated[
        list[str],
        typer.Option("--attribute", metavar="COLUMN", help="A column of yes and no; repeat. Default: all there are."),
    ] = [],
    simulate: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Instead of RUN: train on a simulated cohort, lesions or chest, and audit that."
        ),
    ] = None,
    plant: Annotated[
        str, typer.Option(metavar="CAUSE", help="With --simulate: ruler:0.9, patch:0.5, marker:0.9, none.")
    ] = "none",
    size: Annotated[
        int, typer.Option("--size", min=1, help="With --simulate: how many images are trained on.")
    ] = 6_000,
    preset: Preset = "cpu-tiny",
    prototypes: Prototypes = 32,
    steps: Steps = None,
    images: Annotated[int, typer.Option("--images", min=2, help="Images that are changed.")] = 64,
    margin: Annotated[
        float, typer.Option("--margin", help="The smallest change of an attribute's probability that matters.")
    ] = 0.1,
    captured: Annotated[
        float, typer.Option("--captured", help="AUROC from which on a prototype is said to carry an attribute.")
    ] = 0.75,
    drawn: Annotated[int, typer.Option("--drawn", min=0, help="Images painted from drawn activations; 0: none.")] = 256,
    leaks: Annotated[int, typer.Option("--leaks", min=0, help="Images that leaks are measured on; 0: none.")] = 16,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = 1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find whether a model paints one attribute along with another: a shortcut, measured.

    Needs a few hundred images with attributes of yes and no, best ones in which attributes do not go together. Writes a
    report. A run that was stopped goes on where it was.

    Example: medaudit prototypes audit --simulate lesions --plant ruler:0.9 --seed 0 --out runs/audit
    """
    from medaudit.audits.prototypes.run import audit_prototypes, audit_simulated
    from medaudit.audits.prototypes.settings import AuditSettings, TrainSettings
    from medaudit.cli import show, sources

    if (model is None) == (simulate is None):
        raise UsageError("say what to audit: the RUN of `medaudit prototypes train`, or --simulate NAME")
    settings = AuditSettings(
        attributes=tuple(attribute), images=images, margin=margin, captured=captured, drawn=drawn, leaks=leaks,
        device=device, seed=seed, resamples=resamples, min_patients=min_patients,
    )  # fmt: skip
    common: dict[str, Any] = {"out": out, "jobs": jobs, "progress": not quiet}
    if model is not None:
        table = sources.table(attributes) if attributes is not None else None
        result = audit_prototypes(model, settings, table=table, **common)
    else:
        trained = TrainSettings(
            preset=preset, prototypes=prototypes, steps=steps, test_share=0.0, device=device, seed=seed
        )
        result = audit_simulated(str(simulate), plant, size, trained, settings, **common)
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=result.first)


def _change(text: str) -> tuple[int, tuple[bool, float]]:
    """Return the prototype, and whether its change is relative and how large, from ``5=+2`` or ``5=0.8``."""
    which, _, value = text.partition("=")
    try:
        return int(which), (value[:1] in "+-" and value != "", float(value))
    except ValueError:
        raise UsageError(f"--set {text}: expected a prototype and a value, as 5=0.8, 5=+2 or 5=-1") from None
