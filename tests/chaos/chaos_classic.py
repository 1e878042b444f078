"""The phase with qmail's accounts: a classic home as root, each process its own user, killed under load and audited.

Accounts of the machine are never touched: everything runs in a mount namespace with a passwd of its own
(tests/process/classic_house.py).
"""

import os
import random
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "process"))

import pytest
from chaos_book import Mail, text, whole_numbers
from chaos_watch import RESTART_AFTER_S, _group_is_gone
from classic_house import HOST, ROLES, System, made_system, roles

from free_ports import free_port

_CLIENTS = 4
_KILLED = ("qmail-queue", "qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean", "qmail-smtpd", "worker")
_PEOPLE = ("alice", "bob")
_DRAIN_S = 60.0
_CALM_S = 20.0
_IN_HAND = 40 + 20 + 128  # as in chaos_round
Say = Callable[[str], None]


class Service:
    """One of the three, kept running. `command` and `user` as System._service takes them."""

    def __init__(self, command: list[str], user: str) -> None:
        self.command, self.user = command, user
        self.process: subprocess.Popen[bytes] | None = None
        self.ended_s = 0.0


class Classic:
    """One phase. After `go`, `faults` are the verdict and `counts` the numbers."""

    def __init__(self, system: System, seed: int, say: Say) -> None:
        self._system, self._seed, self._say = system, seed, say
        self._chance = random.Random(f"classic/{seed}")
        self._lock = threading.Lock()
        self._mails: dict[int, Mail] = {}
        self._accepted: set[int] = set()
        self._stopping = False
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._port = free_port()
        self._services = [
            Service(["qmail-queue", "--serve"], "qmailq"),
            Service(["qmail-start", "./Maildir/", "tee", "-a", str(system.log_path)], "root"),
            Service(["qmail-smtpd", "--listen", f"127.0.0.1:{self._port}", "--user", "qmaild"], "root"),
        ]

    def go(self, seconds: float) -> None:
        """Load and kills for so long, then calm, then the audit."""
        self._keep()
        self._until(self._is_up, "it does not start")
        clients = [threading.Thread(target=self._client, args=(number,)) for number in range(_CLIENTS)]
        for client in clients:
            client.start()
        end_s = time.monotonic() + seconds
        next_s = 0.0
        while time.monotonic() < end_s:
            if time.monotonic() >= next_s:
                self._kill()
                next_s = time.monotonic() + self._chance.expovariate(1 / 0.7)
            self._keep()
            time.sleep(0.05)
        self._stopping = True
        for client in clients:
            client.join(60)
        self._until(self._is_up, "it does not come back")
        self._until(self._is_drained, "it does not drain", _DRAIN_S)
        self._check_identities()
        self._audit()

    def _until(self, reached: Callable[[], bool], otherwise: str, patience_s: float = _CALM_S) -> None:
        end_s = time.monotonic() + patience_s
        while not reached():
            if time.monotonic() > end_s:
                self.faults.append(f"{otherwise} in {patience_s:.0f} s: {self._system.processes()}")
                return
            self._keep()
            time.sleep(0.1)

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Starts what does not run; what has ended rests a little, as under a supervisor."""
        self._bury_adopted()
        for service in self._services:
            now_s = time.monotonic()
            if service.process is not None:
                if service.process.poll() is None:
                    continue
                service.ended_s = service.ended_s or now_s
                if now_s - service.ended_s < RESTART_AFTER_S or not _group_is_gone(service.process.pid):
                    continue
                self._system._services.remove(service.process)
                self.counts["restarts"] += 1
            self._system.service(service.command, service.user)
            service.process, service.ended_s = self._system._services[-1], 0.0

    def _bury_adopted(self) -> None:
        """Waits for the dead whose parents were killed: they may be ours now (chaos_watch), and hold their group."""
        own = {service.process.pid for service in self._services if service.process is not None}
        own.add(self._system.machine._holder.pid)
        for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
            if pid not in own:
                os.waitpid(pid, os.WNOHANG)

    def _is_up(self) -> bool:
        with socket.socket() as trial:
            answers = trial.connect_ex(("127.0.0.1", self._port)) == 0
        return answers and self._system.writer_answers() and len(self._by_role()) == len(_KILLED) - 1

    def _by_role(self, *, workers: bool = False) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        processes = self._system.processes()
        spawners = {pid for pid, command in processes.items() if "qmail-lspawn" in command}
        for pid, command in processes.items():
            name = next((name for name in _KILLED if f"bin/{name}" in command), "")
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended while we looked
            if name == "qmail-lspawn" and parent in spawners:
                name = "worker" if workers else ""
            if name:
                found.setdefault(name, []).append(pid)
        return found

    def _kill(self) -> None:
        """One process of one role, if there is one. It is looked at again through its descriptor."""
        role = self._chance.choice(_KILLED)
        victims = self._by_role(workers=True).get(role, [])
        if not victims:
            return
        pid = self._chance.choice(victims)
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if pid in self._system.processes():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                self.counts["kills"] += 1
        except ProcessLookupError:
            pass  # it was quicker
        finally:
            os.close(handle)

    def _check_identities(self) -> None:
        """Nobody has come back as somebody else."""
        for name, found in roles(self._system).items():
            for identity in found:
                if name in ROLES and identity != ROLES[name]:
                    self.faults.append(f"{name} runs as {identity}, not as {ROLES[name]}")

    # ── mail ────────────────────────────────────────────────────────────────────────────────────────────

    def _client(self, number: int) -> None:
        chance = random.Random(f"classic/{self._seed}/{number}")
        while not self._stopping:
            try:
                with smtplib.SMTP("127.0.0.1", self._port, local_hostname="chaos.test", timeout=20) as connection:
                    for _ in range(5):
                        self._send(connection, chance)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.1)  # it was killed, or says no: this message is not promised

    def _send(self, connection: smtplib.SMTP, chance: random.Random) -> None:
        if self._stopping:
            return
        with self._lock:
            mail = Mail(
                len(self._mails) + 1, chance.sample(_PEOPLE, chance.choice((1, 1, 2))), chance.randint(300, 9_000)
            )
            self._mails[mail.number] = mail
        body = text(mail, self._seed, "alice").replace(b"\n", b"\r\n")
        connection.sendmail("alice@" + HOST, [f"{name}@{HOST}" for name in mail.kinds], body)
        self._accepted.add(mail.number)

    def _is_drained(self) -> bool:
        for pid in self._by_role().get("qmail-send", []):
            os.kill(pid, signal.SIGALRM)
        queue = self._system.home / "queue"
        return not any(names for part in ("todo", "info") for _, _, names in os.walk(queue / part))

    def _audit(self) -> None:
        """Every accepted message whole in each Maildir that it was for, twice only where something was killed."""
        copies: Counter[tuple[int, str]] = Counter()
        for name in _PEOPLE:
            for path in (self._system.person(name) / "Maildir/new").iterdir():
                numbers = whole_numbers(path.read_bytes())
                if len(numbers) != 1 or name not in self._mails[numbers[0]].kinds:
                    self.faults.append(f"{path}: not whole, or not for {name}: {numbers}")
                elif path.stat().st_uid != self._system.machine.uid[name]:
                    self.faults.append(f"{path}: belongs to uid {path.stat().st_uid}")
                else:
                    copies[numbers[0], name] += 1
        for number in self._accepted:
            for name in self._mails[number].kinds:
                if not copies[number, name]:
                    self.faults.append(f"LOST: message {number} to {name}")
        self.counts["messages accepted"] = len(self._accepted)
        self.counts["recipients promised"] = sum(len(self._mails[number].kinds) for number in self._accepted)
        self.counts["copies audited"] = copies.total()
        self.counts["duplicates"] = sum(count - 1 for count in copies.values())
        if self.counts["duplicates"] > self.counts["kills"] * _IN_HAND:
            self.faults.append(f"{self.counts['duplicates']} duplicates after {self.counts['kills']} kills")
        try:
            shown = self._system.notqmail("ledger", str(self._system.home))
        except AssertionError as fault:
            self.faults.append(f"notqmail ledger: {fault}")
        else:
            self._say("classic: " + "; ".join(" ".join(line.split()) for line in shown.splitlines()))


def classic_phase(seconds: float, seed: int, say: Say) -> list[str]:
    """Runs it where that is possible; the faults."""
    if os.geteuid() != 0:
        say("SKIPPED: classic accounts: not root")
        return []
    try:
        with made_system() as system:
            one = Classic(system, seed, say)
            say(f"classic: {seconds:.0f} s with accounts, seed {seed}, home {system.home}")
            try:
                one.go(seconds)
            finally:
                if one.faults:
                    say(f"classic: log\n{system.log()[-3_000:]}")
            codes = system.stop()
            if set(codes) != {0}:
                one.faults.append(f"services ended with {codes} after TERM")
            say(f"classic: {dict(one.counts)}")
            return one.faults
    except pytest.skip.Exception as reason:
        say(f"SKIPPED: classic accounts: {reason}")
        return []
