"""The fast block with all weights 1 against the plain functions, under ties and infinities, and what it refuses."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.metrics.ranking import auroc, average_precision, fpr95
from medaudit.metrics.ranking_draws import NAMES, ranking_draws
from medaudit.metrics.selective import augrc, aurc, failure_auroc, risk_at_coverage

N = 301
RNG = np.random.default_rng(7)
OUTSIDE = RNG.random(N) < 0.3
SCORES = np.stack(
    [
        RNG.normal(size=N) + OUTSIDE,
        np.round(RNG.normal(size=N), 0),
        np.where(RNG.random(N) < 0.3, np.inf, RNG.integers(0, 4, N)),
        np.where(RNG.random(N) < 0.3, -np.inf, RNG.normal(size=N)),
        np.zeros(N),
    ]
)
LOSS = np.where(RNG.random((5, N)) < 0.2, np.nan, np.round(RNG.random((5, N)), 1) * (RNG.random((5, N)) < 0.4))
ONCE = np.ones((1, N), dtype=np.int32)


def plain(s, outside, loss):
    kept = ~np.isnan(loss)
    u, lost = s[kept], loss[kept]
    return {
        "auroc": auroc(s[~outside], s[outside]),
        "fpr95_ood_pos": fpr95(s[~outside], s[outside], positive="ood"),
        "fpr95_id_pos": fpr95(s[~outside], s[outside], positive="id"),
        "aupr_out": average_precision(s[~outside], s[outside], positive="ood"),
        "aupr_in": average_precision(s[~outside], s[outside], positive="id"),
        "augrc": augrc(u, lost),
        "aurc": aurc(u, lost),
        "risk_at_80": risk_at_coverage(u, lost, 0.8),
        "failure_auroc": failure_auroc(u, lost),
    }


@pytest.mark.parametrize("row", range(5), ids=["untied", "tied", "infinite ties", "minus infinity", "constant"])
def test_weights_of_one_are_the_plain_numbers(row):
    found = ranking_draws(SCORES, OUTSIDE, LOSS, np.arange(N), ONCE)
    wanted = plain(SCORES[row], OUTSIDE, LOSS[row])
    assert found.keys() == wanted.keys() == set(NAMES)
    for name, value in wanted.items():
        assert found[name].shape == (1, 5)
        assert found[name][0, row] == pytest.approx(value, abs=1e-12), name


def test_the_order_of_the_cases_and_of_the_rows_does_not_matter():
    who = RNG.integers(0, 90, N)
    weights = RNG.multinomial(90, np.ones(90) / 90, size=20)
    order = RNG.permutation(N)
    found = ranking_draws(SCORES, OUTSIDE, LOSS, who, weights)
    again = ranking_draws(SCORES[::-1, order], OUTSIDE[order], LOSS[::-1, order], who[order], weights)
    for name in NAMES:
        np.testing.assert_allclose(again[name][:, ::-1], found[name], atol=1e-12, err_msg=name)


def test_cases_without_a_loss_count_for_detection_only():
    losses = np.where(OUTSIDE, np.nan, LOSS)
    found = ranking_draws(SCORES, OUTSIDE, losses, np.arange(N), ONCE)
    whole = ranking_draws(SCORES, OUTSIDE, None, np.arange(N), ONCE)
    inside = ranking_draws(SCORES[:, ~OUTSIDE], OUTSIDE[~OUTSIDE], LOSS[:, ~OUTSIDE], np.arange((~OUTSIDE).sum()), ONCE)
    for name in NAMES[:5]:
        np.testing.assert_array_equal(found[name], whole[name])
    for name in NAMES[5:]:
        np.testing.assert_allclose(found[name], inside[name], atol=1e-15)
        assert np.isnan(whole[name]).all()


def test_no_failure_or_nothing_but_failures_has_no_failure_auroc():
    found = ranking_draws(SCORES[:2], OUTSIDE, np.stack([np.zeros(N), np.ones(N)]), np.arange(N), ONCE)
    assert np.isnan(found["failure_auroc"]).all()
    np.testing.assert_allclose(found["augrc"][0], [0, 0.5])
    np.testing.assert_allclose(found["risk_at_80"][0], [0, 1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster": np.full(N, N)}, "expected 0 to 300"),
        ({"cluster": np.full(N, -1)}, "expected 0 to 300"),
        ({"cluster": np.arange(N - 1)}, "cluster has shape"),
        ({"is_ood": OUTSIDE[1:]}, "is_ood has shape"),
        ({"loss": LOSS[0]}, "loss has shape"),
        ({"scores": SCORES[0]}, "expected .M, n."),
        ({"weights": ONCE[0]}, "expected .M, n. and .B, P."),
        ({"weights": -ONCE}, "a weight is -1"),
        ({"scores": np.where(np.arange(N) == 5, np.nan, SCORES)}, "row 0 is NaN for case 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    given = {"scores": SCORES, "is_ood": OUTSIDE, "loss": LOSS, "cluster": np.arange(N), "weights": ONCE}
    with pytest.raises(DataError, match=said):
        ranking_draws(**{**given, **change})


@pytest.mark.parametrize("copies", [1, 3])
def test_95_percent_of_20_cases_are_19_of_them(copies):
    """Counted by hand: 19 of 20 are 95 % exactly, 18 too few, and 20 needed only by a level a hair above."""
    scores = np.concatenate([np.arange(20.0), [16.5, 17.5, 18.5, 19.5]])
    outside = np.repeat([False, True], [20, 4])
    weights = np.full((1, 24), copies)
    found = ranking_draws(scores[None], outside, None, np.arange(24), weights)
    # Accepting 0 to 18 accepts 16.5, 17.5 of the four; all but one of four are fewer than 95 %: all four are needed.
    assert found["fpr95_id_pos"][0, 0] == 0.5 == fpr95(scores[:20], scores[20:], positive="id")
    assert found["fpr95_ood_pos"][0, 0] == 3 / 20 == fpr95(scores[:20], scores[20:], positive="ood")
    turned = ranking_draws(-scores[None], ~outside, None, np.arange(24), weights)
    assert turned["fpr95_ood_pos"][0, 0] == 0.5
    assert turned["fpr95_id_pos"][0, 0] == 3 / 20
    # 2,000 cases: 1,900 are needed; 0.9495, which stands in fd-shifts, would do with 1,899.
    many = np.append(np.arange(2_000.0), 1_898.5)
    last = ranking_draws(many[None], np.arange(2_001) == 2_000, None, np.arange(2_001), np.ones((1, 2_001)))
    assert last["fpr95_id_pos"][0, 0] == 1 == fpr95(many[:2_000], many[2_000:], positive="id")
