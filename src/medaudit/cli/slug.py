"""`medaudit slug`: does a generator know when it does not know, and where in an image?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def slug(
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="A finished run of 'medaudit vae'.")],
    out: options.RunFolder,
    shares: Annotated[
        str | None,
        typer.Option(help="Of the run's shares, whose models are asked; default: the lowest and the balanced one."),
    ] = None,
    edits: Annotated[
        str,
        typer.Option(
            help="What is painted on test images: ink, ruler, patch, gel_bubbles, dark_corner, control; or 'none'."
        ),
    ] = "ink,ruler,patch,control",
    edited_images: Annotated[
        int, typer.Option("--edited-images", min=1, help="How many test images are painted on, at most.")
    ] = 100,
    artefact: Annotated[
        list[str],
        typer.Option(
            "--artefact", metavar="COLUMN", help="A column of the cases that says 'yes' where a real artefact is."
        ),
    ] = [],
    rank: Annotated[int, typer.Option("--rank", min=1, help="Eigenpairs of the GGN that are kept.")] = 50,
    images: Annotated[
        int, typer.Option("--images", min=1, help="Training images that the GGN is summed over, at most.")
    ] = 1_000,
    also: Annotated[
        list[str],
        typer.Option(
            "--also",
            help="A score that needs a training of its own for each model: swag, online_laplace, dropout; repeat.",
        ),
    ] = [],
    params: Annotated[str, typer.Option(help="Parameters of the posterior: 'all', 'decoder' or both.")] = "all,decoder",
    weights: Annotated[
        str, typer.Option(help="'eigenvalue', or 'projector': what training saw counts as certain.")
    ] = "eigenvalue",
    probes: Annotated[int, typer.Option("--probes", min=4, help="Probes for each image.")] = 32,
    latent_draws: Annotated[
        int, typer.Option("--latent-draws", min=2, help="Codes drawn for the latent Monte Carlo score.")
    ] = 32,
    pixel_maps: Annotated[
        bool, typer.Option("--pixel-maps", help="Keep SLUG's maps of all test images, as maps/*/slug.npy.")
    ] = False,
    metric: Annotated[
        str | None, typer.Option(help="The error that scores are to follow; default: squared_error.")
    ] = None,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that score (-1: one a core).")] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find whether a VAE's uncertainty follows its errors, flags a neglected group, and finds foreign content.

    Fits SLUG's posterior for the models of an earlier run, scores test images and images with painted ink, rulers and
    patches, and compares it with the encoder's variance and every other score. Writes a report. A run that was stopped
    goes on where it was.

    Example: medaudit slug --run runs/vae --pixel-maps --out runs/slug
    """
    from medaudit.audits.generative_uncertainty.findings import cards
    from medaudit.audits.generative_uncertainty.run import uncertainty_of_run
    from medaudit.audits.generative_uncertainty.settings import Settings
    from medaudit.cli import show, sources

    settings = Settings(
        shares=None if shares is None else sources.numbers(shares, "--shares"),
        edits=() if edits == "none" else tuple(part.strip() for part in edits.split(",")),
        edited_images=edited_images, artefacts=tuple(artefact), rank=rank, images=images, also=tuple(also),
        params=tuple(part.strip() for part in params.split(",")), weights=weights, probes=probes,
        latent_draws=latent_draws, pixel_maps=pixel_maps, metric=metric, device=device, seed=seed, resamples=resamples,
        min_patients=min_patients,
    )  # fmt: skip
    result = uncertainty_of_run(run, settings, out=out, jobs=jobs, progress=not quiet)
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=cards(result.findings))
