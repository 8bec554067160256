"""Two invented radiologists who rate an automated mask: by how good it is, and by how hard its case is to judge."""

from __future__ import annotations

import numpy as np

RATINGS = ("Good", "Acceptable", "Poor", "Missed")
"""What a reader may call a mask, from best to worst."""

# Invented, chosen so that about three quarters of the easy cases are Good to both under the simulator's usual error.
_GOOD, _ACCEPTABLE = 0.72, 0.50
_SHARED_SD, _OWN_SD = 0.03, 0.02
_DOUBTED = 0.95
_DOUBTS = ((1, 1), (0, 1), (1, 0), (2, 2))
_DOUBT_SHARES = (0.45, 0.2, 0.2, 0.15)


def rate(dice: float, hard: bool, rng: np.random.Generator) -> tuple[str, str]:
    """Return what two readers call a mask of this Dice.

    Both see the Dice with some error, part of which they share. A hard case has a boundary that nobody is sure of:
    nearly always it is rated as hard (Acceptable, Poor, or the readers disagree), whatever its mask is worth. An empty
    mask is Missed. All of it is our invention; no published ratings were at hand to fit it to.
    """
    shared, *own = rng.standard_normal(3)
    luck, which = rng.random(), rng.choice(len(_DOUBTS), p=_DOUBT_SHARES)
    doubted = hard and luck < _DOUBTED
    codes = []
    for reader in range(2):
        seen = dice + _SHARED_SD * shared + _OWN_SD * own[reader]
        code = 3 if dice == 0 else int(seen < _GOOD) + int(seen < _ACCEPTABLE)
        codes.append(max(code, _DOUBTS[which][reader]) if doubted else code)
    return RATINGS[codes[0]], RATINGS[codes[1]]
