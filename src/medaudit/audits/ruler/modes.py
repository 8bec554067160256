"""The three ways in which a silver ruler lies about a gap, each with its rule: pure functions of the evidence.

The modes are those of arXiv 2511.00477 (false magnitude), of a replication of it on spine CT (false confidence)
and of arXiv 2605.06891 (masking). No source gives a rule that tells them apart: all rules here are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from medaudit.statistics import Decision

ALPHA = 0.05
COLLAPSE = 0.5
"""A silver ruler that shows less than this share of the true spread between cases (SD) has collapsed it."""
SATURATED = 0.95
"""Where every group succeeds at least so often, its success rates can no longer differ."""
REVERSED = 0.975
"""The share of resamples in which the order must be reversed for it to be called so."""


@dataclass(frozen=True)
class Evidence:
    """What the rules look at; gaps are silver's minus gold's, of the same cases.

    ``low_90`` and ``high_90`` limit their difference; ``true_low`` is the 95 % lower limit of the gap against gold and
    ``true_high_90`` its 90 % upper one. ``spread`` is SD(silver) / SD(gold) inside groups, ``shift`` the mean of
    silver - gold, positive where silver flatters: value, low and high of 95 % intervals. ``reversal`` is the share of
    resamples in which gold's best group is worse than gold's worst on silver. ``margin`` is what a difference of gaps
    must exceed to matter, ``gap_margin`` what a gap must.
    """

    low_90: float
    high_90: float
    true_low: float
    true_high_90: float
    spread: tuple[float, float, float]
    shift: tuple[float, float, float]
    reversal: float
    margin: float
    gap_margin: float

    @property
    def reversed(self) -> bool:
        """Whether a true gap is evident, and silver orders its two groups the other way round."""
        return self.true_low > 0 and self.reversal >= REVERSED


def lies(e: Evidence, p: float) -> Decision:
    """Return whether the groups differ by other amounts on silver than on gold.

    ``p`` is that of silver - gold by group (:class:`~medaudit.statistics.GapChange`). Supported: corrected p < 0.05.
    Refuted: the 90 % interval of the difference of gaps lies within the margin, and the order is not reversed.
    """
    if p < ALPHA:
        return Decision("supported", "silver changes the groups by different amounts")
    if -e.margin < e.low_90 and e.high_90 < e.margin and not e.reversed:
        return Decision("refuted", "the difference of the gaps lies within the margin")
    return Decision("insufficient", "the difference of the gaps is neither evident nor shown to be small")


def false_magnitude(e: Evidence, p: float) -> Decision:
    """Return whether silver shows a larger gap than there is.

    Supported: corrected p < 0.05, and the difference's 90 % interval lies above 0. Refuted: its 90 % upper limit is
    below the margin.
    """
    if p < ALPHA and e.low_90 > 0:
        return Decision("supported", "the gap on silver is larger than the true one")
    if e.high_90 < e.margin:
        return Decision("refuted", "the gap on silver exceeds the true one by less than the margin")
    return Decision("insufficient", "whether silver exaggerates the gap is open")


def false_confidence(e: Evidence) -> Decision:
    """Return whether silver makes the model look alike for everybody and better than it is, as a twin of it does.

    Supported: the interval of the spread ratio ends below one half, and the level shift is upward. Refuted: that
    interval begins at one half or above, or the shift is not upward. Judged by intervals, so without a p-value.
    """
    _, spread_low, spread_high = e.spread
    _, shift_low, shift_high = e.shift
    if spread_high < COLLAPSE and shift_low > 0:
        return Decision("supported", "on silver the scores differ less than half as much between cases, and are higher")
    if spread_low >= COLLAPSE or shift_high <= 0:
        return Decision("refuted", "the scores keep at least half of their spread on silver, or are not raised by it")
    return Decision("insufficient", "whether silver levels the scores is open")


def masking(e: Evidence, p: float) -> Decision:
    """Return whether silver hides a true gap, or turns it round.

    Supported: the gap on gold is evident (95 % lower limit above 0), corrected p < 0.05, and the difference's 90 %
    interval lies below 0 or the order is reversed. Refuted: the gap on gold lies below its margin (there is nothing to
    hide), or the difference's 90 % lower limit is above minus the margin and the order is kept.
    """
    if e.true_low > 0 and p < ALPHA and (e.high_90 < 0 or e.reversed):
        return Decision("supported", "the order is reversed" if e.reversed else "the gap on silver is smaller")
    if e.true_high_90 < e.gap_margin:
        return Decision("refuted", "there is no true gap to hide")
    if e.low_90 > -e.margin and not e.reversed:
        return Decision("refuted", "the gap on silver falls short of the true one by less than the margin")
    return Decision("insufficient", "whether silver hides a gap is open")
