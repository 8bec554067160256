"""`medaudit serve`: the runs of a folder and the living review as one site, to be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaudit.cli.review.opening import DEFAULT, Db

if TYPE_CHECKING:
    import socket

    from medaudit.report import Run
    from medaudit.report.site import App, Publication
    from medaudit.review.database import Database

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Runs are in it, or below it.")] = Path("runs"),
    db: Db = DEFAULT,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="The port; 0: any that is free.")] = 8765,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Show runs and the living review as one site, in a browser.

    A list of the runs below FOLDER with their reports, which of their findings the review holds, and the review's
    pages. Nothing can be changed there: `medaudit review serve` takes contributions.

    Example: medaudit serve runs --db review.sqlite
    """
    import uvicorn

    from medaudit.cli.review.opening import opened_at
    from medaudit.report import site as runs
    from medaudit.report.listing import listed
    from medaudit.review.web import app as review

    listed(folder)  # a wrong folder is said here, in one line
    with opened_at(db) as opened:
        both = joined(
            runs.create(folder, beside=(("Review", "/"),), published=lambda run: publications(opened, run)),
            review.create(opened, beside=(("Runs", runs.ROOT),), closed=True),
            names=(*LOCAL, f"[{LOCAL[-1]}]") if host in LOCAL else None,
        )
        with bound(host, port) as listening:
            port = listening.getsockname()[1]
            at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"runs are at {at}{runs.ROOT}, the review at {at}; stop it with Ctrl-C", file=sys.stderr)
            if host not in LOCAL:
                print(f"whoever reaches {host} reads them: reports hold images of cases", file=sys.stderr)
            config = uvicorn.Config(both, log_level="warning", server_header=False, date_header=False)
            uvicorn.Server(config).run(sockets=[listening])


def joined(runs: App, review: App, *, names: Sequence[str] | None = None) -> App:
    """Return the site of both: ``/runs/`` and below are the runs', all else is the review's.

    ``names``: what a request may call this server, None for anything. To a browser, a foreign page whose name was
    made to lead here would be this very site: it is told to go.
    """
    from starlette.responses import PlainTextResponse

    async def site(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and names is not None:
            given = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if given.rsplit(":", 1)[0] not in names and given not in names:
                await PlainTextResponse("this server has another name\n", 421)(scope, receive, send)
                return
        path = scope.get("path", "")
        here = scope["type"] == "http" and (path == "/runs" or path.startswith("/runs/"))
        await (runs if here else review)(scope, receive, send)

    return site


def publications(review: Database, run: Run) -> list[Publication]:
    """Return what a review holds of a run."""
    from medaudit.report.site import Publication
    from medaudit.review.publications import of_run

    record = {"verb": run.verb, "settings": run.settings, "inputs": run.inputs}
    with review.reading() as connection:
        return [
            Publication(one.number, one.state, one.title, one.artifact, one.public)
            for one in of_run(connection, record)
        ]


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; UsageError where it cannot be had."""
    import socket

    from medaudit.errors import UsageError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)  # from now on whoever knocks waits, and is not turned away
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot listen on {host}, port {port}: {why}; choose another --port or --host") from None
    return listening
