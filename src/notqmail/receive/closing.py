"""Closing what a stranger gave to the queue's writer, without waiting for it (qmail-queue(8), --serve).

Whoever may connect may pass any descriptor, and the last close(2) of some of them takes as long as the sender likes: a
TCP socket with SO_LINGER and a peer that does not read, a file of a FUSE that the sender serves, or a connection in
which such descriptors wait unread. The writer has one thread that everybody needs, so these are closed by others.
"""

import os
import threading

CLOSING_MAX = 16  # of one user at a time; an honest one's end at once


class Closer:
    """One thread for each closing that is under way. `uid` is whose thing it was."""

    def __init__(self) -> None:
        self._closing: dict[int, int] = {}
        self._lock = threading.Lock()

    def close(self, descriptor: int, uid: int) -> None:
        """Returns at once; only where there can be no more threads it waits."""
        with self._lock:
            self._closing[uid] = self._closing.get(uid, 0) + 1
        try:
            threading.Thread(target=self._close, args=(descriptor, uid), daemon=True).start()
        except RuntimeError:
            self._close(descriptor, uid)

    def is_stuck(self, uid: int) -> bool:
        """Whether so much of this user's is being closed that no more should be taken from it."""
        return self._closing.get(uid, 0) >= CLOSING_MAX

    def _close(self, descriptor: int, uid: int) -> None:
        try:
            os.close(descriptor)
        finally:
            with self._lock:
                self._closing[uid] -= 1
                if not self._closing[uid]:
                    del self._closing[uid]
