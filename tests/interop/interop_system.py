"""Our whole system in a temporary single-user home, for tests that put real foreign programs around it.

Everything is on 127.0.0.1 and belongs to the test: it starts what it needs, waits for conditions (never for a
fixed time), and when it stops, no process of the home may be left.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from free_ports import free_port

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # Debian's smtp-sink and postfix are in sbin
DEADLINE_S = 60.0
_POLL_S = 0.02


def program(name: str) -> str:
    """The path of a foreign program; the test is skipped, and counted as skipped, when it is not installed."""
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(
    reached: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S, look: Callable[[], str] = str
) -> None:
    """Returns as soon as `reached()` is true; fails the test with what `look()` shows when it does not become so."""
    end = time.monotonic() + deadline_s
    while not reached():
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline_s:.0f} s for {what}\n{look()}")
        time.sleep(_POLL_S)


def messages_in(maildir: Path) -> list[bytes]:
    """The messages in a Maildir's new/, in the order of their names."""
    return [path.read_bytes() for path in sorted((maildir / "new").iterdir())]


class System:
    """One home and its residents. Mail for `address` lands in `maildir`; `log` is what all of them printed."""

    def __init__(self, base: Path) -> None:
        self.home, self.log = base / "h", base / "log"
        self.maildir = self.home / "Maildir"
        self.address = f"{getpass.getuser()}@localhost"
        self.smtp_port = free_port()
        self.environ = {"QMAILHOME": str(self.home), "PATH": f"{self.home}/bin:{PATH}"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        init = [sys.executable, "-m", "notqmail.admin", "init", str(self.home)]
        subprocess.run(init, check=True, capture_output=True, timeout=60)

    def control(self, name: str, content: str) -> None:
        """Writes a control file."""
        (self.home / "control" / name).write_text(content)

    def bin(self, name: str) -> str:
        """The path of one of our programs."""
        return str(self.home / "bin" / name)

    def run(self, name: str, *arguments: str, data: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        """Runs one of our one-shot programs to its end."""
        return subprocess.run(
            [self.bin(name), *arguments], input=data, env=self.environ | environ, cwd=self.home,
            capture_output=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def start(self, *, queue: bool = True, send: bool = True, smtpd: bool = True, relay: bool = True) -> None:
        """Starts the residents asked for and returns when they are ready. `relay`: this machine may send anywhere."""
        if queue:
            self._launch("qmail-queue", "--serve")
            self._wait_up(lambda: _answers(self.home / "run" / "qmail-queue"), "qmail-queue --serve")
        if send:
            self._launch("qmail-start", "./Maildir/")
            self._wait_up(lambda: b"status: local" in self.log_bytes(), "qmail-send's first status line")
        if smtpd:
            rules = ["--rules", str(self.home / "control" / "tcp.smtp.cdb")] if relay else []
            self._launch("qmail-smtpd", "--listen", f"127.0.0.1:{self.smtp_port}", *rules)
            self._wait_up(lambda: listens(self.smtp_port), "qmail-smtpd --listen")

    def _launch(self, name: str, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self._running[name] = subprocess.Popen(
                [self.bin(name), *arguments], env=self.environ, cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _wait_up(self, reached: Callable[[], bool], what: str) -> None:
        def ready_or_dead() -> bool:
            dead = [name for name, process in self._running.items() if process.poll() is not None]
            if dead:
                pytest.fail(f"{dead} ended while waiting for {what}\n{self.log_text()}")
            return reached()

        wait_for(ready_or_dead, what, look=self.log_text)

    def log_bytes(self) -> bytes:
        """Everything the residents printed so far."""
        return self.log.read_bytes() if self.log.exists() else b""

    def log_text(self) -> str:
        """The log for a person."""
        return self.log_bytes().decode("utf-8", "backslashreplace")

    def wait_mail(self, count: int = 1) -> list[bytes]:
        """The messages in the Maildir once there are `count`."""
        wait_for(lambda: len(list((self.maildir / "new").iterdir())) >= count, f"{count} messages in the Maildir",
                 look=self.log_text)  # fmt: skip
        return messages_in(self.maildir)

    def wait_log(self, text: bytes) -> None:
        """Returns when the log contains `text`."""
        wait_for(lambda: text in self.log_bytes(), f"{text!r} in the log", look=self.log_text)

    def signal_send(self, number: signal.Signals) -> None:
        """A signal for qmail-send, which is the process that qmail-start became."""
        os.kill(self._running["qmail-start"].pid, number)

    def queued(self) -> int:
        """Messages in the queue, in whatever state."""
        return sum(len(files) for _, _, files in os.walk(self.home / "queue" / "mess"))

    def wait_empty(self) -> None:
        """Returns when the queue holds nothing."""
        wait_for(lambda: self.queued() == 0, "an empty queue", look=self.log_text)

    def stop(self) -> None:
        """TERM to each resident, SMTP first; all of them and their children must leave by themselves."""
        slow = []
        for name in ("qmail-smtpd", "qmail-start", "qmail-queue"):
            process = self._running.pop(name, None)
            if process is None:
                continue
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                slow.append(name)
                process.kill()
                process.wait()
        left = self._processes_after(DEADLINE_S)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not slow, f"had to be killed: {slow}\n{self.log_text()}"
        assert not left, f"left behind: {list(left.values())}\n{self.log_text()}"

    def _processes_after(self, patience_s: float) -> dict[int, str]:
        """pid -> command line of the home's processes still there after giving them time to end."""
        end = time.monotonic() + patience_s
        while (left := self._processes()) and time.monotonic() < end:
            time.sleep(_POLL_S)
        return left

    def _processes(self) -> dict[int, str]:
        """Known by their environment: whatever they forked has it too."""
        mark, found = f"QMAILHOME={self.home}\0".encode(), {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes() + b"\0":
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue  # it ended while we looked, or is another user's
        return found


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(str(path))
        except OSError:
            return False
    return True
