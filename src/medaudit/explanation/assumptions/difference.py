"""What one small change of a configuration changes of its assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medaudit.explanation.assumptions.boxes import Box
from medaudit.explanation.assumptions.choice import Choice
from medaudit.explanation.assumptions.configuration import Assumed, Configuration, Reading
from medaudit.explanation.assumptions.registry import DEFAULT, Framework, Registry, framework, registry


@dataclass(frozen=True)
class Change:
    """One choice, before and after."""

    atom: str
    before: Choice
    after: Choice


@dataclass(frozen=True)
class Difference:
    """From one configuration to another."""

    families: tuple[str, str]
    changes: tuple[Change, ...]
    dropped: tuple[Assumed, ...]
    """Need not be assumed any longer."""
    added: tuple[Assumed, ...]
    """Must be assumed now."""
    positions: tuple[Box | None, Box | None]
    paradigms: tuple[tuple[Reading, ...], tuple[Reading, ...]]

    @property
    def atoms(self) -> tuple[str, ...]:
        """The choices that differ."""
        return tuple(change.atom for change in self.changes)

    def reversed(self) -> Difference:
        """Return the way back."""
        return Difference(
            self.families[::-1],
            tuple(Change(one.atom, one.after, one.before) for one in self.changes),
            self.added, self.dropped, self.positions[::-1], self.paradigms[::-1],
        )  # fmt: skip


def diff(
    a: Configuration, b: Configuration, within: str | Path | Framework = DEFAULT, known: Registry | None = None
) -> Difference:  # fmt: skip
    """Return what changes from ``a`` to ``b``: choices, sentences, place, paradigms; ``diff(b, a)`` is the way back."""
    known = known or registry()
    frame = framework(within, known)
    said_a, said_b = a.sentences(known), b.sentences(known)
    texts_a, texts_b = {one.text for one in said_a}, {one.text for one in said_b}
    return Difference(
        (a.family, b.family),
        tuple(Change(atom, one, b[atom]) for atom, one in a if one != b[atom]),
        tuple(one for one in said_a if one.text not in texts_b),
        tuple(one for one in said_b if one.text not in texts_a),
        (a.position(frame), b.position(frame)),
        (a.paradigms(frame), b.paradigms(frame)),
    )
