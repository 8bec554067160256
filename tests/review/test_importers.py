"""Importers: IDC counted again by pandas, number by number; Croissant, bibliographies and tables; hostile files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlcroissant
import pandas as pd
import polars as pl
import pytest
from made_reviews import dataset, publish, work

from medaudit.errors import DataError, UsageError
from medaudit.review.formats import bibtex, croissant, ris
from medaudit.review.importers import bibliography, idc, table
from medaudit.review.importers import croissant as croissant_in
from medaudit.review.records import Artifact, Dataset, Record, Work

logging.getLogger("absl").setLevel(logging.ERROR)


def _has_idc() -> bool:
    try:
        return importlib.metadata.version("idc-index-data") == "25.0.5"
    except importlib.metadata.PackageNotFoundError:
        return False


needs_idc = pytest.mark.skipif(not _has_idc(), reason="needs idc-index-data 25.0.5, whose numbers these are")


def parquet(name: str, columns: list[str]) -> pd.DataFrame:
    files = importlib.metadata.files("idc-index-data") or []
    path = Path(str(next(f.locate() for f in files if f.name == name)))
    # Polars only decodes the file (pandas would need pyarrow); what is counted below is counted by pandas.
    return pd.DataFrame(pl.read_parquet(path, columns=columns).to_dict(as_series=False))


@pytest.fixture(scope="module")
def imported() -> list[Record]:
    return idc.read()


@pytest.fixture(scope="module")
def sources() -> pd.DataFrame:
    """IDC's 308 sources, a row each."""
    frame = parquet("collections_index.parquet", ["collection_id", "sources"]).explode("sources", ignore_index=True)
    return pd.concat([frame[["collection_id"]], pd.json_normalize(frame["sources"].tolist())], axis=1)


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """What the original series say of each collection's patients."""
    columns = ["collection_id", "PatientID", "PatientSex", "PatientAge", "analysis_result_id"]
    series = parquet("idc_index.parquet", columns)
    series = series[series["analysis_result_id"].isna()]
    series = series.assign(
        known=series["PatientSex"].isin(["M", "F"]),
        aged=series["PatientAge"].astype("str").str.fullmatch(r"\d{3}[DWMY]"),
    )
    grouped = series.groupby(["collection_id", "PatientID"], sort=False)
    return grouped.agg(sex=("known", "any"), age=("aged", "any"), first=("PatientSex", "first")).reset_index()


def of(records: list[Record], kind: type) -> list:
    return [one for one in records if isinstance(one, kind)]


@needs_idc
def test_idc_has_179_collections_26_results_92_edges_on_55_and_242_sources_in_308_rows(imported, sources):
    assert Counter(one.kind for one in imported) == {"dataset": 179, "artifact": 26, "work": 242}
    edges = {(a.slug, about.dataset) for a in of(imported, Artifact) for about in a.about}
    assert (len(edges), len({about for _, about in edges})) == (92, 55)
    assert all(about.verb == "EXTEND" for a in of(imported, Artifact) for about in a.about)
    results = parquet("analysis_results_index.parquet", ["analysis_result_id", "collections"])
    assert edges == {
        (idc.slug(row.analysis_result_id), idc.slug(name.strip()))
        for row in results.itertuples()
        for name in row.collections.split(",")
    }
    assert len(sources) == 308
    assert sources["source_type"].value_counts().to_dict() == {"original_data": 216, "analysis_result": 92}
    assert {one.doi for one in of(imported, Work)} == set(sources["source_doi"].str.lower())
    assert sum(len(one.licences) for one in of(imported, Dataset)) == 308


@needs_idc
def test_idc_licences_are_those_of_each_source(imported, sources):
    short = "license.license_short_name"
    by_collection = sources[sources["source_type"] == "original_data"].groupby("collection_id")[short].unique()
    original = Counter(name for names in by_collection for name in names)
    terms = "National Library of Medicine Terms and Conditions; May 21, 2019"
    assert original == {"CC BY 4.0": 92, "CC BY 3.0": 78, "CC BY-NC 4.0": 5, "CC BY-NC 3.0": 4, terms: 1}
    ours = Counter()
    for one in of(imported, Dataset):
        own = sources[sources["collection_id"] == one.identifiers[0].value]
        assert [lic.url for lic in one.licences] == own["license.license_url"].tolist()
        kinds = own["source_type"].tolist()
        ours.update({lic.spdx for lic, kind in zip(one.licences, kinds, strict=True) if kind == "original_data"})
    assert ours == {"CC-BY-4.0": 92, "CC-BY-3.0": 78, "CC-BY-NC-4.0": 5, "CC-BY-NC-3.0": 4, None: 1}
    assert sum(len({lic.url for lic in one.licences}) > 1 for one in of(imported, Dataset)) == 39


@needs_idc
def test_idc_s_demographics_are_as_complete_as_pandas_finds_them(imported, patients):
    shares = patients.groupby("collection_id")[["sex", "age"]].mean()
    assert len(patients) == 86_451
    found = {
        attribute: {one.identifiers[0].value: entry.completeness for one in of(imported, Dataset)
                    for entry in one.demographics if entry.attribute == attribute}
        for attribute in ("sex", "age")
    }  # fmt: skip
    for attribute in ("sex", "age"):
        assert found[attribute] == {name: round(float(v), 6) for name, v in shares[attribute].items()}
    assert [sum(share == 0 for share in found[name].values()) for name in ("sex", "age")] == [29, 55]
    # A patient of whom a later series says M or F is known to us: the specification counts 89 by the first value.
    assert [sum(share >= 0.95 for share in found[name].values()) for name in ("sex", "age")] == [92, 60]
    first = patients["first"].isin(["M", "F"])
    assert (first.groupby(patients["collection_id"]).mean() >= 0.95).sum() == 89
    assert round(100 * first.mean(), 1) == 45.2
    assert round(100 * (patients.loc[first, "first"] == "M").mean(), 1) == 36.6
    assert round(100 * patients["sex"].mean(), 1) == 45.6
    assert round(100 * patients["age"].mean(), 1) == 31.5
    assert {entry.verification for one in of(imported, Dataset) for entry in one.demographics} == {"computed"}


@needs_idc
def test_idc_s_patients_and_manufacturers(imported, patients):
    numbers = {one.slug: one.facts[0].value for one in of(imported, Dataset)}
    assert (numbers["idc-nlst"], numbers["idc-cbis-ddsm"]) == (26_410, 6_671)
    rows = parquet("collections_index.parquet", ["collection_id", "subjects"]).itertuples()
    assert numbers == {idc.slug(row.collection_id): row.subjects for row in rows}
    nlst = next(one for one in of(imported, Dataset) if one.slug == "idc-nlst")
    assert round(100 * nlst.demographics[0].completeness, 1) == 1.7
    assert {lic.spdx for lic in nlst.licences} == {"CC-BY-4.0", "CC-BY-3.0"}
    series = parquet("idc_index.parquet", ["collection_id", "Manufacturer", "analysis_result_id"])
    makers = series[series["analysis_result_id"].isna()].groupby("collection_id")["Manufacturer"].nunique()
    assert ((makers == 1).sum(), makers.median()) == (45, 3)


@needs_idc
def test_idc_s_html_is_gone_from_every_text(imported, sources):
    marked = re.compile(r"</?[A-Za-z][^>]*>|&(?:[A-Za-z]+|#\d+);")
    assert sources["citation"].str.contains(marked).sum() == 307

    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in texts(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    for one in imported:
        assert not [text for text in texts(one.plain()) if marked.search(text) or "\n" in text], one.slug


@needs_idc
def test_idc_s_records_are_imported_and_not_curated(imported):
    assert all(one.slug.startswith("idc-") for one in imported)
    assert not any(one.curated for one in of(imported, Dataset))
    assert {one.verification for one in imported if not isinstance(one, Dataset)} == {"imported"}
    assert {fact.verification for one in of(imported, Dataset) for fact in one.facts} == {"imported"}
    assert Counter(one.venue for one in of(imported, Work)) == {
        "The Cancer Imaging Archive": 152, "Zenodo": 89, "": 1,
    }  # fmt: skip
    assert all(one.authors and one.year for one in of(imported, Work))
    assert not [name for one in of(imported, Work) for name in one.authors if "…" in name or "&" in name or ";" in name]


@needs_idc
def test_idc_is_proposed_published_and_exported_without_an_error(db, staff, imported):
    publish(db, staff["contributor"], staff["reviewer"], *imported)
    works, artifacts = of(imported, Work), of(imported, Artifact)
    for one in of(imported, Dataset):
        about = [a for a in artifacts if any(told.dataset == one.slug for told in a.about)]
        described = croissant.export(one, about, works)
        assert not mlcroissant.Dataset(jsonld=described).metadata.ctx.issues.errors, one.slug
    assert [one.doi for one in bibtex.read(bibtex.export(works))] == [one.doi for one in works]
    assert [one.authors for one in bibtex.read(bibtex.export(works))] == [one.authors for one in works]


@pytest.mark.parametrize(
    ("citation", "names"),
    [
        ("Hugo, G. D., Weiss, E., & Li, X. (2016). T.", ["Hugo, G. D.", "Weiss, E.", "Li, X."]),
        ("Bloch, B. N., Jain, A., & jaffe, conrade carl. (2015).", ["Bloch, B. N.", "Jain, A.", "jaffe, conrade carl"]),
        ("Feng, S.-ting, Chen, M.-hu, & Chen, J. (2022).", ["Feng, S.-ting", "Chen, M.-hu", "Chen, J."]),
        ("Armato III, Samuel G., Van Beek, E. J. R., … Clarke, L. P. (2015).",
         ["Armato III, Samuel G.", "Van Beek, E. J. R.", "Clarke, L. P.", "others"]),
        ("Armato III, Samuel G.; Hadjiiski, Lubomir (2015).", ["Armato III, Samuel G.", "Hadjiiski, Lubomir"]),
        ("The Cancer (CPTAC) Network. (2024).", ["The Cancer (CPTAC) Network"]),
        ("Deepa Krishnaswamy, David Clunie, & Andrey Fedorov. (2023).",
         ["Deepa Krishnaswamy", "David Clunie", "Andrey Fedorov"]),
        ("", []),
    ],
)  # fmt: skip
def test_names_of_a_citation_by_hand(citation, names):
    assert idc._authors(citation) == names


@pytest.mark.parametrize("text", ["<" * 50_000 + "i>" * 50_000, "&" + "amp;" * 50_000 + "lt;b>", "&lt;" * 50_000])
def test_tags_in_tags_leave_no_tag_and_take_no_time(text):
    start = time.process_time()
    assert not re.search(r"<[A-Za-z/]", idc.plain_text(text))
    assert time.process_time() - start < 1.0


def test_idc_that_is_missing_or_broken_is_said_so_with_how_to_get_it(monkeypatch, tmp_path):
    for name in ("collections_index.parquet", "idc_index.parquet", "analysis_results_index.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(DataError, match=r"'collections_index\.parquet' cannot be read"):
        idc.read(tmp_path)
    with pytest.raises(DataError, match="pip install idc-index-data"):
        idc.read(tmp_path / "nowhere")

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(DataError, match="pip install idc-index-data"):
        idc.read()


# -- Croissant

SAMPLE = {
    "@context": {"@vocab": "https://schema.org/"}, "@type": "sc:Dataset", "name": "Head MRI",
    "description": "Two slices.", "url": "https://zenodo.org/records/16956", "version": "1.0",
    "license": "https://creativecommons.org/licenses/by/4.0/", "datePublished": "2015-04-28T00:00:00Z",
    "sameAs": "https://doi.org/10.5281/ZENODO.16956", "alternateName": "head-mri", "publisher": "Zenodo",
    "keywords": "segmentation", "rai:dataBiases": "One scanner.", "rai:dataLimitations": "Two slices.",
    "citeAs": "@misc{roelofs2015, title={Head {MRI}}, author={R{\\\"o}lofs, A.}, year=2015}",
}  # fmt: skip


def test_a_croissant_file_becomes_a_dataset_and_the_works_to_cite(tmp_path):
    file = tmp_path / "croissant.json"
    file.write_text(json.dumps(SAMPLE), encoding="utf-8-sig")
    one, cited = croissant_in.read(file)
    assert (one.slug, one.year, one.host, one.tasks) == ("head-mri", 2015, "Zenodo", ("segmentation",))
    assert [(i.scheme, i.value) for i in one.identifiers] == [("doi", "10.5281/zenodo.16956")]
    assert one.licences[0].spdx == "CC-BY-4.0"
    assert "dataBiases: One scanner." in one.description
    assert "dataLimitations: Two slices." in one.description
    assert one.produced_by == one.cite == (cited.slug,) == ("head-mri-roelofs2015",)
    assert (cited.title, cited.authors, cited.year) == ("Head MRI", ("Rölofs, A.",), 2015)


def test_scalars_lists_full_names_and_a_graph_say_the_same():
    expected = croissant_in.read_text(json.dumps(SAMPLE))
    listed = {key: value if key == "@context" else [value] for key, value in SAMPLE.items()}
    long = {
        key.replace("rai:", "http://mlcommons.org/croissant/RAI/") if key.startswith("rai:")
        else key if key.startswith("@") else "http://mlcommons.org/croissant/citeAs" if key == "citeAs"
        else f"https://schema.org/{key}": {"@value": value} if key == "description" else value
        for key, value in SAMPLE.items()
    }  # fmt: skip
    graph = {"@context": {}, "@graph": [{"@type": "sc:Person", "name": "x"}, SAMPLE]}
    for form in (listed, long, graph):
        assert croissant_in.read_text(json.dumps(form)) == expected


def test_what_mlcroissant_writes_again_of_ours_is_read_alike():
    one = dataset("x", name="X", description="About x.", year=2019, licences=[{"spdx": "CC-BY-4.0"}],
                  homepage="https://example.org/x", aliases=[{"name": "Y"}], versions=[{"label": "2"}])  # fmt: skip
    ours = croissant.export(one, [], [work("w")])
    theirs = mlcroissant.Dataset(jsonld=ours).metadata.to_json()
    first, second = (croissant_in.read_text(json.dumps(text, default=str))[0] for text in (ours, theirs))
    assert first == second
    assert (first.name, first.year, first.licences[0].spdx) == ("X", 2019, "CC-BY-4.0")


@pytest.mark.parametrize(
    ("said", "spdx"),
    [
        ("cc-by-sa-4.0", "CC-BY-SA-4.0"), ("CC BY 4.0", "CC-BY-4.0"), ("mit", "MIT"), ("odbl-1.0", "ODbL-1.0"),
        ("https://spdx.org/licenses/CC0-1.0.html", "CC0-1.0"), ("other", None), ("unknown", None),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode", "CC-BY-NC-SA-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://choosealicense.com/licenses/apache-2.0/", "Apache-2.0"),
        ("https://choosealicense.com/licenses/undefined/", None),
        ("https://evil.example/?creativecommons.org/licenses/by/4.0/", None),
        ("https://creativecommons.org.evil.example/licenses/by/4.0/", None),
        ("https://physionet.org/about/licenses/", None),
    ],
)  # fmt: skip
def test_a_licence_is_known_by_its_name_or_its_own_address(said, spdx):
    assert croissant_in.read_text(json.dumps(SAMPLE | {"license": said}))[0].licences[0].spdx == spdx


def test_nothing_is_looked_up_whatever_the_context_says(monkeypatch):
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: pytest.fail("asked for an address"))
    for context in ("https://evil.example/c.jsonld", ["http://169.254.169.254/", {"@import": "file:///etc/passwd"}]):
        found = croissant_in.read_text(json.dumps(SAMPLE | {"@context": context, "url": "javascript:alert(1)"}))
        assert found[0].homepage is None


def test_bibtex_that_cannot_be_read_stays_a_text_and_makers_are_kept():
    made = SAMPLE | {"citeAs": "@misc{a, title={", "creator": [{"name": "A"}, {"@type": "sc:Person", "name": "B"}]}
    (one,) = croissant_in.read_text(json.dumps(made))
    assert one.produced_by == ()
    assert "citeAs: @misc{a, title={" in one.description
    assert "creator: A; B" in one.description


def nested(n: int) -> str:
    return '{"@type": "sc:Dataset", "name": "n", "x": ' + "[" * n + "]" * n + "}"


def test_brackets_in_texts_are_no_nesting():
    assert croissant_in.read_text(json.dumps(SAMPLE | {"x": "[" * 1_000 + '\\"{' * 1_000}))
    assert croissant_in.read_text(nested(croissant_in.DEEPEST - 1))
    with pytest.raises(DataError, match="nested more than 100 deep"):
        croissant_in.read_text(nested(croissant_in.DEEPEST))


CSV = "kind,slug,name,year,images,source\ndataset,a,b,"
HOSTILE: dict[str, tuple[Callable[[str], object], Callable[[], str]]] = {
    "deep": (croissant_in.read_text, lambda: nested(100_000)),
    "deep and open": (croissant_in.read_text, lambda: "[" * 15_000_000),
    "deep objects": (croissant_in.read_text, lambda: '{"a":' * 1_000_000),
    "many brackets": (croissant_in.read_text, lambda: "[" + "[]," * 4_000_000),
    "many texts": (croissant_in.read_text, lambda: "[" + '"",' * 6_000_000),
    "quotes": (croissant_in.read_text, lambda: '"' * 5_000_001),
    "guarded quotes": (croissant_in.read_text, lambda: '"' + '\\"' * 3_000_000),
    "backslashes": (croissant_in.read_text, lambda: "\\" * 5_000_000),
    "not a number": (croissant_in.read_text, lambda: json.dumps(SAMPLE | {"version": float("nan")})),
    "a long number": (croissant_in.read_text, lambda: '{"version": ' + "9" * 1_000_000 + "}"),
    "half a character": (croissant_in.read_text, lambda: '{"@type": "sc:Dataset", "name": "\\ud800"}'),
    "a mark that turns": (croissant_in.read_text, lambda: json.dumps(SAMPLE | {"name": "a\u202eb"})),
    "a list": (croissant_in.read_text, lambda: "[1]"),
    "nothing": (croissant_in.read_text, lambda: ""),
    "a type that is none": (croissant_in.read_text, lambda: '{"@type": {"a": []}, "name": {"b": 1}}'),
    "a year that is none": (table.read_text, lambda: CSV + "\u00b2,,"),
    "a year of many digits": (table.read_text, lambda: CSV + "9" * 100_000 + ",,"),
    "images without a source": (table.read_text, lambda: CSV + "2019,3,"),
    "a column nobody knows": (table.read_text, lambda: "kind,slug," + "x" * 100_000 + "\ndataset,a,b"),
    "a kind nobody knows": (table.read_text, lambda: "kind,slug\n" + "x" * 100_000 + ",b"),
    "zeros": (table.read_text, lambda: "kind,slug\n" + "\x00" * 1_000 + ",b"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_text_ends_in_an_error_of_data_within_a_second(what: str):
    reader, make = HOSTILE[what]
    text = make()
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        reader(text)
    assert time.process_time() - start < 1.0
    assert len(str(caught.value).encode("utf-8", "replace")) < 700


@pytest.mark.parametrize(
    "field", ["keywords", "license", "alternateName", "sameAs", "description", "citeAs", "version"]
)
def test_a_field_of_any_shape_is_read_or_said(field: str):
    shapes = (None, True, 1, 1e999, "x" * 3_000, [], [[]], [[["a"]]], {}, {"name": {}}, {"@id": 3}, [None], [{}, "a"],
              "10.1234/" * 50_000, ["a"] * 50_000, "<script>alert(1)</script>", "https://e.org/a b",
              "https://[")  # fmt: skip
    for shape in shapes:
        start = time.process_time()
        with contextlib.suppress(DataError):  # and nothing else
            croissant_in.read_text(json.dumps(SAMPLE | {field: shape}).replace("Infinity", "1e999"))
        assert time.process_time() - start < 1.0


# -- files


def test_a_file_is_read_up_to_its_limit_and_a_mistake_names_it(tmp_path: Path):
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(bibliography.LARGEST + 1)
    for reader in (croissant_in.read, table.read):
        with pytest.raises(DataError, match=r"large\.json: has more than 20,000,000 bytes"):
            reader(large)
    latin = tmp_path / "latin.bib"
    latin.write_bytes("@a{k, title={é}}".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.bib: is not UTF-8 \(byte 13\)"):
        bibliography.read(latin)
    with pytest.raises(DataError, match=r"none\.ris: no such file"):
        bibliography.read(tmp_path / "none.ris")
    (tmp_path / "folder.ris").mkdir()
    with pytest.raises(DataError, match=r"folder\.ris: is a directory"):
        bibliography.read(tmp_path / "folder.ris")
    with pytest.raises(UsageError, match=r"ends with \.bib or \.ris"):
        bibliography.read(large)
    with pytest.raises(DataError, match="more than 9 bytes"):
        bibliography.text_of(Path("/dev/zero"), 9)


def test_a_bibliography_is_read_by_its_ending(tmp_path: Path):
    works = [work("a", title="Ä & B", authors=["É, F."], doi="10.1000/1"), work("b", arxiv="2501.10727")]
    for name, text in (("x.bib", bibtex.export(works)), ("x.RIS", ris.export(works))):
        (tmp_path / name).write_bytes(("\ufeff" + text).encode())
        found = bibliography.read(tmp_path / name)
        assert [(one.slug, one.title, one.authors, one.doi, one.arxiv) for one in found] == [
            (one.slug, one.title, one.authors, one.doi, one.arxiv) for one in works
        ]
        assert {one.verification for one in found} == {"imported"}
    (tmp_path / "x.bib").write_text("@article{bad, title={x}, year={9999}}")
    with pytest.raises(DataError, match=r"x\.bib: BibTeX entry 'bad': year"):
        bibliography.read(tmp_path / "x.bib")


def test_a_table_of_datasets_and_works_is_read_and_a_mistake_names_its_row(tmp_path: Path):
    file = tmp_path / "t.csv"
    file.write_bytes(
        "kind,slug,name,title,authors,year,images,patients,source,licence,,\r\n"
        'dataset,one,"One, or\r\ntwo",,,2019,"1,200",1.2k,https://example.org/a,own terms,,\r\n'
        'work,w,,\'=Title,"É, F.; G, H.",2020,,,,,,\r\n'.encode("utf-8-sig")
    )
    one, paper = table.read(file)
    assert (one.name, one.year, one.licences[0].text) == ("One, or\r\ntwo", 2019, "own terms")
    assert [(fact.field, fact.value, fact.url) for fact in one.facts] == [
        ("images", 1_200, "https://example.org/a"), ("patients", "1.2k", "https://example.org/a")
    ]  # fmt: skip
    assert (paper.title, paper.authors) == ("=Title", ("É, F.", "G, H."))
    assert table.read_text('slug,name,images,source\na,b,"1,20",https://example.org/a\n')[0].facts[0].value == "1,20"
    (mapped,) = table.read_text("Short,Long\na,A name\n", {"Short": "slug", "Long": "name"})
    assert (mapped.slug, mapped.name) == ("a", "A name")
    file.write_text("kind,slug,name\ndataset,one,One\ndataset,Two!,Two\n")
    with pytest.raises(DataError, match=r"t\.csv: row 3: slug: expected lower-case letters"):
        table.read(file)
