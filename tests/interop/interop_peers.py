"""Foreign servers that receive what we send: smtp-sink, and a real Postfix."""

import os
import subprocess
import sys
from pathlib import Path

from interop_system import DEADLINE_S, System, free_port, listens, messages_in, program, wait_for

# The private Postfix is the benchmark's: one description of how to run one without touching /etc/postfix.
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import postfix


class Sink:
    """smtp-sink, which keeps each transaction in a file of its own."""

    def __init__(self, directory: Path) -> None:
        self.port, self._directory = free_port(), directory
        directory.mkdir()
        directory.chmod(0o777)  # started by root it insists on being somebody else
        drop_root = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [program("smtp-sink"), *drop_root, "-d", f"{directory}/message.", f"127.0.0.1:{self.port}", "100"],
            stdin=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
        wait_for(lambda: listens(self.port), "smtp-sink")

    def wait_messages(self, count: int = 1, *, system: System) -> list[bytes]:
        """What it received, once the queue is empty and there are `count`: X- lines of the envelope, then the text."""
        system.wait_empty()
        wait_for(lambda: len(self._whole()) >= count, f"{count} messages at the sink", look=system.log_text)
        return self._whole()

    def _whole(self) -> list[bytes]:
        """It opens its file at the connection; a file with a message in it has a blank line."""
        contents = (path.read_bytes() for path in sorted(self._directory.iterdir()))
        return [content for content in contents if b"\n\n" in content]

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(DEADLINE_S)


class Receiver:
    """A real Postfix that delivers `address` into a Maildir."""

    def __init__(self, base: Path) -> None:
        self.address = "bench@there.test"
        self._postfix = postfix.PrivatePostfix(base, free_port(), domain="there.test", agent="local")
        self.port, self.maildir = self._postfix.port, self._postfix.maildir

    @staticmethod
    def missing() -> list[str]:
        """What a Postfix of our own needs and is not there, in words."""
        return postfix.missing()

    def start(self) -> None:
        """Starts it; returns when it listens."""
        self._postfix.start()
        wait_for(lambda: listens(self.port), "Postfix")

    def wait_mail(self, count: int = 1, *, system: System) -> list[bytes]:
        """The messages in its Maildir once there are `count`."""
        wait_for(lambda: len(messages_in(self.maildir)) >= count, f"{count} messages at Postfix",
                 look=lambda: system.log_text() + self._postfix.log.read_text())  # fmt: skip
        return messages_in(self.maildir)

    def stop(self) -> None:
        """Stops it."""
        self._postfix.stop()
