"""Nothing is asked by accident, nobody but the sources is asked, a busy source is waited for, no key is told."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import polars as pl
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.review.living import transports
from medaudit.review.living.transports import Bulk, Unavailable, canonical, cassette, live, recording

HERE = "https://api.openalex.org/works/W1"
KEY = "k3y-that-nobody-sees"


def asked(handler: Callable[[httpx.Request], httpx.Response], waits: list[float] | None = None) -> transports.Fetch:
    return live(
        allow_network=True, openalex_key=KEY, contact="me@example.org", transport=httpx.MockTransport(handler),
        sleep=(waits if waits is not None else []).append,
    )  # fmt: skip


def test_the_network_is_off_unless_asked_for() -> None:
    with pytest.raises(UsageError, match="network is off"):
        live(allow_network=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openalex.org/works", "https://example.org/", "https://127.0.0.1/", "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data", "https://0x7f000001/", "https://api.openalex.org.evil.org/works",
        "https://api.openalex.org@evil.org/", "https://user:word@api.openalex.org/", "https://api.openalex.org:8443/",
        "file:///etc/passwd", "https://api.openalex.org\\@evil.org/", "gopher://api.openalex.org/", "https://[1/", "",
        "https://API.OPENALEX.ORG.:443/", "https://evil.org#@api.openalex.org/", "https://localhost/", "//evil.org/",
    ],
)  # fmt: skip
def test_no_other_address_is_asked_nor_redirected_to(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        canonical(url)
    hit: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hit.append(request.url.host)
        return httpx.Response(302, headers={"location": url or "http://evil.org/"})

    with pytest.raises(UsageError):
        asked(handler)(HERE)
    assert hit == ["api.openalex.org"]
    transports.record(tmp_path, HERE, 302, {}, {"Location": url or "http://evil.org/"})
    with pytest.raises(UsageError):
        cassette(tmp_path)(HERE)


def test_a_merged_work_is_followed_and_a_circle_is_not() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/works/W1":
            return httpx.Response(301, headers={"location": "/works/W2"})
        return httpx.Response(200, json={"id": "https://openalex.org/W2"})

    answer = asked(handler)(HERE)
    assert (answer.url, answer.body["id"]) == ("https://api.openalex.org/works/W2", "https://openalex.org/W2")
    with pytest.raises(Unavailable, match="redirects more than 5"):
        asked(lambda request: httpx.Response(301, headers={"location": str(request.url)}))(HERE)


def test_a_busy_source_is_asked_again_when_it_says_so() -> None:
    answers = [
        httpx.Response(429, headers={"retry-after": "7"}),
        httpx.Response(503, headers={"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=40))}),
        httpx.Response(500),
        httpx.Response(200, json={"ok": True}),
    ]
    waits: list[float] = []
    assert asked(lambda _: answers.pop(0), waits)(HERE).body == {"ok": True}
    assert waits[0] == 7
    assert 30 < waits[1] <= 41
    assert waits[2] == 4


def test_it_gives_up_in_the_end_and_does_not_wait_for_hours() -> None:
    waits: list[float] = []
    with pytest.raises(Unavailable, match="status 503, 5 times"):
        asked(lambda _: httpx.Response(503), waits)(HERE)
    assert waits == [1, 2, 4, 8]
    with pytest.raises(Unavailable, match="wait 86400 s"):
        asked(lambda _: httpx.Response(429, headers={"retry-after": "86400"}), waits)(HERE)

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(Unavailable, match="ConnectError"):
        asked(broken, waits)(HERE)


def test_a_large_answer_is_stopped_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "LARGEST", 2**20)
    packed = gzip.compress(b"[" + b" " * 2**24 + b"]", mtime=0)
    assert len(packed) < 2**15
    for response in (
        httpx.Response(200, content=packed, headers={"content-encoding": "gzip"}),
        httpx.Response(200, content=b" " * (2**20 + 1)),
    ):
        with pytest.raises(Unavailable, match="larger than 1 MiB"):
            asked(lambda _, response=response: response)(HERE)


def test_a_slow_answer_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "LONGEST", -1.0)
    with pytest.raises(Unavailable, match="took longer"):
        asked(lambda _: httpx.Response(200, json={}))(HERE)


def test_the_key_is_sent_and_stands_in_no_log_message_or_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        return httpx.Response(200 if "W1" in str(request.url) else 503, json={"id": "W1"})

    with caplog.at_level(logging.DEBUG):
        fetch = asked(handler)
        recording(fetch, tmp_path)(HERE + f"?api_key={KEY}")
        with pytest.raises(Unavailable) as error:
            fetch("https://api.openalex.org/works/W2")
        fetch_all = "https://api.crossref.org/works/10.1/W1"
        fetch(fetch_all)
    assert KEY in sent[0]
    assert "mailto=me%40example.org" in sent[-1] or "mailto=me@example.org" in sent[-1]
    assert KEY not in sent[-1]
    assert "api.openalex.org" in caplog.text  # the log is there, and silent about the key
    told = caplog.text + str(error.value) + "".join(p.name + p.read_text() for p in tmp_path.iterdir())
    assert KEY not in told
    assert cassette(tmp_path)(HERE).body == {"id": "W1"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_askers_error(status: int) -> None:
    with pytest.raises(UsageError, match="valid key"):
        asked(lambda _: httpx.Response(status))(HERE)


def test_an_answer_that_is_no_json_is_said_so() -> None:
    for content in (b"<html>", b"[" * 200_000, b"\xff\xfe"):
        with pytest.raises(Unavailable, match="no JSON"):
            asked(lambda _, content=content: httpx.Response(200, content=content))(HERE)


def test_one_address_has_one_form() -> None:
    one = canonical("https://API.openalex.org/works?filter=doi:10.1/a%7Cdoi&api_key=x&cursor=*&mailto=a%40b.c")
    assert one == canonical("https://api.openalex.org:443/works?cursor=%2A&filter=doi%3A10.1%2Fa|doi")
    assert "api_key" not in one
    assert canonical(one) == one


def test_what_was_not_recorded_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=transports.file_of(HERE)):
        cassette(tmp_path)(HERE)
    (tmp_path / transports.file_of(HERE)).write_text("{}")
    with pytest.raises(DataError, match="no recorded answer"):
        cassette(tmp_path)(HERE)
    with pytest.raises(UsageError, match="no folder"):
        cassette(tmp_path / "nowhere")


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "csv", "parquet"])
@pytest.mark.parametrize("start", [0, 3, 10, 12, 24, 25, 99])
def test_files_are_read_in_parts_from_any_record_on(form: str, start: int, tmp_path: Path) -> None:
    rows = [{"publication": f"10.1234/{n}", "title": f'réf, "{n}"\nnext'} for n in range(25)]
    paths = []
    for n, part in enumerate((rows[:12], rows[12:])):
        path = tmp_path / f"{n}.{form}"
        if form == "parquet":
            pl.DataFrame(part).write_parquet(path)
        elif form == "csv":
            pl.DataFrame(part).write_csv(path)
        else:
            lines = "".join(json.dumps(row) + "\n\n" for row in part).encode()
            path.write_bytes(gzip.compress(lines, mtime=0) if form.endswith("gz") else lines)
        paths.append(path)
    parts = list(Bulk(tuple(paths), rows=5).parts(start))
    assert [row for part, _ in parts for row in part] == rows[start:]
    assert all(0 < len(part) <= 5 for part, _ in parts)
    assert [after for _, after in parts][-1:] == ([25] if start < 25 else [])


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n{"id": \n')
    with pytest.raises(DataError, match="line 2"):
        list(Bulk((path,)).parts())
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="is no record"):
        list(Bulk((path,)).parts())
    with pytest.raises(UsageError, match=r"expected \.jsonl"):
        list(Bulk((Path(__file__),)).parts())
    with pytest.raises(UsageError, match="no such file"):
        list(Bulk((tmp_path / "b.csv",)).parts())
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"c\.parquet"):
        list(Bulk((tmp_path / "c.parquet",)).parts())
