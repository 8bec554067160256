"""Reviews for the tests: empty or small, on SQLite and on a PostgreSQL of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_reviews import hire

from medaudit.review import database
from medaudit.review.database import Database
from medaudit.review.people import Person

_SERVERS = (*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *map(Path, filter(None, [shutil.which("initdb")])))
POSTGRES = next((found.parent for found in _SERVERS if found.exists()), None)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = database.connect(tmp_path / "review.sqlite", create=True)
    yield opened
    opened.close()


@pytest.fixture
def staff(db: Database) -> dict[str, Person]:
    return hire(db)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database on a PostgreSQL server of the tests' own, and returns its address."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    root = os.geteuid() == 0
    folder = Path("/tmp") / f"medaudit-pg-{os.getpid()}" if root else tmp_path_factory.mktemp("pg")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    run = []
    if root:  # initdb refuses to be root
        subprocess.run(["chown", "postgres", str(folder)], check=True)
        run = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    begin = [*run, POSTGRES / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(begin, check=True, capture_output=True, cwd="/")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*run, POSTGRES / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    import psycopg

    address = f"postgresql://postgres@127.0.0.1:{port}/"
    for _ in range(100):
        try:
            psycopg.connect(address + "postgres", autocommit=True).close()
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    made = 0

    def fresh() -> str:
        nonlocal made
        made += 1
        with psycopg.connect(address + "postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE review{made}")
        return f"{address}review{made}"

    yield fresh
    subprocess.run([*run, POSTGRES / "pg_ctl", "-D", data, "stop", "-m", "immediate"], check=False, capture_output=True,
                   cwd="/")  # fmt: skip
    server.wait(timeout=20)
    shutil.rmtree(folder, ignore_errors=True)
