"""Templates: escaped by default, with links that work on a server and from files alike."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from medaudit import __version__
from medaudit.review import vocabulary

STATIC = Path(__file__).parent / "static"
_FILES = (".css", ".js", ".svg", ".json", ".bib", ".atom")
_FOLDERS = {"dataset": "datasets", "artifact": "artifacts", "work": "works"}


def _safe_link(url: str) -> bool:
    return urlsplit(url.strip()).scheme.lower() in ("http", "https")


@functools.cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "linkify": False}).disable(["image", "html_block", "html_inline"])
    reader.enable("table")
    reader.validateLink = _safe_link  # type: ignore[method-assign]
    return reader


def markdown(text: str) -> Markup:
    """Return a text in Markdown as HTML: no raw HTML, no pictures, links to http and https only."""
    # A column's alignment would be an inline style, which the pages' policy forbids; in texts a "<" is escaped.
    return Markup(re.sub(r'<(t[hd]) style="text-align:\w+">', r"<\1>", _markdown().render(text)))


def number(value: Any) -> str:
    """Return a number as a person reads it: thousands apart, four digits of a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) >= 10_000:
        return f"{int(value):,}"
    return f"{int(value)}" if float(value).is_integer() else f"{value:.4g}"


def links(static: bool, depth: int = 0) -> Callable[..., str]:
    """Return the function that templates call for an address, as ``link("dataset", "chexpert")``.

    ``depth``: how many folders below the site's root a static page lies.
    """
    up = "../" * depth

    def link(name: str, *parts: str, **query: Any) -> str:
        path = [_FOLDERS.get(name, name), *(quote(str(part), safe="") for part in parts)]
        if name == "home":
            path = ["index" if static else ""]
        asked = urlencode({key: value for key, value in query.items() if value not in (None, "")}, doseq=True)
        if not static:
            return "/" + "/".join(path) + (f"?{asked}" if asked else "")
        ending = "" if path[-1].endswith(_FILES) else ".html"
        return up + "/".join(path) + ending

    return link


@functools.cache
def environment() -> Environment:
    """Return the templates' environment."""
    found = Environment(
        loader=PackageLoader("medaudit.review.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"],
    )  # fmt: skip
    found.filters |= {"markdown": markdown, "number": number, "words": lambda text: str(text).replace("_", " ")}
    found.globals |= {"version": __version__, "vocabulary": vocabulary}
    return found


def render(template: str, *, static: bool = False, depth: int = 0, **context: Any) -> str:
    """Return a page; ``static``: as a file ``depth`` folders below the root of a site without a server."""
    defaults: dict[str, Any] = {"session": None, "csrf": "", "message": "", "static": static, "query": "",
                                "beside": (), "closed": False}  # fmt: skip
    return environment().get_template(template).render(**(defaults | context), link=links(static, depth))
