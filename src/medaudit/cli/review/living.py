"""`medaudit review`: what keeps a review alive: searches, harvest, screening, duplicates, retractions, citations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaudit.cli import options
from medaudit.cli.review.opening import DEFAULT, As, Db, SeedOrDb, opened_as, opened_at
from medaudit.errors import DataError, UsageError, one_line

if TYPE_CHECKING:
    from medaudit.review.living.transports import Fetch

Recorded = Annotated[
    Path | None, typer.Option("--recorded", metavar="DIR", help="Answers that were recorded: no network.")
]
Live = Annotated[bool, typer.Option("--live", help="Ask the source itself, over the network.")]
Contact = Annotated[str | None, typer.Option("--contact", metavar="MAIL", help="For Crossref's polite pool.")]
LONGEST = 20_000_000
"""Bytes of the text of one paper."""


def recompute(
    slugs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLUG...", help="Computed artifacts; none: all that can be recomputed here."),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", metavar="WHEEL|DIR", help="Where torchxrayvision's label tables are.")
    ] = None,
    db: SeedOrDb = None,
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
    with opened_at(db) as opened, opened.reading() as connection:
        found = [searches.named(connection, name)] if name else searches.listed(connection, retired=True)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        rows = [(q.name, q.provider, q.expression, str(q.every_days), q.since or "never") for q in found]
        show.table(("name", "provider", "expression", "days", "since"), rows)


def harvest(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A saved search.")] = None,
    db: Db = DEFAULT,
    due: Annotated[bool, typer.Option("--due", help="All searches whose time has come, and those cut off.")] = False,
    recorded: Recorded = None,
    bulk: Annotated[
        list[Path],
        typer.Option("--bulk", metavar="FILE", help="A bulk file of the source: JSONL, CSV, Parquet; repeat."),
    ] = [],
    live: Live = False,
    contact: Contact = None,
) -> None:
    """Run a saved search, or all that are due; what is new waits to be screened. A run that was cut off goes on.

    OpenAlex wants a key: put it into the environment's OPENALEX_KEY. Example: medaudit review harvest chexpert --live
    """
    from medaudit.review.living import searches, transports

    if (name is None) != due:
        raise UsageError("say which search: its NAME, or --due for all whose time has come")
    if sum((recorded is not None, bool(bulk), live)) != 1:
        raise UsageError("say what to search: one of --recorded DIR, --bulk FILE, --live")
    if due and bulk:
        raise UsageError("a bulk file is of one source: give the NAME of a search with --bulk, not --due")
    source: Any = transports.Bulk(tuple(bulk)) if bulk else _asked(recorded, live, contact)
    with opened_at(db) as opened:
        if name is not None:
            _harvested(opened, name, source)
            return
        with opened.reading() as connection:
            names = [query.name for query in searches.due(connection)]
        failed = []
        for one in names:
            try:
                _harvested(opened, one, source)
            except (DataError, UsageError) as error:  # the others are due all the same
                print(one_line(f"{one}: {error}"), file=sys.stderr)
                failed.append(one)
    if failed:
        raise DataError(f"{len(failed)} of {len(names)} searches did not end: {', '.join(failed)}")
    if not names:
        print("no search is due")


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
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="List the works that persons decided differently, and who how.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Screen what a search found: list what waits, decide, propose what is included.

    Example: medaudit review screen 17 --decision exclude --reason "not about a dataset" --as grace
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import screening

    with opened_as(db, as_) as (connection, who):
        if conflicts:
            who.must("screen")
            apart = screening.conflicts(connection, independent=independent)
            if json:
                show.json_of([asdict(one) for one in apart])
                return
            votes = ["; ".join(f"{d.person}: {d.decision} {d.reason}".rstrip() for d in one.decisions) for one in apart]
            rows = [(str(one.id), one.stage, one.title, vote) for one, vote in zip(apart, votes, strict=True)]
            show.table(("number", "stage", "title", "decisions"), rows)
        elif propose:
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


def duplicates(
    keep: Annotated[
        int | None, typer.Argument(metavar="KEEP", help="A record that stays; none: list pairs that may be one work.")
    ] = None,
    drop: Annotated[
        int | None, typer.Argument(metavar="DROP", help="The record that is the same work, and is merged into it.")
    ] = None,
    db: Db = DEFAULT,
    as_: As = None,
    separate: Annotated[
        int | None, typer.Option("--separate", metavar="NUMBER", help="Take a merge back: it stands by itself again.")
    ] = None,
    alike: Annotated[
        float, typer.Option("--alike", min=50, max=100, help="Likeness of two titles from which on a pair is listed.")
    ] = 92.0,
    json: options.Json = False,
) -> None:
    """List harvested records that may be one work, merge two, or take a merge back; nothing is merged by itself.

    Example: medaudit review duplicates 17 42 --as grace
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import duplicates as alike_ones

    if keep is not None and (drop is None or separate is not None):
        raise UsageError("expected two numbers, the record that stays and the one that is merged into it")
    if keep is not None or separate is not None:
        with opened_as(db, as_) as (connection, who):
            if separate is not None:
                alike_ones.separate(connection, separate, who)
            elif keep is not None and drop is not None:
                alike_ones.merge(connection, keep, drop, who)
        return
    with opened_at(db) as opened, opened.reading(600) as connection:
        found = alike_ones.suggestions(connection, alike)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        rows = [(str(s.first), str(s.second), f"{s.score:g}", s.first_title, s.second_title, s.note) for s in found]
        show.table(("keep", "drop", "alike", "title", "other title", "note"), rows)


def retractions(
    db: Db = DEFAULT,
    recorded: Recorded = None,
    live: Live = False,
    contact: Contact = None,
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="Which source: openalex or crossref.")
    ] = "openalex",
    most: Annotated[int, typer.Option("--most", min=1, help="Works asked for, those not asked longest first.")] = 1_000,
    json: options.Json = False,
) -> None:
    """Say what public knowledge rests on retracted works; exit code 1 where something does. Ask the source anew first.

    Without --live or --recorded nothing is asked. Example: medaudit review retractions --live
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import retractions as taken_back

    if source not in ("openalex", "crossref"):
        raise UsageError(f"--source {source}: expected openalex or crossref")
    if live and recorded is not None:
        raise UsageError("say whom to ask: --live or --recorded DIR, not both")
    asked = live or recorded is not None
    with opened_at(db) as opened:
        moved, new = (
            taken_back.recheck(opened, _asked(recorded, live, contact), source=source, most=most) if asked else (0, 0)
        )
        with opened.reading() as connection:
            found = taken_back.retracted_sources(connection)
    if json:
        show.json_of({"merged": moved, "retracted": new, "rests_on_retracted": [asdict(one) for one in found]})
    else:
        if asked:
            print(f"{source}: {moved} merged into others there, {new} newly retracted")
        rows = [(one.kind, one.slug, one.role, one.work, one.retracted) for one in found]
        show.table(("kind", "record", "rests on it as", "retracted work", "since"), rows)
    raise typer.Exit(1 if found else 0)


def citations(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Pairs of works, in CSV, Parquet or JSONL; none: count."),
    ] = None,
    db: Db = DEFAULT,
    name: Annotated[
        str | None, typer.Option("--name", help="Where the pairs are from; a load that was cut off goes on by it.")
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="CITING,CITED", help="What the two columns are called.")
    ] = ("citing,cited"),
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out citations of works that the review does not know.")
    ] = False,
    dataset: Annotated[
        list[str],
        typer.Option("--dataset", metavar="SLUG", help="Count of this one; repeat; default: all that have any."),
    ] = [],
    json: options.Json = False,
) -> None:
    """Load citations in bulk, or count for each dataset who uses it and who only cites it: a citation is no use.

    Example: medaudit review citations opencitations.csv --name opencitations --known-only
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import citations as cited
    from medaudit.review.living.transports import Bulk

    with opened_at(db) as opened:
        if files:
            if name is None:
                raise UsageError("say where the pairs are from: --name NAME")
            citing, given, known = columns.partition(",")
            if not given or not citing.strip() or not known.strip():
                raise UsageError(f"--columns {columns}: expected two names, as citing,cited")
            came = cited.load(opened, Bulk(tuple(files)), name=name, columns=(citing.strip(), known.strip()),
                              known_only=known_only)  # fmt: skip
            if json:
                show.json_of(asdict(came))
            else:
                print(f"{name}: {came.read:,} pairs read, {came.new:,} citations new, {came.unreadable:,} without two "
                      "identifiers")  # fmt: skip
            return
        with opened.reading(600) as connection:
            found = cited.counts(connection, dataset or None)
    if json:
        show.json_of([asdict(one) | {"uses": one.uses} for one in found])
    else:
        rows = [
            (one.dataset, str(one.citations), str(one.cited_only), str(one.uses),
             ", ".join(f"{how}: {n}" for how, n in one.by_evidence)) for one in found
        ]  # fmt: skip
        show.table(("dataset", "citations", "cited only", "uses", "how a use is known"), rows)


def mentions(
    paper: Annotated[Path, typer.Argument(metavar="FILE", help="The text of a paper, plain or Markdown.")],
    db: SeedOrDb = None,
    cites: Annotated[
        list[str],
        typer.Option("--cites", metavar="DATASET", help="Its paper is among the references: a cue for short names."),
    ] = [],
    json: options.Json = False,
) -> None:
    """Say which known datasets a paper mentions, where, and whether that counts as use (Sourget et al., 2402.03003).

    Example: medaudit review mentions paper.txt --cites chexpert
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import views
    from medaudit.review.asking import opened as opening
    from medaudit.review.living import mentions as named

    text = _text_of(paper)
    with opening(db) as review_, review_.reading() as connection:
        names = named.of_review(connection)
        slugs = {name: views.resolve(connection, name) for name in cites}
    if strange := [name for name, known in slugs.items() if not known]:
        raise UsageError(f"--cites {strange[0]}: there is no such dataset")
    cited = sorted({slug for known in slugs.values() for slug in known})
    found = named.detect(names, named.sections_of(text), cited=cited)
    uses = named.evidence(found, cited)
    if json:
        show.json_of({"mentions": [asdict(one) for one in found],
                      "uses": [use.model_dump(exclude_defaults=True) for use in uses.values()]})  # fmt: skip
        return
    for slug, use in uses.items():
        print(one_line(f"{slug}: {use.evidence}" + (f", in '{use.locus}'" if use.locus else "")))
    rows = [
        (one.dataset, one.locus or "before the first heading", "use" if one.counts else "no use",
         "sure" if one.sure else "unsure", one.context) for one in found
    ]  # fmt: skip
    show.table(("dataset", "where", "counts as", "", "in the words"), rows)


def _harvested(opened: Any, name: str, source: Any) -> None:
    from medaudit.review.living import searches

    run = searches.run(opened, name, source)
    print(f"{name}: {run.identified} found, {run.new} new, {run.merged} known under another name")


def _asked(recorded: Path | None, live: bool, contact: str | None) -> Fetch:
    """Return whoever answers: the recorded answers of a folder, or the sources themselves."""
    import os

    from medaudit.review.living import transports

    if recorded is not None:
        return transports.cassette(recorded)
    return transports.live(allow_network=live, openalex_key=os.environ.get("OPENALEX_KEY"), contact=contact)


def _text_of(paper: Path) -> str:
    try:
        if not paper.is_file():
            raise DataError(f"{paper}: no such file")
        if paper.stat().st_size > LONGEST:
            raise DataError(f"{paper}: larger than {LONGEST // 1_000_000} MB; expected the text of one paper")
        raw = paper.read_bytes()
    except OSError as error:
        raise DataError(f"{paper} cannot be read: {error.strerror or error}") from None
    if raw[:4] == b"%PDF":
        raise DataError(f"{paper}: a PDF; expected its text, as pdftotext writes it")
    said = raw.decode("utf-8", errors="replace")
    # A page's end is a line's; what moves a cursor or turns the reading around is no text, and no record may hold it.
    kept = {
        ord(c): "\n" if c in "\f\v" else " " if c.isspace() else ""
        for c in set(said) - set("\n\r\t")
        if not c.isprintable()
    }
    return said.translate(kept)
