"""Adjusted p-values against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from medaudit.statistics import benjamini_hochberg, holm


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_adjusted_p_agrees_with_statsmodels(ours, method):
    p = np.random.default_rng(0).random(63) ** 2
    p[:3] = p[3:6]
    np.testing.assert_allclose(ours(p), multipletests(p, method=method)[1])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_that_was_not_done_is_not_in_the_family(adjust):
    np.testing.assert_allclose(adjust([0.01, np.nan, 0.04]), np.insert(adjust([0.01, 0.04]), 1, np.nan))
    assert adjust([]).shape == (0,)
