"""`medaudit explain audit`, `card`, `replay`: a model whose reasons are known, and what is told of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE, TAG = 16, 4
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    # Sees nothing but how bright the corner is.
    def __init__(self, inplace=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 4, stride=4)
        self.relu = nn.ReLU(inplace=inplace)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 16)
            self.conv.bias.zero_()
    def forward(self, x):
        h = self.relu(self.conv(x))
        corner = h[:, :, 0, 0].mean(1)
        return torch.stack([-4 * corner + 3, 4 * corner - 3], 1)

def load():
    return Net().eval()

def fails():
    raise RuntimeError("no weights here")

def odd():
    return 7

def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))

def training():
    return Net().train()
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise, half of it with a white square in the corner, which is the label; a reader's mask elsewhere."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "model.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(30):
        picture = rng.integers(40, 160, (SIDE, SIDE)).astype(np.uint8)
        picture[-1, -1], picture[-1, 0] = 0, 255  # so that each has the same range
        mark, mask = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        mark[:TAG, :TAG], mask[8:13, 8:13] = 255, 255
        if k % 2:
            picture[:TAG, :TAG] = 255
        for name, made in (("image", picture), ("mark", mark), ("mask", mask)):
            Image.fromarray(made).save(folder / f"{name}{k}.png")
        rows.append((f"c{k}", f"p{k}", f"image{k}.png", f"mark{k}.png", f"mask{k}.png", "tagged" if k % 2 else "plain"))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("case_id", "patient_id", "image", "mark", "mask", "kind"), *rows])
    return folder


def call(images: Path, out: Path, *more: object) -> list[object]:
    return [
        "explain", "audit", "--cases", images / "cases.csv", "--image", "image", "--label", "kind", "--side", SIDE,
        "--explain", 12, "--resamples", 100, "--min-patients", 5, "--jobs", 1, "--quiet", "--out", out, *more,
    ]  # fmt: skip


SMALL = (
    "--pairs", "P1,P5", "--configuration", "ig-white", "--configuration", "ig-black", "--configuration", "grad-cam",
    "--factor", "absence=black,white", "--factor", "explanandum=logit,margin",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(images: Path) -> Path:
    from medaudit.cli.main import run as medaudit

    out = images / "run"
    with pytest.raises(SystemExit) as stop:
        medaudit([str(a) for a in call(images, out, "--model", f"{images / 'model.py'}:load", "--mask", "mask",
                                       "--marker", "mark", *SMALL)])  # fmt: skip
    assert not stop.value.code
    return out


def findings(run: Path) -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((run / "findings.json").read_text())}


def test_whether_the_corner_is_found_is_a_matter_of_what_absent_means(run: Path) -> None:
    maps = np.load(run / "maps.npz")
    told = {name: np.abs(maps[name]) for name in ("ig-white", "ig-black")}
    held = json.loads((run / "asked.json").read_text())
    tagged = [held["y"][held["cases"].index(p.stem)] == 1 for p in sorted((run / "cards").glob("*.json"))]
    assert any(tagged)
    # Nothing but the corner has a gradient: all mass is there, and none where absent means white and the corner is.
    assert (told["ig-black"][:, TAG:].max(), told["ig-black"][:, :, TAG:].max()) == (0, 0)
    by_case = {json.loads(p.read_text())["case"]: json.loads(p.read_text()) for p in (run / "cards").glob("*.json")}
    for card in by_case.values():
        is_tagged = held["y"][held["cases"].index(card["case"])] == held["classes"].index("tagged")
        assert (card["numbers"]["explanation"]["mass"] < 1e-6) == is_tagged


def test_the_change_of_absence_is_told_as_a_change_and_the_margin_of_two_as_none(run: Path) -> None:
    found = findings(run)
    assert found["pair:P1-white"]["verdict"] == "supported"
    assert found["moves-most"]["groups"]["explanandum"]["total"] == pytest.approx(0, abs=1e-6)
    assert found["moves-most"]["groups"]["absence"]["total"] == pytest.approx(1)
    assert found["moves-most"]["verdict"] == "supported"


def test_a_card_has_its_assumptions_its_claims_and_the_one_that_disagrees(run: Path, medaudit) -> None:
    cases = medaudit("explain", "card", run).out.split()
    card = medaudit("explain", "card", run, "--case", cases[0]).json
    assert any("white means that nothing is there" in one["text"] for one in card["assume"])
    verdicts = {one["claim"]: one["verdict"] for one in card["claims"]}
    assert verdicts["localisation"] == "refused"
    assert verdicts["reason"] == "refused"
    assert card["dissent"]["name"] != card["configuration"]["name"]
    assert card["dissent"]["assume"]
    page = (run / "cards" / f"{cases[0]}.html").read_text()
    assert "disagrees most" in page
    assert card["dissent"]["name"].partition(":")[0] in page


def test_a_card_is_made_again_to_the_same_numbers_and_a_changed_one_is_noticed(run: Path, medaudit) -> None:
    path = next(iter(sorted((run / "cards").glob("*.json"))))
    assert medaudit("explain", "replay", path, "--quiet").code == 0
    card = json.loads(path.read_text())
    card["numbers"]["dissent"]["mass"] += 1
    other = path.with_name("changed.json")
    other.write_text(json.dumps(card))
    medaudit("explain", "replay", other, "--quiet").refuses(1, "dissent: mass")
    other.unlink()


def test_the_page_shows_maps_and_says_whose_word_positions_are(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64") == 1
    assert "could not be read" in page
    assert "What may be claimed?" in page


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("nowhere.py:load", 1, ("no such file", "--model")), ("model.py:none", 2, ("has no 'none'",)),
        ("model.py:fails", 1, ("no weights here",)), ("model.py:odd", 2, ("int", "torch module")),
        ("model.py:three", 1, ("3 classes", "plain, tagged")),
    ],
)  # fmt: skip
def test_a_model_that_is_none_is_one_line(images: Path, tmp_path: Path, medaudit, model, code, words) -> None:
    medaudit(*call(images, tmp_path / "run", "--model", images / model, *SMALL)).refuses(code, *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--pairs", "P99"), ("no pair 'P99'",)), (("--configuration", "magic"), ("magic", "explain list")),
        (("--target", "sick"), ("--target sick", "plain, tagged")), (("--factor", "absence"), ("--factor absence",)),
        (("--class", "old"), ("--class old",)), (("--std", 0), ("--std 0",)),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_is_one_line(images: Path, tmp_path: Path, medaudit, more, words) -> None:
    model = f"{images / 'model.py'}:load"
    medaudit(*call(images, tmp_path / "run", "--model", model, *more)).refuses(2, *words)


def test_no_run_has_no_cards(tmp_path: Path, medaudit) -> None:
    medaudit("explain", "card", tmp_path).refuses(1, "has no cards")
    (tmp_path / "card.json").write_text("{}")
    medaudit("explain", "replay", tmp_path / "card.json").refuses(1, "no card of this version")
