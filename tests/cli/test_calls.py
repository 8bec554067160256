"""How the command line answers before any data are read: help, version, mistakes in the call."""

import os
import subprocess
import sys

import pytest

VERBS = (
    ("labels",),
    ("scores",),
    ("metrics",),
    ("report",),
    ("demo",),
    ("data", "list"),
    ("data", "describe"),
    ("data", "check"),
)


def real(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medaudit", *arguments], capture_output=True, text=True, check=False, **more
    )


def test_no_arguments_print_the_help_and_succeed(medaudit):
    said = medaudit()
    assert said.code == 0
    assert said.out.startswith("Usage: medaudit ")
    assert all(verb in said.out for verb in ("labels", "scores", "metrics", "data", "report", "demo"))


def test_data_without_a_verb_prints_its_help_and_succeeds(medaudit):
    said = medaudit("data")
    assert said.code == 0
    assert "describe" in said.out


def test_version_is_the_packages_version(medaudit):
    from medaudit import __version__

    assert medaudit("--version").out == f"medaudit {__version__}\n"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_each_verb_shows_an_example_of_that_verb(medaudit, verb):
    said = medaudit(*verb, "--help")
    assert said.code == 0
    assert f"Example: medaudit {' '.join(verb)}" in " ".join(said.out.split())
    assert medaudit(*verb, "-h").out == said.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nosuch"], "nosuch"),
        (["data", "nosuch"], "nosuch"),
        (["--nosuch"], "--nosuch"),
        (["labels", "--nosuch"], "--nosuch"),
        (["labels"], "--by"),
        (["scores"], "--by"),
        (["metrics"], "REF"),
        (["metrics", "one.png"], "PRED"),
        (["report"], "RUN"),
        (["data", "check", "nothing"], "nobody knows a dataset"),
        (["labels", "--by", "age", "--seed", "-1"], "--seed"),
        (["labels", "--by", "age", "--seed", "one"], "--seed"),
        (["labels", "--by", "age", "--resamples", "3"], "--resamples"),
        (["labels", "--by", "age", "--label", "0"], "--label"),
        (["metrics", "a.png", "b.png", "--label", "0"], "--label"),
        (["demo", "--size", "3"], "--size"),
    ],
)
def test_a_mistake_in_the_call_is_one_line_that_names_it_and_code_2(medaudit, arguments, word):
    medaudit(*arguments).refuses(2, word)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("--dataset", "--cases", "--simulate")),
        (["--dataset", "hc18", "--cases", "cases.csv"], ("one of",)),
        (["--dataset", "hc18"], ("--data",)),
        (["--dataset", "hc81", "--data", "."], ("hc81", "hc18")),
        (["--simulate", "nosuch"], ("nosuch", "breast-mri")),
        (["--simulate", "breast-mri", "--plant", "nosuch"], ("nosuch", "representation")),
    ],
)
def test_labels_says_where_cases_can_come_from(medaudit, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    medaudit("labels", "--by", "age:50", "--out", "run", *arguments).refuses(2, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_module_and_the_command_are_the_same_program():
    said = real("--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("medaudit ")
    wrong = real("nosuch")
    assert wrong.returncode == 2
    assert wrong.stderr == "medaudit: No such command 'nosuch'.\n"


def test_a_reader_that_closes_the_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    try:
        said = subprocess.run(
            [sys.executable, "-m", "medaudit", "data", "list"], stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert (said.returncode, said.stderr) == (0, b"")


def test_the_command_line_loads_no_library_of_numbers_before_it_needs_one():
    heavy = ["numpy", "polars", "numba", "scipy", "altair", "statsmodels", "nibabel", "SimpleITK", "joblib", "pandas"]
    code = f"import sys, medaudit.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
