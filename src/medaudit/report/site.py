"""The runs below a folder as pages of a server: a list, a page a run, and the files that belong to a run; read only.

An ASGI app below ``/runs/``, for the command line to join with the review's: a report knows nothing of the review, so
who asks for these pages says what is ``beside`` them, and which findings were ``published``. It lies here and not in
``cli`` because it serves what this room writes: a file that a run folder gets one day is let out here or nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, RedirectResponse, Response

from medaudit.errors import DataError, UsageError
from medaudit.report.html import page
from medaudit.report.listing import Listed, listed
from medaudit.report.overview import gallery, render
from medaudit.report.run import Run

ROOT = "/runs/"
FILES = {
    "report.html": "text/html; charset=utf-8",
    "findings.json": "application/json",
    "run.json": "application/json",
    "measurements.parquet": "application/vnd.apache.parquet",
}
"""What a run folder lets out, beside its figures."""
_FIGURE = re.compile(r"figures/[A-Za-z0-9][A-Za-z0-9._-]*\.svg")
_LOCKED = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "private, no-cache",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Publication:
    """A contribution to a review that holds findings of a run; ``artifact`` is its name where it is ``public``."""

    number: int
    state: str
    title: str
    artifact: str
    public: bool


def create(
    folder: Path,
    *,
    beside: Sequence[tuple[str, str]] = (),
    published: Callable[[Run], Sequence[Publication]] | None = None,
) -> App:
    """Return the app of the runs below ``folder``: ``/runs/``, ``/runs/gallery``, ``/runs/r/NAME/`` and its files.

    ``beside``: words and addresses of what else there is, for the navigation. ``published``: what a review holds of a
    run; None where there is no review. A name in an address is looked up among the runs that are there, and is never
    made a path of: nothing outside a run can be named, and what leads out by a link is not served.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            answer = _said(405, "these pages only read", {"allow": "GET, HEAD"})
        else:
            answer = await run_in_threadpool(_answer, str(scope["path"]), folder, beside, published)
        await answer(scope, receive, send)

    return app


def _answer(
    path: str, folder: Path, beside: Sequence[tuple[str, str]], published: Callable[[Run], Sequence[Publication]] | None
) -> Response:
    if path == ROOT.rstrip("/"):
        return RedirectResponse(ROOT, 301, dict(_HEADERS))
    try:
        runs = {one.name: one for one in listed(folder)}
        below = path.removeprefix(ROOT)
        if not below:
            rows = [(one, _address(one)) for one in runs.values()]
            return _html("Runs", folder, beside, runs=rows)
        if below == "gallery":
            shown = gallery(folder, address=lambda one: f"{_address(one)}report.html")
            return Response(render(shown), 200, _headers("style-src 'unsafe-inline'; img-src data:"), "text/html")
        found = _named(below.removeprefix("r/"), runs) if below.startswith("r/") else None
        if found is None:
            return _said(404, "there is no such run")
        run, name = found
        if name:
            return _file(run, name, folder)
        told = published(Run.read(run.path)) if published is not None else ()
    except (DataError, UsageError) as error:
        return _said(404, str(error))
    files = [name for name in (*FILES, *_figures(run.path)) if _inside(run.path, name, folder) is not None]
    return _html(
        run.name, folder, beside, run=run, files=files, publications=told, reviewed=published is not None
    )  # fmt: skip


def _named(below: str, runs: dict[str, Listed]) -> tuple[Listed, str] | None:
    """Return the run whose name ``below`` begins with, and what follows it; the longest name counts."""
    parts = below.split("/")
    for n in range(len(parts) - 1, 0, -1):
        run = runs.get("/".join(parts[:n]))
        if run is not None:
            return run, "/".join(parts[n:])
    return None


def _file(run: Listed, name: str, folder: Path) -> Response:
    path = _inside(run.path, name, folder) if name in FILES or _FIGURE.fullmatch(name) else None
    if path is None:
        return _said(404, "a run has no such file, or it is not for reading here")
    if name == "report.html":
        # The page's own policy says the same; this one holds also for a page that somebody else has put there.
        headers = _headers(f"style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{_script()}'")
    elif name.endswith(".svg"):
        headers = _headers("style-src 'unsafe-inline'; img-src data:")
    else:
        headers = _headers("")
    return FileResponse(path, 200, headers, FILES.get(name, "image/svg+xml"))


def _inside(run: Path, name: str, folder: Path) -> Path | None:
    """Return the file of a run, None where there is none or a link leads it, or its folder, elsewhere."""
    path, root = run / name, folder.resolve()
    if path.is_symlink() or not path.is_file():
        return None
    real = path.resolve()
    return real if real == run.resolve() / name and real.is_relative_to(root) else None


def _figures(run: Path) -> list[str]:
    folder = run / "figures"
    if folder.is_symlink() or not folder.is_dir():
        return []
    names = sorted(f"figures/{name}" for name in os.listdir(folder))
    return [name for name in names if _FIGURE.fullmatch(name)]


def _address(one: Listed) -> str:
    return f"{ROOT}r/{quote(one.name)}/"


def _html(title: str, folder: Path, beside: Sequence[tuple[str, str]], **content: Any) -> Response:
    style = page("runs.css")
    told = {"run": None, "runs": [], "files": [], "publications": (), "reviewed": False} | content
    html = page("runs.html", title=title, folder=folder.resolve().name, beside=beside, style=Markup(style), **told)
    return Response(html, 200, _headers(f"style-src 'sha256-{_hash(style)}'"), "text/html")


def _said(status: int, text: str, more: dict[str, str] | None = None) -> Response:
    return Response(f"{text}\n", status, _headers("") | (more or {}), "text/plain")


def _headers(policy: str) -> dict[str, str]:
    """Return the headers of an answer that may load what ``policy`` says, and nothing else."""
    return _HEADERS | {"content-security-policy": "; ".join(p for p in ("default-src 'none'", policy, _LOCKED) if p)}


def _script() -> str:
    script = resources.files("medaudit.report").joinpath("templates/copy.js").read_text(encoding="utf-8")
    return _hash(script)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
