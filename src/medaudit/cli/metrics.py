"""`medaudit metrics`: the numbers of one pair of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def metrics(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Reference mask.")],
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="Mask to compare with it.")],
    spacing: Annotated[
        str | None,
        typer.Option(metavar="MM", help="Pixel spacing for formats without one: 0.8 or '0.8;0.8;1.1'."),
    ] = None,
    label: Annotated[
        list[int], typer.Option("--label", min=1, help="Labels to compare in label maps; repeat for several.")
    ] = [],
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill closed outlines before comparing (HC18 publishes them).")
    ] = False,
    tolerance: Annotated[list[float], typer.Option("--tolerance-mm", help="Tolerances of NSD, mm.")] = [
        1.0,
        2.0,
    ],
    surface: Annotated[str, typer.Option(help="Surface distances by 'voxel' centres or by surface 'area'.")] = "voxel",
    hd95: Annotated[str, typer.Option(help="HD95 of both directions 'pooled', or the 'max' of the two.")] = "pooled",
    empty: Annotated[str, typer.Option(help="Empty masks: 'nan', 'penalise' or 'ignore'.")] = "nan",
    json: Annotated[bool, typer.Option("--json", help="Print JSON; a number that is not defined is null.")] = False,
) -> None:
    """Measure one mask against another: Dice, IoU, HD95, ASSD, NSD, volumes, lesions, shape.

    Example: medaudit metrics expert.nii.gz automatic.nii.gz --json
    """
    from medaudit.audits.measuring import one_case as compare
    from medaudit.cli import show

    show.numbers(
        compare.pair(
            reference, prediction, spacing=spacing, labels=tuple(label), fill=fill, tolerances_mm=tuple(tolerance),
            surface=surface, hd95=hd95, empty=empty,
        ),
        json=json,
    )  # fmt: skip
