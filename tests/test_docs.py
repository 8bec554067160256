"""The documentation says what the code does: every option, every command, every link, every finding."""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
import typer

from medaudit.audits.labels.study import Settings, audit
from medaudit.cli.main import app
from medaudit.datasets import simulated_scores

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
VERBS = {
    **{(name,): command for name, command in COMMANDS.items() if not hasattr(command, "commands")},
    **{
        (group, name): command
        for group, app_ in COMMANDS.items()
        for name, command in getattr(app_, "commands", {}).items()
    },
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
every_verb = pytest.mark.parametrize("verb", VERBS, ids=" ".join)


def text_of(page):
    return page.read_text(encoding="utf-8")


def section_of(verb):
    """The part of a verb's page that speaks of it: all of it, or its section where verbs share a page."""
    text = text_of(DOCS / "verbs" / f"{verb[0]}.md")
    return text if len(verb) == 1 else re.split(r"^## ", text.split(f"\n## {verb[1]}\n")[1], flags=re.MULTILINE)[0]


def rows_of(text):
    """The table rows whose first cell begins with code: that code's first word, and the other cells."""
    rows = re.findall(r"^\| `([^ `]+)[^|]*\|([^|\n]*)\|(.*)\|$", text, flags=re.MULTILINE)
    return {name: (default.strip(), said.strip()) for name, default, said in rows}


def shown(verb):
    """What ``--help`` shows of a verb: its options and arguments, less --help itself."""
    return [p for p in VERBS[verb].params if not getattr(p, "hidden", False) and "--help" not in p.opts]


def blocks_of(page, *languages):
    fences = re.findall(r"^ *```(\w+)[^\n]*\n(.*?)^ *```$", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [body for language, body in fences if language in languages]


def commands_of(page):
    """The command lines that call medaudit, as words; a pipe or a redirection ends one."""
    for block in blocks_of(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("medaudit "):
                words = shlex.split(line, comments=True)
                end = next((i for i, word in enumerate(words) if word in ("|", ">")), len(words))
                yield words[1:end]


def slugs_of(page):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_verb_has_a_page_and_every_page_a_verb():
    assert {page.stem for page in (DOCS / "verbs").glob("*.md")} == set(COMMANDS)


@every_verb
def test_every_option_that_help_shows_is_explained_on_its_page(verb):
    rows = rows_of(section_of(verb))
    for parameter in shown(verb):
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else (parameter.metavar or parameter.name)
        assert name.strip("[]{}").upper() in rows or name in rows, f"{' '.join(verb)}: {name} is not explained"


@every_verb
def test_no_page_explains_an_option_that_is_not_there(verb):
    known = {name for p in VERBS[verb].params for name in (*p.opts, *p.secondary_opts)}
    section = section_of(verb)
    assert {name for name in rows_of(section) if name.startswith("-")} <= known


@every_verb
def test_every_switch_that_can_be_turned_off_says_so(verb):
    section = section_of(verb)
    for parameter in shown(verb):
        for negative in parameter.secondary_opts:
            assert f"`{negative}`" in section


@every_verb
def test_the_defaults_on_the_page_are_those_of_the_code(verb):
    rows = rows_of(section_of(verb))
    for parameter in shown(verb):
        default = parameter.default
        if not parameter.opts[0].startswith("-") or default in (None, False, "") or default == []:
            continue
        given = re.findall(r"`([^`]+)`", rows[parameter.opts[0]][0])
        wanted = [str(value) for value in (default if isinstance(default, list | tuple) else [default])]
        assert given == wanted, f"{' '.join(verb)} {parameter.opts[0]}"


@every_page
def test_every_medaudit_command_on_a_page_parses(page):
    for words in commands_of(page):
        verb = next((tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in VERBS), None)
        assert verb, f"no such verb: medaudit {' '.join(words)}"
        VERBS[verb].make_context(" ".join(verb), words[len(verb) :])  # raises for an unknown option or value


def test_there_are_commands_to_parse():
    assert sum(len(list(commands_of(page))) for page in PAGES) > 15


@every_page
def test_every_make_target_on_a_page_is_in_the_makefile(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", text_of(page), flags=re.MULTILINE))
    assert named <= targets


def test_the_readme_names_the_two_commands():
    assert "make demo" in text_of(ROOT / "README.md")
    assert "make test" in text_of(ROOT / "README.md")


@every_page
def test_every_script_that_a_page_runs_is_there(page):
    for script in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", text_of(page)):
        assert (ROOT / script).is_file()
    for module in re.findall(r"python -m (benchmarks\.\w+)", text_of(page)):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


@every_page
def test_every_link_inside_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        # Names of the API are anchors that the site makes.
        if anchor and not anchor.startswith("medaudit."):
            assert anchor in slugs_of(file), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    listed = re.findall(r":\s*([\w/-]+\.md)\s*$", text_of(ROOT / "mkdocs.yml"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@every_page
def test_python_on_a_page_is_python_and_imports_what_is_there(page):
    for block in blocks_of(page, "python"):
        if "--8<--" in block:
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_documented_findings_are_those_that_an_audit_makes():
    table = text_of(DOCS / "concepts" / "findings.md").split("## Fields")[0]
    documented = re.findall(r"^\| `([a-z]+:[^`]+)` \|", table, flags=re.MULTILINE)
    cohort = simulated_scores("mama-mia-scores", plant="none", size=300, seed=0)
    scores = cohort.table.select("case_id", "dice", "hd95_mm").with_columns(pl.col("hd95_mm").fill_nan(None))
    settings = Settings(by=("age:40,55",), within="source", outcomes=("dice>0.8",), resamples=100, min_patients=5)
    found = audit(cohort, scores, settings).findings
    made = {
        f.id.replace(":age", ":{by}").replace(":dice>0.8", ":{outcome}").replace(":dice", ":{measure}") for f in found
    }
    assert set(documented) == {finding_id for finding_id in made if "hd95" not in finding_id}
    fields = re.findall(r'^  "(\w+)":', blocks_of(DOCS / "concepts" / "findings.md", "json")[0], flags=re.MULTILINE)
    assert fields == list(found[0].as_dict())


def test_the_errata_page_shows_what_its_script_prints():
    spec = importlib.util.spec_from_file_location("errata", DOCS / "errata.py")
    errata = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(errata)
    page = text_of(DOCS / "errata.md")
    for line in errata.derived():
        assert line in page


def test_pictures_are_small_and_shown():
    shown_on = "".join(text_of(page) for page in PAGES)
    pictures = sorted((DOCS / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 200_000
        assert f"images/{picture.name}" in shown_on


def test_the_site_asks_nobody_on_the_network():
    assert re.search(r"^\s+font: false", text_of(ROOT / "mkdocs.yml"), flags=re.MULTILINE)
    assert "http" not in text_of(DOCS / "styles" / "extra.css")
