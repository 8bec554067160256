"""Evidence: the scores of all models, and the comparisons that the six questions are answered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from medaudit.audits.diagnosis.design import BALANCED, BASELINE, BIASED, Design
from medaudit.audits.diagnosis.settings import Settings
from medaudit.audits.judging import outcomes as rules
from medaudit.audits.judging.compared import Compared, compared
from medaudit.audits.judging.outcomes import Measure
from medaudit.audits.ruler import study as ruler
from medaudit.audits.ruler.rulers import Rulers
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError
from medaudit.statistics import GapChange, Standardised, compare, gap_change, permutation_test, standardised

QUALITY, OBSERVED = "quality", "observed"
"""The columns beside the trainings: silver against gold, and the baseline against silver."""


TAINTED = 0.01
"""Below this p-value of the automated labels' gap, tiers that come from ratings of these labels are not used."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the study looks at. ``scores`` has a row a case, in the cohort's order, and a column a training.

    Each training's column is its predictions' score against gold; ``quality`` is silver's against gold, ``observed``
    the baseline's against silver, both only where there is silver. NaN or null where there is none.
    """

    cohort: Cohort
    design: Design
    scores: pl.DataFrame
    settings: Settings

    @property
    def by(self) -> str:
        """The grouping's name."""
        return self.design.groups.name

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Each column of the scores, (n,) float64."""
        names = [name for name in self.scores.columns if name != "case_id"]
        return {name: self.scores[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names}

    @cached_property
    def measure(self) -> Measure:
        """What is compared: unit, direction, margin."""
        s = self.settings
        return rules.measure(s.measure, self.columns[BASELINE], s.margins, s.lower_is_better)

    @property
    def half_margin(self) -> float:
        """What a difference of two gaps must exceed to matter: half of what a gap must (our choice)."""
        return self.measure.margin / 2

    @cached_property
    def models(self) -> Compared:
        """The groups under every training, on gold; first the baseline."""
        return self._compared(list(self.design.names), within=self.settings.within)

    @cached_property
    def labels(self) -> Compared | None:
        """The groups under the automated masks' own quality; ``None`` without automated masks."""
        return self._compared([QUALITY]) if QUALITY in self.columns else None

    @cached_property
    def rulers(self) -> Rulers | None:
        """The baseline's predictions on both rulers; ``None`` without automated masks."""
        if OBSERVED not in self.columns:
            return None
        columns = {"gold": self.columns[BASELINE], "silver": self.columns[OBSERVED], "quality": self.columns[QUALITY]}
        s = self.settings
        asked = ruler.Settings(
            by=(s.by,),
            measure=s.measure,
            outcome=s.outcome,
            margins=s.margins,
            lower_is_better=s.lower_is_better,
            seed=s.seed,
            resamples=s.resamples,
            min_patients=s.min_patients,
        )
        frame = pl.DataFrame({"case_id": self.cohort.case_ids, **columns})
        try:
            ruler.check(frame)
        except DataError:  # nobody has both scores, or silver is gold: then there is no second ruler
            return None
        return ruler.under_both(self.cohort, s.by, columns, asked)

    @cached_property
    def mix(self) -> Standardised | None:
        """The baseline's contrast of the extreme groups, raw and at one mix of difficulty; ``None`` if not known.

        Of one model, so that the change is what the mix of the cases makes and not what another training makes.
        """
        return self._at_one_mix(BASELINE)

    @cached_property
    def hardness(self) -> Standardised | None:
        """The same with the contrast at one mix from the model trained on balanced difficulty, where there is one."""
        return self._at_one_mix(self.balanced)

    def _at_one_mix(self, training: str) -> Standardised | None:
        if not self.design.levels:
            return None
        return standardised(
            self.columns[BASELINE],
            self.columns[training],
            self.models.judged,
            self.design.difficulty,
            n_resamples=self.settings.resamples,
            seed=self.settings.seed,
        )

    @cached_property
    def tiers_are_biased(self) -> bool:
        """Whether difficulty comes from ratings of automated labels that are themselves worse for a group.

        A case of that group may then be called hard because its label is bad: difficulty and label bias cannot be told
        apart by such tiers. At 1 %, not 5 %: one fair cohort in twenty should not lose its tiers (our choice).
        """
        rated = bool(self.design.levels) and self.settings.difficulty is None
        return rated and self.labels is not None and self.labels.comparable and self.labels.chance.p[0] < TAINTED

    @property
    def balanced(self) -> str:
        """The training whose scores are standardised for difficulty."""
        return BALANCED if BALANCED in self.columns else BASELINE

    @cached_property
    def p_equal_difficulty(self) -> float:
        """The p-value of the gap within strata of difficulty: labels change places among equally hard cases only."""
        judged = self.models.judged
        strata = compare(
            judged.groups, judged.n_groups, clusters=self.cohort.clusters.to_list(), strata=self.design.difficulty
        )
        s = self.settings
        values = self.columns[self.balanced]
        return float(permutation_test(values, strata, n_permutations=s.resamples, seed=s.seed).p[0])

    def change(self, training: str) -> GapChange:
        """Return how the gap on gold changes from the baseline to ``training``, paired by patient."""
        return self._changes[training]

    @cached_property
    def _changes(self) -> Mapping[str, GapChange]:
        s = self.settings
        return {
            name: gap_change(
                self.columns[name],
                self.columns[BASELINE],
                self.models.judged,
                n_resamples=s.resamples,
                n_permutations=s.resamples,
                seed=s.seed,
            )
            for name in self.design.names
            if name != BASELINE
        }

    @property
    def biased(self) -> bool:
        """Whether a model was trained on automated labels."""
        return BIASED in self.columns

    def _compared(self, names: list[str], within: str | None = None) -> Compared:
        words = {QUALITY: "the automated labels"}
        measures = tuple(replace(self.measure, name=name, words=words.get(name, name)) for name in names)
        text = self.settings.outcome or rules.default_outcomes([self.measure])[0]
        outcome = rules.parse(text, [self.measure])
        return compared(
            self.cohort,
            Grouping.parse(self.settings.by),
            measures,
            tuple(replace(outcome, measure=name, text=f"{outcome.text}, {name}") for name in names),
            {name: self.columns[name] for name in names},
            within=within,
            min_patients=self.settings.min_patients,
            resamples=self.settings.resamples,
            seed=self.settings.seed,
        )
