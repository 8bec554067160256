"""Where answers come from: recorded (the rule), files in bulk, or the network, which is off unless asked for.

A transport of recorded or live answers is a function from an address to an :class:`Answer`. Both refuse the same
addresses, follow the same redirects and read the same bodies, so that what passes on recorded answers is what runs.
No address comes from a user: providers make them, and every hop must be https to a host of :data:`HOSTS`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urljoin, urlsplit, urlunsplit

import httpx
import polars as pl

from medaudit.errors import DataError, UsageError

HOSTS = ("api.openalex.org", "api.crossref.org", "api.datacite.org")
"""The only hosts that are ever asked."""
SECRET = ("api_key", "mailto")
"""Parameters that are no part of an address: they are added at the last moment, and stand in no message or file."""
LARGEST = 32 * 2**20
"""Bytes of an answer, unpacked; a page of 100 works has about 2 MB."""
LONGEST = 60.0
"""Seconds one answer may take, from the first byte to the last."""
HOPS = 5
TRIES = 5
PATIENCE = 120.0
"""The longest pause that a source may ask for; with a longer one the run stops, to be resumed later."""


class Unavailable(DataError):
    """A source gave no usable answer; what was read so far is kept, and the same run can go on later."""


@dataclass(frozen=True)
class Answer:
    """What a source answered: the address that it came from after redirects, the status, and the JSON."""

    url: str
    status: int
    body: Any


@dataclass(frozen=True)
class _Raw:
    status: int
    headers: Mapping[str, str]
    body: bytes


Fetch = Callable[[str], Answer]
"""A transport: give it an address."""


def canonical(url: str) -> str:
    """Return the one form of an address: parameters sorted, one way of quoting, and nothing secret.

    Raises UsageError where it is not https, its host is none of :data:`HOSTS`, or it names a user or a port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("an address of a source cannot be read") from None
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" or host not in HOSTS or port not in (None, 443) or "@" in parts.netloc:
        raise UsageError(f"'{parts.scheme}://{host}' is not asked; expected https and one of {', '.join(HOSTS)}")
    pairs = sorted((key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key not in SECRET)
    path = quote(unquote(parts.path), safe="/:;,()") or "/"
    return urlunsplit(("https", host, path, urlencode(pairs, quote_via=quote, safe=":|,*"), ""))


# Recorded answers ------------------------------------------------------------------------------------------------


def file_of(url: str) -> str:
    """Return the name of the file that holds the answer of an address: words of it to read, and its hash."""
    bare = canonical(url)
    words = re.sub(r"[^A-Za-z0-9]+", "-", bare.removeprefix("https://"))[:60].strip("-")
    return f"{words}-{hashlib.sha256(bare.encode()).hexdigest()[:12]}.json"


def record(folder: Path, url: str, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Path:
    """Write an answer to a cassette; return the file. Nothing secret of the address is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_of(url)
    entry = {"url": canonical(url), "status": status, "headers": dict(headers or {}), "body": body}
    path.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def cassette(folder: Path) -> Fetch:
    """Return a transport of the answers recorded in ``folder``.

    It raises :class:`Unavailable` for an address that was not recorded, naming the file that would hold it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no folder of recorded answers")

    def once(url: str) -> _Raw:
        path = folder / file_of(url)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            return _Raw(int(entry["status"]), _lower(entry.get("headers", {})), json.dumps(entry["body"]).encode())
        except FileNotFoundError:
            raise Unavailable(f"{canonical(url)}: was not recorded; expected {path}") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path}: is no recorded answer; record it again") from None

    return lambda url: _follow(url, once)


def recording(fetch: Fetch, folder: Path) -> Fetch:
    """Return ``fetch`` that also writes each answer to a cassette, under the address asked and the one it came from."""

    def recorded(url: str) -> Answer:
        answer = fetch(url)
        if answer.url != canonical(url):
            record(folder, url, 301, {}, {"location": answer.url})
        record(folder, answer.url, answer.status, answer.body)
        return answer

    return recorded


# The network -----------------------------------------------------------------------------------------------------


class _WithSecrets(httpx.BaseTransport):
    """Adds keys to a copy of the request just before it is sent: the client, and so its log, never sees them."""

    def __init__(self, inner: httpx.BaseTransport, keys: Mapping[str, Mapping[str, str]]) -> None:
        self._inner, self._keys = inner, keys

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        extra = self._keys.get(request.url.host, {})
        url = request.url.copy_merge_params(extra) if extra else request.url
        return self._inner.handle_request(
            httpx.Request(request.method, url, headers=request.headers, extensions=request.extensions)
        )

    def close(self) -> None:
        self._inner.close()


def live(
    *,
    allow_network: bool,
    openalex_key: str | None = None,
    contact: str | None = None,
    proxy: str | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetch:
    """Return a transport that asks the sources themselves.

    ``allow_network`` must be given as true: nothing is asked by accident. ``openalex_key``: OpenAlex needs one since
    13 February 2026; ``contact``: an e-mail address for Crossref's polite pool. ``transport`` stands in for the network
    in tests. A busy source (429, 5xx) is asked again, after the time that it names. Raises UsageError where the network
    is not allowed or the source wants a key, :class:`Unavailable` where there is no usable answer.
    """
    if not allow_network:
        raise UsageError("the network is off; ask for it, or search on recorded answers or files")
    keys: dict[str, dict[str, str]] = {}
    if openalex_key:
        keys["api.openalex.org"] = {"api_key": openalex_key}
    if contact:
        keys["api.crossref.org"] = {"mailto": contact}
    client = httpx.Client(
        transport=_WithSecrets(transport or httpx.HTTPTransport(proxy=proxy), keys),
        timeout=httpx.Timeout(20.0),
        follow_redirects=False,
        headers={"user-agent": "medaudit-living-review", "accept": "application/json"},
    )
    return lambda url: _follow(url, lambda one: _patient(client, one, sleep))


def _patient(client: httpx.Client, url: str, sleep: Callable[[float], None]) -> _Raw:
    said = ""
    for attempt in range(TRIES):
        try:
            raw = _read(client, url)
        except httpx.InvalidURL:
            raise Unavailable(f"{url}: redirects to no address") from None
        except httpx.TransportError as error:
            raw, said = None, type(error).__name__
        if raw is not None and raw.status != 429 and raw.status < 500:
            return raw
        wait = 2.0**attempt
        if raw is not None:
            said = f"status {raw.status}"
            wait = max(wait, _retry_after(raw.headers.get("retry-after")))
        if wait > PATIENCE:
            raise Unavailable(f"{url}: {said}; it asks to wait {wait:.0f} s, so go on with this run later")
        if attempt + 1 < TRIES:
            sleep(wait)
    raise Unavailable(f"{url}: {said}, {TRIES} times; go on with this run later")


def _read(client: httpx.Client, url: str) -> _Raw:
    until, got, parts = time.monotonic() + LONGEST, 0, []
    with client.stream("GET", url) as response:
        for part in response.iter_bytes(65_536):  # unpacked bytes: a small body that unpacks to much is stopped too
            got += len(part)
            if got > LARGEST:
                raise Unavailable(f"{url}: the answer is larger than {LARGEST // 2**20} MiB")
            if time.monotonic() > until:
                raise Unavailable(f"{url}: the answer took longer than {LONGEST:.0f} s")
            parts.append(part)
        return _Raw(response.status_code, _lower(response.headers), b"".join(parts))


def _retry_after(said: str | None) -> float:
    """Return the seconds that a ``Retry-After`` names, as a number or as a date (RFC 9110, 10.2.3)."""
    if not said:
        return 0.0
    if said.strip().isdigit():
        return float(said[:9])
    try:
        when = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _follow(url: str, once: Callable[[str], _Raw]) -> Answer:
    at = canonical(url)
    for _ in range(HOPS + 1):
        raw = once(at)
        if raw.status in (301, 302, 303, 307, 308) and "location" in raw.headers:
            at = _hop(at, raw.headers["location"])
            continue
        if raw.status in (401, 403):
            raise UsageError(f"{at}: status {raw.status}; the source wants a valid key")
        try:
            body = json.loads(raw.body) if raw.status == 200 else None
        except (ValueError, RecursionError):
            raise Unavailable(f"{at}: the answer is no JSON") from None
        return Answer(at, raw.status, body)
    raise Unavailable(f"{canonical(url)}: redirects more than {HOPS} times")


def _hop(at: str, location: str) -> str:
    """Return where a redirect leads; it is held to the same rule as the address that was asked."""
    try:
        joined = urljoin(at, location)
    except ValueError:
        raise UsageError(f"{at}: redirects to an address that cannot be read") from None
    return canonical(joined)


def _lower(headers: Mapping[str, str] | httpx.Headers) -> dict[str, str]:
    return {str(key).lower(): str(value) for key, value in headers.items()}


# Files in bulk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bulk:
    """Files of a source's records: JSON lines (also gzipped), CSV or Parquet, read a part at a time.

    JSON lines go line by line through the standard library: an inverted index has a column for each word of the
    language, and a reader of tables would make them all.
    """

    paths: tuple[Path, ...]
    rows: int = 1_000

    def parts(self, start: int = 0) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Yield records and the number of the next one, beginning at record ``start`` of all the files together.

        Raises UsageError where a file is of another form, DataError naming file and line where it cannot be read.
        """
        at = 0
        for path in self.paths:
            if not path.is_file():
                raise UsageError(f"{path}: there is no such file")
            for part in _records(path, self.rows, max(0, start - at)):
                if isinstance(part, int):
                    at += part
                    continue
                at += len(part)
                yield part, at


def _records(path: Path, rows: int, skip: int) -> Iterator[list[dict[str, Any]] | int]:
    """Yield records in parts; a number tells that so many were skipped."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        yield from _lines(path, rows, skip)
    elif name.endswith((".csv", ".parquet")):
        try:
            frame = pl.scan_csv(path, infer_schema=False) if name.endswith(".csv") else pl.scan_parquet(path)
            size = int(frame.select(pl.len()).collect(engine="streaming").item())
            yield min(skip, size)
            if skip < size:
                for batch in frame.slice(skip).collect_batches(chunk_size=rows):
                    for start in range(0, batch.height, rows):
                        yield batch.slice(start, rows).to_dicts()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    else:
        raise UsageError(f"{path}: expected .jsonl, .jsonl.gz, .csv or .parquet")


def _lines(path: Path, rows: int, skip: int) -> Iterator[list[dict[str, Any]] | int]:
    part: list[dict[str, Any]] = []
    passed = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LARGEST), b""), start=1):
                if not line.strip():
                    continue
                if passed < skip:
                    passed += 1
                    continue
                try:
                    one = json.loads(line)
                except (ValueError, RecursionError):
                    raise DataError(f"{path}, line {number}: is no JSON") from None
                if not isinstance(one, dict):
                    raise DataError(f"{path}, line {number}: is no record; expected one {{...}} a line")
                part.append(one)
                if len(part) == rows:
                    if passed:
                        yield passed
                        passed = skip = 0
                    yield part
                    part = []
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}") from None
    if passed:
        yield passed
    if part:
        yield part


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]
