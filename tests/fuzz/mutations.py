"""Bytes that are nearly a valid file: cut off, flipped, spliced, with numbers that no file should claim."""

from __future__ import annotations

import random

from hypothesis import strategies as st

NUMBERS = (0, 1, 127, 128, 255, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"0",
    b"-1",
    b"1e308",
    b"nan",
    b"999999999999",
    b"1000000000 1000000000",
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"\r",
    b"\x1b[31m",
    b"{",
    b"[",
    b'"',
    b"'",
    b"(",
    b"=",
    b"#",
    b"@",
    b"<!DOCTYPE a>",
    b"../x",
    b"/etc/passwd",
    b",",
    b";",
    b"\t",
    "\u202e\u2028\x85".encode(),
    b"&a [*a, *a]",
    b"!!int ''",
    b"!!timestamp x",
    b"$$$$",
    b"True",
    b"9" * 5_000,
)


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """Return the bytes after one to four changes."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = min(chance.randrange(len(data) + 1), chance.randrange(len(data) + 1))  # headers are at the beginning
        kind = chance.randrange(7)
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 2 and data:
            data[at % len(data)] = chance.choice((0, 1, 127, 128, 255))
        elif kind == 3:
            width = chance.choice((1, 2, 4, 8))
            number = (chance.choice(NUMBERS) % 256**width).to_bytes(width, chance.choice(("little", "big")))
            data[at : at + width] = number
        elif kind == 4:
            word = chance.choice(WORDS)
            data[at : at + chance.choice((0, len(word)))] = word
        elif kind == 5:
            end = chance.randrange(at, len(data) + 1)
            data[at:at] = data[at:end] * chance.choice((1, 2, 50))
        else:
            del data[at : chance.randrange(at, len(data) + 1)]
        del data[1 << 20 :]
    return bytes(data)


def mutations(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Draw a seed and what becomes of it."""
    return st.builds(
        lambda seed, number: mutated(seed, random.Random(number)), st.sampled_from(seeds), st.integers(0, 2**32 - 1)
    )
