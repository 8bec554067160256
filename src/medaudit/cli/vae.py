"""`medaudit vae`: does a generator draw all groups equally well, and does it know when it does not?"""

from __future__ import annotations

from typing import Annotated

import typer

from medaudit.cli import options


def vae(
    out: options.RunFolder,
    group: Annotated[
        str,
        typer.Option(
            metavar="ATTRIBUTE[:EDGE]",
            help="The two groups: a column of two values (tone), or a number cut at an edge (fitzpatrick_scale:3).",
        ),
    ],
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: Annotated[str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: skin.")] = None,
    plant: Annotated[
        str, typer.Option(metavar="CAUSE", help="With --simulate: fair, pairs, confounded, harder, none.")
    ] = "fair",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 2_000,
    image: options.ModelImage = None,
    minority: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Whose share of the training images is swept; default: the smaller group."),
    ] = None,
    shares: Annotated[
        str, typer.Option(help="Shares of that group among the training images, whose number stays the same.")
    ] = "0,0.25,0.5,0.75,1",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each share, from other seeds.")] = 3,
    train: Annotated[
        int | None, typer.Option("--train", min=8, help="Training images; default: as many as every share can have.")
    ] = None,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of patients that is only tested.")] = 0.3,
    standardise: Annotated[
        str | None,
        typer.Option(metavar="ATTRIBUTE", help="Kinds of cases that may explain a gap: the diagnosis, the site."),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="The error that is judged first: normalised_error, squared_error, absolute_error, dssim, delta_e or "
            "perceptual; the others are shown beside it."
        ),
    ] = "normalised_error",
    margin: Annotated[
        float, typer.Option("--margin", help="The smallest gap that matters, as a share of the error.")
    ] = 0.1,
    preset: options.Preset = "cpu",
    beta: Annotated[float, typer.Option(help="Weight of the KL divergence; 1 is the evidence bound.")] = 1.0,
    perceptual: Annotated[float, typer.Option(help="Weight of the perceptual distance in training; 0: none.")] = 0.0,
    perceptual_weights: Annotated[
        str | None,
        typer.Option(
            metavar="BACKBONE:FILE", help="Your own weights: vgg16, vgg19 or alexnet; default: EfficientNet-Lite0."
        ),
    ] = None,
    no_flip: Annotated[bool, typer.Option("--no-flip", help="Never mirror images.")] = False,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Eigenpairs that SLUG keeps; 0: do not score it.")] = 30,
    probes: Annotated[int, typer.Option("--probes", min=4, help="Probes of SLUG for each image.")] = 32,
    slug_images: Annotated[
        int, typer.Option("--slug-images", min=1, help="Training images that SLUG's posterior is fitted on, at most.")
    ] = 400,
    cluster: options.Cluster = None,
    seed: options.Seed = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Processes that train and score (-1: one a core).")
    ] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find for whom a VAE works, what representation changes, and whether its uncertainty says so.

    Trains VAEs on the same number of images at several shares of a group, from several seeds, and judges fixed test
    images: the gap by several metrics, what a group's share does to it, and which uncertainty flags it. Writes a
    report. A run that was stopped goes on where it was.

    Example: medaudit vae --simulate skin --group tone --shares 0,0.5,1 --seeds 3 --preset fast --out runs/vae
    """
    from medaudit.audits.generative.findings import cards
    from medaudit.audits.generative.run import generative_cohort
    from medaudit.audits.generative.settings import Settings
    from medaudit.cli import show, sources

    settings = Settings(
        group=group, minority=minority, shares=sources.numbers(shares, "--shares"), seeds=seeds, train=train,
        test_share=test_share, standardise=standardise, metric=metric, preset=preset, beta=beta,
        perceptual=perceptual, perceptual_weights=perceptual_weights, flip=not no_flip, rank=rank, probes=probes,
        slug_images=slug_images, device=device, seed=seed, resamples=resamples, min_patients=min_patients,
        margin=margin,
    )  # fmt: skip
    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
        roles={"image": image}, cluster=cluster, label=None, jobs=jobs, progress=not quiet,
    )  # fmt: skip
    result = generative_cohort(cohort, settings, out=out, jobs=jobs, progress=not quiet)
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=cards(result.findings, metric))
