"""Run the benchmarks and write what they print, with machine, date and versions, into docs/benchmarks.md.

    python -m benchmarks                       # all of them, two hours on two cores (two of them most)
    python -m benchmarks bootstrap full_audit  # some of them

Each prints its own table; it takes the place of what stands between `<!-- bench:NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version

from benchmarks import targets
from benchmarks.targets import PAGE

BENCHMARKS = {
    "metrics_engine": [],
    "bootstrap": [],
    "full_audit": ["--cases", "80"],
    "calibration": ["--cohorts", "500"],
    "training_loop": [],
    "planted_causes": [],
    "dinov2": [],
    "probe_sweep": [],
    "ood_metrics": [],
    "uncertainty_scores": [],
    "slug": [],
    "prototype_diffusion": ["--rounds", "3"],
    "latent_codes": [],
    "graph_layers": [],
    "graph_edit": ["--peers", "20", "--budget", "5", "--gedlib", "300"],
    "counterfactuals": ["--graphs", "12"],
    "attributions": ["--images", "3", "--rounds", "2", "--permutations", "40"],
    "warrants": [],
    "review": [],
    "scale": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME")
    failed = []
    for name in parser.parse_args().names or BENCHMARKS:
        call = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name]]
        print(f"== {' '.join(call[1:])}", flush=True)
        lines = []
        with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            print(f"{name} ended with code {process.returncode}; the page keeps what it had", file=sys.stderr)
            failed.append(name)
            continue
        try:
            record(name, "".join(lines))
        except ValueError as error:  # a table that lacks the row of a target: the hours of the others are worth keeping
            print(f"{name} is on the page, the table of targets is not anew: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        sys.exit(f"not measured, or not read: {', '.join(failed)}")


def record(name: str, printed: str) -> None:
    """Put what a benchmark printed into its place on the page."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    versions = ", ".join(f"{package} {version(package)}" for package in ("medaudit", "numpy", "scipy", "numba"))
    head = f"*{datetime.date.today():%d %B %Y}, {machine}, Python {platform.python_version()}, {versions}.*"
    body = printed.strip() if printed.lstrip().startswith("|") else f"```text\n{printed.strip()}\n```"
    page = PAGE.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- bench:{name} -->).*?(<!-- end -->)", re.DOTALL)
    if not place.search(page):
        sys.exit(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(place.sub(lambda found: f"{found[1]}\n{head}\n\n{body}\n{found[2]}", page), encoding="utf-8")
    targets.write()


if __name__ == "__main__":
    main()
