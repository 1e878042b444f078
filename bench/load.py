"""The load and the yardstick: Postfix's own smtp-source and smtp-sink, and counting what has arrived."""

import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

MESSAGE_BYTES = 4096
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_given: set[int] = set()


class Late(Exception):
    """Not everything arrived before the deadline; str() says how much did."""


def missing() -> list[str]:
    """What is needed and is not there, in words."""
    return [f"program {name} (Debian package postfix)" for name in ("smtp-source", "smtp-sink")
            if not shutil.which(name, path=PATH)]  # fmt: skip


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on, from below those that the kernel gives to connections meanwhile."""
    while True:
        port = random.randrange(10_000, 15_000)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody's service
            return port


def wait_listening(port: int, deadline_s: float = 60.0) -> None:
    """Returns when something accepts connections on the port. Raises Late."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Late(f"nothing listens on port {port}")


def send(
    port: int, recipient: str, messages: int, *, sessions: int = 20, keep_session: bool = False,
    bytes_each: int = MESSAGE_BYTES, deadline_s: float,
) -> None:  # fmt: skip
    """Runs smtp-source to its end. Raises Late, RuntimeError (smtp-source gives up at the first refusal)."""
    argv = [
        shutil.which("smtp-source", path=PATH) or "smtp-source", "-4", "-s", str(sessions), "-m", str(messages),
        "-l", str(bytes_each), "-f", "sender@source.test", "-t", recipient, "-M", "source.test",
    ]  # fmt: skip
    argv += ["-d"] if keep_session else []
    try:
        done = subprocess.run(
            [*argv, f"inet:127.0.0.1:{port}"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=deadline_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Late("smtp-source did not finish") from None
    if done.returncode:
        raise RuntimeError(f"smtp-source: {done.stderr.strip()[-500:]}")


def wait_delivered(maildir: Path, messages: int, *, deadline_s: float) -> None:
    """Returns when `messages` files are in the Maildir's new/. Raises Late.

    Listing a large directory costs; the pauses grow with what is missing, so looking costs the sides nothing.
    """
    end = time.monotonic() + deadline_s
    while (missing_now := messages - len(os.listdir(maildir / "new"))) > 0:
        if time.monotonic() > end:
            raise Late(f"only {messages - missing_now} of {messages} messages are in the Maildir")
        time.sleep(min(0.5, max(0.004, missing_now * 0.0002)))


def empty_maildir(maildir: Path) -> None:
    """Removes what earlier runs delivered."""
    for entry in os.scandir(maildir / "new"):
        os.unlink(entry.path)


class Sink:
    """smtp-sink on its port. It counts into a file, so that reading the count costs it nothing."""

    def __init__(self, port: int, counts: Path) -> None:
        program = shutil.which("smtp-sink", path=PATH) or "smtp-sink"
        drop_root = ["-u", "nobody"] if os.geteuid() == 0 else []  # it insists
        self._counts = counts
        with counts.open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-4", "-c", *drop_root, f"inet:127.0.0.1:{port}", "1024"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            wait_listening(port)
        except Late:
            self.stop()
            raise

    def seen(self) -> int:
        """How many messages it has accepted."""
        with self._counts.open("rb") as counts:
            counts.seek(max(0, os.fstat(counts.fileno()).st_size - 200))
            last = counts.read().rpartition(b"mesg=")[2]
        return int(last.split(b"\r")[0]) if b"\r" in last else 0

    def wait(self, messages: int, *, deadline_s: float) -> None:
        """Returns when it has accepted `messages`. Raises Late."""
        end = time.monotonic() + deadline_s
        while (seen := self.seen()) < messages:
            if time.monotonic() > end:
                raise Late(f"the sink has seen {seen} of {messages} messages")
            time.sleep(min(0.5, max(0.004, (messages - seen) * 0.0002)))

    def stop(self) -> None:
        """Ends it if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)
