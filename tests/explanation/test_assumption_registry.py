"""The registry of assumptions: sources, pairs, positions, a second framework, and files that are broken."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from medaudit.errors import DataError, UsageError
from medaudit.explanation.assumptions import (
    ATOMS,
    Box,
    Choice,
    Configuration,
    Interval,
    admissible,
    configuration,
    cost,
    diff,
    ends,
    framework,
    preset,
    registry,
)
from medaudit.explanation.assumptions.boxes import common
from medaudit.explanation.assumptions.registry import FOLDER, content_hash
from medaudit.explanation.warrants.warrant import RULES

KNOWN = registry()
WARRANTS = (
    "completeness sensitivity-n determinism implementation-invariance shift-invariance convergence randomisation "
    "data-randomisation deletion insertion road infidelity max-sensitivity triangulation seed-interval repeatability "
    "reproducibility pointing mask-overlap mask-auroc mass-in-mask annotator-ceiling random-concepts intervention "
    "rashomon-spread disagreement flip-rate density-check resolution"
)
VALUES = {
    "explanandum": "logit log-prob prob margin loss embedding mask-sum score whole-model",
    "scope": "point neighbourhood cohort global",
    "units": "pixel grid superpixel layer channel concept prototype example latent variable edge",
    "absence": "none constant mean-image mean-colour blur noise dataset conditional inpaint generative matched foil",
    "allocation": "derivative path-integral shapley owen banzhaf surrogate occlusion mean-mask epsilon-rule "
    "composite-rule rescale deconvolution guided gradient-cam element-cam eigen-cam rollout learned-mask search "
    "narration concept-derivative similarity influence intrinsic",
    "locality": "point gaussian ball kernel path coalitions rows",
    "shown": "signed absolute positive squared variance times-input",
    "chance": "deterministic one-seed averaged interval distribution",
    "plurality": "one mean set dissent",
    "access": "outputs gradients architecture intrinsic",
    "human": "none labels-concepts chooses-foil edits judges",
    "truth": "behaviour mechanism data annotation use",
}  # fmt: skip


# Boxes


def test_overlap_of_boxes_is_what_points_thrown_at_them_say():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (50_000, 2))

    def inside(box):
        lo, hi = np.array([box.O.lo, box.E.lo]), np.array([box.O.hi, box.E.hi])
        return ((points >= lo) & (points <= hi)).all(1)

    for _ in range(10):
        a, b = (Box.of(*(tuple(sorted(rng.uniform(-1, 1, 2))) for _ in range(2))) for _ in range(2))
        in_a = inside(a)
        assert a.area / 4 == pytest.approx(in_a.mean(), abs=0.02)
        both = a.intersect(b)
        assert (0 if both is None else both.area / 4) == pytest.approx((in_a & inside(b)).mean(), abs=0.02)
        if in_a.sum() > 1_000:
            assert a.share_in(b) == pytest.approx(inside(b)[in_a].mean(), abs=0.05)
        assert a.share_in(a) == 1


def test_lines_and_points_have_shares_and_edges_touch():
    line = Box.of((0.2, 0.2), (0.0, 0.4))
    assert line.area == 0
    assert line.share_in(Box.of((0.0, 1.0), (0.3, 1.0))) == pytest.approx(0.25)
    assert line.share_in(Box.of((0.3, 1.0), (0.0, 1.0))) == 0
    assert Box.of((0, 0.5), (0, 1)).intersect(Box.of((0.5, 1), (0, 1))) == Box.of((0.5, 0.5), (0, 1))
    assert Box.of((0, 0.4), (0, 1)).intersect(Box.of((0.5, 1), (0, 1))) is None
    assert common([]) == Box()
    with pytest.raises(UsageError, match="the lower first"):
        Interval(0.5, 0.2)


# Sources


def test_every_sentence_has_a_source_and_only_what_the_paper_shows_is_tagged_paper():
    said = list(KNOWN.sentences())
    assert len(said) > 350
    paper = {at for at, one in said if one.source == "paper"}
    assert paper == {f"frameworks/mattioli2025.about.{k}" for k in range(5)} | {
        "frameworks/mattioli2025.axes.O.meaning", "frameworks/mattioli2025.axes.E.meaning",
    }  # fmt: skip
    secondary = {at for at, one in said if one.source == "secondary"}
    assert secondary == {"frameworks/mattioli2025.about.5"} | {
        f"frameworks/mattioli2025.paradigms.{name}.named" for name in framework().record.paradigms
    }
    assert all(one.citation for _, one in said if one.source != "inferred")
    assert {at for at, one in said if at.startswith(("atoms", "families")) and one.source != "inferred"} == {
        "families.guided-backprop.assume.0", "families.guided-backprop.known_failure.0",
        "families.deconvnet.known_failure.0",
    }  # fmt: skip
    # Positions and readings of methods are ours, but for results of two other papers.
    assert {one.name for one in framework().record.paradigms.values()} == {
        "Logical Positivist", "Contemporary Realist", "Interpretive", "Postmodern",
    }  # fmt: skip


def test_the_registry_has_the_values_warrants_and_size_that_others_build_upon():
    assert {atom: list(one.values) for atom, one in KNOWN.atoms.items()} == {k: v.split() for k, v in VALUES.items()}
    assert list(VALUES) == list(ATOMS)
    assert list(KNOWN.warrants) == WARRANTS.split()
    assert len(KNOWN.families) >= 30
    assert len(KNOWN.presets) >= 55
    assert {name.split("-")[0] for name in KNOWN.pairs} == {f"P{k}" for k in range(1, 19)}
    assert list(KNOWN.questions.questions) == [f"Q{k}" for k in range(1, 17)]


def test_warrants_pass_as_those_who_run_them_say():
    assert {name: (one.passes, one.threshold) for name, one in KNOWN.warrants.items()} == {
        name: (rule.passes, rule.threshold) for name, rule in RULES.items()
    }


# Positions


@pytest.mark.parametrize(
    ("name", "first", "also"),
    [
        ("decision-tree", "logical-positivist", ""), ("gradient", "logical-positivist", ""),
        ("lrp-epsilon", "logical-positivist", ""), ("input-times-gradient", "logical-positivist", ""),
        ("ig-black", "logical-positivist", "contemporary-realist"), ("occlusion-black", "logical-positivist", ""),
        ("lrp-composite", "contemporary-realist", ""), ("expected-gradients", "contemporary-realist", ""),
        ("deeplift", "contemporary-realist", ""), ("smoothgrad", "contemporary-realist", ""),
        ("vargrad", "contemporary-realist", ""), ("grad-cam", "contemporary-realist", "interpretive"),
        ("attention-rollout", "contemporary-realist", ""), ("lime", "contemporary-realist", "interpretive"),
        ("kernel-shap", "contemporary-realist", "logical-positivist"), ("conditional-shap", "contemporary-realist", ""),
        ("generative-counterfactual", "contemporary-realist", ""), ("counterfactual-l1", "interpretive", "postmodern"),
        ("user-foil-counterfactual", "interpretive", ""), ("diverse-counterfactuals", "postmodern", ""),
        ("tcav", "interpretive", "contemporary-realist"), ("tcav-discovered", "contemporary-realist", ""),
        ("concept-bottleneck", "interpretive", ""), ("prototype-net", "interpretive", ""),
        ("influence", "contemporary-realist", ""), ("circuits", "contemporary-realist", ""),
        ("rationale", "interpretive", "postmodern"), ("rashomon-dissent", "interpretive", "postmodern"),
    ],
)  # fmt: skip
def test_positions_read_as_the_table_of_spec_1_4(name, first, also):
    told = [one.paradigm for one in preset(name).paradigms()]
    assert told[0] == first
    assert also in ("", *told)


def test_every_preset_can_be_held_by_somebody_and_paradigms_cover_the_square():
    for name in KNOWN.presets:
        one = preset(name)
        assert one.position() is not None, one.incoherences()
        assert one.position().area > 0
        assert one.paradigms()
        assert all(a.share >= b.share for a, b in zip(one.paradigms(), one.paradigms()[1:], strict=False))
    boxes = [one.box for one in framework().record.paradigms.values()]
    rng = np.random.default_rng(0)
    assert all(any(box.contains(Box.of((o, o), (e, e))) for box in boxes) for o, e in rng.uniform(-1, 1, (500, 2)))


def test_what_nobody_can_hold_together_has_no_place_and_says_why():
    both = configuration("integrated-gradients", plurality="set")
    assert both.position() is None
    assert both.paradigms() == ()
    assert "equally legitimate" in both.incoherences()[0]
    assert "incoherent" in both.says()
    # By the numbers alone: a derivative asks for more existence than a reader who judges allows.
    numbers = configuration("gradient", human="judges")
    assert numbers.position() is None
    assert numbers.incoherences() == (
        "allocation derivative asks for ontology of 0.4 or more, human judges for 0.3 or less",
    )
    assert "presupposes at least ontology 0.4 or more (allocation derivative)" in preset("gradient").says()


# Configurations


def test_a_configuration_is_said_in_short_and_comes_back_whole():
    one = configuration("integrated-gradients", absence="white", explanandum="margin", nodes=64)
    assert one["absence"] == Choice("constant", (("value", "white"),))
    assert one.param("locality", "nodes") == 64
    assert one == configuration("integrated-gradients").with_(
        absence="constant(white)", explanandum="margin", locality="path(64)"
    )
    assert one.label() == "integrated-gradients(explanandum=margin, absence=constant(white), locality=path(64))"
    for name in KNOWN.presets:
        there = preset(name)
        back = Configuration.from_dict(json.loads(json.dumps(there.as_dict())))
        assert back == there
        assert hash(back) == hash(there)
        assert back.key == there.key
        assert configuration(there.family, **{atom: str(choice) for atom, choice in there}) == there
    assert len({preset(name).key for name in KNOWN.presets}) > 85
    assert configuration("integrated-gradients", absence=0.25)["absence"].param("value") == 0.25
    assert preset("ig-black").key == "2811f797d1e8664e"  # the same on every machine, or cards cannot be compared


@pytest.mark.parametrize(
    ("family", "chosen", "says"),
    [
        ("ig", {}, "no family 'ig'; expected one of accumulated-effects"),
        ("gradient", {"absence": "black"}, "gradient cannot have absence 'constant'; admissible: none"),
        ("gradient", {"truth": "beauty"}, "truth cannot be 'beauty'; expected one of behaviour, mechanism"),
        ("gradient", {"nodes": 3}, "'nodes' belongs to none of its choices"),
        ("gradient", {"known": "black"}, "'known' belongs to none of its choices"),
        ("gradient", {"family": "lime"}, "'family' belongs to none of its choices"),
        ("integrated-gradients", {"absence": "White"}, "absence cannot be 'White'; expected one of none, constant"),
        ("integrated-gradients", {"absence": "White"}, "or in short black, white, grey"),
        ("kernel-shap", {"n": 3}, "'n' belongs to absence, locality"),
        ("integrated-gradients", {"absence": "constant(pink)"}, "expected black, white, grey or a number"),
        ("integrated-gradients", {"absence": "blur(-1)"}, "expected 0 or more"),
        ("integrated-gradients", {"nodes": 2.5}, "expected a whole number of nodes"),
        ("integrated-gradients", {"absence": "blur(1, 2)"}, "takes sigma; got 2 values"),
        ("integrated-gradients", {"absence": "blur(radius=1)"}, "no parameter 'radius'; it has sigma"),
        ("integrated-gradients", {"absence": True}, "expected the name of a value"),
    ],
)
def test_what_is_not_admissible_is_refused_with_what_is(family, chosen, says):
    with pytest.raises(UsageError) as error:
        configuration(family, **chosen)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    if family in KNOWN.families:
        with pytest.raises(UsageError) as changed:
            configuration(family).with_(**chosen)
        assert str(changed.value) == str(error.value)


def test_a_cost_is_what_the_method_asks_of_the_model():
    def work(name, **over):
        one = cost(preset(name).with_(**over), pixels=100)
        return one.forward, one.backward

    assert work("gradient") == (1, 1)
    assert work("ig-black") == (32, 32)
    assert work("expected-gradients") == (512, 512)
    assert work("smoothgrad") == (25, 25)
    assert work("occlusion-black") == (65, 0)
    assert work("occlusion-black", units="pixel") == (101, 0)
    assert work("exact-shapley") == (4096, 0)
    assert work("exact-shapley-interventional") == (4096 * 16, 0)
    assert work("kernel-shap-mean-colour") == (1024, 0)
    five = preset("ig-black").with_(plurality="mean(5)", chance="interval(2)")
    assert (cost(five).forward, cost(five).trainings) == (5 * 2 * 32, 4)
    assert cost(preset("diverse-counterfactuals")).trainings == 0
    assert cost(preset("ig-black")).work == 96


def test_sentences_carry_their_numbers_and_unusual_settings():
    said = {one.atom: one for one in preset("ig-white").sentences()}
    assert "an intensity of white" in said["absence"].text
    assert set(said) == {"family", *ATOMS}
    texts = [one.text for one in preset("gradient").with_(clip=99).sentences()]
    assert any("percentile 99" in text for text in texts)
    assert len(texts) == len(preset("gradient").sentences()) + 1
    for name in KNOWN.presets:
        for one in preset(name).sentences():
            assert one.source
            assert "{" not in one.text


# Pairs and differences


@pytest.mark.parametrize("name", list(KNOWN.pairs))
def test_a_pair_differs_in_exactly_its_atoms(name):
    a, b = ends(name)
    pair = KNOWN.pairs[name]
    changed = tuple(atom for atom in ATOMS if a.as_dict()["atoms"][atom] != b.as_dict()["atoms"][atom])
    assert changed == pair.changes
    assert changed
    assert set(changed) <= set(pair.spec) or pair.note  # where the spec's list is too short, a note says so
    assert a.position() is not None
    assert b.position() is not None
    there, back = diff(a, b), diff(b, a)
    assert there.atoms == changed
    assert there.reversed() == back
    assert back.reversed() == there
    assert {one.atom for one in (*there.added, *there.dropped)} <= {*changed, "family"}
    assert diff(a, a).changes == diff(a, a).added == diff(a, a).dropped == ()


def test_a_small_change_moves_between_paradigms():
    there = diff(*ends("P4-smooth"))
    assert there.paradigms[0][0].name == "Logical Positivist"
    assert there.paradigms[1][0].name == "Contemporary Realist"
    assert any("infinitesimal" in one.text for one in preset("gradient").sentences())
    assert "what survives noise of standard deviation 0.15 is the signal" in [one.text for one in there.added]
    (white,) = diff(*ends("P1-white")).added
    assert (white.atom, white.source) == ("absence", "inferred")


# A second framework


def test_another_framework_has_other_axes_regions_and_places():
    other = framework("barad2026")
    assert other.record.axes["O"].name == "where meaning is"
    assert {one.paradigm for one in preset("gradient").paradigms(other)} == {"mirror"}
    assert preset("rashomon-dissent").paradigms("barad2026")[0].paradigm == "diffraction"
    assert other.place("absence", "constant") != framework().place("absence", "constant")
    assert other.place("truth", "data") == Box()  # nothing is inherited
    assert "where meaning is" in preset("ig-black").says(other)


def test_a_framework_of_the_users_is_a_file(tmp_path):
    text = (FOLDER / "frameworks" / "mattioli2025.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text + "positions:\n  allocation:\n    derivative: {O: [-1, -0.5], E: [-1, -0.5]}\n")
    assert preset("gradient").paradigms(path)[0].paradigm == "postmodern"
    path.write_text(text + "positions:\n  allocation:\n    derivation: {O: [-1, -0.5]}\n")
    with pytest.raises(DataError, match=r"mine.yaml:\d+: positions.allocation.derivation: no such choice"):
        framework(path)
    with pytest.raises(UsageError, match="no framework 'freud'; expected barad2026, mattioli2025, or a YAML file"):
        framework("freud")


# Files


def broken(tmp_path, name, old, new):
    folder = tmp_path / "data"
    shutil.copytree(FOLDER, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("atoms.yaml", "O: [-0.8, 1.0]", "O: [1.0, -0.8]",
         r"atoms.yaml:\d+: atoms.explanandum.values.logit.O: .*lower"),
        ("atoms.yaml", "{source: inferred, text: \"the score of one", "{source: paper, text: \"the score of one",
         r"logit.assume: a sentence with source 'paper' needs a citation"),
        ("atoms.yaml", "an intensity of {value}", "an intensity of {colour}",
         r"names a parameter that 'constant' has not"),
        ("atoms.yaml", "atoms:", "atoms: [", r"atoms.yaml:\d+: no YAML"),
        ("families/cams.yaml", "cost: {forward: \"1\",", "cost: {forward: \"layer.n\",",
         r"cams.yaml:\d+: families.grad-cam.cost.forward: 'layer.n' in the formula"),
        ("families/paths.yaml", "ig-white: {absence: white}", "ig-white: {absence: pink}",
         r"paths.yaml:\d+: families.integrated-gradients.presets.ig-white: absence cannot be 'pink'"),
        ("pairs.yaml", "changes: [absence]", "changes: [chance]",
         r"pairs.yaml:\d+: pairs.P1-white.changes: says chance; what changes is absence"),
        ("questions.yaml", "require: {truth: [behaviour, mechanism]}", "require: {truth: [beauty]}",
         r"questions.yaml:\d+: questions.Q4.answers.model.require.truth: truth cannot be 'beauty'"),
        ("questions.yaml", "Q4: model", "Q4: tree",
         r"questions.yaml:\d+: situations.lesion-detection: Q4: no answer 'tree'"),
        ("families/gradients.yaml", "warrant: randomisation", "warrant: chance",
         r"gradients.yaml:\d+: families.guided-backprop.known_failure.0.warrant: no warrant 'chance'"),
        ("families/concepts.yaml", "control: true", "control: perhaps",
         r"concepts.yaml:\d+: families.tcav.presets.tcav-random.control"),
        ("questions.yaml", "least: {iou: 0}", "least: {dice: 0}", r"questions.yaml:\d+: .*the least of 'dice'"),
        ("warrants.yaml", "any_of: [{allocation: [path-integral,", "any_of: [{allocation: [path,",
         r"warrants.yaml:\d+: warrants.completeness.any_of.0.allocation: allocation cannot be 'path'"),
        ("claims.yaml", "needs: [infidelity]", "needs: [fidelity]", r"claims.yaml:\d+: .*no warrant 'fidelity'"),
        ("warrants.yaml", "passes: at most", "passes: perhaps", r"warrants.yaml:\d+: warrants.completeness.passes"),
        ("frameworks/barad2026.yaml", "inherits: false", "inherits: perhaps", r"barad2026.yaml:\d+: inherits"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_in_one_line(tmp_path, name, old, new, says):
    with pytest.raises(DataError, match=says) as error:
        registry(broken(tmp_path, name, old, new))
    assert "\n" not in str(error.value)


def test_the_hash_is_of_the_content_and_not_of_its_layout(tmp_path):
    assert len(KNOWN.hash) == 64
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1}) != content_hash({"a": 1, "b": [3]})
    folder = broken(tmp_path, "atoms.yaml", "atoms:", "# a remark\natoms:   # another")
    assert registry(folder).hash == KNOWN.hash
    other = broken(tmp_path / "other", "atoms.yaml", "single pixels or voxels", "single pixels and voxels")
    assert registry(other).hash != KNOWN.hash


def test_nothing_heavy_is_imported():
    code = (
        "import sys; import medaudit.explanation.assumptions; "
        "print([name for name in ('torch', 'numpy', 'yaml', 'pydantic', 'polars') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


def test_admissible_values_begin_with_the_familys_own():
    assert admissible("gradient", "absence") == ("none",)
    assert admissible("lrp", "allocation") == ("epsilon-rule", "composite-rule")
