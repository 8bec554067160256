"""`medaudit review`: keep a review: begin it, its people, releases, copies, its log; serve it, write it as files."""

from __future__ import annotations

import contextlib
import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options
from medaudit.cli.review.opening import DEFAULT, As, Db, opened_as, opened_at, who
from medaudit.errors import UsageError


def init(
    db: Db = DEFAULT,
    seed: Annotated[bool, typer.Option("--seed/--empty", help="With the curated seed, or empty.")] = True,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="A part of the seed: paper-figure, paper-demo.")
    ] = None,
) -> None:
    """Make a new review.

    Example: medaudit review init --db review.sqlite --seed
    """
    from medaudit.review import database, start
    from medaudit.review import seed as seeds

    with contextlib.closing(database.connect(db, create=True)) as opened:
        if not seed:
            print(f"{db}: an empty review; add people with `medaudit review person`")
            return
        records = seeds.read()
        n = start.plant(opened, start.profile(records, profile) if profile else records)
        print(f"{db}: {n} records; read it with `medaudit review serve --db {db}`")


def person(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Who; nobody: list all.")] = None,
    db: Db = DEFAULT,
    role: Annotated[
        str | None, typer.Option("--role", help="reader, bot, contributor, reviewer, editor, admin.")
    ] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password (or read a line of standard input).")
    ] = False,
    token: Annotated[bool, typer.Option("--token", help="Print a new token for the API.")] = False,
    bar: Annotated[bool, typer.Option("--bar", help="Bar the person: sessions and tokens end.")] = False,
) -> None:
    """List people; add one, give another role, a password or a token, or bar them.

    Example: medaudit review person grace --role reviewer --password
    """
    from medaudit.cli import show
    from medaudit.review import people

    with opened_at(db) as opened:
        if name is None:
            with opened.reading() as connection:
                show.table(
                    ("name", "role", ""),
                    [(p.name, p.role, "barred" if out else "") for p, out in people.everybody(connection)],
                )
            return
        with opened.writing() as connection:
            known = {p.name: p for p, _ in people.everybody(connection)}
            if name not in known:
                people.add(connection, name, role or "contributor")
            elif role is not None or bar:
                people.change_role(connection, name, role or known[name].role, disabled=bar)
            if password:
                people.set_password(connection, name, _password())
            if token:
                print(people.give_token(connection, people.named(connection, name), "command line"))


def release(
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="As v2026.11; none: list them.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    trigger: Annotated[str, typer.Option("--trigger", help="Why now.")] = "scheduled",
    json: options.Json = False,
) -> None:
    """Freeze what is public as a release that can be cited, or list the releases.

    Example: medaudit review release v2026.12 --trigger "new findings on CheXpert" --as grace
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import freezing, releases

    with opened_at(db) as opened:
        if version is not None:
            with opened.writing() as connection:
                made = freezing.freeze(connection, who(connection, as_), version, trigger)
            print(f"{made.version}: {made.records} records, sha256 {made.digest}")
            return
        with opened.reading() as connection:
            found = releases.all_of(connection)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        show.table(("version", "frozen", "records", "sha256"),
                   [(r.version, r.frozen[:16], str(r.records), r.digest[:16]) for r in found])  # fmt: skip


def restore(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The release to go back to.")],
    db: Db = DEFAULT,
    as_: As = None,
    accepted_by: Annotated[
        str | None, typer.Option("--accepted-by", metavar="NAME", help="The second person: publishes it at once.")
    ] = None,
) -> None:
    """Bring back what was public in a release; what came since is kept as history.

    Example: medaudit review restore v2026.11 --as grace --accepted-by ada
    """
    from medaudit.review import people, releases, workflow

    with opened_as(db, as_) as (connection, who):
        number = releases.restore(connection, who, version)
        if number is None:
            print(f"what is public is as in {version}")
            return
        if accepted_by is not None:
            workflow.accept(connection, people.named(connection, accepted_by), number, f"restore {version}")
    done = "public again" if accepted_by else "proposed; another person accepts it"
    print(f"contribution {number}: {version} is {done}")


def build_site(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    db: Db = DEFAULT,
    quiet: options.Quiet = False,
) -> None:
    """Write the review as files that can be read from a disk, without a server.

    Example: medaudit review build-site site
    """
    from rich.progress import Progress

    from medaudit.review import sites

    with opened_at(db) as opened, Progress(disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("records", total=None)
        n = sites.build(opened, out, lambda done, total: bar.update(task, completed=done, total=total))
    print(f"{out / 'index.html'}: {n} files")


def serve(
    db: Db = DEFAULT,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="The port.")] = 8765,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    registration: Annotated[
        bool, typer.Option("--open-registration", help="Let anybody become a contributor.")
    ] = False,
) -> None:
    """Serve the review's pages and API.

    Example: medaudit review serve --db review.sqlite --port 8765
    """
    import os

    import uvicorn

    from medaudit.review.web import app as site

    with opened_at(db):
        pass  # a wrong address is said here, in one line, and not by each worker
    os.environ[site.ADDRESS] = db
    os.environ[site.REGISTRATION] = "yes" if registration else ""
    print(f"the review is at http://{host}:{port}; stop it with Ctrl-C", file=sys.stderr)
    uvicorn.run("medaudit.review.web.app:from_environment", factory=True, host=host, port=port, workers=workers,
                log_level="warning", server_header=False, date_header=False,
                # A worker that starts more slowly is killed and begun anew, on a busy machine for ever; uvicorn's 5 s.
                timeout_worker_healthcheck=60)  # fmt: skip


def audit_log(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="'verify', or 'show'.")],
    db: Db = DEFAULT,
    json: options.Json = False,
) -> None:
    """Verify the chain of what was done, or show it; exit code 1 where anything was changed.

    Example: medaudit review audit-log verify
    """
    from sqlalchemy import select

    from medaudit.cli import show
    from medaudit.review import log
    from medaudit.review import tables as t

    if action not in ("verify", "show"):
        raise UsageError(f"'{action}': expected verify or show")
    with opened_at(db) as opened, opened.reading(600) as connection:
        if action == "show":
            rows = connection.execute(select(t.audit).order_by(t.audit.c.seq)).all()
            if json:
                show.json_of([dict(row._mapping) for row in rows])
            else:
                show.text(f"{r.seq} {r.at[:19]} {r.actor}: {r.action} {r.target}" for r in rows)
            return
        found = log.verify(connection)
        seq, head = log.head(connection)
    if json:
        show.json_of({"entries": seq, "head": head, "problems": found})
    else:
        show.text(found or [f"{seq} entries, none changed; the last hash is {head}"])
    raise typer.Exit(1 if found else 0)


def backup(to: Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")], db: Db = DEFAULT) -> None:
    """Copy a review on SQLite while others write.

    Example: medaudit review backup review-2026-11-26.sqlite
    """
    from medaudit.review import database

    with opened_at(db) as opened:
        database.backup(opened, to)
    print(to)


def migrate(db: Db = DEFAULT) -> None:
    """Bring a review of an earlier version of medaudit to this one's tables.

    Example: medaudit review migrate --db review.sqlite
    """
    from medaudit.review import database

    with contextlib.closing(database.connect(db, migrating=True)) as opened:
        database.migrate(opened)
        print(f"{db}: tables of version {database.version(opened)}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("password (12 characters or more): ")
    if getpass.getpass("again: ") != first:
        raise UsageError("the two are not the same")
    return first
