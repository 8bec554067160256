"""`medaudit pretrain`: a backbone of one's own from images without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options
from medaudit.errors import UsageError


def pretrain(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]", help="With --export: the run that is read, and the folder that is written."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|LIST",
            help="A folder of images or DICOM clips, a list of paths, a table with `path`, or what `data shrink` made.",
        ),
    ] = None,
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: fetal-ultrasound.")
    ] = None,
    plant: Annotated[str, typer.Option(metavar="CAUSE", help="With --simulate: what is planted.")] = "crossed",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 2_000,
    image: options.ModelImage = None,
    patient: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Finds the patient in a path: one group, as '^(\\d+)_'."),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(help="smoke, cpu-tiny, cpu-small, vit-s-small-data, or the paper's nets: vit-s, vit-b, vit-l."),
    ] = "cpu-tiny",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps; default: the preset's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help="Images a step, over all devices; default: the preset's.")
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            help="'paper': what the released code did; 'fixed': what was meant; default: the preset as it is."
        ),
    ] = None,
    ultrasound: Annotated[
        bool, typer.Option("--ultrasound", help="Also vary gain along the depth, shadows and gamma.")
    ] = False,
    knn: Annotated[
        str | None,
        typer.Option(metavar="ATTRIBUTE[:EDGES]", help="Classes that a kNN is asked for while it trains, to watch it."),
    ] = None,
    out: options.Out = None,
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write RUN's backbone to OUT instead: huggingface.")
    ] = None,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    devices: Annotated[int, typer.Option("--devices", min=1, help="Processes that train, a device each.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines, under torchrun or SLURM.")] = 1,
    strategy: Annotated[str, typer.Option(help="Of several processes: auto, ddp or fsdp.")] = "auto",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes a device that read frames.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pretrain DINOv2 on images without labels, watch it, and keep the teacher.

    Shrinks the images once, trains student and teacher, and stops by itself where it collapses or does not learn.
    Writes a report and a backbone that `medaudit probe` reads. A run that was stopped goes on where it was.

    Example: medaudit pretrain --images frames/ --preset cpu-tiny --out runs/own
    """
    if export is not None:
        _export(export, folders or [], quiet)
        return
    if folders:
        raise UsageError(f"'{folders[0]}' is not asked for; give --images, and --out for the run")
    if out is None:
        raise UsageError("give --out RUN, the folder that the backbone is written to")
    from medaudit.audits.pretraining.pretrain_run import Where, pretrain_images
    from medaudit.cli import show, sources
    from medaudit.training.dinov2.recipe import PRESETS, faithful

    if preset not in PRESETS:
        raise UsageError(f"no preset is called '{preset}'; there are: {', '.join(PRESETS)}")
    recipe = PRESETS[preset] if fidelity is None else faithful(PRESETS[preset], fidelity)
    steps, batch = steps or recipe.steps, batch_size or recipe.batch_size
    recipe = replace(
        recipe, steps=steps, batch_size=batch, epochs=min(recipe.epochs, steps),
        crops=replace(recipe.crops, ultrasound=ultrasound),
    )  # fmt: skip
    if images is not None:
        if any(given is not None for given in (dataset, cases, simulate, knn)):
            raise UsageError("--images says where the images are; leave --dataset, --cases, --simulate and --knn out")
        source: object = images
    else:
        source = sources.cohort(
            dataset=dataset, data=data, cases=cases, about=[], simulate=simulate, plant=plant, size=size, seed=seed,
            out=out, roles={"image": image}, cluster=None, label=None, jobs=jobs, progress=not quiet,
        )  # fmt: skip
    result = pretrain_images(
        source, recipe, out=out, seed=seed, patient=patient, knn=knn, jobs=jobs, progress=not quiet,  # type: ignore
        where=Where(device, devices, nodes, strategy, workers),
    )  # fmt: skip
    if result is not None:
        show.findings(result.findings, out=out, json=json, quiet=quiet, first=result.findings)


def _export(kind: str, folders: list[Path], quiet: bool) -> None:
    from medaudit.networks.backbones import open_backbone
    from medaudit.networks.vit import ViT
    from medaudit.networks.vit_weights import write_huggingface

    if kind != "huggingface":
        raise UsageError(f"--export {kind}: expected huggingface")
    if len(folders) != 2:
        raise UsageError("--export huggingface needs two folders, RUN and OUT")
    found = open_backbone(folders[0])
    if not isinstance(found.net, ViT):
        raise UsageError(f"{folders[0]} is no vision transformer; only those can be exported")
    write_huggingface(found.net, folders[1], found.preprocessing)
    if not quiet:
        typer.echo(f"written: {folders[1]}")
