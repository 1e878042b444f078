"""Our side of a comparison: a single-user home under one directory, and the three residents a site would run."""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from types import MappingProxyType

import load

START_MAX_S = 300.0  # of qmail-send, which reads the whole queue first
DURABILITY = (
    "message, envelope, their directory entries on the disk before 250; Maildir file and its name before it counts"
)


def missing() -> list[str]:
    """What is needed and is not there, in words."""
    try:
        import notqmail  # noqa: F401 - only whether it can be imported
    except ImportError:
        return ["the notqmail package (`make bench` sets it up; by hand: PYTHONPATH=src)"]
    return []


def version() -> str:
    """Our version and the interpreter's, for the report."""
    try:
        number = package_version("notqmail")
    except PackageNotFoundError:
        number = "from the source tree"
    return f"{number}, Python {sys.version.split()[0]}"


class OurSystem:
    """One home. `maildir` receives the mail of this user at `domain`; everything else goes to `relay_port`.

    `controls` are more control files, by name; `environ` is added to the residents' environment.
    """

    def __init__(
        self, base: Path, port: int, *, domain: str = "bench.test", relay_port: int | None = None,
        wrap: Callable[[list[str]], list[str]] = list, controls: Mapping[str, str] = MappingProxyType({}),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.base, self.port = base, port
        base.mkdir(parents=True)
        (base / "tmp").mkdir()  # large messages gather there: on the same disk as all else, as on a small site
        self._environ = {"TMPDIR": str(base / "tmp"), **environ}
        self.home, self.maildir, self.log = base / "home", base / "home" / "Maildir", base / "log"
        self.recipient = f"{getpass.getuser()}@{domain}"
        self._wrap = wrap
        self._running: list[subprocess.Popen[bytes]] = []
        init = [sys.executable, "-m", "notqmail.admin", "init", "--host", domain, str(self.home)]
        done = subprocess.run(init, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"notqmail init failed: {done.stdout}{done.stderr}")
        control = self.home / "control"
        if relay_port:
            (control / "smtproutes").write_text(f":127.0.0.1:{relay_port}\n")
        for name, text in controls.items():
            (control / name).write_text(text)

    def start(self) -> None:
        """Starts queue, delivery and SMTP server; returns when it listens. Raises load.Late, RuntimeError.

        The server takes as many sessions from one address as there are descriptors for: here all come from one.
        """
        self._launch(["qmail-queue", "--serve"])
        self._wait_for(lambda: (self.home / "run" / "qmail-queue").exists())
        self._launch(["qmail-start", "./Maildir/"])
        self._wait_for(lambda: b"status: local" in self.log.read_bytes(), START_MAX_S)  # it has read the queue
        self._launch(["qmail-smtpd", "--listen", f"127.0.0.1:{self.port}",
                      "--limit", "15000", "--limit-per-address", "15000",
                      "--rules", str(self.home / "control" / "tcp.smtp.cdb")])  # fmt: skip
        self._wait_for(lambda: _listens(self.port))

    def _launch(self, argv: list[str]) -> None:
        environ = {
            "QMAILHOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ.get('PATH', '')}",
            **self._environ,
        }  # fmt: skip
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self._wrap([str(self.home / "bin" / argv[0]), *argv[1:]]), env=environ, cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._running.append(process)

    def _wait_for(self, reached: Callable[[], bool], deadline_s: float = 60.0) -> None:
        end = time.monotonic() + deadline_s
        while not reached():
            ended = [process.pid for process in self._running if process.poll() is not None]
            if ended or time.monotonic() > end:
                raise RuntimeError(f"our system does not come up (ended: {ended}): {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    @property
    def top_pids(self) -> list[int]:
        """The pids of the residents we started."""
        return [process.pid for process in self._running]

    def stop(self) -> None:
        """Stops in the order of a site's shutdown: SMTP server, delivery, queue. Kills what ignores TERM."""
        for process in (self._running[i] for i in (2, 1, 0) if i < len(self._running)):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                print(f"had to be killed: {process.args!r}", file=sys.stderr)
                process.kill()
                process.wait(5)
        self._running = []

    def queued(self) -> int:
        """Messages in our queue."""
        return sum(len(files) for _, _, files in os.walk(self.home / "queue" / "mess"))


def _listens(port: int) -> bool:
    try:
        load.wait_listening(port, 0.0001)
    except load.Late:
        return False
    return True
