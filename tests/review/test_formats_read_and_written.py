"""Formats: mlcroissant, bibtexparser, rispy and networkx read what we write; what they write we read; hostile files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import random
import time
import unicodedata
from collections.abc import Callable
from xml.etree import ElementTree

import bibtexparser
import hypothesis.strategies as st
import mlcroissant
import networkx
import pytest
import rispy
from hypothesis import HealthCheck, given, settings
from made_reviews import artifact, dataset, work

from medaudit.errors import DataError
from medaudit.review import seed
from medaudit.review.formats import bibtex, croissant, graphml, ris, tables
from medaudit.review.graph import Edge, Node
from medaudit.review.records import Artifact, Dataset, Work

logging.getLogger("absl").setLevel(logging.ERROR)
WORDS = st.text(
    st.sampled_from("abzÉéñßøłŽ汉字한글שלוםمرحبا🩻👩‍⚕️−–—-'`\"{}\\~^_%$#&@,;:=.<>()[] and"), min_size=1, max_size=60
)
"""Letters of many scripts, both directions, emoji, and every character that some format gives a meaning."""
LINE = WORDS.map(lambda text: unicodedata.normalize("NFC", " ".join(text.split()))).filter(bool)
NAME = st.builds(lambda family, given: f"{family}, {given}", *2 * [LINE.filter(lambda text: "," not in text)])
SCHEMES = st.sampled_from([None, "https://example.org/~a/b--c_d%20e?f=g&h=$1#i", "http://x.example/(1)"])
DOIS = st.sampled_from([None, "10.1002/(sici)1097-0258(19980815/30)17:15/16<1661::aid-sim968>3.0.co;2-2",
                        "10.1007/978-3-030-00934-2_12", "10.1000/a--b~c%d{e}"])  # fmt: skip
ARXIVS = st.sampled_from([None, "2501.10727", "2501.10727v2", "hep-th/9901001", "math.GT/0309136v3"])
TYPES = st.sampled_from(["paper", "preprint", "deposit", "web", "code"])
PAGES = st.sampled_from(["", "1-9", "e12", "S100-S101", "511-531"])
WORK = st.builds(
    lambda title, authors, year, venue, url, doi, arxiv, type, pages: work(
        "w", title=title, authors=authors, year=year, venue=venue, url=url, doi=doi, arxiv=arxiv, type=type, pages=pages
    ),
    LINE, st.lists(NAME, max_size=4), st.integers(1800, 2100) | st.none(), LINE | st.just(""), SCHEMES, DOIS, ARXIVS,
    TYPES, PAGES,
)  # fmt: skip
QUIET = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def told(one: Work, *left_out: str) -> dict:
    return {key: value for key, value in one.plain().items() if key not in ("verification", *left_out)}


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    with contextlib.suppress(DataError):
        call()
    return time.process_time() - start


@given(WORK)
@QUIET
def test_a_work_comes_back_from_bibtex_as_it_went(one: Work):
    assert [told(back) for back in bibtex.read(bibtex.export([one]))] == [told(one)]


@given(WORK)
@QUIET
def test_a_work_comes_back_from_ris_as_it_went(one: Work):
    assert [told(back) for back in ris.read(ris.export([one]))] == [told(one)]


@given(st.lists(WORK, min_size=1, max_size=3))
@QUIET
def test_bibtexparser_and_rispy_find_in_ours_what_we_put_there(works: list[Work]):
    works = [one.model_copy(update={"slug": f"w{n}"}) for n, one in enumerate(works)]
    library = bibtexparser.parse_string(bibtex.export(works))
    assert library.failed_blocks == []
    assert [(entry.key, "title" in entry.fields_dict) for entry in library.entries] == [(w.slug, True) for w in works]
    for entry, one in zip(library.entries, works, strict=True):
        assert set(entry.fields_dict) <= {"title", "author", "year", "journal", "howpublished", "volume", "number",
                                          "pages", "doi", "eprint", "archiveprefix", "url", "pubstate"}  # fmt: skip
        assert bibtex.unescape(entry.fields_dict["title"].value) == one.title
        for name in ("url", "doi"):
            if getattr(one, name) and "{" not in getattr(one, name):
                assert entry.fields_dict[name].value == getattr(one, name)
    entries = rispy.loads(ris.export(works))
    assert [entry["title"] for entry in entries] == [one.title for one in works]
    assert [tuple(entry.get("authors", ())) for entry in entries] == [one.authors for one in works]
    assert [entry.get("doi") for entry in entries] == [one.doi for one in works]


@given(st.lists(st.tuples(LINE, st.lists(NAME, min_size=1, max_size=3), st.integers(1800, 2100)), min_size=1))
@settings(QUIET, max_examples=40)
def test_we_find_in_rispy_s_ris_what_it_put_there(entries: list):
    theirs = [{"type_of_reference": "JOUR", "title": t, "authors": a, "year": str(y)} for t, a, y in entries]
    assert [(one.title, list(one.authors), one.year) for one in ris.read(rispy.dumps(theirs))] == entries


PLAIN = st.text(st.sampled_from("abcÉéñßøłŽ汉🩻 "), min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


@given(st.lists(st.tuples(PLAIN, PLAIN, st.integers(1800, 2100)), min_size=1, max_size=4))
@settings(QUIET, max_examples=40)
def test_we_find_in_bibtexparser_s_bibtex_what_it_put_there(entries: list):
    """With its own LaTeX encoder (pylatexenc), which writes accents as commands."""
    from bibtexparser.middlewares import LatexEncodingMiddleware
    from bibtexparser.model import Entry, Field

    made = [Entry("article", f"k{n}", [Field("title", t), Field("author", f"{a}, X."), Field("year", str(y))])
            for n, (t, a, y) in enumerate(entries)]  # fmt: skip
    text = bibtexparser.write_string(bibtexparser.Library(made), prepend_middleware=[LatexEncodingMiddleware()])
    expected = [(*(unicodedata.normalize("NFC", part) for part in (t, f"{a}, X.")), y) for t, a, y in entries]
    assert [(one.title, one.authors[0], one.year) for one in bibtex.read(text)] == expected


def test_five_hundred_authors_a_consortium_and_others_come_back():
    names = [f"Ünïcøde{n}, Ž. {n}" for n in range(498)] + ["The A and B Consortium", "others"]
    one = work("w", authors=names)
    assert bibtex.read(bibtex.export([one]))[0].authors == tuple(names)
    assert ris.read(ris.export([one]))[0].authors == tuple(names[:-1])  # RIS has no word for et al.
    assert len(rispy.loads(ris.export([one]))[0]["authors"]) == 499


def test_braces_are_balanced_as_bibtex_itself_counts_them():
    """BibTeX counts each brace, a backslash before it or not (btxdoc, section 4)."""
    text = bibtex.export([work("w", title="a { b \\} c", venue="}}{", url="https://e.org/}}@article{evil,title={x}}",
                               authors=["A}, B"], doi="10.1000/x},author={evil")])  # fmt: skip
    depth = [sum(1 if letter == "{" else -1 for letter in text[: n + 1] if letter in "{}") for n in range(len(text))]
    assert min(depth) >= 0
    assert depth[-1] == 0
    assert depth.index(0, text.index("{")) == len(text.rstrip()) - 1  # closed at the end, not before
    (back,) = bibtex.read(text)
    assert (back.title, back.venue, back.authors) == ("a { b \\} c", "}}{", ("A}, B",))
    assert back.url == "https://e.org/%7D%7D@article%7Bevil,title=%7Bx%7D%7D"


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"Jos\'e Mar{\'\i}a \'{A}vila", "José María Ávila"),
        (r"Br\"uel {\"U}ber na\"{\i}ve", "Brüel Über naïve"),
        (r"\v{S}imek \c{c} \c c {\c{C}}a\u{g} \H{o} \k{a} \r{u} \d{s} \=a \.z", "Šimek ç ç Çağ ő ą ů ṣ ā ż"),
        (r"\o re {\O}re Stra\ss e \aa{}rhus \AA ngstr{\"o}m", "øre Øre Straße århus Ångström"),
        (r"\L{}\'od\'z {\AE}on", "Łódź Æon"),
        (r"50\% of R\&D \#1 \$5 a\_b", "50% of R&D #1 $5 a_b"),
        ("pages 1--2 --- ``quoted'' a~b", "pages 1–2 — “quoted” a b"),
        (r"\emph{The} {{ISIC}} {D}ataset", "The ISIC Dataset"),
        (r"\textbackslash{}x \textasciitilde{}y", r"\x ~y"),
    ],
)  # fmt: skip
def test_latex_is_read_as_it_is_printed(latex: str, text: str):
    """By hand, after the tables of accents of the LaTeX companion."""
    assert bibtex.unescape(latex) == text


def test_fields_of_addresses_are_read_as_they_stand():
    (one,) = bibtex.read(
        r"@article{a, title={x}, doi={10.1007/978-3-030-00934-2\_12}, url={https://e.org/\~{}a--b\%20}}"
    )
    assert (one.doi, one.url) == ("10.1007/978-3-030-00934-2_12", "https://e.org/~a--b%20")
    (one,) = bibtex.read(r"@misc{a, title={x}, howpublished={\url{https://e.org/~a_b}}}")
    assert (one.url, one.venue, one.type) == ("https://e.org/~a_b", "", "web")
    (one,) = bibtex.read("@article{a, title={x}, eprint={12345678}, journal={Radiology}}")
    assert (one.arxiv, one.type) == (None, "paper")  # PubMed's number, without a word of it
    (one,) = bibtex.read("@article{a, title={x}, eprint={1705.02315}, journal={CoRR}}")
    assert (one.arxiv, one.type) == ("1705.02315", "preprint")


def test_a_comment_ends_at_its_own_brace_and_one_that_does_not_end_is_said_so():
    found = bibtex.read('@comment{smile :) @article{x,title={not me}} } @preamble("{)}") @article{y, title={me}}')
    assert [one.title for one in found] == ["me"]
    with pytest.raises(DataError, match="@comment is not closed"):
        bibtex.read("@comment{ @article{y, title={me}}")


def test_one_key_twice_makes_two_slugs():
    assert [one.slug for one in bibtex.read("@a{k,title={x}} @a{k-2,title={y}} @a{k,title={z}} @a{k,title={z}}")] == [
        "k", "k-2", "k-3", "k-4",
    ]  # fmt: skip


MACROS = '@string{a0 = "' + "x" * 100 + '"}' + "".join(f"@string{{a{n + 1} = a{n} # a{n}}}" for n in range(60))
HOSTILE: dict[str, tuple[Callable[[str], object], str]] = {
    "a million braces": (bibtex.read, "@article{a, title = {" + "{" * 1_000_000),
    "comments that do not end": (bibtex.read, "@comment{" * 100_000),
    "macros that double": (bibtex.read, MACROS + "@a{k, title = a60}"),
    "a macro many times": (bibtex.read, '@string{m = "' + "x" * 1_000 + '"} @a{k, title = ' + "m # " * 250_000 + "m}"),
    "spaces between authors": (bibtex.read, "@a{k, title = {x}, author = {" + " " * 1_000_000 + "}, year = {9999}}"),
    "spaces after an accent": (bibtex.read, "@a{k, title = {\\'" + " " * 1_000_000 + "}}"),
    "accents without letters": (bibtex.read, "@a{k, title = {" + "\\'{" * 200_000 + "}" * 200_000 + "}}"),
    "one key many times": (bibtex.read, "@a{k,title=1}" * 70_000),
    "many entries": (bibtex.read, "".join(f"@a{{k{n},title=1}}" for n in range(70_000))),
    "an entry without an end": (bibtex.read, "@a{k, title = {x}," + "b = {c}," * 100_000),
    "too long": (bibtex.read, " " * (bibtex.LONGEST + 1)),
    "RIS, lines without a tag": (ris.read, "TY  - JOUR\nTI  - a\n" + "x\n" * 400_000),
    "RIS, many records": (ris.read, "TY  - JOUR\nTI  - a\nER  - \n" * 40_000),
    "RIS, one in another": (ris.read, "TY  - JOUR\n" * 100_000),
    "a wide CSV": (tables.read_csv, ",".join(f"a{n}" for n in range(100_000)) + "\n" + "x\n" * 100_000),
    "a long CSV": (tables.read_csv, "name\n" + "x\n" * 500_000),
    "a CSV of quotes": (tables.read_csv, '"' * 1_000_001),
    "an empty CSV": (tables.read_csv, "\n" * 1_000_000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_ends_in_an_error_of_data_and_does_not_hang(what: str):
    reader, text = HOSTILE[what]
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        reader(text)
    assert time.process_time() - start < 5.0  # a fifth of a second here; what is quadratic takes minutes
    assert len(str(caught.value)) < 300


def test_twice_as_long_a_text_takes_about_twice_as_long():
    for make in (
        lambda n: "@a{k, title={x}, author={A" + " " * n + "B}}",
        lambda n: "@a{k, title={x" + "\\'" * n + "}}",
        lambda n: "@a{k, title={x" + "\\c{ " * n + "}" * n + "}}",
        lambda n: "@a{k, title={x" + "\\c " * n + "}}",
        lambda n: "@a{k, title={x" + "-{}" * n + "}}",
        lambda n: "@a{k" + " " * n + ", title={x}}",
        lambda n: "@a{k, title" + " " * n + "={x}}",
        lambda n: "@" * n + "{",
        lambda n: "@a" * n + "{",
        lambda n: "@a{k, title={x}, url={" + "$ " * n + "}}",
        lambda n: "@a{k, title={x}, howpublished={" + "\\url{" * n + "}" * n + "}}",
    ):
        small = min(seconds(lambda make=make: bibtex.read(make(20_000))) for _ in range(3))
        large = min(seconds(lambda make=make: bibtex.read(make(80_000))) for _ in range(2))
        assert large < max(10 * small, 0.2), make(3)


def test_random_damage_to_real_files_is_read_or_said_and_never_anything_else():
    works = [one for one in seed.read() if isinstance(one, Work)][:12]
    chosen = random.Random(6)
    for form in (bibtex, ris):
        text = form.export(works)
        for _ in range(400):
            a, b = sorted(chosen.sample(range(len(text)), 2))
            b = min(b, a + 40)
            cut = text[:a] + chosen.choice(["", "{", "}", '"', "\\", "@", "\n", "ER  - \n", "\x00", text[a:b][::-1]])
            with contextlib.suppress(DataError):  # and nothing else
                form.read(cut + text[b:])


# -- Croissant


def found_wrong(described: dict) -> list[str]:
    return sorted(mlcroissant.Dataset(jsonld=described).metadata.ctx.issues.errors)


DATASET = st.builds(
    lambda name, description, aliases, year, licences, version, host, modalities: dataset(
        "d", name=name, description=description, aliases=[{"name": one} for one in aliases], year=year, host=host,
        licences=licences, versions=[{"label": version}] if version else [], modalities=modalities, produced_by=["w"],
        cite=["w", "v"], links=[{"relation": "SUBSET_OF", "to": "p"}],
        demographics=[{"attribute": "sex", "completeness": 0.5, "package": "p 1"}],
    ),
    LINE, LINE, st.lists(LINE, max_size=2, unique=True), st.integers(1950, 2100) | st.none(),
    st.lists(st.sampled_from([{"spdx": "CC-BY-NC-4.0"}, {"text": "own terms"}, {"url": "https://e.org/terms"}]),
             max_size=2),
    LINE | st.none(), st.sampled_from(["", "A host"]), st.lists(st.sampled_from(["CR", "CT"]), unique=True),
)  # fmt: skip


@given(DATASET, LINE, st.lists(NAME, max_size=2), st.sampled_from(["", "https://review.example"]))
@settings(QUIET, max_examples=60)
def test_mlcroissant_finds_no_error_in_any_made_up_dataset(one: Dataset, title: str, authors: list, base_url: str):
    works = [work("w", title=title, authors=authors, doi="10.1000/1"), work("v", title=f"{title} 2")]
    types = ("bias", "shortcut", "label_issue", "annotation", "access_change")
    artifacts = [artifact(f"a-{n}", "d", type=type, finding="other", title=title) for n, type in enumerate(types)]
    described = croissant.export(one, artifacts, works, base_url)
    assert found_wrong(described) == []
    again = mlcroissant.Dataset(jsonld=described).metadata.to_json()
    assert again["name"] == one.name
    assert all(f"{title}".rstrip(".") in described["citeAs"] for title in (w.title for w in works))


def test_mlcroissant_reads_the_findings_where_the_vocabulary_has_them():
    records = seed.read()
    works, artifacts = ([r for r in records if isinstance(r, kind)] for kind in (Work, Artifact))
    one = next(r for r in records if r.kind == "dataset" and r.slug == "chexpert")
    about = [a for a in artifacts if any(told.dataset == "chexpert" for told in a.about)]
    metadata = mlcroissant.Dataset(jsonld=croissant.export(one, about, works)).metadata

    def listed(value: object) -> list[str]:  # one value comes back as a scalar
        return [value] if isinstance(value, str) else list(value or ())

    for kinds, texts in (
        (("bias", "shortcut"), listed(metadata.data_biases)),
        (("label_issue", "data_issue", "computed_audit"), listed(metadata.data_limitations)),
        (("annotation",), listed(metadata.data_annotation_analysis)),
    ):
        titles = sorted(a.title for a in about if a.type in kinds)
        assert sorted(next(t for t in titles if text.startswith(t)) for text in texts) == titles
    assert any("Larrazabal" in t or "sex" in t.lower() for t in listed(metadata.data_biases))
    assert not metadata.ctx.is_live_dataset


def test_what_croissant_says_of_licences_lineage_dates_and_use():
    one = dataset("child", licences=[{"spdx": "CC-BY-NC-4.0"}, {"of": "labels", "text": "own terms"}], year=2019,
                  links=[{"relation": "DERIVED_FROM", "to": "parent"}, {"relation": "SUBSET_OF", "to": "parent"},
                         {"relation": "SHARES_PATIENTS_WITH", "to": "other"}])  # fmt: skip
    described = croissant.export(one, [], [], "https://review.example/")
    parent = croissant.export(dataset("parent"), [], [], "https://review.example/")
    assert described["prov:wasDerivedFrom"] == [{"@id": parent["@id"]}]
    assert described["license"] == ["https://spdx.org/licenses/CC-BY-NC-4.0.html", "own terms"]
    assert [term["termCode"] for term in described["usageInfo"]] == ["DUO_0000018"]
    assert described["datePublished"] == "2019"  # no day that nobody said
    assert "usageInfo" not in parent
    assert "datePublished" not in parent
    assert found_wrong(described) == []


# -- tables


@given(
    st.lists(LINE | st.sampled_from(["=1+1", "'=1", "''@x", "'quoted'", "+", "-1", "\uff1d1"]), min_size=1, max_size=4)
)
@settings(QUIET, max_examples=80)
def test_no_cell_is_a_formula_and_reading_gives_back_what_was_there(names: list[str]):
    text = tables.csv_of([dataset(f"d{n}", name=name) for n, name in enumerate(names)])
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")]
    assert [row["name"] for row in tables.read_csv(text)] == names


def test_a_table_with_columns_of_its_own_names_is_read_by_a_mapping():
    assert tables.read_csv("Dataset name,N,,\nOne,3,,\n", {"Dataset name": "name", "N": "images"}) == [
        {"name": "One", "images": "3"}
    ]
    with pytest.raises(DataError, match="the header names 'name' twice"):
        tables.read_csv("Dataset,name\na,b\n", {"Dataset": "name"})
    with pytest.raises(DataError, match="row 3: has 1 cells; the header has 2"):
        tables.read_csv("a,b\n1,2\n\n3\n")


# -- GraphML


@given(st.lists(LINE | st.sampled_from(['<&">', "]]>", "a\uffffb", "\ufffe"]), min_size=2, max_size=5), st.data())
@settings(QUIET, max_examples=60)
def test_networkx_reads_every_node_and_edge_of_the_graph(titles: list[str], data: st.DataObject):
    nodes = [Node(n, "dataset", f"d{n}", title, "dataset", "dataset") for n, title in enumerate(titles)]
    ends = st.integers(0, len(nodes))  # the last is no node
    edges = data.draw(st.lists(st.builds(Edge, ends, st.sampled_from(["USE", "EXTEND"]), ends), max_size=6))
    graph = networkx.parse_graphml(graphml.export(nodes, edges), force_multigraph=True)
    there = [e for e in edges if max(e.subject, e.object) < len(nodes)]
    assert sorted((a, b, d["verb"]) for a, b, d in graph.edges(data=True)) == sorted(
        (f"dataset:d{e.subject}", f"dataset:d{e.object}", e.verb) for e in there
    )
    for n, title in enumerate(titles):
        clean = title.replace("\uffff", "\ufffd").replace("\ufffe", "\ufffd")
        assert graph.nodes[f"dataset:d{n}"]["title"] == clean


def test_graphml_leaves_the_prefixes_of_other_xml_alone():
    before = dict(ElementTree._namespace_map)
    graphml.export([Node(1, "work", "w", "t", "work", "work")], [])
    assert dict(ElementTree._namespace_map) == before


def test_json_of_the_whole_seed_is_the_same_after_a_round():
    for one in seed.read():
        assert json.loads(json.dumps(one.plain(), ensure_ascii=False)) == one.plain()
