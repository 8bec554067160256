"""One choice of an explanation: a value and its numbers, written as ``constant(black)`` or ``averaged(n=50)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from medaudit.errors import UsageError

if TYPE_CHECKING:
    from medaudit.explanation.assumptions.registry import Registry
    from medaudit.explanation.assumptions.schema import Param

Level = int | float | str | None
LEVELS = ("black", "white", "grey")
_WRITTEN = re.compile(r"^\s*([A-Za-z][A-Za-z0-9-]*)\s*(?:\((.*)\))?\s*$", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """A value of an atom with its parameters, in order of their names."""

    value: str
    params: tuple[tuple[str, Level], ...] = ()

    def param(self, name: str) -> Level:
        """Return a parameter; UsageError where the value has none of that name."""
        for key, level in self.params:
            if key == name:
                return level
        raise UsageError(f"'{self.value}' has no parameter '{name}'; it has {_listed(key for key, _ in self.params)}")

    def has(self, name: str) -> bool:
        """Whether there is a parameter of that name."""
        return any(key == name for key, _ in self.params)

    def __str__(self) -> str:
        given = [(key, level) for key, level in self.params if level is not None]
        if not given:
            return self.value
        inner = f"{written(given[0][1])}" if len(self.params) == 1 else ", ".join(f"{k}={written(v)}" for k, v in given)
        return f"{self.value}({inner})"


def written(level: Level) -> str:
    """Return a parameter's value as it is written in a sentence."""
    if level is None:
        return "not stated"
    return f"{level:g}" if isinstance(level, float) else str(level)


def choice(atom: str, given: Any, known: Registry) -> Choice:
    """Return the choice that is meant: a Choice, ``"averaged(50)"``, ``"black"``, 0.3, ``("averaged", {"n": 50})``.

    Parameters that are not given have the registry's defaults. Raises UsageError naming what is possible.
    """
    if atom not in known.atoms:
        raise UsageError(f"no choice '{atom}'; expected one of {', '.join(known.atoms)}")
    one = known.atoms[atom]
    value, numbers, ordered = _taken_apart(given, atom)
    if value in one.shorthand and not numbers and not ordered:
        value, numbers, ordered = _taken_apart(one.shorthand[value], atom)
    if value not in one.values:
        short = f", or in short {', '.join(one.shorthand)}" if one.shorthand else ""
        raise UsageError(f"{atom} cannot be '{value}'; expected one of {', '.join(one.values)}{short}")
    params = params_of(atom, value, known)
    if len(ordered) > len(params):
        raise UsageError(f"{atom} '{value}' takes {_listed(params)}; got {len(ordered)} values")
    numbers = {**dict(zip(params, ordered, strict=False)), **numbers}
    if unknown := [name for name in numbers if name not in params]:
        raise UsageError(f"{atom} '{value}' has no parameter '{unknown[0]}'; it has {_listed(params)}")
    filled = {name: _level(numbers.get(name, param.default), param, f"{atom} '{value}': {name}")
              for name, param in params.items()}  # fmt: skip
    return Choice(value, tuple(sorted(filled.items())))


def params_of(atom: str, value: str, known: Registry) -> dict[str, Param]:
    """Return the parameters of a value: its own, then those that all values of the atom have."""
    return {**known.atoms[atom].values[value].params, **known.atoms[atom].params}


def _taken_apart(given: Any, atom: str) -> tuple[str, dict[str, Any], list[Any]]:
    if isinstance(given, Choice):
        return given.value, dict(given.params), []
    if isinstance(given, bool):
        raise UsageError(f"{atom} is {given}; expected the name of a value")
    if isinstance(given, (int, float)) and atom == "absence":
        return "constant", {"value": given}, []
    if isinstance(given, str):
        if (found := _WRITTEN.match(given)) is None:
            raise UsageError(f"{atom} is '{given}'; expected a value as in constant(black) or averaged(n=50)")
        numbers: dict[str, Any] = {}
        ordered: list[Any] = []
        for part in (found[2] or "").split(","):
            name, is_named, text = part.partition("=")
            if is_named:
                numbers[name.strip()] = _read(text)
            elif part.strip():
                ordered.append(_read(part))
        return found[1], numbers, ordered
    if isinstance(given, Mapping):
        if set(given) == {"value", "params"}:
            return str(given["value"]), dict(given["params"]), []
        if len(given) == 1:
            value, numbers_ = next(iter(given.items()))
            return str(value), dict(numbers_ or {}), []
    if isinstance(given, (tuple, list)) and len(given) == 2 and isinstance(given[1], Mapping):
        return str(given[0]), dict(given[1]), []
    raise UsageError(f"{atom} is {given!r}; expected a value as in constant(black), or (value, {{parameter: number}})")


def _read(text: str) -> int | float | str:
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _level(given: Any, param: Param, where: str) -> Level:
    """Return a parameter in its type; UsageError naming what it should be."""
    if given is None:
        return None
    number = isinstance(given, (int, float)) and not isinstance(given, bool) and isfinite(given)
    if param.type == "text" or (param.type == "level" and isinstance(given, str)):
        text = str(given)
        choices = param.choices or (LEVELS if param.type == "level" else ())
        if choices and text not in choices:
            also = " or a number" if param.type == "level" else ""
            raise UsageError(f"{where} is '{text}'; expected {', '.join(choices)}{also}")
        return text
    if not number or (param.type == "integer" and float(given) != int(given)):
        expected = "a whole number" if param.type == "integer" else "a number"
        raise UsageError(f"{where} is {given!r}; expected {expected}" + (f" of {param.unit}" if param.unit else ""))
    if param.least is not None and given < param.least:
        raise UsageError(f"{where} is {given}; expected {param.least:g} or more")
    return int(given) if param.type == "integer" else float(given)


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"
