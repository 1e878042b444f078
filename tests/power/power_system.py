"""The whole installed system on the recorded disk: its programs, SMTP on loopback, its Maildir."""

import getpass
import os
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import power_rules
from interop_system import System, wait_for
from power_disk import QuickDisk
from power_work import Mark, Work

from free_ports import free_port

_CLIENTS = 4
_STARTED_AGAIN = 15  # of so many homes found one is started as it was
_SMTP_DEADLINE_S = 20.0


class ResidentSystem(System):
    """interop_system.System on a home that is there already. Its log lies beside the mounted disk."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home, self.log, self.maildir = home, log, home / "Maildir"
        self.smtp_port = free_port()
        self.environ = {"QMAILHOME": str(home), "PATH": os.environ["PATH"]}
        self._running: dict[str, subprocess.Popen[bytes]] = {}


class SystemWork(Work):
    """Clients send one message after the other; `size` messages in all. What got its 250 is marked as accepted."""

    _looked_at = 0

    def prepare(self, home: Path) -> None:
        """As Work.prepare: `notqmail init`."""
        init = [sys.executable, "-m", "notqmail.admin", "init", str(home), "--host", "me.test"]
        subprocess.run(init, check=True, capture_output=True, timeout=60)

    def play(self, home: Path, mark: Mark, size: int) -> None:
        """As Work.play."""
        system = ResidentSystem(home, home.parent.parent / "log")
        numbers = [range(first, size, _CLIENTS) for first in range(_CLIENTS)]
        failures: list[str] = []
        try:
            system.start()
            sizes = {number: self._size() for number in range(size)}
            clients = [
                threading.Thread(target=_send, args=(system.smtp_port, some, sizes, mark, failures)) for some in numbers
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        finally:
            system.stop()
        assert failures == [], failures

    def faults(self, home: Path, marks: list[bytes]) -> list[str]:
        """As Work.faults; some of the homes are started again by their own programs."""
        self._looked_at += 1
        if self._looked_at % _STARTED_AGAIN != 0:
            return super().faults(home, marks)
        return power_rules.faults(home, marks, lambda _, queued: _started_again(home, queued))

    def _size(self) -> int:
        return 200_000 if self._chance.random() < 0.05 else self._chance.randrange(4_000)


def _started_again(home: Path, queued: set[int]) -> list[str]:
    """The whole system starts where the power has gone; what was in the queue must come, and nothing come torn."""
    before, _ = power_rules.in_maildir(home)
    system = ResidentSystem(home, home.parent.parent / "log-again")
    try:
        system.start()
        # A message file whose envelope the cut has taken was never accepted: it stays until it is 36 hours old.
        wait_for(QuickDisk(home / "queue").is_empty, "all that is accepted being delivered", look=system.log_text)
    finally:
        system.stop()
    after, torn = power_rules.in_maildir(home)
    came = after - before
    return torn + ([] if came == Counter(queued) else [f"{sorted(queued)} were in the queue, what came is {came}"])


def _send(port: int, numbers: range, sizes: dict[int, int], mark: Mark, failures: list[str]) -> None:
    recipient = f"{getpass.getuser()}@me.test"
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=_SMTP_DEADLINE_S) as client:
            for number in numbers:
                text = power_rules.text_of(number, sizes[number])
                client.sendmail(f"s{number}@me.test", [recipient], text.replace(b"\n", b"\r\n"))
                mark(b"%b %d" % (power_rules.ACCEPTED, number))
    except (OSError, smtplib.SMTPException) as error:
        failures.append(f"{type(error).__name__}: {error}")
