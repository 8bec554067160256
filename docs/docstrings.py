"""Docstrings are written for a terminal, with reStructuredText's few signs; the site's pages are Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:func|class|mod|meth|attr|data):`~?([\w.]+)`")
_RULE = re.compile(r"^=+(?: +=+)+$")


class Markdown(Extension):
    """Turns every docstring to Markdown as it is read."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Turn the docstring of ``obj``, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return a docstring as Markdown: roles as code, simple tables as tables, ``::`` as what precedes a code block."""
    lines = _ROLE.sub(lambda role: f"`{role[1].rsplit('.', 1)[-1]}`", text).splitlines()
    out: list[str] = []
    rules = [i for i, line in enumerate(lines) if _RULE.match(line.strip())]
    tables = {rules[k]: rules[k : k + 3] for k in range(0, len(rules) - len(rules) % 3, 3)}
    i = 0
    while i < len(lines):
        if i in tables:
            out += _table(lines, *tables[i])
            i = tables[i][2] + 1
            continue
        out.append(re.sub(r"::$", ":", lines[i]))
        i += 1
    return "\n".join(out)


def _table(lines: list[str], top: int, middle: int, bottom: int) -> list[str]:
    """Return the rows between three rules as a Markdown table; the rules' columns cut the rows."""
    starts = [match.start() for match in re.finditer(r"=+", lines[top])]
    bounds = list(zip(starts, [*starts[1:], None], strict=True))

    def row(line: str) -> str:
        return "| " + " | ".join(line[a:b].strip().replace("``", "`") for a, b in bounds) + " |"

    return [row(lines[top + 1]), "|" + " --- |" * len(bounds), *(row(line) for line in lines[middle + 1 : bottom])]
