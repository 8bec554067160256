"""What users write, and what runs keep, is read or refused in one line too: YAML, TOML, JSON, bulk files, arrays."""

import gzip
import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import DEEP

from medaudit.errors import DataError, UsageError
from medaudit.report import Figure, Report, Section, figures, render


def _answers(path: Path) -> Any:
    from medaudit.audits.explanations.advice import answers_in

    return answers_in(path)


def _framework(path: Path) -> Any:
    from medaudit.explanation.assumptions.registry import framework

    return framework(path)


def _methods(path: Path) -> Any:
    from medaudit.audits.ood.settings import method_list

    return method_list(str(path))


def _splits(path: Path) -> Any:
    from medaudit.networks.nnunet import read_splits

    return read_splits(path)


def _dataset(path: Path) -> Any:
    from medaudit.networks.nnunet import read_dataset

    return read_dataset(path.parent)


def _backbone(path: Path) -> Any:
    from medaudit.networks.vit_weights import read_vit

    if path.name != "config.json":
        path.with_name("config.json").write_text('{"model_type": "dinov2"}')
        path.rename(path.with_name("model.safetensors.index.json"))
    return read_vit(path.parent)


def _bulk(path: Path) -> Any:
    from medaudit.review.living.transports import Bulk

    return list(Bulk((path,)).parts())


def _arrays(path: Path) -> Any:
    from medaudit.report.arrays import read_arrays

    return read_arrays(path)


def _gz() -> bytes:
    broken = bytearray(gzip.compress(b'{"a": 1}\n' * 1_000))
    broken[15] ^= 255
    return bytes(broken)


def _npz() -> bytes:
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00" + head)
    return out.getvalue()


_LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (k + 1, k + 1, k, k) for k in range(40))
_YAML = {
    "nested deep": b"[" * 20_000, "a month 99": b"a: 2020-99-99", "an empty whole number": b'a: !!int ""',
    "no time": b"a: !!timestamp x", "an anchor in itself": b"a: &a [*a]", "laughs": _LAUGHS, "no UTF-8": b"\xff",
    "an object": b"!!python/object/apply:os.system [true]",
}  # fmt: skip
FILES: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
    **{f"answers of {what}": ("a.yaml", text, _answers) for what, text in _YAML.items()},
    **{f"framework of {what}": ("f.yaml", text, _framework) for what, text in _YAML.items()},
    "methods nested deep": ("m.toml", b"a = " + b"[" * 20_000, _methods),
    "splits nested deep": ("splits_final.json", DEEP, _splits),
    "dataset.json nested deep": ("dataset.json", DEEP, _dataset),
    "config.json nested deep": ("config.json", DEEP, _backbone),
    "an index that is a list": ("i.json", b'{"weight_map": [1]}', _backbone),
    "an index of numbers": ("i.json", b'{"weight_map": {"a": 5}}', _backbone),
    "a gzip that is broken inside": ("x.jsonl.gz", _gz(), _bulk),
    "arrays of 10^12": ("x.npz", _npz(), _arrays),
    "a npy called npz": ("x.npz", b"\x93NUMPY\x01\x00v\x00", _arrays),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_it_is_refused_in_one_line_that_names_it(tmp_path: Path, what: str) -> None:
    name, content, read = FILES[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, UsageError)) as raised:
        read(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert tmp_path.name in str(raised.value)
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize("sign", ["\x00", "\x1b[31m", "\x7f", "\u2028", "\ud800", "\ufffe", "\uffff"])
def test_a_name_that_xml_cannot_hold_does_not_end_the_process_that_draws_it(sign: str) -> None:
    rows = [{"group": f"a{sign}b", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}]
    svg = figures.forest(rows, title=f"t{sign}", measure=f"m{sign}", worst=f"a{sign}b")
    words = ["".join(one.itertext()) for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert any(word.startswith("a\ufffd") for word in words)


@pytest.mark.parametrize(
    "inside",
    ["<SCRIPT>evil()</SCRIPT>", '<script xmlns="">evil()</script>', '<rect ONLOAD="evil()"/>',
     '<img xmlns="" src="x"/>', '<a><animate attributeName="href" values="javascript:evil()"/></a>',
     '<a href="data:text/html,evil"><text>x</text></a>',
     "<style>@import url(//evil)</style>", "<image href='data:image/png;base64,AA=='/>"],
)  # fmt: skip
def test_a_figure_of_a_strangers_run_cannot_run_or_load_anything(inside: str) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    section = Section("h", "r", figures=[Figure(svg, "t", "d")])
    with pytest.raises(ValueError, match="figure 't'"):
        render(Report("t", "s", "h", [], [section], "m", [], [], []))


def test_an_error_that_quotes_a_file_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from medaudit.cli.main import run

    (tmp_path / "x.csv").write_bytes("a\x1b[31m\u202e,a\x1b[31m\u202e\n1,2\n".encode())
    with pytest.raises(SystemExit):
        run(["scores", str(tmp_path / "x.csv"), "--score", "a", "--by", "b"])
    said = capsys.readouterr().err
    assert "two columns" in said
    assert said.strip().isprintable()
