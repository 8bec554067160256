"""Fuzz every reader with atheris, led by what its code has run: ``make fuzz``, or with names of readers as arguments.

Each reader is fuzzed in a process of its own, in which the modules of medaudit and the decoders written in Python are
instrumented, under the limits of :mod:`limits`. A crash is what :func:`limits.judge` calls wrong, or the end of the
process; its bytes are kept in the folder that is printed. Environment: ``SECONDS`` for each reader (default 30).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = [
    "medaudit", "nibabel.nifti1", "nibabel.nifti2", "nibabel.analyze", "nibabel.wrapstruct", "pydicom.filereader",
    "pydicom.dataset", "pydicom.values", "pydicom.dataelem", "numpy.lib.format", "numpy.lib._format_impl", "tarfile",
    "yaml", "csv", "json", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "PIL.BmpImagePlugin", "PIL.JpegImagePlugin",
    "torch._weights_only_unpickler",
]  # fmt: skip
"""Of workbooks and Parquet nothing is seen: they are read by a process of their own, half a second each."""


def fuzz(name: str, seconds: int, keep: Path) -> str:
    """Fuzz one reader in a child and return a row of the table."""
    corpus = keep / "corpus" / re.sub(r"\W+", "-", name)
    crashes = keep / "crashes" / re.sub(r"\W+", "-", name)
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, __file__, "--child", name, str(corpus), f"-max_total_time={seconds}", "-max_len=65536",
        f"-artifact_prefix={crashes}/", "-rss_limit_mb=0", "-timeout=60", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    here = os.environ | {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=here, check=False)
    (crashes / "log.txt").write_text(done.stdout + done.stderr)
    told = done.stdout + done.stderr
    runs = re.findall(r"number_of_executed_units: (\d+)", told) or re.findall(r"^#(\d+)\s", told, re.MULTILINE)
    covered = [int(one) for one in re.findall(r"cov: (\d+)", told)]
    found = [path for path in crashes.iterdir() if path.name != "log.txt"]
    return (
        f"{name:16} {runs[-1] if runs else '0':>9} {(covered or [0])[0]:>7} {(covered or [0])[-1]:>7} "
        f"{len(list(corpus.iterdir())):>7} {len(found):>8}"
    )


def child(name: str, arguments: list[str]) -> None:
    """Fuzz one reader in this process until its time is over or something is wrong."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from limits import bounded, judge
        from mutations import mutated
        from readers import READERS

        target = READERS[name]
        seeds = target.seeds()
        for seed in seeds:
            judge(target, seed, warm=False)
    corpus = Path(arguments[0])
    for k, seed in enumerate(seeds):
        (corpus / f"seed-{k}").write_bytes(seed)

    def one(data: bytes) -> None:
        found = bounded(lambda: judge(target, data))
        if "wrong" in found:
            raise RuntimeError(found["wrong"])

    def change(data: bytes, most: int, seed: int) -> bytes:
        import random

        chance = random.Random(seed)  # half of the time ours, which know of headers; else atheris' own
        return mutated(data, chance)[:most] if chance.random() < 0.5 else atheris.Mutate(data, most)

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=change)
    atheris.Fuzz()


def main() -> None:
    """Fuzz all readers, or those that are named, and print the table; exit with 1 where there was a crash."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
        return
    from readers import READERS, present

    parser = argparse.ArgumentParser(description="Fuzz the readers of medaudit.")
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(READERS)}")
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("SECONDS", "30")))
    parser.add_argument("--keep", type=Path, default=None, help="folder for corpora and crashes; by default a new one")
    asked = parser.parse_args()
    keep = asked.keep or Path(tempfile.mkdtemp(prefix="medaudit-fuzz-"))
    print(f"corpora and crashes: {keep}")
    print(f"{'reader':16} {'inputs':>9} {'cov. at':>7} {'cov. to':>7} {'corpus':>7} {'crashes':>8}", flush=True)
    crashed = False
    for name in asked.names or READERS:
        if not present(name):
            print(f"{name:16} not installed", flush=True)
            continue
        row = fuzz(name, asked.seconds, keep)
        crashed = crashed or not row.endswith(" 0")
        print(row, flush=True)
    sys.exit(1 if crashed else 0)


if __name__ == "__main__":
    main()
