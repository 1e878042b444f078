"""Seeing what happens when it happens: files that appear, and figures sampled while something runs."""

import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATED, _MOVED_HERE = 0x100, 0x80  # IN_CREATE, IN_MOVED_TO: inotify(7)
_EVENT = struct.Struct("iIII")


class Arrivals:
    """Files appearing in a directory, by inotify(7): no looking again and again, which would cost the sides."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        self._descriptor = _LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if _LIBC.inotify_add_watch(self._descriptor, os.fsencode(directory), _CREATED | _MOVED_HERE) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def wait(self, deadline_s: float) -> float | None:
        """When (monotonic seconds) the next file appeared: one call for each file. None: not in time."""
        end = time.monotonic() + deadline_s
        while (left_s := end - time.monotonic()) > 0:
            if select.select([self._descriptor], [], [], left_s)[0]:
                now_s = time.monotonic()
                data = os.read(self._descriptor, _EVENT.size + 256)
                if data:
                    return now_s
        return None

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)


class Sampler:
    """Calls `look` all the time from a thread and keeps (monotonic seconds, what it gave); a context manager."""

    def __init__(self, look: Callable[[], float], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self.samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.samples.append((time.monotonic(), self._look()))
            if self._over.wait(self._every_s):
                return

    @property
    def peak(self) -> float:
        """The highest."""
        return max(value for _, value in self.samples)
