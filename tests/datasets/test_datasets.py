"""Datasets are found by name, and each says where it is from and what it asks of its users."""

from pathlib import Path

import pytest

from medaudit import datasets
from medaudit.errors import UsageError

TERMS_OF_THEIR_OWN = {
    "chexpert-pacemaker": "no redistribution",
    "ddi": "no redistribution",
    "fashion-mnist": "MIT",
    "isic-ruler": "no licence stated",
    "nih-drain": "no licence stated",
    "ph2-patches": "research only",
}


def test_a_name_that_is_nearly_right_is_corrected():
    with pytest.raises(UsageError, match="no dataset is called 'hc-18'; did you mean 'hc18'"):
        datasets.load("hc-18", Path())
    with pytest.raises(UsageError, match="did you mean 'mama-mia'"):
        datasets.find("MAMA_MIA")
    with pytest.raises(UsageError, match="did you mean 'pad-ufes-20'"):
        datasets.find("pad_ufes_20")
    with pytest.raises(
        UsageError, match="there are: african-planes, breast-lesions-usg, chexpert-pacemaker, ddi, fashion-mnist"
    ):
        datasets.find("???")


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_each_dataset_says_where_it_is_from_and_what_it_asks(name):
    dataset = datasets.find(name)
    assert dataset.name == name
    assert dataset.licence.startswith("CC BY") or name in TERMS_OF_THEIR_OWN
    assert TERMS_OF_THEIR_OWN.get(name, "CC BY") in dataset.licence
    assert dataset.url.startswith("https://")
    assert "doi:" in dataset.citation
    assert dataset.layout.startswith("ROOT/")
    assert dataset.source.title == dataset.title
    assert dataset.needs
