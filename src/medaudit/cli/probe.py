"""`medaudit probe`: what a backbone's frozen features are worth, against opponents."""

from __future__ import annotations

from typing import Annotated

import typer

from medaudit.cli import options
from medaudit.errors import UsageError


def probe(
    out: options.RunFolder,
    backbone: Annotated[
        list[str],
        typer.Option(
            "--backbone",
            metavar="RUN|FILE",
            help="A pretraining's run, a file of DINOv2 or UltraDINO, a Hugging Face folder. Repeat for several: those "
            "of one title are seeds of one pretraining.",
        ),
    ],
    task: Annotated[
        str,
        typer.Option(metavar="ATTRIBUTE[:EDGES]", help="The classes that are predicted, or 'segmentation'."),
    ],
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: fetal-ultrasound.")
    ] = None,
    plant: Annotated[str, typer.Option(metavar="CAUSE", help="With --simulate: what is planted.")] = "crossed",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 2_000,
    image: options.ModelImage = None,
    reference: options.Reference = None,
    label: options.Label = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Opponents, with commas: lite0 (ImageNet), hog, pixels, random, or further backbones.",
        ),
    ] = "lite0,hog,pixels,random",
    scratch: Annotated[
        int, typer.Option("--scratch", min=0, help="Epochs of the same net from scratch, with labels; 0: none.")
    ] = 0,
    head: Annotated[str, typer.Option(help="Of segmentation, on frozen patches: linear, conv or upernet.")] = "linear",
    head_steps: Annotated[int, typer.Option("--head-steps", min=1, help="Training steps of that head.")] = 400,
    shots: Annotated[str, typer.Option(help="Labelled cases a class of the few-shot curves.")] = "5,20",
    draws: Annotated[int, typer.Option("--draws", min=1, help="Draws of each.")] = 5,
    split: Annotated[
        str, typer.Option(metavar="SHARES|COLUMN", help="Training, validation and test patients, or the column.")
    ] = "0.6,0.15,0.25",
    margin: Annotated[float, typer.Option("--margin", help="The smallest gain that matters.")] = 0.02,
    seeds: Annotated[
        int,
        typer.Option("--seeds", min=1, help="Of what is drawn or trained here: random nets, nets from scratch, heads."),
    ] = 3,
    side: Annotated[int, typer.Option("--side", min=16, help="Pixels of the stored squares.")] = 160,
    cluster: options.Cluster = None,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find what frozen features are worth for a task, and whether pretraining one's own was worth it.

    The same probe on your backbone and on each opponent, judged on the same test patients; looks for test images
    among those that were pretrained on. Writes a report. A run that was stopped goes on where it was.

    Example: medaudit probe --backbone runs/own --dataset hc18 --data hc18 --task trimester --out runs/probe
    """
    from medaudit.audits.pretraining.run import probe_cohort
    from medaudit.audits.pretraining.settings import ProbeSettings
    from medaudit.cli import show, sources

    column = None if split[:1].isdigit() or split.startswith(".") else split
    settings = ProbeSettings(
        own=tuple(backbone), task=task,
        against=tuple(name.strip() for name in against.split(",") if name.strip()), scratch=scratch,
        head=head, head_steps=head_steps, side=side,
        shots=_whole(shots, "--shots"), draws=draws,
        shares=sources.shares(split) if column is None else (0.6, 0.15, 0.25), split_column=column, margin=margin,
        resamples=resamples, min_patients=min_patients, seeds=seeds, seed=seed, device=device,
    )  # fmt: skip
    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
        roles={"image": image, "reference": reference}, cluster=cluster, label=label, jobs=jobs, progress=not quiet,
    )  # fmt: skip
    result = probe_cohort(cohort, settings, out=out, jobs=jobs, progress=not quiet)
    first = [f for f in result.findings if f.id.startswith(("not_worth_it", "leak"))]
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=first)


def _whole(text: str, option: str) -> tuple[int, ...]:
    """Return whole numbers from ``5,20``; none from an empty text."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"{option} {text}: expected whole numbers with commas, as 5,20") from None
