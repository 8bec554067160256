"""Mixed model and fractional logit: planted effects, agreement with statsmodels' formulas, failures caught."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from medaudit.statistics import compare, fractional_logit, mixed_model


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    site = rng.integers(0, 20, 600)
    groups = rng.integers(0, 3, 600)
    offset = rng.normal(0, 0.15, 20)
    y = np.clip(0.7 + offset[site] + 0.1 * (groups == 2) + rng.normal(0, 0.15, 600), 0, 1)
    return pd.DataFrame({"y": y, "g": groups, "site": site})


def test_mixed_model_agrees_with_statsmodels_formula(table):
    peer = smf.mixedlm("y ~ C(g)", table, groups=table.site).fit(reml=True)
    ours = mixed_model(table.y, compare(table.g), table.site)
    np.testing.assert_allclose(ours.effects[1:], peer.fe_params.iloc[1:], rtol=1e-4)
    np.testing.assert_allclose(ours.standard_errors[1:], peer.bse_fe.iloc[1:], rtol=1e-3)
    variance = float(peer.cov_re.iloc[0, 0])
    assert ours.icc == pytest.approx(variance / (variance + peer.scale), rel=1e-2)
    assert ours.converged
    assert ours.p < 1e-4


def test_one_site_is_not_a_random_effect(table):
    failed = mixed_model(table.y, compare(table.g), np.zeros(600))
    assert np.isnan(failed.p)
    assert "two sites" in failed.reason


def test_fractional_logit_agrees_with_statsmodels_formula(table):
    peer = smf.glm("y ~ C(g)", table, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": table.site}
    )
    ours = fractional_logit(table.y, compare(table.g), clusters=table.site)
    np.testing.assert_allclose(ours.effects[1:], peer.params.iloc[1:])
    np.testing.assert_allclose(ours.standard_errors[1:], peer.bse.iloc[1:])
    wald = peer.wald_test("C(g)[T.1] = 0, C(g)[T.2] = 0", use_f=False, scalar=True)
    assert ours.p == pytest.approx(float(wald.pvalue), rel=1e-6)


def test_fractional_logit_refuses_what_it_cannot_fit(table):
    assert "between 0 and 1" in fractional_logit(table.y * 20, compare(table.g)).reason
    assert "told apart" in fractional_logit(table.y, compare(table.g), strata=table.g).reason


def test_a_fractional_logit_of_as_many_terms_as_cases_is_not_fitted():
    result = fractional_logit([0.2, 0.4, 0.6], compare([0, 1, 2]), clusters=[0, 1, 2])
    assert "too few cases" in result.reason
    assert np.isnan(result.p)
