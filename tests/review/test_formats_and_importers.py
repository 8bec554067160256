"""Formats: what we write others read, what they write we read; catalogues counted by another program; hostile files."""

from __future__ import annotations

import csv
import gc
import io
import json
import logging
import time
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import mlcroissant
import networkx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from made_reviews import artifact, dataset, publish, work

from medaudit.errors import DataError, UsageError
from medaudit.review import exports, seed
from medaudit.review.formats import bibtex, croissant, ris, tables
from medaudit.review.importers import bibliography, idc, table
from medaudit.review.importers import croissant as croissant_in
from medaudit.review.records import Artifact, Dataset, Work, parse

logging.getLogger("absl").setLevel(logging.ERROR)
_TURNS = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x7F, 0x85, 0xA0, 0x2028, 0x2029)))
_LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters=_TURNS)
LINE = st.text(_LETTERS, min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)
NAME = st.builds(lambda a, b: f"{a}, {b}", LINE.filter(lambda t: "," not in t and ";" not in t), LINE.filter(
    lambda t: "," not in t and ";" not in t))  # fmt: skip


def validated(described: dict) -> list[str]:
    return list(mlcroissant.Dataset(jsonld=described).metadata.ctx.issues.errors)


def test_mlcroissant_finds_no_error_in_any_record_of_the_seed():
    records = seed.read()
    works = [one for one in records if isinstance(one, Work)]
    artifacts = [one for one in records if isinstance(one, Artifact)]
    datasets = [one for one in records if isinstance(one, Dataset)]
    assert len(datasets) > 40
    for one in datasets:
        about = [other for other in artifacts if any(told.dataset == one.slug for told in other.about)]
        described = croissant.export(one, about, works)
        assert validated(described) == [], one.slug
        told = [
            text
            for key, texts in described.items()
            if key.startswith("rai:")
            for text in texts
            if isinstance(texts, list)
        ]
        for other in about:
            if other.type in ("shortcut", "bias", "label_issue", "data_issue"):
                assert any(text.startswith(other.title) for text in told)
        needed = [other for other in works if other.slug in one.cite]
        assert all(other.title.rstrip(".") in described["citeAs"] for other in needed)


@given(LINE, LINE, st.lists(LINE, max_size=3, unique=True), st.integers(1950, 2100) | st.none())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_mlcroissant_finds_no_error_in_made_up_records_and_we_read_them_back(name, description, aliases, year):
    one = dataset("x", name=name, description=description, aliases=[{"name": a} for a in aliases], year=year,
                  licences=[{"spdx": "CC-BY-4.0"}], homepage="https://example.org/x")  # fmt: skip
    described = croissant.export(one, [artifact("y", "x", title=name)], [])
    assert validated(described) == []
    back = croissant_in.read_text(json.dumps(described))[0]
    assert (back.name, back.year, back.homepage) == (one.name, one.year, one.homepage)
    assert [a.name for a in back.aliases] == aliases
    assert back.licences[0].spdx == "CC-BY-4.0"


def test_a_value_and_a_list_of_one_value_are_the_same_to_the_importer():
    plain = {"@type": "sc:Dataset", "name": "N", "license": "https://spdx.org/licenses/MIT.html", "alternateName": "A"}
    listed = {"@type": ["https://schema.org/Dataset"], "https://schema.org/name": ["N"],
              "sc:license": [{"@id": "https://spdx.org/licenses/MIT.html"}], "sc:alternateName": ["A"]}  # fmt: skip
    assert croissant_in.read_text(json.dumps(plain)) == croissant_in.read_text(json.dumps(listed))


@given(st.lists(st.builds(lambda t, a, y, v, p: work("w", title=t, authors=a, year=y, venue=v, pages=p), LINE,
       st.lists(NAME, max_size=5), st.integers(1800, 2100) | st.none(), LINE,
       st.sampled_from(["", "1-9", "e12", "100-101"])), min_size=1, max_size=3))  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_bibtex_and_ris_come_back_as_they_went(works):
    def told(one: Work) -> tuple:
        return one.title, one.authors, one.year, one.venue, one.pages, one.doi, one.arxiv

    nfc = [(parse(json.loads(json.dumps(one.plain())))) for one in works]
    for form in (ris, bibtex):
        back = form.read(form.export(nfc))
        import unicodedata

        expected = [json.loads(unicodedata.normalize("NFC", json.dumps(told(one), ensure_ascii=False))) for one in nfc]
        found = [json.loads(unicodedata.normalize("NFC", json.dumps(told(one), ensure_ascii=False))) for one in back]
        assert found == expected, form.__name__


def test_others_read_our_bibtex_and_ris_of_the_whole_seed():
    import bibtexparser
    import rispy

    works = [one for one in seed.read() if isinstance(one, Work)]
    library = bibtexparser.parse_string(bibtex.export(works))
    assert library.failed_blocks == []
    assert [entry.key for entry in library.entries] == [one.slug for one in works]
    by_key = {entry.key: entry.fields_dict for entry in library.entries}
    for one in works:
        assert by_key[one.slug]["doi"].value == one.doi if one.doi else "doi" not in by_key[one.slug]
        count = by_key[one.slug]["author"].value.count(" and ") + 1 if one.authors else 0
        assert count >= len(one.authors)
    entries = rispy.loads(ris.export(works))
    assert [entry["title"] for entry in entries] == [" ".join(one.title.split()) for one in works]
    assert [entry.get("authors", []) for entry in entries] == [
        [name for name in one.authors if name != "others"] for one in works
    ]


def test_we_read_bibtex_as_it_is_found_in_the_wild():
    text = r"""
% a comment
@string{nat = "Nature" # " Medicine"}
@comment{nothing @article{x, title={y}}}
@Article{ Muller:2020,
  author    = {M{\"u}ller, J{\"o}rg and {\'A}lvarez Garc{\'\i}a, Bego{\~n}a
    and {van der Berg and Sons} and \v{S}imek, V.},
  title     = "The {X}-ray of \emph{things} {\&} more \ss, 50\% \textbackslash",
  journal   = nat,  year = 2020, pages = {12--34}, doi = {https://doi.org/10.1038/ABC.1},
}
@inproceedings(k2, title = {Second}, year = "in 1999")
@misc{k3, title={Third}, eprint={2501.10727v2}, archivePrefix={arXiv}, url={https://arxiv.org/abs/2501.10727}}
"""
    first, second, third = bibtex.read(text)
    assert first.authors == ("Müller, Jörg", "Álvarez García, Begoña", "van der Berg and Sons", "Šimek, V.")
    assert first.title.startswith("The X-ray of things & more ß, 50%")
    assert (first.venue, first.year, first.pages, first.doi) == ("Nature Medicine", 2020, "12-34", "10.1038/abc.1")
    assert (second.title, second.year) == ("Second", 1999)
    assert (third.type, third.arxiv) == ("preprint", "2501.10727v2")


@pytest.fixture
def alone():
    """What other tests left in memory is not gone through while this one reads: a second, after some thousands."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (bibtex.read, "@article{a, title = {" + "{" * 500_000),
        (bibtex.read, "@article{a, title = " + '"' * 400_001),
        (bibtex.read, "@article{a" + " " * 1_000_000),
        (bibtex.read, "@article{a, b " + "=" * 1_000_000),
        (bibtex.read, "@article{a, title={" + "\\'" * 300_000 + "}}"),
        (ris.read, "TY  - JOUR\n" + "AU  - x\n" * 100_000),
        (ris.read, "ER  - \n"),
        (croissant_in.read_text, "[" * 1_000_000),
        (croissant_in.read_text, '{"a":' * 100_000 + "1" + "}" * 100_000),
        (croissant_in.read_text, "{}"),
        (croissant_in.read_text, "null"),
        (table.read_text, "kind,slug\ndataset"),
        (table.read_text, 'kind,slug\n"dataset'),
        (table.read_text, "kind,slug,colour\ndataset,x,red"),
    ],
)
def test_a_hostile_or_broken_file_is_said_so_within_a_second(reader, text, alone):
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        reader(text)
    assert time.process_time() - start < 1.5
    assert len(str(caught.value)) < 400


def test_a_large_file_of_nothing_is_read_within_a_second(alone):
    start = time.process_time()
    assert bibtex.read("@" * 1_000_000 + "{") == []
    assert bibtex.read("@article{a, title={x}, author={" + " and" * 250_000 + "}}")[0].title == "x"
    assert time.process_time() - start < 3


def test_json_ld_never_leads_anywhere(monkeypatch):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    text = json.dumps({"@context": "https://evil.example/context.jsonld", "@type": "sc:Dataset", "name": "N",
                       "url": "https://evil.example/x"})  # fmt: skip
    assert croissant_in.read_text(text)[0].homepage == "https://evil.example/x"


def test_a_table_is_read_row_by_row_and_a_mistake_names_its_row(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(
        "kind,slug,name,modalities,year,images,source\ndataset,one,One,CR;CT,2019,\"1,200\",https://example.org/a\n"
        "dataset,two,'=Two,,,,\n", encoding="utf-8-sig"
    )  # fmt: skip
    one, two = table.read(file)
    assert (one.modalities, one.year, one.facts[0].value) == (("CR", "CT"), 2019, 1200)
    assert two.name == "=Two"
    file.write_text("kind,slug,name,year\ndataset,one,One,soon\n")
    with pytest.raises(DataError, match=r"t\.csv: row 2: year is 'soon'"):
        table.read(file)
    with pytest.raises(UsageError, match=r"\.bib or \.ris"):
        bibliography.read(file)


def test_csv_cells_cannot_become_formulas_and_nothing_else_changes():
    records = [
        dataset("a", name="=HYPERLINK(1)", description="@x"),
        work("w", title="+1"),
        artifact("b", "a", title="-2"),
    ]
    rows = list(csv.DictReader(io.StringIO(tables.csv_of([*records, dataset("c", name='Plain, "quoted"')]))))
    assert [row["name"] for row in rows] == ["'=HYPERLINK(1)", "'+1", "'-2", 'Plain, "quoted"']
    assert rows[0]["text"] == "'@x"


def test_networkx_reads_the_graph_and_finds_its_edges(db, staff):
    publish(db, staff["contributor"], staff["reviewer"], work("w", title="<&\">"), dataset("a", produced_by=["w"]),
            artifact("x", "a", works=["w"]))  # fmt: skip
    with db.reading() as connection:
        graph = networkx.parse_graphml(exports.text(connection, "graphml", []))
    assert {(a, b, data["verb"]) for a, b, data in graph.edges(data=True)} == {
        ("work:w", "dataset:a", "PRODUCE"), ("artifact:x", "dataset:a", "EXTEND"), ("work:w", "artifact:x", "SOURCE")
    }  # fmt: skip
    assert graph.nodes["work:w"]["title"] == '<&">'


@pytest.fixture(scope="module")
def imported():
    return idc.read()


def test_idc_has_its_collections_results_edges_and_sources(imported):
    import importlib.metadata

    counts = Counter(one.kind for one in imported)
    assert counts == {"dataset": 179, "artifact": 26, "work": 242}
    edges = {(one.slug, told.dataset) for one in imported if one.kind == "artifact" for told in one.about}
    assert (len(edges), len({dataset_ for _, dataset_ in edges})) == (92, 55)
    files = importlib.metadata.distribution("idc-index-data").files
    path = next(f.locate() for f in files if f.name == "collections_index.parquet")
    frame = pl.read_parquet(Path(path)).to_dicts()
    sources = [(row["collection_id"], source) for row in frame for source in row["sources"]]
    assert len(sources) == 308
    kinds = Counter(source["source_type"] for _, source in sources)
    assert kinds == {"original_data": 216, "analysis_result": 92}
    by_slug = {one.slug: one for one in imported}
    for row in frame:
        one = by_slug[idc.slug(row["collection_id"])]
        assert one.facts[0].value == row["subjects"]
        assert [licence.text for licence in one.licences] == [s["license"]["license_long_name"] for s in row["sources"]]
    original = Counter(
        next(s["license"]["license_short_name"] for s in row["sources"] if s["source_type"] == "original_data")
        for row in frame
    )
    assert sorted(original.values()) == [1, 4, 5, 77, 92]  # one collection has a second original licence, CC BY 3.0
    mixed = [one for one in imported if one.kind == "dataset" and len({lic.text for lic in one.licences}) > 1]
    assert len(mixed) == 39


def test_idc_s_html_is_gone_and_its_demographics_are_counted(imported):
    datasets = [one for one in imported if one.kind == "dataset"]
    for one in imported:
        for text in (getattr(one, "title", ""), getattr(one, "description", ""), getattr(one, "summary", "")):
            assert "<i>" not in text
            assert "&amp;" not in text
    shares = {
        attribute: [next(e.completeness for e in one.demographics if e.attribute == attribute) for one in datasets
                    if any(e.attribute == attribute for e in one.demographics)]
        for attribute in ("sex", "age")
    }  # fmt: skip
    assert sum(share == 0 for share in shares["sex"]) + 179 - len(shares["sex"]) == 29
    assert sum(share == 0 for share in shares["age"]) + 179 - len(shares["age"]) == 55


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("Hugo, G. D., &amp; Weiss <i>x</i>\n(2016).", "Hugo, G. D., & Weiss x (2016)."),
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "alert(1)"),
        ("&amp;lt;b&amp;gt;bold", "bold"),
        ("a < b and c > d", "a < b and c > d"),
        (None, ""),
    ],
)
def test_html_of_a_citation_becomes_text(marked, plain):
    assert idc.plain_text(marked) == plain


def test_an_import_is_proposed_and_published_like_anything_else(db, staff, imported):
    publish(db, staff["contributor"], staff["reviewer"], *imported)
    with db.reading() as connection:
        described = json.loads(exports.text(connection, "croissant", ["nlst"]))
        assert described["name"] == "NLST (IDC)"
        assert validated(described) == []
