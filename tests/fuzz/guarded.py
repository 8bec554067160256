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

HANG = 60
"""Seconds of the clock after which a process is taken for hanging: its own alarm should have rung after two."""


class Guarded:
    """Keeps one child; :meth:`ask` gives what a reader made of some bytes, whatever became of the child."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._seeds: dict[str, list[bytes]] = {}

    def seeds(self, name: str) -> list[bytes]:
        """Return a reader's valid files; the child has read them, and is warm."""
        if self._child is None:
            command = [sys.executable, str(Path(__file__).with_name("limits.py"))]
            here = os.environ | {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "RUST_BACKTRACE": "0"}
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=here
            )
            self._seeds = {}
        if name not in self._seeds:
            told = self._exchange({"target": name}, 300)
            assert "seeds" in told, told
            self._seeds[name] = [base64.b64decode(one) for one in told["seeds"]]
        return self._seeds[name]

    def ask(self, name: str, data: bytes) -> dict[str, Any]:
        """Return what a reader made of the bytes: ``value``, ``said`` or ``wrong``."""
        self.seeds(name)
        return self._exchange({"target": name, "data": base64.b64encode(data).decode()}, HANG)

    def ask_hostile(self, name: str, what: str) -> dict[str, Any]:
        """Return what a reader made of a hostile file, which the child makes."""
        self.seeds(name)
        return self._exchange({"target": name, "hostile": what}, HANG)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _exchange(self, asked: dict[str, str], seconds: int) -> dict[str, Any]:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], seconds)
            line = child.stdout.readline() if ready else b""
        except BrokenPipeError:
            line, ready = b"", [child.stdout]
        if line:
            return dict(json.loads(line))
        self.close()
        return {"wrong": f"the process ended ({child.returncode})" if ready else f"no answer within {seconds} s"}
