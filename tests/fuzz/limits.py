"""One input of one reader under limits of time and memory; the child that :mod:`guarded` asks, and atheris, use it."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["MEDAUDIT_LARGEST_GIB"] = "0.0625"
os.environ["OMP_NUM_THREADS"] = "1"

from readers import READERS, Target

SECONDS = 2.0
"""Of processor time, for one input."""
ADDRESSES = 3 << 29
"""Bytes that one input may reserve."""
RESIDENT_KIB = 500 << 10
"""Memory that one input may really use. Pillow's own bound lets a picture have 180 million pixels."""


class TooLongError(BaseException):
    """The alarm; no BaseException of a reader's own is taken for it."""


def judge(target: Target, data: bytes, *, warm: bool = True) -> dict[str, Any]:
    """Return what a reader made of the bytes: ``said`` (an error in one line), ``value``, or ``wrong``."""
    from medaudit.errors import DataError, UsageError

    with tempfile.TemporaryDirectory() as folder:
        path = target.lay(Path(folder), data)
        if warm:
            signal.signal(signal.SIGPROF, _alarm)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            target.call(path)
        except (DataError, UsageError) as error:
            said = " ".join(str(error).split())  # as the command line prints it
            if target.names_file and Path(folder).name not in said and path.name not in said:
                return {"wrong": f"does not name its file: {said}"}
            return {"wrong": f"{len(said)} characters: {said[:300]}"} if len(said) > 2_000 else {"said": said}
        except TooLongError:
            return {"wrong": f"took more than {SECONDS:g} s: {_place()}"}
        except BaseException as error:
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
            return {"wrong": "".join(traceback.format_exception(error)[-6:])[-3_000:]}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {"value": True}


def bounded(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``call`` returns; ``wrong`` where it used more memory than an input may."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    resource.setrlimit(resource.RLIMIT_AS, (1024 * _status("VmSize") + ADDRESSES, hard))
    try:
        found = call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    if (used := _status("VmHWM") - before) > RESIDENT_KIB and "wrong" not in found:
        return {"wrong": f"used {used >> 10} MiB of memory"}
    return found


def _alarm(*_: Any) -> None:
    global _at
    _at = "".join(traceback.format_stack(limit=8))[-1_500:]
    raise TooLongError


_at = ""


def _place() -> str:
    return _at


def _status(what: str) -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(what))
    return int(line.split()[1])


def _serve() -> None:
    """Answer one line of JSON with one line of JSON; nothing else may reach standard output.

    Files are made here too, valid and hostile ones: torch and the like are then imported once.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        target = READERS[asked["target"]]
        if "data" in asked or "hostile" in asked:
            data = base64.b64decode(asked["data"]) if "data" in asked else _made(asked["hostile"])
            found = bounded(lambda t=target, d=data: judge(t, d))  # type: ignore[misc]
        else:
            seeds = target.seeds()
            found = {"seeds": [base64.b64encode(seed).decode() for seed in seeds]}
            for seed in seeds:  # imports take their time, and memory
                judge(target, seed, warm=False)
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _made(what: str) -> bytes:
    from hostile import HOSTILE

    return HOSTILE[what][1]()


if __name__ == "__main__":
    _serve()
