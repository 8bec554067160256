"""Make each peer an environment of its own, in $MEDAUDIT_PEERS or the folder given: `make peers`.

    python -m benchmarks.peers FOLDER [NAME...]

Packages come from PyPI: a peer that brings another torch or torchvision gets a virtual environment, one that runs in
ours a folder to import from. What is on no index is cloned at the commit that was measured; without a network that
fails in one line, and the benchmark says that the peer was not measured. Several gigabytes, most of it torches.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENTS: dict[str, Sequence[str]] = {
    "lightly": ("lightly==1.6.0", "torch==2.13.0", "torchvision", "timm"),
    "slug": ("curvlinops-for-pytorch", "laplace-torch", "torch==2.13.0"),
    "pytorch-ood": ("pytorch-ood", "torch==2.13.0"),
    "laplace-torch": ("laplace-torch", "torch==2.13.0"),
    "datasette": ("datasette==0.65.5", "uvloop", "httptools"),
}
"""A virtual environment each."""
FOLDERS: dict[str, Sequence[str]] = {
    "exmol": ("exmol==3.3.0", "selfies", "rdkit", "skunk", "synspace", "ratelimit", "--no-deps"),
    "quantus": ("quantus==0.6.0", "opencv-python-headless", "cachetools", "--no-deps"),
    "diffusers": ("diffusers==0.42.1", "--no-deps"),
}
"""A `pip install --target` each, run in our own Python."""
CLONES = {
    "patronus": ("https://github.com/nina-weng/patronus", "ab9006c"),
    "latent-graph-counterfactuals": ("https://github.com/abildtrup/latent-graph-counterfactuals", "c46feb3"),
    "gedlib": ("https://github.com/dbblumenthal/gedlib", "b017848c7"),
    "GRETEL": ("https://github.com/aiim-research/GRETEL", "0599896"),
    "fd-shifts": ("https://github.com/IML-DKFZ/fd-shifts", "c4467ae"),
}
"""Address and commit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in asked.names or [*ENVIRONMENTS, *FOLDERS, *CLONES]:
        where = asked.folder / name
        if where.is_dir():
            print(f"{name}: there already")
        elif not all(run(call) for call in calls(name, where)):
            shutil.rmtree(where, ignore_errors=True)  # half a peer would be taken for a whole one
            missed.append(name)
    print(f"not to be had here: {', '.join(missed)}" if missed else "all peers are there")


def calls(name: str, where: Path) -> list[list[str]]:
    """Return the commands that make one peer."""
    quiet = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if name in ENVIRONMENTS:
        return [
            [sys.executable, "-m", "venv", str(where)],
            [str(where / "bin" / "python"), *quiet, *ENVIRONMENTS[name]],
        ]
    if name in FOLDERS:
        return [[sys.executable, *quiet, "--target", str(where), *FOLDERS[name]]]
    if name in CLONES:
        address, commit = CLONES[name]
        return [["git", "clone", "-q", address, str(where)], ["git", "-C", str(where), "checkout", "-q", commit]]
    sys.exit(f"no peer '{name}'; there are: {', '.join([*ENVIRONMENTS, *FOLDERS, *CLONES])}")


def run(call: list[str]) -> bool:
    """Run a command; return whether it went well, and say in one line where it did not."""
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(call[:6])} ...: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.returncode == 0


if __name__ == "__main__":
    main()
