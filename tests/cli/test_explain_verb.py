"""`medaudit explain` without a model: what is assumed, what one change changes, and advice from answers."""

import io
import json
import re
from contextlib import redirect_stdout

import pytest

from medaudit.audits.explanations import advice
from medaudit.audits.explanations.advice import answers_in, configuration_of, joined, questionnaire, to_fill_in
from medaudit.cli import main
from medaudit.errors import DataError, UsageError
from medaudit.explanation import assumptions
from medaudit.report.figures import plane

PARADIGMS = {"Logical Positivist", "Contemporary Realist", "Interpretive", "Postmodern"}
QUICK = ("--kind", "tables", "--runs", "--access", "outputs")  # few configurations, so that little is searched
NOT_THE_PAPERS = "are medaudit's reconstruction and not the paper's (inferred)"


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answers that contradict each other, as somebody might write them."""
    path = tmp_path_factory.mktemp("answers") / "answers.yaml"
    path.write_text("Q1: yes\nQ3: {kappa: 0.3}\nQ4: don't know\nQ5:\nQ9: no\nQ12: yes\n")
    return path


@pytest.fixture(scope="module")
def advised(answers, tmp_path_factory):
    """The folder of an advice on them, and what the terminal said."""
    out = tmp_path_factory.mktemp("advice") / "run"
    said = io.StringIO()
    call = ["explain", "advise", "--answers", str(answers), "--claim", "localisation", *QUICK, "--out", str(out)]
    with redirect_stdout(said), pytest.raises(SystemExit) as stopped:
        main.run(call)
    assert stopped.value.code == 0
    return out, plain(said.getvalue())


@pytest.mark.parametrize("verb", ["list", "show", "diff", "advise", "questions"])
def test_help_shows_an_example(medaudit, verb):
    assert f"Example: medaudit explain {verb}" in plain(medaudit("explain", verb, "--help").out)


def test_list_has_every_preset_and_says_whose_the_positions_are(medaudit):
    rows = medaudit("explain", "list", "--json").json
    known = assumptions.registry()
    assert {row["preset"] for row in rows} == set(known.presets)
    assert {row["family"] for row in rows} == set(known.families)
    for row in rows:
        for low, high in row["position"].values():
            assert -1 <= low <= high <= 1
        assert {one["name"] for one in row["paradigms"]} <= PARADIGMS
    runs = medaudit("explain", "list", "--runs", "--json").json
    assert [row for row in rows if row["runs"]] == runs
    assert 0 < len(runs) < len(rows)
    said = medaudit("explain", "list", "--family", "lrp")
    assert NOT_THE_PAPERS in plain(said.out)
    assert "mattioli2025" in said.out


def test_list_of_a_paradigm_has_those_with_most_of_themselves_in_it_first(medaudit):
    shares = [
        {one["name"]: one["share"] for one in row["paradigms"]}["Postmodern"]
        for row in medaudit("explain", "list", "--paradigm", "Postmodern", "--json").json
    ]
    assert shares
    assert shares == sorted(shares, reverse=True)


def test_what_is_printed_of_a_configuration_can_be_typed():
    known = assumptions.registry()
    for name in known.presets:
        config = assumptions.preset(name)
        assert configuration_of(config.label())[1] == config
        every = ", ".join(f"{atom}={one}" for atom, one in config)
        assert configuration_of(f"{config.family}({every})")[1] == config
    _, config = configuration_of("lime(absence=black, width=0.5)", {"segments": "30"})
    assert (config.param("locality", "width"), config.param("units", "segments")) == (0.5, 30)
    assert configuration_of("ig-black(absence=-1000)")[1].param("absence", "value") == -1000
    assert configuration_of("smoothgrad(chance=interval(50))")[1].param("chance", "n") == 50


def test_show_tells_twelve_choices_a_sentence_each_and_passes_that_can_be_counted(medaudit):
    told = medaudit(
        "explain", "show", "integrated-gradients", "--absence", "white", "--set", "nodes=64", "--json"
    ).json  # fmt: skip
    assert [one["label"] for one in told["choices"]] == [f"A{k}" for k in range(1, 13)]
    assert {one["atom"] for one in told["assumes"]} == {"family", *(one["atom"] for one in told["choices"])}
    assert all(one["source"] == "inferred" or one["citation"] for one in told["assumes"])
    assert any("white" in one["text"] for one in told["assumes"])
    # A forward and a backward pass at each of 64 nodes; a backward pass counts as two.
    assert (told["cost"]["forward"], told["cost"]["backward"], told["cost"]["forward_passes"]) == (64, 64, 192)
    owed = {one["id"]: one for one in told["warrants"]}
    assert not owed["deletion"]["external"]  # both take constant for absent (spec 08, appendix C)
    assert owed["randomisation"]["external"]
    verdicts = {one["claim"]: (one["tentative"]["verdict"], one["firm"]["verdict"]) for one in told["claims"]}
    # Spec 08, appendix B, column IG/EG: no sensitivity, no place of a disease, never THE reason.
    assert {verdicts[claim] for claim in ("sensitivity", "localisation", "outcome", "reason")} == {("refused",) * 2}
    assert verdicts["sufficiency"] == ("needs", "needs")
    text = plain(medaudit("explain", "show", "ig-white").out)
    for said in (NOT_THE_PAPERS, "To use this you must assume that", "presupposes at least", "an intensity of white"):
        assert said in text


def test_diff_tells_what_changes_and_the_way_back(medaudit):
    there = medaudit("explain", "diff", "ig-black", "integrated-gradients(absence=white)", "--json").json
    back = medaudit("explain", "diff", "ig-white", "ig-black", "--json").json
    assert [one["atom"] for one in there["changes"]] == ["absence"]
    assert (there["changes"][0]["before"], there["changes"][0]["after"]) == ("constant(black)", "constant(white)")
    assert (there["dropped"], there["added"]) == (back["added"], back["dropped"])
    assert len(there["added"]) == 1
    assert there["positions"] == back["positions"][::-1]
    text = plain(medaudit("explain", "diff", "gradient", "smoothgrad").out)
    for said in ("Need not be assumed any longer", "Must be assumed now", "averaged(25)", NOT_THE_PAPERS):
        assert said in text
    assert "No choice changes." in medaudit("explain", "diff", "ig-black", "integrated-gradients").out


def test_questions_to_fill_in_say_nothing_until_they_are_filled_in(medaudit, tmp_path):
    path = tmp_path / "answers.yaml"
    assert medaudit("explain", "questions", "--write", path).code == 0
    assert assumptions.stance(answers_in(path)) == assumptions.Stance(moved=(("O", ()), ("E", ())))
    assert {one["id"] for one in questionnaire()["questions"]} == set(answers_in(path))
    medaudit("explain", "questions", "--write", path).refuses(2, "there already")
    for name in assumptions.registry().questions.situations:
        path.write_text(to_fill_in(name))
        assert assumptions.stance(answers_in(path)) == assumptions.stance(assumptions.situation(name))


def test_own_answers_go_before_a_presets_and_not_to_know_widens():
    start = assumptions.situation("lesion-detection")
    mine = joined("lesion-detection", {"Q1": "no", "Q2": None, "Q3": {"kappa": 0.2, "iou": None}, "Q8": "unknown"})
    assert (mine["Q1"], mine["Q2"], mine["Q8"]) == ("no", start["Q2"], "unknown")
    assert mine["Q3"] == {"kappa": 0.2, "iou": start["Q3"]["iou"]}
    for question in start:
        less = assumptions.stance(joined("lesion-detection", {question: "don't know"}))
        assert less.box.O.width >= assumptions.stance(start).box.O.width
        assert less.box.E.width >= assumptions.stance(start).box.E.width


def test_advice_tells_contradictions_obeys_what_is_hard_and_adapts_the_rest(advised):
    told = json.loads((advised[0] / "advice.json").read_text())
    assert told["answers"]["Q9"] is False  # YAML's `no`
    assert [one["questions"] for one in told["contradictions"]] == [["Q1", "Q3"]]
    rows = told["configurations"]
    assert all(row["runs"] for row in rows)
    compatible = [row["compatibility"] for row in rows]
    assert compatible == sorted(compatible, reverse=True)
    assert any(row["compatible"] for row in rows)
    for row in rows:
        config = configuration_of(row["label"])[1]
        if row["compatible"]:
            assert config["units"].value == "variable"
            assert config["access"].value == "outputs"
            assert config["shown"].value in ("signed", "times-input")  # Q12: evidence against counts
        assert {one["claim"] for one in row["claims"]} == {"localisation"}
        assert {one["atom"] for one in row["assumes"]} >= set(assumptions.ATOMS)
    stance = assumptions.restricted(assumptions.stance(told["answers"]), access="outputs", data="tables")
    adapted = [(row, one) for row in rows for one in row["adaptations"]]
    assert adapted
    for row, one in adapted:
        assert not row["compatible"]
        edited = configuration_of(row["label"])[1].with_(**{edit["atom"]: edit["after"] for edit in one["edits"]})
        assert edited == configuration_of(one["label"])[1]
        assert assumptions.compatibility(edited, stance) >= assumptions.COMPATIBLE


def test_the_same_advice_has_the_same_bytes_with_a_run_or_without(medaudit, advised, answers):
    said = medaudit("explain", "advise", "--answers", answers, "--claim", "localisation", "--json", *QUICK)
    assert said.out == (advised[0] / "advice.json").read_text()


def test_the_page_and_the_terminal_say_whose_word_it_is(advised):
    run, text = advised
    for expected in (NOT_THE_PAPERS, "Q1, Q3: one reader must be wrong", "ask you to assume", "The fewest changes"):
        assert expected in text
    page = (run / "report.html").read_text()
    drawn = set(re.findall(r">([^<>]+)</text>", page))
    assert drawn >= PARADIGMS
    assert "1" in {number for names in drawn for number in names.split(", ")}
    assert NOT_THE_PAPERS in page.replace("&#39;", "'")
    assert "mattioli2025" in page
    assert "secondary: edgentiq" in page  # where the paradigms' names are from
    assert json.loads((run / "findings.json").read_text()) == []
    for verdict in ('class="answers"', 'class="meaning"', "Ruled out"):  # of data, and there are none here
        assert verdict not in page


def test_what_fails_its_test_and_what_is_a_control_is_set_aside_and_says_why():
    framework = assumptions.framework()
    answers = assumptions.situation("subjective-grading")
    ranked = tuple(
        one for one in assumptions.advise(assumptions.stance(answers)) if one.config.family in ("tcav", "lime")
    )
    found = advice.Advised(None, answers, assumptions.stance(answers), framework, (), ranked, {})
    assert advice.aside(found) == [("tcav-random (100%)", "a control")]
    assert "tcav-random" not in [one.name for one in (*found.held, *found.rejected, *advice.leading(found, 9))]
    assert [row["control"] for row in found.as_dict()["configurations"]] == [False] * (len(ranked) - 1) + [True]
    stance = assumptions.stance(assumptions.situation("regulation"))
    ranked = tuple(one for one in assumptions.advise(stance) if one.config.family in ("guided-backprop", "lrp"))
    found = advice.Advised(None, {}, stance, framework, (), ranked, {})
    ((name, why),) = advice.aside(found)
    assert name.startswith("guided-backprop")
    assert "Adebayo" in why
    assert [one.name for one in advice.leading(found, 9)] == ["lrp-epsilon", "guided-backprop"]
    assert found.as_dict()["configurations"][-1]["known_failures"] == ["randomisation"]
    assert advice.described("deconvnet", assumptions.preset("deconvnet"), framework)["known_failures"][0]["citation"]


def test_an_answer_in_capital_letters_is_shown_as_it_is_read(tmp_path):
    path = tmp_path / "answers.yaml"
    path.write_text("Q4: Model\nQ3: {kappa: 0.5, iou: Unknown}\n")
    assert assumptions.answer_of("Q4", answers_in(path)["Q4"]) == "model"
    assert assumptions.answer_of("Q3", answers_in(path)["Q3"]) == {"kappa": 0.5}


def test_another_framework_has_other_paradigms(medaudit):
    told = medaudit("explain", "show", "lime", "--framework", "barad2026", "--json").json
    assert told["paradigms"]
    assert not {one["name"] for one in told["paradigms"]} & PARADIGMS
    assert told["framework"]["id"] == "barad2026"


def test_boxes_that_are_the_same_share_an_outline():
    svg = plane(
        {"here": ((-1.0, 0.0), (0.0, 1.0)), "there": ((0.0, 1.0), (0.0, 1.0))},
        [("1", ((0.1, 0.5), (0.1, 0.5))), ("2", ((0.1, 0.5), (0.1, 0.5))), ("3", ((-0.5, -0.1), (0.2, 0.3)))],
        title="A plane", x=["first"], y=["second"], stance=((0.0, 0.6), (0.0, 0.6)),
    )  # fmt: skip
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert {"1, 2", "3", "here", "there", "first", "second"} <= set(texts)
    assert svg.count("stroke-dasharray") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "ig-blak"], 2, ("ig-blak", "ig-black")),
        (["show", "ig-black", "--absence", "white", "--set", "absence=grey"], 2, ("twice",)),
        (["show", "ig-black", "--framework", "nobody"], 2, ("nobody", "mattioli2025")),
        (["list", "--family", "nosuch"], 2, ("nosuch", "lrp")),
        (["questions", "--clinical", "nosuch"], 2, ("nosuch", "regulation")),
        (["advise"], 2, ("--answers", "--clinical", "regulation")),
        (["advise", "--clinical", "regulation", "--access", "nosuch"], 2, ("nosuch", "gradients")),
        (["advise", "--answers", "nowhere.yaml"], 1, ("nowhere.yaml", "questions --write")),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_possible(medaudit, arguments, code, words):
    medaudit("explain", *arguments).refuses(code, *words)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: configuration_of("ig-black(absence=conditional)"), ("conditional", "mean-image")),
        (lambda: configuration_of("ig-black", {"absense": "white"}), ("absense", "absence")),
        (lambda: configuration_of("ig-black(absence=White)"), ("White", "mean-image", "white")),
        (lambda: configuration_of("ig-black(family=lime)"), ("family", "absence")),
        (lambda: configuration_of("ig-black(nodes=many)"), ("many", "whole number")),
        (lambda: configuration_of("ig-black("), ("no configuration",)),
        (lambda: advice.choices(["absence"]), ("absence=black",)),
        (lambda: advice.choices(["known=1"]), ("known", "absence")),
        (lambda: advice.presets(assumptions.framework(), paradigm="nosuch"), ("nosuch", "interpretive")),
        (lambda: advice.advised({}, within=assumptions.framework(), data="nosuch"), ("nosuch", "images")),
        (lambda: advice.advised({}, within=assumptions.framework(), claims=["nosuch"]), ("nosuch", "localisation")),
        (lambda: advice.advised({}, within=assumptions.framework(), budget=0), ("budget", "above 0")),
    ],
)
def test_what_there_is_not_is_refused_by_what_there_is(ask, words):
    with pytest.raises(UsageError) as refused:
        ask()
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (b"Q99: yes", UsageError, ("Q99", "Q16")),
        (b"Q4: perhaps", UsageError, ("Q4", "perhaps", "disease", "unknown")),
        (b"Q3: {kapa: 0.4}", UsageError, ("kapa", "kappa")),
        (b"Q3: {kappa: 4}", UsageError, ("kappa", "-1 to 1")),
        (b"Q3: {kappa: true}", UsageError, ("kappa", "True", "-1 to 1")),
        (b"- Q1", UsageError, ("a line a question",)),
        (b"Q1: [yes\nQ2: no", UsageError, (".yaml:2", "no YAML")),
        (b"\xff\xfe", DataError, ("UTF-8",)),
    ],
)
def test_an_answers_file_that_is_none_says_why(tmp_path, text, error, words):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(error) as refused:
        answers_in(path)
    assert all(word in str(refused.value) for word in ("mine.yaml", *words))


def test_an_empty_answers_file_knows_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert assumptions.stance(answers_in(path)).box == assumptions.EVERYWHERE
