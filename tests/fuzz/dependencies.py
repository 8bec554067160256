"""Packages that medaudit needs at run time, with versions and licences: ``python tests/fuzz/dependencies.py``.

Offline: all is read from the installed packages' own metadata. For known vulnerabilities use ``pip-audit -r
constraints.txt`` where a service of them can be reached.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import sys
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COMPATIBLE = {
    "MIT": "MIT|Expat", "BSD": "BSD", "Apache-2.0": "Apache", "PSF-2.0": "PSF|Python Software Foundation", "ISC": "ISC",
    "MPL-2.0": "MPL|Mozilla Public License", "HPND": "HPND|CMU",
    "Unlicense": "Unlicense|Public Domain|0BSD|CC0|WTFPL|Zlib",
    "LGPL": "LGPL|Lesser General Public",
}  # fmt: skip
"""What a program under Apache-2.0 may need, by a name in SPDX or in words. LGPL and MPL bind changes of the package."""
READ = {
    "nvidia": "NVIDIA's terms: CUDA's libraries, which torch brings along on Linux; never shipped by us",
    "cuda": "NVIDIA's terms: as above",
}
"""Packages whose terms are no open licence, by the beginning of their name, and why they may be there."""


@dataclass(frozen=True)
class Package:
    """An installed package: its licence as it says it, and which of :data:`COMPATIBLE` that is."""

    name: str
    version: str
    licence: str
    kind: str
    wants: tuple[str, ...] = ()
    """Requirements that are not met."""


def needed(root: str = "medaudit", extras: tuple[str, ...] = ("perceptual", "huggingface")) -> list[Package]:
    """Return every package that ``root`` needs with ``extras``, directly or not, in order of their names."""
    waiting, seen, found = [(root, frozenset(extras))], set(), {}
    while waiting:
        name, asked = waiting.pop()
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = Package(name, "", "", "", ("it is not installed",))
            continue
        wants = []
        for line in package.requires or []:
            one = Requirement(line)
            if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in asked | {""}):
                continue
            waiting.append((canonicalize_name(one.name), frozenset(one.extras)))
            if not _met(one):
                wants.append(line)
        if name != root:
            licence = _licence(package)
            found[name] = Package(name, package.version, licence, kind_of(licence, name), tuple(wants))
    return [found[name] for name in sorted(found)]


def kind_of(licence: str, name: str = "") -> str:
    """Return which compatible licence this is, ``own terms`` for a package of :data:`READ`, else nothing."""
    if any(name.startswith(begin) for begin in READ):
        return "own terms"
    if re.search(r"(?<!L)GPL|(?<!Lesser )General Public", licence) and " OR " not in licence:
        return ""  # also where MIT stands beside it
    return next(
        (kind for kind, words in COMPATIBLE.items() if re.search(rf"\b(?:{words})", licence, re.IGNORECASE)), ""
    )


def _met(one: Requirement) -> bool:
    try:
        return one.specifier.contains(metadata.version(one.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _licence(package: metadata.Distribution) -> str:
    said = package.metadata
    classified = [
        line.rsplit("::", 1)[-1].strip() for line in said.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    for text in (
        said.get("License-Expression"),
        " ; ".join(one for one in classified if one != "OSI Approved"),
        said.get("License"),
    ):
        if text and text.strip() and text.strip().upper() != "UNKNOWN":
            return " ".join(text.split())[:60]
    for file in package.files or []:  # some say it in a file only
        if re.search(r"(?i)(licen[cs]e|copying)", file.name) and file.locate().is_file():  # type: ignore[union-attr]
            return " ".join(file.read_text().split())[:60]
    return ""


if __name__ == "__main__":
    packages = needed()
    for one in packages:
        print(
            f"{one.name:28} {one.version:16} {one.kind or 'NOT KNOWN':12} {one.licence} {'; '.join(one.wants)}".rstrip()
        )
    wrong = [one.name for one in packages if not one.kind or one.wants]
    print(f"{len(packages)} packages; to look at: {', '.join(wrong) or 'none'}")
    sys.exit(1 if wrong else 0)
