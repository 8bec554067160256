"""`medaudit prototypes` from the command line: a small model is trained once, looked at, edited and audited."""

import io
import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from medaudit.audits.prototypes import train_run
from medaudit.cli import main
from medaudit.networks.diffusion.unet import ConditionalUNet, UNetShape, sinusoids
from medaudit.networks.prototypes import patronus_weights
from medaudit.networks.prototypes.encoder import EncoderShape, PrototypeEncoder
from medaudit.networks.prototypes.model import PrototypeDiffusion
from medaudit.report import Run
from medaudit.training import attributes, latent_prior
from medaudit.training.prototypes import recipe


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The verbs as they are, with a judge and a prior that learn for a moment."""
    patch = pytest.MonkeyPatch()
    patch.setattr(attributes, "JudgeRecipe", partial(attributes.JudgeRecipe, steps=40))
    patch.setattr(latent_prior, "PriorRecipe", partial(latent_prior.PriorRecipe, steps=30, width=32))
    known = recipe.PRESETS["cpu-tiny"]
    small = replace(known.unet, width=8, multipliers=(1, 2), embedding=32)
    patch.setitem(recipe.PRESETS, "cpu-tiny", replace(known, unet=small, epochs=2))
    painter = train_run.Painter
    patch.setattr(train_run, "Painter", lambda trained, steps: painter(trained, steps=8, refinements=1))
    yield
    patch.undo()


@pytest.fixture
def call(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main.run([str(word) for word in words])
        return stopped.value.code, capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was trained for a few steps: it knows little, and every verb can be asked of it."""
    out = tmp_path_factory.mktemp("prototypes") / "model"
    with pytest.raises(SystemExit) as stopped:
        main.run(f"prototypes train --simulate lesions --plant ruler:0.5 --size 240 --preset cpu-tiny --prototypes 8 "
                 f"--steps 20 --test-share 0.5 --quiet --out {out}".split())  # fmt: skip
    assert stopped.value.code == 0
    return out


def test_a_training_leaves_a_report_with_pictures_and_says_whether_its_code_is_one(trained):
    report = (trained / "report.html").read_text()
    assert report.count("<img") >= 2
    ids = [finding["id"] for finding in json.loads((trained / "findings.json").read_text())]
    assert ids == ["collapsed", "dead", "obeys"]
    table = pl.read_parquet(trained / "cases.parquet")
    assert 90 < (table["part"] == "test").sum() < 150


def test_a_training_that_is_asked_for_again_is_not_done_again(trained, call):
    before = (trained / "findings.json").read_bytes(), (trained / "model" / "prototypes.pt").stat().st_mtime_ns
    code, _ = call(
        "prototypes", "train", "--simulate", "lesions", "--plant", "ruler:0.5", "--size", 240, "--preset", "cpu-tiny",
        "--prototypes", 8, "--steps", 20, "--test-share", 0.5, "--quiet", "--out", trained,
    )  # fmt: skip
    assert code == 0
    after = (trained / "findings.json").read_bytes(), (trained / "model" / "prototypes.pt").stat().st_mtime_ns
    assert after == before


def test_show_draws_maps_and_keeps_activations(trained, call, tmp_path):
    code, said = call(
        "prototypes", "show", trained, "--prototype", 3, "--images", 2, "--json", "--out", tmp_path / "shown"
    )
    assert code == 0
    assert [f["id"] for f in json.loads(said.out)] == ["collapsed", "dead", "obeys"]
    kept = pl.read_parquet(tmp_path / "shown" / "measurements.parquet")
    assert kept.shape == (240, 10)
    assert kept.select(pl.selectors.starts_with("prototype_")).min_horizontal().min() >= 0


def test_edit_changes_what_it_is_asked_to_and_says_what_was_reached(trained, call, tmp_path):
    picture = tmp_path / "edited.png"
    code, said = call("prototypes", "edit", trained, "--case", "SC_00001", "--set", "2=+1", "--json", "--out", picture)
    told = json.loads(said.out)
    assert code == 0
    assert told["prototype 2 asked for"] > told["prototype 2 before"]
    assert np.asarray(Image.open(io.BytesIO(picture.read_bytes()))).shape[1] > 3 * 250


def test_an_audit_answers_for_every_ordered_pair_and_goes_on_where_it_was(trained, call, tmp_path):
    words = ("prototypes", "audit", trained, "--images", 8, "--drawn", 16, "--leaks", 2, "--min-patients", 4,
             "--resamples", 200, "--out", tmp_path / "audit")  # fmt: skip
    code, said = call(*words, "--json")
    assert code == 0
    ids = [finding["id"] for finding in json.loads(said.out)]
    assert sum(one.startswith("shortcut:") for one in ids) == 6
    assert "captured:disease" in ids
    assert "amplified:disease*ruler" in ids
    first = (tmp_path / "audit" / "findings.json").read_bytes()
    (tmp_path / "audit" / "findings.json").unlink()
    assert call(*words, "--quiet")[0] == 0
    assert (tmp_path / "audit" / "findings.json").read_bytes() == first
    assert (tmp_path / "audit" / "report.html").read_text().count("<img") >= 3
    assert ("dataset", "simulated lesions") in map(tuple, Run.read(tmp_path / "audit").report().provenance)


def test_an_audit_says_what_the_whole_code_tells_beside_principal_components(trained, call, tmp_path):
    code, said = call("prototypes", "audit", trained, "--images", 8, "--drawn", 64, "--leaks", 0, "--min-patients", 4,
                      "--resamples", 100, "--json", "--out", tmp_path / "audit")  # fmt: skip
    assert code == 0
    found = {finding["id"]: finding for finding in json.loads(said.out)}
    assert {f"decided:{name}" for name in ("disease", "ruler", "ink")} <= set(found)
    report = (tmp_path / "audit" / "report.html").read_text()
    assert "principal components" in report
    assert "Kernel distance" in report


def test_a_published_model_is_looked_at_without_a_training(call, tmp_path):
    encoder = EncoderShape(features=(4, 6, 6, 8), prototypes=5)
    unet = UNetShape(channels=1, width=8, multipliers=(1, 2), blocks=1, conditions=5, embedding=16)
    torch.manual_seed(0)
    model = PrototypeDiffusion(PrototypeEncoder(encoder), ConditionalUNet(unet), predicts="noise")
    theirs = {patronus_weights._published(name): values for name, values in model.state_dict().items()
              if name not in ("centre", "spread")}  # fmt: skip
    theirs |= {patronus_weights._ONES: torch.ones(5, 8, 1, 1), patronus_weights._TIMES: sinusoids(torch.arange(100), 8)}
    torch.save({"model": theirs}, tmp_path / "ckpt.tar")
    words = ["prototypes", "train", "--simulate", "lesions", "--size", 120, "--weights", tmp_path / "ckpt.tar"]
    code, said = call(*words, "--out", tmp_path / "none")
    assert (code, "--weights needs --side" in said.err) == (2, True)
    out = tmp_path / "model"
    code, said = call(*words, "--side", 16, "--json", "--out", out)
    assert code == 0
    assert [finding["id"] for finding in json.loads(said.out)] == ["collapsed", "dead", "obeys"]
    kept = train_run.open_trained(out).painter.trained
    assert kept.recipe.noise_steps == 100
    assert all(torch.equal(kept.model.state_dict()[name], values) for name, values in model.state_dict().items())
    assert "nothing was trained" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("train --simulate lesions --preset tiny", 2, "no preset 'tiny'"),
        ("train --simulate lesions --preset cpu-tiny --side 17", 2, "--side 17.*multiple of 2, as 16 or 18"),
        ("train --simulate lesions --preset cpu-tiny --side 8", 2, "--side 8: the encoder"),
        ("train --simulate lesions --size 20 --preset cpu-tiny", 1, "fewer than 48 images a batch"),
        ("train --images nowhere", 1, "nowhere: no such folder"),
        ("audit", 2, "say what to audit"),
        ("audit --simulate skin", 2, "no shortcut can be planted there"),
        ("audit --simulate lesions --plant ruler:2", 2, "it is a correlation, from -1 to 1"),
        ("audit MODEL --attribute sex", 2, "needs two or more"),
        ("audit MODEL --attribute sex --attribute disease", 2, "no column 'sex'"),
        ("audit MODEL --attributes TABLE", 1, "no case of the table of attributes is one of the model's run"),
        ("audit nowhere", 2, "not the folder of a run"),
        ("show MODEL --prototype 8", 2, "no prototype 8; there are 8"),
        ("edit MODEL --case nobody --set 1=2", 2, "no case 'nobody'"),
        ("edit MODEL --case SC_00001 --set 1:2", 2, "expected a prototype and a value"),
    ],
)
def test_a_mistake_is_one_clear_line(trained, call, tmp_path, words, code, message):
    table = tmp_path / "table.csv"
    table.write_text("case_id,a,b\nx,yes,no\ny,no,yes\n")
    asked = words.replace("MODEL", str(trained)).replace("TABLE", str(table)).split()
    out = ["--out", tmp_path / ("x.png" if asked[0] == "edit" else "out")]
    found, said = call("prototypes", *asked, *out)
    assert found == code, said.err
    assert re.search(message, said.err)
    assert len(said.err.strip().splitlines()) == 1
