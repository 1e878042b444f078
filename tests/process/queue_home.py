"""A home of one's own for tests of the queue's programs, and what they do with it."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from notqmail.wire.netstring import decode_one
from notqmail.wire.qmqp import encode_package

DEADLINE_S = 60.0
LOGIN = pwd.getpwuid(os.geteuid()).pw_name


def until(reached: Callable[[], object], shown: Callable[[], object] = lambda: "") -> None:
    """Polls another process's doing, with a deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, shown()
        time.sleep(0.01)


class Home:
    """`notqmail init`, single-user. `bin` has the launchers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(
            [sys.executable, "-m", "notqmail.admin", "init", path, "--host", "me.test"],
            check=True, capture_output=True, timeout=DEADLINE_S,
        )  # fmt: skip
        self.environ = {**os.environ, "QMAILHOME": str(path)}

    def program(self, name: str) -> str:
        return str(self.path / "bin" / name)

    def queued(self) -> dict[int, bytes]:
        """Envelopes in todo by message number; each has its message file."""
        found = {}
        for path in (self.path / "queue" / "todo").iterdir():
            number = int(path.name)
            assert (self.path / "queue" / "mess" / str(number % 23) / path.name).exists()
            found[number] = path.read_bytes()
        return found

    def message(self, number: int) -> bytes:
        return (self.path / "queue" / "mess" / str(number % 23) / str(number)).read_bytes()

    def litter(self) -> list[str]:
        return [str(path) for part in ("pid", "intd") for path in (self.path / "queue" / part).iterdir()]

    def new_mail(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.path / "Maildir" / "new").iterdir()]

    def queue(self, message: bytes, envelope: bytes, **more: object) -> int:
        """Runs the one-shot qmail-queue; its exit code."""
        return run_queue(self.program("qmail-queue"), message, envelope, env={**self.environ}, **more)


def run_queue(program: str, message: bytes, envelope: bytes, **more: object) -> int:
    """One run of a qmail-queue, whatever it is; its exit code."""
    message_in, message_out = os.pipe()
    envelope_in, envelope_out = os.pipe()
    process = subprocess.Popen([program], stdin=message_in, stdout=envelope_in, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload]
    os.close(message_in)
    os.close(envelope_in)
    for descriptor, data in ((message_out, message), (envelope_out, envelope)):
        with open(descriptor, "wb", buffering=0) as file:
            try:
                file.write(data)
            except BrokenPipeError:
                pass  # it has decided already
    process.communicate(timeout=DEADLINE_S)
    return int(process.returncode)


class Server:
    """A resident `qmail-queue --serve`."""

    def __init__(self, home: Home, *, lifeline_fd: int = -1) -> None:
        self.home = home
        lifeline = ["--lifeline", str(lifeline_fd)] if lifeline_fd >= 0 else []
        self.process = subprocess.Popen(
            [home.program("qmail-queue"), "--serve", *lifeline], env=home.environ, stderr=subprocess.PIPE,
            pass_fds=(lifeline_fd,) if lifeline else (),
        )  # fmt: skip
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == b"qmail-queue: serving\n"

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE_S)
        client.connect(str(self.home.path / "run" / "qmail-queue"))
        return client

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode


def submit(client: socket.socket, message: bytes, sender: bytes, recipients: list[bytes]) -> bytes:
    """One package, one answer."""
    client.sendall(encode_package(message, sender, recipients))
    return answer(client)


def answer(client: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b","):
        chunk = client.recv(4_096)
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return decode_one(data)[0]


class System:
    """The whole: qmail-start, its log in a file."""

    def __init__(self, home: Home, log: Path, default: str = "./Maildir/") -> None:
        self.home, self.log_path = home, log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [home.program("qmail-start"), default], stdout=output, stderr=output, env=home.environ,
                start_new_session=True,
            )  # fmt: skip
        self._shown = len(log.read_bytes())
        self.wait_for(r"status: local 0/\d+ remote 0/\d+\n")

    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for(self, pattern: str) -> None:
        """Until the log has this behind what was waited for before."""
        until(lambda: re.search(pattern, self.log()[self._shown :]), lambda: f"no {pattern!r} in:\n{self.log()}")
        found = re.search(pattern, self.log()[self._shown :])
        assert found
        self._shown += found.end()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def children(self) -> dict[str, int]:
        """Program name -> pid, of qmail-send's children."""
        found = {}
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            for pid in file.read().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found[next(os.path.basename(word).decode() for word in command if b"/qmail-" in word)] = int(pid)
        return found

    def end(self) -> int:
        """TERM, and the end of the whole group."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        until(self.is_gone, self.log)
        return code

    def is_gone(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False
