"""Stances, advice, adaptation and claims: what must hold whatever is answered."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaudit.errors import UsageError
from medaudit.explanation.assumptions import (
    ATOMS,
    Box,
    Claim,
    Interval,
    Stance,
    adapt,
    admissible,
    advise,
    applies,
    column_of,
    compatibility,
    configuration,
    contradictions,
    cost,
    internal,
    license,
    not_applying,
    preset,
    registry,
    restricted,
    situation,
    stance,
)

KNOWN = registry()
PRESETS = {name: preset(name) for name in KNOWN.presets}
QUESTIONS = KNOWN.questions.questions
FEW = settings(max_examples=15, deadline=None)


def possible(name):
    question = QUESTIONS[name]
    if question.answers:
        return st.sampled_from([*question.answers, "unknown"])
    return st.fixed_dictionaries({number: st.sampled_from([0.1, 0.45, 0.65, 0.9, None]) for number in question.numbers})


ANSWERS = st.fixed_dictionaries({name: possible(name) for name in QUESTIONS})


# Stances


@FEW
@given(ANSWERS, st.sampled_from([name for name in QUESTIONS if QUESTIONS[name].answers]))
def test_turning_one_answer_round_moves_the_stance_that_way_only(answers, name):
    question = QUESTIONS[name]
    for a, b in itertools.permutations(question.answers, 2):
        first, second = (stance({**answers, name: key}) for key in (a, b))
        for axis in ("O", "E"):
            said = [getattr(question.answers[key], axis) or (-1.0, 1.0) for key in (a, b)]
            lo, hi = (getattr(getattr(second, axis), end) - getattr(getattr(first, axis), end) for end in ("lo", "hi"))
            for moved, (before, after) in zip((lo, hi), zip(*said, strict=True), strict=True):
                assert moved * (after - before) >= 0
                assert (abs(moved) > 1e-9) == (after != before)


@FEW
@given(ANSWERS)
def test_what_is_not_known_widens_and_never_shifts(answers):
    here = stance(answers)
    for name in QUESTIONS:
        without = stance({**answers, name: "unknown"})
        assert without.O.lo <= here.O.lo + 1e-12
        assert without.O.hi >= here.O.hi - 1e-12
        assert without.E.lo <= here.E.lo + 1e-12
        assert without.E.hi >= here.E.hi - 1e-12
        assert all(limit.because != name for limit in without.hard)
        assert without == stance({key: value for key, value in answers.items() if key != name})


def test_nothing_known_is_the_whole_square():
    nothing = stance({})
    assert nothing.box == Box()
    assert nothing.hard == ()
    assert all(one.compatibility == 1 for one in advise(nothing))
    assert stance(dict.fromkeys(QUESTIONS, "unknown")) == nothing == stance(dict.fromkeys(QUESTIONS))


@pytest.mark.parametrize(
    ("name", "more", "less", "axis"),
    [
        ("Q1", "yes", "no", "O"), ("Q1", "yes", "depends", "O"), ("Q2", "yes", "no", "E"), ("Q10", "no", "must", "O"),
        ("Q16", "no", "yes", "O"), ("Q8", "regulator", "patient", "O"), ("Q11", "engineer", "asker", "O"),
        ("Q9", "yes", "no", "E"), ("Q3", {"kappa": 0.9}, {"kappa": 0.2}, "E"), ("Q3", {"iou": 0.9}, {"iou": 0.2}, "E"),
    ],
)  # fmt: skip
def test_answers_move_the_axis_they_are_about_the_right_way(name, more, less, axis):
    up, down = getattr(stance({name: more}), axis), getattr(stance({name: less}), axis)
    assert up.lo + up.hi > down.lo + down.hi
    assert stance({name: more}).because[axis] == (name,)


def test_a_stance_is_the_weighted_mean_of_the_ends():
    weights = {axis: sum(one.weight.get(axis, 0) for one in QUESTIONS.values()) for axis in "OE"}
    one = QUESTIONS["Q1"]
    lo, hi = one.answers["yes"].O
    w = one.weight["O"]
    found = stance({"Q1": "yes"}).O
    assert (found.lo, found.hi) == pytest.approx((-1 + w * (lo + 1) / weights["O"], 1 + w * (hi - 1) / weights["O"]))
    kappa = [band.E for band in QUESTIONS["Q3"].numbers["kappa"]]
    found = stance({"Q3": 0.39}).E  # a bare number is the first that is asked for, and half of the question
    assert found.hi == pytest.approx(1 + QUESTIONS["Q3"].weight["E"] / 2 * (kappa[0][1] - 1) / weights["E"])
    assert stance({"Q3": 0.4}) != stance({"Q3": 0.39})


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"Q17": "yes"}, "no question 'Q17'; expected one of Q1"),
        ({"Q1": "maybe"}, "Q1: no answer 'maybe'; expected yes, depends, no or unknown"),
        ({"Q3": {"auc": 0.5}}, "Q3: no number 'auc'; expected kappa, iou"),
        ({"Q3": "much"}, "Q3: kappa is 'much'; expected a number"),
        ({"Q3": 60}, "expected a number from -1 to 1"),
        ({"Q3": {"kappa": True}}, "Q3: kappa is True; expected a number from -1 to 1"),
        ({"Q3": {"iou": -0.1}}, "Q3: iou is -0.1; expected a number from 0 to 1"),
    ],
)
def test_what_is_no_answer_is_refused_with_what_is(answers, says):
    with pytest.raises(UsageError, match=says):
        stance(answers)


def test_yes_and_no_may_be_true_and_false():
    assert stance({"Q1": True, "Q2": False}) == stance({"Q1": "yes", "Q2": "no"})


def test_capital_letters_of_an_answer_count_for_nothing():
    small = {"Q1": "yes", "Q4": "model", "Q7": "why-not", "Q3": {"kappa": "unknown"}, "Q2": "don't know"}
    loud = {"Q1": "YES", "Q4": " Model", "Q7": "Why-Not", "Q3": {"kappa": "Unknown"}, "Q2": "Don't know"}
    assert stance(loud) == stance(small)
    assert stance({"Q3": {"kappa": -0.2, "iou": 0}}).E.hi < 1  # agreement worse than by chance is a kappa


# Contradictions


def test_contradictions_of_the_spec_are_found_with_their_questions():
    def told(*args, **more):
        return {one.id: one.questions for one in contradictions(*args, **more)}

    assert told({"Q1": "yes", "Q3": {"kappa": 0.3}}) == {"one-reason-few-agree": ("Q1", "Q3")}
    assert told({"Q1": "yes", "Q3": {"kappa": 0.4}}) == {}
    assert told({"Q1": "unknown", "Q3": {"kappa": 0.3}}) == {}
    disease = {"Q4": "disease"}
    assert told(disease, preset("ig-black")) == {"disease-by-constant": ("Q4",)}
    assert told(disease, preset("conditional-shap")) == told(disease) == {}
    assert told({"Q9": "yes"}, preset("smoothgrad")) == {"same-bits-by-chance": ("Q9",)}
    assert told({"Q9": "yes"}, preset("lime")) == {}  # one fixed seed
    assert told({"Q2": "no"}, claims=["localisation"]) == {"no-truth-but-localised": ("Q2",)}
    assert told({"Q2": "no"}, claims=["sensitivity"]) == {}
    # And what leaves no value for a choice, whichever questions say so.
    assert told({"Q4": "disease", "Q13": "no", "Q5": "phase"}) == {}
    assert told({"Q10": "no", "Q16": "yes"})["no-plurality"] == ("Q10", "Q16")
    for name in KNOWN.questions.situations:
        assert contradictions(situation(name)) == ()


# Advice


@FEW
@given(ANSWERS, st.sampled_from(ATOMS), st.data())
def test_one_more_hard_constraint_never_adds_a_configuration(answers, atom, data):
    allowed = data.draw(st.sets(st.sampled_from(list(KNOWN.atoms[atom].values))))
    here = stance(answers)
    stricter = here.also(atom, allowed, "test")
    for one in PRESETS.values():
        expected = compatibility(one, here) if one[atom].value in allowed else 0
        assert compatibility(one, stricter) == expected


def test_everything_is_judged_and_the_order_is_compatibility_then_cost():
    told = advise(stance(situation("quality-control")), access="gradients", data="images")
    assert {one.name for one in told} == set(KNOWN.presets)
    aside = [one for one in told if one.failures or one.control]
    assert told[-len(aside) :] == tuple(aside)
    for some in (told[: -len(aside)], [one for one in aside if one.failures]):
        order = [(-one.compatibility, one.cost.work, one.name) for one in some]
        assert order == sorted(order)
    for one in told:
        assert one.assumes == one.config.sentences()
        assert one.reasons
        assert one.compatibility > 0 or any(reason.questions or "costs" in reason.text for reason in one.reasons)
    by_name = {one.name: one for one in told}
    assert by_name["occlusion-black"].compatibility > 0.5
    lrp = by_name["lrp-epsilon"]
    assert lrp.compatibility == 0
    assert {q for reason in lrp.reasons for q in reason.questions if "allowed" in reason.text} == {"access", "Q7"}
    assert by_name["permutation-importance"].compatibility == 0  # a table's


def test_compatibility_is_area_shared_over_own_area():
    here = Stance(Interval(0.5, 1.0), Interval(0.0, 0.4))
    one = preset("ig-black")
    assert one.position() == Box.of((0.0, 1.0), (0.0, 0.8))
    assert compatibility(one, here) == pytest.approx(0.25)
    assert compatibility(one, here.also("absence", ["blur"], "Q5")) == 0
    assert compatibility(one, replace(here, budget=95)) == 0
    assert compatibility(one, replace(here, budget=96)) > 0
    assert compatibility(one.with_(plurality="set"), here) == 0  # incoherent


def test_situations_lead_where_they_should():
    def best(name, share=0.7):
        return {one.name for one in advise(stance(situation(name))) if one.compatibility >= share}

    assert {"occlusion-black", "exact-shapley"} <= best("quality-control")
    assert "gradient" not in best("quality-control")
    assert "conditional-shap-interval" in best("biomarker-discovery")
    assert not {"ig-black", "kernel-shap"} & best("biomarker-discovery")
    assert {"tcav", "concept-bottleneck"} <= best("subjective-grading")
    assert {"user-foil-counterfactual"} <= best("patient-communication") <= {
        "user-foil-counterfactual", "user-foil-counterfactual-variables",
    }  # fmt: skip
    assert {"gradient", "lrp-epsilon"} <= best("regulation", 0.65)
    assert {"rashomon-dissent", "diverse-counterfactuals"} <= best("contested-labels")
    assert all(preset(name)["plurality"].value in ("set", "dissent") for name in best("contested-labels"))


def test_a_file_for_a_regulator_owes_tests_of_both_paradigms():
    (one,) = [each for each in advise(stance(situation("regulation"))) if each.name == "ig-black"]
    owed = {each.warrant: each for each in one.warrants}
    assert not owed["completeness"].external
    assert owed["randomisation"].external
    assert "Q8" in owed["randomisation"].because
    assert "random-concepts" not in owed


def test_what_is_known_to_fail_a_test_that_it_owes_comes_after_all_others_until_it_passes():
    for name in ("lesion-detection", "regulation"):
        here = stance(situation(name))
        told = advise(here)
        assert [one.name for one in told[-3:]] == ["deconvnet", "guided-backprop", "tcav-random"]
        assert not any(one.failures for one in told[:-3])
        by_name = {one.name: one for one in told}
        for method, author in (("deconvnet", "Sixt"), ("guided-backprop", "Adebayo")):
            one = by_name[method]
            assert one.failures == ("randomisation",)
            assert one.compatibility == compatibility(one.config, here) > 0.7  # as it was: the place alone is another
            (why,) = (reason for reason in one.reasons if "known to fail randomisation" in reason.text)
            assert author in why.text
            assert set(why.questions) == ({"Q8", "Q13"} if name == "regulation" else {"Q13"})
    passed = advise(
        here, warrants={"guided-backprop": {"randomisation": "passed"}, "deconvnet": {"deletion": "passed"}}
    )
    (guided,) = (one for one in passed if one.name == "guided-backprop")
    assert guided.failures == ()
    assert passed.index(guided) < [one.name for one in passed].index("exact-shapley")
    assert passed[-2].name == "deconvnet"
    # Owed by no paradigm that it shares with the stance, and asked for by no question: nothing is held against it.
    positivist = advise(Stance(Interval(0.5, 1.0), Interval(0.5, 1.0)))
    assert all(one.failures == () for one in positivist)


def test_a_control_is_shown_with_its_compatibility_and_never_before_an_explanation():
    told = advise(stance(situation("subjective-grading")))
    assert [one.name for one in told if one.control] == [told[-1].name] == ["tcav-random"]
    assert told[-1].compatibility == 1.0
    assert told[-1].reasons[-1].text == "a control"
    by_hand = advise(Stance(), configs=[("mine", preset("tcav").with_(named="random", human="none")),
                                        ("other", preset("ig-black"))])  # fmt: skip
    assert [(one.name, one.control) for one in by_hand] == [("other", False), ("mine", True)]


def test_a_story_is_no_answer_to_what_would_have_to_change():
    for one in ("rationale", "rationale-set"):
        assert compatibility(preset(one), stance({"Q7": "how-to-be"})) == 0
        assert compatibility(preset(one), stance({"Q7": "still-this"})) == 0
        assert compatibility(preset(one), stance({"Q8": "patient"})) > 0.5


@pytest.mark.parametrize(
    ("warrant", "names", "says"),
    [
        ("completeness", "ig-black expected-gradients deeplift exact-shapley lrp-epsilon input-times-gradient", None),
        ("completeness", "gradient smoothgrad", "allocation is derivative"),
        ("completeness", "gradient-absolute", "shown is absolute"), ("completeness", "rise", "allocation is mean-mask"),
        ("completeness", "occlusion-black", "allocation is occlusion"), ("completeness", "vargrad", "variance"),
        ("completeness", "lrp-composite", "allocation is composite-rule"), ("completeness", "grad-cam", "positive"),
        ("seed-interval", "smoothgrad kernel-shap lime tcav rashomon-set expected-gradients-interval", None),
        ("seed-interval", "gradient exact-shapley occlusion-black grad-cam", "chance is deterministic"),
        ("determinism", "gradient smoothgrad", None),
    ],
)  # fmt: skip
def test_a_test_that_cannot_be_made_is_not_owed(warrant, names, says):
    told = {one.name: one for one in advise(Stance())}
    for name in names.split():
        why = not_applying(warrant, preset(name))
        assert applies(warrant, preset(name)) == (why is None) == (says is None)
        assert says is None or says in why
        assert says is None or warrant not in [one.warrant for one in told[name].warrants]
    absolute = preset("ig-black").with_(shown="absolute")
    assert not_applying("completeness", absolute) == "shown is absolute"


# Adaptation


def brute_force(config, here):
    """Every configuration of the family that is compatible, one by one: edits, work, compatibility, itself."""
    found = []
    for values in itertools.product(*(admissible(config.family, atom) for atom in ATOMS)):
        changed = {atom: value for atom, value in zip(ATOMS, values, strict=True) if value != config[atom].value}
        one = config.with_(**changed)
        share = compatibility(one, here)
        if share >= 0.5 - 1e-12:
            found.append((len(changed), cost(one).work, -round(share, 12), one))
    return found


@pytest.mark.parametrize("family", ["concept-bottleneck", "prototype-net", "circuits"])
@pytest.mark.parametrize(
    "here",
    [
        Stance(Interval(0.0, 0.6), Interval(-0.4, 0.3)),
        Stance(Interval(-0.9, 0.1), Interval(-0.8, 0.4)).also("plurality", ["set", "dissent"], "Q10"),
        Stance(Interval(0.3, 1.0), Interval(0.2, 1.0)),
        replace(Stance(Interval(-0.5, 0.9), Interval(-0.5, 0.9)), budget=600),
    ],
)
def test_adaptation_is_the_pareto_set_of_all_configurations(family, here):
    config = configuration(family)
    brute = brute_force(config, here)
    told = adapt(config, here, most=10_000)

    def better(a, b):
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    best = {one[3] for one in brute if not any(better(other[:3], one[:3]) for other in brute)}
    assert {one.config for one in told} == best
    for one in told:
        assert len(one.edits) == sum(config[atom].value != one.config[atom].value for atom in ATOMS)
        assert one.compatibility == pytest.approx(compatibility(one.config, here))
        assert one.compatibility >= 0.5 - 1e-12
    if brute:
        assert len(told[0].edits) == min(one[0] for one in brute)


def test_no_edit_is_needed_exactly_where_a_configuration_is_compatible():
    for name in KNOWN.questions.situations:
        here = stance(situation(name))
        for one in ("ig-black", "gradient", "lime", "tcav", "counterfactual-l1", "rashomon-set"):
            config = preset(one)
            told = adapt(config, here, most=1)
            assert (bool(told) and told[0].edits == ()) == (compatibility(config, here) >= 0.5)


def test_a_disliked_map_is_brought_into_the_stance():
    here = restricted(stance(situation("contested-labels")), data="images")
    told = adapt(preset("ig-black"), here)
    assert told
    for one in told:
        assert {edit.atom for edit in one.edits} >= {"plurality", "chance"}  # several answers, which chance must draw
        assert one.config.position() is not None
    assert adapt(preset("gradient"), here) == ()  # a derivative cannot be one of several truths
    foil = adapt(preset("ig-black"), Stance().also("absence", ["foil"], "Q7"), at_least=0)
    assert {edit.atom for edit in foil[0].edits} == {"absence", "human"}
    runs = adapt(preset("ig-black"), Stance().also("absence", ["generative"], "Q5"), runs_only=True, at_least=0)
    assert runs == ()


# Claims

ALL = dict.fromkeys(KNOWN.warrants, "passed")


def verdict(kind, name, warrants=ALL, **more):
    config = preset(name) if isinstance(name, str) else name
    return license(Claim(kind, **{"scope": config["scope"].value, **more}), config, warrants).verdict


def test_appendix_b_is_the_table():
    order = ["gradient", "path", "interventional", "conditional", "cam", "counterfactual-pixel",
             "counterfactual-generative", "concepts", "prototypes"]  # fmt: skip
    printed = {
        "sensitivity": "L N N N N W N N N", "share": "N L L W N N N W N", "necessity": "N W L W W N N W N",
        "sufficiency": "N W W W W N N N N", "shortcut": "W W L N W W W W W", "localisation": "N N N N W N W N N",
        "outcome": "N N N N N N N N N", "concept": "N N N N N N N W W", "reason": "N N N N N N N N N",
    }  # fmt: skip
    for kind, row in printed.items():
        assert [KNOWN.claims.claims[kind].cells[column].verdict for column in order] == row.split()
        assert not any(KNOWN.claims.claims[kind].cells[column].ours for column in order)
    assert all(cell.ours for cell in KNOWN.claims.claims["recourse"].cells.values())


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("gradient", "gradient smoothgrad gradient-absolute"),
        ("path", "ig-black expected-gradients lrp-epsilon lrp-composite input-times-gradient deeplift"),
        ("interventional", "kernel-shap occlusion-black rise exact-shapley permutation-importance"),
        ("conditional", "conditional-shap occlusion-inpaint"),
        ("cam", "grad-cam eigen-cam rashomon-set"),
        ("counterfactual-pixel", "counterfactual-l1 user-foil-counterfactual graph-counterfactual-search"),
        ("counterfactual-generative", "generative-counterfactual graph-counterfactual"),
        ("concepts", "tcav concept-bottleneck"),
        ("prototypes", "prototype-net prototype-diffusion nearest-examples"),
        ("surrogate", "lime"),
        ("intrinsic", "decision-tree additive-model"),
        ("other", "guided-backprop vargrad circuits rationale influence anchors"),
    ],
)
def test_configurations_fall_into_their_columns(column, names):
    assert {name: column_of(preset(name)) for name in names.split()} == dict.fromkeys(names.split(), column)


def test_some_claims_are_never_licensed_whatever_has_passed():
    for name in KNOWN.presets:
        for strength in ("tentative", "firm"):
            assert verdict("reason", name, strength=strength) == "refused"
            assert verdict("outcome", name, strength=strength) == "refused"
    for name in ("gradient", "smoothgrad", "ig-black", "kernel-shap", "conditional-shap", "lime"):
        assert verdict("localisation", name) == "refused"
    assert verdict("shortcut", "conditional-shap") == "refused"
    assert "where a model looks" in license(Claim("localisation"), preset("gradient"), {}).why


def test_a_definition_licenses_by_itself_only_what_is_said_with_suggests():
    assert verdict("sensitivity", "gradient", {}, strength="tentative") == "licensed"
    firm = license(Claim("sensitivity"), preset("gradient"), {})
    assert firm.verdict == "needs"
    assert firm.needs == ()
    assert "randomisation" in firm.either
    assert "determinism" not in firm.either  # holds the map against itself
    assert "disagreement" not in firm.either  # nothing to pass
    assert verdict("sensitivity", "gradient", {"determinism": "passed"}) == "needs"
    assert verdict("sensitivity", "gradient", {"randomisation": "passed"}) == "licensed"


def test_a_test_that_shares_the_absence_is_internal_and_does_not_suffice():
    black = preset("ig-black")
    told = license(Claim("share"), black, {"completeness": "passed", "deletion": "passed"})
    assert told.verdict == "needs"
    assert [warrant for warrant, _ in told.internal] == ["completeness", "deletion"]
    assert "shares the absence 'constant'" in dict(told.internal)["deletion"]
    assert "by construction" in internal("completeness", black) or "itself" in internal("completeness", black)
    assert "deletion" not in told.either
    assert "road" in told.either
    assert verdict("share", "ig-black", {"completeness": "passed", "road": "passed"}) == "licensed"
    # Every warrant of the table has passed, and none is independent: blur is what insertion begins with.
    blurred = license(Claim("sufficiency"), preset("ig-blur"), {"insertion": "passed"})
    assert (blurred.verdict, blurred.needs) == ("needs", ())
    assert license(Claim("sufficiency"), black, {"insertion": "passed"}).verdict == "licensed"
    # The same kind of absence with another value is another world, once it is stated.
    white = {"deletion": {"absence": "constant(white)"}}
    assert (
        license(Claim("share"), black, {"completeness": "passed", "deletion": "passed"}, judged_with=white).verdict
        == "licensed"
    )
    assert internal("deletion", preset("ig-white"), white["deletion"]) is not None
    assert internal("deletion", preset("ig-white")) is not None  # not said with which constant: it may be the same
    # Shared locality, and an absence that is brought in unsaid.
    assert internal("infidelity", preset("smoothgrad")) is not None
    assert internal("sensitivity-n", preset("kernel-shap")) is not None
    assert internal("deletion", preset("lrp-epsilon")) is not None
    assert internal("deletion", preset("input-times-gradient")) is not None
    assert internal("deletion", preset("gradient")) is None


def test_failed_and_missing_warrants_are_named():
    cam = preset("grad-cam")
    told = license(Claim("localisation"), cam, {"mask-overlap": "passed", "resolution": "not-run"})
    assert (told.verdict, told.needs) == ("needs", ("annotator-ceiling", "resolution"))
    failed = license(Claim("localisation"), cam, {**ALL, "resolution": "failed"})
    assert failed.verdict == "refused"
    assert "resolution" in failed.why
    assert license(Claim("localisation"), cam, ALL).verdict == "licensed"
    assert license(Claim("sensitivity", scope="cohort"), preset("gradient"), ALL).verdict == "refused"
    assert (
        license(Claim("sensitivity", scope="cohort"), preset("gradient").with_(scope="cohort"), ALL).verdict
        == "licensed"
    )


def test_a_claim_is_about_what_the_explanation_is_about():
    """A law or a mean does not speak for one case, nor a case for a law (an ecological fallacy, and its reverse)."""
    cases = preset("gradient")
    for mine in ("point", "cohort"):
        for said in ("point", "neighbourhood", "cohort", "global"):
            told = license(Claim("sensitivity", scope=said), cases.with_(scope=mine), ALL)
            assert told.verdict == ("licensed" if said == mine else "refused")
            assert mine == said or "the claim is about" in told.why
    told = license(Claim("share"), preset("linear-model"), ALL)
    assert (told.verdict, "about one case, the explanation about all cases" in told.why) == ("refused", True)
    assert verdict("share", "linear-model") == "licensed"


def test_a_test_of_the_table_that_cannot_be_made_is_not_needed_and_this_is_said():
    exact = license(Claim("share"), preset("exact-shapley"), {"road": "passed"})
    assert exact.verdict == "licensed"
    assert exact.not_needed == (("seed-interval", "chance is deterministic"),)
    assert "seed-interval does not apply (chance is deterministic) and is not needed" in exact.why
    firm = license(Claim("share"), preset("exact-shapley"), {})
    assert (firm.verdict, firm.needs) == ("needs", ())
    assert "not needed" in firm.why
    assert license(Claim("share"), preset("kernel-shap"), {"road": "passed"}).needs == ("seed-interval",)
    # But a sum is what makes shares of numbers: where there is none they are none, whatever has passed.
    for config in (preset("ig-black").with_(shown="absolute"), preset("lrp-composite")):
        told = license(Claim("share"), config, ALL)
        assert told.verdict == "refused"
        assert "rests on completeness, which does not apply" in told.why
        assert told.not_needed == ()


@FEW
@given(st.sampled_from(list(KNOWN.claims.claims)), st.sampled_from(list(KNOWN.presets)), st.data())
def test_one_more_warrant_that_passes_never_takes_a_license_away(kind, name, data):
    some = data.draw(st.sets(st.sampled_from(list(KNOWN.warrants)), max_size=8))
    more = data.draw(st.sampled_from(list(KNOWN.warrants)))
    order = ["refused", "needs", "licensed"]
    before, after = (verdict(kind, name, dict.fromkeys(which, "passed")) for which in (some, some | {more}))
    assert order.index(after) >= order.index(before)
    assert order.index(verdict(kind, name, {**dict.fromkeys(some, "passed"), more: "failed"})) <= order.index(after)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: license(Claim("truth"), preset("gradient"), {}), "no claim 'truth'; expected one of sensitivity"),
        (lambda: license(Claim("share"), preset("gradient"), {"luck": "passed"}), "no warrant 'luck'"),
        (lambda: license(Claim("share"), preset("gradient"), {"road": "yes"}), "expected passed, failed, not-run"),
        (lambda: Claim("share", scope="world"), "expected point, neighbourhood, cohort, global"),
        (lambda: advise(stance({}), access="everything"), "no access 'everything'; expected one of outputs"),
        (lambda: restricted(stance({}), data="music"), "no data 'music'; expected one of images"),
        (lambda: situation("weather"), "no situation 'weather'; expected one of lesion-detection"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(call, says):
    with pytest.raises(UsageError, match=says):
        call()
