"""What the methods' table asks of its evidence: no torch for cached outputs, and one line for what is missing."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from medaudit.errors import UsageError
from medaudit.uncertainty.methods import METHODS, Evidence
from medaudit.uncertainty.outputs import Outputs

OF_FEATURES = ["laplace", "mahalanobis", "rmds", "knn", "vim", "feature_density", "trust_score"]

WITHOUT_TORCH = """
import sys
import numpy as np
from medaudit.uncertainty.methods import METHODS, Evidence
from medaudit.uncertainty.outputs import Outputs
rng = np.random.default_rng(0)
weight, bias = rng.normal(size=(3, 5)), rng.normal(size=3) + 2
def part(cases):
    x = rng.normal(size=(cases, 5))
    return Outputs(x @ weight.T + bias, x, np.arange(cases) % 3)
evidence = Evidence(part(90), part(60), part(20), weight, bias)
for name, method in METHODS.items():
    if method.cached:
        said = method.score(evidence)
        assert set(said.scores) == set(method.scores), name
        assert all(scores.shape == (20,) and np.isfinite(scores).all() for scores in said.scores.values()), name
        assert "torch" not in sys.modules, name
        print(name)
"""


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 5)), rng.normal(size=3) + 2

    def part(cases: int) -> Outputs:
        x = rng.normal(size=(cases, 5))
        return Outputs(x @ weight.T + bias, x, np.arange(cases) % 3)

    return Evidence(part(90), part(60), part(20), weight, bias)


def test_every_cached_method_runs_without_importing_torch() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [name for name, method in METHODS.items() if method.cached]


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", OF_FEATURES)
def test_missing_features_are_a_usage_error_of_one_line(name: str, part: str, evidence: Evidence) -> None:
    bare = replace(evidence, **{part: replace(getattr(evidence, part), features=None)})
    with pytest.raises(UsageError, match="features") as refused:
        METHODS[name].score(bare)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["laplace", "vim"])
@pytest.mark.parametrize("missing", ["weight", "bias"])
def test_a_missing_last_layer_is_a_usage_error(name: str, missing: str, evidence: Evidence) -> None:
    with pytest.raises(UsageError, match=r"weight \(C, D\) and bias \(C,\)"):
        METHODS[name].score(replace(evidence, **{missing: None}))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.cached])
def test_a_method_that_runs_a_net_says_so(name: str, evidence: Evidence) -> None:
    with pytest.raises(UsageError, match="runs a net") as refused:
        METHODS[name].score(evidence)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OF_FEATURES and METHODS[name].cached])
def test_scores_of_the_prediction_need_logits_alone(name: str, evidence: Evidence) -> None:
    bare = lambda outputs: replace(outputs, features=None)
    alone = Evidence(bare(evidence.train), bare(evidence.validation), bare(evidence.test))
    whole = METHODS[name].score(evidence).scores
    for score, values in METHODS[name].score(alone).scores.items():
        np.testing.assert_array_equal(values, whole[score])
