"""What the index of NCI's Imaging Data Commons says about its collections; read from the package idc-index-data.

A patient's sex or age is known where any series of the patient's original data says M or F, or an age as DICOM
writes it (063Y). Series that third parties added (segmentations) are left out there: they document the annotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import polars as pl

from medaudit.review.computed.statistics import Estimate, share
from medaudit.review.computed.tables import (
    Source,
    artifact,
    count,
    estimated,
    flags,
    frame,
    needs,
    percent,
)
from medaudit.review.records import Artifact, Fact

PACKAGE = "idc-index-data"
SERIES = "idc_index.parquet"
COLLECTIONS = "collections_index.parquet"
ONE_OF_THEM = "one of the collections counted"
_AGE = r"^\d{3}[DWMY]$"
_ZERO = r"^000[DWMY]$"
_TAG = re.compile(r"</?[A-Za-z][^>]*>|&(?:[A-Za-z]+|#\d+);")


def patients(source: Source) -> pl.DataFrame:
    """Return each collection's patients: ``collection_id``, ``PatientID``, and what original series say of them.

    ``male`` and ``female`` (some series says so; both can be), ``first`` (the first sex that is not empty, in the
    index's order), ``aged`` (some series has an age), ``zero`` (every age is 0).
    """
    table = frame(
        source, SERIES, ["collection_id", "PatientID", "PatientSex", "PatientAge", "analysis_result_id"]
    ).filter(pl.col("analysis_result_id").is_null())
    age, sex = pl.col("PatientAge"), pl.col("PatientSex")
    return table.group_by("collection_id", "PatientID", maintain_order=True).agg(
        male=(sex == "M").any(),
        female=(sex == "F").any(),
        first=sex.drop_nulls().first(),
        aged=age.str.contains(_AGE).any(),
        zero=age.str.contains(_ZERO).any() & ~(age.str.contains(_AGE) & ~age.str.contains(_ZERO)).any(),
    )


def completeness(source: Source) -> pl.DataFrame:
    """Return for each collection its ``patients`` and the shares whose ``sex`` and ``age`` are known.

    ``first`` is the share whose first sex that is not empty is M or F, ``zero`` that whose every age is 0.
    """
    return _completeness(patients(source))


def _completeness(table: pl.DataFrame) -> pl.DataFrame:
    return (
        table.group_by("collection_id")
        .agg(
            patients=pl.len(),
            sex=(pl.col("male") | pl.col("female")).mean(),
            first=pl.col("first").is_in(["M", "F"]).fill_null(False).mean(),
            age=pl.col("aged").mean(),
            zero=pl.col("zero").mean(),
        )
        .sort("collection_id")
    )


def demographics(source: Source) -> Artifact:
    """Return how many of IDC's collections say nothing of their patients' sex or age."""
    needs(source, PACKAGE, "idc-demographics")
    table = patients(source)
    each = _completeness(table)
    everyone = np.ones(table.height, dtype=bool)
    known = flags(table["male"] | table["female"])
    first = flags(table["first"].is_in(["M", "F"]))
    only = flags(table["male"] != table["female"])
    series = frame(source, SERIES, ["PatientSex"])["PatientSex"]
    odd = series.is_not_null() & ~series.is_in(["M", "F", "O", "U", ""])
    none_sex, none_age = int((each["sex"] == 0).sum()), int((each["age"] == 0).sum())
    aged = share(everyone, flags(table["aged"]))
    zero = int(((each["age"] > 0) & (each["zero"] == each["age"])).sum())
    facts = [
        count(source, "collections", each.height),
        count(source, "patients", table.height, unit="patients", note="of each collection; some are in several"),
        count(source, "collections without any sex", none_sex),
        count(source, "collections without any age", none_age),
        count(source, "collections with sex for 95 % of patients or more", int((each["sex"] >= 0.95).sum())),
        count(source, "collections with age for 95 % of patients or more", int((each["age"] >= 0.95).sum())),
        count(source, "collections whose every age is 0", zero),
        _plain(source, "share of patients with a sex", share(everyone, known)),
        _plain(source, "share of patients with an age", aged),
        _plain(source, "share of men where one sex is known", share(only, flags(table["male"]))),
        count(source, "patients with both sexes", int(flags(table["male"] & table["female"]).sum()), unit="patients"),
        count(source, "series whose sex is no code of DICOM", int(odd.sum())),
        count(source, "collections with sex for 95 % of patients or more, first value only",
              int((each["first"] >= 0.95).sum()), note=_FIRST),
        _plain(source, "share of patients with a sex, first value only", share(everyone, first), _FIRST),
        _plain(source, "share of men where a sex is known, first value only",
               share(first, flags(table["first"] == "M")), _FIRST),
    ]  # fmt: skip
    return artifact(
        source, "idc-demographics", [("nlst", ONE_OF_THEM), ("cbis-ddsm", ONE_OF_THEM)], [SERIES],
        [fact for fact in facts if fact],
        title=f"Of {each.height} collections of the Imaging Data Commons {none_sex} have no patient's sex and "
        f"{none_age} no patient's age",
        severity="major",
        summary=f"Of {table.height:,} patients of the collections {percent(share(everyone, known))} have a sex and "
        f"{percent(aged)} an age in the DICOM headers. {zero} collections have ages that are all 0, which is a "
        "placeholder and not an age. A study of fairness needs the clinical tables of a collection, where there are "
        "any: do not take the index for all that is known, and do not drop the patients whose value is missing.",
    )  # fmt: skip


_FIRST = "the first value that is not empty, in the order of the index; a later M or F is not seen"


def vendors(source: Source) -> Artifact:
    """Return how many of IDC's collections come from one manufacturer's devices."""
    needs(source, PACKAGE, "idc-manufacturers")
    table = frame(source, SERIES, ["collection_id", "Manufacturer", "analysis_result_id"])
    each = (
        table.filter(pl.col("analysis_result_id").is_null())
        .group_by("collection_id")
        .agg(pl.col("Manufacturer").drop_nulls().n_unique().alias("makers"))
    )
    one, unknown = int((each["makers"] == 1).sum()), int((each["makers"] == 0).sum())
    median = float(each["makers"].median() or 0)  # type: ignore[arg-type]
    facts = [
        count(source, "collections", each.height),
        count(source, "collections of one manufacturer", one, note="names as they are written in the headers"),
        count(source, "collections without a manufacturer", unknown),
        *estimated(source, "median of manufacturers in a collection", Estimate(median, None, None, each.height)),
    ]
    return artifact(
        source, "idc-manufacturers", [("nlst", ONE_OF_THEM), ("cbis-ddsm", ONE_OF_THEM)], [SERIES], facts,
        title=f"Of {each.height} collections of the Imaging Data Commons {one} come from one manufacturer's devices",
        severity="minor",
        summary=f"The median collection names {median:g} manufacturers, {one} name one and {unknown} none, in the "
        "series that were there before others annotated them. A result on a collection of one manufacturer says "
        "nothing about another's devices. Names are taken as written, so two spellings count as two.",
    )  # fmt: skip


def licences(source: Source) -> Artifact:
    """Return the licences of IDC's collections, and how many collections have more than one."""
    needs(source, PACKAGE, "idc-licences")
    table = _sources(source)
    original = table.filter(pl.col("source_type") == "original_data")
    added = table.filter(pl.col("source_type") == "analysis_result")
    by_name = original.group_by("licence").agg(pl.col("collection_id").n_unique().alias("n")).sort("n", "licence")
    each = table.group_by("collection_id").agg(pl.col("licence").n_unique().alias("n"))
    several = int((each["n"] > 1).sum())
    tags = sum(bool(_TAG.search(text or "")) for text in table["citation"])
    facts = [
        count(source, "collections", each.height),
        count(source, "sources", table.height),
        count(source, "sources: original data", original.height),
        count(source, "sources: analysis results", added.height),
        count(source, "analysis results", added["source_id"].n_unique()),
        count(source, "collections with analysis results", added["collection_id"].n_unique()),
        count(source, "DOIs of sources", table["source_doi"].n_unique()),
        count(source, "collections with several licences", several),
        *(count(source, f"collections whose original data are {name}", n) for name, n in reversed(by_name.rows())),
        count(source, "citations with HTML in them", tags),
    ]
    return artifact(
        source, "idc-licences", [("nlst", "one of the collections with several licences")], [COLLECTIONS], facts,
        title=f"Of {each.height} collections of the Imaging Data Commons {several} have more than one licence once "
        "analysis results are counted",
        severity="minor",
        summary=f"A licence belongs to a source, not to a collection: {several} collections have several, most of them "
        "two versions of CC BY, some with a part that forbids commercial use. Read the licence of each source that "
        f"you download and keep its DOI. {tags} of {table.height} citations hold HTML, which must be made plain or "
        "escaped before it is shown.",
    )  # fmt: skip


def nlst(source: Source) -> Artifact:
    """Return for how many patients of NLST the index has a sex or an age."""
    needs(source, PACKAGE, "nlst-sex")
    table = patients(source).filter(pl.col("collection_id") == "nlst")
    everyone = np.ones(table.height, dtype=bool)
    sex = share(everyone, flags(table["male"] | table["female"]))
    age = share(everyone, flags(table["aged"]))
    series = frame(
        source, SERIES, ["collection_id", "PatientID", "Modality", "PatientSex", "analysis_result_id"]
    ).filter(
        (pl.col("collection_id") == "nlst") & (pl.col("Modality") == "CT") & pl.col("analysis_result_id").is_null()
    )
    scanned = series["PatientID"].n_unique()
    told = series.filter(pl.col("PatientSex").is_in(["M", "F"]))["PatientID"].n_unique()
    facts = [
        count(source, "patients", table.height, unit="patients"),
        _plain(source, "share of patients with a sex", sex),
        _plain(source, "share of patients with an age", age),
        count(source, "patients with CT", scanned, unit="patients"),
        count(source, "patients with CT that gives a sex", told, unit="patients"),
    ]
    return artifact(
        source, "nlst-sex", [("nlst", "as the Imaging Data Commons has it")], [SERIES],
        [fact for fact in facts if fact],
        title=f"The images of NLST give a sex for {percent(sex)} of the patients",
        severity="major",
        summary=f"Of {table.height:,} patients {percent(sex)} have a sex and {percent(age)} an age in the DICOM "
        f"headers of the Imaging Data Commons' copy; of {scanned:,} patients with CT {told:,} have a sex on it. The "
        "trial recorded both, in its clinical tables. Join those before any analysis by sex or age: the patients whose "
        "headers have it were not drawn at random.",
    )  # fmt: skip


def cbis_ddsm(source: Source) -> Artifact:
    """Return that CBIS-DDSM's patient identifiers name views and lesions, and how many patients there are."""
    needs(source, PACKAGE, "cbis-ddsm-patients")
    table = frame(source, SERIES, ["collection_id", "PatientID"]).filter(pl.col("collection_id") == "cbis_ddsm")
    names = table["PatientID"].unique().to_frame().with_columns(
        person=pl.col("PatientID").str.extract(r"(P_\d+)"),
        part=pl.col("PatientID").str.extract(r"-(Test|Training)_"),
    )  # fmt: skip
    named = names.filter(pl.col("person").is_not_null())
    parts = named.group_by("person").agg(pl.col("part").drop_nulls().n_unique().alias("parts"))
    both = int((parts["parts"] > 1).sum())
    silent = names.filter(pl.col("part").is_null()).height
    facts = [
        count(source, "series", table.height),
        count(source, "patient identifiers", names.height),
        count(source, "patients", parts.height, unit="patients", note="different P_ numbers in the identifiers"),
        count(source, "identifiers without a patient's number", names.height - named.height),
        count(source, "patients both in a training and in a test part", both, unit="patients",
              note=f"at least: {silent} identifiers name no part"),
    ]  # fmt: skip
    return artifact(
        source, "cbis-ddsm-patients", [("cbis-ddsm", "as the Imaging Data Commons has it")], [SERIES], facts,
        title=f"CBIS-DDSM has {names.height:,} patient identifiers for {parts.height:,} patients",
        severity="critical",
        summary=f"PatientID holds the part, breast, view and lesion (Calc-Test_P_00038_LEFT_MLO_1), so "
        f"{parts.height:,} patients look like {names.height:,} and a split by it puts one patient on both sides. Group "
        f"by the number after P_. At least {both} patients are in a training part of one kind of lesion and in a test "
        "part of the other, so whoever joins masses and calcifications must make a split anew.",
    )  # fmt: skip


RECIPES: dict[str, Callable[[Source], Artifact]] = {
    "idc-demographics": demographics,
    "idc-manufacturers": vendors,
    "idc-licences": licences,
    "nlst-sex": nlst,
    "cbis-ddsm-patients": cbis_ddsm,
}


def _sources(source: Source) -> pl.DataFrame:
    """Return one row a source of a collection: original data, and each analysis result that extends it."""
    table = frame(source, COLLECTIONS, ["collection_id", "sources"]).explode("sources").unnest("sources")
    return table.with_columns(licence=pl.col("license").struct.field("license_short_name"))


def _plain(source: Source, name: str, found: Estimate | None, note: str = "") -> Fact | None:
    """Return a share without its interval: the index is all there is, not a sample."""
    if found is None:
        return None
    return next(iter(estimated(source, name, Estimate(found.value, None, None, found.n), note=note)))
