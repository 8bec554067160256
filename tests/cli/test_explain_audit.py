"""`medaudit explain audit`, `card`, `replay`: a model whose reasons are known, and what is told of it."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from medaudit.audits.explanations.cards import file_name
from medaudit.report import Run

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

class Raises(Net):
    def forward(self, x):
        if len(x) > 8:
            raise ValueError("of eight at most")
        return super().forward(x)

def raises():
    return Raises()
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise, half of it with a white square in the corner, which is the label; a reader's mask elsewhere."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "model.py").write_text(MODEL)
    (folder / "exits.py").write_text("raise SystemExit(3)")
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
        rows.append(
            (f"<b>{k}/é", f"p{k}", f"image{k}.png", f"mark{k}.png", f"mask{k}.png", "tagged" if k % 2 else "plain")
        )
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
    # Nothing but the corner has a gradient: all mass is there, and none where absent means white and the corner is.
    assert (told["ig-black"][:, TAG:].max(), told["ig-black"][:, :, TAG:].max()) == (0, 0)
    by_case = {json.loads(p.read_text())["case"]: json.loads(p.read_text()) for p in (run / "cards").glob("*.json")}
    assert len(by_case) == 12
    for card in by_case.values():
        is_tagged = held["y"][held["cases"].index(card["case"])] == held["classes"].index("tagged")
        assert (card["numbers"]["explanation"]["mass"] < 1e-6) == is_tagged
        # What says nothing is like nothing: it has its dissent all the same, and never itself.
        assert card["dissent"]["name"] != card["configuration"]["name"]
        assert (card["dissent"]["similarity"] is None) == is_tagged


def test_the_change_of_absence_is_told_as_a_change_and_the_margin_of_two_as_none(run: Path) -> None:
    found = findings(run)
    assert found["pair:P1-white"]["verdict"] == "supported"
    assert found["moves-most"]["groups"]["explanandum"]["total"] == pytest.approx(0, abs=1e-6)
    assert found["moves-most"]["groups"]["absence"]["total"] == pytest.approx(1)
    assert found["moves-most"]["verdict"] == "supported"
    # The tagged ones have no map from white, which is said.
    assert "images left out, with a map that is the same everywhere" in found["pair:P1-white"]["claim"]
    assert found["pair:P1-white"]["groups"]["floor"]["distance"] == pytest.approx(0, abs=1e-6)


def test_what_is_said_of_the_model_weighs_each_class_the_same_and_knows_what_it_does_not_know(run: Path) -> None:
    from medaudit.audits.explanations.settings import ExplainSettings
    from medaudit.audits.explanations.study import _accuracy

    assert "which it may have learned from" in findings(run)["model"]["claim"]
    assert findings(run)["model"]["verdict"] == "refuted"
    y = np.repeat([0, 0, 0, 1], 10)
    shown = SimpleNamespace(y=y, held=np.arange(40), patients=np.arange(40).astype(str))
    always_the_commonest = SimpleNamespace(pictures=shown, told=np.zeros(40, dtype=int))
    share, balanced, present = _accuracy(always_the_commonest, ExplainSettings(resamples=100))
    assert (share.value, balanced.value, present) == (0.75, 0.5, 2)
    assert balanced.low < 0.5 < balanced.high


def test_a_difference_that_reruns_can_have_among_so_many_pairs_is_none() -> None:
    from medaudit.audits.explanations.findings import _pair
    from medaudit.audits.explanations.study import PairResult
    from medaudit.audits.judging.conclude import conclude
    from medaudit.explanation.assumptions import ends
    from medaudit.explanation.warrants.comparison import Effect
    from medaudit.statistics import Estimate

    def result(name: str, p: float) -> PairResult:
        far = Estimate("beyond", 0.2, 0.1, 0.3, p=p, n=20)
        each = np.full(20, 0.2)
        return PairResult(
            *ends(name), Effect(each, 0 * each, far, Estimate("alike", 0.8, 0.7, 0.9, n=20), "differs", "")
        )

    told = conclude(
        [_pair(name, result(name, p)) for name, p in (("P8", 0.03), ("P4-smooth", 0.04), ("P1-noise", 0.01))]
    )
    assert [one.verdict for one in told] == ["insufficient", "insufficient", "supported"]
    alone = conclude([_pair("P8", result("P8", 0.03)), _pair("P1-white", result("P1-white", np.nan))])
    assert [one.verdict for one in alone] == ["supported", "supported"]


def test_a_card_has_its_assumptions_its_claims_and_the_one_that_disagrees(run: Path, medaudit) -> None:
    cases = medaudit("explain", "card", run).out.split()
    card = medaudit("explain", "card", run, "--case", cases[0]).json
    assert any("white means that nothing is there" in one["text"] for one in card["assume"])
    verdicts = {one["claim"]: one["verdict"] for one in card["claims"]}
    assert verdicts["localisation"] == "refused"
    assert verdicts["reason"] == "refused"
    assert card["dissent"]["name"] != card["configuration"]["name"]
    assert card["dissent"]["assume"]
    page = (run / "cards" / f"{file_name(cases[0])}.html").read_text(encoding="utf-8")
    assert medaudit("explain", "card", run, "--case", cases[0], "--html", run.parent / "page.html").code == 0
    assert (run.parent / "page.html").read_text(encoding="utf-8") == page
    assert cases[0].startswith("<b>")
    assert "<b>" not in page.replace(f"<b>{card['configuration']['name']}</b>", "").replace(
        f"<b>{card['dissent']['name']}</b>", ""
    )
    assert "disagrees most" in page
    assert card["dissent"]["name"].partition(":")[0] in page


def test_a_card_is_made_again_to_the_same_numbers_and_a_changed_one_is_noticed(run: Path, medaudit) -> None:
    path = next(iter(sorted((run / "cards").glob("*.json"))))
    assert medaudit("explain", "replay", path, "--quiet").code == 0
    card = json.loads(path.read_text())
    card["numbers"]["dissent"]["mass"] *= 1.001
    other = path.with_name("changed.json")
    try:
        other.write_text(json.dumps(card))
        medaudit("explain", "replay", other, "--quiet").refuses(1, "dissent: mass")
        for part, damaged in (
            ("numbers", {"dissent": 3}),
            ("dissent", {"family": "magic", "atoms": {}}),
            ("seed", None),
        ):
            other.write_text(json.dumps({**card, part: damaged}))
            medaudit("explain", "replay", other, "--quiet").refuses(1, "is damaged")
    finally:
        other.unlink()


def test_a_replay_notices_a_model_that_changed_or_went_and_finds_it_from_anywhere(
    run: Path, medaudit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, model = next(iter(sorted((run / "cards").glob("*.json")))), run.parent / "model.py"
    monkeypatch.chdir(tmp_path)
    try:
        model.write_text(MODEL.replace("fill_(1 / 16)", "fill_(1 / 15)"))
        medaudit("explain", "replay", path, "--quiet").refuses(1, "the model is another")
        model.unlink()
        medaudit("explain", "replay", path, "--quiet").refuses(1, "model.py: no such file")
    finally:
        model.write_text(MODEL)
    assert medaudit("explain", "replay", path, "--quiet").code == 0


ONE = ("--pairs", "", "--configuration", "ig-white", "--factor", "absence=black,white")


def test_a_single_explanation_has_its_dissent_and_speaks_of_the_class_asked_for(
    images: Path, tmp_path: Path, medaudit
) -> None:
    model = f"{images / 'model.py'}:load"
    assert medaudit(*call(images, tmp_path / "run", "--model", model, "--target", "plain", *ONE)).code == 0
    for path in (tmp_path / "run" / "cards").glob("*.json"):
        card = json.loads(path.read_text())
        assert card["dissent"]["name"] == "ig-black"
        assert card["explained"].startswith("the logit of class 'plain', ")
        assert ("'tagged'" in card["explained"]) == (card["predicted"] == "tagged")
    assert medaudit("explain", "replay", path, "--quiet").code == 0
    kept = ("findings.json", "measurements.parquet", "maps.npz", "asked.json", f"cards/{path.name}")
    before = [(tmp_path / "run" / name).read_bytes() for name in kept]
    assert medaudit(*call(images, tmp_path / "run", "--model", model, "--target", "plain", *ONE)).code == 0
    assert [(tmp_path / "run" / name).read_bytes() for name in kept] == before
    # A folder of its own for each question, wherever the model lies.
    medaudit(*call(images, tmp_path / "run", "--model", model, *ONE)).refuses(2, "holds another run", "target")


def test_what_breaks_one_configuration_does_not_end_the_others(images: Path, tmp_path: Path, medaudit) -> None:
    more = ("--pairs", "P1-white,P12-relu", "--configuration", "integrated-gradients(explanandum=margin(9))",
            "--configuration", "grad-cam", "--factor", "absence=black,white")  # fmt: skip
    assert medaudit(*call(images, tmp_path / "run", "--model", f"{images / 'model.py'}:training", *more)).code == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "class 9; expected 0 to 1" in page


def test_a_model_trained_here_is_asked_again_with_its_twin(images: Path, tmp_path: Path, medaudit) -> None:
    out = tmp_path / "run"
    several = "integrated-gradients(absence=matched, locality=path(2), chance=distribution(2), plurality=set(2))"
    more = ("--steps", 2, "--normal", "plain", "--pairs", "P6", "--configuration", several, "--configuration",
            "input-times-gradient", "--factor", "absence=black,white", "--explain", 4)  # fmt: skip
    assert medaudit(*call(images, out, *more)).code == 0
    path = next(iter(sorted((out / "cards").glob("*.json"))))
    card = json.loads(path.read_text())
    assert card["configuration"]["name"] == several
    assert medaudit("explain", "replay", path, "--quiet").code == 0
    other = ("--model", out / "classifier.pt", "--mean", 0.5)
    medaudit(*call(images, tmp_path / "other", *other, *ONE)).refuses(1, "trained with mean 0.0; asked was 0.5")


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
        ("model.py:three", 1, ("3 classes", "plain, tagged")), ("model.py", 2, ("model.py:NAME",)),
        ("model.py:raises", 1, ("ValueError: of eight at most",)),
        ("exits.py:load", 1, ("exits.py cannot be run", "SystemExit")),
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
        (("--factor", "absence=black,purple"), ("purple",)), (("--factor", "absence=black,black"), ("each once",)),
        (("--device", "cuda:7"), ("--device cuda:7",)),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_is_one_line(images: Path, tmp_path: Path, medaudit, more, words) -> None:
    model = f"{images / 'model.py'}:load"
    medaudit(*call(images, tmp_path / "run", "--model", model, *more)).refuses(2, *words)


def test_where_images_are_is_said_once(images: Path, tmp_path: Path, medaudit) -> None:
    out = ("--label", "kind", "--out", tmp_path / "run", "--quiet")
    simulated = ("explain", "audit", "--simulate", "breast-ultrasound", *out)
    medaudit(*simulated, "--cases", images / "cases.csv").refuses(2, "one of --dataset, --cases, or --simulate")
    medaudit(*simulated, "--data", images).refuses(2, "--data goes with --dataset or --cases")
    medaudit(*simulated, "--about", "ddi").refuses(2, "--about with --cases")
    twice = ("--factor", "absence=black,white", "--factor", "absence=black,white")
    medaudit(*call(images, tmp_path / "run", *twice)).refuses(2, "--factor was given 2 times for absence")


def test_cards_of_nobody_and_pages_that_went_or_cannot_be_written_are_one_line(run: Path, medaudit) -> None:
    case = medaudit("explain", "card", run).out.split()[0]
    medaudit("explain", "card", run, "--case", "nobody").refuses(1, "has no card of case nobody", "lists those")
    medaudit("explain", "card", run, "--case", case, "--html", run.parent).refuses(1, "cannot be written")
    page = run / "cards" / f"{file_name(case)}.html"
    kept = page.read_bytes()
    try:
        page.unlink()
        medaudit("explain", "card", run, "--case", case, "--html", run.parent / "p.html").refuses(1, "has no page")
    finally:
        page.write_bytes(kept)


def test_the_page_tells_the_dataset_and_what_was_known_of_it(images: Path, tmp_path: Path, medaudit) -> None:
    model = f"{images / 'model.py'}:load"
    assert medaudit(*call(images, tmp_path / "run", "--model", model, "--about", "ddi", *ONE)).code == 0
    page = Run.read(tmp_path / "run").report()
    assert page.known
    assert "cases" in dict(page.provenance)["dataset"]
    shown = (tmp_path / "run" / "report.html").read_text()
    assert "What was known about this dataset already" in shown
    # What was known is no answer of the audit's.
    plain = tmp_path / "plain"
    assert medaudit(*call(images, plain, "--model", model, *ONE)).code == 0
    assert (plain / "findings.json").read_bytes() == (tmp_path / "run" / "findings.json").read_bytes()
    assert "What was known" not in (plain / "report.html").read_text()


def test_its_findings_are_kept_with_the_dataset(run: Path, tmp_path: Path, medaudit) -> None:
    db = tmp_path / "review.sqlite"
    assert medaudit("review", "init", "--empty", "--db", db).code == 0
    for name, role in (("ada", "contributor"), ("grace", "reviewer")):
        assert medaudit("review", "person", name, "--role", role, "--db", db).code == 0
    told = medaudit("publish", run, "--to", db, "--about", "tags", "--as", "ada", "--json").json
    assert medaudit("review", "accept", told["contribution"], "--db", db, "--as", "grace").code == 0
    kept = medaudit("review", "show", told["artifact"]["slug"], "--db", db, "--json").json
    assert (kept["type"], kept["finding"]) == ("computed_audit", "explanations")
    assert {one["id"]: one["verdict"] for one in kept["run"]["findings"]} == {
        name: one["verdict"] for name, one in findings(run).items()
    }


def test_no_run_has_no_cards(tmp_path: Path, medaudit) -> None:
    medaudit("explain", "card", tmp_path).refuses(1, "has no cards")
    (tmp_path / "card.json").write_text("{}")
    medaudit("explain", "replay", tmp_path / "card.json").refuses(1, "no card of this version")
