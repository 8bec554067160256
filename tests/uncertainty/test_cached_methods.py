"""Post-hoc methods work on cached outputs of any framework: without torch, without a net, and far is uncertain."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.methods import METHODS, Evidence
from medaudit.uncertainty.outputs import Outputs

CACHED = [name for name, method in METHODS.items() if method.cached]
CENTRES = np.array([[4.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 0, 4.0, 0]])


@pytest.fixture(scope="module")
def problem() -> tuple[Evidence, np.ndarray]:
    """Three Gaussian classes in four dimensions; the last third of the test cases lies far off along the fourth."""
    rng = np.random.default_rng(0)
    draw = lambda n: (y := rng.integers(0, 3, n), CENTRES[y] + rng.normal(size=(n, 4)))
    (train_y, train), (val_y, val), (_, test) = draw(600), draw(300), draw(300)
    far = np.add(rng.normal(size=(150, 4)), [0, 0, 0, 9.0])
    model = LogisticRegression(C=1.0).fit(train, train_y)
    outputs = lambda x, y=None: Outputs(model.decision_function(x), x, y)
    evidence = Evidence(
        outputs(train, train_y), outputs(val, val_y), outputs(np.concatenate([test, far])),
        weight=model.coef_, bias=model.intercept_,
    )  # fmt: skip
    return evidence, np.repeat([0, 1], [300, 150])


@pytest.mark.parametrize("name", CACHED)
def test_gives_its_declared_scores_and_distributions(name: str, problem: tuple[Evidence, np.ndarray]) -> None:
    said = METHODS[name].score(problem[0])
    assert list(said.scores) == list(METHODS[name].scores)
    for values in said.scores.values():
        assert values.shape == (450,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    np.testing.assert_allclose(said.probabilities.sum(axis=1), 1, atol=1e-9)
    again = METHODS[name].score(problem[0])
    assert all(np.array_equal(said.scores[key], again.scores[key]) for key in said.scores)


@pytest.mark.parametrize(
    "name", ["mahalanobis", "rmds", "knn", "vim", "feature_density", "laplace.variance", "laplace.epistemic"]
)
def test_far_cases_are_found_by_what_knows_distance(name: str, problem: tuple[Evidence, np.ndarray]) -> None:
    method, _, score = name.partition(".")
    said = METHODS[method].score(problem[0]).scores
    assert roc_auc_score(problem[1], said[score or next(iter(said))]) > 0.9


@pytest.mark.parametrize("name", CACHED)
def test_errors_are_more_uncertain_than_right_answers(name: str, problem: tuple[Evidence, np.ndarray]) -> None:
    """Near the borders of classes: every score of the prediction ranks errors above right answers."""
    kinds = METHODS[name].scores
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 900)
    x = 0.5 * CENTRES[y] + rng.normal(size=(900, 4))
    model = LogisticRegression().fit(x[:300], y[:300])
    part = lambda a, b: Outputs(model.decision_function(x[a:b]), x[a:b], y[a:b])
    evidence = Evidence(part(0, 300), part(300, 600), part(600, 900), weight=model.coef_, bias=model.intercept_)
    wrong = model.predict(x[600:]) != y[600:]
    for score, kind in kinds.items():
        if kind in ("TU", "AU"):
            assert roc_auc_score(wrong, METHODS[name].score(evidence).scores[score]) > 0.6, score


@pytest.mark.parametrize(
    ("name", "missing"),
    [("laplace", "weight"), ("vim", "weight"), ("mahalanobis", "features"), ("mc_dropout", "net"), ("sngp", "net")],
)
def test_says_what_is_missing(name: str, missing: str, problem: tuple[Evidence, np.ndarray]) -> None:
    whole = problem[0]
    bare = lambda o: Outputs(o.logits, None, o.labels)
    evidence = (
        Evidence(bare(whole.train), bare(whole.validation), bare(whole.test), whole.weight, whole.bias)
        if missing == "features"
        else Evidence(whole.train, whole.validation, whole.test)
    )
    with pytest.raises(UsageError, match=missing) as refused:
        METHODS[name].score(evidence)
    assert "\n" not in str(refused.value)


def test_laplace_asks_for_validation_only_where_it_fits_the_prior_there(problem: tuple[Evidence, np.ndarray]) -> None:
    whole = problem[0]
    bare = Evidence(whole.train, Outputs(whole.validation.logits), whole.test, weight=whole.weight, bias=whole.bias)
    by_training = METHODS["laplace"].score(bare).scores["variance"]
    np.testing.assert_array_equal(by_training, METHODS["laplace"].score(whole).scores["variance"])
    with pytest.raises(DataError, match="no case has a label"):
        METHODS["laplace"].score(bare, prior="validation")
    assert METHODS["laplace"].score(whole, prior="validation").scores["variance"].shape == (450,)


def test_what_a_method_remarks_is_passed_on(problem: tuple[Evidence, np.ndarray]) -> None:
    whole = problem[0]
    few = Evidence(whole.train.take(np.arange(30)), whole.validation.take(np.arange(4)), whole.test)
    assert "k is 30" in METHODS["knn"].score(few).notes[0]
    assert METHODS["knn"].score(few, k=5).notes == ()
    assert METHODS["conformal"].score(few).notes


@pytest.mark.parametrize(
    ("logits", "features", "says"),
    [
        (np.array([[0.0, np.nan]]), None, "row 0"),
        (np.zeros((3, 1)), None, "2 classes or more"),
        (np.zeros((3, 2)), np.zeros((2, 5)), r"expected \(3, D\)"),
        (np.zeros((2, 2)), np.array([[0.0], [np.inf]]), "row 1"),
    ],
)
def test_bad_outputs_are_refused(logits: np.ndarray, features: np.ndarray | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Outputs(logits, features)


def test_the_table_loads_without_torch() -> None:
    code = "import sys, medaudit.uncertainty.methods as m; assert m.METHODS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
