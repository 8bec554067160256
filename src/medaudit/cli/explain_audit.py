"""`medaudit explain audit`, `card`, `replay`: the part of the verb that asks a model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaudit.cli import options
from medaudit.errors import DataError, UsageError

if TYPE_CHECKING:
    from medaudit.cohort import Cohort

Masks = Annotated[
    list[str],
    typer.Option("--mask", metavar="COLUMN|TEMPLATE", help="Where readers marked the finding; a reader each, repeat."),
]


def audit(
    out: options.RunFolder,
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Simulated images instead: lesions, chest.")
    ] = None,
    plant: Annotated[str, typer.Option(metavar="CAUSE", help="With --simulate: ruler:0.9, none.")] = "none",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many images.")] = 1_000,
    image: options.ModelImage = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="What it tells; without --model one is trained.")
    ] = None,
    class_: Annotated[
        list[str], typer.Option("--class", metavar="VALUE", help="The values of it that are told apart; repeat.")
    ] = [],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="FILE", help="Yours: FILE.py:NAME, a function that returns a torch module; or "
                     "a classifier.pt of a run."),
    ] = None,
    mask: Masks = [],
    marker: Annotated[
        str | None,
        typer.Option("--marker", metavar="COLUMN|TEMPLATE", help="Where a marker lies that should not matter."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="CLASS", help="Explained; default: each image's predicted one.")
    ] = None,
    normal: Annotated[
        str | None, typer.Option("--normal", metavar="CLASS", help="Whose images are what normal means.")
    ] = None,
    pairs: Annotated[
        str, typer.Option("--pairs", metavar="P1,P5", help="Pairs that differ in one assumption, with commas.")
    ] = "P1,P4,P6,P7,P8,P12,P13",
    configuration: Annotated[
        list[str],
        typer.Option("--configuration", metavar="NAME", help="Tested and may license claims; cards have the first."),
    ] = ["ig-black", "ig-mean-image", "grad-cam", "occlusion-mean-colour", "kernel-shap-mean-colour"],
    factor: Annotated[
        list[str],
        typer.Option("--factor", metavar="ATOM=A,B", help="Of integrated gradients: the assumptions whose combinations "
                     "are compared. Repeat; default: absence, explanandum, shown, 24 combinations."),
    ] = [],
    explained: Annotated[int, typer.Option("--explain", min=2, help="Held-out images that are explained.")] = 32,
    side: Annotated[int, typer.Option("--side", min=8, help="Pixels of the square that images are brought to.")] = 64,
    colour: Annotated[bool, typer.Option("--colour", help="Images have three colours.")] = False,
    mean: Annotated[float, typer.Option("--mean", help="The model sees (intensity - mean) / std.")] = 0.0,
    std: Annotated[float, typer.Option("--std", help="See --mean.")] = 1.0,
    runs: Annotated[int, typer.Option("--runs", min=2, help="How often what is left to chance is drawn anew.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of the classifier's training.")] = 500,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of patients that are held out.")] = 0.4,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, help="Images that a model is asked at once; default: by memory.")
    ] = None,
    cluster: options.Cluster = None,
    seed: options.Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that read images (-1: one a core).")] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples of patients.")
    ] = 2_000,
    min_patients: Annotated[int, typer.Option("--min-patients", min=2, help="Fewer: 'cannot tell'.")] = 10,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Change one assumption of an explanation at a time, on your model: what of the picture was the assumption?

    Pairs with their noise, which assumption moves the answer most, the tests that each explanation passes, what may be
    claimed on its strength, and a card of each image with the explanation that disagrees most. Writes a report.

    Example: medaudit explain audit --dataset breast-lesions-usg --data BrEaST --label diagnosis_class --class benign
    --class malignant --mask reference_path --out runs/explained
    """
    from medaudit.audits.explanations.run import audit_explanations
    from medaudit.audits.explanations.settings import FACTORS, ExplainSettings
    from medaudit.cli import show

    settings = ExplainSettings(
        label=label, classes=tuple(class_), pairs=tuple(part.strip() for part in pairs.split(",") if part.strip()),
        configurations=tuple(configuration), factors=_factors(factor) or dict(FACTORS),
        normal=normal, target=target, explained=explained, side=side, colours=3 if colour else 1, mean=mean, std=std,
        runs=runs, steps=steps, test_share=test_share, device=device, seed=seed, resamples=resamples,
        min_patients=min_patients, at_once=at_once,
    )  # fmt: skip
    found = _cohort(dataset, data, cases, about, simulate, plant, size, image, mask, marker, cluster, seed, out, jobs,
                    quiet)  # fmt: skip
    result = audit_explanations(
        found, settings, out=out, model=model, readers=tuple(f"reader-{k + 1}" for k in range(len(mask))),
        marker=marker is not None, jobs=jobs, progress=not quiet,
    )  # fmt: skip
    show.findings(result.findings, out=out, json=json, quiet=quiet, first=result.first)


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run of medaudit explain audit.")],
    case: Annotated[str | None, typer.Option("--case", metavar="ID", help="Whose card; without: list them.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write its page there.")] = None,
) -> None:
    """Print the explanation card of a case as JSON, or write its page.

    Example: medaudit explain card runs/explained --case case017 --html case017.html
    """
    from medaudit.audits.explanations.cards import FOLDER, file_name, read_card

    folder = run / FOLDER
    if not folder.is_dir():
        raise DataError(f"{run} has no cards; expected a run of medaudit explain audit")
    if case is None:
        print("\n".join(sorted(read_card(path)["case"] for path in folder.glob("*.json"))))
        return
    path = folder / f"{file_name(case)}.json"
    if not path.is_file():
        raise DataError(f"{run} has no card of case {case}; medaudit explain card {run} lists those it has")
    read_card(path)
    if html is not None:
        try:
            page = path.with_suffix(".html").read_bytes()
        except OSError:
            raise DataError(f"{run} has no page of the card of case {case}; run the same audit again") from None
        try:
            html.write_bytes(page)
        except OSError as error:
            raise DataError(f"{html} cannot be written: {error.strerror or error}") from None
        return
    print(path.read_text(encoding="utf-8"), end="")


def replay(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="A card's JSON, in its run's folder.")],
    quiet: options.Quiet = False,
) -> None:
    """Make the two maps of a card again from its run, and say whether they are the same; exit code 1 where not.

    Example: medaudit explain replay runs/explained/cards/case017.json
    """
    from medaudit.audits.explanations.run import replay_card

    if apart := replay_card(card, progress=not quiet):
        raise DataError(f"{card}: {'; '.join(apart)}")
    if not quiet:
        print(f"{card}: both maps are the same again")


def _cohort(
    dataset: str | None, data: Path | None, cases: Path | None, about: list[str], simulate: str | None, plant: str,
    size: int, image: str | None, mask: list[str], marker: str | None, cluster: str | None, seed: int, out: Path,
    jobs: int, quiet: bool,
) -> Cohort:  # fmt: skip
    from medaudit.cli import sources

    if simulate is not None:
        from medaudit.datasets import simulated_images

        if dataset is not None or cases is not None:
            raise UsageError("say where the images are: one of --dataset, --cases, or --simulate NAME")
        if data is not None or about:
            raise UsageError("--data goes with --dataset or --cases, and --about with --cases; not with --simulate")
        where = out.resolve()
        found = simulated_images(simulate, where.with_name(f"{where.name}-images"), plant=plant, size=size, seed=seed,
                                 jobs=jobs, progress=not quiet)  # fmt: skip
        for role, column in {"image": image, "marker": marker}.items():
            found = found if column is None else found.with_role(role, column)
        for k, column in enumerate(mask):
            found = found.with_role(f"reader-{k + 1}", column)
        return found if cluster is None else replace(
            found, table=found.table.with_columns(patient_id=found.column(cluster))
        )  # fmt: skip
    roles: dict[str, str | None] = {"image": image, "marker": marker}
    roles |= {f"reader-{k + 1}": where for k, where in enumerate(mask)}
    return sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=None, plant=plant, size=size, seed=seed, out=out,
        roles=roles, cluster=cluster, label=None, jobs=jobs, progress=not quiet,
    )  # fmt: skip


def _factors(some: list[str]) -> dict[str, tuple[str, ...]]:
    found = dict(_factor(text) for text in some)
    if len(found) < len(some):
        raise UsageError(f"--factor was given {len(some)} times for {', '.join(found)}; expected each assumption once")
    return found


def _factor(text: str) -> tuple[str, tuple[str, ...]]:
    atom, is_given, levels = text.partition("=")
    # Not at commas in brackets: units=grid(8),superpixel(64,10).
    some = tuple(part.strip() for part in re.split(r",(?![^(]*\))", levels) if part.strip())
    if not is_given or len(some) < 2 or len(set(some)) < len(some):
        raise UsageError(
            f"--factor {text}: expected an assumption and two levels or more, each once, as absence=black,white"
        )
    return atom.strip(), some
