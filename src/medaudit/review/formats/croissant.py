"""Croissant 1.1 with the RAI vocabulary 1.0: a dataset described for machines, what was found out about it included.

What an artifact becomes: a shortcut or bias a ``rai:dataBiases``, an issue of labels or data a ``rai:dataLimitations``,
annotations ``rai:dataAnnotationAnalysis``, lineage ``prov:wasDerivedFrom``, a licence that keeps commerce out a DUO
code in ``usageInfo``. The mapping is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medaudit.review.projection import licence_class
from medaudit.review.records import Artifact, Dataset, Work

CONFORMS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
_BASE = "urn:medaudit:review:"
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#", "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo", "citeAs": "cr:citeAs", "isLiveDataset": "cr:isLiveDataset",
    "column": "cr:column", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip

_NOT_COMMERCIAL = {
    "@type": "sc:DefinedTerm", "name": "non-commercial use only", "termCode": "DUO_0000018",
    "url": "http://purl.obolibrary.org/obo/DUO_0000018",
}  # fmt: skip


def export(
    dataset: Dataset, artifacts: Sequence[Artifact], works: Sequence[Work], base_url: str = ""
) -> dict[str, Any]:
    """Return the dataset's description as JSON-LD; ``base_url`` is where the review's pages are, if anywhere."""
    known = {work.slug: work for work in works}
    needed = [known[slug] for slug in dict.fromkeys((*dataset.cite, *dataset.produced_by)) if slug in known]
    own = _id(dataset.slug, base_url)
    makers = [name for slug in dataset.produced_by if slug in known for name in known[slug].authors if name != "others"]
    described: dict[str, Any] = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "@id": own, "conformsTo": list(CONFORMS),
        "name": dataset.name, "description": dataset.description or dataset.name,
        "url": dataset.homepage or _url_of(dataset, needed) or own,
        # Live are data that change all the time (Croissant 1.1, "Live Datasets"); these are released in versions.
        "isLiveDataset": False,
    }  # fmt: skip
    # What is not known is left out, though Croissant asks for it: a made-up date would be a claim.
    if dataset.year is not None:
        described["datePublished"] = str(dataset.year)
    if dataset.versions:
        described["version"] = dataset.versions[-1].label
    if licences := _licences(dataset):
        described["license"] = licences
    if any(licence_class(one.spdx, one.text) == "non-commercial" for one in dataset.licences):
        described["usageInfo"] = [_NOT_COMMERCIAL]
    if makers or dataset.host:
        described["creator"] = [{"@type": "sc:Person", "name": name} for name in makers] or [
            {"@type": "sc:Organization", "name": dataset.host}
        ]
    if needed:
        described["citeAs"] = "\n".join(citation(work) for work in needed)
    names = [alias.name for alias in dataset.aliases]
    if names:
        described["alternateName"] = names
    same = [f"https://doi.org/{one.value}" for one in dataset.identifiers if one.scheme == "doi"]
    if same:
        described["sameAs"] = same
    keywords = [*dataset.modalities, *dataset.anatomy, *dataset.tasks]
    if keywords:
        described["keywords"] = keywords
    found: dict[str, list[str]] = {}
    for one in artifacts:
        place = {"shortcut": "rai:dataBiases", "bias": "rai:dataBiases", "label_issue": "rai:dataLimitations",
                 "data_issue": "rai:dataLimitations", "annotation": "rai:dataAnnotationAnalysis",
                 "computed_audit": "rai:dataLimitations", "access_change": "rai:dataReleaseMaintenancePlan",
                 }.get(one.type)  # fmt: skip
        if place:
            sources = ", ".join(_reference(known[slug]) for slug in one.works if slug in known)
            found.setdefault(place, []).append(f"{one.title} [{one.severity}{f'; {sources}' if sources else ''}]")
    for place, texts in found.items():
        described[place] = texts
    missing = [e for e in dataset.demographics if e.group is None and e.completeness is not None and e.completeness < 1]
    if missing:
        described["rai:dataCollectionMissingData"] = "; ".join(
            f"{entry.attribute} is known for {100 * (entry.completeness or 0):.1f} % of {entry.unit}"
            for entry in missing
        )
    parents = [
        link.to for link in dataset.links if link.relation in ("DERIVED_FROM", "SUBSET_OF", "MIRROR_OF", "MERGES")
    ]
    if parents:
        described["prov:wasDerivedFrom"] = [{"@id": _id(slug, base_url)} for slug in dict.fromkeys(parents)]
    return described


def _id(slug: str, base_url: str) -> str:
    return f"{base_url.rstrip('/')}/datasets/{slug}" if base_url else f"{_BASE}dataset:{slug}"


def citation(work: Work) -> str:
    """Return a work as a line of references."""
    people = [name for name in work.authors if name != "others"]
    names = ", ".join(people[:6]) + (" et al." if len(work.authors) > min(len(people), 6) else "")
    parts = [names, f"{work.title.rstrip('.')}", work.venue, str(work.year or "")]
    place = (
        f"https://doi.org/{work.doi}"
        if work.doi
        else f"https://arxiv.org/abs/{work.arxiv}"
        if work.arxiv
        else work.url or ""
    )
    return ". ".join(part for part in (*parts, place) if part)


def _reference(work: Work) -> str:
    return f"doi:{work.doi}" if work.doi else f"arXiv:{work.arxiv}" if work.arxiv else work.url or work.title


def _licences(dataset: Dataset) -> list[str]:
    found = [
        f"https://spdx.org/licenses/{one.spdx}.html" if one.spdx else one.url or one.text for one in dataset.licences
    ]
    return list(dict.fromkeys(text for text in found if text))


def _url_of(dataset: Dataset, works: Sequence[Work]) -> str:
    doi = next((one.value for one in dataset.identifiers if one.scheme == "doi"), None)
    doi = doi or next((work.doi for work in works if work.doi), None)
    return f"https://doi.org/{doi}" if doi else next((work.url for work in works if work.url), "")
