"""`medaudit explain`: what does this explanation assume, and what if we assumed otherwise?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli.explain_audit import audit, card, replay
from medaudit.errors import UsageError

app = typer.Typer(
    help="What an explanation assumes, what one small change changes of that, and which ones go with your question.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Framework = Annotated[
    str, typer.Option("--framework", metavar="NAME", help="mattioli2025, barad2026, or a YAML file of your own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pixels = Annotated[int, typer.Option("--pixels", min=1, help="Pixels of an image, for the cost where each is asked.")]


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(
    family: Annotated[str | None, typer.Option("--family", metavar="F", help="Only presets of this family.")] = None,
    paradigm: Annotated[
        str | None, typer.Option("--paradigm", metavar="P", help="Only those that reach into it, most of them first.")
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="Only what medaudit can run.")] = False,
    framework: Framework = "mattioli2025",
    json: Json = False,
) -> None:
    """List the families and their presets, where each stands, and which medaudit can run.

    Example: medaudit explain list --paradigm contemporary-realist --runs
    """
    from medaudit.audits.explanations import advice
    from medaudit.cli import explained, show
    from medaudit.explanation.assumptions import framework as framework_

    within = framework_(framework)
    found = advice.presets(within, family=family, paradigm=paradigm, runs=runs)
    if json:
        show.json_of(found)
    else:
        explained.presets(found, within)


@app.command("show")
def show_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A preset, or a family with choices: 'lime(absence=black)'.")
    ],
    absence: Annotated[
        str | None, typer.Option("--absence", metavar="WORLD", help="Short for --set absence=WORLD: black, blur, ...")
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="CHOICE=VALUE", help="Another choice, or a parameter: shown=absolute. Repeat."),
    ] = [],
    framework: Framework = "mattioli2025",
    pixels: Pixels = 50_176,
    json: Json = False,
) -> None:
    """Show one configuration: its twelve choices, what must be assumed, where it stands, what may be claimed.

    Example: medaudit explain show integrated-gradients --absence white --set nodes=64
    """
    from medaudit.audits.explanations import advice
    from medaudit.cli import explained, show
    from medaudit.explanation.assumptions import framework as framework_

    also = advice.choices(set_)
    if absence is not None:
        if "absence" in also:
            raise UsageError("--absence and --set absence=... say the same thing twice; give one")
        also["absence"] = absence
    found = advice.described(*advice.configuration_of(name, also), framework_(framework), pixels=pixels)
    if json:
        show.json_of(found)
    else:
        explained.configuration(found)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A preset, or a family with choices.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: 'integrated-gradients(absence=white)'.")],
    framework: Framework = "mattioli2025",
    json: Json = False,
) -> None:
    """Show what changes from one configuration to another: choices, what must be assumed, where it stands.

    Example: medaudit explain diff ig-black 'integrated-gradients(absence=white)'
    """
    from medaudit.audits.explanations import advice
    from medaudit.cli import explained, show
    from medaudit.explanation.assumptions import framework as framework_

    found = advice.compared(advice.configuration_of(a), advice.configuration_of(b), framework_(framework))
    if json:
        show.json_of(found)
    else:
        explained.difference(found)


@app.command()
def advise(
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", help="Your answers: `medaudit explain questions --write FILE`."),
    ] = None,
    clinical: Annotated[
        str | None,
        typer.Option("--clinical", metavar="PRESET", help="Answers to start from: lesion-detection, regulation, ..."),
    ] = None,
    access: Annotated[
        str | None, typer.Option("--access", help="What can be had: outputs, gradients, architecture or intrinsic.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="N", help="Forward passes a case; a backward pass is two.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of the data: images, tables or graphs.")] = None,
    claim: Annotated[
        list[str], typer.Option("--claim", metavar="CLAIM", help="What you want to say with it: localisation. Repeat.")
    ] = [],
    runs: Annotated[bool, typer.Option("--runs", help="Only what medaudit can run.")] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Configurations that are told in full.")] = 5,
    framework: Framework = "mattioli2025",
    pixels: Pixels = 50_176,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Folder of the run: report.html, advice.json.")
    ] = None,
    json: Json = False,
) -> None:
    """Advise: from your answers to where you stand, to the configurations that go with it, and what each assumes.

    Contradictions are told, and of what does not go with your answers the fewest changes that would.

    Example: medaudit explain advise --clinical lesion-detection --access gradients --budget 500 --out runs/advice
    """
    from medaudit.audits.explanations import advice
    from medaudit.cli import explained, show
    from medaudit.explanation.assumptions import framework as framework_
    from medaudit.explanation.assumptions import registry

    if answers is None and clinical is None:
        raise UsageError(
            "say what you know: --answers FILE (`medaudit explain questions --write FILE` makes one), or --clinical "
            f"{', '.join(registry().questions.situations)}"
        )
    within = framework_(framework)
    given = advice.joined(clinical, advice.answers_in(answers) if answers is not None else {})
    found = advice.advised(
        given, clinical=clinical, within=within, access=access, budget=budget, data=kind, claims=claim, runs=runs,
        pixels=pixels,
    )  # fmt: skip
    if out is not None:
        from medaudit.audits.explanations.advice_page import write_advice

        asked = {"access": access, "budget": budget, "kind": kind, "runs": runs, "pixels": pixels, "top": top}
        write_advice(found, asked, out=out)
    if json:
        show.json_of(found.as_dict())
    else:
        explained.advice(found, top=top, out=out)


@app.command()
def questions(
    clinical: Annotated[
        str | None, typer.Option("--clinical", metavar="PRESET", help="Fill in what one would start from for it.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write them there, a YAML file.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the questions with their answers, as YAML to fill in.

    Example: medaudit explain questions --clinical regulation --write answers.yaml
    """
    from medaudit.audits.explanations import advice
    from medaudit.cli import show

    text = advice.to_fill_in(clinical)
    if write is not None:
        from medaudit.report.atomic import write_atomically

        if write.exists():
            raise UsageError(f"{write} is there already, and may hold answers; choose another --write")
        write_atomically(write, text.encode())
    if json:
        show.json_of(advice.questionnaire())
    elif write is not None:
        print(f"{write}: answer what you know, then medaudit explain advise --answers {write}")
    else:
        print(text, end="")


app.command("audit")(audit)
app.command("card")(card)
app.command("replay")(replay)
