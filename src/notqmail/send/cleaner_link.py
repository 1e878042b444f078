"""qmail-send's end of the pipes to qmail-clean."""

import os

_TOGETHER_MAX = 200  # commands before their answers are read: the pipes hold far more


class CleanerLost(Exception):
    """qmail-clean is dead."""


class CleanerLink:
    """Sends commands and waits for their answers: they take microseconds and nothing may overtake them."""

    def __init__(self, commands_fd: int, replies_fd: int) -> None:
        self._commands_fd, self._replies_fd = commands_fd, replies_fd

    def remove(self, commands: list[bytes]) -> list[bool]:
        """Has files removed (`todo/N`, `foop/N`); says for each whether they are gone. Raises CleanerLost."""
        done: list[bool] = []
        for start in range(0, len(commands), _TOGETHER_MAX):
            part = commands[start : start + _TOGETHER_MAX]
            data = b"".join([command + b"\0" for command in part])
            replies = b""
            try:
                while data:
                    data = data[os.write(self._commands_fd, data) :]
                while len(replies) < len(part):
                    chunk = os.read(self._replies_fd, len(part) - len(replies))
                    if not chunk:
                        raise CleanerLost
                    replies += chunk
            except OSError as error:
                raise CleanerLost from error
            done += [reply == 0x2B for reply in replies]
        return done
