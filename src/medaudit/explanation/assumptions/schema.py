"""What the YAML files of the registry must look like (pydantic); read only when the registry is.

Every sentence says where it is from. ``paper`` is arXiv 2510.02996 itself, of which only the front matter and a caption
could be read; ``secondary`` is somebody's summary of it; ``literature`` is another paper; ``inferred`` is ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medaudit.explanation.assumptions.boxes import Box

Source = Literal["paper", "secondary", "literature", "inferred"]
Level = int | float | str
"""A parameter's value."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not -1 <= ends[0] <= ends[1] <= 1:
        raise ValueError(f"{list(ends)} is no interval within -1 and 1, the lower end first")
    return ends


Ends = Annotated[tuple[float, float], AfterValidator(_ordered)]
Words = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sentence(_Record):
    """A sentence and where it is from; all but ``inferred`` name a work."""

    text: Words
    source: Source
    citation: str | None = None
    reviewed_by: str | None = None

    @model_validator(mode="after")
    def _cited(self) -> Sentence:
        if self.source != "inferred" and not self.citation:
            raise ValueError(f"a sentence with source '{self.source}' needs a citation")
        return self


class Param(_Record):
    """A number or word that a choice carries."""

    type: Literal["integer", "number", "text", "level"]
    """``level``: a number in the image's own units, or black, white, grey."""
    unit: str = ""
    default: Level | None = None
    """None: whoever runs it must say, or the engine chooses."""
    least: float | None = None
    choices: tuple[str, ...] = ()
    assume: Sentence | None = None
    """Assumed where the value is not the default."""


class Value(_Record):
    """One value of an atom: what it lets one hold, and what must be assumed to use it."""

    O: Ends = (-1.0, 1.0)  # noqa: E741
    E: Ends = (-1.0, 1.0)
    params: dict[str, Param] = {}
    assume: Sentence
    implies: dict[str, str] = {}
    """Another atom's value that it brings in unsaid: LRP's zero is an absence."""

    @property
    def box(self) -> Box:
        """Its two intervals."""
        return Box.of(self.O, self.E)


class Atom(_Record):
    """One of the twelve technical choices."""

    name: Words
    label: Words
    """Its number in the spec: A1 to A12."""
    asks: Sentence
    values: dict[str, Value]
    params: dict[str, Param] = {}
    """Of every value."""
    shorthand: dict[str, str] = {}


class Incoherence(_Record):
    """Values that nobody can hold together, beyond what the intervals say."""

    when: dict[str, tuple[str, ...]]
    because: Sentence


class Atoms(_Record):
    """The file atoms.yaml."""

    atoms: dict[str, Atom]
    incoherent: tuple[Incoherence, ...] = ()


class Cost(_Record):
    """Passes an explanation of one case takes: sums of products of numbers, ``atom.param``, ``units``, ``2^units``."""

    forward: str
    backward: str = "0"
    trainings: str = "0"
    plural: Literal["models", "answers"] = "models"
    """What several answers are of: models, which must be trained, or one model."""


class KnownFailure(Sentence):
    """A warrant that a family is known to fail: what was found, and by whom."""

    warrant: Words


class Preset(BaseModel):
    """The choices in which a configuration with a name departs from its family's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    control: bool = False
    """What explanations are held against, and no explanation itself."""

    @property
    def over(self) -> dict[str, Any]:
        """The choices."""
        return self.model_extra or {}


class Family(_Record):
    """A method with all its choices: which it takes by itself, which it may take, what it costs."""

    name: Words
    runs: bool
    """Whether medaudit can run it."""
    atoms: dict[str, str]
    admissible: dict[str, tuple[str, ...]] = {}
    not_run: dict[str, tuple[str, ...]] = {}
    """Values that are admissible, but that medaudit does not run."""
    cost: Cost
    assume: tuple[Sentence, ...]
    explanation_model: Sentence | None = None
    known_failure: tuple[KnownFailure, ...] = ()
    presets: dict[str, Preset]


class Families(_Record):
    """A file of families/."""

    lists: dict[str, Any] = {}
    """Only for YAML's anchors."""
    families: dict[str, Family]


class End(BaseModel):
    """One end of a pair: a family, and the atoms in which it departs from the family's defaults."""

    model_config = ConfigDict(extra="allow", frozen=True)
    family: str


class Pair(_Record):
    """One small change."""

    a: End
    b: End
    changes: tuple[str, ...]
    spec: tuple[str, ...]
    """The atoms that spec 1.5 lists for the pair's number."""
    question: Sentence
    note: str = ""


class Pairs(_Record):
    """The file pairs.yaml."""

    pairs: dict[str, Pair]


class Answer(_Record):
    """What an answer says of the two axes, and what it requires and forbids."""

    text: Words
    O: Ends | None = None  # noqa: E741
    E: Ends | None = None
    require: dict[str, tuple[str, ...]] = {}
    forbid: dict[str, tuple[str, ...]] = {}
    warrants: tuple[str, ...] = ()
    access: str | None = None
    budget: float | None = None


class Band(_Record):
    """What a number below ``below`` (None: any) says."""

    below: float | None
    O: Ends | None = None  # noqa: E741
    E: Ends | None = None


class Question(_Record):
    """One question: answers to choose from, or numbers."""

    text: Words
    why: Sentence
    weight: dict[str, Annotated[float, Field(gt=0)]] = {}
    answers: dict[str, Answer] = {}
    numbers: dict[str, tuple[Band, ...]] = {}
    least: dict[str, float] = {}
    """Of a number, where it is not -1; the most is 1."""

    @model_validator(mode="after")
    def _one_kind(self) -> Question:
        if bool(self.answers) == bool(self.numbers):
            raise ValueError("a question has either answers or numbers")
        if not set(self.weight) <= {"O", "E"}:
            raise ValueError("a weight is on O or E")
        for axis in ("O", "E"):
            said: list[Answer | Band] = [
                *self.answers.values(),
                *(band for one in self.numbers.values() for band in one),
            ]
            if any(getattr(one, axis) is not None for one in said) != (axis in self.weight):
                raise ValueError(f"a weight on {axis} is needed where an answer says something of it, and only there")
        if unknown := set(self.least) - set(self.numbers):
            raise ValueError(f"the least of '{min(unknown)}', which is no number of the question")
        for name, bands in self.numbers.items():
            ends = [band.below for band in bands[:-1] if band.below is not None]
            if not bands or bands[-1].below is not None or len(ends) < len(bands) - 1 or ends != sorted(set(ends)):
                raise ValueError(f"the bands of {name} must rise, and the last be open (below: null)")
        return self


class Contradiction(_Record):
    """Answers, or answers and a configuration or claim, that do not go together."""

    when: dict[str, Any]
    """Question to the answers, or to ``{name, below | above}``."""
    config: dict[str, tuple[str, ...]] = {}
    claim: tuple[str, ...] = ()
    says: Sentence


class Situation(_Record):
    """A clinical question and the answers one would start from."""

    name: Words
    answers: dict[str, Any]
    expects: Sentence


class Questions(_Record):
    """The file questions.yaml."""

    questions: dict[str, Question]
    contradictions: dict[str, Contradiction]
    situations: dict[str, Situation]


class Cell(_Record):
    """Whether a column's explanations license a claim: L, W (a warrant must pass) or N."""

    verdict: Literal["L", "W", "N"]
    needs: tuple[str, ...] = ()
    why: str = ""
    ours: bool = False
    """Not in the spec's table."""


class Column(_Record):
    """Which configurations a column of the table speaks of; the first that fits is taken."""

    name: Words
    when: tuple[dict[str, tuple[str, ...]], ...] = ()
    """Any of them; none: all others."""


class Row(_Record):
    """One type of claim."""

    says: Words
    why_not: Sentence
    cells: dict[str, Cell]


class Claims(_Record):
    """The file claims.yaml."""

    source: Source
    columns: dict[str, Column]
    claims: dict[str, Row]


class Warrant(_Record):
    """A test that must pass before a claim may be made; it assumes something itself."""

    name: Words
    paradigms: tuple[str, ...]
    statistic: Words
    unit: str = ""
    needs: tuple[str, ...]
    passes: Literal["at most", "at least", "outside", "shown"]
    """``outside``: its interval leaves the threshold out; ``shown``: nothing to pass."""
    threshold: float | None
    """None: to be said by whoever runs it."""
    threshold_is: Sentence
    atoms: dict[str, str] = {}
    against: Literal["itself", "model", "data", "people", "others"]
    """What the explanation is held against; against itself is never external."""
    applies: dict[str, tuple[str, ...]] = {}
    """It can be made only of configurations with one of these values of each of these choices,"""
    any_of: tuple[dict[str, tuple[str, ...]], ...] = ()
    """and with those of one of these; none: of any."""
    elsewhere: Literal["not needed", "refused"] = "not needed"
    """What becomes of a claim that needs it, where it cannot be made."""
    circular: dict[str, tuple[str, ...]] = {}
    """Explanations that pass by construction."""
    assume: Sentence


class Warrants(_Record):
    """The file warrants.yaml."""

    warrants: dict[str, Warrant]


class Axis(_Record):
    """One axis of a framework."""

    name: Words
    low: Words
    high: Words
    meaning: Sentence


class Paradigm(_Record):
    """One region of the square, and what counts there."""

    name: Words
    O: Ends  # noqa: E741
    E: Ends
    named: Sentence
    explanation: Sentence
    criterion: Sentence
    failure: Sentence
    warrants_of: str | None = None
    """Whose warrants it owes; by itself its own id."""

    @property
    def box(self) -> Box:
        """Its two intervals."""
        return Box.of(self.O, self.E)


class Place(_Record):
    """Where another framework puts an atom's value."""

    O: Ends = (-1.0, 1.0)  # noqa: E741
    E: Ends = (-1.0, 1.0)


class FrameworkFile(_Record):
    """A file of frameworks/."""

    name: Words
    citation: Words
    about: tuple[Sentence, ...]
    axes: dict[str, Axis]
    paradigms: dict[str, Paradigm]
    inherits: bool
    """Whether the intervals of atoms.yaml hold where ``positions`` says nothing; else nothing is said."""
    positions: dict[str, dict[str, Place]] = {}
    positions_are: Sentence

    @model_validator(mode="after")
    def _two_axes(self) -> FrameworkFile:
        if set(self.axes) != {"O", "E"}:
            raise ValueError("a framework has the two axes O and E, by whatever name")
        return self
