"""The registry: what each choice assumes, read once from YAML, checked, and named by a hash of its content.

Everything that a reader of arXiv 2510.02996 may want to mend is data in ``data/``, with its source; nothing here is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medaudit.errors import DataError, UsageError
from medaudit.explanation.assumptions.boxes import EVERYWHERE, Box
from medaudit.explanation.assumptions.yaml_file import read_yaml

if TYPE_CHECKING:
    from medaudit.explanation.assumptions import schema

FOLDER = Path(__file__).parent / "data"
ATOMS = (
    "explanandum", "scope", "units", "absence", "allocation", "locality", "shown", "chance", "plurality", "access",
    "human", "truth",
)  # fmt: skip
"""The twelve choices, A1 to A12 of the spec."""
DEFAULT = "mattioli2025"


@dataclass(frozen=True, eq=False)
class Framework:
    """Two axes, the paradigms as regions of their square, and where each value of each choice stands."""

    id: str
    record: schema.FrameworkFile
    places: Mapping[tuple[str, str], Box]
    """(atom, value) to its box."""
    incoherent: tuple[schema.Incoherence, ...] = ()
    """What cannot be held together whatever the boxes say."""

    def place(self, atom: str, value: str) -> Box:
        """Return where a value stands; the whole square where the framework says nothing of it."""
        return self.places.get((atom, value), EVERYWHERE)


@dataclass(frozen=True, eq=False)
class Registry:
    """All that is known, as read."""

    folder: Path
    atoms: Mapping[str, schema.Atom]
    incoherent: tuple[schema.Incoherence, ...]
    families: Mapping[str, schema.Family]
    pairs: Mapping[str, schema.Pair]
    questions: schema.Questions
    claims: schema.Claims
    warrants: Mapping[str, schema.Warrant]
    frameworks: Mapping[str, Framework]
    hash: str
    """SHA-256 of the content, whatever its order, layout and remarks; it goes on every card."""

    @cached_property
    def presets(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Name of a preset to its family and to the choices in which it departs from the family's own."""
        return {
            name: (family, each.over) for family, one in self.families.items() for name, each in one.presets.items()
        }

    @cached_property
    def controls(self) -> frozenset[str]:
        """Names of the presets that are no explanations, but what explanations are held against."""
        return frozenset(name for one in self.families.values() for name, each in one.presets.items() if each.control)

    def sentences(self) -> Iterator[tuple[str, schema.Sentence]]:
        """Yield every sentence with the place where it stands."""
        for part in ("atoms", "incoherent", "families", "pairs", "questions", "claims", "warrants"):
            yield from _sentences(getattr(self, part), part)
        for name, one in self.frameworks.items():
            yield from _sentences(one.record, f"frameworks/{name}")


def registry(folder: Path | str | None = None) -> Registry:
    """Return the registry of ``folder``, by itself the one that comes with medaudit; read once.

    Raises DataError, one line with the file, the line and the key, where it is not as it must be.
    """
    return _read(Path(folder) if folder is not None else FOLDER)


def framework(name: str | Path | Framework = DEFAULT, known: Registry | None = None) -> Framework:
    """Return a framework by its name, or one read from a YAML file of the user's.

    Raises UsageError for a name that is not there, DataError for a file that is none.
    """
    if isinstance(name, Framework):
        return name
    known = known or registry()
    if str(name) in known.frameworks:
        return known.frameworks[str(name)]
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        from medaudit.explanation.assumptions import schema

        plain, text = read_yaml(path)
        return _framework(path, text, _checked(schema.FrameworkFile, plain, path, text), known.atoms, known.incoherent)
    raise UsageError(f"no framework '{name}'; expected {', '.join(sorted(known.frameworks))}, or a YAML file")


@lru_cache(maxsize=4)
def _read(folder: Path) -> Registry:
    from medaudit.explanation.assumptions import schema
    from medaudit.explanation.assumptions.checking import check

    files: dict[str, Any] = {}
    texts: dict[Path, str] = {}

    def read(path: Path, model: type[Any]) -> Any:
        plain, texts[path] = read_yaml(path)
        files[path.relative_to(folder).as_posix()] = plain
        return _checked(model, plain, path, texts[path])

    atoms = read(folder / "atoms.yaml", schema.Atoms)
    families: dict[str, schema.Family] = {}
    at: dict[str, Path] = {}
    for path in _all(folder / "families"):
        for name, family in read(path, schema.Families).families.items():
            if name in families:
                raise DataError(f"{_line(path, texts[path], ('families', name))}: also in {at[name].name}")
            families[name], at[name] = family, path
    frameworks = {}
    for path in _all(folder / "frameworks"):
        record = read(path, schema.FrameworkFile)
        frameworks[path.stem] = _framework(path, texts[path], record, atoms.atoms, atoms.incoherent)
    found = Registry(
        folder, atoms.atoms, atoms.incoherent, families,
        read(folder / "pairs.yaml", schema.Pairs).pairs,
        read(folder / "questions.yaml", schema.Questions),
        read(folder / "claims.yaml", schema.Claims),
        read(folder / "warrants.yaml", schema.Warrants).warrants,
        frameworks, content_hash(files),
    )  # fmt: skip

    def fail(path: Path, keys: tuple[Any, ...], says: str) -> None:
        raise DataError(f"{_line(path, texts[path], keys)}: {says}")

    check(found, at, fail)
    return found


def content_hash(plain: Any) -> str:
    """Return SHA-256 of plain data, whatever the order of their keys."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _all(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise DataError(f"{folder}: expected a folder with YAML files")
    return found


def _checked(model: type[Any], plain: Any, path: Path, text: str) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        says = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{_line(path, text, first['loc'])}: {says}") from None


def _line(path: Path, text: str, keys: tuple[Any, ...]) -> str:
    """Return ``file:line: key.key``, the line of the last key that is there; looked up only for an error."""
    import yaml

    node, line = yaml.compose(text, Loader=yaml.SafeLoader), 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == str(key):
                    node, line = value, name.start_mark.line + 1
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return f"{path}:{line}: {'.'.join(str(key) for key in keys)}"


def _framework(
    path: Path, text: str, record: schema.FrameworkFile, atoms: Mapping[str, schema.Atom],
    incoherent: tuple[schema.Incoherence, ...],
) -> Framework:  # fmt: skip
    places = {(name, value): one.box for name, atom in atoms.items() for value, one in atom.values.items()
              if record.inherits}  # fmt: skip
    for atom, values in record.positions.items():
        for value, place in values.items():
            if atom not in atoms or value not in atoms[atom].values:
                raise DataError(f"{_line(path, text, ('positions', atom, value))}: no such choice in atoms.yaml")
            places[atom, value] = Box.of(place.O, place.E)
    return Framework(path.stem, record, places, incoherent)


def _sentences(one: Any, at: str) -> Iterator[tuple[str, schema.Sentence]]:
    from pydantic import BaseModel

    from medaudit.explanation.assumptions.schema import Sentence

    if isinstance(one, Sentence):
        yield at, one
    elif isinstance(one, BaseModel):
        for name in type(one).model_fields:
            yield from _sentences(getattr(one, name), f"{at}.{name}")
    elif isinstance(one, Mapping):
        for name, value in one.items():
            yield from _sentences(value, f"{at}.{name}")
    elif isinstance(one, tuple):
        for k, value in enumerate(one):
            yield from _sentences(value, f"{at}.{k}")
