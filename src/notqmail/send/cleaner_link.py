"""qmail-send's end of the pipes to qmail-clean."""

import os
import select

TOGETHER_MAX = 1_000  # commands before their answers are read: the pipes hold far more


class CleanerLost(Exception):
    """qmail-clean is dead."""


class CleanerLink:
    """Sends commands; their answers come in the same order.

    `remove` waits for them: a few microseconds, or as long as the file system has something else to do. `ask` does
    not: `replies_fd` is readable when there is more of its answers, unless a `remove` has read them already
    (`has_answered`).
    """

    def __init__(self, commands_fd: int, replies_fd: int) -> None:
        self._commands_fd, self.replies_fd = commands_fd, replies_fd
        os.set_blocking(replies_fd, False)
        self._asked = 0  # answers that `removed` owes
        self._replies = b""

    def remove(self, commands: list[bytes]) -> list[bool]:
        """Has files removed (`todo/N`, `foop/N`); says for each whether they are gone. Raises CleanerLost."""
        done: list[bool] = []
        for start in range(0, len(commands), TOGETHER_MAX):
            part = commands[start : start + TOGETHER_MAX]
            self._send(part)
            end = self._asked + len(part)
            while len(self._replies) < end:
                self._wait()
                self._read()
            done += _verdicts(self._replies[self._asked : end])
            self._replies = self._replies[: self._asked] + self._replies[end:]
        return done

    def ask(self, commands: list[bytes]) -> None:
        """The same for at most TOGETHER_MAX commands, whose answers are fetched with `removed` before the next ones.

        Raises CleanerLost.
        """
        self._send(commands)
        self._asked = len(commands)

    @property
    def has_answered(self) -> bool:
        """Whether the answers to `ask` have been read."""
        return len(self._replies) >= self._asked

    def wait_for_answer(self) -> None:
        """Returns when there is more of it, or all of it. Raises CleanerLost."""
        if not self.has_answered:
            self._wait()
            self._read()

    def removed(self) -> list[bool] | None:
        """What `ask` was answered, or None while some of it is still to come. Raises CleanerLost."""
        if not self.has_answered:
            self._read()
        if not self.has_answered:
            return None
        answers, self._replies = self._replies[: self._asked], self._replies[self._asked :]
        self._asked = 0
        return _verdicts(answers)

    def _send(self, commands: list[bytes]) -> None:
        data = b"".join([command + b"\0" for command in commands])
        try:
            while data:
                data = data[os.write(self._commands_fd, data) :]
        except OSError as error:
            raise CleanerLost from error

    def _read(self) -> None:
        try:
            chunk = os.read(self.replies_fd, 4_096)
        except BlockingIOError:
            return
        except OSError as error:
            raise CleanerLost from error
        if not chunk:
            raise CleanerLost
        self._replies += chunk

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self.replies_fd, select.POLLIN)
        poll.poll()


def _verdicts(replies: bytes) -> list[bool]:
    return [reply == 0x2B for reply in replies]
