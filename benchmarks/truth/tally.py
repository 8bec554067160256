"""Counts of the verdicts of a study's worlds, with exact intervals, as the tables of docs/truth.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import beta

from benchmarks.truth.ledger import Line
from benchmarks.truth.world import Study, Truth, World

VERDICTS = ("supported", "refuted", "insufficient")


@dataclass(frozen=True)
class Row:
    """What became of one finding in all cohorts of a world."""

    world: str
    finding: str
    truth: Truth
    small: bool
    counts: tuple[int, int, int]
    """Supported, refuted, insufficient; a question that a cohort could not even be asked is insufficient."""

    @property
    def seeds(self) -> int:
        """How many cohorts."""
        return sum(self.counts)

    @property
    def right(self) -> int:
        """Problems that are there and found, that are absent and ruled out; in a small world all that were left open.

        An absent problem that is left open is neither right nor wrong: that is what the third verdict is for.
        """
        supported, refuted, insufficient = self.counts
        return insufficient if self.small else supported if self.truth == "there" else refuted

    @property
    def wrong(self) -> int:
        """Falsehoods: a problem that is absent and found, or that is there and ruled out."""
        supported, refuted, _ = self.counts
        return refuted if self.truth == "there" else supported


@dataclass(frozen=True)
class Rate:
    """In how many studies of a null world at least one finding of a family said what is not so."""

    world: str
    family: str
    findings: int
    studies: int
    false: int


def rows(study: Study, lines: Iterable[Line]) -> list[Row]:
    """Return a row for each finding that is asked of each world, in the order of both."""
    by_world = _by_world(study, lines)
    found = []
    for name, world in study.worlds.items():
        if not by_world[name]:
            continue
        for finding, truth in world.truth.items():
            said = [line.verdicts.get(finding, "insufficient") for line in by_world[name]]
            counts = tuple(said.count(verdict) for verdict in VERDICTS)
            found.append(Row(name, finding, truth, world.kind == "small", (counts[0], counts[1], counts[2])))
    return found


def rates(study: Study, lines: Iterable[Line]) -> list[Rate]:
    """Return for each null world and family in how many studies any finding was false, all findings counted."""
    by_world = _by_world(study, lines)
    found = []
    for name, world in study.worlds.items():
        some = by_world[name]
        if world.kind != "null" or not some:
            continue
        for family in ("primary", "exploratory", "interval"):
            false = sum(bool(false_findings(world, line, family)) for line in some)
            asked = max(sum(f == family for f in line.families.values()) for line in some)
            if asked:
                found.append(Rate(name, family, asked, len(some), false))
    return found


def false_findings(world: World, line: Line, family: str) -> list[str]:
    """Return the findings of a family in which a line says what is not so; what a world does not name is absent."""
    return [
        finding
        for finding, verdict in line.verdicts.items()
        if line.families[finding] == family
        and verdict == ("refuted" if world.truth.get(finding) == "there" else "supported")
    ]


def exact(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper & Pearson 1934)."""
    low = float(beta.ppf(0.025, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.ppf(0.975, successes + 1, n - successes)) if successes < n else 1.0
    return low, high


def within(false: int, n: int, level: float) -> str:
    """Return what an exact 95 % interval says of a rate of false findings and the level that is claimed for it."""
    low, high = exact(false, n)
    return "above" if low > level else "within" if high <= level else "compatible"


def table(study: Study, lines: Sequence[Line]) -> str:
    """Return a study's two tables: each finding of each world, and the false findings of its null worlds."""
    head = (
        "| world | seeds | finding asked | truth | supported | refuted | insufficient | right (95 %) | wrong (95 %) |\n"
        "|---|---:|---|---|---:|---:|---:|---|---|"
    )
    body = [
        f"| {row.world} | {row.seeds} | `{row.finding}` | {_truth(row)} | "
        + " | ".join(map(str, row.counts))
        + f" | {share(row.right, row.seeds)} | {share(row.wrong, row.seeds)} |"
        for row in rows(study, lines)
    ]
    false = [
        f"| {rate.world} | {rate.studies} | {rate.family} | {rate.findings} | {rate.false} | "
        f"{share(rate.false, rate.studies)} | {_kept(study, rate)} |"
        for rate in rates(study, lines)
    ]
    parts = ["\n".join([head, *body])]
    if false:
        head = (
            "| null world | studies | family | findings in it | studies with a false one | share (95 %) | "
            f"level {100 * study.level:g} % |\n|---|---:|---|---:|---:|---|---|"
        )
        parts.append("\n".join([head, *false]))
    return "\n\n".join(parts)


def share(count: int, n: int) -> str:
    """Return a count with its share and interval, in percent."""
    low, high = exact(count, n)
    return f"{count}: {100 * count / n:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _kept(study: Study, rate: Rate) -> str:
    return within(rate.false, rate.studies, study.level) if rate.family in study.levelled else "none for all together"


def _truth(row: Row) -> str:
    return f"{row.truth}, too small" if row.small else row.truth


def _by_world(study: Study, lines: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {name: [] for name in study.worlds}
    for line in lines:
        found[line.world].append(line)
    return found
