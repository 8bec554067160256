"""`medaudit pretrain` and `medaudit probe`: whole runs, killed ones that go on, odd files, bad questions."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from medaudit.audits.pretraining import pretrain_run
from medaudit.audits.pretraining.pretrain_run import pretrain_images
from medaudit.cli.main import run
from medaudit.errors import DataError
from medaudit.networks.backbones import open_backbone, save_backbone
from medaudit.training.dinov2.recipe import PRESETS
from medaudit.training.frames import shrink

CUT = ("--preset", "smoke", "--steps", 6, "--batch-size", 8, "--jobs", 1, "--quiet")
PATIENT = ("--patient", r"^(p\d+)_")
CUT_PROBE = ("--against", "hog,pixels", "--side", 64, "--shots", "5", "--draws", 2, "--resamples", 200, "--jobs", 1)
SIMULATED = ("--simulate", "fetal-ultrasound", "--size", 150, "--task", "plane", "--min-patients", 5)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many as the other processes have, to which these are compared to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def findings(folder: Path) -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((folder / "findings.json").read_text())}


def started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "medaudit", *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def killed(process: subprocess.Popen, reached: object) -> None:
    """Kill the process in the moment in which ``reached()`` is true."""
    while process.poll() is None and not reached():  # type: ignore[operator]
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def stands_alone(page: str) -> bool:
    """Whether a page asks nothing of the network; namespaces of SVG are names, and links are for readers."""
    loads = re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)([^"'\s>]+)|url\((?!["']?(?:data:|#))""", page)
    return not [one for one in loads if not one.startswith(("https://doi.org", "https://arxiv.org"))]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 20 pictures of several sizes and bit depths, and of what is none."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    names = []
    for i in range(18):
        rows, columns = 30 + 9 * (i % 5), 40 + 30 * (i % 3)
        y, x = np.mgrid[:rows, :columns]
        grey = 120 + 70 * np.sin((x * (i % 4) + y * 2) / 9 + i) + rng.normal(0, 12, (rows, columns))
        grey = grey.clip(0, 255).astype(np.uint8)
        name = f"p{i // 2:02d}_{i:02d}.{('png', 'jpg', 'tif')[i % 3]}"
        if i % 4 == 1:
            picture = Image.fromarray(np.stack([grey] * 3, -1))
        elif i % 6 == 2:
            picture = Image.fromarray(grey.astype(np.uint16) * 200)
        else:
            picture = Image.fromarray(grey)
        picture.save(folder / name)
        names.append(name)
    for name in ("<b>.png", "p05_a&amp;b.png"):
        Image.fromarray(rng.integers(0, 255, (33, 35), dtype=np.uint8)).save(folder / name)
        names.append(name)
    (folder / "<i>broken.png").write_bytes(b"not a picture")
    whole = (folder / names[0]).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    Image.new("L", (40, 40), 7).save(folder / "flat.png")
    names += ["<i>broken.png", "cut.png", "empty.png", "flat.png", "gone.png", names[0]]
    (folder / "list.txt").write_text("# a list\n\n" + "\n".join(names) + "\n")
    return folder / "list.txt"


@pytest.fixture(scope="module")
def pretrained(odd: Path) -> Path:
    out = odd.parent.parent / "pretrained"
    assert call("pretrain", "--images", odd, *PATIENT, *CUT, "--out", out) == 0
    return out


# Pretraining


def test_a_pretraining_stands_alone_and_says_what_it_skipped(pretrained: Path) -> None:
    assert set(findings(pretrained)) == {"plateau:dino", "collapse:rankme", "leak:corpus"}
    frames = pl.read_parquet(pretrained / "frames" / "frames.parquet")
    assert frames.height == 20
    assert frames["patient_id"].null_count() == 1
    page = (pretrained / "report.html").read_text()
    assert "Skipped: 6" in page
    for name in ("&lt;i&gt;broken.png", "cut.png", "empty.png", "flat.png", "gone.png", "is named twice"):
        assert name in page, name
    assert "<i>broken" not in page
    assert stands_alone(page)
    assert page.count("data:image/png") >= 2
    record = json.loads((pretrained / "backbone.json").read_text())
    assert record["about"]["frames"] == 20
    assert record["about"]["samples"] == 48
    assert open_backbone(pretrained).title == "own DINOv2, 20 frames"


def test_copies_under_two_patients_are_named_and_escaped(odd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in odd.read_text().split()[3:15]:
        shutil.copy(odd.parent / name, folder / name)
    shutil.copy(odd.parent / "<b>.png", folder / "p01_<b>.png")
    shutil.copy(odd.parent / "<b>.png", folder / "p02_<b>.png")
    out = tmp_path / "run"
    assert call("pretrain", "--images", folder, *PATIENT, *CUT, "--steps", 2, "--ultrasound", "--out", out) == 0
    leak = findings(out)["leak:corpus"]
    assert leak["verdict"] == "supported"
    assert leak["claim"].endswith("the first: p01_<b>.png, p02_<b>.png.")
    page = (out / "report.html").read_text()
    assert "p01_<b>" not in page
    assert "p01_&lt;b&gt;.png" in page


def test_a_pretraining_killed_at_a_random_point_ends_with_the_same_bytes(
    odd: Path, pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    point = random.Random(5).randint(1, 2)  # of three parts
    asked = ("pretrain", "--images", odd, *PATIENT, *CUT, "--out", out)

    def reached() -> bool:
        return len(list((out / "training").glob("checkpoint-*.pt"))) >= point

    killed(started(*asked), reached)
    assert not (out / "backbone.pt").exists()
    assert call(*asked) == 0
    for name in ("backbone.pt", "backbone.json", "findings.json", "training/log.csv"):
        assert (out / name).read_bytes() == (pretrained / name).read_bytes(), name
    frames, whole = (folder / "frames" / "frames.npy" for folder in (out, pretrained))
    assert frames.read_bytes() == whole.read_bytes()


def test_a_finished_run_is_read_again_and_other_settings_are_refused(
    odd: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pretrained / "backbone.pt").stat().st_mtime_ns, (pretrained / "findings.json").read_bytes()
    weights = (pretrained / "backbone.pt").read_bytes()
    assert call("pretrain", "--images", odd, *PATIENT, *CUT, "--out", pretrained) == 0
    assert (pretrained / "backbone.pt").read_bytes() == weights
    assert (pretrained / "findings.json").read_bytes() == before[1]
    for more, says in (
        (("--steps", 4), "recipe.steps was 6, now 4"),
        (("--seed", 1), "seed was 0, now 1"),
        (("--patient", r"^(p\d)"), "patient was"),
    ):
        assert call("pretrain", "--images", odd, *PATIENT, *CUT, *more, "--out", pretrained) == 2
        err = capsys.readouterr().err
        assert says in err
        assert err.count("\n") == 1
    assert (pretrained / "backbone.pt").read_bytes() == weights


def test_the_exported_net_gives_transformers_the_same_features(pretrained: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "exported"
    assert call("pretrain", "--export", "huggingface", pretrained, out, "--quiet") == 0
    ours = open_backbone(pretrained)
    images = np.random.default_rng(1).integers(0, 255, (5, 70, 70), dtype=np.uint8)
    model = transformers.AutoModel.from_pretrained(out).eval()
    with torch.no_grad():
        tokens = model(pixel_values=ours.prepared(images)).last_hidden_state.numpy()
    np.testing.assert_allclose(tokens[:, 0], ours.features(images).vector, atol=1e-4)
    np.testing.assert_allclose(tokens[:, 1:].mean(1), ours.features(images).mean_patch, atol=1e-4)
    np.testing.assert_allclose(open_backbone(out).features(images).layers, ours.features(images).layers, atol=1e-4)


def test_a_simulated_cohort_is_watched_by_its_classes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = call("pretrain", "--simulate", "fetal-ultrasound", "--size", 30, "--knn", "plane", *CUT, "--steps", 2,
                "--out", out)  # fmt: skip
    assert code == 0
    assert "val_knn" in (out / "training" / "log.csv").read_text().splitlines()[0]
    assert "Online kNN" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--images", "LIST", "--batch-size", 32), 1, "there are 20 frames, and a batch has 32; give more, or a small"),
        (("--images", "LIST", "--preset", "vit-xxl"), 2, "no preset is called 'vit-xxl'; there are: smoke, cpu-tiny"),
        (("--images", "LIST", "--fidelity", "nonsense"), 2, "fidelity is 'nonsense'; expected one of paper, fixed"),
        (("--images", "LIST", "--dataset", "hc18"), 2, "leave --dataset, --cases, --simulate and --knn out"),
        (("--images", "LIST", "--knn", "plane"), 2, "leave --dataset, --cases, --simulate and --knn out"),
        (("--images", "LIST", "--patient", "x("), 2, "'x(' is not a regular expression"),
        (("--images", "LIST", "--patient", "^(zz)"), 2, "finds a patient in none of"),
        (("--images", "LIST", "--batch-size", 1), 2, "--batch-size"),
        (("--images", "nowhere"), 1, "nowhere: no such folder or file"),
        (("--images", "EMPTY"), 1, "holds no image"),
        (("--images", "BROKEN"), 1, "no frame is left of 1 that were tried"),
        (("images/",), 2, "'images' is not asked for; give --images"),
        ((), 2, "say where the cases are"),
        (("--simulate", "moon"), 2, "moon"),
        (("--simulate", "fetal-ultrasound", "--size", 12, "--knn", "nothing"), 2, "nothing"),
    ],
)
def test_bad_questions_get_one_line(
    odd: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple, code: int, says: str
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"not a picture")
    put = {"LIST": odd, "EMPTY": tmp_path / "none", "BROKEN": tmp_path / "bad"}
    given = [put.get(argument, argument) for argument in arguments]
    refused(capfd, code, says, "pretrain", *CUT, *given, "--out", tmp_path / "run")


def refused(capfd: pytest.CaptureFixture[str], code: int, says: str, *arguments: object) -> None:
    shown = call(*arguments)
    out, err = capfd.readouterr()
    assert says in err
    assert err.count("\n") == 1, err
    assert shown == code
    assert out == ""


def test_what_is_missing_from_a_call_is_said(
    odd: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused(capfd, 2, "give --out RUN", "pretrain", "--images", odd)
    refused(capfd, 2, "needs two folders, RUN and OUT", "pretrain", "--export", "huggingface", pretrained)
    refused(capfd, 2, "--export onnx: expected huggingface", "pretrain", "--export", "onnx", pretrained, tmp_path)
    refused(capfd, 2, "no backbone", "pretrain", "--export", "huggingface", tmp_path / "no", tmp_path / "to")
    (tmp_path / "file").write_text("")
    refused(capfd, 1, "file", "pretrain", "--export", "huggingface", pretrained, tmp_path / "file")


# Processes that are not the first


TINY = replace(PRESETS["smoke"], steps=6, batch_size=8)


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_a_second_process_waits_for_the_frames_and_writes_nothing(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    out, seen, slept = tmp_path / "run", [], []

    def made_by_the_first(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            shrink(odd, out / "frames", side=TINY.side, patient=r"^(p\d+)_")

    monkeypatch.setenv(rank, "1")
    monkeypatch.setattr(pretrain_run.time, "sleep", made_by_the_first)
    monkeypatch.setattr(pretrain_run, "pretrain", lambda *given, **more: seen.append((given, more)))
    assert pretrain_images(odd, TINY, out=out, patient=r"^(p\d+)_") is None
    ((given, more),) = seen
    assert len(given[0].images) == 20
    assert given[1] is TINY
    assert more["progress"] is False
    assert len(slept) == 3
    assert [path.name for path in out.iterdir()] == ["frames"]


def test_a_second_process_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(pretrain_run, "_PATIENCE", 0)
    with pytest.raises(DataError, match="the first process has not made its frames in 0 s"):
        pretrain_images(tmp_path, TINY, out=tmp_path / "run")


# Probing


def probe(out: Path, *more: object) -> int:
    return call("probe", *SIMULATED, *CUT_PROBE, "--quiet", *more, "--out", out)


@pytest.fixture(scope="module")
def probed(pretrained: Path) -> Path:
    out = pretrained.parent / "probed"
    assert probe(out, "--backbone", pretrained) == 0
    return out


def test_a_probe_stands_alone_and_answers(probed: Path) -> None:
    found = findings(probed)
    title = "own-dinov2-20-frames"
    assert set(found) == {
        f"not_worth_it:{title}:plane", f"no_gain:{title}:hog:plane", f"no_gain:{title}:pixels:plane",
        "leak:pretraining", "leak:training",
    }  # fmt: skip
    assert found["leak:pretraining"]["verdict"] == "refuted"  # other pictures altogether
    assert found[f"not_worth_it:{title}:plane"]["verdict"] in ("supported", "insufficient")  # six steps
    page = (probed / "report.html").read_text()
    assert stands_alone(page)
    for words in ("Was it worth pretraining our own?", "How many labels does each", "There is one pretraining", "ECE"):
        assert words in page
    table = pl.read_parquet(probed / "measurements.parquet")
    assert set(table.columns) == {"case_id", "patient_id", "contender", "seed", "correct"}
    assert table["contender"].n_unique() == 3
    scores = pl.read_csv(probed / "scores.csv")
    assert {"plane", "device", "hog", "confidence_hog"} <= set(scores.columns)
    means = dict(table.group_by("contender").agg(pl.col("correct").mean()).iter_rows())
    assert scores["pixels"].mean() == pytest.approx(means["grey values, 16 x 16 pixels"])


def test_a_probe_gives_the_same_twice(probed: Path, pretrained: Path, tmp_path: Path) -> None:
    shutil.copytree(probed.with_name("probed-images"), tmp_path / "again-images")
    assert probe(tmp_path / "again", "--backbone", pretrained) == 0
    for name in ("findings.json", "measurements.parquet", "scores.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (probed / name).read_bytes(), name


def test_a_probe_killed_half_way_keeps_its_features_and_ends_the_same(
    probed: Path, pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(probed.with_name("probed-images"), tmp_path / "run-images")
    asked = ("probe", *SIMULATED, *CUT_PROBE, "--quiet", "--backbone", pretrained, "--out", out)
    killed(started(*asked), lambda: len(list((out / "features").glob("*.npz"))) >= 1)
    assert not (out / "findings.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (out / "features").glob("*.npz")}
    assert kept
    assert call(*asked) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    for name in ("findings.json", "measurements.parquet"):
        assert (out / name).read_bytes() == (probed / name).read_bytes(), name


def test_the_features_of_a_backbone_that_was_replaced_are_not_taken(
    probed: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same path with another content is another input: refused in a finished run, and probed in a new one."""
    other = tmp_path / "own"
    shutil.copytree(pretrained, other)
    out, scratch = tmp_path / "run", ("--scratch", 1, "--seeds", 2)
    shutil.copytree(probed.with_name("probed-images"), tmp_path / "run-images")
    assert probe(out, "--backbone", other, *scratch) == 0
    before = {name: entry["estimate"] for name, entry in findings(out).items()}
    found = open_backbone(other)
    with torch.no_grad():
        for one in found.net.parameters():
            one.mul_(0.5).add_(0.1 * torch.randn(one.shape, generator=torch.Generator().manual_seed(1)))
    about = json.loads((other / "backbone.json").read_text())["about"]
    save_backbone(other, found.net, found.preprocessing, about=about)
    refused(
        capfd, 2, "backbone own DINOv2, 20 frames has other contents now", "probe", *SIMULATED, *CUT_PROBE, "--quiet",
        "--backbone", other, *scratch, "--out", out,
    )  # fmt: skip
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "finished": None}))
    assert probe(out, "--backbone", other, *scratch) == 0
    after = {name: entry["estimate"] for name, entry in findings(out).items()}
    name = "no_gain:own-dinov2-20-frames:hog:plane"
    assert after[name] != before[name]
    scratch_name = "no_gain:own-dinov2-20-frames:scratch:plane"
    assert after[scratch_name]["value"] != before[scratch_name]["value"]  # only the own one's part is another
    levels = pl.read_parquet(out / "measurements.parquet").filter(pl.col("contender") == "the same net from scratch")
    assert levels["seed"].n_unique() == 2


def test_a_backbone_called_by_markup_is_escaped(pretrained: Path, probed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<b>own"
    assert call("pretrain", "--export", "huggingface", pretrained, folder, "--quiet") == 0
    shutil.copytree(probed.with_name("probed-images"), tmp_path / "run-images")
    assert probe(tmp_path / "run", "--backbone", folder) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<b>own" not in page
    assert "&lt;b&gt;own" in page
    assert "that test images were among it was not looked for" in page
    assert "leak:pretraining" not in findings(tmp_path / "run")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 tiny images of 40 patients, with a split that breaks one."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 24), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append((f"c{i}", f"p{i // 2}", f"{i}.png", "ab"[i // 2 % 2], "same", ("train", "val", "test")[i % 3]))
    columns = ["case_id", "patient_id", "image", "view", "one", "part"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(folder / "cases.csv")
    return folder / "cases.csv"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--task", "vieww"), 2, "did you mean 'view'"),
        (("--task", "one"), 2, "--task one has one class, same; expected two or more"),
        (("--task", "view", "--backbone", "nonsense"), 2, "no backbone 'nonsense'; expected a folder of a pretraining"),
        (("--task", "view", "--backbone", "pixels"), 2, "--backbone pixels is given twice"),
        (("--task", "view", "--against", "resnet"), 2, "no backbone 'resnet'"),
        (("--task", "view", "--against", "hog:63"), 2, "expected a multiple of"),
        (("--task", "view", "--against", ""), 2, "there is nobody to compare with; give --against"),
        (("--task", "view", "--against", "hog", "--scratch", 1), 2, "--scratch needs a --backbone that `medaudit pre"),
        (("--task", "view", "--split", "nonsense"), 2, "nonsense"),
        (("--task", "view", "--split", "0.5,0.5"), 2, "expected three numbers"),
        (("--task", "view", "--split", "0.5,inf,0.2"), 2, "needs three shares above 0"),
        (("--task", "view", "--split", "part"), 1, "is in several parts of part; a test would not be one"),
        (("--task", "view", "--shots", "inf"), 2, "--shots inf: expected whole numbers with commas, as 5,20"),
        (("--task", "view", "--shots", "2.5"), 2, "--shots 2.5: expected whole numbers"),
        (("--task", "view", "--shots", "0"), 2, "--shots has 0"),
        (("--task", "view", "--margin", "-1"), 2, "--margin is -1"),
        (("--task", "view", "--head", "mlp"), 2, "no head is called 'mlp'"),
        (("--task", "segmentation"), 2, "there are no masks 'reference'; give --reference"),
        (("--task", "view", "--resamples", 10), 2, "--resamples"),
    ],
)
def test_bad_probes_get_one_line(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple, code: int, says: str
) -> None:
    refused(
        capfd, code, says, "probe", "--cases", table, "--image", "image", *CUT_PROBE, "--quiet", "--backbone", "pixels",
        *arguments, "--out", tmp_path / "run",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_one_training_is_not_two_seeds(
    table: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pretrained, tmp_path / "copy")
    refused(
        capfd, 2, "once more: it has the same weights", "probe", "--cases", table, "--image", "image", "--task", "view",
        *CUT_PROBE, "--quiet", "--backbone", pretrained, "--backbone", tmp_path / "copy", "--out", tmp_path / "run",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture_are_named(
    table: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def asked(where: Path) -> tuple:
        return ("probe", "--cases", table, "--image", "image", "--task", "view", "--backbone", where, *CUT_PROBE,
                "--quiet", "--out", tmp_path / "run")  # fmt: skip

    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7), "fc.bias": torch.zeros(10)}, tmp_path / "resnet.pth")
    says = "no weights of a vision transformer of DINOv2: it has no 'cls_token'"
    refused(capfd, 1, says, *asked(tmp_path / "resnet.pth"))
    whole = torch.load(pretrained / "backbone.pt")["model"]
    torch.save({"model": {name: x for name, x in whole.items() if "pos_embed" not in name}}, tmp_path / "less.pt")
    refused(capfd, 1, "it has no 'pos_embed'", *asked(tmp_path / "less.pt"))
    (tmp_path / "cut.pt").write_bytes((pretrained / "backbone.pt").read_bytes()[:2000])
    refused(capfd, 1, "cut.pt", *asked(tmp_path / "cut.pt"))
    other = tmp_path / "own"
    shutil.copytree(pretrained, other)
    record = json.loads((other / "backbone.json").read_text())
    record["shape"] = asdict(replace(open_backbone(pretrained).net.shape, dim=192))
    (other / "backbone.json").write_text(json.dumps(record))
    refused(capfd, 1, "192", *asked(other))
    (other / "backbone.pt").write_bytes((other / "backbone.pt").read_bytes() + b"x")
    refused(capfd, 1, "own", *asked(other))


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("pretrain", "probe"):
        assert call(verb, "--help") == 0
        assert "Example: medaudit" in capsys.readouterr().out
