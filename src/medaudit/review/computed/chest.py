"""What the label tables of chest radiographs say about themselves; read from torchxrayvision's data, never imported.

A label counts as present where the table says so: ``1`` in CheXpert (blank, 0 and -1 do not), its name in the list of
ChestX-ray14 and PadChest. Intervals take the patient as the unit wherever the table names patients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from medaudit.review.computed.statistics import Estimate, cells, kappa, odds_ratio, ratio_of_shares, share
from medaudit.review.computed.tables import (
    Source,
    artifact,
    codes,
    count,
    estimated,
    flags,
    frame,
    needs,
    numbers,
    percent,
    times,
)
from medaudit.review.records import Artifact, Fact

PACKAGE = "torchxrayvision"

NIH = "Data_Entry_2017_v2020.csv.gz"
GOOGLE = "google2019_nih-chest-xray-labels.csv.gz"
CHEXPERT = "chexpert_train.csv.gz"
PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
SIIM = "siim-pneumothorax-train-rle.csv.gz"
RSNA = "kaggle_stage_2_train_labels.csv.zip"
RSNA_HEADERS = "kaggle_stage_2_train_images_dicom_headers.csv.gz"
VINDR = "vinbigdata-train.csv.gz"

NIH_LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "No Finding",
)  # fmt: skip
ADJUDICATED = {
    "Pneumothorax": ("Pneumothorax",),
    "Nodule or mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Infiltration", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Effusion"),
}
"""The adjudicated findings, and the labels of ChestX-ray14 that stand for each; fracture has none."""
CHEXPERT_LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
TUBES = ("chest drain tube", "NSG tube", "endotracheal tube", "tracheostomy tube")
CLUSTERED = "95 % interval by patients: several images of one patient are not independent"


def nih_adjudicated(source: Source) -> Artifact:
    """Return how the labels of ChestX-ray14 agree with those that radiologists adjudicated for Google.

    Majkowska et al. 2020 had 4,376 images read again; the test split, where findings are more frequent, is shown by
    itself too.
    """
    needs(source, PACKAGE, "chestx-ray14-adjudicated-labels")
    table = frame(source, GOOGLE, ["Finding Labels", "Patient ID", *ADJUDICATED, "Set Id"])
    patients = codes(table["Patient ID"])
    test = flags(table["Set Id"] == "test")
    facts = [count(source, "images", table.height), count(source, "images of the test split", int(test.sum()))]
    shown: dict[str, tuple[Estimate | None, Estimate | None, Estimate | None]] = {}
    for finding, labels in ADJUDICATED.items():
        said, real = _any_of(table["Finding Labels"], labels), flags(table[finding] == "YES")
        for rows, where in ((np.ones(table.height, dtype=bool), ""), (test, ", test split")):
            x, y, who = said[rows], real[rows], patients[rows]
            found = share(x, y, who), share(y, x, who), kappa(x, y, who)
            shown.setdefault(finding, found)
            names = ("true positives", "false positives", "false negatives", "true negatives")
            facts += [
                count(source, f"{finding}: {name}{where}", number)
                for name, number in zip(names, cells(x, y), strict=True)
            ]
            for name, estimate in zip(("precision", "sensitivity", "kappa"), found, strict=True):
                facts += estimated(source, f"{finding}: {name}{where}", estimate, note=CLUSTERED)
    precision, sensitivity, agreement = shown["Pneumothorax"]
    real = flags(table["Pneumothorax"] == "YES")
    return artifact(
        source, "chestx-ray14-adjudicated-labels", [("chestx-ray14", "")], [GOOGLE], facts,
        title=f"Of the images that ChestX-ray14 labels pneumothorax, {percent(precision)} have one by adjudicated "
        "reading",
        severity="major",
        summary=f"The labels of {table.height:,} images, taken from reports, are compared with those that "
        f"radiologists adjudicated. For pneumothorax precision is {percent(precision)}, sensitivity "
        f"{percent(sensitivity)} and kappa {times(agreement)}; nodule or mass and airspace opacity agree about as "
        "weakly. Evaluate on the adjudicated labels, and state the noise of the labels that were trained on. "
        f"{percent(share(test, real))} of the test split have a pneumothorax and {percent(share(~test, real))} of the "
        "other images, so precision depends on which images are taken.",
    )  # fmt: skip


def nih_view(source: Source) -> Artifact:
    """Return how much more often each label of ChestX-ray14 is on an AP than on a PA view."""
    needs(source, PACKAGE, "chestx-ray14-view")
    table = frame(source, NIH, ["Finding Labels", "Patient ID", "View Position"])
    ap = flags(table["View Position"] == "AP")
    facts = [
        count(source, "images", table.height),
        count(source, "patients", table["Patient ID"].n_unique(), unit="patients"),
        count(source, "images: PA", int((table["View Position"] == "PA").sum())),
        count(source, "images: AP", int(ap.sum())),
    ]
    found, more = _by_label(source, table, ap, "odds ratio AP against PA")
    return artifact(
        source, "chestx-ray14-view", [("chestx-ray14", "")], [NIH], [*facts, *more],
        title=f"In ChestX-ray14 the odds of edema are {times(found['Edema'])} times as high on AP as on PA views",
        severity="major",
        summary=f"AP views are mostly of patients who cannot stand. Against PA the odds ratio is "
        f"{times(found['Edema'])} for edema, {times(found['Consolidation'])} for consolidation and "
        f"{times(found['No Finding'])} for no finding, so a model can read the view instead of the finding. Report "
        "results for each view, balance or condition on the view, and test whether the view can be predicted from "
        "the model's features.",
    )  # fmt: skip


def nih_sex(source: Source) -> Artifact:
    """Return how much more often each label of ChestX-ray14 is on images of men than of women."""
    needs(source, PACKAGE, "chestx-ray14-sex")
    table = frame(source, NIH, ["Finding Labels", "Patient ID", "Patient Gender"])
    men = flags(table["Patient Gender"] == "M")
    facts = [
        count(source, "images: men", int(men.sum())),
        count(source, "images: women", int((table["Patient Gender"] == "F").sum())),
    ]
    found, more = _by_label(source, table, men, "odds ratio men against women")
    return artifact(
        source, "chestx-ray14-sex", [("chestx-ray14", "")], [NIH], [*facts, *more],
        title="In ChestX-ray14 the odds of a label for men against women go from "
        f"{times(_smallest(found))} to {times(_largest(found))}",
        severity="minor",
        summary=f"The odds ratio of men against women is {times(found['Cardiomegaly'])} for cardiomegaly, "
        f"{times(found['Pneumothorax'])} for pneumothorax and {times(found['Hernia'])} for hernia, counted over "
        f"{table.height:,} images. Part is medicine and part is who was imaged. Report results by sex, and do not "
        "read a difference in predicted rates as bias of a model before comparing it with these.",
    )  # fmt: skip


def chexpert_view(source: Source) -> Artifact:
    """Return how much more often each label of CheXpert is on an AP than on a PA view; frontal training images."""
    needs(source, PACKAGE, "chexpert-view")
    table = _chexpert(source, "AP/PA", "Frontal/Lateral", *CHEXPERT_LABELS).filter(
        pl.col("Frontal/Lateral") == "Frontal"
    )
    views = {name: int((table["AP/PA"] == name).sum()) for name in ("AP", "PA", "LL", "RL")}
    facts = [count(source, "frontal images", table.height)]
    facts += [count(source, f"frontal images: {name}", number) for name, number in views.items()]
    two = table.filter(pl.col("AP/PA").is_in(["AP", "PA"]))
    ap, patients = flags(two["AP/PA"] == "AP"), codes(two["patient"])
    found = {label: odds_ratio(ap, flags(two[label] == 1), patients) for label in CHEXPERT_LABELS}
    for label, estimate in found.items():
        facts += estimated(source, f"odds ratio AP against PA: {label}", estimate, note=CLUSTERED)
    return artifact(
        source, "chexpert-view", [("chexpert", "")], [CHEXPERT], facts,
        title=f"In CheXpert the odds of edema are {times(found['Edema'])} times as high on AP as on PA views",
        severity="major",
        summary=f"Of {table.height:,} frontal training images {views['AP']:,} are AP and {views['PA']:,} PA. The odds "
        f"ratio of AP against PA is {times(found['Edema'])} for edema and {times(found['Support Devices'])} for "
        "support devices, so the view tells much of the label. Report results for each view, and balance or "
        "condition on it. Blank, negative and uncertain labels all count as absent here.",
    )  # fmt: skip


def chexpert_devices(source: Source) -> Artifact:
    """Return how much more often each label of CheXpert is beside a support device; frontal training images."""
    needs(source, PACKAGE, "chexpert-support-devices")
    others = [label for label in CHEXPERT_LABELS if label != "Support Devices"]
    table = _chexpert(source, "AP/PA", "Frontal/Lateral", *CHEXPERT_LABELS).filter(
        pl.col("Frontal/Lateral") == "Frontal"
    )
    device, patients = flags(table["Support Devices"] == 1), codes(table["patient"])
    facts = [count(source, "frontal images: support devices", int(device.sum()))]
    found, inside = {}, {}
    for label in others:
        present = flags(table[label] == 1)
        found[label] = odds_ratio(device, present, patients)
        facts += estimated(source, f"odds ratio support device: {label}", found[label], note=CLUSTERED)
        for view in ("AP", "PA"):
            rows = flags(table["AP/PA"] == view)
            inside[label, view] = odds_ratio(device[rows], present[rows], patients[rows])
            name = f"odds ratio support device, {view} only: {label}"
            facts += estimated(source, name, inside[label, view], note=CLUSTERED)
    return artifact(
        source, "chexpert-support-devices", [("chexpert", "")], [CHEXPERT], facts,
        title="In CheXpert the odds of pleural effusion are "
        f"{times(found['Pleural Effusion'])} times as high where a support device is labelled",
        severity="major",
        summary=f"The odds ratio of a support device is {times(found['Pleural Effusion'])} for pleural effusion, "
        f"{times(found['Edema'])} for edema and {times(found['Pneumothorax'])} for pneumothorax; part of it is the "
        f"view, and within PA views pneumothorax has {times(inside['Pneumothorax', 'PA'])}. A drain is a treatment of "
        "what it is taken as a sign of. Report results with and without devices, best with drains labelled by "
        "themselves: the label does not tell a drain from a pacemaker.",
    )  # fmt: skip


def chexpert_ages(source: Source) -> Artifact:
    """Return that CheXpert's age ends at 90, and how many images of how many patients there are by sex."""
    needs(source, PACKAGE, "chexpert-age")
    table = _chexpert(source, "Age", "Sex", "Frontal/Lateral")
    age = table["Age"]
    frontal = table["Frontal/Lateral"] == "Frontal"
    top = float(age.max() or 0)  # type: ignore[arg-type]
    at_top, below = int((age == top).sum()), int((age == top - 1).sum())
    facts = [
        count(source, "images", table.height),
        count(source, "frontal images", int(frontal.sum())),
        count(source, "patients", table["patient"].n_unique(), unit="patients"),
        count(source, "patients with a frontal image", table.filter(frontal)["patient"].n_unique(), unit="patients"),
    ]
    for name in ("Male", "Female", "Unknown"):
        here = table["Sex"] == name
        facts.append(count(source, f"images: {name.lower()}", int(here.sum())))
        facts.append(count(source, f"frontal images: {name.lower()}", int((here & frontal).sum())))
    facts += [
        count(source, "highest age", int(top), unit="years"),
        count(source, "images at the highest age", at_top),
        count(source, "frontal images at the highest age", int(((age == top) & frontal).sum())),
        count(source, "images one year below the highest age", below),
        count(source, "images at age 0", int((age == 0).sum())),
    ]
    return artifact(
        source, "chexpert-age", [("chexpert", "")], [CHEXPERT], facts,
        title=f"The age of CheXpert is cut off at {top:.0f}: {at_top:,} images have that age, {below:,} one year less",
        severity="minor",
        summary=f"No age is above {top:.0f} and {at_top:,} of {table.height:,} training images have just that age, "
        f"so it stands for that age and older; {int((age == 0).sum())} images have age 0, where a missing value is "
        "likely. Treat the highest age as a group that is open above, not as a number, in regressions of age and in "
        "age groups.",
    )  # fmt: skip


def chexpert_uncertain(source: Source) -> Artifact:
    """Return how many frontal training images of CheXpert are uncertain (-1) or positive, for each label."""
    needs(source, PACKAGE, "chexpert-uncertain")
    table = _chexpert(source, "Frontal/Lateral", *CHEXPERT_LABELS).filter(pl.col("Frontal/Lateral") == "Frontal")
    facts, uncertain = [count(source, "frontal images", table.height)], {}
    for label in CHEXPERT_LABELS:
        counted = {value: int((table[label] == value).sum()) for value in (-1, 0, 1)}
        uncertain[label] = counted[-1]
        facts += [
            count(source, f"frontal images, uncertain: {label}", counted[-1]),
            count(source, f"frontal images, positive: {label}", counted[1]),
            count(source, f"frontal images, negative: {label}", counted[0]),
            count(source, f"frontal images, not mentioned: {label}", table.height - sum(counted.values())),
        ]
    most = max(uncertain, key=lambda label: uncertain[label])
    return artifact(
        source, "chexpert-uncertain", [("chexpert", "")], [CHEXPERT], facts,
        title=f"CheXpert leaves edema uncertain in {uncertain['Edema']:,} frontal training images, "
        f"{most.lower()} in {uncertain[most]:,}",
        severity="minor",
        summary="The labeller writes -1 where a report is not sure, and leaves a label blank where the report is "
        "silent. Whether -1 becomes 0, 1 or is left out changes the prevalence that a model sees, most where "
        "uncertain images are as many as positive ones. State the policy for each label, and do not take blank for "
        "a radiologist's no.",
    )  # fmt: skip


def padchest_method(source: Source) -> Artifact:
    """Return how the part of PadChest that a network labelled differs from the part that physicians labelled."""
    needs(source, PACKAGE, "padchest-label-method")
    table = frame(
        source, PADCHEST, ["PatientID", "StudyDate_DICOM", "Projection", "Manufacturer_DICOM", "MethodLabel", "Labels"]
    )
    network, patients = flags(table["MethodLabel"] == "RNN_model"), codes(table["PatientID"])
    lying = flags(table["Projection"].is_in(["AP", "AP_horizontal"]))
    year = table["StudyDate_DICOM"].str.slice(0, 4)
    doctors = table.filter(~network).height
    late = share(~network, flags(year >= "2014"), patients)
    facts = [
        count(source, "images", table.height),
        count(source, "patients", table["PatientID"].n_unique(), unit="patients"),
        count(source, "images labelled by physicians", doctors),
        count(source, "images labelled by a network", int(network.sum())),
        *estimated(source, "share of physicians' images from 2014 or later", late, note=CLUSTERED),
        *estimated(source, "share AP, network against physicians", ratio_of_shares(network, lying, patients),
                   note=CLUSTERED),
    ]  # fmt: skip
    makers = table["Manufacturer_DICOM"].value_counts().sort("count", descending=True).rows()
    facts += [count(source, f"images of manufacturer {name}", number) for name, number in makers]
    found = {}
    for tube in TUBES:
        found[tube] = ratio_of_shares(network, _labelled(table["Labels"], tube), patients)
        name = f"share with {tube}, network against physicians"
        facts += estimated(source, name, found[tube], note=CLUSTERED)
    return artifact(
        source, "padchest-label-method", [("padchest", "")], [PADCHEST], facts,
        title=f"In PadChest the images labelled by a network have tubes {times(_smallest(found))} to "
        f"{times(_largest(found))} times as often as those labelled by physicians",
        severity="major",
        summary=f"Physicians labelled {doctors:,} images and a network read the reports of the other "
        f"{int(network.sum()):,}. The two parts are no random split: {percent(late)} of the physicians' images are "
        "from 2014 or later, and tubes and AP views are rarer there. A model that is trained on one part and tested "
        "on the other meets another mix of patients, so keep the method of labelling as a variable, and split by "
        "patient within each part.",
    )  # fmt: skip


def padchest_spaces(source: Source) -> Artifact:
    """Return how many labels of PadChest are lost to those who do not strip the spaces around them."""
    needs(source, PACKAGE, "padchest-label-spaces")
    table = frame(source, PADCHEST, ["MethodLabel", "Labels"])
    labels = table["Labels"]
    spaced = flags(labels.str.contains(r"'\s+[^',\s][^',]*'|'[^',]*[^',\s]\s+'"))
    network = flags(table["MethodLabel"] == "RNN_model")
    facts = [
        count(source, "images with a space around a label", int(spaced.sum())),
        count(source, "images with a space around a label, labelled by physicians", int((spaced & ~network).sum())),
        count(source, "images with an empty label", int(flags(labels.str.contains("''", literal=True)).sum())),
        count(source, "images without a list of labels", int((~labels.str.starts_with("[")).sum())),
    ]
    lost = {}
    for label in ("pneumothorax", *TUBES):
        all_of, exact = _labelled(labels, label), flags(labels.str.contains(f"'{label}'", literal=True))
        lost[label] = share(all_of, ~exact)
        facts += [
            count(source, f"images: {label}", int(all_of.sum())),
            count(source, f"images: {label}, spaces kept", int(exact.sum())),
        ]
    return artifact(
        source, "padchest-label-spaces", [("padchest", "")], [PADCHEST], facts,
        title=f"An exact match misses {percent(lost['pneumothorax'])} of PadChest's pneumothorax images, because some "
        "labels begin with a space",
        severity="major",
        summary=f"In this copy of the table {int(spaced.sum()):,} of {table.height:,} images have a label with a space "
        f"around it, {int((spaced & ~network).sum()):,} of them in the physicians' part. Whoever compares labels "
        f"without stripping them loses {percent(lost['pneumothorax'])} of the pneumothorax and "
        f"{percent(lost['endotracheal tube'])} of the endotracheal tube images, which become false negatives. Strip "
        "every label first; a search for a part of the text errs the other way and finds hydropneumothorax too.",
    )  # fmt: skip


def siim(source: Source) -> Artifact:
    """Return the counts of the SIIM-ACR pneumothorax training masks."""
    needs(source, PACKAGE, "siim-acr-ptx-counts")
    table = frame(source, SIIM, ["ImageId", "EncodedPixels"])
    masks = table.filter(pl.col("EncodedPixels").str.strip_chars() != "-1")
    images, positive = table["ImageId"].n_unique(), masks["ImageId"].n_unique()
    several = masks.group_by("ImageId").len().filter(pl.col("len") > 1).height
    facts = [
        count(source, "rows", table.height),
        count(source, "images", images),
        count(source, "images with a mask", positive),
        count(source, "masks", masks.height),
        count(source, "images with several masks", several),
    ]
    return artifact(
        source, "siim-acr-ptx-counts", [("siim-acr-ptx", "")], [SIIM], facts,
        title=f"The SIIM-ACR training table has {table.height:,} rows for {images:,} images, and no patient identifier",
        severity="minor",
        summary=f"{several:,} images have several masks, one a row, so rows are not images: {positive:,} of {images:,} "
        "images have a pneumothorax. Merge the masks of an image before scoring. No patient is named, though the "
        "images come from ChestX-ray14: do not train on one set and test on the other, and do not trust a random "
        "split of images.",
    )  # fmt: skip


def rsna(source: Source) -> Artifact:
    """Return the counts of the RSNA pneumonia training labels, and what the DICOM headers say."""
    needs(source, PACKAGE, "rsna-pneumonia-counts")
    boxes = frame(source, RSNA, ["patientId", "Target"])
    headers = frame(source, RSNA_HEADERS, ["Filename", "PatientID", "PatientAge", "PatientSex", "ViewPosition"])
    images = boxes.group_by("patientId").agg((pl.col("Target") == "1").any().alias("opacity"))
    joined = images.join(headers, left_on="patientId", right_on="PatientID", how="inner")
    ap, opacity = flags(joined["ViewPosition"] == "AP"), flags(joined["opacity"])
    ratio = odds_ratio(ap, opacity)
    age = numbers(headers, "PatientAge", f"{source.where}: '{RSNA_HEADERS}'")
    old = int((age > 120).sum())
    own = int((headers["Filename"].str.strip_suffix(".dcm") == headers["PatientID"]).sum())
    facts = [
        count(source, "rows", boxes.height),
        count(source, "images", images.height),
        count(source, "boxes", int((boxes["Target"] == "1").sum())),
        count(source, "images with a box", int(opacity.sum())),
        count(source, "images: AP", int(ap.sum())),
        count(source, "images: PA", int((joined["ViewPosition"] == "PA").sum())),
        count(source, "images: men", int((headers["PatientSex"] == "M").sum())),
        count(source, "images: women", int((headers["PatientSex"] == "F").sum())),
        count(source, "images whose patient identifier is the image's", own),
        count(source, "images at an age above 120", old),
        *estimated(source, "odds ratio AP against PA: lung opacity", ratio,
                   note="95 % interval by images: the patients are not known"),
    ]  # fmt: skip
    return artifact(
        source, "rsna-pneumonia-counts", [("rsna-pneumonia", "")], [RSNA, RSNA_HEADERS], facts,
        title=f"RSNA pneumonia names no patients: in {own:,} of {headers.height:,} images the identifier of the "
        "patient is that of the image",
        severity="major",
        summary="The images come from ChestX-ray14, which has several images of many patients, but a split "
        "by this identifier is a split by image and may put one patient on both sides. Map the images back to "
        "ChestX-ray14 before splitting, and do not test on one set what was trained on the other. The odds of an "
        f"opacity are {times(ratio)} times as high on AP as on PA views. {old} ages are above 120 and must be taken "
        "as missing.",
    )  # fmt: skip


def vindr(source: Source) -> Artifact:
    """Return the counts of the VinDr-CXR training boxes, and how often the three readers mark the same finding."""
    needs(source, PACKAGE, "vindr-cxr-readers")
    table = frame(source, VINDR, ["image_id", "class_name", "rad_id"])
    nothing = table["class_name"] == "No finding"
    readers = table.group_by("image_id").agg(pl.col("rad_id").n_unique().alias("readers"))
    three = readers.filter(pl.col("readers") == 3).height
    marked = (
        table.filter(~nothing)
        .group_by("image_id", "class_name")
        .agg(pl.col("rad_id").n_unique().alias("readers"))
        .sort("image_id", "class_name")
    )
    mixed = table.group_by("image_id").agg(nothing=(pl.col("class_name") == "No finding").any(),
                                           finding=(pl.col("class_name") != "No finding").any())  # fmt: skip
    at_odds = mixed.filter(pl.col("nothing") & pl.col("finding")).height
    agreed = share(np.ones(marked.height, dtype=bool), flags(marked["readers"] == 3), codes(marked["image_id"]))
    facts: list[Fact] = [
        count(source, "rows", table.height),
        count(source, "images", readers.height),
        count(source, "readers", table["rad_id"].n_unique()),
        count(source, "images with three readers", three),
        count(source, "boxes", int((~nothing).sum())),
        count(source, "rows 'No finding'", int(nothing.sum())),
        count(source, "images with a finding", mixed.filter("finding").height),
        count(source, "images on which readers disagree whether there is a finding", at_odds),
        *estimated(source, "share of marked findings that all three readers mark", agreed,
                   note="of pairs of image and finding that any reader marks; 95 % interval by images"),
    ]  # fmt: skip
    return artifact(
        source, "vindr-cxr-readers", [("vindr-cxr", "")], [VINDR], facts,
        title=f"In VinDr-CXR all three readers mark {percent(agreed)} of the findings that any of them marks",
        severity="minor",
        summary=f"Of {table.height:,} rows {int((~nothing).sum()):,} are boxes, and the others say that a reader found "
        f"nothing. In this table, the challenge's, {three:,} images have three "
        f"readers and {at_odds} have one who found nothing beside one who found something, yet "
        f"{percent(agreed)} of the marked findings have all three. Say how boxes were merged, and report what changes "
        "where one reader is enough and where two must agree.",
    )  # fmt: skip


RECIPES: dict[str, Callable[[Source], Artifact]] = {
    "chestx-ray14-adjudicated-labels": nih_adjudicated,
    "chestx-ray14-view": nih_view,
    "chestx-ray14-sex": nih_sex,
    "chexpert-view": chexpert_view,
    "chexpert-support-devices": chexpert_devices,
    "chexpert-age": chexpert_ages,
    "chexpert-uncertain": chexpert_uncertain,
    "padchest-label-method": padchest_method,
    "padchest-label-spaces": padchest_spaces,
    "siim-acr-ptx-counts": siim,
    "rsna-pneumonia-counts": rsna,
    "vindr-cxr-readers": vindr,
}


def _by_label(
    source: Source, table: pl.DataFrame, exposed: np.ndarray, name: str
) -> tuple[dict[str, Estimate | None], list[Fact]]:
    """Return the odds ratio of each label of ChestX-ray14 for ``exposed``, and the facts of those that exist."""
    patients = codes(table["Patient ID"])
    found = {label: odds_ratio(exposed, _any_of(table["Finding Labels"], (label,)), patients) for label in NIH_LABELS}
    facts = [
        fact
        for label, estimate in found.items()
        for fact in estimated(source, f"{name}: {label}", estimate, note=CLUSTERED)
    ]
    return found, facts


def _any_of(said: pl.Series, labels: tuple[str, ...]) -> np.ndarray:
    """Return whether a list as ``Edema|Mass`` names one of ``labels``; whole names, not parts of them."""
    return flags(said.str.contains(rf"(?:^|\|)\s*(?:{'|'.join(labels)})\s*(?:\||$)"))


def _labelled(lists: pl.Series, label: str) -> np.ndarray:
    """Return whether a list of PadChest, printed as Python does, holds ``label``, spaces around it or not."""
    return flags(lists.str.contains(rf"'\s*{label}\s*'"))


def _chexpert(source: Source, *columns: str) -> pl.DataFrame:
    """Return columns of CheXpert's training table with the ``patient`` of the path; ages and labels as numbers."""
    table = frame(source, CHEXPERT, ["Path", *columns])
    where = f"{source.where}: '{CHEXPERT}'"
    read = [numbers(table, column, where) for column in columns if column == "Age" or column in CHEXPERT_LABELS]
    return table.with_columns(pl.col("Path").str.extract(r"(patient\d+)").alias("patient"), *read)


def _smallest(found: dict[str, Estimate | None]) -> Estimate | None:
    return min((one for one in found.values() if one), key=lambda one: one.value, default=None)


def _largest(found: dict[str, Estimate | None]) -> Estimate | None:
    return max((one for one in found.values() if one), key=lambda one: one.value, default=None)
