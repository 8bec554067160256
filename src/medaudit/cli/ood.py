"""`medaudit ood`: which uncertainty, trained on which task, notices which shift, and may it gate a prediction?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def ood(
    out: options.RunFolder,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="COLUMN[:EDGES]",
            help="What a model is trained to tell: a column, a number cut at edges (weeks:28), or two crossed "
            "(plane*device). Repeat for several; the first one's prediction is gated.",
        ),
    ],
    ood: Annotated[
        list[str],
        typer.Option(
            "--ood",
            metavar="EXPRESSION",
            help="Which cases are out of distribution: 'device == \"D\"', 'weeks < 24', 'plane in (\"femur\", "
            '"thorax")\'. Repeat for several; what none matches is in distribution.',
        ),
    ] = [],
    shift: Annotated[
        list[str],
        typer.Option("--shift", help="Of each --ood, in order: 'image', 'anatomy' or 'mixed'."),
    ] = [],
    acquire: Annotated[
        list[str],
        typer.Option(
            "--acquire",
            metavar="NAME[:SEVERITIES]",
            help="Out of distribution: the test images themselves, acquired anew: gain, depth_attenuation, "
            "portable_scanner:1,3,5 ... Repeat for several.",
        ),
    ] = [],
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: fetal-ultrasound.")
    ] = None,
    plant: Annotated[
        str, typer.Option(metavar="CAUSE", help="With --simulate: crossed, nested, sizes, none.")
    ] = "crossed",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 2_400,
    image: options.ModelImage = None,
    ood_dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another dataset, all of it out of distribution, with --ood-data."),
    ] = None,
    ood_data: Annotated[Path | None, typer.Option(metavar="DIR", help="The other dataset's folder.")] = None,
    predict: Annotated[
        list[str],
        typer.Option("--predict", metavar="TASK", help="Whose predictions are gated; default: the first task."),
    ] = [],
    methods: Annotated[
        str,
        typer.Option(
            metavar="PRESET|FILE|NAMES",
            help="Which methods: 'fetal-ood-8' (our reconstruction of the paper's eight), a TOML file like it, names "
            "with commas ('softmax,knn,laplace.epistemic'), or 'all'. The first one's predictions are gated.",
        ),
    ] = "fetal-ood-8",
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Do not train: take the scores of this table (case_id, task, seed, method, score, value, prediction).",
        ),
    ] = None,
    match: Annotated[
        str,
        typer.Option(help="Task whose class proportions are made equal on both sides: 'auto', 'none' or its name."),
    ] = "auto",
    preset: options.Preset = "cpu",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each model, from other seeds.")] = 3,
    split: Annotated[str, typer.Option(help="Shares of patients for training, validation and test.")] = "0.5,0.15,0.35",
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Never mirror images: for a label that says which side.")
    ] = False,
    ood_cost: Annotated[
        float, typer.Option("--ood-cost", help="Cost of accepting a case of an unknown class; an error costs the rest.")
    ] = 0.5,
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
    min_patients: Annotated[
        int, typer.Option("--min-patients", min=2, help="Sets with fewer patients on a side are not judged.")
    ] = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find which uncertainty notices which shift, and which one should gate a prediction.

    Trains a classifier for each task from several seeds, scores test and shifted cases by many methods, and compares
    them: who notices the shift, whose refusals are right, and whether a trivial cue would have done. Writes a report.
    A run that was stopped goes on where it was.

    Example: medaudit ood --simulate fetal-ultrasound --task plane --task device --ood 'device == "D"' --shift image
    --out runs/ood
    """
    from medaudit.audits.ood.run import ood_cohort
    from medaudit.audits.ood.settings import Settings
    from medaudit.cli import show, sources

    if ood_dataset is not None:
        ood, shift = [*ood, "dataset"], [*shift, "anatomy"] if len(shift) == len(ood) else shift
    settings = Settings(
        tasks=tuple(task), ood=tuple(ood), shifts=tuple(shift), acquire=tuple(acquire), methods=methods, match=match,
        preset=preset, seeds=seeds, split=sources.shares(split), flip=not no_flip, ood_cost=ood_cost, device=device,
        seed=seed, resamples=resamples, min_patients=min_patients,
    )  # fmt: skip
    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
        roles={"image": image}, cluster=cluster, label=None, jobs=jobs, progress=not quiet,
    )  # fmt: skip
    if ood_dataset is not None:
        cohort, settings = sources.against(cohort, settings, ood_dataset, ood_data)
    result = ood_cohort(
        cohort, settings, out=out, predict=tuple(predict), jobs=jobs, progress=not quiet,
        scores=None if scores is None else sources.table(scores),
    )  # fmt: skip
    show.findings(result.findings, out=out, json=json, quiet=quiet)
