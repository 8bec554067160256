"""Every long verb, sent SIGKILL at any time, again and again: what it ends with is what an unbroken run ends with.

`make soak` runs these with MEDAUDIT_KILLS=20; a run of the tests does not, because what the verbs are made of is killed
in tests of its own. A kill takes the command alone, every other time its workers too. Where it ends before it has been
killed often enough, it starts anew in an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_cohorts import in_soak, kills

LESIONS = ("--simulate", "lesions", "--plant", "ruler:0.9", "--label", "disease")
BREASTS = ("--simulate", "breast-mri", "--by", "age:40,55", "--resamples", 500)
FETAL = ("--simulate", "fetal-ultrasound")

SMALL = """
import sys
from dataclasses import replace
from medaudit.cli.main import run

words = sys.argv[1:]
if words[0] in ("diagnose", "demo"):
    from medaudit.training import segmentation as s
    s.RECIPES["fast"] = {d: replace(recipe, steps=20) for d, recipe in s.RECIPES["fast"].items()}
if words[0] in ("ood", "demo"):
    from medaudit.training import classification as c
    c.CLASSIFIERS["fast"] = replace(c.CLASSIFIERS["fast"], side=32, steps=60)
if words[0] == "vae":
    from medaudit.training import vae as v
    v.VAES["fast"] = replace(v.VAES["fast"], steps=100)
run(words)
"""
"""The command, its shortest trainings shorter still: what they learn is not asked here."""

VERBS: dict[str, tuple[object, ...]] = {
    "labels": ("labels", *BREASTS, "--plant", "label", "--size", 60, "--jobs", 2),
    "ruler": ("ruler", *BREASTS, "--plant", "masking", "--size", 60, "--jobs", 2),
    "diagnose": ("diagnose", *BREASTS, "--plant", "label", "--size", 40, "--preset", "fast", "--min-patients", 4),
    "ood": (
        "ood", *FETAL, "--task", "plane", "--ood", 'device == "D"', "--shift", "image", "--size", 120,
        "--preset", "fast", "--methods", "softmax,knn", "--resamples", 200,
    ),
    "pretrain": ("pretrain", *FETAL, "--size", 100, "--preset", "cpu-tiny", "--steps", 40, "--knn", "plane"),
    "probe": ("probe", *FETAL, "--size", 120, "--task", "plane", "--resamples", 200, "--backbone", "{pretrain}"),
    "vae": (
        "vae", "--simulate", "skin", "--group", "tone", "--size", 200, "--shares", "0,0.5", "--seeds", 1,
        "--preset", "fast",
    ),
    "slug": (
        "slug", "--run", "{vae}", "--rank", 8, "--images", 40, "--edits", "ruler", "--edited-images", 10, "--probes", 8,
        "--latent-draws", 4, "--resamples", 200,
    ),
    "prototypes train": (
        "prototypes", "train", "--simulate", "lesions", "--plant", "ruler:0.9", "--size", 160, "--preset", "cpu-tiny",
        "--prototypes", 8, "--steps", 60, "--test-share", 0.5,
    ),
    "prototypes audit": (
        "prototypes", "audit", "{prototypes train}", "--images", 4, "--drawn", 0, "--leaks", 0,
        "--resamples", 200, "--min-patients", 4,
    ),
    "explain audit": (
        "explain", "audit", *LESIONS, "--size", 160, "--steps", 40, "--explain", 12, "--pairs", "P1,P6",
        "--configuration", "ig-black", "--configuration", "grad-cam",
    ),
    "counterfactuals": (
        "counterfactuals", "--simulate", "ba-2motifs", "--size", 120, "--classifier-steps", 100, "--steps", 40,
        "--explain", 12, "--min-graphs", 5, "--method", "search", "--baseline", "none",
    ),
    "demo": ("demo", "--size", 100),
}  # fmt: skip
"""What is run; ``{verb}`` is the folder of that verb's run, which another begins from."""


def command(verb: str, out: Path, ran: Path) -> list[str]:
    """Return the call that writes to ``out``."""
    words = [str(ran / word[1:-1]) if str(word).startswith("{") else word for word in map(str, VERBS[verb])]
    return [sys.executable, "-c", SMALL, *words, "--quiet", "--out", str(out)]


def told(out: Path) -> dict[str, str]:
    """Return the hashes of what a run, and the runs in it, found and measured."""
    found = [*out.rglob("findings.json"), *out.rglob("measurements.parquet")]
    assert found
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unbroken runs, by verb."""
    return tmp_path_factory.mktemp("unbroken")


def unbroken(verb: str, ran: Path) -> float:
    """Run a verb, and what it begins from, without a break, once; return how long it took."""
    out, note = ran / verb, ran / f"{verb}.json"
    if not note.exists():
        for word in map(str, VERBS[verb]):
            if word.startswith("{"):
                unbroken(word[1:-1], ran)
        begin = time.monotonic()
        subprocess.run(command(verb, out, ran), check=True, env=ENVIRONMENT)
        note.write_text(json.dumps(time.monotonic() - begin))
    return float(json.loads(note.read_text()))


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def clear(out: Path) -> None:
    """Remove a run, and what was simulated beside it."""
    for path in [out, *out.parent.glob(f"{out.name}-*")]:
        shutil.rmtree(path, ignore_errors=True)


@in_soak
@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_killed_at_any_time_ends_as_one_that_was_not(verb: str, ran: Path, tmp_path: Path) -> None:
    whole = unbroken(verb, ran)
    expected = told(ran / verb)
    rng, out = random.Random(verb), tmp_path / "run"
    done = fresh = 0
    while done < kills():
        process = subprocess.Popen(command(verb, out, ran), env=ENVIRONMENT, start_new_session=True)
        try:
            assert process.wait(rng.uniform(0.1, 0.5) * whole) == 0
        except subprocess.TimeoutExpired:
            if done % 2:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            done += 1
        else:
            assert told(out) == expected
            clear(out)
            fresh += 1
    subprocess.run(command(verb, out, ran), check=True, env=ENVIRONMENT)
    assert told(out) == expected
    print(f"{verb}: {done} kills, {fresh + 1} runs that ended, {whole:.0f} s a run without a break")
