"""`medaudit review`: the living review of datasets: what is known about them, who found it, and how it got there."""

from __future__ import annotations

import typer

from medaudit.cli.review import contributing, keeping, living, reading

app = typer.Typer(
    help="The living review: what is known about datasets, who found it; propose, review, publish, serve.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.command("init")(keeping.init)
app.command("search")(reading.search)
app.command("show")(reading.show_)
app.command("check")(reading.check)
app.command("import")(contributing.import_)
app.command("queue")(contributing.queue)
app.command("diff")(contributing.diff)
app.command("accept")(contributing.accept)
app.command("reject")(contributing.reject)
app.command("retire")(contributing.retire)
app.command("person")(keeping.person)
app.command("release")(keeping.release)
app.command("changes")(reading.changes)
app.command("restore")(keeping.restore)
app.command("export")(reading.export)
app.command("build-site")(keeping.build_site)
app.command("serve")(keeping.serve)
app.command("audit-log")(keeping.audit_log)
app.command("backup")(keeping.backup)
app.command("migrate")(keeping.migrate)
app.command("recompute")(living.recompute)
app.command("query")(living.query_)
app.command("harvest")(living.harvest)
app.command("screen")(living.screen)
app.command("duplicates")(living.duplicates)
app.command("retractions")(living.retractions)
app.command("citations")(living.citations)
app.command("mentions")(living.mentions)
app.command("method")(reading.method)


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
