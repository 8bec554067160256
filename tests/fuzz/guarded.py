"""A process that reads what may end it: asked for one input at a time, and started anew where it died."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from readers import READERS

HANG = 60
"""Seconds of the clock after which a process is taken for hanging: its own alarm should have rung after two."""


class Guarded:
    """Keeps one child; :meth:`ask` gives what a reader made of some bytes, whatever became of the child."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._warm: set[str] = set()

    def ask(self, name: str, data: bytes) -> dict[str, Any]:
        """Return ``value``, ``said`` or ``wrong``."""
        if self._child is None:
            command = [sys.executable, str(Path(__file__).with_name("limits.py"))]
            here = os.environ | {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "RUST_BACKTRACE": "0"}
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=here
            )
            self._warm = set()
        if name not in self._warm:  # imports take their time, and memory
            self._warm.add(name)
            for seed in READERS[name].seeds():
                self._exchange(name, seed, warm=True)
        return self._exchange(name, data, warm=False)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _exchange(self, name: str, data: bytes, *, warm: bool) -> dict[str, Any]:
        child = self._child
        if child is None:
            return {"wrong": "the process ended on a valid file"}
        assert child.stdin is not None
        assert child.stdout is not None
        asked = {"target": name, "data": base64.b64encode(data).decode(), "warm": warm}
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], 300 if warm else HANG)
            line = child.stdout.readline() if ready else b""
        except BrokenPipeError:
            line, ready = b"", [child.stdout]
        if line:
            return dict(json.loads(line))
        self.close()
        return {"wrong": f"the process ended ({child.returncode})" if ready else f"no answer within {HANG} s"}
