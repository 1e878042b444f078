"""qmail-clean: removes queue files on qmail-send's order, because qmail-send may not write mess, intd and todo.

Commands are NUL-terminated: `todo/N` (preprocessed: intd and todo go) and `foop/N` (finished: intd and mess go);
each is answered with one byte. Files under pid/ that are older than any writer lives go now and then.
"""

import os

from notqmail.queue.layout import CLEANUP_AGE_S, number_of, split_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

DONE, MALFORMED, FAILED = b"+", b"x", b"!"
_COMMAND_BYTES = range(7, 101)  # with its NUL
_SWEEP_EVERY = 30  # commands


class Cleaner:
    """The agent: one command in, one byte out."""

    def __init__(self, disk: "Disk", clock: "Clock") -> None:
        self._disk, self._clock, self._until_sweep = disk, clock, 0

    def perform(self, command: bytes) -> bytes:
        """Does one command (without its NUL). Files that are gone already count as removed."""
        if self._until_sweep == 0:
            self._until_sweep = _SWEEP_EVERY
            self.sweep()
        self._until_sweep -= 1
        number = number_of(command[5:])
        if len(command) + 1 not in _COMMAND_BYTES or number is None or command[:5] not in (b"foop/", b"todo/"):
            return MALFORMED
        try:
            if command[:5] == b"todo/":
                self._disk.discard(b"intd/%d" % number)
                self._disk.discard(b"todo/%d" % number)
            else:
                self._forget_intd(number)
                self._disk.discard(split_path(b"mess", number))
        except OSError:
            return FAILED
        return DONE

    def _forget_intd(self, number: int) -> None:
        """Of a message that C's qmail-queue never finished there is still an envelope. Its name must not come back when
        the message file is gone: nobody would remove it, and C's qmail-queue could not use this number again.
        """
        try:
            self._disk.unlink(b"intd/%d" % number)
        except FileNotFoundError:
            return  # as nearly always
        self._disk.sync([b"intd"])

    def sweep(self) -> None:
        """Removes what dead writers left under pid/."""
        try:
            for name in self._disk.names(b"pid"):
                state = self._disk.state(b"pid/" + name)
                if state is not None and state.is_file and self._clock.now_s() - state.accessed_s >= CLEANUP_AGE_S:
                    self._disk.discard(b"pid/" + name)
        except OSError:
            pass  # next time, 30 commands on


def serve(cleaner: Cleaner, commands_fd: int = 0, replies_fd: int = 1) -> int:
    """Obeys until end of file; returns the exit code (100 when nobody reads the replies)."""
    buffer = b""
    while True:
        chunk = os.read(commands_fd, 65_536)
        if not chunk:
            return 0
        *commands, buffer = (buffer + chunk).split(b"\0")
        replies = b"".join([cleaner.perform(command) for command in commands])
        if len(buffer) > _COMMAND_BYTES.stop:
            buffer = buffer[: _COMMAND_BYTES.stop]  # long enough to be malformed when its NUL comes
        try:
            if replies:
                os.write(replies_fd, replies)
        except OSError:
            return 100
