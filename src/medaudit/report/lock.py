"""A lock on a run's folder, so that two processes never write one run."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from medaudit.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows has no flock; there two writers are not kept apart
    fcntl = None  # type: ignore[assignment]


@dataclass
class Lock:
    """A held lock; :meth:`release` gives it back."""

    path: Path
    descriptor: int

    @classmethod
    def take(cls, folder: Path) -> Lock:
        """Return the lock on ``folder``; UsageError naming the process that holds it.

        The kernel holds the lock, not the file's existence: it is free again the moment its process dies,
        however it dies, so that a killed run never has to be unlocked by hand. The process id is in the file
        for the message only.
        """
        path = folder / ".lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if fcntl is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                    os.close(descriptor)
                    raise UsageError(
                        f"{folder} is being written by another process (id {holder}); "
                        "wait until it has ended, or choose another --out"
                    ) from None
                except OSError:
                    pass  # some network file systems have no locks; refusing to run there would help nobody
            if _still_there(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return cls(path, descriptor)
            os.close(descriptor)  # its last holder removed it between our opening and our locking

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self.descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if _still_there(self.path, self.descriptor):
                self.path.unlink()
        # Forgotten before it is closed: the number may be another file's by the next call.
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)


def _still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
