"""`medaudit counterfactuals` from the command line: a rule, a trained classifier, and mistakes."""

import json
import re

import numpy as np
import polars as pl
import pytest

from medaudit.cli import main
from medaudit.training.graphs import vae


@pytest.fixture
def call(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main.run([str(word) for word in words])
        return stopped.value.code, capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.py"
    path.write_text(
        "from medaudit.datasets.graphs.simulate import has_cycle\n"
        "def rule(graphs):\n    return has_cycle\n"
        "def broken(graphs):\n    raise KeyError('weights')\n"
        "def number(graphs):\n    return 3\n"
        "def large(graphs):\n    return lambda graph: graph.n > 12\n"
        "def third(graphs):\n    return lambda graph: 2\n"
        "def always(graphs):\n    return lambda graph: 0\n"
        "def fails(graphs):\n"
        "    import torch\n"
        "    class Net(torch.nn.Module):\n"
        "        def forward(self, x, edge_index, batch):\n"
        "            return x @ torch.zeros(99, 2)\n"
        "    return Net()\n"
        "def narrow(graphs):\n"
        "    import torch\n"
        "    class Net(torch.nn.Module):\n"
        "        def forward(self, x, edge_index, batch):\n"
        "            return x.new_zeros(int(batch.max()) + 1, 3)\n"
        "    return Net()\n"
    )
    return path


def test_a_users_rule_is_explained_and_the_run_is_the_same_again(call, model, tmp_path):
    words = ("counterfactuals", "--simulate", "tree-cycles", "--size", 60, "--classifier", f"{model}:rule", "--method",
             "instance", "--baseline", "none", "--explain", 10, "--min-graphs", 5, "--resamples", 100, "--out",
             tmp_path / "run")  # fmt: skip
    code, said = call(*words, "--json")
    assert code == 0
    found = {one["id"]: one for one in json.loads(said.out)}
    assert found["flips"]["estimate"]["value"] == 1.0
    assert found["classifier"]["estimate"]["value"] == 1.0
    assert found["minimal"]["verdict"] == "supported"
    table = pl.read_parquet(tmp_path / "run" / "measurements.parquet")
    assert (table["distance_lower"] <= table["distance_upper"]).all()
    assert (table["distance_upper"] <= table["edits_in_slots"]).all()
    assert (tmp_path / "run" / "report.html").read_text().count("<img") >= 1
    first = (tmp_path / "run" / "findings.json").read_bytes()
    (tmp_path / "run" / "findings.json").unlink()
    found = tmp_path / "run" / "counterfactuals" / "instance.npz"
    made = found.stat().st_mtime_ns
    assert call(*words, "--quiet")[0] == 0
    assert found.stat().st_mtime_ns == made  # what was found is read, not looked for anew
    assert (tmp_path / "run" / "findings.json").read_bytes() == first


def test_a_trained_classifier_is_walked_beside_the_papers_baselines_and_can_be_asked_again(call, tmp_path, monkeypatch):
    monkeypatch.setattr(vae.Rebuilt, "passes", True)  # of a few steps nothing is rebuilt: the gate has its own test
    out = tmp_path / "run"
    common = ("--simulate", "size-shortcut", "--size", 80, "--explain", 4, "--min-graphs", 4, "--resamples", 100)
    more = ("--net", "gin", "--classifier-steps", 60, "--steps", 10, "--json", "--out", out)
    code, said = call("counterfactuals", *common, *more)
    assert code == 0, said.err
    ids = {one["id"] for one in json.loads(said.out)}
    assert {"shortcut:nodes", "duplicates", "rebuilds", "flips", "plausible"} <= ids
    table = pl.read_parquet(out / "measurements.parquet")
    assert set(table["method"]) == {"both", "random", "nearest", "mean"}
    more = ("--classifier", out / "classifier" / "graph_classifier.pt", "--method", "search", "--baseline", "none",
            "--keep", "add-nodes", "--keep", "delete-nodes", "--json", "--out", tmp_path / "again")  # fmt: skip
    code, said = call("counterfactuals", *common, *more)
    assert code == 0, said.err
    again = pl.read_parquet(tmp_path / "again" / "measurements.parquet").filter(pl.col("flips"))
    np.testing.assert_array_equal(again["nodes"], again["nodes_after"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "say which graphs"),
        ("--simulate trees", 2, "no such graphs; expected one of tree-cycles"),
        ("--simulate tree-cycles --graphs x", 2, "say which graphs"),
        ("--dataset MUTAG", 2, "needs --data DIR"),
        ("--graphs nowhere", 1, "nowhere: no such folder"),
        ("--graphs EMPTY", 1, "EMPTY"),
        ("--graphs DIRECTED", 1, "one.txt"),
        ("--simulate tree-cycles --method walks", 2, "no method 'walks'"),
        ("--simulate tree-cycles --baseline worst", 2, "no baseline 'worst'"),
        ("--simulate tree-cycles --freeze a,b", 2, "expected numbers of nodes"),
        ("--simulate tree-cycles --keep nodes", 2, "--keep nodes: expected some of"),
        ("--simulate tree-cycles --target ring", 2, "no such class; there are"),
        ("--simulate tree-cycles --largest 5", 2, "no graph has 5 nodes or fewer"),
        ("--simulate tree-cycles --size 60 --steps 10 --classifier-steps 10", 1, "the autoencoder rebuilds edges with"),
        ("--simulate tree-cycles --size 60 --classifier MODEL:rule --method walk --baseline none --steps 10", 2,
         "no gradients, which a walk needs"),
        ("--simulate tree-cycles --size 60 --classifier MODEL:rule --baseline paper --steps 10", 2, "no gradients"),
        ("--simulate tree-cycles --classifier MODEL:fails", 1, "MODEL:fails failed on these graphs: RuntimeError"),
        ("--simulate tree-cycles --classifier MODEL:narrow", 1, "of shape .* expected finite numbers of shape"),
        ("--simulate tree-cycles --classifier MODEL:third", 1, "the rule says 2 of graph .*; expected a class, 0 to 1"),
        ("--simulate tree-cycles --classifier MODEL:always --target tree --method search --baseline none", 1,
         "already: nothing is left to be led there"),
        ("--simulate tree-cycles --chemistry", 2, "expected elements"),
        ("--simulate tree-cycles --freeze 0,99", 2, "--freeze 0,99: expected nodes from 0 to"),
        ("--simulate tree-cycles --classifier nowhere.py:load", 1, "nowhere.py: no such file"),
        ("--simulate tree-cycles --classifier MODEL:load", 2, "has no 'load'"),
        ("--simulate tree-cycles --classifier MODEL:broken", 1, "failed: KeyError"),
        ("--simulate tree-cycles --classifier MODEL:number", 2, "returned int"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(call, model, tmp_path, words, code, message):
    (tmp_path / "EMPTY").mkdir()
    for name in ("td", "asd"):
        (tmp_path / "DIRECTED" / name).mkdir(parents=True)
        (tmp_path / "DIRECTED" / name / "one.txt").write_text("0 1\n0 0\n")
    asked = [str(tmp_path / word) if word in ("EMPTY", "DIRECTED") else word.replace("MODEL", str(model))
             for word in words.split()]  # fmt: skip
    found, said = call("counterfactuals", *asked, "--quiet", "--out", tmp_path / "out")
    assert found == code, said.err
    assert re.search(message.replace("MODEL", re.escape(str(model))), said.err)
    assert len(said.err.strip().splitlines()) == 1
