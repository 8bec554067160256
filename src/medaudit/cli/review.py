"""`medaudit review`: the living review of datasets: what is known about them, who found it, and how it got there."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaudit.cli import options
from medaudit.errors import DataError, UsageError

if TYPE_CHECKING:
    from medaudit.review.database import Database

app = typer.Typer(
    help="The living review: what is known about datasets, who found it; propose, review, publish, serve.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Db = Annotated[
    str,
    typer.Option(
        "--db", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review: a file, or postgresql://user@host/name."
    ),
]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who you are in the review; your login name where not given.")
]
Note = Annotated[str, typer.Option("--note", help="What the other side should read.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The contribution's number.")]
DEFAULT = "review.sqlite"


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
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


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help='Words, "phrases", starts*, -without, field:value.')],
    db: Db = DEFAULT,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 20,
    json: options.Json = False,
) -> None:
    """Find datasets, findings and works.

    Example: medaudit review search "chest x-ray shortcut" --json
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import search as searching

    with _open(db) as opened, opened.reading() as connection:
        found = searching.search(connection, query, limit=limit)
    if json:
        show.json_of(asdict(found))
        return
    show.table(
        ("kind", "name", "year", "title"),
        [(hit.kind, hit.slug, "" if hit.year is None else str(hit.year), hit.title) for hit in found.hits],
    )
    if found.total > len(found.hits):
        print(f"{found.total - len(found.hits)} more; --limit shows them")
    if found.perhaps:
        print(f"nothing found; did you mean: {', '.join(found.perhaps)}")


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A record's slug, or a dataset's name, alias or DOI.")],
    db: Db = DEFAULT,
    json: options.Json = False,
) -> None:
    """Print a record: for a dataset its warnings first.

    Example: medaudit review show chexpert
    """
    from medaudit.cli import show
    from medaudit.review import views
    from medaudit.review.records import as_yaml

    with _open(db) as opened, opened.reading() as connection:
        for slug in views.resolve(connection, name):
            found = views.shown(connection, "dataset", slug)
            if found is not None and found.record is not None:
                if json:
                    show.json_of(found.record.plain())
                else:
                    show.warnings(views.warned(connection, [slug])[0])
                    print(as_yaml(found.record.plain()), end="")
                return
        for kind in ("artifact", "work"):
            found = views.shown(connection, kind, name)
            if found is not None and found.record is not None:
                show.json_of(found.record.plain()) if json else print(as_yaml(found.record.plain()), end="")
                return
    raise UsageError(f"there is no '{name}'; look for it with `medaudit review search`")


@app.command()
def check(
    names: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Slugs, names, aliases or DOIs.")],
    db: Annotated[
        str | None,
        typer.Option(
            "--db", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review; the shipped seed where not given."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Print what whoever uses these datasets should know; patients that they share first.

    Example: medaudit review check chestx-ray14 siim-acr-ptx
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.asking import known

    found, unknown, source = known(names, db)
    if json:
        show.json_of({"warnings": [asdict(one) for one in found], "unknown": unknown, "source": source})
    else:
        show.warnings(found)
        show.text(f"nobody knows '{name}'" for name in unknown)
    raise typer.Exit(1 if unknown else 0)


@app.command("import")
def import_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="idc, computed, croissant, bibtex, ris, csv or yaml.")],
    paths: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="What to read; none for idc.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be proposed, and propose nothing.")
    ] = False,
) -> None:
    """Propose the records of a catalogue or of files; another person accepts them.

    Example: medaudit review import idc --db review.sqlite
    """
    from medaudit.review import workflow

    records = _records(what, paths or [])
    with _open(db) as opened:
        with opened.reading() as connection:
            changes = workflow.putting(connection, records)
        if dry_run or not changes:
            print(f"{len(records)} records read, {len(changes)} new or changed")
            return
        with opened.writing() as connection:
            author = _who(connection, as_)
            number = workflow.propose(connection, author, f"Import {what}", changes, note=note)
    print(f"contribution {number}: {len(changes)} records proposed; another person publishes them with")
    print(f"  medaudit review accept {number} --db {db} --as NAME")


@app.command()
def queue(
    db: Db = DEFAULT,
    state: Annotated[
        str, typer.Option("--state", help="submitted, changes requested, accepted, rejected, withdrawn.")
    ] = "submitted",
    json: options.Json = False,
) -> None:
    """List contributions: what waits for a second person.

    Example: medaudit review queue
    """
    from medaudit.cli import show
    from medaudit.review import workflow
    from medaudit.review.people import Person

    with _open(db) as opened, opened.reading() as connection:
        found = workflow.listed(connection, Person(0, "", "reviewer"), state, 0, 1_000)
    if json:
        show.json_of(found)
    else:
        show.table(("number", "state", "author", "created", "title"),
                   [(str(c["id"]), c["state"], c["author"], c["created"][:16], c["title"]) for c in found])  # fmt: skip


@app.command()
def diff(number: Number, db: Db = DEFAULT, json: options.Json = False) -> None:
    """Print what a contribution changes, by field.

    Example: medaudit review diff 7
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import checks, workflow

    with _open(db) as opened, opened.reading() as connection:
        found = workflow.contribution(connection, number)
        told = workflow.steps(connection, found)
        said = checks.checked(connection, [c.record for c in found.changes if c.record is not None][:200])
    if json:
        show.json_of(
            {"contribution": number, "state": found.state, "remarks": [asdict(one) for one in said],
             "changes": [{"kind": c.kind, "slug": c.slug, "fresh": fresh, "fields": [asdict(d) for d in steps]}
                         for c, fresh, steps in told]}
        )  # fmt: skip
        return
    print(f"{number}: {found.title} ({found.state}, by {found.author})")
    for change, fresh, steps in told:
        what = "new" if change.base == 0 else "retire" if change.record is None else f"over revision {change.base}"
        print(f"{change.kind} {change.slug}: {what}{'' if fresh else '; HAS CHANGED SINCE'}")
        if change.base:
            show.text(f"  {step.op} {step.path}: {step.old!r} -> {step.new!r}" for step in steps)
    show.text(f"{one.level}: {one.where}: {one.text}" for one in said)


@app.command()
def accept(number: Number, db: Db = DEFAULT, as_: As = None, note: Note = "") -> None:
    """Publish somebody else's contribution.

    Example: medaudit review accept 7 --as grace
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        put = workflow.accept(connection, who, number, note)
    print(f"contribution {number} is public: {len(put)} records")


@app.command()
def reject(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="no source, duplicate, out of scope, spam, other ...")],
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
) -> None:
    """Reject somebody else's contribution; its author sees the reason.

    Example: medaudit review reject 7 --reason duplicate --as grace
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        workflow.reject(connection, who, number, reason, note)
    print(f"contribution {number} is rejected: {reason}")


@app.command()
def retire(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="dataset, artifact or work.")],
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The record.")],
    into: Annotated[str | None, typer.Option("--into", metavar="SLUG", help="The record it is merged into.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
) -> None:
    """Propose that a record be retired, or merged into another; its address and history stay.

    Example: medaudit review retire dataset busi-2 --into busi
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        rev = workflow.current(connection, [(kind, slug)]).get((kind, slug), (0, None))[0]
        change = workflow.Change(kind, slug, rev, None, into)
        title = f"Merge {kind} {slug} into {into}" if into else f"Retire {kind} {slug}"
        number = workflow.propose(connection, who, title, [change], note=note)
    print(f"contribution {number}: {title}; another person accepts it")


@app.command()
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

    with _open(db) as opened:
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


@app.command()
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
    from medaudit.review import releases

    with _open(db) as opened, _refusals():
        if version is not None:
            with opened.writing() as connection:
                made = releases.freeze(connection, _who(connection, as_), version, trigger)
            print(f"{made.version}: {made.records} records, sha256 {made.digest}")
            return
        with opened.reading() as connection:
            found = releases.all_of(connection)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        show.table(("version", "frozen", "records", "sha256"),
                   [(r.version, r.frozen[:16], str(r.records), r.digest[:16]) for r in found])  # fmt: skip


@app.command()
def changes(
    earlier: Annotated[str, typer.Argument(metavar="EARLIER", help="A release.")],
    later: Annotated[str | None, typer.Argument(metavar="LATER", help="Another; none: what is public now.")] = None,
    db: Db = DEFAULT,
    json: options.Json = False,
) -> None:
    """Print what differs between two releases.

    Example: medaudit review changes v2026.11
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import releases

    with _open(db) as opened, opened.reading() as connection:
        found = releases.compare(connection, earlier, later)
    if json:
        show.json_of([asdict(one) for one in found])
        return
    for one in found:
        fields = ", ".join(dict.fromkeys(step.path.split("/")[1] for step in one.differences if step.path))
        print(f"{one.what} {one.kind} {one.slug}{f': {fields}' if one.what == 'changed' else ''}")


@app.command()
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


@app.command()
def export(
    form: Annotated[str, typer.Option("--format", help="croissant, bibtex, ris, csv, json, graphml or sqlite.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="DATASET...", help="Datasets; none: everything public.")
    ] = None,
    db: Db = DEFAULT,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to; standard output if none.")
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="VERSION", help="As it was in a release; now if not given.")
    ] = None,
) -> None:
    """Export datasets with their findings and works, or everything.

    Example: medaudit review export --format croissant chexpert
    """
    from medaudit.review import exports

    with _open(db) as opened:
        if form == "sqlite":
            if out is None or release is not None:
                raise UsageError("--format sqlite needs --out FILE, and is of what is public now")
            exports.public_sqlite(opened, out)
            print(out)
            return
        with opened.reading(120) as connection:
            text = exports.text(connection, form, names or [], release)
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        out.write_text(text, encoding="utf-8")
        print(out)


@app.command("build-site")
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

    with _open(db) as opened, Progress(disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("records", total=None)
        n = sites.build(opened, out, lambda done, total: bar.update(task, completed=done, total=total))
    print(f"{out / 'index.html'}: {n} files")


@app.command()
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

    with _open(db):
        pass  # a wrong address is said here, in one line, and not by each worker
    os.environ[site.ADDRESS] = db
    os.environ[site.REGISTRATION] = "yes" if registration else ""
    print(f"the review is at http://{host}:{port}; stop it with Ctrl-C", file=sys.stderr)
    uvicorn.run("medaudit.review.web.app:from_environment", factory=True, host=host, port=port, workers=workers,
                log_level="warning", server_header=False, date_header=False)  # fmt: skip


@app.command("audit-log")
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
    with _open(db) as opened, opened.reading(600) as connection:
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


@app.command()
def backup(to: Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")], db: Db = DEFAULT) -> None:
    """Copy a review on SQLite while others write.

    Example: medaudit review backup review-2026-11-26.sqlite
    """
    from medaudit.review import database

    with _open(db) as opened:
        database.backup(opened, to)
    print(to)


@app.command()
def migrate(db: Db = DEFAULT) -> None:
    """Bring a review of an earlier version of medaudit to this one's tables.

    Example: medaudit review migrate --db review.sqlite
    """
    from medaudit.review import database

    with contextlib.closing(database.connect(db, migrating=True)) as opened:
        database.migrate(opened)
        print(f"{db}: tables of version {database.version(opened)}")


@app.command()
def recompute(
    slugs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLUG...", help="Computed artifacts; none: all that can be recomputed here."),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", metavar="WHEEL|DIR", help="Where torchxrayvision's label tables are.")
    ] = None,
    db: Annotated[
        str | None,
        typer.Option(
            "--db", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review; the shipped seed where not given."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compute published numbers again from the label tables installed here; exit code 1 where one differs.

    Example: medaudit review recompute computed-chexpert-age --tables torchxrayvision-1.5.7-py3-none-any.whl
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import computed, views
    from medaudit.review.asking import opened as opening
    from medaudit.review.records import Artifact

    with opening(db) as review_, review_.reading() as connection:
        found = [one for one in views.records(connection, "artifact") if isinstance(one, Artifact) and one.recompute]
    if slugs:
        strange = [slug for slug in slugs if slug not in {one.slug for one in found}]
        if strange:
            raise UsageError(f"'{strange[0]}' is no computed artifact of the review")
        found = [one for one in found if one.slug in slugs]
    rows, missed = {}, {}
    for one in found:
        own = tables if computed.package_of(one.recompute) == "torchxrayvision" else None
        try:
            rows[one.slug] = computed.recompute(one, computed.source_for(one, own))
        except DataError as error:
            if slugs:
                raise
            missed[one.slug] = str(error)
    wrong = {slug: [row for row in told if not row.same] for slug, told in rows.items()}
    if json:
        show.json_of(
            {"recomputed": {slug: [asdict(row) for row in told] for slug, told in rows.items()}, "missed": missed}
        )
    else:
        for slug, told in rows.items():
            print(f"{slug}: {len(told) - len(wrong[slug])} of {len(told)} numbers are the same")
            show.text(f"  {row.field}: published {row.published}, recomputed {row.recomputed}" for row in wrong[slug])
        show.text(f"{slug}: not recomputed: {why}" for slug, why in missed.items())
    raise typer.Exit(1 if any(wrong.values()) else 0)


@app.command("query")
def query_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A saved search; none: list them.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    provider: Annotated[
        str | None, typer.Option("--provider", help="openalex, crossref, datacite or corpus: save a new search of it.")
    ] = None,
    expression: Annotated[
        str, typer.Option("--expression", help="As cites:10.1609/aaai.v33i01.3301590, search:chest x-ray bias.")
    ] = "",
    every: Annotated[int, typer.Option("--every", metavar="DAYS", min=1, help="How often it is to run.")] = 30,
    retire: Annotated[
        str | None, typer.Option("--retire", metavar="WHY", help="End the search; it stays on record.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Save, list or retire the searches that keep the review alive.

    Example: medaudit review query chexpert --provider openalex --expression cites:10.1609/aaai.v33i01.3301590
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import searches

    if name is not None and (provider is not None or retire is not None):
        with opened_as(db, as_) as (connection, who):
            if provider is not None:
                searches.save(connection, who, name, provider, expression, every)
            else:
                searches.retire(connection, who, name, str(retire))
        return
    with _open(db) as opened, opened.reading() as connection:
        found = [searches.named(connection, name)] if name else searches.listed(connection, retired=True)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        rows = [(q.name, q.provider, q.expression, str(q.every_days), q.since or "never") for q in found]
        show.table(("name", "provider", "expression", "days", "since"), rows)


@app.command()
def harvest(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A saved search.")],
    db: Db = DEFAULT,
    recorded: Annotated[
        Path | None, typer.Option("--recorded", metavar="DIR", help="Answers that were recorded: no network.")
    ] = None,
    bulk: Annotated[
        list[Path],
        typer.Option("--bulk", metavar="FILE", help="A bulk file of the source: JSONL, CSV, Parquet; repeat."),
    ] = [],
    live: Annotated[bool, typer.Option("--live", help="Ask the source itself, over the network.")] = False,
    contact: Annotated[
        str | None, typer.Option("--contact", metavar="MAIL", help="For Crossref's polite pool.")
    ] = None,
) -> None:
    """Run a saved search; what is new waits to be screened. A run that was cut off goes on.

    OpenAlex wants a key: put it into the environment's OPENALEX_KEY. Example: medaudit review harvest chexpert --live
    """
    import os

    from medaudit.review.living import searches, transports

    if sum((recorded is not None, bool(bulk), live)) != 1:
        raise UsageError("say what to search: one of --recorded DIR, --bulk FILE, --live")
    source: Any
    if recorded is not None:
        source = transports.cassette(recorded)
    elif bulk:
        source = transports.Bulk(tuple(bulk))
    else:
        source = transports.live(allow_network=True, openalex_key=os.environ.get("OPENALEX_KEY"), contact=contact)
    with _open(db) as opened:
        run = searches.run(opened, name, source)
    print(f"{name}: {run.identified} found, {run.new} new, {run.merged} known under another name")


@app.command()
def screen(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", help="A work; none: list what waits for you.")
    ] = None,
    db: Db = DEFAULT,
    as_: As = None,
    stage: Annotated[str, typer.Option("--stage", help="'title' or 'fulltext'.")] = "title",
    decision: Annotated[str | None, typer.Option("--decision", help="include, exclude or unsure.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is excluded: one of the coded reasons.")] = "",
    independent: Annotated[int, typer.Option("--independent", min=1, help="How many have to decide, each blind.")] = 1,
    propose: Annotated[bool, typer.Option("--propose", help="Propose the works that were included.")] = False,
    json: options.Json = False,
) -> None:
    """Screen what a search found: list what waits, decide, propose what is included.

    Example: medaudit review screen 17 --decision exclude --reason "not about a dataset" --as grace
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import screening

    with opened_as(db, as_) as (connection, who):
        if propose:
            made = screening.propose_included(connection, who, independent=independent)
            print("nothing to propose" if made is None else f"contribution {made} is proposed")
        elif number is not None:
            if decision is None:
                raise UsageError("--decision is missing: include, exclude or unsure")
            screening.decide(connection, who, number, stage, decision, reason, independent=independent)
        else:
            if stage not in ("title", "fulltext"):
                raise UsageError(f"'{stage}': expected title or fulltext")
            found = screening.queue(connection, who, stage, independent=independent)  # type: ignore[arg-type]
            if json:
                show.json_of([asdict(one) for one in found])
            else:
                show.table(("number", "year", "title"), [(str(w.id), str(w.year or ""), w.title) for w in found])


@app.command()
def method(db: Db = DEFAULT) -> None:
    """Print how the review is made: the PRISMA-LSR report, generated from its searches and screening.

    Example: medaudit review method > method.md
    """
    from medaudit.review.living import prisma

    with _open(db) as opened, opened.reading(60) as connection:
        print(prisma.text(prisma.report(connection)))


def _records(what: str, paths: list[Path]) -> list[Any]:
    from medaudit.review import computed
    from medaudit.review import seed as seeds
    from medaudit.review.importers import bibliography, croissant, idc, table

    if what == "idc":
        return list(idc.read(paths[0] if paths else None))
    if what == "computed":
        return list(computed.records(computed.source(paths[0] if paths else None)))
    readers: dict[str, Any] = {
        "croissant": croissant.read,
        "bibtex": bibliography.read,
        "ris": bibliography.read,
        "csv": table.read,
        "yaml": lambda path: [seeds.read_one(path)],
    }
    if what not in readers:
        raise UsageError(f"'{what}' cannot be imported; there are: idc, computed, {', '.join(readers)}")
    if not paths:
        raise UsageError(f"say which file: medaudit review import {what} FILE")
    found: list[Any] = []
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        found += readers[what](path)
    return found


def _who(connection: Any, name: str | None) -> Any:
    from medaudit.review import people

    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container's number without a name
            raise UsageError("say who you are in the review: --as NAME") from None
    return people.named(connection, name)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("password (12 characters or more): ")
    if getpass.getpass("again: ") != first:
        raise UsageError("the two are not the same")
    return first


@contextlib.contextmanager
def opened_as(db: str, name: str | None) -> Iterator[tuple[Any, Any]]:
    """Yield a connection that may write to the review, and the person called ``name`` (or as whoever is logged in)."""
    with _open(db) as opened, _refusals(), opened.writing() as connection:
        yield connection, _who(connection, name)


@contextlib.contextmanager
def _open(db: str) -> Iterator[Database]:
    from medaudit.review import database

    opened = database.connect(db)
    try:
        with _refusals():
            yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line what the review refused."""
    from medaudit.review.database import Deadline
    from medaudit.review.people import Forbidden
    from medaudit.review.workflow import Conflict, TooMany

    try:
        yield
    except (Forbidden, TooMany) as error:
        raise UsageError(str(error)) from None
    except (Conflict, Deadline) as error:
        raise DataError(str(error)) from None
