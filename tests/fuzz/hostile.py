"""Files made to harm: what they promise, unfold to, name or hide, and what must be said of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from readers import READERS, bundle

_ZEROS = 96 << 20
"""More than a file may unfold to in these tests (64 MiB), too little to harm where it is not refused."""


@lru_cache
def _packed(size: int, wbits: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, wbits)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def _nifti(*shape: int, zipped: bool = False, content: int = 0) -> bytes:
    head = bytearray(READERS["nifti"].seeds()[0])
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    data = bytes(head[:352])
    return gzip.compress(data) + _packed(content, 31) if zipped else data + bytes(100)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", _packed(1 << 20, 15)) + chunk(b"IEND", b"")


def _npy_header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _npz_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("mask.npy", "w") as member:
        member.write(_npy_header(f"({_ZEROS >> 10}, 1024)"))
        for _ in range(_ZEROS >> 20):
            member.write(bytes(1 << 20))
    return out.getvalue()


def _objects() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    return out.getvalue()


def _far_cell() -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for row, column in ((0, 0), (1, 0), (1_048_575, 16_383)):
            sheet.write(row, column, "x")
    return out.getvalue()


def _workbook_bomb() -> bytes:
    [seed] = READERS["xlsx"].seeds()
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != "xl/worksheets/sheet1.xml":
                new.writestr(name, old.read(name))
                continue
            with new.open(name, "w") as member:  # rows without end, and every cell is kept
                member.write(
                    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
                )
                for row in range(1, 8_001):
                    cells = b"".join(b'<c r="%s%d"><v>1</v></c>' % (letter, row) for letter in (b"A", b"XFD"))
                    member.write(b'<row r="%d">%s</row>' % (row, cells))
                member.write(b"</sheetData></worksheet>")
    return out.getvalue()


def _nrrd(data_file: str, more: str = "") -> bytes:
    return f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 8 8\nencoding: raw\n{data_file}\n{more}\n".encode()


def _mha(data_file: str) -> bytes:
    return (
        f"NDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\n{data_file}\nElementDataFile = LOCAL\n".encode()
        + bytes(64)
    )


def _dicom(**changes: int) -> bytes:
    import pydicom

    one = pydicom.dcmread(io.BytesIO(READERS["dicom"].seeds()[0]))
    for name, value in changes.items():
        setattr(one, name, value)
    out = io.BytesIO()
    one.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _deflated_dicom() -> bytes:
    raw = READERS["dicom"].seeds()[0]
    before, explicit, after = raw.partition(b"1.2.840.10008.1.2.1\0")
    meta = before[-8:]  # the element's tag, VR and length
    assert meta[:4] == b"\x02\x00\x10\x00"
    syntax = b"1.2.840.10008.1.2.1.99"
    old = struct.unpack("<I", raw[140:144])[0]
    head = before[:-2] + struct.pack("<H", len(syntax)) + syntax
    head = head[:140] + struct.pack("<I", old + len(syntax) - len(explicit)) + head[144:]
    end = 144 + old + len(syntax) - len(explicit)
    return (head + after)[:end] + _packed(_ZEROS, -15)


def _parquet_of_many_rows() -> bytes:
    import polars as pl

    out = io.BytesIO()
    pl.select(a=pl.repeat(0, 1 << 27, dtype=pl.Int8)).write_parquet(out)
    return out.getvalue()


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 0
        archive.addfile(info, io.BytesIO(b""))
    return out.getvalue()


def _tar_bomb() -> bytes:
    """A pax header of 200 MiB: it would be read at once, before the member that it describes is looked at."""
    size = 200 << 20
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    return gzip.compress(info.tobuf()) + _packed(size, 31)


def _graph(**files: bytes) -> bytes:
    return bundle({name.replace("__", "."): content for name, content in files.items()})


def _in_itself() -> bytes:
    import torch

    inner: dict[str, object] = {"x": torch.zeros(1)}
    for _ in range(40):
        inner = {"a": inner, "b": inner}
    out = io.BytesIO()
    torch.save(inner, out)
    return out.getvalue()


def _run(**files: object) -> bytes:
    from readers import unbundled

    [seed] = READERS["run folder"].seeds()
    found = unbundled(seed, READERS["run folder"].files)
    for name, content in files.items():
        found[f"{name}.json"] = content if isinstance(content, bytes) else json.dumps(content).encode()
    return bundle(found)


DEEP = b"[" * 100_000 + b"]" * 100_000
_LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + k, 98 + k, b", ".join([b"*%c" % (97 + k)] * 9)) for k in range(12)
)
_IMAGES = "train-images-idx3-ubyte.gz"

HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "nifti of 32767 cubed": ("nifti", lambda: _nifti(32767, 32767, 32767), "promises"),
    "nifti of 7 dimensions": ("nifti", lambda: _nifti(*[32767] * 7), "promises"),
    "nifti gzip bomb": ("nifti gzipped", lambda: _nifti(10016, 10016, zipped=True, content=_ZEROS), "promises"),
    "nrrd of 10^9 x 10^9": ("nrrd", lambda: _nrrd("").replace(b"8 8", b"1000000000 1000000000") + bytes(64), "x.nrrd"),
    "nrrd of very many sizes": (
        "nrrd",
        lambda: _nrrd("").replace(b"sizes: 8 8", b"sizes: " + b"2 " * 20_000),
        "x.nrrd",
    ),
    "nrrd that reads another file": ("nrrd", lambda: _nrrd("data file: ../../etc/passwd"), "own folder"),
    "nrrd that reads /etc/passwd": ("nrrd", lambda: _nrrd("DataFile: /etc/passwd"), "own folder"),
    "nrrd with a list of other files": ("nrrd", lambda: _nrrd("data file: LIST", "/etc/passwd"), "own folder"),
    "nrrd behind a megabyte of remarks": (
        "nrrd",
        lambda: _nrrd("# " + "x" * (1 << 20), "data file: /etc/passwd"),
        "header",
    ),
    "mha that reads /etc/passwd": ("mha", lambda: _mha("ElementDataFile : /etc/passwd"), "own folder"),
    "mha of ten dimensions": ("mha", lambda: _mha("").replace(b"NDims = 2", b"NDims = 10"), "not a MetaImage"),
    "mha of 10^9 x 10^9": ("mha", lambda: _mha("").replace(b"8 8", b"1000000000 1000000000"), "x.mha"),
    "dicom of 65535 x 65535 x 10^6": (
        "dicom",
        lambda: _dicom(Rows=65535, Columns=65535, NumberOfFrames=10**6),
        "promises",
    ),
    "dicom deflate bomb": ("dicom", _deflated_dicom, "promises"),
    "png of 30000 x 30000": ("png", lambda: _png(30_000, 30_000), "decompression bomb"),
    "eps for a png": (
        "png",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "cannot identify",
    ),
    "npy of 10^6 cubed": ("npy", lambda: _npy_header("(1000000, 1000000, 1000000)") + bytes(99), "x.npy"),
    "npy of objects": ("npy", _objects, "x.npy"),
    "npz of objects": ("npz", lambda: _zip(**{"mask.npy": _objects()}), "x.npz"),
    "npz of 10^12 in a hundred bytes": (
        "npz",
        lambda: _zip(**{"mask.npy": _npy_header("(1000000, 1000000)")}),
        "promises",
    ),
    "npz bomb": ("npz", _npz_bomb, "promises"),
    "csv of a million columns": ("csv", lambda: b",".join(b"c%d" % k for k in range(1_000_000)) + b"\n", "columns"),
    "csv of a million commas": ("csv", lambda: b"a" + b"," * 1_000_000 + b"b\n1\n", "columns"),
    "csv of one endless cell": ("csv", lambda: b'a,b\n"' + b"x" * 1_000_000, "not a text table"),
    "xlsx with a cell in the last corner": ("xlsx", _far_cell, "stray cells"),
    "xlsx of 131 million cells": ("xlsx", _workbook_bomb, "stray cells"),
    "parquet of 134 million rows": ("parquet", _parquet_of_many_rows, "unfolds to"),
    "expression of a number of 400 digits": ("expression", lambda: b"age < " + b"9" * 400, "cannot read"),
    "expression nested deep": ("expression", lambda: b"not " * 2_000 + b"age < 1", "cannot read"),
    "expression of 20,000 questions": ("expression", lambda: b" or ".join([b"age < 1"] * 20_000), "at most"),
    "edge of node 10^12": (
        "edge lists",
        lambda: _graph(participants__csv=b"id,g\na,x\n", a__edgelist=b"0 1000000000000\n"),
        "expected at most",
    ),
    "edge of node 1e300": (
        "edge lists",
        lambda: _graph(participants__csv=b"id,g\na,x\n", a__edgelist=b"0 1e300\n"),
        "whole numbers",
    ),
    "neighbour of node 10^30": (
        "adjacency lists",
        lambda: _graph(a_graph__adjlist=b"0 1\n1" + b"0" * 30, a_graph_label__json=b"1"),
        "line 2",
    ),
    "10^5000 neighbours": (
        "adjacency lists",
        lambda: _graph(a_graph__adjlist=b"0 1" + b"0" * 5_000, a_graph_label__json=b"1"),
        "line 1",
    ),
    "an adjacency list of nothing": (
        "adjacency lists",
        lambda: _graph(a_graph__adjlist=b"# made\n", a_graph_label__json=b"1"),
        "a_graph.adjlist: graph a: nodes",
    ),
    "class nested deep": (
        "adjacency lists",
        lambda: _graph(a_graph__adjlist=b"0 0\n", a_graph_label__json=DEEP),
        "not JSON",
    ),
    "sdf with an element that ends in a NUL": (
        "sdf",
        lambda: READERS["sdf"].seeds()[0].replace(b" C  ", b" C\0 "),
        "expected an atom",
    ),
    "tudataset edge out of range": (
        "tudataset",
        lambda: bundle(
            {"S_A.txt": b"1, 9007199254740992\n", "S_graph_indicator.txt": b"1\n", "S_graph_labels.txt": b"1\n"}
        ),
        "expected nodes from 1",
    ),
    "tudataset of 10^12 graphs": (
        "tudataset",
        lambda: bundle(
            {"S_A.txt": b"1, 2\n", "S_graph_indicator.txt": b"1\n1000000000000\n", "S_graph_labels.txt": b"1\n"}
        ),
        "has no nodes",
    ),
    "tudataset kinds far apart": (
        "tudataset",
        lambda: bundle(
            {
                "S_A.txt": b"",
                "S_graph_indicator.txt": b"1\n1\n",
                "S_graph_labels.txt": b"1\n",
                "S_node_labels.txt": b"0\n1000000000000\n",
            }
        ),
        "without such gaps",
    ),
    "idx gzip bomb": ("idx", lambda: bundle({_IMAGES: _packed(_ZEROS, 31)}), "unpacks to more"),
    "medmnist bomb": (
        "medmnist",
        lambda: _zip(
            **{
                f"{split}_{what}.npy": _npy_header("(1000000, 1000000)")
                for split in ("train", "val", "test")
                for what in ("images", "labels")
            }
        ),
        "promises",
    ),
    "tar that leads out": ("ph2 tar", lambda: _tar("../evil.bmp"), "out of the archive"),
    "tar with an absolute path": ("ph2 tar", lambda: _tar("/tmp/evil.bmp"), "out of the archive"),
    "tar with a link": (
        "ph2 tar",
        lambda: _tar("x/patchesDataSet/Similar/patch0a.bmp", tarfile.SYMTYPE, "/etc/passwd"),
        "a link",
    ),
    "tar of a huge header": ("ph2 tar", _tar_bomb, "unpacks to more"),
    "bibtex macros that double": (
        "bibtex",
        lambda: (
            b"@string{a0 = {xxxxxxxxxx}}\n" + b"".join(b"@string{a%d = a%d # a%d}\n" % (k + 1, k, k) for k in range(60))
        ),
        "macros",
    ),
    "bibtex of braces": ("bibtex", lambda: b"@misc{a, title = " + b"{" * 1_000_000, "not closed"),
    "croissant nested deep": ("croissant", lambda: DEEP, "nested"),
    "croissant of one number": ("croissant", lambda: b'{"a": ' + b"9" * 1_000_000 + b"}", "cannot be read"),
    "yaml of nine to the twelfth": ("records yaml", lambda: _LAUGHS, "anchors"),
    "yaml nested deep": ("records yaml", lambda: b"[" * 100_000, "nested"),
    "yaml that would run": (
        "records yaml",
        lambda: b"!!python/object/apply:os.system [touch /tmp/x]",
        "cannot be read",
    ),
    "yaml of an empty whole number": ("records yaml", lambda: b'a: !!int ""\n', "cannot be read"),
    "yaml of no time": ("records yaml", lambda: b"a: !!timestamp x\n", "cannot be read"),
    "yaml of neither true nor false": ("records yaml", lambda: b"a: !!bool x\n", "cannot be read"),
    "findings nested deep": ("run folder", lambda: _run(findings=DEEP), "findings.json"),
    "findings of another shape": (
        "run folder",
        lambda: _run(findings=[{"estimate": {"value": 1, "low": 1, "high": 1, "p": 1, "p_adjusted": 1, "extra": [1]}}]),
        "findings.json",
    ),
    "report nested deep": ("run folder", lambda: _run(report=DEEP), "report.json"),
    "run nested deep": ("run folder", lambda: _run(run=DEEP), "run.json"),
    "weights in themselves 2^40 times": ("weights", _in_itself, "entries"),
}
"""Name to (reader, bytes, words that must stand in what is said)."""
