"""How texts are read for search: folded names, stemmed words; one analyser, so that both databases find the same."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

_WORD = re.compile(r"[^\W_]+")
_STEM = snowballstemmer.stemmer("porter").stemWord


def plain(text: str) -> str:
    """Return the text in lower case without accents."""
    apart = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).lower()


def folded(name: str) -> str:
    """Return letters and digits only, in lower case: ``Chest X-ray 14`` and ``chestxray14`` are one name."""
    return "".join(_WORD.findall(plain(name)))


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    # Of "s" Porter's rules leave nothing.
    return str(_STEM(word)) or word if word.isascii() and word.isalpha() else word


def stems(text: str) -> list[str]:
    """Return the text's words, stemmed by Porter's algorithm; a word with a digit stays as it is."""
    return [_stem(word) for word in _WORD.findall(plain(text))]
