"""Load, kills, full disks, other people's files: nothing is lost, nothing is there by half, and no traceback is shown.

How fast it is, `python -m benchmarks.review` tells; here the same writers and readers run for seconds, and only count.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from made_reviews import dataset, hire, publish
from sqlalchemy import text

from medaudit.errors import DataError, UsageError
from medaudit.review import database, exports, log, people, workflow
from medaudit.review.database import Database, Deadline

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import review as load

where_it_lies = pytest.mark.parametrize("engine", ["sqlite", "postgresql"])


@pytest.fixture
def place(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The address of a new review."""
    return str(tmp_path / "r.sqlite") if engine == "sqlite" else request.getfixturevalue("postgres")()


# Kills and writers -------------------------------------------------------------------------------------------------


def test_a_review_is_whole_after_many_kills_half_of_them_in_a_commit(tmp_path: Path) -> None:
    database.connect(tmp_path / "r.sqlite", create=True).close()
    often = max(12, int(os.environ.get("MEDAUDIT_KILLS", "1")))
    seen = list(load.kills(tmp_path / "r.sqlite", often, random.Random(7)))
    assert [wrong for _, found in seen for wrong in found] == []
    assert sum(doing == load.COMMIT for doing, _ in seen) >= 1
    assert sum(doing != load.IDLE for doing, _ in seen) >= 3


def test_the_check_after_a_kill_does_see_half_a_contribution(db: Database) -> None:
    staff = hire(db)
    number = publish(db, staff["contributor"], staff["reviewer"], dataset("a"), dataset("b"))
    assert load.problems(db) == []
    with closing(sqlite3.connect(str(db.engine.url.database))) as raw:
        raw.execute("DROP TRIGGER revision_no_delete")
        raw.execute("DELETE FROM revision WHERE entity_id = (SELECT id FROM entity WHERE slug = 'b')")
        raw.execute("DELETE FROM document WHERE entity_id = (SELECT id FROM entity WHERE slug = 'a')")
        raw.commit()
    found = "; ".join(load.problems(db))
    assert f"contribution {number} is accepted: 1 of 2 records are there" in found
    assert "2 records are public, 1 have a row in document" in found


@where_it_lies
def test_writers_and_readers_of_a_server_lose_nothing_and_see_no_error(place: str) -> None:
    with closing(database.connect(place, create=True)) as opened:
        staff = hire(opened)
        publish(opened, staff["contributor"], staff["reviewer"], dataset("chexpert", description="chest"))
        tokens = load.hired(opened, 8)
        call, port, path = load.ours(place)
        with load.served(call, port, path):
            done = load.working(port, tokens, 3.0, pages=load.pages("chexpert"), readers=4, counters=3)
        assert dict(done.errors) == {}
        assert done.counted == done.added > 0
        assert len(done.of["accept"].times) > done.added
        assert load.problems(opened) == []


def counted(opened: Database, how: Callable[[], object]) -> int:
    """Read the row of `counter`, wait, write one more, in four threads; return how many of the sixty were refused."""

    def one(_: int) -> int:
        try:
            with how() as connection:  # type: ignore[attr-defined]
                n = connection.scalar(text("SELECT public FROM counter"))
                time.sleep(0.002)
                connection.execute(text("UPDATE counter SET public = :n"), {"n": n + 1})
        except Deadline as error:
            return int("busy" in str(error))
        return 0

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(one, range(60)))


def shows(opened: Database) -> int:
    with opened.reading() as connection:
        return int(connection.scalar(text("SELECT public FROM counter")) or 0)


@where_it_lies
def test_sixty_times_one_more_is_sixty(place: str) -> None:
    with closing(database.connect(place, create=True)) as opened:
        assert counted(opened, opened.writing) == 0
        assert shows(opened) == 60


def test_a_deferred_transaction_would_refuse_writers(db: Database) -> None:
    """The control of the test above: the same work, with the transactions that we do not use."""

    @contextmanager
    def deferred() -> Iterator[object]:
        with database._in_words(db.engine), db.engine.begin() as connection:
            yield connection

    refused = counted(db, deferred)
    assert refused > 0
    assert shows(db) == 60 - refused


def test_reading_and_writing_in_two_transactions_would_lose_updates(db: Database) -> None:
    """The other control: the counter can show that something was lost."""

    class Apart:
        def scalar(self, query: object) -> object:
            with db.reading() as connection:
                return connection.scalar(query)  # type: ignore[call-overload]

        def execute(self, query: object, values: object) -> None:
            with db.writing() as connection:
                connection.execute(query, values)  # type: ignore[call-overload]

    @contextmanager
    def apart() -> Iterator[Apart]:
        yield Apart()

    assert counted(db, apart) == 0
    assert shows(db) < 60


@contextmanager
def busy(where: str) -> Iterator[None]:
    """Somebody edits one record over and over, in a process of their own."""
    code = """
import sys
from medaudit.review import database, people, workflow
from medaudit.review.records import parse
db = database.connect(sys.argv[1])
with db.reading() as c:
    author, reviewer = people.named(c, "contributor one"), people.named(c, "reviewer one")
n = 0
while True:
    n += 1
    with db.writing() as c:
        record = parse({"kind": "dataset", "slug": "busy", "name": f"n {n}", "description": "x" * 500})
        workflow.accept(c, reviewer, workflow.propose(c, author, "t", workflow.putting(c, [record])))
    print(n, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, where], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_reader_sees_one_state_while_others_write(place: str) -> None:
    with closing(database.connect(place, create=True)) as opened:
        hire(opened)
        with busy(place):
            found = []
            for _ in range(60):
                with opened.reading() as connection:
                    found += log.verify(connection)
        assert found == []


@pytest.mark.parametrize(
    "engine",
    ["sqlite", "postgresql"],
)
def test_a_review_that_several_make_at_once_is_made_once(place: str) -> None:
    code = "import sys; from medaudit.review import database as d; d.connect(sys.argv[1], create=True).close()"
    made = [subprocess.Popen([sys.executable, "-c", code, place], stderr=subprocess.PIPE) for _ in range(5)]
    said = [one.communicate()[1].decode()[-300:] for one in made]
    assert [one.returncode for one in made] == [0] * 5, said


# Backups and exports -----------------------------------------------------------------------------------------------


def test_a_backup_made_while_others_write_is_whole(db: Database, tmp_path: Path) -> None:
    hire(db)
    sizes = []
    with busy(str(db.engine.url.database)):
        for n in range(4):
            database.backup(db, tmp_path / f"copy{n}.sqlite")
            time.sleep(0.1)
    for n in range(4):
        alone = tmp_path / f"moved{n}.sqlite"  # the file alone, as somebody would carry it away
        shutil.copy(tmp_path / f"copy{n}.sqlite", alone)
        with closing(database.connect(alone)) as copy, copy.reading() as connection:
            assert load.problems(copy) == []
            sizes.append(connection.scalar(text("SELECT count(*) FROM revision")))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_backup_holds_every_row(db: Database, tmp_path: Path) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], *(dataset(f"d{n}") for n in range(50)))
    database.backup(db, tmp_path / "copy.sqlite")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        copied = list(copy.iterdump())
    with closing(sqlite3.connect(str(db.engine.url.database))) as own:
        assert copied == list(own.iterdump())
    assert not list(tmp_path.glob(".*.part"))


def test_a_backup_to_nowhere_is_said_in_one_line(db: Database, tmp_path: Path) -> None:
    with pytest.raises((DataError, UsageError), match="no-folder"):
        database.backup(db, tmp_path / "no-folder" / "copy.sqlite")


def test_an_exported_file_holds_the_records_when_it_is_copied_alone(db: Database, tmp_path: Path) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"))
    exports.public_sqlite(db, tmp_path / "public.sqlite")
    shutil.copy(tmp_path / "public.sqlite", tmp_path / "alone.sqlite")
    with closing(sqlite3.connect(tmp_path / "alone.sqlite")) as raw:
        assert raw.execute("SELECT slug FROM record").fetchall() == [("a",)]


# Files and disks ---------------------------------------------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable(tmp_path: Path) -> Iterator[Path]:
    """A review of one dataset that may be read and not written, in a folder that everybody may enter."""
    if not all(folder.stat().st_mode & 0o001 for folder in Path(database.__file__).parents):
        pytest.skip("the clone lies where nobody else can read it")
    folder = Path("/tmp") / f"medaudit-read-only-{os.getpid()}-{time.time_ns()}"
    folder.mkdir()
    path = folder / "r.sqlite"
    with closing(database.connect(path, create=True)) as opened:
        staff = hire(opened)
        publish(opened, staff["contributor"], staff["reviewer"], dataset("a"))
    path.chmod(0o444)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def one_line(error: BaseException) -> bool:
    return str(error).count("\n") == 0 and "Traceback" not in str(error)


def test_a_read_only_file_is_read_and_writing_is_refused_in_one_line(readable: Path) -> None:
    readable.parent.chmod(0o777)
    with nobody(), closing(database.connect(readable)) as opened:
        with opened.reading() as connection:
            assert workflow.current(connection, [("dataset", "a")])[("dataset", "a")][0] == 1
        with (
            pytest.raises(DataError, match=r"r\.sqlite: .*readonly database") as caught,
            opened.writing() as connection,
        ):
            people.add(connection, "x", "reader")
    assert one_line(caught.value)


def test_a_read_only_folder_is_said_in_one_line(readable: Path) -> None:
    readable.parent.chmod(0o555)
    with nobody(), pytest.raises(DataError, match=r"r\.sqlite: ") as caught:
        database.connect(readable)
    assert one_line(caught.value)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_no_longer_fits_is_refused_in_one_line_and_leaves_nothing(db: Database) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"))
    path = Path(str(db.engine.url.database))
    with (
        limited(Path(f"{path}-wal").stat().st_size + 50_000),
        pytest.raises(DataError, match=r"review\.sqlite: (disk I/O error|database or disk is full)") as caught,
    ):
        publish(db, staff["contributor"], staff["reviewer"], *(dataset(f"d{n}") for n in range(200)))
    assert one_line(caught.value)
    assert load.problems(db) == []
    publish(db, staff["contributor"], staff["reviewer"], dataset("b"))
    assert load.problems(db) == []


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with closing(database.connect(folder / "r.sqlite", create=True)) as opened:
            staff = hire(opened)
            big = [dataset(f"d{n}", description="x" * 9_000) for n in range(1_000)]
            with pytest.raises(DataError, match=r"r\.sqlite: (disk I/O error|database or disk is full)") as caught:
                any(publish(opened, staff["contributor"], staff["reviewer"], one) == 0 for one in big)
            assert one_line(caught.value)
            assert load.problems(opened) == []
            subprocess.run(["mount", "-o", "remount,size=9m", folder], check=True)
            publish(opened, staff["contributor"], staff["reviewer"], dataset("after"))
            assert load.problems(opened) == []
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,modality\nchexpert,DX\n" * 100, "is no database of a review"),
        (b"\x89PNG\r\n\x1a\n" + bytes(5_000), "is no database of a review"),
        (b"", "is no review; make one"),
    ],
)
def test_a_file_that_is_no_review_is_said_in_one_line_and_not_changed(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        database.connect(path)
    assert one_line(caught.value)
    if content:
        assert path.read_bytes() == content


def test_another_programs_database_is_no_review(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as raw:
        raw.execute("CREATE TABLE dataset (name TEXT)")
    with pytest.raises(DataError, match=r"r\.sqlite: is no review; make one with `medaudit review init`"):
        database.connect(tmp_path / "r.sqlite")


def read_all(path: Path) -> None:
    with closing(database.connect(path)) as opened, opened.reading() as connection:
        log.verify(connection)
        for table in ("document", "change", "claim", "relation"):
            connection.execute(text(f"SELECT * FROM {table}")).all()


def test_a_file_that_was_cut_off_is_said_in_one_line(db: Database, tmp_path: Path) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], *(dataset(f"d{n}") for n in range(100)))
    database.backup(db, tmp_path / "cut.sqlite")
    whole = (tmp_path / "cut.sqlite").read_bytes()
    (tmp_path / "cut.sqlite").write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    with pytest.raises(DataError, match=r"cut\.sqlite: is no database of a review") as caught:
        read_all(tmp_path / "cut.sqlite")
    assert one_line(caught.value)


@where_it_lies
def test_tables_of_another_version_are_refused_with_both_versions_and_what_to_do(place: str) -> None:
    with closing(database.connect(place, create=True)) as opened, opened.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(DataError, match=r"of version 0000, this program's 0\d+; run `medaudit review migrate`"):
        database.connect(place)


def test_a_long_reader_keeps_its_state_and_the_log_of_writes_shrinks_after_it(db: Database) -> None:
    """WAL: while somebody reads, what is written waits in a file beside; once they are done it is used again."""
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", description="x" * 9_000))
    wal = Path(f"{db.engine.url.database}-wal")

    def writing(first: int, last: int) -> None:
        for n in range(first, last):
            publish(db, staff["contributor"], staff["reviewer"], dataset("a", description=f"{n}" + "x" * 9_000))

    with db.reading(60) as connection:
        assert connection.scalar(text("SELECT count(*) FROM revision")) == 1
        writing(0, 120)
        assert connection.scalar(text("SELECT count(*) FROM revision")) == 1  # its own state, all the while
        grown = wal.stat().st_size
    assert grown > 6_000_000  # more than the thousand pages at which SQLite would begin anew
    writing(120, 240)
    assert wal.stat().st_size < 1.2 * grown  # nobody is in the way: it begins anew, and hardly grows
    with db.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM revision")) == 241
    assert load.problems(db) == []


def test_a_clock_that_goes_back_breaks_neither_history_nor_log(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = hire(db)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="one"))
    for module in (workflow, log):
        monkeypatch.setattr(module, "now", lambda: "2001-01-01T00:00:00.000+00:00")
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", name="two"))
    with db.reading() as connection:
        assert [entry[0] for entry in workflow.history(connection, "dataset", "a")] == [2, 1]
    assert load.problems(db) == []


def test_a_server_and_a_question_load_no_reader_of_sources() -> None:
    """They took a second and 40 MiB of each worker, and of each audit that asks what is known."""
    code = (
        "import sys, medaudit.review.web.app, medaudit.review.asking\n"
        "print(*sorted({'polars', 'httpx', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
