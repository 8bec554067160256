"""Each source's own fields are read rightly, whatever way they came (recorded answers: see cassettes/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given

from medaudit.errors import DataError, UsageError
from medaudit.review.living import providers, transports
from medaudit.review.living.providers import CORPUS, CROSSREF, DATACITE, OPENALEX, abstract_of, arxiv_of, doi_of
from medaudit.review.living.transports import Answer, Bulk, Unavailable, cassette

CASSETTES = Path(__file__).parent / "cassettes"
CITED = "cites:W9000000001"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters=" "), min_size=1, max_size=6), max_size=60))
def test_an_inverted_index_is_put_back_in_order(words: list[str]) -> None:
    index: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        index.setdefault(word, []).append(place)
    assert abstract_of(index) == " ".join(words)


def test_an_index_without_an_abstract() -> None:
    assert abstract_of(None) == abstract_of({}) == ""


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("https://doi.org/10.1609/AAAI.v33i01.3301590", "10.1609/aaai.v33i01.3301590"),
        ("http://dx.doi.org/10.1/X", None), ("doi: 10.1234/X.", "10.1234/x"), ("10.1234/a%2Fb", "10.1234/a/b"),
        ("https://www.doi.org/10.1234/<x>", "10.1234/<x>"), (None, None), ("", None), (7, None), ("W123", None),
        ("10.1234", None), ("10.1234/" + "x" * 400, None), ("see 10.1234/x", None),
    ],
)  # fmt: skip
def test_a_doi_has_one_form(given_: object, expected: str | None) -> None:
    assert doi_of(given_) == expected
    assert doi_of(expected) == expected


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("10.48550/arXiv.2501.10727", "2501.10727"), ("https://arxiv.org/abs/2501.10727v2", "2501.10727"),
        ("http://arxiv.org/pdf/1901.07031.pdf", "1901.07031"), ("arXiv:cs/0112017v1", "cs/0112017"),
        ("2501.10727", "2501.10727"), ("https://doi.org/10.48550/arxiv.2012.15029", "2012.15029"),
        ("10.1234/2501.10727", None), ("25011.0727", None), (None, None), ("https://example.org/abs/2501.10727", None),
    ],
)  # fmt: skip
def test_an_arxiv_number_has_one_form(given_: object, expected: str | None) -> None:
    assert arxiv_of(given_) == expected


def test_openalex_pages_end_with_null() -> None:
    pages = list(providers.pages(OPENALEX, cassette(CASSETTES / "t0"), CITED))
    assert [len(page.candidates) for page in pages] == [2, 2]
    assert pages[-1].cursor is None
    masks, view, sex, hidden = (one for page in pages for one in page.candidates)
    assert masks.abstract == "We add masks to the images and we report the quality of the masks ."
    assert (masks.doi, masks.openalex, masks.year, masks.venue) == (
        "10.1234/masks.2023.1", "W9000000100", 2023, "Journal of Made-up Data",
    )  # fmt: skip
    assert len(masks.authors) == 100
    assert masks.more_authors
    assert masks.first_author == "Family0, Given0"
    assert masks.references == ("openalex:W9000000001", "openalex:W9000000077")
    assert (view.doi, view.arxiv, view.retracted) == ("10.48550/arxiv.2101.00001", "2101.00001", None)
    assert (hidden.doi, hidden.abstract) == (None, "")
    assert not sex.more_authors


def test_a_merged_work_comes_under_its_new_number() -> None:
    fetch = cassette(CASSETTES / "t1")
    moved = providers.fetch_one(OPENALEX, fetch, "https://openalex.org/W9000000103")
    assert moved is not None
    assert moved.openalex == "W9000000104"
    gone = providers.fetch_one(OPENALEX, fetch, "W9000000102")
    assert gone is not None
    assert gone.retracted == "unknown"
    assert providers.fetch_one(OPENALEX, fetch, "W9000000001") is None


def test_crossref_takes_works_back() -> None:
    fetch = cassette(CASSETTES / "sources")
    (notice,) = (c for p in providers.pages(CROSSREF, fetch, "updates:10.1234/sex.2022.7") for c in p.candidates)
    assert notice.retracts == (("10.1234/sex.2022.7", "2024-05-02"),)
    assert notice.retracted is None  # the notice itself stands
    (page,) = providers.pages(CROSSREF, fetch, "search:chest radiograph labels")
    sex, view = page.candidates
    assert sex.title == "Sex & the labels of a large chest radiograph dataset"
    assert sex.retracted == "2024-05-02"
    assert sex.abstract == "Abstract Labels differ by sex < 1 %."
    assert sex.authors == ("Franklin, Rosalind", "The Made-up Consortium")
    assert sex.references == ("doi:10.1609/aaai.v33i01.3301590",)
    assert (view.pairs, view.year) == (("arxiv:2101.00001",), 2022)
    assert view.retracts == ()  # a correction takes nothing back
    assert providers.fetch_one(CROSSREF, fetch, "https://doi.org/10.1234/SEX.2022.7") == sex


def test_datacite_relations() -> None:
    pages = list(providers.pages(DATACITE, cassette(CASSETTES / "sources"), "related:10.1609/aaai.v33i01.3301590"))
    (deposit,), (preprint,) = (page.candidates for page in pages)
    assert deposit.references == ("doi:10.1234/masks.2023.1", "doi:10.1609/aaai.v33i01.3301590")
    assert deposit.pairs == ()  # the concept of a Zenodo record is not another form of it
    assert (deposit.venue, deposit.abstract, deposit.first_author) == ("Zenodo", "Masks.", "Lovelace, Ada")
    assert (preprint.pairs, preprint.arxiv, preprint.venue) == (("doi:10.1234/view.2022.2",), "2101.00001", "arXiv")
    assert providers.fetch_one(DATACITE, cassette(CASSETTES / "sources"), "10.5281/zenodo.9999991") == deposit


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_files_are_read_by_the_same_parser(form: str, tmp_path: Path) -> None:
    fetch = cassette(CASSETTES / "t0")
    expected = [one for page in providers.pages(OPENALEX, fetch, CITED) for one in page.candidates]
    raw = [json.loads(path.read_text())["body"]["results"] for path in sorted((CASSETTES / "t0").glob("*.json"))]
    rows = sorted((one for part in raw for one in part), key=lambda one: one["id"])
    other = rows[0] | {"id": "https://openalex.org/W5", "referenced_works": ["https://openalex.org/W90000000010"]}
    path = tmp_path / f"works.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, other]))
    else:  # the snapshot's parquet has the index as JSON text
        name = "abstract_inverted_index"
        texts = [row | {name: json.dumps(row[name])} for row in [*rows, other]]
        pl.DataFrame(texts, infer_schema_length=None).write_parquet(path)
    found = [one for page in providers.pages(OPENALEX, Bulk((path,), rows=2), CITED) for one in page.candidates]
    assert found == expected  # W90000000010 is not W9000000001


def test_the_data_citation_corpus_from_csv_and_jsonl(tmp_path: Path) -> None:
    """Its fields as of version 4.1; a dataset is a DOI or an accession number."""
    fields = ("id", "created", "updated", "repository", "publisher", "journal", "title", "publication", "dataset",
              "publishedDate", "source", "subjects", "affiliations", "funders")  # fmt: skip
    row = dict.fromkeys(fields, "") | {"publication": "https://doi.org/10.1234/A", "publishedDate": "2022-03-01T00:00"}
    rows = [
        row | {"dataset": "https://doi.org/10.5281/zenodo.123", "journal": "J"}, row | {"dataset": "GSE1234"},
        row | {"dataset": "10.5281/zenodo.1234"}, row | {"publication": "", "dataset": "10.5281/zenodo.123"},
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(tmp_path / "c.csv")
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps(one | {"journal": {"title": one["journal"], "external_id": None}}) + "\n" for one in rows)
    )
    for name in ("c.csv", "c.jsonl"):
        source = Bulk((tmp_path / name,))
        (one,) = (c for p in providers.pages(CORPUS, source, "dataset:10.5281/zenodo.123") for c in p.candidates)
        assert (one.doi, one.year, one.venue, one.references) == (
            "10.1234/a", 2022, "J", ("doi:10.5281/zenodo.123",),
        )  # fmt: skip
    with pytest.raises(UsageError, match="files only"):
        list(providers.pages(CORPUS, cassette(CASSETTES / "t0"), "dataset:10.5281/zenodo.123"))


@pytest.mark.parametrize(
    ("provider", "expression"),
    [
        (OPENALEX, "cites:"), (OPENALEX, "cites:W"), (OPENALEX, "cites:10.1234/x"), (CROSSREF, "cites:W1"),
        (DATACITE, "related:W1"), (OPENALEX, "chexpert"), (OPENALEX, "doi:None"), (OPENALEX, "cites:W1,is_retracted:x"),
        (OPENALEX, "doi:" + "|".join(f"10.1234/{n}" for n in range(101))), (CORPUS, "search:x"),
    ],
)  # fmt: skip
def test_an_expression_that_a_source_does_not_know_is_refused(provider: providers.Provider, expression: str) -> None:
    with pytest.raises(UsageError):
        providers.split(provider, expression)


def test_what_is_asked_cannot_add_parameters() -> None:
    url = transports.canonical(OPENALEX.url("search:a&filter=x#y|z", None, "c&d"))  # type: ignore[misc]
    assert url.count("&") == 3
    assert "search=a%26filter%3Dx%23y" in url or "search=a%26filter%3Dx%23y|z" in url
    asked = DATACITE.url('search:a" OR doi:*', None, None)  # type: ignore[misc]
    assert "%22a%5C%22%22" in asked


@pytest.mark.parametrize("body", [None, [], {}, {"results": 1, "meta": {}}, {"results": ["x"], "meta": {}}, "x"])
def test_an_answer_of_another_form_is_said_so(body: object) -> None:
    with pytest.raises(DataError):
        list(providers.pages(OPENALEX, lambda url: Answer(url, 200, body), CITED))
    with pytest.raises(Unavailable):
        list(providers.pages(OPENALEX, lambda url: Answer(url, 400, None), CITED))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["author", "source", "date-parts", "DOI", "a"]), inner, max_size=2),
        max_leaves=4,
    ),
    st.sampled_from(["title", "ids", "authorships", "locations", "abstract_inverted_index", "referenced_works", "DOI",
                     "author", "relation", "update-to", "updated-by", "issued", "reference", "titles", "creators",
                     "relatedIdentifiers", "descriptions", "publisher", "container", "publication_year", "journal",
                     "id"]),
)  # fmt: skip
def test_no_record_breaks_a_parser_otherwise_than_in_words(value: object, name: str) -> None:
    for provider in providers.PROVIDERS.values():
        try:
            read = providers._read(provider, {"title": "A title", name: value})
        except DataError:
            continue
        assert read is None or isinstance(read, providers.Candidate)
