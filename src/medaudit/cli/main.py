"""The command line: `medaudit VERB`. Each verb is one small file; an error a user can cause is one line."""

from __future__ import annotations

import os
import sys

import typer

from medaudit import __version__
from medaudit.cli import (
    counterfactuals,
    data,
    demo,
    diagnose,
    explain,
    labels,
    metrics,
    ood,
    pretrain,
    probe,
    prototypes,
    publish,
    report,
    review,
    ruler,
    scores,
    serve,
    slug,
    vae,
)
from medaudit.errors import DataError, UsageError, one_line

app = typer.Typer(
    name="medaudit",
    help="Audit the trustworthiness of medical-imaging AI: labels, models, generators and explanations.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("labels")(labels.labels)
app.command("scores")(scores.scores)
app.command("ruler")(ruler.ruler)
app.command("diagnose")(diagnose.diagnose)
app.command("ood")(ood.ood)
app.command("pretrain")(pretrain.pretrain)
app.command("probe")(probe.probe)
app.command("vae")(vae.vae)
app.command("slug")(slug.slug)
app.add_typer(prototypes.app, name="prototypes")
app.command("counterfactuals")(counterfactuals.counterfactuals)
app.add_typer(explain.app, name="explain")
app.command("metrics")(metrics.metrics)
app.add_typer(data.app, name="data")
app.command("report")(report.report)
app.command("publish")(publish.publish)
app.add_typer(review.app, name="review")
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"medaudit {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, with 2 for a mistake in the call, with 1 for bad data."""
    # Not `app(...)`: typer's own loop turns a Ctrl-C into a silent 130 and a closed pipe into a failure.
    command = typer.main.get_command(app)
    try:
        with command.make_context("medaudit", list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)
            sys.stdout.flush()  # here, where a closed pipe is understood, and not when Python ends
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.TyperException as error:
        _stop(error.format_message(), error.exit_code)
    except UsageError as error:
        _stop(str(error), 2)
    except DataError as error:
        _stop(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        _stop("stopped; what was measured is kept, and the same command continues where it was", 130)
    except BrokenPipeError:  # `medaudit ... | head` closed our output: that is the reader's right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        sys.exit(0)
    except OSError as error:
        _stop(_of_the_system(error), 1)
    sys.exit(0)


def _of_the_system(error: OSError) -> str:
    """Return what the operating system refused, where no room knew how to say it better: a full disk, a permission."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}; mend that and run the same command again"


def _stop(message: str, code: int) -> None:
    # What a file holds may be quoted: nothing of it may move the cursor, colour the line or turn its reading around.
    print(f"medaudit: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
