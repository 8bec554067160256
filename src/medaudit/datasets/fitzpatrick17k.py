"""Fitzpatrick17k: 16,577 clinical skin images with the skin tone by two annotators, Groh et al. 2021, CC BY-NC-SA 3.0.

From https://github.com/mattgroh/fitzpatrick17k, a table; the images are fetched by its urls::

    fitzpatrick17k.csv     md5hash, fitzpatrick_scale, fitzpatrick_centaur, label, ..., url, url_alphanum
    images/<md5hash>.jpg   or named by url_alphanum; beside the table, in images/, in data/..., or in folders there

Older copies have a first column without a name and call the tone ``fitzpatrick``. Two tables of others are read where
they lie beside it: ``near_duplicates.csv`` of CleanPatrick (arXiv 2505.11034), which says what images are the same
picture, and the table of Fitzpatrick17k-C (Abhishek et al. 2025, arXiv 2401.14497), ``SimThresh_T_A2_T_....csv``,
which lists the images that remain when duplicates and errors are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl

from medaudit.cohort import Cohort, read_table
from medaudit.datasets.dataset import Dataset
from medaudit.datasets.folders import TONES, YES_NO, recoded, require, with_pictures
from medaudit.errors import DataError

TABLE = "fitzpatrick17k.csv"
DUPLICATES = "near_duplicates.csv"
CLEAN = "SimThresh_T_*.csv"
"""Files that begin with ``SimThresh_F`` are the same authors' splits of the table as it was, not cleaned."""
COLUMNS = ("md5hash", "label", "nine_partition_label", "three_partition_label", "qc", "url", "url_alphanum")
SCALE, CENTAUR = "fitzpatrick_scale", "fitzpatrick_centaur"
NUMERALS = ("I", "II", "III", "IV", "V", "VI")

_MD5 = re.compile(r"[0-9a-f]{32}")


def load(root: Path) -> Cohort:
    """Return Fitzpatrick17k: ``fitzpatrick_scale``, ``fitzpatrick_centaur``, labels, ``qc``, ``site``, ``clean``.

    The tones are 1 to 6, null where the annotator gave none (-1); ``fitzpatrick_centaur`` is there where the table has
    it. Labels are ``label`` (114), ``nine_partition_label``, ``three_partition_label``. ``site`` is the host of the
    url. ``patient_id`` is the group of near duplicates (the image itself where no table of them lies in ``root``):
    Fitzpatrick17k names no patients. ``clean`` is ``yes`` or ``no`` where the table of Fitzpatrick17k-C is there.
    ``image`` is a role where images are there.

    Raises DataError where the table is missing or another one, and for a tone that is none.
    """
    path = root / TABLE
    if not path.exists():
        raise DataError(f"{path}: not found; expected the folder of Fitzpatrick17k, with {TABLE} in it")
    raw = read_table(path)
    require(raw, COLUMNS, path, "Fitzpatrick17k's table")
    if SCALE not in raw.columns and "fitzpatrick" in raw.columns:
        raw = raw.rename({"fitzpatrick": SCALE})
    require(raw, [SCALE], path, "Fitzpatrick17k's table")
    md5 = raw["md5hash"].cast(pl.String)
    tones = [recoded(raw[name], md5, path, TONES) for name in (SCALE, CENTAUR) if name in raw.columns]
    groups = _duplicates(root / DUPLICATES, set(md5)) if (root / DUPLICATES).exists() else {}
    clean = _clean(root)
    table = raw.select(
        # Identical md5 is an identical file: two cases of one group.
        case_id=pl.when(pl.col("md5hash").is_first_distinct())
        .then(md5)
        .otherwise(pl.format("{}_{}", md5, pl.col("md5hash").cum_count().over("md5hash"))),
        patient_id=pl.Series([groups.get(name, name) for name in md5], dtype=pl.String),
        label="label",
        nine_partition_label="nine_partition_label",
        three_partition_label="three_partition_label",
        qc=pl.col("qc").cast(pl.String),
        site=_sites(raw),
    ).with_columns(tones)
    if clean is not None:
        table = table.with_columns(clean=pl.Series(["yes" if name in clean else "no" for name in md5]))
    cohort = Cohort("Fitzpatrick17k", table, root, source=DATASET.source)
    strangers = len((clean or set()) - set(md5))
    notes = _notes(cohort.table, raw["url"].null_count(), (root / DUPLICATES).exists(), strangers)
    cohort = replace(cohort, notes=notes)
    return with_pictures(cohort, md5, raw["url_alphanum"].cast(pl.String).str.replace(r"(?i)\.jpe?g$", ""))


def _sites(raw: pl.DataFrame) -> pl.Series:
    """Return the host of each url, without www; of an empty url the host that its url_alphanum begins with."""
    hosts = raw["url"].cast(pl.String).str.extract(r"^\w+://(?:www\.)?([^/:]+)").str.to_lowercase()
    alphanum = raw["url_alphanum"].cast(pl.String).str.replace(r"^https?(www)?", "")
    letters = {re.sub(r"[^0-9a-z]", "", host): host for host in hosts.drop_nulls().unique()}
    sites = [
        host if host else next((letters[start] for start in letters if name and name.startswith(start)), None)
        for host, name in zip(hosts, alphanum, strict=True)
    ]
    return pl.Series(sites, dtype=pl.String)


def _duplicates(path: Path, known: set[str]) -> dict[str, str]:
    """Return for each image of a group of near duplicates the group's name: the first md5 in it."""
    table = read_table(path)
    require(table, ("md5hash_list", "label"), path, "CleanPatrick's table of near duplicates")
    lists = table["md5hash_list"].cast(pl.String)
    label = recoded(table["label"], lists, path, YES_NO)
    members = [_MD5.findall(text or "") for text in lists]
    if short := next((text for text, group in zip(lists, members, strict=True) if len(group) < 2), None):
        raise DataError(f"{path}: md5hash_list '{short[:80]}' names fewer than two images; expected md5, md5 ...")
    # What the annotators call distinct (no) stays apart, and an image that is not in the table joins nothing.
    pairs = [
        [md5 for md5 in group if md5 in known] for group, same in zip(members, label, strict=True) if same == "yes"
    ]
    return _joined(pairs)


def _joined(groups: Iterable[list[str]]) -> dict[str, str]:
    """Return for each member of these groups the first name of all that are joined to it, through whatever groups."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for group in groups:
        for name in group[1:]:
            first, second = sorted((top(group[0]), top(name)))
            parent[second] = first
    return {name: top(name) for name in list(parent)}


def _clean(root: Path) -> set[str] | None:
    """Return the images that Fitzpatrick17k-C keeps, None where its table is not there."""
    files = sorted(root.glob(CLEAN))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"{root}: has {files[0].name} and {files[1].name}; leave the one that is Fitzpatrick17k-C")
    table = read_table(files[0])
    require(table, ["md5hash"], files[0], "the table of Fitzpatrick17k-C")
    return set(table["md5hash"].cast(pl.String).drop_nulls())


def _notes(table: pl.DataFrame, no_url: int, grouped: bool, strangers: int) -> tuple[str, ...]:
    """Say what a reader must know; each number is counted in these rows."""
    tones = [name for name in (SCALE, CENTAUR) if name in table.columns]
    lacking = " and ".join(f"{table[name].null_count():,} by {name}" for name in tones)
    notes = [
        f"{table.height:,} images of {table['label'].n_unique()} conditions. Annotations are CC BY-NC-SA 3.0; the "
        "images belong to the atlases that they come from.",
        f"No tone (-1) is given to {lacking}: the tone is unknown, and a study by tone leaves them out.",
    ]
    both = table.drop_nulls(tones) if len(tones) == 2 else table.clear()
    if both.height:
        scale, centaur = both[SCALE].to_numpy(), both[CENTAUR].to_numpy()
        lighter = scale - centaur
        same, near = (lighter == 0).mean(), (abs(lighter) <= 1).mean()
        halves = ((scale <= 3) == (centaur <= 3)).mean()
        notes.append(
            f"The two annotators agree on {same:.1%} of the {both.height:,} images that both gave a tone, within one "
            f"type on {near:.1%}, on I-III against IV-VI on {halves:.1%}; {CENTAUR} is lighter by {lighter.mean():.2f} "
            "types on average (negative: darker). Report each result by tone under both."
        )
    notes += _site_note(table)
    if no_url:
        notes.append(
            f"{no_url} images have no url; their site is read from url_alphanum where it is one of the others."
        )
    sizes = table["patient_id"].value_counts()["count"]
    groups = f"{(sizes > 1).sum():,} groups of near duplicates hold {sizes.filter(sizes > 1).sum():,} images"
    if grouped:
        notes.append(
            f"patient_id is the group of near duplicates by {DUPLICATES}: {groups}, the largest "
            f"{sizes.to_numpy().max()}. Patients are not named, and two pictures of one patient may be in two groups."
        )
    else:
        notes.append(
            f"Patients are not named, and no {DUPLICATES} (CleanPatrick) is there: each image is its own cluster, "
            "though the set holds many near duplicates, which leak between random splits and make intervals too narrow."
        )
    if "clean" in table.columns:
        kept = (table["clean"] == "yes").sum()
        more = f"; {strangers:,} that it lists are not in the table" if strangers else ""
        notes.append(f"Fitzpatrick17k-C keeps {kept:,} of these images (clean: yes){more}.")
    return tuple(notes)


def _site_note(table: pl.DataFrame) -> list[str]:
    """Say by how much the share of the second-largest site differs between tones, the sign of their confounding."""
    known = table.drop_nulls(["site", SCALE])
    sites = known["site"].value_counts().sort("count", "site", descending=True)["site"].to_list()
    if len(sites) < 2:
        return []
    shares = known.group_by(SCALE).agg((pl.col("site") == sites[1]).mean().alias("share")).sort("share", SCALE)
    low, high = shares.row(0, named=True), shares.row(-1, named=True)
    return [
        f"site is confounded with tone: {sites[1]} gave {low['share']:.1%} of the images of type "
        f"{NUMERALS[low[SCALE] - 1]} and {high['share']:.1%} of type {NUMERALS[high[SCALE] - 1]}. Conditions may "
        "differ between tones as well: standardise over both before calling a gap one of tone."
    ]


DATASET = Dataset(
    name="fitzpatrick17k",
    load=load,
    title="Fitzpatrick17k: clinical images of the skin with annotated skin tone",
    licence="CC BY-NC-SA 3.0 (annotations; the images belong to the atlases that they come from)",
    citation=(
        "Groh M, Harris C, Soenksen L, et al. Evaluating deep neural networks trained on clinical images in "
        "dermatology with the Fitzpatrick 17k dataset. CVPR Workshops, 2021. doi:10.1109/CVPRW53098.2021.00201"
    ),
    url="https://github.com/mattgroh/fitzpatrick17k",
    layout="""\
ROOT/
  fitzpatrick17k.csv
  images/5e82a45bc5d78bd24ae9202d194423f8.jpg ...     (or in ROOT, data/..., or one folder deeper)
  near_duplicates.csv                                 (CleanPatrick; groups of the same picture)
  SimThresh_T_A2_T_..._0FST_F.csv                     (Fitzpatrick17k-C; which images are clean)
""",
    needs="fitzpatrick17k.csv, with the images fetched by its urls beside it (rows alone serve for counts)",
)
